"""Installed bundles: one folder each, and the links ``current`` and ``previous``.

This is what a start needs to know of a store; it only reads. ``writable_store.py`` fills one.
"""

from __future__ import annotations

import re
from pathlib import Path

from edge_runtime.errors import ConfigError

CURRENT = "current"
PREVIOUS = "previous"
_PLAIN_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]*", re.ASCII)


class BundleStore:
    """The bundles under ``root``."""

    def __init__(self, root: Path) -> None:
        self.root = root

    @classmethod
    def of(cls, bundle: Path) -> BundleStore | None:
        """The store whose ``current`` link the path is; None for any other directory."""
        return cls(bundle.parent) if bundle.name == CURRENT and bundle.is_symlink() else None

    def target(self, link: str) -> str | None:
        """The name of the folder that a link points to, even if it is gone; None without a link.

        Raises ConfigError for a link that no install makes: nothing is known about such a store.
        """
        path = self.root / link
        try:
            name = str(path.readlink())
        except FileNotFoundError:
            return None
        except OSError as error:
            raise ConfigError(
                f"{path}: is not the link that edge-label makes", "remove it"
            ) from error

        if not _PLAIN_NAME.fullmatch(name):
            raise ConfigError(f"{path}: points outside the store", "remove it")
        return name
