"""The files behind the labels that the page tries: ``labels.yaml`` and ``labels.embeddings``.

They lie in a folder of their own, which one program at a time may use. Nothing of the configuration
is written here.
"""

from __future__ import annotations

from pathlib import Path

from edge_runtime.errors import DataError
from edge_runtime.model.bundle import Bundle
from edge_runtime.model.labels.compiled import CompiledLabels, load_labels
from edge_runtime.model.labels.label_set import LabelSet
from edge_runtime.model.labels.label_yaml import label_set_yaml
from edge_runtime.model.labels.phrase_rows import PhraseRows, remove_rows, rows_path
from edge_runtime.system.claims import TakenError, claim_folder, let_go
from edge_runtime.system.files import write_atomically


class WorkingCopy:
    """The label set that is tried, on disk. ``path`` is its YAML file."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "labels.yaml"
        self._fd: int | None = None

    def begin(self, rows: Path | None) -> None:
        """Start from a label set whose embeddings are in ``rows``, with what pictures taught it.

        Raises EdgeLabelError where the files cannot be read or written.
        """
        self._claim()
        _copy_rows(rows, rows_path(self.path))

    def load(self, label_set: LabelSet, bundle: Bundle) -> CompiledLabels:
        """Write a label set and load it; rows that are missing are made. May take seconds.

        Raises EdgeLabelError; the label set that was there is then there again.
        """
        self._claim()
        before = self.path.read_bytes() if self.path.exists() else None
        write_atomically(self.path, label_set_yaml(label_set).encode(), at_most=0o640)
        try:
            return load_labels(str(self.path), bundle)
        except BaseException:
            if before is not None:
                write_atomically(self.path, before, at_most=0o640)
            raise

    def close(self) -> None:
        """Let another program use the folder."""
        if self._fd is not None:
            let_go(self._fd)
            self._fd = None

    def _claim(self) -> None:
        if self._fd is not None:
            return
        folder = self.path.parent
        try:
            folder.mkdir(mode=0o750, parents=True, exist_ok=True)
            self._fd = claim_folder(folder)
        except OSError as error:
            advice = "give each its own $STATE_DIRECTORY" if isinstance(error, TakenError) else ""
            raise DataError(f"{folder}: {error.strerror}", advice) from error


def save_label_set(label_set: LabelSet, rows: Path | None, path: Path, bundle: Bundle) -> None:
    """Write a label set with its rows to ``path``, and load it once to be sure.

    Raises EdgeLabelError.
    """
    _copy_rows(rows, rows_path(path))
    text = label_set_yaml(label_set, "Saved by the preview page of edge-label.")
    write_atomically(path, text.encode(), at_most=0o640)
    load_labels(str(path), bundle)


def _copy_rows(source: Path | None, target: Path) -> None:
    """Make ``target`` hold what ``source`` does: nothing, where there is no such file."""
    rows = PhraseRows.read(source) if source else None
    if rows is not None:
        rows.write(target)
    else:
        remove_rows(target)
