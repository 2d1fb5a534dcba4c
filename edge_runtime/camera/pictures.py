"""Pictures on a disk: which files of a folder are pictures, and how one of them becomes pixels.

A path reaches OpenCV only after it was looked at: only a regular file is opened, so no pipe and no device can block.
"""

from __future__ import annotations

import logging
import os
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

from edge_runtime.errors import DataError, printable
from edge_runtime.system.files import is_special
from edge_runtime.system.jpeg_bytes import JPEG_START, is_cut_off
from edge_runtime.system.opencv import MAX_PIXELS, cv2

log = logging.getLogger("edge_label.camera")

PICTURE_SUFFIXES = frozenset(
    (
        *(".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".bmp", ".dib", ".tif", ".tiff"),
        *(".ppm", ".pgm", ".pbm", ".pnm", ".jp2", ".avif", ".gif"),
    )
)

# Pictures that OpenCV does not read: of phones, raw ones of cameras, drawings.
FOREIGN_SUFFIXES = frozenset(
    (
        *(".heic", ".heif", ".jxl", ".svg", ".psd", ".dng", ".raw"),
        *(".cr2", ".cr3", ".nef", ".arw", ".orf", ".rw2", ".raf"),
    )
)

# Folders that a file server or another system keeps beside the user's own.
_NOT_THE_USERS = frozenset(
    (
        *("@eaDir", "@Recycle", "@Recently-Snapshot", "#recycle", "#snapshot"),
        *("$RECYCLE.BIN", "System Volume Information", "__MACOSX", "lost+found"),
    )
)

_CONVERT = "convert them first, for example with: mogrify -format jpg"


def is_picture(path: Path) -> bool:
    """By its suffix."""
    return path.suffix.lower() in PICTURE_SUFFIXES


def pictures_below(root: Path) -> list[Path]:
    """All pictures of a folder and below, sorted; what is left out is logged, a line a kind.

    Hidden files and folders are not looked at, nor what a file server keeps for itself. A symbolic link to a folder is
    followed, each folder once. Raises DataError when there is no picture, or none that this user may see.
    """
    if not os.access(root, os.R_OK | os.X_OK):
        raise DataError(f"{root}: this user may not look into it", "check it with ls -ld")
    survey = _Survey(root)
    for what, paths in sorted(survey.left_out.items()):
        log.warning(
            "%s", printable(f"{root}: left out: {len(paths)} {what}; the first is {min(paths)}")
        )
    if not survey.pictures:
        raise DataError(f"{root}: no pictures in it ({', '.join(sorted(PICTURE_SUFFIXES))})")
    return sorted(survey.pictures)


class _Survey:
    """What lies in a folder and below it: ``pictures``, and in ``left_out`` what the user may miss, by reason.

    Links are followed last, so that a picture has the name that it has without them.
    """

    def __init__(self, root: Path) -> None:
        self.pictures: list[Path] = []
        self.left_out: dict[str, list[Path]] = defaultdict(list)
        self._root = Path(os.path.realpath(root))
        self._seen: set[tuple[int, int]] = set()
        self._folders = [root]
        self._links: list[Path] = []
        while self._folders or self._links:
            if self._folders:
                self._look_into(self._folders.pop())
            else:
                self._follow(self._links.pop(self._links.index(min(self._links))))

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
        """A folder may be called x.jpg, and so may a pipe: what it is decides, then its name."""
        try:
            folder, file = entry.is_dir(), entry.is_file()
        except OSError:  # a symbolic link to itself
            folder = file = False
        suffix = path.suffix.lower()
        if folder:
            (self._links if entry.is_symlink() else self._folders).append(path)
        elif suffix in FOREIGN_SUFFIXES:
            self.left_out[f"{suffix} files that OpenCV does not read: {_CONVERT} *{suffix}"].append(
                path
            )
        elif suffix in PICTURE_SUFFIXES and file:
            self.pictures.append(path)
        elif suffix in PICTURE_SUFFIXES:
            self.left_out["pipes, devices or broken links with a picture's name"].append(path)


def check_file(path: Path) -> None:
    """Raise DataError for a pipe or a device: to open it is to wait for ever."""
    if is_special(path):
        raise DataError(
            f"{path}: is a pipe, a socket or a device, not a file", "give the file itself"
        )


def check_format(path: Path) -> None:
    """Raise DataError for a picture that OpenCV is known not to read, with what to do."""
    suffix = path.suffix.lower()
    if suffix in FOREIGN_SUFFIXES:
        raise DataError(f"{path}: OpenCV does not read {suffix} pictures", f"{_CONVERT} *{suffix}")


def utf8_name(path: Path) -> str:
    """The path as OpenCV takes it. Raises DataError for a name that is not UTF-8: on such a one OpenCV crashes."""
    name = str(path)
    try:
        name.encode()
    except UnicodeEncodeError:
        raise DataError(f"{path}: its name is not UTF-8", "rename it") from None
    return name


def read_picture(path: Path) -> cv2.typing.MatLike:
    """Decode one picture: uint8 BGR (H, W, 3), or one channel (H, W) of uint8, uint16 or float. Raises DataError.

    Infrared and depth keep their 16 bits; colour of 16 bits becomes 8.
    """
    check_file(path)
    _refuse_cut_off(path)
    read: Callable[[str, int], cv2.typing.MatLike | None] = cv2.imread
    try:
        data = read(utf8_name(path), cv2.IMREAD_ANYCOLOR | cv2.IMREAD_ANYDEPTH)
    except (cv2.error, MemoryError):  # over OPENCV_IO_MAX_IMAGE_PIXELS
        data = None
    if data is None:
        raise DataError(f"{path}: {_why_not(path)}")
    if data.ndim == 3 and data.dtype == "uint16":
        return (data >> 8).astype("uint8")
    if data.dtype not in (
        ("uint8",) if data.ndim == 3 else ("uint8", "uint16", "float32", "float64")
    ):
        raise DataError(
            f"{path}: pixels of {data.dtype} are not a picture", "convert it to 8 or 16 bits"
        )
    return data


def _refuse_cut_off(path: Path) -> None:
    """Half a JPEG: libjpeg would fill the rest with grey, and say so without the file's name."""
    try:
        with path.open("rb") as file:
            start = file.read(2)
            if start == JPEG_START and is_cut_off(start + file.read(MAX_PIXELS)):
                raise DataError(f"{path}: a JPEG that is cut off", "fetch it again")
    except FileNotFoundError:
        raise DataError(f"{path}: no such file") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from None


def _why_not(path: Path) -> str:
    """What is known of a file that OpenCV did not decode. Phones put HEIC into files called .jpg."""
    try:
        with path.open("rb") as file:
            start = file.read(12)
    except OSError as error:
        return f"cannot be read: {error.strerror}"
    if start[4:8] == b"ftyp" and start[8:12] in (b"heic", b"heix", b"hevc", b"mif1", b"msf1"):
        return (
            "a HEIC picture, whatever its name says, and OpenCV does not read it; convert it first"
        )
    return "not a picture that can be decoded, or over 64 megapixels"
