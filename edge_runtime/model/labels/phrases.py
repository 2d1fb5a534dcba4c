"""When two phrases are the same name: how runtime and factory look a phrase up among names.

Only spelling and number are ignored ("Sea-Horses" is "seahorse"). What a word means is never
guessed: a wrong match would give a label another thing's embedding without a word, a missing one is
an error that names what is near.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


# Plural in form, another thing in meaning: never taken for the word without its s, nor that for it.
_OWN_MEANING = _words("""
    arms blinds braces brains briefs chips colors colours contents customs darts draughts forces
    glasses goods greens grits grounds lens looks manners marbles means minutes news quarters
    remains savings series shorts slacks species spectacles spirits stocks sunglasses sweets tights
    trunks waters woods works
""")
# An adjective is not joined to what follows it: "black bird" is not "blackbird".
_ADJECTIVES = _words("""
    big black blue bright broad brown clean clear cold common dark deep dirty dry dull empty flat
    free full great green grey hard heavy high hot large little long loud low narrow new old open
    orange pink purple quick red rough sharp short silver slow small smooth soft strong sweet tall
    thick thin warm wet white wide wild yellow young
""")
# These are endings of words, so that "bookshelves", "policemen" and "grandchildren" are known too.
_IRREGULAR = {
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
# British -> American, but for "gray": the bank's names mostly say "grey".
_ONE_SPELLING = {
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
    """Casefolded, with single spaces: the form in which phrases are compared."""
    return " ".join(phrase.casefold().split())


def bare(key: str) -> str:
    """A normalised phrase without a leading 'a photo of' and article, as the bank's names are."""
    key = re.sub(r"^(a |an |the )?(photo|picture|image) of ", "", key)
    # "a photo of a an apple" has two: one is the template's.
    return re.sub(r"^((a|an|the) )+", "", key)


def joined(key: str) -> str:
    """A bare phrase as one word, without hyphens, spaces and apostrophes."""
    spaced = _apart(re.sub(r"['\u2019]", "", key))
    words = [_ONE_SPELLING.get(word, word) for word in spaced.split()]
    return "".join(f"{word} " if word in _ADJECTIVES else word for word in words)


def singulars(key: str) -> Iterator[str]:
    """What a bare phrase may be the plural of, likeliest first. Only its last word is looked at."""
    before, space, word = _apart(key).rpartition(" ")
    before += space

    for plural, singular in _IRREGULAR.items():
        if word.endswith(plural):
            yield before + word.removesuffix(plural) + singular

    # No plurals: "bus" is too short to tell, "brass", "electronics" and "potter's" end in no plural
    # s.
    if word in _OWN_MEANING or len(word) < 4:
        return
    if not word.endswith("s") or word.endswith(("ss", "ics", "'s")):
        return

    # All three are candidates, since spelling alone does not tell: shoes, buses, cookies, ponies.
    yield before + word[:-1]
    if word.endswith("ies"):
        yield before + word[:-3] + "y"
    if word.endswith(("ses", "xes", "zes", "ches", "shes", "oes")):
        yield before + word[:-2]


def _apart(key: str) -> str:
    """Hyphens and underscores as spaces."""
    return re.sub(r"[-_]", " ", key)


class PhraseIndex:
    """Looks phrases up among names.

    A name at a row in ``approximate`` is found only where no exact one will do.
    """

    def __init__(self, names: Sequence[str], approximate: frozenset[int] = frozenset()) -> None:
        self.approximate = approximate

        # Key -> row, for each way in which a phrase can be a name.
        self._written: dict[str, int] = {}
        self._joined: dict[str, int] = {}
        self._singular: dict[str, int] = {}

        for row, name in enumerate(names):
            key = normalise(name)
            self._put(self._written, key, row)
            self._put(self._joined, joined(bare(key)), row)
            for singular in singulars(bare(key)):
                self._put(self._singular, joined(singular), row)

    def _put(self, index: dict[str, int], key: str, row: int) -> None:
        # A name of hyphens alone has nothing left when they are gone, and would match any other.
        if not key:
            return

        # The first name of a spelling stays, unless it is approximate and a later one is exact.
        first = index.setdefault(key, row)
        if first in self.approximate and row not in self.approximate:
            index[key] = row

    def find(self, phrase: str) -> int | None:
        """Row of the name that a phrase is, None where there is none.

        Tried in this order: as written; without 'a photo of' and article; spelt apart or together;
        as the plural of a name; as the singular of a name. The first exact row is taken, else the
        first approximate one.
        """
        approximate = None
        for row in self._candidates(normalise(phrase)):
            if row is None:
                continue
            if row not in self.approximate:
                return row
            if approximate is None:
                approximate = row
        return approximate

    def _candidates(self, key: str) -> Iterator[int | None]:
        yield self._written.get(key)

        key = bare(key)
        yield self._written.get(key)
        yield self._joined.get(joined(key))

        for singular in singulars(key):
            yield self._joined.get(joined(singular))
        yield self._singular.get(joined(key))
