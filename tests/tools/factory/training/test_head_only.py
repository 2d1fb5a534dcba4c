"""Where only the head is trained, the backbone runs once for each view and never again."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs edge-label[train]")
pytest.importorskip("transformers", reason="needs edge-label[train]")

from tests.tools.test_distill import run, same_bits, weights_of  # noqa: E402
from tools.factory.data.augment import VIEW, whole_picture  # noqa: E402
from tools.factory.recipe import load_recipe  # noqa: E402
from tools.factory.students.student import build_student  # noqa: E402
from tools.factory.training.distillation import prepare_training  # noqa: E402
from tools.factory.training.scoring import embed_pictures, embed_views  # noqa: E402
from tools.factory.training.student_teacher import make_teacher  # noqa: E402

CPU = torch.device("cpu")


@pytest.fixture
def head_only(recipe_text: str) -> str:
    """The recipe of the tiny student with every layer of its backbone frozen."""
    layers = len(build_student(load_student(recipe_text), 16).backbone.layers)
    frozen = f"name: mobilenetv4_conv_small\n  frozen: {layers}"
    return recipe_text.replace("name: mobilenetv4_conv_small", frozen) + (
        "targets: {views: 2, stem: true, teacher_sees: whole}\n"
    )


def load_student(recipe_text: str):
    path = Path(recipe_text.split("bank: {path: ")[1].split("}")[0]).parent / "student.yaml"
    path.write_text(recipe_text)
    return load_recipe(path).student


def test_only_the_head_moves_and_a_resumed_run_ends_in_the_same_bits(
    head_only: str, colour_pictures: Path, tmp_path: Path
) -> None:
    assert run(head_only, colour_pictures, tmp_path / "whole") == 0
    assert run(head_only, colour_pictures, tmp_path / "cut", "--steps", "3") == 0
    assert run(head_only, colour_pictures, tmp_path / "cut", "--resume") == 0
    assert same_bits(tmp_path / "whole", tmp_path / "cut")

    torch.manual_seed(3)
    start = build_student(load_recipe(tmp_path / "whole.yaml").student, 16).state_dict()
    trained = weights_of(tmp_path / "whole")
    moved = {
        name for name, value in start.items() if not torch.equal(trained[f"student.{name}"], value)
    }
    assert any(name.startswith("head.") for name in moved)
    assert not any(name.startswith("backbone.layers.") for name in moved)


def test_stored_features_give_the_embeddings_of_the_pictures(
    head_only: str, colour_pictures: Path, tmp_path: Path
) -> None:
    (tmp_path / "head.yaml").write_text(head_only)
    recipe = load_recipe(tmp_path / "head.yaml")
    cache = tmp_path / "cache"
    student, materials = prepare_training(
        recipe, make_teacher(recipe), colour_pictures, cache, CPU, quiet=True
    )
    rows = np.flatnonzero([sample.held_out for sample in materials.cache.samples])
    views = np.full(len(rows), whole_picture(), VIEW)
    stored = embed_views(student, materials, rows, views, CPU)
    direct = embed_pictures(student, materials.cache, rows, views, recipe.input.size, CPU)
    assert np.allclose(stored, direct, atol=1e-5)

    # The backbone has run once; what another head makes of it needs no pictures.
    [kept] = cache.glob("features-*.npy")
    kept_at = kept.stat().st_mtime_ns
    torch.nn.init.zeros_(student.head[-1].weight)
    assert not np.allclose(embed_views(student, materials, rows, views, CPU), stored)
    assert kept.stat().st_mtime_ns == kept_at

    # Held-out scores in the log come from the same place.
    assert run(head_only, colour_pictures, tmp_path / "run") == 0
    lines = (tmp_path / "run" / "log.jsonl").read_text().splitlines()
    assert any("validation" in json.loads(line) for line in lines)


def test_labels_and_weights_ask_no_teacher_again(
    head_only: str, colour_pictures: Path, tmp_path: Path
) -> None:
    cache = tmp_path / "cache"
    assert run(head_only, colour_pictures, tmp_path / "one", "--cache", str(cache)) == 0
    before = {path: path.stat().st_mtime_ns for path in cache.iterdir()}
    changed = head_only.replace("label: folder", "label: folder, weight: 2, group: other")
    assert run(changed, colour_pictures, tmp_path / "two", "--cache", str(cache)) == 0
    assert {path: path.stat().st_mtime_ns for path in cache.iterdir()} == before


def test_a_picture_in_two_sources_is_shown_to_the_teacher_once(
    head_only: str, colour_pictures: Path, tmp_path: Path
) -> None:
    twice = head_only.replace(
        "train:", "  - {name: again, path: colours, label: folder, validation: 0.2}\ntrain:"
    )
    (tmp_path / "twice.yaml").write_text(twice)
    recipe = load_recipe(tmp_path / "twice.yaml")
    asked = []
    teacher = make_teacher(recipe)
    look = teacher.image_embeddings
    teacher.image_embeddings = lambda pictures: asked.append(len(pictures)) or look(pictures)
    _, materials = prepare_training(
        recipe, teacher, colour_pictures, tmp_path / "cache", CPU, quiet=True
    )
    count = len(materials.cache.samples) // 2
    assert sum(asked) == count + 1  # and one black picture, for the width of its answer
    first, second = np.split(materials.targets.embeddings[0], 2)
    assert np.array_equal(first, second)
    assert np.abs(first).sum(1).all()
