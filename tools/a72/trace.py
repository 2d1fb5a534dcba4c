"""Run arm64 Python under the tracing plug-in and read back what it counted.

Between two cuts (`guest.mark`) a `Piece` holds the exact executions of every basic block and the
misses of the modelled caches: 32 KB 2-way L1D, 1 MB 16-way L2, 64-byte lines, as in a Raspberry
Pi 4.
"""

from __future__ import annotations

import subprocess
import tarfile
import tempfile
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from tools.arm64 import debian
from tools.arm64.userland import REPOSITORY, Userland

BUILD = REPOSITORY / "build/a72"
SOURCE = Path(__file__).with_name("trace.c")
TICK = 1000  # label of a cut at a clock read; the guest's own labels are smaller


@dataclass
class Piece:
    """What ran between the cut before `label` and `label` itself."""

    label: int
    time_ns: int = 0
    blocks: Counter[str] = field(default_factory=Counter)  # hex instruction words -> executions
    accesses: int = 0
    l1_misses: int = 0
    dram_lines: int = 0  # L2 misses and write-backs, 64 bytes each

    @property
    def instructions(self) -> int:
        """Instructions executed."""
        return sum(count * (len(code) // 8) for code, count in self.blocks.items())

    def __add__(self, other: Piece) -> Piece:
        return Piece(
            self.label,
            other.time_ns,
            self.blocks + other.blocks,
            self.accesses + other.accesses,
            self.l1_misses + other.l1_misses,
            self.dram_lines + other.dram_lines,
        )


def build_plugin() -> Path:
    """Compile the plug-in against the header of this Debian's qemu (downloaded once, 23 MB)."""
    plugin = BUILD / "libtrace.so"
    if plugin.exists() and plugin.stat().st_mtime > SOURCE.stat().st_mtime:
        return plugin
    compiler = debian.require("gcc", "gcc")
    pkg_config = debian.require("pkg-config", "pkg-config libglib2.0-dev")
    try:
        flags = debian.run(pkg_config, "--cflags", "--libs", "glib-2.0", capture=True).split()
    except RuntimeError as error:
        raise debian.MissingPieceError(
            "glib headers are missing; run `apt-get install libglib2.0-dev`"
        ) from error

    # The header is taken out of the source package, whose release must be that of the emulator.
    header = BUILD / "include/qemu-plugin.h"
    if not header.exists():
        header.parent.mkdir(parents=True, exist_ok=True)
        archives = [f for f in debian.source(BUILD / "source.apt", "qemu") if ".orig.tar" in f.name]
        with tarfile.open(archives[0]) as archive:
            member = next(m for m in archive if m.name.endswith("include/qemu/qemu-plugin.h"))
            text = archive.extractfile(member)
            header.write_bytes(text.read() if text else b"")
    options = ["-O2", "-Wall", "-fPIC", "-shared", f"-I{header.parent}"]
    debian.run(compiler, *options, "-o", plugin, SOURCE, *flags)
    return plugin


def parse(text: str) -> list[Piece]:
    """The pieces of one run, in order, from the plug-in's output."""
    codes: dict[str, str] = {}
    pieces: list[Piece] = []
    counts: Counter[str] = Counter()

    # The program may end in the middle of the last line.
    whole_lines = text[: text.rfind("\n") + 1].splitlines()
    for line in whole_lines:
        kind, *words = line.split()
        if kind == "block":
            codes[words[0]] = words[2]
        elif kind == "count":
            counts[codes[words[0]]] += int(words[1])
        elif kind == "cut":
            label, time_ns, accesses, l1_misses, l2_misses, write_backs = map(int, words)
            pieces.append(
                Piece(label, time_ns, counts, accesses, l1_misses, l2_misses + write_backs)
            )
            counts = Counter()
    return pieces


def changed(program: Path, prelude: str, *arguments: str | Path) -> list[str | Path]:
    """Python's arguments that run `program` after the statements of `prelude`."""
    if not prelude:
        return [program, *arguments]
    words = [str(program), *(str(argument) for argument in arguments)]
    start = (
        f"import runpy, sys\nsys.path.insert(0, {str(program.parent)!r})\nsys.argv = {words!r}\n"
    )
    return ["-c", f"{start}{prelude}\nrunpy.run_path(sys.argv[0], run_name='__main__')"]


def trace(
    userland: Userland,
    *arguments: str | Path,
    ticks: bool = False,
    environment: dict[str, str] | None = None,
    timeout: float = 1800,
) -> tuple[list[Piece], str]:
    """Run Python with `arguments`; return the pieces and what it printed.

    Raises RuntimeError when the program fails.
    """
    plugin = build_plugin()
    with tempfile.TemporaryDirectory(prefix="a72-") as folder:
        out = Path(folder) / "trace"
        process: subprocess.CompletedProcess[str] = userland.run(
            *arguments,
            plugin=f"{plugin},out={out}" + (",ticks=1" if ticks else ""),
            environment=environment,
            timeout=timeout,
        )
        if process.returncode:
            reason = " | ".join(process.stderr.strip().splitlines()[-3:])
            raise RuntimeError(
                f"{arguments[0]} failed in the userland ({process.returncode}): {reason}"
            )
        return parse(out.read_text()), process.stdout
