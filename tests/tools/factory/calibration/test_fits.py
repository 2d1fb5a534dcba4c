"""Scales, thresholds and biases are fitted to what is there, and to nothing else."""

import numpy as np
import pytest

from tools.factory.calibration import fits as cal


def task(true_scale, n=4000, classes=8, seed=0):
    """Cosines whose softmax at `true_scale` is by construction the chance of each class."""
    rng = np.random.default_rng(seed)
    cosines = rng.normal(0.2, 0.05, (n, classes))
    p = cal.metrics.probabilities(cosines, true_scale)
    truth = (rng.random(n)[:, None] > p.cumsum(axis=1)).sum(axis=1)
    return cal.Task("made", cosines, truth)


@pytest.mark.parametrize("true_scale", [15, 60])
def test_the_scale_that_made_the_data_is_found_and_calibrates_it(true_scale):
    made = task(true_scale)
    found = cal.fit_scale([made])
    assert found == pytest.approx(true_scale, rel=0.1)
    assert made.error(found) < 0.03
    assert made.error(5 * true_scale) > 0.2


def test_a_threshold_keeps_its_promise_on_the_pictures_it_was_fitted_on():
    rng = np.random.default_rng(0)
    confidence = rng.random(2000)
    right = rng.random(2000) < confidence
    threshold = cal.threshold_for(confidence, right, 0.8)
    assert right[confidence >= threshold].mean() >= 0.8
    assert right[confidence >= threshold - 0.1].mean() < 0.8


def test_a_label_that_always_scores_high_is_pulled_back():
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 1, (500, 3)) + np.array([4, 0, 0])
    assert (logits.argmax(1) == 0).mean() > 0.9
    full = logits + cal.background_bias(logits, 1.0)
    assert (full.argmax(1) == 0).mean() < 0.45
    assert np.allclose(cal.background_bias(logits, 0.0), 0)


def test_labelled_pictures_undo_a_bias_and_a_wrong_scale():
    rng = np.random.default_rng(1)
    truth = rng.integers(-1, 3, 1500)
    clean = rng.normal(0, 1, (1500, 4))
    clean[np.arange(1500), truth] += 2.5  # -1: the background column
    wrong = clean * 6
    wrong[:, 0] += 8
    temperature, bias = cal.fit_labelled(wrong[:, :3], wrong[:, 3:], truth)
    fitted = cal.group_probabilities(wrong[:, :3] / temperature + bias, wrong[:, 3:] / temperature)
    before = cal.group_probabilities(wrong[:, :3], wrong[:, 3:])
    known = truth >= 0

    def share(p):
        return (p[known].argmax(1) == truth[known]).mean()

    assert share(fitted) > share(before) + 0.05
    assert temperature > 2
    assert bias[0] < min(bias[1:]) - 0.5


def test_auroc_is_one_when_known_and_unknown_are_apart_and_half_when_they_are_not():
    apart = cal.auroc(np.linspace(1, 2, 50), np.linspace(-1, 0, 50))
    mixed = cal.auroc(np.ones(50), np.ones(50))
    assert apart == 1.0
    assert mixed == 0.5


def test_rare_labels_count_as_much_as_frequent_ones():
    weights = cal.balanced(["car"] * 8 + ["dog"] * 2)
    assert weights[:8].sum() == pytest.approx(weights[8:].sum())


def test_a_threshold_goes_by_the_weights_of_the_answers():
    confidence = np.array([0.9, 0.8, 0.7, 0.6])
    right = np.array([True, False, True, False])
    assert cal.threshold_for(confidence, right, 0.6) == 0.7
    # Where right answers are of a frequent label, which counts less, they do not outweigh.
    weights = np.array([0.1, 1.0, 0.1, 1.0])
    assert cal.threshold_for(confidence, right, 0.6, weights) == 0.9
