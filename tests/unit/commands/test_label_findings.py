"""Labels that are too alike are found among thousands, and the closest are named."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from edge_runtime.commands.label_findings import (
    close_pairs,
    describe_rows,
    first_few,
    groups_without_background,
)
from edge_runtime.model.bundle import load_bundle
from edge_runtime.model.labels.compiled import compile_labels
from edge_runtime.model.labels.label_set import parse_label_set
from edge_runtime.model.labels.text_bank import TextBank


def test_close_labels_are_counted_all_and_named_only_the_closest(tiny_bundle):
    bundle = load_bundle(tiny_bundle)
    bank = TextBank.from_bundle(bundle)
    labels = compile_labels(parse_label_set("labels: [{name: red}]\n", "x"), bundle, bank)
    rng = np.random.default_rng(0)
    rows = rng.normal(0, 1, (1300, 16)).astype(np.float32)
    names = tuple(f"label {i}" for i in range(1300))
    groups = (
        ("a", slice(0, 1200)),
        ("b", slice(1200, 1300)),
    )  # more than two blocks, and a group of its own
    many = replace(labels, names=names, matrix=rows, groups=groups)
    centred = rows - bank.rows.mean(axis=0, dtype=np.float32)
    centred /= np.linalg.norm(centred, axis=1, keepdims=True)
    cosines = np.triu(centred @ centred.T, 1)
    cosines[:1200, 1200:] = 0
    expected = np.sort(cosines[(cosines >= 0.5) & (cosines < 0.8)])[::-1]
    pairs, count = close_pairs(many, bank, 0.5, 0.8)
    assert count == len(expected) > 1000
    np.testing.assert_allclose([cosine for cosine, _, _ in pairs], expected[:20], atol=1e-5)
    assert all(names.index(one) < names.index(other) for _, one, other in pairs)


@pytest.mark.parametrize(
    ("text", "groups"),
    [
        ("labels: [{name: red}, {name: blue, group: b}]", ["b", "labels"]),
        ("labels: [{name: red}, {name: blue, group: b}, {name: x, background: true}]", ["b"]),
        ("labels: [{name: red}]\nbackground: [green]", []),
    ],
)
def test_a_group_without_background_is_named(text: str, groups: list[str]):
    assert groups_without_background(parse_label_set(text, "x.yaml")) == groups


def test_a_long_list_is_cut_and_says_how_much_is_missing():
    lines = [f"line {i}" for i in range(30)]
    assert first_few(lines)[-2:] == ["    line 19", "    and 10 more"]
    assert first_few(lines[:20]) == [f"    {line}" for line in lines[:20]]


def test_a_row_that_pictures_taught_is_said_to_be_so_and_is_no_new_word(tiny_bundle):
    bundle = load_bundle(tiny_bundle)
    shipped = TextBank.from_bundle(bundle)
    bank = TextBank(shipped.names, shipped.rows, taught=frozenset({shipped.names.index("red")}))
    label_set = parse_label_set("labels: [{name: red}, {name: blue}]", "x.yaml")
    lines = describe_rows(label_set, bundle, bank)
    assert "      1 phrases: bank, taught" in lines
    assert not any("these are new" in line for line in lines)
