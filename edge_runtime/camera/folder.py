"""Which pictures a folder holds, whatever lies beside them."""

from __future__ import annotations

import logging
import os
from collections import defaultdict
from pathlib import Path

from edge_runtime.camera.pictures import CONVERT, FOREIGN_SUFFIXES, PICTURE_SUFFIXES, is_picture
from edge_runtime.errors import DataError, printable

log = logging.getLogger("edge_label.camera")

# Folders that a file server or another operating system keeps beside the user's own.
_NOT_THE_USERS = frozenset(
    (
        *("@eaDir", "@Recycle", "@Recently-Snapshot", "#recycle", "#snapshot"),
        *("$RECYCLE.BIN", "System Volume Information", "__MACOSX", "lost+found"),
    )
)


def pictures_below(root: Path) -> list[Path]:
    """All pictures in a folder and below it, sorted; what is left out is logged, a line a kind.

    Hidden files and folders are left out silently, and what a file server keeps for itself. A
    symbolic link to a folder is followed, each folder once. Raises DataError when there is no
    picture, or none that this user may see.
    """
    if not os.access(root, os.R_OK | os.X_OK):
        raise DataError(f"{root}: this user may not look into it", "check it with ls -ld")

    survey = _Survey(root)
    for reason, paths in sorted(survey.left_out.items()):
        line = f"{root}: left out: {len(paths)} {reason}; the first is {min(paths)}"
        log.warning("%s", printable(line))
    if not survey.pictures:
        raise DataError(f"{root}: no pictures in it ({', '.join(sorted(PICTURE_SUFFIXES))})")
    return sorted(survey.pictures)


def pictures_now(root: Path) -> list[Path]:
    """As `pictures_below`, without a word about what is left out; empty where there is nothing."""
    return sorted(_Survey(root).pictures)


class _Survey:
    """What lies in a folder and below it.

    Links are followed last, so that a picture has the name that it has without them.

    Attributes:
        pictures: The pictures, in no order.
        left_out: What the user may miss, by the reason why it is left out.
    """

    def __init__(self, root: Path) -> None:
        self.pictures: list[Path] = []
        self.left_out: dict[str, list[Path]] = defaultdict(list)
        self._root = Path(os.path.realpath(root))
        self._seen: set[tuple[int, int]] = set()  # device and inode of each folder
        self._folders = [root]
        self._links: list[Path] = []

        while self._folders or self._links:
            if self._folders:
                self._look_into(self._folders.pop())
            else:
                link = min(self._links)
                self._links.remove(link)
                self._follow(link)

    def _follow(self, link: Path) -> None:
        if self._root.is_relative_to(os.path.realpath(link)):
            self.left_out["symbolic links to a folder above"].append(link)
        else:
            self._folders.append(link)

    def _look_into(self, folder: Path) -> None:
        try:
            facts = folder.stat()
            if (facts.st_dev, facts.st_ino) in self._seen:
                return
            self._seen.add((facts.st_dev, facts.st_ino))
            with os.scandir(folder) as entries:
                for entry in entries:
                    if not entry.name.startswith(".") and entry.name not in _NOT_THE_USERS:
                        self._sort(entry, folder / entry.name)
        except OSError as error:
            self.left_out[f"folders that cannot be read ({error.strerror})"].append(folder)

    def _sort(self, entry: os.DirEntry[str], path: Path) -> None:
        """Sort by what ``path`` is, then by its name: a folder or a pipe may be called x.jpg."""
        try:
            is_folder = entry.is_dir()
            is_file = entry.is_file()
        except OSError:  # a symbolic link to itself
            is_folder = False
            is_file = False

        suffix = path.suffix.lower()
        if is_folder and entry.is_symlink():
            self._links.append(path)
        elif is_folder:
            self._folders.append(path)
        elif suffix in FOREIGN_SUFFIXES:
            reason = f"{suffix} files that OpenCV does not read: {CONVERT} *{suffix}"
            self.left_out[reason].append(path)
        elif is_picture(path) and is_file:
            self.pictures.append(path)
        elif is_picture(path):
            self.left_out["pipes, devices or broken links with a picture's name"].append(path)
