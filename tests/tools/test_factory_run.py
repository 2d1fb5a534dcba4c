"""The whole factory on a few pictures: recipe -> distil -> export -> int8 -> bundle -> labels in
the runtime."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs edge-label[train]")
pytest.importorskip("transformers", reason="needs edge-label[train]")

from edge_runtime.model.bundle import load_bundle  # noqa: E402
from edge_runtime.model.encoder import Encoder  # noqa: E402
from edge_runtime.model.labels.compiled import compile_labels  # noqa: E402
from edge_runtime.model.labels.label_set import load_label_set  # noqa: E402
from edge_runtime.model.labels.scorer import Scorer  # noqa: E402
from edge_runtime.model.labels.text_bank import TextBank  # noqa: E402
from edge_runtime.model.preprocess import Preprocessor  # noqa: E402
from tests.tools.conftest import COLOURS  # noqa: E402
from tools import bundle, distill, evaluate, export, quantize  # noqa: E402
from tools.factory.bundling.text_bank import teacher_bank  # noqa: E402
from tools.factory.int8 import quantise_run  # noqa: E402
from tools.factory.int8.parity import Inputs  # noqa: E402
from tools.factory.int8.quantise import quantise  # noqa: E402
from tools.factory.teachers.load import load_teacher  # noqa: E402

LABELS = (
    "labels:\n"
    + "".join(f"  - name: {name}\n" for name in COLOURS)
    + 'background: ["a photo of ice"]\n'
)


@pytest.fixture(scope="module")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for everything this module makes."""
    return tmp_path_factory.mktemp("workshop")


@pytest.fixture(scope="module")
def made(workshop: Path, tiny_clip: Path, colour_pictures: Path) -> Path:
    """A bundle made with every verb; the run is beside it."""
    (workshop / "bank.txt").write_text("\n".join(COLOURS))
    (workshop / "colours.yaml").write_text(LABELS)
    (workshop / "recipe.yaml").write_text(f"""
name: thimble
teacher: {{name: {tiny_clip}}}
student: {{name: mobilenetv4_conv_small, head: {{depth: 2, width: 32}}}}
input: {{size: 32, cache_size: 32}}
bank: {{path: {workshop / "bank.txt"}}}
data: [{{name: colours, path: colours, label: folder, validation: 0.2}}]
train: {{batch: 16, warmup: 1, stages: [{{epochs: 1}}]}}
licences: ["none: synthetic"]
""")
    run = workshop / "run"
    common = ["--data", str(colour_pictures)]
    steps = ["--steps", "2", "--device", "cpu", "--quiet"]
    assert distill.main([str(workshop / "recipe.yaml"), *common, "--output", str(run), *steps]) == 0
    assert export.main([str(run)]) == 0
    assert quantize.main([str(run), *common, "--calibration", "8", "--held-out", "6"]) == 0
    phrases = {name: f"a photo of a {name}" for name in (*COLOURS, "ice")}
    for name, data in teacher_bank(load_teacher(str(tiny_clip)), phrases).files().items():
        (workshop / name).write_bytes(data)
    options = ["--bank", str(workshop), "--labels", str(workshop / "colours.yaml")]
    options += [
        "--evaluate",
        str(colour_pictures / "colours"),
        "--output",
        str(workshop / "bundle"),
    ]
    assert bundle.main([str(run), *options]) == 0
    return workshop / "bundle"


def test_the_runtime_labels_with_what_the_factory_made(made: Path) -> None:
    found = load_bundle(made)
    found.verify()
    labels = compile_labels(load_label_set("colours", found), found, TextBank.from_bundle(found))
    prepare, encode = Preprocessor(found.manifest.input), Encoder(found)
    embedding = encode(prepare(np.full((48, 64, 3), (40, 40, 200), np.uint8)))
    assert embedding.shape == (16,)
    assert np.linalg.norm(embedding) == pytest.approx(1, abs=1e-5)
    score = Scorer(labels)
    scores = score(embedding)
    assert scores
    assert {label.name for label in score.ranked(scores, scores.votes)} == set(COLOURS)


def test_int8_says_what_float32_says_and_both_what_torch_says(made: Path, workshop: Path) -> None:
    report = json.loads((workshop / "run" / "quantize.json").read_text())
    assert report["torch_fp32_to_onnx_fp32"]["min"] > 0.9999
    kept = report["onnx_fp32_to_int8"][report["kept"]]
    assert kept["mean"] == max(
        entry["mean"] for entry in report["onnx_fp32_to_int8"].values() if entry
    )
    assert kept["mean"] > 0.98
    assert report["int8_bytes"] < report["fp32_bytes"] / 2.5


def test_the_int8_graph_reads_pixels_without_arithmetic(made: Path) -> None:
    """Nothing stands between the uint8 pixels and the first integer convolution: zero point 114 is
    the offset."""
    onnx = pytest.importorskip("onnx")
    graph = onnx.load(made / "encoder.onnx").graph
    by_input = {name: node for node in graph.node for name in node.input}
    chain = [by_input["pixels"]]
    while chain[-1].op_type != "Conv":
        chain.append(by_input[chain[-1].output[0]])
    assert [node.op_type for node in chain] == ["Transpose", "DequantizeLinear", "Conv"]
    constants = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in graph.initializer}
    assert float(constants[chain[1].input[1]]) == 1.0
    assert int(constants[chain[1].input[2]]) == 114
    weights = [t for t in graph.initializer if t.name.endswith("weight_quantized")]
    assert weights
    assert all(t.data_type == onnx.TensorProto.INT8 for t in weights)


def test_calibrators_that_all_give_up_leave_the_encoder_that_was_there(
    made: Path,
    workshop: Path,
    colour_pictures: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch,
) -> None:
    before = (workshop / "run" / "encoder.onnx").read_bytes()

    def gives_up(model: bytes, pictures: Inputs, method: str, layers: tuple = ()) -> bytes:
        if layers:
            raise ValueError("hardly varies")
        return quantise(model, pictures, method)

    monkeypatch.setattr(quantise_run, "quantise", gives_up)
    options = [
        "--data",
        str(colour_pictures),
        "--calibration",
        "8",
        "--held-out",
        "6",
        "--calibrator",
        "entropy",
    ]
    assert quantize.main([str(workshop / "run"), *options]) == 65
    assert "no calibrator finds ranges (entropy: hardly varies)" in capsys.readouterr().err
    assert (workshop / "run" / "encoder.onnx").read_bytes() == before


def test_the_model_card_holds_what_evaluate_prints(
    made: Path, workshop: Path, colour_pictures: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    card = (made / "MODEL_CARD.md").read_text()
    options = [
        "--data",
        str(colour_pictures / "colours"),
        "--fp32",
        str(workshop / "run" / "encoder.fp32.onnx"),
    ]
    assert evaluate.main([str(made), *options, "--output", str(workshop / "scores")]) == 0
    printed = capsys.readouterr().out
    for line in printed.strip().splitlines():
        assert line in card
    for heading in (
        "What it is not for",
        "What it scores",
        "float32 against int8",
        "How it was made",
        "Licences",
    ):
        assert f"## {heading}" in card
    scores = json.loads((workshop / "scores" / "evaluation.json").read_text())
    assert set(scores["sets"]["colours"]["int8"]) == {"top1", "top5", "auc", "ece"}
    assert (workshop / "scores" / "colours.png").stat().st_size > 1000
    assert json.loads((made / "manifest.json").read_text())["evaluation"]["sets"] == scores["sets"]


def test_a_bank_of_another_space_makes_no_bundle(
    made: Path, workshop: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("text_bank.npy", "text_bank.json"):
        (tmp_path / name).write_bytes((workshop / name).read_bytes())
    meta = json.loads((tmp_path / "text_bank.json").read_text())
    (tmp_path / "text_bank.json").write_text(json.dumps(meta | {"text_space": "another/clip"}))
    before = sorted(p.name for p in workshop.iterdir())
    code = bundle.main(
        [str(workshop / "run"), "--bank", str(tmp_path), "--labels", "--output", str(made)]
    )
    assert code == 78
    assert "a text bank of another/clip" in capsys.readouterr().err
    assert sorted(p.name for p in workshop.iterdir()) == before, "something half-written was left"
    load_bundle(made).verify()


def test_evaluate_names_what_is_missing(
    made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert evaluate.main([str(made), "--data", str(tmp_path / "none")]) == 66
    assert "no such folder" in capsys.readouterr().err
    (tmp_path / "set" / "cab").mkdir(parents=True)
    assert evaluate.main([str(made), "--data", str(tmp_path / "set")]) == 65
    assert "no pictures of class 'cab'" in capsys.readouterr().err
