"""What ``bench`` measured, as JSON for a program and as a table for a person."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

BUDGET_RSS_MB = 180.0
BUDGET_FPS = 23.0
STAGES = ("wait", "decode", "preprocess", "check", "encode", "score", "record")

_PERCENTILES = ("mean", "p50", "p90", "p99")


@dataclass(frozen=True, slots=True)
class BenchResult:
    """Everything that ``bench`` measured.

    ``ms`` holds for each stage and "total" the mean, p50, p90, p99 and maximum in milliseconds;
    ``memory_mb`` is None where the kernel does not say.
    """

    source: str
    bundle: str
    frames: int
    seconds: float
    fps: float
    ms: dict[str, dict[str, float]]
    memory_mb: dict[str, float | None]
    machine: dict[str, Any]

    @property
    def within_budget(self) -> bool:
        """At most 180 MB and at least 23 FPS, here."""
        return (self.memory_mb["peak_rss"] or 0) <= BUDGET_RSS_MB and self.fps >= BUDGET_FPS

    @property
    def overhead(self) -> float:
        """Share of a frame's own time, without the wait, that is spent outside the encoder."""
        return 1 - self.ms["encode"]["mean"] / self._own_ms

    @property
    def _own_ms(self) -> float:
        """What a frame takes here, without the wait for the camera."""
        return sum(self.ms[stage]["mean"] for stage in STAGES if stage != "wait")

    def to_dict(self) -> dict[str, Any]:
        """The --json output as a dictionary."""
        return {
            "schema": "edge-label-bench/1",
            "source": self.source,
            "bundle": self.bundle,
            "frames": self.frames,
            "seconds": round(self.seconds, 2),
            "fps": round(self.fps, 2),
            "ms": self.ms,
            "overhead": round(self.overhead, 4),
            "memory_mb": self.memory_mb,
            "machine": self.machine,
            "budget": {"rss_mb": BUDGET_RSS_MB, "fps": BUDGET_FPS, "within": self.within_budget},
        }

    def to_json(self) -> str:
        """The --json output."""
        return json.dumps(self.to_dict(), indent=2, allow_nan=False)

    def to_text(self) -> str:
        """The table a person reads."""
        machine = self.machine
        lines = [
            f"{self.bundle} on {self.source}: {self.frames} frames in {self.seconds:.1f} s",
            f"{machine['cpu']}, {machine['threads']} threads, governor {machine['governor']}, "
            f"onnxruntime {machine['onnxruntime']}, OpenCV {machine['opencv']}",
            "",
            *self._stage_table(),
            "",
            *self._verdict(),
        ]
        return "\n".join(lines)

    def _stage_table(self) -> list[str]:
        heads = "".join(f"{name:>8}" for name in _PERCENTILES)
        lines = [f"{'stage':<12}{heads}  ms"]
        for stage in (*STAGES, "total"):
            figures = "".join(f"{self.ms[stage][name]:8.2f}" for name in _PERCENTILES)
            lines.append(f"{stage:<12}{figures}")
        return lines

    def _verdict(self) -> list[str]:
        mb = {key: _megabytes(value) for key, value in self.memory_mb.items()}
        verdict = "within" if self.within_budget else "OVER"
        lines = [
            f"memory MB   before model {mb['before_model']}, model {mb['model']}, "
            f"working set {mb['working_set']}, RSS {mb['rss']} (own {mb['anonymous']}), "
            f"PSS {mb['pss']}, peak {mb['peak_rss']}",
            f"{self.fps:.1f} FPS, peak {mb['peak_rss']} MB: {verdict} the budget of "
            f"{BUDGET_FPS:.0f} FPS and {BUDGET_RSS_MB:.0f} MB on this machine; "
            f"{100 * self.overhead:.0f} % of a frame is not the encoder",
        ]

        possible_fps = 1000 / self._own_ms
        if self.fps < BUDGET_FPS <= possible_fps:
            lines.append(
                f"the camera gives no more frames; this machine could label {possible_fps:.0f} "
                "a second"
            )
        return lines


def _megabytes(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}"
