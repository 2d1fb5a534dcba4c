"""Is this tree fit to release? ``make release-check``: wheel and sdist, an empty environment, the
demo from the wheel.

The wheel must hold edge_runtime and nothing else; alone, without the demo's photographs or a
bundle, it must say in one line what to add. With both it must label. Needs Python's venv and a
package index, and nothing installed.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

from tools.lib.paths import REPOSITORY
from tools.upkeep import lock

BUILD = REPOSITORY / "build" / "release"
BUNDLE = REPOSITORY / "models" / "edge-clip"
DEMO_SECONDS = 3


def environment(name: str, *install: str) -> Path:
    """A new virtual environment with ``install`` in it; returns its ``bin``."""
    venv.create(BUILD / name, with_pip=True)
    binaries = BUILD / name / "bin"
    pip = BUILD / "pip.txt"
    # venv's own is too old to check the hashes of constraints
    pip.write_text(lock.requirements(["pip"]))
    subprocess.run(
        [binaries / "python", "-m", "pip", "install", "--quiet", "--require-hashes", "-r", pip],
        check=True,
    )
    locked_install(binaries, *install)
    return binaries


def locked_install(binaries: Path, *install: str) -> None:
    """``pip install`` of the locked releases."""
    locked = ["--constraint", lock.LOCK, "--build-constraint", lock.LOCK, "--no-require-hashes"]
    subprocess.run(
        [binaries / "python", "-m", "pip", "install", "--quiet", *locked, *install], check=True
    )


def strangers(wheel: Path) -> list[str]:
    """Files in the wheel that are neither edge_runtime nor its own metadata."""
    names = zipfile.ZipFile(wheel).namelist()
    return [
        name for name in names if not name.startswith("edge_runtime/") and ".dist-info/" not in name
    ]


def demo(binaries: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """``edge-label --camera demo`` where nothing of this tree is near."""
    command = [
        binaries / "edge-label",
        "--camera",
        "demo",
        "--seconds",
        str(DEMO_SECONDS),
        *arguments,
    ]
    clean = {
        key: value
        for key, value in os.environ.items()
        if not key.startswith(("EDGE_LABEL", "PYTHON"))
    }
    return subprocess.run(
        command, cwd=BUILD, env=clean, capture_output=True, text=True, check=False, timeout=120
    )


def main() -> int:
    """Run every step; the first that fails ends it with one line."""
    shutil.rmtree(BUILD, ignore_errors=True)
    shutil.rmtree(REPOSITORY / "dist", ignore_errors=True)
    builder = environment("builder", "build", "hatchling")
    output = REPOSITORY / "dist"
    build = [builder / "python", "-m", "build", "--no-isolation", "--outdir", output, REPOSITORY]
    subprocess.run(build, check=True, stdout=subprocess.DEVNULL)
    (wheel,) = (REPOSITORY / "dist").glob("*.whl")
    (sdist,) = (REPOSITORY / "dist").glob("*.tar.gz")
    built = [f"{path.name} ({path.stat().st_size} bytes)" for path in (wheel, sdist)]
    print(f"built {' and '.join(built)}")
    foreign = strangers(wheel)
    if foreign:
        raise SystemExit(f"release-check: not for the wheel: {', '.join(foreign)}")

    # Without the optional parts, each missing thing must be one line and a failure.
    alone = environment("alone", str(wheel))
    for missing, arguments in (
        ("a bundle", ()),
        ("the demo's photographs", ("--bundle", str(BUNDLE))),
    ):
        process = demo(alone, *arguments)
        result = f"without {missing}: exit {process.returncode}"
        if process.returncode == 0 or len(process.stderr.splitlines()) != 1:
            raise SystemExit(f"release-check: {result}, not one line:\n{process.stderr}")
        print(f"{result}: {process.stderr.strip()}")

    locked_install(alone, f"{wheel}[demo]")
    process = demo(alone, "--bundle", str(BUNDLE))
    records = [json.loads(line) for line in process.stdout.splitlines()]
    labelled = any(record["state"] == "ok" for record in records)
    if process.returncode or len(records) < DEMO_SECONDS or not labelled:
        result = f"exit {process.returncode}, {len(records)} records"
        raise SystemExit(f"release-check: the demo: {result}:\n{process.stderr}")
    print(f"demo from the wheel: {len(records)} records; {process.stderr.splitlines()[-1]}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
