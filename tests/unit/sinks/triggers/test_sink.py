"""Rules keep the frames they promise and no others; pictures, clips and sidecars are whole; nothing stalls."""

from __future__ import annotations

import json
import tempfile
import threading
import time
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_runtime.camera.jpeg import JpegEncoder
from edge_runtime.camera.privacy import Privacy
from edge_runtime.config import Condition, Config, PrivacyConfig, TriggerRule, TriggersConfig
from edge_runtime.errors import ConfigError
from edge_runtime.records import Frame, LabelledFrame, LabelScore
from edge_runtime.sinks.thread import SinkThread
from edge_runtime.sinks.triggers.hook import Hook
from edge_runtime.sinks.triggers.sink import (
    DIVERSITY_MEMORY,
    Diversity,
    Ring,
    Rules,
    TriggerSink,
    holds,
)
from edge_runtime.sinks.triggers.spool import Capture
from edge_runtime.system import strict_yaml
from tests.daemon import wait_until
from tests.unit.test_records import record

NAMES = ("snowy road", "tunnel")


def scores(**values: float) -> tuple[LabelScore, ...]:
    return tuple(
        LabelScore(name.replace("_", " "), value, 0.1, value >= 0.5)
        for name, value in values.items()
    )


def at(seconds: float, **values: float):
    """A record and a bgr frame at ``seconds``; the shade of the frame tells when it was taken."""
    labels = scores(**values)
    state = "ok" if any(label.on for label in labels) else "unknown"
    shade = int(seconds * 10) % 250
    frame = Frame(np.full((48, 64, 3), shade, np.uint8), "bgr", 100 + seconds, 0.0)
    return record(
        labels=labels, state=state, mono_s=100 + seconds, time="2026-05-02T09:13:07.412Z"
    ), frame


def rule(**settings: object) -> TriggerRule:
    settings.setdefault("name", "snow")
    settings.setdefault("when", Condition(label="snowy road"))
    settings.setdefault("min_interval_s", 0.0)
    return TriggerRule(**settings)  # type: ignore[arg-type]


class Both:
    """The rules and the sink, one after the other in one thread."""

    def __init__(self, config: TriggersConfig) -> None:
        self.rules = Rules(config, NAMES)
        self.sink = TriggerSink(config, JpegEncoder())
        self.close = self.sink.close

    def thread(self, **how: object) -> SinkThread:
        return SinkThread(self.sink, pictures=True, chooser=self.rules, **how)  # type: ignore[arg-type]


def feed(both: Both, made, frame, embedding: np.ndarray | None = None) -> None:
    item = both.rules.choose(LabelledFrame(made, frame, embedding))
    if item is not None:
        both.sink.write(*item)


def make(tmp_path: Path, *rules: TriggerRule, **settings: object) -> Both:
    return Both(TriggersConfig(spool=str(tmp_path / "spool"), rules=rules, **settings))  # type: ignore[arg-type]


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
    assert (sidecar["schema"], sidecar["rule"], sidecar["kind"]) == (
        "edge-label-capture/1",
        "snow",
        "snapshot",
    )
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
        feed(sink, made, replace(frame, data=noise))
        sink.sink._spool._folder.stat()
        for clip in sink.sink._open:
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
        feed(sink, made, frame, (vector / np.linalg.norm(vector)).astype(np.float32))
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


def test_a_label_that_the_set_does_not_have_is_said_with_the_nearest(tmp_path: Path):
    with pytest.raises(
        ConfigError,
        match="rule snow: the label set has no 'snowy raod' to report; did you mean 'snowy road'",
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
        (
            "{spool: s, rules: [{name: a, when: {label: x}}, {name: a, when: {label: y}}]}",
            "same name",
        ),
        (
            "{spool: s, rules: [{name: a, when: {label: x}}], delete_after_hook: true}",
            "needs triggers.hook",
        ),
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
    hook = (
        script(tmp_path, f'for a in "$@"; do echo "$a" >> {log}; done'),
        "$(touch owned)",
        "a; b",
    )
    sink = make(tmp_path, rule(), hook=hook)
    feed(sink, *at(0, snowy_road=0.9))
    wait_until(lambda: log.exists() and log.read_text().count("\n") == 4)
    sink.close()
    stem = tmp_path / "spool" / "00000001-snow-20260502T091307Z"
    assert log.read_text().splitlines() == ["$(touch owned)", "a; b", f"{stem}.jpg", f"{stem}.json"]
    assert Path(f"{stem}.jpg").exists()


def test_a_hook_gets_whole_paths_that_no_command_takes_for_an_option_or_a_host(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    log = tmp_path / "log"
    hook = Hook(
        (script(tmp_path, f'for a in "$@"; do echo "$a" >> {log}; done'),), 10, delete=False
    )
    monkeypatch.chdir(tmp_path)
    folder = Path("-nas:02")
    folder.mkdir()
    names = [folder / "a.jpg", folder / "a.json"]
    for name in names:
        name.touch()
    hook.extend([Capture(*names)])
    wait_until(lambda: log.exists() and log.read_text().count("\n") == 2)
    hook.close()
    assert log.read_text().splitlines() == [str(tmp_path / name) for name in names]


def test_a_capture_is_deleted_only_after_the_hook_succeeded_even_over_a_restart(
    tmp_path: Path, monkeypatch
):
    monkeypatch.setattr("edge_runtime.sinks.triggers.hook.BACKOFF_S", (0.05, 0.1))
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
    thread = sink.thread(lossless=False)
    for i in range(50):
        start = time.monotonic()
        thread.put(LabelledFrame(*at(i, snowy_road=0.9 * (i % 2))))
        assert time.monotonic() - start < 1
        time.sleep(0.005)
    wait_until(lambda: "took longer than 1 s" in caplog.text)
    start = time.monotonic()
    thread.close()
    assert time.monotonic() - start < 4
    assert len(sidecars(tmp_path)) > 5


def test_a_capture_that_cannot_be_deleted_ends_no_hook(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    ran = tmp_path / "ran"
    hook = Hook((script(tmp_path, f"echo x >> {ran}"),), 10, delete=True)
    for (
        name
    ) in "ab":  # unlink refuses a directory, as it refuses a file of a disk that went read-only
        (tmp_path / name).mkdir()
        hook.extend([Capture(tmp_path / name, tmp_path / name)])
    wait_until(lambda: not hook._waiting)
    hook.close()
    assert ran.read_text() == "x\nx\n"
    assert caplog.text.count("cannot be deleted") == 2


def test_a_clip_ends_before_its_sizes_overflow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("edge_runtime.sinks.triggers.avi.MAX_BYTES", 5000)
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
    captures = sink.sink._spool.captures()
    for path in (tmp_path / "spool").iterdir():
        path.unlink()
    hook.extend(captures)
    wait_until(lambda: not hook._waiting)
    hook.close()
    assert not ran.exists()


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


def test_an_edge_that_was_lost_and_is_over_does_not_fire(tmp_path: Path):
    rules = Rules(TriggersConfig(str(tmp_path / "spool"), (rule(min_interval_s=3600.0),)), NAMES)
    (task,) = rules.choose(LabelledFrame(*at(0, snowy_road=0.9))) or ()
    rules.dropped(task)
    assert rules.choose(LabelledFrame(*at(1, snowy_road=0.1))) is not None, (
        "the sink hears of the loss"
    )
    assert rules.choose(LabelledFrame(*at(2, snowy_road=0.9))) is not None, (
        "a new edge, and its interval was not spent"
    )
    assert rules.fired == 2


def test_a_picture_that_was_lost_is_still_new(tmp_path: Path):
    rules = Rules(
        TriggersConfig(str(tmp_path / "spool"), (rule(when=None, min_distance=0.3),)), NAMES
    )
    made, frame = at(0, tunnel=0.1)
    embedding = np.eye(4, dtype=np.float32)[0]
    (task,) = rules.choose(LabelledFrame(made, frame, embedding)) or ()
    assert rules.choose(LabelledFrame(*at(1, tunnel=0.1), embedding)) is None
    rules.dropped(task)
    assert rules.choose(LabelledFrame(*at(2, tunnel=0.1), embedding)) is not None
    assert rules.fired == 2


def test_another_bundle_begins_with_nothing_kept(tmp_path: Path):
    """After a reload its embeddings may have another length, and lie in another space all the same if not."""
    rules = Rules(
        TriggersConfig(str(tmp_path / "spool"), (rule(when=None, min_distance=0.3),)), NAMES
    )
    for second, dim, bundle in ((0, 4, "old-1.0.0"), (1, 8, "new-1.0.0"), (2, 8, "newer-1.0.0")):
        made, frame = at(second, tunnel=0.1)
        embedding = np.eye(dim, dtype=np.float32)[0]
        rules.choose(LabelledFrame(replace(made, bundle=bundle), frame, embedding))
    assert rules.fired == 3


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


@pytest.mark.fault("N10")
@pytest.mark.parametrize("hook", ['["/bin/tr\\0ue"]', '["/bin/true", "a\\0b"]'])
def test_a_hook_with_a_nul_byte_is_refused(hook: str):
    with pytest.raises(ConfigError, match=r"triggers\.hook\[\d\] holds a NUL byte"):
        strict_yaml.parse(
            f"triggers: {{spool: s, rules: [{{name: a, when: {{label: x}}}}], hook: {hook}}}",
            "x",
            Config,
        )


@pytest.mark.fault("N10")
def test_a_hook_that_cannot_even_be_started_is_said_and_tried_again(
    tmp_path: Path, caplog, monkeypatch
):
    """Whatever goes wrong: a thread that ended would hand over nothing more, and say nothing."""
    monkeypatch.setattr("edge_runtime.sinks.triggers.hook.BACKOFF_S", (0.05, 0.1))
    hook = Hook((script(tmp_path, "true"), "a\0b"), 10, delete=False)
    sink = make(tmp_path, rule())
    feed(sink, *at(0, snowy_road=0.9))
    hook.extend(sink.sink._spool.captures())
    wait_until(lambda: "ValueError: embedded null byte; trying again" in caplog.text)
    assert hook._thread.is_alive()
    hook._argv = hook._argv[:1]
    wait_until(lambda: not hook._waiting)
    hook.close()
