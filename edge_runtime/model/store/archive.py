"""A bundle out of a tar archive that may have been made to hurt us.

Only what a bundle needs is understood: plain files and directories of an uncompressed ustar, GNU or
pax archive. There is no link, no device, no sparse file and no compression: what cannot be
expressed cannot be an attack, and int8 weights hardly compress. A member's name and size are judged
before anything is written, and nothing that exists is written over. docs/bundle.md lists the
limits.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from edge_runtime.errors import BundleError, NoInputError
from edge_runtime.model.manifest import MAX_FILE_BYTES

MAX_MEMBERS = 256
MAX_TOTAL_BYTES = 1 << 30
MAX_PATH = 200  # characters
MAX_DEPTH = 4  # parts of a path: bundle/labels/road.yaml has three

_BLOCK = 512  # bytes: headers and data of a tar archive start at multiples
_CHUNK = 1 << 20

# The type of a member, byte 156 of its header.
_FILE = b"0\0"
_DIRECTORY = b"5"
_NOTES = b"xg"  # pax notes are skipped: all that a bundle needs fits into the header itself
_REFUSED = {
    b"1": "hard link",
    b"2": "symbolic link",
    b"3": "device",
    b"4": "device",
    b"6": "pipe",
    b"S": "sparse file",
}

# The first two bytes of what people pack a tar archive with.
_COMPRESSED = {b"\x1f\x8b": "gzip", b"\xfd7": "xz", b"BZ": "bzip2", b"PK": "zip", b"(\xb5": "zstd"}


def open_archive(archive: Path) -> BinaryIO:
    """The archive's stream.

    Raises NoInputError, or BundleError for what is no file; a pipe or a device is not waited for.
    """
    try:
        fd = os.open(archive, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError as error:
        raise NoInputError(f"{archive}: no such file", "give the bundle's .tar") from error
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", error)
        raise BundleError(f"{archive}: cannot read: {reason}", "give the bundle's .tar") from error

    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise BundleError(f"{archive}: is not a file", "give the bundle's .tar")
    return os.fdopen(fd, "rb")


def unpack(archive: Path, into: Path) -> Path:
    """Unpack into the new directory ``into``. Returns the directory in it that holds manifest.json.

    Raises NoInputError where there is no archive, BundleError for any but a harmless one. ``into``
    may then hold a part of it: the caller removes it.
    """
    try:
        with open_archive(archive) as stream:
            compression = _COMPRESSED.get(stream.read(2))
            if compression:
                raise BundleError(f"{archive}: is {compression}", "unpack it to a plain .tar first")
            stream.seek(0)

            into.mkdir(parents=True)
            total = os.fstat(stream.fileno()).st_size
            for name, size, is_file in _members(stream, total, str(archive)):
                _write(stream, into / name, size, is_file, f"{archive}: {name}")
    except FileExistsError as error:
        raise BundleError(f"{archive}: holds {error.filename} twice", "pack it again") from error
    except OSError as error:
        raise BundleError(
            f"{archive}: cannot unpack into {into.parent}: {error.strerror}"
        ) from error

    manifests = [into / "manifest.json", *into.glob("*/manifest.json")]
    folders = [path.parent for path in manifests if path.is_file()]
    if len(folders) != 1:
        raise BundleError(
            f"{archive}: holds no bundle",
            "one manifest.json must be at the top, or in one directory",
        )
    return folders[0]


def _members(stream: BinaryIO, total: int, where: str) -> Iterator[tuple[str, int, bool]]:
    """(name, size, is a file) of every member. The stream then stands at the member's data."""
    unpacked = 0

    for _ in range(MAX_MEMBERS):
        header = stream.read(_BLOCK)
        if len(header) == _BLOCK and not any(header):  # a block of zeros ends the archive
            return

        size = _checked_size(header, where)
        kind = header[156:157]
        data = stream.tell()
        if size > total - data:
            raise BundleError(f"{where}: cut off, or not a tar archive", "fetch it again")

        if kind in _FILE or kind == _DIRECTORY:
            unpacked += size
            if size > MAX_FILE_BYTES or unpacked > MAX_TOTAL_BYTES:
                raise BundleError(
                    f"{where}: unpacks to more than a bundle may have "
                    f"({MAX_TOTAL_BYTES >> 20} MB, {MAX_FILE_BYTES >> 20} MB a file)"
                )
            yield _checked_name(header, where), size, kind != _DIRECTORY
        elif kind not in _NOTES:
            raise BundleError(
                f"{where}: holds a {_REFUSED.get(kind, 'member of unknown kind')}",
                "a bundle has only files",
            )

        # The caller may have read nothing, or all of it. Data is padded to whole blocks.
        stream.seek(data + -(-size // _BLOCK) * _BLOCK)

    raise BundleError(f"{where}: more than {MAX_MEMBERS} members", "a bundle has fewer")


def _checked_size(header: bytes, where: str) -> int:
    """The size field of a header whose check sum is right."""
    try:
        if len(header) < _BLOCK:
            raise ValueError("half a header")

        # The sum counts its own field as eight spaces.
        unsummed = header[:148] + b" " * 8 + header[156:]
        if _octal(header[148:156]) != sum(unsummed):
            raise ValueError("wrong check sum")
        return _octal(header[124:136])
    except ValueError as error:
        raise BundleError(f"{where}: cut off, or not a tar archive", "fetch it again") from error


def _octal(digits: bytes) -> int:
    text = digits.strip(b" \0")
    # int() would take signs and underscores. GNU's binary sizes, from 8 GB on, are refused here
    # too.
    if not text or text.strip(b"01234567"):
        raise ValueError("not an octal number")
    return int(text, 8)


def _checked_name(header: bytes, where: str) -> str:
    """The member's path, if it stays inside: relative, no '..', printable ASCII."""
    parts = [header[:100]]
    if header[257:263] == b"ustar\0":
        parts.insert(0, header[345:500])  # the prefix of a path that does not fit into 100 bytes
    name = "/".join(_text(part) for part in parts if part[0])

    path = PurePosixPath(name)
    strange = not name.isprintable() or not name.isascii() or "\\" in name or len(name) > MAX_PATH
    deep = len(path.parts) > MAX_DEPTH
    if not name or strange or deep or path.is_absolute() or ".." in path.parts:
        raise BundleError(
            f"{where}: member name {name[:80]!r} points outside the bundle or is not allowed",
            "do not trust this archive",
        )
    return name


def _text(field: bytes) -> str:
    return field.split(b"\0", 1)[0].decode("ascii", "replace")


def _write(stream: BinaryIO, path: Path, size: int, is_file: bool, where: str) -> None:
    if not is_file:
        path.mkdir(parents=True, exist_ok=True)
        return

    path.parent.mkdir(parents=True, exist_ok=True)
    # O_EXCL: a second member of the same name is refused, and so is anything that lay there before.
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    with os.fdopen(os.open(path, flags, 0o644), "wb") as out:
        while size:
            chunk = stream.read(min(size, _CHUNK))
            if not chunk:
                raise BundleError(f"{where}: cut off", "fetch it again")
            out.write(chunk)
            size -= len(chunk)

        # The links are switched to this bundle soon; after a power cut it must be whole.
        out.flush()
        os.fsync(out.fileno())
