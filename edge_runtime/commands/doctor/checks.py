"""The checks of the doctor; each looks at one thing and answers in sentences.

This module is the program that runs in the process of a check. It imports nothing that a check
looks at, so a check imports that itself. The checks of cameras are in ``cameras.py``.
"""

from __future__ import annotations

import json
import os
import platform
import sys
import time
from collections.abc import Callable
from pathlib import Path

from edge_runtime.commands.doctor.answers import Answer, Options, fail, ok, warn
from edge_runtime.commands.doctor.cameras import check_camera, check_devices
from edge_runtime.errors import EdgeLabelError
from edge_runtime.system.instance import CONFIG_FOLDER, service_folder

NEEDED_MB = 256  # the 180 MB that are promised, and the files that the kernel keeps in memory
LITTLE_DISK_MB = 100
HOT_C = 80  # a Raspberry Pi 4 slows down from here on

# Vector instructions that int8 models run on; they explain why one machine is slower than another.
_NOTABLE_FEATURES = ("asimd", "asimddp", "i8mm", "avx2", "avx512_vnni", "avx_vnni")

# Bits 0, 2, 16 and 18 of the firmware's flags: under-voltage and throttling, now and since boot.
_POWER_FLAGS = 0x50005


def check_system(_options: Options) -> list[Answer]:
    """Python and the processor."""
    bits = 64 if sys.maxsize > 2**32 else 32
    machine = platform.machine()
    text = f"Python {platform.python_version()}, {bits} bit, {machine}, Linux {platform.release()}"
    if bits == 32 or machine not in ("aarch64", "x86_64"):
        system = fail(text, "install a 64-bit system; onnxruntime is made for no other")
    else:
        system = ok(text)

    features = _cpu_features()
    notable = [name for name in _NOTABLE_FEATURES if name in features]
    cores = len(os.sched_getaffinity(0))
    return [system, ok(f"{cores} cores, {', '.join(notable) or 'no vector units known'}")]


def check_numpy(_options: Options) -> list[Answer]:
    """Import it."""
    import numpy

    return [ok(f"numpy {numpy.__version__}")]


def check_opencv(_options: Options) -> list[Answer]:
    """Import it, and see that it can open cameras and streams."""
    from edge_runtime.system.opencv import cv2

    registry = cv2.videoio_registry
    backends = {registry.getBackendName(number) for number in registry.getBackends()}
    missing = sorted({"V4L2", "FFMPEG"} - backends)
    if not missing:
        return [ok(f"OpenCV {cv2.__version__} with V4L2 and FFMPEG")]
    return [
        fail(
            f"OpenCV {cv2.__version__} without {' and '.join(missing)}",
            "needs V4L2 and FFMPEG: pip install opencv-python-headless, not a build without them",
        )
    ]


def check_onnxruntime(_options: Options) -> list[Answer]:
    """Import it the way the encoder does."""
    from importlib import import_module, metadata

    import_module("edge_runtime.model.encoder")
    version = metadata.version("onnxruntime")
    if not version.startswith("1.21."):
        return [ok(f"onnxruntime {version}")]

    advice = "it crashes on a Raspberry Pi 4: pip install 'onnxruntime!=1.21.*'"
    return [fail(f"onnxruntime {version}", advice)]


def check_bundle(options: Options) -> list[Answer]:
    """Find, verify and load the model bundle."""
    from edge_runtime.model.bundle import find_bundle, load_bundle
    from edge_runtime.model.self_test import self_test

    bundle = load_bundle(find_bundle(options.bundle))
    start = time.monotonic()
    self_test(bundle)
    seconds = time.monotonic() - start
    return [ok(f"{bundle.manifest.id} in {bundle.path}: self-test passed in {seconds:.1f} s")]


def check_labels(options: Options) -> list[Answer]:
    """Look up every phrase of the label set, and try the encoder on new ones. Writes nothing."""
    from edge_runtime.model.bundle import find_bundle, load_bundle
    from edge_runtime.model.labels.compiled import with_built_rows
    from edge_runtime.model.labels.label_set import load_label_set
    from edge_runtime.model.labels.new_rows import make_rows, missing_phrases
    from edge_runtime.model.labels.text_bank import TextBank

    bundle = load_bundle(find_bundle(options.bundle))
    if options.labels is None:
        return [ok(f"the bundle has {', '.join(bundle.label_sets())}")]

    label_set = load_label_set(options.labels, bundle)
    bank = with_built_rows(TextBank.from_bundle(bundle), options.labels, bundle)
    missing = missing_phrases(label_set, bundle, bank)
    reported = sum(not label.background for label in label_set.labels)
    text = f"{options.labels}: {reported} labels to report"
    if missing:
        try:
            rows = make_rows(missing, bundle, bank)
        except EdgeLabelError as error:
            raise error.within(f"{options.labels}: '{missing[0]}'") from error
        text += f", {len(missing)} new phrases, which {rows.encoder} can embed"
    return [ok(text)]


def check_memory(_options: Options) -> list[Answer]:
    """Room for the 180 MB promised, and some more."""
    facts = dict(line.split(":", 1) for line in Path("/proc/meminfo").read_text().splitlines())
    available_mb = int(facts["MemAvailable"].split()[0]) * 1024 / 1e6
    text = f"{available_mb:.0f} MB of memory available"
    if available_mb >= NEEDED_MB:
        return [ok(text)]
    return [fail(text, f"edge-label needs {NEEDED_MB} MB with its page cache: close programs")]


def check_disk(options: Options) -> list[Answer]:
    """The folder that records go to: it exists, can be written, and has room."""
    own = service_folder(options.config)
    folder = _place(options, own).parent if options.output else own
    try:
        folder.stat()
    except PermissionError:
        advice = "the service may write there; run sudo edge-label doctor to check"
        return [warn(f"{folder}: closed to this user", advice)]
    except OSError:
        return [_missing(folder, own, asked_for=options.output is not None)]

    facts = os.statvfs(folder)
    free_mb = facts.f_bavail * facts.f_frsize / 1e6
    if facts.f_flag & os.ST_RDONLY:
        advice = "a worn SD card does that: check dmesg, copy it, replace it"
        return [fail(f"{folder}: read-only", advice)]

    text = f"{folder}: {free_mb:.0f} MB free"
    if free_mb < LITTLE_DISK_MB:
        advice = (
            "lower output.max_mb, or make room: when it is full, the oldest records are deleted"
        )
        return [warn(text, advice)]
    return [ok(text)]


def _place(options: Options, own: Path) -> Path:
    """Where the records go. A service runs in its own folder, a command in the present one."""
    path = Path(options.output or "")
    of_service = Path(options.config or "").parent == CONFIG_FOLDER
    return own / path if of_service else path


def _missing(folder: Path, own: Path, *, asked_for: bool) -> Answer:
    """A folder that the configuration names must be there; the service makes its own."""
    if folder == own:
        advice = "the service makes it at its first start"
    else:
        advice = f"mkdir {folder}; the service itself may write below {own} only"
    text = f"{folder}: no such folder"
    return fail(text, advice) if asked_for else warn(text, advice)


def check_clock(_options: Options) -> list[Answer]:
    """Whether somebody set the wall clock since the machine started."""
    from edge_runtime.records import utc_iso
    from edge_runtime.system.telemetry import clock_unsynced

    text = f"it is {utc_iso(time.time())}"
    if not clock_unsynced():
        return [ok(text)]
    advice = "see timedatectl; records carry clock_unsynced until it is set"
    return [warn(f"{text}, but nobody has set the clock yet", advice)]


def check_heat(_options: Options) -> list[Answer]:
    """The temperature, and whether the firmware of a Raspberry Pi slows the processor down."""
    from edge_runtime.system.telemetry import temperature_c, throttle_flags

    answers = []
    temperature = temperature_c()
    if temperature is None:
        answers.append(ok("no thermometer"))
    elif temperature < HOT_C:
        answers.append(ok(f"CPU at {temperature:.0f} °C"))
    else:
        advice = "add a heat sink, a fan or shade; above thermal.limit_c fewer frames are labelled"
        answers.append(warn(f"CPU at {temperature:.0f} °C", advice))

    flags = throttle_flags()
    if flags:
        power = "under-voltage needs a better power supply or cable"
        advice = power if flags & _POWER_FLAGS else "cool the board"
        text = f"the firmware slows the processor down, now or since boot (flags {flags:#x})"
        answers.append(warn(text, advice))
    return answers


def _cpu_features() -> set[str]:
    """What /proc/cpuinfo lists: "Features" on ARM, "flags" on x86."""
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith(("Features", "flags")):
            return set(line.split(":", 1)[1].split())
    return set()


# In the order of the output: a library is looked at before what needs it.
CHECKS: dict[str, Callable[[Options], list[Answer]]] = {
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


def main(name: str, request: str) -> None:
    """Run one check and write its answers as JSON; ``request`` is an ``Options`` as JSON."""
    try:
        answers = CHECKS[name](Options(**json.loads(request)))
    except EdgeLabelError as error:
        answers = [fail(error.what, error.advice)]
    except OSError as error:
        advice = "sudo edge-label doctor may look where this user may not"
        answers = [fail(f"{error.filename}: {error.strerror}", advice)]
    sys.stdout.write(json.dumps([answer._asdict() for answer in answers]))


if __name__ == "__main__":
    main(sys.argv[1], sys.stdin.read())
