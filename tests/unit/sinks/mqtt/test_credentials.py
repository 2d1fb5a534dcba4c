"""A file of one line, user:password; whatever else it is is refused in one line."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from edge_runtime.errors import ConfigError
from edge_runtime.sinks.mqtt.credentials import read_credentials


@pytest.mark.parametrize(
    "content",
    [
        b"pi:right:one\n",
        b"\xef\xbb\xbfpi:right:one\n",
        b"pi:right:one \n",
        b"pi:right:one\t\r\n",
        b"\npi:right:one\n\n",
    ],
)
def test_what_editors_add_to_the_credentials_is_not_part_of_them(tmp_path: Path, content: bytes):
    path = tmp_path / "credentials"
    path.touch(0o600)
    path.write_bytes(content)
    assert read_credentials(path) == ("pi", "right:one")


@pytest.mark.parametrize("make", ["fifo", "folder", "device", "nul", "binary"])
def test_credentials_that_are_no_text_file_are_one_line(tmp_path: Path, make: str):
    path = tmp_path / "credentials"
    if make == "fifo":
        os.mkfifo(path, 0o600)
    elif make == "folder":
        path.mkdir(0o700)
    elif make == "device":
        path.symlink_to("/dev/zero")
    elif make == "nul":
        path = Path("a\0b")
    else:
        path.touch(0o600)
        path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError) as refused:
        read_credentials(path)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("content", "mode", "problem"),
    [
        ("pi:secret\n", 0o604, "chmod 640 it, group video"),
        ("secret\n", 0o600, "one line, user:password"),
        (":secret\n", 0o600, "one line, user:password"),
        ("pi:a\nb\n", 0o600, "one line, user:password"),
    ],
)
def test_bad_credentials_are_one_clear_line(tmp_path: Path, content: str, mode: int, problem: str):
    path = tmp_path / "credentials"
    path.write_text(content)
    path.chmod(mode)
    with pytest.raises(ConfigError, match=problem):
        read_credentials(path)
