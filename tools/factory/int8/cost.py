"""What a student costs before any training: parameters, megabytes and milliseconds, float32 and
int8."""

from __future__ import annotations

import platform
import time

import numpy as np
import onnxruntime
import torch

from edge_runtime.model.encoder import session_options
from tools.factory.int8.export import INPUT, export_onnx
from tools.factory.int8.quantise import quantise
from tools.factory.recipe import StudentRecipe
from tools.factory.students.student import build_student

DIM = 512


def milliseconds(model: bytes, size: int, threads: int, runs: int) -> float:
    """Processor time of one encode, all threads together; the shortest of `runs`, so that other
    work does not count."""
    session = onnxruntime.InferenceSession(
        model, session_options(threads), providers=["CPUExecutionProvider"]
    )
    feed = {INPUT: np.random.default_rng(0).integers(0, 256, (1, size, size, 3), np.uint8)}
    times = []
    for _ in range(runs + 3):
        begin = time.process_time()
        session.run(None, feed)
        times.append(time.process_time() - begin)
    return 1000 * min(times[3:])


def cost(name: str, size: int, threads: int, runs: int) -> list[str]:
    """A row of the table: name, size, parameters, float32 and int8 megabytes, float32 and int8
    milliseconds."""
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
    return [
        name,
        f"{size}",
        f"{parameters:.2f}",
        *(f"{m:.1f}" for m in megabytes),
        *(f"{t:.1f}" for t in times),
    ]


def cost_table(rows: list[list[str]], threads: int) -> str:
    """The rows as Markdown."""
    head = [
        "student",
        "px",
        "M parameters",
        "float32 MB",
        "int8 MB",
        "float32 CPU ms",
        "int8 CPU ms",
    ]
    lines = [" | ".join(head), " | ".join(["---"] * len(head)), *(" | ".join(row) for row in rows)]
    machine = f"{platform.machine()}, ONNX Runtime {onnxruntime.__version__}, {threads} thread(s)"
    return "\n".join([*(f"| {line} |" for line in lines), "", f"Timed on this machine: {machine}."])
