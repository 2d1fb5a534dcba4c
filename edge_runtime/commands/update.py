"""Whether a new bundle may replace the one in use: only with the same name and a higher version.

What cannot be compared is refused; the user may insist.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from edge_runtime.errors import BundleError, NoInputError
from edge_runtime.model.bundle import Bundle, load_bundle
from edge_runtime.model.store.bundle_store import CURRENT, BundleStore
from edge_runtime.model.store.trial import failures
from edge_runtime.model.store.versions import precedence
from edge_runtime.model.store.writable_store import WritableStore, is_folder_of

_INSIST = "--allow-downgrade installs it anyway"


@dataclass(frozen=True, slots=True)
class Installed:
    """The bundle that ``current`` points to.

    ``bundle`` is None where its manifest cannot be read. ``good`` means that every file is whole,
    and that no service reported a failure with it.
    """

    name: str
    bundle: Bundle | None
    good: bool

    def holds(self, other: Bundle) -> bool:
        """Whether it is the same as ``other``.

        Where the manifest is lost, the folder's name decides: it holds version and digest.
        """
        if self.bundle is None:
            return is_folder_of(other, self.name)
        return self.bundle.manifest == other.manifest


def installed_bundle(store: WritableStore, former: Path | None) -> Installed | None:
    """The bundle in use, None where there is none.

    A store that is still empty begins with what ``former``, the store of an earlier version, holds.
    """
    place: BundleStore = store
    if store.target(CURRENT) is None and former is not None:
        place = BundleStore(former)
    name = place.target(CURRENT)
    if name is None:
        return None

    try:
        bundle = load_bundle(place.root / name)
    except (BundleError, NoInputError):
        return Installed(name, None, good=False)
    return Installed(name, bundle, good=_is_whole(bundle) and not failures(place.root, name))


def _is_whole(bundle: Bundle) -> bool:
    """False after a bad card or a power cut; installing the same bundle again repairs it."""
    try:
        bundle.verify()
    except BundleError:
        return False
    return True


def refuse_unless_update(new: Bundle, old: Installed) -> None:
    """Raises BundleError unless ``new`` repairs what is installed, or is a higher version of it."""
    if old.holds(new):
        return
    if old.bundle is None:
        raise BundleError(
            f"{old.name}: the installed bundle is damaged, and without its manifest it is unknown "
            f"whether {new.manifest.id} is newer",
            f"install {old.name} again, or {_INSIST}",
        )

    installed = old.bundle.manifest
    if new.manifest.name != installed.name:
        raise BundleError(
            f"{new.manifest.id} is not an update of the installed {installed.id}",
            f"give it a --store of its own, or {_INSIST}",
        )
    _refuse_lower_version(new, old.bundle)


def _refuse_lower_version(new: Bundle, old: Bundle) -> None:
    new_version = precedence(new.manifest.version)
    old_version = precedence(old.manifest.version)
    new_id = new.manifest.id
    old_id = old.manifest.id

    if new_version is None or old_version is None:
        strange = new_id if new_version is None else old_id
        raise BundleError(
            f"{strange}: its version is not like 1.2.3 and cannot be compared", _INSIST
        )
    if new_version < old_version:
        raise BundleError(f"{new_id} is older than the installed {old_id}", _INSIST)
    if new_version == old_version:
        raise BundleError(
            f"{new_id}: the installed {old_id} has other content",
            f"give the new one a higher version, or {_INSIST}",
        )
