"""How fast and how big, on this machine, now: FPS, percentiles of every stage, memory, and a verdict."""

from __future__ import annotations

import json
import os
import platform
import time
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from edge_runtime.camera import Source, open_source
from edge_runtime.camera.privacy import Privacy
from edge_runtime.camera.repeats import RepeatCounter
from edge_runtime.config import Config
from edge_runtime.engine import load_engine
from edge_runtime.errors import DeviceError, EdgeLabelError
from edge_runtime.pipeline import Pipeline
from edge_runtime.records import CameraState, Encoding, Frame
from edge_runtime.secrecy import shown
from edge_runtime.system.memory import (
    anonymous_rss_mb,
    peak_rss_mb,
    pss_mb,
    release_memory,
    rss_mb,
)
from edge_runtime.system.opencv import cv2
from edge_runtime.version import __version__

BUDGET_RSS_MB = 180.0
BUDGET_FPS = 23.0
WARM_UP_FRAMES = 10
STAGES = ("wait", "decode", "preprocess", "check", "encode", "score", "record")
_ENOUGH_TIMES = 200_000


class BuiltinSource:
    """A 640x480 scene, made on the spot, delivered as an MJPG or a YUYV camera would, as fast as it is taken."""

    live = False
    state: CameraState = "ok"
    ended = False
    patience_s = 1.0

    def __init__(self, encoding: Literal["mjpg", "yuyv"] = "mjpg") -> None:
        self.name = f"built-in 640x480 {encoding.upper()} frame"
        sent = [
            builtin_jpeg(),
            builtin_jpeg(noise_seed=1),
        ]  # a camera never sends the same bytes twice
        if encoding == "yuyv":
            sent = [_yuyv(jpeg) for jpeg in sent]
        self._encoding: Encoding = encoding
        self._frames = cycle(sent)
        self._repeats = RepeatCounter()

    def read(self, timeout_s: float) -> Frame:
        data = next(self._frames)
        start = time.monotonic()
        self._repeats(data)
        check_ms = (time.monotonic() - start) * 1e3
        return Frame(data, self._encoding, start, time.time(), check_ms=check_ms)

    def refused(self, frame: Frame, error: EdgeLabelError) -> None:
        raise error

    def close(self) -> None:
        pass


def builtin_jpeg(width: int = 640, height: int = 480, noise_seed: int = 0) -> NDArray[np.uint8]:
    """A deterministic picture with the detail of a photograph: gradients, shapes, noise; 53 kB of JPEG at 640x480.

    So large are frames of the most detailed clip of docs/decisions/013-what-is-not-the-encoder.md.

    Drawn in uint8 and without numpy.random (2.4 MB): the picture must not set the peak memory that it helps to measure.
    """
    cv2.setRNGSeed(0)
    sky = cv2.randu(np.empty((6, 8, 3), np.uint8), (40,) * 3, (216,) * 3)
    picture = cv2.resize(sky, (width, height), interpolation=cv2.INTER_CUBIC)
    boxes = cv2.randu(np.empty((40, 7), np.uint8), 0, 256).tolist()
    for x, y, w, h, *colour in boxes:
        left, top = x * width // 256, y * height // 256
        cv2.rectangle(
            picture, (left, top), (left + w // 2, top + h // 2), colour, thickness=cv2.FILLED
        )
    cv2.setRNGSeed(1 + noise_seed)
    noise = cv2.randu(np.empty_like(picture), (0,) * 3, (20,) * 3)
    picture = cv2.subtract(cv2.add(picture, noise), np.full(4, 10.0))
    ok, jpeg = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, 85])
    if not ok:
        raise RuntimeError("OpenCV cannot encode JPEG")
    flat: NDArray[np.uint8] = jpeg.reshape(-1)
    return flat


def _yuyv(jpeg: NDArray[np.uint8]) -> NDArray[np.uint8]:
    pixels: NDArray[Any] = cv2.cvtColor(
        cv2.imdecode(jpeg, cv2.IMREAD_COLOR), cv2.COLOR_BGR2YUV_YUYV
    )
    return pixels


@dataclass(frozen=True, slots=True)
class BenchResult:
    """Everything ``bench`` measured; ``to_dict`` is the --json output."""

    source: str
    bundle: str
    frames: int
    seconds: float
    fps: float
    ms: dict[str, dict[str, float]]
    memory_mb: dict[str, float | None]
    machine: dict[str, Any]

    @property
    def within_budget(self) -> bool:
        """At most 180 MB and at least 23 FPS, here."""
        return (self.memory_mb["peak_rss"] or 0) <= BUDGET_RSS_MB and self.fps >= BUDGET_FPS

    @property
    def overhead(self) -> float:
        """Share of a frame's own time (wait left out) spent on anything but the encoder."""
        return 1 - self.ms["encode"]["mean"] / self._own_ms

    @property
    def _own_ms(self) -> float:
        """What a frame takes here, the wait for the camera left out."""
        return sum(self.ms[stage]["mean"] for stage in STAGES if stage != "wait")

    def to_dict(self) -> dict[str, Any]:
        return {
            "schema": "edge-label-bench/1",
            "source": self.source,
            "bundle": self.bundle,
            "frames": self.frames,
            "seconds": round(self.seconds, 2),
            "fps": round(self.fps, 2),
            "ms": self.ms,
            "overhead": round(self.overhead, 4),
            "memory_mb": self.memory_mb,
            "machine": self.machine,
            "budget": {"rss_mb": BUDGET_RSS_MB, "fps": BUDGET_FPS, "within": self.within_budget},
        }

    def to_json(self) -> str:
        return json.dumps(self.to_dict(), indent=2, allow_nan=False)

    def to_text(self) -> str:
        """The table a person reads."""
        lines = [
            f"{self.bundle} on {self.source}: {self.frames} frames in {self.seconds:.1f} s",
            f"{self.machine['cpu']}, {self.machine['threads']} threads, governor {self.machine['governor']}, "
            f"onnxruntime {self.machine['onnxruntime']}, OpenCV {self.machine['opencv']}",
            "",
            f"{'stage':<12}{'mean':>8}{'p50':>8}{'p90':>8}{'p99':>8}  ms",
        ]
        lines += [
            f"{stage:<12}"
            + "".join(f"{self.ms[stage][key]:8.2f}" for key in ("mean", "p50", "p90", "p99"))
            for stage in (*STAGES, "total")
        ]
        memory = {
            key: "-" if value is None else f"{value:.1f}" for key, value in self.memory_mb.items()
        }
        verdict = "within" if self.within_budget else "OVER"
        lines += [
            "",
            f"memory MB   before model {memory['before_model']}, model {memory['model']}, working set "
            f"{memory['working_set']}, RSS {memory['rss']} (own {memory['anonymous']}), PSS {memory['pss']}, "
            f"peak {memory['peak_rss']}",
            f"{self.fps:.1f} FPS, peak {memory['peak_rss']} MB: {verdict} the budget of {BUDGET_FPS:.0f} FPS and "
            f"{BUDGET_RSS_MB:.0f} MB on this machine; {100 * self.overhead:.0f} % of a frame is not the encoder",
        ]
        if self.fps < BUDGET_FPS <= 1000 / self._own_ms:
            lines.append(
                f"the camera gives no more frames; this machine could label {1000 / self._own_ms:.0f} a second"
            )
        return "\n".join(lines)


def run_bench(
    config: Config,
    *,
    source: str | None = None,
    seconds: float = 10.0,
    builtin: Literal["mjpg", "yuyv"] = "mjpg",
) -> BenchResult:
    """Label frames for ``seconds`` after a warm-up and measure. Without a source, the built-in frame as ``builtin``.

    Raises DeviceError when a live source gives nothing for five seconds.
    """
    release_memory()
    before = rss_mb()
    camera = shown(source or "built-in")
    pipeline = Pipeline(
        load_engine(config.model), camera=camera, privacy=Privacy.of(config.privacy)
    )
    loaded = rss_mb()
    frames: Source = open_source(config.camera) if source else BuiltinSource(builtin)
    release_memory()  # of drawing the frame
    times: dict[str, list[float]] = {stage: [] for stage in (*STAGES, "total")}
    try:
        for _ in range(WARM_UP_FRAMES):
            _one_frame(pipeline, frames, None)
        start = time.monotonic()
        while time.monotonic() - start < seconds and len(times["total"]) < _ENOUGH_TIMES:
            if not _one_frame(pipeline, frames, times):
                break
        elapsed = time.monotonic() - start
    finally:
        frames.close()
    count = len(times["total"])
    if not count:
        raise DeviceError(
            f"{frames.name}: ended within the warm-up of {WARM_UP_FRAMES} frames", "add --loop"
        )
    return BenchResult(
        source=frames.name,
        bundle=pipeline.engine.manifest.id,
        frames=count,
        seconds=elapsed,
        fps=count / elapsed,
        ms={stage: _percentiles(values) for stage, values in times.items()},
        memory_mb=_rounded(
            before_model=before,
            model=loaded - before,
            working_set=rss_mb() - loaded,
            rss=rss_mb(),
            anonymous=anonymous_rss_mb(),
            pss=pss_mb(),
            peak_rss=peak_rss_mb(),
        ),
        machine=_machine(pipeline.threads),
    )


def _one_frame(pipeline: Pipeline, source: Source, times: dict[str, list[float]] | None) -> bool:
    """Label one frame and note its times; False at the end of the source."""
    frame = source.read(5.0)
    if frame is None:
        if source.ended:
            return False
        state = source.state.replace("_", " ")
        raise DeviceError(
            f"{source.name}: no frame for 5 s, camera {state}",
            "see edge-label doctor",
            state=source.state,
        )
    record = pipeline.process(frame).record
    start = time.monotonic()
    record.to_json()
    if times is not None:
        written = (time.monotonic() - start) * 1e3
        for stage in times:
            times[stage].append(written if stage == "record" else getattr(record.ms, stage))
    return True


def _percentiles(values: list[float]) -> dict[str, float]:
    p50, p90, p99 = np.percentile(values, (50, 90, 99))
    named = {"mean": float(np.mean(values)), "p50": p50, "p90": p90, "p99": p99, "max": max(values)}
    return {key: round(float(value), 3) for key, value in named.items()}


def _rounded(**values: float | None) -> dict[str, float | None]:
    return {key: None if value is None else round(value, 1) for key, value in values.items()}


def _machine(threads: int) -> dict[str, Any]:
    """What the figures depend on."""
    import onnxruntime

    return {
        "edge_label": __version__,
        "python": platform.python_version(),
        "onnxruntime": onnxruntime.__version__,
        "opencv": cv2.__version__,
        "numpy": np.__version__,
        "arch": platform.machine(),
        "kernel": platform.release(),
        "cpu": _cpu_name(),
        "cores": len(os.sched_getaffinity(0)),
        "threads": threads,
        "governor": _first_line(Path("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"))
        or "unknown",
    }


def _cpu_name() -> str:
    board = _first_line(Path("/proc/device-tree/model"))  # "Raspberry Pi 4 Model B Rev 1.4"
    if board:
        return board.rstrip("\0")
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith(("model name", "Model")):
            return line.split(":", 1)[1].strip()
    return platform.processor() or "unknown CPU"


def _first_line(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""
