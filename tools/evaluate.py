"""Score a bundle, or any ONNX CLIP tower, on labelled pictures: `python -m tools.evaluate models/edge-clip`.

Pictures are read, preprocessed and encoded by the runtime itself. --data is a folder or .zip with a classes.json
({set: {"classes": [...], "prompt": "a photo of a {}", "label_to_text": {...}}}, one folder a class), or a plain
folder with one sub-folder a class. Prints a Markdown table; --output DIR also writes evaluation.json,
evaluation.md and the confusion and reliability pictures.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from edge_runtime.camera.replay import read_picture
from edge_runtime.errors import ConfigError, DataError, EdgeLabelError, NoInputError, UsageError
from edge_runtime.files import write_atomically
from edge_runtime.model.bundle import load_bundle
from edge_runtime.model.encoder import Encoder, open_session
from edge_runtime.model.labels import TextBank
from edge_runtime.model.preprocess import Preprocessor
from tools.factory import metrics
from tools.factory.datasets import SUFFIXES
from tools.factory.sentence_map import SentenceMap
from tools.factory.teachers import CLIP_B32, OnnxTeacher, unit

EVALUATION_PACK = Path("../shared/data/eval.zip")
WEIGHTS = Path("../shared/weights")
PAIRS = WEIGHTS / "clip_vitb32_cifar10_pairs.npz"

Picture = NDArray[np.uint8]  # (H, W, 3) BGR
PictureEncoder = Callable[[Picture], NDArray[np.float32]]


@dataclass(frozen=True)
class Subject:
    """What is scored. encoders: column name -> one picture to its unit embedding (dim,), the first one is judged.

    find: a phrase to its unit row and whether a genuine text tower made it; None where its own bank does not hold it.
    """

    name: str
    text_space: str
    logit_scale: float
    encoders: dict[str, PictureEncoder]
    find: Callable[[str], tuple[NDArray[np.float32], bool] | None]


@dataclass(frozen=True)
class LabelledSet:
    """files[i] shows classes[truth[i]]; phrases[c] is the text of class c."""

    name: str
    classes: list[str]
    phrases: list[str]
    files: list[Path]
    truth: NDArray[np.int64]


def load_subject(target: Path, fp32: Path | None) -> Subject:
    """A bundle directory, or TOWER.onnx with its TOWER.json and TOWER.npy. Raises BundleError, NoInputError."""
    if target.suffix == ".onnx":
        tower = OnnxTeacher(target)
        rows = _rows_of_bank(tower.text_embeddings)
        encode = {"tower": lambda picture: tower.image_embeddings([rgb(picture)])[0]}
        return Subject(target.stem, tower.text_space, 100.0, encode, rows)
    bundle = load_bundle(target)
    bank, prepare = TextBank.from_bundle(bundle), Preprocessor(bundle.manifest.input)
    encoder = Encoder(bundle)
    encoders: dict[str, PictureEncoder] = {"int8": lambda picture: encoder(prepare(picture))}
    if fp32:
        if not fp32.is_file():
            raise NoInputError(f"{fp32}: no such file; check --fp32")
        session = open_session(fp32.read_bytes(), 2, str(fp32))
        encoders["fp32"] = lambda picture: unit(session.run(None, {bundle.manifest.input.name: prepare(picture)})[0])[0]

    def find(phrase: str) -> tuple[NDArray[np.float32], bool] | None:
        row = bank.find(phrase)
        return None if row is None else (bank.rows[row].astype(np.float32), row not in bank.approximate)

    return Subject(bundle.manifest.id, bundle.manifest.text_space, bundle.manifest.logit_scale, encoders, find)


def rgb(picture: Picture) -> Picture:
    """BGR or one channel -> RGB."""
    return picture[..., ::-1] if picture.ndim == 3 else np.repeat(picture[..., None], 3, axis=2)


def _rows_of_bank(
    embed: Callable[[Sequence[str]], NDArray[np.float32]],
) -> Callable[[str], tuple[NDArray[np.float32], bool] | None]:
    def find(phrase: str) -> tuple[NDArray[np.float32], bool] | None:
        try:
            return embed([phrase])[0], True
        except DataError:
            return None

    return find


@contextmanager
def open_data(path: Path) -> Iterator[Path]:
    """The folder with the pictures; a .zip is unpacked for as long as it is needed."""
    if path.suffix != ".zip":
        if not path.is_dir():
            raise NoInputError(f"{path}: no such folder or .zip; give labelled pictures with --data")
        yield path
        return
    with tempfile.TemporaryDirectory() as folder:
        try:
            with zipfile.ZipFile(path) as archive:
                archive.extractall(folder)  # zipfile takes ".." and absolute names apart itself
        except FileNotFoundError:
            raise NoInputError(f"{path}: no such folder or .zip; give labelled pictures with --data") from None
        except (zipfile.BadZipFile, OSError) as error:
            raise DataError(f"{path}: cannot unpack ({error})") from None
        found = next(iter(sorted(Path(folder).rglob("classes.json"))), None)
        yield found.parent if found else Path(folder)


def labelled_sets(root: Path, prompt: str, only: Sequence[str]) -> list[LabelledSet]:
    """The sets of a folder, as classes.json says, or the folder itself. Raises DataError, UsageError."""
    index = root / "classes.json"
    if index.is_file():
        try:
            entries = json.loads(index.read_text(encoding="utf-8"))
            listed = {name: entry for name, entry in entries.items() if entry.get("classes")}
        except (ValueError, AttributeError) as error:
            raise DataError(f"{index}: not a mapping of sets ({error})") from None
        if only and not set(only) <= set(listed):
            raise DataError(f"{index}: has {', '.join(listed)}, not {', '.join(set(only) - set(listed))}")
        return [_labelled_set(root / name, name, entry) for name, entry in listed.items() if not only or name in only]
    if only:
        raise UsageError(f"--set: {root} has no classes.json, so it is one set; leave --set out")
    classes = sorted(p.name for p in root.iterdir() if p.is_dir())
    return [_labelled_set(root, root.name, {"classes": classes, "prompt": prompt})]


def _labelled_set(root: Path, name: str, entry: dict[str, Any]) -> LabelledSet:
    texts, prompt = entry.get("label_to_text", {}), entry.get("prompt", "a photo of a {}")
    files: list[Path] = []
    truth: list[int] = []
    for number, label in enumerate(entry["classes"]):
        found = sorted(p for p in (root / label).glob("*") if p.suffix.lower() in SUFFIXES)
        if not found:
            raise DataError(f"{root / label}: no pictures of class '{label}'; remove the class or add some")
        files += found
        truth += [number] * len(found)
    if not files:
        raise DataError(f"{root}: no folder with pictures; expected one a class")
    phrases = [texts.get(label) or prompt.format(label.replace("_", " ")) for label in entry["classes"]]
    return LabelledSet(name, list(entry["classes"]), phrases, files, np.array(truth))


class TextRows:
    """Phrases to rows: the subject's own bank first, then the sentence map (CLIP ViT-B/32 only)."""

    def __init__(self, subject: Subject) -> None:
        self._subject = subject
        self._map: SentenceMap | None = None

    def __call__(self, phrases: Sequence[str]) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """(rows (N, dim) of unit norm, which of them a genuine text tower made (N,))."""
        found = [self._subject.find(phrase) for phrase in phrases]
        missing = [phrase for phrase, row in zip(phrases, found, strict=True) if row is None]
        if missing:
            if self._subject.text_space != CLIP_B32:
                raise ConfigError(
                    f"'{missing[0]}' is not in the text bank of {self._subject.name} ({len(missing)} phrases); "
                    "make the bank with them: python -m tools.prompts"
                )
            self._map = self._map or SentenceMap.from_weights(WEIGHTS)
            made = iter(self._map(missing))
            found = [(next(made), False) if row is None else row for row in found]
        known = [row for row in found if row is not None]
        return unit(np.stack([row for row, _ in known])), np.array([genuine for _, genuine in known])


def embed_files(encode: PictureEncoder, files: Sequence[Path], what: str) -> NDArray[np.float32]:
    """Embeddings (N, dim) of picture files."""
    return np.stack([encode(read_picture(path)) for path in tqdm(files, desc=what, unit="pic", leave=False)])


def score(cosines: NDArray[np.float32], truth: NDArray[np.int64], logit_scale: float) -> dict[str, float]:
    """top1, top5, auc, ece of cosines (N, classes)."""
    return {
        "top1": round(metrics.top_k(cosines, truth, 1), 4),
        "top5": round(metrics.top_k(cosines, truth, 5), 4),
        "auc": round(metrics.macro_auc(cosines, truth), 4),
        "ece": round(metrics.calibration_error(metrics.probabilities(cosines, logit_scale), truth), 4),
    }


def evaluate(subject: Subject, sets: Sequence[LabelledSet], pairs: Path | None, output: Path | None) -> dict[str, Any]:
    """All scores as one dictionary; draws the pictures into `output`."""
    texts = TextRows(subject)
    report: dict[str, Any] = {
        "subject": subject.name,
        "text_space": subject.text_space,
        "logit_scale": subject.logit_scale,
        "sets": {},
    }
    for labelled in sets:
        rows, genuine = texts(labelled.phrases)
        entry: dict[str, Any] = {
            "pictures": len(labelled.files),
            "classes": len(labelled.classes),
            "approximate_texts": int((~genuine).sum()),
        }
        embeddings: dict[str, NDArray[np.float32]] = {}
        for column, encode in subject.encoders.items():
            found = embeddings[column] = embed_files(encode, labelled.files, f"{labelled.name} {column}")
            entry[column] = score(found @ rows.T, labelled.truth, subject.logit_scale)
        judged, *others = embeddings
        if genuine.any() and not genuine.all():
            right = (embeddings[judged] @ rows.T).argmax(1) == labelled.truth
            spoken = genuine[labelled.truth]
            entry["top1_genuine_texts"] = round(float(right[spoken].mean()), 4)
            entry["top1_approximate_texts"] = round(float(right[~spoken].mean()), 4)
        for other in others:
            same = (embeddings[judged] * embeddings[other]).sum(1)
            entry[f"cosine_{judged}_{other}"] = round(float(same.mean()), 4)
        report["sets"][labelled.name] = entry
        if output:
            draw(embeddings[judged] @ rows.T, labelled, subject.logit_scale, output)
    report["mean_top1"] = {
        column: round(float(np.mean([entry[column]["top1"] for entry in report["sets"].values()])), 4)
        for column in subject.encoders
    }
    if pairs:
        report["retention"] = retention(subject, texts, pairs)
    return report


def retention(subject: Subject, texts: TextRows, pairs: Path) -> dict[str, float]:
    """How much of a genuine teacher is left, on pictures whose teacher embeddings are stored.

    Needs images (N, H, W, 3) RGB, labels, image_embeddings; the classes are CIFAR-10's. retention = student's
    top-1 / teacher's. Cosines: as they are, and after each side's mean is taken away (the modality gap).
    """
    classes = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
    try:
        with np.load(pairs, allow_pickle=False) as archive:
            images, truth, teacher = archive["images"], archive["labels"], unit(archive["image_embeddings"])
    except (OSError, KeyError, ValueError) as error:
        raise DataError(f"{pairs}: needs images, labels and image_embeddings ({error})") from None
    encode = next(iter(subject.encoders.values()))
    student = np.stack([encode(np.ascontiguousarray(p[..., ::-1])) for p in tqdm(images, desc="pairs", leave=False)])
    if teacher.shape[1] != student.shape[1]:
        raise ConfigError(f"{pairs}: embeddings of {teacher.shape[1]} numbers, {subject.name} gives {student.shape[1]}")
    rows, _ = texts([f"a photo of a {name}" for name in classes])
    own, theirs = (metrics.top_k(e @ rows.T, truth, 1) for e in (student, teacher))
    centred = [unit(e - e.mean(0)) for e in (student, teacher)]
    return {
        "pictures": len(images),
        "student_top1": round(own, 4),
        "teacher_top1": round(theirs, 4),
        "retention": round(own / theirs, 4),
        "agreement": round(float(((student @ rows.T).argmax(1) == (teacher @ rows.T).argmax(1)).mean()), 4),
        "cosine": round(float((student * teacher).sum(1).mean()), 4),
        "centred_cosine": round(float((centred[0] * centred[1]).sum(1).mean()), 4),
    }


def draw(cosines: NDArray[np.float32], labelled: LabelledSet, logit_scale: float, output: Path) -> None:
    """OUTPUT/NAME.png: confusion on the left, reliability on the right."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    probability = metrics.probabilities(cosines, logit_scale)
    confidence, accuracy, count = metrics.reliability(probability, labelled.truth)
    figure, (left, right) = pyplot.subplots(1, 2, figsize=(11, 5))
    left.imshow(metrics.confusion(cosines, labelled.truth), cmap="viridis", vmin=0, vmax=1)
    left.set(title=f"{labelled.name}: confusion", xlabel="said", ylabel="is")
    if len(labelled.classes) <= 20:
        left.set_xticks(range(len(labelled.classes)), labelled.classes, rotation=90)
        left.set_yticks(range(len(labelled.classes)), labelled.classes)
    right.plot([0, 1], [0, 1], "--", color="grey")
    filled = count > 0
    right.plot(confidence[filled], accuracy[filled], "o-")
    right.bar((np.arange(metrics.BINS) + 0.5) / metrics.BINS, count / count.sum(), 1 / metrics.BINS, alpha=0.2)
    error = metrics.calibration_error(probability, labelled.truth)
    right.set(title=f"reliability, calibration error {error:.3f}", xlabel="confidence", ylabel="share right")
    right.set(xlim=(0, 1), ylim=(0, 1))
    figure.tight_layout()
    output.mkdir(parents=True, exist_ok=True)
    figure.savefig(output / f"{labelled.name}.png", dpi=100)
    pyplot.close(figure)


def table(report: dict[str, Any]) -> str:
    """The report as Markdown, as it stands in the model card; a second table where float32 was scored too."""
    judged, *others = report["mean_top1"]
    head = ["set", "pictures", "classes", f"{judged} top-1", "top-5", "AUC", "ECE"]
    lines = [_row(head), _row(["---"] * len(head))]
    for name, entry in report["sets"].items():
        s = entry[judged]
        scores = [f"{100 * s['top1']:.1f}", f"{100 * s['top5']:.1f}", f"{s['auc']:.3f}", f"{s['ece']:.3f}"]
        lines.append(_row([name, str(entry["pictures"]), str(entry["classes"]), *scores]))
    mean = f"Mean top-1: {100 * report['mean_top1'][judged]:.1f} %."
    lines += ["", f"{mean} ECE: calibration error at a logit scale of {report['logit_scale']:g}."]
    approximate = sum(entry["approximate_texts"] for entry in report["sets"].values())
    total = sum(entry["classes"] for entry in report["sets"].values())
    if approximate:
        lines.append(f"{approximate} of {total} class texts are approximate (sentence map).")
        lines += [
            f"{name}: {100 * entry['top1_genuine_texts']:.1f} % on pictures of classes with a genuine text row, "
            f"{100 * entry['top1_approximate_texts']:.1f} % on the others."
            for name, entry in report["sets"].items()
            if "top1_genuine_texts" in entry
        ]
    if kept := report.get("retention"):
        lines.append(
            f"Retention against genuine teacher embeddings on {kept['pictures']} pictures: "
            f"{100 * kept['student_top1']:.1f} % of {100 * kept['teacher_top1']:.1f} % = "
            f"{100 * kept['retention']:.1f} %; "
            f"same answer {100 * kept['agreement']:.1f} %; centred cosine {kept['centred_cosine']:.3f}."
        )
    for other in others:
        lines += ["", *_against(report, judged, other)]
    return "\n".join(lines)


def _against(report: dict[str, Any], judged: str, other: str) -> list[str]:
    """A table of what one column costs against another."""
    head = ["set", f"{other} top-1", f"{judged} top-1", "difference", "mean cosine"]
    lines = [_row(head), _row(["---"] * len(head))]
    entries = {name: (e[other]["top1"], e[judged]["top1"]) for name, e in report["sets"].items()}
    cosines = {name: f"{e[f'cosine_{judged}_{other}']:.4f}" for name, e in report["sets"].items()}
    entries["mean"] = (report["mean_top1"][other], report["mean_top1"][judged])
    for name, (before, after) in entries.items():
        figures = [f"{100 * before:.1f}", f"{100 * after:.1f}", f"{100 * (after - before):+.1f}"]
        lines.append(_row([name, *figures, cosines.get(name, "")]))
    return lines


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def main(argv: list[str] | None = None) -> int:
    """Run the verb; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tools.evaluate", description=__doc__.split("\n\n")[0])
    parser.add_argument("target", type=Path, help="a bundle directory, or TOWER.onnx with TOWER.json and TOWER.npy")
    parser.add_argument("--data", type=Path, default=EVALUATION_PACK, help=f"labelled pictures ({EVALUATION_PACK})")
    parser.add_argument("--set", action="append", default=[], help="only this set of classes.json (repeatable)")
    parser.add_argument("--prompt", default="a photo of a {}", help="for a plain folder of classes")
    parser.add_argument("--fp32", type=Path, help="the float32 ONNX the bundle was quantised from, as a second column")
    parser.add_argument("--pairs", type=Path, help=f"teacher embeddings for retention ({PAIRS}, where it fits)")
    parser.add_argument("--output", type=Path, help="folder for evaluation.json, evaluation.md and pictures")
    args = parser.parse_args(argv)
    try:
        if "{}" not in args.prompt or args.prompt.count("{") + args.prompt.count("}") != 2:
            raise UsageError(f"--prompt '{args.prompt}': needs one {{}}, where the name of the class goes")
        subject = load_subject(args.target, args.fp32)
        pairs = args.pairs or (PAIRS if PAIRS.is_file() and subject.text_space == CLIP_B32 else None)
        with open_data(args.data) as root:
            report = evaluate(subject, labelled_sets(root, args.prompt, args.set), pairs, args.output)
        text = table(report)
        if args.output:
            write_atomically(args.output / "evaluation.json", json.dumps(report, indent=1).encode())
            write_atomically(args.output / "evaluation.md", (text + "\n").encode())
    except EdgeLabelError as error:
        print(f"evaluate: {error}", file=sys.stderr)
        return error.exit_code
    print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
