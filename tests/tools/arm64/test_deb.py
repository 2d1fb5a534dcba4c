"""What the Debian package is made of; `make vm-test` builds, installs and removes it."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tools.arm64 import deb
from tools.arm64.deb import TEMPLATES, Target


def test_a_package_serves_one_release_of_python():
    target = Target("arm64", "bookworm")
    assert (target.python, target.next_python) == ("3.11", "3.12")


def test_an_upgrade_of_debian_upgrades_the_package():
    older, newer = (Target("arm64", suite).version for suite in ("bookworm", "trixie"))
    done = subprocess.run(["dpkg", "--compare-versions", older, "lt", newer], check=False)
    assert done.returncode == 0


@pytest.mark.parametrize("name", ["preinst", "postinst", "prerm", "postrm"])
def test_the_shell_can_read_every_maintainer_script(name: str):
    assert subprocess.run(["sh", "-n", TEMPLATES / name], check=False).returncode == 0


def test_the_package_refuses_to_mix_with_an_installation_by_pip():
    text = (TEMPLATES / "preinst").read_text()
    assert "exit 1" in text.split("/opt/edge-label/bin/pip", 1)[1]


def test_the_service_of_the_package_runs_the_program_of_the_package(tmp_path: Path):
    deb._service(tmp_path)
    units = sorted((tmp_path / deb.UNITS).iterdir())
    assert [unit.name for unit in units] == ["edge-label.service", "edge-label@.service"]
    assert all("ExecStart=/usr/bin/edge-label run" in unit.read_text() for unit in units)
    assert (tmp_path / deb.CONFIG).is_file()


def test_every_field_of_the_control_file_is_filled_in(tmp_path: Path):
    (tmp_path / "usr").mkdir()
    (tmp_path / "usr/file").write_text("x" * 4096)
    deb._control(tmp_path, Target("amd64", "trixie"))
    control = (tmp_path / "DEBIAN/control").read_text()
    assert "@" not in control.replace("maintainers@", "")
    assert "Architecture: amd64" in control
    assert "python3 (>= 3.13~), python3 (<< 3.14)" in control
