"""Walk part of the way from the start to the trained weights: `python -m tools.interpolate RUN --data DIR --cache DIR`.

Fine-tuning buys what it was trained on and forgets some of what the start knew; weights in between often have
most of both (WiSE-FT, Wortsman et al., CVPR 2022). Prints held-out scores at several shares of the way; with
--share and --output, writes the run at one of them, for tools.export and the verbs after it.

Needs a run whose start is known exactly: head kind "classifier" and no inserted BatchNorm.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from edge_runtime.errors import ConfigError, EdgeLabelError, UsageError
from tools.distill import make_teacher, prepare
from tools.factory.run import derive_run, load_run
from tools.factory.students import Student, build_student
from tools.factory.training import score_held_out

SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)


def between(start: dict[str, Tensor], end: dict[str, Tensor], share: float) -> dict[str, Tensor]:
    """start + share * (end - start), tensor by tensor."""
    return {name: torch.lerp(start[name], end[name], share) for name in end}


def start_and_end(run: Path) -> tuple[Student, dict[str, Tensor], dict[str, Tensor]]:
    """(the run's student, its weights before training, its averaged weights after).

    Raises ConfigError when the start cannot be known from the recipe.
    """
    recipe, student, _ = load_run(run)
    head = recipe.student.head
    if head.kind != "classifier" or head.rank or recipe.train.norm_batches:
        raise ConfigError(
            f"{run}: needs student.head.kind classifier, whole, and train.norm_batches 0 to know its start"
        )
    end = {name: tensor.clone() for name, tensor in student.state_dict().items()}
    outputs = end["head.names.weight"].shape[0]
    return student, build_student(recipe.student, outputs).state_dict(), end


def write_share(run: Path, share: float, output: Path) -> None:
    """Copy a run to `output` with its averaged weights moved back to `share` of the way."""
    _, start, end = start_and_end(run)
    derive_run(run, output, between(start, end, share), "interpolation", {"share": share, "run": run.name})


def main(argv: list[str] | None = None) -> int:
    """Run the verb; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.interpolate", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", type=Path, help="a folder tools.distill wrote")
    parser.add_argument("--data", type=Path, default=Path(), help="folder the recipe's picture paths are relative to")
    parser.add_argument("--cache", type=Path, help="the cache of the run (RUN/cache)")
    parser.add_argument("--shares", type=float, nargs="*", default=list(SHARES), help="shares of the way to score")
    parser.add_argument("--share", type=float, help="the one to write to --output")
    parser.add_argument("--output", type=Path, help="folder for the run at --share")
    args = parser.parse_args(argv)
    try:
        if (args.share is None) != (args.output is None):
            raise UsageError("--share and --output belong together")
        if args.share is not None:
            write_share(args.run, args.share, args.output)
            print(f"{args.output}: {args.share:.0%} of the way from the start to {args.run}")
        else:
            compare(args.run, args.data, args.cache or args.run / "cache", args.shares)
    except EdgeLabelError as error:
        print(f"interpolate: {error}", file=sys.stderr)
        return error.exit_code
    return 0


def compare(run: Path, data: Path, cache: Path, shares: list[float]) -> None:
    """Print a Markdown table of held-out scores at each share."""
    recipe, _, _ = load_run(run)
    student, start, end = start_and_end(run)
    materials = prepare(recipe, make_teacher(recipe), data, cache, quiet=True)
    rows = np.array([i for i, sample in enumerate(materials.cache.samples) if sample.held_out], np.int64)
    for number, share in enumerate(shares):
        student.load_state_dict(between(start, end, share))
        scores = score_held_out(student, materials, rows, torch.device("cpu"))
        top1 = scores["top1"]
        names = [*(top1 if isinstance(top1, dict) else {}), "mean_top1", "small_top1", "conditions"]
        if not number:
            print("| share | " + " | ".join(names) + " |\n| ---: |" + " ---: |" * len(names))
        flat = {**(top1 if isinstance(top1, dict) else {}), **scores}
        print(f"| {share:.2f} | " + " | ".join(f"{100 * float(flat[n]):.1f}" for n in names) + " |", flush=True)  # type: ignore[arg-type]


if __name__ == "__main__":
    sys.exit(main())
