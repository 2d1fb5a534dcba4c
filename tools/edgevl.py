"""Teach a colour student infrared and depth: `python -m tools.edgevl RECIPE --start RUN --data DIR --output DIR`.

EdgeVL (Cai et al., ECCV 2024). Curation: the start run's student labels the colour half of every pair over a superset
of labels; unsure training pairs go. Stage 1: one student learns to say of the infrared or depth picture what it said
of the colour picture, and goes on saying it of colour. Stage 2: the same student, fake-quantised to int8 with ranges
calibrated on all modalities, is refined with a triplet loss over the pseudo-labels. The best state on the validation
pairs is kept; the test pairs and --eval choose nothing.

Pairs are few, so colour pictures without a partner get one: pseudo-infrared, made of the picture itself.

Writes to --output: encoder.fp32.onnx (stage 1) and encoder.onnx (stage 2, int8), edgevl.json and edgevl.md (the
ablation table; --ablation adds the rows that need trainings of their own) and the curated lists. With --base and
--bundle also a bundle: the text side of one that exists, the new encoder, and the modalities it was trained for.
"""

from __future__ import annotations

import argparse
import copy
import csv
import hashlib
import json
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, TypeVar

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from tqdm import tqdm

from edge_runtime.errors import ConfigError, DataError, EdgeLabelError, NoInputError, StuckError, UsageError
from edge_runtime.files import write_atomically
from edge_runtime.model.bundle import load_bundle
from edge_runtime.model.encoder import open_session
from edge_runtime.records import Modality
from edge_runtime.strict_yaml import parse, read_text
from tools.bundle import check, replace_folder, write_manifest
from tools.curate import Pair, Superset, find_pairs, keep_confident, load_superset, pseudo_label, to_csv
from tools.distill import prepare, teacher_of
from tools.evaluate import open_data
from tools.export import INPUT, export_onnx, fold_all
from tools.factory.augment import VIEW, apply_view, draw, geometry_of, whole_picture
from tools.factory.datasets import Sample, preprocessor, scan, show
from tools.factory.fake_quant import FakeQuantised
from tools.factory.pseudo_infrared import pseudo_infrared
from tools.factory.recipe import (
    AugmentRecipe,
    LossRecipe,
    Recipe,
    SourceRecipe,
    TargetsRecipe,
    TeacherRecipe,
    TrainRecipe,
)
from tools.factory.rounding import observe_layers
from tools.factory.run import load_run
from tools.factory.stems import Stems, cache_stems
from tools.factory.students import Student, to_pixels
from tools.factory.targets import Texts
from tools.factory.teachers import Teacher
from tools.factory.training import Materials, Trainer, keep_freed_memory
from tools.interpolate import SHARES, between
from tools.quantize import CALIBRATORS, cosines, quantise, run_all

VIEWS = 4  # of each test pair: the whole frame, its mirror image and two fixed crops; both halves share them
ROWS = (  # of the table; the second, third and sixth only with --ablation
    "start, RGB only, fp32",
    "stage 1 on RGB, fp32",
    "stage 1 on non-RGB, fp32",
    "stage 1 on both, fp32",
    "+ PTQ, int8",
    "+ QAT, int8",
    "+ stage 2 with QAT, int8",
    "+ stage 2, its fp32 self",
    "start, shown the colour picture in grey",  # what losing colour alone costs the start
)
HALVES = ("rgb", "other")  # of a pair
CPU = torch.device("cpu")


@dataclass(frozen=True)
class PairRecipe:
    """A folder of colour pictures, one of infrared or depth with the same stems, and the labels to curate them with."""

    name: str
    rgb: str
    partner: str
    modality: Literal["ir", "depth"]
    labels: str
    keep: float = 0.8
    weight: float = 1.0


@dataclass(frozen=True)
class StageSettings:
    """What one stage minimises, and how."""

    losses: LossRecipe
    train: TrainRecipe


@dataclass(frozen=True)
class EdgeVLRecipe:
    """One EdgeVL training.

    colour: folders of pictures without a partner; they hold the student to what it knows, and as pseudo-infrared
        they stand in for infrared, of which there is little. Their pseudo-labels are those of `colour_labels`.
    evaluation: pairs inside the --eval pack, only ever measured on.
    frozen: layers that stay as they are; what they make of `views` views of each picture is computed once, in float32
        for stage 1 and in int8 for stage 2.
    calibration: pictures that set the int8 ranges, all modalities alike.
    calibrators: of tools.quantize; the one nearest to float32 on validation pictures is kept.
    checks: how often stage 2 is judged on the validation pairs.
    soup: trainings of each stage from the same start, each in an order of its own; the mean of their weights is taken.
    disclosure: what was looked at that should not choose, for the model card.
    """

    name: str
    pairs: tuple[PairRecipe, ...]
    stage1: StageSettings
    stage2: StageSettings
    evaluation: PairRecipe
    colour: tuple[SourceRecipe, ...] = ()
    colour_labels: str = ""
    version: str = "0.1.0"
    seed: int = 0
    frozen: int = 4
    views: int = 3
    calibration: int = 96
    calibrators: tuple[str, ...] = ("minmax", "percentile 99.999")
    checks: int = 4
    soup: int = 1
    augment: AugmentRecipe = field(default_factory=AugmentRecipe)
    disclosure: str = ""

    def __post_init__(self) -> None:
        for name in self.calibrators:
            if name not in CALIBRATORS:
                raise ValueError(f"no calibrator '{name}'; there are: {', '.join(CALIBRATORS)}")
        if self.soup < 1:
            raise ValueError(f"soup: {self.soup}; at least 1 training makes a model")
        if self.colour and not self.colour_labels:
            raise ValueError("colour needs colour_labels, a superset such as tools/recipes/supersets/road.yaml")


@dataclass(frozen=True)
class TestSet:
    """Pairs to judge by, as VIEWS views each: pictures (N * VIEWS, S, S, 3) uint8 RGB, whole frames first.

    target: (N * VIEWS, D) teacher embeddings of the colour views; sure: (N * VIEWS,) pairs whose pseudo-label
    curation would have kept.
    """

    name: str
    modality: str
    rgb: NDArray[np.uint8]
    other: NDArray[np.uint8]
    target: NDArray[np.float32]
    sure: NDArray[np.bool_]
    superset: Superset

    @property
    def whole(self) -> slice:
        """The rows of the whole frames."""
        return slice(0, len(self.rgb) // VIEWS)


Model = TypeVar("Model", bound=nn.Module)
# Of the two halves: embeddings (N * VIEWS, D), and whether each agrees with the teacher's top-1.
Answers = dict[str, tuple[NDArray[np.float32], NDArray[np.bool_]]]
Encoder = Callable[[NDArray[np.uint8]], NDArray[np.float32]]


def test_set(
    name: str, pairs: list[Pair], floor: float, start: Recipe, teacher: Teacher, superset: Superset
) -> TestSet:
    """Show the pairs as the runtime would, then through the fixed views. floor: least confidence that is sure."""
    side = start.input.size
    prepare_one = preprocessor(start.input, side)

    def shown(path: Path | None, modality: str) -> NDArray[np.uint8]:
        sample = Sample("", 0, path or Path(), 0, 0, (), "", True, modality)  # type: ignore[arg-type]
        return show(sample, prepare_one)[0].copy()

    rgb = [shown(p.file, "rgb") for p in pairs]
    other = [shown(p.partner, p.modality) for p in pairs]
    views = [_test_view(number, row) for number in range(VIEWS) for row in range(len(pairs))]

    def through(half: list[NDArray[np.uint8]]) -> NDArray[np.uint8]:
        return np.stack([apply_view(half[i % len(pairs)], view, side) for i, view in enumerate(views)])

    colour = through(rgb)
    sure = np.tile([p.confidence >= floor for p in pairs], VIEWS)
    target = teacher.image_embeddings(colour)
    return TestSet(name, pairs[0].modality, colour, through(other), target, sure, superset)


def _test_view(number: int, row: int) -> np.void:
    if number == 0:
        return whole_picture()
    if number == 1:
        view = np.array(whole_picture(), VIEW)
        view["flip"] = True
        return view[()]
    drawn = draw((77, number, row), AugmentRecipe(scale=(0.5, 0.9)), 192, conditions=False)
    return geometry_of(drawn)


def _in_grey(pictures: NDArray[np.uint8]) -> NDArray[np.uint8]:
    grey = np.stack([cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY) for picture in pictures])
    return np.repeat(grey[..., None], 3, axis=-1)


def answer(encode: Encoder, sets: list[TestSet]) -> list[Answers]:
    """What a model says of every set; each picture is encoded once."""
    answers: list[Answers] = []
    for s in sets:
        wanted = (s.target @ s.superset.rows.T).argmax(1)
        found = {half: encode(pictures) for half, pictures in zip(HALVES, (s.rgb, s.other), strict=True)}
        answers.append({half: (e, (e @ s.superset.rows.T).argmax(1) == wanted) for half, e in found.items()})
    return answers


def measure(answers: list[Answers], sets: list[TestSet]) -> dict[str, Any]:
    """In %: agreement with the teacher's top-1 on colour, and on sure pseudo-labels alone; cosine to its embedding."""
    report: dict[str, Any] = {}
    for s, of_set in zip(sets, answers, strict=True):
        report[s.name] = {
            half: {
                "agreement": round(100 * float(right.mean()), 2),
                "whole frames": round(100 * float(right[s.whole].mean()), 2),
                "pseudo-label accuracy": round(100 * float(right[s.sure].mean()), 2) if s.sure.any() else None,
                "cosine": round(float((found * s.target).sum(1).mean()), 4),
            }
            for half, (found, right) in of_set.items()
        }
    for half in HALVES:
        report[half] = round(float(np.mean([report[s.name][half]["agreement"] for s in sets])), 2)
    report["average"] = round((report["rgb"] + report["other"]) / 2, 2)
    return report


def gain(new: list[Answers], old: list[Answers], halves: tuple[str, ...] = HALVES) -> dict[str, float]:
    """Points of agreement that `new` has more than `old`, mean over sets and halves, and the 95 % interval of that.

    By bootstrap over pairs: both models see the same pictures, and the views of a pair stay together.
    """
    rng = np.random.default_rng(0)
    means, drawn = [], []
    for of_set in zip(new, old, strict=True):
        counted = [np.mean([answers[half][1] for half in halves], 0) for answers in of_set]
        by_pair = 100 * (counted[0] - counted[1]).reshape(VIEWS, -1).mean(0)
        means.append(by_pair.mean())
        drawn.append(by_pair[rng.integers(len(by_pair), size=(2000, len(by_pair)))].mean(1))
    low, high = np.percentile(np.mean(drawn, 0), (2.5, 97.5))
    return {"points": round(float(np.mean(means)), 2), "low": round(float(low), 2), "high": round(float(high), 2)}


def _torch_encoder(model: nn.Module) -> Encoder:
    def encode(pictures: NDArray[np.uint8]) -> NDArray[np.float32]:
        with torch.no_grad():
            parts = [model(to_pixels(pictures[i : i + 32], CPU)) for i in range(0, len(pictures), 32)]
        return torch.cat(parts).numpy()

    return encode


def _onnx_encoder(model: bytes) -> Encoder:
    return lambda pictures: run_all(model, [p[None] for p in pictures])


class EdgeVL:
    """One run: the start student, its lists, its materials. Each public method is a step, or a row of the table."""

    def __init__(self, recipe: EdgeVLRecipe, start: Path, data: Path, output: Path, *, quiet: bool = False) -> None:
        self.recipe, self.output, self.quiet = recipe, output, quiet
        self.data = data.resolve()
        torch.manual_seed(recipe.seed)
        self.start, student, self.text_space = load_run(start)
        self.student = fold_all(student)
        self.student.freeze(recipe.frozen)
        self.teacher_recipe = TeacherRecipe(f"run:{start}", self.start.teacher.weights)
        self.teacher = teacher_of(self.teacher_recipe)
        files = {p.labels for p in (*recipe.pairs, recipe.evaluation)} | {recipe.colour_labels} - {""}
        self.supersets = {file: load_superset(Path(file), self.teacher) for file in sorted(files)}
        self.floors: dict[str, float] = {}
        output.mkdir(parents=True, exist_ok=True)
        self.tests: list[TestSet] = []
        self.validation: list[TestSet] = []
        for pair in recipe.pairs:
            self._curate(pair)
        weights = hashlib.sha256((start / "checkpoint.pt").read_bytes()).hexdigest()[:12]
        self._list_colour()
        self._cache, first = output / f"cache-{weights}", self._recipe(recipe.stage1)
        materials = prepare(first, self.teacher, self.data, self._cache, quiet=quiet)
        materials = replace(materials, texts=self._pseudo_labels(materials))
        if materials.targets.views is None:
            raise ConfigError("views: at least 1; what the frozen layers make of each is kept")
        self._views = materials.targets.views
        stems = cache_stems(self.student, first, materials.cache, self._views, self._cache, CPU, quiet=quiet)
        self.materials = replace(materials, stems=stems)

    def _curate(self, recipe: PairRecipe) -> None:
        """Label the pairs, write the list that training reads, and keep the validation and test pairs for judging."""
        superset = self.supersets[recipe.labels]
        found = find_pairs(self.data / recipe.rgb, self.data / recipe.partner, recipe.modality)
        kept = keep_confident(pseudo_label(found, self.teacher, superset, quiet=self.quiet), recipe.keep)
        write_atomically(self._list(recipe), to_csv(kept, self.output.resolve()).encode())
        short = [split for split in ("train", "validation", "test") if not any(p.split == split for p in kept)]
        if short:
            raise DataError(
                f"{self.data / recipe.rgb}: {len(found)} pairs leave none for {' and '.join(short)}; give more of them"
            )
        floor = self.floors[recipe.labels] = min(p.confidence for p in kept if p.split == "train")
        for split, sets in (("validation", self.validation), ("test", self.tests)):
            chosen = [p for p in kept if p.split == split]
            sets.append(test_set(recipe.name, chosen, floor, self.start, self.teacher, superset))

    def _list(self, recipe: PairRecipe | SourceRecipe) -> Path:
        return (self.output / f"{recipe.name}.csv").resolve()

    def _list_colour(self) -> None:
        """The colour pictures as pairs with a pseudo-infrared one each, written beside their list."""
        recipe, side = self.recipe, self.start.input.cache_size
        prepare_one = preprocessor(self.start.input, side)
        for number, source in enumerate(recipe.colour):
            made_of = repr((recipe.seed, number, asdict(source), side)).encode()  # a changed source is made anew
            folder = self.output.resolve() / f"{source.name}-ir-{hashlib.sha256(made_of).hexdigest()[:8]}"
            folder.mkdir(exist_ok=True)
            pairs = []
            samples = scan((source,), self.data)
            for i, sample in enumerate(tqdm(samples, desc=f"{source.name} as infrared", disable=self.quiet)):
                made = folder / f"{i:05}.png"
                if not made.is_file():
                    try:
                        shown = show(sample, prepare_one)[0]
                    except (OSError, ValueError):
                        continue  # listed as broken where it is trained on
                    rng = np.random.default_rng((recipe.seed, 9, number, i))
                    png = cv2.imencode(".png", pseudo_infrared(shown, rng))[1]
                    write_atomically(made, png.tobytes(), durable=False)  # half a picture would be taken for a whole
                pairs.append(Pair(sample.file, made, "ir", "train"))
            write_atomically(self._list(source), to_csv(pairs, self.output.resolve()).encode())

    def _pseudo_labels(self, materials: Materials) -> Texts:
        """What the teacher calls every picture, of the labels of its source; both halves of a pair alike.

        The stage-2 triplets need several pictures of a label in a batch, so colour pictures are labelled as well.
        """
        files = [pair.labels for pair in self.recipe.pairs] + [self.recipe.colour_labels] * len(self.recipe.colour)
        sets = self.supersets.values()
        first = dict(zip(self.supersets, np.cumsum([0, *(len(s.names) for s in sets)]), strict=False))
        of_sample = np.full(len(materials.cache.samples), -1, np.int64)
        for number, file in enumerate(files):
            mine = np.array([i for i, s in enumerate(materials.cache.samples) if s.source == number], np.int64)
            seen = materials.targets.embeddings[:, mine].astype(np.float32).mean(0)
            logits = seen @ self.supersets[file].rows.T
            of_sample[mine] = first[file] + logits.argmax(1)
        rows = np.concatenate([s.rows for s in sets])
        groups = np.concatenate([np.full(len(s.names), number) for number, s in enumerate(sets)])
        names = [name for s in sets for name in s.names]
        return replace(materials.texts, rows=rows, names=names, groups=groups, of_sample=of_sample)

    def add_evaluation(self, pack: Path) -> None:
        """The pairs of the evaluation pack join the tables, and nothing else."""
        recipe = self.recipe.evaluation
        superset = self.supersets[recipe.labels]
        with open_data(pack) as root:
            found = find_pairs(root / recipe.rgb, root / recipe.partner, recipe.modality)
            pairs = pseudo_label(found, self.teacher, superset, quiet=self.quiet)
            self.tests.append(
                test_set(recipe.name, pairs, self.floors.get(recipe.labels, 0.0), self.start, self.teacher, superset)
            )

    def _recipe(self, stage: StageSettings, member: int = 0) -> Recipe:
        """member: of the soup; it changes the order of pictures and views, not what is stored of them."""
        own = self.recipe
        lists = tuple(
            SourceRecipe(name=p.name, path=str(self._list(p)), kind="csv", label="label", weight=p.weight)
            for p in own.pairs
        )
        grey = tuple(replace(s, path=str(self._list(s)), kind="csv", label="", limit=0) for s in own.colour)
        return replace(
            self.start,
            name=own.name,
            version=own.version,
            seed=own.seed + member,
            teacher=self.teacher_recipe,
            student=replace(self.start.student, frozen=own.frozen),
            data=(*lists, *grey),
            augment=own.augment,
            targets=TargetsRecipe(own.views, True, teacher_sees="geometry", condition_mix=0.0),
            losses=stage.losses,
            train=stage.train,
        )

    def stage1(self, which: Literal["both", "rgb", "other"] = "both") -> Student:
        """Feature distillation of one shared student, from the start student, on all or half of the modalities."""
        wanted = {"both": ("rgb", "ir", "depth"), "rgb": ("rgb",), "other": ("ir", "depth")}[which]
        trained = []
        for member in range(self.recipe.soup):
            recipe = self._recipe(self.recipe.stage1, member)
            materials = _only(replace(self.materials, recipe=recipe), wanted)
            folder = self._folder(f"stage1-{which}-{member}", materials)
            trainer = _Stage(copy.deepcopy(self.student), materials, folder, CPU, quiet=self.quiet)
            if trainer.checkpoint_path.is_file():
                trainer.resume()
            _train(trainer)
            trained.append(trainer.average)
        return mean_of(trained)

    def part_way(self, end: Student) -> tuple[Student, dict[float, float]]:
        """The weights between the start student's and `end` that agree best with the teacher on the validation pairs.

        What a long training on few pairs forgets of colour, the way back brings again (Wortsman et al., "Robust
        fine-tuning of zero-shot models", CVPR 2022). Also returns that agreement by share of the way.
        """
        first, last = self.student.state_dict(), end.state_dict()
        judged: dict[float, float] = {}
        student = copy.deepcopy(end)
        for share in SHARES[1:]:
            student.load_state_dict(between(first, last, share))
            judged[share] = measure(answer(_torch_encoder(student), self.validation), self.validation)["average"]
        student.load_state_dict(between(first, last, max(judged, key=judged.__getitem__)))
        return student, judged

    def _folder(self, name: str, m: Materials) -> Path:
        """Of a training; weights, pictures and recipe are in its name, so that nothing else can go on from it."""
        folder = self._cache / f"{name}-{m.recipe.digest('augment', 'targets', 'losses', 'train')}-{m.cache.digest}"
        folder.mkdir(exist_ok=True)
        return folder

    def quantised(self, student: Student) -> tuple[bytes, bytes, dict[str, Any]]:
        """(float32 ONNX, its best post-training int8, cosine of every calibrator on the validation pairs)."""
        side = self.start.input.size
        float32 = export_onnx(student, side, self.text_space)
        seen, judged = self._pictures(held_out=False), self._pictures(held_out=True)
        reference, layers = run_all(float32, judged), observe_layers(float32, seen)
        report: dict[str, Any] = {}
        best = (-2.0, b"")
        for method in self.recipe.calibrators:
            candidate = quantise(float32, seen, method, layers)
            report[method] = cosines(run_all(candidate, judged), reference)
            if report[method]["mean"] > best[0]:
                best = (report[method]["mean"], candidate)
        return float32, best[1], report

    def _pictures(self, *, held_out: bool) -> list[NDArray[np.uint8]]:
        """Pictures of all modalities in turn, (1, S, S, 3) each."""
        cache, rng = self.materials.cache, np.random.default_rng((self.recipe.seed, 8, held_out))
        by_modality: dict[Modality, list[int]] = {}
        for i in rng.permutation(len(cache.samples)):
            if cache.samples[i].held_out == held_out:
                by_modality.setdefault(cache.samples[i].modality, []).append(int(i))
        share = self.recipe.calibration // len(by_modality)
        chosen = [i for rows in by_modality.values() for i in rows[:share]]
        return [apply_view(cache.pictures[i], whole_picture(), self.start.input.size)[None] for i in chosen]

    def stage2(self, int8: bytes, *, contrastive: bool) -> tuple[FakeQuantised, list[float]]:
        """Quantisation-aware refinement; without `contrastive`, distillation alone goes on (the QAT row).

        The state that agrees best with the teacher on the validation pairs is kept, the start among them. Also returns
        that agreement at the start and at each check.
        """
        settings = self.recipe.stage2
        if not contrastive:
            settings = replace(settings, losses=replace(settings.losses, triplet=0.0))
        module = FakeQuantised(int8)
        materials = replace(self.materials, stems=self._int8_stems(module))
        trainers = []
        for member in range(self.recipe.soup):
            own = replace(materials, recipe=self._recipe(settings, member))
            folder = self._folder(f"{'stage2' if contrastive else 'qat'}-{member}", own)
            trainers.append(_Stage(copy.deepcopy(module), own, folder, CPU, quiet=self.quiet))
        best = (self._judge(trainers[0].average), copy.deepcopy(trainers[0].average))
        judged = [best[0]]
        for look in range(1, self.recipe.checks + 1):
            for trainer in trainers:
                _train(trainer, trainer.plan.steps * look // self.recipe.checks)
            state = mean_of([trainer.average for trainer in trainers])
            score = self._judge(state)
            judged.append(score)
            if score > best[0]:
                best = (score, state)
        return best[1], [round(score, 2) for score in judged]

    def _int8_stems(self, module: FakeQuantised) -> Stems:
        """What the frozen layers of the int8 graph make of every stored view, by ONNX Runtime: the very same bits.

        Kept for the second training that starts from the same int8 graph.
        """
        after, m, views = self.recipe.frozen, self.materials, self._views
        model, tensor = module.cut(after), module.stem_of(after)
        stored = self._cache / f"int8-stems-{hashlib.sha256(model).hexdigest()[:16]}-{m.cache.digest}.npy"
        if not stored.is_file():
            session = open_session(model, 2, "the frozen layers")
            rows = np.array([i for i, s in enumerate(m.cache.samples) if not s.held_out])
            partial, values = stored.with_suffix(".partial.npy"), None
            for plane in range(len(views)):
                for i in tqdm(rows, desc=f"frozen int8 layers, view {plane + 1}", unit="pic", disable=self.quiet):
                    shown = apply_view(m.cache.pictures[i], views[plane, i], self.start.input.size)
                    found = session.run(None, {INPUT: shown[None]})[0][0]
                    if values is None:
                        shape = (len(views), len(m.cache.samples), *found.shape)
                        values = np.lib.format.open_memmap(partial, "w+", np.int8, shape)
                    values[plane, i] = (found.astype(np.int16) - 128).astype(np.int8)
            partial.replace(stored)
        values = np.load(stored, mmap_mode="r")
        return Stems(values, np.full(values.shape[2], tensor.scale, np.float32), 128 - tensor.zero)

    def _judge(self, model: FakeQuantised) -> float:
        """Agreement of the int8 graph with the teacher on the validation pairs; cosine breaks ties."""
        report = measure(answer(_onnx_encoder(model.to_onnx()), self.validation), self.validation)
        cosine = [report[s.name][half]["cosine"] for s in self.validation for half in ("rgb", "other")]
        return float(report["average"] + 0.01 * np.mean(cosine))


class _Stage(Trainer):
    """A trainer that is judged here, on pairs, and not by scores on whatever its sources hold out."""

    def validate(self) -> dict[str, Any]:
        """Nothing."""
        return {}


def mean_of(trained: list[Model]) -> Model:
    """A model whose weights are the mean of those of several (Wortsman et al., "Model soups", ICML 2022)."""
    mean = copy.deepcopy(trained[0])
    states = [model.state_dict() for model in trained]
    mean.load_state_dict(
        {
            name: torch.stack([state[name] for state in states]).mean(0) if tensor.is_floating_point() else tensor
            for name, tensor in states[0].items()
        }
    )
    return mean


def _train(trainer: Trainer, stop_at_step: int = 1 << 62) -> None:
    """Run to the end of the plan or to a step. Raises StuckError when a signal asked to stop before."""
    trainer.run(stop_at_step=stop_at_step)
    if trainer.step < min(trainer.plan.steps, stop_at_step):
        raise StuckError("stopped before the end; the same command goes on")


def _only(materials: Materials, modalities: tuple[str, ...]) -> Materials:
    """The same materials with pictures of other modalities left out of training."""
    cache = copy.copy(materials.cache)
    cache.samples = [s if s.modality in modalities else replace(s, held_out=True) for s in cache.samples]
    return replace(materials, cache=cache)


def run(
    recipe: EdgeVLRecipe, start: Path, data: Path, output: Path, pack: Path | None, *, ablation: bool, quiet: bool
) -> str:
    """Do all of it; returns the table."""
    began = time.monotonic()
    work = EdgeVL(recipe, start, data, output, quiet=quiet)
    if pack:
        work.add_evaluation(pack)
    rows: dict[str, Any] = {}
    answered: dict[str, list[Answers]] = {}
    report: dict[str, Any] = {
        "rows": rows,
        "pairs": {s.name: {"modality": s.modality, "test pairs": len(s.rgb) // VIEWS} for s in work.tests},
        "views": VIEWS,
    }

    def note(name: str, encode: Encoder, tests: list[TestSet] = work.tests) -> None:
        answered[name] = answer(encode, tests)
        rows[name] = measure(answered[name], tests)
        brief = {key: rows[name][key] for key in ("rgb", "other", "average")}
        print(f"{time.monotonic() - began:5.0f} s  {name}: {json.dumps(brief)}", file=sys.stderr, flush=True)
        report["seconds"] = round(time.monotonic() - began)
        write_atomically(output / "edgevl.json", json.dumps(report, indent=1).encode())

    # First what is shipped, then the rows that only compare: a run that is cut short has made its model.
    note(ROWS[0], _torch_encoder(work.student))
    note(ROWS[8], _torch_encoder(work.student), [replace(s, other=_in_grey(s.rgb)) for s in work.tests])
    student, report["validation by share of the way of stage 1"] = work.part_way(work.stage1())
    note(ROWS[3], _torch_encoder(student))
    float32, int8, report["calibrators, cosine to fp32"] = work.quantised(student)
    write_atomically(output / "encoder.fp32.onnx", float32)
    note(ROWS[4], _onnx_encoder(int8))
    refined, report["validation at each check of stage 2"] = work.stage2(int8, contrastive=True)
    shipped = refined.to_onnx()
    write_atomically(output / "encoder.onnx", shipped)
    pictures = np.concatenate([s.other[s.whole] for s in work.tests] + [s.rgb[s.whole] for s in work.tests])
    by_runtime = _onnx_encoder(shipped)(pictures)
    report["torch fake-quantised to ONNX int8, cosine"] = cosines(_torch_encoder(refined)(pictures), by_runtime)
    unoptimised = run_all(shipped, [p[None] for p in pictures], optimised=False)
    report["ONNX int8 without its optimiser to with it, cosine"] = cosines(unoptimised, by_runtime)
    note(ROWS[6], _onnx_encoder(shipped))
    refined.rounding = False
    note(ROWS[7], _torch_encoder(refined))
    refined_answers = answered[ROWS[6]]
    report["gains of stage 2 with QAT"] = {
        "non-RGB over the start": gain(refined_answers, answered[ROWS[0]], ("other",)),
        "average over PTQ": gain(refined_answers, answered[ROWS[4]]),
        "average over its fp32 self": gain(refined_answers, answered[ROWS[7]]),
    }
    if ablation:
        plain, report["validation at each check of QAT"] = work.stage2(int8, contrastive=False)
        note(ROWS[5], _onnx_encoder(plain.to_onnx()))
        note(ROWS[1], _torch_encoder(work.part_way(work.stage1("rgb"))[0]))
        note(ROWS[2], _torch_encoder(work.part_way(work.stage1("other"))[0]))
    text = table(report)
    write_atomically(output / "edgevl.md", text.encode())
    return text


def ship(base: Path, target: Path, output: Path, recipe: EdgeVLRecipe) -> None:
    """A bundle with the text bank and label sets of `base` and the encoder of `output`; checked, then put in place."""
    report = json.loads((output / "edgevl.json").read_text())
    found = load_bundle(base)
    found.verify()
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{target.name}.") as parent:
        scratch = Path(parent) / "bundle"
        for name in found.manifest.files:
            if name != "encoder.onnx" and not name.startswith("evaluation/"):
                (scratch / name).parent.mkdir(parents=True, exist_ok=True)
                (scratch / name).write_bytes(found.read(name))
        (scratch / "encoder.onnx").write_bytes((output / "encoder.onnx").read_bytes())
        # What was measured on the base's encoder does not hold for this one.
        raw = {k: v for k, v in found.manifest.raw.items() if k not in ("calibration", "a72", "recipe")}
        modalities = ["rgb", *sorted({pair.modality for pair in recipe.pairs}, reverse=True)]
        parity = report["torch fake-quantised to ONNX int8, cosine"]
        manifest = raw | {
            "name": recipe.name,
            "version": recipe.version,
            "input": raw["input"] | {"modalities": modalities},
            "teacher": f"{found.manifest.id}, on the colour half of each pair",
            "data": [*raw.get("data", []), *(f"{pair.name} ({pair.modality})" for pair in recipe.pairs)],
            "int8": {k: v for k, v in raw["int8"].items() if k != "cosine_to_fp32"}
            | {"calibration": "all modalities, quantisation-aware", "cosine_to_torch": parity["mean"]},
            "recipe": asdict(recipe),
            "evaluation": {"edgevl": report["rows"]},
        }
        write_manifest(scratch, manifest)
        card = CARD.format(
            id=f"{recipe.name} {recipe.version}",
            base=found.manifest.id,
            seen=", ".join(f"{_trained_on(output, pair.name)} ({pair.modality})" for pair in recipe.pairs),
            colour=", ".join(_trained_on(output, source.name) for source in recipe.colour) or "none",
            disclosure=recipe.disclosure,
            table=table(report),
        )
        (scratch / "MODEL_CARD.md").write_text(card, encoding="utf-8")
        check(scratch)
        replace_folder(scratch, target)


def _trained_on(output: Path, name: str) -> str:
    with (output / f"{name}.csv").open(encoding="utf-8", newline="") as file:
        count = sum(row["split"] == "train" for row in csv.DictReader(file))
    return f"{count} of {name}"


CARD = """# {id}

The encoder of {base}, taught infrared and depth by EdgeVL (`python -m tools.edgevl`): one encoder, int8, for all three.
Text bank, label sets, licences and what it is not for are those of {base}: see that bundle's card.

- Pairs it was trained on: {seen}.
- Colour pictures made to look infrared: {colour}.

That is little. A sensor or scenes unlike these may be worse served than by a colour bundle: measure on your own. Labels
about light, weather and the lens mean nothing in infrared and depth.

## What it scores

{table}

{disclosure}
"""


def table(report: dict[str, Any]) -> str:
    """The ablation table as Markdown."""
    names = list(report["pairs"])
    head = ["student", "RGB", "non-RGB", "average"]
    head += [f"{n} {m['modality']}" for n, m in report["pairs"].items()]
    head += ["whole frames", "pseudo-label", "cosine RGB", "cosine non-RGB"]
    lines = [f"| {' | '.join(head)} |", "| --- " + "| ---: " * (len(head) - 1) + "|"]
    for name, row in ((name, report["rows"][name]) for name in ROWS if name in report["rows"]):
        other = [row[n]["other"] for n in names]
        cells = [f"{row[key]:.1f}" for key in ("rgb", "other", "average")]
        cells += [f"{o['agreement']:.1f}" for o in other]
        cells.append(" / ".join(f"{o['whole frames']:.0f}" for o in other))
        cells.append(" / ".join("-" if (v := o["pseudo-label accuracy"]) is None else f"{v:.0f}" for o in other))
        cells += [f"{np.mean([row[n][half]['cosine'] for n in names]):.3f}" for half in ("rgb", "other")]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    parity = report["torch fake-quantised to ONNX int8, cosine"]
    itself = report["ONNX int8 without its optimiser to with it, cosine"]
    sizes = ", ".join(f"{m['test pairs']} of {n}" for n, m in report["pairs"].items())
    lines += [
        "",
        f"Agreement in % of the top-1 label with the teacher's on the colour picture; {report['views']} views a pair, "
        f"{sizes}. Torch fake-quantised against ONNX Runtime int8: cosine {parity['mean']:.5f} mean, "
        f"{parity['min']:.5f} lowest (ONNX Runtime without its graph optimiser against with it: {itself['mean']:.5f}, "
        f"{itself['min']:.5f}). {report['seconds']} s in all.",
        "",
        "Points that stage 2 with QAT gains, and the 95 % interval by bootstrap over pairs: "
        + "; ".join(
            f"{name} {g['points']:+.1f} ({g['low']:+.1f} to {g['high']:+.1f})"
            for name, g in report["gains of stage 2 with QAT"].items()
        )
        + ".",
    ]
    return "\n".join(lines)


def main(argv: list[str] | None = None) -> int:
    """Run the verb; returns the exit code."""
    args = _parser().parse_args(argv)
    try:
        keep_freed_memory()
        recipe = parse(read_text(args.recipe, "EdgeVL recipe"), str(args.recipe), EdgeVLRecipe)
        if not (args.start / "checkpoint.pt").is_file():
            raise NoInputError(f"{args.start}: no checkpoint.pt in it; --start takes a folder that tools.distill wrote")
        if bool(args.base) != bool(args.bundle):
            raise UsageError("--base and --bundle go together: whose text side, and where the new bundle goes")
        if args.base:
            load_bundle(args.base).verify()  # now, not after half an hour of training
        print(run(recipe, args.start, args.data, args.output, args.eval, ablation=args.ablation, quiet=args.quiet))
        if args.bundle:
            ship(args.base, args.bundle, args.output, recipe)
    except EdgeLabelError as error:
        print(f"edgevl: {error}", file=sys.stderr)
        return error.exit_code
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tools.edgevl", description=__doc__.split("\n\n")[0])
    parser.add_argument("recipe", type=Path, help="e.g. tools/recipes/edgevl.yaml")
    parser.add_argument("--start", type=Path, required=True, metavar="RUN", help="run folder of the colour student")
    parser.add_argument("--data", type=Path, required=True, help="folder the recipe's picture paths are relative to")
    parser.add_argument("--output", type=Path, required=True, help="folder for models, lists and tables")
    parser.add_argument("--eval", type=Path, help="evaluation pack (folder or .zip) that holds the recipe's pairs")
    parser.add_argument("--base", type=Path, metavar="BUNDLE", help="bundle of the start run")
    parser.add_argument("--bundle", type=Path, help="bundle to write, e.g. models/edge-clip-multi")
    parser.add_argument("--ablation", action="store_true", help="also train the other rows of the table")
    parser.add_argument("--quiet", action="store_true", help="no progress bars")
    return parser


if __name__ == "__main__":
    sys.exit(main())
