"""Labels: from the YAML a person edits, through the text bank, to scores of one frame.

``parse_label_set`` -> LabelSet (words), ``compile_labels`` -> CompiledLabels (embeddings), ``Scorer`` -> Scores.
"""

from __future__ import annotations

import difflib
import json
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from edge_runtime.errors import BundleError, ConfigError, NoInputError
from edge_runtime.model.labels.phrase_rows import PhraseRows, rows_path
from edge_runtime.model.labels.phrases import PhraseIndex, bare, normalise
from edge_runtime.model.npy import read_embeddings
from edge_runtime.records import LabelScore
from edge_runtime.system import strict_yaml
from edge_runtime.system.digest import sha256_hex

if TYPE_CHECKING:
    from edge_runtime.model.bundle import Bundle

BANK_SCHEMA = "edge-label-bank/1"
MAX_LABELS = 20_000
MAX_BIAS = 50  # logits
MAX_PHRASE = 300  # characters; CLIP itself reads 77 tokens


@dataclass(frozen=True, slots=True)
class LabelSpec:
    """One label as written: a name, and how to say it."""

    name: str = field(metadata={"short": True})  # labels: [cat, dog]
    prompts: tuple[str, ...] = ()
    threshold: float | None = None
    bias: float = 0.0  # added to the label's logit; tools.calibrate learns it
    group: str = "labels"
    background: bool = (
        False  # nothing to report: competes in its group, is never on and stands in no record
    )

    def __post_init__(self) -> None:
        for phrase in (self.name, self.group, *self.prompts):
            _check_phrase(phrase)
        if self.background and self.threshold is not None:
            raise ValueError(
                f"'{self.name}' is background and never on: a threshold means nothing there; remove it"
            )
        if self.threshold is not None and not 0 <= self.threshold <= 1:
            raise ValueError(f"threshold of '{self.name}' must be between 0 and 1")
        if abs(self.bias) > MAX_BIAS:
            raise ValueError(f"bias of '{self.name}' must be between -{MAX_BIAS} and {MAX_BIAS}")


@dataclass(frozen=True, slots=True)
class LabelSet:
    """All labels, and the background prompts that stand for 'none of these' in every group."""

    labels: tuple[LabelSpec, ...]
    background: tuple[str, ...] = ()
    templates: tuple[
        str, ...
    ] = ()  # around the names of labels without prompts; default: the bundle's
    temperatures: dict[str, float] = field(
        default_factory=dict
    )  # group -> what divides its logits; above 1: less sure

    def __post_init__(self) -> None:
        if not self.labels:
            raise ValueError("the label set is empty; add at least one '- name: ...' under labels")
        if len(self.labels) > MAX_LABELS:
            raise ValueError(f"{len(self.labels)} labels are more than {MAX_LABELS}; split the set")
        groups = {label.group for label in self.labels}
        mute = groups - {label.group for label in self.labels if not label.background}
        if mute:
            raise ValueError(
                f"every label of group '{min(mute)}' is background, so none could ever be on; add another"
            )
        for group, temperature in self.temperatures.items():
            if group not in groups:
                raise ValueError(
                    f"temperatures: no label is of group '{group}'; there are {', '.join(sorted(groups))}"
                )
            if not 0.01 <= temperature <= 100:
                raise ValueError(
                    f"temperatures: {group} must be between 0.01 and 100, not {temperature}"
                )
        for phrase in (*self.background, *self.templates):
            _check_phrase(phrase)
        for template in self.templates:
            if (
                template.count("{}") != 1
                or template.replace("{}", "").count("{")
                or "}" in template.replace("{}", "")
            ):
                raise ValueError(f"template '{template}' must hold {{}} once, where the name goes")
        seen: set[str] = set()
        for label in self.labels:
            if normalise(label.name) in seen:
                raise ValueError(f"label '{label.name}' is given twice; names must differ")
            seen.add(normalise(label.name))

    def prompts(self, label: LabelSpec, templates: tuple[str, ...]) -> tuple[str, ...]:
        """What is said of one label: its own prompts, else its name in the set's or the bundle's templates."""
        return label.prompts or tuple(
            t.replace("{}", label.name) for t in self.templates or templates
        )

    def phrases(self, templates: tuple[str, ...]) -> list[str]:
        """Every prompt and background, in order, each once."""
        said = [phrase for label in self.labels for phrase in self.prompts(label, templates)]
        return list(dict.fromkeys((*said, *self.background)))


def _check_phrase(phrase: str) -> None:
    if not phrase.strip():
        raise ValueError("a label or prompt is empty; write a word or remove it")
    if len(phrase) > MAX_PHRASE:
        raise ValueError(
            f"'{phrase[:30]}...' has {len(phrase)} characters, at most {MAX_PHRASE} make sense"
        )
    # Joiners hold emoji and several scripts together; what turns the writing direction can hide text.
    if not phrase.replace("\u200c", "").replace("\u200d", "").isprintable():
        raise ValueError(f"{phrase!a} holds control characters; remove them")


def parse_label_set(text: str, where: str) -> LabelSet:
    """A LabelSet from YAML text. Raises ConfigError naming file, line and key."""
    return strict_yaml.parse(text, where, LabelSet)


def load_label_set(wanted: str, bundle: Bundle) -> LabelSet:
    """A label set by path (``my.yaml``) or by the name of one that ships with the bundle (``road``)."""
    shipped = bundle.label_sets()
    if wanted in shipped:
        name = f"labels/{wanted}.yaml"
        where = str(bundle.path / name)
        return parse_label_set(strict_yaml.decode(bundle.read(name), where), where)
    path = Path(wanted)
    if not path.suffix and not path.exists():
        near = difflib.get_close_matches(wanted, shipped, n=1)
        hint = f"did you mean '{near[0]}'?" if near else f"it has {', '.join(shipped) or 'none'}"
        raise NoInputError(
            f"{wanted}: the bundle has no such label set", f"{hint} (or give a .yaml file)"
        )
    return parse_label_set(strict_yaml.read_text(path, "label set"), str(path))


class TextBank:
    """Precomputed text embeddings by phrase. ``rows`` is (N, dim), unit norm: float16 in a bundle."""

    def __init__(
        self,
        names: list[str],
        rows: NDArray[np.floating],
        approximate: frozenset[int] = frozenset(),
        makers: dict[int, str] | None = None,
    ) -> None:
        self.names = names
        self.rows = rows
        self.approximate = approximate
        self._makers = makers or {}
        self._index = PhraseIndex(names, approximate)

    @classmethod
    def from_bundle(cls, bundle: Bundle) -> TextBank:
        """Read and cross-check text_bank.npy and text_bank.json. Raises BundleError."""
        where = str(bundle.path / "text_bank.json")
        rows = read_embeddings(bundle.read("text_bank.npy"), str(bundle.path / "text_bank.npy"))
        try:
            meta = json.loads(bundle.read("text_bank.json"))
            names = [str(name) for name in meta["names"]]
            approximate = frozenset(int(i) for i in meta["approximate"])
            schema, space = meta["schema"], meta["text_space"]
        except (ValueError, KeyError, TypeError, RecursionError, OverflowError) as error:
            raise BundleError(
                f"{where}: not a text bank ({error})", "reinstall the bundle"
            ) from None
        if schema != BANK_SCHEMA or space != bundle.manifest.text_space:
            raise BundleError(
                f"{where}: {schema} for {space}, the bundle is for {bundle.manifest.text_space}",
                "parts of two bundles are mixed, reinstall one",
            )
        if rows.shape != (len(names), bundle.manifest.dim):
            raise BundleError(
                f"{where}: {len(names)} names for rows of shape {rows.shape} in dimension {bundle.manifest.dim}",
                "reinstall the bundle",
            )
        return cls(names, rows, approximate)

    def extended(self, more: PhraseRows) -> TextBank:
        """This bank and the rows a text encoder made for a label set; exact rows of the bank win."""
        first = len(self.names)
        makers = {
            first + i: "pictures" if p in more.pictured else more.encoder
            for i, p in enumerate(more.phrases)
        }
        guessed = frozenset(
            i for i, maker in makers.items() if more.approximate and maker != "pictures"
        )
        return TextBank(
            [*self.names, *more.phrases],
            np.concatenate((self.rows, more.rows)),
            self.approximate | guessed,
            self._makers | makers,
        )

    def maker(self, row: int) -> str:
        """Who made a row: the bank or a text encoder, and whether it is exact."""
        quality = "approximate" if row in self.approximate else "exact"
        return f"{self._makers.get(row, 'bank')}, {quality}"

    def find(self, phrase: str) -> int | None:
        """Row of the name that a phrase is, by the rules of `PhraseIndex.find`; None where there is none."""
        return self._index.find(phrase)

    def alias(self, phrase: str) -> str | None:
        """The name a phrase is found under where that differs from what was written, else None."""
        row = self.find(phrase)
        if row is None or bare(normalise(self.names[row])) == bare(normalise(phrase)):
            return None
        return self.names[row]

    def nearest_names(self, phrase: str, n: int = 3) -> list[str]:
        """Bank names spelt most like the phrase, for error messages."""
        key, names = bare(normalise(phrase)), list(dict.fromkeys(map(normalise, self.names)))
        near = difflib.get_close_matches(key, names, n=n, cutoff=0.6)
        if not near:
            words = set(key.split())
            near = [name for name in names if words & set(name.split())][:n]
        return near


@dataclass(frozen=True, slots=True)
class CompiledLabels:
    """A label set as embeddings: all that scoring needs, and nothing of the bank.

    ``matrix`` is float32 (labels + background, dim), unit-norm rows, labels sorted by group; ``groups`` are
    slices of it, one group after the other. ``id`` is the sha256 over everything that can change a score.
    """

    names: tuple[str, ...]
    background: NDArray[np.bool_]  # (labels,), true for labels that compete but are never reported
    thresholds: NDArray[np.float32]
    groups: tuple[tuple[str, slice], ...]
    matrix: NDArray[np.float32]
    biases: NDArray[np.float32]  # (labels,), added to the logits
    scales: tuple[
        float, ...
    ]  # of each group: the bundle's logit scale divided by the group's temperature
    id: str

    @property
    def reported(self) -> tuple[str, ...]:
        """Names of the labels that a record can hold."""
        return tuple(
            name
            for name, hidden in zip(self.names, self.background.tolist(), strict=True)
            if not hidden
        )


def load_labels(wanted: str, bundle: Bundle) -> CompiledLabels:
    """A label set by path or shipped name, compiled; rows of ``my.embeddings`` beside it are used where they exist."""
    label_set = load_label_set(wanted, bundle)
    bank = TextBank.from_bundle(bundle)
    bank = with_built_rows(bank, wanted, bundle)
    try:
        return compile_labels(label_set, bundle, bank)
    except ConfigError as error:
        raise ConfigError(f"{wanted}: {error}") from None


def with_built_rows(bank: TextBank, wanted: str, bundle: Bundle) -> TextBank:
    """The bank, extended by what ``edge-label labels build`` made for this label set, if anything."""
    built = None if wanted in bundle.label_sets() else PhraseRows.read(rows_path(Path(wanted)))
    if built is None:
        return bank
    if built.text_space != bundle.manifest.text_space or built.rows.shape[1] != bundle.manifest.dim:
        raise ConfigError(
            f"{rows_path(Path(wanted))}: made for text space {built.text_space}, the bundle speaks "
            f"{bundle.manifest.text_space}",
            f"run: edge-label labels build {wanted}",
        )
    return bank.extended(built)


def compile_labels(label_set: LabelSet, bundle: Bundle, bank: TextBank) -> CompiledLabels:
    """Look every prompt up in the bank and average: embedding = normalise(mean of the prompts' rows).

    Raises ConfigError naming the first phrase the bank does not hold, with the nearest ones that it does.
    """
    order = sorted(range(len(label_set.labels)), key=lambda i: label_set.labels[i].group)
    labels = [label_set.labels[i] for i in order]
    templates = bundle.manifest.templates
    prompts = [label_set.prompts(label, templates) for label in labels]
    matrix = np.stack(
        [_embed(p, bank) for p in prompts]
        + [_embed((phrase,), bank) for phrase in label_set.background]
    )
    groups: list[tuple[str, slice]] = []
    for i, label in enumerate(labels):
        if groups and groups[-1][0] == label.group:
            groups[-1] = (label.group, slice(groups[-1][1].start, i + 1))
        else:
            groups.append((label.group, slice(i, i + 1)))
    default = bundle.manifest.threshold
    hidden = np.array([s.background for s in labels])
    thresholds = np.array(
        [default if s.threshold is None else s.threshold for s in labels], np.float32
    )
    biases = np.array([s.bias for s in labels], np.float32)
    scales = tuple(
        bundle.manifest.logit_scale / label_set.temperatures.get(name, 1.0) for name, _ in groups
    )
    identity = json.dumps([[[s.name, s.group] for s in labels], scales]).encode()
    digest = sha256_hex(
        matrix.tobytes(), hidden.tobytes(), thresholds.tobytes(), biases.tobytes(), identity
    )
    names = tuple(s.name for s in labels)
    return CompiledLabels(
        names, hidden, thresholds, tuple(groups), matrix, biases, scales, f"sha256:{digest}"
    )


def _embed(prompts: tuple[str, ...], bank: TextBank) -> NDArray[np.float32]:
    rows = []
    for phrase in prompts:
        row = bank.find(phrase)
        if row is None:
            near = bank.nearest_names(phrase)
            hint = (
                f"near it: {', '.join(near)}"
                if near
                else "edge-label labels search lists what it has"
            )
            raise ConfigError(
                f"'{phrase}' is not in the bundle's text bank",
                f"{hint}. For free text run: edge-label labels build (needs pip install 'edge-label[text]')",
            )
        rows.append(bank.rows[row])
    mean = np.mean(np.asarray(rows, np.float32), axis=0)
    return np.asarray(mean / np.linalg.norm(mean), np.float32)


@dataclass(frozen=True, slots=True)
class Scores:
    """What one frame says of every label, in the order of `CompiledLabels.names`. Arrays of shape (labels,).

    ``scores`` are softmax probabilities inside the label's group, ``margins`` what is between a label and its best
    competitor, and ``votes`` the labels that this frame alone would switch on.
    """

    scores: NDArray[np.float64]
    margins: NDArray[np.float64]
    votes: NDArray[np.bool_]


class Scorer:
    """Embedding of a frame -> its scores: softmax over (group + background) of logit_scale * cosine + bias.

    All groups are computed at once: laid end to end, each followed by the background prompts, which compete in
    every group.
    """

    def __init__(self, labels: CompiledLabels, top_k: int = 10) -> None:
        self.labels = labels
        self._top_k = top_k
        self._reported = np.flatnonzero(~labels.background)
        count = len(labels.names)
        prompts = np.arange(count, len(labels.matrix))
        rows = [
            np.concatenate((np.arange(group.start, group.stop), prompts))
            for _, group in labels.groups
        ]
        self._rows = np.concatenate(rows)  # of the matrix
        self._group = np.repeat(np.arange(len(rows)), [len(r) for r in rows])
        self._starts = np.searchsorted(self._group, np.arange(len(rows)))
        self._labels = np.flatnonzero(self._rows < count)
        self._scales = np.array(labels.scales)[self._group]
        self._biases = np.append(labels.biases, np.zeros(len(prompts)))[self._rows]

    def __call__(self, embedding: NDArray[np.float32]) -> Scores | None:
        """Scores of one embedding, float32 (dim,); None where it holds NaN or infinity."""
        cosines = self.labels.matrix @ embedding

        if not math.isfinite(cosines.sum()):
            return None

        scores, margins = self._softmax(cosines)
        votes = (margins > 0) & (scores >= self.labels.thresholds) & ~self.labels.background
        return Scores(scores, margins, votes)

    def ranked(self, scores: Scores, on: NDArray[np.bool_]) -> tuple[LabelScore, ...]:
        """The best ``top_k`` labels and every label that is on, highest score first, without the background.

        ``on``, bool (labels,), is what is finally switched on: the votes, or what consensus makes of them.
        """
        reported = self._reported[np.argsort(-scores.scores[self._reported], kind="stable")]
        rest = reported[self._top_k :]
        shown = np.concatenate((reported[: self._top_k], rest[on[rest]]))

        return tuple(
            LabelScore(self.labels.names[i], round(score, 4), round(margin, 4), is_on)
            for i, score, margin, is_on in zip(
                shown.tolist(),
                scores.scores[shown].tolist(),
                scores.margins[shown].tolist(),
                on[shown].tolist(),
                strict=True,
            )
        )

    def _softmax(
        self, cosines: NDArray[np.float32]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Scores and margins of all labels: score minus that of the best competitor, background included."""
        group = self._group
        starts = self._starts
        logits = cosines[self._rows] * self._scales + self._biases

        # Against the best of the group, whose odds are then 1: no exponent overflows.
        odds = np.exp(logits - np.maximum.reduceat(logits, starts)[group])
        total = np.add.reduceat(odds, starts)[group]

        # The best competitor of the winner is the second of its group; that of all others is the winner.
        best = odds == 1
        second = np.maximum.reduceat(np.where(best, 0.0, odds), starts)
        ties = np.add.reduceat(best, starts, dtype=np.intp) > 1
        second[ties] = 1
        rival = np.where(best, second[group], 1.0)

        return (odds / total)[self._labels], ((odds - rival) / total)[self._labels]
