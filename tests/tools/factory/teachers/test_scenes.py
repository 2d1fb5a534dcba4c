"""The scene classifier: any weights of its shape run, and only pictures of scenes are looked at."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch", reason="needs edge-label[train]")

from PIL import Image

from edge_runtime.errors import DataError, NoInputError
from tests.paths import REPOSITORY
from tools.factory.data.pictures import cache_pictures
from tools.factory.data.samples import scan
from tools.factory.recipe import (
    InputRecipe,
    Recipe,
    SourceRecipe,
    StudentRecipe,
    TargetsRecipe,
    TeacherRecipe,
)
from tools.factory.teachers.scenes import SceneClassifier
from tools.factory.teachers.targets import cache_targets

WEIGHTS = REPOSITORY.parent / "shared" / "weights" / "squeezenet_places365.npz"
FIRES = {2: 16, 3: 16, 4: 32, 5: 32, 6: 48, 7: 48, 8: 64, 9: 64}  # number -> squeezed channels
KINDS = ["airfield", "bazaar/indoor", "corn_field"]


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    """A classifier of three kinds of places with random weights."""
    rng = np.random.default_rng(0)
    arrays = {}

    def conv(name: str, outputs: int, inputs: int, kernel: int) -> None:
        spread = (2 / (inputs * kernel**2)) ** 0.5
        shape = (outputs, inputs, kernel, kernel)
        arrays[f"{name}.weight"] = rng.normal(0, spread, shape).astype(np.float16)
        arrays[f"{name}.bias"] = np.zeros(outputs, np.float32)

    conv("conv1", 64, 3, 3)
    inputs = 64
    for number, squeezed in FIRES.items():
        conv(f"fire{number}.squeeze1x1", squeezed, inputs, 1)
        conv(f"fire{number}.expand1x1", 4 * squeezed, squeezed, 1)
        conv(f"fire{number}.expand3x3", 4 * squeezed, squeezed, 3)
        inputs = 8 * squeezed
    conv("conv10", len(KINDS), inputs, 1)
    np.savez(tmp_path / "scenes.npz", **arrays)
    (tmp_path / "scenes.json").write_text(json.dumps({"classes": KINDS}))
    return tmp_path / "scenes.npz"


class Words:
    """A teacher whose phrases are told apart by their length."""

    text_space = "test"

    def image_embeddings(self, pictures: np.ndarray) -> np.ndarray:
        return np.tile(np.eye(1, 8, dtype=np.float32), (len(pictures), 1))

    def text_embeddings(self, phrases: list[str]) -> np.ndarray:
        return np.eye(8, dtype=np.float32)[[len(phrase) % 8 for phrase in phrases]]


def test_a_posterior_adds_up_to_one_and_names_are_spelled_as_phrases(weights: Path) -> None:
    classifier = SceneClassifier(weights)
    assert classifier.names == ["airfield", "bazaar indoor", "corn field"]
    pictures = np.random.default_rng(1).integers(0, 255, (4, 30, 40, 3), np.uint8)
    posterior = classifier(pictures)
    assert posterior.shape == (4, 3)
    assert np.allclose(posterior.sum(1), 1, atol=1e-5)
    assert np.ptp(posterior, axis=0).max() > 1e-4, "every picture gets the same answer"


def test_only_the_sources_that_are_scenes_are_looked_at(weights: Path, tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    for folder in ("places", "things"):
        (tmp_path / folder).mkdir()
        for number in range(3):
            picture = rng.integers(0, 255, (20, 20, 3), np.uint8)
            Image.fromarray(picture).save(tmp_path / folder / f"{number}.png")
    sources = (SourceRecipe("places", "places", scene=True), SourceRecipe("things", "things"))
    recipe = Recipe(
        "test",
        TeacherRecipe("words", scenes=str(weights)),
        StudentRecipe("mobilenet_v2"),
        sources,
        input=InputRecipe(32, 32),
        targets=TargetsRecipe(views=2, teacher_sees="whole"),
    )
    cache = cache_pictures(scan(sources, tmp_path), recipe.input, tmp_path / "cache", quiet=True)
    targets = cache_targets(Words(), recipe, cache, tmp_path / "cache", quiet=True)
    assert targets.posterior is not None
    assert targets.posterior.shape == (2, 6, 3)
    assert np.allclose(targets.posterior[:, :3].sum(2), 1, atol=1e-2)
    assert not targets.posterior[:, 3:].any()
    assert targets.names is not None
    assert targets.names.argmax(1).tolist() == [0, 5, 2]

    # Without a scene classifier there is no posterior.
    plain = replace(recipe, teacher=TeacherRecipe("words"))
    assert cache_targets(Words(), plain, cache, tmp_path / "cache", quiet=True).posterior is None


def test_what_is_missing_or_damaged_is_one_line(weights: Path, tmp_path: Path) -> None:
    weights.with_suffix(".json").write_text("{}")
    with pytest.raises(DataError, match="no scene classifier"):
        SceneClassifier(weights)
    with pytest.raises(NoInputError, match=r"check teacher\.scenes"):
        SceneClassifier(tmp_path / "none.npz")


@pytest.mark.skipif(not WEIGHTS.is_file(), reason="../shared/weights is not here")
def test_the_published_weights_know_365_kinds() -> None:
    classifier = SceneClassifier(WEIGHTS)
    assert len(classifier.names) == 365
    grey = np.full((1, 224, 224, 3), 128, np.uint8)
    assert classifier(grey).max() < 0.9
