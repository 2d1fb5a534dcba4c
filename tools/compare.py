"""What each student costs before any training: `python -m tools.compare`.

Weights are random (speed and size do not depend on them); each student is exported and quantised as a bundle's is,
and timed with the runtime's own session options, one picture at a time. Milliseconds are this machine's: for a
Cortex-A72 see `python -m tools.a72.model BUNDLE` (modelled).
"""

from __future__ import annotations

import argparse
import platform
import sys
import time
from pathlib import Path

import numpy as np
import onnxruntime
import torch
from tqdm import tqdm

from edge_runtime.errors import EdgeLabelError
from edge_runtime.model.encoder import session_options
from tools.export import INPUT, export_onnx
from tools.factory.recipe import StudentRecipe
from tools.factory.students import STUDENTS, build_student
from tools.quantize import quantise

DIM = 512


def milliseconds(model: bytes, size: int, threads: int, runs: int) -> float:
    """Processor time of one encode, all threads together; the shortest of `runs`, so that other work does not count."""
    session = onnxruntime.InferenceSession(model, session_options(threads), providers=["CPUExecutionProvider"])
    feed = {INPUT: np.random.default_rng(0).integers(0, 256, (1, size, size, 3), np.uint8)}
    times = []
    for _ in range(runs + 3):
        begin = time.process_time()
        session.run(None, feed)
        times.append(time.process_time() - begin)
    return 1000 * min(times[3:])


def cost(name: str, size: int, threads: int, runs: int) -> list[str]:
    """A row of the table: name, size, parameters, float32 and int8 megabytes, float32 and int8 milliseconds."""
    torch.manual_seed(0)
    student = build_student(StudentRecipe(name), DIM).eval()
    rng = np.random.default_rng(0)
    pictures = [rng.integers(0, 256, (1, size, size, 3), np.uint8) for _ in range(4)]
    with torch.no_grad():
        for picture in pictures:
            student.train()(torch.from_numpy(np.repeat(picture, 2, 0)).permute(0, 3, 1, 2).float())
    fp32 = export_onnx(student.eval(), size, "random")
    int8 = quantise(fp32, pictures, "minmax")
    parameters = sum(p.numel() for p in student.parameters()) / 1e6
    times = [milliseconds(model, size, threads, runs) for model in (fp32, int8)]
    megabytes = [len(model) / 1e6 for model in (fp32, int8)]
    return [name, f"{size}", f"{parameters:.2f}", *(f"{m:.1f}" for m in megabytes), *(f"{t:.1f}" for t in times)]


def table(rows: list[list[str]], threads: int) -> str:
    """The rows as Markdown."""
    head = ["student", "px", "M parameters", "float32 MB", "int8 MB", "float32 CPU ms", "int8 CPU ms"]
    lines = [" | ".join(head), " | ".join(["---"] * len(head)), *(" | ".join(row) for row in rows)]
    machine = f"{platform.machine()}, ONNX Runtime {onnxruntime.__version__}, {threads} thread(s)"
    return "\n".join([*(f"| {line} |" for line in lines), "", f"Timed on this machine: {machine}."])


def main(argv: list[str] | None = None) -> int:
    """Run the verb; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tools.compare", description=__doc__.split("\n\n")[0])
    parser.add_argument("--student", action="append", choices=list(STUDENTS), help="only this one (repeatable)")
    parser.add_argument("--size", type=int, default=192, help="side of the input in pixels (192)")
    parser.add_argument("--threads", type=int, default=1, help="for one encode (1)")
    parser.add_argument("--runs", type=int, default=50, help="encodes timed, of which the shortest counts (50)")
    parser.add_argument("--output", type=Path, help="also write the table here")
    args = parser.parse_args(argv)
    try:
        names = tqdm(args.student or list(STUDENTS), desc="students", unit="student")
        text = table([cost(name, args.size, args.threads, args.runs) for name in names], args.threads)
    except EdgeLabelError as error:
        print(f"compare: {error}", file=sys.stderr)
        return error.exit_code
    print(text)
    if args.output:
        args.output.write_text(text + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
