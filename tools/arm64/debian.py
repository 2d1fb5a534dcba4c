"""Debian arm64 packages from this machine's own apt sources, unpacked without chroot, binfmt or
Docker.

apt resolves and downloads for arm64 inside a private state directory, so the host's package
database and its list of architectures stay untouched. Maintainer scripts never run.
"""

from __future__ import annotations

import platform
import shutil
import subprocess
from pathlib import Path


class MissingPieceError(RuntimeError):
    """Something this machine must offer is not there. The message says what, and how to get it."""


def run(*command: str | Path, capture: bool = False, **keywords: object) -> str:
    """Run `command` and return its stdout when `capture`; raise RuntimeError with its last words on
    failure."""
    done = subprocess.run(
        [str(part) for part in command], capture_output=True, text=True, check=False, **keywords
    )
    if done.returncode:
        words = (done.stderr or done.stdout).strip().splitlines()
        raise RuntimeError(
            f"{command[0]} failed ({done.returncode}): {' | '.join(words[-3:]) or 'no message'}"
        )
    return done.stdout if capture else ""


def require(program: str, package: str) -> str:
    """Path of `program`, or MissingPieceError naming the Debian package that brings it."""
    found = shutil.which(program, path="/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin")
    if not found:
        raise MissingPieceError(
            f"{program} is not installed; run `apt-get install {package}` as root"
        )
    return found


def codename() -> str:
    """This Debian's release name, for example `bookworm`."""
    return platform.freedesktop_os_release().get("VERSION_CODENAME", "")


def _sources(kind: str = "deb [arch=arm64") -> list[str]:
    """One apt source line for each Debian suite of this machine, as `kind` (`deb` or `deb-src`)."""
    fields = "$(ORIGIN)|$(CREATED_BY)|$(REPO_URI)|$(RELEASE)|$(COMPONENT)"
    targets = run(
        require("apt-get", "apt"), "indextargets", "--format", fields, capture=True
    ).splitlines()
    suites = sorted(
        {
            tuple(line.split("|")[2:])
            for line in targets
            if line.startswith("Debian|Packages|") and codename() in line.split("|")[3]
        }
    )
    if not suites:
        raise MissingPieceError(
            "apt knows no Debian suite; run `apt-get update` as root with a network"
        )
    key = "signed-by=/usr/share/keyrings/debian-archive-keyring.gpg"
    return [f"{kind} {key}] {uri} {suite} {component}" for uri, suite, component in suites]


def _apt(state: Path, kind: str = "deb [arch=arm64") -> list[str]:
    """An apt-get command line whose whole state lives in `state`; refreshes its lists once."""
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
    command = [
        "apt-get",
        "-qq",
        "-y",
        *(word for k, v in options.items() for word in ("-o", f"{k}={v}")),
    ]
    if not (state / "lists").is_dir():
        # first: what fails half way must not look like lists that were read
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
    """Download the Debian source of `package`, matching this machine's release; return its
    files."""
    command = _apt(state, "deb-src [")
    run(
        *command, "--only-source", "--download-only", "source", f"{package}/{codename()}", cwd=state
    )
    return sorted(state.glob(f"{package}_*"))


def unpack(debs: list[Path], root: Path, leave_out: tuple[str, ...] = ()) -> None:
    """Unpack `debs` over `root`, which is given the merged-/usr links first."""
    for folder in ("bin", "sbin", "lib"):
        (root / "usr" / folder).mkdir(parents=True, exist_ok=True)
        if not (root / folder).exists():
            (root / folder).symlink_to(f"usr/{folder}")
    for deb in debs:
        with subprocess.Popen(
            ["dpkg-deb", "--fsys-tarfile", str(deb)], stdout=subprocess.PIPE
        ) as tar:
            excludes = [f"--exclude={pattern}" for pattern in leave_out]
            run(
                "tar",
                "-xpf",
                "-",
                "-C",
                root,
                "--keep-directory-symlink",
                *excludes,
                stdin=tar.stdout,
            )
