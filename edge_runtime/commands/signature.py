"""Whether a bundle is signed by somebody this machine trusts: Ed25519 over its manifest.

The manifest holds the hash of every other file, so one signature covers the bundle. A key that is
there but cannot be read refuses every bundle: whoever put it there wanted signatures.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from edge_runtime.errors import BundleError, ConfigError, NoInputError
from edge_runtime.system.ownership import path_that_only_root_can_change

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

DEFAULT_KEY = Path("/etc/edge-label/bundle-key.pem")
SIGNATURE = "manifest.sig"

_LONGEST_KEY = 1 << 16  # bytes; a key in PEM has 113
_LONGEST_SIGNATURE = 1 << 10  # bytes; a signature has 64


@dataclass(frozen=True, slots=True)
class TrustedKey:
    """A public key, and where it was read from."""

    path: Path
    public: Ed25519PublicKey


def find_key(path: Path | None) -> TrustedKey | None:
    """The key that bundles must be signed with: at ``path``, else the default one if it exists.

    Raises ConfigError or NoInputError for a key that cannot be read or that others can change.
    """
    if path is not None:
        return read_key(path)
    return read_key(DEFAULT_KEY) if _default_key_exists() else None


def _default_key_exists() -> bool:
    """False only where there certainly is no key. Raises ConfigError where nobody can tell."""
    folder = DEFAULT_KEY.parent
    try:
        # Not stat(): a link that leads nowhere is a key too, and reading it fails later.
        DEFAULT_KEY.lstat()
    except (FileNotFoundError, NotADirectoryError) as error:
        if os.path.lexists(folder) and not folder.is_dir():
            raise ConfigError(
                f"{folder}: is not a folder, so it is unknown whether bundles must be signed",
                "make it a folder, or remove it",
            ) from error
        return False
    except OSError as error:
        raise ConfigError(
            f"{DEFAULT_KEY}: cannot look for it: {error.strerror}", "give --key, or run as root"
        ) from error
    return True


def read_key(path: Path) -> TrustedKey:
    """An Ed25519 public key in PEM, from a file that only root can change."""
    try:
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
        from cryptography.hazmat.primitives.serialization import load_pem_public_key
    except ImportError as error:
        raise ConfigError(
            f"{path}: cryptography is not installed, and checking signatures needs it",
            "pip install 'edge-label[sign]'",
        ) from error

    pem = _read_pem(path)
    try:
        public = load_pem_public_key(pem)
    except ValueError:
        public = None
    if not isinstance(public, Ed25519PublicKey):
        raise ConfigError(
            f"{path}: not an Ed25519 public key in PEM", "openssl pkey -pubout writes one"
        )
    return TrustedKey(path, public)


def _read_pem(path: Path) -> bytes:
    place = path_that_only_root_can_change(path)
    try:
        # Without O_NONBLOCK a pipe at this place would hold up the install for ever.
        fd = os.open(place, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(fd, "rb") as stream:
            return stream.read(_LONGEST_KEY) or b""
    except FileNotFoundError as error:
        raise NoInputError(
            f"{path}: no such key, or a link that leads nowhere", "check it, or check --key"
        ) from error
    except OSError as error:
        raise ConfigError(
            f"{path}: cannot read: {error.strerror}", "run as a user who may"
        ) from error


def check_signature(folder: Path, key: TrustedKey | None) -> str:
    """What the signature of the bundle in ``folder`` is worth, in words. Raises BundleError."""
    signature = folder / SIGNATURE
    if key is None:
        return "signature not checked (no key)" if signature.exists() else "not signed"
    if not signature.exists():
        raise BundleError(
            f"{folder.name}: not signed, and {key.path} asks for a signature",
            "get a signed bundle",
        )

    from cryptography.exceptions import InvalidSignature

    with signature.open("rb") as stream:
        signed = stream.read(_LONGEST_SIGNATURE)
    try:
        key.public.verify(signed, (folder / "manifest.json").read_bytes())
    except InvalidSignature as error:
        raise BundleError(
            f"{SIGNATURE}: not made with the key of {key.path}", "do not trust this bundle"
        ) from error
    return f"signature good ({key.path})"
