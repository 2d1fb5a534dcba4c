"""Rows come in one spelling, and every spelling of a held-out name is held out."""

import numpy as np
import pytest

from edge_runtime.errors import DataError, NoInputError
from tools.factory.text import rows as text_rows


@pytest.mark.parametrize(
    "phrase", ["snowy road", "A photo of the Snowy_Road", "  the snowy  road", "a snowy road"]
)
def test_phrases_are_spelled_as_the_bank_spells_them(phrase):
    assert text_rows.as_prompt(phrase) == "a snowy road"


def test_the_step_that_underscores_make_is_taken_back(weights):
    path, plain = weights
    rows = text_rows.unique_rows(text_rows.load_text_rows(path))
    moved = np.stack([rows[f"thing {i}"] for i in range(15, 20)])  # known with underscores only
    assert ((moved * plain[15:]).sum(axis=1) > 0.98).all()


def test_rows_that_are_missing_or_damaged_are_one_line(weights):
    path, _ = weights
    (path / "clip_vitb32_text_extra.npy").write_bytes(b"half an ar")
    with pytest.raises(DataError, match="cannot be read"):
        text_rows.load_text_rows(path)
    (path / "clip_vitb32_text_extra.npy").unlink()
    with pytest.raises(NoInputError, match=r"clip_vitb32_text_extra\.npy: missing"):
        text_rows.load_text_rows(path)


def test_imagenet_rows_stand_for_their_first_synonym_and_captions_are_no_names(weights):
    rows = text_rows.unique_rows(text_rows.load_text_rows(weights[0]))
    assert "tench" in rows
    assert not any("tinca" in name or name.endswith(".") for name in rows)


def test_without_takes_every_spelling_of_a_held_out_name(weights):
    rows = text_rows.load_text_rows(weights[0])
    left = text_rows.without(rows, ["thing-7"])
    assert rows.names.count("thing 7") == 2
    assert "thing 7" not in left.names


def test_held_out_names_do_not_depend_on_the_order_of_the_bank(weights):
    rows = text_rows.load_text_rows(weights[0])
    order = np.arange(len(rows.names))[::-1]
    turned = text_rows.TextRows(
        tuple(rows.names[i] for i in order),
        tuple(rows.prompts[i] for i in order),
        rows.vectors[order],
        rows.kinds[order],
        rows.words[order],
    )
    assert text_rows.held_out_names(rows, "objects") == text_rows.held_out_names(turned, "objects")


def test_the_step_of_a_photo_is_taken_back_from_scenes(weights):
    path, plain = weights
    rows = text_rows.unique_rows(text_rows.load_text_rows(path))
    assert rows["airport terminal"] @ plain[19] > 0.98


@pytest.mark.parametrize("name", ["geese", "river"])
def test_rows_without_a_licence_or_with_odd_templates_are_left_out(weights, name):
    assert name not in text_rows.load_text_rows(weights[0]).names


def test_a_sign_is_called_a_sign(weights):
    assert "stop traffic sign" in text_rows.unique_rows(text_rows.load_text_rows(weights[0]))


def test_names_are_held_out_by_kind_of_word_and_none_that_is_of_two_kinds(weights):
    rows = text_rows.load_text_rows(weights[0])
    objects = text_rows.held_out_names(rows, "objects")
    assert len(objects) == 4
    assert not set(objects) & {f"thing {i}" for i in range(4)}  # these are scenes too


def test_names_that_do_not_fit_their_rows_are_one_line(weights):
    path, plain = weights
    np.save(path / "clip_vitb32_text_more.npy", plain[:2])
    with pytest.raises(DataError, match="differ in number"):
        text_rows.load_text_rows(path)
