"""SHA-256 and the comparison of tokens are right, and OpenSSL stays out of the process."""

from __future__ import annotations

import subprocess
import sys

import pytest

from edge_runtime.system.digest import same_bytes, sha256_hex


def test_a_digest_is_that_of_the_parts_in_a_row():
    """The first example of FIPS 180-2, appendix B."""
    abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert sha256_hex(b"abc") == abc
    assert sha256_hex(b"a", b"", b"bc") == abc


def test_only_equal_bytes_are_the_same():
    assert same_bytes(b"token", b"token")
    assert not same_bytes(b"tokem", b"token")
    assert not same_bytes(b"toke", b"token")


@pytest.mark.usefixtures("uncounted_children")
def test_neither_needs_openssl():
    code = (
        "import sys; from edge_runtime.system.digest import same_bytes, sha256_hex\n"
        "sha256_hex(b'x'); same_bytes(b'x', b'y'); print('_hashlib' in sys.modules)"
    )
    assert subprocess.check_output([sys.executable, "-c", code], text=True) == "False\n"
