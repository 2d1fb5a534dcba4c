"""What the process and the machine are doing: memory, temperature, throttling, FPS. Read from /proc and /sys."""

from __future__ import annotations

import os
import time
from collections import deque
from dataclasses import dataclass
from pathlib import Path

MB = 1e6
_PAGE = os.sysconf("SC_PAGE_SIZE")
_THROTTLE_FLAG = Path("/sys/devices/platform/soc/soc:firmware/get_throttled")  # Raspberry Pi firmware
_THERMAL = Path("/sys/class/thermal")


@dataclass(frozen=True, slots=True)
class Vitals:
    """One reading. MB are 1e6 bytes; None where the machine does not tell."""

    rss_mb: float
    pss_mb: float | None
    temp_c: float | None
    throttled: bool | None


def read_vitals() -> Vitals:
    """Read everything once; about a millisecond, most of it PSS."""
    return Vitals(rss_mb(), pss_mb(), temperature_c(), throttled())


class VitalsSampler:
    """``read_vitals`` at most once a second: the kernel walks every page table for PSS."""

    def __init__(self, interval_s: float = 1.0) -> None:
        self._interval_s = interval_s
        self._next = 0.0
        self._last: Vitals | None = None

    def __call__(self) -> Vitals:
        now = time.monotonic()
        if self._last is None or now >= self._next:
            self._last = read_vitals()
            self._next = now + self._interval_s
        return self._last


class FpsMeter:
    """Records per second over the last ``window`` records, on the monotonic clock."""

    def __init__(self, window: int = 30) -> None:
        self._times: deque[float] = deque(maxlen=window + 1)

    def tick(self, now: float) -> float:
        """Count one record at monotonic ``now``; 0 until there are two."""
        self._times.append(now)
        span = now - self._times[0]
        return (len(self._times) - 1) / span if span > 0 else 0.0


def rss_mb() -> float:
    """Resident set size now, MB."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * _PAGE / MB


def pss_mb() -> float | None:
    """Proportional set size (shared pages divided among their users), MB; None where the kernel hides it."""
    return _kb_line(Path("/proc/self/smaps_rollup"), "Pss:")


def peak_rss_mb() -> float:
    """Highest resident set size of this process so far (VmHWM), MB."""
    return _kb_line(Path("/proc/self/status"), "VmHWM:") or rss_mb()


def _kb_line(path: Path, key: str) -> float | None:
    try:
        for line in path.read_text().splitlines():
            if line.startswith(key):
                return int(line.split()[1]) * 1024 / MB
    except OSError:
        pass
    return None


def temperature_c(thermal: Path = _THERMAL) -> float | None:
    """The hottest thermal zone, degrees Celsius."""
    readings = []
    for zone in thermal.glob("thermal_zone*/temp"):
        try:
            readings.append(int(zone.read_text()) / 1000)
        except (OSError, ValueError):
            continue
    return max(readings, default=None)


def throttled(flag: Path = _THROTTLE_FLAG) -> bool | None:
    """True while the firmware reports under-voltage, a frequency cap or throttling (bits 0 to 3)."""
    try:
        return bool(int(flag.read_text(), 16) & 0xF)
    except (OSError, ValueError):
        return None


def boot_id() -> str:
    """The kernel's id of this boot; the monotonic clock starts again with each."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return "unknown"
