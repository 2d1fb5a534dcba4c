"""How often a camera is labelled: as often as configured, and less often on a hot CPU."""

from __future__ import annotations

from edge_runtime.config import CameraConfig


class ThermalGovernor:
    """Labels fewer frames while the CPU is hot: one of 2, then of 4, then of 8, and back again.

    Fewer frames at even intervals are better than the firmware's throttling, which slows every
    frame.
    """

    # The temperature must follow one step before the next one is judged.
    STEP_S = 10.0
    # Degrees below the limit before a step is taken back. Without a gap it would swing.
    COOLER_C = 5.0
    MOST = 8

    def __init__(self, limit_c: float | None) -> None:
        """``limit_c`` is in degrees Celsius; None never slows down."""
        self._limit_c = limit_c
        self._next = 0.0
        self._factor = 1

    def __call__(self, temp_c: float | None, now: float) -> int:
        """One of how many camera frames to label, at ``temp_c`` and monotonic time ``now``."""
        if self._limit_c is None or temp_c is None:
            self._factor = 1
            return self._factor
        if now < self._next:
            return self._factor

        factor = self._factor
        if temp_c >= self._limit_c:
            factor = min(self.MOST, 2 * factor)
        elif temp_c < self._limit_c - self.COOLER_C:
            factor = max(1, factor // 2)

        if factor != self._factor:
            self._factor = factor
            self._next = now + self.STEP_S
        return self._factor


def frame_interval_s(camera: CameraConfig, slowed: int) -> float:
    """Least time between two labelled frames, in seconds.

    ``camera.max_fps`` asks for one interval, and ``slowed`` camera frames on a hot CPU for
    another. The longer one counts, never their product: a low ``max_fps`` keeps the CPU cool
    already, and the watchdog waits for the next record.
    """
    capped_s = 0.0 if camera.max_fps is None else 1 / camera.max_fps
    cooling_s = slowed / max(1.0, camera.fps) if slowed > 1 else 0.0
    return max(capped_s, cooling_s)
