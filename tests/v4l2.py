"""A simulated V4L2 driver: it answers ioctls, and it replaces cv2.VideoCapture."""

from __future__ import annotations

import errno
import struct

import numpy as np

from edge_runtime.system.opencv import cv2

# Request numbers of <linux/videodev2.h>.
_QUERYCAP = 0x80685600
_ENUM_FMT = 0xC0405602
_REQBUFS = 0xC0145608
_ENUM_SIZES = 0xC02C564A


class Driver:
    """Answers the ioctls of <linux/videodev2.h>, and stands in for cv2.VideoCapture."""

    def __init__(self) -> None:
        self.captures = True
        self.busy = False
        self.fourccs = ["YUYV", "MJPG"]
        self.takes = ["MJPG"]  # formats that a request is really followed by
        self.size = (640, 480)
        self.now = "BGR3"
        self.answers: list[tuple[bool, np.ndarray | None]] = []

    def ioctl(self, _fd: int, request: int, argument: bytes = b"", *_: object) -> bytes:
        if request == _QUERYCAP:
            caps = 0x84000000 | self.captures
            return struct.pack(
                "16s32s32sIII", b"uvcvideo", b"HD Camera", b"usb-1.2", 6, caps, caps
            ).ljust(104, b"\0")
        if request == _REQBUFS:
            if self.busy:
                raise OSError(errno.EBUSY, "busy")
            return argument
        index, code = struct.unpack("II", argument[:8])
        if request == _ENUM_FMT and index < len(self.fourccs):
            return argument[:44] + self.fourccs[index].encode() + argument[48:]
        if request == _ENUM_SIZES and index < 1:
            if code == struct.unpack("I", b"MJPG")[0]:
                return struct.pack("III2I", index, code, 1, 640, 480).ljust(44, b"\0")
            return struct.pack("III6I", index, code, 3, 16, 3840, 8, 16, 2160, 8).ljust(44, b"\0")
        raise OSError(errno.EINVAL, "no more")

    def open(self, *_: object) -> Driver:
        return self

    def isOpened(self) -> bool:  # noqa: N802 - cv2's name
        return True

    def set(self, prop: int, value: float) -> bool:
        if prop == cv2.CAP_PROP_FOURCC:
            fourcc = int(value).to_bytes(4, "little").decode()
            self.now = fourcc if fourcc in self.takes else self.now
        return True

    def get(self, prop: int) -> float:
        width, height = self.size
        sizes = {cv2.CAP_PROP_FRAME_WIDTH: width, cv2.CAP_PROP_FRAME_HEIGHT: height}
        if prop == cv2.CAP_PROP_FOURCC:
            return float(int.from_bytes(self.now.encode(), "little"))
        return float(sizes.get(prop, 30))

    def read(self) -> tuple[bool, np.ndarray | None]:
        return self.answers.pop(0)

    def release(self) -> None:
        pass
