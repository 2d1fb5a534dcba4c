"""A live source: one capture thread, the newest frame only, and a camera that may leave and return."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

from edge_runtime.camera.source import Device
from edge_runtime.config import CameraConfig
from edge_runtime.errors import DeviceError, EdgeLabelError
from edge_runtime.records import CameraState, Frame

log = logging.getLogger("edge_label.camera")

BACKOFF_FIRST_S = 1.0
BACKOFF_MAX_S = 30.0
_JOIN_S = 1.0  # a thread stuck in a driver is left behind; it dies with the process


class LiveSource:
    """Runs ``open_device`` and its ``grab`` in a thread; ``read`` hands out the newest frame once.

    A frame that a newer one replaces before it was read is dropped and counted. A device that fails is closed
    and opened again after 1, 2, 4 ... 30 seconds; each change of state is one log line.
    """

    live = True

    def __init__(self, name: str, open_device: Callable[[], Device], config: CameraConfig) -> None:
        self.name = name
        self._open_device = open_device
        self._exit_on_error = config.exit_on_error
        self._state: CameraState = "opening"
        self._error: EdgeLabelError | None = None
        self._newest: Frame | None = None
        self._dropped = 0
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
        """The newest frame not read before, waiting at most ``timeout_s``. Raises what stopped the camera for good."""
        start = time.monotonic()
        self.start()
        with self._fresh:
            self._fresh.wait_for(lambda: self._newest is not None or self._error is not None, timeout_s)
            if self._error is not None:
                raise self._error
            frame, self._newest = self._newest, None
        if frame is not None:
            frame.wait_ms = (time.monotonic() - start) * 1e3
        return frame

    def start(self) -> None:
        """Begin to open the device; the first ``read`` does it too."""
        if self._thread.ident is None and not self._stop.is_set():
            self._thread.start()

    def close(self) -> None:
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(timeout=_JOIN_S)

    def _run(self) -> None:
        backoff = BACKOFF_FIRST_S
        while not self._stop.is_set():
            device: Device | None = None
            try:
                device = self._open_device()
                while not self._stop.is_set():
                    frame = device.grab()
                    if self._state != "ok":
                        self._change("ok", f"{self.name}: delivering frames")
                        backoff = BACKOFF_FIRST_S
                    self._publish(frame)
            except DeviceError as error:
                if self._exit_on_error:
                    self._fail(error)
                    return
                self._change(error.state, str(error))  # type: ignore[arg-type]
            except EdgeLabelError as error:  # wrong for ever: no retry will help
                self._fail(error)
                return
            finally:
                if device is not None:
                    device.close()
            self._stop.wait(backoff)
            backoff = min(2 * backoff, BACKOFF_MAX_S)

    def _publish(self, frame: Frame) -> None:
        with self._fresh:
            if self._newest is not None:
                self._dropped += 1
            frame.dropped = self._dropped
            self._newest = frame
            self._fresh.notify()

    def _fail(self, error: EdgeLabelError) -> None:
        with self._fresh:
            self._error = error
            self._fresh.notify()

    def _change(self, state: CameraState, why: str) -> None:
        if state != self._state:
            self._state = state
            (log.info if state == "ok" else log.warning)("camera %s: %s", state.replace("_", " "), why)
