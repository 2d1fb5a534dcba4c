"""A clip has what was before and after, is whole, and stays under the cap while it is written."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from tests.unit.sinks.triggers.harness import at, feed, make, rule, sidecars


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


def test_clips_stay_under_the_cap_while_they_are_written(tmp_path: Path):
    rules = [rule(name=f"r{i}", save="clip", post_s=20.0) for i in range(3)]
    sink = make(tmp_path, *rules, max_mb=0.1, clip_fps=20.0)
    noise = np.random.default_rng(0).integers(0, 255, (48, 64, 3), np.uint8)
    for i in range(400):
        made, frame = at(i / 20, snowy_road=0.9)
        feed(sink, made, replace(frame, data=noise))
        sink.sink._spool._folder.stat()
        for clip in sink.sink._clips:
            clip.draft.stream.flush()
        assert sum(p.stat().st_size for p in (tmp_path / "spool").iterdir()) <= 100_000
    sink.close()
    assert sum(p.stat().st_size for p in (tmp_path / "spool").iterdir()) <= 100_000


def test_a_clip_ends_before_its_sizes_overflow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("edge_runtime.sinks.triggers.avi.MAX_BYTES", 5000)
    sink = make(tmp_path, rule(save="clip", post_s=20.0), clip_fps=20.0)
    for i in range(100):
        feed(sink, *at(i / 20, snowy_road=0.9))
    sink.close()
    (clip,) = (tmp_path / "spool").glob("*.avi")
    assert 1000 < clip.stat().st_size <= 5000
    assert cv2.VideoCapture(str(clip)).read()[0]
