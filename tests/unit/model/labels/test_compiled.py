"""Words become one matrix, and one id that changes with everything that changes a score."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edge_runtime.errors import ConfigError
from edge_runtime.model.bundle import Bundle
from edge_runtime.model.labels.compiled import compile_labels, load_labels
from edge_runtime.model.labels.label_set import LabelSet, LabelSpec
from edge_runtime.model.labels.text_bank import TextBank


def test_prompts_are_averaged_and_normalised(bundle: Bundle, bank: TextBank):
    label_set = LabelSet((LabelSpec("reddish", prompts=("red", "dark red")),))
    matrix = compile_labels(label_set, bundle, bank).matrix

    expected = np.array([1.8, 0, 0, 0.6]) / np.linalg.norm([1.8, 0.6])
    assert np.linalg.norm(matrix[0]) == pytest.approx(1, abs=1e-5)
    np.testing.assert_allclose(matrix[0][:4], expected, atol=2e-3)


def test_labels_stand_group_by_group_in_the_order_written(bundle: Bundle, bank: TextBank):
    label_set = LabelSet(
        (
            LabelSpec("red", group="b"),
            LabelSpec("green", group="a"),
            LabelSpec("blue", group="b"),
        ),
        background=("grey",),
        temperatures={"b": 2.0},
    )
    compiled = compile_labels(label_set, bundle, bank)

    assert compiled.names == ("green", "red", "blue")
    assert compiled.groups == (("a", slice(0, 1)), ("b", slice(1, 3)))
    assert compiled.scales == (20.0, 10.0)
    assert compiled.matrix.shape == (4, 16)


def test_a_background_label_is_in_no_record(bundle: Bundle, bank: TextBank):
    label_set = LabelSet((LabelSpec("red"), LabelSpec("green", background=True), LabelSpec("blue")))
    assert compile_labels(label_set, bundle, bank).reported == ("red", "blue")


def test_the_id_changes_with_everything_that_can_change_a_score(bundle: Bundle, bank: TextBank):
    sets = [
        LabelSet((LabelSpec("red"),)),
        LabelSet((LabelSpec("green"),)),
        LabelSet((LabelSpec("red", threshold=0.5),)),
        LabelSet((LabelSpec("red", bias=1.0),)),
        LabelSet((LabelSpec("red", group="g"),)),
        LabelSet((LabelSpec("red"),), background=("grey",)),
        LabelSet((LabelSpec("red"),), temperatures={"labels": 2.0}),
        LabelSet((LabelSpec("red"), LabelSpec("green"))),
        LabelSet((LabelSpec("red"), LabelSpec("green", background=True))),
    ]
    ids = [compile_labels(label_set, bundle, bank).id for label_set in sets]

    assert len(set(ids)) == len(sets)
    assert compile_labels(sets[0], bundle, bank).id == ids[0]


def test_an_unknown_phrase_is_explained_with_the_nearest(bundle: Bundle, tmp_path: Path):
    path = tmp_path / "my.yaml"
    path.write_text("labels: [gren]\n")

    with pytest.raises(ConfigError) as error:
        load_labels(str(path), bundle)

    assert str(error.value).startswith(
        f"{path}: the text bank lacks 'a photo of a gren' (near it: green"
    )
