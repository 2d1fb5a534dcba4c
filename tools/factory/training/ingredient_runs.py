"""The runs behind a table of ingredients, and how they are judged."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import torch

from edge_runtime.system.strict_yaml import parse, read_text
from tools.factory.data.augment import VIEW, whole_picture
from tools.factory.recipe import Recipe
from tools.factory.students.student import Student
from tools.factory.training.distillation import distill, prepare_training
from tools.factory.training.ingredients import (
    ALL,
    NOTHING_NEW,
    Overrides,
    Right,
    gains,
    gains_table,
    variants,
    with_seed,
)
from tools.factory.training.interpolation import between
from tools.factory.training.materials import Materials
from tools.factory.training.run_folder import load_run
from tools.factory.training.scoring import SMALL, embed_views, right_by_source
from tools.factory.training.student_teacher import make_teacher

CPU = torch.device("cpu")


def compare_ingredients(
    recipe: Path,
    ingredients: dict[str, Overrides],
    *,
    seeds: int,
    data: Path,
    output: Path,
    cache: Path,
    quiet: bool,
) -> str:
    """Train every variant with every seed; a Markdown table of gains over `NOTHING_NEW`."""
    texts = variants(read_text(recipe, "recipe"), ingredients)
    whole = parse(texts[ALL], ALL, Recipe)
    start, judge = prepare_training(whole, make_teacher(whole), data, cache, CPU, quiet=quiet)

    scores: dict[str, list[Right]] = {"the start": [_judged(start, judge)]}
    students: list[Student] = []
    for name, text in texts.items():
        scores[name] = []
        for seed in range(seeds):
            own = with_seed(text, seed)
            run = output / f"{name.replace(' ', '-').replace(',', '')}-{seed}"
            distill(
                parse(own, name, Recipe),
                data=data,
                output=run,
                cache=cache,
                device=CPU,
                recipe_text=own.encode(),
                resume=(run / "checkpoint.pt").exists(),
                quiet=quiet,
            )
            _, student, _ = load_run(run)
            scores[name].append(_judged(student, judge))
            if name == ALL:
                students.append(student)
        print(f"{name}: {_mean(scores[name]):.1f}", file=sys.stderr)

    scores[f"{ALL}, mean of {seeds} runs"] = [_judged(_soup(students), judge)]
    plain = scores[NOTHING_NEW]
    return gains_table({name: gains(runs, plain) for name, runs in scores.items()})


def _judged(student: Student, materials: Materials) -> Right:
    """Which held-out pictures are named right, by source; "small" is all of them at 32 pixels."""
    samples = materials.cache.samples
    rows = np.array([row for row, sample in enumerate(samples) if sample.held_out], np.int64)
    whole = np.full(len(rows), whole_picture(), VIEW)
    small = whole.copy()
    small["small"] = SMALL

    student.eval()
    right = right_by_source(embed_views(student, materials, rows, whole, CPU), materials, rows)
    shrunk = right_by_source(embed_views(student, materials, rows, small, CPU), materials, rows)
    return {**right, "small": np.concatenate(list(shrunk.values()))}


def _mean(runs: list[Right]) -> float:
    """Mean top-1 over sources and seeds, in percent."""
    return 100 * float(np.mean([right.mean() for run in runs for right in run.values()]))


def _soup(students: list[Student]) -> Student:
    """The mean of the weights of several runs from one start (Wortsman et al., ICML 2022)."""
    weights = students[0].state_dict()
    for number, student in enumerate(students[1:], start=2):
        weights = between(weights, student.state_dict(), 1 / number)
    soup = students[0]
    soup.load_state_dict(weights)
    return soup
