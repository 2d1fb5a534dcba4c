"""``edge-label once``: label pictures and folders of pictures.

The labels go to the terminal, to stdout as JSON lines, or, for large folders, into a table that
can be continued. One broken or odd picture among others ends nothing: it is logged, counted and
skipped.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from edge_runtime.camera.folder import pictures_below
from edge_runtime.camera.pictures import check_format, is_picture
from edge_runtime.camera.replay import PictureFolder
from edge_runtime.commands.progress import Progress
from edge_runtime.commands.table_base import Table, picture_name
from edge_runtime.commands.tables import open_table
from edge_runtime.config import CameraConfig, ModelConfig
from edge_runtime.engine import load_engine
from edge_runtime.errors import ConfigError, DataError, EdgeLabelError, NoInputError, printable
from edge_runtime.labeller import Labeller
from edge_runtime.records import Frame, LabelRecord
from edge_runtime.secrecy import shown
from edge_runtime.system import streams

log = logging.getLogger("edge_label")

_BEST = 3  # labels shown of a picture that none is on for


@dataclass(frozen=True, slots=True)
class Batch:
    """The pictures of one argument: of a folder all below it, otherwise the one file."""

    argument: str
    paths: list[Path]
    is_folder: bool = False

    @classmethod
    def of(cls, argument: str, *, alone: bool) -> Batch:
        """Raises NoInputError or DataError; beside other arguments a foreign format is skipped."""
        path = Path(argument)
        if path.is_dir():
            return cls(argument, pictures_below(path), is_folder=True)
        if not path.exists():
            raise NoInputError(f"{shown(argument)}: no such file or folder", "check the name")

        try:
            check_format(path)
        except DataError as error:
            if alone:
                raise
            log.warning("%s", error)
            return cls(argument, [])
        if not is_picture(path):
            raise DataError(
                f"{path}: not a picture", f"for a video use: edge-label --camera {path}"
            )
        return cls(argument, [path])

    def without(self, stored: set[str]) -> Batch:
        """Only the pictures that a table does not hold yet."""
        return replace(self, paths=[p for p in self.paths if self._name_of(p) not in stored])

    def _name_of(self, path: Path) -> str:
        file = str(path.relative_to(self.argument)) if self.is_folder else self.argument
        return picture_name(self.argument, file)


def label_pictures(
    pictures: list[str],
    model: ModelConfig,
    output: str | None = None,
    *,
    resume: bool = False,
    embeddings: bool = False,
) -> int:
    """Label files and folders in order; returns the exit code.

    With ``output`` (.jsonl, .csv, .parquet) the records go into that table, with ``resume`` only
    those that it lacks. Raises NoInputError, UsageError, or DataError when there is no readable
    picture at all.
    """
    batches = _find(pictures)

    # The model before the table: what is wrong with it must leave no file behind.
    labeller = Labeller(load_engine(model))
    table = open_table(Path(output), resume=resume, embeddings=embeddings) if output else None
    stored = table.stored if table else set()

    todo = [batch.without(stored) for batch in batches]
    total = _count(todo)
    if stored:
        in_all = _count(batches)
        log.info("%d of %d pictures are done already", in_all - total, in_all)

    # Beside others, or in a continued table, a picture that cannot be labelled ends nothing.
    run = Run(
        labeller,
        table,
        total,
        one_of_many=bool(stored) or total > 1,
        forgiving=bool(stored) or len(batches) > 1,
    )
    try:
        for batch in todo:
            run.label(batch)
    finally:
        run.close()

    # A continued table may have nothing left but broken pictures; that is a success.
    if not stored:
        run.raise_if_none_labelled()
    if table:
        unread = total - run.labelled
        log.info("%d pictures labelled into %s, %d could not be read", run.labelled, output, unread)
    return 0


def _find(arguments: list[str]) -> list[Batch]:
    """The pictures of all arguments. Raises DataError when there is none."""
    batches = [Batch.of(argument, alone=len(arguments) == 1) for argument in arguments]
    if _count(batches) == 0:
        raise DataError(
            f"none of the {len(arguments)} files is a picture that can be read",
            "convert them to JPEG or PNG first",
        )
    return batches


def _count(batches: list[Batch]) -> int:
    return sum(len(batch.paths) for batch in batches)


class Run:
    """Labels batch after batch; counts what was labelled and remembers what was refused last.

    With ``one_of_many`` a picture that the model does not take is passed over. Unless
    ``forgiving``, it is an error if all of a batch is broken.
    """

    def __init__(
        self,
        labeller: Labeller,
        table: Table | None,
        total: int,
        *,
        one_of_many: bool,
        forgiving: bool,
        quiet: bool = False,
    ) -> None:
        self._labeller = labeller
        self._table = table
        self._total = total
        self._one_of_many = one_of_many
        self._forgiving = forgiving

        # Without a table the lines themselves show how far the run is.
        self._progress = Progress("pictures", total, quiet=quiet or table is None)
        self.labelled = 0
        self._refused: EdgeLabelError | None = None

    def label(self, batch: Batch) -> None:
        """Label all pictures of a batch."""
        for frame in _frames(batch, self._progress, forgiving=self._forgiving):
            self._label_frame(batch.argument, frame)

    def _label_frame(self, argument: str, frame: Frame) -> None:
        name = picture_name(argument, str(frame.file))
        try:
            labelled = self._labeller.process(frame)
        except (ConfigError, DataError) as error:  # of another kind than the model takes
            if not self._one_of_many:
                raise
            self._refused = error
            self._progress.step()
            log.warning("%s: %s", printable(name), error)
            return

        self.labelled += 1
        labelled = replace(labelled, record=replace(labelled.record, camera=argument))
        if self._table:
            self._table.write(name, labelled)
            self._progress.step()
        else:
            _show(labelled.record)

    def raise_if_none_labelled(self) -> None:
        """Raises what was refused last, or DataError, when not one picture could be labelled."""
        if self._total and not self.labelled:
            raise self._refused or DataError(
                f"none of the {self._total} pictures can be read",
                "the log names each with its reason",
            )

    def close(self) -> None:
        """Leave the progress line, and write what the table holds back."""
        self._progress.close()
        if self._table:
            self._table.close()


def _frames(batch: Batch, progress: Progress, *, forgiving: bool) -> Iterator[Frame]:
    """The frames of a batch. The source logs and skips broken pictures; they count as progress."""
    if not batch.paths:
        return
    path = Path(batch.argument)
    source = PictureFolder(path if batch.is_folder else path.parent, CameraConfig(), batch.paths)
    skipped = 0

    while True:
        try:
            frame = source.read(0)
        except DataError as error:  # every picture of the batch is broken
            if not forgiving:
                raise
            frame = None
            log.warning("%s", error)

        for _ in range(source.broken - skipped):
            progress.step()
        skipped = source.broken
        if frame is None:
            return
        yield frame if batch.is_folder else replace(frame, file=batch.argument)


def _show(record: LabelRecord) -> None:
    if sys.stdout.isatty():
        streams.say(_line(record))
    else:
        streams.say_json(record.to_json())


def _line(record: LabelRecord) -> str:
    """``street.jpg: snowy road 0.62``; without a label that is on the state and the best scores."""
    on = [label for label in record.labels if label.on]
    labels = on or record.labels[:_BEST]
    text = ", ".join(f"{label.name} {label.score:.2f}" for label in labels)
    if record.state == "ok":
        return f"{record.file}: {text}"
    return f"{record.file}: {record.state} (best: {text})"
