"""A program in a process group of its own: started, heard, and killed with all that it started."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Sequence
from itertools import pairwise
from typing import IO, cast

from edge_runtime.secrecy import HIDDEN, holds_secret, masked
from edge_runtime.system.child import last_line

GRACE_S = 0.5  # what a program gets to release its camera, before it is killed
_LOOK_S = 0.02  # how often to look whether it has ended
_TAIL = 2048  # bytes of its standard error that are kept
_BLOCK = 1 << 16


class Child:
    """Runs ``argv``, no shell between. Raises OSError where it cannot be run.

    Attributes:
        stdout: The descriptor from which its standard output is read.
    """

    def __init__(self, argv: Sequence[str]) -> None:
        self._argv = list(argv)
        self._process = subprocess.Popen(  # noqa: S603 - the user's own command, as a list
            self._argv,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            bufsize=0,
            start_new_session=True,
        )
        self._pipes = cast("list[IO[bytes]]", [self._process.stdout, self._process.stderr])
        self.stdout, self._stderr = (pipe.fileno() for pipe in self._pipes)
        os.set_blocking(self._stderr, False)
        self._tail = b""

    def listen(self) -> None:
        """Take what it wrote to its standard error, or it would wait for that for ever."""
        try:
            data = os.read(self._stderr, _BLOCK)
        except BlockingIOError:
            return
        self._tail = (self._tail + data)[-_TAIL:]

    def last_words(self) -> str:
        """The last line of its standard error, without a secret; empty where it wrote nothing."""
        self.listen()
        words = last_line(self._tail.decode(errors="replace")).strip()
        for option, value in pairwise(self._argv):
            if holds_secret(option):
                words = words.replace(value, HIDDEN)
        return masked(words)

    def exit_status(self, timeout_s: float) -> int | None:
        """Its exit code, or minus the signal that ended it; None where it still runs.

        It is not reaped, so that its group keeps its number until ``kill``.
        """
        until = time.monotonic() + timeout_s
        while True:
            found = os.waitid(os.P_PID, self._process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            if found is not None:
                return found.si_status if found.si_code == os.CLD_EXITED else -found.si_status
            if time.monotonic() >= until:
                return None
            time.sleep(_LOOK_S)

    def kill(self) -> None:
        """End it and its whole group, and leave no zombie.

        Blocks for as long as a driver keeps it from ending.
        """
        if self.exit_status(0) is None:
            self._signal(signal.SIGTERM)
            self.exit_status(GRACE_S)
        self._signal(signal.SIGKILL)

        # Before the wait: one of another user (sudo) cannot be killed, and ends when it writes.
        for pipe in self._pipes:
            pipe.close()
        self._process.wait()

    def _signal(self, number: int) -> None:
        try:
            os.killpg(self._process.pid, number)
        except PermissionError:
            pass
