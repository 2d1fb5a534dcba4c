"""Which phrases a bank holds, who made their rows, and what is near a phrase it lacks."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from edge_runtime.errors import BundleError
from edge_runtime.model.bundle import load_bundle
from edge_runtime.model.labels.phrase_rows import PhraseRows
from edge_runtime.model.labels.text_bank import TextBank
from tests.tiny import DIM, SPACE, npy_bytes, write_tiny_bundle


def test_a_phrase_is_found_with_or_without_its_photo_of_a(bank: TextBank):
    assert bank.find("A photo of a  RED") == bank.find("red") == 0
    assert bank.find("a photo of nothing") == 4
    assert bank.find("mauve") is None


def test_the_nearest_names_share_letters_or_else_a_word(bank: TextBank):
    assert bank.nearest_names("gren") == ["green", "grey"]
    assert bank.nearest_names("red and yellow stripes") == ["red", "dark red"]


def test_a_built_row_is_added_and_an_exact_row_of_the_bank_wins(bank: TextBank):
    built = PhraseRows(
        phrases=("mauve", "red", "my door"),
        rows=np.eye(3, DIM, dtype=np.float16),
        encoder="tiny-text",
        approximate=True,
        text_space=SPACE,
        request="",
        pictured=("my door",),
    )
    extended = bank.extended(built)

    assert extended.find("red") == 0
    assert [extended.maker(row) for row in (0, 5, 6, 8)] == [
        "bank, exact",
        "bank, approximate",
        "tiny-text, approximate",
        "pictures, exact",
    ]
    assert bank.find("mauve") is None  # the bank itself stays as it was


def test_a_row_that_pictures_taught_is_named_so(tiny_bundle: Path):
    names = ["red", "green", "blue"]
    meta = {"schema": "edge-label-bank/1", "text_space": SPACE, "names": names}
    write_tiny_bundle(
        tiny_bundle,
        text_bank__dot__npy=npy_bytes(np.eye(3, DIM, dtype=np.float16)),
        text_bank__dot__json=json.dumps(meta | {"approximate": [1], "taught": [2]}).encode(),
        labels__colours__dot__yaml=b"labels: [red, green, blue]",
    )
    bank = TextBank.from_bundle(load_bundle(tiny_bundle))
    makers = [bank.maker(row) for row in range(3)]
    assert makers == ["bank, exact", "bank, approximate", "bank, taught"]


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("text_bank__dot__json", b"{", "not a text bank"),
        ("text_bank__dot__json", b"[" * 100_000, "not a text bank"),
        ("text_bank__dot__json", b'{"schema": "edge-label-bank/1"}', "not a text bank"),
        (
            "text_bank__dot__json",
            b'{"schema": "edge-label-bank/1", "text_space": "other", "names": [], '
            b'"approximate": []}',
            "parts of two bundles are mixed",
        ),
        (
            "text_bank__dot__npy",
            npy_bytes(np.eye(3, DIM, dtype=np.float16)),
            "6 names for rows of shape",
        ),
    ],
)
def test_a_bank_that_does_not_fit_its_bundle_is_refused(
    tmp_path: Path, name: str, data: bytes, message: str
):
    bundle = load_bundle(write_tiny_bundle(tmp_path, **{name: data}))

    with pytest.raises(BundleError, match=message):
        TextBank.from_bundle(bundle)


def test_a_new_phrase_that_is_spelt_almost_as_a_name_is_doubted(bank: TextBank):
    assert bank.likely_meant("a photo of a gren") == "green"
    assert bank.likely_meant("dark rde") == "dark red"
    assert bank.likely_meant("sea") is None
