"""What every source of frames, and every camera behind a live one, answers to."""

from __future__ import annotations

from typing import Protocol

from edge_runtime.errors import EdgeLabelError
from edge_runtime.records import CameraState, Frame


class Source(Protocol):
    """A sequence of frames. Live sources drop the oldest; files are read completely, in order."""

    name: str
    live: bool

    @property
    def patience_s(self) -> float:
        """How many seconds the next frame may take without anything being wrong."""

    @property
    def state(self) -> CameraState:
        """What the camera is doing now."""

    @property
    def ended(self) -> bool:
        """True when no frame will ever come again (the end of a file)."""

    def read(self, timeout_s: float) -> Frame | None:
        """The next frame; None when none came within ``timeout_s`` or the source has ended."""

    def refused(self, frame: Frame, error: EdgeLabelError) -> None:
        """The pipeline raised ``error`` for ``frame``.

        Raises it again, unless the next frame may be of another kind.
        """

    def close(self) -> None:
        """Release the device; idempotent."""


class EndOfSource(Exception):  # noqa: N818 - no error: nothing went wrong
    """A device raises it when no frame will ever come again, however often it is opened."""


class Device(Protocol):
    """An open camera, used by the capture thread alone."""

    def grab(self) -> Frame | float | None:
        """Block for the next frame, undecoded; or the seconds until it is worth asking again.

        None: no frame yet; it is asked again at once, and may be closed before. Raises DeviceError
        when the camera stops delivering, and EndOfSource.
        """

    def close(self) -> None:
        """Release the descriptor. A replugged camera gets another number while one is held."""
