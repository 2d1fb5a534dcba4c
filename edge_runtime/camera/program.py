"""A camera behind another program, which writes its pictures to its standard output.

The program is named in the configuration or on the command line, and nowhere else. It is run as a
list of arguments, without a shell, and supervised as a camera is: one that ends, falls silent or
writes no pictures is started again, after 1, 2, 4 ... 30 seconds.
"""

from __future__ import annotations

import logging
import shlex
import shutil
import signal
import time

from edge_runtime.camera.child import GRACE_S, Child
from edge_runtime.camera.pace import snapshot_interval_s
from edge_runtime.camera.pipe import WRITE_MJPEG, PipeReader, new_splitter
from edge_runtime.config import CameraConfig
from edge_runtime.errors import ConfigError, DataError, DeviceError
from edge_runtime.records import Frame
from edge_runtime.secrecy import secret_warning, shown

log = logging.getLogger("edge_label.camera")

EXEC = "exec:"
LIBCAMERA = "libcamera"

# The program of Raspberry Pi OS since Bookworm, and the name that it had before.
_LIBCAMERA_PROGRAMS = ("rpicam-vid", "libcamera-vid")

# A program that writes no picture for so long is started again. With a camera.fps below 0.3 it gets
# the time of three pictures.
LIMIT_S = 10.0


class Program:
    """The way to one program's pictures.

    Raises ConfigError for a command that is none, and as `new_splitter` does.
    """

    def __init__(self, config: CameraConfig) -> None:
        new_splitter(config)  # raises before anything runs
        self.config = config
        self.name = shown(config.source)
        self.interval_s = snapshot_interval_s(config.fps, config.max_fps)
        # Less than stuck_s: a program is killed before the process is taken for stuck.
        self.limit_s = max(LIMIT_S, 3 / config.fps)
        self.single_is_logged = False
        self.sizes: set[tuple[int, int]] = set()  # of pictures, that are logged
        self._command = _command(config)
        warning = secret_warning(self._command)
        if warning:
            log.warning("camera %s: %s", self.name, warning)

    def presence(self) -> str | None:
        """Where the program is; changes when it is installed."""
        return _find(self._command[0])

    def start(self) -> Child:
        """Raises DeviceError where it cannot be run."""
        path = self.presence()
        if path is None:
            raise self._missing()
        try:
            return Child([path, *self._command[1:]])
        except OSError as error:
            raise DeviceError(
                f"{self.name}: cannot be run: {error.strerror}",
                "try it in a terminal",
                state="denied" if isinstance(error, PermissionError) else "no_device",
            ) from error

    def _missing(self) -> DeviceError:
        if self._command[0] == LIBCAMERA:
            what = f"{self.name}: neither {' nor '.join(_LIBCAMERA_PROGRAMS)} is installed"
            return DeviceError(what, "sudo apt install rpicam-apps", state="no_device")
        what = f"{self.name}: there is no program {self._command[0]}, or it is not executable"
        return DeviceError(what, "install it, or give its full path", state="no_device")

    def open(self) -> ProgramCamera:
        """Raises DeviceError."""
        return ProgramCamera(self)


class ProgramCamera:
    """A running program; a Device.

    A program that ends well after a single picture is one for snapshots. It is started again in
    time for the next picture. That is no failure, and nothing to log.
    """

    def __init__(self, program: Program) -> None:
        self._program = program
        self._child: Child | None = self._start()

    def _start(self) -> Child:
        self._started_s = time.monotonic()
        self._picture_s = self._started_s  # when the last one came
        child = self._program.start()
        splitter = new_splitter(self._program.config)
        self._reader = PipeReader(self._program.name, child.stdout, splitter, self._program.sizes)
        return child

    def grab(self) -> Frame | float | None:
        child = self._child = self._child or self._start()
        child.listen()
        try:
            frame = self._reader.grab()
        except DataError as error:
            raise self._failure(error.what, WRITE_MJPEG) from error
        except EOFError:
            return self._end(child)

        now = time.monotonic()
        if frame is not None:
            self._picture_s = now
        elif now - self._picture_s > self._program.limit_s:
            raise self._silence(now - self._picture_s)
        return frame

    def _silence(self, silent_s: float) -> DeviceError:
        unused = self._reader.unused
        if unused and not self._reader.pictures:
            return self._failure(f"no picture in {unused} bytes of output", WRITE_MJPEG)
        return self._failure(f"no picture for {silent_s:.0f} s", "")

    def _end(self, child: Child) -> float:
        """How many seconds the next snapshot is away. Raises DeviceError for any other end."""
        status = child.exit_status(GRACE_S)
        if status == 0 and self._reader.pictures == 1:
            self._close_after_single()
            return max(0.0, self._started_s + self._program.interval_s - time.monotonic())

        if status is None:
            how = "closed its output"
        elif status < 0:
            how = f"was ended by {signal.Signals(-status).name}"
        else:
            how = f"ended with exit code {status}"
        advice = "" if self._reader.pictures or status else WRITE_MJPEG
        raise self._failure(how, advice)

    def _close_after_single(self) -> None:
        self.close()
        if not self._program.single_is_logged:
            self._program.single_is_logged = True
            log.info(
                "camera %s: gives one picture and ends; it is started every %g s",
                self._program.name,
                self._program.interval_s,
            )

    def _failure(self, what: str, advice: str) -> DeviceError:
        """With the last line that the program wrote about it."""
        words = self._child.last_words() if self._child else ""
        said = f"; it says: {words}" if words else ""
        state = "reconnecting" if self._reader.pictures else "no_signal"
        return DeviceError(f"{self._program.name}: {what}{said}", advice, state=state)

    def close(self) -> None:
        """Kill the program and all that it started."""
        if self._child is not None:
            self._child.kill()
            self._child = None


def _command(config: CameraConfig) -> list[str]:
    """The arguments of a source ``exec:...`` or ``libcamera``. Raises ConfigError."""
    if config.source == LIBCAMERA:
        return _libcamera(config)
    try:
        command = shlex.split(config.source.removeprefix(EXEC))
    except ValueError as error:
        raise ConfigError(f"{shown(config.source)}: {error}", "close every quote") from error
    if not command:
        raise ConfigError("exec: without a program", "such as exec:rpicam-vid -t 0 -o -")
    return command


def _libcamera(config: CameraConfig) -> list[str]:
    codecs = {"auto": "mjpeg", "MJPG": "mjpeg", "YU12": "yuv420"}
    if config.fourcc not in codecs:
        raise ConfigError(
            f"camera.fourcc: libcamera gives MJPG or YU12, not {config.fourcc}", "set it to auto"
        )
    size = ["--width", str(config.width), "--height", str(config.height)]
    rate = ["--framerate", f"{config.fps:g}"]
    output = ["--codec", codecs[config.fourcc], "--flush", "--output", "-"]
    return [LIBCAMERA, "--timeout", "0", "--nopreview", *size, *rate, *output]


def _find(program: str) -> str | None:
    """The path of a program; ``libcamera`` stands for the one that this system has."""
    names = _LIBCAMERA_PROGRAMS if program == LIBCAMERA else (program,)
    return next(filter(None, map(shutil.which, names)), None)
