"""What each optimisation is worth: one change at a time, for the tables of docs/decisions/003.

    python -m tools.a72.ablate               # measure what is missing, write the table (5 minutes)
    python -m tools.a72.ablate --only arena  # measure again the changes with this in their name

Each row is the pipeline with one thing changed and everything else as shipped. Earlier bundles come
from this repository's history. Results are saved in ablation.json after each change. Needs the
arm64 userland, and for the earlier bundles a clone with its history.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from tools.a72 import compare, keep
from tools.a72.cycles import CycleTable
from tools.a72.fit import CENTRAL, PESSIMISTIC, Coefficients, Work, load_validation
from tools.a72.model import DEFAULT_LABELS, encoder_work, frame_model
from tools.a72.trace import BUILD
from tools.arm64 import debian
from tools.arm64.userland import DEFAULT_ROOT, REPOSITORY, Userland
from tools.lib import markdown
from tools.lib.command import run_verb, verb_parser

KEPT = Path(__file__).with_name("ablation.json")
PAGE = REPOSITORY / "docs/decisions/003-arm64-speed-and-memory.md"
BEGIN = "<!-- python -m tools.a72.ablate -->\n"
END = "<!-- end -->"
SHIPPED = "as shipped"


@dataclass(frozen=True)
class Change:
    """One change and the decision about it.

    `prelude` (Python statements) and `environment` make the change in the guest.
    """

    name: str
    verdict: str
    prelude: str = ""
    environment: dict[str, str] = field(default_factory=dict)


OPTIONS = """
import edge_runtime.model.encoder as encoder
import onnxruntime
shipped = encoder.session_options
def session_options(threads):
    options = shipped(threads)
    {}
    return options
encoder.session_options = session_options
"""
SMALL = {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}
CHANGES = [
    Change(SHIPPED, ""),
    Change(
        "decode the JPEG at full size",
        "rejected: half size covers the input",
        "import edge_runtime.camera.decode as decode\n"
        "decode._REDUCED = {1: decode.cv2.IMREAD_COLOR}",
    ),
    Change(
        "do not give freed heap back after loading",
        "rejected: more memory, no time",
        "from edge_runtime.system import memory\nmemory.release_memory = lambda: None",
    ),
    Change(
        "ONNX Runtime's memory pattern on",
        "rejected: no gain here, more memory on x86-64 (decision 002)",
        OPTIONS.format("options.enable_mem_pattern = True"),
    ),
    Change(
        "ONNX Runtime's arena off",
        "rejected: slower and larger",
        OPTIONS.format("options.enable_cpu_mem_arena = False"),
    ),
    Change(
        "`MALLOC_MMAP_THRESHOLD_` and `MALLOC_TRIM_THRESHOLD_` of 64 KB",
        "rejected: pages come and go in every frame; "
        "the kernel's work for that is not in these figures",
        environment=SMALL,
    ),
]
# Name, the revision that shipped it, what was new in its encoder.
BUNDLES = [
    ("edge-clip 0.1.0", "10a105e", "padding as operators of its own"),
    ("edge-clip 0.2.0", "fb98e25", 'padding folded into the convolutions ("SAME")'),
    ("edge-clip 0.3.0", "1daa52b", "the same network, trained further"),
]


def _encoder_of(revision: str) -> Path:
    """The encoder that this repository shipped at `revision`."""
    BUILD.mkdir(parents=True, exist_ok=True)
    path = BUILD / f"{revision}.onnx"
    blob = subprocess.run(
        ["git", "-C", REPOSITORY, "show", f"{revision}:models/edge-clip/encoder.onnx"],
        capture_output=True,
        check=False,
    )
    if blob.returncode:
        raise debian.MissingPieceError(
            f"revision {revision} is not in this clone; run `git fetch --unshallow`"
        )
    path.write_bytes(blob.stdout)
    return path


def run(only: str | None) -> None:
    """Measure the rows with `only` in their name, or without it the rows that are not saved yet."""
    kept = json.loads(KEPT.read_text()) if KEPT.exists() else {"changes": {}, "bundles": {}}
    userland = Userland(DEFAULT_ROOT)
    table = CycleTable()

    def is_due(name: str, rows: dict[str, object]) -> bool:
        return only.lower() in name.lower() if only else name not in rows

    def save() -> None:
        KEPT.write_text(json.dumps(kept, indent=1) + "\n")

    for change in CHANGES:
        if is_due(change.name, kept["changes"]):
            frame = frame_model(
                keep.BUNDLE,
                DEFAULT_LABELS,
                userland,
                table,
                prelude=change.prelude,
                environment=change.environment,
            )
            kept["changes"][change.name] = {
                "instructions": frame.instructions,
                "decode_ms": round(CENTRAL * frame.stage_ms("decode", 4), 2),
                "encode_ms": round(CENTRAL * frame.stage_ms("encode", 4), 2),
                "pessimistic_ms": round(frame.ms(4, PESSIMISTIC), 2),
                "rss_mb": keep.rss_mb(userland, keep.BUNDLE, change.prelude, change.environment),
            }
            save()
            print(f"{change.name}: {kept['changes'][change.name]}", file=sys.stderr, flush=True)

    for name, revision, _ in BUNDLES:
        if is_due(name, kept["bundles"]):
            kept["bundles"][name] = asdict(encoder_work(_encoder_of(revision), userland, table))
            save()
            print(f"{name}: {kept['bundles'][name]}", file=sys.stderr, flush=True)


def as_markdown(coefficients: Coefficients) -> str:
    """Both tables, from ablation.json."""
    kept = json.loads(KEPT.read_text())
    return f"{_changes_table(kept['changes'])}\n\n{_encoders_table(kept['bundles'], coefficients)}"


def _changes_table(kept: dict[str, Any]) -> str:
    head = (
        "change",
        "M instructions",
        "decode, ms",
        "encode, ms",
        "frame, pessimistic, ms",
        "guest RSS, MB",
        "verdict",
    )
    rows = []
    for change in CHANGES:
        # The table is measured in pieces; what is not measured yet is left out.
        if change.name in kept:
            row = kept[change.name]
            rows.append(
                [
                    change.name,
                    f"{row['instructions'] / 1e6:.2f}",
                    f"{row['decode_ms']:.1f}",
                    f"{row['encode_ms']:.1f}",
                    f"{row['pessimistic_ms']:.1f}",
                    f"{row['rss_mb']:.1f}",
                    change.verdict,
                ]
            )
    return markdown.table(head, rows, "lrrrrrl")


def _encoders_table(kept: dict[str, Any], coefficients: Coefficients) -> str:
    head = (
        "encoder alone",
        "M instructions",
        "memory traffic, MB",
        "ms, 4 threads",
        "ms, 4 threads, pessimistic",
        "",
    )
    encoders = [(name, Work(**kept[name]), note) for name, _, note in BUNDLES if name in kept]
    for name, row in compare.load().items():
        if name.startswith("student"):
            encoders.append((name, row.work, "random weights"))

    rows = []
    for name, work, note in encoders:
        ms = coefficients.ms(work, 4)
        rows.append(
            [
                name,
                f"{work.instructions / 1e6:.0f}",
                f"{work.dram_mb:.0f}",
                f"{CENTRAL * ms:.1f}",
                f"{PESSIMISTIC * ms:.1f}",
                note,
            ]
        )
    return markdown.table(head, rows, "lrrrrl")


def write_page() -> None:
    """Write both tables between the two marks of the page."""
    before, rest = PAGE.read_text().split(BEGIN)
    after = rest.split(END)[1]
    PAGE.write_text(f"{before}{BEGIN}{as_markdown(load_validation().coefficients)}\n{END}{after}")


def main(argv: list[str] | None = None) -> int:
    """Run the ablation; returns the exit code."""
    parser = verb_parser("tools.a72.ablate", __doc__, whole=True)
    add = parser.add_argument
    add("--only", metavar="TEXT", help="measure again the changes with this in their name")
    return run_verb(parser, _ablate, argv, failures={RuntimeError: 69})


def _ablate(args: argparse.Namespace) -> str:
    run(args.only)
    write_page()
    return f"{PAGE} written"


if __name__ == "__main__":
    sys.exit(main())
