"""What is masked reaches neither the encoder nor a snapshot, a page or a disk."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from edge_runtime.camera.jpeg import JpegEncoder
from edge_runtime.camera.privacy import Privacy
from edge_runtime.commands.builtin_frame import builtin_jpeg
from edge_runtime.config import ModelConfig, PrivacyConfig, load_config
from edge_runtime.engine import load_engine
from edge_runtime.errors import ConfigError, DataError
from edge_runtime.pipeline import Pipeline
from edge_runtime.records import Frame, Turn
from edge_runtime.sinks.console import live_line
from tests.daemon import Daemon, records_of, wait_until, write_config
from tests.doubles.mjpeg_camera import MjpegCamera
from tests.unit.test_records import record

LEFT = (((0.0, 0.0), (0.5, 0.0), (0.5, 1.0), (0.0, 1.0)),)
PICTURES = {
    "bgr": np.full((48, 64, 3), 200, np.uint8),
    "grey": np.full((48, 64), 200, np.uint8),
    "y16": np.full((48, 64), 20_000, np.uint16),
    "f32": np.full((48, 64), 2.0, np.float32),
    "yuyv": np.full((48, 64, 2), 128, np.uint8),
    "mjpg": builtin_jpeg(),
}


@pytest.mark.fault("G3")
@pytest.mark.parametrize("encoding", PICTURES)
def test_every_kind_of_frame_is_masked_and_its_original_is_gone(encoding: str):
    original = PICTURES[encoding]
    frame = Frame(original, encoding, 0.0, 0.0)  # type: ignore[arg-type]
    seen = Privacy(PrivacyConfig(masks=LEFT))(frame)
    width = seen.data.shape[1]

    assert seen.encoding in ("bgr", "grey", "y16", "f32")
    assert seen.data[:, : width // 2].max() == 0
    assert seen.data[:, width // 2 + 2 :].mean() > 1
    assert not np.shares_memory(seen.data, original), (
        "the capture thread compares the original with the next frame"
    )


@pytest.mark.fault("G3")
def test_depth_of_64_bits_is_masked_too():
    frame = Frame(np.full((48, 64), 2.0, np.float64), "f32", 0.0, 0.0)
    seen = Privacy(PrivacyConfig(masks=LEFT))(frame)
    assert seen.encoding == "f32"
    assert seen.data[:, :32].max() == 0


@pytest.mark.fault("G3")
def test_the_region_is_all_that_is_left():
    picture = np.arange(100 * 200, dtype=np.uint16).reshape(100, 200)
    seen = Privacy(PrivacyConfig(region=(0.5, 0.0, 0.25, 0.8))).apply(picture)
    assert seen.shape == (80, 50)
    assert (seen == picture[:80, 100:150]).all()


@pytest.mark.fault("G3")
@pytest.mark.parametrize("encoding", PICTURES)
def test_masks_are_places_in_the_upright_picture(encoding: str):
    """The left of a picture that is turned by 90 degrees was its bottom."""
    frame = Frame(PICTURES[encoding], encoding, 0.0, 0.0, turn=Turn(90))  # type: ignore[arg-type]
    seen = Privacy(PrivacyConfig(masks=LEFT))(frame)
    assert seen.turn is None, "it must not be turned a second time"
    height, width = seen.data.shape[:2]
    assert height > width
    assert seen.data[:, : width // 2].max() == 0
    assert seen.data[:, width // 2 + 2 :].mean() > 1


@pytest.mark.fault("G3")
def test_the_masks_are_places_in_the_whole_picture_not_in_the_region():
    picture = np.full((100, 100), 9, np.uint8)
    strip = (((0.5, 0.0), (0.7, 0.0), (0.7, 1.0), (0.5, 1.0)),)
    seen = Privacy(PrivacyConfig(region=(0.5, 0, 0.5, 1), masks=strip)).apply(picture)
    assert seen[:, :20].max() == 0
    assert seen[:, 22:].min() == 9


@pytest.mark.fault("G3")
def test_the_encoder_sees_the_mask(tiny_bundle: Path):
    """Red left, blue right: with the left masked, only blue is left to be seen."""
    engine = load_engine(ModelConfig(bundle=str(tiny_bundle), labels="colours"))
    picture = np.zeros((48, 64, 3), np.uint8)
    picture[:, :32, 2] = 255
    picture[:, 32:, 0] = 160
    open_eyes = Pipeline(engine, camera="x").process(Frame(picture.copy(), "bgr", 0.0, 0.0)).record
    masked = Pipeline(engine, camera="x", privacy=Privacy(PrivacyConfig(masks=LEFT)))
    labelled = masked.process(Frame(picture, "bgr", 0.0, 0.0))

    assert open_eyes.labels[0].name == "red"
    assert labelled.record.labels[0].name == "blue"
    assert labelled.frame is not None
    assert labelled.frame.data[:, :32].max() == 0, "what the sinks get is masked too"


@pytest.mark.fault("G3")
def test_a_frame_that_does_not_decode_is_blanked(tiny_bundle: Path):
    """Its bytes might decode elsewhere, and they are not masked."""
    engine = load_engine(ModelConfig(bundle=str(tiny_bundle), labels="colours"))
    broken = np.concatenate([builtin_jpeg()[:30000], np.zeros(100, np.uint8)])
    frame = Frame(broken, "mjpg", 0.0, 0.0)
    labelled = Pipeline(engine, camera="x", privacy=Privacy(PrivacyConfig(masks=LEFT))).process(
        frame
    )

    assert labelled.record.state == "invalid"
    assert labelled.frame is not None
    assert labelled.frame.data.max() == 0
    with pytest.raises(DataError):
        Privacy(PrivacyConfig(masks=LEFT))(Frame(broken, "mjpg", 0.0, 0.0))


@pytest.mark.fault("G3")
def test_a_snapshot_of_the_daemon_holds_the_mask_and_a_run_without_triggers_holds_nothing(
    tmp_path: Path, tiny_bundle: Path
):
    spool, home = tmp_path / "spool", tmp_path / "home"
    home.mkdir()
    rule = {"name": "red", "when": {"label": "red"}, "save": "snapshot"}
    sections = {"privacy": {"masks": [[list(corner) for corner in LEFT[0]]]}}

    with MjpegCamera() as camera:
        source = {"source": camera.url}
        output = tmp_path / "out.jsonl"
        plain = write_config(tmp_path / "plain.yaml", tiny_bundle, camera=source, **sections)
        with Daemon(
            tmp_path, "--config", plain, "--output", output, env={"HOME": str(home)}
        ) as daemon:
            wait_until(lambda: len(records_of(output)) > 20)
            assert daemon.stop() == 0
        triggers = {"triggers": {"spool": str(spool), "rules": [rule]}}
        with_spool = write_config(
            tmp_path / "spool.yaml", tiny_bundle, camera=source, **sections, **triggers
        )
        with Daemon(tmp_path, "--config", with_spool, "--output", output) as daemon:
            wait_until(lambda: list(spool.glob("*.jpg")))
            assert daemon.stop() == 0

    assert list(home.rglob("*")) == []
    for path in spool.glob("*.jpg"):
        picture = cv2.imread(str(path))
        assert picture[:, :150].max() < 16
        assert picture[:, 170:].max() > 100


def test_without_privacy_nothing_is_copied():
    assert Privacy.of(PrivacyConfig()) is None
    assert JpegEncoder()(Frame(PICTURES["mjpg"], "mjpg", 0.0, 0.0)) == PICTURES["mjpg"].tobytes()


@pytest.mark.parametrize(
    "text",
    [
        "{region: [0, 0, 1.2, 1]}",
        "{region: [0.5, 0, 0.6, 1]}",
        "{region: [0, 0, 0, 1]}",
        "{region: [0, 0, 1]}",
        "{masks: [[[0, 0], [1, 1]]]}",
        "{masks: [[[0, 0], [1, 1], [0, 2]]]}",
        "{masks: [[[0, 0], [1, 1], [0, .nan]]]}",
    ],
)
def test_a_shape_that_is_none_is_refused(tmp_path: Path, text: str):
    path = tmp_path / "c.yaml"
    path.write_text(f"privacy: {text}\n")
    with pytest.raises(ConfigError):
        load_config(path)


HOSTILE = 'say "hi" #+/$ {x="1"} \\ über 😀'


@pytest.mark.fault("N4")
def test_hostile_label_text_is_escaped_in_records_log_and_terminal(
    tmp_path: Path, tiny_bundle: Path
):
    labels = tmp_path / "labels.yaml"
    labels.write_text(
        json.dumps(
            {"labels": [{"name": HOSTILE, "prompts": ["red"], "threshold": 0}]}, ensure_ascii=False
        )
    )
    output = tmp_path / "out.jsonl"
    file = write_config(tmp_path / "c.yaml", tiny_bundle, model={"labels": str(labels)})
    with Daemon(tmp_path, "--config", file, "--output", output) as daemon:
        wait_until(lambda: len(records_of(output)) > 3)
        assert daemon.stop() == 0

    assert {label["name"] for r in records_of(output) for label in r["labels"]} == {HOSTILE}
    assert all(line.isprintable() for line in daemon.log.splitlines())
    assert live_line(record()).isprintable()


@pytest.mark.fault("N4")
@pytest.mark.parametrize(
    "evil", ["a\nb", "\x1b[31mred", "a\u2028b", "\u202egnp.exe", "a\x00b", "a\u0085b", "\ud83d"]
)
def test_a_label_that_could_move_the_cursor_is_refused(
    tmp_path: Path, tiny_bundle: Path, evil: str
):
    labels = tmp_path / "labels.yaml"
    labels.write_text(json.dumps({"labels": [{"name": evil}]}))
    with pytest.raises(ConfigError) as error:
        load_engine(ModelConfig(bundle=str(tiny_bundle), labels=str(labels)))
    assert str(error.value).isprintable()
