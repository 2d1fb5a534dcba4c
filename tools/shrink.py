"""Make a student's file smaller: `python -m tools.shrink RUN --rank 256 --data DIR --output SMALL`.

The head that holds a classifier has a linear layer beside it, and that layer a rank far below its width. It becomes
the product of two thin ones, those that change the embeddings of training pictures least (see heads.py). Prints the
cosine between embeddings before and after on held-out pictures. Come after tools.interpolate, before tools.export.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
import torch
import yaml
from numpy.typing import NDArray
from torch import Tensor

from edge_runtime.errors import ConfigError, EdgeLabelError, UsageError
from tools.factory.augment import VIEW, whole_picture
from tools.factory.datasets import cache_pictures, scan
from tools.factory.heads import ClassifierHead
from tools.factory.run import derive_run, load_run
from tools.factory.students import PIXEL_OFFSET, PIXEL_SCALE
from tools.factory.training import embed_pictures

RIDGE = 1e-4  # of the mean second moment: keeps directions that no picture showed


def shrink(run: Path, rank: int, data: Path, cache: Path, output: Path, pictures: int) -> Tensor:
    """Write the run with a head of that rank; cosines (N,) of held-out pictures between before and after.

    Raises ConfigError when the head has nothing to factor, UsageError when `rank` would make it larger.
    """
    recipe, student, _ = load_run(run)
    head = student.head
    if not isinstance(head, ClassifierHead) or recipe.student.head.rank:
        raise ConfigError(f"{run}: needs student.head.kind classifier, not yet shrunk")
    inputs, outputs = head.classify.in_features, head.names.out_features
    if not 0 < rank < inputs * outputs // (inputs + outputs):
        raise UsageError(f"--rank {rank}: must be between 1 and {inputs * outputs // (inputs + outputs) - 1}")
    kept = cache_pictures(scan(recipe.data, data), recipe.input, cache)
    held_out = np.array([sample.held_out for sample in kept.samples])

    def backbone(pixels: Tensor) -> Tensor:
        return student.backbone((pixels - PIXEL_OFFSET) / PIXEL_SCALE)

    def features(rows: NDArray[np.int64]) -> Tensor:
        rows = rows[np.linspace(0, len(rows) - 1, min(pictures, len(rows))).astype(int)]
        views = np.full(len(rows), whole_picture(), VIEW)
        return torch.from_numpy(embed_pictures(backbone, kept, rows, views, recipe.input.size, torch.device("cpu")))

    known = features(np.flatnonzero(~held_out))
    moments = known.T @ known / len(known)
    moments += RIDGE * moments.diagonal().mean() * torch.eye(inputs)
    judged = features(np.flatnonzero(held_out))
    with torch.no_grad():
        before = head(judged)
        head.factor(rank, moments)
        after = head(judged)
    cosines = torch.nn.functional.cosine_similarity(before, after)
    told = yaml.safe_load((run / "recipe.yaml").read_text(encoding="utf-8"))
    told["student"]["head"]["rank"] = rank
    smaller = yaml.safe_dump(told, sort_keys=False, width=120).encode()
    facts = {"rank": rank, "cosine": float(cosines.mean())}
    derive_run(run, output, student.state_dict(), "shrink", facts, smaller)
    return cosines


def main(argv: list[str] | None = None) -> int:
    """Run the verb; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.shrink", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", type=Path, help="a folder tools.distill or tools.interpolate wrote")
    parser.add_argument("--rank", type=int, required=True, help="of the linear layer of the head")
    parser.add_argument("--data", type=Path, default=Path(), help="folder the recipe's picture paths are relative to")
    parser.add_argument("--cache", type=Path, help="the cache of the run (RUN/cache)")
    parser.add_argument("--pictures", type=int, default=1000, help="training pictures to look at, and held-out ones")
    parser.add_argument("--output", type=Path, required=True, help="folder for the smaller run")
    args = parser.parse_args(argv)
    try:
        cosines = shrink(args.run, args.rank, args.data, args.cache or args.run / "cache", args.output, args.pictures)
    except EdgeLabelError as error:
        print(f"shrink: {error}", file=sys.stderr)
        return error.exit_code
    print(f"{args.output}: rank {args.rank}; cosine to before on {len(cosines)} held-out pictures: "
          f"mean {cosines.mean():.4f}, lowest {cosines.min():.4f}")  # fmt: skip
    return 0


if __name__ == "__main__":
    sys.exit(main())
