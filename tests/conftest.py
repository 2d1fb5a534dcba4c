"""Fixtures for all tests: a tiny bundle, the shipped bundle, and ../shared if it exists."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

import edge_runtime
from tests.commands import missing
from tests.paths import REPOSITORY, SHARED
from tests.tiny import write_tiny_bundle


def pytest_report_header() -> str:
    """Which edge_runtime is tested: the wheel's in build/wheel (make test), or this tree's ."""
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
    rows = set(config.getoption("--fault"))
    if rows:
        items[:] = [item for item in items if rows & _fault_rows(item)]


def _fault_rows(item: pytest.Item) -> set[str]:
    rows = set()
    for mark in item.iter_markers("fault"):
        rows.update(mark.args)
    return rows


@pytest.fixture(autouse=True)
def own_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test keeps anything in the user's own state directory."""
    monkeypatch.delenv("STATE_DIRECTORY", raising=False)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))


@pytest.fixture
def tiny_bundle(tmp_path: Path) -> Path:
    """A complete bundle whose encoder is one matrix: 32x32 pixels, 16 dimensions, fast to load."""
    return write_tiny_bundle(tmp_path / "tiny")


@pytest.fixture
def uncounted_children(monkeypatch: pytest.MonkeyPatch) -> None:
    """Child processes do not count their lines, although `make coverage` asks them to.

    For tests of what a process imports, of how little memory it needs, and of a bundle's self-test:
    that gives up root and can then not write coverage's file, and coverage's complaint would stand
    in the place of its own last line.
    """
    monkeypatch.delenv("COVERAGE_PROCESS_CONFIG", raising=False)
    monkeypatch.delenv("COVERAGE_PROCESS_START", raising=False)


@pytest.fixture(scope="session")
def default_bundle() -> Path:
    """The bundle that ships in models/."""
    return REPOSITORY / "models" / "edge-clip"


@pytest.fixture(scope="session")
def shared() -> Path:
    """../shared: pictures, videos and weights that the repository cannot hold. CI must have it."""
    if not SHARED.is_dir():
        missing("needs ../shared (pictures and videos that are not in the repository)")
    return SHARED


@pytest.fixture(scope="session")
def videos(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The real clips, unpacked."""
    folder = tmp_path_factory.mktemp("videos")
    with zipfile.ZipFile(shared / "data" / "videos.zip") as archive:
        archive.extractall(folder)
    return folder / "videos"
