"""The pipeline turns every frame into a record, whatever is wrong with the frame."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import jsonschema
import numpy as np
import pytest

from edge_runtime.config import ConsensusConfig, ModelConfig
from edge_runtime.engine import load_engine
from edge_runtime.errors import ConfigError
from edge_runtime.pipeline import Pipeline
from edge_runtime.records import Frame, json_schema
from tests.tiny import encoder_onnx, npy_bytes, tiny_input, write_tiny_bundle


@pytest.fixture
def pipeline(tiny_bundle: Path) -> Pipeline:
    config = ModelConfig(bundle=str(tiny_bundle), labels="colours", threads=1)
    return Pipeline(load_engine(config), camera="test")


def coloured(*bgr: int) -> Frame:
    picture = np.full((48, 64, 3), bgr, np.uint8)
    picture[::8] //= 2  # stripes, for a picture of one colour holds no information
    return Frame(picture, "bgr", 5.0, 1.7e9)


@pytest.mark.parametrize(
    ("bgr", "name"), [((0, 0, 255), "red"), ((0, 255, 0), "green"), ((255, 0, 0), "blue")]
)
def test_a_coloured_picture_gets_the_word_for_its_colour(
    pipeline: Pipeline, bgr: tuple[int, ...], name: str
):
    record = pipeline.process(coloured(*bgr)).record
    assert record.state == "ok"
    assert [s.name for s in record.labels if s.on] == [name]
    jsonschema.validate(json.loads(record.to_json()), json_schema())


def test_a_picture_without_a_winner_is_unknown(pipeline: Pipeline):
    record = pipeline.process(coloured(90, 90, 90)).record
    assert record.state == "unknown"
    assert record.labels


def test_a_broken_jpeg_is_invalid_and_the_next_frame_is_fine(pipeline: Pipeline):
    record = pipeline.process(Frame(np.zeros(100, np.uint8), "mjpg", 5.0, 1.7e9)).record
    assert (record.state, record.labels) == ("invalid", ())
    assert pipeline.process(coloured(0, 0, 255)).record.state == "ok"


def test_seq_has_no_gaps_and_times_add_up(pipeline: Pipeline):
    records = [pipeline.process(coloured(0, 0, 255)).record for _ in range(5)]
    assert [r.seq for r in records] == [0, 1, 2, 3, 4]
    for r in records:
        stages = r.ms.decode + r.ms.preprocess + r.ms.check + r.ms.encode + r.ms.score
        assert r.ms.total == pytest.approx(stages, abs=0.05)


@pytest.mark.fault("C5")
@pytest.mark.parametrize("grey", [0, 255, 128])
def test_black_white_and_flat_pictures_get_no_label(pipeline: Pipeline, grey: int):
    noise = np.random.default_rng(0).normal(grey, 4, (480, 640, 3)).clip(0, 255).astype(np.uint8)
    record = pipeline.process(Frame(noise, "bgr", 5.0, 1.7e9)).record
    assert record.state == "low_information"
    assert record.labels
    assert not any(label.on for label in record.labels)


def strange_red(folder: Path, labels: str = "") -> Pipeline:
    """A pipeline to which a red picture is a strange view."""
    direction = np.eye(1, 16, dtype=np.float16)
    encoder = hashlib.sha256(encoder_onnx()).hexdigest()
    limit = {"strange_views": {"limit": 0.5, "encoder": encoder}}
    bundle = write_tiny_bundle(folder, limit, strange_view__dot__npy=npy_bytes(direction))
    if labels:
        (folder / "my.yaml").write_text(labels)
    config = ModelConfig(
        bundle=str(bundle), labels=str(folder / "my.yaml") if labels else "colours", threads=1
    )
    return Pipeline(load_engine(config), camera="test", consensus=ConsensusConfig(min_dwell_s=0))


@pytest.mark.fault("C29")
def test_a_strange_view_is_unknown_and_the_record_says_why(tmp_path: Path):
    pipeline = strange_red(tmp_path)
    record = pipeline.process(coloured(0, 0, 255)).record
    assert (record.state, record.strange_view) == ("unknown", True)
    assert record.labels[0].score > 0.9, "the scores stay, so that they can be judged"
    jsonschema.validate(json.loads(record.to_json()), json_schema())

    record = strange_red(tmp_path).process(coloured(0, 255, 0)).record
    assert (record.state, record.strange_view) == ("ok", None)
    assert "strange_view" not in json.loads(record.to_json())


@pytest.mark.fault("C29")
def test_a_label_of_any_view_is_on_in_a_strange_view(tmp_path: Path):
    labels = "labels: [{name: red, any_view: true}, blue]\nbackground: [a photo of nothing]\n"
    record = strange_red(tmp_path, labels).process(coloured(0, 0, 255)).record
    assert record.state == "ok"
    assert record.strange_view is True
    assert [label.name for label in record.labels if label.on] == ["red"]


def test_one_strange_frame_does_not_end_a_label_and_a_second_of_them_does(tmp_path: Path):
    pipeline = strange_red(tmp_path)
    states = []
    for number in range(20):
        bgr = (0, 0, 255) if number == 5 or number >= 10 else (0, 255, 0)
        frame = replace(coloured(*bgr), captured_s=number / 10)
        states.append(pipeline.process(frame).record.state)
    assert states[:10] == ["ok"] * 10
    assert states[-1] == "unknown"


def test_only_colour_pictures_are_judged_as_strange_views(tmp_path: Path):
    pipeline = strange_red(tmp_path)
    red = np.eye(1, 16, dtype=np.float32)[0]
    assert pipeline.engine.is_strange(red, 50.0, "rgb")
    assert not pipeline.engine.is_strange(red, 50.0, "ir")
    assert not pipeline.engine.is_strange(red, 50.0, "depth")


@pytest.mark.fault("C4")
def test_a_frozen_picture_gets_no_label(pipeline: Pipeline):
    frame = replace(coloured(0, 0, 255), frozen=True)
    record = pipeline.process(frame).record
    assert (record.state, record.camera_state) == ("frozen", "frozen")
    assert record.labels[0].score > 0.9
    assert not any(label.on for label in record.labels)


@pytest.mark.fault("C6")
def test_broken_frames_are_counted_in_every_later_record(pipeline: Pipeline):
    assert "corrupt" not in json.loads(pipeline.process(coloured(0, 0, 255)).record.to_json())
    for _ in range(2):
        pipeline.process(Frame(np.zeros(100, np.uint8), "mjpg", 5.0, 1.7e9))
    record = pipeline.process(coloured(0, 0, 255)).record
    assert json.loads(record.to_json())["corrupt"] == 2


def test_a_second_without_a_frame_has_a_record_that_says_why(pipeline: Pipeline):
    pipeline.process(coloured(0, 0, 255))
    record = pipeline.explain("no_device", 1.0).record
    assert (record.seq, record.state, record.camera_state) == (1, "stale", "no_device")
    assert record.labels == ()
    jsonschema.validate(json.loads(record.to_json()), json_schema())


@pytest.mark.parametrize(
    ("data", "encoding", "configured", "modality"),
    [
        (np.zeros((48, 64, 3), np.uint8), "bgr", "auto", "rgb"),
        (np.zeros((48, 64, 3), np.uint8), "bgr", "ir", "ir"),
        (np.zeros((48, 64), np.uint8), "grey", "auto", "ir"),
        (np.zeros((48, 64), np.uint16), "y16", "auto", "depth"),
        (np.zeros((48, 64), np.uint16), "y16", "ir", "ir"),
        (np.zeros((48, 64), np.float32), "f32", "auto", "depth"),
    ],
)
def test_the_record_says_what_the_frame_was_taken_for(
    tmp_path: Path, data: np.ndarray, encoding: str, configured: str, modality: str
):
    folder = write_tiny_bundle(tmp_path / "multi", {"input": tiny_input("rgb", "ir", "depth")})
    config = ModelConfig(bundle=str(folder), labels="colours", modality=configured)
    pipeline = Pipeline(load_engine(config), camera="test")

    record = pipeline.process(Frame(data, encoding, 5.0, 1.7e9)).record

    assert record.modality == modality
    assert record.labels
    jsonschema.validate(json.loads(record.to_json()), json_schema())


def test_a_frame_the_bundle_was_not_trained_for_stops_the_run(pipeline: Pipeline):
    with pytest.raises(
        ConfigError, match=r"16-bit frames are depth, bundle tiny-1\.0\.0 was trained for rgb only"
    ):
        pipeline.process(Frame(np.zeros((48, 64), np.uint16), "y16", 5.0, 1.7e9))


def test_a_modality_the_bundle_was_not_trained_for_never_starts(tiny_bundle: Path):
    with pytest.raises(ConfigError, match="trained for rgb only"):
        load_engine(ModelConfig(bundle=str(tiny_bundle), labels="colours", modality="depth"))
