"""Label pictures: to the terminal, to stdout as JSON lines, or, for large folders, to a table that can be resumed."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from edge_runtime.camera.folder import pictures_below
from edge_runtime.camera.pictures import check_format, is_picture
from edge_runtime.camera.replay import PictureFolder
from edge_runtime.commands.progress import Progress
from edge_runtime.commands.tables import open_table, picture_name
from edge_runtime.config import CameraConfig, ModelConfig
from edge_runtime.engine import load_engine
from edge_runtime.errors import ConfigError, DataError, EdgeLabelError, NoInputError, printable
from edge_runtime.labeller import Labeller
from edge_runtime.records import Frame, LabelRecord
from edge_runtime.secrecy import shown
from edge_runtime.system import streams

log = logging.getLogger("edge_label")


def label_pictures(
    pictures: list[str],
    model: ModelConfig,
    output: str | None = None,
    *,
    resume: bool = False,
    embeddings: bool = False,
) -> int:
    """Label files and folders in order; broken pictures are logged and passed over. Returns the exit code.

    With ``output`` (.jsonl, .csv, .parquet) into that table, with ``resume`` only those that it lacks. Raises
    NoInputError, UsageError, or DataError when there is no readable picture at all.
    """
    found = [_pictures(Path(given), alone=len(pictures) == 1) for given in pictures]
    if not any(found):
        raise DataError(f"none of the {len(pictures)} files is a picture that can be read")
    labeller = Labeller(
        load_engine(model)
    )  # before the table: what is wrong here leaves no file behind
    table = open_table(Path(output), resume=resume, embeddings=embeddings) if output else None
    done = table.done if table else set()
    todo = [
        [path for path in paths if picture_name(given, _file(given, path)) not in done]
        for given, paths in zip(pictures, found, strict=True)
    ]
    total = sum(map(len, todo))
    if table and done:
        log.info(
            "%d of %d pictures are done already", sum(map(len, found)) - total, sum(map(len, found))
        )
    progress = Progress(
        "pictures", total, quiet=table is None
    )  # without a table the lines show how far it is
    count = 0
    refused: EdgeLabelError | None = None
    try:
        for given, paths in zip(pictures, todo, strict=True):
            for frame in _frames(given, paths, progress, forgiving=bool(done) or len(pictures) > 1):
                try:
                    labelled = labeller.process(frame)
                except (ConfigError, DataError) as error:  # of another kind than the model takes
                    if total == 1 and not done:
                        raise
                    refused = error
                    progress.step()
                    log.warning("%s: %s", printable(picture_name(given, str(frame.file))), error)
                    continue
                count += 1
                labelled = replace(labelled, record=replace(labelled.record, camera=given))
                if table:
                    table.write(picture_name(given, str(frame.file)), labelled)
                    progress.step()
                else:
                    _show(labelled.record)
    finally:
        progress.close()
        if table:
            table.close()
    if total and not count and not done:
        raise refused or DataError(f"none of the {total} pictures can be read")
    if table:
        log.info("%d pictures labelled into %s, %d could not be read", count, output, total - count)
    return 0


def _show(record: LabelRecord) -> None:
    if sys.stdout.isatty():
        streams.say(_line(record))
    else:
        streams.say_json(record.to_json())


def _pictures(given: Path, *, alone: bool) -> list[Path]:
    """All pictures of an argument, sorted; beside others, one of a format that nothing here reads is passed over."""
    if given.is_dir():
        return pictures_below(given)
    if not given.exists():
        raise NoInputError(f"{shown(str(given))}: no such file or folder")
    try:
        check_format(given)
    except DataError as error:
        if alone:
            raise
        log.warning("%s", error)
        return []
    if not is_picture(given):
        raise DataError(f"{given}: not a picture", f"for a video use: edge-label --camera {given}")
    return [given]


def _file(given: str, path: Path) -> str:
    return given if not Path(given).is_dir() else str(path.relative_to(given))


def _frames(
    given: str, paths: list[Path], progress: Progress, *, forgiving: bool
) -> Iterator[Frame]:
    if not paths:
        return
    root = Path(given) if Path(given).is_dir() else Path(given).parent
    source = PictureFolder(root, CameraConfig(), paths)
    broken = 0
    try:
        while (frame := source.read(0)) is not None:
            for _ in range(source.broken - broken):
                progress.step()
            broken = source.broken
            if not Path(given).is_dir():
                frame = replace(frame, file=given)
            yield frame
    except DataError as error:
        if not forgiving:  # beside others, or in a resumed folder, what is broken is no end
            raise
        progress.step()
        log.warning("%s", error)


def _line(record: LabelRecord) -> str:
    shown = [label for label in record.labels if label.on] or list(record.labels[:3])
    text = ", ".join(f"{label.name} {label.score:.2f}" for label in shown)
    return f"{record.file}: {text if record.state == 'ok' else f'{record.state} (best: {text})'}"
