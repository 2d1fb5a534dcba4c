"""Handing captures to a command of the user's, one after the other, in a thread of its own and without a shell."""

from __future__ import annotations

import logging
import os
import shutil
import signal
import subprocess
import threading
from collections import deque
from collections.abc import Iterable

from edge_runtime.errors import ConfigError, one_line
from edge_runtime.secrecy import holds_secret
from edge_runtime.sinks.triggers.spool import Capture

log = logging.getLogger("edge_label.hook")

WAITING = 1000
BACKOFF_S = (1.0, 300.0)
CLOSE_S = 1.0


class Hook:
    """Runs ``argv MEDIA SIDECAR`` for every capture. Raises ConfigError when the program is not there.

    Exit code 0 is success; with ``delete`` the capture is then removed. After a failure or ``timeout_s`` the same
    capture is tried again, after 1, 2, 4 ... 300 seconds, as long as the spool still has it. At most ``WAITING``
    captures wait; the oldest are passed over.
    """

    def __init__(self, argv: tuple[str, ...], timeout_s: float, *, delete: bool) -> None:
        program = shutil.which(argv[0])
        if program is None:
            raise ConfigError(
                f"triggers.hook: {argv[0]}: no such program, or not executable",
                "give its full path",
            )
        self._argv = (program, *argv[1:])
        if any(holds_secret(argument) for argument in argv[1:]):
            log.warning(
                "hook: a password among its arguments is shown to every user by ps; let it read a file instead"
            )
        self._timeout_s = timeout_s
        self._delete = delete
        self._waiting: deque[Capture] = deque(maxlen=WAITING)
        self._changed = threading.Condition()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="hook", daemon=True)
        self._thread.start()

    def extend(self, captures: Iterable[Capture]) -> None:
        """Queue captures."""
        with self._changed:
            self._waiting.extend(captures)
            self._changed.notify()

    def close(self) -> None:
        """End; a command that is running gets ``CLOSE_S`` to finish."""
        self._stop.set()
        with self._changed:
            self._changed.notify()
        self._thread.join(CLOSE_S + 1)

    def _run(self) -> None:
        backoff = BACKOFF_S[0]
        while not self._stop.is_set():
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._stop.is_set())
                if self._stop.is_set():
                    return
                capture = self._waiting[0]
            problem = self._try(capture)
            if problem is None:
                backoff = BACKOFF_S[0]
                with self._changed:
                    if self._waiting and self._waiting[0] is capture:
                        self._waiting.popleft()
                continue
            if backoff == BACKOFF_S[0]:
                log.warning(
                    "hook: %s: %s; trying again, at least every %d s",
                    capture.media,
                    problem,
                    BACKOFF_S[1],
                )
            self._stop.wait(backoff)
            backoff = min(2 * backoff, BACKOFF_S[1])

    def _try(self, capture: Capture) -> str | None:
        """``_hand_over``, whatever happens: a thread that ends would hand over nothing more, and say nothing."""
        try:
            return self._hand_over(capture) if capture.media.exists() else None
        except Exception as error:
            return f"{type(error).__name__}: {one_line(error)}"

    def _hand_over(self, capture: Capture) -> str | None:
        """Run the command; None for success, else what went wrong."""
        # Absolute: a spool called -x or 02:30 would reach the command as an option or as a host.
        command = [*self._argv, str(capture.media.absolute()), str(capture.sidecar.absolute())]
        try:
            process = subprocess.Popen(  # noqa: S603 - the user's own command, as a list, no shell
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
        except OSError as error:
            return f"cannot be run: {error.strerror}"
        code = self._wait(process)
        if code != 0:
            return (
                f"exit code {code}"
                if code is not None
                else f"took longer than {self._timeout_s:g} s"
            )
        if self._delete:
            try:
                capture.sidecar.unlink(missing_ok=True)
                capture.media.unlink(missing_ok=True)
            except (
                OSError
            ) as error:  # it was handed over all the same; the spool's cap will take it away
                log.warning("hook: %s: cannot be deleted: %s", capture.media, error.strerror)
        return None

    def _wait(self, process: subprocess.Popen[bytes]) -> int | None:
        """Its exit code; None when it had to be killed, because of the time or the end of the run."""
        waited = 0.0
        while waited < self._timeout_s:
            try:
                return process.wait(CLOSE_S / 2)
            except subprocess.TimeoutExpired:
                waited += CLOSE_S / 2
                if self._stop.is_set():
                    break
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        process.wait()
        return None
