"""The arm64 userland, built once a session. What it lacks skips for a user and fails in CI."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NoReturn

import pytest

from tools.arm64 import debian
from tools.arm64.userland import DEFAULT_ROOT, Userland, build


def missing(error: debian.MissingPieceError) -> NoReturn:
    """Skip, saying what is missing; in CI nothing may be missing."""
    if os.environ.get("CI"):
        pytest.fail(f"missing in CI: {error}")
    pytest.skip(str(error))


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
