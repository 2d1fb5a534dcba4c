"""Prometheus' text format: one metric with its samples, as lines.

See https://prometheus.io/docs/instrumenting/exposition_formats.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

Sample = tuple[dict[str, str], float]  # labels and value


def metric(name: str, kind: str, help_text: str, samples: Iterable[Sample]) -> str:
    """A gauge or counter; an empty string where it has no samples."""
    lines = [f"{name}{_labels(labels)} {_number(value)}\n" for labels, value in samples]
    if not lines:
        return ""
    return f"# HELP {name} {help_text}\n# TYPE {name} {kind}\n" + "".join(lines)


def histogram(
    name: str,
    help_text: str,
    bounds: Sequence[float],
    counts: Sequence[int],
    total: float,
) -> str:
    """A histogram of values whose sum is ``total``.

    ``counts`` are the values in each bucket: one for each of ``bounds``, and one above them.
    """
    lines = [f"# HELP {name} {help_text}\n# TYPE {name} histogram\n"]
    count_below = 0
    for bound, count in zip((*bounds, float("inf")), counts, strict=True):
        count_below += count
        lines.append(f'{name}_bucket{{le="{_number(bound)}"}} {count_below}\n')
    lines.append(f"{name}_sum {_number(total)}\n")
    lines.append(f"{name}_count {count_below}\n")
    return "".join(lines)


def _labels(labels: dict[str, str]) -> str:
    if not labels:
        return ""
    pairs = [f'{key}="{_escaped(value)}"' for key, value in labels.items()]
    return "{" + ",".join(pairs) + "}"


def _escaped(value: str) -> str:
    return value.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")


def _number(value: float) -> str:
    if value == float("inf"):
        return "+Inf"
    return str(int(value)) if float(value).is_integer() else repr(round(float(value), 6))
