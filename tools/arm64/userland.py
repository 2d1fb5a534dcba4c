"""A small Debian arm64 userland in one folder, and Python in it on an emulated Cortex-A72.

    python -m tools.arm64.userland build              # about a minute, 250 MB in build/arm64
    python -m tools.arm64.userland run script.py ...  # qemu-aarch64 -cpu cortex-a72

The project is installed as a user gets it: a wheel and its locked dependencies for aarch64. The
host never executes anything in the tree. qemu-user reads it through its library prefix (`-L`),
which also replaces the host's /proc/cpuinfo and /sys by those of a Raspberry Pi 4.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import shutil
import subprocess
import sys
import zipfile
from dataclasses import dataclass
from pathlib import Path

from tools.arm64 import debian
from tools.lib.command import run_verb, verb_parser
from tools.lib.paths import REPOSITORY
from tools.upkeep import lock

DEFAULT_ROOT = REPOSITORY / "build/arm64"
RUNTIME = ["numpy", "onnxruntime", "opencv-python-headless", "pyyaml", "tokenizers"]
PACKAGES = ["python3-minimal", "python3", "libstdc++6", "libgcc-s1", "libgomp1"]
# Wheels that run on Debian 12 and later. With manylinux2014 alone, pip would take a years-old ONNX
# Runtime.
PLATFORMS = ["manylinux2014", "manylinux_2_27", "manylinux_2_28"]
LEAVE_OUT = tuple(f"./usr/share/{folder}*" for folder in ("doc", "man", "locale", "lintian"))


@dataclass(frozen=True)
class Userland:
    """An arm64 tree: Debian's files, a Pi 4's /proc and /sys, and the project in `site`."""

    root: Path

    @property
    def site(self) -> Path:
        """Where the wheels are installed."""
        return self.root / "opt/edge-label"

    @property
    def python(self) -> Path:
        """The arm64 interpreter."""
        programs = sorted((self.root / "usr/bin").glob("python3.[0-9]*"))
        if not programs:
            raise debian.MissingPieceError(
                f"no arm64 userland in {self.root}; run `python -m tools.arm64.userland build`"
            )
        return programs[0]

    @property
    def python_version(self) -> str:
        """For example `3.11`."""
        return self.python.name.removeprefix("python")

    def command(
        self, *arguments: str | Path, plugin: str = "", environment: dict[str, str] | None = None
    ) -> list[str]:
        """The qemu-aarch64 command line that runs Python with `arguments` on a Cortex-A72.

        `plugin` is qemu's `-plugin` argument: a shared object and its options, comma separated.
        """
        # Before qemu: without a userland, installing qemu would not help.
        python = self.python
        qemu = debian.require("qemu-aarch64", "qemu-user")
        lib = self.root / "usr/lib/aarch64-linux-gnu"
        guest = {
            "PYTHONHOME": self.root / "usr",
            "PYTHONPATH": self.site,
            "PYTHONDONTWRITEBYTECODE": "1",
            "PYTHONHASHSEED": "0",
            # Guest programs import the files beside them, even if the caller's Python must not.
            "PYTHONSAFEPATH": "",
            "LD_LIBRARY_PATH": f"{lib}:{self.root / 'lib/aarch64-linux-gnu'}",
            **(environment or {}),
        }
        settings = [word for key, value in guest.items() for word in ("-E", f"{key}={value}")]
        plugins = ["-plugin", plugin] if plugin else []
        return [
            qemu, "-cpu", "cortex-a72", "-L", str(self.root), *plugins, *settings,
            str(python), *(str(argument) for argument in arguments),
        ]  # fmt: skip

    def run(
        self,
        *arguments: str | Path,
        plugin: str = "",
        environment: dict[str, str] | None = None,
        timeout: float = 900,
        cwd: Path | None = None,
        input: str | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """Run Python in the userland; the caller checks the exit status of the result.

        Raises RuntimeError when it has not ended after `timeout` seconds.
        """
        command = self.command(*arguments, plugin=plugin, environment=environment)
        try:
            return subprocess.run(
                command,
                capture_output=True,
                text=True,
                timeout=timeout,
                check=False,
                cwd=cwd,
                input=input,
            )
        except subprocess.TimeoutExpired as error:
            raise RuntimeError(
                f"{arguments[0]} has not ended in the userland after {timeout:.0f} s"
            ) from error


def build_wheel(folder: Path) -> Path:
    """Build the project's wheel into `folder` with this Python's pip; return its path."""
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob("edge_label-*.whl"):
        old.unlink()
    pip_wheel = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps"]
    locked = ["--build-constraint", lock.LOCK]
    debian.run(*pip_wheel, *locked, "--wheel-dir", folder, REPOSITORY)
    return next(folder.glob("edge_label-*.whl"))


def download_wheels(
    folder: Path,
    python_version: str,
    requirements: list[str] | None = None,
    *,
    machine: str = "aarch64",
    locked_names: list[str] = RUNTIME,
) -> list[Path]:
    """Download the wheels of `requirements` for `machine` into `folder`.

    The default is `locked_names` in the locked releases, each checked by its hash. Raises
    MissingPieceError when a wheel cannot be downloaded.
    """
    folder.mkdir(parents=True, exist_ok=True)
    digits = python_version.replace(".", "")
    locked = folder.with_name("locked.txt")
    locked.write_text(lock.requirements(locked_names, python_version))
    names = requirements or ["--require-hashes", "--requirement", str(locked)]
    platforms = [word for name in PLATFORMS for word in ("--platform", f"{name}_{machine}")]
    try:
        debian.run(
            sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:",
            *platforms, "--python-version", python_version, "--implementation", "cp",
            "--abi", f"cp{digits}", "--abi", "abi3", "--abi", "none", "--dest", folder, *names,
        )  # fmt: skip
    except RuntimeError as error:
        raise debian.MissingPieceError(
            f"cannot download {machine} wheels ({error}); a network is needed"
        ) from error
    return sorted(folder.glob("*.whl"))


def install(wheels: list[Path], site: Path, python_version: str) -> None:
    """Unpack `wheels` into `site` and compile them: what pip does for a wheel without scripts."""
    unpack_wheels(wheels, site)
    compile_modules(site, python_version)


def unpack_wheels(wheels: list[Path], site: Path) -> None:
    """Unpack `wheels` into the folder `site`."""
    site.mkdir(parents=True, exist_ok=True)
    for wheel in wheels:
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(site)


def compile_modules(folder: Path, python_version: str) -> None:
    """Write the bytecode of all modules below `folder`.

    Bytecode depends on the release of Python and not on the processor, so the host can write it.
    """
    name = f"python{python_version}"
    same_release = f"{sys.version_info.major}.{sys.version_info.minor}" == python_version
    python = sys.executable if same_release else debian.require(name, name)
    debian.run(python, "-m", "compileall", "-q", "-x", "/tests?/|/lib2to3/", folder)


def install_project(userland: Userland) -> None:
    """Replace the project in `userland` by this working tree's wheel."""
    for old in [userland.site / "edge_runtime", *userland.site.glob("edge_label-*.dist-info")]:
        shutil.rmtree(old, ignore_errors=True)
    install([build_wheel(userland.root / "wheel")], userland.site, userland.python_version)


CPUINFO = (
    "processor\t: {core}\n"
    "BogoMIPS\t: 108.00\n"
    "Features\t: fp asimd evtstrm crc32 cpuid\n"
    "CPU implementer\t: 0x41\n"
    "CPU architecture: 8\n"
    "CPU variant\t: 0x0\n"
    "CPU part\t: 0xd08\n"
    "CPU revision\t: 3\n"
    "\n"
)
BOARD = "Raspberry Pi 4 Model B Rev 1.2"
CORES = range(4)
# Level, kind, size, and whether all cores share it.
CACHES = (
    ("1", "Data", "32K", False),
    ("1", "Instruction", "48K", False),
    ("2", "Unified", "1024K", True),
)


def write_pi4(root: Path) -> None:
    """Write the parts of a Raspberry Pi 4's /proc and /sys that native libraries read.

    Otherwise qemu-user shows the host's x86 files, and the CPU detection in ONNX Runtime
    dereferences a null pointer on them.
    """
    cores = "".join(CPUINFO.format(core=core) for core in CORES)
    cpus = "sys/devices/system/cpu"
    files = {
        "proc/cpuinfo": f"{cores}Hardware\t: BCM2835\nRevision\t: c03112\nModel\t\t: {BOARD}\n",
        "sys/firmware/devicetree/base/model": f"{BOARD}\0",
        f"{cpus}/possible": "0-3\n",
        f"{cpus}/present": "0-3\n",
        f"{cpus}/online": "0-3\n",
        f"{cpus}/kernel_max": "255\n",
    }
    for core in CORES:
        for name, text in _pi4_core(core).items():
            files[f"{cpus}/cpu{core}/{name}"] = f"{text}\n"

    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def _pi4_core(core: int) -> dict[str, str]:
    """What /sys shows of one core: file -> its line."""
    files = {
        "topology/core_id": str(core),
        "topology/thread_siblings_list": str(core),
        "topology/core_cpus_list": str(core),
        "topology/cluster_cpus_list": "0-3",
        "topology/core_siblings_list": "0-3",
        "topology/package_cpus_list": "0-3",
        "topology/physical_package_id": "0",
        "cpufreq/cpuinfo_max_freq": "1500000",
        "cpufreq/cpuinfo_min_freq": "600000",
        "regs/identification/midr_el1": "0x00000000410fd083",
    }
    for index, (level, kind, size, shared) in enumerate(CACHES):
        folder = f"cache/index{index}"
        files[f"{folder}/level"] = level
        files[f"{folder}/type"] = kind
        files[f"{folder}/size"] = size
        files[f"{folder}/shared_cpu_list"] = "0-3" if shared else str(core)
        files[f"{folder}/coherency_line_size"] = "64"
    return files


def _fingerprint() -> str:
    """Changes when a finished tree must be built again."""
    return hashlib.sha256(lock.LOCK.read_bytes() + Path(__file__).read_bytes()).hexdigest()


def build(root: Path = DEFAULT_ROOT) -> Userland:
    """Build the userland in `root`; where it is current, only replace the project in it.

    Raises MissingPieceError without root, a network, or a program that it needs.
    """
    userland = Userland(root.resolve())
    stamp = userland.root / "built"
    if not stamp.exists() or stamp.read_text() != _fingerprint():
        debian.require("qemu-aarch64", "qemu-user")
        if os.geteuid() != 0:
            raise debian.MissingPieceError(
                "building the arm64 userland needs root (apt and file owners)"
            )
        shutil.rmtree(userland.root, ignore_errors=True)
        userland.root.mkdir(parents=True)
        state = userland.root.with_name(userland.root.name + ".apt")
        debian.unpack(debian.download(state, PACKAGES), userland.root, LEAVE_OUT)
        write_pi4(userland.root)
        (userland.root / "tmp").mkdir(exist_ok=True)
        version = userland.python_version
        install(download_wheels(userland.root / "wheels", version), userland.site, version)
        compile_modules(userland.root / f"usr/lib/python{version}", version)
        stamp.write_text(_fingerprint())
    install_project(userland)
    return userland


def main(argv: list[str] | None = None) -> int:
    """Make the tree or run Python in it; returns the exit code."""
    parser = verb_parser("tools.arm64.userland", __doc__, whole=True)
    root = DEFAULT_ROOT
    parser.add_argument("--root", type=Path, default=root, help="the tree (default build/arm64)")
    verbs = parser.add_subparsers(dest="verb", required=True)
    verbs.add_parser("build", help="make the tree, or refresh the project in it")
    runner = verbs.add_parser("run", help="run Python in it")
    runner.add_argument("arguments", nargs=argparse.REMAINDER, help="what follows `python3`")
    return run_verb(parser, _userland, argv, failures={RuntimeError: 69})


def _userland(args: argparse.Namespace) -> str | int:
    if args.verb == "build":
        return f"arm64 userland ready in {build(args.root).root}"
    command = Userland(args.root.resolve()).command(*args.arguments)
    return subprocess.run(command, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
