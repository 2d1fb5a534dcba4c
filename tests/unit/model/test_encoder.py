"""The encoder gives unit-norm embeddings of verified bytes and asks nobody about it."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from edge_runtime.errors import StuckError
from edge_runtime.model.bundle import load_bundle
from edge_runtime.model.encoder import Encoder, default_threads


def test_embeddings_have_unit_norm(tiny_bundle: Path):
    encoder = Encoder(load_bundle(tiny_bundle), threads=1)
    batch = np.random.default_rng(0).integers(0, 255, (1, 32, 32, 3), np.uint8)
    embedding = encoder(batch)
    assert embedding.shape == (16,)
    assert abs(np.linalg.norm(embedding) - 1) < 1e-5


def test_out_of_memory_is_one_line_though_the_error_has_none(tiny_bundle: Path):
    class Starved:
        def run(self, *_: object) -> None:
            raise MemoryError

    encoder = Encoder(load_bundle(tiny_bundle), threads=1)
    encoder._session = Starved()
    with pytest.raises(StuckError, match=r"ONNX Runtime fails \(MemoryError\)"):
        encoder(np.zeros((1, 32, 32, 3), np.uint8))


def test_telemetry_is_off_before_onnxruntime_loads():
    assert os.environ["ORT_DISABLE_TELEMETRY"] == "1"


def test_threads_are_the_cores_but_at_most_four(monkeypatch):
    for cores, threads in ((1, 1), (4, 4), (64, 4)):
        monkeypatch.setattr(os, "sched_getaffinity", lambda _pid, n=cores: set(range(n)))
        assert default_threads() == threads
