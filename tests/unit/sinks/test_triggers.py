"""Rules keep the frames they promise and no others; pictures, clips and sidecars are whole; nothing stalls."""

from __future__ import annotations

import json
import time
from pathlib import Path

import cv2
import numpy as np
import pytest

from edge_runtime import strict_yaml
from edge_runtime.camera.jpeg import JpegEncoder
from edge_runtime.camera.privacy import Privacy
from edge_runtime.config import Condition, Config, PrivacyConfig, TriggerRule, TriggersConfig
from edge_runtime.errors import ConfigError
from edge_runtime.records import Frame, LabelScore
from edge_runtime.sinks import SinkThread
from edge_runtime.sinks.hook import Hook
from edge_runtime.sinks.spool import Capture
from edge_runtime.sinks.triggers import DIVERSITY_MEMORY, Diversity, Ring, TriggerSink, holds
from tests.daemon import wait_until
from tests.unit.test_records import record

NAMES = ("snowy road", "tunnel")


def scores(**values: float) -> tuple[LabelScore, ...]:
    return tuple(LabelScore(name.replace("_", " "), value, 0.1, value >= 0.5) for name, value in values.items())


def at(seconds: float, **values: float):
    """A record and a bgr frame at ``seconds``; the shade of the frame tells when it was taken."""
    labels = scores(**values)
    state = "ok" if any(label.on for label in labels) else "unknown"
    shade = int(seconds * 10) % 250
    frame = Frame(np.full((48, 64, 3), shade, np.uint8), "bgr", 100 + seconds, 0.0)
    return record(labels=labels, state=state, mono_s=100 + seconds, time="2026-05-02T09:13:07.412Z"), frame


def rule(**settings: object) -> TriggerRule:
    settings.setdefault("name", "snow")
    settings.setdefault("when", Condition(label="snowy road"))
    settings.setdefault("min_interval_s", 0.0)
    return TriggerRule(**settings)  # type: ignore[arg-type]


def feed(sink: TriggerSink, made, frame) -> None:
    """What the sink's thread does."""
    if sink.wants(made, frame):
        sink.write(made, frame)


def make(tmp_path: Path, *rules: TriggerRule, **settings: object) -> TriggerSink:
    config = TriggersConfig(spool=str(tmp_path / "spool"), rules=rules, **settings)  # type: ignore[arg-type]
    return TriggerSink(config, JpegEncoder(), NAMES)


def sidecars(tmp_path: Path) -> list[dict]:
    return [json.loads(path.read_text()) for path in sorted((tmp_path / "spool").glob("*.json"))]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("{label: a}", True),
        ("{label: b}", False),
        ("{label: missing}", False),
        ("{label: b, min_score: 0.2}", True),
        ("{label: b, min_score: 0.4}", False),
        ("{label: b, min_score: 0.2, max_score: 0.4}", True),
        ("{label: a, max_score: 0.5}", False),
        ("{label: missing, max_score: 0.1}", True),
        ("{state: ok}", True),
        ("{state: unknown}", False),
        ("{not: {label: b}}", True),
        ("{all: [{label: a}, {not: {label: b}}]}", True),
        ("{all: [{label: a}, {label: b}]}", False),
        ("{any: [{label: b}, {label: a}]}", True),
        ("{any: [{label: b}, {state: unknown}]}", False),
        ("{not: {any: [{label: b}, {all: [{label: a}, {state: ok}]}]}}", False),
    ],
)
def test_conditions(text: str, expected: bool):
    condition = strict_yaml.parse(text, "x.yaml", Condition)
    assert holds(condition, {s.name: s for s in scores(a=0.8, b=0.3)}, "ok") is expected


def test_a_rising_edge_fires_once_until_it_falls(tmp_path: Path):
    sink = make(tmp_path, rule())
    for i, score in enumerate([0.1, 0.9, 0.9, 0.9, 0.1, 0.9]):
        feed(sink, *at(i, snowy_road=score))
    sink.close()
    assert len(sidecars(tmp_path)) == 2


def test_a_level_fires_again_after_the_minimum_interval(tmp_path: Path):
    sink = make(tmp_path, rule(edge="level", min_interval_s=5.0))
    for i in range(20):
        feed(sink, *at(i, snowy_road=0.9))
    sink.close()
    assert len(sidecars(tmp_path)) == 4


def test_a_snapshot_is_the_frame_that_fired_with_its_whole_record_beside_it(tmp_path: Path):
    sink = make(tmp_path, rule())
    feed(sink, *at(0, snowy_road=0.1))
    made, frame = at(9, snowy_road=0.9)
    feed(sink, made, frame)
    (sidecar,) = sidecars(tmp_path)
    assert sidecar["record"] == made.to_dict()
    assert (sidecar["schema"], sidecar["rule"], sidecar["kind"]) == ("edge-label-capture/1", "snow", "snapshot")
    assert sidecar["file"] == "00000001-snow-20260502T091307Z.jpg"
    picture = cv2.imread(str(tmp_path / "spool" / sidecar["file"]))
    assert abs(float(picture.mean()) - frame.data.mean()) < 2


def test_a_clip_has_what_was_before_and_after(tmp_path: Path):
    sink = make(tmp_path, rule(save="clip", pre_s=2.0, post_s=3.0), clip_fps=5.0)
    for i in range(300):  # 30 FPS for ten seconds; snow from 5 s on
        feed(sink, *at(i / 30, snowy_road=0.9 if i >= 150 else 0.1))
    sink.close()
    (sidecar,) = sidecars(tmp_path)
    assert sidecar["kind"] == "clip"
    assert sidecar["frames"] == pytest.approx(25, abs=2)
    times = sidecar["frame_times_s"]
    fired = times[sidecar["fired_frame"]]
    assert fired == pytest.approx(2.0, abs=0.25)
    assert times[-1] - fired == pytest.approx(3.0, abs=0.25)
    capture = cv2.VideoCapture(str(tmp_path / "spool" / sidecar["file"]), cv2.CAP_FFMPEG)
    assert capture.get(cv2.CAP_PROP_FRAME_COUNT) == sidecar["frames"]
    assert capture.get(cv2.CAP_PROP_FPS) == pytest.approx(5.0, rel=0.05)
    shades = [float(capture.read()[1].mean()) for _ in range(sidecar["frames"])]
    assert shades == sorted(shades)
    assert shades[sidecar["fired_frame"]] == pytest.approx(50, abs=3)


def test_a_clip_that_is_open_at_the_end_is_kept(tmp_path: Path):
    sink = make(tmp_path, rule(save="clip", post_s=60.0))
    for i in range(10):
        feed(sink, *at(i, snowy_road=0.9))
    sink.close()
    assert sidecars(tmp_path)[0]["frames"] == 10


def test_the_ring_is_bounded_in_bytes_and_seconds():
    ring = Ring(3.0, 1000)
    for i in range(100):
        ring.add(float(i), bytes(300))
        assert ring.bytes <= 1000
    assert [time_s for time_s, _ in ring.since(0)] == [97, 98, 99]
    ring = Ring(3.0, 1e9)
    for i in range(100):
        ring.add(float(i), b"x")
    assert [time_s for time_s, _ in ring.since(0)] == [96, 97, 98, 99]


def test_clips_stay_under_the_cap_while_they_are_written(tmp_path: Path):
    rules = [rule(name=f"r{i}", save="clip", post_s=20.0) for i in range(3)]
    sink = make(tmp_path, *rules, max_mb=0.1, clip_fps=20.0)
    noise = np.random.default_rng(0).integers(0, 255, (48, 64, 3), np.uint8)
    for i in range(400):
        made, frame = at(i / 20, snowy_road=0.9)
        frame.data = noise
        feed(sink, made, frame)
        sink._spool._folder.stat()
        for clip in sink._open:
            clip.draft.stream.flush()
        assert sum(p.stat().st_size for p in (tmp_path / "spool").iterdir()) <= 100_000
    sink.close()
    assert sum(p.stat().st_size for p in (tmp_path / "spool").iterdir()) <= 100_000


def test_diversity_keeps_only_what_looks_different(tmp_path: Path):
    sink = make(tmp_path, rule(when=None, min_distance=0.3))
    rng = np.random.default_rng(0)
    scenes = np.eye(8, dtype=np.float32)[:3]
    for i in range(60):
        made, frame = at(i, tunnel=0.1)
        vector = scenes[i % 3] + rng.normal(0, 0.02, 8)
        frame.embedding = (vector / np.linalg.norm(vector)).astype(np.float32)
        feed(sink, made, frame)
    sink.close()
    assert len(sidecars(tmp_path)) == 3


def test_diversity_never_keeps_nan_and_remembers_a_bounded_number():
    diversity = Diversity(0.5)
    nan = np.full(4, np.nan, np.float32)
    assert not diversity.is_new(nan)
    for i in range(2 * DIVERSITY_MEMORY):
        diversity.remember(np.eye(4, dtype=np.float32)[i % 2])
    assert diversity._kept is not None
    assert len(diversity._kept) == DIVERSITY_MEMORY
    assert not diversity.is_new(np.array([1, 0, 0, 0], np.float32))
    assert diversity.is_new(np.array([0, 0, 1, 0], np.float32))
    assert not diversity.is_new(nan)


def test_frames_without_a_picture_are_passed_over(tmp_path: Path):
    sink = make(tmp_path, rule(edge="level"))
    made, frame = at(0, snowy_road=0.9)
    feed(sink, made, None)
    frame.data, frame.encoding = np.zeros(100, np.uint8), "mjpg"
    feed(sink, made, frame)
    feed(sink, *at(1, snowy_road=0.9))
    assert len(sidecars(tmp_path)) == 1


def test_a_mask_is_in_everything_that_is_kept(tmp_path: Path):
    left = PrivacyConfig(masks=(((0, 0), (0.5, 0), (0.5, 1), (0, 1)),))
    config = TriggersConfig(str(tmp_path / "spool"), (rule(), rule(name="clip", save="clip", post_s=1.0)))
    sink = TriggerSink(config, JpegEncoder(), NAMES)
    made, frame = at(20, snowy_road=0.9)
    frame.data[:] = 200
    Privacy(left)(frame)  # as the pipeline does before any sink
    feed(sink, made, frame)
    sink.close()
    kept = [cv2.imread(str(path)) for path in (tmp_path / "spool").glob("*.jpg")]
    kept += [cv2.VideoCapture(str(path)).read()[1] for path in (tmp_path / "spool").glob("*.avi")]
    assert len(kept) == 2
    for picture in kept:
        assert picture[:, :28].max() < 12
        assert picture[:, 40:].min() > 180


def test_a_label_that_the_set_does_not_have_is_said_with_the_nearest(tmp_path: Path):
    with pytest.raises(
        ConfigError, match="rule snow: the label set has no 'snowy raod' to report; did you mean 'snowy road'"
    ):
        make(tmp_path, rule(when=Condition(not_=Condition(label="snowy raod"))))


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("{spool: s, rules: []}", "rules is empty"),
        ("{spool: s, rules: [{name: 'a b', when: {label: x}}]}", "part of a file's name"),
        ("{spool: s, rules: [{name: a}]}", "would keep everything"),
        ("{spool: s, rules: [{name: a, when: {}}]}", "this has none"),
        ("{spool: s, rules: [{name: a, when: {label: x, state: ok}}]}", "this has label and state"),
        ("{spool: s, rules: [{name: a, when: {state: ok, min_score: 1}}]}", "belongs to a label"),
        ("{spool: s, rules: [{name: a, when: {state: okay}}]}", "did you mean 'ok'"),
        ("{spool: s, rules: [{name: a, when: {any: []}}]}", "at least one condition"),
        ("{spool: s, rules: [{name: a, when: {label: x}, pre_s: 3}]}", "are for save: clip"),
        ("{spool: s, rules: [{name: a, when: {label: x}, save: clip}]}", "needs pre_s or post_s"),
        ("{spool: s, rules: [{name: a, when: {label: x}}, {name: a, when: {label: y}}]}", "same name"),
        ("{spool: s, rules: [{name: a, when: {label: x}}], delete_after_hook: true}", "needs triggers.hook"),
    ],
)
def test_a_wrong_section_is_one_clear_line(text: str, problem: str):
    with pytest.raises(ConfigError, match=problem):
        strict_yaml.parse(f"triggers: {text}", "x.yaml", Config)


def test_a_hook_that_is_not_there_is_said_at_the_start(tmp_path: Path):
    with pytest.raises(ConfigError, match="no such program"):
        make(tmp_path, rule(), hook=("/no/such/program",))


def script(tmp_path: Path, body: str) -> str:
    path = tmp_path / "hook.sh"
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)
    return str(path)


def test_the_hook_gets_each_capture_as_arguments_without_a_shell(tmp_path: Path):
    log = tmp_path / "log"
    hook = (script(tmp_path, f'for a in "$@"; do echo "$a" >> {log}; done'), "$(touch owned)", "a; b")
    sink = make(tmp_path, rule(), hook=hook)
    feed(sink, *at(0, snowy_road=0.9))
    wait_until(lambda: log.exists() and log.read_text().count("\n") == 4)
    sink.close()
    stem = tmp_path / "spool" / "00000001-snow-20260502T091307Z"
    assert log.read_text().splitlines() == ["$(touch owned)", "a; b", f"{stem}.jpg", f"{stem}.json"]
    assert Path(f"{stem}.jpg").exists()


def test_a_capture_is_deleted_only_after_the_hook_succeeded_even_over_a_restart(tmp_path: Path, monkeypatch):
    monkeypatch.setattr("edge_runtime.sinks.hook.BACKOFF_S", (0.05, 0.1))
    allowed = tmp_path / "allowed"
    tries = tmp_path / "tries"
    hook = (script(tmp_path, f"echo tried >> {tries}; test -e {allowed}"),)
    sink = make(tmp_path, rule(), hook=hook, delete_after_hook=True)
    feed(sink, *at(0, snowy_road=0.9))
    wait_until(lambda: tries.exists() and tries.read_text().count("tried") >= 2)
    sink.close()
    assert len(sidecars(tmp_path)) == 1
    allowed.touch()
    sink = make(tmp_path, rule(), hook=hook, delete_after_hook=True)
    feed(sink, *at(1, snowy_road=0.1))
    wait_until(lambda: not list((tmp_path / "spool").iterdir()))
    sink.close()


def test_a_hook_that_hangs_is_killed_and_stalls_neither_frames_nor_the_end(tmp_path: Path, caplog):
    hook = (script(tmp_path, "sleep 100"),)
    sink = make(tmp_path, rule(), hook=hook, hook_timeout_s=1.0)
    thread = SinkThread(sink, lossless=False, pictures=True, wants=sink.wants)
    for i in range(50):
        start = time.monotonic()
        thread.put(*at(i, snowy_road=0.9 * (i % 2)))
        assert time.monotonic() - start < 1
        time.sleep(0.005)
    wait_until(lambda: "took longer than 1 s" in caplog.text)
    start = time.monotonic()
    thread.close()
    assert time.monotonic() - start < 4
    assert len(sidecars(tmp_path)) > 5


def test_a_capture_that_cannot_be_deleted_ends_no_hook(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    ran = tmp_path / "ran"
    hook = Hook((script(tmp_path, f"echo x >> {ran}"),), 10, delete=True)
    for name in "ab":  # unlink refuses a directory, as it refuses a file of a disk that went read-only
        (tmp_path / name).mkdir()
        hook.extend([Capture(tmp_path / name, tmp_path / name)])
    wait_until(lambda: not hook._waiting)
    hook.close()
    assert ran.read_text() == "x\nx\n"
    assert caplog.text.count("cannot be deleted") == 2


def test_a_clip_ends_before_its_sizes_overflow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("edge_runtime.sinks.avi.MAX_BYTES", 5000)
    sink = make(tmp_path, rule(save="clip", post_s=20.0), clip_fps=20.0)
    for i in range(100):
        feed(sink, *at(i / 20, snowy_road=0.9))
    sink.close()
    (clip,) = (tmp_path / "spool").glob("*.avi")
    assert 1000 < clip.stat().st_size <= 5000
    assert cv2.VideoCapture(str(clip)).read()[0]


def test_captures_that_left_the_spool_are_not_handed_on(tmp_path: Path):
    ran = tmp_path / "ran"
    hook = Hook((script(tmp_path, f"echo x >> {ran}"),), 10, delete=False)
    sink = make(tmp_path, rule())
    feed(sink, *at(0, snowy_road=0.9))
    captures = sink._spool.captures()
    for path in (tmp_path / "spool").iterdir():
        path.unlink()
    hook.extend(captures)
    wait_until(lambda: not hook._waiting)
    hook.close()
    assert not ran.exists()
