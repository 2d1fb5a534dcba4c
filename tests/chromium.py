"""Debian's Chromium, headless: what a person would see of a page."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.commands import need

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
