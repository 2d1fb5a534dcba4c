"""``edge-label bundle install``: a new bundle takes the old one's place whole and checked, or not at all."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from edge_runtime.digest import sha256_hex
from edge_runtime.errors import BundleError, ConfigError, NoInputError
from edge_runtime.model.archive import unpack
from edge_runtime.model.bundle import Bundle, load_bundle
from edge_runtime.model.self_test import self_test_in_child
from edge_runtime.model.store import BundleStore, refuse_downgrade

DEFAULT_KEY = Path("/etc/edge-label/bundle-key.pem")
SIGNATURE = "manifest.sig"
_BESIDE = {"manifest.json", "MODEL_CARD.md", SIGNATURE}  # files that the manifest does not list


def install_bundle(archive: Path, store_root: Path, *, key: Path | None, allow_downgrade: bool) -> str:
    """Unpack, check, test and switch; returns what to tell the user.

    With a ``key`` (an Ed25519 public key in PEM; the default one if it is there) the bundle must be signed with it.
    Raises NoInputError or BundleError; the bundle that was in use is then untouched.
    """
    store = BundleStore(store_root)
    staging = store_root / f".incoming.{os.getpid()}"
    try:
        store_root.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"{store_root}: cannot write there: {error.strerror}; run as root, or give --store") from None
    try:
        folder = unpack(archive, staging)
        bundle = load_bundle(folder)
        signed = _check_signature(folder, key or (DEFAULT_KEY if DEFAULT_KEY.exists() else None))
        _refuse_extra_files(bundle)
        bundle.verify()
        old = store.current()
        if old is not None:
            if old.manifest == bundle.manifest and _is_whole(old):
                return f"{bundle.manifest.id} is installed already"
            if not allow_downgrade:
                refuse_downgrade(bundle, old)
        self_test_in_child(folder)
        digest = sha256_hex((folder / "manifest.json").read_bytes())[:8]
        store.add(folder, f"{bundle.manifest.id}-{digest}")
    except BundleError as error:
        raise BundleError(str(error).replace(str(staging), str(archive))) from None
    except OSError as error:
        raise BundleError(f"{store_root}: cannot install there: {error.strerror}; the old bundle stays") from None
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    kept = f"{old.manifest.id} is kept as previous" if old else "there was none before"
    return (
        f"{bundle.manifest.id} installed in {store_root}, {signed}; {kept}. "
        "It is used from the next start or `systemctl reload edge-label`, and rolled back if that fails."
    )


def _check_signature(folder: Path, key: Path | None) -> str:
    """Ed25519 over the bytes of manifest.json, which holds the hash of every other file. Raises BundleError."""
    signature = folder / SIGNATURE
    if key is None:
        return "signature not checked (no key)" if signature.exists() else "not signed"
    if not signature.exists():
        raise BundleError(f"{folder.name}: not signed, and {key} asks for a signature; get a signed bundle")
    try:
        from cryptography.exceptions import InvalidSignature
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
        from cryptography.hazmat.primitives.serialization import load_pem_public_key
    except ImportError:
        raise ConfigError(f"{key}: checking signatures needs: pip install 'edge-label[sign]'") from None
    try:
        public = load_pem_public_key(key.read_bytes())
    except FileNotFoundError:
        raise NoInputError(f"{key}: no such key; check --key") from None
    except (OSError, ValueError):
        public = None
    if not isinstance(public, Ed25519PublicKey):
        raise ConfigError(f"{key}: not an Ed25519 public key in PEM; openssl pkey -pubout writes one")
    try:
        public.verify(signature.read_bytes()[:1024], (folder / "manifest.json").read_bytes())
    except InvalidSignature:
        raise BundleError(f"{SIGNATURE}: not made with the key of {key}; do not trust this bundle") from None
    return f"signature good ({key})"


def _is_whole(bundle: Bundle) -> bool:
    """False for one that a bad card or a power cut has damaged: installing it again mends it."""
    try:
        bundle.verify()
    except BundleError:
        return False
    return True


def _refuse_extra_files(bundle: Bundle) -> None:
    here = {str(path.relative_to(bundle.path)) for path in bundle.path.rglob("*") if path.is_file()}
    extra = sorted(here - set(bundle.manifest.files) - _BESIDE)
    if extra:
        raise BundleError(f"{extra[0]}: in the archive but not in the manifest; this bundle was tampered with")
