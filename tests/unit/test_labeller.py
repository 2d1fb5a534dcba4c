"""The door for Python: pictures in every usual form go in, labels and embeddings come out."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import PIL.Image
import pytest

import edge_runtime as edge
from tests.tiny_text import write_tiny_text_encoder

RED = np.zeros((48, 64, 3), np.uint8)
RED[:, :, 0] = 255
RED[::8] //= 2  # stripes, for a picture of one colour holds no information


@pytest.fixture
def labeller(tiny_bundle: Path) -> edge.Labeller:
    return edge.load(tiny_bundle, labels="colours", threads=1)


@pytest.fixture
def red_file(tmp_path: Path) -> Path:
    path = tmp_path / "red.png"
    cv2.imwrite(str(path), RED[:, :, ::-1])
    return path


def names_on(record: edge.LabelRecord) -> list[str]:
    return [label.name for label in record.labels if label.on]


def test_a_path_an_image_and_an_rgb_array_give_the_same_answer(
    labeller: edge.Labeller, red_file: Path
):
    pictures = [red_file, str(red_file), PIL.Image.fromarray(RED), RED]
    records = labeller(pictures)
    assert [names_on(record) for record in records] == [["red"]] * 4
    assert len({record.labels for record in records}) == 1


def test_one_picture_gives_one_record_and_a_batch_a_list(labeller: edge.Labeller):
    assert names_on(labeller(RED)) == ["red"]
    assert [names_on(record) for record in labeller([RED, RED])] == [["red"], ["red"]]
    assert labeller([]) == []


def test_an_embedding_is_a_unit_vector_and_a_batch_a_matrix(labeller: edge.Labeller):
    one = labeller.embed(RED)
    many = labeller.embed([RED, RED])
    assert (one.shape, one.dtype) == ((16,), np.float32)
    assert np.linalg.norm(one) == pytest.approx(1, abs=1e-4)
    assert many.shape == (2, 16)
    assert np.array_equal(many[0], one)
    assert labeller.embed([]).shape == (0, 16)


def test_a_grey_image_is_a_picture(labeller: edge.Labeller):
    assert labeller(PIL.Image.fromarray(RED).convert("L")).state in ("ok", "unknown")
    assert labeller(PIL.Image.fromarray(RED).convert("RGBA")).labels


def test_frames_of_a_camera_go_in_as_they_are(labeller: edge.Labeller, red_file: Path):
    with edge.open_camera(red_file) as camera:
        records = [labeller(frame) for frame in camera]
    assert [names_on(record) for record in records] == [["red"]]


def test_a_live_camera_is_an_iterator_of_frames():
    with edge.open_camera("demo", width=64, height=48) as camera:
        frame = next(iter(camera))
    assert frame.data.size
    assert camera.state == "ok"


def test_what_is_no_picture_is_refused_in_one_line(labeller: edge.Labeller, tmp_path: Path):
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(b"no picture")

    with pytest.raises(edge.DataError, match=r"broken\.jpg"):
        labeller(broken)
    with pytest.raises(edge.NoInputError, match=r"missing\.jpg: no such file"):
        labeller(tmp_path / "missing.jpg")
    with pytest.raises(edge.DataError, match="give uint8 RGB"):
        labeller(np.zeros((4, 4, 3), np.float32))
    with pytest.raises(edge.DataError, match="give uint8 RGB"):
        labeller(np.zeros((0, 0, 3), np.uint8))
    with pytest.raises(edge.DataError, match="give uint8 RGB"):
        labeller(np.zeros((2, 4, 4, 3), np.uint8))
    with pytest.raises(edge.DataError, match="dict is not a picture"):
        labeller({})  # type: ignore[call-overload]


def test_a_camera_option_that_does_not_exist_is_refused():
    with pytest.raises(edge.ConfigError, match=r"no option 'heigth'; did you mean 'height'\?"):
        edge.open_camera("demo", heigth=48)
    with pytest.raises(edge.ConfigError, match=r"no option 'foo'; it has width, height, fps"):
        edge.open_camera("demo", foo=1)


@pytest.mark.parametrize("wrong", [{"labels": ["cat", "dog"]}, {"threads": "x"}, {"threads": 0}])
def test_an_argument_of_the_wrong_kind_is_refused(tiny_bundle: Path, wrong: dict[str, object]):
    with pytest.raises(edge.ConfigError, match="load: "):
        edge.load(tiny_bundle, **wrong)  # type: ignore[arg-type]


def test_new_words_just_work(tiny_bundle: Path, tmp_path: Path, red_file: Path):
    write_tiny_text_encoder(tiny_bundle.parent / "text-encoder")
    words = tmp_path / "my.yaml"
    words.write_text("labels: [{name: crimson, prompts: [crimson]}, green]\n")
    labeller = edge.load(tiny_bundle, labels=words)
    assert labeller(red_file).labels[0].name == "crimson"


def test_words_in_the_place_of_a_label_set_are_told_where_they_belong():
    with pytest.raises(edge.ConfigError, match="load: labels is a list; write 'labels: "):
        edge.load(labels=["cat", "dog"])


def test_importing_the_package_loads_no_library():
    libraries = {"numpy", "cv2", "onnxruntime", "yaml"}
    code = f"import edge_runtime, sys; print({libraries} & set(sys.modules))"
    child = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert child.stdout.strip() == "set()"


def test_every_public_name_is_there():
    for name in edge.__all__:
        assert getattr(edge, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'lod'"):
        edge.lod  # noqa: B018
