"""Build the Debian package: program, models, unit and configuration in one file.

    python -m tools.arm64.deb --arch arm64              # dist/edge-label_VERSION_arm64.deb
    python -m tools.arm64.deb --arch amd64 --suite trixie

Nothing is compiled: the package holds the locked wheels of the architecture, each checked by its
hash, in a virtual environment that uses the Python of the Debian release. So it can be built on any
machine, and it is installed without a network.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import os
import shutil
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from edge_runtime.errors import UsageError
from edge_runtime.version import __version__
from tools.arm64 import debian, userland
from tools.lib.command import run_verb, verb_parser

REPOSITORY = userland.REPOSITORY
MAINTAINER = "edge-label maintainers <maintainers@edge-label.invalid>"
TEMPLATES = Path(__file__).with_name("deb_files")

# A wheel with compiled code serves one release of Python, and a Debian release has one.
SUITES = {"bookworm": ("deb12", "3.11"), "trixie": ("deb13", "3.13")}
MACHINES = {"arm64": "aarch64", "amd64": "x86_64"}

# What the camera needs, MQTT, and the check of signed bundles. Parquet would double the package.
LIBRARIES = [*userland.RUNTIME, "paho-mqtt", "cryptography", "cffi"]

# What no program on a camera imports: a third of the modules.
LEFT_OUT = ("**/tests", "**/test", "**/include", "numpy/f2py", "numpy/distutils")
LEFT_OUT_OF_ORT = ("tools", "quantization", "transformers")

PROGRAM = Path("opt/edge-label")
MODELS = Path("usr/share/edge-label/models")
DOCUMENTS = Path("usr/share/doc/edge-label")
UNITS = Path("usr/lib/systemd/system")
CONFIG = Path("etc/edge-label/edge-label.yaml")

LAUNCHER = (
    "#!/opt/edge-label/bin/python3\n"
    "import sys\n\nfrom edge_runtime.__main__ import main\n\nsys.exit(main())\n"
)


@dataclass(frozen=True)
class Target:
    """What a package is for: a Debian architecture and release."""

    arch: str
    suite: str

    @property
    def python(self) -> str:
        """The release of Python there, such as 3.11."""
        return SUITES[self.suite][1]

    @property
    def next_python(self) -> str:
        """The first release of Python that the wheels do not serve."""
        major, minor = self.python.split(".")
        return f"{major}.{int(minor) + 1}"

    @property
    def version(self) -> str:
        """With the Debian release, so that an upgrade of Debian upgrades the package."""
        return f"{__version__}+{SUITES[self.suite][0]}"


def build(target: Target, output: Path, *, compression: str = "-Zxz") -> Path:
    """Write the package into the folder ``output``; returns its path.

    ``compression`` is an option of dpkg-deb; a test has no time for xz.

    Raises MissingPieceError without dpkg-deb or a network, RuntimeError when a step fails.
    """
    dpkg = debian.require("dpkg-deb", "dpkg")
    output.mkdir(parents=True, exist_ok=True)
    package = output / f"edge-label_{target.version}_{target.arch}.deb"

    with tempfile.TemporaryDirectory(prefix="edge-label-deb-") as folder:
        root = Path(folder) / "root"
        _program(root, target, Path(folder))
        _models(root)
        _service(root)
        _documents(root, target)
        _control(root, target)
        _plain_modes_and_times(root)

        unfinished = Path(folder) / package.name
        debian.run(
            dpkg, "--root-owner-group", compression, "--threads-max=2",
            "--build", root, unfinished,
            env={**os.environ, "SOURCE_DATE_EPOCH": str(_commit_time())},
        )  # fmt: skip
        shutil.copy(unfinished, package.with_suffix(".part"))
        package.with_suffix(".part").replace(package)
    return package


def _program(root: Path, target: Target, scratch: Path) -> None:
    """A virtual environment around the Python of the release, with the locked wheels in it."""
    wheels = userland.download_wheels(
        scratch / "wheels",
        target.python,
        machine=MACHINES[target.arch],
        locked_names=LIBRARIES,
    )
    wheels.append(userland.build_wheel(scratch / "wheel"))

    home = root / PROGRAM
    site = home / f"lib/python{target.python}/site-packages"
    userland.unpack_wheels(wheels, site)
    patterns = [*LEFT_OUT, *(f"onnxruntime/{name}" for name in LEFT_OUT_OF_ORT)]
    for path in [path for pattern in patterns for path in site.glob(pattern)]:
        shutil.rmtree(path, ignore_errors=True)

    (home / "bin").mkdir()
    (home / "bin/python3").symlink_to(f"/usr/bin/python{target.python}")
    (home / "pyvenv.cfg").write_text(
        f"home = /usr/bin\ninclude-system-site-packages = false\nversion = {target.python}\n"
    )
    debian.write_file(home / "bin/edge-label", LAUNCHER, 0o755)
    (root / "usr/bin").mkdir(parents=True)
    (root / "usr/bin/edge-label").symlink_to("/opt/edge-label/bin/edge-label")


def _models(root: Path) -> None:
    for folder in sorted((REPOSITORY / "models").iterdir()):
        ignored = shutil.ignore_patterns("evaluation")
        shutil.copytree(folder, root / MODELS / folder.name, ignore=ignored)


def _service(root: Path) -> None:
    """The units, with the program's path of this package, and the configuration."""
    for unit in sorted((REPOSITORY / "systemd").glob("*.service")):
        text = unit.read_text().replace("/usr/local/bin/edge-label", "/usr/bin/edge-label")
        debian.write_file(root / UNITS / unit.name, text)
    debian.write_file(root / CONFIG, (REPOSITORY / "systemd/edge-label.yaml").read_text())
    for drop_in in sorted((REPOSITORY / "systemd").glob("*.conf")):
        debian.write_file(root / DOCUMENTS / "drop-ins" / drop_in.name, drop_in.read_text())


def _documents(root: Path, target: Target) -> None:
    changes = (
        f"edge-label ({target.version}) {target.suite}; urgency=medium\n\n"
        f"  * Version {__version__}. CHANGELOG.md of the project lists what is new.\n\n"
        f" -- {MAINTAINER}  {_rfc_date()}\n"
    )
    folder = root / DOCUMENTS
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in {
        "changelog.gz": changes,
        "NEWS.gz": (REPOSITORY / "CHANGELOG.md").read_text(),
    }.items():
        (folder / name).write_bytes(gzip.compress(text.encode(), 9, mtime=0))
    shutil.copy(TEMPLATES / "copyright", folder / "copyright")
    overrides = root / "usr/share/lintian/overrides"
    overrides.mkdir(parents=True)
    shutil.copy(TEMPLATES / "lintian-overrides", overrides / "edge-label")


def _control(root: Path, target: Target) -> None:
    """The control file, the maintainer scripts, and the digests of all files."""
    folder = root / "DEBIAN"
    folder.mkdir()
    files = sorted(
        path
        for path in root.rglob("*")
        if path.is_file() and not path.is_symlink() and folder not in path.parents
    )
    size = sum(path.stat().st_size for path in files)

    control = (TEMPLATES / "control").read_text()
    for name, value in {
        "VERSION": target.version,
        "ARCH": target.arch,
        "SIZE": str(size // 1024),
        "MAINTAINER": MAINTAINER,
        "PYTHON": target.python,
        "NEXT": target.next_python,
    }.items():
        control = control.replace(f"@{name}@", value)
    debian.write_file(folder / "control", control)
    debian.write_file(folder / "conffiles", f"/{CONFIG}\n")
    sums = [
        f"{hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()}  "
        f"{path.relative_to(root)}\n"
        for path in files
        if path != root / CONFIG
    ]
    debian.write_file(folder / "md5sums", "".join(sums))
    for script in ("preinst", "postinst", "prerm", "postrm"):
        debian.write_file(folder / script, (TEMPLATES / script).read_text(), 0o755)


def _plain_modes_and_times(root: Path) -> None:
    """Modes as Debian wants them, whatever this shell's umask; the time of the commit."""
    moment = _commit_time()
    for path in [root, *root.rglob("*")]:
        if not path.is_symlink():
            executable = path.is_dir() or (path.stat().st_mode & 0o100 and _is_program(path, root))
            path.chmod(0o755 if executable else 0o644)
        os.utime(path, (moment, moment), follow_symlinks=False)


def _is_program(path: Path, root: Path) -> bool:
    return path.parent in (root / "DEBIAN", root / PROGRAM / "bin")


def _git(*words: str) -> str:
    return debian.run("git", "-C", REPOSITORY, *words, capture=True).strip()


def _commit_time() -> int:
    """Seconds since 1970 of the last commit: the same commit gives the same package."""
    return int(os.environ.get("SOURCE_DATE_EPOCH") or _git("log", "-1", "--format=%ct"))


def _rfc_date() -> str:
    return debian.run("date", "-R", "-u", "-d", f"@{_commit_time()}", capture=True).strip()


def main(argv: list[str] | None = None) -> int:
    """Build one package; returns the exit code."""
    parser = verb_parser("tools.arm64.deb", __doc__, whole=True)
    add = parser.add_argument
    add("--arch", choices=sorted(MACHINES), default="arm64", help="Debian architecture (arm64)")
    add("--suite", choices=sorted(SUITES), default="bookworm", help="Debian release (bookworm)")
    add("--output", type=Path, default=REPOSITORY / "dist", metavar="DIR", help="folder (dist)")
    return run_verb(parser, _deb, argv, failures={RuntimeError: 69})


def _deb(args: argparse.Namespace) -> str:
    if args.output.exists() and not args.output.is_dir():
        raise UsageError(f"{args.output}: not a folder", "give the folder for the package")
    package = build(Target(args.arch, args.suite), args.output)
    return f"{package}: {package.stat().st_size / 1e6:.1f} MB"


if __name__ == "__main__":
    sys.exit(main())
