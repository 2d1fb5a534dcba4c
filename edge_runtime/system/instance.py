"""Which of several services on one machine this is.

``edge-label@front`` is the instance ``front``: it reads /etc/edge-label/front.yaml and writes below
/var/lib/edge-label-front.
"""

from __future__ import annotations

import os
from pathlib import Path

CONFIG_FOLDER = Path("/etc/edge-label")
SERVICE = "edge-label"  # the service without an instance, its configuration and its state folder


def instance() -> str:
    """The name behind the @ of the unit, empty for the only service or a command."""
    return os.environ.get("EDGE_LABEL_INSTANCE", "")


def service_folder(config: str | None) -> Path:
    """The one folder that the service with this configuration file may write to."""
    path = Path(config or "")
    named = path.suffix == ".yaml" and path.parent == CONFIG_FOLDER and path.stem != SERVICE
    return Path("/var/lib") / (f"{SERVICE}-{path.stem}" if named else SERVICE)
