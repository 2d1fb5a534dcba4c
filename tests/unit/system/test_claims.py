"""Only one process writes to a claimed file, and a second one learns which process that is."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from edge_runtime.system.claims import TakenError, claim, claim_folder, let_go


@pytest.fixture
def path(tmp_path: Path) -> Path:
    file = tmp_path / "run.jsonl"
    file.touch()
    return file


def opened(path: Path) -> int:
    return os.open(path, os.O_RDWR)


@pytest.fixture
def other_process(path: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that has claimed ``path``."""
    code = (
        "import os, sys; from edge_runtime.system.claims import claim\n"
        "claim(os.open(sys.argv[1], os.O_RDWR)); print('claimed', flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", code, str(path)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "claimed\n"
        yield process
        process.kill()


def test_another_process_is_named(path: Path, other_process: subprocess.Popen[str]):
    fd = opened(path)
    with pytest.raises(TakenError, match=rf"process {other_process.pid} \(\S+\) writes there"):
        claim(fd)
    let_go(fd)


def test_a_claim_ends_with_its_process(path: Path, other_process: subprocess.Popen[str]):
    other_process.kill()
    other_process.wait()
    fd = opened(path)
    claim(fd)
    let_go(fd)


def test_an_older_claim_of_our_own_is_told_apart_from_another_process(path: Path):
    """As during a reload: the new sink waits until the old one has closed."""
    old = opened(path)
    new = opened(path)
    claim(old)
    with pytest.raises(BlockingIOError):
        claim(new)
    let_go(old)
    claim(new)
    let_go(new)


def test_a_folder_is_claimed_once_and_a_refusal_leaves_nothing_open(tmp_path: Path):
    fd = claim_folder(tmp_path)
    before = set(Path("/proc/self/fd").iterdir())
    with pytest.raises(BlockingIOError):
        claim_folder(tmp_path)
    assert set(Path("/proc/self/fd").iterdir()) == before
    let_go(fd)
    let_go(claim_folder(tmp_path))
