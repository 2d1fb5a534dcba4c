"""What the machine is doing: one reading of everything a record carries, and its parts.

Temperature, throttling and the state of the clock are read from /proc, /sys and /run, and are None
where the machine does not tell. This process's own memory is in ``memory.py``.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from edge_runtime.system.memory import peak_rss_mb, pss_mb, rss_mb

THERMAL_ZONES = Path("/sys/class/thermal")
_INTERVAL_S = 1.0  # between two readings of the vitals
_WINDOW = 30  # records that the frame rate is measured over

# The firmware of a Raspberry Pi tells here what it does about heat and weak power supplies.
_THROTTLE_FLAG = Path("/sys/devices/platform/soc/soc:firmware/get_throttled")
_THROTTLED_NOW = 0xF  # bits 0 to 3: under-voltage, frequency capped, throttled, soft limit

_TIMESYNC = Path("/run/systemd/timesync")
_RELEASED = 1_767_225_600  # 2026-01-01 UTC, before the first release: an earlier clock is not set


@dataclass(frozen=True, slots=True)
class Vitals:
    """One reading. MB are 1e6 bytes; None where the machine does not tell."""

    rss_mb: float
    pss_mb: float | None
    temp_c: float | None
    throttled: bool | None
    clock_unsynced: bool


@dataclass(slots=True)
class Counters:
    """What went wrong since start and what was done about it, as every record carries it."""

    corrupt: int = 0
    lost: int = 0
    deleted: int = 0
    slowed: int = 1


def read_vitals(thermal: Path = THERMAL_ZONES) -> Vitals:
    """Read everything once; about a millisecond, most of it PSS. Raises OSError."""
    return Vitals(rss_mb(), pss_mb(), temperature_c(thermal), throttled(), clock_unsynced())


class VitalsSampler:
    """Callable: ``read_vitals`` at most once a second: for PSS the kernel walks every page."""

    def __init__(self, thermal: Path = THERMAL_ZONES) -> None:
        self._thermal = thermal
        self._next_s = 0.0
        self._last: Vitals | None = None

    def __call__(self) -> Vitals:
        now = time.monotonic()
        if self._last is not None and now < self._next_s:
            return self._last

        try:
            self._last = read_vitals(self._thermal)
        except OSError:  # no descriptor left, for example: a frame does not wait for a thermometer
            if self._last is None:
                self._last = Vitals(peak_rss_mb(), None, None, None, clock_unsynced=False)
        self._next_s = now + _INTERVAL_S
        return self._last


class FpsMeter:
    """Records per second over the last `_WINDOW` records, on the monotonic clock."""

    def __init__(self) -> None:
        self._times: deque[float] = deque(maxlen=_WINDOW + 1)

    def tick(self, now: float) -> float:
        """Count one record at monotonic ``now``; 0 until there are two."""
        self._times.append(now)
        span_s = now - self._times[0]
        return (len(self._times) - 1) / span_s if span_s > 0 else 0.0


def temperature_c(thermal: Path = THERMAL_ZONES) -> float | None:
    """The hottest thermal zone, degrees Celsius; None where no zone can be read."""
    readings = []
    for zone in thermal.glob("thermal_zone*/temp"):
        try:
            readings.append(int(zone.read_text()) / 1000)
        except (OSError, ValueError):  # a sensor that is switched off
            continue
    return max(readings, default=None)


def throttled(flag: Path = _THROTTLE_FLAG) -> bool | None:
    """True while the firmware slows the CPU; None where there is no such firmware."""
    flags = throttle_flags(flag)
    return None if flags is None else bool(flags & _THROTTLED_NOW)


def throttle_flags(flag: Path = _THROTTLE_FLAG) -> int | None:
    """The firmware's word: bits 0 to 3 now, 16 to 19 since boot; None where there is none."""
    try:
        return int(flag.read_text(), 16)
    except (OSError, ValueError):
        return None


def clock_unsynced(timesync: Path = _TIMESYNC, now: Callable[[], float] = time.time) -> bool:
    """True while the wall clock is certainly wrong.

    A computer without a battery clock boots in 1970 or at its last shutdown; systemd-timesyncd
    tells when it has received the time. Under another time service, only a date before this release
    shows that the clock is not set.
    """
    return now() < _RELEASED or (timesync.is_dir() and not (timesync / "synchronized").exists())


def boot_id() -> str:
    """The kernel's id of this boot; the monotonic clock starts again with each."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return "unknown"
