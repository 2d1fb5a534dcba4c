"""What the process and the machine are doing: memory, temperature, throttling, FPS. Read from /proc and /sys."""

from __future__ import annotations

import ctypes
import os
import resource
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

MB = 1e6
_PAGE = os.sysconf("SC_PAGE_SIZE")
_MADV_DONTNEED, _MADV_DONTDUMP = 4, 16  # linux/mman.h
_PIECE = 512 * 1024  # bytes of a library that one page fault may map; whole pages
_THROTTLE_FLAG = Path(
    "/sys/devices/platform/soc/soc:firmware/get_throttled"
)  # Raspberry Pi firmware
THERMAL_ZONES = Path("/sys/class/thermal")
_TIMESYNC = Path("/run/systemd/timesync")
_RELEASED = 1_767_225_600  # 2026-01-01 UTC: no clock that is right says less


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
    """Read everything once; about a millisecond, most of it PSS."""
    return Vitals(rss_mb(), pss_mb(), temperature_c(thermal), throttled(), clock_unsynced())


class VitalsSampler:
    """``read_vitals`` at most once a second: the kernel walks every page table for PSS."""

    def __init__(self, interval_s: float = 1.0, thermal: Path = THERMAL_ZONES) -> None:
        self._interval_s = interval_s
        self._thermal = thermal
        self._next = 0.0
        self._last: Vitals | None = None

    def __call__(self) -> Vitals:
        now = time.monotonic()
        if self._last is None or now >= self._next:
            try:
                self._last = read_vitals(self._thermal)
            except OSError:  # no descriptor left, say: the frame does not wait for a thermometer
                self._last = self._last or Vitals(
                    peak_rss_mb(), None, None, None, clock_unsynced=False
                )
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
    known = _kb_line(Path("/proc/self/status"), "VmHWM:")
    return known or resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / MB


def anonymous_rss_mb() -> float | None:
    """The part of RSS that is this process's own (RssAnon). The rest maps files, which the kernel can drop at any time,
    and how much of a file it maps at once depends on the size of folios in its page cache."""
    return _kb_line(Path("/proc/self/status"), "RssAnon:")


def release_memory() -> None:
    """Give back what start-up needed and frames do not: freed heap, and pages of libraries that were used once.

    What is needed again is mapped again, from the page cache: nothing is read twice. From large folios of that cache
    Linux 6.18 maps up to 2 MB at one touch, but never beyond the end of a mapping: so these are cut into pieces, by a
    flag that every second piece gets and that means nothing here. Figures: docs/decisions/014.
    """
    libc = ctypes.CDLL(None)

    def advise(start: int, end: int, advice: int) -> None:
        libc.madvise(ctypes.c_void_p(start), ctypes.c_size_t(end - start), advice)

    try:
        libc.malloc_trim(0)
    except AttributeError:  # a C library that is not glibc
        pass
    try:
        for start, end in _clean_file_mappings():
            advise(start, end, _MADV_DONTNEED)
            for piece in range(
                start + _PIECE, end, 2 * _PIECE
            ):  # not the first: a core dump wants the ELF header
                advise(piece, min(piece + _PIECE, end), _MADV_DONTDUMP)
    except (
        OSError,
        ValueError,
    ):  # a kernel that does not tell what is mapped, or tells it in other words
        pass


def _clean_file_mappings(smaps: Path = Path("/proc/self/smaps")) -> list[tuple[int, int]]:
    """Address ranges of private, read-only file mappings without one page of this process's own, swapped out or not.

    Relocated data looks read-only too, but its pages are ours: they exist nowhere else.
    """
    found = []
    span, zeros = (0, 0), 0
    with smaps.open() as lines:
        for line in lines:
            key, value, *rest = line.split()
            if not key.endswith(":"):
                permissions, inode = value, rest[2]
                zeros = 0 if permissions in ("r-xp", "r--p") and inode != "0" else -2
                start, end = key.split("-")
                span = int(start, 16), int(end, 16)
            elif key in ("Anonymous:", "Swap:") and value == "0":
                zeros += 1
                if zeros == 2:
                    found.append(span)
    return found


def _kb_line(path: Path, key: str) -> float | None:
    try:
        for line in path.read_text().splitlines():
            if line.startswith(key):
                return int(line.split()[1]) * 1024 / MB
    except OSError:
        pass
    return None


def temperature_c(thermal: Path = THERMAL_ZONES) -> float | None:
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
    flags = throttle_flags(flag)
    return None if flags is None else bool(flags & 0xF)


def throttle_flags(flag: Path = _THROTTLE_FLAG) -> int | None:
    """The firmware's word: bits 0 to 3 now, 16 to 19 since boot; None where there is none."""
    try:
        return int(flag.read_text(), 16)
    except (OSError, ValueError):
        return None


def clock_unsynced(timesync: Path = _TIMESYNC, now: Callable[[], float] = time.time) -> bool:
    """True while the wall clock is certainly not to be trusted.

    A computer without a battery clock boots in 1970 or at its last shutdown; systemd-timesyncd says when it has
    heard the time. Under another time service only a date before this release gives an unset clock away.
    """
    return now() < _RELEASED or (timesync.is_dir() and not (timesync / "synchronized").exists())


class ThermalGovernor:
    """Labels fewer frames while the CPU is hot: every 2nd, 4th, then 8th, one step each ``STEP_S``, and back again.

    Half a fan's worth of heat is better shed by choice, evenly, than by the firmware's throttling.
    """

    STEP_S = 10.0
    COOLER_C = 5.0  # how far below the limit before a step is taken back
    MOST = 8

    def __init__(self, limit_c: float | None) -> None:
        self._limit_c = limit_c
        self._next = 0.0
        self._factor = 1

    def __call__(self, temp_c: float | None, now: float) -> int:
        """One of how many camera frames to label, given the temperature at monotonic ``now``."""
        if self._limit_c is None or temp_c is None:
            self._factor = 1
        elif now >= self._next:
            before = self._factor
            if temp_c >= self._limit_c:
                self._factor = min(self.MOST, 2 * self._factor)
            elif temp_c < self._limit_c - self.COOLER_C:
                self._factor = max(1, self._factor // 2)
            if self._factor != before:
                self._next = now + self.STEP_S
        return self._factor


def boot_id() -> str:
    """The kernel's id of this boot; the monotonic clock starts again with each."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return "unknown"
