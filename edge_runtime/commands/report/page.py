"""A picture of a run: ``edge-label report RUN.jsonl`` reads records back and draws them, without a plotting library.

Reading (``Run``), drawing (``chart`` on a ``Canvas``, which becomes SVG or PNG) and the HTML page around it. Time runs
along the monotonic clock, so a wall clock that jumps bends nothing; a restart is a gap with a line.
"""

from __future__ import annotations

import base64
import html
import json
import math
import os
from array import array
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_runtime.errors import DataError, NoInputError
from edge_runtime.records import SCHEMA
from edge_runtime.secrecy import shown
from edge_runtime.system.files import is_special, read_capped, write_atomically

WIDTH, LEFT, RIGHT = 1000, 150, 70
COLUMNS = WIDTH - LEFT - RIGHT
MAX_LABELS = 20
MAX_EVENTS = 200
MAX_THUMBNAILS = 60
MOST = 1e12  # of anything: milliseconds, bytes, seconds since the machine started
MAX_TICKS = 10
MAX_LINE = 1 << 20  # characters; a record is about a thousand
GAP_S = 1.0  # drawn between two runs in one file: how long it really was, only the wall clock knows

_COLUMNS = ("total", "encode", "fps", "rss", "temp")


@dataclass(slots=True)
class Span:
    """One time a label was on, in chart seconds; ``peak`` is its highest score, ``time`` the wall clock's start."""

    label: str
    start_s: float
    end_s: float
    peak: float
    time: str
    seqs: tuple[int, int]
    boot_id: str


@dataclass(slots=True)
class Run:
    """Records read back, as columns. ``t`` are seconds since the first, float64; the others float32, NaN if unknown."""

    t: array[float] = field(default_factory=lambda: array("d"))
    values: dict[str, array[float]] = field(
        default_factory=lambda: {name: array("f") for name in _COLUMNS}
    )
    drops: array[float] = field(default_factory=lambda: array("f"))
    states: list[tuple[float, float, str]] = field(default_factory=list)
    spans: list[Span] = field(default_factory=list)
    restarts: list[float] = field(default_factory=list)
    first: dict[str, Any] = field(default_factory=dict)
    last: dict[str, Any] = field(default_factory=dict)
    unreadable: int = 0

    def column(self, name: str) -> NDArray[np.float32]:
        """One column as an array."""
        return np.asarray(self.values[name], np.float32)

    @property
    def duration_s(self) -> float:
        """From the first record to the last, gaps left out."""
        return self.t[-1] if self.t else 0.0


def read_run(lines: Iterable[str], where: str) -> Run:
    """Read JSON lines. A line that is no record (the torn last one of a killed run) is counted and passed over.

    Raises DataError when there is no record at all.
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
            f"{where}: no record of edge-label in it", "give a file that --output wrote"
        )
    return reader.run


def _number(value: Any) -> float:
    """A number that a record can hold. Raises ValueError for NaN, infinity, and what no machine measures."""
    number = float(value)
    if not abs(number) <= MOST:
        raise ValueError("no such number")
    return number


class _Reader:
    """Feeds a Run, record by record."""

    def __init__(self) -> None:
        self.run = Run()
        self._on: dict[str, Span] = {}
        self._offset = 0.0
        self._boot = ""
        self._mono = 0.0

    def add(self, record: dict[str, Any]) -> None:
        run = self.run
        boot, mono = str(record["boot_id"]), _number(record["mono_s"])
        ms = record["ms"]
        row = (ms["total"], ms["encode"], record["fps"], record["rss_mb"], record["temp_c"])
        numbers = [math.nan if value is None else _number(value) for value in row]
        labels = [
            (str(s["name"]), min(max(_number(s["score"]), 0.0), 1.0))
            for s in record["labels"]
            if s["on"]
        ]
        state, seq, dropped = (
            str(record["state"]),
            int(_number(record["seq"])),
            int(_number(record["dropped"])),
        )
        for name in ("time", "camera", "modality", "bundle"):  # the page shows them
            if not isinstance(record[name], str):
                raise TypeError(f"{name} is no text")
        restarted = not run.t or boot != self._boot or mono < self._mono or seq <= run.last["seq"]
        if restarted:
            if run.t:
                self._close_spans()
                run.restarts.append(run.t[-1] + GAP_S / 2)
            self._offset = (run.t[-1] + GAP_S if run.t else 0.0) - mono
        # From here on nothing raises, so a bad line never leaves half a row.
        t = mono + self._offset
        run.drops.append(0 if restarted else max(0, dropped - run.last["dropped"]))
        self._boot, self._mono = boot, mono
        run.first = run.first or record
        run.last = {**record, "seq": seq, "dropped": dropped}
        run.t.append(t)
        for name, number in zip(_COLUMNS, numbers, strict=True):
            run.values[name].append(number)
        if run.states and not restarted and run.states[-1][2] == state:
            run.states[-1] = (run.states[-1][0], t, state)
        else:
            if run.states and not restarted:
                start, _, old = run.states[-1]
                run.states[-1] = (start, t, old)
            run.states.append((t, t, state))
        self._switch(t, labels, record, seq)

    def _switch(
        self, t: float, labels: list[tuple[str, float]], record: dict[str, Any], seq: int
    ) -> None:
        now = dict(labels)
        for name in [name for name in self._on if name not in now]:
            span = self._on.pop(name)
            span.end_s = t
            self.run.spans.append(span)
        for name, score in labels:
            span = self._on.get(name)  # type: ignore[assignment]
            if span is None:
                span = self._on[name] = Span(
                    name, t, t, score, str(record["time"]), (seq, seq), self._boot
                )
            span.end_s, span.peak, span.seqs = t, max(span.peak, score), (span.seqs[0], seq)

    def _close_spans(self) -> None:
        self.run.spans.extend(self._on.values())
        self._on.clear()

    def end(self) -> None:
        """Close what is on."""
        self._close_spans()
        self.run.spans.sort(key=lambda span: span.start_s)


# ---- drawing ------------------------------------------------------------------------------------------------------

_INK = {  # role -> (light, dark); PNG uses the light ones
    "page": ("#ffffff", "#14171b"),
    "text": ("#1b1f24", "#e9ecef"),
    "quiet": ("#57606a", "#a5adb8"),
    "grid": ("#d5d9de", "#333a43"),
    "on": ("#0a6b4b", "#3ecf98"),
    "main": ("#0b5cad", "#7ab8ff"),
    "soft": ("#a9c8ea", "#2c4a6e"),
    "warn": ("#b3541e", "#ffb27a"),
}


class Canvas:
    """Collects rectangles, lines and texts; roles instead of colours, so that one drawing serves light and dark."""

    def __init__(self, width: int, height: int) -> None:
        self.width, self.height = width, height
        self._items: list[tuple[Any, ...]] = []

    def rect(
        self,
        x: float,
        y: float,
        w: float,
        h: float,
        ink: str,
        opacity: float = 1.0,
        title: str = "",
    ) -> None:
        """A filled rectangle; at least half a pixel wide, so that nothing short disappears."""
        self._items.append(("rect", x, y, max(w, 0.5), h, ink, opacity, title))

    def line(self, points: list[tuple[float, float]], ink: str) -> None:
        """A polyline."""
        if len(points) > 1:
            self._items.append(("line", points, ink))

    def text(
        self,
        x: float,
        y: float,
        text: str,
        ink: str = "text",
        size: int = 12,
        anchor: str = "start",
    ) -> None:
        """One line of text; ``y`` is its baseline, ``anchor`` start, middle or end."""
        self._items.append(("text", x, y, text, ink, size, anchor))

    def to_svg(self, description: str) -> str:
        """An <svg> element with CSS classes for the roles."""
        parts = [
            f'<svg viewBox="0 0 {self.width} {self.height}" role="img" aria-label="{html.escape(description)}" '
            'xmlns="http://www.w3.org/2000/svg">'
        ]
        for kind, *rest in self._items:
            if kind == "rect":
                x, y, w, h, ink, opacity, title = rest
                inner = f"<title>{html.escape(title)}</title>" if title else ""
                fade = f' fill-opacity="{opacity:.2f}"' if opacity < 1 else ""
                box = f'x="{x:.1f}" y="{y:.1f}" width="{w:.1f}" height="{h:.1f}"'
                parts.append(f'<rect class="f-{ink}" {box}{fade}>{inner}</rect>')
            elif kind == "line":
                points, ink = rest
                path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
                parts.append(f'<polyline class="s-{ink}" points="{path}"/>')
            else:
                x, y, text, ink, size, anchor = rest
                place = f'x="{x:.1f}" y="{y:.1f}" font-size="{size}" text-anchor="{anchor}"'
                parts.append(f'<text class="f-{ink}" {place}>{html.escape(text)}</text>')
        return "\n".join([*parts, "</svg>"])

    def to_png(self, scale: int = 2) -> bytes:
        """PNG bytes, drawn by OpenCV. Its fonts are ASCII only; other letters become question marks."""
        from edge_runtime.system.opencv import cv2

        picture = np.empty((self.height * scale, self.width * scale, 3), np.uint8)
        picture[:] = _bgr("page")

        def at(x: float, y: float) -> tuple[int, int]:
            return round(x * scale), round(y * scale)

        for kind, *rest in self._items:
            if kind == "rect":
                x, y, w, h, ink, opacity, _ = rest
                (left, top), (right, bottom) = at(x, y), at(x + w, y + h)
                area = picture[top:bottom, left : max(right, left + 1)]
                area[:] = (opacity * np.array(_bgr(ink)) + (1 - opacity) * area).astype(np.uint8)
            elif kind == "line":
                points, ink = rest
                cv2.polylines(
                    picture,
                    [np.array([at(*p) for p in points])],
                    False,
                    _bgr(ink),
                    scale,
                    cv2.LINE_AA,
                )
            else:
                x, y, text, ink, size, anchor = rest
                plain = text.encode("ascii", "replace").decode()
                font, font_scale = cv2.FONT_HERSHEY_SIMPLEX, size * scale / 30
                width = cv2.getTextSize(plain, font, font_scale, scale // 2 or 1)[0][0]
                left = round(x * scale) - {"start": 0, "middle": width // 2, "end": width}[anchor]
                cv2.putText(
                    picture,
                    plain,
                    (left, round(y * scale)),
                    font,
                    font_scale,
                    _bgr(ink),
                    scale // 2 or 1,
                    cv2.LINE_AA,
                )
        return bytes(cv2.imencode(".png", picture)[1])


def _bgr(ink: str) -> tuple[int, int, int]:
    red, green, blue = bytes.fromhex(_INK[ink][0][1:])
    return blue, green, red


def chart(run: Run) -> Canvas:
    """All lanes below each other, over one time axis."""
    lanes = _lanes(run)
    canvas = Canvas(WIDTH, 24 + sum(height + 26 for height, _ in lanes) + 30)
    scale = COLUMNS / max(run.duration_s, 1e-9)

    def x(t: float) -> float:
        return LEFT + t * scale

    y = 24.0
    for height, draw in lanes:
        draw(canvas, y, x)
        y += height + 26
    shown = -math.inf
    for t in run.restarts:
        if x(t) - shown >= 1:  # more of them than the chart has pixels say no more
            shown = x(t)
            canvas.line([(shown, 16), (shown, y - 20)], "warn")
            canvas.text(shown, 12, "restart", "warn", 10, "middle")
    for t, label in _ticks(run.duration_s):
        canvas.line([(x(t), y - 18), (x(t), y - 13)], "quiet")
        canvas.text(x(t), y, label, "quiet", 11, "middle")
    return canvas


Draw = Callable[[Canvas, float, Callable[[float], float]], None]


def _lanes(run: Run) -> list[tuple[int, Draw]]:
    names = _longest_on(run)
    lanes: list[tuple[int, Draw]] = []
    if names:
        lanes.append((16 * len(names), lambda canvas, y, x: _draw_labels(canvas, y, x, run, names)))
    lanes.append((12, lambda canvas, y, x: _draw_states(canvas, y, x, run)))
    lanes.append((90, _curve_lane(run, "Latency, ms", "total", "main", spread=True)))
    lanes.append((60, _curve_lane(run, "FPS", "fps", "on")))
    lanes.append((60, _curve_lane(run, "Memory, MB", "rss", "main")))
    if np.isfinite(run.column("temp")).any():
        lanes.append((60, _curve_lane(run, "Temperature, °C", "temp", "warn")))
    if any(run.drops):
        lanes.append((40, lambda canvas, y, x: _draw_drops(canvas, y, x, run)))
    return lanes


def _longest_on(run: Run) -> list[str]:
    on_s: dict[str, float] = {}
    for span in run.spans:
        on_s[span.label] = on_s.get(span.label, 0.0) + span.end_s - span.start_s
    return sorted(on_s, key=lambda name: (-on_s[name], name))[:MAX_LABELS]


def _draw_labels(
    canvas: Canvas, y: float, x: Callable[[float], float], run: Run, names: list[str]
) -> None:
    canvas.text(LEFT, y - 6, "Labels on (darker: higher score)", "quiet", 11)
    rows = {name: y + 16 * i for i, name in enumerate(names)}
    for name, top in rows.items():
        canvas.text(LEFT - 8, top + 11, _shortened(name, 22), anchor="end")
        canvas.line([(LEFT, top + 15.5), (WIDTH - RIGHT, top + 15.5)], "grid")
    for span in run.spans:
        if span.label in rows:
            length_s = span.end_s - span.start_s
            title = (
                f"{span.label}: {length_s:.1f} s from {span.time}, at most {100 * span.peak:.0f} %"
            )
            shade = 0.35 + 0.65 * span.peak
            canvas.rect(
                x(span.start_s), rows[span.label] + 2, x(length_s) - x(0), 11, "on", shade, title
            )


def _draw_states(canvas: Canvas, y: float, x: Callable[[float], float], run: Run) -> None:
    canvas.text(LEFT, y - 6, "State (green ok, grey unknown, orange anything else)", "quiet", 11)
    canvas.text(LEFT - 8, y + 10, "State", anchor="end")
    for start, end, state in run.states:
        ink = {"ok": "on", "unknown": "grid"}.get(state, "warn")
        canvas.rect(x(start), y, x(end) - x(start), 12, ink, title=f"{state}: {end - start:.1f} s")


def _draw_drops(canvas: Canvas, y: float, x: Callable[[float], float], run: Run) -> None:
    counts = [float(np.sum(values)) for values in _buckets(run, np.asarray(run.drops))]
    top = max(counts)
    canvas.text(LEFT - 8, y + 14, "Frames dropped", anchor="end")
    canvas.text(WIDTH - RIGHT + 6, y + 10, f"{top:.0f}", "quiet", 11)
    for i, count in enumerate(counts):
        if count:
            height = 40 * count / top
            canvas.rect(
                LEFT + i * COLUMNS / len(counts),
                y + 40 - height,
                COLUMNS / len(counts),
                height,
                "warn",
            )
    canvas.line([(LEFT, y + 40), (WIDTH - RIGHT, y + 40)], "grid")


def _curve_lane(run: Run, title: str, name: str, ink: str, *, spread: bool = False) -> Draw:
    """A median curve over the time axis from zero; with ``spread`` the 95th percentile as a soft area behind it."""
    height = 90 if spread else 60

    def draw(canvas: Canvas, y: float, x: Callable[[float], float]) -> None:
        buckets = list(_buckets(run, run.column(name)))
        middle = [float(np.nanmedian(v)) if np.isfinite(v).any() else math.nan for v in buckets]
        high = [
            float(np.nanpercentile(v, 95)) if np.isfinite(v).any() else math.nan for v in buckets
        ]
        top = _nice(max((v for v in (high if spread else middle) if math.isfinite(v)), default=1.0))
        step = COLUMNS / len(buckets)

        def level(value: float) -> float:
            return y + height - height * min(value / top, 1.0)

        canvas.text(LEFT - 8, y + 14, title, anchor="end")
        if spread:
            canvas.text(LEFT - 8, y + 30, "line median, area p95", "quiet", 10, "end")
        for part in (0.0, 0.5, 1.0):
            canvas.line([(LEFT, level(part * top)), (WIDTH - RIGHT, level(part * top))], "grid")
            canvas.text(WIDTH - RIGHT + 6, level(part * top) + 4, f"{part * top:g}", "quiet", 11)
        if spread:
            for i, value in enumerate(high):
                if math.isfinite(value):
                    canvas.rect(
                        LEFT + i * step, level(value), step + 0.2, y + height - level(value), "soft"
                    )
        points: list[tuple[float, float]] = []
        restarts = [x(t) for t in run.restarts]
        for i, value in enumerate(middle):
            at = LEFT + (i + 0.5) * step
            if (
                restarts and at > restarts[0]
            ):  # the line ends there and begins anew; over silence it goes on
                restarts.pop(0)
                canvas.line(points, ink)
                points = []
            if math.isfinite(value):
                points.append((at, level(value)))
        canvas.line(points, ink)

    return draw


def _buckets(run: Run, values: NDArray[Any]) -> Iterator[NDArray[Any]]:
    """``values`` by time, at most one bucket for two pixels; a bucket may be empty."""
    count = max(1, min(COLUMNS // 2, len(run.t) // 3))
    t = np.asarray(run.t)
    edges = np.searchsorted(t, np.linspace(0, max(run.duration_s, 1e-9), count + 1)[1:-1])
    yield from np.split(values, edges)


def _nice(value: float) -> float:
    """The next 1, 2, 2.5 or 5 times a power of ten."""
    if value <= 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(value))
    return next((step * power for step in (1, 2, 2.5, 5) if step * power >= value), 10 * power)


def _ticks(duration_s: float) -> Iterator[tuple[float, str]]:
    steps = (
        0.1,
        0.2,
        0.5,
        1,
        2,
        5,
        10,
        20,
        30,
        60,
        120,
        300,
        600,
        1200,
        1800,
        3600,
        7200,
        14400,
        21600,
        43200,
    )
    step = next(
        (s for s in steps if duration_s / s <= MAX_TICKS),
        86400.0 * math.ceil(duration_s / 86400 / MAX_TICKS),
    )
    for i in range(int(duration_s / step) + 1):
        yield i * step, _clock(i * step)


def _clock(seconds: float) -> str:
    """Seconds as a person writes them: 5 s, 2:30 min, 3:05:00 h."""
    if seconds < 60:
        return f"{seconds:g} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes}:{rest:02d} min"
    return f"{minutes // 60}:{minutes % 60:02d}:{rest:02d} h"


def _shortened(text: str, length: int) -> str:
    return text if len(text) <= length else text[: length - 1] + "…"


# ---- the page -----------------------------------------------------------------------------------------------------

_STYLE = """\
:root { color-scheme: light dark; %(light)s }
@media (prefers-color-scheme: dark) { :root { %(dark)s } }
body { margin: 0 auto; max-width: 64rem; padding: 1rem; background: var(--page); color: var(--text);
  font: 16px/1.5 system-ui, sans-serif; }
h1 { font-size: 1.4rem; } h2 { font-size: 1.1rem; margin-top: 2rem; }
svg { width: 100%%; height: auto; font-family: system-ui, sans-serif; }
polyline { fill: none; stroke-width: 1.2; }
%(inks)s
table { border-collapse: collapse; } th, td { text-align: left; padding: .2rem 1rem .2rem 0; vertical-align: top; }
th { color: var(--quiet); font-weight: 600; } td.n { text-align: right; font-variant-numeric: tabular-nums; }
.scroll { overflow-x: auto; }
td img { width: 160px; height: auto; display: block; }
"""


def _style() -> str:
    light, dark = ("; ".join(f"--{ink}: {pair[i]}" for ink, pair in _INK.items()) for i in (0, 1))
    inks = "\n".join(
        f".f-{ink} {{ fill: var(--{ink}); }} .s-{ink} {{ stroke: var(--{ink}); }}" for ink in _INK
    )
    return _STYLE % {"light": light, "dark": dark, "inks": inks}


def to_html(run: Run, thumbnails: dict[int, str] | None = None) -> str:
    """One self-contained page. ``thumbnails`` maps an index into ``run.spans`` to a data: URL."""
    first, last = run.first, run.last
    camera = shown(str(first["camera"]))  # records of an older version may hold a password
    title = f"{camera}, {first['time'][:19].replace('T', ' ')} UTC"
    total = run.column("total")
    facts = [
        ("Camera", f"{camera} ({first['modality']})"),
        ("Bundle", str(first["bundle"])),
        ("From, to", f"{first['time']} to {last['time']}"),
        (
            "Records",
            f"{len(run.t)} in {_clock(round(run.duration_s, 1))}, {_mean_fps(run):.1f} FPS",
        ),
        (
            "Latency",
            "median {:.1f} ms, p95 {:.1f} ms, p99 {:.1f} ms".format(
                *np.percentile(total, (50, 95, 99))
            ),
        ),
        ("Memory", f"{run.column('rss').max():.0f} MB at most"),
        ("Frames dropped", f"{int(np.sum(np.asarray(run.drops)))}"),
    ]
    if np.isfinite(run.column("temp")).any():
        facts.append(("Temperature", f"{np.nanmax(run.column('temp')):.0f} °C at most"))
    if run.restarts:
        facts.append(("Restarts", str(len(run.restarts))))
    if run.unreadable:
        facts.append(("Lines that are no records", str(run.unreadable)))
    rows = "".join(
        f"<tr><th>{name}</th><td>{html.escape(value)}</td></tr>" for name, value in facts
    )
    svg = chart(run).to_svg(
        f"Labels, states, latency, frames per second and memory over {_clock(round(run.duration_s))}"
    )
    return (
        f'<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">\n<link rel="icon" href="data:,">\n'
        f"<title>{html.escape(title)}</title>\n<style>\n{_style()}</style>\n</head>\n<body>\n"
        f"<h1>edge-label: {html.escape(title)}</h1>\n<table>{rows}</table>\n{svg}\n"
        f"<h2>Labels</h2>\n{_label_table(run)}\n<h2>Events</h2>\n{_event_table(run, thumbnails or {})}\n"
        "</body>\n</html>\n"
    )


def _mean_fps(run: Run) -> float:
    busy_s = run.duration_s - GAP_S * len(run.restarts)
    return (len(run.t) - 1 - len(run.restarts)) / busy_s if busy_s > 0 else 0.0


def _label_table(run: Run) -> str:
    names = _longest_on(run)
    if not names:
        return "<p>No label was on.</p>"
    lines = []
    for name in names:
        spans = [span for span in run.spans if span.label == name]
        on_s = sum(span.end_s - span.start_s for span in spans)
        cells = (
            f"{len(spans)}",
            _clock(round(on_s, 1)),
            f"{100 * on_s / max(run.duration_s, 1e-9):.0f} %",
            f"{max(s.peak for s in spans):.2f}",
        )
        lines.append(
            f"<tr><td>{html.escape(name)}</td>"
            + "".join(f'<td class="n">{cell}</td>' for cell in cells)
            + "</tr>"
        )
    head = "<tr><th>Label</th><th>Times on</th><th>Duration</th><th>Of the run</th><th>Highest score</th></tr>"
    return f'<div class="scroll"><table>{head}{"".join(lines)}</table></div>'


def _event_table(run: Run, thumbnails: dict[int, str]) -> str:
    chosen = _chosen_events(run, thumbnails)
    if not chosen:
        return "<p>None.</p>"
    lines = []
    for i in chosen:
        span = run.spans[i]
        picture = (
            f'<img src="{thumbnails[i]}" alt="{html.escape(span.label)}">'
            if i in thumbnails
            else ""
        )
        length = _clock(round(span.end_s - span.start_s, 1))
        lines.append(
            f"<tr><td>{html.escape(span.time)}</td><td>{html.escape(span.label)}</td>"
            f'<td class="n">{length}</td><td class="n">{span.peak:.2f}</td><td>{picture}</td></tr>'
        )
    left_out = len(run.spans) - len(chosen)
    note = (
        f"<p>The longest {len(chosen)}; {left_out} shorter ones are left out.</p>"
        if left_out
        else ""
    )
    head = "<tr><th>Time</th><th>Label on</th><th>Duration</th><th>Highest score</th><th>Picture</th></tr>"
    return f'{note}<div class="scroll"><table>{head}{"".join(lines)}</table></div>'


def _chosen_events(run: Run, thumbnails: dict[int, str]) -> list[int]:
    """Those with a picture and the longest, in order of time."""
    by_length = sorted(
        range(len(run.spans)),
        key=lambda i: (i not in thumbnails, run.spans[i].start_s - run.spans[i].end_s),
    )
    return sorted(by_length[:MAX_EVENTS])


def find_thumbnails(run: Run, spool: Path) -> dict[int, str]:
    """For spans during which the spool kept a picture or clip: its first such picture, as a data: URL.

    Raises DataError for a spool whose path is not UTF-8.
    """
    from edge_runtime.camera.replay import ffmpeg_name
    from edge_runtime.system.opencv import cv2

    found: dict[int, str] = {}
    for sidecar in sorted(spool.glob("*.json")):
        if len(found) >= MAX_THUMBNAILS:
            break
        try:
            capture = json.loads(read_capped(sidecar, MAX_LINE))
            record, media = capture["record"], sidecar.with_name(Path(capture["file"]).name)
            seq, boot = int(record["seq"]), record["boot_id"]
            on = {label["name"] for label in record["labels"] if label["on"]}
        except (OSError, ValueError, KeyError, TypeError, RecursionError, OverflowError):
            continue
        during = [
            i
            for i, span in enumerate(run.spans)
            if i not in found
            and span.label in on
            and span.boot_id == boot
            and span.seqs[0] <= seq <= span.seqs[1]
        ]
        if not during or is_special(media):
            continue
        name = ffmpeg_name(media)
        if not media.is_file():  # a pipe would be waited for
            continue
        ok, picture = cv2.VideoCapture(name, cv2.CAP_FFMPEG).read()
        if not ok:
            continue
        height = max(1, round(320 * picture.shape[0] / picture.shape[1]))
        small = cv2.resize(picture, (320, height), interpolation=cv2.INTER_AREA)
        jpeg = bytes(cv2.imencode(".jpg", small, [cv2.IMWRITE_JPEG_QUALITY, 70])[1])
        url = f"data:image/jpeg;base64,{base64.b64encode(jpeg).decode()}"
        found.update(dict.fromkeys(during, url))
    return found


def write_report(runs: list[str], output: str | None, png: str | None, spool: str | None) -> str:
    """Read the files as one run, write the page (and the picture), and say where. Raises NoInputError, DataError."""
    paths = [Path(name) for name in runs]
    for path in paths:
        if not path.is_file():
            raise NoInputError(f"{path}: no such file", "give what --output wrote")
    if spool is not None and not Path(spool).is_dir():
        raise NoInputError(f"{spool}: no such spool folder")
    run = read_run(_lines(paths), runs[0])
    target = Path(output) if output else paths[0].with_suffix(".html")
    for option, file in (("--output", target), ("--png", Path(png) if png else None)):
        if file is not None and file.exists() and any(file.samefile(path) for path in paths):
            raise DataError(f"{file}: would overwrite the run itself", f"give another {option}")
    thumbnails = find_thumbnails(run, Path(spool)) if spool else {}
    shows = [*paths, *Path(spool).iterdir()] if spool and thumbnails else paths
    write_atomically(target, to_html(run, thumbnails).encode(), at_most=_strictest_mode(shows))
    written = [str(target)]
    if png:
        write_atomically(Path(png), chart(run).to_png(), at_most=_strictest_mode(paths))
        written.append(png)
    return f"{len(run.t)} records, {_clock(round(run.duration_s, 1))}: {', '.join(written)}"


def _strictest_mode(paths: list[Path]) -> int:
    """Who may read every one of these files; captures are kept from others, and so is a page that shows them."""
    mode = 0o666
    for path in paths:
        try:
            facts = path.stat()
        except OSError:  # a capture that gave way to a newer one meanwhile
            return 0o600
        mode &= facts.st_mode | 0o600
        if facts.st_gid != os.getegid():  # the page's group is another one
            mode &= ~0o070
    return mode


def _lines(paths: list[Path]) -> Iterator[str]:
    for path in paths:
        with path.open(encoding="utf-8", errors="replace") as stream:
            while line := stream.readline(
                MAX_LINE
            ):  # a file of another kind may be one line of gigabytes
                yield line
