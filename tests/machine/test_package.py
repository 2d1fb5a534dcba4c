"""The Debian package: clean by lintian, and installed, upgraded and removed on a real system."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.commands import need
from tools.arm64 import deb, debian, machine

from . import package_checks

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
        if os.environ.get("CI"):
            pytest.fail(f"missing in CI: {error}")
        pytest.skip(str(error))

    older = built.rename(folder / "older.deb")
    tree = folder / "tree"
    debian.run("dpkg-deb", "--raw-extract", older, tree)
    control = tree / "DEBIAN/control"
    control.write_text(control.read_text().replace("\nVersion: ", "\nVersion: 1:"))
    newer = folder / "newer.deb"
    debian.run("dpkg-deb", "--root-owner-group", HASTY, "--build", tree, newer)
    return Packages(older, newer)


@pytest.fixture(scope="module")
def report(packages: Packages, default_bundle: Path) -> dict[str, dict]:
    """Boot the machine, run every check; what each saw, by name."""
    built = machine.build(default_bundle)
    files = [packages.older, packages.newer]
    status, output, seconds = built.run(Path(package_checks.__file__), SECONDS, files=files)
    lines = [json.loads(line) for line in output.splitlines() if line.startswith("{")]
    print(f"\n{len(lines)} checks in {seconds:.0f} s, {status} failed", file=sys.stderr)
    return {line["check"]: line for line in lines}


@pytest.mark.parametrize("name", [check.__name__ for check in package_checks.CHECKS])
def test_on_a_real_system(report: dict[str, dict], name: str) -> None:
    assert name in report, "the machine ended before this check"
    seen = report[name]
    print(f"{name}: {seen['seen']} ({seen['seconds']} s)")
    assert seen["ok"], seen["seen"]


def test_lintian_finds_no_error(packages: Packages) -> None:
    lintian = need("lintian", "lintian")
    done = subprocess.run(
        [lintian, "--allow-root", "--fail-on", "error", packages.older],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
