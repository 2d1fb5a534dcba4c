"""Cycles of basic blocks on a Cortex-A72, from LLVM's scheduling model (llvm-mca).

A block is simulated as the body of a loop, so consecutive runs overlap as they do in hardware.
Cache misses and branch mispredictions are not part of it; `tools.a72.fit` accounts for the first
and absorbs the second.
"""

from __future__ import annotations

import json
import re
import subprocess
from collections import Counter
from functools import cache
from pathlib import Path

from tools.a72.trace import BUILD
from tools.arm64 import debian

CPU = "cortex-a72"
ITERATIONS = 50
# blocks are simulated, most executed first, until this share of all instructions is covered
COVERAGE = 0.995
REGIONS_A_RUN = 200

_BASE = r"(?P<head>.*\[)(?P<base>x\d+|sp)"
_PRE_INDEX = re.compile(_BASE + r", #(?P<step>-?\w+)\]!$")
_POST_INDEX = re.compile(_BASE + r"\], (?P<step>#-?\w+|x\d+)$")


class UnknownInstructionError(RuntimeError):
    """An executed word that a Cortex-A72 (ARMv8.0) does not have."""


@cache
def _tool(name: str) -> str:
    return debian.require(name, "llvm")


@cache
def llvm_version() -> str:
    """`14.0.6`, say: the scheduling model changes between releases, so a fit belongs to one of
    them."""
    text = debian.run(_tool("llvm-mca"), "--version", capture=True)
    found = re.search(r"LLVM version (\S+)", text)
    return found[1] if found else "unknown"


def _assemble_input(words: list[str]) -> str:
    return "".join(" ".join(f"0x{word[i : i + 2]}" for i in (6, 4, 2, 0)) + "\n" for word in words)


def disassemble(words: list[str]) -> dict[str, str]:
    """Assembly text of each 32-bit hex word as a Cortex-A72 knows it; UnknownInstructionError
    otherwise."""
    unique = sorted(set(words))
    done = subprocess.run(
        [_tool("llvm-mc"), "--disassemble", "-triple=aarch64", f"-mcpu={CPU}"],
        input=_assemble_input(unique),
        capture_output=True,
        text=True,
        check=False,
    )
    lines = [line.strip() for line in done.stdout.splitlines()]
    lines = [line for line in lines if line and not line.startswith(".")]
    if len(lines) != len(unique):
        bad = sorted({unique[int(n) - 1] for n in re.findall(r"<stdin>:(\d+):", done.stderr)})
        raise UnknownInstructionError(f"not in ARMv8.0: {' '.join(bad[:8]) or done.stderr[:200]}")
    return dict(zip(unique, lines, strict=True))


def split_write_back(text: str) -> str:
    """A load or store with write-back addressing as the access and the addition it cracks into.

    llvm-mca otherwise delays the new address until the data of a store is ready, which would
    serialise loops that the hardware overlaps.
    """
    if found := _PRE_INDEX.match(text):
        return f"{_step(found['base'], '#' + found['step'])}\n{found['head']}{found['base']}]"
    if found := _POST_INDEX.match(text):
        return f"{found['head']}{found['base']}]\n{_step(found['base'], found['step'])}"
    return text


def _step(base: str, step: str) -> str:
    if step.startswith("#-"):
        return f"sub {base}, {base}, #{step[2:]}"
    return f"add {base}, {base}, {step}"


def _run_mca(programs: list[str]) -> list[float | None]:
    """Cycles per execution of each program; None from the first one on that llvm-mca refuses."""
    source = "".join(
        f"# LLVM-MCA-BEGIN r{i}\n{program}\n# LLVM-MCA-END r{i}\n"
        for i, program in enumerate(programs)
    )
    options = [f"-iterations={ITERATIONS}", "-instruction-info=0", "-resource-pressure=0"]
    done = subprocess.run(
        [_tool("llvm-mca"), "-mtriple=aarch64", f"-mcpu={CPU}", *options],
        input=source,
        capture_output=True,
        text=True,
        check=False,
    )
    cycles: list[float | None] = [None] * len(programs)
    region = 0
    for line in done.stdout.splitlines():
        if found := re.match(r"\[\d+\] Code Region - r(\d+)", line):
            region = int(found[1])
        elif found := re.match(r"Total Cycles:\s+(\d+)", line):
            cycles[region] = int(found[1]) / ITERATIONS
    return cycles


def _simulate(programs: list[str]) -> list[float | None]:
    """Cycles per execution of each program, None where llvm-mca has no answer (system registers,
    say).

    One refused program spoils its whole run, so a run that fails is halved until the culprit stands
    alone.
    """
    cycles = _run_mca(programs)
    if None not in cycles or len(programs) == 1:
        return cycles
    middle = len(programs) // 2
    return _simulate(programs[:middle]) + _simulate(programs[middle:])


class CycleTable:
    """Cycles of blocks by their hex words; remembers what it has simulated in `path`."""

    def __init__(self, path: Path | None = None) -> None:
        self.path = path or BUILD / f"cycles-{llvm_version()}.json"
        self.known: dict[str, float] = (
            json.loads(self.path.read_text()) if self.path.exists() else {}
        )

    def add(self, codes: list[str]) -> None:
        """Simulate the blocks not yet known. One that llvm-mca refuses counts one instruction a
        cycle."""
        new = [code for code in dict.fromkeys(codes) if code not in self.known]
        if not new:
            return
        text = disassemble([code[i : i + 8] for code in new for i in range(0, len(code), 8)])
        programs = [
            "\n".join(split_write_back(text[code[i : i + 8]]) for i in range(0, len(code), 8))
            for code in new
        ]
        for start in range(0, len(new), REGIONS_A_RUN):
            answers = _simulate(programs[start : start + REGIONS_A_RUN])
            for code, answer in zip(new[start : start + REGIONS_A_RUN], answers, strict=True):
                self.known[code] = len(code) / 8 if answer is None else answer
        self.path.parent.mkdir(parents=True, exist_ok=True)
        part = self.path.with_suffix(".part")
        part.write_text(json.dumps(self.known))
        part.replace(self.path)

    def cycles(self, blocks: Counter[str]) -> float:
        """Cycles of all executions in `blocks`, the uncovered tail at the mean rate of the rest."""
        size = {code: count * (len(code) // 8) for code, count in blocks.items()}
        total = sum(size.values())
        covered = 0
        chosen = []
        for code in sorted(size, key=size.__getitem__, reverse=True):
            if covered >= COVERAGE * total:
                break
            chosen.append(code)
            covered += size[code]
        self.add(chosen)
        return sum(self.known[code] * blocks[code] for code in chosen) * total / max(covered, 1)
