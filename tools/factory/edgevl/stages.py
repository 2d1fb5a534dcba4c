"""The stages of EdgeVL: feature distillation, then quantisation-aware refinement."""

from __future__ import annotations

import copy
import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from tools.factory.edgevl.lists import curate_pairs, evaluation_pairs, list_colour
from tools.factory.edgevl.materials import calibration_pictures, int8_stems, stage1_materials
from tools.factory.edgevl.pairs import JudgedPairs
from tools.factory.edgevl.recipe import EdgeVLRecipe, StageSettings
from tools.factory.edgevl.setting import open_setting
from tools.factory.edgevl.soup import UnjudgedTrainer, mean_of, only, train_until
from tools.factory.edgevl.statistics import (
    CPU,
    HALVES,
    Encoder,
    answer,
    measure,
    onnx_encoder,
    torch_encoder,
)
from tools.factory.int8.export import export_onnx
from tools.factory.int8.fake_quant import FakeQuantised
from tools.factory.int8.parity import cosines, run_all
from tools.factory.int8.quantise import quantise
from tools.factory.int8.rounding import observe_layers
from tools.factory.students.student import Student
from tools.factory.training.interpolation import SHARES, between
from tools.factory.training.materials import Materials

MODALITIES = {"both": ("rgb", "ir", "depth"), "rgb": ("rgb",), "other": ("ir", "depth")}


class EdgeVL:
    """One run. Each public method is a step, or a row of the table."""

    def __init__(
        self, recipe: EdgeVLRecipe, start: Path, data: Path, output: Path, *, quiet: bool = False
    ) -> None:
        self.recipe = recipe
        self.setting = open_setting(recipe, start, data, output, quiet=quiet)
        self.student = self.setting.student
        self.tests: list[JudgedPairs] = []
        self.validation: list[JudgedPairs] = []
        self._floors: dict[str, float] = {}
        for pair in recipe.pairs:
            curated = curate_pairs(self.setting, pair)
            self.validation.append(curated.validation)
            self.tests.append(curated.test)
            self._floors[pair.labels] = curated.floor
        list_colour(self.setting)

        # Another start makes other targets and other activations, so it gets a cache of its own.
        weights = hashlib.sha256((start / "checkpoint.pt").read_bytes()).hexdigest()[:12]
        self._cache = output / f"cache-{weights}"
        self._materials = stage1_materials(self.setting, self._cache)

    def add_evaluation(self, pack: Path) -> None:
        """The pairs of the evaluation pack join the tables, and nothing else."""
        floor = self._floors.get(self.recipe.evaluation.labels, 0.0)
        self.tests.append(evaluation_pairs(self.setting, pack, floor))

    def stage1(self, which: Literal["both", "rgb", "other"] = "both") -> Student:
        """Feature distillation of one shared student, on all or on half of the modalities."""
        trained = []
        for member in range(self.recipe.soup):
            recipe = self.setting.stage_recipe(self.recipe.stage1, member)
            materials = only(replace(self._materials, recipe=recipe), MODALITIES[which])
            trainer = self._trainer(f"stage1-{which}-{member}", self.student, materials)
            if trainer.checkpoint_path.is_file():
                trainer.resume()
            train_until(trainer)
            trained.append(trainer.average)
        return mean_of(trained)

    def part_way(self, end: Student) -> tuple[Student, dict[float, float]]:
        """The weights between the start student's and `end` that do best on the validation pairs.

        A long training on few pairs forgets some of colour; the way back recovers it (Wortsman et
        al., "Robust fine-tuning of zero-shot models", CVPR 2022). Also returns the agreement with
        the teacher by share of the way.
        """
        first = self.student.state_dict()
        last = end.state_dict()
        student = copy.deepcopy(end)

        agreement: dict[float, float] = {}
        for share in SHARES[1:]:
            student.load_state_dict(between(first, last, share))
            agreement[share] = self._on_validation(torch_encoder(student))["average"]

        best = max(agreement, key=agreement.__getitem__)
        student.load_state_dict(between(first, last, best))
        return student, agreement

    def quantised(self, student: Student) -> tuple[bytes, bytes, dict[str, Any]]:
        """(float32 ONNX, its best post-training int8, cosine to float32 of every calibrator)."""
        float32 = export_onnx(student, self.setting.start.input.size, self.setting.text_space)
        seen = calibration_pictures(self.setting, self._materials, held_out=False)
        judged = calibration_pictures(self.setting, self._materials, held_out=True)
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

    def stage2(self, int8: bytes, *, contrastive: bool) -> tuple[FakeQuantised, list[float]]:
        """Quantisation-aware refinement; without `contrastive`, distillation alone (the QAT row).

        The state that agrees best with the teacher on the validation pairs is kept, the start among
        them. Also returns that agreement at the start and at each check.
        """
        trainers = self._stage2_trainers(int8, contrastive=contrastive)
        best = copy.deepcopy(trainers[0].average)
        scores = [self._judge(best)]
        for check in range(1, self.recipe.checks + 1):
            for trainer in trainers:
                train_until(trainer, trainer.plan.steps * check // self.recipe.checks)
            state = mean_of([trainer.average for trainer in trainers])
            score = self._judge(state)
            if score > max(scores):
                best = state
            scores.append(score)
        return best, [round(score, 2) for score in scores]

    def _stage2_trainers(self, int8: bytes, *, contrastive: bool) -> list[UnjudgedTrainer]:
        settings: StageSettings = self.recipe.stage2
        if not contrastive:
            settings = replace(settings, losses=replace(settings.losses, triplet=0.0))
        module = FakeQuantised(int8)
        stems = int8_stems(self.setting, self._materials, module, self._cache)
        materials = replace(self._materials, stems=stems)

        name = "stage2" if contrastive else "qat"
        trainers = []
        for member in range(self.recipe.soup):
            own = replace(materials, recipe=self.setting.stage_recipe(settings, member))
            trainers.append(self._trainer(f"{name}-{member}", module, own))
        return trainers

    def _trainer(
        self, name: str, model: Student | FakeQuantised, materials: Materials
    ) -> UnjudgedTrainer:
        """A training of a copy of `model`, in a folder of its own.

        Weights, pictures and recipe are in the folder's name, so that no other training can
        continue from what is there.
        """
        recipe = materials.recipe.digest("augment", "targets", "losses", "train")
        folder = self._cache / f"{name}-{recipe}-{materials.cache.digest}"
        folder.mkdir(exist_ok=True)
        own = copy.deepcopy(model)
        return UnjudgedTrainer(own, materials, folder, CPU, quiet=self.setting.quiet)

    def _judge(self, model: FakeQuantised) -> float:
        """Agreement of the int8 graph with the teacher on the validation pairs.

        The cosine breaks ties: so few pairs often agree alike.
        """
        report = self._on_validation(onnx_encoder(model.to_onnx()))
        halves = [report[pairs.name][half] for pairs in self.validation for half in HALVES]
        cosine = np.mean([figures["cosine"] for figures in halves])
        return float(report["average"] + 0.01 * cosine)

    def _on_validation(self, encode: Encoder) -> dict[str, Any]:
        return measure(answer(encode, self.validation), self.validation)
