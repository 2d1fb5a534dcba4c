"""Hands captures to a command of the user's, one after the other, in a thread of its own."""

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
from edge_runtime.secrecy import secret_warning
from edge_runtime.sinks.triggers.capture import Capture

log = logging.getLogger("edge_label.hook")

WAITING = 1000  # captures in the queue
BACKOFF_S = (1.0, 300.0)  # the first and the longest pause after a failure
CLOSE_S = 1.0  # what a running command gets to finish when the program ends


class Hook:
    """Runs ``argv MEDIA SIDECAR`` for every capture, without a shell.

    Exit code 0 is success; with ``delete`` the capture is then deleted. After a failure, or after
    ``timeout_s``, the same capture is tried again in 1, 2, 4 ... 300 seconds, as long as the spool
    still has it. At most `WAITING` captures wait; the oldest are dropped from the queue.

    Raises ConfigError when there is no such program.
    """

    def __init__(self, argv: tuple[str, ...], timeout_s: float, *, delete: bool) -> None:
        program = shutil.which(argv[0])
        if program is None:
            what = f"triggers.hook: {argv[0]}: no such program, or not executable"
            raise ConfigError(what, "give its full path")
        warning = secret_warning(argv)
        if warning:
            log.warning("hook: %s", warning)

        self._argv = (program, *argv[1:])
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
        """End the thread. A command that is running gets `CLOSE_S` to finish, then it is killed."""
        self._stop.set()
        with self._changed:
            self._changed.notify()
        self._thread.join(CLOSE_S + 1)

    def _run(self) -> None:
        backoff_s = BACKOFF_S[0]
        while True:
            capture = self._next()
            if capture is None:
                return

            problem = self._try(capture)
            if problem is None:
                self._remove(capture)
                backoff_s = BACKOFF_S[0]
                continue

            if backoff_s == BACKOFF_S[0]:  # one line a failure, not one a try
                log.warning(
                    "hook: %s: %s; trying again, at least every %d s",
                    capture.media,
                    problem,
                    BACKOFF_S[1],
                )
            self._stop.wait(backoff_s)
            backoff_s = min(2 * backoff_s, BACKOFF_S[1])

    def _next(self) -> Capture | None:
        """Wait for a capture, which stays in the queue; None at the end."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._stop.is_set())
            return None if self._stop.is_set() else self._waiting[0]

    def _remove(self, capture: Capture) -> None:
        with self._changed:
            # A full queue may have dropped it while the command ran.
            if self._waiting and self._waiting[0] is capture:
                self._waiting.popleft()

    def _try(self, capture: Capture) -> str | None:
        """Hand a capture over. Returns the problem, whatever it is; a dead thread would hide it."""
        try:
            return self._hand_over(capture) if capture.media.exists() else None
        except Exception as error:
            return f"{type(error).__name__}: {one_line(error)}"

    def _hand_over(self, capture: Capture) -> str | None:
        """Run the command; None for success, else the problem."""
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
        if code is None:
            return f"took longer than {self._timeout_s:g} s"
        if code != 0:
            return f"exit code {code}"
        if self._delete:
            self._delete_files(capture)
        return None

    def _wait(self, process: subprocess.Popen[bytes]) -> int | None:
        """The exit code; None when the timeout or the end of the program killed the command."""
        waited_s = 0.0
        while waited_s < self._timeout_s:
            try:
                return process.wait(CLOSE_S / 2)
            except subprocess.TimeoutExpired:
                waited_s += CLOSE_S / 2
                if self._stop.is_set():
                    break

        try:
            os.killpg(process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        process.wait()
        return None

    def _delete_files(self, capture: Capture) -> None:
        try:
            capture.sidecar.unlink(missing_ok=True)
            capture.media.unlink(missing_ok=True)
        except OSError as error:
            # Not a problem of the hook: it has the capture. The spool's cap will delete the files.
            log.warning("hook: %s: cannot be deleted: %s", capture.media, error.strerror)
