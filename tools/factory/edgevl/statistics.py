"""What models say of the pairs, how often they agree with the teacher, how sure a difference is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from tools.factory.edgevl.pairs import VIEWS, JudgedPairs
from tools.factory.int8.parity import run_all
from tools.factory.students.student import to_pixels

CPU = torch.device("cpu")
BATCH = 32
RESAMPLES = 2000  # of the bootstrap
HALVES = ("rgb", "other")  # of a pair
# Of the two halves: embeddings (N * VIEWS, D), and whether each agrees with the teacher's top-1.
Answers = dict[str, tuple[NDArray[np.float32], NDArray[np.bool_]]]
Encoder = Callable[[NDArray[np.uint8]], NDArray[np.float32]]


def torch_encoder(model: nn.Module) -> Encoder:
    """A torch model as an encoder of pictures (N, S, S, 3) uint8 RGB -> (N, D)."""

    def encode(pictures: NDArray[np.uint8]) -> NDArray[np.float32]:
        batches = [pictures[start : start + BATCH] for start in range(0, len(pictures), BATCH)]
        with torch.no_grad():
            parts = [model(to_pixels(batch, CPU)) for batch in batches]
        return torch.cat(parts).numpy()

    return encode


def onnx_encoder(model: bytes) -> Encoder:
    """An ONNX model as an encoder of pictures (N, S, S, 3) uint8 RGB -> (N, D)."""
    return lambda pictures: run_all(model, [picture[None] for picture in pictures])


def answer(encode: Encoder, sets: list[JudgedPairs]) -> list[Answers]:
    """What a model says of every set; each picture is encoded once."""
    answers: list[Answers] = []
    for pairs in sets:
        texts = pairs.superset.rows.T
        truth = (pairs.target @ texts).argmax(1)

        of_halves: Answers = {}
        for half, pictures in zip(HALVES, (pairs.rgb, pairs.other), strict=True):
            embeddings = encode(pictures)
            of_halves[half] = (embeddings, (embeddings @ texts).argmax(1) == truth)
        answers.append(of_halves)
    return answers


def measure(answers: list[Answers], sets: list[JudgedPairs]) -> dict[str, Any]:
    """Agreement with the teacher's top-1 on colour in %, and the cosine to its embedding.

    By set and half: over all views, over whole frames, and over sure pseudo-labels alone. Then the
    means over the sets, by half, and the mean of the two halves.
    """
    report: dict[str, Any] = {}
    for pairs, of_halves in zip(sets, answers, strict=True):
        report[pairs.name] = {
            half: _measure_half(pairs, embeddings, right)
            for half, (embeddings, right) in of_halves.items()
        }

    for half in HALVES:
        agreements = [report[pairs.name][half]["agreement"] for pairs in sets]
        report[half] = round(float(np.mean(agreements)), 2)
    report["average"] = round((report["rgb"] + report["other"]) / 2, 2)
    return report


def _measure_half(
    pairs: JudgedPairs, embeddings: NDArray[np.float32], right: NDArray[np.bool_]
) -> dict[str, float | None]:
    cosine = float((embeddings * pairs.target).sum(1).mean())
    return {
        "agreement": _percent(right),
        "whole frames": _percent(right[pairs.whole]),
        "pseudo-label accuracy": _percent(right[pairs.sure]) if pairs.sure.any() else None,
        "cosine": round(cosine, 4),
    }


def _percent(right: NDArray[np.bool_]) -> float:
    return round(100 * float(right.mean()), 2)


def gain(
    new: list[Answers], old: list[Answers], halves: tuple[str, ...] = HALVES
) -> dict[str, float]:
    """Points of agreement that `new` has more than `old`, and the 95 % interval of that.

    The mean over sets and halves. The interval is by bootstrap over pairs: both models see the same
    pictures, and the views of a pair are no independent observations, so they stay together.
    """
    rng = np.random.default_rng(0)
    means = []
    resampled = []
    for new_set, old_set in zip(new, old, strict=True):
        better = _share_right(new_set, halves) - _share_right(old_set, halves)
        by_pair = 100 * better.reshape(VIEWS, -1).mean(0)
        means.append(by_pair.mean())
        draws = rng.integers(len(by_pair), size=(RESAMPLES, len(by_pair)))
        resampled.append(by_pair[draws].mean(1))

    low, high = np.percentile(np.mean(resampled, 0), (2.5, 97.5))
    return {
        "points": round(float(np.mean(means)), 2),
        "low": round(float(low), 2),
        "high": round(float(high), 2),
    }


def _share_right(answers: Answers, halves: tuple[str, ...]) -> NDArray[np.float64]:
    """(N * VIEWS,): of the halves, the share that was answered right."""
    return np.mean([answers[half][1] for half in halves], 0)
