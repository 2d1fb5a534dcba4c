"""Cycles of basic blocks on a Cortex-A72, from LLVM's scheduling model (llvm-mca).

A block is simulated as the body of a loop, so consecutive runs overlap as they do in hardware.
Cache misses and branch mispredictions are not part of it. `tools.a72.fit` adds the first; the
second end up in its coefficients.
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
ITERATIONS = 50  # enough to hide how the first one fills the pipeline
# Blocks are simulated in the order of their weight, until this share of all instructions is
# covered: the rest is thousands of blocks that hardly ever run.
COVERAGE = 0.995
REGIONS_A_RUN = 200  # programs that one run of llvm-mca simulates
WORD = 8  # hex digits of an instruction

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
    """For example `14.0.6`. The scheduling model changes between releases, so a fit belongs to one
    of them."""
    text = debian.run(_tool("llvm-mca"), "--version", capture=True)
    match = re.search(r"LLVM version (\S+)", text)
    return match[1] if match else "unknown"


def _instructions(code: str) -> list[str]:
    """The hex words of a block."""
    return [code[i : i + WORD] for i in range(0, len(code), WORD)]


def _bytes_of(word: str) -> str:
    """A word as llvm-mc reads it: bytes in the order of memory, lowest first."""
    return " ".join(f"0x{word[i : i + 2]}" for i in (6, 4, 2, 0))


def disassemble(words: list[str]) -> dict[str, str]:
    """Assembly text of each 32-bit hex word.

    Raises UnknownInstructionError for a word that is no instruction of a Cortex-A72.
    """
    unique = sorted(set(words))
    process = subprocess.run(
        [_tool("llvm-mc"), "--disassemble", "-triple=aarch64", f"-mcpu={CPU}"],
        input="".join(f"{_bytes_of(word)}\n" for word in unique),
        capture_output=True,
        text=True,
        check=False,
    )

    # What is left without empty lines and directives is one line for each word, in order.
    lines = [line.strip() for line in process.stdout.splitlines()]
    lines = [line for line in lines if line and not line.startswith(".")]
    if len(lines) != len(unique):
        numbers = re.findall(r"<stdin>:(\d+):", process.stderr)
        bad = sorted({unique[int(number) - 1] for number in numbers})
        words_or_message = " ".join(bad[:8]) or process.stderr[:200]
        raise UnknownInstructionError(f"not in ARMv8.0: {words_or_message}")
    return dict(zip(unique, lines, strict=True))


def split_write_back(text: str) -> str:
    """Write a load or store with write-back addressing as two instructions: access and addition.

    The processor splits it in the same way. llvm-mca does not, and delays the new address until the
    data of a store is ready, which would serialise loops that the hardware overlaps.
    """
    match = _PRE_INDEX.match(text)
    if match:
        base = match["base"]
        return f"{_step(base, '#' + match['step'])}\n{match['head']}{base}]"

    match = _POST_INDEX.match(text)
    if match:
        base = match["base"]
        return f"{match['head']}{base}]\n{_step(base, match['step'])}"
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
    process = subprocess.run(
        [_tool("llvm-mca"), "-mtriple=aarch64", f"-mcpu={CPU}", *options],
        input=source,
        capture_output=True,
        text=True,
        check=False,
    )

    cycles: list[float | None] = [None] * len(programs)
    region = 0
    for line in process.stdout.splitlines():
        heading = re.match(r"\[\d+\] Code Region - r(\d+)", line)
        if heading:
            region = int(heading[1])
        total = re.match(r"Total Cycles:\s+(\d+)", line)
        if total:
            cycles[region] = int(total[1]) / ITERATIONS
    return cycles


def _simulate(programs: list[str]) -> list[float | None]:
    """Cycles per execution of each program, None where llvm-mca has no answer, as for an access to
    a system register.

    llvm-mca stops at the first program that it refuses, so a failed run is halved until that
    program is alone.
    """
    cycles = _run_mca(programs)
    if None not in cycles or len(programs) == 1:
        return cycles
    middle = len(programs) // 2
    return _simulate(programs[:middle]) + _simulate(programs[middle:])


class CycleTable:
    """Cycles of blocks by their hex words; saves what it has simulated in `path`."""

    def __init__(self, path: Path | None = None) -> None:
        self.path = path or BUILD / f"cycles-{llvm_version()}.json"
        self.known: dict[str, float] = (
            json.loads(self.path.read_text()) if self.path.exists() else {}
        )

    def add(self, codes: list[str]) -> None:
        """Simulate the blocks that are not known yet.

        A block that llvm-mca refuses counts as one instruction a cycle.
        """
        new = [code for code in dict.fromkeys(codes) if code not in self.known]
        if not new:
            return

        text = disassemble([word for code in new for word in _instructions(code)])
        programs = []
        for code in new:
            lines = [split_write_back(text[word]) for word in _instructions(code)]
            programs.append("\n".join(lines))

        for start in range(0, len(new), REGIONS_A_RUN):
            answers = _simulate(programs[start : start + REGIONS_A_RUN])
            for code, answer in zip(new[start : start + REGIONS_A_RUN], answers, strict=True):
                self.known[code] = len(code) / WORD if answer is None else answer

        # Another process may read the table meanwhile, so it is replaced as a whole.
        self.path.parent.mkdir(parents=True, exist_ok=True)
        part = self.path.with_suffix(".part")
        part.write_text(json.dumps(self.known))
        part.replace(self.path)

    def cycles(self, blocks: Counter[str]) -> float:
        """Cycles of all executions in `blocks`.

        The tail that is not simulated counts at the mean rate of the rest.
        """
        size = {code: count * (len(code) // WORD) for code, count in blocks.items()}
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
