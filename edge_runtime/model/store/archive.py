"""A bundle out of a tar archive that may have been made to hurt us.

Only what a bundle needs is understood: plain files and directories of an uncompressed ustar, GNU or pax archive. No
link, no device, no sparse file, no compression: what cannot be expressed cannot be an attack, and int8 weights hardly
compress. Nothing is written before its name and size are judged, and never over anything that exists.
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
MAX_PATH = 200
_BLOCK = 512
_CHUNK = 1 << 20
_COMPRESSED = {b"\x1f\x8b": "gzip", b"\xfd7": "xz", b"BZ": "bzip2", b"PK": "zip", b"(\xb5": "zstd"}
_FILE, _DIRECTORY, _NOTES = (
    b"0\0",
    b"5",
    b"xg",
)  # pax notes are passed over: every name of ours fits without
_REFUSED = {
    b"1": "hard link",
    b"2": "symbolic link",
    b"3": "device",
    b"4": "device",
    b"6": "pipe",
    b"S": "sparse file",
}


def open_archive(archive: Path) -> BinaryIO:
    """The archive's stream. Raises NoInputError, BundleError; a pipe or a device is refused and not waited for."""
    try:
        fd = os.open(archive, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        raise NoInputError(f"{archive}: no such file", "give the bundle's .tar") from None
    except (OSError, ValueError) as error:
        raise BundleError(
            f"{archive}: cannot read: {getattr(error, 'strerror', error)}", "give the bundle's .tar"
        ) from None
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise BundleError(f"{archive}: is not a file", "give the bundle's .tar")
    return os.fdopen(fd, "rb")


def unpack(archive: Path, into: Path) -> Path:
    """Unpack into the new directory ``into``; returns the directory in it that holds manifest.json.

    Raises BundleError for anything but a harmless archive; ``into`` may then hold a part of it, remove it.
    """
    try:
        with open_archive(archive) as stream:
            total = os.fstat(stream.fileno()).st_size
            kind = _COMPRESSED.get(stream.read(2))
            if kind:
                raise BundleError(f"{archive}: is {kind}", "unpack it to a plain .tar first")
            stream.seek(0)
            into.mkdir(parents=True)
            for name, size, is_file in _members(stream, total, str(archive)):
                _write(stream, into / name, size, is_file, f"{archive}: {name}")
    except FileExistsError as error:
        raise BundleError(f"{archive}: holds {error.filename} twice", "make it anew") from None
    except OSError as error:
        raise BundleError(
            f"{archive}: cannot unpack into {into.parent}: {error.strerror}"
        ) from None
    found = [
        path.parent
        for path in (into / "manifest.json", *into.glob("*/manifest.json"))
        if path.is_file()
    ]
    if len(found) != 1:
        raise BundleError(
            f"{archive}: no bundle in it (manifest.json at the top, or in one directory)"
        )
    return found[0]


def _members(stream: BinaryIO, total: int, where: str) -> Iterator[tuple[str, int, bool]]:
    """(name, size, is a file) of every member, the stream standing at its data."""
    unpacked = 0
    for _ in range(MAX_MEMBERS):
        header = stream.read(_BLOCK)
        if len(header) == _BLOCK and not any(header):
            return
        size = _checked_size(header, where)
        kind, data = header[156:157], stream.tell()
        if size > total - data:
            raise BundleError(f"{where}: cut off, or not a tar archive", "fetch it again")
        if kind in _FILE or kind == _DIRECTORY:
            unpacked += size
            if size > MAX_FILE_BYTES or unpacked > MAX_TOTAL_BYTES:
                raise BundleError(
                    f"{where}: unpacks to more than a bundle may have ({MAX_TOTAL_BYTES >> 20} MB)"
                )
            yield _checked_name(header, where), size, kind != _DIRECTORY
        elif kind not in _NOTES:
            raise BundleError(
                f"{where}: holds a {_REFUSED.get(kind, 'member of unknown kind')}",
                "a bundle has only files",
            )
        stream.seek(data + -(-size // _BLOCK) * _BLOCK)
    raise BundleError(f"{where}: more than {MAX_MEMBERS} members", "this is no bundle")


def _checked_size(header: bytes, where: str) -> int:
    """The size field of a header whose check sum is right."""
    try:
        if len(header) < _BLOCK or _octal(header[148:156]) != sum(
            header[:148] + b" " * 8 + header[156:]
        ):
            raise ValueError
        return _octal(header[124:136])
    except ValueError:
        raise BundleError(f"{where}: cut off, or not a tar archive", "fetch it again") from None


def _octal(digits: bytes) -> int:
    text = digits.strip(b" \0")
    if not text or text.strip(b"01234567"):
        raise ValueError  # also GNU's binary sizes, from 8 GB on
    return int(text, 8)


def _checked_name(header: bytes, where: str) -> str:
    """The member's path, if it stays inside: relative, no '..', printable."""
    parts = [header[:100]]
    if header[257:263] == b"ustar\0":
        parts.insert(0, header[345:500])
    name = "/".join(p.split(b"\0", 1)[0].decode("ascii", "replace") for p in parts if p[0])
    path = PurePosixPath(name)
    strange = not name.isprintable() or not name.isascii() or "\\" in name or len(name) > MAX_PATH
    if not name or strange or path.is_absolute() or ".." in path.parts or len(path.parts) > 4:
        raise BundleError(
            f"{where}: member name {name[:80]!r} leads out of the bundle or is strange", "refused"
        )
    return name


def _write(stream: BinaryIO, path: Path, size: int, is_file: bool, where: str) -> None:
    if not is_file:
        path.mkdir(parents=True, exist_ok=True)
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
    with os.fdopen(fd, "wb") as out:
        while size:
            chunk = stream.read(min(size, _CHUNK))
            if not chunk:
                raise BundleError(f"{where}: cut off", "fetch it again")
            out.write(chunk)
            size -= len(chunk)
        out.flush()
        os.fsync(out.fileno())
