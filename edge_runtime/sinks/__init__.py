"""Where records go. `open_sinks` is the one door, as `camera.open_source` is for frames.

No sink holds up a live frame: it either runs in a thread of its own behind a bounded queue, or it
only keeps a reference to the newest record.
"""

from __future__ import annotations

from edge_runtime.sinks.base import Sink, SinkRunner
from edge_runtime.sinks.open import SinkContext, check_labels, open_sinks, retire

__all__ = ["Sink", "SinkContext", "SinkRunner", "check_labels", "open_sinks", "retire"]
