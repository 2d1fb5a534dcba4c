"""A phrase that the bank lacks just works: its row is made once, kept, and found again."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edge_runtime.errors import ConfigError
from edge_runtime.model.bundle import Bundle
from edge_runtime.model.labels import new_rows
from edge_runtime.model.labels.compiled import load_labels
from edge_runtime.model.labels.new_rows import kept_rows_path, make_rows, row_files
from edge_runtime.model.labels.phrase_rows import PhraseRows, rows_path
from edge_runtime.model.labels.text_bank import TextBank
from tests.attacks.as_root import NOBODY, root_only
from tests.disks import fill, small_disk
from tests.taught_file import teach_blue
from tests.tiny_text import write_tiny_text_encoder

RED = "labels: [{name: crimson, prompts: [crimson]}, {name: blue, prompts: [blue]}]\n"
MORE = "labels: [{name: crimson, prompts: [crimson]}, {name: forest, prompts: [forest]}]\n"


@pytest.fixture(autouse=True)
def text_encoder(tiny_bundle: Path) -> Path:
    """Beside the bundle, where every command looks first."""
    return write_tiny_text_encoder(tiny_bundle.parent / "text-encoder")


@pytest.fixture
def label_set(tmp_path: Path) -> Path:
    """In a folder of its own, named by a path that has no link in it."""
    path = tmp_path.resolve() / "sets" / "my.yaml"
    path.parent.mkdir()
    path.write_text(RED)
    return path


@pytest.fixture
def no_child(monkeypatch: pytest.MonkeyPatch):
    """Call it, and from then on a text encoder that is asked fails the test."""

    def forbid() -> None:
        monkeypatch.setattr("edge_runtime.model.text.text_space.encode_phrases", None)

    return forbid


def test_a_new_phrase_is_made_once_and_kept_beside_its_label_set(
    bundle: Bundle, label_set: Path, no_child, caplog: pytest.LogCaptureFixture
):
    caplog.set_level(logging.INFO)
    labels = load_labels(str(label_set), bundle)
    assert labels.matrix[0][[0, 4]] == pytest.approx([0.5**0.5] * 2, abs=1e-3)

    beside = label_set.with_suffix(".embeddings")
    assert len(caplog.messages) == 1
    assert caplog.messages[0].startswith(f"wrote rows for 1 new phrase ('crimson') to {beside} in ")
    assert row_files(str(label_set), bundle) == [beside]

    no_child()
    assert load_labels(str(label_set), bundle).id == labels.id


def test_only_what_is_new_is_made_and_what_is_not_named_any_more_goes(
    bundle: Bundle, label_set: Path, caplog: pytest.LogCaptureFixture
):
    caplog.set_level(logging.INFO)
    load_labels(str(label_set), bundle)
    label_set.write_text(MORE)
    load_labels(str(label_set), bundle)
    assert "1 new phrase ('forest')" in caplog.messages[-1]
    beside = label_set.with_suffix(".embeddings")
    assert PhraseRows.read(beside).phrases == ("crimson", "forest")

    label_set.write_text("labels: [{name: sea, prompts: [sea]}]\n")
    load_labels(str(label_set), bundle)
    assert PhraseRows.read(beside).phrases == ("sea",)


def test_rows_made_for_a_person_are_those_that_labels_build_makes(bundle: Bundle, bank: TextBank):
    rows = make_rows(["Crimson  night", "crimson night"], bundle, bank)
    assert rows.phrases == ("crimson night",)
    assert rows.rows.shape == (1, 16)
    assert rows.approximate


def test_thousands_of_new_phrases_are_left_to_labels_build(bundle: Bundle, bank: TextBank):
    phrases = [f"night {i}" for i in range(new_rows.MOST_AT_ONCE + 1)]
    with pytest.raises(ConfigError, match="1001 phrases are new, more than 1000; run: edge-label"):
        make_rows(phrases, bundle, bank)


@pytest.mark.fault("W1")
def test_a_folder_that_takes_no_file_leaves_the_rows_to_the_state_directory(
    bundle: Bundle, tmp_path: Path, no_child, monkeypatch: pytest.MonkeyPatch
):
    """A read-only mount, as ProtectSystem=strict makes it: not even root can write there."""
    monkeypatch.setenv("STATE_DIRECTORY", f"{tmp_path}/service:/other")
    with small_disk(tmp_path / "etc", "1m") as etc:
        label_set = etc / "my.yaml"
        label_set.write_text(RED)
        subprocess.run(["mount", "-o", "remount,ro", etc], check=True)
        labels = load_labels(str(label_set), bundle)

        kept = kept_rows_path(label_set)
        assert kept.parent == tmp_path / "service" / "embeddings"
        assert row_files(str(label_set), bundle) == [kept]

        no_child()
        assert load_labels(str(label_set), bundle).id == labels.id


@pytest.mark.fault("W1")
def test_rows_that_no_place_takes_are_one_line_that_names_the_phrase(
    bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    with small_disk(tmp_path / "full", "256k") as disk:
        monkeypatch.setenv("STATE_DIRECTORY", str(disk / "state"))
        label_set = disk / "my.yaml"
        label_set.write_text(RED)
        fill(disk / "others")
        with pytest.raises(ConfigError) as error:
            load_labels(str(label_set), bundle)

    line = str(error.value)
    assert line.startswith(f"{label_set}: the text bank lacks 'crimson', and its rows cannot be ")
    assert "No space left on device; " in line
    assert "edge-label labels build my.yaml" in line
    assert "\n" not in line


@pytest.mark.fault("W1")
def test_without_a_home_and_a_state_directory_the_folder_must_take_the_rows(
    bundle: Bundle, label_set: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(new_rows, "state_folder", lambda: None)
    load_labels(str(label_set), bundle)
    label_set.with_suffix(".embeddings").unlink()
    monkeypatch.setattr(PhraseRows, "write", _refuse)
    with pytest.raises(ConfigError, match="its rows cannot be kept: no"):
        load_labels(str(label_set), bundle)


def _refuse(_rows: PhraseRows, _path: Path) -> None:
    raise ConfigError("no")


@pytest.mark.fault("W2")
@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("/nowhere", "/nowhere: no such text encoder"),
        ("other", "does not encode into the bundle's text space test/tiny"),
        ("broken", "not a text encoder"),
    ],
)
def test_a_phrase_whose_row_cannot_be_made_is_one_line_that_names_it(
    bundle: Bundle, label_set: Path, tmp_path: Path, monkeypatch, name: str, reason: str
):
    rows = np.zeros((10, 16), np.float32)
    rows[:, 12] = 1
    write_tiny_text_encoder(tmp_path / "other", rows=rows)
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "manifest.json").write_text("{}")
    monkeypatch.setenv("EDGE_LABEL_TEXT_ENCODER", str(tmp_path / name))

    with pytest.raises(ConfigError) as error:
        load_labels(str(label_set), bundle)

    assert error.value.exit_code == 78
    line = str(error.value)
    assert line.startswith(f"{label_set}: the text bank lacks 'crimson', and ")
    assert reason in line
    assert row_files(str(label_set), bundle) == []


@pytest.mark.fault("W3")
@pytest.mark.parametrize("fault", ["half a file", "no file of ours", "another text space"])
def test_kept_rows_that_are_no_good_are_made_again(
    bundle: Bundle, label_set: Path, no_child, fault: str, monkeypatch: pytest.MonkeyPatch
):
    good = load_labels(str(label_set), bundle)
    beside = label_set.with_suffix(".embeddings")
    kept = kept_rows_path(label_set)
    kept.parent.mkdir(parents=True)
    if fault == "half a file":
        kept.write_bytes(beside.read_bytes()[:-5])
    elif fault == "no file of ours":
        kept.write_bytes(b"")
    else:
        replace(PhraseRows.read(beside), text_space="other").write(kept)

    beside.unlink()
    refuse_beside(label_set)
    assert load_labels(str(label_set), bundle).id == good.id
    no_child()
    assert load_labels(str(label_set), bundle).id == good.id


def refuse_beside(label_set: Path) -> None:
    """Rows that another encoder made exactly stand there, and they stay."""
    exact = PhraseRows(("sea",), np.eye(1, 16, dtype=np.float16), "clip", False, "test/tiny", "")
    exact.write(label_set.with_suffix(".embeddings"))


@pytest.mark.fault("W3")
def test_rows_by_another_version_of_the_encoder_are_made_again_with_the_new_ones(
    bundle: Bundle, label_set: Path, tmp_path: Path
):
    refuse_beside(label_set)
    load_labels(str(label_set), bundle)
    kept = kept_rows_path(label_set)
    old = PhraseRows.read(kept)
    wrong = np.eye(1, 16, dtype=np.float16)
    replace(old, encoder="tiny-text-0.9.0", rows=wrong).write(kept)

    label_set.write_text(MORE)
    load_labels(str(label_set), bundle)

    new = PhraseRows.read(kept)
    assert new.phrases == ("crimson", "forest")
    assert new.encoder == old.encoder
    assert np.array_equal(new.rows[:1], old.rows)


def test_exact_rows_and_rows_from_pictures_stay_as_they_are(bundle: Bundle, label_set: Path):
    beside = label_set.with_suffix(".embeddings")
    refuse_beside(label_set)
    before = beside.read_bytes()
    load_labels(str(label_set), bundle)
    assert beside.read_bytes() == before
    assert row_files(str(label_set), bundle) == [beside, kept_rows_path(label_set)]

    row = np.eye(1, 16, 9, dtype=np.float16)
    PhraseRows(("photo",), row, "pictures", False, "test/tiny", "", ("photo",)).write(beside)
    kept_rows_path(label_set).unlink()
    load_labels(str(label_set), bundle)
    rows = PhraseRows.read(beside)
    assert rows.phrases == ("photo", "crimson")
    assert rows.pictured == ("photo",)
    assert np.array_equal(rows.rows[0], row[0])


@pytest.mark.fault("W4")
def test_two_programs_that_make_the_same_rows_at_once_leave_one_whole_file(
    tiny_bundle: Path, bundle: Bundle, label_set: Path
):
    command = [sys.executable, "-m", "edge_runtime", "labels", "check", str(label_set)]
    programs = [
        subprocess.Popen([*command, "--bundle", tiny_bundle], stdout=subprocess.DEVNULL)
        for _ in range(3)
    ]
    assert [program.wait(120) for program in programs] == [0, 0, 0]
    together = label_set.with_suffix(".embeddings").read_bytes()
    assert {path.name for path in label_set.parent.iterdir()} == {"my.embeddings", "my.yaml"}

    label_set.with_suffix(".embeddings").unlink()
    load_labels(str(label_set), bundle)
    assert label_set.with_suffix(".embeddings").read_bytes() == together


@root_only
@pytest.mark.fault("W5")
def test_root_keeps_nothing_where_another_user_could_plant_a_link(bundle: Bundle, label_set: Path):
    os.chown(label_set.parent, NOBODY, NOBODY)
    load_labels(str(label_set), bundle)
    assert [path.name for path in label_set.parent.iterdir()] == ["my.yaml"]
    assert row_files(str(label_set), bundle) == [kept_rows_path(label_set)]


@root_only
@pytest.mark.fault("W5")
def test_root_keeps_nothing_in_a_state_directory_of_another_user(
    bundle: Bundle, label_set: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    theirs = tmp_path.resolve() / "theirs"
    theirs.mkdir()
    os.chown(theirs, NOBODY, NOBODY)
    os.chown(label_set.parent, NOBODY, NOBODY)
    monkeypatch.setenv("XDG_STATE_HOME", str(theirs))
    with pytest.raises(ConfigError, match=f"belongs to user {NOBODY}"):
        load_labels(str(label_set), bundle)
    assert list(theirs.iterdir()) == []


def test_what_pictures_taught_stays_when_rows_are_added(bundle: Bundle, label_set: Path):
    taught = teach_blue(label_set, bundle.manifest)
    load_labels(str(label_set), bundle)
    rows = PhraseRows.read(rows_path(label_set))
    assert rows.phrases == ("crimson",)
    assert rows.teaching.numbers() == taught


def test_a_typing_mistake_gets_its_row_and_is_asked_about(
    bundle: Bundle, label_set: Path, caplog: pytest.LogCaptureFixture
):
    caplog.set_level(logging.INFO)
    label_set.write_text("labels: [{name: x, prompts: [sea, gren]}]\n")
    load_labels(str(label_set), bundle)
    assert "2 new phrases ('sea', ...; did you mean 'green'?) to " in caplog.text
