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
_FRMSIZE_DISCRETE = 1
_MOST = 128  # formats or sizes; a driver that never says "no more" must not hang us


@dataclass(frozen=True, slots=True)
class Capability:
    """VIDIOC_QUERYCAP: which driver and card this is, and whether it is a camera at all."""

    driver: str
    card: str
    captures: bool


def capability(fd: int) -> Capability:
    """Raises OSError (ENOTTY: not a video device)."""
    raw = fcntl.ioctl(fd, _QUERYCAP, bytes(104))
    driver, card, _bus, _version, caps, device_caps = struct.unpack("16s32s32sIII", raw[:92])

    # ``caps`` is of the whole card, which may have several nodes; ``device_caps`` is of this one.
    own_caps = device_caps if caps & _CAP_DEVICE_CAPS else caps
    camera_caps = _CAP_VIDEO_CAPTURE | _CAP_STREAMING
    captures = own_caps & camera_caps == camera_caps
    return Capability(_text(driver), _text(card), captures)


def formats(fd: int) -> Iterator[str]:
    """FOURCCs the camera can deliver, the driver's favourite first."""
    for index in range(_MOST):
        request = struct.pack("II", index, _BUF_TYPE_CAPTURE)
        try:
            raw = fcntl.ioctl(fd, _ENUM_FMT, request.ljust(64, b"\0"))
        except OSError:
            return
        yield raw[44:48].decode("ascii", "replace").rstrip()


def sizes(fd: int, fourcc: str) -> Iterator[str]:
    """Frame sizes of a format: '640x480' where the driver lists them.

    Where it steps through a range, one entry: '16x16 to 3840x2160'.
    """
    code = struct.unpack("I", fourcc.encode("ascii", "replace").ljust(4)[:4])[0]
    for index in range(_MOST):
        request = struct.pack("II", index, code)
        try:
            raw = fcntl.ioctl(fd, _ENUM_FRAMESIZES, request.ljust(44, b"\0"))
        except OSError:
            return

        kind, *numbers = struct.unpack("I6I", raw[8:36])
        if kind != _FRMSIZE_DISCRETE:
            min_w, max_w, _step_w, min_h, max_h, _step_h = numbers
            yield f"{min_w}x{min_h} to {max_w}x{max_h}"
            return
        yield f"{numbers[0]}x{numbers[1]}"


def is_busy(fd: int) -> bool:
    """True when another program streams from the camera.

    A request for no buffers at all changes nothing, and is refused only then.
    """
    request = struct.pack("III", 0, _BUF_TYPE_CAPTURE, _MEMORY_MMAP)
    try:
        fcntl.ioctl(fd, _REQBUFS, request.ljust(20, b"\0"))
    except OSError as error:
        return error.errno == errno.EBUSY
    return False


def holders(node: str) -> list[str]:
    """Programs that hold ``node`` open, as 'motion (pid 412)'.

    Only root sees other users' programs.
    """
    programs = []
    for process in Path("/proc").glob("[0-9]*"):
        if int(process.name) == os.getpid():
            continue
        try:
            if any(str(entry.readlink()) == node for entry in (process / "fd").iterdir()):
                name = (process / "comm").read_text(errors="replace").strip()
                programs.append(f"{name} (pid {process.name})")
        except OSError:  # it has ended, or it is another user's
            continue
    return programs


def stable_name(node: str, folder: Path = Path("/dev/v4l/by-id")) -> str | None:
    """The /dev/v4l/by-id link that leads to ``node``.

    The link stays with the camera when its number changes.
    """
    target = os.path.realpath(node)
    links = sorted(folder.glob("*"))
    return next((str(link) for link in links if os.path.realpath(link) == target), None)


def _text(raw: bytes) -> str:
    return raw.split(b"\0", 1)[0].decode("utf-8", "replace")
