"""The caller's side of a text encoder: what is asked, and what a child that fails becomes."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge_runtime.errors import DataError
from edge_runtime.model.text.encoder import encode_phrases, encoder_hash
from tests.commands import instead_of_python


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("echo noise >&2; echo 'no such tower' >&2; exit 1", "no such tower"),
        ("exit 3", "ended with 3"),
        ("kill -SEGV $$", "ended with -11"),
    ],
)
def test_a_child_that_fails_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, body: str, reason: str
):
    instead_of_python(tmp_path, monkeypatch, body)

    with pytest.raises(DataError) as error:
        encode_phrases(["a"], "mine")
    assert str(error.value) == f"text encoder mine: {reason}"


def test_the_hash_changes_with_the_files_of_an_encoder(tmp_path: Path):
    (tmp_path / "model.onnx").write_bytes(b"one")
    first = encoder_hash(str(tmp_path))
    (tmp_path / "model.onnx").write_bytes(b"other")
    second = encoder_hash(str(tmp_path))
    (tmp_path / "manifest.json").write_bytes(b"{}")

    assert len({first, second, encoder_hash(str(tmp_path)), encoder_hash("openai/clip")}) == 4
