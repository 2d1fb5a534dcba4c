"""What a few pictures teach: `python -m tools.measure.few_shot`.

Draws so many pictures of each class, teaches with them, and asks about the others: top-1 in
percent, the mean of the draws, and in brackets the expected calibration error. Beside the method
that ships stand the words alone, a plain logistic regression towards the words, and Tip-Adapter
(Zhang et al., ECCV 2022, training-free), each with fixed constants.
A second table teaches 'none of these' with pictures of another set.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge_runtime.model.bundle import load_bundle
from edge_runtime.model.labels import teaching
from edge_runtime.model.labels.correction import Words
from edge_runtime.model.labels.none_of_these import fit_none_alone, none_row
from edge_runtime.model.labels.text_bank import TextBank
from tools.factory.evaluation import metrics
from tools.factory.evaluation.embedding_cache import CachedEncoder, cache_folder
from tools.factory.evaluation.labelled import LabelledSet, embed_files, labelled_sets, open_data
from tools.factory.evaluation.subject import TextRows, load_subject
from tools.lib import markdown
from tools.lib.command import run_verb, verb_parser

PACK = Path("../shared/data/eval.zip")
SHOTS = (1, 2, 4, 10, 16)
LEFT = 2  # pictures of a class that must stay to be asked about
NONE_PICTURES = 25
PLAIN_STRENGTH = 1.0
TIP_WEIGHT = 1.0  # alpha and beta of Tip-Adapter, not searched for
TIP_SHARPNESS = 5.5

Floats = NDArray[np.floating]


@dataclass(frozen=True)
class Task:
    """Embeddings (pictures, dim), the class of each, and the text rows (classes, dim)."""

    name: str
    pictures: Floats
    truth: NDArray[np.int64]
    rows: Floats
    scale: float

    def room_for(self, shots: int) -> bool:
        """Whether every class has pictures left when so many teach."""
        return int(np.bincount(self.truth).min()) >= shots + LEFT

    def draw(self, shots: int, seed: int) -> NDArray[np.bool_]:
        """(pictures,): which ones teach."""
        random = np.random.default_rng(seed)
        teaches = np.zeros(len(self.truth), bool)
        for label in range(len(self.rows)):
            teaches[random.permutation(np.flatnonzero(self.truth == label))[:shots]] = True
        return teaches


# A method: (task, which pictures teach) -> logits of the others (pictures, classes).
Method = Callable[[Task, NDArray[np.bool_]], Floats]


def words(task: Task, teaches: NDArray[np.bool_]) -> Floats:
    """The text rows alone."""
    return task.scale * task.pictures[~teaches] @ task.rows.T


def plain(task: Task, teaches: NDArray[np.bool_]) -> Floats:
    """A logistic regression towards the words with one weak prior, whatever the pictures say."""
    text = Words(np.asarray(task.rows, float), np.zeros(len(task.rows)), task.scale)
    taught = teaching.fit(
        text, task.pictures[teaches].astype(float), task.truth[teaches], 1.0, PLAIN_STRENGTH
    )
    return task.scale * task.pictures[~teaches] @ taught.rows.T + taught.biases


def tip_adapter(task: Task, teaches: NDArray[np.bool_]) -> Floats:
    """The words, and for every class how near its pictures are."""
    cosines = task.pictures[~teaches] @ task.pictures[teaches].T
    near = np.exp(-TIP_SHARPNESS * (1 - cosines))
    truth = np.eye(len(task.rows))[task.truth[teaches]]
    return words(task, teaches) + TIP_WEIGHT * near @ truth


def taught(task: Task, teaches: NDArray[np.bool_]) -> Floats:
    """What ships."""
    answer = teaching.teach(task.pictures[teaches], task.truth[teaches], task.rows, task.scale)
    return task.scale * task.pictures[~teaches] @ answer.rows.T + answer.biases


METHODS: dict[str, Method] = {
    "words only": words,
    "plain logistic": plain,
    "Tip-Adapter": tip_adapter,
    "taught": taught,
}


def measure(task: Task, method: Method, shots: int, draws: int) -> tuple[float, float]:
    """(top-1 in percent, expected calibration error), each the mean of the draws."""
    right = []
    errors = []
    for seed in range(draws):
        teaches = task.draw(shots, seed)
        logits = method(task, teaches)
        truth = task.truth[~teaches]
        right.append(100 * float((logits.argmax(axis=1) == truth).mean()))
        errors.append(metrics.calibration_error(metrics.probabilities(logits, 1.0), truth))
    return float(np.mean(right)), float(np.mean(errors))


def with_none(task: Task, others: Floats, shots: int, draws: int) -> tuple[float, float, float]:
    """Teach also 'none' with `NONE_PICTURES` of the others. In percent: the rest of the others that
    are answered 'none', and right answers to the task's pictures without and with that lesson."""
    refused = []
    before = []
    after = []
    none = len(task.rows)
    rows = np.vstack([task.rows, none_row(task.rows, task.rows[:0])])
    for seed in range(draws):
        order = np.random.default_rng(seed).permutation(len(others))
        lesson = others[order[:NONE_PICTURES]]
        rest = others[order[NONE_PICTURES:]]
        teaches = task.draw(shots, seed)
        truth = task.truth[~teaches]
        before.append(100 * float((taught(task, teaches).argmax(axis=1) == truth).mean()))

        pictures = np.vstack([task.pictures[teaches], lesson])
        labels = np.append(task.truth[teaches], np.full(len(lesson), none))
        answer = teaching.teach(pictures, labels, rows, task.scale, none=none)
        asked = np.vstack([task.pictures[~teaches], rest])
        best = (task.scale * asked @ answer.rows.T + answer.biases).argmax(axis=1)
        after.append(100 * float((best[: len(truth)] == truth).mean()))
        refused.append(100 * float((best[len(truth) :] == none).mean()))
    return float(np.mean(refused)), float(np.mean(before)), float(np.mean(after))


def none_alone(
    task: Task, others: Floats, mean_text: Floats, draws: int
) -> tuple[float, float, float]:
    """As `with_none`, but no label has a picture: the words stay, and `none` is taught alone."""
    refused = []
    after = []
    rows = np.vstack([task.rows, none_row(task.rows, task.rows[:0])])
    text = Words(np.asarray(rows, float), np.zeros(len(rows)), task.scale)
    for seed in range(draws):
        order = np.random.default_rng(seed).permutation(len(others))
        lesson = others[order[:NONE_PICTURES]].astype(float)
        row, bias = fit_none_alone(text, lesson, mean_text)

        asked = np.vstack([task.pictures, others[order[NONE_PICTURES:]]])
        logits = text(asked)
        logits[:, -1] = task.scale * asked @ row + bias
        best = logits.argmax(axis=1)
        after.append(100 * float((best[: len(task.truth)] == task.truth).mean()))
        refused.append(100 * float((best[len(task.truth) :] == len(task.rows)).mean()))

    before = 100 * float((text(task.pictures)[:, :-1].argmax(axis=1) == task.truth).mean())
    return float(np.mean(refused)), before, float(np.mean(after))


def few_shot_table(tasks: list[Task], draws: int) -> str:
    """Top-1 by set, method and pictures a label; in brackets the calibration error."""
    rows = []
    for task in tasks:
        for name, method in METHODS.items():
            cells = [task.name, name]
            for shots in SHOTS:
                if not task.room_for(shots):
                    cells.append("-")
                    continue
                top1, error = measure(task, method, shots, draws)
                cells.append(f"{top1:.1f} ({error:.2f})")
            rows.append(cells)
    head = ["set", "method", *(f"{shots} a label" for shots in SHOTS)]
    return markdown.table(head, rows, "llr")


def none_table(tasks: list[Task], mean_text: Floats, draws: int) -> str:
    """Each set taught, with pictures of the next one as 'none'; first with no other pictures."""
    rows = []
    for task, other in zip(tasks, [*tasks[1:], tasks[0]], strict=True):
        alone = none_alone(task, other.pictures, mean_text, draws)
        rows.append([task.name, other.name, "0", *(f"{f:.1f}" for f in alone)])
        for shots in SHOTS:
            if task.room_for(shots):
                figures = with_none(task, other.pictures, shots, draws)
                rows.append([task.name, other.name, str(shots), *(f"{f:.1f}" for f in figures)])
    head = ["set", "none", "a label", "others refused", "right without none", "right with none"]
    return markdown.table(head, rows, "llr")


def main(argv: list[str] | None = None) -> int:
    """Run the measurement; returns the exit code."""
    return run_verb(_parser(), _few_shot, argv)


def _few_shot(args: argparse.Namespace) -> str:
    subject = load_subject(args.bundle, None)
    mean_text = TextBank.from_bundle(load_bundle(args.bundle)).rows.mean(axis=0, dtype=np.float32)
    texts = TextRows(subject)
    with (
        open_data(args.data) as root,
        CachedEncoder(load_bundle(args.bundle), args.cache) as encode,
    ):
        tasks = []
        for labelled in labelled_sets(root, "a photo of a {}", args.set):
            rows, _ = texts(labelled.phrases)
            tasks.append(_task(labelled, rows, encode, subject.logit_scale))
    return f"{few_shot_table(tasks, args.draws)}\n\n{none_table(tasks, mean_text, args.draws)}"


def _task(labelled: LabelledSet, rows: Floats, encode: CachedEncoder, scale: float) -> Task:
    pictures = embed_files(encode, labelled.files, labelled.name)
    return Task(labelled.name, pictures, labelled.truth, rows, scale)


def _parser() -> argparse.ArgumentParser:
    parser = verb_parser("tools.measure.few_shot", __doc__, whole=True)
    add = parser.add_argument
    bundle = Path("models/edge-clip")
    add("--data", type=Path, default=PACK, help=f"labelled pictures ({PACK})")
    add("--set", action="append", default=[], help="only this set of classes.json (repeatable)")
    add("--bundle", type=Path, default=bundle, metavar="DIR", help=f"the bundle ({bundle})")
    add("--draws", type=int, default=5, help="how often to draw the pictures (5)")
    add("--cache", type=Path, default=cache_folder(), help="folder that keeps the embeddings")
    return parser


if __name__ == "__main__":
    sys.exit(main())
