"""A bundle store during an install: recognised as ours, locked, and changed through its descriptor.

A store is a folder with our marker in it, or an empty one, or one that does not exist yet. Only
what an install made is deleted: its staging folder, and bundles that hold what their manifest lists
and nothing else. Names are looked up in the folder's descriptor, never by path: another user may
swap the path for a link meanwhile.
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from edge_runtime.errors import BundleError, ConfigError, NoInputError
from edge_runtime.model.bundle import Bundle, load_bundle
from edge_runtime.model.store.bundle_store import CURRENT, PREVIOUS, BundleStore
from edge_runtime.system.digest import sha256_hex
from edge_runtime.system.ownership import path_that_only_root_can_change

# The lock is taken on the marker. It is closed to others, who could hold the lock for ever.
MARKER = ".edge-label-store"
_MARKER_TEXT = b"A bundle store of edge-label. Do not remove this file.\n"

# Files of a bundle that its manifest does not list.
BESIDE = {"manifest.json", "MODEL_CARD.md", "manifest.sig"}

_STAGING = ".incoming"
_DIGITS = 8  # of the manifest's sha256, in the name of a bundle's folder
_OPEN_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC

# What the version before the marker left in a store, which is then taken over. It staged in
# .incoming.PID.
_FORMER_LINKS = {CURRENT, PREVIOUS, ".current.new", ".previous.new"}
_FORMER_FILES = {"trial", ".trial.new"}
_FORMER_FOLDERS = re.compile(
    rf"[A-Za-z0-9][\w.+-]*-[0-9a-f]{{{_DIGITS}}}|\.incoming\.\d+", re.ASCII
)
_LEFTOVER = re.compile(r"\.incoming(\.\d+)?")


@contextmanager
def opened(root: Path) -> Iterator[WritableStore]:
    """The store at ``root``, made if there is none, for this process alone.

    Raises ConfigError for a folder that is no store, that others than root can change, or that
    another install is working in.
    """
    root = path_that_only_root_can_change(root)
    try:
        root.mkdir(mode=0o755, parents=True, exist_ok=True)
        folder = os.open(root, _OPEN_FOLDER)
    except OSError as error:
        raise ConfigError(
            f"{root}: cannot write there: {error.strerror}", "run as root, or give --store"
        ) from error

    marker = None
    try:
        marker, taken_over = _lock(folder, root)
        store = WritableStore(root, folder, taken_over=taken_over)
        store.sweep()
        yield store
    finally:
        if marker is not None:
            os.close(marker)
        os.close(folder)


def _lock(folder: int, root: Path) -> tuple[int, bool]:
    """The locked marker's descriptor, and whether the store is one of a former version."""
    names = _names(folder)
    new = MARKER not in names
    if new:
        foreign = [name for name in names if not _former_version_made(folder, name)]
        if foreign:
            raise ConfigError(
                f"{root}: is not a bundle store: it contains '{foreign[0]}'",
                "give --store a folder that is empty or new",
            )

    marker = _open_marker(folder, root, new=new)
    try:
        _claim(marker, root)
    except BaseException:
        os.close(marker)
        raise
    return marker, new and bool(names)


def _open_marker(folder: int, root: Path, *, new: bool) -> int:
    # A marker may be anything that somebody put there: no link is followed, no pipe is waited for.
    flags = os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    if new:
        flags |= os.O_CREAT
    try:
        return os.open(MARKER, flags, 0o600, dir_fd=folder)
    except OSError as error:
        raise ConfigError(
            f"{root / MARKER}: {error.strerror}", "run as the user whose store this is"
        ) from error


def _claim(marker: int, root: Path) -> None:
    """Lock the marker, and write its text if it is new. Raises ConfigError if it is not ours."""
    try:
        fcntl.flock(marker, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise ConfigError(
            f"{root}: another install is running there", "wait until it has ended, then try again"
        ) from error

    is_file = stat.S_ISREG(os.fstat(marker).st_mode)
    text = os.pread(marker, len(_MARKER_TEXT), 0) if is_file else None
    if text is None or not _MARKER_TEXT.startswith(text):
        raise ConfigError(
            f"{root / MARKER}: was not made by edge-label",
            "give --store a folder that is empty or new",
        )
    # Shorter text: the marker is new, or an install was killed while it wrote it.
    if text != _MARKER_TEXT:
        os.pwrite(marker, _MARKER_TEXT, 0)


def _former_version_made(folder: int, name: str) -> bool:
    facts = os.stat(name, dir_fd=folder, follow_symlinks=False)
    if facts.st_uid not in (0, os.geteuid()):
        return False
    if stat.S_ISLNK(facts.st_mode):
        return name in _FORMER_LINKS
    if stat.S_ISREG(facts.st_mode):
        return name in _FORMER_FILES
    return stat.S_ISDIR(facts.st_mode) and _FORMER_FOLDERS.fullmatch(name) is not None


class WritableStore(BundleStore):
    """A store that this process has locked. ``folder`` is its descriptor."""

    def __init__(self, root: Path, folder: int, *, taken_over: bool) -> None:
        super().__init__(root)
        self._folder = folder
        self.taken_over = taken_over

    def stage(self) -> Path:
        """A new, empty folder in which a bundle is unpacked and tested."""
        os.mkdir(_STAGING, 0o755, dir_fd=self._folder)
        return self.root / _STAGING

    def sweep(self) -> None:
        """Remove what this install staged, or one that was killed."""
        for name in self._names():
            if _LEFTOVER.fullmatch(name) and self._is(name, stat.S_ISDIR):
                shutil.rmtree(name, dir_fd=self._folder)
            elif name in (f".{CURRENT}.new", f".{PREVIOUS}.new") and self._is(name, stat.S_ISLNK):
                os.unlink(name, dir_fd=self._folder)

    def add(self, bundle: Bundle, *, current_good: bool) -> list[str]:
        """Make the staged ``bundle`` the current one; what it replaces becomes the previous one.

        Where the current one is not good, the previous one stays. Returns a line for every folder
        that should be deleted but may hold what is not ours.
        """
        replaced = self.target(CURRENT if current_good else PREVIOUS)
        name = self._free_name(bundle)
        staged = str(bundle.path.relative_to(self.root))
        os.rename(staged, name, src_dir_fd=self._folder, dst_dir_fd=self._folder)

        # Previous first: at every moment both links point to a whole bundle.
        if replaced is not None:
            self._point(PREVIOUS, replaced)
        self._point(CURRENT, name)
        return self._delete_all_but(name, replaced)

    def _free_name(self, bundle: Bundle) -> str:
        """A name for the bundle's folder.

        It ends in a number where the same bundle is there already, damaged or failed.
        """
        plain = bundle_name(bundle)
        taken = self._names()

        name = plain
        number = 1
        while name in taken:
            number += 1
            name = f"{plain}.{number}"
        return name

    def _point(self, link: str, name: str) -> None:
        """Switch a link in one step: there is no moment without it."""
        new_link = f".{link}.new"
        os.symlink(name, new_link, dir_fd=self._folder)
        os.rename(new_link, link, src_dir_fd=self._folder, dst_dir_fd=self._folder)
        os.fsync(self._folder)

    def _delete_all_but(self, *names: str | None) -> list[str]:
        lines = []
        for name in self._names():
            if name in names or name.startswith(".") or not self._is(name, stat.S_ISDIR):
                continue

            stranger = self._stranger_in(name)
            if stranger is None:
                shutil.rmtree(name, dir_fd=self._folder)
            else:
                lines.append(f"{name} stays, {stranger}")
        return lines

    def _stranger_in(self, name: str) -> str | None:
        """Why this folder may not be deleted; None for a bundle of ours and nothing else."""
        path = self.root / name
        try:
            bundle = load_bundle(path)
            ours = is_folder_of(bundle, name)
        except (BundleError, NoInputError, OSError):
            return "it cannot be read as a bundle"
        if not ours:
            return "it was not made by an install"

        extra = extra_files(bundle)
        return f"{extra[0]} in it is not of the bundle" if extra else None

    def _names(self) -> list[str]:
        return _names(self._folder)

    def _is(self, name: str, kind: Callable[[int], bool]) -> bool:
        return kind(os.stat(name, dir_fd=self._folder, follow_symlinks=False).st_mode)


def _names(folder: int) -> list[str]:
    return sorted(os.listdir(folder))


def extra_files(bundle: Bundle) -> list[str]:
    """What lies in a bundle's folder and is not of it: every link, and every unlisted file."""
    listed = set(bundle.manifest.files) | BESIDE
    extra = []
    for path in bundle.path.rglob("*"):
        name = str(path.relative_to(bundle.path))
        if path.is_symlink() or (not path.is_dir() and name not in listed):
            extra.append(name)
    return sorted(extra)


def bundle_name(bundle: Bundle) -> str:
    """The name of its folder in a store: name, version, and a part of its manifest's hash."""
    digest = sha256_hex((bundle.path / "manifest.json").read_bytes())
    return f"{bundle.manifest.id}-{digest[:_DIGITS]}"


def is_folder_of(bundle: Bundle, name: str) -> bool:
    """Whether a store gives a bundle a folder of this name; ``.2`` behind it is a second one."""
    return re.fullmatch(rf"{re.escape(bundle_name(bundle))}(\.\d+)?", name) is not None
