"""A small Debian arm64 userland in one folder, and Python in it on an emulated Cortex-A72.

    python -m tools.arm64.userland build              # about a minute, 250 MB in build/arm64
    python -m tools.arm64.userland run script.py ...  # qemu-aarch64 -cpu cortex-a72

The project goes in the way a user gets it: a wheel and its locked dependencies for aarch64. Nothing
in the tree is ever executed by the host; qemu-user reads it through its library prefix (`-L`),
which also lets a /proc/cpuinfo and /sys of a Raspberry Pi 4 stand in for the host's.
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
from tools.upkeep import lock

REPOSITORY = Path(__file__).resolve().parents[2]
DEFAULT_ROOT = REPOSITORY / "build/arm64"
RUNTIME = ["numpy", "onnxruntime", "opencv-python-headless", "pyyaml"]
PACKAGES = ["python3-minimal", "python3", "libstdc++6", "libgcc-s1", "libgomp1"]
# Wheels that run on Debian 12 and later. Naming only manylinux2014 would find a years-old ONNX Runtime.
PLATFORMS = ["manylinux2014_aarch64", "manylinux_2_27_aarch64", "manylinux_2_28_aarch64"]
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
        found = sorted((self.root / "usr/bin").glob("python3.[0-9]*"))
        if not found:
            raise debian.MissingPieceError(
                f"no arm64 userland in {self.root}; run `python -m tools.arm64.userland build`"
            )
        return found[0]

    @property
    def python_version(self) -> str:
        """`3.11`, say."""
        return self.python.name.removeprefix("python")

    def command(
        self, *arguments: str | Path, plugin: str = "", environment: dict[str, str] | None = None
    ) -> list[str]:
        """The qemu-aarch64 command line that runs Python with `arguments` on a Cortex-A72.

        `plugin` is qemu's `-plugin` argument: a shared object and its options, comma separated.
        """
        python = self.python  # first: without a userland, qemu alone would not help
        qemu = debian.require("qemu-aarch64", "qemu-user")
        lib = self.root / "usr/lib/aarch64-linux-gnu"
        guest = {
            "PYTHONHOME": self.root / "usr",
            "PYTHONPATH": self.site,
            "PYTHONDONTWRITEBYTECODE": "1",
            "PYTHONHASHSEED": "0",
            # guest programs import their neighbours, whatever the caller forbids itself
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
        """Run Python in the userland and return what it printed; the caller judges the exit status.

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
    """Build the project's wheel into `folder` with the tools of this Python; return it."""
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob("edge_label-*.whl"):
        old.unlink()
    pip_wheel = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps"]
    locked = ["--build-constraint", lock.LOCK]
    debian.run(*pip_wheel, *locked, "--wheel-dir", folder, REPOSITORY)
    return next(folder.glob("edge_label-*.whl"))


def download_wheels(
    folder: Path, python_version: str, requirements: list[str] | None = None
) -> list[Path]:
    """Download aarch64 wheels for `requirements` (default: what the runtime imports, as locked)
    into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    digits = python_version.replace(".", "")
    locked = folder.with_name("locked.txt")
    locked.write_text(lock.requirements(RUNTIME, python_version))
    wanted = requirements or ["--require-hashes", "--requirement", str(locked)]
    platforms = [word for name in PLATFORMS for word in ("--platform", name)]
    try:
        debian.run(
            sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:",
            *platforms, "--python-version", python_version, "--implementation", "cp",
            "--abi", f"cp{digits}", "--abi", "abi3", "--abi", "none", "--dest", folder, *wanted,
        )  # fmt: skip
    except RuntimeError as error:
        raise debian.MissingPieceError(
            f"cannot download aarch64 wheels ({error}); a network is needed"
        ) from error
    return sorted(folder.glob("*.whl"))


def install(wheels: list[Path], site: Path, python_version: str) -> None:
    """Unpack `wheels` into `site` and compile them: what pip does for a wheel without scripts."""
    site.mkdir(parents=True, exist_ok=True)
    for wheel in wheels:
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(site)
    compile_modules(site, python_version)


def compile_modules(folder: Path, python_version: str) -> None:
    """Write the bytecode of all modules below `folder`. It is the same on every processor, so the
    host can."""
    here = f"{sys.version_info.major}.{sys.version_info.minor}" == python_version
    python = (
        sys.executable
        if here
        else debian.require(f"python{python_version}", f"python{python_version}")
    )
    debian.run(python, "-m", "compileall", "-q", "-x", "/tests?/|/lib2to3/", folder)


def install_project(userland: Userland) -> None:
    """Put this working tree's wheel in place of the one `userland` holds."""
    for old in [userland.site / "edge_runtime", *userland.site.glob("edge_label-*.dist-info")]:
        shutil.rmtree(old, ignore_errors=True)
    install([build_wheel(userland.root / "wheel")], userland.site, userland.python_version)


# Long because it lists, file by file, what a Raspberry Pi 4 shows in /sys and /proc.
def write_pi4(root: Path) -> None:
    """Write the parts of a Raspberry Pi 4's /proc and /sys that native libraries read.

    qemu-user passes the host's x86 files through otherwise, and the CPU detection inside ONNX
    Runtime dereferences a null pointer on them.
    """
    core = (
        "processor\t: {n}\nBogoMIPS\t: 108.00\nFeatures\t: fp asimd evtstrm crc32 cpuid\n"
        "CPU implementer\t: 0x41\nCPU architecture: 8\nCPU variant\t: 0x0\nCPU part\t: 0xd08\nCPU revision\t: 3\n\n"
    )
    files = {
        "proc/cpuinfo": "".join(core.format(n=n) for n in range(4))
        + "Hardware\t: BCM2835\nRevision\t: c03112\nModel\t\t: Raspberry Pi 4 Model B Rev 1.2\n",
        "sys/firmware/devicetree/base/model": "Raspberry Pi 4 Model B Rev 1.2\0",
    }
    cpus = "sys/devices/system/cpu"
    files |= {f"{cpus}/{name}": "0-3\n" for name in ("possible", "present", "online")}
    files[f"{cpus}/kernel_max"] = "255\n"
    caches = [
        ("1", "Data", "32K", None),
        ("1", "Instruction", "48K", None),
        ("2", "Unified", "1024K", "0-3"),
    ]
    for n in range(4):
        cpu = f"{cpus}/cpu{n}"
        files |= {
            f"{cpu}/topology/{name}": f"{n}\n"
            for name in ("core_id", "thread_siblings_list", "core_cpus_list")
        }
        files |= {
            f"{cpu}/topology/{name}": "0-3\n"
            for name in ("cluster_cpus_list", "core_siblings_list", "package_cpus_list")
        }
        files |= {
            f"{cpu}/topology/physical_package_id": "0\n",
            f"{cpu}/cpufreq/cpuinfo_max_freq": "1500000\n",
            f"{cpu}/cpufreq/cpuinfo_min_freq": "600000\n",
            f"{cpu}/regs/identification/midr_el1": "0x00000000410fd083\n",
        }
        for index, (level, kind, size, shared) in enumerate(caches):
            cache = {
                "level": level,
                "type": kind,
                "size": size,
                "shared_cpu_list": shared or str(n),
            }
            cache["coherency_line_size"] = "64"
            files |= {
                f"{cpu}/cache/index{index}/{name}": f"{value}\n" for name, value in cache.items()
            }
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def _fingerprint() -> str:
    """Changes whenever a finished tree must be built anew."""
    return hashlib.sha256(lock.LOCK.read_bytes() + Path(__file__).read_bytes()).hexdigest()


def build(root: Path = DEFAULT_ROOT) -> Userland:
    """Build the userland in `root`, or only refresh the project in it when the rest is current."""
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
