"""The numbers a report shows: averages, buckets over time, steps of an axis, readable times.

Everything here is computed from a ``Run``; nothing is drawn.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_runtime.commands.report.run import GAP_S, Run

MAX_LABELS = 20
MAX_TICKS = 10

_MINUTE = 60
_HOUR = 3600
_DAY = 86400
_TICK_STEPS_S = (
    *(0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 30),
    *(minutes * _MINUTE for minutes in (1, 2, 5, 10, 20, 30)),
    *(hours * _HOUR for hours in (1, 2, 4, 6, 12)),
)


def mean_fps(run: Run) -> float:
    """Records a second, the gaps of restarts left out."""
    busy_s = run.duration_s - GAP_S * len(run.restarts)
    intervals = len(run.t) - 1 - len(run.restarts)
    return intervals / busy_s if busy_s > 0 else 0.0


def longest_on(run: Run) -> list[str]:
    """The labels that were on longest, at most ``MAX_LABELS``, longest first."""
    on_s: dict[str, float] = {}
    for span in run.spans:
        on_s[span.label] = on_s.get(span.label, 0.0) + span.end_s - span.start_s
    return sorted(on_s, key=lambda name: (-on_s[name], name))[:MAX_LABELS]


def buckets(run: Run, values: NDArray[Any], most: int) -> list[NDArray[Any]]:
    """``values``, one a record, in at most ``most`` buckets of equal time; one may be empty."""
    count = max(1, min(most, len(run.t) // 3))
    inner_edges_s = np.linspace(0, max(run.duration_s, 1e-9), count + 1)[1:-1]
    return np.split(values, np.searchsorted(np.asarray(run.t), inner_edges_s))


def medians(parts: list[NDArray[Any]]) -> list[float]:
    """The median of each bucket; NaN where it holds no number."""
    return [float(np.nanmedian(part)) if _has_number(part) else math.nan for part in parts]


def percentiles(parts: list[NDArray[Any]], percent: float) -> list[float]:
    """A percentile of each bucket; NaN where it holds no number."""
    return [
        float(np.nanpercentile(part, percent)) if _has_number(part) else math.nan for part in parts
    ]


def _has_number(part: NDArray[Any]) -> bool:
    """NumPy warns where a bucket is empty or all NaN."""
    return bool(np.isfinite(part).any())


def axis_top(value: float) -> float:
    """The next 1, 2, 2.5 or 5 times a power of ten."""
    if value <= 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(value))
    return next((step * power for step in (1, 2, 2.5, 5) if step * power >= value), 10 * power)


def ticks(duration_s: float) -> Iterator[tuple[float, str]]:
    """(seconds, text) of at most ``MAX_TICKS`` + 1 marks of the time axis, at round times."""
    whole_days = math.ceil(duration_s / _DAY / MAX_TICKS)
    fitting = (step for step in _TICK_STEPS_S if duration_s / step <= MAX_TICKS)
    step = next(fitting, float(_DAY * whole_days))

    for i in range(int(duration_s / step) + 1):
        yield i * step, clock(i * step)


def clock(seconds: float) -> str:
    """Seconds as a person writes them: 5 s, 2:30 min, 3:05:00 h."""
    if seconds < _MINUTE:
        return f"{seconds:g} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes}:{rest:02d} min"
    return f"{minutes // 60}:{minutes % 60:02d}:{rest:02d} h"
