"""docs/your-clip.md: its commands, in its order, from an open_clip checkpoint to a bundle."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from edge_runtime.model.bundle import load_bundle
from tests.commands import need
from tests.doubles.ports import free_port
from tests.paths import REPOSITORY

pytest.importorskip("torch", reason="needs edge-label[train]")
pytest.importorskip("transformers", reason="needs edge-label[train]")
Image = pytest.importorskip("PIL.Image", reason="needs edge-label[train]")

PAGE = REPOSITORY / "docs" / "your-clip.md"
TINY = REPOSITORY / "tests" / "tools" / "factory" / "teachers" / "open_clip"

# Nothing else of the page is changed.
FASTER = {"batch: 64": "batch: 4", "epochs: 10": "epochs: 1", "size: 176": "size: 64"}
LABELS = {
    "parked truck": (200, 40, 40),
    "open gate": (40, 160, 60),
    "nothing": (180, 180, 185),
}


def blocks(language: str) -> list[str]:
    """The code blocks of the page in one language, in order."""
    text = PAGE.read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


def noise(colour: tuple[int, int, int], seed: int) -> Image.Image:
    grain = np.random.default_rng(seed).normal(0, 25, (48, 64, 3))
    return Image.fromarray(np.clip(np.array(colour) + grain, 0, 255).astype(np.uint8))


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files that git has, and what the page takes for granted: weights, pictures, programs."""
    need("git", "git")
    if not (REPOSITORY / ".git").exists():
        pytest.skip("needs a checkout")
    root = tmp_path_factory.mktemp("checkout")
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=REPOSITORY, check=True, capture_output=True, text=True
    )
    for name in filter(None, listed.stdout.split("\0")):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(REPOSITORY / name, root / name)

    shutil.copy(TINY / "tiny.safetensors", root / "my-weights.safetensors")
    (root / "pictures").mkdir()
    for name, colour in LABELS.items():
        for number in range(10):
            noise(colour, number).save(root / "pictures" / f"{name}-{number}.jpg")
        if name != "nothing":
            (root / "labelled" / name).mkdir(parents=True)
            for number in range(10):
                noise(colour, 50 + number).save(root / "labelled" / name / f"{number}.png")

    recipe, labels = blocks("yaml")
    for long, short in FASTER.items():
        assert long in recipe
        recipe = recipe.replace(long, short)
    (root / "yard.yaml").write_text(recipe)
    (root / "my-labels.yaml").write_text(labels)
    (root / "more-labels.yaml").write_text("labels: [fog bank, dog]\n")
    return root


@pytest.fixture(scope="module")
def environment(checkout: Path) -> dict[str, str]:
    """Programs and packages as in the environment that the page makes."""
    package = checkout / "site" / "open_clip"
    (package / "model_configs").mkdir(parents=True)
    shutil.copy(TINY / "tiny.json", package / "model_configs" / "ViT-B-32.json")
    shutil.copy(TINY / "bpe.txt.gz", package / "bpe_simple_vocab_16e6.txt.gz")

    programs = {
        "python": "",
        "edge-label": "-m edge_runtime",
        "torchrun": "-m torch.distributed.run",
    }
    (checkout / "bin").mkdir()
    for name, arguments in programs.items():
        program = checkout / "bin" / name
        program.write_text(f'#!/bin/sh\nexec {sys.executable} {arguments} "$@"\n')
        program.chmod(0o755)

    # No wheel of this tree and no counting of lines: the checkout runs its own files.
    dropped = ("PYTHONSAFEPATH", "COVERAGE", "EDGE_LABEL")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(dropped)}
    return kept | {
        "PATH": f"{checkout / 'bin'}:{os.environ['PATH']}",
        "PYTHONPATH": str(checkout / "site"),
        "OMP_NUM_THREADS": "1",
        "HF_HUB_OFFLINE": "1",
    }


def start(block: str, checkout: Path, environment: Mapping[str, str]) -> subprocess.Popen[str]:
    return subprocess.Popen(
        ["bash", "-euc", block],
        cwd=checkout,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def finish(process: subprocess.Popen[str]) -> str:
    output, _ = process.communicate(timeout=600)
    assert process.returncode == 0, output[-3000:]
    return output


@pytest.fixture(scope="module")
def teacher(checkout: Path, environment: Mapping[str, str]) -> Path:
    """What the first command of the page makes."""
    assert "my-clip: ViT-B-32" in finish(start(blocks("sh")[0], checkout, environment))
    return checkout / "my-clip"


def steps_of(run: Path) -> int:
    from tools.factory.training.checkpoint import read_checkpoint

    return int(read_checkpoint(run / "checkpoint.pt")["step"])


@pytest.mark.usefixtures("teacher")
def test_the_page_leads_from_an_open_clip_checkpoint_to_a_bundle(
    checkout: Path, environment: Mapping[str, str]
) -> None:
    commands = [block for block in blocks("sh")[1:] if "torchrun" not in block]
    assert len(commands) == 6
    outputs = [finish(start(block, checkout, environment)) for block in commands]
    assert "| 1,000,000 |" in outputs[0]
    assert (checkout / "yard.tar").stat().st_size > 1_000_000
    bundle = load_bundle(checkout / "models" / "yard")
    bundle.verify()
    assert bundle.manifest.text_space == "my-clip"
    assert (checkout / "my-labels.calibrated.yaml").exists()
    assert (checkout / "more-labels.embeddings").exists()


@pytest.mark.usefixtures("teacher")
def test_two_processes_of_one_machine_train_by_the_pages_command(
    checkout: Path, environment: Mapping[str, str]
) -> None:
    (block,) = (block for block in blocks("sh") if "--nproc-per-node 2" in block)
    finish(start(block.replace("--output RUN", "--output RUN-2"), checkout, environment))
    # 28 pictures or so are left to train on: eight a step.
    assert steps_of(checkout / "RUN-2") == 3


@pytest.mark.usefixtures("teacher")
def test_two_machines_train_by_the_pages_command(
    checkout: Path, environment: Mapping[str, str]
) -> None:
    (block,) = (block for block in blocks("sh") if "--nnodes 2" in block)
    here = block.replace("first-machine:29400", f"127.0.0.1:{free_port()}")
    here = here.replace("--output RUN", "--output RUN-3")
    assert here.count("127.0.0.1") == here.count("RUN-3") == 1
    machines = [start(here, checkout, environment) for _ in range(2)]
    for machine in machines:
        finish(machine)
    assert steps_of(checkout / "RUN-3") == 3
