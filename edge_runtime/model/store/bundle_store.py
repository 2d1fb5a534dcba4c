"""Installed bundles: one folder each, and the links ``current`` and ``previous``.

Here is what a start needs to know of a store; it only reads. ``writable_store.py`` fills one.
"""

from __future__ import annotations

import re
from pathlib import Path

from edge_runtime.errors import ConfigError

CURRENT, PREVIOUS = "current", "previous"
_PLAIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]*", re.ASCII)


class BundleStore:
    """The bundles under ``root``."""

    def __init__(self, root: Path) -> None:
        self.root = root

    @classmethod
    def of(cls, bundle: Path) -> BundleStore | None:
        """The store whose ``current`` link the path is; None for any other directory."""
        return cls(bundle.parent) if bundle.name == CURRENT and bundle.is_symlink() else None

    def target(self, link: str) -> str | None:
        """The name of the folder that a link points to, also of one that is gone; None when there is no link.

        Raises ConfigError for a link that no install makes, for then nothing is known about this store.
        """
        path = self.root / link
        try:
            name = str(path.readlink())
        except FileNotFoundError:
            return None
        except OSError:
            raise ConfigError(
                f"{path}: is not the link that edge-label makes", "take it away"
            ) from None
        if not _PLAIN.fullmatch(name):
            raise ConfigError(f"{path}: leads out of the store", "take it away")
        return name
