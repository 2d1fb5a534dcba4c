"""What a student costs, before any training: parameters, megabytes and milliseconds in float32 and
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
from tools.lib import markdown

DIM = 512  # of the embedding, as in CLIP ViT-B/32
WARM_UP = 3  # runs that are not counted: the first ones allocate memory and pack weights


def milliseconds(model: bytes, size: int, threads: int, runs: int) -> float:
    """Processor time of one encode, all threads together.

    The shortest of `runs` is taken: other work on the machine can only make a run longer.
    """
    session = onnxruntime.InferenceSession(
        model, session_options(threads), providers=["CPUExecutionProvider"]
    )
    feed = {INPUT: np.random.default_rng(0).integers(0, 256, (1, size, size, 3), np.uint8)}
    times = []
    for _ in range(runs + WARM_UP):
        begin = time.process_time()
        session.run(None, feed)
        times.append(time.process_time() - begin)
    return 1000 * min(times[WARM_UP:])


def cost(name: str, size: int, threads: int, runs: int) -> list[str]:
    """A row of the table: name, size, parameters, megabytes and milliseconds, float32 then int8."""
    torch.manual_seed(0)
    student = build_student(StudentRecipe(name), DIM).eval()
    rng = np.random.default_rng(0)
    pictures = [rng.integers(0, 256, (1, size, size, 3), np.uint8) for _ in range(4)]

    # BatchNorm must see some pictures first. Otherwise the activations of random weights grow
    # beyond any range.
    student.train()
    with torch.no_grad():
        for picture in pictures:
            batch = torch.from_numpy(np.repeat(picture, 2, 0))
            student(batch.permute(0, 3, 1, 2).float())

    fp32 = export_onnx(student.eval(), size, "random")
    int8 = quantise(fp32, pictures, "minmax")
    parameters = sum(p.numel() for p in student.parameters()) / 1e6
    megabytes = [f"{len(model) / 1e6:.1f}" for model in (fp32, int8)]
    times = [f"{milliseconds(model, size, threads, runs):.1f}" for model in (fp32, int8)]
    return [name, str(size), f"{parameters:.2f}", *megabytes, *times]


def cost_table(rows: list[list[str]], threads: int) -> str:
    """The rows as Markdown."""
    columns = "student,px,M parameters,float32 MB,int8 MB,float32 CPU ms,int8 CPU ms"
    machine = f"{platform.machine()}, ONNX Runtime {onnxruntime.__version__}, {threads} thread(s)"
    return f"{markdown.table(columns.split(','), rows)}\n\nTimed on this machine: {machine}."
