"""Every place that deletes or overwrites meets files of others with nearly our names: they stay."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from edge_runtime.commands.labels import build
from edge_runtime.commands.tables import open_table
from edge_runtime.errors import ConfigError, DataError, EdgeLabelError
from edge_runtime.model.labels.phrase_rows import PhraseRows, remove_rows
from edge_runtime.sinks.files.record_file import Caps, RecordFile
from edge_runtime.sinks.triggers.spool import Spool
from tests.tiny import LABELS_YAML
from tools.factory.bundling.files import replace_folder

pytestmark = pytest.mark.fault("U8")


def test_a_spool_in_a_folder_of_photos_deletes_no_photo(tmp_path: Path):
    photos = [
        "20260131-beach.jpg",
        "20260131-beach.json",
        "20260201-snow.avi",
        ".20260131-beach.jpg.part",
        "a.jpg",
    ]
    for name in photos:
        (tmp_path / name).write_bytes(b"p" * 600)
    spool = Spool(tmp_path, 1000)
    spool.open()
    for _ in range(3):
        draft = spool.start("snow-20260502T091307Z", ".jpg")
        assert draft.reserve(600)
        draft.stream.write(b"x" * 600)
        draft.finish(lambda media, size: {"file": media, "bytes": size})
    assert spool.deleted == 2
    assert {name for name in photos if (tmp_path / name).exists()} == set(photos)


def test_rotation_deletes_no_copy_that_somebody_dated(tmp_path: Path):
    line = b'{"schema":"edge-label/1"}' + b" " * 74 + b"\n"
    copies = [
        "run.20260131.jsonl",
        "run.2026-01-31.jsonl",
        "run.1.jsonl",
        "run.jsonl.1",
        "run.000001.jsonl.bak",
    ]
    for name in copies:
        (tmp_path / name).write_bytes(line * 5)
    file = RecordFile(tmp_path / "run.jsonl", Caps(total=1000, rotate=300))
    for _ in range(50):
        file.append(line)
    file.close()
    assert file.deleted > 0
    assert all((tmp_path / name).read_bytes() == line * 5 for name in copies)


@pytest.mark.parametrize("suffix", [".csv", ".jsonl"])
@pytest.mark.parametrize("text", ["one line without an end", "a,b\n1,2\n3,4"])
def test_resume_cuts_nothing_off_a_file_that_is_not_ours(tmp_path: Path, suffix: str, text: str):
    table = tmp_path / f"mine{suffix}"
    table.write_text(text)
    with pytest.raises(DataError, match="give another --output"):
        open_table(table, resume=True, embeddings=False)
    assert table.read_text() == text


def test_a_table_of_parts_takes_only_its_own_parts_away(tmp_path: Path):
    pytest.importorskip("pyarrow", reason="needs pyarrow")
    folder = tmp_path / "out.parquet"
    folder.mkdir()
    (folder / ".film.mkv.part").write_text("half a download")
    (folder / ".part-000003.parquet.part").write_text("ours")
    open_table(folder, resume=True, embeddings=False)
    assert [path.name for path in folder.iterdir()] == [".film.mkv.part"]


def test_a_build_removes_no_file_that_no_build_made(tmp_path: Path, tiny_bundle: Path):
    labels = tmp_path / "my.yaml"
    labels.write_text(LABELS_YAML)
    mine = labels.with_suffix(".embeddings")
    mine.write_text("my own research")
    with pytest.raises(EdgeLabelError):
        build(str(labels), str(tiny_bundle), None)
    assert mine.read_text() == "my own research"
    with pytest.raises(ConfigError, match="was not made by edge-label labels build"):
        remove_rows(mine)
    with pytest.raises(ConfigError, match="was not made by edge-label labels build"):
        PhraseRows(("a",), np.ones((1, 4), np.float16) / 2, "e", True, "s", "").write(mine)
    assert mine.read_text() == "my own research"


def test_a_build_waits_for_no_pipe_in_the_place_of_its_file(tmp_path: Path, tiny_bundle: Path):
    labels = tmp_path / "my.yaml"
    labels.write_text(LABELS_YAML)
    os.mkfifo(labels.with_suffix(".embeddings"))
    with pytest.raises(ConfigError, match="not a file"):
        build(str(labels), str(tiny_bundle), None)


def test_a_new_bundle_replaces_no_folder_that_is_none(tmp_path: Path):
    (tmp_path / "new").mkdir()
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.jpg").touch()
    with pytest.raises(DataError, match="is not a bundle"):
        replace_folder(tmp_path / "new", tmp_path / "photos")
    assert (tmp_path / "photos" / "a.jpg").exists()
    (tmp_path / "empty").mkdir()
    replace_folder(tmp_path / "new", tmp_path / "empty")
