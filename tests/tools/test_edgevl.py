"""All of EdgeVL, small: curated pairs, two stages, an int8 encoder, a table, a bundle that knows
its modalities."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

torch = pytest.importorskip("torch", reason="needs edge-label[train]")
pytest.importorskip("transformers", reason="needs edge-label[train]")

from edge_runtime.errors import ConfigError, DataError, StuckError  # noqa: E402
from edge_runtime.model.bundle import load_bundle  # noqa: E402
from edge_runtime.system.strict_yaml import parse  # noqa: E402
from tests.tiny import write_tiny_bundle  # noqa: E402
from tools import edgevl  # noqa: E402
from tools.factory.edgevl import bundle as edgevl_bundle  # noqa: E402
from tools.factory.edgevl import setting, statistics  # noqa: E402
from tools.factory.edgevl.curation import Superset  # noqa: E402
from tools.factory.edgevl.pairs import VIEWS, JudgedPairs  # noqa: E402
from tools.factory.edgevl.recipe import EdgeVLRecipe  # noqa: E402
from tools.factory.edgevl.report import Row  # noqa: E402
from tools.factory.edgevl.soup import mean_of, train_until  # noqa: E402
from tools.factory.int8.fake_quant import FakeQuantised  # noqa: E402
from tools.factory.recipe import load_recipe  # noqa: E402
from tools.factory.students.student import build_student, to_pixels  # noqa: E402
from tools.factory.training.checkpoint import SCHEMA  # noqa: E402

CPU = torch.device("cpu")
COLOURS = {
    "cab": (200, 40, 40),
    "fog": (180, 180, 185),
    "hill": (40, 160, 60),
    "lake": (30, 60, 190),
}


@pytest.fixture(scope="module")
def start_run(tiny_clip: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A colour student as tools.distill leaves it: random weights, settled BatchNorm, told apart by
    colour."""
    folder = tmp_path_factory.mktemp("start")
    (folder / "bank.txt").write_text("\n".join(COLOURS))
    (folder / "recipe.yaml").write_text(f"""
name: start
teacher: {{name: {tiny_clip}}}
student: {{name: mobilenetv4_conv_small, head: {{depth: 1}}}}
input: {{size: 32, cache_size: 40}}
bank: {{path: {folder / "bank.txt"}}}
data: [{{name: none, path: none}}]
""")
    torch.manual_seed(0)
    recipe = load_recipe(folder / "recipe.yaml")
    student = build_student(recipe.student, 16).train()
    for norm in [m for m in student.modules() if isinstance(m, torch.nn.BatchNorm2d)]:
        norm.momentum = None  # the plain mean over all batches
    rng = np.random.default_rng(0)

    def some(count: int) -> torch.Tensor:
        colours = np.array(list(COLOURS.values()))[rng.integers(0, 4, count)][:, None, None]
        return to_pixels(
            np.clip(colours + rng.normal(0, 60, (count, 32, 32, 3)), 0, 255).astype(np.uint8), CPU
        )

    for _ in range(12):
        student(some(8))
    with torch.no_grad():  # around their mean, or all pictures get the same label
        student.eval()
        student.head[0].bias -= student.head(student.backbone((some(64) - 114) / 57)).mean(0)
    state = student.state_dict()
    torch.save(
        {"schema": SCHEMA, "text_space": str(tiny_clip), "student": state, "average": state},
        folder / "checkpoint.pt",
    )
    return folder


@pytest.fixture(scope="module")
def pair_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sixteen coloured pictures with depth frames, and eight with infrared ones to measure on."""
    root = tmp_path_factory.mktemp("pairs")
    rng = np.random.default_rng(0)
    for folder, kind, count in (("a", "depth", 16), ("t", "ir", 8)):
        (root / folder / "rgb").mkdir(parents=True)
        (root / folder / kind).mkdir()
        for i in range(count):
            colour = np.array(list(COLOURS.values())[i % 4])
            noisy = np.clip(colour + rng.normal(0, 25, (40, 40, 3)), 0, 255).astype(np.uint8)
            Image.fromarray(noisy).save(root / folder / "rgb" / f"{i:02}.png")
            other = (
                (500 + 10 * noisy[..., i % 3].astype(np.uint16))
                if kind == "depth"
                else noisy[..., i % 3]
            )
            cv2.imwrite(str(root / folder / kind / f"{i:02}.png"), other)
    (root / "words.yaml").write_text(
        "labels: [" + ", ".join(f"{{name: {c}}}" for c in COLOURS) + "]\n"
    )
    return root


def recipe_of(data: Path, folder: Path) -> Path:
    stage = (
        "losses: {{contrastive: 0, condition: 0, relational: 0, "
        "alignment: 1, alignment_kind: l1{extra}}}\n"
    )
    train = (
        "    train: {batch: 8, warmup: 1, norm_batches: 0, lr: 1.0e-3, backbone_lr: 1.0e-3, "
        "stages: [{epochs: 2}]}\n"
    )
    path = folder / "edgevl.yaml"
    path.write_text(
        "name: multi\nversion: 1.2.0\nfrozen: 1\nviews: 2\nsoup: 2\ncalibration: 8\n"
        "pairs:\n  - {name: a, rgb: a/rgb, partner: a/depth, modality: depth, "
        f"labels: {data / 'words.yaml'}}}\n"
        "evaluation: {name: t, rgb: t/rgb, partner: t/ir, modality: ir, "
        f"labels: {data / 'words.yaml'}}}\n"
        f"colour: [{{name: c, path: a/rgb, limit: 8}}]\ncolour_labels: {data / 'words.yaml'}\n"
        f"stage1:\n    {stage.format(extra='')}{train}"
        f"stage2:\n    {stage.format(extra=', triplet: 1')}{train}"
    )
    return path


@pytest.fixture(scope="module")
def finished(start_run: Path, pair_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("edgevl")
    base = write_tiny_bundle(folder / "base")
    for name in ("input", "int8"):  # what a shipped bundle says, and the tiny one does not
        raw = json.loads((base / "manifest.json").read_text())
        raw[name] = raw.get(name, {}) | ({"size": [32, 32]} if name == "input" else {})
        (base / "manifest.json").write_text(json.dumps(raw))
    arguments = [
        str(recipe_of(pair_data, folder)),
        "--start",
        str(start_run),
        "--data",
        str(pair_data),
        "--quiet",
    ]
    arguments += ["--eval", str(pair_data), "--output", str(folder / "out"), "--ablation"]
    # The tiny text tower says the same of every word; four directions of the space tell the labels
    # apart.
    words = Superset(list(COLOURS), np.eye(4, 16, dtype=np.float32))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(setting, "load_superset", lambda *_: words)
        assert edgevl.main(arguments) == 0
    return folder


def test_the_table_has_every_row_and_the_report_every_figure(finished: Path):
    report = json.loads((finished / "out" / "edgevl.json").read_text())
    assert set(report["rows"]) == set(Row)
    table = (finished / "out" / "edgevl.md").read_text()
    assert [line.split(" |")[0][2:] for line in table.splitlines()[2:11]] == list(Row)
    assert set(report["pairs"]) == {"a", "t"}
    assert (
        report["rows"]["start, RGB only, fp32"]["a"]["rgb"]["agreement"] == 100
    )  # its own teacher


def test_a_soup_is_the_mean_of_trainings_that_saw_things_in_different_orders(finished: Path):
    folders = sorted(finished.glob("out/cache-*/stage1-both-*"))
    ends = [
        torch.load(folder / "checkpoint.pt", weights_only=True)["average"] for folder in folders
    ]
    assert len(ends) == 2
    assert not all(torch.equal(ends[0][name], ends[1][name]) for name in ends[0])
    first, second = torch.nn.Linear(2, 2), torch.nn.Linear(2, 2)
    mean = mean_of([first, second])
    assert torch.allclose(mean.weight, (first.weight + second.weight) / 2)


def test_the_interval_of_a_gain_is_that_of_pairs_and_not_of_their_views():
    """Every second pair is answered better, in all its views: half of 100 points, give or take what
    16 pairs allow."""
    pairs = 16
    target = np.tile(np.eye(2, dtype=np.float32)[0], (pairs * VIEWS, 1))
    pictures = np.zeros((len(target), 1, 1, 3), np.uint8)
    sure = np.ones(len(target), bool)
    words = Superset(["a", "b"], np.eye(2, dtype=np.float32))
    judged = JudgedPairs("x", "ir", pictures, pictures, target, sure, words)
    odd = np.arange(len(target)) % pairs % 2
    better, worse = (
        statistics.answer(lambda _, e=e: e, [judged])
        for e in (np.eye(2, dtype=np.float32)[odd], 1 - target)
    )
    got = statistics.gain(better, worse, ("other",))
    assert got["points"] == 50
    assert got["low"] == pytest.approx(50 - 196 * (0.25 / pairs) ** 0.5, abs=4)
    assert got["high"] == pytest.approx(50 + 196 * (0.25 / pairs) ** 0.5, abs=4)


def test_the_table_says_how_sure_its_differences_are(finished: Path):
    table = (finished / "out" / "edgevl.md").read_text()
    gains = json.loads((finished / "out" / "edgevl.json").read_text())["gains of stage 2 with QAT"]
    for name, g in gains.items():
        assert g["low"] <= g["points"] <= g["high"]
        assert f"{name} {g['points']:+.1f} ({g['low']:+.1f} to {g['high']:+.1f})" in table


def test_distillation_brings_depth_nearer_to_colour(finished: Path):
    rows = json.loads((finished / "out" / "edgevl.json").read_text())["rows"]
    before, after = (
        rows[name]["a"]["other"]["cosine"]
        for name in ("start, RGB only, fp32", "stage 1 on both, fp32")
    )
    assert after > before


def test_torch_and_onnx_runtime_agree_on_what_is_shipped(finished: Path):
    parity = json.loads((finished / "out" / "edgevl.json").read_text())[
        "torch fake-quantised to ONNX int8, cosine"
    ]
    assert (
        parity["mean"] >= 0.99
    )  # random weights amplify every rounding; test_fake_quant.py holds it to 0.999


def test_the_curated_lists_hold_no_test_pair_in_training(finished: Path):
    lines = (finished / "out" / "a.csv").read_text().splitlines()
    assert lines[0].startswith("file,partner,modality,label,confidence,split")
    assert {line.rsplit(",", 1)[1] for line in lines[1:]} == {"train", "validation", "test"}


def test_a_colour_picture_gets_a_grey_partner_made_of_itself(finished: Path):
    lines = (finished / "out" / "c.csv").read_text().splitlines()[1:]
    assert len(lines) == 8
    for line in lines:
        file, partner, modality, *_ = line.split(",")
        assert file.endswith(".png")
        assert modality == "ir"
        assert cv2.imread(str(finished / "out" / partner), cv2.IMREAD_UNCHANGED).ndim == 2


def test_stage_2_learns_from_triplets_and_leaves_the_frozen_layers_alone(finished: Path):
    """Stage 2 and the QAT row start alike and see the same batches; only the triplets tell them
    apart."""
    names = FakeQuantised((finished / "out" / "encoder.onnx").read_bytes()).backbone.names
    states = [
        next((finished / "out").glob(f"cache-*/{stage}-*/checkpoint.pt"))
        for stage in ("stage2", "qat")
    ]
    refined, plain = (torch.load(path, weights_only=True)["student"] for path in states)
    for number, name in enumerate(names):
        same = torch.equal(
            refined[f"backbone.tensors.{number}"], plain[f"backbone.tensors.{number}"]
        )
        if name.startswith("backbone.layers.0."):
            assert same, name
        elif name.endswith("weight"):
            assert not same, name
    report = json.loads((finished / "out" / "edgevl.json").read_text())
    assert len(report["validation at each check of stage 2"]) == 1 + EdgeVLRecipe.checks


def test_the_bundle_says_what_it_was_trained_for(
    finished: Path, start_run: Path, monkeypatch: pytest.MonkeyPatch
):
    # The tiny bundle's text side is of another space.
    monkeypatch.setattr(edgevl_bundle, "check_bundle", lambda _: None)
    recipe = parse((finished / "edgevl.yaml").read_text(), "edgevl.yaml", EdgeVLRecipe)
    edgevl_bundle.ship(
        finished / "base", finished / "new" / "multi", finished / "out", recipe
    )  # in a folder not yet there
    bundle = load_bundle(finished / "new" / "multi")
    assert bundle.manifest.id == "multi-1.2.0"
    assert bundle.manifest.input.modalities == ("rgb", "depth")
    assert bundle.read("encoder.onnx") == (finished / "out" / "encoder.onnx").read_bytes()
    assert "stage 2 with QAT" in (finished / "new" / "multi" / "MODEL_CARD.md").read_text()


def test_bad_input_is_one_line(
    start_run: Path, pair_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    recipe = recipe_of(pair_data, tmp_path)
    common = ["--data", str(pair_data), "--output", str(tmp_path / "out"), "--quiet"]
    assert edgevl.main([str(recipe), "--start", str(tmp_path), *common]) == 66
    assert edgevl.main([str(recipe), "--start", str(start_run), *common, "--bundle", "x"]) == 2
    recipe.write_text(recipe.read_text().replace("stage1", "stage_1"))
    assert edgevl.main([str(recipe), "--start", str(start_run), *common]) == ConfigError.exit_code
    assert len(capsys.readouterr().err.splitlines()) == 3


def test_too_few_pairs_for_three_parts_are_refused_in_one_line(
    start_run: Path,
    pair_data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):
    few = tmp_path / "few"
    shutil.copytree(pair_data, few)
    for file in sorted((few / "a" / "rgb").iterdir())[4:]:
        file.unlink()
    words = Superset(list(COLOURS), np.eye(4, 16, dtype=np.float32))
    monkeypatch.setattr(setting, "load_superset", lambda *_: words)
    arguments = [
        str(recipe_of(few, tmp_path)),
        "--start",
        str(start_run),
        "--data",
        str(few),
        "--quiet",
    ]
    assert edgevl.main([*arguments, "--output", str(tmp_path / "out")]) == DataError.exit_code
    assert "4 pairs leave none for validation; give more of them" in capsys.readouterr().err


def test_a_base_that_is_no_bundle_is_refused_before_the_training(
    start_run: Path, pair_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(edgevl, "run", lambda *_, **__: pytest.fail("trained"))
    arguments = [
        str(recipe_of(pair_data, tmp_path)),
        "--start",
        str(start_run),
        "--data",
        str(pair_data),
    ]
    arguments += [
        "--output",
        str(tmp_path / "out"),
        "--base",
        str(tmp_path),
        "--bundle",
        str(tmp_path / "new"),
    ]
    assert edgevl.main(arguments) == ConfigError.exit_code


def test_a_stopped_training_is_not_taken_for_a_finished_one():
    class Stopped:
        plan = type("Plan", (), {"steps": 10})
        step = 3

        def run(self, **_: object) -> bool:
            return False

    with pytest.raises(StuckError, match="stopped before the end"):
        train_until(Stopped())  # type: ignore[arg-type]
