"""Take the pictures of docs/images again, from a live run: ``python -m tools.upkeep.screenshots``.

Runs the demo camera with the preview page and lets Debian's Chromium, without a window, visit it as
a desktop, as a desktop in dark mode and as a phone; then draws the report of the same run. Look at
each picture before you commit it.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from pathlib import Path

from PIL import Image

from edge_runtime.errors import DataError
from tests.doubles.ports import free_port
from tools.lib.command import run_verb, verb_parser
from tools.lib.paths import REPOSITORY

SHOTS = {
    "preview-desktop": ((1000, 740), ()),
    "preview-dark": ((1000, 740), ("--blink-settings=preferredColorScheme=0",)),
    "preview-phone": ((390, 1260), ()),
}
EDGE_LABEL = (sys.executable, "-m", "edge_runtime")
TOKEN = "0123456789abcdef"  # noqa: S105 - of a page that lives for a minute
EDITED = """\
labels:
  - {name: cat, group: subject}
  - {name: a cup of coffee, group: subject}
  - {name: motorcycle, group: subject, threshold: 0.5}
background: [a wall]
"""
EDIT_SIZE = (1000, 1180)
RUN_S = 22.0  # twice around the demo's photographs, for the report


def shoot(
    url: str, size: tuple[int, int], options: tuple[str, ...], profile: Path
) -> Image.Image | None:
    """What a browser with a window of ``size`` shows after two seconds; None when it does not come
    to an end."""
    picture = profile / "shot.png"
    picture.unlink(missing_ok=True)
    width, height = size
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--no-first-run"]
    flags += [
        f"--user-data-dir={profile}",
        f"--window-size={width},{height}",
        "--virtual-time-budget=2500",
    ]
    command = ["chromium", *flags, *options, f"--screenshot={picture}", url]
    try:
        subprocess.run(command, check=True, capture_output=True, timeout=40)
    except subprocess.TimeoutExpired:
        return None
    return Image.open(io.BytesIO(picture.read_bytes())) if picture.exists() else None


def calm(url: str) -> bool:
    """Is a label on, and in each group the one with the best score, if any? Not so in the second
    after a change, nor before the first picture."""
    request = urllib.request.Request(f"{url.replace(f'x:{TOKEN}@', '')}state")  # noqa: S310 - ours
    request.add_header("Authorization", f"Bearer {TOKEN}")
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310 - as above
            groups = json.load(answer)["groups"]
    except OSError:
        return False
    on = [[label["on"] for label in group["labels"]] for group in groups]
    return any(map(any, on)) and all(group[0] or not any(group) for group in on)


def shoot_calmly(
    url: str, size: tuple[int, int], options: tuple[str, ...], profile: Path
) -> Image.Image:
    """A shot that was not taken within a change: the second before the browser ended, in which it
    took it, was calm."""
    for _ in range(20):
        looks: list[bool] = []
        done = threading.Event()

        def watch(looks: list[bool] = looks, done: threading.Event = done) -> None:
            while not done.wait(0.1):
                looks.append(calm(url))

        watcher = threading.Thread(target=watch)
        watcher.start()
        try:
            picture = shoot(url, size, options, profile)
        finally:
            done.set()
            watcher.join()
        if picture is not None and len(looks) >= 10 and all(looks[-10:]):
            return picture
    raise SystemExit("screenshots: the labels are never calm; look at the page itself")


def keep(picture: Image.Image, path: Path) -> None:
    """256 colours are enough to show a page, at a third of the size."""
    picture.convert("RGB").quantize(256, dither=Image.Dither.NONE).save(path, optimize=True)
    print(f"{path}: {picture.width}x{picture.height}, {path.stat().st_size // 1000} KB")


def main(argv: list[str] | None = None) -> int:
    """Take the pictures; returns the exit code."""
    parser = verb_parser("tools.upkeep.screenshots", __doc__)
    images = REPOSITORY / "docs" / "images"
    parser.add_argument("--output", type=Path, default=images, help="folder (default docs/images)")
    return run_verb(parser, _screenshots, argv)


def _screenshots(args: argparse.Namespace) -> None:
    if not shutil.which("chromium"):
        raise DataError("chromium is not installed", "apt-get install chromium")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        shoot_page(folder, args.output)
        shoot_editor(folder, args.output)
        shoot_report(folder, args.output)


def shoot_page(folder: Path, output: Path) -> None:
    """Run the demo camera and take the preview page in every form; leaves run.jsonl in `folder`."""
    address = f"127.0.0.1:{free_port()}"
    url = f"http://{address}/"
    command = [*EDGE_LABEL, "--camera", "demo", "--preview", address]
    daemon = subprocess.Popen([*command, "--output", folder / "run.jsonl"])
    start = time.monotonic()
    try:
        while not calm(url) and daemon.poll() is None:
            time.sleep(0.1)
        for shot, (size, options) in SHOTS.items():
            keep(shoot_calmly(url, size, options, folder), output / f"{shot}.png")
        # The report below is drawn of this run, so it must be long enough to show something.
        time.sleep(max(0.0, RUN_S - (time.monotonic() - start)))
    finally:
        daemon.terminate()
        daemon.wait()


def shoot_editor(folder: Path, output: Path) -> None:
    """Run the demo camera with a page that changes labels, and take that page."""
    token = folder / "token"
    token.write_text(TOKEN)
    token.chmod(0o600)
    labels = folder / "porch.yaml"
    labels.write_text(EDITED)
    address = f"127.0.0.1:{free_port()}"
    url = f"http://x:{TOKEN}@{address}/"
    command = [*EDGE_LABEL, "--camera", "demo", "--labels", labels, "--preview", address]
    command += ["--preview-edit", "--preview-token-file", token, "--output", folder / "edit.jsonl"]
    environment = {**os.environ, "STATE_DIRECTORY": str(folder / "state")}
    daemon = subprocess.Popen(command, env=environment)
    try:
        while not calm(url) and daemon.poll() is None:
            time.sleep(0.1)
        keep(shoot_calmly(url, EDIT_SIZE, (), folder), output / "preview-edit.png")
    finally:
        daemon.terminate()
        daemon.wait()


def shoot_report(folder: Path, output: Path) -> None:
    """Draw the report of the run in `folder`."""
    png = folder / "report.png"
    command = [*EDGE_LABEL, "report", folder / "run.jsonl", "--output", folder / "r.html"]
    subprocess.run([*command, "--png", png], check=True)
    report = Image.open(png)
    height = round(report.height * 1000 / report.width)
    keep(report.resize((1000, height)), output / "report.png")


if __name__ == "__main__":
    sys.exit(main())
