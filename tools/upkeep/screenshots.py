"""Take the pictures of docs/images again, from a live run: ``python -m tools.upkeep.screenshots``.

Runs the demo camera with the preview page and lets Debian's Chromium, without a window, visit it as
a desktop, as a desktop in dark mode and as a phone; then draws the report of the same run. Look at
each picture before you commit it.
"""

from __future__ import annotations

import argparse
import io
import json
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from pathlib import Path

from PIL import Image

from tests.doubles.mosquitto import free_port

ROOT = Path(__file__).resolve().parents[2]
SHOTS = {
    "preview-desktop": ((1000, 740), ()),
    "preview-dark": ((1000, 740), ("--blink-settings=preferredColorScheme=0",)),
    "preview-phone": ((390, 1260), ()),
}
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
    """Is the label with the best score on? Not so in the second after a change, nor before the
    first picture."""
    try:
        with urllib.request.urlopen(f"{url}state", timeout=10) as answer:  # noqa: S310 - our own http address
            record = json.load(answer)["record"]
    except OSError:
        return False
    return bool(record and record["labels"] and record["labels"][0]["on"])


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


def main() -> int:
    """Command line."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.upkeep.screenshots", description=(__doc__ or "").split("\n\n")[0]
    )
    parser.add_argument(
        "--output", type=Path, default=ROOT / "docs" / "images", help="folder (default docs/images)"
    )
    options = parser.parse_args()
    if not shutil.which("chromium"):
        raise SystemExit("screenshots: chromium is not installed; apt-get install chromium")
    port = free_port()
    url = f"http://127.0.0.1:{port}/"
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        command = [
            sys.executable,
            "-m",
            "edge_runtime",
            "--camera",
            "demo",
            "--preview",
            f"127.0.0.1:{port}",
        ]
        daemon = subprocess.Popen([*command, "--output", folder / "run.jsonl"])
        start = time.monotonic()
        try:
            while not calm(url) and daemon.poll() is None:
                time.sleep(0.1)
            for shot, (size, more) in SHOTS.items():
                keep(shoot_calmly(url, size, more, folder), options.output / f"{shot}.png")
            time.sleep(max(0.0, RUN_S - (time.monotonic() - start)))
        finally:
            daemon.terminate()
            daemon.wait()
        command = [
            sys.executable,
            "-m",
            "edge_runtime",
            "report",
            folder / "run.jsonl",
            "--output",
            folder / "r.html",
        ]
        subprocess.run([*command, "--png", folder / "report.png"], check=True)
        report = Image.open(folder / "report.png")
        keep(
            report.resize((1000, round(report.height * 1000 / report.width))),
            options.output / "report.png",
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
