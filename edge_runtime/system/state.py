"""Where this user's programs may keep what they can make again."""

from __future__ import annotations

import os
from pathlib import Path


def service_state_folder() -> Path | None:
    """$STATE_DIRECTORY, its first folder; None where systemd gave none."""
    given = os.environ.get("STATE_DIRECTORY", "").split(":")[0]
    return Path(given) if given else None


def state_folder() -> Path | None:
    """$STATE_DIRECTORY, which systemd sets, else ``edge-label`` below $XDG_STATE_HOME or its
    default ~/.local/state.

    None for a user without a home. The folder may not exist yet.
    """
    given = service_state_folder()
    if given:
        return given

    try:
        home = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    except RuntimeError:
        return None
    return Path(home) / "edge-label"
