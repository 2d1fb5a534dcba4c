"""A live source: one capture thread, the newest frame only, and a camera that may leave and return.

States: opening -> ok -> (no_device | busy | denied | no_signal | frozen | reconnecting) -> ok ... Each change is one
log line. There is never a second capture thread: one that a driver never lets go again ends the process, with
exit code 70, and the service manager starts a clean one.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_runtime.camera.source import Device
from edge_runtime.config import CameraConfig
from edge_runtime.errors import DeviceError, EdgeLabelError, StuckError
from edge_runtime.records import CameraState, Frame

log = logging.getLogger("edge_label.camera")

BACKOFF_FIRST_S = 1.0
BACKOFF_MAX_S = 30.0
LOOK_S = 0.5  # while backing off, how often to look whether the camera is back
SILENT_S = 3.0  # a camera that was fine and sends nothing for so long is frozen; three of its pictures, if it is slow
FROZEN_REOPENS = 10  # frozen for this many times ``frozen_frames``: open it again, that often helps
_JOIN_S = 1.0  # a thread stuck in a driver is left behind; it dies with the process


class LiveSource:
    """Runs ``open_device`` and its ``grab`` in a thread; ``read`` hands out the newest frame once.

    A frame that a newer one replaces before it was read is dropped and counted. A device that fails is closed
    and opened again after 1, 2, 4 ... 30 seconds, or at once when ``presence()`` changes: it is asked twice a
    second, must be cheap, and returns anything that compares unequal when the camera may be back.
    """

    live = True

    def __init__(
        self,
        name: str,
        open_device: Callable[[], Device],
        config: CameraConfig,
        presence: Callable[[], object] = lambda: None,
        *,
        longest_backoff_s: float | None = None,
    ) -> None:
        self.name = name
        self._open_device = open_device
        self._presence = presence
        self._exit_on_error = config.exit_on_error
        self._frozen_frames = config.frozen_frames
        self._longest_backoff_s = longest_backoff_s
        self._usual_silence_s = self._silence_s = SILENT_S / min(1.0, config.fps)  # longer: frozen
        self._usual_patience_s = self.patience_s = max(1.0, 3 / config.fps)
        self._stuck_s = max(config.stuck_s, 2 * self._usual_silence_s)
        self._last_silence = float("-inf")  # when a picture ended one
        self._repeats = RepeatCounter()
        self._state: CameraState = "opening"
        self._left_ok: float | None = None  # when it last stopped delivering
        self._error: EdgeLabelError | None = None
        self._newest: Frame | None = None
        self._dropped = 0
        self._called: float | None = (
            None  # since when the device has had the capture thread, None while backing off
        )
        self._fresh = threading.Condition()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="capture", daemon=True)

    @property
    def state(self) -> CameraState:
        return self._state

    @property
    def ended(self) -> bool:
        return self._stop.is_set()

    def read(self, timeout_s: float) -> Frame | None:
        """The newest frame not read before, waiting at most ``timeout_s``.

        Raises what stopped the camera for good, and StuckError when the driver keeps the thread for ever.
        """
        start = time.monotonic()
        self.start()
        with self._fresh:
            self._fresh.wait_for(
                lambda: self._newest is not None or self._error is not None, timeout_s
            )
            if self._error is not None:
                raise self._error
            frame, self._newest = self._newest, None
        if frame is not None:
            return replace(frame, wait_ms=(time.monotonic() - start) * 1e3)

        self._look_at_the_thread()
        return None

    def start(self) -> None:
        """Begin to open the device; the first ``read`` does it too."""
        if self._thread.ident is None and not self._stop.is_set():
            self._thread.start()

    def close(self) -> None:
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(timeout=_JOIN_S)

    def _look_at_the_thread(self) -> None:
        """No frame came: is the device merely silent, or will it never answer again?"""
        called = self._called
        if called is None:
            return
        silent_s = time.monotonic() - called
        if silent_s > self._stuck_s:
            raise StuckError(
                f"{self.name}: has not answered for {silent_s:.0f} s", "only a new process can help"
            )
        if silent_s > self._silence_s and self._state == "ok":
            self._change("frozen", f"{self.name}: no frame for {self._silence_s:.0f} s")

    def _run(self) -> None:
        backoff = BACKOFF_FIRST_S
        while not self._stop.is_set():
            try:
                self._deliver()
            except DeviceError as error:
                if self._exit_on_error:
                    self._fail(error)
                    return
                failed = error
            except EdgeLabelError as error:  # wrong for ever: no retry will help
                self._fail(error)
                return
            except Exception as error:
                failed = DeviceError(
                    f"{self.name}: {type(error).__name__}: {error}", state="no_signal"
                )
            else:
                return
            finally:
                self._called = None
            # It had delivered, perhaps until it fell silent; one that repeats its picture is opened ever less often.
            if self._state == "ok" or (self._state == "frozen" and failed.state != "frozen"):
                backoff = BACKOFF_FIRST_S
            self._change(failed.state, f"{failed}; trying again")  # type: ignore[arg-type]
            backoff = self._back_off(backoff)

    def _deliver(self) -> None:
        """Open the device and publish its frames until it fails or ``close`` is called."""
        self._called = time.monotonic()
        device = self._open_device()
        try:
            while not self._stop.is_set():
                self._called = time.monotonic()
                frame = device.grab()
                if isinstance(frame, Frame):
                    self._publish(frame)
                else:
                    self._rest(frame)
        finally:
            device.close()

    def _rest(self, seconds: float) -> None:
        """The next picture is due only then; nobody misses it before."""
        self._called = None
        self.patience_s = max(self.patience_s, seconds + SILENT_S)
        self._stop.wait(seconds)

    def _back_off(self, seconds: float) -> float:
        """Wait, but not once the camera shows itself; returns how long to wait next time."""
        before = self._look()
        until = time.monotonic() + seconds
        while not self._stop.wait(min(LOOK_S, max(0.0, until - time.monotonic()))):
            if self._look() != before:
                return BACKOFF_FIRST_S
            if time.monotonic() >= until:
                break
        return min(2 * seconds, self._longest_backoff_s or BACKOFF_MAX_S)

    def _look(self) -> object:
        """What ``presence`` says; None where a name is such that even the question fails (too long, no host at all)."""
        try:
            return self._presence()
        except Exception:  # whatever a library makes of such a name
            return None

    def _publish(self, frame: Frame) -> None:
        start = time.monotonic()
        repeats = self._repeats(frame.data)
        check_ms = (time.monotonic() - start) * 1e3
        frozen = 0 < self._frozen_frames <= repeats
        if frozen:
            self._change("frozen", f"{self.name}: the same picture {repeats} times")
        elif self._state != "ok":
            self._learn_pace(start)
            self._change("ok", f"{self.name}: delivering frames")
        with self._fresh:
            if self._newest is not None:
                self._dropped += 1
            self._newest = replace(frame, check_ms=check_ms, frozen=frozen, dropped=self._dropped)
            self._fresh.notify()
        if frozen and repeats >= FROZEN_REOPENS * self._frozen_frames:
            self._repeats = RepeatCounter()
            raise DeviceError(f"{self.name}: still the same picture", state="frozen")

    def _learn_pace(self, now: float) -> None:
        """A picture came after a silence. Where the next silence follows at once, the camera is not frozen but slow: it
        is given twice the time, so that its state does not change with every picture."""
        silent_s = now - (self._called or now)
        if silent_s <= self._silence_s:
            return
        again = now - self._last_silence < 3 * silent_s
        self._last_silence = now
        self._silence_s = self._usual_silence_s
        self.patience_s = self._usual_patience_s
        if again:
            self._silence_s = self.patience_s = min(2 * silent_s, 0.8 * self._stuck_s)
            log.info("%s: a picture every %.0f s; that is its pace", self.name, silent_s)

    def refused(self, frame: Frame, error: EdgeLabelError) -> None:
        """Its frames are all alike: what the pipeline cannot take of one it can take of none."""
        raise error

    def _fail(self, error: EdgeLabelError) -> None:
        with self._fresh:
            self._error = error
            self._fresh.notify()

    def _change(self, state: CameraState, why: str) -> None:
        with self._fresh:
            old, self._state = self._state, state
            if old == "ok" != state:
                self._left_ok = time.monotonic()
        if old != state:
            if state == "ok" and self._left_ok is not None:
                why += f" again, after {time.monotonic() - self._left_ok:.0f} s"
            (log.info if state == "ok" else log.warning)(
                "camera %s: %s", state.replace("_", " "), why
            )


class RepeatCounter:
    """How many frames in a row brought exactly the bytes of the one before them.

    A sensor is never without noise, so equal bytes mean a camera that repeats its last picture. One byte in 4,099
    is compared first; only frames that agree there are compared whole.
    """

    def __init__(self) -> None:
        self._last: NDArray[Any] | None = None
        self._count = 0

    def __call__(self, data: NDArray[Any]) -> int:
        """Count frame ``data`` (any shape, C order); it must not be changed afterwards."""
        last, self._last = self._last, data
        same = (
            last is not None
            and last.shape == data.shape
            and _equal(last.reshape(-1), data.reshape(-1))
        )
        self._count = self._count + 1 if same else 0
        return self._count


def _equal(one: NDArray[Any], other: NDArray[Any]) -> bool:
    return np.array_equal(one[::4099], other[::4099]) and np.array_equal(one, other)
