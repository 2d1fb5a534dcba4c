"""What one ONNX file costs on arm64, alone: the work of an inference, resident memory, size."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tools.a72.cycles import CycleTable
from tools.a72.fit import Work
from tools.a72.model import encoder_work
from tools.arm64.userland import REPOSITORY, Userland

GUEST_MEMORY = REPOSITORY / "tools/arm64/guest_encoder_memory.py"


@dataclass(frozen=True)
class EncoderRow:
    """What one encoder costs.

    Attributes:
        rss_mb: of a process with NumPy and ONNX Runtime only, the guest's pages, in 1e6 bytes.
        size_mb: of the file, in 1e6 bytes.
    """

    work: Work
    rss_mb: float
    size_mb: float

    @classmethod
    def from_dict(cls, row: dict[str, Any]) -> EncoderRow:
        """From its JSON form."""
        return cls(**{**row, "work": Work(**row["work"])})


def measure_encoder(model: Path, userland: Userland, table: CycleTable) -> EncoderRow:
    """Run one ONNX file in the userland with the runtime's session options.

    Raises RuntimeError when it fails there.
    """
    work = encoder_work(model, userland, table)
    process = userland.run(GUEST_MEMORY, model)
    if process.returncode:
        raise RuntimeError(f"{model} fails in the userland: {process.stderr.strip()[-300:]}")
    total: float = json.loads(process.stdout.splitlines()[-1])["total"]
    return EncoderRow(work, total, round(model.stat().st_size / 1e6, 2))
