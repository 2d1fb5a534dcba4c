"""The stages of EdgeVL: curation, feature distillation, quantisation-aware refinement."""

from __future__ import annotations

import copy
import hashlib
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Literal, TypeVar

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from tqdm import tqdm

from edge_runtime.errors import ConfigError, DataError, StuckError
from edge_runtime.files import write_atomically
from edge_runtime.model.encoder import open_session
from edge_runtime.records import Modality
from tools.factory.data.augment import apply_view, whole_picture
from tools.factory.data.pictures import preprocessor, show
from tools.factory.data.pseudo_infrared import pseudo_infrared
from tools.factory.data.samples import scan
from tools.factory.edgevl.curation import (
    Pair,
    find_pairs,
    keep_confident,
    load_superset,
    pseudo_label,
    to_csv,
)
from tools.factory.edgevl.pairs import TestSet, test_set
from tools.factory.edgevl.recipe import EdgeVLRecipe, PairRecipe, StageSettings
from tools.factory.edgevl.statistics import CPU, answer, measure, onnx_encoder, torch_encoder
from tools.factory.evaluation.labelled import open_data
from tools.factory.int8.export import INPUT, export_onnx, fold_all
from tools.factory.int8.fake_quant import FakeQuantised
from tools.factory.int8.parity import cosines, run_all
from tools.factory.int8.quantise import quantise
from tools.factory.int8.rounding import observe_layers
from tools.factory.recipe import Recipe, SourceRecipe, TargetsRecipe, TeacherRecipe
from tools.factory.students.student import Student
from tools.factory.teachers.texts import Texts
from tools.factory.training.interpolation import SHARES, between
from tools.factory.training.materials import Materials, prepare
from tools.factory.training.run_folder import load_run
from tools.factory.training.stems import Stems, cache_stems
from tools.factory.training.student_teacher import teacher_of
from tools.factory.training.trainer import Trainer

Model = TypeVar("Model", bound=nn.Module)


class EdgeVL:
    """One run: the start student, its lists, its materials. Each public method is a step, or a row
    of the table."""

    def __init__(
        self, recipe: EdgeVLRecipe, start: Path, data: Path, output: Path, *, quiet: bool = False
    ) -> None:
        self.recipe = recipe
        self.output = output
        self.quiet = quiet
        self.data = data.resolve()
        torch.manual_seed(recipe.seed)
        self.start, student, self.text_space = load_run(start)
        self.student = fold_all(student)
        self.student.freeze(recipe.frozen)
        self.teacher_recipe = TeacherRecipe(f"run:{start}", self.start.teacher.weights)
        self.teacher = teacher_of(self.teacher_recipe)
        files = {p.labels for p in (*recipe.pairs, recipe.evaluation)} | {recipe.colour_labels} - {
            ""
        }
        self.supersets = {file: load_superset(Path(file), self.teacher) for file in sorted(files)}
        self.floors: dict[str, float] = {}
        output.mkdir(parents=True, exist_ok=True)
        self.tests: list[TestSet] = []
        self.validation: list[TestSet] = []
        for pair in recipe.pairs:
            self._curate(pair)
        weights = hashlib.sha256((start / "checkpoint.pt").read_bytes()).hexdigest()[:12]
        self._list_colour()
        self._cache = output / f"cache-{weights}"
        first = self._recipe(recipe.stage1)
        materials = prepare(first, self.teacher, self.data, self._cache, quiet=quiet)
        materials = replace(materials, texts=self._pseudo_labels(materials))
        if materials.targets.views is None:
            raise ConfigError("views: at least 1; what the frozen layers make of each is kept")
        self._views = materials.targets.views
        stems = cache_stems(
            self.student, first, materials.cache, self._views, self._cache, CPU, quiet=quiet
        )
        self.materials = replace(materials, stems=stems)

    def _curate(self, recipe: PairRecipe) -> None:
        """Label the pairs, write the list that training reads, and keep the validation and test
        pairs for judging."""
        superset = self.supersets[recipe.labels]
        found = find_pairs(self.data / recipe.rgb, self.data / recipe.partner, recipe.modality)
        kept = keep_confident(
            pseudo_label(found, self.teacher, superset, quiet=self.quiet), recipe.keep
        )
        write_atomically(self._list(recipe), to_csv(kept, self.output.resolve()).encode())
        short = [
            split
            for split in ("train", "validation", "test")
            if not any(p.split == split for p in kept)
        ]
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
        """The colour pictures as pairs with a pseudo-infrared one each, written beside their
        list."""
        recipe = self.recipe
        side = self.start.input.cache_size
        prepare_one = preprocessor(self.start.input, side)
        for number, source in enumerate(recipe.colour):
            made_of = repr(
                (recipe.seed, number, asdict(source), side)
            ).encode()  # a changed source is made anew
            folder = (
                self.output.resolve()
                / f"{source.name}-ir-{hashlib.sha256(made_of).hexdigest()[:8]}"
            )
            folder.mkdir(exist_ok=True)
            pairs = []
            samples = scan((source,), self.data)
            for i, sample in enumerate(
                tqdm(samples, desc=f"{source.name} as infrared", disable=self.quiet)
            ):
                made = folder / f"{i:05}.png"
                if not made.is_file():
                    try:
                        shown = show(sample, prepare_one)[0]
                    except (OSError, ValueError):
                        continue  # listed as broken where it is trained on
                    rng = np.random.default_rng((recipe.seed, 9, number, i))
                    png = cv2.imencode(".png", pseudo_infrared(shown, rng))[1]
                    # half a picture would be taken for a whole
                    write_atomically(made, png.tobytes(), durable=False)
                pairs.append(Pair(sample.file, made, "ir", "train"))
            write_atomically(self._list(source), to_csv(pairs, self.output.resolve()).encode())

    def _pseudo_labels(self, materials: Materials) -> Texts:
        """What the teacher calls every picture, of the labels of its source; both halves of a pair
        alike.

        The stage-2 triplets need several pictures of a label in a batch, so colour pictures are
        labelled as well.
        """
        files = [pair.labels for pair in self.recipe.pairs] + [self.recipe.colour_labels] * len(
            self.recipe.colour
        )
        sets = self.supersets.values()
        first = dict(
            zip(self.supersets, np.cumsum([0, *(len(s.names) for s in sets)]), strict=False)
        )
        of_sample = np.full(len(materials.cache.samples), -1, np.int64)
        for number, file in enumerate(files):
            mine = np.array(
                [i for i, s in enumerate(materials.cache.samples) if s.source == number], np.int64
            )
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
                test_set(
                    recipe.name,
                    pairs,
                    self.floors.get(recipe.labels, 0.0),
                    self.start,
                    self.teacher,
                    superset,
                )
            )

    def _recipe(self, stage: StageSettings, member: int = 0) -> Recipe:
        """member: of the soup; it changes the order of pictures and views, not what is stored of
        them."""
        own = self.recipe
        lists = tuple(
            SourceRecipe(
                name=p.name, path=str(self._list(p)), kind="csv", label="label", weight=p.weight
            )
            for p in own.pairs
        )
        grey = tuple(
            replace(s, path=str(self._list(s)), kind="csv", label="", limit=0) for s in own.colour
        )
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
        """Feature distillation of one shared student, from the start student, on all or half of the
        modalities."""
        wanted = {"both": ("rgb", "ir", "depth"), "rgb": ("rgb",), "other": ("ir", "depth")}[which]
        trained = []
        for member in range(self.recipe.soup):
            recipe = self._recipe(self.recipe.stage1, member)
            materials = only(replace(self.materials, recipe=recipe), wanted)
            folder = self._folder(f"stage1-{which}-{member}", materials)
            trainer = Stage(copy.deepcopy(self.student), materials, folder, CPU, quiet=self.quiet)
            if trainer.checkpoint_path.is_file():
                trainer.resume()
            train_until(trainer)
            trained.append(trainer.average)
        return mean_of(trained)

    def part_way(self, end: Student) -> tuple[Student, dict[float, float]]:
        """The weights between the start student's and `end` that agree best with the teacher on the
        validation pairs.

        What a long training on few pairs forgets of colour, the way back brings again (Wortsman et
        al., "Robust fine-tuning of zero-shot models", CVPR 2022). Also returns that agreement by
        share of the way.
        """
        first = self.student.state_dict()
        last = end.state_dict()
        judged: dict[float, float] = {}
        student = copy.deepcopy(end)
        for share in SHARES[1:]:
            student.load_state_dict(between(first, last, share))
            judged[share] = measure(
                answer(torch_encoder(student), self.validation), self.validation
            )["average"]
        student.load_state_dict(between(first, last, max(judged, key=judged.__getitem__)))
        return student, judged

    def _folder(self, name: str, m: Materials) -> Path:
        """Of a training; weights, pictures and recipe are in its name, so that nothing else can go
        on from it."""
        folder = (
            self._cache
            / f"{name}-{m.recipe.digest('augment', 'targets', 'losses', 'train')}-{m.cache.digest}"
        )
        folder.mkdir(exist_ok=True)
        return folder

    def quantised(self, student: Student) -> tuple[bytes, bytes, dict[str, Any]]:
        """(float32 ONNX, its best post-training int8, cosine of every calibrator on the validation
        pairs)."""
        side = self.start.input.size
        float32 = export_onnx(student, side, self.text_space)
        seen = self._pictures(held_out=False)
        judged = self._pictures(held_out=True)
        reference = run_all(float32, judged)
        layers = observe_layers(float32, seen)
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
        cache = self.materials.cache
        rng = np.random.default_rng((self.recipe.seed, 8, held_out))
        by_modality: dict[Modality, list[int]] = {}
        for i in rng.permutation(len(cache.samples)):
            if cache.samples[i].held_out == held_out:
                by_modality.setdefault(cache.samples[i].modality, []).append(int(i))
        share = self.recipe.calibration // len(by_modality)
        chosen = [i for rows in by_modality.values() for i in rows[:share]]
        return [
            apply_view(cache.pictures[i], whole_picture(), self.start.input.size)[None]
            for i in chosen
        ]

    def stage2(self, int8: bytes, *, contrastive: bool) -> tuple[FakeQuantised, list[float]]:
        """Quantisation-aware refinement; without `contrastive`, distillation alone goes on (the QAT
        row).

        The state that agrees best with the teacher on the validation pairs is kept, the start among
        them. Also returns that agreement at the start and at each check.
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
            trainers.append(Stage(copy.deepcopy(module), own, folder, CPU, quiet=self.quiet))
        best = (self._judge(trainers[0].average), copy.deepcopy(trainers[0].average))
        judged = [best[0]]
        for look in range(1, self.recipe.checks + 1):
            for trainer in trainers:
                train_until(trainer, trainer.plan.steps * look // self.recipe.checks)
            state = mean_of([trainer.average for trainer in trainers])
            score = self._judge(state)
            judged.append(score)
            if score > best[0]:
                best = (score, state)
        return best[1], [round(score, 2) for score in judged]

    def _int8_stems(self, module: FakeQuantised) -> Stems:
        """What the frozen layers of the int8 graph make of every stored view, by ONNX Runtime: the
        very same bits.

        Kept for the second training that starts from the same int8 graph.
        """
        after = self.recipe.frozen
        m = self.materials
        views = self._views
        model = module.cut(after)
        tensor = module.stem_of(after)
        stored = (
            self._cache
            / f"int8-stems-{hashlib.sha256(model).hexdigest()[:16]}-{m.cache.digest}.npy"
        )
        if not stored.is_file():
            session = open_session(model, 2, "the frozen layers")
            rows = np.array([i for i, s in enumerate(m.cache.samples) if not s.held_out])
            partial = stored.with_suffix(".partial.npy")
            values = None
            for plane in range(len(views)):
                for i in tqdm(
                    rows,
                    desc=f"frozen int8 layers, view {plane + 1}",
                    unit="pic",
                    disable=self.quiet,
                ):
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
        """Agreement of the int8 graph with the teacher on the validation pairs; cosine breaks
        ties."""
        report = measure(answer(onnx_encoder(model.to_onnx()), self.validation), self.validation)
        cosine = [
            report[s.name][half]["cosine"] for s in self.validation for half in ("rgb", "other")
        ]
        return float(report["average"] + 0.01 * np.mean(cosine))


class Stage(Trainer):
    """A trainer that is judged here, on pairs, and not by scores on whatever its sources hold
    out."""

    def validate(self) -> dict[str, Any]:
        """Nothing."""
        return {}


def mean_of(trained: list[Model]) -> Model:
    """A model whose weights are the mean of those of several (Wortsman et al., "Model soups", ICML
    2022)."""
    mean = copy.deepcopy(trained[0])
    states = [model.state_dict() for model in trained]
    mean.load_state_dict(
        {
            name: torch.stack([state[name] for state in states]).mean(0)
            if tensor.is_floating_point()
            else tensor
            for name, tensor in states[0].items()
        }
    )
    return mean


def train_until(trainer: Trainer, stop_at_step: int = 1 << 62) -> None:
    """Run to the end of the plan or to a step. Raises StuckError when a signal asked to stop
    before."""
    trainer.run(stop_at_step=stop_at_step)
    if trainer.step < min(trainer.plan.steps, stop_at_step):
        raise StuckError("stopped before the end; the same command goes on")


def only(materials: Materials, modalities: tuple[str, ...]) -> Materials:
    """The same materials with pictures of other modalities left out of training."""
    cache = copy.copy(materials.cache)
    cache.samples = [
        s if s.modality in modalities else replace(s, held_out=True) for s in cache.samples
    ]
    return replace(materials, cache=cache)
