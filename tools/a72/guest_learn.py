"""Traced or watched program: `edge-label labels learn`, cut into its steps. Runs in the userland.

    guest_learn.py trace|memory LABEL_SET PICTURES BUNDLE

`trace` cuts the trace after the program has loaded, after the pictures are encoded, after the
groups are taught, and at the end. `memory` reads the guest's resident memory several times a second
and prints the highest reading as JSON.
"""

import json
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

# Only Python's own program puts the folder of a script on the path; both are folders of tools/.
sys.path.append(str(Path(__file__).parents[1] / "arm64"))

from guest import mark
from guest_memory import guest_rss_mb

from edge_runtime.commands import learn as command
from edge_runtime.system import memory

START, LOAD, ENCODE, TEACH, WRITE = range(5)
EVERY_S = 0.1


def before(step: Callable[..., Any], label: int) -> Callable[..., Any]:
    """`step`, with a cut before it."""

    def marked(*arguments: Any) -> Any:
        mark(label)
        return step(*arguments)

    return marked


def watch(peak: dict[str, float], stop: threading.Event) -> None:
    """Keep the highest reading in `peak`."""
    while not stop.wait(EVERY_S):
        reading = guest_rss_mb()
        if reading["total"] > peak["total"]:
            peak.update(reading)


def main() -> None:
    mode, label_set, pictures, bundle = sys.argv[1:]
    from edge_runtime.config import ModelConfig

    # As in guest_memory.py: what the runtime unmaps would never count again under qemu.
    memory._MADV_DONTNEED = 0
    if mode == "trace":
        mark(START)
        command._encode = before(command._encode, LOAD)
        command.GroupLesson = before(command.GroupLesson, ENCODE)  # type: ignore[misc]
        command._write = before(command._write, TEACH)

    peak = {"total": 0.0}
    stop = threading.Event()
    watcher = threading.Thread(target=watch, args=(peak, stop))
    if mode == "memory":
        watcher.start()
    try:
        text = command.learn(label_set, pictures, ModelConfig(bundle=bundle, threads=1))
    finally:
        stop.set()
    if mode == "trace":
        mark(WRITE)
    else:
        watcher.join()
    print(json.dumps({"peak": peak, "text": text}))


main()
