"""The doctor's checks of cameras: the configured one, and every video device of the machine."""

from __future__ import annotations

import os
import time
from pathlib import Path

from edge_runtime.camera import is_program
from edge_runtime.commands.doctor.answers import Answer, Options, fail, ok, warn
from edge_runtime.errors import DeviceError
from edge_runtime.secrecy import shown

# The kernel drivers of the Raspberry Pi's camera connector: the Pi 4's and before, and the Pi 5's.
_CSI_DRIVERS = ("unicam", "rp1-cfe")

_MOST_FORMATS = 8
_MOST_SIZES = 6


def check_camera(options: Options) -> list[Answer]:
    """Whether the configured camera is there, may be opened, and is free."""
    source = options.camera
    if is_program(source):
        return [_try_program(options)]
    if not (source.isdecimal() or source.startswith("/dev/")):
        text = f"{shown(source)}: not a local camera, nothing to check before it is opened"
        return [ok(text)]

    from edge_runtime.camera.v4l2 import V4l2Path, check_access

    path = f"/dev/video{source}" if source.isdecimal() else source
    try:
        check_access(path, V4l2Path(path).node())
    except DeviceError as error:
        # A camera's error sends the user here; here it would send him in a circle.
        advice = error.advice.removesuffix(", or see edge-label doctor")
        return [fail(f"{error.state}: {error.what}", advice)]
    return [ok(f"{path} can be opened and is free")]


def _try_program(options: Options) -> Answer:
    """Run it until it gives a picture."""
    from edge_runtime.camera.program import Program
    from edge_runtime.config import CameraConfig
    from edge_runtime.records import Frame

    program = Program(CameraConfig(options.camera, **options.camera_settings))
    try:
        path = program.presence()
        start = time.monotonic()
        camera = program.open()
        try:
            while not isinstance(camera.grab(), Frame):
                pass  # it raises DeviceError where no picture comes
        finally:
            camera.close()
    except DeviceError as error:
        return fail(f"{error.state}: {error.what}", error.advice)

    seconds = time.monotonic() - start
    return ok(f"{program.name}: a picture after {seconds:.1f} s from {path}")


def check_devices(_options: Options, root: Path = Path("/")) -> list[Answer]:
    """Every camera, what it delivers, and its stable name. ``root`` holds dev and sys."""
    answers = []
    csi = False
    nodes = (root / "dev").glob("video[0-9]*")
    for node in sorted(nodes, key=lambda path: int(path.name.removeprefix("video"))):
        csi = csi or _driver_name(root, node).startswith(_CSI_DRIVERS)
        text = _describe(node, root / "dev/v4l/by-id")
        if text is not None:
            answers.append(ok(text))

    if csi:
        answers.append(
            warn(
                "a ribbon (CSI) camera: plain V4L2 gets only raw sensor data from it",
                "edge-label --camera libcamera (sudo apt install rpicam-apps); for the service see "
                "docs/cameras.md",
            )
        )
    if not answers:
        advice = "plug one in; lsusb lists it, dmesg says why not"
        answers.append(warn("no camera at /dev/video*", advice))
    return answers


def _driver_name(root: Path, node: Path) -> str:
    try:
        return (root / "sys/class/video4linux" / node.name / "name").read_text().strip()
    except OSError:
        return ""


def _describe(node: Path, by_id: Path) -> str | None:
    """'/dev/video0: HD Camera (uvcvideo), MJPG 640x480; stable name ...'; None for no camera."""
    from edge_runtime.camera import v4l2_ioctl

    try:
        fd = os.open(node, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        return f"{node}: {error.strerror}; group video may open it"

    try:
        device = v4l2_ioctl.capability(fd)
        if not device.captures:
            return None
        formats = []
        for fourcc in v4l2_ioctl.formats(fd):
            sizes = list(v4l2_ioctl.sizes(fd, fourcc))[:_MOST_SIZES]
            formats.append(f"{fourcc.strip()} {' '.join(sizes)}")
    except OSError:
        return None
    finally:
        os.close(fd)

    stable = v4l2_ioctl.stable_name(str(node), by_id)
    stable_text = f"; stable name {stable}" if stable else ""
    format_text = ", ".join(formats[:_MOST_FORMATS]) or "no formats"
    return f"{node}: {device.card} ({device.driver}), {format_text}{stable_text}"
