"""The emulated machine, built once a session, and what the checks saw in it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.commands import missing
from tools.arm64 import debian, machine


@pytest.fixture(scope="session")
def built(default_bundle: Path) -> machine.Machine:
    """The image, which no run changes."""
    try:
        return machine.build(default_bundle)
    except debian.MissingPieceError as error:
        missing(error)
