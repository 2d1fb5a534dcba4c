"""The Debian package: clean by lintian, and installed, upgraded and removed on a real system."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.commands import missing, need
from tools.arm64 import deb, debian
from tools.arm64.machine import Machine

from . import package_checks
from .report import Report, assert_passed, run

pytestmark = pytest.mark.machine

SECONDS = 900
HASTY = "-Zgzip"


@dataclass(frozen=True)
class Packages:
    """This tree's package, and the same with a higher version."""

    older: Path
    newer: Path


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Packages:
    folder = tmp_path_factory.mktemp("deb")
    try:
        suite = "trixie" if debian.codename() == "trixie" else "bookworm"
        built = deb.build(deb.Target("arm64", suite), folder, compression=HASTY)
    except debian.MissingPieceError as error:
        missing(error)

    older = built.rename(folder / "older.deb")
    tree = folder / "tree"
    debian.run("dpkg-deb", "--raw-extract", older, tree)
    control = tree / "DEBIAN/control"
    control.write_text(control.read_text().replace("\nVersion: ", "\nVersion: 1:"))
    newer = folder / "newer.deb"
    debian.run("dpkg-deb", "--root-owner-group", HASTY, "--build", tree, newer)
    return Packages(older, newer)


@pytest.fixture(scope="module")
def report(built: Machine, packages: Packages) -> Report:
    files = [packages.older, packages.newer]
    return run(built, package_checks.__file__, SECONDS, files)


@pytest.mark.parametrize("name", [check.__name__ for check in package_checks.CHECKS])
def test_on_a_real_system(report: Report, name: str) -> None:
    assert_passed(report, name)


def test_lintian_finds_no_error(packages: Packages) -> None:
    lintian = need("lintian", "lintian")
    done = subprocess.run(
        [lintian, "--allow-root", "--fail-on", "error", packages.older],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
