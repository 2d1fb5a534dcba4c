"""What figures depend on: the processor, its governor, and the releases of the libraries."""

from __future__ import annotations

import os
import platform
from pathlib import Path
from typing import Any

import numpy as np

from edge_runtime.system.opencv import cv2
from edge_runtime.version import __version__

_GOVERNOR = Path("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")
_BOARD = Path("/proc/device-tree/model")  # "Raspberry Pi 4 Model B Rev 1.4"


def machine_facts(threads: int) -> dict[str, Any]:
    """The part of ``bench --json`` that says where it ran; ``threads`` are the encoder's."""
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
        "governor": read_fact(_GOVERNOR) or "unknown",
    }


def read_fact(path: Path) -> str:
    """The text of a file in /proc or /sys; "" where this machine has none."""
    try:
        return path.read_text().strip()
    except OSError:
        return ""


def cpu_line(*keys: str) -> str:
    """The value of the first line of /proc/cpuinfo that begins with one of ``keys``, or ""."""
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith(keys):
            return line.split(":", 1)[1].strip()
    return ""


def _cpu_name() -> str:
    board = read_fact(_BOARD).rstrip("\0")  # the device tree ends its strings with a zero byte
    return board or cpu_line("model name", "Model") or platform.processor() or "unknown CPU"
