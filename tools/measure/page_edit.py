"""How long a change on the preview page takes: `python -m tools.measure.page_edit`.

Runs the daemon with the demo camera and an editable page, and asks the page as a browser does. A
change takes from the request until the page is told scores of the new labels. The child process
gives way to all others, so seconds are right only on a quiet machine; its processor seconds are
right on any. Memory is the highest proportional set size meanwhile, of both processes together.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

from edge_runtime.errors import DataError
from tests.doubles.mosquitto import free_port
from tools.lib import markdown
from tools.lib.command import run_verb, verb_parser
from tools.measure.label_cost import family, pss_mb

LOOK_S = 0.125  # between two looks of a page
PATIENCE_S = 120.0
TOKEN = "0123456789abcdef"  # noqa: S105 - of a page that lives for a minute
HEAD = ("change", "seconds", "child's processor seconds", "daemon and child, peak MB")


class Page:
    """The page of a daemon that runs until the end of the block."""

    def __init__(self, folder: Path, bundle: str, labels: str) -> None:
        token = folder / "token"
        token.write_text(TOKEN)
        token.chmod(0o600)
        port = free_port()
        self._url = f"http://127.0.0.1:{port}"
        self.peak_mb = 0.0
        self._over = threading.Event()
        command = [sys.executable, "-m", "edge_runtime", "--camera", "demo", "--labels", labels]
        command += ["--bundle", bundle, "--preview", f"127.0.0.1:{port}", "--preview-edit"]
        command += ["--preview-token-file", str(token), "--output", str(folder / "o.jsonl")]
        environment = {**os.environ, "STATE_DIRECTORY": str(folder / "state")}
        self._daemon = subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL)

    def __enter__(self) -> Page:
        threading.Thread(target=self._watch, daemon=True).start()
        self.wait(lambda: self.state()["edit"]["scores"], "the first scores")
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._daemon.terminate()
        self._daemon.wait()

    def _watch(self) -> None:
        while not self._over.wait(0.02):
            now = sum(pss_mb(pid) for pid in family(self._daemon.pid))
            self.peak_mb = max(self.peak_mb, now)

    def ask(self, path: str, body: dict[str, Any] | None = None) -> Any:
        """What the page answers, as JSON. Raises DataError with its line."""
        return json.loads(self.fetch(path, body))

    def fetch(self, path: str, body: dict[str, Any] | None = None) -> bytes:
        """What the page answers. Raises DataError with its line."""
        request = urllib.request.Request(f"{self._url}/{path}")  # noqa: S310 - our own address
        request.add_header("Authorization", f"Bearer {TOKEN}")
        if body is not None:
            request.data = json.dumps(body).encode()
            request.add_header("Content-Type", "application/json")
            request.add_header("Origin", self._url)
            request.add_header("X-Edge-Label", "measurement")
        try:
            with urllib.request.urlopen(request, timeout=20) as answer:  # noqa: S310 - as above
                content: bytes = answer.read()
                return content
        except urllib.error.HTTPError as error:
            raise DataError(f"{path}: {error.read().decode().strip()}") from error

    def state(self) -> Any:
        """What the page looks at, eight times a second."""
        return self.ask("state")

    def wait(self, ready: Callable[[], Any], what: str) -> None:
        """Look until it is so."""
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline:
            try:
                if ready():
                    return
            except OSError:  # it has not opened its page yet
                pass
            time.sleep(LOOK_S)
        raise DataError(f"{what}: not within {PATIENCE_S:.0f} s")

    def child_s(self) -> float:
        """Processor seconds of the daemon's children that have ended."""
        fields = Path(f"/proc/{self._daemon.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[13]) + int(fields[14])) / os.sysconf("SC_CLK_TCK")

    def change(self, path: str, body: dict[str, Any], label: str) -> tuple[float, float, float]:
        """Seconds until the job has ended and `label` has a score, the child's processor seconds,
        and the peak in MB."""
        before = self.state()
        number = before["edit"]["notice"]["number"]
        self.peak_mb = 0.0
        before_s = self.child_s()
        started = time.monotonic()
        self.ask(path, body)

        def ready() -> bool:
            state = self.state()
            edit = state["edit"]
            return edit["notice"]["number"] > number and label in edit["scores"]

        self.wait(ready, path)
        seconds = time.monotonic() - started
        notice = self.state()["edit"]["notice"]
        if notice["is_error"]:
            raise DataError(notice["text"])
        return seconds, self.child_s() - before_s, self.peak_mb


def changed(
    page: Page, change: Callable[[list[Any]], None], label: str
) -> tuple[float, float, float]:
    """The cost of a change of the list of labels, after which `label` has a score."""
    present = page.ask("labels")
    change(present["set"]["labels"])
    return page.change("labels", present, label)


def keep_pictures(page: Page, count: int) -> None:
    """Keep pictures of what is on, of two labels or more."""
    kept: dict[str, int] = {}
    while sum(kept.values()) < count or len(kept) < 2:
        record = page.state()["record"]
        on = [label["name"] for label in record["labels"] if label["on"]]
        if on and kept.get(on[0], 0) <= count // 2:
            page.fetch("picture.jpg")
            page.change("keep", {"label": on[0], "seq": record["seq"]}, on[0])
            kept[on[0]] = kept.get(on[0], 0) + 1
        time.sleep(LOOK_S)


def measure(page: Page, pictures: int) -> list[tuple[str, float, float, float]]:
    """A row for each kind of change."""
    first = page.ask("labels")["set"]["labels"][0]["name"]

    def threshold(labels: list[Any]) -> None:
        labels[0]["threshold"] = 0.5

    def known(labels: list[Any]) -> None:
        labels.append({"name": "umbrella", "group": "tried"})

    def new(labels: list[Any]) -> None:
        labels.append({"name": "a parcel at the door", "group": "tried"})

    rows = [
        ("a threshold", *changed(page, threshold, first)),
        ("a phrase of the text bank", *changed(page, known, "umbrella")),
        ("a phrase that the bank lacks", *changed(page, new, "a parcel at the door")),
    ]
    keep_pictures(page, pictures)
    rows.append((f"learning from {pictures} pictures", *page.change("learn", {}, first)))
    return rows


def main(argv: list[str] | None = None) -> int:
    """Run the measurement; returns the exit code."""
    parser = verb_parser("tools.measure.page_edit", __doc__, whole=True)
    add = parser.add_argument
    add("--bundle", default="models/edge-clip", metavar="DIR", help="default models/edge-clip")
    add("--labels", default="everyday", metavar="SET", help="default everyday")
    add("--pictures", type=int, default=12, metavar="N", help="to learn from (default 12)")
    return run_verb(parser, _page_edit, argv)


def _page_edit(args: argparse.Namespace) -> str:
    with tempfile.TemporaryDirectory() as name, Page(Path(name), args.bundle, args.labels) as page:
        rows = measure(page, args.pictures)
    cells = [
        (what, f"{seconds:.1f}", f"{child:.1f}", f"{peak:.0f}")
        for what, seconds, child, peak in rows
    ]
    return markdown.table(HEAD, cells)


if __name__ == "__main__":
    sys.exit(main())
