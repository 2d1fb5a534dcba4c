"""Programs and libraries that tests drive. One that is missing skips the test for a user, and
fails it in CI."""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys
from pathlib import Path
from typing import NoReturn

import pytest


def missing(reason: str | Exception) -> NoReturn:
    """Skip and say what is missing; in CI nothing may be missing."""
    if os.environ.get("CI"):
        pytest.fail(f"missing in CI: {reason}")
    pytest.skip(str(reason))


def need(command: str, package: str) -> str:
    """Path of a program from a Debian package."""
    path = shutil.which(command, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
    if path is None:
        missing(f"needs {command} (apt-get install {package})")
    return path


def need_module(module: str, how: str) -> None:
    """A Python library that only a test needs."""
    if importlib.util.find_spec(module) is None:
        missing(f"needs {module} ({how})")


def need_mosquitto() -> None:
    """The broker and its clients. They are two Debian packages; a machine may have only one."""
    need("mosquitto", "mosquitto")
    need("mosquitto_sub", "mosquitto-clients")


def instead_of_python(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, body: str) -> None:
    """Every child process that starts Python runs this shell script instead."""
    script = tmp_path / "python"
    script.write_text(f"#!/bin/sh\n{body}\n")
    script.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(script))
