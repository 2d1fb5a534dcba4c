"""What an install needs: /var/lib, the service's state directory, a store in use, keys."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.attacks.as_root import NOBODY
from tests.attacks.test_archive import bundle_tar, install


@pytest.fixture(autouse=True)
def _uncounted_children(uncounted_children: None) -> None:
    """Every install runs a self-test."""


@pytest.fixture
def var(tmp_path: Path) -> Iterator[Path]:
    """A /var/lib of root's that others can look into; pytest's own folders are closed to them."""
    folder = Path(tempfile.mkdtemp(prefix="edge-label-test-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def state(var: Path) -> Path:
    """The service's state directory: its own, as systemd makes it."""
    folder = var / "edge-label"
    folder.mkdir(mode=0o755)
    os.chown(folder, NOBODY, NOBODY)
    return folder


@pytest.fixture
def store(var: Path, tmp_path: Path) -> Path:
    """A store beside the state directory with version 1.0.0 in use."""
    root = var / "edge-label-bundles"
    install(bundle_tar(tmp_path, "first"), root)
    return root


@pytest.fixture
def keys(tmp_path: Path) -> tuple[Path, Callable[[Path], None]]:
    """A public key in PEM, and a function that signs a bundle directory as openssl does."""
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    private = Ed25519PrivateKey.generate()
    pem = private.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    path = tmp_path / "key.pem"
    path.write_bytes(pem)

    def sign(folder: Path) -> None:
        (folder / "manifest.sig").write_bytes(private.sign((folder / "manifest.json").read_bytes()))

    return path, sign
