"""Phrases are brought to the spelling of the bank, and every spelling of a held-out name is held
out."""

import json

import numpy as np
import pytest

from edge_runtime.errors import DataError, NoInputError
from tools.factory.text import sentence_map


@pytest.fixture
def weights(tmp_path):
    """A small bank in which underscores move a row by a constant step, as they do in the real
    one."""
    rng = np.random.default_rng(0)
    step = 0.3 * sentence_map._unit(rng.normal(size=512))
    names = [f"thing {i}" for i in range(20)]
    plain = sentence_map._unit(rng.normal(size=(20, 512)))
    bank = [{"source": "oid", "name": n.title()} for n in names[:15]]
    bank += [{"source": "lvis", "name": n.replace(" ", "_")} for n in names[5:]]
    bank += [{"source": "imagenet1k", "name": "tench, Tinca tinca"}]
    vectors = np.concatenate([plain[:15], sentence_map._unit(plain[5:] - step), plain[:1]])
    extra = [{"source": "captions", "name": "Two people cross a Road.", "prompt": "{}"}]
    np.save(tmp_path / "clip_vitb32_text_bank.npy", vectors.astype(np.float16))
    np.save(tmp_path / "clip_vitb32_text_extra.npy", plain[:1].astype(np.float16))
    (tmp_path / "clip_vitb32_text_bank_names.json").write_text(json.dumps(bank))
    (tmp_path / "clip_vitb32_text_extra_names.json").write_text(json.dumps(extra))
    return tmp_path, plain


@pytest.mark.parametrize(
    "phrase", ["snowy road", "A photo of the Snowy_Road", "  the snowy  road", "a snowy road"]
)
def test_phrases_are_spelled_as_the_bank_spells_them(phrase):
    assert sentence_map.as_prompt(phrase) == "a snowy road"


def test_the_step_that_underscores_make_is_taken_back(weights):
    path, plain = weights
    rows = sentence_map.unique_rows(sentence_map.load_text_rows(path))
    moved = np.stack([rows[f"thing {i}"] for i in range(15, 20)])  # known with underscores only
    assert ((moved * plain[15:]).sum(axis=1) > 0.98).all()


def test_rows_that_are_missing_or_damaged_are_one_line(weights):
    path, _ = weights
    (path / "clip_vitb32_text_extra.npy").write_bytes(b"half an ar")
    with pytest.raises(DataError, match="cannot be read"):
        sentence_map.load_text_rows(path)
    (path / "clip_vitb32_text_extra.npy").unlink()
    with pytest.raises(NoInputError, match=r"clip_vitb32_text_extra\.npy: missing"):
        sentence_map.load_text_rows(path)


def test_imagenet_rows_stand_for_their_first_synonym_and_captions_are_no_names(weights):
    rows = sentence_map.unique_rows(sentence_map.load_text_rows(weights[0]))
    assert "tench" in rows
    assert not any("tinca" in name or name.endswith(".") for name in rows)


def test_without_takes_every_spelling_of_a_held_out_name(weights):
    rows = sentence_map.load_text_rows(weights[0])
    left = sentence_map.without(rows, ["thing-7"])
    assert rows.names.count("thing 7") == 2
    assert "thing 7" not in left.names


def test_held_out_names_do_not_depend_on_the_order_of_the_bank(weights):
    rows = sentence_map.load_text_rows(weights[0])
    order = np.arange(len(rows.names))[::-1]
    turned = sentence_map.TextRows(
        tuple(rows.names[i] for i in order),
        tuple(rows.prompts[i] for i in order),
        rows.vectors[order],
        rows.kinds[order],
    )
    assert sentence_map.held_out_names(rows, 5) == sentence_map.held_out_names(turned, 5)


def test_retrieval_counts_a_tie_as_a_miss():
    truth = sentence_map._unit(np.array([[1.0, 0.0, 0.2], [0.0, 1.0, 0.2]]))
    mean = np.zeros(3, np.float32)
    assert sentence_map.retrieval(truth, truth, mean)["first"] == 1.0
    assert (
        sentence_map.retrieval(np.ones((2, 3), np.float32), np.ones((2, 3), np.float32), mean)[
            "first"
        ]
        == 0.0
    )


def test_estimated_rows_lie_as_far_from_the_mean_as_known_ones(weights):
    """Ridge regression alone answers close to the mean, where a label loses to every label that is
    known exactly."""
    rows = sentence_map.load_text_rows(weights[0])

    def features(prompts):
        return sentence_map._unit(
            np.array([[len(p) % 7, p.count("i") + 1, hash_free(p)] for p in prompts], np.float32)
        )

    def hash_free(prompt):
        return sum(map(ord, prompt)) % 11

    known = np.stack(list(sentence_map.unique_rows(rows).values()))
    mapped = sentence_map.SentenceMap(rows, features)
    far = np.linalg.norm(known - known.mean(axis=0), axis=1).mean()
    step = mapped._map.reach
    assert step == pytest.approx(far, rel=1e-4)
    found = mapped._kernel(features(["a lamp"]), ["lamp"]) @ mapped._map.dual.astype(np.float32)
    assert np.linalg.norm(found) < 0.9 * far  # what it would have been
    estimated = mapped(["lamp"])[0]
    direction = estimated - mapped.mean * (estimated @ mapped.mean) / (mapped.mean @ mapped.mean)
    assert np.linalg.norm(direction) > 0.5 * far
