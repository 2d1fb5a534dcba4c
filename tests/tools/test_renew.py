"""A bundle gets new rows and new label sets; its encoder stays, byte for byte."""

from __future__ import annotations

import json

import numpy as np

from edge_runtime.model.bundle import load_bundle
from edge_runtime.model.labels.text_bank import TextBank
from tests.tiny import PHRASES, SPACE, npy_bytes, text_rows
from tools import renew
from tools.factory.bundling.renew import renewed_card


def write_bank(folder, space=SPACE):
    folder.mkdir()
    meta = {
        "schema": "edge-label-bank/1",
        "text_space": space,
        "names": [*PHRASES, "mauve"],
        "approximate": [5],
        "taught": [0, 6],
        "sources": {},
    }
    rows = np.concatenate([text_rows(), text_rows()[:1]]).astype(np.float16)
    (folder / "text_bank.npy").write_bytes(npy_bytes(rows))
    (folder / "text_bank.json").write_text(json.dumps(meta))
    return folder


def run(bundle, bank, tmp_path, version="2.0.0"):
    labels = tmp_path / "colours.yaml"
    labels.write_text("labels: [red, mauve]")
    options = {"--bank": bank, "--labels": labels, "--version": version, "--output": bundle}
    words = [str(word) for option in options.items() for word in option]
    return renew.main([str(bundle), *words])


def test_the_encoder_stays_byte_for_byte_and_the_rest_is_new(tiny_bundle, tmp_path):
    before = (tiny_bundle / "encoder.onnx").read_bytes()
    (tiny_bundle / "MODEL_CARD.md").write_text("# tiny 1.0.0\n\n| text bank | 6 names |\n")
    (tiny_bundle / "manifest.sig").write_text("of the old manifest")

    assert run(tiny_bundle, write_bank(tmp_path / "bank"), tmp_path) == 0

    bundle = load_bundle(tiny_bundle)
    bundle.verify()
    assert (tiny_bundle / "encoder.onnx").read_bytes() == before
    assert bundle.manifest.id == "tiny-2.0.0"
    assert list(bundle.label_sets()) == ["colours"]
    assert TextBank.from_bundle(bundle).find("mauve") == 6
    card = (tiny_bundle / "MODEL_CARD.md").read_text()
    assert card.startswith("# tiny 2.0.0\n")
    assert "| text bank | 7 names, 4 exact, 2 taught by pictures, 1 approximate |" in card
    assert not (tiny_bundle / "manifest.sig").exists()


def test_a_bank_of_another_text_space_is_one_line_and_changes_nothing(
    tiny_bundle, tmp_path, capsys
):
    before = (tiny_bundle / "manifest.json").read_bytes()
    assert run(tiny_bundle, write_bank(tmp_path / "bank", "other"), tmp_path) == 78
    assert capsys.readouterr().err.count("\n") == 1
    assert (tiny_bundle / "manifest.json").read_bytes() == before


def test_new_scores_take_the_place_of_the_old_ones():
    old = "# a 1\n\n| text bank | x |\n\nPrinted.\n\n| set | pictures |\n| old |\n"
    old += "\n## float32 against int8\n\nkept\n"
    bank = {"names": ["a"], "approximate": [], "taught": []}
    card = renewed_card(old, "a 1", "a 2", bank, "| set | pictures |\n| new |\n")
    assert "| new |" in card
    assert "| old |" not in card
    assert card.endswith("## float32 against int8\n\nkept\n")
