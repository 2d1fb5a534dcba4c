"""The installed wheel on an emulated Cortex-A72: it starts, labels, agrees with x86, is small."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.commands import missing
from tools.a72 import keep
from tools.a72.cycles import disassemble
from tools.a72.trace import trace
from tools.arm64 import debian
from tools.arm64.userland import Userland

pytestmark = pytest.mark.arm64

BUDGET_RSS_MB = 180.0
GOAL_RSS_MB = 90.0
SAME_COSINE = 0.995

EMBED = """
import sys
import numpy as np
from edge_runtime.model.bundle import load_bundle
from edge_runtime.model.encoder import Encoder
from edge_runtime.model.preprocess import Preprocessor
from edge_runtime.system.opencv import cv2
from pathlib import Path

bundle = load_bundle(Path(sys.argv[1]))
encode, preprocess = Encoder(bundle, 1), Preprocessor(bundle.manifest.input)
rows = [encode(preprocess(cv2.imread(path), "rgb")) for path in sys.argv[3:]]
np.save(sys.argv[2], np.stack(rows))
"""


def check(done: subprocess.CompletedProcess[str]) -> str:
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


def test_every_module_of_the_runtime_imports(userland: Userland) -> None:
    program = """
import pkgutil, platform, edge_runtime, importlib
names = [m.name for m in pkgutil.walk_packages(edge_runtime.__path__, "edge_runtime.")]
optional = ("paho", "cryptography", "skimage", "pyarrow")
for name in names:
    if not name.endswith("__main__"):
        try:
            importlib.import_module(name)
        except ImportError as error:
            assert error.name.split(".")[0] in optional, (name, error)
print(platform.machine(), len(names))
"""
    machine, count = check(userland.run("-c", program)).split()
    assert machine == "aarch64"
    assert int(count) > 20


def test_an_instruction_after_armv8_0_kills_the_program(userland: Userland) -> None:
    """All other tests here rely on it: a wheel that dies on a Pi 4 dies in the emulator too."""
    program = """
import ctypes, mmap
code = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
code.write(bytes.fromhex("{word}c0035fd6"))
ctypes.CFUNCTYPE(None)(ctypes.addressof(ctypes.c_char.from_buffer(code)))()
"""
    nop, sdot = "1f2003d5", "0094824e"
    check(userland.run("-c", program.format(word=nop)))
    assert userland.run("-c", program.format(word=sdot)).returncode == -signal.SIGILL


def test_int8_embeddings_are_those_of_x86(
    userland: Userland, default_bundle: Path, photographs: list[Path], tmp_path: Path
) -> None:
    program = tmp_path / "embed.py"
    program.write_text(EMBED)
    arguments = [default_bundle, tmp_path / "arm64.npy", *photographs]
    check(userland.run(program, *arguments))
    arguments[1] = tmp_path / "x86.npy"
    native = [sys.executable, str(program), *(str(a) for a in arguments)]
    here = {**os.environ, "PYTHONPATH": str(keep.REPOSITORY)}
    check(subprocess.run(native, capture_output=True, text=True, check=False, env=here))
    arm64, x86 = np.load(tmp_path / "arm64.npy"), np.load(tmp_path / "x86.npy")
    cosines = (arm64 * x86).sum(1)
    print("cosine of arm64 and x86 embeddings:", np.round(cosines, 5))
    assert cosines.min() >= SAME_COSINE


def test_every_executed_instruction_is_armv8_0(userland: Userland, default_bundle: Path) -> None:
    """Whole frames and the start: LLVM knows each executed word for the Cortex-A72."""
    try:
        pieces, _ = trace(
            userland, keep.REPOSITORY / "tools/a72/guest_frame.py", default_bundle, "everyday"
        )
    except debian.MissingPieceError as error:
        missing(error)
    words = {
        code[i : i + 8] for piece in pieces for code in piece.blocks for i in range(0, len(code), 8)
    }
    assert len(words) > 10_000
    disassemble(sorted(words))  # raises UnknownInstructionError


def test_bench_runs_and_reports(userland: Userland, default_bundle: Path) -> None:
    arguments = [
        "-m",
        "edge_runtime",
        "bench",
        "--json",
        "--seconds",
        "1",
        "--bundle",
        default_bundle,
    ]
    result = json.loads(check(userland.run(*arguments)))
    assert result["frames"] >= 1
    assert result["machine"]["arch"] == "aarch64"


def test_no_more_instructions_and_memory_than_kept(userland: Userland) -> None:
    """A pipeline that regresses by 3 % in instructions or 5 MB fails here, with the number."""
    try:
        figures = keep.measure(userland)
    except debian.MissingPieceError as error:
        missing(error)
    print(
        f"{figures.bundle}: {figures.instructions / 1e6:.2f} M instructions a frame, "
        f"guest RSS {figures.rss_mb:.1f} MB "
        f"(budget {BUDGET_RSS_MB:.0f}, goal {GOAL_RSS_MB:.0f})"
    )
    assert figures.rss_mb <= BUDGET_RSS_MB
    complaints = figures.complaints(keep.load_kept())
    assert not complaints, (
        "; ".join(complaints) + "; if meant, run `python -m tools.a72.keep --write`"
    )
