"""``edge-label once --watch``: label the pictures of folders as they arrive, until told to end."""

from __future__ import annotations

import logging
import time
from pathlib import Path

from edge_runtime.camera.arrivals import Arrivals
from edge_runtime.commands.once import Batch, Run
from edge_runtime.commands.table_base import Table
from edge_runtime.commands.tables import open_table
from edge_runtime.config import ModelConfig
from edge_runtime.daemon.signals import Signals
from edge_runtime.engine import load_engine
from edge_runtime.errors import NoInputError, UsageError
from edge_runtime.labeller import Labeller
from edge_runtime.secrecy import shown

log = logging.getLogger("edge_label")


def watch_folders(
    folders: list[str],
    model: ModelConfig,
    output: str | None,
    signals: Signals | None = None,
    *,
    resume: bool = False,
    embeddings: bool = False,
) -> int:
    """Label what is in the folders and what arrives, until a signal asks for the end; returns 0.

    With ``output`` (.jsonl, .csv) each picture is a line there as soon as it is labelled, with
    ``resume`` only those that the table lacks. Raises NoInputError or UsageError for what is no
    folder, and what `open_table` raises.
    """
    arrivals = [Arrivals(_folder(name)) for name in folders]
    if output and output.endswith(".parquet"):
        raise UsageError(
            f"{output}: a Parquet table cannot grow line by line", "end it in .jsonl or .csv"
        )

    signals = signals or Signals()
    labeller = Labeller(load_engine(model))
    table = open_table(Path(output), resume=resume, embeddings=embeddings) if output else None
    run = Run(labeller, table, total=0, one_of_many=True, forgiving=True, quiet=True)
    log.info("watching %s; SIGTERM or Ctrl-C ends it", ", ".join(map(shown, folders)))
    try:
        unread = _label_until_stopped(arrivals, folders, run, table, signals)
    finally:
        run.close()

    into = f" into {output}" if output else ""
    log.info("%d pictures labelled%s, %d could not be read", run.labelled, into, unread)
    return 0


def _folder(name: str) -> Path:
    path = Path(name)
    if path.is_dir():
        return path
    if path.exists():
        raise UsageError(f"{name}: not a folder", "--watch is about folders; give the one it is in")
    raise NoInputError(f"{shown(name)}: no such folder", "check the name")


def _label_until_stopped(
    arrivals: list[Arrivals], folders: list[str], run: Run, table: Table | None, signals: Signals
) -> int:
    """How many pictures could not be read, in the end."""
    unread: set[Path] = set()
    # SIGHUP is no reload here: it comes when the terminal is closed.
    while not (signals.stop or signals.reload):
        start = time.monotonic()
        for arrival, folder in zip(arrivals, folders, strict=True):
            for path in arrival.look():
                if signals.stop or signals.reload:
                    break
                readable = _label(folder, path, run, table)
                arrival.took(path, readable=readable)
                if readable:
                    unread.discard(path)
                else:
                    unread.add(path)
        signals.sleep_until(start + max(arrival.interval_s for arrival in arrivals))
    return len(unread)


def _label(folder: str, path: Path, run: Run, table: Table | None) -> bool:
    """Label one picture, unless the table has it; whether it could be read."""
    batch = Batch(folder, [path], is_folder=True)
    if table:
        batch = batch.without(table.stored)
    if not batch.paths:
        return True
    before = run.labelled
    run.label(batch)
    return run.labelled > before
