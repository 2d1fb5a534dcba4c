"""A list of labels may live beside the recipe, and a label may stand for several whole prompts."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch", reason="needs edge-label[train]")
pytest.importorskip("PIL", reason="needs edge-label[train]")

from PIL import Image

from edge_runtime.errors import ConfigError
from tools.factory.data.samples import scan
from tools.factory.recipe import InputRecipe, Recipe, SourceRecipe, StudentRecipe, TeacherRecipe


@pytest.fixture
def recipe(tmp_path: Path) -> Recipe:
    for name in ("highway/a", "bridge/b", "plain/c"):
        (tmp_path / name).parent.mkdir()
        Image.fromarray(np.full((20, 20, 3), 90, np.uint8)).save(tmp_path / f"{name}.png")
    weather = tmp_path / "weather.csv"
    weather.write_text("file,label\nhighway/a.png,sunny\nbridge/b.png,cloudy\n")
    texts = tmp_path / "weather.yaml"
    texts.write_text("sunny: [a sunny day, a clear blue sky]\ncloudy: cloudy sky\nempty: []\n")
    sources = (
        SourceRecipe("highways", "highway", label="(a)"),
        SourceRecipe("bridges", "bridge", label="(b)"),
        SourceRecipe("weather", ".", kind="csv", list=str(weather), texts=str(texts)),
        SourceRecipe("plain", "plain"),
    )
    student = StudentRecipe("mobilenet_v2")
    return Recipe("test", TeacherRecipe("offline"), student, sources, input=InputRecipe(32, 32))


def test_a_list_kept_elsewhere_names_files_of_the_data_folder(
    recipe: Recipe, tmp_path: Path
) -> None:
    chosen = [s for s in scan(recipe.data, tmp_path) if recipe.data[s.source].name == "weather"]
    assert [s.file.relative_to(tmp_path).as_posix() for s in chosen] == [
        "highway/a.png",
        "bridge/b.png",
    ]
    assert chosen[0].prompts == ("a sunny day", "a clear blue sky")


def test_a_label_with_an_empty_list_of_prompts_is_refused(recipe: Recipe, tmp_path: Path) -> None:
    (tmp_path / "weather.csv").write_text("file,label\nhighway/a.png,empty\n")
    with pytest.raises(ConfigError, match="label 'empty' has an empty text"):
        scan(recipe.data, tmp_path)


def test_only_keeps_the_pictures_whose_path_matches(recipe: Recipe, tmp_path: Path) -> None:
    Image.fromarray(np.zeros((20, 20, 3), np.uint8)).save(tmp_path / "highway" / "depth.png")
    both = SourceRecipe("highways", "highway")
    assert len(scan((both,), tmp_path)) == 2
    colour = scan((replace(both, only="^a"),), tmp_path)
    assert [sample.key for sample in colour] == ["highways/a.png"]
    with pytest.raises(ConfigError, match="only is not a regular expression"):
        scan((replace(both, only="("),), tmp_path)
