"""Debian arm64 packages from this machine's own apt sources, unpacked without chroot, binfmt or
Docker.

apt resolves and downloads for arm64 inside a private state directory, so the host's package
database and its list of architectures stay untouched. Maintainer scripts never run.
"""

from __future__ import annotations

import platform
import re
import shutil
import subprocess
from pathlib import Path


class MissingPieceError(RuntimeError):
    """This machine lacks a program or a package. The message says which, and how to get it."""


def run(*command: str | Path, capture: bool = False, **keywords: object) -> str:
    """Run `command`; return its stdout when `capture`.

    Raises RuntimeError with the last lines of its output when it fails.
    """
    process = subprocess.run(
        [str(part) for part in command], capture_output=True, text=True, check=False, **keywords
    )
    if process.returncode:
        lines = (process.stderr or process.stdout).strip().splitlines()
        reason = " | ".join(lines[-3:]) or "no message"
        raise RuntimeError(f"{command[0]} failed ({process.returncode}): {reason}")
    return process.stdout if capture else ""


def require(program: str, package: str) -> str:
    """Path of `program`.

    Raises MissingPieceError with the Debian package that contains it.
    """
    # Not the caller's PATH: a user's often lacks sbin, where mke2fs and modprobe are.
    path = shutil.which(program, path="/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin")
    if not path:
        raise MissingPieceError(
            f"{program} is not installed; run `apt-get install {package}` as root"
        )
    return path


def write_file(path: Path, text: str, mode: int = 0o644) -> None:
    """Write a file of a tree, with its folders and exactly this mode."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(mode)


def codename() -> str:
    """This Debian's release name, for example `bookworm`."""
    return platform.freedesktop_os_release().get("VERSION_CODENAME", "")


def _sources(kind: str = "deb [arch=arm64") -> list[str]:
    """One apt source line for each Debian suite of this machine.

    `kind` is how a line begins: `deb` or `deb-src`, and the options up to the key.
    """
    # apt resolves the machine's own sources, whatever format and mirror they have.
    fields = "$(ORIGIN)|$(CREATED_BY)|$(REPO_URI)|$(RELEASE)|$(COMPONENT)"
    apt = require("apt-get", "apt")
    targets = run(apt, "indextargets", "--format", fields, capture=True).splitlines()

    suites: set[tuple[str, str, str]] = set()
    for line in targets:
        if not line.startswith("Debian|Packages|"):
            continue
        _, _, uri, suite, component = line.split("|")
        if codename() in suite:
            suites.add((uri, suite, component))
    if not suites:
        raise MissingPieceError(
            "apt has no Debian suite; run `apt-get update` as root with a network"
        )

    key = "signed-by=/usr/share/keyrings/debian-archive-keyring.gpg"
    return [f"{kind} {key}] {uri} {suite} {component}" for uri, suite, component in sorted(suites)]


def _apt(state: Path, kind: str = "deb [arch=arm64") -> list[str]:
    """An apt-get command line that keeps its whole state in `state`; fetches the lists once."""
    options = {
        "Dir::State::lists": state / "lists",
        "Dir::State::status": state / "status",
        "Dir::Cache": state / "cache",
        "Dir::Etc::sourcelist": state / "sources.list",
        "Dir::Etc::sourceparts": "/dev/null",
        "Dir::Etc::preferencesparts": "/dev/null",
        "APT::Install-Recommends": "0",
        "Acquire::Languages": "none",
        "APT::Sandbox::User": "root",
    }
    if "arm64" in kind:
        options |= {"APT::Architecture": "arm64", "APT::Architectures": "arm64"}
    settings = [word for name, value in options.items() for word in ("-o", f"{name}={value}")]
    command = ["apt-get", "-qq", "-y", *settings]
    if not (state / "lists").is_dir():
        # Before the folder exists: a failure must not leave a folder that looks complete.
        sources = _sources(kind)
        for folder in ("lists/partial", "cache/archives/partial"):
            (state / folder).mkdir(parents=True, exist_ok=True)
        (state / "status").touch()
        (state / "sources.list").write_text("\n".join(sources) + "\n")
        try:
            run(*command, "update")
        except RuntimeError as error:
            shutil.rmtree(state)
            raise MissingPieceError(
                f"cannot read the Debian package lists ({error}); a network is needed"
            ) from error
    return command


def download(state: Path, packages: list[str]) -> list[Path]:
    """Download `packages` for arm64 with everything they depend on; return the .deb files."""
    run(*_apt(state), "--download-only", "install", *packages)
    return sorted((state / "cache/archives").glob("*.deb"))


def source(state: Path, package: str) -> list[Path]:
    """Download the Debian source of `package` of this machine's release; return its files."""
    command = [*_apt(state, "deb-src ["), "--only-source", "--download-only", "source"]
    run(*command, f"{package}/{codename()}", cwd=state)
    return sorted(state.glob(f"{package}_*"))


def unpack(debs: list[Path], root: Path, leave_out: tuple[str, ...] = ()) -> None:
    """Unpack `debs` over `root`, after making the links of a merged /usr there."""
    for folder in ("bin", "sbin", "lib"):
        (root / "usr" / folder).mkdir(parents=True, exist_ok=True)
        if not (root / folder).exists():
            (root / folder).symlink_to(f"usr/{folder}")

    # Some packages still hold files in /bin or /lib: tar must follow the links, not replace them.
    excludes = [f"--exclude={pattern}" for pattern in leave_out]
    command = ["tar", "-xpf", "-", "-C", root, "--keep-directory-symlink", *excludes]
    for deb in debs:
        archive = ["dpkg-deb", "--fsys-tarfile", str(deb)]
        with subprocess.Popen(archive, stdout=subprocess.PIPE) as tar:
            run(*command, stdin=tar.stdout)


def write_database(debs: list[Path], root: Path) -> None:
    """Let dpkg and apt in `root` believe that `debs` are installed there, which they are."""
    database = root / "var/lib/dpkg"
    for folder in ("info", "updates", "triggers", "alternatives", "parts"):
        (database / folder).mkdir(parents=True, exist_ok=True)
    for folder in ("var/lib/apt/lists/partial", "var/cache/apt/archives/partial", "var/log/apt"):
        (root / folder).mkdir(parents=True, exist_ok=True)

    entries = []
    for deb in debs:
        fields = run("dpkg-deb", "--field", deb, capture=True)
        entries.append(f"{fields.rstrip()}\nStatus: install ok installed\n")
        name = re.search(r"^Package: (\S+)$", fields, re.MULTILINE)
        if name:
            (database / "info" / f"{name[1]}.list").write_text("/.\n")
    (database / "status").write_text("\n".join(entries))
