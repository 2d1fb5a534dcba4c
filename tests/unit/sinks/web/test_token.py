"""With a token nothing is served without it, and a bad token file is one line."""

from __future__ import annotations

import base64
import subprocess
import sys
from pathlib import Path

import pytest

from edge_runtime.errors import ConfigError
from edge_runtime.sinks.web.http import HttpServer
from edge_runtime.sinks.web.messages import Response
from edge_runtime.sinks.web.token import read_token
from tests.unit.sinks.web.test_http import get

TOKEN = "0123456789abcdef"


def basic(password: str) -> str:
    return "Basic " + base64.b64encode(f"any:{password}".encode()).decode()


@pytest.mark.usefixtures("uncounted_children")
def test_a_server_with_a_token_maps_no_openssl():
    """It costs 3.7 MB of the daemon's memory, and hashlib and hmac are easily imported again."""
    code = (
        "import sys; from edge_runtime.sinks.web.token import is_authorized; "
        "import edge_runtime.sinks.web.preview, edge_runtime.sinks.web.prometheus; "
        "assert is_authorized(b'Bearer abc', 'abc') and not is_authorized(b'Bearer abd', 'abc'); "
        "print(*{'ssl', '_ssl', '_hashlib', 'hmac'} & set(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.strip() == ""


def test_with_a_token_nothing_is_served_without_it():
    server = HttpServer("test", "127.0.0.1:0", {"/": lambda: Response(b"hello")}, TOKEN)
    assert get(server)[0] == 401
    for wrong in (
        "",
        "Bearer",
        "Bearer wrong",
        basic("wrong"),
        "Basic !!!",
        f"Digest {TOKEN}",
        f"Bearer {TOKEN}x",
    ):
        assert get(server, Authorization=wrong)[0] == 401
    assert get(server, Authorization=f"Bearer {TOKEN}") == (200, b"hello")
    assert get(server, Authorization=basic(TOKEN)) == (200, b"hello")
    assert get(server, "/nothing-there")[0] == 401
    server.close()


@pytest.mark.parametrize(
    ("content", "mode", "problem"),
    [
        ("short", 0o600, "16 characters"),
        (TOKEN, 0o644, "chmod 640 it, group video"),
        (f"{TOKEN} x", 0o600, "no spaces"),
    ],
)
def test_a_bad_token_file_is_one_clear_line(tmp_path: Path, content: str, mode: int, problem: str):
    path = tmp_path / "token"
    path.write_text(content)
    path.chmod(mode)
    with pytest.raises(ConfigError, match=problem):
        read_token(str(path))


def test_a_good_token_file(tmp_path: Path):
    path = tmp_path / "token"
    path.write_text(f"{TOKEN}\n")
    path.chmod(0o600)
    assert read_token(str(path)) == TOKEN
    assert read_token(None) is None
