"""The verbs of labels: any phrase is taken, and a mistake is one line and nothing half-written."""

from __future__ import annotations

import json

import numpy as np
import pytest

from edge_runtime.cli import main
from edge_runtime.model.bundle import load_bundle
from edge_runtime.model.labels.compiled import load_labels
from edge_runtime.model.labels.label_set import parse_label_set
from edge_runtime.model.labels.phrase_rows import PhraseRows
from tests.tiny_text import write_tiny_text_encoder
from tests.unit.commands.label_sets import build


@pytest.mark.parametrize(
    ("text", "warned"),
    [
        (
            "labels: [{name: red}, {name: blue, group: b}]",
            "some label of group b, labels always wins",
        ),
        (
            "labels: [{name: red}, {name: blue, group: b}, {name: green, background: true}]",
            "of group b always",
        ),
        ("labels: [{name: red}]\nbackground: [green]", ""),
    ],
)
def test_a_group_that_always_has_a_winner_is_pointed_out(
    tiny_bundle, tmp_path, capsys, text: str, warned: str
):
    path = tmp_path / "bare.yaml"
    path.write_text(text)
    assert main(["labels", "check", str(path), "--bundle", str(tiny_bundle)]) == 0
    out = capsys.readouterr().out
    assert warned in out
    assert ("always wins" in out) == bool(warned)


def test_a_check_makes_the_rows_of_new_words_and_shows_where_they_are_kept(
    tiny_bundle, label_set, tmp_path, capsys, monkeypatch
):
    write_tiny_text_encoder(tiny_bundle.parent / "text-encoder")
    command = ["labels", "check", str(label_set), "--bundle", str(tiny_bundle)]
    assert main(command) == 0
    out = capsys.readouterr().out
    assert "2 phrases: tiny-text-1.0.0 " in out
    assert f"rows kept in {label_set.with_suffix('.embeddings')}\n" in out

    # Rows beside it that an encoder made exactly are left alone.
    monkeypatch.setenv("STATE_DIRECTORY", str(tmp_path / "state"))
    row = np.eye(1, 16, dtype=np.float16)
    exact = PhraseRows(("sea",), row, "clip", False, "test/tiny", "")
    exact.write(label_set.with_suffix(".embeddings"))
    assert main(command) == 0
    assert f"rows kept in {tmp_path}/state/embeddings/my-" in capsys.readouterr().out


def test_a_word_that_is_spelt_almost_as_a_name_is_asked_about(tiny_bundle, tmp_path, capsys):
    write_tiny_text_encoder(tiny_bundle.parent / "text-encoder")
    path = tmp_path / "typo.yaml"
    path.write_text("labels: [gren, sea]\n")
    assert main(["labels", "check", str(path), "--bundle", str(tiny_bundle)]) == 0
    out = capsys.readouterr().out
    assert "'a photo of a gren': did you mean 'green'?" in out
    assert out.count("did you mean") == 1


def test_labels_that_say_the_same_are_pointed_out(tiny_bundle, encoder, tmp_path, capsys):
    path = tmp_path / "twins.yaml"
    path.write_text("labels: [{name: red}, {name: reddish, prompts: [a red]}, {name: green}]\n")
    assert main(["labels", "check", str(path), "--bundle", str(tiny_bundle)]) == 0
    out = capsys.readouterr().out
    assert "mean the same" in out
    assert "red / reddish" in out
    assert "green" not in out.split("mean the same")[1]


def test_an_unknown_word_is_explained_with_its_neighbours(tiny_bundle, tmp_path, capsys):
    path = tmp_path / "typo.yaml"
    path.write_text("labels: [{name: gren}]\n")
    assert main(["labels", "check", str(path), "--bundle", str(tiny_bundle)]) == 78
    assert "near it: green" in capsys.readouterr().out


def test_a_name_spelt_otherwise_is_found_and_said(tiny_bundle, encoder, tmp_path, capsys):
    path = tmp_path / "many.yaml"
    path.write_text("labels: [{name: reds}, {name: green}]\n")
    bundle = ["--bundle", str(tiny_bundle)]
    assert main(["labels", "check", str(path), *bundle]) == 0
    assert "'a photo of a reds' is 'red'" in capsys.readouterr().out
    assert build(path, tiny_bundle, encoder) == 0
    assert "'a photo of a reds' is 'red'" in capsys.readouterr().out
    assert load_labels(str(path), load_bundle(tiny_bundle)).matrix[0][0] == pytest.approx(1)
    assert main(["labels", "search", "reds", *bundle]) == 0
    assert capsys.readouterr().out.startswith("'reds' is 'red'  (bank, exact)")


def test_the_sets_of_a_bundle_and_the_labels_of_one_are_listed(tiny_bundle, tmp_path, capsys):
    assert main(["labels", "list", "--bundle", str(tiny_bundle)]) == 0
    sets, bank = capsys.readouterr().out.splitlines()
    assert sets.startswith("colours        3 labels: red")
    assert bank.startswith("text bank")

    path = tmp_path / "two.yaml"
    path.write_text(
        "labels: [{name: red}, {name: blue, group: b, any_view: true},\n"
        "  {name: green, background: true}]\n"
        "background: [grey]\n"
    )
    assert main(["labels", "list", str(path), "--bundle", str(tiny_bundle)]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "b: blue (any view)",
        "labels: red, green (background)",
        "background: grey",
    ]


def test_search_finds_by_spelling_and_by_meaning(tiny_bundle, capsys):
    assert main(["labels", "search", "red", "--bundle", str(tiny_bundle)]) == 0
    out = capsys.readouterr().out
    assert out.splitlines()[0].startswith("red")
    assert "dark red" in out.split("means nearly")[1].splitlines()[1]


def test_a_set_that_ships_needs_no_build(tiny_bundle, encoder, capsys):
    assert build("colours", tiny_bundle, encoder) == 2


def test_a_list_of_words_is_a_label_set(tiny_bundle):
    label_set = parse_label_set("labels: [red, blue]\n", "x.yaml")
    assert label_set == parse_label_set("labels: [{name: red}, {name: blue}]\n", "x.yaml")


BAD = {
    "empty set": ("labels: []\n", "empty"),
    "empty file": ("", "'labels' is missing"),
    "duplicate names": ("labels: [{name: red}, {name: RED}]\n", "twice"),
    "100 KB phrase": (f"labels: [{{name: {'x' * 100_000}}}]\n", "100000 characters"),
    "control characters": ('labels: [{name: "re\\x07d"}]\n', "control characters"),
    "an override of the writing direction": (
        'labels: [{name: "red\\u202egnp"}]\n',
        "control characters",
    ),
    "alias bomb": ("a: &a [x, x]\nlabels: [*a, *a, *a]\n", "aliases"),
    "deep nesting": ("labels: " + "[" * 5000 + "]" * 5000 + "\n", "nested deeper"),
    "a Python object": ("labels: !!python/object/apply:os.system [id]\n", "tag"),
    "a template without a place": ("labels: [{name: red}]\ntemplates: [a photo]\n", "template"),
    "a template that reaches into objects": (
        "labels: [{name: red}]\ntemplates: ['{} {0.__class__}']\n",
        "template",
    ),
}


@pytest.mark.parametrize(("text", "message"), BAD.values(), ids=BAD.keys())
def test_bad_label_sets_give_one_clear_line_and_nothing_half_written(
    text, message, tiny_bundle, encoder, tmp_path, capsys
):
    path = tmp_path / "bad.yaml"
    path.write_text(text)
    assert build(path, tiny_bundle, encoder) == 78
    err = capsys.readouterr().err
    assert message in err
    assert err.count("\n") == 1
    assert len(err) < 500
    assert [p.name for p in tmp_path.glob("*bad*")] == ["bad.yaml"]


@pytest.mark.parametrize("name", ["شارع", "דרך", "🚗", "👨‍👩‍👧", "snow ❄️", "道路"])
def test_words_of_any_script_are_taken_and_guesses_are_called_guesses(
    name, tiny_bundle, encoder, tmp_path, capsys
):
    path = tmp_path / "any.yaml"
    path.write_text(json.dumps({"labels": [{"name": name}, {"name": "red"}]}, ensure_ascii=False))
    assert build(path, tiny_bundle, encoder) == 0
    out = capsys.readouterr().out
    assert ("reads English" in out) == (not any(c.isascii() and c.isalpha() for c in name))
    assert name in load_labels(str(path), load_bundle(tiny_bundle)).names
