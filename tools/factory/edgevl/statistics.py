"""What models say of the pairs, how often they agree with the teacher, and how sure a difference
is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from tools.factory.edgevl.pairs import VIEWS, TestSet
from tools.factory.int8.parity import run_all
from tools.factory.students.student import to_pixels

CPU = torch.device("cpu")
HALVES = ("rgb", "other")  # of a pair
# Of the two halves: embeddings (N * VIEWS, D), and whether each agrees with the teacher's top-1.
Answers = dict[str, tuple[NDArray[np.float32], NDArray[np.bool_]]]
Encoder = Callable[[NDArray[np.uint8]], NDArray[np.float32]]


def answer(encode: Encoder, sets: list[TestSet]) -> list[Answers]:
    """What a model says of every set; each picture is encoded once."""
    answers: list[Answers] = []
    for s in sets:
        wanted = (s.target @ s.superset.rows.T).argmax(1)
        found = {
            half: encode(pictures) for half, pictures in zip(HALVES, (s.rgb, s.other), strict=True)
        }
        answers.append(
            {half: (e, (e @ s.superset.rows.T).argmax(1) == wanted) for half, e in found.items()}
        )
    return answers


def measure(answers: list[Answers], sets: list[TestSet]) -> dict[str, Any]:
    """In %: agreement with the teacher's top-1 on colour, and on sure pseudo-labels alone; cosine
    to its embedding."""
    report: dict[str, Any] = {}
    for s, of_set in zip(sets, answers, strict=True):
        report[s.name] = {
            half: {
                "agreement": round(100 * float(right.mean()), 2),
                "whole frames": round(100 * float(right[s.whole].mean()), 2),
                "pseudo-label accuracy": round(100 * float(right[s.sure].mean()), 2)
                if s.sure.any()
                else None,
                "cosine": round(float((found * s.target).sum(1).mean()), 4),
            }
            for half, (found, right) in of_set.items()
        }
    for half in HALVES:
        report[half] = round(float(np.mean([report[s.name][half]["agreement"] for s in sets])), 2)
    report["average"] = round((report["rgb"] + report["other"]) / 2, 2)
    return report


def gain(
    new: list[Answers], old: list[Answers], halves: tuple[str, ...] = HALVES
) -> dict[str, float]:
    """Points of agreement that `new` has more than `old`, mean over sets and halves, and the 95 %
    interval of that.

    By bootstrap over pairs: both models see the same pictures, and the views of a pair stay
    together.
    """
    rng = np.random.default_rng(0)
    means = []
    drawn = []
    for of_set in zip(new, old, strict=True):
        counted = [np.mean([answers[half][1] for half in halves], 0) for answers in of_set]
        by_pair = 100 * (counted[0] - counted[1]).reshape(VIEWS, -1).mean(0)
        means.append(by_pair.mean())
        drawn.append(by_pair[rng.integers(len(by_pair), size=(2000, len(by_pair)))].mean(1))
    low, high = np.percentile(np.mean(drawn, 0), (2.5, 97.5))
    return {
        "points": round(float(np.mean(means)), 2),
        "low": round(float(low), 2),
        "high": round(float(high), 2),
    }


def torch_encoder(model: nn.Module) -> Encoder:
    def encode(pictures: NDArray[np.uint8]) -> NDArray[np.float32]:
        with torch.no_grad():
            parts = [
                model(to_pixels(pictures[i : i + 32], CPU)) for i in range(0, len(pictures), 32)
            ]
        return torch.cat(parts).numpy()

    return encode


def onnx_encoder(model: bytes) -> Encoder:
    return lambda pictures: run_all(model, [p[None] for p in pictures])
