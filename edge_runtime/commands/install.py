"""``edge-label bundle install``: a checked bundle replaces the old one whole, or not at all.

Every decision fails closed: what cannot be read, compared or verified is refused. Who signed a
bundle is decided in ``signature.py``, whether it is an update in ``update.py``; the store's folders
and links are in ``model/store``.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from edge_runtime.commands.signature import check_signature, find_key
from edge_runtime.commands.update import Installed, installed_bundle, refuse_unless_update
from edge_runtime.errors import BundleError
from edge_runtime.model.bundle import DEFAULT_STORE, FORMER_STORE, Bundle, load_bundle
from edge_runtime.model.self_test import self_test_in_child
from edge_runtime.model.store.archive import open_archive, unpack
from edge_runtime.model.store.bundle_store import CURRENT, PREVIOUS
from edge_runtime.model.store.writable_store import WritableStore, extra_files, opened


def install_bundle(
    archive: Path, store_root: Path, *, key: Path | None, allow_downgrade: bool
) -> str:
    """Unpack, check, test and switch; returns what to tell the user.

    With a ``key`` (an Ed25519 public key in PEM; the default one if it is there) the bundle must be
    signed with it. Raises NoInputError, ConfigError or BundleError; the bundle that was in use is
    then untouched.
    """
    trusted = find_key(key)
    open_archive(archive).close()  # an archive that is missing must not leave an empty store behind

    # An earlier version kept its bundles elsewhere. They count only for the default store.
    former = FORMER_STORE if store_root == DEFAULT_STORE else None

    with _readable_by_all(), opened(store_root) as store:
        staging = store.stage() / "bundle"
        try:
            bundle = load_bundle(unpack(archive, staging))
            signed = check_signature(bundle.path, trusted)
            old = installed_bundle(store, former)

            _check(bundle, old, allow_downgrade=allow_downgrade)
            if old is not None and old.good and old.holds(bundle):
                return f"{bundle.manifest.id} is installed already"

            self_test_in_child(bundle.path)
            not_deleted = store.add(bundle, current_good=old is not None and old.good)
        except BundleError as error:
            # The checks name files of the staging folder; the user knows only the archive.
            what = error.what.replace(str(staging), str(archive))
            advice = error.advice.replace(str(staging), str(archive))
            raise BundleError(what, advice) from error
        except OSError as error:
            raise BundleError(
                f"{store.root}: cannot install there: {error.strerror}", "the old bundle stays"
            ) from error
        finally:
            store.sweep()

    sentences = [
        f"{bundle.manifest.id} installed in {store.root}, {signed}.",
        *_outcome(store, former),
        *(f"{line}." for line in not_deleted),
    ]
    return " ".join(sentences)


def _check(bundle: Bundle, old: Installed | None, *, allow_downgrade: bool) -> None:
    """Raises BundleError for a bundle that is not whole, or that must not replace the old one."""
    extra = extra_files(bundle)
    if extra:
        raise BundleError(
            f"{extra[0]}: in the archive but not in the manifest", "this bundle was tampered with"
        )

    bundle.verify()
    if old is not None and not allow_downgrade:
        refuse_unless_update(bundle, old)


def _outcome(store: WritableStore, former: Path | None) -> list[str]:
    """What the user should know about the store after an install."""
    previous = store.target(PREVIOUS)
    fallback = "the previous one" if previous else "the bundle that it used before"
    sentences = [
        f"{previous} is kept as the previous bundle." if previous else "The store was empty.",
        "The service uses the new one from its next start or `systemctl reload edge-label`; "
        f"if that fails, it goes back to {fallback}.",
    ]

    if store.taken_over:
        sentences.append("The store was made by a former version and has been taken over.")
    if former is not None and os.path.lexists(former / CURRENT):
        sentences.append(
            f"{former}, the store of a former version, is not used any more; remove it."
        )
    return sentences


@contextmanager
def _readable_by_all() -> Iterator[None]:
    """The service runs as another user than root, whatever root's umask is."""
    before = os.umask(0o022)
    try:
        yield
    finally:
        os.umask(before)
