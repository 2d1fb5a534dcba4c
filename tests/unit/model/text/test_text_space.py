"""An encoder is believed only where it agrees with the bank on names that both know."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edge_runtime.errors import ConfigError
from edge_runtime.model.bundle import load_bundle
from edge_runtime.model.labels.phrase_rows import PhraseRows
from edge_runtime.model.labels.text_bank import TextBank
from edge_runtime.model.text.encoder import encode_phrases
from edge_runtime.model.text.text_space import encode_in_space
from tests.tiny_text import encoder_onnx, tokenizer_json, write_tiny_text_encoder


def test_an_encoder_of_the_bank_s_space_answers_in_order(tiny_bundle: Path, tmp_path: Path):
    bundle = load_bundle(tiny_bundle)
    encoder = write_tiny_text_encoder(tmp_path / "encoder")
    encoded = encode_in_space(["sea", "night"], str(encoder), bundle, TextBank.from_bundle(bundle))
    assert encoded.rows.argmax(axis=1).tolist() == [2, 6]
    assert encoded.encoder.startswith("tiny-text-1.0.0")


@pytest.mark.parametrize("dim", [16, 8])
def test_an_encoder_of_another_space_or_dimension_is_refused(
    tiny_bundle: Path, tmp_path: Path, dim: int
):
    rows = np.zeros((10, dim), np.float32)
    rows[:, -1] = 1
    bundle = load_bundle(tiny_bundle)
    encoder = write_tiny_text_encoder(tmp_path / "encoder", rows=rows)
    with pytest.raises(ConfigError, match="does not encode into the bundle's text space"):
        encode_in_space(["sea"], str(encoder), bundle, TextBank.from_bundle(bundle))


def test_rows_from_pictures_are_no_names_that_an_encoder_must_know(
    tiny_bundle: Path, tmp_path: Path
):
    bundle = load_bundle(tiny_bundle)
    bank = TextBank.from_bundle(bundle)
    names = tuple(f"picture {i}" for i in range(50))
    rows = np.tile(np.eye(1, 16, 15, dtype=np.float16), (50, 1))
    pictured = PhraseRows(names, rows, "pictures", False, "test/tiny", "", names)
    encoder = write_tiny_text_encoder(tmp_path / "encoder")
    encode_in_space(["sea"], str(encoder), bundle, bank.extended(pictured))


def test_an_encoder_agrees_with_a_bank_that_it_made_of_sentences(tiny_bundle: Path, tmp_path: Path):
    """The bank's row of "red" may be that of "a photo of a red", as `tools.prompts` makes it."""
    (tmp_path / "model.onnx").write_bytes(encoder_onnx())
    (tmp_path / "tokenizer.json").write_bytes(tokenizer_json())
    names = ["red", "green", "blue"]
    made = encode_phrases([f"a photo of a {name}" for name in names], str(tmp_path))
    bank = TextBank(names, made.rows)
    plain = encode_phrases(names, str(tmp_path))
    assert (plain.rows * made.rows).sum(axis=1).max() < 0.8
    encode_in_space(["sea"], str(tmp_path), load_bundle(tiny_bundle), bank)
