"""How often a camera gives a picture, and how long it may be silent before something is wrong."""

from __future__ import annotations

# A camera that was fine and sends nothing for so long is frozen. One slower than 1 FPS gets the
# time of three of its pictures.
SILENT_S = 3.0


def snapshot_interval_s(fps: float, max_fps: float | None) -> float:
    """Seconds between two pictures of a source that gives one and ends: at most one a second."""
    return 1 / min(1.0, fps, max_fps or 1.0)


class Pace:
    """The limits of one camera, in seconds; ``learn`` gives a slow camera more time.

    Attributes:
        silence_s: A camera that sends nothing for longer is frozen.
        patience_s: How long the next frame may take before a record says that it is missing.
        stuck_s: A driver that does not answer for longer never will.
    """

    def __init__(self, fps: float, stuck_s: float) -> None:
        self._usual_silence_s = SILENT_S / min(1.0, fps)
        self._usual_patience_s = max(1.0, 3 / fps)
        self.silence_s = self._usual_silence_s
        self.patience_s = self._usual_patience_s
        self.stuck_s = max(stuck_s, 2 * self._usual_silence_s)
        self._last_silence_ended = float("-inf")

    def wait_for(self, seconds: float) -> None:
        """The camera said that its next picture comes only after ``seconds``."""
        self.patience_s = max(self.patience_s, seconds + SILENT_S)

    def learn(self, silent_s: float, now: float) -> bool:
        """A picture came at monotonic ``now``, after ``silent_s``; True where that is a new pace.

        One long silence is a hiccup. Where the next one follows soon, the camera is not frozen but
        slow. It then gets twice the time, so that its state does not change with every picture.
        """
        if silent_s <= self.silence_s:
            return False

        is_slow = now - self._last_silence_ended < 3 * silent_s
        self._last_silence_ended = now
        self.silence_s = self._usual_silence_s
        self.patience_s = self._usual_patience_s
        if is_slow:
            # Below stuck_s: a camera is called frozen before the process gives up.
            self.silence_s = min(2 * silent_s, 0.8 * self.stuck_s)
            self.patience_s = self.silence_s
        return is_slow
