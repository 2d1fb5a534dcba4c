"""``edge-label doctor``: what is wrong with this machine, in sentences.

Every check runs in a process of its own (``python -m edge_runtime.commands.doctor CHECK``), because the commonest fault
on a Raspberry Pi, a library built for another processor, ends the process that imports it. The parent stays alive and
says what happened.
"""

from __future__ import annotations

import json
import os
import platform
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from edge_runtime.errors import DeviceError, EdgeLabelError
from edge_runtime.secrecy import masked, shown
from edge_runtime.system import child

TIMEOUT_S = 60
NEEDED_MB = 256
SERVICE_FOLDER = Path("/var/lib/edge-label")  # the one place where the service may write

# What pip calls the library behind a check; the other checks install nothing.
_PACKAGES = {"numpy": "numpy", "opencv": "opencv-python-headless", "onnxruntime": "onnxruntime"}

Level = Literal["ok", "warn", "fail"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One answer of one check; ``advice`` says what to do where something can be done."""

    check: str
    level: Level
    text: str
    advice: str = ""


@dataclass(frozen=True, slots=True)
class Options:
    """What the checks are about."""

    camera: str = "/dev/video0"
    bundle: str | None = None
    output: str | None = None
    labels: str | None = None


def examine(options: Options) -> list[Finding]:
    """Run every check, each in its own process."""
    return [finding for name in CHECKS for finding in run_check(name, _command(name), options)]


def to_text(findings: Sequence[Finding]) -> str:
    """One line a finding, the advice below it."""
    lines = []
    for finding in findings:
        lines.append(f"{finding.level:<5} {finding.check:<12} {finding.text}")
        if finding.advice:
            lines.append(f"{'':<19}-> {finding.advice}")
    worst = sum(finding.level == "fail" for finding in findings)
    lines.append(
        f"{worst} of {len(findings)} findings must be mended" if worst else "nothing must be mended"
    )
    return "\n".join(lines)


def to_json(findings: Sequence[Finding]) -> str:
    """For machines: schema, verdict and findings."""
    ok = all(finding.level != "fail" for finding in findings)
    return json.dumps(
        {"schema": "edge-label-doctor/1", "ok": ok, "findings": [asdict(f) for f in findings]},
        indent=2,
    )


def run_check(name: str, command: Sequence[str], options: Options | None = None) -> list[Finding]:
    """What a check's process said, or, if it died, what its death means.

    It reads ``options`` from a pipe: a camera's password is among them, and ``ps`` shows arguments to everybody.
    """
    given = json.dumps(asdict(options or Options()))
    try:
        done = subprocess.run(  # noqa: S603
            command,
            input=given,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return [
            Finding(
                name,
                "fail",
                f"no answer within {TIMEOUT_S} s",
                "a driver or a disk hangs; see dmesg",
            )
        ]
    if done.returncode < 0:
        return [_death(name, -done.returncode)]
    try:
        return [Finding(name, **finding) for finding in json.loads(done.stdout)]
    except (ValueError, TypeError):
        last = (done.stderr.strip().splitlines() or ["no output"])[-1]
        return [Finding(name, "fail", masked(last), _reinstall(name))]


def _death(name: str, number: int) -> Finding:
    signal_name = signal.Signals(number).name
    if number == signal.SIGILL:
        text = f"{name} uses instructions this processor does not have (SIGILL)"
        advice = "onnxruntime 1.21 does so on a Raspberry Pi 4: pip install 'onnxruntime!=1.21.*'; else a 64-bit system"
    elif number == signal.SIGKILL:
        text, advice = (
            f"{name} was killed (SIGKILL)",
            "most likely too little memory: close programs, or add swap",
        )
    else:
        text = f"{name} crashes ({signal_name})"
        advice = f"its installation is damaged or made for another system: {_reinstall(name)}"
    return Finding(name, "fail", text, advice)


def _reinstall(name: str) -> str:
    return f"{sys.executable} -m pip install --force-reinstall {_PACKAGES.get(name, 'edge-label')}"


def _command(name: str) -> list[str]:
    return child.command("edge_runtime.commands.doctor", name)


# The checks. Each returns (level, text, advice) triples and may import whatever it looks at.
Said = list[tuple[Level, str, str]]


def check_system(_options: Options) -> Said:
    """Python and the processor."""
    said: Said = []
    bits = 64 if sys.maxsize > 2**32 else 32
    text = f"Python {platform.python_version()}, {bits} bit, {platform.machine()}, Linux {platform.release()}"
    wrong = bits == 32 or platform.machine() not in ("aarch64", "x86_64")
    said.append(
        ("fail", text, "install a 64-bit system; onnxruntime is made for no other")
        if wrong
        else ("ok", text, "")
    )
    features = _cpu_features()
    notable = [
        name
        for name in ("asimd", "asimddp", "i8mm", "avx2", "avx512_vnni", "avx_vnni")
        if name in features
    ]
    said.append(
        (
            "ok",
            f"{len(os.sched_getaffinity(0))} cores, {', '.join(notable) or 'no vector units known'}",
            "",
        )
    )
    return said


def check_numpy(_options: Options) -> Said:
    """Import it."""
    import numpy

    return [("ok", f"numpy {numpy.__version__}", "")]


def check_opencv(_options: Options) -> Said:
    """Import it, and see that it can talk to cameras and streams."""
    from edge_runtime.system.opencv import cv2

    backends = {
        cv2.videoio_registry.getBackendName(number) for number in cv2.videoio_registry.getBackends()
    }
    missing = {"V4L2", "FFMPEG"} - backends
    if not missing:
        return [("ok", f"OpenCV {cv2.__version__} with V4L2 and FFMPEG", "")]
    text = f"OpenCV {cv2.__version__} without {' and '.join(sorted(missing))}"
    return [
        (
            "fail",
            text,
            "needs V4L2 and FFMPEG: pip install opencv-python-headless, not a build without them",
        )
    ]


def check_onnxruntime(_options: Options) -> Said:
    """Import it the way the encoder does."""
    from importlib import import_module, metadata

    import_module("edge_runtime.model.encoder")
    version = metadata.version("onnxruntime")
    if version.startswith("1.21."):
        return [
            (
                "fail",
                f"onnxruntime {version}",
                "it crashes on a Raspberry Pi 4: pip install 'onnxruntime!=1.21.*'",
            )
        ]
    return [("ok", f"onnxruntime {version}", "")]


def check_bundle(options: Options) -> Said:
    """Find, verify and load the model bundle."""
    from edge_runtime.model.bundle import find_bundle, load_bundle
    from edge_runtime.model.self_test import self_test

    bundle = load_bundle(find_bundle(options.bundle))
    start = time.monotonic()
    self_test(bundle)
    return [
        (
            "ok",
            f"{bundle.manifest.id} in {bundle.path}: self-test good in {time.monotonic() - start:.1f} s",
            "",
        )
    ]


def check_labels(options: Options) -> Said:
    """Does the bundle know every word of the label set?"""
    from edge_runtime.model.bundle import find_bundle, load_bundle
    from edge_runtime.model.labels.compiled import load_labels

    bundle = load_bundle(find_bundle(options.bundle))
    if options.labels is None:
        return [("ok", f"the bundle has {', '.join(bundle.label_sets())}", "")]
    return [
        (
            "ok",
            f"{options.labels}: {len(load_labels(options.labels, bundle).reported)} labels to report",
            "",
        )
    ]


def check_camera(options: Options) -> Said:
    """The configured camera: is it there, may we, and is it free?"""
    if not (options.camera.isdecimal() or options.camera.startswith("/dev/")):
        return [
            (
                "ok",
                f"{shown(options.camera)}: not a local camera, nothing to check before it is opened",
                "",
            )
        ]
    from edge_runtime.camera.v4l2 import V4l2Path, check_access

    path = f"/dev/video{options.camera}" if options.camera.isdecimal() else options.camera
    node = V4l2Path(path).node()
    try:
        check_access(path, node)
    except DeviceError as error:
        return [
            (
                "fail",
                f"{error.state}: {error.what}",
                error.advice.removesuffix(", or see edge-label doctor"),
            )
        ]
    return [("ok", f"{path} can be opened and is free", "")]


def check_devices(_options: Options, root: Path = Path("/")) -> Said:
    """Every video device, what it delivers, and its stable name; CSI cameras are explained."""
    said: Said = []
    csi = False
    for node in sorted((root / "dev").glob("video[0-9]*"), key=lambda path: int(path.name[5:])):
        name = _read(root / "sys/class/video4linux" / node.name / "name")
        csi = csi or name.startswith(("unicam", "rp1-cfe"))
        described = _describe(node, root / "dev/v4l/by-id")
        if described:
            said.append(("ok", described, ""))
    if csi:
        install = "sudo apt install libcamera-tools libcamera-v4l2"
        advice = f"libcamerify edge-label --camera /dev/video0 ({install}), or a USB camera"
        said.append(
            (
                "warn",
                "a CSI camera: it speaks libcamera, plain V4L2 gets only its raw sensor data",
                advice,
            )
        )
    if not said:
        said.append(
            ("warn", "no camera at /dev/video*", "plug one in; lsusb lists it, dmesg says why not")
        )
    return said


def check_memory(_options: Options) -> Said:
    """Is there room for the 180 MB promised, and a little?"""
    facts = dict(line.split(":", 1) for line in Path("/proc/meminfo").read_text().splitlines())
    free_mb = int(facts["MemAvailable"].split()[0]) * 1024 / 1e6
    text = f"{free_mb:.0f} MB of memory to be had"
    if free_mb < NEEDED_MB:
        return [
            ("fail", text, f"edge-label wants {NEEDED_MB} MB with its page cache: close programs")
        ]
    return [("ok", text, "")]


def check_disk(options: Options) -> Said:
    """Where records go: writable, and with room."""
    folder = Path(options.output).parent if options.output else SERVICE_FOLDER
    try:
        folder.stat()
    except PermissionError:
        return [
            (
                "warn",
                f"{folder}: closed to this user",
                "the service may write there; sudo edge-label doctor looks",
            )
        ]
    except OSError:
        advice = f"mkdir {folder}; the service itself may write below {SERVICE_FOLDER} only"
        advice = "sudo make install makes it" if folder == SERVICE_FOLDER else advice
        return [("fail" if options.output else "warn", f"{folder}: no such folder", advice)]
    facts = os.statvfs(folder)
    free_mb = facts.f_bavail * facts.f_frsize / 1e6
    text = f"{folder}: {free_mb:.0f} MB free"
    if facts.f_flag & os.ST_RDONLY:
        return [
            (
                "fail",
                f"{folder}: read-only",
                "a worn SD card does that: check dmesg, copy it, replace it",
            )
        ]
    if free_mb < 100:
        return [
            (
                "warn",
                text,
                "lower output.max_mb, or make room: the oldest records are deleted when it is full",
            )
        ]
    return [("ok", text, "")]


def check_clock(_options: Options) -> Said:
    """Does the wall clock tell the time?"""
    from edge_runtime.records import utc_iso
    from edge_runtime.system.telemetry import clock_unsynced

    text = f"it is {utc_iso(time.time())}"
    if clock_unsynced():
        return [
            (
                "warn",
                f"{text}, set by nobody yet",
                "timedatectl; records carry clock_unsynced until then",
            )
        ]
    return [("ok", text, "")]


def check_heat(_options: Options) -> Said:
    """Temperature, and what the Raspberry Pi's firmware has to say about power."""
    from edge_runtime.system.telemetry import temperature_c, throttle_flags

    temperature, flags = temperature_c(), throttle_flags()
    said: Said = []
    if temperature is None:
        said.append(("ok", "no thermometer", ""))
    else:
        hot = temperature >= 80
        advice = "a heat sink, a fan, or shade; from thermal.limit_c on fewer frames are labelled"
        said.append(
            ("warn" if hot else "ok", f"CPU at {temperature:.0f} °C", advice if hot else "")
        )
    if flags:
        advice = (
            "under-voltage needs a better power supply or cable"
            if flags & 0x50005
            else "cool the board"
        )
        said.append(
            (
                "warn",
                f"the firmware slows the processor down, now or since boot (flags {flags:#x})",
                advice,
            )
        )
    return said


CHECKS: dict[str, Callable[[Options], Said]] = {
    "system": check_system,
    "numpy": check_numpy,
    "opencv": check_opencv,
    "onnxruntime": check_onnxruntime,
    "bundle": check_bundle,
    "labels": check_labels,
    "camera": check_camera,
    "devices": check_devices,
    "memory": check_memory,
    "disk": check_disk,
    "clock": check_clock,
    "heat": check_heat,
}


def _describe(node: Path, by_id: Path) -> str | None:
    """'video0: HD Camera (uvcvideo), MJPG 640x480 1280x720, YUYV 640x480; stable name ...'; None if it is no camera."""
    from edge_runtime.camera import v4l2_ioctl

    try:
        fd = os.open(node, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        return f"{node}: {error.strerror}; group video may open it"
    try:
        facts = v4l2_ioctl.capability(fd)
        if not facts.captures:
            return None
        formats = [
            f"{fourcc.strip()} {' '.join(list(v4l2_ioctl.sizes(fd, fourcc))[:6])}"
            for fourcc in v4l2_ioctl.formats(fd)
        ]
    except OSError:
        return None
    finally:
        os.close(fd)
    stable = v4l2_ioctl.stable_name(str(node), by_id)
    name = f"; stable name {stable}" if stable else ""
    return f"{node}: {facts.card} ({facts.driver}), {', '.join(formats[:8]) or 'no formats'}{name}"


def _cpu_features() -> set[str]:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith(("Features", "flags")):
            return set(line.split(":", 1)[1].split())
    return set()


def _read(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""


def _main(name: str, options: str) -> None:
    try:
        said = CHECKS[name](Options(**json.loads(options)))
    except EdgeLabelError as error:
        said = [("fail", error.what, error.advice)]
    except OSError as error:
        said = [
            (
                "fail",
                f"{error.filename}: {error.strerror}",
                "sudo edge-label doctor may look where this user may not",
            )
        ]
    sys.stdout.write(
        json.dumps(
            [{"level": level, "text": text, "advice": advice} for level, text, advice in said]
        )
    )


if __name__ == "__main__":
    _main(sys.argv[1], sys.stdin.read())
