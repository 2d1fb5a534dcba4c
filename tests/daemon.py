"""A daemon under test: the real program as a process, and its notify socket."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from tests.paths import REPOSITORY

# How long to wait for what must happen. A passing test never waits so long.
PATIENCE_S = float(os.environ.get("EDGE_LABEL_PATIENCE", "60"))
EDGE_LABEL = (sys.executable, "-m", "edge_runtime")


class Daemon:
    """``edge-label run`` with NOTIFY_SOCKET set. A context manager that ends the process."""

    def __init__(self, folder: Path, *arguments: str | Path, **popen: Any) -> None:
        self.folder = folder
        self._address = folder / "notify"
        self._manager = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._manager.bind(str(self._address))
        self.heard: list[str] = []
        environment = {**os.environ, "NOTIFY_SOCKET": str(self._address), **popen.pop("env", {})}
        self._log = (folder / "log").open("w")
        popen.setdefault("stdout", subprocess.DEVNULL)
        self.process = subprocess.Popen(
            [*popen.pop("program", EDGE_LABEL), "run", *map(str, arguments)],
            env=environment,
            cwd=REPOSITORY,
            stderr=self._log,
            **popen,
        )

    def __enter__(self) -> Daemon:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGCONT)
            self.process.kill()
        self.process.wait(10)
        self._log.close()
        self._manager.close()
        self._address.unlink(missing_ok=True)

    @property
    def log(self) -> str:
        """All of stderr so far."""
        return (self.folder / "log").read_text()

    def wait_for(self, word: str, timeout_s: float = PATIENCE_S) -> str:
        """The next datagram that holds ``word``. Fails when the process ends or the time is up."""
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            self._manager.settimeout(0.2)
            try:
                message = self._manager.recv(4096).decode()
            except TimeoutError:
                assert self.process.poll() is None, (
                    f"ended with {self.process.returncode}: {self.log}"
                )
                continue
            self.heard.append(message)
            if word in message:
                return message
        raise AssertionError(
            f"{word!r} not heard within {timeout_s} s; heard {self.heard[-5:]}; log: {self.log}"
        )

    def drain(self) -> None:
        """Forget what was said so far."""
        self._manager.setblocking(False)
        try:
            while True:
                self.heard.append(self._manager.recv(4096).decode())
        except BlockingIOError:
            pass

    def stop(self, number: int = signal.SIGTERM, within_s: float = 5.0) -> int:
        """Send a signal and return the exit code, which must come within ``within_s``."""
        self.process.send_signal(number)
        return self.process.wait(within_s)


def write_config(path: Path, bundle: Path, **sections: dict[str, Any]) -> Path:
    """A configuration file for a tiny bundle and the demo camera; ``sections`` go on top."""
    camera = {"source": "demo", **sections.pop("camera", {})}
    model = {"bundle": str(bundle), "labels": "colours", **sections.pop("model", {})}
    path.write_text(json.dumps({"camera": camera, "model": model, **sections}))
    return path


def is_running(pid: int) -> bool:
    """Whether the process is there, and no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def wait_until(condition: Any, timeout_s: float = PATIENCE_S, what: str = "condition") -> Any:
    """The first true value of ``condition()``, looked at twenty times a second."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        value = condition()
        if value:
            return value
        time.sleep(0.05)
    raise AssertionError(f"{what} did not come true within {timeout_s} s")


def records_of(path: Path) -> list[dict[str, Any]]:
    """All complete lines of a record file, parsed."""
    text = path.read_text() if path.exists() else ""
    return [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]
