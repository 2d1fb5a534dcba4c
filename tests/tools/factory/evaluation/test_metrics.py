"""Metrics against cases whose answer is known without them."""

from __future__ import annotations

import numpy as np
import pytest

from tools.factory.evaluation import metrics

truth = np.array([0, 1, 2, 2])
COSINES = np.float32([[0.9, 0.1, 0.0], [0.8, 0.7, 0.1], [0.1, 0.2, 0.3], [0.5, 0.4, 0.45]])


def test_top_k_counts_the_true_class_among_the_k_best() -> None:
    assert metrics.top_k(COSINES, truth, 1) == 0.5
    assert metrics.top_k(COSINES, truth, 2) == 1.0
    assert metrics.top_k(COSINES, truth, 9) == 1.0


def test_auc_is_the_share_of_pairs_in_the_right_order() -> None:
    areas = []
    for c in range(3):
        pairs = [(p, n) for p in COSINES[truth == c, c] for n in COSINES[truth != c, c]]
        areas.append(np.mean([1.0 if p > n else 0.5 if p == n else 0.0 for p, n in pairs]))
    assert metrics.macro_auc(COSINES, truth) == pytest.approx(np.mean(areas))
    assert metrics.macro_auc(np.zeros((4, 3), np.float32), truth) == pytest.approx(0.5)


def test_calibration_error_is_zero_when_confidence_is_accuracy() -> None:
    sure = np.array([[0.75, 0.25]] * 4)
    assert metrics.calibration_error(sure, np.array([0, 0, 0, 1])) == pytest.approx(0)
    assert metrics.calibration_error(sure, np.array([1, 1, 1, 1])) == pytest.approx(0.75)


def test_confusion_rows_sum_to_one() -> None:
    table = metrics.confusion(COSINES, truth)
    np.testing.assert_allclose(table.sum(1), 1)
    assert table[2].tolist() == [0.5, 0, 0.5]
