"""What the libraries that edge_runtime does without would cost, in memory and time.

``python -m tools.measure.imports``            every part of docs/decisions/017
``python -m tools.measure.imports ssl av``     any modules, each by itself

A child process imports what the daemon always imports, then the library. "MB at import" is by how
much its resident memory grows. "MB kept" is how much larger than a child without the library it is
after ``release_memory``, as the daemon calls it. Medians of several children; a library that is not
installed is "not installed".
"""

from __future__ import annotations

import importlib.util
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from edge_runtime.errors import DataError
from tools.lib import markdown
from tools.lib.command import run_verb, verb_parser

REPEATS = 3

# The hand-written part, and the modules that it replaces.
PARTS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("sinks/web/http.py, listener.py, messages.py", ("http.server",)),
    ("sinks/web/metrics_text.py", ("prometheus_client",)),
    ("system/digest.py", ("hashlib", "hmac")),
    ("system/strict_yaml.py", ("pydantic",)),
    ("daemon/notify.py", ("sdnotify",)),
    ("model/onnx_bytes.py", ("onnx",)),
    ("model/store/archive.py", ("tarfile",)),
    ("commands/report/ (its charts)", ("matplotlib.figure",)),
)

_CHILD = """
import importlib, json, sys
from edge_runtime.system.memory import release_memory, rss_mb

for name in ("edge_runtime.daemon.service", "edge_runtime.camera.live", "edge_runtime.camera.v4l2"):
    importlib.import_module(name)
before = rss_mb()
for name in sys.argv[1:]:
    importlib.import_module(name)
at_import = rss_mb() - before
release_memory()
print(json.dumps({"at_import": at_import, "released": rss_mb()}))
"""


def _child(modules: Sequence[str]) -> dict[str, float]:
    """What one child measures. Raises DataError with its last line when it fails."""
    command = [sys.executable, "-c", _CHILD, *modules]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode:
        lines = done.stderr.strip().splitlines() or [f"a child ended with {done.returncode}"]
        raise DataError(f"{', '.join(modules)}: {lines[-1]}")
    figures: dict[str, float] = json.loads(done.stdout)
    return figures


def _cost(modules: Sequence[str], baseline_mb: float) -> tuple[str, str]:
    """Median MB at import and MB kept, as cells of a table."""
    if not all(_is_installed(module) for module in modules):
        return "not installed", ""
    runs = [_child(modules) for _ in range(REPEATS)]
    at_import = statistics.median(run["at_import"] for run in runs)
    kept = statistics.median(run["released"] for run in runs) - baseline_mb
    return f"{at_import:.1f}", f"{max(0.0, kept):.1f}"


def _is_installed(module: str) -> bool:
    top = module.split(".")[0]
    return importlib.util.find_spec(top) is not None


def measure_imports(parts: Sequence[tuple[str, tuple[str, ...]]]) -> str:
    """A table of what each part's libraries cost. Raises DataError."""
    baseline_mb = statistics.median(_child([])["released"] for _ in range(REPEATS))
    rows = []
    for part, modules in parts:
        at_import, kept = _cost(modules, baseline_mb)
        rows.append((part, ", ".join(modules), at_import, kept))
    head = ("part", "does without", "MB at import", "MB kept")
    return markdown.table(head, rows, "llrr")


def measure_clip() -> str:
    """A table: milliseconds to add the camera's 640x480 JPEG to a clip."""
    from edge_runtime.commands.builtin_frame import builtin_jpeg
    from edge_runtime.sinks.triggers.avi import AviWriter
    from edge_runtime.system.opencv import cv2

    jpeg = builtin_jpeg()
    data = jpeg.tobytes()
    with tempfile.TemporaryDirectory() as folder:
        video = cv2.VideoWriter(
            str(Path(folder) / "opencv.avi"), cv2.VideoWriter.fourcc(*"MJPG"), 30, (640, 480)
        )
        with (Path(folder) / "own.avi").open("w+b") as file:
            clip = AviWriter(file)
            own_ms = _median_ms(lambda: clip.add(data, time.monotonic()))
        opencv_ms = _median_ms(lambda: video.write(cv2.imdecode(jpeg, cv2.IMREAD_COLOR)))
        video.release()
    rows = [
        ("cv2.VideoWriter, which takes pixels", f"{opencv_ms:.2f}"),
        ("sinks/triggers/avi.py, which takes the JPEG", f"{own_ms:.2f}"),
    ]
    return markdown.table(("a frame of a clip", "ms"), rows, "lr")


def _median_ms(call: Callable[[], object], rounds: int = 100) -> float:
    times = []
    for _ in range(rounds):
        start = time.perf_counter()
        call()
        times.append((time.perf_counter() - start) * 1e3)
    return statistics.median(times)


def main(argv: list[str] | None = None) -> int:
    """Print the tables; returns the exit code."""
    parser = verb_parser("tools.measure.imports", __doc__, whole=True)
    parser.add_argument("modules", nargs="*", metavar="MODULE", help="measure these instead")

    def work(modules: list[str]) -> str:
        if modules:
            return measure_imports([("", (module,)) for module in modules])
        return f"{measure_imports(PARTS)}\n\n{measure_clip()}"

    return run_verb(parser, lambda arguments: work(arguments.modules), argv)


if __name__ == "__main__":
    sys.exit(main())
