"""``make lock``: write requirements.lock, the releases that are known to work together, each with
its hashes.

The lock is a constraints file. pip takes from it only what is asked for, so one file serves the
demo (five packages), the tests (with torch) and the image, and torch's CUDA libraries are fetched
only where the torch that is installed asks for them. The lock names no index: the hashes say which
files are meant, wherever they are.
"""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import dataclass

from tools.lib.paths import REPOSITORY

LOCK = REPOSITORY / "requirements.lock"
THIS_PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"

# A CPU build has the release of the CUDA build and another hash. The index lists only the CUDA
# builds, so the hash of a CPU wheel (2.13.0+cpu, Python 3.11, x86-64) is written here. See
# docs/decisions/016-lock.md.
CPU_TORCH = ("torch==2.13.0", "6746dbcbeb526eb61330b76b41ff1b4eb848951103a892eeb080dfa2b264667b")

HEADER = """\
# Written by `make lock`. For Linux on x86-64 and aarch64, Python 3.11 to 3.13. Use it as a \
constraint:
#   pip install --constraint requirements.lock --build-constraint requirements.lock \
--no-require-hashes '.[mqtt]'
# --no-require-hashes lets in this project itself, which has no hash. All that is named below is \
checked by its hash.
"""


@dataclass(frozen=True)
class Pin:
    """One release: ``name==version``, the Pythons it is for, and the hashes of its files."""

    name: str
    version: str
    marker: str  # "" is every Python
    hashes: tuple[str, ...]

    def text(self) -> str:
        """As it stands in the lock."""
        marker = f" ; {self.marker}" if self.marker else ""
        hashes = "".join(f" \\\n    --hash=sha256:{digest}" for digest in self.hashes)
        return f"{self.name}=={self.version}{marker}{hashes}\n"

    def serves(self, python_version: str) -> bool:
        """Is this the pin for a Python such as ``3.12``?"""
        from packaging.markers import Marker

        return not self.marker or Marker(self.marker).evaluate(
            {"python_full_version": f"{python_version}.0"}
        )


def read(text: str) -> list[Pin]:
    """The pins of a lock, in order."""
    pins = []
    for entry in re.findall(r"^[a-z0-9].*(?:\n    --hash=.*)*", text, re.MULTILINE):
        head, *rest = entry.replace(" \\", "").split("\n")
        release, _, marker = head.partition(" ; ")
        name, _, version = release.partition("==")
        hashes = tuple(line.rpartition(":")[2] for line in rest)
        pins.append(Pin(name, version, marker, hashes))
    return pins


def for_this_project(pin: Pin) -> Pin:
    """The pin with the Python versions of its marker alone: the machines are the same for all."""
    versions = re.findall(r"python_full_version (?:<|>=) '3\.1[123]'", pin.marker)
    hashes = pin.hashes
    if f"{pin.name}=={pin.version}" == CPU_TORCH[0]:
        hashes = tuple(sorted({*hashes, CPU_TORCH[1]}))
    return Pin(pin.name, pin.version, " and ".join(versions), hashes)


def requirements(names: list[str], python_version: str = THIS_PYTHON) -> str:
    """Lines of a requirements file for ``names`` on that Python, with hashes: for a pip that runs
    on another."""
    pins = [
        pin for pin in read(LOCK.read_text()) if pin.name in names and pin.serves(python_version)
    ]
    return "".join(Pin(pin.name, pin.version, "", pin.hashes).text() for pin in pins)


def main() -> int:
    """Ask uv for the newest releases that fit pyproject.toml, and write the lock."""
    process = subprocess.run(
        [
            "uv", "pip", "compile", "--quiet", "--upgrade", "--universal", "--generate-hashes",
            "--no-header", "--no-annotate", "--no-emit-index-url", "--python-version", "3.11",
            "--all-extras", "--group", "dev", "--group", "build", "pyproject.toml",
        ],
        cwd=REPOSITORY, stdout=subprocess.PIPE, text=True, check=False,
    )  # fmt: skip
    if process.returncode:
        print(
            "tools.upkeep.lock: uv found no releases that fit pyproject.toml; its reason is above",
            file=sys.stderr,
        )
        return 1
    pins = [for_this_project(pin) for pin in read(process.stdout)]
    LOCK.write_text(HEADER + "".join(pin.text() for pin in pins))
    print(f"{LOCK.name}: {len(pins)} pins")
    return 0


if __name__ == "__main__":
    sys.exit(main())
