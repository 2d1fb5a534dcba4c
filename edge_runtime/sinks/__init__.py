"""Where records go. A sink never blocks the pipeline: each runs in a thread of its own behind a bounded queue."""

from __future__ import annotations

from edge_runtime.sinks.base import InlineSink, Outlet, Sink, SinkThread

__all__ = ["InlineSink", "Outlet", "Sink", "SinkThread"]
