"""Small before-and-after measurements behind docs/decisions.

``python -m tools.measure.variants decode|frames|memory|session``

Variants run in turn within one process or one after the other in fresh processes, so that the
ratios hold on a noisy machine even where the milliseconds do not.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from edge_runtime.errors import DataError, NoInputError
from tools.lib import markdown
from tools.lib.command import run_verb, verb_parser

SESSION_VARIANTS = {
    "ONNX Runtime's defaults": {"arena": True, "pattern": True},
    "no memory pattern (chosen)": {"arena": True, "pattern": False},
    "no pattern, no arena": {"arena": False, "pattern": False},
    "no pattern, threads that spin": {"arena": True, "pattern": False, "spin": True},
}


def _interleaved(variants: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Median milliseconds of each variant, called in turn ``rounds`` times."""
    times: dict[str, list[float]] = {name: [] for name in variants}
    for _ in range(rounds):
        for name, call in variants.items():
            start = time.perf_counter()
            call()
            times[name].append((time.perf_counter() - start) * 1e3)
    return {name: statistics.median(values) for name, values in times.items()}


def _answer(command: list[str]) -> dict[str, float]:
    """What a child prints as JSON. Raises DataError with its last line when it fails."""
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode:
        raise DataError(
            next(
                reversed(done.stderr.strip().splitlines()), f"a child ended with {done.returncode}"
            )
        )
    answer: dict[str, float] = json.loads(done.stdout)
    return answer


def measure_decode() -> None:
    """640x480 JPEG to an encoder's 192x192: decoded whole, or at half size."""
    from edge_runtime.camera.decode import decode
    from edge_runtime.commands.builtin_frame import builtin_jpeg
    from edge_runtime.model.manifest import InputSpec
    from edge_runtime.model.preprocess import Preprocessor
    from edge_runtime.records import Frame

    frame = Frame(builtin_jpeg(), "mjpg", 0.0, 0.0)
    preprocess = Preprocessor(InputSpec("pixels", "NHWC", (192, 192), "squash", ("rgb",)))
    medians = _interleaved(
        {
            "whole, then resize": lambda: preprocess(decode(frame, (480, 640))),
            "half size, then resize (chosen)": lambda: preprocess(decode(frame, (192, 192))),
        },
        300,
    )
    print(markdown.table(("640x480 JPEG to 192x192", "ms", "ratio"), []))
    slowest = max(medians.values())
    for name, ms in medians.items():
        print(f"| {name} | {ms:.2f} | {ms / slowest:.2f} |")


def measure_frames(videos: str) -> None:
    """How large a camera's 640x480 JPEG is, and what it costs to decode at half size: bench's
    frame, and videos.

    Raises NoInputError without videos, DataError for one that cannot be read.
    """
    import cv2
    import numpy as np

    from edge_runtime.camera.decode import decode
    from edge_runtime.camera.replay import ffmpeg_name
    from edge_runtime.commands.builtin_frame import builtin_jpeg
    from edge_runtime.records import Frame

    shown = {"bench": [builtin_jpeg()]}
    paths = sorted(p for p in Path(videos).glob("*") if p.suffix in (".avi", ".mp4"))
    if not paths:
        raise NoInputError(f"{videos}: no videos there (.avi, .mp4)", "give a folder of them")
    for path in paths:
        video = cv2.VideoCapture(ffmpeg_name(path), cv2.CAP_FFMPEG)
        shown[path.name] = []
        for at in np.linspace(0, video.get(cv2.CAP_PROP_FRAME_COUNT) - 2, 6):
            video.set(cv2.CAP_PROP_POS_FRAMES, int(at))
            whole = video.read()[1]
            if whole is None:
                raise DataError(f"{path}: frame {int(at)} cannot be read", "is this a video?")
            width = min(whole.shape[1], whole.shape[0] * 4 // 3)
            cut = whole[:, (whole.shape[1] - width) // 2 :][:, :width]
            small = cv2.resize(cut, (640, 480), interpolation=cv2.INTER_AREA)
            shown[path.name].append(
                cv2.imencode(".jpg", small, [cv2.IMWRITE_JPEG_QUALITY, 85])[1].reshape(-1)
            )
    calls = {
        name: lambda frames=frames: [decode(Frame(f, "mjpg", 0.0, 0.0), (192, 192)) for f in frames]
        for name, frames in shown.items()
    }
    medians = _interleaved(calls, 50)
    print(markdown.table(("frame, 640x480, quality 85", "kB", "ms to decode at half size"), []))
    for name, frames in shown.items():
        kilobytes = statistics.median(frame.size for frame in frames) / 1e3
        print(f"| {name} | {kilobytes:.0f} | {medians[name] / len(frames):.2f} |")


_BENCH_CHILD = """
import json, sys
from edge_runtime.system import memory
if sys.argv[2] == "kept":
    memory.release_memory = lambda: None  # before anything imports it from there
if sys.argv[2] == "released, mappings whole":
    memory._PIECE = 1 << 40
from edge_runtime.commands import bench
from edge_runtime.config import Config, ModelConfig
result = bench.run_bench(Config(model=ModelConfig(bundle=sys.argv[1])), seconds=2)
print(json.dumps(result.memory_mb))
"""


def measure_memory(bundle: str) -> None:
    """What bench sees with start-up memory kept or released, mappings whole or in pieces, small or
    large folios."""
    import os
    import sysconfig

    libraries = [p for p in Path(sysconfig.get_paths()["platlib"]).rglob("*.so*") if p.is_file()]
    print(markdown.table(("page cache", "start-up memory", "RSS MB", "own MB", "peak MB"), []))
    for cache in ("small folios", "large folios"):
        for library in libraries:
            with library.open("rb") as file:
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
                if cache == "large folios":  # read from end to end, as a backup or a checksum does
                    while file.read(1 << 17):
                        pass
        for memory in ("kept", "released, mappings whole", "released"):
            command = [sys.executable, "-c", _BENCH_CHILD, bundle, memory]
            got = _answer(command)
            figures = " | ".join(f"{got[key]:.1f}" for key in ("rss", "anonymous", "peak_rss"))
            print(f"| {cache} | {memory} | {figures} |", flush=True)


def measure_session(bundle: str) -> None:
    """Memory, time and CPU of a paced run (30 FPS) under each set of session options, a fresh
    process each."""
    print(
        markdown.table(("session options", "RSS MB", "peak MB", "ms a frame", "CPU ms a frame"), [])
    )
    for name, options in SESSION_VARIANTS.items():
        command = [
            sys.executable,
            "-m",
            "tools.measure.variants",
            "session-child",
            bundle,
            json.dumps(options),
        ]
        got = _answer(command)
        megabytes = [f"{got[key]:.1f}" for key in ("rss", "peak")]
        times = [f"{got[key]:.2f}" for key in ("ms", "cpu")]
        print(markdown.row([name, *megabytes, *times]), flush=True)


def _session_child(bundle_path: str, variant: dict[str, bool]) -> None:
    import numpy as np

    from edge_runtime.model import encoder
    from edge_runtime.model.bundle import load_bundle
    from edge_runtime.system.memory import peak_rss_mb, rss_mb

    chosen = encoder.session_options

    def options(threads: int) -> object:
        changed = chosen(threads)
        changed.enable_cpu_mem_arena = variant["arena"]
        changed.enable_mem_pattern = variant["pattern"]
        if variant.get("spin"):
            changed.add_session_config_entry("session.intra_op.allow_spinning", "1")
        return changed

    encoder.session_options = options
    bundle = load_bundle(Path(bundle_path))
    encode = encoder.Encoder(bundle)
    batch = np.random.default_rng(0).integers(0, 255, bundle.manifest.input.shape, np.uint8)
    for _ in range(10):
        encode(batch)
    times = []
    cpu = time.process_time()
    for _ in range(90):
        start = time.perf_counter()
        encode(batch)
        times.append((time.perf_counter() - start) * 1e3)
        time.sleep(max(0.0, 1 / 30 - times[-1] / 1e3))
    cpu = (time.process_time() - cpu) * 1e3 / len(times)
    print(
        json.dumps(
            {"rss": rss_mb(), "peak": peak_rss_mb(), "ms": statistics.median(times), "cpu": cpu}
        )
    )


def main(argv: list[str] | None = None) -> int:
    """Run the measurement; returns the exit code."""
    measurements = {
        "decode": lambda args: measure_decode(),
        "frames": lambda args: measure_frames(args.path),
        "memory": lambda args: measure_memory(args.path),
        "session": lambda args: measure_session(args.path),
        "session-child": lambda args: _session_child(args.path, json.loads(args.variant)),
    }
    parser = verb_parser("tools.measure.variants", __doc__, whole=True)
    add = parser.add_argument
    add("what", choices=list(measurements), help="which comparison")
    add("path", nargs="?", default="models/edge-clip", help="a bundle; for frames: a folder")
    add("variant", nargs="?", help=argparse.SUPPRESS)
    return run_verb(parser, lambda args: measurements[args.what](args), argv)


if __name__ == "__main__":
    sys.exit(main())
