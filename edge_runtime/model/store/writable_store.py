"""A bundle store while one install works in it: recognised as ours, locked, and changed through its descriptor.

A store is a folder with our marker in it, or an empty one, or one that does not exist yet. Nothing is deleted but what
an install made: its staging folder, and bundles that hold what their manifest lists and nothing else.
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

MARKER = ".edge-label-store"  # also what is locked; closed to others, who could otherwise hold the lock for ever
BESIDE = {
    "manifest.json",
    "MODEL_CARD.md",
    "manifest.sig",
}  # files of a bundle that its manifest does not list
_STAGING = ".incoming"
_MARKED = b"A bundle store of edge-label. Do not remove this file.\n"
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_DIGITS = 8  # of the manifest's sha256, in a bundle's name

# What the version before the marker left in a store: such a store is taken over. It staged in .incoming.PID.
_FORMER_LINKS = {CURRENT, PREVIOUS, ".current.new", ".previous.new"}
_FORMER_FILES = {"trial", ".trial.new"}
_FORMER_FOLDERS = re.compile(
    rf"[A-Za-z0-9][\w.+-]*-[0-9a-f]{{{_DIGITS}}}|\.incoming\.\d+", re.ASCII
)
_LEFTOVER = re.compile(r"\.incoming(\.\d+)?")


@contextmanager
def opened(root: Path) -> Iterator[WritableStore]:
    """The store at ``root``, made if there is none, for this process alone.

    Raises ConfigError for a folder that is no store, that others can change under root, or that is being installed to.
    """
    root = path_that_only_root_can_change(root)
    try:
        root.mkdir(mode=0o755, parents=True, exist_ok=True)
        folder = os.open(root, _FOLDER)
    except OSError as error:
        raise ConfigError(
            f"{root}: cannot write there: {error.strerror}", "run as root, or give --store"
        ) from None

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
                f"{root}: is no bundle store, it holds '{foreign[0]}'",
                "give --store a folder that is empty or new",
            )

    flags = os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC | (os.O_CREAT if new else 0)
    try:
        marker = os.open(MARKER, flags, 0o600, dir_fd=folder)
    except OSError as error:
        raise ConfigError(
            f"{root / MARKER}: {error.strerror}", "run as the user whose store this is"
        ) from None
    try:
        fcntl.flock(marker, fcntl.LOCK_EX | fcntl.LOCK_NB)
        is_file = stat.S_ISREG(os.fstat(marker).st_mode)
        text = os.pread(marker, len(_MARKED), 0) if is_file else None
        if text is None or not _MARKED.startswith(text):
            raise ConfigError(
                f"{root / MARKER}: was not made by edge-label",
                "give --store a folder that is empty or new",
            )
        if text != _MARKED:  # new, or an install was killed just there
            os.pwrite(marker, _MARKED, 0)
    except BaseException as error:
        os.close(marker)
        if isinstance(error, BlockingIOError):
            raise ConfigError(
                f"{root}: another install is at work there", "wait for its end and try again"
            ) from None
        raise
    return marker, new and bool(names)


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
    """A store that this process has locked. ``folder`` is its descriptor; names are looked up in it, never by path."""

    def __init__(self, root: Path, folder: int, *, taken_over: bool) -> None:
        super().__init__(root)
        self._folder = folder
        self.taken_over = taken_over

    def stage(self) -> Path:
        """A new, empty folder in which a bundle is unpacked and tested."""
        os.mkdir(_STAGING, 0o755, dir_fd=self._folder)
        return self.root / _STAGING

    def sweep(self) -> None:
        """Take away what this install, or one that was killed, staged."""
        for name in self._names():
            if _LEFTOVER.fullmatch(name) and self._is(name, stat.S_ISDIR):
                shutil.rmtree(name, dir_fd=self._folder)
            elif name in (f".{CURRENT}.new", f".{PREVIOUS}.new") and self._is(name, stat.S_ISLNK):
                os.unlink(name, dir_fd=self._folder)

    def add(self, bundle: Bundle, *, current_good: bool) -> list[str]:
        """Make the staged ``bundle`` the current one; what it replaces is the previous one.

        Where the current one is not good, the one before it stays the previous. Returns a line for every folder that
        had to go and could not be proven ours.
        """
        before = self.target(CURRENT if current_good else PREVIOUS)
        name = self._free_name(bundle)
        staged = str(bundle.path.relative_to(self.root))
        os.rename(staged, name, src_dir_fd=self._folder, dst_dir_fd=self._folder)
        if before is not None:
            self._point(PREVIOUS, before)
        self._point(CURRENT, name)
        return self._forget_all_but(name, before)

    def _free_name(self, bundle: Bundle) -> str:
        """Its name in the store; a number behind it where the same bundle is there already, damaged or failed."""
        whole = name = bundle_name(bundle)
        taken = self._names()
        number = 1
        while name in taken:
            number += 1
            name = f"{whole}.{number}"
        return name

    def _point(self, link: str, name: str) -> None:
        """Switch a link in one step: there is no moment without it."""
        fresh = f".{link}.new"
        os.symlink(name, fresh, dir_fd=self._folder)
        os.rename(fresh, link, src_dir_fd=self._folder, dst_dir_fd=self._folder)
        os.fsync(self._folder)

    def _forget_all_but(self, *names: str | None) -> list[str]:
        kept = []
        for name in self._names():
            if name in names or name.startswith(".") or not self._is(name, stat.S_ISDIR):
                continue
            stranger = self._stranger_in(name)
            if stranger is None:
                shutil.rmtree(name, dir_fd=self._folder)
            else:
                kept.append(f"{name} stays, {stranger}")
        return kept

    def _stranger_in(self, name: str) -> str | None:
        """Why this folder is not surely and only ours; None when it is a bundle of ours and nothing else."""
        path = self.root / name
        try:
            bundle = load_bundle(path)
            ours = re.fullmatch(rf"{re.escape(bundle_name(bundle))}(\.\d+)?", name)
        except (BundleError, NoInputError, OSError):
            return "it cannot be read as a bundle"
        if ours is None:
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
    """What lies in a bundle's folder and is not of the bundle: every link, and every file that is not listed."""
    listed = set(bundle.manifest.files) | BESIDE
    extra = []
    for path in bundle.path.rglob("*"):
        name = str(path.relative_to(bundle.path))
        if path.is_symlink() or (not path.is_dir() and name not in listed):
            extra.append(name)
    return sorted(extra)


def bundle_name(bundle: Bundle) -> str:
    """What its folder in a store is called: name, version, and the beginning of its manifest's hash."""
    digest = sha256_hex((bundle.path / "manifest.json").read_bytes())
    return f"{bundle.manifest.id}-{digest[:_DIGITS]}"
