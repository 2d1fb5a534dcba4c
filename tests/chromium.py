"""Debian's Chromium, headless: what a person would see of a page."""

from __future__ import annotations

import base64
import json
import os
import re
import select
import shlex
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.commands import need
from tests.daemon import wait_until

FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--hide-scrollbars",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--enable-logging=stderr",
)


def browse(profile: Path, url: str, *options: str, wait_ms: int = 2000) -> tuple[str, str]:
    """(standard output, console messages) of one visit; ``options`` say what to do there."""
    chromium = need("chromium", "chromium")
    command = [
        chromium,
        *FLAGS,
        f"--user-data-dir={profile}",
        f"--virtual-time-budget={wait_ms}",
        *options,
        url,
    ]
    result = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    console = "\n".join(line for line in result.stderr.splitlines() if "CONSOLE" in line)
    return result.stdout, console


@contextmanager
def running(profile: Path, url: str) -> Iterator[None]:
    """A browser that looks at ``url`` in real time, until the end of the block."""
    chromium = need("chromium", "chromium")
    command = [chromium, *FLAGS, f"--user-data-dir={profile}", url]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield
    finally:
        process.terminate()
        process.wait(30)


def dom(profile: Path, url: str, *options: str, wait_ms: int = 2000) -> tuple[str, str]:
    """(the page as it stands after ``wait_ms``, without its script; console messages)."""
    page, console = browse(profile, url, "--dump-dom", *options, wait_ms=wait_ms)
    return re.sub(r"<script>.*?</script>", "", page, flags=re.DOTALL), console


KEYS = {"Tab": 9, "Enter": 13, "Escape": 27, "Space": 32, "ArrowRight": 39, "ArrowLeft": 37}
PIPE_S = 60.0


class Browser:
    """Chromium under remote control, over its pipe: keys, pictures, and what a screen reader gets.

    A context manager. ``console`` has what pages wrote to it, exceptions too.
    """

    def __init__(self, profile: Path, *, width: int = 1000, height: int = 800) -> None:
        self.console: list[str] = []
        self._number = 0
        self._session: str | None = None
        self._buffer = b""
        to_browser, self._out = os.pipe()
        self._in, from_browser = os.pipe()
        chromium = need("chromium", "chromium")
        flags = " ".join(shlex.quote(flag) for flag in (*FLAGS, f"--user-data-dir={profile}"))
        # Chromium reads commands from descriptor 3 and writes answers to 4.
        script = f"exec {chromium} {flags} --remote-debugging-pipe about:blank 3<&{to_browser} "
        self._process = subprocess.Popen(
            ["bash", "-c", f"{script} 4>&{from_browser}"],
            pass_fds=(to_browser, from_browser),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(to_browser)
        os.close(from_browser)
        page = next(
            one for one in self("Target.getTargets")["targetInfos"] if one["type"] == "page"
        )
        attached = self("Target.attachToTarget", targetId=page["targetId"], flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Log"):
            self(f"{domain}.enable")
        self.resize(width, height)

    def __enter__(self) -> Browser:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.wait(30)
        os.close(self._out)
        os.close(self._in)

    def __call__(self, method: str, **params: Any) -> dict[str, Any]:
        """Send one command and return its result."""
        self._number += 1
        message: dict[str, Any] = {"id": self._number, "method": method, "params": params}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._out, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._next()
            if answer.get("id") == self._number:
                assert "error" not in answer, f"{method}: {answer['error']}"
                return answer["result"]
            self._note(answer)

    def _next(self) -> dict[str, Any]:
        while b"\0" not in self._buffer:
            ready, _, _ = select.select([self._in], [], [], PIPE_S)
            assert ready, "the browser does not answer"
            data = os.read(self._in, 1 << 20)
            assert data, "the browser has ended"
            self._buffer += data
        message, _, self._buffer = self._buffer.partition(b"\0")
        return json.loads(message)

    def _note(self, event: dict[str, Any]) -> None:
        params = event.get("params", {})
        if event.get("method") == "Runtime.consoleAPICalled":
            self.console.append(str([one.get("value") for one in params["args"]]))
        if event.get("method") == "Runtime.exceptionThrown":
            self.console.append(str(params["exceptionDetails"]))
        # An answer of 400 or 409 is one the page tells in its own words.
        if event.get("method") == "Log.entryAdded" and params["entry"]["source"] != "network":
            self.console.append(str(params["entry"]["text"]))

    def resize(self, width: int, height: int) -> None:
        self(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=width < 500,
        )

    def open(self, url: str) -> None:
        self("Page.navigate", url=url)

    def ask(self, expression: str) -> Any:
        """The value of a JavaScript expression on the page; promises are waited for."""
        said = self(
            "Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True
        )
        assert "exceptionDetails" not in said, said["exceptionDetails"]
        return said["result"].get("value")

    def wait(self, expression: str, what: str = "") -> Any:
        """The first true value of an expression."""
        return wait_until(lambda: self.ask(expression), what=what or expression)

    def press(self, key: str, times: int = 1, *, shift: bool = False) -> None:
        """A key as a person presses it."""
        text = {"Enter": "\r", "Space": " "}.get(key)
        code = {"key": " " if key == "Space" else key, "windowsVirtualKeyCode": KEYS[key]}
        for _ in range(times):
            down = {"type": "keyDown", "modifiers": 8 if shift else 0, **code}
            self("Input.dispatchKeyEvent", **down, **({"text": text} if text else {}))
            self("Input.dispatchKeyEvent", type="keyUp", **code)

    def write(self, text: str) -> None:
        """Text into what has the focus."""
        self("Input.insertText", text=text)

    def screenshot(self) -> bytes:
        """The window as PNG."""
        return base64.b64decode(self("Page.captureScreenshot", format="png")["data"])

    def spoken(self) -> list[tuple[str, str]]:
        """(role, name) of all that a screen reader finds, in order."""
        self("Accessibility.enable")
        nodes = self("Accessibility.getFullAXTree")["nodes"]
        return [
            (node["role"]["value"], node.get("name", {}).get("value", ""))
            for node in nodes
            if not node.get("ignored")
        ]
