"""``edge-label bundle install``: a new bundle takes the old one's place whole and checked, or not at all.

Every decision fails closed: what cannot be read, compared or verified is refused.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from edge_runtime.errors import BundleError, ConfigError, NoInputError
from edge_runtime.model.bundle import DEFAULT_STORE, FORMER_STORE, Bundle, load_bundle
from edge_runtime.model.self_test import self_test_in_child
from edge_runtime.model.store.archive import open_archive, unpack
from edge_runtime.model.store.bundle_store import CURRENT, PREVIOUS, BundleStore
from edge_runtime.model.store.trial import failures
from edge_runtime.model.store.versions import precedence
from edge_runtime.model.store.writable_store import WritableStore, bundle_name, extra_files, opened
from edge_runtime.system.ownership import path_that_only_root_can_change

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

DEFAULT_KEY = Path("/etc/edge-label/bundle-key.pem")
SIGNATURE = "manifest.sig"
_LONGEST_KEY = 1 << 16


def install_bundle(
    archive: Path, store_root: Path, *, key: Path | None, allow_downgrade: bool
) -> str:
    """Unpack, check, test and switch; returns what to tell the user.

    With a ``key`` (an Ed25519 public key in PEM; the default one if it is there) the bundle must be signed with it.
    Raises NoInputError, ConfigError or BundleError; the bundle that was in use is then untouched.
    """
    key = key or _default_key()
    public = _public_key(key) if key else None
    open_archive(archive).close()  # before a store is made for nothing

    with _readable_by_all(), opened(store_root) as store:
        staging = store.stage() / "bundle"
        try:
            folder = unpack(archive, staging)
            bundle = load_bundle(folder)
            signed = _check_signature(folder, key, public)
            _refuse_extra_files(bundle)
            bundle.verify()

            old = _in_use(store, former=FORMER_STORE if store_root == DEFAULT_STORE else None)
            if old is not None and old.good and old.holds(bundle):
                return f"{bundle.manifest.id} is installed already"
            if old is not None and not allow_downgrade:
                _refuse_what_is_no_update(bundle, old)

            self_test_in_child(folder)
            left = store.add(bundle, current_good=old is not None and old.good)
        except BundleError as error:
            raise BundleError(str(error).replace(str(staging), str(archive))) from None
        except OSError as error:
            raise BundleError(
                f"{store.root}: cannot install there: {error.strerror}", "the old bundle stays"
            ) from None
        finally:
            store.sweep()

    previous = store.target(PREVIOUS)
    told = [
        f"{bundle.manifest.id} installed in {store.root}, {signed};",
        f"{previous} is kept as previous." if previous else "there was none before.",
        "It is used from the next start or `systemctl reload edge-label`, and if that fails, the previous one is.",
        *(f"{line}." for line in left),
    ]
    if store.taken_over:
        told.append("The store was made by a former version and has been taken over.")
    if store_root == DEFAULT_STORE and os.path.lexists(FORMER_STORE / CURRENT):
        told.append(
            f"{FORMER_STORE}, the store of a former version, is not used any more; remove it."
        )
    return " ".join(told)


@contextmanager
def _readable_by_all() -> Iterator[None]:
    """The service runs as another user than root, whatever root's umask is."""
    before = os.umask(0o022)
    try:
        yield
    finally:
        os.umask(before)


def _default_key() -> Path | None:
    """The key that is there for every install; None only where there surely is none."""
    folder = DEFAULT_KEY.parent
    try:
        DEFAULT_KEY.lstat()
    except (FileNotFoundError, NotADirectoryError):
        if os.path.lexists(folder) and not folder.is_dir():
            raise ConfigError(
                f"{folder}: is not a folder, so nobody knows whether a key is asked for", "mend it"
            ) from None
        return None
    except OSError as error:
        raise ConfigError(
            f"{DEFAULT_KEY}: cannot be looked for: {error.strerror}", "give --key, or run as root"
        ) from None
    return DEFAULT_KEY  # also a link that leads nowhere: reading it fails then


def _public_key(key: Path) -> Ed25519PublicKey:
    try:
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
        from cryptography.hazmat.primitives.serialization import load_pem_public_key
    except ImportError:
        raise ConfigError(
            f"{key}: checking signatures needs: pip install 'edge-label[sign]'"
        ) from None

    place = path_that_only_root_can_change(key)
    try:
        fd = os.open(place, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(fd, "rb") as stream:
            public = load_pem_public_key(stream.read(_LONGEST_KEY) or b"")
    except FileNotFoundError:
        raise NoInputError(
            f"{key}: no such key, or a link that leads nowhere", "mend it, or check --key"
        ) from None
    except OSError as error:
        raise ConfigError(
            f"{key}: cannot read: {error.strerror}", "run as a user who may"
        ) from None
    except ValueError:
        public = None
    if not isinstance(public, Ed25519PublicKey):
        raise ConfigError(
            f"{key}: not an Ed25519 public key in PEM", "openssl pkey -pubout writes one"
        )
    return public


def _check_signature(folder: Path, key: Path | None, public: Ed25519PublicKey | None) -> str:
    """Ed25519 over the bytes of manifest.json, which holds the hash of every other file. Raises BundleError."""
    signature = folder / SIGNATURE
    if public is None:
        return "signature not checked (no key)" if signature.exists() else "not signed"
    if not signature.exists():
        raise BundleError(
            f"{folder.name}: not signed, and {key} asks for a signature", "get a signed bundle"
        )
    from cryptography.exceptions import InvalidSignature

    try:
        public.verify(signature.read_bytes()[:1024], (folder / "manifest.json").read_bytes())
    except InvalidSignature:
        raise BundleError(
            f"{SIGNATURE}: not made with the key of {key}", "do not trust this bundle"
        ) from None
    return f"signature good ({key})"


def _refuse_extra_files(bundle: Bundle) -> None:
    extra = extra_files(bundle)
    if extra:
        raise BundleError(
            f"{extra[0]}: in the archive but not in the manifest", "this bundle was tampered with"
        )


@dataclass(frozen=True, slots=True)
class _Installed:
    """The bundle that ``current`` points to. ``bundle`` is None where its manifest cannot be read."""

    name: str
    bundle: Bundle | None
    good: bool  # every file is whole, and no service says that it failed

    def holds(self, other: Bundle) -> bool:
        """Is it the same as ``other``? A name with the same version and digest must do where the manifest is lost."""
        if self.bundle is None:
            return re.fullmatch(rf"{re.escape(bundle_name(other))}(\.\d+)?", self.name) is not None
        return self.bundle.manifest == other.manifest


def _in_use(store: WritableStore, *, former: Path | None) -> _Installed | None:
    """What the new bundle must be newer than. A store that is empty begins with what the ``former`` one holds."""
    where: BundleStore = store
    if store.target(CURRENT) is None and former is not None:
        where = BundleStore(former)
    name = where.target(CURRENT)
    if name is None:
        return None
    try:
        bundle = load_bundle(where.root / name)
    except (BundleError, NoInputError):
        return _Installed(name, None, good=False)
    try:
        bundle.verify()
        whole = True
    except BundleError:  # a bad card, a power cut: installing it again mends it
        whole = False
    return _Installed(name, bundle, good=whole and not failures(where.root, name))


def _refuse_what_is_no_update(new: Bundle, old: _Installed) -> None:
    """Raises BundleError unless ``new`` has the name of what is installed and a higher version, or mends it."""
    if old.holds(new):
        return
    insist = "--allow-downgrade insists"
    if old.bundle is None:
        raise BundleError(
            f"{old.name}: the installed bundle is damaged, and without its manifest nobody knows whether "
            f"{new.manifest.id} is newer",
            f"install {old.name} again, or {insist}",
        )
    installed = old.bundle.manifest
    if new.manifest.name != installed.name:
        raise BundleError(
            f"{new.manifest.id} is no update of the installed {installed.id}",
            f"give it a --store of its own, or {insist}",
        )
    ours, theirs = precedence(new.manifest.version), precedence(installed.version)
    if ours is None or theirs is None:
        strange = new.manifest.id if ours is None else installed.id
        raise BundleError(
            f"{strange}: its version is not like 1.2.3 and cannot be compared", f"{insist}"
        )
    if ours < theirs:
        raise BundleError(
            f"{new.manifest.id} is older than the installed {installed.id}", f"{insist}"
        )
    if ours == theirs:
        raise BundleError(
            f"{new.manifest.id}: the installed {installed.id} has other content",
            f"give the new one a higher version, or {insist}",
        )
