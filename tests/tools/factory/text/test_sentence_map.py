"""The map answers as far from the mean as known rows lie, and no tie counts as found."""

import numpy as np
import pytest

from tools.factory.text import sentence_map
from tools.factory.text.rows import load_text_rows, unique_rows, unit


def test_retrieval_counts_a_tie_as_a_miss():
    truth = unit(np.array([[1.0, 0.0, 0.2], [0.0, 1.0, 0.2]]))
    mean = np.zeros(3, np.float32)
    assert sentence_map.retrieval(truth, truth, mean)["first"] == 1.0
    assert (
        sentence_map.retrieval(np.ones((2, 3), np.float32), np.ones((2, 3), np.float32), mean)[
            "first"
        ]
        == 0.0
    )


def test_estimated_rows_lie_as_far_from_the_mean_as_known_ones(weights):
    """Ridge regression alone answers close to the mean, where a label loses to every label that is
    known exactly."""
    rows = load_text_rows(weights[0])

    def features(prompts):
        return unit(
            np.array([[len(p) % 7, p.count("i") + 1, hash_free(p)] for p in prompts], np.float32)
        )

    def hash_free(prompt):
        return sum(map(ord, prompt)) % 11

    known = np.stack(list(unique_rows(rows).values()))
    mapped = sentence_map.SentenceMap(rows, features)
    far = np.linalg.norm(known - known.mean(axis=0), axis=1).mean()
    step = mapped._map.reach
    assert step == pytest.approx(far, rel=1e-4)
    found = mapped._kernel(features(["a lamp"]), ["lamp"]) @ mapped._map.dual.astype(np.float32)
    assert np.linalg.norm(found) < 0.9 * far  # what it would have been
    estimated = mapped(["lamp"])[0]
    direction = estimated - mapped.mean * (estimated @ mapped.mean) / (mapped.mean @ mapped.mean)
    assert np.linalg.norm(direction) > 0.5 * far
