"""A bundle teaches what it says itself, and phrases get the genuine rows of today."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch", reason="needs edge-label[train]")

from PIL import Image

from edge_runtime.errors import UsageError
from edge_runtime.model.bundle import load_bundle
from edge_runtime.model.encoder import Encoder
from edge_runtime.model.labels.text_bank import TextBank
from edge_runtime.model.preprocess import Preprocessor
from tests.paths import REPOSITORY
from tools.factory.data.pictures import cache_pictures
from tools.factory.data.samples import scan
from tools.factory.recipe import (
    BankRecipe,
    InputRecipe,
    Recipe,
    SourceRecipe,
    StudentRecipe,
    TeacherRecipe,
)
from tools.factory.teachers.bundle_teacher import BundleTeacher
from tools.factory.teachers.load import load_teacher
from tools.factory.teachers.targets import cache_targets
from tools.factory.teachers.texts import load_bank

SHIPPED = REPOSITORY / "models" / "edge-clip"
WEIGHTS = REPOSITORY.parent / "shared" / "weights"
needs_weights = pytest.mark.skipif(not WEIGHTS.is_dir(), reason="../shared/weights is not here")


def test_it_answers_as_the_runtime_does() -> None:
    rng = np.random.default_rng(0)
    pictures = rng.integers(0, 256, (2, 90, 120, 3), np.uint8)
    bank = TextBank(["a cat"], np.eye(1, 512, dtype=np.float32))
    teacher = BundleTeacher(SHIPPED, bank, None)

    bundle = load_bundle(SHIPPED)
    prepare = Preprocessor(bundle.manifest.input)
    encode = Encoder(bundle)
    # A camera delivers BGR, the factory works in RGB.
    own = np.stack([encode(prepare(np.ascontiguousarray(p[..., ::-1]))) for p in pictures])
    assert np.allclose(teacher.image_embeddings(pictures), own, atol=1e-5)
    assert teacher.text_space == bundle.manifest.text_space
    assert np.array_equal(teacher.text_embeddings(["a cat"])[0], bank.rows[0])
    assert np.array_equal(load_bank(teacher, BankRecipe(path="teacher")), bank.rows)


@needs_weights
def test_words_limit_the_rows_that_it_knows() -> None:
    def estimate(phrases: list[str]) -> np.ndarray:
        return np.tile(np.eye(1, 512, dtype=np.float32), (len(phrases), 1))

    name = f"bundle:{SHIPPED}"
    all_words = load_teacher(name, weights=WEIGHTS, text=estimate)
    objects = load_teacher(name, weights=WEIGHTS, words=("objects",), text=estimate)
    assert all_words.text_embeddings(["a photo of a badlands"])[0, 0] < 0.9
    assert objects.text_embeddings(["a photo of a badlands"])[0, 0] == 1
    assert len(load_bank(objects, BankRecipe(path="teacher"))) < len(
        load_bank(all_words, BankRecipe(path="teacher"))
    )
    with pytest.raises(UsageError, match="no kind of words is called 'moods'"):
        load_teacher(name, weights=WEIGHTS, words=("moods",))


def test_it_needs_the_text_rows() -> None:
    with pytest.raises(UsageError, match="needs the folder of the text rows"):
        load_teacher(f"bundle:{SHIPPED}")


def test_the_same_encoder_at_another_place_is_not_asked_again(tmp_path: Path) -> None:
    (tmp_path / "pictures").mkdir()
    Image.fromarray(np.full((20, 20, 3), 90, np.uint8)).save(tmp_path / "pictures" / "a.png")
    for place in ("here", "there"):
        (tmp_path / place).mkdir()
        (tmp_path / place / "encoder.onnx").write_bytes(b"an encoder")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "encoder.onnx").write_bytes(b"another encoder")

    sources = (SourceRecipe("pictures", "pictures"),)
    size = InputRecipe(32, 32)
    cache = cache_pictures(scan(sources, tmp_path), size, tmp_path / "cache", quiet=True)
    asked = []

    class Counting:
        text_space = "test"

        def image_embeddings(self, pictures: np.ndarray) -> np.ndarray:
            asked.append(place)
            return np.tile(np.eye(1, 8, dtype=np.float32), (len(pictures), 1))

    for place in ("here", "there", "other"):
        teacher = TeacherRecipe(f"bundle:{tmp_path / place}")
        recipe = Recipe("test", teacher, StudentRecipe("mobilenet_v2"), sources, input=size)
        cache_targets(Counting(), recipe, cache, tmp_path / "cache", quiet=True)
    assert set(asked) == {"here", "other"}
