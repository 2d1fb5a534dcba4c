"""Take the pictures of docs/images again, from a live run: ``python -m tools.screenshots``.

Runs the demo camera with the preview page and lets Debian's Chromium, without a window, visit it as a desktop, as a
desktop in dark mode and as a phone; then draws the report of the same run. Look at each picture before you commit it.
"""

from __future__ import annotations

import argparse
import io
import json
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

from PIL import Image

from tools.mosquitto import free_port

ROOT = Path(__file__).resolve().parents[1]
SHOTS = {
    "preview-desktop": ((1000, 650), ()),
    "preview-dark": ((1000, 650), ("--blink-settings=preferredColorScheme=0",)),
    "preview-phone": ((390, 1260), ()),
}
RUN_S = 22.0  # twice around the demo's photographs, for the report


def shoot(url: str, size: tuple[int, int], options: tuple[str, ...], profile: Path) -> Image.Image:
    """What a browser with a window of ``size`` shows after two seconds."""
    picture = profile / "shot.png"
    width, height = size
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--no-first-run", "--lang=en-GB"]
    flags += [f"--user-data-dir={profile}", f"--window-size={width},{height}", "--virtual-time-budget=2500"]
    command = ["chromium", *flags, *options, f"--screenshot={picture}", url]
    subprocess.run(command, check=True, capture_output=True, timeout=120)
    return Image.open(io.BytesIO(picture.read_bytes()))


def wait_for_label(url: str, name: str) -> None:
    """Until that label is on, so that the picture shows one; at most a minute."""
    for _ in range(600):
        try:
            with urllib.request.urlopen(f"{url}state", timeout=5) as answer:  # noqa: S310 - our own http address
                record = json.load(answer)["record"]
        except OSError:
            record = None
        if record and any(label["name"] == name and label["on"] for label in record["labels"]):
            return
        time.sleep(0.1)
    raise SystemExit(f"screenshots: '{name}' does not go on within a minute; is the demo running?")


def keep(picture: Image.Image, path: Path) -> None:
    """256 colours are enough to show a page, at a third of the size."""
    picture.convert("RGB").quantize(256, dither=Image.Dither.NONE).save(path, optimize=True)
    print(f"{path}: {picture.width}x{picture.height}, {path.stat().st_size // 1000} KB")


def main() -> int:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m tools.screenshots", description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--output", type=Path, default=ROOT / "docs" / "images", help="folder (default docs/images)")
    options = parser.parse_args()
    if not shutil.which("chromium"):
        raise SystemExit("screenshots: chromium is not installed; apt-get install chromium")
    port = free_port()
    url = f"http://127.0.0.1:{port}/"
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        command = [sys.executable, "-m", "edge_runtime", "--camera", "demo", "--preview", f"127.0.0.1:{port}"]
        daemon = subprocess.Popen([*command, "--output", folder / "run.jsonl"])
        start = time.monotonic()
        try:
            for shot, (size, more) in SHOTS.items():
                wait_for_label(url, "cat")
                keep(shoot(url, size, more, folder), options.output / f"{shot}.png")
            time.sleep(max(0.0, RUN_S - (time.monotonic() - start)))
        finally:
            daemon.terminate()
            daemon.wait()
        command = [sys.executable, "-m", "edge_runtime", "report", folder / "run.jsonl", "--output", folder / "r.html"]
        subprocess.run([*command, "--png", folder / "report.png"], check=True)
        keep(Image.open(folder / "report.png"), options.output / "report.png")
    return 0


if __name__ == "__main__":
    sys.exit(main())
