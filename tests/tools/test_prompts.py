"""The text bank: exact rows win, phrases of the label sets are in it, the same inputs give the same
bytes."""

import json

import numpy as np

from edge_runtime.model.labels.label_set import parse_label_set
from edge_runtime.model.labels.phrases import bare, normalise
from tools import prompts
from tools.factory.bundling import text_bank
from tools.lib.paths import RECIPES

LABELS = sorted((RECIPES / "labels").glob("*.yaml"))


class WordTeacher:
    """A text tower whose rows depend on the phrase alone."""

    text_space = "test/words"

    def text_embeddings(self, phrases):
        return np.stack([np.random.default_rng(sum(p.encode())).normal(size=8) for p in phrases])


def test_every_prompt_and_background_of_the_shipped_label_sets_is_wanted():
    wanted = text_bank.wanted_phrases(LABELS, [RECIPES / "phrases.txt"])
    for path in LABELS:
        labels = parse_label_set(path.read_text(), str(path))
        for phrase in (
            *labels.background,
            *(p for label in labels.labels for p in label.prompts or (label.name,)),
        ):
            assert bare(normalise(phrase)) in wanted


def test_the_same_inputs_give_the_same_bytes_and_rows_of_unit_norm():
    phrases = text_bank.wanted_phrases(LABELS)
    one, two = (
        text_bank.teacher_bank(WordTeacher(), phrases, ["dog", "night"]).files() for _ in range(2)
    )
    assert one == two
    bank = text_bank.teacher_bank(WordTeacher(), phrases, ["dog", "night"])
    assert np.allclose(np.linalg.norm(bank.rows.astype(np.float32), axis=1), 1, atol=1e-3)
    assert len(set(bank.names)) == len(bank.names) == len(bank.rows)


def test_a_real_teacher_leaves_nothing_approximate():
    meta = json.loads(
        text_bank.teacher_bank(WordTeacher(), {"fog": "a road in fog"}).files()["text_bank.json"]
    )
    assert meta["approximate"] == []
    assert meta["text_space"] == "test/words"


def test_a_missing_label_set_is_one_line_and_nothing_is_written(tmp_path, capsys):
    out = tmp_path / "bank"
    assert prompts.main(["--out", str(out), "--labels", str(tmp_path / "no.yaml")]) == 66
    assert capsys.readouterr().err.count("\n") == 1
    assert not out.exists()
