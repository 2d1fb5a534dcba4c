"""The verbs of labels: any phrase, nothing half-written, and the daemon imports no tokenizers."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from edge_runtime.cli import main
from edge_runtime.model.bundle import load_bundle
from edge_runtime.model.labels.compiled import load_labels, with_built_rows
from edge_runtime.model.labels.label_set import parse_label_set
from edge_runtime.model.labels.phrase_rows import PhraseRows
from edge_runtime.model.labels.text_bank import TextBank
from edge_runtime.model.text.encoder import find_text_encoder
from tests.tiny_text import write_tiny_text_encoder

pytest.importorskip("tokenizers", reason="the [text] extra is not installed")

SET = """\
labels:
  - name: crimson
  - name: forest
  - name: blue
background: ["grey"]
"""


@pytest.fixture
def encoder(tmp_path):
    return write_tiny_text_encoder(tmp_path / "encoder")


@pytest.fixture
def label_set(tmp_path):
    path = tmp_path / "my.yaml"
    path.write_text(SET)
    return path


def build(label_set, bundle, encoder, *more):
    return main(
        [
            "labels",
            "build",
            str(label_set),
            "--bundle",
            str(bundle),
            "--text-encoder",
            str(encoder),
            *more,
        ]
    )


def test_phrases_outside_the_bank_become_labels(tiny_bundle, encoder, label_set, capsys):
    assert main(["labels", "check", str(label_set), "--bundle", str(tiny_bundle)]) == 78
    assert "crimson" in capsys.readouterr().out
    assert build(label_set, tiny_bundle, encoder) == 0
    out = capsys.readouterr().out
    assert "2 phrases by tiny-text-1.0.0" in out
    labels = load_labels(str(label_set), load_bundle(tiny_bundle))
    crimson = labels.matrix[labels.names.index("crimson")]
    assert crimson[0] == pytest.approx(crimson[4], abs=1e-3)
    assert crimson[0] > 0.7


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


def test_a_text_encoder_that_is_not_there_is_one_line(tiny_bundle, label_set, capsys):
    assert build(label_set, tiny_bundle, "/nowhere") == 66
    assert (
        capsys.readouterr().err
        == "edge-label: /nowhere: no such text encoder; check --text-encoder\n"
    )


def test_exact_bank_rows_win_over_the_encoder(tiny_bundle, encoder, label_set, tmp_path):
    turned = np.roll(np.eye(10, 16, dtype=np.float32), 0, axis=1)
    turned[2:, :] = 0
    turned[2:, 9] = 1  # this encoder would say that blue lies on axis 9
    label_set.write_text(SET + "templates: ['{}']\n")
    assert build(label_set, tiny_bundle, encoder) == 0
    labels = load_labels(str(label_set), load_bundle(tiny_bundle))
    assert labels.matrix[labels.names.index("blue")][2] == pytest.approx(1)
    bank = TextBank.from_bundle(load_bundle(tiny_bundle))
    rows = PhraseRows(("blue",), turned[-1:].astype(np.float16), "other", False, "test/tiny", "")
    assert bank.extended(rows).find("blue") == bank.find("blue")


def test_exact_rows_of_an_encoder_win_over_approximate_rows_of_the_bank(tiny_bundle):
    bank = TextBank.from_bundle(load_bundle(tiny_bundle))  # "dark red" is approximate there
    row = np.eye(1, 16, dtype=np.float16)
    exact = bank.extended(PhraseRows(("dark red",), row, "clip", False, "test/tiny", ""))
    assert exact.maker(exact.find("dark red")) == "clip, exact"
    guessed = bank.extended(PhraseRows(("dark red",), row, "mini", True, "test/tiny", ""))
    assert guessed.maker(guessed.find("dark red")) == "bank, approximate"


def test_an_encoder_of_another_text_space_is_refused_and_nothing_is_written(
    tiny_bundle, label_set, tmp_path, capsys
):
    rows = np.zeros((10, 16), np.float32)
    rows[:, 12] = 1
    other = write_tiny_text_encoder(tmp_path / "other", rows=rows)
    assert build(label_set, tiny_bundle, other) == 78
    assert "text space" in capsys.readouterr().err
    assert not label_set.with_suffix(".embeddings").exists()


def test_building_twice_gives_the_same_bytes_and_the_second_time_no_work(
    tiny_bundle, encoder, label_set, capsys
):
    build(label_set, tiny_bundle, encoder)
    first = label_set.with_suffix(".embeddings").read_bytes()
    capsys.readouterr()
    build(label_set, tiny_bundle, encoder)
    assert "up to date" in capsys.readouterr().out
    build(label_set, tiny_bundle, encoder, "--force")
    assert label_set.with_suffix(".embeddings").read_bytes() == first


def test_a_damaged_file_is_named_and_built_again(tiny_bundle, encoder, label_set, capsys):
    build(label_set, tiny_bundle, encoder)
    target = label_set.with_suffix(".embeddings")
    target.write_bytes(target.read_bytes()[:-3])
    assert main(["labels", "check", str(label_set), "--bundle", str(tiny_bundle)]) == 78
    assert "damaged" in capsys.readouterr().err
    assert build(label_set, tiny_bundle, encoder) == 0
    assert main(["labels", "check", str(label_set), "--bundle", str(tiny_bundle)]) == 0


def test_rows_of_another_text_space_are_refused(tiny_bundle, label_set):
    row = np.eye(1, 16, dtype=np.float16)
    PhraseRows(("crimson",), row, "clip", False, "other/space", "").write(
        label_set.with_suffix(".embeddings")
    )
    bundle = load_bundle(tiny_bundle)
    with pytest.raises(Exception, match="made for text space other/space"):
        with_built_rows(TextBank.from_bundle(bundle), str(label_set), bundle)


def test_an_altered_encoder_is_refused(tiny_bundle, encoder, label_set, capsys):
    model = encoder / "encoder.onnx"
    model.write_bytes(model.read_bytes()[:-1] + b"x")
    assert build(label_set, tiny_bundle, encoder) == 65
    assert "altered" in capsys.readouterr().err


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
        "labels: [{name: red}, {name: blue, group: b}, {name: green, background: true}]\n"
        "background: [grey]\n"
    )
    assert main(["labels", "list", str(path), "--bundle", str(tiny_bundle)]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "b: blue",
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


def test_the_text_encoder_beside_the_bundle_is_found(
    tiny_bundle, label_set, tmp_path, capsys, monkeypatch
):
    """Whatever lies in the usual places: the two were copied together."""
    monkeypatch.delenv("EDGE_LABEL_TEXT_ENCODER", raising=False)
    monkeypatch.chdir(tmp_path)
    write_tiny_text_encoder(tiny_bundle.parent / "text-encoder")
    assert main(["labels", "build", str(label_set), "--bundle", str(tiny_bundle)]) == 0
    assert "2 phrases by tiny-text-1.0.0" in capsys.readouterr().out
    monkeypatch.chdir(tiny_bundle)
    assert main(["labels", "build", str(label_set), "--bundle", ".", "--force"]) == 0
    monkeypatch.chdir(tiny_bundle.parent)
    assert find_text_encoder(None, Path(tiny_bundle.name)) == str(
        tiny_bundle.parent / "text-encoder"
    )


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


def test_the_daemon_started_with_a_built_set_never_imports_tokenizers(
    tiny_bundle, encoder, label_set
):
    build(label_set, tiny_bundle, encoder)
    code = (
        "import sys; from edge_runtime.cli import main; "
        f"code = main(['--camera', 'demo', '--frames', '3', '--bundle', {str(tiny_bundle)!r}, "
        f"'--labels', {str(label_set)!r}, '--output', {str(label_set.with_suffix('.jsonl'))!r}]); "
        "assert code == 0, code; "
        "bad = {'tokenizers', 'transformers', 'torch', 'edge_runtime.model.text.encoder'}; "
        "bad &= set(sys.modules); "
        "assert not bad, bad"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
    records = [
        json.loads(line) for line in label_set.with_suffix(".jsonl").read_text().splitlines()
    ]
    assert {label["name"] for label in records[0]["labels"]} == {"crimson", "forest", "blue"}
