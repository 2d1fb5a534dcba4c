"""How one picture on a disk becomes pixels, and which files are pictures by their names.

A path reaches OpenCV only after it was looked at: only a regular file is opened, so no pipe and no
device can block. Which pictures a folder holds is in ``folder.py``.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from edge_runtime.errors import DataError
from edge_runtime.system.files import is_special
from edge_runtime.system.jpeg_bytes import JPEG_START, is_cut_off
from edge_runtime.system.opencv import MAX_PIXELS, cv2

PICTURE_SUFFIXES = frozenset(
    (
        *(".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".bmp", ".dib", ".tif", ".tiff"),
        *(".ppm", ".pgm", ".pbm", ".pnm", ".jp2", ".avif", ".gif"),
    )
)

# Pictures that OpenCV does not read: from phones, raw ones from cameras, drawings.
FOREIGN_SUFFIXES = frozenset(
    (
        *(".heic", ".heif", ".jxl", ".svg", ".psd", ".dng", ".raw"),
        *(".cr2", ".cr3", ".nef", ".arw", ".orf", ".rw2", ".raf"),
    )
)

CONVERT = "convert them first, for example with: mogrify -format jpg"

# What a file begins with that is HEIC, at byte 4: a box of type ftyp, and one of these brands.
_HEIC_BRANDS = (b"heic", b"heix", b"hevc", b"mif1", b"msf1")


def is_picture(path: Path) -> bool:
    """Whether ``path`` has the suffix of a picture that OpenCV reads."""
    return path.suffix.lower() in PICTURE_SUFFIXES


def check_file(path: Path) -> None:
    """Raise DataError for a pipe or a device: opening one may block for ever."""
    if is_special(path):
        raise DataError(
            f"{path}: is a pipe, a socket or a device, not a file", "give the file itself"
        )


def check_format(path: Path) -> None:
    """Raise DataError for a picture that OpenCV is known not to read, with what to do."""
    suffix = path.suffix.lower()
    if suffix in FOREIGN_SUFFIXES:
        raise DataError(f"{path}: OpenCV does not read {suffix} pictures", f"{CONVERT} *{suffix}")


def utf8_name(path: Path) -> str:
    """The path as OpenCV takes it. Raises DataError for a name that is not UTF-8.

    OpenCV 5 crashes on such a name.
    """
    name = str(path)
    try:
        name.encode()
    except UnicodeEncodeError as error:
        raise DataError(f"{path}: its name is not UTF-8", "rename it") from error
    return name


def read_picture(path: Path) -> cv2.typing.MatLike:
    """Decode one picture: uint8 BGR (H, W, 3), or one channel (H, W) of uint8, uint16 or float.

    Infrared and depth keep their 16 bits; colour of 16 bits becomes 8. Raises DataError.
    """
    check_file(path)
    _refuse_cut_off(path)
    data = _decode(path)

    is_colour = data.ndim == 3
    if is_colour and data.dtype == "uint16":
        return (data >> 8).astype("uint8")
    dtypes = ("uint8",) if is_colour else ("uint8", "uint16", "float32", "float64")
    if data.dtype not in dtypes:
        raise DataError(
            f"{path}: pixels of {data.dtype} are not a picture", "convert it to 8 or 16 bits"
        )
    return data


def _decode(path: Path) -> cv2.typing.MatLike:
    # The stubs say that imread never returns None. It does.
    read: Callable[[str, int], cv2.typing.MatLike | None] = cv2.imread
    try:
        data = read(utf8_name(path), cv2.IMREAD_ANYCOLOR | cv2.IMREAD_ANYDEPTH)
    except (cv2.error, MemoryError) as error:  # over OPENCV_IO_MAX_IMAGE_PIXELS
        raise _not_a_picture(path) from error
    if data is None:
        raise _not_a_picture(path)
    return data


def _refuse_cut_off(path: Path) -> None:
    """Raise DataError for half a JPEG.

    libjpeg would fill the rest with grey, and warn without the name of the file.
    """
    try:
        with path.open("rb") as file:
            start = file.read(2)
            is_half = start == JPEG_START and is_cut_off(start + file.read(MAX_PIXELS))
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such file") from error
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from error
    if is_half:
        raise DataError(f"{path}: a JPEG that is cut off", "fetch it again")


def _not_a_picture(path: Path) -> DataError:
    """The error for a file that OpenCV did not decode. Phones put HEIC into files called .jpg."""
    try:
        with path.open("rb") as file:
            start = file.read(12)
    except OSError as error:
        return DataError(f"{path}: cannot be read: {error.strerror}")

    if start[4:8] == b"ftyp" and start[8:12] in _HEIC_BRANDS:
        return DataError(
            f"{path}: a HEIC picture, whatever its name says, and OpenCV does not read it",
            "convert it first",
        )
    return DataError(f"{path}: not a picture that can be decoded, or over 64 megapixels")
