"""The figures that CI compares a change with: instructions of one frame, and resident memory.

    python -m tools.a72.keep            # measure; exit 1 if a figure left the bounds of kept.json
    python -m tools.a72.keep --write    # measure, and save the figures as the new bounds

A change that costs 3 % more instructions or 5 MB more memory fails. A change that saves as much
fails too, until its figure is saved: otherwise later changes could lose the gain unnoticed.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
from dataclasses import asdict, dataclass, field
from pathlib import Path

from tools.a72.cycles import CycleTable
from tools.a72.encoder import EncoderRow, measure_encoder
from tools.a72.fit import Work
from tools.a72.model import DEFAULT_LABELS, frame_model
from tools.a72.operators import OperatorRow, profile
from tools.a72.trace import changed
from tools.arm64.userland import DEFAULT_ROOT, REPOSITORY, Userland
from tools.lib.command import run_verb, verb_parser

KEPT = Path(__file__).with_name("kept.json")
BUNDLE = REPOSITORY / "models/edge-clip"
# Instruction counts repeat within 1 %.
INSTRUCTIONS_SLACK = 0.03
RSS_SLACK_MB = 5.0
GUEST_MEMORY = REPOSITORY / "tools/arm64/guest_memory.py"
PICTURES = 4
NO_ENCODER = EncoderRow(Work(0, 0, 0, 0), 0, 0)


@dataclass(frozen=True)
class Figures:
    """What one frame of the default bundle costs on arm64.

    Only `instructions` and `rss_mb` are compared; the rest is for docs/performance.md.
    """

    bundle: str
    instructions: int
    rss_mb: float
    stages: dict[str, Work] = field(default_factory=dict)
    operators: list[OperatorRow] = field(default_factory=list)
    encoder: EncoderRow = NO_ENCODER

    def complaints(self, kept: Figures) -> list[str]:
        """One line for each figure that left the bounds around `kept`."""
        lines = []
        change = self.instructions / kept.instructions - 1
        if abs(change) > INSTRUCTIONS_SLACK:
            now = f"{self.instructions / 1e6:.2f} M"
            before = f"{kept.instructions / 1e6:.2f} M"
            lines.append(
                f"instructions per frame: {now}, saved {before} "
                f"({change:+.1%}, allowed {INSTRUCTIONS_SLACK:.0%})"
            )
        more = self.rss_mb - kept.rss_mb
        if abs(more) > RSS_SLACK_MB:
            lines.append(
                f"guest RSS: {self.rss_mb:.1f} MB, saved {kept.rss_mb:.1f} MB "
                f"({more:+.1f}, allowed {RSS_SLACK_MB:.0f})"
            )
        return lines


def rss_mb(
    userland: Userland, bundle: Path, prelude: str = "", environment: dict[str, str] | None = None
) -> float:
    """Highest guest-attributed RSS of `edge-label run` over a few 640x480 JPEGs, MB."""
    from edge_runtime.commands.builtin_frame import builtin_jpeg

    with tempfile.TemporaryDirectory(prefix="a72-") as folder:
        first = Path(folder) / "0.jpg"
        first.write_bytes(builtin_jpeg().tobytes())
        for n in range(1, PICTURES):
            shutil.copy(first, Path(folder) / f"{n}.jpg")
        program = changed(GUEST_MEMORY, prelude, bundle, folder)
        process = userland.run(*program, environment=environment)
    if process.returncode:
        reason = process.stderr.strip()[-300:]
        raise RuntimeError(f"edge-label run failed in the userland: {reason}")
    total: float = json.loads(process.stdout.splitlines()[-1])["total"]
    return total


def measure(userland: Userland, bundle: Path = BUNDLE, *, everything: bool = False) -> Figures:
    """Measure both figures.

    With `everything`, also measure the encoder alone and its operators, which takes a minute more.
    """
    manifest = json.loads((bundle / "manifest.json").read_text())
    table = CycleTable()
    frame = frame_model(bundle, DEFAULT_LABELS, userland, table)
    return Figures(
        f"{manifest['name']} {manifest['version']}",
        frame.instructions,
        rss_mb(userland, bundle),
        frame.stages,
        profile(bundle / "encoder.onnx", userland, table) if everything else [],
        measure_encoder(bundle / "encoder.onnx", userland, table) if everything else NO_ENCODER,
    )


def load_kept(path: Path = KEPT) -> Figures:
    """Read the figures that the repository holds."""
    kept = json.loads(path.read_text())
    kept["stages"] = {stage: Work(**work) for stage, work in kept["stages"].items()}
    kept["operators"] = [
        OperatorRow(**{**row, "work": Work(**row["work"])}) for row in kept["operators"]
    ]
    kept["encoder"] = EncoderRow.from_dict(kept["encoder"])
    return Figures(**kept)


def main(argv: list[str] | None = None) -> int:
    """Measure and compare; returns the exit code."""
    parser = verb_parser("tools.a72.keep", __doc__, whole=True)
    parser.add_argument("--write", action="store_true", help="save the measured figures")
    return run_verb(parser, _keep, argv, failures={RuntimeError: 69})


def _keep(args: argparse.Namespace) -> int:
    figures = measure(Userland(DEFAULT_ROOT), everything=args.write)
    millions = figures.instructions / 1e6
    print(f"{figures.bundle}: {millions:.2f} M instructions, {figures.rss_mb:.1f} MB")
    if args.write:
        KEPT.write_text(json.dumps(asdict(figures), indent=1) + "\n")
        return 0

    complaints = figures.complaints(load_kept())
    print("\n".join(complaints), file=sys.stderr)
    return 1 if complaints else 0


if __name__ == "__main__":
    sys.exit(main())
