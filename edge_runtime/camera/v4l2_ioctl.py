"""What the kernel knows of a camera, asked by ioctl: cheap, exact, and without starting a stream.

The structures are those of <linux/videodev2.h>; only the fields that are read here have names.
"""

from __future__ import annotations

import errno
import fcntl
import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_QUERYCAP = 0x80685600  # _IOR('V', 0, struct v4l2_capability), 104 bytes
_ENUM_FMT = 0xC0405602  # _IOWR('V', 2, struct v4l2_fmtdesc), 64 bytes
_REQBUFS = 0xC0145608  # _IOWR('V', 8, struct v4l2_requestbuffers), 20 bytes
_ENUM_FRAMESIZES = 0xC02C564A  # _IOWR('V', 74, struct v4l2_frmsizeenum), 44 bytes

_CAP_VIDEO_CAPTURE = 0x1
_CAP_STREAMING = 0x04000000
_CAP_DEVICE_CAPS = 0x80000000
_BUF_TYPE_CAPTURE = 1
_MEMORY_MMAP = 1
_MOST = 128  # formats or sizes; a driver that never says "no more" must not hang us


@dataclass(frozen=True, slots=True)
class Capability:
    """VIDIOC_QUERYCAP: who is at the other end, and whether it is a camera at all."""

    driver: str
    card: str
    bus: str
    captures: bool


def capability(fd: int) -> Capability:
    """Raises OSError (ENOTTY: not a video device)."""
    raw = fcntl.ioctl(fd, _QUERYCAP, bytes(104))
    driver, card, bus, _version, caps, device_caps = struct.unpack("16s32s32sIII", raw[:92])
    effective = device_caps if caps & _CAP_DEVICE_CAPS else caps
    wanted = _CAP_VIDEO_CAPTURE | _CAP_STREAMING
    return Capability(_text(driver), _text(card), _text(bus), effective & wanted == wanted)


def formats(fd: int) -> Iterator[str]:
    """FOURCCs the camera can deliver, the driver's favourite first."""
    for index in range(_MOST):
        try:
            raw = fcntl.ioctl(
                fd, _ENUM_FMT, struct.pack("II", index, _BUF_TYPE_CAPTURE).ljust(64, b"\0")
            )
        except OSError:
            return
        yield raw[44:48].decode("ascii", "replace").rstrip()


def sizes(fd: int, fourcc: str) -> Iterator[str]:
    """Frame sizes of a format: '640x480' where the driver lists them, '16x16 to 3840x2160' where it steps."""
    code = struct.unpack("I", fourcc.encode("ascii", "replace").ljust(4)[:4])[0]
    for index in range(_MOST):
        try:
            raw = fcntl.ioctl(fd, _ENUM_FRAMESIZES, struct.pack("II", index, code).ljust(44, b"\0"))
        except OSError:
            return
        kind, *numbers = struct.unpack("I6I", raw[8:36])
        if kind == 1:
            yield f"{numbers[0]}x{numbers[1]}"
        else:
            yield f"{numbers[0]}x{numbers[3]} to {numbers[1]}x{numbers[4]}"
            return


def is_busy(fd: int) -> bool:
    """True when another program streams from the camera: asking for no buffers at all is refused only then."""
    try:
        fcntl.ioctl(
            fd, _REQBUFS, struct.pack("III", 0, _BUF_TYPE_CAPTURE, _MEMORY_MMAP).ljust(20, b"\0")
        )
    except OSError as error:
        return error.errno == errno.EBUSY
    return False


def holders(node: str) -> list[str]:
    """Programs that hold ``node`` open, as 'motion (pid 412)'; other users' programs are seen only by root."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        if int(process.name) == os.getpid():
            continue
        try:
            if any(str(entry.readlink()) == node for entry in (process / "fd").iterdir()):
                found.append(
                    f"{(process / 'comm').read_text(errors='replace').strip()} (pid {process.name})"
                )
        except OSError:
            continue
    return found


def stable_name(node: str, folder: Path = Path("/dev/v4l/by-id")) -> str | None:
    """The /dev/v4l/by-id link that leads to ``node``: it stays with the camera when the number changes."""
    links = sorted(folder.glob("*"))
    return next(
        (str(link) for link in links if os.path.realpath(link) == os.path.realpath(node)), None
    )


def _text(raw: bytes) -> str:
    return raw.split(b"\0", 1)[0].decode("utf-8", "replace")
