"""A live source: one capture thread, the newest frame only, and a camera that may leave and return.

States: opening -> ok -> (no_device | busy | denied | no_signal | frozen | reconnecting) -> ok ...
Each change is one log line. There is never a second capture thread: when a driver never returns
from a call, the process ends with exit code 70 and the service manager starts a clean one.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import replace

from edge_runtime.camera.pace import Pace
from edge_runtime.camera.repeats import RepeatCounter
from edge_runtime.camera.source import Device, EndOfSource
from edge_runtime.config import CameraConfig
from edge_runtime.errors import DeviceError, EdgeLabelError, StuckError
from edge_runtime.records import CameraState, Frame

log = logging.getLogger("edge_label.camera")

BACKOFF_FIRST_S = 1.0
BACKOFF_MAX_S = 30.0
LOOK_S = 0.5  # while backing off, how often to look whether the camera is back

# A camera that is frozen for this many times ``frozen_frames`` is opened again: that often helps.
FROZEN_REOPENS = 10

_JOIN_S = 1.0  # a thread stuck in a driver is left behind; it dies with the process


class LiveSource:
    """Runs ``open_device`` and its ``grab`` in a thread; ``read`` hands out the newest frame once.

    A frame that a newer one replaces before it was read is dropped and counted. A device that fails
    is closed and opened again after 1, 2, 4 ... 30 seconds, or at once when ``presence()`` changes.
    ``presence`` is asked twice a second and must be cheap. It returns anything that compares
    unequal when the camera may be back.
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
        self._longest_backoff_s = longest_backoff_s
        self._exit_on_error = config.exit_on_error
        self._frozen_frames = config.frozen_frames
        self._turn = config.turn
        self._pace = Pace(config.fps, config.stuck_s)
        self._repeats = RepeatCounter()

        self._state: CameraState = "opening"
        self._left_ok: float | None = None  # when it last stopped delivering
        self._error: EdgeLabelError | None = None
        self._newest: Frame | None = None
        self._dropped = 0
        # When the capture thread went into the device. None while it is not there, backing off.
        self._called: float | None = None
        self._waiting_since = 0.0  # for the next frame: the device may be asked several times

        self._fresh = threading.Condition()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="capture", daemon=True)

    @property
    def state(self) -> CameraState:
        return self._state

    @property
    def ended(self) -> bool:
        return self._stop.is_set() and self._newest is None

    @property
    def patience_s(self) -> float:
        return self._pace.patience_s

    def read(self, timeout_s: float) -> Frame | None:
        """The newest frame not read before, waiting at most ``timeout_s``.

        Raises the error that stopped the camera for good, and StuckError when the driver does not
        let the capture thread go.
        """
        start = time.monotonic()
        self.start()
        with self._fresh:
            self._fresh.wait_for(self._has_news, timeout_s)
            if self._error is not None:
                raise self._error
            frame = self._newest
            self._newest = None
        if frame is not None:
            return replace(frame, wait_ms=(time.monotonic() - start) * 1e3)

        self._check_silence()
        return None

    def start(self) -> None:
        """Begin to open the device; the first ``read`` does it too."""
        if self._thread.ident is None and not self._stop.is_set():
            self._thread.start()

    def refused(self, frame: Frame, error: EdgeLabelError) -> None:
        """Raise ``error``: all frames of a camera are alike, so every one would be refused."""
        raise error

    def close(self) -> None:
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(timeout=_JOIN_S)

    def _has_news(self) -> bool:
        return self._newest is not None or self._error is not None or self._stop.is_set()

    def _check_silence(self) -> None:
        """No frame came. Raises StuckError where the device will never answer again."""
        called = self._called
        if called is None:
            return

        now = time.monotonic()
        if now - called > self._pace.stuck_s:
            raise StuckError(
                f"{self.name}: has not answered for {now - called:.0f} s",
                "only a new process can help",
            )
        if now - self._waiting_since > self._pace.silence_s and self._state == "ok":
            self._change("frozen", f"frozen, no frame for {self._pace.silence_s:.0f} s")

    # Everything below runs in the capture thread.

    def _run(self) -> None:
        backoff_s = BACKOFF_FIRST_S
        while not self._stop.is_set():
            failure = self._deliver_until_failure()
            if failure is None:
                return

            # It delivered until now, or until it fell silent: it may be back in a moment. A camera
            # that only repeats its picture is opened ever less often.
            fell_silent = self._state == "frozen" and failure.state != "frozen"
            if self._state == "ok" or fell_silent:
                backoff_s = BACKOFF_FIRST_S
            self._set_state(failure.state, f"camera {failure}; trying again")  # type: ignore[arg-type]
            backoff_s = self._back_off(backoff_s)

    def _deliver_until_failure(self) -> DeviceError | None:
        """Deliver frames; why the device must be opened again, or None when the source has ended.

        An error that no retry can help is kept for ``read`` to raise.
        """
        try:
            self._deliver()
        except EndOfSource:
            self._end()
        except DeviceError as error:
            if not self._exit_on_error:
                return error
            self._fail(error)
        except EdgeLabelError as error:
            self._fail(error)
        except Exception as error:  # a bug in a driver's binding; the camera is tried again
            return DeviceError(f"{self.name}: {type(error).__name__}: {error}", state="no_signal")
        finally:
            self._called = None
        return None

    def _deliver(self) -> None:
        """Open the device and publish its frames until it fails or ``close`` is called."""
        self._called = time.monotonic()
        device = self._open_device()
        self._waiting_since = time.monotonic()
        try:
            while not self._stop.is_set():
                self._called = time.monotonic()
                frame = device.grab()
                if frame is None:
                    continue
                if isinstance(frame, Frame):
                    self._publish(frame)
                else:
                    self._rest(frame)
                self._waiting_since = time.monotonic()
        finally:
            device.close()

    def _rest(self, seconds: float) -> None:
        """The device has no picture for ``seconds``; nobody misses one before."""
        self._called = None
        self._pace.wait_for(seconds)
        self._stop.wait(seconds)

    def _back_off(self, seconds: float) -> float:
        """Wait ``seconds``, or until the camera shows itself; returns the seconds for next time."""
        before = self._look()
        until = time.monotonic() + seconds
        while not self._stop.wait(min(LOOK_S, max(0.0, until - time.monotonic()))):
            if self._look() != before:
                return BACKOFF_FIRST_S
            if time.monotonic() >= until:
                break
        return min(2 * seconds, self._longest_backoff_s or BACKOFF_MAX_S)

    def _look(self) -> object:
        """What ``presence`` returns; None where the name is such that even the question fails."""
        try:
            return self._presence()
        except Exception:  # a library may raise anything for a name that is too long or no host
            return None

    def _publish(self, frame: Frame) -> None:
        start = time.monotonic()
        repeats = self._repeats(frame.data)
        check_ms = (time.monotonic() - start) * 1e3

        frozen = 0 < self._frozen_frames <= repeats
        if frozen:
            self._change("frozen", f"frozen, the same picture {repeats} times")
        elif self._state != "ok":
            self._learn_pace(start)
            self._change("ok", "delivering frames")

        with self._fresh:
            if self._newest is not None:
                self._dropped += 1
            self._newest = replace(
                frame, turn=self._turn, check_ms=check_ms, frozen=frozen, dropped=self._dropped
            )
            self._fresh.notify()

        if frozen and repeats >= FROZEN_REOPENS * self._frozen_frames:
            self._repeats = RepeatCounter()
            raise DeviceError(f"{self.name}: still the same picture", state="frozen")

    def _learn_pace(self, now: float) -> None:
        silent_s = now - self._waiting_since
        if self._pace.learn(silent_s, now):
            log.info("camera %s: sends a picture every %.0f s", self.name, silent_s)

    def _end(self) -> None:
        with self._fresh:
            self._stop.set()
            self._fresh.notify()

    def _fail(self, error: EdgeLabelError) -> None:
        with self._fresh:
            self._error = error
            self._fresh.notify()

    def _change(self, state: CameraState, event: str) -> None:
        self._set_state(state, f"camera {self.name}: {event}")

    def _set_state(self, state: CameraState, line: str) -> None:
        """Change the state; ``line`` is logged where it is another than before."""
        with self._fresh:
            old = self._state
            self._state = state
            if old == "ok" != state:
                self._left_ok = time.monotonic()
        if old == state:
            return

        if state != "ok":
            log.warning("%s", line)
        elif self._left_ok is None:
            log.info("%s", line)
        else:
            log.info("%s again, after %.0f s", line, time.monotonic() - self._left_ok)
