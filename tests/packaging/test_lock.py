"""What anybody installs is what was tested: requirements.lock, and how pip takes it."""

from __future__ import annotations

import hashlib
import importlib.metadata
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

from tests.daemon import REPOSITORY
from tests.dockerfile import Dockerfile
from tools.upkeep import lock

PROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())
PINS = lock.read(lock.LOCK.read_text())
PYTHONS = ("3.11", "3.12", "3.13")


def written_requirements() -> list[str]:
    """All that pyproject.toml asks for: to run, with every extra, to test and to build."""
    project = PROJECT["project"]
    lists = [project["dependencies"], PROJECT["build-system"]["requires"]]
    lists += project["optional-dependencies"].values()
    lists += PROJECT["dependency-groups"].values()
    return [text for some in lists for text in some]


def plain(name: str) -> str:
    """A distribution's name as the lock spells it."""
    return re.sub(r"[-_.]+", "-", name).lower()


@pytest.mark.parametrize("python", PYTHONS)
@pytest.mark.parametrize("text", sorted(set(written_requirements())))
def test_everything_asked_for_has_one_locked_release_with_hashes(text: str, python: str):
    requirement = pytest.importorskip("packaging.requirements").Requirement(text)
    pins = [pin for pin in PINS if pin.name == plain(requirement.name) and pin.serves(python)]
    assert len(pins) == 1
    assert pins[0].version in requirement.specifier
    assert pins[0].hashes


def test_what_a_locked_release_asks_for_is_locked_too():
    """Looked up in what is installed here, as far as that is what the lock says."""
    requirements = pytest.importorskip("packaging.requirements")
    names = {pin.name for pin in PINS}
    versions = {(pin.name, pin.version) for pin in PINS}
    locked = [
        d for d in importlib.metadata.distributions() if (plain(d.name), d.version) in versions
    ]
    assert locked
    for distribution in locked:
        for requirement in map(requirements.Requirement, distribution.requires or []):
            if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
                assert plain(requirement.name) in names, f"{distribution.name} needs {requirement}"


def test_the_lock_names_no_place_to_fetch_from():
    """Only hashes say which files are meant, so any mirror and any folder of wheels will do."""
    lines = [line for line in lock.LOCK.read_text().splitlines() if not line.startswith("#")]
    assert all(
        re.fullmatch(
            r"[a-z0-9-]+==\S+( ; [^;\\]+)?( \\)?|    --hash=sha256:[0-9a-f]{64}( \\)?", line
        )
        for line in lines
    )
    assert "://" not in lock.LOCK.read_text()


def test_the_locked_torch_may_be_the_cpu_build():
    """It has the same release and another hash. Without it, torch means gigabytes of CUDA."""
    (torch,) = (pin for pin in PINS if pin.name == "torch")
    release, digest = lock.CPU_TORCH
    assert release == f"torch=={torch.version}"
    assert digest in torch.hashes


def test_a_lock_that_is_read_and_written_stays_the_same():
    assert lock.HEADER + "".join(pin.text() for pin in PINS) == lock.LOCK.read_text()
    assert [lock.for_this_project(pin) for pin in PINS] == PINS


def test_only_the_python_versions_stay_of_what_uv_writes():
    uv = (
        "numpy==2.4.6 ; python_full_version < '3.12' and sys_platform == 'linux' \\\n"
        "    --hash=sha256:aa\n"
        "numpy==2.5.5 ; python_full_version >= '3.12' and python_full_version < '3.14' \\\n"
        "    --hash=sha256:bb\n"
        "cffi==2.1.1 ; python_full_version < '3.14' and implementation_name != 'PyPy' \\\n"
        "    --hash=sha256:cc\n"
    )
    pins = [lock.for_this_project(pin) for pin in lock.read(uv)]
    assert [pin.marker for pin in pins] == [
        "python_full_version < '3.12'",
        "python_full_version >= '3.12'",
        "",
    ]
    assert [pin.serves("3.11") for pin in pins] == [True, False, True]
    assert [pin.serves("3.13") for pin in pins] == [False, True, True]


def test_a_pip_that_runs_elsewhere_gets_plain_lines_with_hashes():
    lines = lock.requirements(["numpy", "pyyaml"], "3.11")
    assert [pin.name for pin in lock.read(lines)] == ["numpy", "pyyaml"]
    assert ";" not in lines


def makefile_lock(path: Path) -> list[str]:
    """The options with which the Makefile has pip take the lock, for the lock in ``path``."""
    (options,) = re.findall(r"^LOCK = (.*)$", (REPOSITORY / "Makefile").read_text(), re.MULTILINE)
    return options.replace("requirements.lock", str(path)).split()


@pytest.mark.fault("D1")
@pytest.mark.parametrize("genuine", [True, False])
def test_a_file_that_is_not_the_locked_one_is_not_installed(tmp_path: Path, genuine: bool):
    """Somebody replaced a wheel on the index: same name, same version, other content."""
    done = subprocess.run(
        [sys.executable, "-m", "pip", "--version"], capture_output=True, text=True, check=False
    )
    version = tuple(map(int, re.findall(r"\d+", done.stdout)[:2]))
    if version < (26, 2):
        pytest.skip("needs pip 26.2 or newer, as `make` installs it")
    wheel = tmp_path / "plain_thing-1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("plain_thing.py", "")
        archive.writestr(
            "plain_thing-1.0.dist-info/METADATA",
            "Metadata-Version: 2.1\nName: plain-thing\nVersion: 1.0\n",
        )
        archive.writestr(
            "plain_thing-1.0.dist-info/WHEEL",
            "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        )
        archive.writestr("plain_thing-1.0.dist-info/RECORD", "")
    digest = hashlib.sha256(wheel.read_bytes()).hexdigest() if genuine else "0" * 64
    constraints = tmp_path / "test.lock"
    constraints.write_text(lock.Pin("plain-thing", "1.0", "", (digest,)).text())
    offline = ["--isolated", "--no-index", "--find-links", tmp_path, "--target", tmp_path / "site"]
    command = [
        sys.executable,
        "-m",
        "pip",
        "install",
        *offline,
        *makefile_lock(constraints),
        "plain-thing",
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode == 0) is genuine, done.stderr
    assert genuine or "DO NOT MATCH THE HASHES" in done.stderr
    assert (tmp_path / "site/plain_thing.py").exists() is genuine


def make_is_done(folder: Path, stamp: str, *options: str) -> bool:
    """Would make leave ``stamp`` alone, in a virtual environment where everything is done?"""
    for name in ("demo.stamp", "test.stamp"):
        (folder / name).touch()
    command = ["make", "--question", *options, f"VENV={folder}", f"{folder}/{stamp}"]
    return (
        subprocess.run(
            command, cwd=REPOSITORY, capture_output=True, check=False, timeout=60
        ).returncode
        == 0
    )


@pytest.mark.skipif(shutil.which("make") is None, reason="needs make")
@pytest.mark.parametrize("stamp", ["demo.stamp", "test.stamp"])
def test_another_lock_is_installed_by_the_next_make(tmp_path: Path, stamp: str):
    assert make_is_done(tmp_path, stamp)
    assert not make_is_done(tmp_path, stamp, "--what-if=requirements.lock")


def test_make_takes_every_file_from_the_lock():
    """Each call of pip gets the lock or hashes of it, except in `make newest` and `make lock`."""
    text = (REPOSITORY / "Makefile").read_text().replace("\\\n", "")
    calls = [
        line.strip()
        for line in text.splitlines()
        if re.search(r"pip (install|wheel)|\$\(INSTALL\)", line)
    ]
    free = [
        call
        for call in calls
        if not re.search(r"\$\(LOCK\)|\$\(PIP_ITSELF\)|--no-deps --target", call)
    ]
    assert free == [
        "INSTALL = $(BIN)/python -m pip install --quiet",
        "build/lock/bin/python -m pip install --quiet uv",
    ]


@pytest.mark.fault("D1")
def test_the_image_takes_every_file_from_the_lock():
    fetching = [
        line for line in Dockerfile(REPOSITORY / "Dockerfile.arm64").all("RUN") if "pip" in line
    ]
    first, second = fetching
    assert "--require-hashes --requirement pip.txt" in first
    assert (
        "pip wheel --no-cache-dir --constraint requirements.lock "
        "--build-constraint requirements.lock" in first
    )
    assert "--no-index" in second
