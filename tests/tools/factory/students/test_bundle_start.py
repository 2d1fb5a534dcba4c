"""A training that starts from a bundle starts from what the bundle knows."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import onnxruntime
import pytest

torch = pytest.importorskip("torch", reason="needs edge-label[train]")

from edge_runtime.errors import DataError, NoInputError  # noqa: E402
from edge_runtime.model.bundle import load_bundle  # noqa: E402
from edge_runtime.model.encoder import Encoder  # noqa: E402
from tools.factory.int8.export import Deployed  # noqa: E402
from tools.factory.recipe import HeadRecipe, StudentRecipe  # noqa: E402
from tools.factory.students.bundle_start import first_layers  # noqa: E402
from tools.factory.students.student import Student, build_student, to_pixels  # noqa: E402

SHIPPED = Path(__file__).resolve().parents[4] / "models" / "edge-clip"
SIDE = 176
LAYERS = 18


def recipe(
    name: str = "efficientnet_lite0", rank: int = 256, *, correction: bool = False
) -> StudentRecipe:
    head = HeadRecipe("classifier", rank=rank, correction=correction)
    return StudentRecipe(name, f"bundle:{SHIPPED}", head=head)


@pytest.fixture(scope="module")
def student() -> Student:
    return build_student(recipe(), 512).eval()


@pytest.fixture(scope="module")
def pictures() -> np.ndarray:
    """Six pictures with edges and soft colours, (6, 176, 176, 3) uint8."""
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 255, (6, 9, 9, 3), np.uint8)
    return np.stack([cv2.resize(c, (SIDE, SIDE), interpolation=cv2.INTER_CUBIC) for c in coarse])


def test_the_student_of_a_bundle_says_what_the_bundle_says(
    student: Student, pictures: np.ndarray
) -> None:
    encode = Encoder(load_bundle(SHIPPED), threads=1)
    shipped = np.stack([encode(picture[None]) for picture in pictures])
    with torch.no_grad():
        own = student(to_pixels(pictures, torch.device("cpu"))).numpy()
    assert (own * shipped).sum(1).min() > 0.98
    # Six pictures are told apart by far more than that, so the cosine means something.
    assert (shipped @ shipped.T)[~np.eye(6, dtype=bool)].min() < 0.9


@pytest.mark.parametrize("count", [4, 9, LAYERS])
def test_the_first_layers_give_what_the_students_layers_give(
    student: Student, pictures: np.ndarray, count: int
) -> None:
    session = onnxruntime.InferenceSession(first_layers(f"bundle:{SHIPPED}", count))
    graph = np.concatenate([session.run(None, {"pixels": p[None]})[0] for p in pictures])
    student.freeze(count)
    with torch.no_grad():
        stem = student.stem(to_pixels(pictures, torch.device("cpu")))
        own = (stem.mean((2, 3)) if count == LAYERS else stem).numpy()
    student.freeze(0)
    assert graph.shape == own.shape
    cosine = (graph * own).sum() / np.linalg.norm(graph) / np.linalg.norm(own)
    assert cosine > 0.97


def test_a_correction_adds_nothing_to_what_is_deployed(
    student: Student, pictures: np.ndarray
) -> None:
    corrected = build_student(recipe(correction=True), 512).eval()
    pixels = to_pixels(pictures, torch.device("cpu"))
    with torch.no_grad():
        assert torch.allclose(corrected(pixels), student(pixels), atol=1e-5)
        torch.nn.init.normal_(corrected.head.change.weight, std=0.05)
        own = corrected(pixels)
        deployed = Deployed(corrected)
        assert torch.allclose(deployed(torch.from_numpy(pictures)), own, atol=1e-4)
    assert not torch.allclose(own, student(pixels), atol=0.01)
    assert [name for name, _ in deployed.named_parameters()] == [
        name for name, _ in student.named_parameters()
    ]


def test_more_layers_than_the_encoder_has_are_refused() -> None:
    with pytest.raises(DataError, match="has 18 layers, not 19"):
        first_layers(f"bundle:{SHIPPED}", LAYERS + 1)


@pytest.mark.parametrize("wrong", [recipe(rank=0), recipe(rank=128), recipe("mobilenet_v2")])
def test_a_bundle_of_another_network_is_refused(wrong: StudentRecipe) -> None:
    with pytest.raises(DataError, match="give the student, head and rank"):
        build_student(wrong, 512)


def test_a_missing_and_a_damaged_bundle_are_one_line(tmp_path: Path) -> None:
    with pytest.raises(NoInputError, match="no such bundle"):
        first_layers(f"bundle:{tmp_path}", 1)
    (tmp_path / "encoder.onnx").write_bytes(b"\x08\x07not a graph")
    with pytest.raises(DataError, match="not an ONNX file"):
        first_layers(f"bundle:{tmp_path}", 1)
