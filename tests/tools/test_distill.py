"""Distillation: the same bits after a resume, in one process or two, and bad input that stops with one line."""

from __future__ import annotations

from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="needs edge-label[train]")
pytest.importorskip("transformers", reason="needs edge-label[train]")

from tools import distill  # noqa: E402
from tools.factory.training import read_checkpoint  # noqa: E402

REPOSITORY = Path(__file__).resolve().parents[2]


def run(recipe: str, data: Path, output: Path, *options: str) -> int:
    """The verb in this process; the recipe lies beside the output."""
    path = output.parent / f"{output.name}.yaml"
    path.write_text(recipe)
    return distill.main(
        [str(path), "--data", str(data), "--output", str(output), "--quiet", "--device", "cpu", *options]
    )


def same_weights(a: Path, b: Path) -> bool:
    """Whether two checkpoints hold the same bits."""
    states = [read_checkpoint(p / "checkpoint.pt") for p in (a, b)]
    return all(
        torch.equal(states[0][part][name], states[1][part][name])
        for part in ("student", "average")
        for name in states[0][part]
    )


def test_a_resumed_run_ends_in_the_same_bits(recipe_text: str, colour_pictures: Path, tmp_path: Path) -> None:
    assert run(recipe_text, colour_pictures, tmp_path / "whole") == 0
    assert run(recipe_text, colour_pictures, tmp_path / "cut", "--steps", "3") == 0
    assert read_checkpoint(tmp_path / "cut" / "checkpoint.pt")["step"] == 3
    torch.manual_seed(99)  # a fresh process would not stand where the first one stopped either
    assert run(recipe_text, colour_pictures, tmp_path / "cut", "--resume") == 0
    assert same_weights(tmp_path / "whole", tmp_path / "cut")
    log = (tmp_path / "whole" / "log.jsonl").read_text()
    assert "validation" in log
