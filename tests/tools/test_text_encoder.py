"""The shipped text encoder: smaller than promised, whole, faithful to what it was made from."""

import json

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from edge_runtime.model.text.encoder import encode_phrases
from tests.paths import REPOSITORY
from tools.factory.text import tower

SHIPPED = REPOSITORY / "models" / "text-encoder"


def test_the_vocabulary_is_cut_to_ascii_and_every_word_keeps_its_row():
    tokenizer = {
        "model": {"vocab": {"[PAD]": 0, "[unused0]": 1, "[UNK]": 2, "straße": 3, "road": 4}},
        "added_tokens": [{"id": 2, "content": "[UNK]"}],
        "post_processor": {"special_tokens": {"[UNK]": {"ids": [2], "tokens": ["[UNK]"]}}},
        "truncation": {},
        "padding": {},
    }
    smaller, rows = tower.ascii_vocabulary(tokenizer)
    assert smaller["model"]["vocab"] == {"[PAD]": 0, "[UNK]": 1, "road": 2}
    assert rows == [0, 2, 4]
    assert smaller["added_tokens"][0]["id"] == 1
    assert smaller["post_processor"]["special_tokens"]["[UNK]"]["ids"] == [1]


def test_int8_weights_give_nearly_the_numbers_of_float32_in_a_quarter_of_the_space():
    rng = np.random.default_rng(0)
    table, matrix = (
        rng.normal(size=shape).astype(np.float32) for shape in ((400, 300), (300, 400))
    )
    graph = helper.make_graph(
        [
            helper.make_node("Gather", ["table", "ids"], ["rows"]),
            helper.make_node("MatMul", ["rows", "matrix"], ["out"]),
        ],
        "g",
        [helper.make_tensor_value_info("ids", TensorProto.INT64, ("n",))],
        [helper.make_tensor_value_info("out", TensorProto.FLOAT, ("n", 400))],
        [numpy_helper.from_array(table, "table"), numpy_helper.from_array(matrix, "matrix")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.checker.check_model(model)
    exact = model.SerializeToString()
    small = tower.int8_weights(exact)
    assert len(small) < len(exact) / 3.5
    ids = np.arange(50)
    want, got = (onnxruntime.InferenceSession(m).run(None, {"ids": ids})[0] for m in (exact, small))
    assert np.abs(want - got).max() < 0.03 * np.abs(want).max()


@pytest.fixture(scope="module")
def manifest():
    return json.loads((SHIPPED / "manifest.json").read_text())


def test_the_shipped_encoder_is_at_most_25_mb_and_its_figures_reach_the_target(manifest):
    assert sum(entry["size"] for entry in manifest["files"].values()) <= 25_000_000
    assert manifest["held_out_names"]["objects"]["first"] >= 0.75
    assert manifest["held_out_names"]["objects"]["first_five"] >= 0.90


def test_the_shipped_encoder_puts_phrases_near_what_they_mean_whatever_stands_beside_them():
    phrases = [
        "a snowy mountain road",
        "snow on a road",
        "a bowl of soup",
        "soup in a dish",
        "a big dog",
        "a large dog",
    ]
    made = encode_phrases(phrases, str(SHIPPED))
    assert made.approximate
    rows = made.rows - made.rows.mean(axis=0)
    cosines = rows @ rows.T
    np.fill_diagonal(cosines, -1)
    assert cosines.argmax(axis=1).tolist() == [1, 0, 3, 2, 5, 4]
    alone = encode_phrases(phrases[:1], str(SHIPPED))
    assert np.abs(alone.rows[0] - made.rows[0]).max() < 1e-4


def test_the_model_card_carries_the_figures_of_the_manifest(manifest):
    card = (SHIPPED / "MODEL_CARD.md").read_text()
    assert f"{manifest['held_out_names']['objects']['first']:.1%}" in card
    assert f"{manifest['held_out_names']['objects']['first_five']:.1%}" in card
