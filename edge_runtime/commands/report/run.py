"""A run read back from its JSON lines, as columns that can be drawn.

Time runs along the monotonic clock, so a wall clock that jumps bends nothing. A restart leaves a
gap of a fixed length. Nothing here draws or writes.
"""

from __future__ import annotations

import json
import math
from array import array
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_runtime.errors import DataError
from edge_runtime.records import SCHEMA

# No machine measures more than this, in milliseconds, megabytes or seconds since it started. A
# damaged line may claim it, and would stretch the axes until nothing else can be seen.
MOST = 1e12

# How wide a restart is drawn. Only the wall clock knows how long it really was.
GAP_S = 1.0

_COLUMNS = ("total", "encode", "fps", "rss", "temp")
_SHOWN_TEXTS = ("time", "camera", "modality", "bundle")


@dataclass(slots=True)
class Span:
    """One time that a label was on, in chart seconds.

    ``peak`` is the highest score, 0 to 1; ``time`` is the wall clock at the start, ISO 8601.
    """

    label: str
    start_s: float
    end_s: float
    peak: float
    time: str
    seqs: tuple[int, int]
    boot_id: str


def _float32_columns() -> dict[str, array[float]]:
    return {name: array("f") for name in _COLUMNS}


@dataclass(slots=True)
class Run:
    """Records as columns.

    ``t`` holds seconds since the first record, float64; the other columns are float32, NaN where a
    record has no value. ``states`` holds (start, end, state) in seconds.
    """

    t: array[float] = field(default_factory=lambda: array("d"))
    values: dict[str, array[float]] = field(default_factory=_float32_columns)
    drops: array[float] = field(default_factory=lambda: array("f"))
    states: list[tuple[float, float, str]] = field(default_factory=list)
    spans: list[Span] = field(default_factory=list)
    restarts: list[float] = field(default_factory=list)
    first: dict[str, Any] = field(default_factory=dict)
    last: dict[str, Any] = field(default_factory=dict)
    unreadable: int = 0

    def column(self, name: str) -> NDArray[np.float32]:
        """One column, float32 (records,)."""
        return np.asarray(self.values[name], np.float32)

    @property
    def duration_s(self) -> float:
        """From the first record to the last, every restart as a gap of ``GAP_S``."""
        return self.t[-1] if self.t else 0.0


def read_run(lines: Iterable[str], where: str) -> Run:
    """Read JSON lines. ``where`` names them in errors.

    A line that is no record is counted and skipped: a killed run may end in half a line. Raises
    DataError when there is no record at all.
    """
    reader = _Reader()

    for line in lines:
        try:
            record = json.loads(line)
            if record["schema"] != SCHEMA:
                raise ValueError("another schema")
            reader.add(record)
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError, OverflowError):
            reader.run.unreadable += bool(line.strip())

    reader.end()
    if not reader.run.t:
        raise DataError(
            f"{where}: holds no record of edge-label", "give a file that --output wrote"
        )
    return reader.run


@dataclass(frozen=True, slots=True)
class _Row:
    """What the report uses of one record, checked."""

    boot_id: str
    mono_s: float
    seq: int
    dropped: int
    state: str
    time: str
    numbers: list[float]
    scores_on: dict[str, float]

    @classmethod
    def of(cls, record: dict[str, Any]) -> _Row:
        """Raises ValueError, KeyError, TypeError or OverflowError for what is not a record."""
        for name in _SHOWN_TEXTS:
            if not isinstance(record[name], str):
                raise TypeError(f"{name} is not a text")

        ms = record["ms"]
        values = (ms["total"], ms["encode"], record["fps"], record["rss_mb"], record["temp_c"])
        labels_on = [label for label in record["labels"] if label["on"]]
        return cls(
            boot_id=str(record["boot_id"]),
            mono_s=_number(record["mono_s"]),
            seq=int(_number(record["seq"])),
            dropped=int(_number(record["dropped"])),
            state=str(record["state"]),
            time=record["time"],
            numbers=[math.nan if value is None else _number(value) for value in values],
            scores_on={str(label["name"]): _score(label["score"]) for label in labels_on},
        )


def _number(value: Any) -> float:
    """A number that a record can hold. Raises ValueError for NaN, infinity and absurd sizes."""
    number = float(value)
    if not abs(number) <= MOST:
        raise ValueError("no such number")
    return number


def _score(value: Any) -> float:
    return min(max(_number(value), 0.0), 1.0)


class _Reader:
    """Adds records to a Run, one by one."""

    def __init__(self) -> None:
        self.run = Run()
        self._on: dict[str, Span] = {}
        self._offset_s = 0.0
        self._boot_id = ""
        self._mono_s = 0.0

    def add(self, record: dict[str, Any]) -> None:
        """Add one record. Raises what ``_Row.of`` raises; the run is then unchanged."""
        row = _Row.of(record)
        run = self.run

        restarted = self._restarted(row)
        if restarted:
            self._start_anew(row)
            new_drops = 0
        else:
            new_drops = max(0, row.dropped - run.last["dropped"])

        t = row.mono_s + self._offset_s
        run.t.append(t)
        run.drops.append(new_drops)
        for name, number in zip(_COLUMNS, row.numbers, strict=True):
            run.values[name].append(number)
        self._add_state(t, row.state, restarted)
        self._switch_labels(t, row)

        self._boot_id = row.boot_id
        self._mono_s = row.mono_s
        run.first = run.first or record
        run.last = {**record, "seq": row.seq, "dropped": row.dropped}

    def end(self) -> None:
        """Close the spans that are still open, and sort all by their start."""
        self._close_spans()
        self.run.spans.sort(key=lambda span: span.start_s)

    def _restarted(self, row: _Row) -> bool:
        """Whether the record belongs to another process than the one before it."""
        if not self.run.t:
            return True
        other_boot = row.boot_id != self._boot_id
        return other_boot or row.mono_s < self._mono_s or row.seq <= self.run.last["seq"]

    def _start_anew(self, row: _Row) -> None:
        """Let the new process's clock continue where the chart ends."""
        run = self.run
        if not run.t:
            self._offset_s = -row.mono_s
            return

        self._close_spans()
        run.restarts.append(run.t[-1] + GAP_S / 2)
        self._offset_s = run.t[-1] + GAP_S - row.mono_s

    def _add_state(self, t: float, state: str, restarted: bool) -> None:
        """Extend the last state to ``t``, and begin a new one where it changed."""
        states = self.run.states
        if states and not restarted:
            start, _, last_state = states[-1]
            states[-1] = (start, t, last_state)
            if last_state == state:
                return
        states.append((t, t, state))

    def _switch_labels(self, t: float, row: _Row) -> None:
        """End the spans of labels that went off, and begin or extend those that are on."""
        for name in [name for name in self._on if name not in row.scores_on]:
            span = self._on.pop(name)
            span.end_s = t
            self.run.spans.append(span)

        for name, score in row.scores_on.items():
            span = self._on.setdefault(
                name, Span(name, t, t, score, row.time, (row.seq, row.seq), row.boot_id)
            )
            span.end_s = t
            span.peak = max(span.peak, score)
            span.seqs = (span.seqs[0], row.seq)

    def _close_spans(self) -> None:
        self.run.spans.extend(self._on.values())
        self._on.clear()
