"""The page of a run: one HTML file with facts, chart, labels and events. It loads nothing.

Every text that comes from a record is escaped here; a label may be named ``<script>``.
"""

from __future__ import annotations

import html

import numpy as np

from edge_runtime.commands.report.canvas import INK
from edge_runtime.commands.report.chart import chart
from edge_runtime.commands.report.figures import clock, longest_on, mean_fps
from edge_runtime.commands.report.run import Run
from edge_runtime.commands.report.svg import ink_css, to_svg
from edge_runtime.secrecy import shown

MAX_EVENTS = 200

_STYLE = """\
:root { color-scheme: light dark; %(light)s }
@media (prefers-color-scheme: dark) { :root { %(dark)s } }
body { margin: 0 auto; max-width: 64rem; padding: 1rem; background: var(--page); color: var(--text);
  font: 16px/1.5 system-ui, sans-serif; }
h1 { font-size: 1.4rem; } h2 { font-size: 1.1rem; margin-top: 2rem; }
svg { width: 100%%; height: auto; font-family: system-ui, sans-serif; }
polyline { fill: none; stroke-width: 1.2; }
%(inks)s
table { border-collapse: collapse; }
th, td { text-align: left; padding: .2rem 1rem .2rem 0; vertical-align: top; }
th { color: var(--quiet); font-weight: 600; }
td.n { text-align: right; font-variant-numeric: tabular-nums; }
.scroll { overflow-x: auto; }
td img { width: 160px; height: auto; display: block; }
"""

_PAGE = """\
<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<link rel="icon" href="data:,">
<title>{title}</title>
<style>
{style}</style>
</head>
<body>
<h1>edge-label: {title}</h1>
<table>{facts}</table>
{svg}
<h2>Labels</h2>
{labels}
<h2>Events</h2>
{events}
</body>
</html>
"""


def to_html(run: Run, thumbnails: dict[int, str] | None = None) -> str:
    """One self-contained page. ``thumbnails`` maps an index into ``run.spans`` to a data: URL."""
    started = run.first["time"][:19].replace("T", " ")
    title = f"{_camera(run)}, {started} UTC"
    duration = clock(round(run.duration_s))
    description = f"Labels, states, latency, frames per second and memory over {duration}"

    return _PAGE.format(
        title=html.escape(title),
        style=_style(),
        facts=_fact_rows(_facts(run)),
        svg=to_svg(chart(run), description),
        labels=_label_table(run),
        events=_event_table(run, thumbnails or {}),
    )


def _style() -> str:
    light = "; ".join(f"--{ink}: {colour}" for ink, (colour, _) in INK.items())
    dark = "; ".join(f"--{ink}: {colour}" for ink, (_, colour) in INK.items())
    return _STYLE % {"light": light, "dark": dark, "inks": ink_css()}


def _camera(run: Run) -> str:
    """Records of an older version may hold the camera's password."""
    return shown(str(run.first["camera"]))


def _facts(run: Run) -> dict[str, str]:
    """What the table at the top says."""
    first = run.first
    p50, p95, p99 = np.percentile(run.column("total"), (50, 95, 99))
    duration = clock(round(run.duration_s, 1))
    drops = int(np.sum(np.asarray(run.drops)))

    facts = {
        "Camera": f"{_camera(run)} ({first['modality']})",
        "Bundle": str(first["bundle"]),
        "From, to": f"{first['time']} to {run.last['time']}",
        "Records": f"{len(run.t)} in {duration}, {mean_fps(run):.1f} FPS",
        "Latency": f"median {p50:.1f} ms, p95 {p95:.1f} ms, p99 {p99:.1f} ms",
        "Memory": f"{run.column('rss').max():.0f} MB at most",
        "Frames dropped": str(drops),
    }

    temperatures = run.column("temp")
    if np.isfinite(temperatures).any():
        facts["Temperature"] = f"{np.nanmax(temperatures):.0f} °C at most"
    if run.restarts:
        facts["Restarts"] = str(len(run.restarts))
    if run.unreadable:
        facts["Lines that are no records"] = str(run.unreadable)
    return facts


def _fact_rows(facts: dict[str, str]) -> str:
    return "".join(
        f"<tr><th>{name}</th><td>{html.escape(value)}</td></tr>" for name, value in facts.items()
    )


def _label_table(run: Run) -> str:
    names = longest_on(run)
    if not names:
        return "<p>No label was on.</p>"

    heads = ("Label", "Times on", "Duration", "Of the run", "Highest score")
    return _table(heads, [_label_row(run, name) for name in names])


def _label_row(run: Run, name: str) -> str:
    spans = [span for span in run.spans if span.label == name]
    on_s = sum(span.end_s - span.start_s for span in spans)
    share = on_s / max(run.duration_s, 1e-9)
    peak = max(span.peak for span in spans)

    numbers = (f"{len(spans)}", clock(round(on_s, 1)), f"{100 * share:.0f} %", f"{peak:.2f}")
    return f"<td>{html.escape(name)}</td>" + "".join(map(_number_cell, numbers))


def _event_table(run: Run, thumbnails: dict[int, str]) -> str:
    indexes = _chosen_events(run, thumbnails)
    if not indexes:
        return "<p>None.</p>"

    left_out = len(run.spans) - len(indexes)
    note = f"<p>The longest {len(indexes)}; {left_out} shorter ones are left out.</p>"
    heads = ("Time", "Label on", "Duration", "Highest score", "Picture")
    table = _table(heads, [_event_row(run, index, thumbnails.get(index)) for index in indexes])
    return f"{note}{table}" if left_out else table


def _event_row(run: Run, index: int, thumbnail: str | None) -> str:
    span = run.spans[index]
    label = html.escape(span.label)
    length = clock(round(span.end_s - span.start_s, 1))
    picture = f'<img src="{thumbnail}" alt="{label}">' if thumbnail else ""
    return (
        f"<td>{html.escape(span.time)}</td><td>{label}</td>"
        f"{_number_cell(length)}{_number_cell(f'{span.peak:.2f}')}<td>{picture}</td>"
    )


def _chosen_events(run: Run, thumbnails: dict[int, str]) -> list[int]:
    """Indexes into ``run.spans``: those with a picture, then the longest, in order of time."""

    def rank(index: int) -> tuple[bool, float]:
        span = run.spans[index]
        return index not in thumbnails, span.start_s - span.end_s

    return sorted(sorted(range(len(run.spans)), key=rank)[:MAX_EVENTS])


def _table(heads: tuple[str, ...], rows: list[str]) -> str:
    head = "".join(f"<th>{text}</th>" for text in heads)
    body = "".join(f"<tr>{row}</tr>" for row in rows)
    return f'<div class="scroll"><table><tr>{head}</tr>{body}</table></div>'


def _number_cell(text: str) -> str:
    return f'<td class="n">{text}</td>'
