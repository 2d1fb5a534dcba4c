"""Make scores mean what they say.

python -m tools.calibrate bundle models/edge-clip --data DISTILL [--evaluate ../shared/data/eval.zip] [--write]
    one logit scale and one threshold for a bundle, fitted on the training pack's held-out pictures only;
    --evaluate reports the calibration error before and after, and known against unknown, on other pictures

python -m tools.calibrate labels my.yaml --pictures FOLDER [--labelled FOLDER] [--prototypes FOLDER]
    my.calibrated.yaml for one camera: biases from its unlabelled pictures; temperature, biases and thresholds
    from labelled ones (one folder a label, `none` for none of them); labels shown by pictures (one folder a
    label, a few pictures each) mixed with their words
"""

from __future__ import annotations

import argparse
import csv
import io
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from edge_runtime.digest import sha256_hex
from edge_runtime.errors import DataError, EdgeLabelError, NoInputError, UsageError
from edge_runtime.files import write_atomically
from edge_runtime.model.bundle import Bundle, find_bundle, load_bundle
from edge_runtime.model.labels import (
    CompiledLabels,
    LabelSet,
    TextBank,
    compile_labels,
    load_label_set,
    parse_label_set,
    with_built_rows,
)
from edge_runtime.model.phrase_rows import PhraseRows, rows_path
from tools import evaluate
from tools.factory import conditions, datasets, metrics
from tools.factory.calibration import (
    Task,
    auroc,
    background_bias,
    fit_labelled,
    fit_scale,
    group_probabilities,
    threshold_for,
)
from tools.factory.embedding_cache import CachedEncoder, cache_folder
from tools.factory.recipe import Recipe, load_recipe

RECIPES = Path(__file__).parent / "recipes"
CLIP_SCALE = 100.0  # the logit scale CLIP was trained to
PRECISION = 0.7  # a label that is on should be right so often, on held-out training pictures
STRENGTH = 0.25  # of the bias from unlabelled pictures; chosen on held-out training pictures
MAX_PICTURES = 250  # a task
SHOWN_BY = "pictures of "
FEWEST_WINS = 8  # labelled pictures a label must win before it gets a threshold of its own


def embed(encode: evaluate.PictureEncoder, files: Sequence[Path], what: str) -> NDArray[np.float32]:
    """Embeddings (N, dim) of picture files. Raises DataError without pictures."""
    if not files:
        raise DataError(f"{what}: no pictures there")
    return evaluate.embed_files(encode, files, what)


def held_out_tasks(encode: evaluate.PictureEncoder, texts: evaluate.TextRows, recipe: Recipe, data: Path) -> list[Task]:
    """One task a labelled source of the recipe, of the pictures that training has never seen."""
    tasks = []
    for source in recipe.data:
        if not (source.label or source.kind == "csv"):
            continue
        samples = [s for s in datasets.scan((source,), data) if s.prompts]
        classes = sorted({s.prompts for s in samples})
        chosen = [s for s in samples if s.held_out]
        if len(classes) < 2 or not chosen:
            continue
        every = np.linspace(0, len(chosen) - 1, min(MAX_PICTURES, len(chosen))).round().astype(int)
        chosen = [chosen[i] for i in every]
        rows, _ = texts([prompt for prompts in classes for prompt in prompts])
        ends = np.cumsum([len(prompts) for prompts in classes])
        text = evaluate.unit(np.stack([part.mean(axis=0) for part in np.split(rows, ends[:-1])]))
        pictures = evaluate.embed_files(encode, [s.file for s in chosen], source.name)
        truth = np.array([classes.index(s.prompts) for s in chosen])
        tasks.append(Task(source.name, (pictures @ text.T).astype(np.float64), truth))
    if not tasks:
        raise DataError(f"{data}: no labelled, held-out pictures of the recipe there")
    return tasks


def evaluation_tasks(encode: evaluate.PictureEncoder, texts: evaluate.TextRows, data: Path) -> list[Task]:
    """The sets of tools.evaluate, as tasks. For reporting only."""
    with evaluate.open_data(data) as root:
        tasks = []
        for labelled in evaluate.labelled_sets(root, "a photo of a {}", ()):
            rows, _ = texts(labelled.phrases)
            pictures = evaluate.embed_files(encode, labelled.files, labelled.name)
            tasks.append(Task(labelled.name, (pictures @ rows.T).astype(np.float64), labelled.truth))
    return tasks


def known_against_unknown(task: Task, scale: float) -> dict[str, float]:
    """AUROC of pictures whose class is in the label set against pictures whose class is not.

    Every second class is known. ``probability``: the winner's score; ``margin``: its distance to the second;
    ``cosine``: its raw cosine. Empty without pictures of both kinds and two known classes.
    """
    known_classes = np.arange(0, task.cosines.shape[1], 2)
    known = np.isin(task.truth, known_classes)
    if len(known_classes) < 2 or known.all() or not known.any():
        return {}
    cosines = task.cosines[:, known_classes]
    probability = metrics.probabilities(cosines, scale)
    best = np.sort(probability, axis=1)
    scores = {"probability": best[:, -1], "margin": best[:, -1] - best[:, -2], "cosine": cosines.max(axis=1)}
    return {name: round(auroc(score[known], score[~known]), 3) for name, score in scores.items()}


def reliability_picture(tasks: Sequence[Task], before: float, after: float) -> bytes:
    """PNG: confidence against accuracy of every task, before and after, side by side."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, 2, figsize=(10, 5), sharey=True)
    for axis, scale, title in zip(axes, (before, after), ("before", "after"), strict=True):
        axis.plot([0, 1], [0, 1], "--", color="grey")
        for task in tasks:
            probability = metrics.probabilities(task.cosines, scale)
            confidence, accuracy, count = metrics.reliability(probability, task.truth)
            filled = count >= 5
            error = task.error(scale)
            axis.plot(confidence[filled], accuracy[filled], "o-", label=f"{task.name}, error {error:.3f}")
        axis.set(title=f"{title}: logit scale {scale:g}", xlabel="confidence", ylabel="share right", xlim=(0, 1))
        axis.legend()
    figure.tight_layout()
    png = io.BytesIO()
    figure.savefig(png, dpi=100)
    pyplot.close(figure)
    return png.getvalue()


def calibrate_bundle(options: argparse.Namespace) -> str:
    """Fit on held-out training pictures; report in Markdown; write only what --write asks for."""
    bundle = load_bundle(options.bundle)
    recipe = load_recipe(options.recipe)
    texts = evaluate.TextRows(evaluate.load_subject(bundle.path, None))
    with CachedEncoder(bundle, options.cache) as encode:
        tasks = held_out_tasks(encode, texts, recipe, options.data)
        others = evaluation_tasks(encode, texts, options.evaluate) if options.evaluate else []
    scale = fit_scale(tasks)
    probabilities = [metrics.probabilities(task.cosines, scale) for task in tasks]
    confidence = np.concatenate([p.max(axis=1) for p in probabilities])
    right = np.concatenate([p.argmax(axis=1) == t.truth for p, t in zip(probabilities, tasks, strict=True)])
    threshold = round(threshold_for(confidence, right, PRECISION), 2)
    fitted_on = f"{len(right)} held-out pictures of {len(tasks)} labelled sources of {recipe.name}"
    report: dict[str, Any] = {
        "fitted_on": fitted_on,
        "logit_scale": scale,
        "threshold": threshold,
        "precision_wanted": PRECISION,
        "share_above_threshold": round(float((confidence >= threshold).mean()), 3),
    }
    lines = [
        f"Fitted on {fitted_on}: logit scale {scale:g} (CLIP's own is {CLIP_SCALE:g}); threshold {threshold}, above "
        f"which {PRECISION:.0%} of answers there are right.",
        "",
        *calibration_table(tasks, scale),
    ]
    files: dict[str, bytes] = {}
    if others:
        lines += ["", "Pictures that nothing was fitted on; known against unknown: every second class is known.", ""]
        lines += calibration_table(others, scale)
        report |= {
            "calibration_error_before": {task.name: round(task.error(CLIP_SCALE), 4) for task in others},
            "calibration_error_after": {task.name: round(task.error(scale), 4) for task in others},
            "known_against_unknown_auroc": {task.name: known_against_unknown(task, scale) for task in others},
        }
        files["evaluation/reliability.png"] = reliability_picture(others, CLIP_SCALE, scale)
    if options.write:
        card = options.bundle / "MODEL_CARD.md"
        if card.is_file():
            write_atomically(card, with_section(card.read_text(encoding="utf-8"), lines, sorted(files)).encode())
        update_bundle(bundle, files, {"logit_scale": scale, "threshold": threshold, "calibration": report})
        lines += ["", f"{options.bundle}: logit scale and threshold written; {', '.join(files)}"]
    return "\n".join(lines)


def calibration_table(tasks: Sequence[Task], scale: float) -> list[str]:
    """Markdown: calibration error before and after of each task, and how far known stands from unknown."""
    lines = [
        f"| set | pictures | top-1 | error at {CLIP_SCALE:g} | at {scale:g} | known/unknown AUROC: score | margin |",
        "| --- " * 7 + "|",
    ]
    for task in tasks:
        top1 = metrics.top_k(task.cosines, task.truth, 1)
        apart = known_against_unknown(task, scale)
        lines.append(
            f"| {task.name} | {len(task.truth)} | {top1:.3f} | {task.error(CLIP_SCALE):.3f} | {task.error(scale):.3f} "
            f"| {apart.get('probability', '')} | {apart.get('margin', '')} |"
        )
    before, after = (float(np.mean([task.error(s) for task in tasks])) for s in (CLIP_SCALE, scale))
    return [*lines, "", f"Mean calibration error {before:.3f} -> {after:.3f} ({after / before - 1:+.0%})."]


def with_section(card: str, lines: Sequence[str], pictures: Sequence[str]) -> str:
    """A model card with its section on calibration, in the place of an older one."""
    card = re.sub(r"\n## Calibration\n.*?(?=\n## |\Z)", "", card, flags=re.DOTALL)
    shown = "".join(f"\n![{Path(picture).stem}]({picture})\n" for picture in pictures)
    section = "\n## Calibration\n\nPrinted by `python -m tools.calibrate bundle`.\n\n" + "\n".join(lines) + "\n" + shown
    before, heading, after = card.partition("\n## How it was made")
    return before + section + heading + after


def update_bundle(bundle: Bundle, files: dict[str, bytes], facts: dict[str, Any]) -> None:
    """Write files into a bundle, and the manifest with their hashes and other facts. Raises BundleError, DataError."""
    for name, data in files.items():
        write_atomically(bundle.path / name, data)
    hashes = {name: {"sha256": sha, "size": size} for name, (sha, size) in bundle.manifest.files.items()}
    hashes |= {name: {"sha256": sha256_hex(data), "size": len(data)} for name, data in files.items()}
    manifest = bundle.manifest.raw | {"files": dict(sorted(hashes.items()))} | facts
    write_atomically(bundle.path / "manifest.json", (json.dumps(manifest, indent=1) + "\n").encode())
    load_bundle(bundle.path).verify()


def group_logits(
    labels: CompiledLabels, group: str, pictures: NDArray[np.float32]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(logits (N, labels of the group), background logits (N, prompts)) as the runtime scores them, without biases.

    Raises DataError for a group that the set does not have.
    """
    for (name, at), scale in zip(labels.groups, labels.scales, strict=True):
        if name == group:
            logits = (scale * (pictures @ labels.matrix.T)).astype(np.float64)
            return logits[:, at], logits[:, len(labels.names) :]
    raise DataError(
        f"calibration: the label set has no group '{group}'; it has {', '.join(n for n, _ in labels.groups)}"
    )


def unlabelled_biases(labels: CompiledLabels, pictures: NDArray[np.float32]) -> dict[str, float]:
    """Label -> bias, from what each label scores above the others of its group on the camera's usual pictures."""
    biases = {}
    for group, at in labels.groups:
        logits, _ = group_logits(labels, group, pictures)
        biases.update(zip(labels.names[at], background_bias(logits, STRENGTH).round(3).tolist(), strict=True))
    return biases


def pictures_of(folder: Path) -> list[Path]:
    """Every picture in and below a folder, sorted. Raises NoInputError."""
    if not folder.is_dir():
        raise NoInputError(f"{folder}: no such folder of pictures")
    return sorted(p for p in folder.rglob("*") if p.suffix.lower() in datasets.SUFFIXES)


def labelled_pictures(folder: Path, labels: CompiledLabels) -> list[tuple[Path, str]]:
    """(picture, label) of one folder a label; ``none`` for none of them. Raises DataError for another name."""
    found = []
    for own in sorted(p for p in folder.iterdir() if p.is_dir()) if folder.is_dir() else []:
        if own.name != "none" and own.name not in labels.names:
            raise DataError(f"{own}: '{own.name}' is no label of the set; it has {', '.join(labels.names[:8])} ...")
        found += [(picture, own.name) for picture in pictures_of(own)]
    if not found:
        raise NoInputError(f"{folder}: no folders with pictures; expected one a label")
    return found


def calibrate_labels(options: argparse.Namespace) -> str:
    """my.yaml and pictures of one camera -> my.calibrated.yaml."""
    if not (options.pictures or options.labelled):
        raise UsageError("nothing to learn from: give --pictures, --labelled, or both")
    if options.prototypes and not options.pictures:
        raise UsageError("--prototypes needs --pictures too: what counts is what a label adds to the usual pictures")
    bundle = load_bundle(find_bundle(options.bundle))
    label_set = load_label_set(options.labels, bundle)
    bank = with_built_rows(TextBank.from_bundle(bundle), options.labels, bundle)
    lines = []
    usual = pictures_of(options.pictures) if options.pictures else []
    shown_rows: PhraseRows | None = None
    with CachedEncoder(bundle, options.cache) as encode:
        if options.prototypes:
            label_set, shown_rows = with_prototypes(label_set, bundle, bank, encode, options.prototypes, usual)
            bank = bank.extended(shown_rows)
            lines.append(f"labels shown by pictures: {', '.join(p.removeprefix(SHOWN_BY) for p in shown_rows.phrases)}")
        if usual:
            labels = compile_labels(label_set, bundle, bank)
            biases = unlabelled_biases(labels, embed(encode, usual, str(options.pictures)))
            label_set = with_biases(label_set, biases)
            least, most = min(biases.values()), max(biases.values())
            lines.append(f"{len(usual)} pictures without labels: biases {least} to {most}")
        if options.labelled:
            labels = compile_labels(label_set, bundle, bank)
            groups = fit_labelled_groups(encode, labels, options.labelled, bundle.manifest.threshold)
            lines += [f"{name}: {learned.told}" for name, learned in groups.items()]
            label_set = with_groups(label_set, groups)
    out = options.output or Path(Path(options.labels).stem + ".calibrated.yaml")
    built = None if options.labels in bundle.label_sets() else PhraseRows.read(rows_path(Path(options.labels)))
    write_atomically(out, to_yaml(label_set, f"calibrated from {options.labels}").encode())
    if joined := join(built, shown_rows):
        joined.write(rows_path(out))
    return "\n".join([*lines, f"{out}: written"])


def fit_labelled_groups(
    encode: evaluate.PictureEncoder, labels: CompiledLabels, folder: Path, least: float
) -> dict[str, Calibration]:
    """Every group that has pictures of two or more of its labels. Raises DataError when none has."""
    pairs = labelled_pictures(folder, labels)
    pictures = embed(encode, [file for file, _ in pairs], str(folder))
    names = [name for _, name in pairs]
    groups = {}
    for group, at in labels.groups:
        rows = [i for i, name in enumerate(names) if name == "none" or name in labels.names[at]]
        if len({names[i] for i in rows} - {"none"}) >= 2:
            groups[group] = fit_group(labels, group, pictures[rows], [names[i] for i in rows], least)
    if not groups:
        raise DataError(f"{folder}: no group has pictures of two of its labels; add another folder")
    return groups


def with_prototypes(
    label_set: LabelSet,
    bundle: Bundle,
    bank: TextBank,
    encode: evaluate.PictureEncoder,
    folder: Path,
    usual: Sequence[Path],
) -> tuple[LabelSet, PhraseRows]:
    """Labels that a few pictures show as well as their words do: half pictures, half prompts.

    Pictures and texts lie apart in CLIP's space (the modality gap), so a prototype is moved: what its pictures have
    beyond the camera's usual ones, at the length that words have beyond the mean of all words.
    """
    folders = sorted(p for p in folder.iterdir() if p.is_dir()) if folder.is_dir() else []
    shown_by = {own.name: pictures_of(own) for own in folders}
    names = {label.name for label in label_set.labels}
    if not shown_by or not set(shown_by) <= names:
        raise DataError(f"{folder}: expected one folder a label of {', '.join(sorted(names)[:8])} ..., with pictures")
    middle = embed(encode, usual, "usual pictures").mean(axis=0)
    words = bank.rows.astype(np.float32)
    length = float(np.linalg.norm(words - words.mean(axis=0), axis=1).mean())
    rows = []
    for name, files in shown_by.items():
        beyond = embed(encode, files, name).mean(axis=0) - middle
        rows.append(words.mean(axis=0) + beyond * (length / max(float(np.linalg.norm(beyond)), 1e-6)))
    labels = []
    for label in label_set.labels:
        prompts = label_set.prompts(label, bundle.manifest.templates)
        pictured = (SHOWN_BY + label.name,) * len(prompts) if label.name in shown_by else ()
        labels.append(replace(label, prompts=(*prompts, *pictured)) if pictured else label)
    phrases = tuple(SHOWN_BY + name for name in shown_by)
    space = bundle.manifest.text_space
    made = PhraseRows(phrases, evaluate.unit(np.stack(rows)).astype(np.float16), "pictures", False, space, "", phrases)
    return replace(label_set, labels=tuple(labels)), made


def join(built: PhraseRows | None, shown_rows: PhraseRows | None) -> PhraseRows | None:
    """What a text encoder made and what pictures showed, as one file's rows."""
    if built is None or shown_rows is None:
        return built or shown_rows
    return replace(
        built,
        phrases=(*built.phrases, *shown_rows.phrases),
        rows=np.concatenate((built.rows, shown_rows.rows)),
        pictured=(*built.pictured, *shown_rows.pictured),
    )


@dataclass(frozen=True)
class Calibration:
    """What was learned of one group: its temperature, biases and thresholds by label, and a line that tells."""

    temperature: float
    biases: dict[str, float]
    thresholds: dict[str, float]
    told: str


def fit_group(
    labels: CompiledLabels, group: str, pictures: NDArray[np.float32], names: Sequence[str], least: float
) -> Calibration:
    """Fit one group on pictures of its labels and of ``none``; what it tells is measured on the half held back.

    No threshold falls below ``least``, the bundle's: pictures that are all easy would let any win count.
    Raises DataError when the pictures show fewer than two of its labels.
    """
    logits, background = group_logits(labels, group, pictures)
    own = list(labels.names[dict(labels.groups)[group]])
    if len(set(names) & set(own)) < 2:
        raise DataError(f"group '{group}': pictures of two of its labels are needed, these show {set(names)}")
    truth = np.array([own.index(name) if name in own else -1 for name in names])
    told = []
    fit = np.arange(len(truth)) % 2 == 0
    before = group_probabilities(logits, background)
    for part in (fit, np.ones(len(truth), bool)):  # first to judge it on the other half, then for good
        temperature, bias = fit_labelled(logits[part], background[part], truth[part])
        shown_labels = np.unique(truth[truth >= 0])
        unseen = np.setdiff1d(np.arange(len(own)), shown_labels)
        bias[unseen] = bias[shown_labels].mean()  # a label without pictures is not pushed away by the others
        after = group_probabilities(logits / temperature + bias, background / temperature)
        if part is fit:
            told.append(_compare(before[~fit], after[~fit], truth[~fit]))
    thresholds = {}
    for i, label in enumerate(own):
        won = after.argmax(axis=1) == i
        if (truth == i).any() and won.sum() >= FEWEST_WINS:
            enough = threshold_for(after[won, i], truth[won] == i, PRECISION)
            thresholds[label] = round(float(np.clip(enough, least, 0.95)), 3)
    biases = dict(zip(own, bias.round(3).tolist(), strict=True))
    told.insert(0, f"{len(truth)} pictures, temperature {temperature:.2f}")
    return Calibration(temperature, biases, thresholds, "; ".join(told))


def _compare(before: NDArray[np.float64], after: NDArray[np.float64], truth: NDArray[np.int64]) -> str:
    known = truth >= 0
    errors = [metrics.calibration_error(p[known], truth[known]) for p in (before, after)]
    right = [float((p[known].argmax(1) == truth[known]).mean()) for p in (before, after)]
    text = f"right {right[0]:.0%} -> {right[1]:.0%}, calibration error {errors[0]:.3f} -> {errors[1]:.3f}"
    if (~known).any():
        apart = [auroc(p[known].max(axis=1), p[~known].max(axis=1)) for p in (before, after)]
        text += f", known against none AUROC {apart[0]:.2f} -> {apart[1]:.2f}"
    return text + " on the half held back"


def condition_pictures(files: Sequence[Path], name: str) -> list[NDArray[np.uint8]]:
    """Pictures under a synthetic condition, BGR; the strength is drawn by the picture's place in the list."""
    if name not in conditions.CONDITIONS:
        raise DataError(f"calibration: no condition '{name}'; there are {', '.join(conditions.CONDITIONS)}")
    made = []
    for i, file in enumerate(files):
        rng = np.random.default_rng(i)
        rgb = np.ascontiguousarray(evaluate.rgb(evaluate.read_picture(file)))
        made.append(np.ascontiguousarray(conditions.CONDITIONS[name](rgb, rng.uniform(0.4, 1.0), rng)[..., ::-1]))
    return made


def shown(entry: str | dict[str, str], data: Path, most: int) -> list[NDArray[np.uint8]]:
    """The pictures (BGR) one entry of calibration.yaml stands for, at most so many, spread evenly."""
    if isinstance(entry, str):
        files = sorted(p for p in data.glob(entry) if p.suffix.lower() in datasets.SUFFIXES)
    elif "weather" in entry:
        with (RECIPES / "weather.csv").open(newline="", encoding="utf-8") as table:
            files = [data / row["file"] for row in csv.DictReader(table) if row["label"] == entry["weather"]]
    else:
        files = sorted(p for p in data.glob(entry["of"]) if p.suffix.lower() in datasets.SUFFIXES)
    if not files:
        raise NoInputError(f"{data}: no pictures for {entry} of calibration.yaml; is this the unpacked distill pack?")
    files = [files[i] for i in np.linspace(0, len(files) - 1, min(most, len(files))).round().astype(int)]
    if isinstance(entry, dict) and "condition" in entry:
        return condition_pictures(files, entry["condition"])
    return [evaluate.read_picture(file) for file in files]


def calibrate_sets(options: argparse.Namespace) -> str:
    """Every shipped label set, group by group, from the pictures calibration.yaml names."""
    import yaml

    bundle = load_bundle(options.bundle)
    shows = yaml.safe_load((RECIPES / "calibration.yaml").read_text(encoding="utf-8"))
    bank = TextBank.from_bundle(bundle)
    written: dict[str, bytes] = {}
    lines = []
    for name in sorted(set(bundle.label_sets()) & set(shows)):
        source = RECIPES / "labels" / f"{name}.yaml"  # uncalibrated, so that calibrating twice changes nothing
        label_set = parse_label_set(source.read_text(encoding="utf-8"), str(source))
        labels = compile_labels(label_set, bundle, bank)
        groups: dict[str, Calibration] = {}
        for group, entries in shows[name].items():
            with CachedEncoder(bundle, options.cache) as encode:
                pictures, truth = [], []
                for label, listed in tqdm(entries.items(), desc=f"{name}: {group}", unit="label", leave=False):
                    for entry in listed:
                        found = shown(entry, options.data, max(1, options.most // len(listed)))
                        pictures += [encode(picture) for picture in found]
                        truth += [label] * len(found)
            groups[group] = fit_group(labels, group, np.stack(pictures), truth, bundle.manifest.threshold)
            lines.append(f"{name} / {group}: {groups[group].told}")
        calibrated = with_groups(label_set, groups)
        comment = f"{source.name} calibrated for {bundle.manifest.id}: python -m tools.calibrate sets"
        written[f"labels/{name}.yaml"] = to_yaml(calibrated, comment).encode()
    if options.write:
        update_bundle(bundle, written, {})
        lines.append(f"{options.bundle}: {', '.join(written)} written")
    return "\n".join(lines)


def with_biases(label_set: LabelSet, biases: dict[str, float]) -> LabelSet:
    """The set with biases for the labels named."""
    labels = (replace(label, bias=biases.get(label.name, label.bias)) for label in label_set.labels)
    return replace(label_set, labels=tuple(labels))


def with_groups(label_set: LabelSet, groups: dict[str, Calibration]) -> LabelSet:
    """The set with what was learned of its groups; a group without pictures, and a threshold without one, stay."""
    labels = []
    for label in label_set.labels:
        learned = groups.get(label.group)
        if learned:
            threshold = None if label.background else learned.thresholds.get(label.name, label.threshold)
            label = replace(label, bias=learned.biases[label.name], threshold=threshold)
        labels.append(label)
    temperatures = {name: round(own.temperature, 3) for name, own in groups.items()}
    return replace(label_set, labels=tuple(labels), temperatures=label_set.temperatures | temperatures)


def to_yaml(label_set: LabelSet, comment: str) -> str:
    """A label set as the YAML it is read from; defaults are left out."""
    import yaml

    entries = []
    for label in label_set.labels:
        entry: dict[str, Any] = {"name": label.name}
        if label.prompts:
            entry["prompts"] = list(label.prompts)
        if label.threshold is not None:
            entry["threshold"] = label.threshold
        if label.bias:
            entry["bias"] = label.bias
        if label.background:
            entry["background"] = True
        entries.append(entry | {"group": label.group})
    whole: dict[str, Any] = {"labels": entries}
    if label_set.background:
        whole["background"] = list(label_set.background)
    if label_set.templates:
        whole["templates"] = list(label_set.templates)
    if label_set.temperatures:
        whole["temperatures"] = label_set.temperatures
    return f"# {comment}\n" + yaml.safe_dump(whole, sort_keys=False, allow_unicode=True, width=110)


def main() -> int:
    """Command line; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.calibrate", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    verbs = parser.add_subparsers(metavar="bundle|sets|labels", required=True)
    bundle = verbs.add_parser("bundle", help="one logit scale and one threshold for a bundle")
    bundle.add_argument("bundle", type=Path, help="bundle directory")
    bundle.add_argument("--recipe", type=Path, default=RECIPES / "edge-clip.yaml", help="whose data it was trained on")
    bundle.add_argument("--data", type=Path, required=True, help="the folder that recipe's paths start from")
    bundle.add_argument("--evaluate", type=Path, metavar="DATA", help="report on other pictures (see tools.evaluate)")
    bundle.add_argument("--write", action="store_true", help="put all that into its manifest, card and evaluation/")
    bundle.set_defaults(run=calibrate_bundle)
    sets = verbs.add_parser("sets", help="the label sets that ship with a bundle")
    sets.add_argument("bundle", type=Path, help="bundle directory")
    sets.add_argument("--data", type=Path, required=True, help="the unpacked distill pack")
    sets.add_argument("--most", type=int, default=40, metavar="N", help="pictures a label (default 40)")
    sets.add_argument("--write", action="store_true", help="put the calibrated sets into the bundle")
    sets.set_defaults(run=calibrate_sets)
    labels = verbs.add_parser("labels", help="biases, temperature and thresholds of a label set, for one camera")
    labels.add_argument("labels", help="a label set: a YAML file, or the name of one that ships")
    labels.add_argument("--bundle", metavar="DIR", help="default: the one edge-label would use")
    labels.add_argument("--pictures", type=Path, help="what the camera usually sees, without labels")
    labels.add_argument("--labelled", type=Path, help="one folder of pictures a label")
    labels.add_argument("--prototypes", type=Path, help="one folder a label, of pictures that show it; with --pictures")
    labels.add_argument("--output", type=Path, help="default: NAME.calibrated.yaml")
    labels.set_defaults(run=calibrate_labels)
    for verb in (bundle, sets, labels):
        verb.add_argument(
            "--cache", type=Path, default=cache_folder(), help="embeddings made before (default: %(default)s)"
        )
    options = parser.parse_args()
    try:
        print(options.run(options))
    except EdgeLabelError as error:
        parser.exit(error.exit_code, f"tools.calibrate: {error}\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
