"""Do two versions label alike? The records of real clips and pictures, times left out.

    python -m tools.upkeep.same_records make ../shared OLD      # at the old version
    python -m tools.upkeep.same_records make ../shared NEW      # at the new one
    python -m tools.upkeep.same_records compare OLD NEW

`make` labels every clip of SHARED/data/videos.zip with the set `road`, and every picture of
SHARED/data/eval.zip with `everyday`. `compare` exits with 1 when a record differs.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from edge_runtime.errors import DataError, NoInputError
from tools.lib.command import run_verb, verb_parser
from tools.lib.paths import REPOSITORY

CLIPS = (".avi", ".mkv", ".mp4", ".webm")

# What the clock, the machine or the run decides, and not the code.
VARYING = (
    "time",
    "mono_s",
    "boot_id",
    "ms",
    "fps",
    "dropped",
    "rss_mb",
    "pss_mb",
    "temp_c",
    "throttled",
    "clock_unsynced",
)

SHOWN = 5  # differences of one file that are printed whole


def normalised(line: str) -> str:
    """A JSON record without what varies from run to run, keys sorted, on one line."""
    record = json.loads(line)

    for field in VARYING:
        record.pop(field, None)

    return json.dumps(record, ensure_ascii=False, sort_keys=True)


def make(shared: Path, folder: Path) -> None:
    """Write the records of this version, one file a clip and one for the pictures.

    Raises NoInputError where the clips or the pictures are missing, DataError where a run fails.
    """
    archives = [shared / "data" / name for name in ("videos.zip", "eval.zip")]

    for archive in archives:
        if not archive.is_file():
            raise NoInputError(f"{archive}: no such file", "give the folder that holds data/")

    folder.mkdir(parents=True, exist_ok=True)

    with tempfile.TemporaryDirectory() as unpacked:
        for archive in archives:
            with zipfile.ZipFile(archive) as stored:
                stored.extractall(unpacked)

        root = Path(unpacked)
        clips = sorted(path for path in root.rglob("*") if path.suffix in CLIPS)

        for clip in clips:
            arguments = ["run", "--camera", clip.name, "--labels", "road"]
            _write(folder / f"{clip.stem}.jsonl", arguments, clip.parent)

        _write(folder / "once.jsonl", ["once", "eval", "--labels", "everyday"], root)


def _write(target: Path, arguments: list[str], folder: Path) -> None:
    """Run edge-label in `folder`, so that records name no path of this machine; keep its output."""
    done = subprocess.run(
        [sys.executable, "-m", "edge_runtime", *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )

    if done.returncode:
        raise DataError(f"edge-label {' '.join(arguments)}: ended with {done.returncode}")

    lines = done.stdout.splitlines()
    target.write_text("".join(normalised(line) + "\n" for line in lines))
    print(f"{target}: {len(lines)} records")


def differences(old: Path, new: Path) -> list[str]:
    """One text for each record that is not the same in both files."""
    lines_before = old.read_text().splitlines()
    lines_after = new.read_text().splitlines() if new.exists() else []
    pairs = itertools.zip_longest(lines_before, lines_after)

    return [
        f"{new.name}:{number}:\n  before {before}\n  after  {after}"
        for number, (before, after) in enumerate(pairs, 1)
        if before != after
    ]


def compare(old: Path, new: Path) -> int:
    """Print what differs between two folders of records; returns the number of differences.

    Raises NoInputError where `old` holds no records.
    """
    files = sorted(old.glob("*.jsonl"))
    if not files:
        raise NoInputError(f"{old}: no records in it", "write them with: same_records make")

    total = 0
    for before in files:
        changed = differences(before, new / before.name)
        count = len(before.read_text().splitlines())
        verdict = f"{len(changed)} of them differ" if changed else "all the same"
        print(f"{before.name}: {count} records, {verdict}")
        for text in changed[:SHOWN]:
            print(text)
        total += len(changed)
    return total


def _work(options: argparse.Namespace) -> int:
    if options.verb == "make":
        make(options.shared, options.folder)
        return 0

    return 1 if compare(options.old, options.new) else 0


def main(argv: list[str] | None = None) -> int:
    """The command line."""
    parser = verb_parser("tools.upkeep.same_records", __doc__, whole=True)
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")

    making = verbs.add_parser("make", help="write the records of this version")
    making.add_argument("shared", type=Path, help="folder that holds data/")
    making.add_argument("folder", type=Path, help="where the records go")

    comparing = verbs.add_parser("compare", help="exit 1 when a record differs")
    comparing.add_argument("old", type=Path, help="records of the version before")
    comparing.add_argument("new", type=Path, help="records of the version after")

    return run_verb(parser, _work, argv)


if __name__ == "__main__":
    sys.exit(main())
