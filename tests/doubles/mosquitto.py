"""A real Mosquitto on loopback, for tests and measurements: start, stop, freeze, restart.

Needs Debian's mosquitto and mosquitto-clients.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path

from tests.doubles.ports import free_port


class Broker:
    """One Mosquitto; ``settings`` are lines of its configuration file. Use as a context manager."""

    def __init__(self, folder: Path, *settings: str, port: int | None = None) -> None:
        self._program = shutil.which("mosquitto", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
        if self._program is None:
            raise FileNotFoundError(
                "mosquitto: not installed; apt-get install mosquitto mosquitto-clients"
            )
        self.port = port or free_port()
        self._config = folder / "mosquitto.conf"
        # Started by root it would become another user, who may not read the certificates and
        # passwords in a test's folder.
        stay = ["user root"] if os.geteuid() == 0 else []
        lines = [*stay, f"listener {self.port} 127.0.0.1", *(settings or ["allow_anonymous true"])]
        self._config.write_text("\n".join(lines) + "\n")
        self.start()

    def start(self) -> None:
        command = [self._program, "-c", str(self._config)]
        self._process = subprocess.Popen(
            command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL
        )
        for _ in range(100):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            time.sleep(0.05)
        raise RuntimeError("Mosquitto does not start")

    def stop(self) -> None:
        self._process.send_signal(signal.SIGCONT)
        self._process.kill()
        self._process.wait()

    def freeze(self) -> None:
        """Its connections stay open, but nobody reads them any more."""
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self._process.send_signal(signal.SIGCONT)

    def __enter__(self) -> Broker:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def listen(
        self, count: int, *options: str, topic: str = "#", timeout_s: int = 10
    ) -> list[tuple[str, str]]:
        """``count`` messages as (topic, payload), or those that came within ``timeout_s``."""
        command = [
            "mosquitto_sub",
            "-h",
            "127.0.0.1",
            "-p",
            str(self.port),
            "-t",
            topic,
            "-W",
            str(timeout_s),
        ]
        command += ["-C", str(count), "-F", '{"t":"%t","p":"%x"}', *options]
        out = subprocess.run(command, capture_output=True, text=True, check=False).stdout
        lines = [json.loads(line) for line in out.splitlines()]
        return [(line["t"], bytes.fromhex(line["p"]).decode()) for line in lines]

    def listen_bytes(self, topic: str, seconds: int) -> list[bytes]:
        """The payloads of all messages that come within ``seconds``, the retained ones first."""
        command = ["mosquitto_sub", "-h", "127.0.0.1", "-p", str(self.port), "-t", topic]
        command += ["-W", str(seconds), "-F", "%x"]
        out = subprocess.run(command, capture_output=True, text=True, check=False).stdout
        return [bytes.fromhex(line) for line in out.splitlines()]
