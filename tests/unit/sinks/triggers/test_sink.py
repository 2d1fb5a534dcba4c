"""Every firing is kept or counted; captures and sidecars are whole; nothing stalls."""

from __future__ import annotations

import tempfile
import threading
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_runtime.camera.jpeg import JpegEncoder
from edge_runtime.camera.privacy import Privacy
from edge_runtime.config import Condition, PrivacyConfig, TriggersConfig
from edge_runtime.records import Frame, LabelledFrame
from edge_runtime.sinks.thread import SinkThread
from edge_runtime.sinks.triggers.rules import Rules
from edge_runtime.sinks.triggers.sink import TriggerSink
from tests.daemon import wait_until
from tests.unit.sinks.triggers.harness import NAMES, Both, at, feed, make, rule, sidecars


def test_a_snapshot_is_the_frame_that_fired_with_its_whole_record_beside_it(tmp_path: Path):
    sink = make(tmp_path, rule())
    feed(sink, *at(0, snowy_road=0.1))
    made, frame = at(9, snowy_road=0.9)
    feed(sink, made, frame)
    (sidecar,) = sidecars(tmp_path)
    assert sidecar["record"] == made.to_dict()
    assert (sidecar["schema"], sidecar["rule"], sidecar["kind"]) == (
        "edge-label-capture/1",
        "snow",
        "snapshot",
    )
    assert sidecar["file"] == "00000001-snow-20260502T091307Z.jpg"
    picture = cv2.imread(str(tmp_path / "spool" / sidecar["file"]))
    assert abs(float(picture.mean()) - frame.data.mean()) < 2


def test_frames_without_a_picture_are_passed_over(tmp_path: Path):
    sink = make(tmp_path, rule(edge="level"))
    made, frame = at(0, snowy_road=0.9)
    feed(sink, made, None)
    feed(sink, made, replace(frame, data=np.zeros(100, np.uint8), encoding="mjpg"))
    feed(sink, *at(1, snowy_road=0.9))
    assert len(sidecars(tmp_path)) == 1


def test_a_mask_is_in_everything_that_is_kept(tmp_path: Path):
    left = PrivacyConfig(masks=(((0, 0), (0.5, 0), (0.5, 1), (0, 1)),))
    config = TriggersConfig(
        str(tmp_path / "spool"), (rule(), rule(name="clip", save="clip", post_s=1.0))
    )
    sink = Both(config)
    made, frame = at(20, snowy_road=0.9)
    frame.data[:] = 200
    feed(sink, made, Privacy(left)(frame))  # as the pipeline does before any sink
    sink.close()
    kept = [cv2.imread(str(path)) for path in (tmp_path / "spool").glob("*.jpg")]
    kept += [cv2.VideoCapture(str(path)).read()[1] for path in (tmp_path / "spool").glob("*.avi")]
    assert len(kept) == 2
    for picture in kept:
        assert picture[:, :28].max() < 12
        assert picture[:, 40:].min() > 180


class Gated(JpegEncoder):
    """Encodes when the test lets it; refuses the frames that the test named, and counts them."""

    def __init__(self, refused: frozenset[int] = frozenset()) -> None:
        super().__init__()
        self.gate = threading.Event()
        self.gate.set()
        self.refused = refused
        self.refusals = 0

    def __call__(self, frame: Frame) -> bytes:
        self.gate.wait(30)
        if int(frame.captured_s - 100) in self.refused:
            self.refusals += 1
            raise OSError(28, "No space left on device")
        return super().__call__(frame)


class Watched(Rules):
    """Rules that count for the test what a full queue gave up."""

    dropped_firings = 0

    def dropped(self, task) -> None:
        self.dropped_firings += len(task.fired)
        super().dropped(task)


STEPS = st.lists(
    st.tuples(st.booleans(), st.booleans(), st.sampled_from(["run", "run", "hold", "free"])),
    max_size=60,
)


@pytest.mark.fault("N6")
@given(
    steps=STEPS, refused=st.frozensets(st.integers(0, 60)), interval_s=st.sampled_from([0.0, 3.0])
)
@settings(max_examples=60, deadline=None)
def test_every_firing_is_kept_or_counted_as_lost(steps, refused, interval_s):
    """Whatever the order in which frames come, the disk hangs and the disk refuses."""
    rules = (
        rule(min_interval_s=interval_s),
        rule(name="dark", when=Condition(label="tunnel"), edge="level", min_interval_s=interval_s),
        rule(name="clip", save="clip", pre_s=1.0, post_s=2.0, min_interval_s=interval_s),
    )
    with tempfile.TemporaryDirectory() as folder:
        config = TriggersConfig(str(Path(folder) / "spool"), rules)
        chooser = Watched(config, NAMES)
        encoder = Gated(refused)
        sink = TriggerSink(config, encoder, JpegEncoder())
        thread = SinkThread(sink, lossless=False, pictures=True, chooser=chooser)
        for second, (snow, dark, gate) in enumerate(steps):
            if gate == "hold":
                encoder.gate.clear()
            elif gate == "free":
                encoder.gate.set()
            thread.put(LabelledFrame(*at(second, snowy_road=0.9 * snow, tunnel=0.9 * dark)))
        encoder.gate.set()
        thread.close(30)

        assert chooser.fired == sink.kept + sink.lost
        assert sink.kept == len(list(Path(folder).glob("spool/*.json")))
        assert sink.lost == chooser.dropped_firings + encoder.refusals


@pytest.mark.fault("N6")
def test_an_edge_that_a_full_queue_lost_fires_again_while_it_is_still_true(tmp_path: Path):
    config = TriggersConfig(
        str(tmp_path / "spool"),
        (
            rule(min_interval_s=3600.0),
            rule(name="dark", when=Condition(label="tunnel"), edge="level"),
        ),
    )
    rules, encoder = Rules(config, NAMES), Gated()
    sink = TriggerSink(config, encoder)
    thread = SinkThread(sink, lossless=False, pictures=True, chooser=rules)
    encoder.gate.clear()
    thread.put(LabelledFrame(*at(0, tunnel=0.9)))
    wait_until(thread._queue.empty)  # the sink has it, and hangs
    thread.put(LabelledFrame(*at(1, snowy_road=0.9, tunnel=0.1)))
    for second in range(2, 6):  # four more than fit: the edge is given up
        thread.put(LabelledFrame(*at(second, snowy_road=0.9, tunnel=0.9)))
    assert thread.lost == 1
    thread.put(LabelledFrame(*at(6, snowy_road=0.9)))
    encoder.gate.set()
    thread.close(30)
    assert [side["record"]["mono_s"] for side in sidecars(tmp_path) if side["rule"] == "snow"] == [
        106.0
    ]
    assert rules.fired == sink.kept + sink.lost


@pytest.mark.fault("N6")
def test_one_rule_that_cannot_keep_its_frame_costs_no_other_rule_its_own(tmp_path: Path):
    both = make(tmp_path, rule(), rule(name="other"))
    start, calls = both.sink._spool.start, []

    def refuse_the_first(name: str, suffix: str):
        calls.append(name)
        if len(calls) == 1:
            raise OSError(5, "Input/output error")
        return start(name, suffix)

    both.sink._spool.start = refuse_the_first
    with pytest.raises(OSError, match="Input/output error"):
        feed(both, *at(0, snowy_road=0.9))
    assert [side["rule"] for side in sidecars(tmp_path)] == ["other"]
    assert (both.rules.fired, both.sink.kept, both.sink.lost) == (2, 1, 1)


def test_a_capture_larger_than_the_cap_is_said_and_counted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    both = make(tmp_path, rule(), max_mb=0.1)
    thread = both.thread(lossless=True)
    made, frame = at(0, snowy_road=0.9)
    noise = np.random.default_rng(0).integers(0, 255, (600, 800, 3), np.uint8)
    thread.put(LabelledFrame(made, replace(frame, data=noise)))
    thread.close()
    assert "rule snow alone is larger than triggers.max_mb" in caplog.text
    assert (thread.lost, both.sink.kept, both.sink.lost) == (1, 0, 1)
