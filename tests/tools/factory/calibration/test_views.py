"""The direction of strange views comes from pictures, and the runtime refuses by it."""

import json

import cv2
import numpy as np
import pytest

from edge_runtime.config import ModelConfig
from edge_runtime.engine import load_engine
from edge_runtime.errors import NoInputError
from edge_runtime.labeller import Labeller
from tools import calibrate
from tools.factory.calibration import views
from tools.factory.calibration.views import Views, fit_plane, pictures_of_view

RECIPE = {
    "ordinary": {"greenish": ["ordinary/*"]},
    "strange": {"reddish": ["strange/*"]},
}


def paint(folder, bgr, count=60):
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for number in range(count):
        picture = np.clip(rng.normal(bgr, 20, (32, 32, 3)), 0, 255).astype(np.uint8)
        cv2.imwrite(str(folder / f"{number}.png"), picture)


def test_a_written_direction_makes_the_runtime_refuse_such_views(
    tmp_path, tiny_bundle, monkeypatch, capsys
):
    monkeypatch.setattr(views, "read_recipe", lambda: RECIPE)
    paint(tmp_path / "ordinary", (60, 200, 60))
    paint(tmp_path / "strange", (60, 60, 200))
    arguments = ["views", tiny_bundle, "--data", tmp_path, "--cache", tmp_path / "cache"]

    assert calibrate.main([*map(str, arguments)]) == 0
    assert "strange_views" not in json.loads((tiny_bundle / "manifest.json").read_text())
    assert calibrate.main([*map(str, arguments), "--write"]) == 0
    assert "100% of the strange ones" in capsys.readouterr().out

    label = Labeller(load_engine(ModelConfig(bundle=str(tiny_bundle), labels="colours")))
    record = label(tmp_path / "strange" / "0.png")
    assert (record.state, record.strange_view) == ("unknown", True)
    record = label(tmp_path / "ordinary" / "0.png")
    assert (record.state, record.strange_view) == ("ok", None)


def test_what_measures_fits_nothing(tmp_path):
    paint(tmp_path / "all", (60, 60, 60))
    for number, file in enumerate(sorted((tmp_path / "all").iterdir())):
        cv2.imwrite(str(file), np.full((8, 8, 3), number, np.uint8))
    fits, measures = (
        {int(picture[0, 0, 0]) for picture in pictures_of_view("all/*", tmp_path, 100, measuring)}
        for measuring in (False, True)
    )
    assert fits
    assert measures
    assert not fits & measures
    assert fits | measures == set(range(60))

    drawn = {"drawn": "noise"}
    first, second = (
        next(pictures_of_view(drawn, tmp_path, 5, measuring)) for measuring in (False, True)
    )
    assert not np.array_equal(first, second)


def test_the_limit_refuses_two_percent_of_ordinary_views():
    rng = np.random.default_rng(0)
    rows = rng.normal(0, 1, (2000, 16)).astype(np.float32)
    rows[1000:, 0] += 5
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    weights = np.full(1000, 1.0)
    even = np.zeros(1000, np.float32)
    plane = fit_plane(Views(rows[:1000], even, weights), Views(rows[1000:], even, weights))
    direction, limit = plane.direction, plane.limit

    assert np.linalg.norm(direction) == pytest.approx(1, abs=1e-3)
    assert (rows[:1000] @ direction > limit).mean() == pytest.approx(0.02, abs=0.002)
    assert (rows[1000:] @ direction > limit).mean() > 0.9


def test_a_pack_that_is_not_there_is_one_line(tmp_path, tiny_bundle, monkeypatch, capsys):
    monkeypatch.setattr(views, "read_recipe", lambda: RECIPE)
    arguments = ["views", tiny_bundle, "--data", tmp_path, "--cache", tmp_path / "cache"]
    assert calibrate.main([*map(str, arguments)]) == NoInputError.exit_code
    assert "no pictures for ordinary/*" in capsys.readouterr().err
