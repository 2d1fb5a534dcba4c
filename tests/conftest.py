"""Fixtures for all tests: a tiny bundle made on the spot, the shipped bundle, and ../shared where it is there."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path

import pytest

import edge_runtime
from tests.tiny import write_tiny_bundle

REPOSITORY = Path(__file__).resolve().parents[1]
SHARED = REPOSITORY.parent / "shared"


def pytest_report_header() -> str:
    """Which edge_runtime is tested: the wheel's in build/wheel (make test), or this tree's (pytest alone)."""
    return f"edge_runtime: {Path(edge_runtime.__file__).parent}"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--fault",
        action="append",
        default=[],
        metavar="ID",
        help="only tests of this row of the matrix",
    )


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    wanted = set(config.getoption("--fault"))
    if wanted:
        items[:] = [
            i
            for i in items
            if wanted & {row for mark in i.iter_markers("fault") for row in mark.args}
        ]


@pytest.fixture
def tiny_bundle(tmp_path: Path) -> Path:
    """A complete bundle whose encoder is one matrix: 32x32 pixels, 16 dimensions, milliseconds to load."""
    return write_tiny_bundle(tmp_path / "tiny")


@pytest.fixture(scope="session")
def default_bundle() -> Path:
    """The bundle that ships in models/."""
    return REPOSITORY / "models" / "edge-clip"


@pytest.fixture(scope="session")
def shared() -> Path:
    """../shared: pictures, videos and weights that cannot be in the repository. In CI it must be there."""
    if not SHARED.is_dir():
        if os.environ.get("CI"):
            pytest.fail("../shared is missing in CI; nothing may skip for that reason there")
        pytest.skip("needs ../shared (pictures and videos that are not in the repository)")
    return SHARED


@pytest.fixture(scope="session")
def videos(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The real clips, unpacked."""
    folder = tmp_path_factory.mktemp("videos")
    with zipfile.ZipFile(shared / "data" / "videos.zip") as archive:
        archive.extractall(folder)
    return folder / "videos"
