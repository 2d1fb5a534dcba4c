"""When two phrases are the same name: the one rule by which runtime and factory look a phrase up among names.

Only spelling and number are seen through ("Sea-Horses" is "seahorse"); what a word means is never guessed.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


# Plural in form, another thing in meaning: never taken for the word without its s, nor the other way round.
_OWN_MEANING = _words("""
    arms blinds braces brains briefs chips colors colours contents customs darts draughts forces glasses goods greens
    grits grounds lens looks manners marbles means minutes news quarters remains savings series shorts slacks species
    spectacles spirits stocks sunglasses sweets tights trunks waters woods works
""")
# "black bird" is not "blackbird", nor "green house" "greenhouse": an adjective is not joined to what follows it.
_ADJECTIVES = _words("""
    big black blue bright broad brown clean clear cold common dark deep dirty dry dull empty flat free full great green
    grey hard heavy high hot large little long loud low narrow new old open orange pink purple quick red rough sharp
    short silver slow small smooth soft strong sweet tall thick thin warm wet white wide wild yellow young
""")
_IRREGULAR = {  # endings of words: "bookshelves", "policemen", "grandchildren"
    "children": "child",
    "people": "person",
    "teeth": "tooth",
    "geese": "goose",
    "feet": "foot",
    "oxen": "ox",
    "mice": "mouse",
    "men": "man",
    "cacti": "cactus",
    "fungi": "fungus",
    "octopi": "octopus",
    **{f"{stem}ves": f"{stem}fe" for stem in ("kni", "li", "wi")},
    **{
        f"{stem}ves": f"{stem}f"
        for stem in ("cal", "el", "hal", "hoo", "lea", "loa", "scar", "thie", "wol")
    },
}
_AMERICAN = {  # the words of one spelling where British and American English differ
    "aeroplane": "airplane",
    "armour": "armor",
    "centre": "center",
    "colour": "color",
    "doughnut": "donut",
    "gray": "grey",
    "harbour": "harbor",
    "jewellery": "jewelry",
    "kerb": "curb",
    "moustache": "mustache",
    "plough": "plow",
    "pyjamas": "pajamas",
    "theatre": "theater",
    "tyre": "tire",
}


def normalise(phrase: str) -> str:
    """Casefolded, single spaces: the form phrases are compared in."""
    return " ".join(phrase.casefold().split())


def bare(key: str) -> str:
    """A normalised phrase without its leading 'a photo of' and article: what the bank's names look like."""
    key = re.sub(r"^(a |an |the )?(photo|picture|image) of ", "", key)
    return re.sub(r"^(a|an|the) ", "", key)


def joined(key: str) -> str:
    """A bare phrase as one word: hyphens, spaces and apostrophes gone, one of British and American spelling."""
    words = [
        _AMERICAN.get(word, word)
        for word in re.sub(r"[-_]", " ", re.sub(r"['\u2019]", "", key)).split()
    ]
    return "".join(f"{word} " if word in _ADJECTIVES else word for word in words)


def singulars(key: str) -> Iterator[str]:
    """What a bare phrase may be the plural of, likeliest first; only its last word is looked at."""
    rest, _, word = re.sub(r"[-_]", " ", key).rpartition(" ")
    rest += " " if rest else ""
    for plural, singular in _IRREGULAR.items():
        if word.endswith(plural):
            yield rest + word.removesuffix(plural) + singular
    if (
        word in _OWN_MEANING
        or len(word) < 4
        or not word.endswith("s")
        or word.endswith(("ss", "ics", "'s"))
    ):
        return
    yield rest + word[:-1]
    if word.endswith("ies"):
        yield rest + word[:-3] + "y"
    if word.endswith(("ses", "xes", "zes", "ches", "shes", "oes")):
        yield rest + word[:-2]


class PhraseIndex:
    """Looks phrases up among names, those at ``approximate`` only where no other name will do."""

    def __init__(self, names: Sequence[str], approximate: frozenset[int] = frozenset()) -> None:
        self.approximate = approximate
        self._written: dict[str, int] = {}
        self._joined: dict[str, int] = {}
        self._plural: dict[str, int] = {}
        for row, name in enumerate(names):
            key = normalise(name)
            self._put(self._written, key, row)
            self._put(self._joined, joined(bare(key)), row)
            for one in singulars(bare(key)):
                self._put(self._plural, joined(one), row)

    def _put(self, index: dict[str, int], key: str, row: int) -> None:
        if not key:
            return
        # The first name of a spelling stands, unless it is approximate and a later one is exact.
        old = index.setdefault(key, row)
        if old in self.approximate and row not in self.approximate:
            index[key] = row

    def find(self, phrase: str) -> int | None:
        """Row of the name that a phrase is, None where there is none.

        Tried in this order: as written; without 'a photo of' and article; spelt apart or together; as the plural of
        a name; as the singular of a name. The first exact row is taken, else the first approximate one.
        """
        second = None
        for row in self._candidates(normalise(phrase)):
            if row is not None and row not in self.approximate:
                return row
            second = row if second is None else second
        return second

    def _candidates(self, key: str) -> Iterator[int | None]:
        yield self._written.get(key)
        key = bare(key)
        yield self._written.get(key)
        yield self._joined.get(joined(key))
        for one in singulars(key):
            yield self._joined.get(joined(one))
        yield self._plural.get(joined(key))
