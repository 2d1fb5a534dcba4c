"""Calibration learns from what the pictures show, says what it changed, and writes what the runtime
reads."""

import re

import cv2
import numpy as np
import pytest

from edge_runtime.cli import main as edge_label
from edge_runtime.model.bundle import load_bundle
from edge_runtime.model.encoder import Encoder
from edge_runtime.model.labels.compiled import load_labels
from edge_runtime.model.labels.label_set import load_label_set, parse_label_set
from edge_runtime.model.labels.scorer import Scorer
from edge_runtime.model.preprocess import Preprocessor
from tools import calibrate
from tools.factory.calibration import fits, label_file, tasks
from tools.lib.paths import RECIPES

COLOURS = {
    "red": (40, 40, 210),
    "green": (40, 210, 40),
    "blue": (210, 40, 40),
    "none": (120, 120, 120),
}
SET = """\
labels:
  - {name: red, group: colour}
  - {name: green, group: colour}
  - {name: blue, group: colour}
background: [grey]
"""


def paint(folder, bgr, count, seed=0):
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    for i in range(count):
        picture = np.clip(rng.normal(bgr, 25, (32, 32, 3)) + rng.normal(0, 12, 3), 0, 255).astype(
            np.uint8
        )
        cv2.imwrite(str(folder / f"{i:03}.png"), picture)


def run(*arguments):
    return calibrate.main([*map(str, arguments), "--cache", "cache"])


@pytest.fixture
def my_set(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my.yaml").write_text(SET)
    return tmp_path


def test_labelled_pictures_give_thresholds_biases_and_a_temperature(my_set, tiny_bundle, capsys):
    for name, colour in COLOURS.items():
        paint(my_set / "labelled" / name, colour, 24)
    assert run("labels", "my.yaml", "--bundle", tiny_bundle, "--labelled", "labelled") == 0
    out = capsys.readouterr().out
    assert "96 pictures" in out
    assert "calibration error" in out
    bundle = load_bundle(tiny_bundle)
    learned = load_label_set("my.calibrated.yaml", bundle)
    assert set(learned.temperatures) == {"colour"}
    assert all(label.threshold >= bundle.manifest.threshold for label in learned.labels)
    labels = load_labels("my.calibrated.yaml", bundle)
    score, prepare, encode = Scorer(labels), Preprocessor(bundle.manifest.input), Encoder(bundle)
    for name in ("red", "green", "blue"):
        picture = cv2.imread(str(my_set / "labelled" / name / "001.png"))
        votes = score(encode(prepare(picture))).votes
        assert [label for label, on in zip(labels.names, votes, strict=True) if on] == [name]


def test_a_background_label_learns_a_bias_but_no_threshold_and_stays_background(
    my_set, tiny_bundle
):
    (my_set / "my.yaml").write_text(SET.replace("name: green,", "name: green, background: true,"))
    for name, colour in COLOURS.items():
        paint(my_set / "labelled" / name, colour, 24)
    assert run("labels", "my.yaml", "--bundle", tiny_bundle, "--labelled", "labelled") == 0
    learned = {
        label.name: label
        for label in load_label_set("my.calibrated.yaml", load_bundle(tiny_bundle)).labels
    }
    assert {name: label.background for name, label in learned.items()} == {
        "red": False,
        "green": True,
        "blue": False,
    }
    assert learned["green"].threshold is None
    assert learned["green"].bias != 0
    assert learned["red"].threshold is not None


def test_unlabelled_pictures_pull_back_the_label_that_always_wins(my_set, tiny_bundle):
    paint(my_set / "usual", (60, 60, 180), 20)  # everything this camera sees is reddish
    assert run("labels", "my.yaml", "--bundle", tiny_bundle, "--pictures", "usual") == 0
    biases = {
        label.name: label.bias
        for label in load_label_set("my.calibrated.yaml", load_bundle(tiny_bundle)).labels
    }
    assert biases["red"] < 0 < min(biases["green"], biases["blue"])


def test_pictures_show_what_words_do_not_say_and_a_build_keeps_them(my_set, tiny_bundle, capsys):
    (my_set / "my.yaml").write_text(
        "labels: [{name: red}, {name: ours, prompts: [grey]}]\nbackground: [blue]\n"
    )
    paint(my_set / "usual", (120, 120, 120), 20)
    paint(my_set / "shown" / "ours", (40, 200, 60), 10)
    arguments = (
        "labels",
        "my.yaml",
        "--bundle",
        tiny_bundle,
        "--pictures",
        "usual",
        "--prototypes",
        "shown",
    )
    assert run(*arguments) == 0
    bundle = load_bundle(tiny_bundle)
    labels = load_labels("my.calibrated.yaml", bundle)
    embedding = labels.matrix[labels.names.index("ours")]
    assert embedding[1] > 0.3  # the axis of green, which none of its words names
    assert embedding[3] > 0.3  # the axis of grey, which its word names
    assert edge_label(["labels", "build", "my.calibrated.yaml", "--bundle", str(tiny_bundle)]) == 0
    assert "pictures, exact" in capsys.readouterr().out
    assert np.allclose(load_labels("my.calibrated.yaml", bundle).matrix, labels.matrix)


def test_what_is_written_reads_back_as_it_was():
    text = SET.replace("{name: red,", "{name: red, background: true,")
    label_set = parse_label_set(text + "templates: ['the {}']\ntemperatures: {colour: 2.5}\n", "x")
    assert parse_label_set(label_file.to_yaml(label_set, "made"), "x") == label_set


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "nothing to learn from"),
        (("--prototypes", "shown"), "--pictures"),
        (("--pictures", "nowhere"), "no such folder"),
        (("--prototypes", "nowhere", "--pictures", "wrong"), "expected one folder a label"),
        (("--labelled", "wrong"), "no label of the set"),
        (("--labelled", "single"), "two of its labels"),
    ],
)
def test_what_cannot_be_learned_from_is_one_line_and_writes_nothing(
    arguments, message, my_set, tiny_bundle, capsys
):
    paint(my_set / "wrong" / "purple", (0, 0, 0), 1)
    paint(my_set / "single" / "red", (0, 0, 200), 3)
    assert run("labels", "my.yaml", "--bundle", tiny_bundle, *arguments) != 0
    err = capsys.readouterr().err
    assert message in err
    assert err.splitlines()[-1].startswith("tools.calibrate: ")
    assert not (my_set / "my.calibrated.yaml").exists()


def test_every_label_of_the_calibration_recipe_is_a_label_of_its_set_and_group():
    import yaml

    shows = yaml.safe_load((RECIPES / "calibration.yaml").read_text())
    for name, groups in shows.items():
        source = RECIPES / "labels" / f"{name}.yaml"
        labels = {
            (label.group, label.name) for label in parse_label_set(source.read_text(), name).labels
        }
        for group, entries in groups.items():
            assert {(group, label) for label in entries if label != "none"} <= labels


def test_a_bundle_that_is_too_sure_is_calibrated_and_judged_on_other_pictures(
    my_set, tiny_bundle, capsys
):
    seen = {name: colour for name, colour in COLOURS.items() if name != "none"}
    for name, colour in seen.items():
        dull = tuple(
            int(105 + 0.06 * (c - 105)) for c in colour
        )  # hard to tell: often wrong, at a scale of 100 sure
        paint(my_set / "data" / "colours" / name, dull, 150, seed=1)  # two in five fit
        paint(my_set / "other" / name, dull, 90, seed=2)
    (my_set / "recipe.yaml").write_text(
        "name: toy\nteacher: {name: offline}\nstudent: {name: mobilenet_v2}\nbank: {path: none}\n"
        "data: [{name: colours, path: colours, label: folder, validation: 0.5}]\n"
    )
    before = (tiny_bundle / "manifest.json").read_bytes()
    arguments = (
        "bundle",
        tiny_bundle,
        "--recipe",
        "recipe.yaml",
        "--data",
        "data",
        "--evaluate",
        "other",
    )
    assert run(*arguments) == 0
    out = capsys.readouterr().out
    fitted, judged = re.findall(r"Mean calibration error (\S+) -> (\S+) ", out)
    assert float(fitted[1]) < float(fitted[0]) / 2
    assert float(judged[1]) < float(judged[0]) / 2
    assert "AUROC" in out
    assert (tiny_bundle / "manifest.json").read_bytes() == before, "written without --write"
    card = tiny_bundle / "MODEL_CARD.md"
    card.write_text("# tiny\n\n## What it scores\n\nwell\n\n## How it was made\n\nby hand\n")
    for _ in range(2):  # a second time changes nothing
        assert run(*arguments, "--write") == 0
        headings = re.findall("^## (.*)", card.read_text(), flags=re.MULTILINE)
        assert headings == ["What it scores", "Calibration", "How it was made"]
    assert "![reliability](evaluation/reliability.png)" in card.read_text()
    bundle = load_bundle(tiny_bundle)
    bundle.verify()
    assert bundle.read("evaluation/reliability.png").startswith(b"\x89PNG")
    manifest = bundle.manifest
    assert manifest.logit_scale < 50
    assert manifest.threshold == manifest.raw["calibration"]["threshold"]


def test_what_is_known_needs_two_classes_and_pictures_of_both_kinds():
    task = fits.Task("made", np.random.default_rng(0).normal(0, 1, (40, 4)), np.arange(40) % 4)
    assert set(tasks.known_against_unknown(task, 10.0)) == {"probability", "margin", "cosine"}
    for classes, truth in ((2, np.arange(40) % 2), (4, np.zeros(40, int))):
        assert (
            tasks.known_against_unknown(fits.Task("few", task.cosines[:, :classes], truth), 10.0)
            == {}
        )
