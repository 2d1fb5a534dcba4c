"""The arm64 userland, built once a session. What it lacks skips for a user and fails in CI."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.commands import missing
from tools.arm64 import debian
from tools.arm64.userland import DEFAULT_ROOT, Userland, build


@pytest.fixture(scope="session")
def userland() -> Userland:
    try:
        return build(DEFAULT_ROOT)
    except debian.MissingPieceError as error:
        missing(error)


@pytest.fixture(scope="session")
def photographs() -> list[Path]:
    """Real photographs: the ones the demo shows."""
    from edge_runtime.camera.demo import PHOTOGRAPHS, _photograph_folder

    return [_photograph_folder() / name for name in PHOTOGRAPHS]
