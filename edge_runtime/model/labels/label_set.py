"""A label set as a person writes it: words, thresholds and groups in YAML, checked here.

``parse_label_set`` reads text and ``load_label_set`` a file. What the words mean to the model is
not known here: ``compiled.py`` turns them into embeddings.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from edge_runtime.errors import NoInputError
from edge_runtime.model.labels.phrases import normalise
from edge_runtime.system import strict_yaml

if TYPE_CHECKING:
    from edge_runtime.model.bundle import Bundle

MAX_LABELS = 20_000
MAX_BIAS = 50  # logits
MAX_PHRASE = 300  # characters; CLIP itself reads 77 tokens
# A temperature outside these makes every score 0 or 1, or all scores of a group equal.
MIN_TEMPERATURE = 0.01
MAX_TEMPERATURE = 100

# Joiners hold emoji and the letters of several scripts together, so they may stand in a phrase.
_JOINERS = str.maketrans("", "", "\u200c\u200d")


@dataclass(frozen=True, slots=True)
class LabelSpec:
    """One label: its name, and the prompts that describe it.

    ``threshold`` is a score from 0 to 1, by default the bundle's. ``bias`` is added to the label's
    logit; ``tools.calibrate`` learns it. A label with ``background`` competes in its group, but it
    is never on and no record holds it. A label with ``any_view`` may be on in a strange view too
    (`model.strange`). Raises ValueError for a value that makes no sense.
    """

    name: str = field(metadata={"short": True})  # a bare string is a name: labels: [cat, dog]
    prompts: tuple[str, ...] = ()
    threshold: float | None = None
    bias: float = 0.0
    group: str = "labels"
    background: bool = False
    any_view: bool = False

    def __post_init__(self) -> None:
        for phrase in (self.name, self.group, *self.prompts):
            _check_phrase(phrase)

        if self.background and self.threshold is not None:
            raise ValueError(
                f"'{self.name}' is background and never on, so it can have no threshold; remove it"
            )
        if self.background and self.any_view:
            raise ValueError(
                f"'{self.name}' is background and never on, so any_view says nothing; remove it"
            )
        if self.threshold is not None and not 0 <= self.threshold <= 1:
            raise ValueError(f"threshold of '{self.name}' must be between 0 and 1")
        if abs(self.bias) > MAX_BIAS:
            raise ValueError(f"bias of '{self.name}' must be between -{MAX_BIAS} and {MAX_BIAS}")


@dataclass(frozen=True, slots=True)
class LabelSet:
    """All labels, and the background prompts that mean 'none of these' in every group.

    ``templates`` stand around the names of labels without prompts, by default the bundle's.
    ``temperatures`` maps a group to a divisor of its logits: above 1 its scores are less sure.
    Raises ValueError for a set that cannot work.
    """

    labels: tuple[LabelSpec, ...]
    background: tuple[str, ...] = ()
    templates: tuple[str, ...] = ()
    temperatures: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.labels:
            raise ValueError("the label set is empty; add at least one '- name: ...' under labels")
        if len(self.labels) > MAX_LABELS:
            raise ValueError(f"{len(self.labels)} labels are more than {MAX_LABELS}; split the set")

        self._check_groups()
        self._check_temperatures()

        for phrase in (*self.background, *self.templates):
            _check_phrase(phrase)
        for template in self.templates:
            _check_template(template)

        self._check_names()

    def _check_groups(self) -> None:
        groups = {label.group for label in self.labels}
        reporting = {label.group for label in self.labels if not label.background}
        mute = groups - reporting

        if mute:
            raise ValueError(
                f"every label of group '{min(mute)}' is background, so none could ever be on; "
                "add another"
            )

    def _check_temperatures(self) -> None:
        groups = {label.group for label in self.labels}

        for group, temperature in self.temperatures.items():
            if group not in groups:
                raise ValueError(
                    f"temperatures: no label is of group '{group}'; "
                    f"the groups are {', '.join(sorted(groups))}"
                )
            if not MIN_TEMPERATURE <= temperature <= MAX_TEMPERATURE:
                raise ValueError(
                    f"temperatures: {group} must be between {MIN_TEMPERATURE} and "
                    f"{MAX_TEMPERATURE}, not {temperature}"
                )

    def _check_names(self) -> None:
        names: set[str] = set()

        for label in self.labels:
            name = normalise(label.name)
            if name in names:
                raise ValueError(f"label '{label.name}' is given twice; names must differ")
            names.add(name)

    def prompts(self, label: LabelSpec, templates: tuple[str, ...]) -> tuple[str, ...]:
        """The prompts of one label, or its name in the templates of the set, else of the bundle."""
        if label.prompts:
            return label.prompts
        return tuple(template.replace("{}", label.name) for template in self.templates or templates)

    def phrases(self, templates: tuple[str, ...]) -> list[str]:
        """Every prompt and background prompt, in order, each once."""
        prompts = [prompt for label in self.labels for prompt in self.prompts(label, templates)]
        return list(dict.fromkeys((*prompts, *self.background)))


def _check_phrase(phrase: str) -> None:
    if not phrase.strip():
        raise ValueError("a label or prompt is empty; write a word or remove it")
    if len(phrase) > MAX_PHRASE:
        raise ValueError(
            f"'{phrase[:30]}...' has {len(phrase)} characters; the limit is {MAX_PHRASE}"
        )

    # A character that turns the writing direction could hide text; it is not printable either.
    if not phrase.translate(_JOINERS).isprintable():
        raise ValueError(f"{phrase!a} holds control characters; remove them")


def _check_template(template: str) -> None:
    rest = template.replace("{}", "", 1)

    if rest == template or "{" in rest or "}" in rest:
        raise ValueError(f"template '{template}' must hold {{}} once, where the name goes")


def parse_label_set(text: str, where: str) -> LabelSet:
    """A LabelSet from YAML text. Raises ConfigError with file, line and key."""
    return strict_yaml.parse(text, where, LabelSet)


def load_label_set(name_or_path: str, bundle: Bundle) -> LabelSet:
    """A label set by path (``my.yaml``), or by the name of one in the bundle (``road``).

    Raises NoInputError for a name or path that does not exist, ConfigError for a set that is wrong.
    """
    shipped = bundle.label_sets()
    if name_or_path in shipped:
        file = f"labels/{name_or_path}.yaml"
        where = str(bundle.path / file)
        return parse_label_set(strict_yaml.decode(bundle.read(file), where), where)

    path = Path(name_or_path)
    if not path.suffix and not path.exists():
        raise NoInputError(
            f"{name_or_path}: the bundle has no such label set",
            f"{_hint(name_or_path, shipped)} (or give a .yaml file)",
        )
    return parse_label_set(strict_yaml.read_text(path, "label set"), str(path))


def _hint(name: str, shipped: list[str]) -> str:
    near = difflib.get_close_matches(name, shipped, n=1)
    if near:
        return f"did you mean '{near[0]}'?"
    return f"it has {', '.join(shipped) or 'none'}"
