"""A fitted map answers near the phrases it knows, also after a round trip through bytes."""

from __future__ import annotations

import numpy as np
import pytest

from edge_runtime.model.text.phrase_map import Kernel, PhraseMap, letter_ngrams

NAMES = ("snowy road", "wet road", "cat")


def features() -> np.ndarray:
    return np.eye(3, dtype=np.float32)


def phrase_map() -> PhraseMap:
    return PhraseMap(
        names=NAMES,
        support=np.eye(3, dtype=np.int8) * 127,
        scale=np.full((3, 1), 1 / 127, np.float32),
        dual=np.eye(3, dtype=np.float16),
        basis=np.eye(3, 4, dtype=np.float16),
        mean=np.array([0, 0, 0, 1], np.float32),
        reach=np.float32(2),
    )


def test_the_weights_of_a_phrase_have_unit_norm():
    assert sum(weight**2 for weight in letter_ngrams("banana").values()) == pytest.approx(1)


def test_the_kernel_is_largest_for_the_phrase_itself_and_sees_spelling():
    values = Kernel(features(), NAMES)(features(), NAMES)

    assert values.argmax(axis=1).tolist() == [0, 1, 2]
    assert values[0, 1] > values[0, 2]  # both are roads, and their features say nothing of it


def test_answers_have_unit_norm_and_lie_nearest_to_their_own_direction():
    fitted = phrase_map()
    rows = fitted.rows(fitted.kernel(), features(), NAMES)

    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-6)
    assert rows[:, :3].argmax(axis=1).tolist() == [0, 1, 2]


def test_a_map_is_the_same_after_its_bytes_and_a_mixed_one_is_refused():
    data = phrase_map().to_npz()
    again = PhraseMap.from_npz(data)
    assert again.names == NAMES
    assert again.to_npz() == data

    mixed = PhraseMap(
        names=NAMES[:2],
        support=again.support,
        scale=again.scale,
        dual=again.dual,
        basis=again.basis,
        mean=again.mean,
        reach=again.reach,
    )
    with pytest.raises(ValueError, match="differ in length"):
        PhraseMap.from_npz(mixed.to_npz())
