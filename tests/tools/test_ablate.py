"""The verb trains each variant with each seed once, and its table says what each has gained."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("torch", reason="needs edge-label[train]")
pytest.importorskip("transformers", reason="needs edge-label[train]")

from tools import ablate
from tools.factory.training.trainer import Trainer

INGREDIENTS = "moved texts: {losses: {text_noise: 0.2}}"


def test_ingredients_are_compared_with_nothing_new(
    recipe_text: str,
    colour_pictures: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / "tiny.yaml").write_text(recipe_text.replace("epochs: 2", "epochs: 1"))
    (tmp_path / "ingredients.yaml").write_text(INGREDIENTS)
    output = tmp_path / "runs"
    common = ["--data", str(colour_pictures), "--output", str(output), "--quiet", "--seeds", "2"]
    arguments = [
        str(tmp_path / "tiny.yaml"),
        "--ingredients",
        str(tmp_path / "ingredients.yaml"),
        *common,
    ]
    assert ablate.main(arguments) == 0
    table = capsys.readouterr().out.splitlines()
    names = [line.split("|")[1].strip() for line in table[2:]]
    assert names == [
        "the start",
        "nothing new",
        "moved texts",
        "all together",
        "all together, mean of 2 runs",
    ]
    assert table[0].split("|")[2:5] == [" mean ", " colours ", " small "]
    assert "(" not in table[3]
    assert table[4].count(" to ") == 3
    assert (output / "ablation.md").read_text().splitlines() == table

    # Two seeds are two trainings, and what is trained is not trained again.
    first, second = (output / f"moved-texts-{seed}" / "checkpoint.pt" for seed in (0, 1))
    assert first.read_bytes() != second.read_bytes()
    monkeypatch.setattr(Trainer, "_train_step", None)
    assert ablate.main(arguments) == 0
    assert capsys.readouterr().out.splitlines() == table


def test_an_ingredient_for_an_unknown_source_is_one_line(
    recipe_text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "tiny.yaml").write_text(recipe_text)
    (tmp_path / "ingredients.yaml").write_text("x: {data: {colors: {weight: 2}}}")
    arguments = [str(tmp_path / "tiny.yaml"), "--ingredients", str(tmp_path / "ingredients.yaml")]
    assert ablate.main([*arguments, "--output", str(tmp_path / "runs")]) == 78
    assert "the recipe has no source 'colors'" in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()
