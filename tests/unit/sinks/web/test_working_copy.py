"""The working copy holds what is in use, and what it began with."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edge_runtime.errors import ConfigError
from edge_runtime.model.bundle import load_bundle
from edge_runtime.model.labels.label_set import LabelSet, LabelSpec
from edge_runtime.model.labels.phrase_rows import PhraseRows
from edge_runtime.sinks.web.working_copy import WorkingCopy, save_label_set
from tests.tiny import DIM, SPACE


def rows_of(path: Path, phrase: str) -> Path:
    row = np.eye(1, DIM, 9, dtype=np.float16)
    PhraseRows((phrase,), row, "test", False, SPACE, "").write(path)
    return path


def test_rows_that_it_begins_with_serve_the_labels_that_are_tried(
    tmp_path: Path, tiny_bundle: Path
):
    bundle = load_bundle(tiny_bundle)
    copy = WorkingCopy(tmp_path / "page")
    copy.begin(rows_of(tmp_path / "mine.embeddings", "unheard of"))
    labels = copy.load(LabelSet((LabelSpec("x", ("unheard of",)), LabelSpec("red"))), bundle)
    assert labels.matrix[0, 9] == 1
    copy.begin(None)
    with pytest.raises(ConfigError, match="unheard of"):
        copy.load(LabelSet((LabelSpec("x", ("unheard of",)),)), bundle)
    copy.close()


def test_a_set_that_cannot_be_loaded_leaves_the_one_before(tmp_path: Path, tiny_bundle: Path):
    bundle = load_bundle(tiny_bundle)
    copy = WorkingCopy(tmp_path / "page")
    copy.begin(None)
    with pytest.raises(ConfigError):
        copy.load(LabelSet((LabelSpec("unheard of"),)), bundle)
    copy.load(LabelSet((LabelSpec("red"),)), bundle)
    before = copy.path.read_text()
    with pytest.raises(ConfigError):
        copy.load(LabelSet((LabelSpec("unheard of"),)), bundle)
    assert copy.path.read_text() == before
    assert copy.path.stat().st_mode & 0o007 == 0, "labels of a person are nobody else's business"
    copy.close()


def test_a_set_is_saved_with_its_rows_and_over_an_older_one(tmp_path: Path, tiny_bundle: Path):
    bundle = load_bundle(tiny_bundle)
    saved = tmp_path / "labels" / "mine.yaml"
    rows = rows_of(tmp_path / "page.embeddings", "unheard of")
    save_label_set(LabelSet((LabelSpec("x", ("unheard of",)),)), rows, saved, bundle)
    assert PhraseRows.read(saved.with_suffix(".embeddings")) is not None
    save_label_set(LabelSet((LabelSpec("red"),)), None, saved, bundle)
    assert not saved.with_suffix(".embeddings").exists()
    assert saved.read_text().endswith("labels:\n- red\n")
