"""Installed bundles: one directory each, and the links ``current`` and ``previous`` that are switched atomically.

A bundle that was just installed is on trial (the file ``trial``): it stays only if the first start with it succeeds.
A start that fails, or that dies half way, goes back to the previous one.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from edge_runtime.errors import BundleError
from edge_runtime.model.bundle import Bundle, load_bundle, version_tuple


class BundleStore:
    """The bundles under ``root``."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._trial = root / "trial"

    @classmethod
    def of(cls, bundle: Path) -> BundleStore | None:
        """The store whose ``current`` link the path is; None for any other directory."""
        return cls(bundle.parent) if bundle.name == "current" and bundle.is_symlink() else None

    def current(self) -> Bundle | None:
        """The bundle in use; None when there is none, or when it cannot even be read."""
        try:
            return load_bundle(self.root / "current") if (self.root / "current").is_dir() else None
        except BundleError:
            return None

    def add(self, staged: Path, name: str) -> None:
        """Make the verified directory ``staged`` (on the same file system) the current bundle, on trial."""
        target = self.root / name
        before = self._target("current")
        if before == name:  # damaged, and installed again: what it once replaced stays the previous one
            before = self._target("previous")
        if target.exists():
            shutil.rmtree(target)
        staged.rename(target)
        self._own_like_the_root(target)
        self._write_trial("installed")
        if before is not None:
            self._point("previous", before)
        self._point("current", name)
        self._forget_all_but(name, before)

    def begin(self) -> bool:
        """A start begins. True when the last one died on a bundle that was on trial: it has been rolled back."""
        try:
            state = self._trial.read_text()
        except OSError:
            return False
        if state == "started":
            return self.roll_back()
        self._write_trial("started")
        return False

    def on_trial(self) -> bool:
        """Has no start with the current bundle succeeded yet?"""
        return self._trial.exists()

    def passed(self) -> None:
        """The start with the current bundle succeeded: it stays."""
        try:
            self._trial.unlink(missing_ok=True)
        except OSError:
            pass  # a store that this user may only read

    def roll_back(self) -> bool:
        """Back to the previous bundle if the current one is still on trial; says whether it was.

        Raises BundleError where this user may not switch the links.
        """
        if not self.on_trial():
            return False
        before = self._target("previous")
        try:
            if before is not None:
                self._point("current", before)
                (self.root / "previous").unlink()
            else:
                (self.root / "current").unlink(missing_ok=True)
            self._trial.unlink()
        except OSError as error:
            raise BundleError(
                f"{self.root}: its new bundle fails, and it cannot be rolled back: {error.strerror}; "
                "start as a user who may write there"
            ) from None
        return True

    def _target(self, link: str) -> str | None:
        path = self.root / link
        return path.readlink().name if path.is_symlink() and path.is_dir() else None

    def _point(self, link: str, name: str) -> None:
        """Switch a link in one step: there is no moment without it."""
        fresh = self.root / f".{link}.new"
        fresh.unlink(missing_ok=True)
        fresh.symlink_to(name)
        fresh.rename(self.root / link)
        fd = os.open(self.root, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)

    def _write_trial(self, state: str) -> None:
        fresh = self.root / ".trial.new"
        try:
            fresh.write_text(state)
            fresh.rename(self._trial)
        except OSError:
            pass  # a store that this user may only read

    def _forget_all_but(self, *names: str | None) -> None:
        for path in self.root.iterdir():
            if path.is_dir() and not path.is_symlink() and path.name not in names:
                shutil.rmtree(path, ignore_errors=True)

    def _own_like_the_root(self, target: Path) -> None:
        """Installed by root, used and rolled back by the service's user."""
        if os.geteuid() == 0:
            owner = self.root.parent.stat()
            for path in (self.root, target, *target.rglob("*")):
                os.chown(path, owner.st_uid, owner.st_gid, follow_symlinks=False)


def refuse_downgrade(new: Bundle, old: Bundle) -> None:
    """Raises BundleError when ``new`` is an older version of what is installed, or another build of the same one."""
    if new.manifest.name != old.manifest.name:
        return
    ours, theirs = version_tuple(new.manifest.version), version_tuple(old.manifest.version)
    if ours < theirs:
        raise BundleError(f"{new.manifest.id} is older than the installed {old.manifest.id}; --allow-downgrade insists")
    if ours == theirs and new.manifest.files != old.manifest.files:
        raise BundleError(
            f"{new.manifest.id} is installed with other content; give the new one a higher version, "
            "or insist with --allow-downgrade"
        )
