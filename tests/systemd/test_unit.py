"""systemd accepts the unit without a word, it is hardened, and `make install` installs it."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from tests.commands import need
from tests.daemon import REPOSITORY

UNIT = REPOSITORY / "systemd" / "edge-label.service"
TEMPLATE = UNIT.with_name("edge-label@.service")
UNITS = {"etc/systemd/system/edge-label.service", "etc/systemd/system/edge-label@.service"}
OFFLINE = UNIT.with_name("offline.conf")
CSI = UNIT.with_name("csi.conf")


@pytest.fixture(scope="module")
def systemd_analyze() -> str:
    return need("systemd-analyze", "systemd")


def make(target: str, root: Path, *variables: str) -> None:
    subprocess.run(
        ["make", "-s", target, f"DESTDIR={root}", *variables],
        cwd=REPOSITORY,
        check=True,
        timeout=60,
    )


def files(root: Path) -> set[str]:
    return {str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()}


def installed(root: Path) -> Path:
    """The unit, installed with a program that is there, as verify wants it."""
    make("install", root, "EDGE_LABEL=/bin/true")
    return root / "etc/systemd/system/edge-label.service"


def with_drop_in(unit: Path, drop_in: Path) -> Path:
    """The unit with a drop-in beside it, where systemd looks for drop-ins."""
    folder = unit.with_name(f"{unit.name}.d")
    folder.mkdir()
    (folder / drop_in.name).write_text(drop_in.read_text())
    return unit


def must_accept(systemd_analyze: str, unit: Path) -> None:
    """Fails where systemd has a word to say about our unit."""
    done = subprocess.run(
        [systemd_analyze, "verify", "--man=no", unit], capture_output=True, text=True, timeout=60
    )
    # systemd speaks of the host's other units too, when it has any; ours is what counts.
    assert [line for line in done.stderr.splitlines() if "edge-label" in line] == []
    assert done.returncode == 0, done.stderr


def test_systemd_accepts_the_unit_without_a_word(systemd_analyze: str, tmp_path: Path):
    must_accept(systemd_analyze, installed(tmp_path))


def test_systemd_accepts_an_instance_without_a_word(systemd_analyze: str, tmp_path: Path):
    unit = installed(tmp_path).with_name("edge-label@front.service")
    unit.with_name("edge-label@.service").rename(unit)
    must_accept(systemd_analyze, unit)


def test_an_instance_differs_from_the_only_service_in_its_names():
    """Whatever protects one camera protects each of several."""
    ours = [line for line in TEMPLATE.read_text().splitlines() if line and line[0] != "#"]
    theirs = [line for line in UNIT.read_text().splitlines() if line and line[0] != "#"]
    assert [line for line in ours if line not in theirs] == [
        "Description=edge-label: text labels for every frame of camera %i",
        "Documentation=file:/etc/edge-label/%i.yaml",
        "ExecStart=/usr/local/bin/edge-label run --config /etc/edge-label/%i.yaml",
        "Environment=EDGE_LABEL_INSTANCE=%i",
        "User=edge-label-%i",
        "StateDirectory=edge-label-%i",
        "WorkingDirectory=/var/lib/edge-label-%i",
    ]
    assert len(ours) == len(theirs) + 1


def exposure(systemd_analyze: str, unit: Path) -> float:
    """The figure of ``systemd-analyze security``; lower is better."""
    done = subprocess.run(
        [systemd_analyze, "security", "--offline=true", "--no-pager", unit],
        capture_output=True,
        text=True,
        timeout=60,
    )
    found = re.search(r"Overall exposure level for .*: ([\d.]+)", done.stdout)
    assert found, done.stdout + done.stderr
    print(f"exposure {found[1]}")
    return float(found[1])


@pytest.mark.parametrize("path", [UNIT, TEMPLATE])
def test_the_unit_is_hardened_to_2_0_or_better(systemd_analyze: str, path: Path, tmp_path: Path):
    unit = tmp_path / path.name.replace("@", "@front")
    unit.write_text(path.read_text())
    assert exposure(systemd_analyze, unit) <= 2.0


@pytest.mark.fault("P2")
@pytest.mark.parametrize(
    "line",
    [
        "Type=notify",
        "WatchdogSec=30",
        "RestartPreventExitStatus=78",
        "MemoryMax=256M",
        "OOMPolicy=continue",
        "DeviceAllow=char-81 rw",
        "Environment=ORT_DISABLE_TELEMETRY=1",
    ],
)
def test_the_unit_keeps_what_the_daemon_relies_on(line: str):
    assert any(written.startswith(line) for written in UNIT.read_text().splitlines())


@pytest.fixture
def offline(tmp_path: Path) -> Path:
    return with_drop_in(installed(tmp_path), OFFLINE)


@pytest.mark.fault("D3")
def test_the_offline_drop_in_leaves_no_network():
    """A second list of families only adds to the first, unless an empty line clears it before."""
    lines = [line for line in OFFLINE.read_text().splitlines() if line and not line.startswith("#")]
    assert lines == [
        "[Service]",
        "PrivateNetwork=yes",
        "IPAddressDeny=any",
        "RestrictAddressFamilies=",
        "RestrictAddressFamilies=AF_UNIX",
    ]


@pytest.mark.fault("D3")
def test_systemd_sees_no_network_with_the_offline_drop_in(systemd_analyze: str, offline: Path):
    command = [systemd_analyze, "security", "--offline=true", "--no-pager", offline]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    marks = {
        line.split()[1]: line.split()[0]
        for line in done.stdout.splitlines()
        if len(line.split()) > 1
    }
    assert marks["PrivateNetwork="] == "✓", done.stdout
    assert marks["IPAddressDeny="] == "✓", done.stdout
    assert marks["RestrictAddressFamilies=~AF_(INET|INET6)"] == "✓", done.stdout


def test_private_devices_would_hide_the_camera():
    assert not re.search(r"^PrivateDevices=(yes|true|1)", UNIT.read_text(), re.MULTILINE)


@pytest.mark.parametrize("folder", ["root", "a folder with spaces"])
def test_install_and_uninstall_are_inverse(tmp_path: Path, folder: str):
    root = tmp_path / folder
    make("install", root)
    unit = root / "etc/systemd/system/edge-label.service"
    assert (
        "ExecStart=/usr/local/bin/edge-label run --config /etc/edge-label/edge-label.yaml"
        in unit.read_text()
    )
    assert (root / "var/lib/edge-label").is_dir()
    assert files(root) == UNITS | {"etc/edge-label/edge-label.yaml"}
    make("uninstall", root)
    assert files(root) == set()
    assert not (root / "var/lib/edge-label").exists()
    assert not (root / "etc/edge-label").exists()


@pytest.mark.fault("U8")
@pytest.mark.parametrize(
    "variable", [None, "STATEDIR=/var/lib/", "STATEDIR=/home/me", "SYSCONFDIR="]
)
def test_uninstall_deletes_nothing_that_install_did_not_make(tmp_path: Path, variable: str | None):
    make("install", tmp_path)
    (tmp_path / "etc/edge-label/edge-label.yaml").write_text("camera: {source: demo}\n")
    mine = [
        "etc/edge-label/my.yaml",
        "var/lib/edge-label/labels.jsonl",
        "var/lib/private/edge-label/labels.jsonl",
        "var/lib/other/database",
        "var/lib/edge-label-bundles/current/manifest.json",
        "home/me/photo.jpg",
        "edge-label/edge-label.yaml",
    ]
    for name in mine:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    done = subprocess.run(
        ["make", "-s", "uninstall", f"DESTDIR={tmp_path}", *([variable] if variable else [])],
        cwd=REPOSITORY,
        check=True,
        capture_output=True,
        text=True,
        timeout=60,
    )
    left = {"etc/edge-label/edge-label.yaml", *mine}
    assert files(tmp_path) - UNITS == left
    if variable is None:
        assert not UNITS & files(tmp_path)
        assert f"delete it yourself if you want to: {tmp_path}/var/lib/edge-label" in done.stdout


@pytest.mark.fault("U8")
def test_make_deletes_whole_folders_only_by_a_name_that_is_written_out():
    lines = [line for line in (REPOSITORY / "Makefile").read_text().splitlines() if "rm -r" in line]
    assert lines
    assert not [line for line in lines if "$(" in line]


def test_installing_again_keeps_an_edited_configuration(tmp_path: Path):
    make("install", tmp_path)
    edited = tmp_path / "etc/edge-label/edge-label.yaml"
    edited.write_text("camera: {source: demo}\n")
    make("install", tmp_path, "PREFIX=/usr")
    assert edited.read_text() == "camera: {source: demo}\n"
    assert (
        "ExecStart=/usr/bin/edge-label "
        in (tmp_path / "etc/systemd/system/edge-label.service").read_text()
    )


@pytest.fixture
def csi(tmp_path: Path) -> Path:
    return with_drop_in(installed(tmp_path), CSI)


def test_systemd_accepts_the_csi_drop_in_without_a_word(systemd_analyze: str, csi: Path):
    must_accept(systemd_analyze, csi)


def test_the_csi_drop_in_opens_only_what_a_ribbon_camera_needs(systemd_analyze: str, csi: Path):
    """docs/cameras.md says what `systemd-analyze security` says."""
    figure = exposure(systemd_analyze, csi)
    assert figure <= exposure(systemd_analyze, UNIT) + 0.1
    assert f"gives {figure}" in (REPOSITORY / "docs" / "cameras.md").read_text()
    lines = [line for line in CSI.read_text().splitlines() if line and not line.startswith("#")]
    assert lines == [
        "[Service]",
        "DeviceAllow=char-media rw",
        "DeviceAllow=char-dma_heap rw",
        "RestrictAddressFamilies=AF_NETLINK",
        "TasksMax=128",
        "MemoryMax=384M",
    ]
