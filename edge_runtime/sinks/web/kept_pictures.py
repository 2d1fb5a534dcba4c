"""Pictures that a person kept on the page to teach labels: PICTURES/<label>/*.jpg, within limits.

``edge-label labels learn`` reads this folder. What is kept is the picture that the page showed, so
nothing that privacy hides is in it.
"""

from __future__ import annotations

import time
from collections import Counter
from pathlib import Path

from edge_runtime.errors import DataError, NoInputError
from edge_runtime.model.labels.picture_folders import NONE_FOLDER, folder_name, label_name
from edge_runtime.model.labels.taught import NONE
from edge_runtime.system.files import write_atomically

MAX_PICTURES = 500  # of all labels together; learning from 200 takes seconds
MAX_BYTES = 100_000_000


class KeptPictures:
    """The folder with the pictures. One thread at a time.

    A label is given by its name; `NONE`, the empty name, means none of the labels.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._counts: dict[str, int] | None = None  # None: to be counted

    def counts(self) -> dict[str, int]:
        """How many pictures each label has, for labels that have any."""
        if self._counts is None:
            self._counts = dict(Counter(_label_of(path.parent) for path in self._pictures()))
        return self._counts

    def keep(self, label: str, jpeg: bytes) -> None:
        """Keep one more picture of a label.

        Raises DataError when a limit is reached or the disk takes nothing more, ConfigError for a
        label that cannot be the name of a folder.
        """
        folder = self._folder_of(label)
        pictures = self._pictures()
        sizes = [path.stat().st_size for path in pictures]
        if len(sizes) >= MAX_PICTURES or sum(sizes) + len(jpeg) > MAX_BYTES:
            raise DataError(
                f"{self.folder}: {len(sizes)} pictures with {sum(sizes) / 1e6:.0f} MB are kept; "
                f"at most {MAX_PICTURES} with {MAX_BYTES / 1e6:.0f} MB can be kept",
                "remove some first",
            )
        # The names are in the order of time, also where the clock went back: `labels learn` holds
        # out pictures of one moment together.
        newest = max((_number(path) for path in pictures), default=0)
        number = max(time.time_ns() // 1_000_000, newest + 1)
        write_atomically(folder / f"{number:015}.jpg", jpeg, at_most=0o640)
        self._counts = None

    def remove_newest(self, label: str) -> None:
        """Remove the newest picture of a label. Raises NoInputError where there is none."""
        folder = self._folder_of(label)
        pictures = [path for path in self._pictures() if path.parent == folder]
        if not pictures:
            raise NoInputError(f"no picture of '{label or 'none of these'}' is kept")

        try:
            pictures[-1].unlink(missing_ok=True)
            self._counts = None
            if len(pictures) == 1:
                folder.rmdir()
        except OSError as error:
            raise DataError(f"{pictures[-1]}: cannot remove: {error.strerror}") from error

    def _folder_of(self, label: str) -> Path:
        return self.folder / (folder_name(label) if label != NONE else NONE_FOLDER)

    def _pictures(self) -> list[Path]:
        """All pictures, those of a label in the order of time."""
        return sorted(self.folder.glob("*/[!.]*.jpg"))


def _number(path: Path) -> int:
    return int(path.stem) if path.stem.isdecimal() and len(path.stem) < 20 else 0


def _label_of(folder: Path) -> str:
    return NONE if folder.name == NONE_FOLDER else label_name(folder.name)
