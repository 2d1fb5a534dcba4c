"""A build encodes what the bank lacks, once, exactly as asked; the daemon needs no encoder."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from edge_runtime.cli import main
from edge_runtime.model.bundle import load_bundle
from edge_runtime.model.labels.compiled import load_labels, with_built_rows
from edge_runtime.model.labels.phrase_rows import PhraseRows, rows_path
from edge_runtime.model.labels.text_bank import TextBank
from edge_runtime.model.text.encoder import find_text_encoder
from tests.taught_file import teach_blue
from tests.tiny_text import write_tiny_text_encoder
from tests.unit.commands.label_sets import SET, build


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


def test_the_daemon_started_with_a_built_set_never_imports_tokenizers(
    tiny_bundle, encoder, label_set
):
    build(label_set, tiny_bundle, encoder)
    code = (
        "import sys; from edge_runtime.cli import main; "
        f"code = main(['--camera', 'demo', '--frames', '3', '--bundle', {str(tiny_bundle)!r}, "
        f"'--labels', {str(label_set)!r}, '--output', {str(label_set.with_suffix('.jsonl'))!r}]); "
        "assert code == 0, code; "
        "bad = {'tokenizers', 'transformers', 'torch', 'edge_runtime.model.text.encoder', "
        "'edge_runtime.model.text.child'}; "
        "bad &= set(sys.modules); "
        "assert not bad, bad"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
    records = [
        json.loads(line) for line in label_set.with_suffix(".jsonl").read_text().splitlines()
    ]
    assert {label["name"] for label in records[0]["labels"]} == {"crimson", "forest", "blue"}


def test_a_build_keeps_what_pictures_taught(tiny_bundle, encoder, label_set, capsys):
    taught = teach_blue(label_set, load_bundle(tiny_bundle).manifest)
    assert build(label_set, tiny_bundle, encoder) == 0
    assert "2 phrases by tiny-text" in capsys.readouterr().out
    rows = PhraseRows.read(rows_path(label_set))
    assert rows.phrases == ("a photo of a crimson", "a photo of a forest")
    assert rows.teaching.numbers() == taught

    label_set.write_text("labels: [red, blue]\n")  # now the bank holds every phrase
    assert main(["labels", "build", str(label_set), "--bundle", str(tiny_bundle)]) == 0
    rows = PhraseRows.read(rows_path(label_set))
    assert rows.phrases == ()
    assert rows.teaching.numbers() == taught


def test_a_build_with_another_bundle_says_that_the_teaching_is_lost(
    tiny_bundle, encoder, label_set, capsys
):
    teach_blue(label_set, load_bundle(tiny_bundle).manifest, encoder="another")
    assert build(label_set, tiny_bundle, encoder) == 0
    assert "of another bundle: run edge-label labels learn again" in capsys.readouterr().out
    assert PhraseRows.read(rows_path(label_set)).teaching is None
