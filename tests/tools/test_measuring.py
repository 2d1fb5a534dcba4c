"""Tools that measure report in one line what they cannot measure, and give a verdict only where
their figures allow one."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from edge_runtime.config import ModelConfig
from edge_runtime.engine import load_engine
from edge_runtime.errors import DataError, UsageError
from tools import evaluate
from tools.factory.evaluation import labelled
from tools.measure import flips, sink_cost, soak, variants


def one_line(capsys: pytest.CaptureFixture[str]) -> str:
    error = capsys.readouterr().err
    assert error.count("\n") == 1, error
    return error


def test_a_video_too_short_for_a_rate_is_refused(tiny_bundle: Path, tmp_path: Path) -> None:
    clip = tmp_path / "short.avi"
    writer = cv2.VideoWriter(str(clip), cv2.VideoWriter_fourcc(*"MJPG"), 25, (64, 48))
    writer.write(np.full((48, 64, 3), 90, np.uint8))
    writer.release()
    with pytest.raises(DataError, match=r"short\.avi: 1 frames in it"):
        flips.read_clip(clip, load_engine(ModelConfig(bundle=str(tiny_bundle), labels="colours")))


@pytest.mark.parametrize(
    ("low", "high", "mb", "verdict"),
    [
        (0.01, 0.02, 10, True),
        (0.02, 0.05, 10, None),
        (0.04, 0.05, 10, False),
        (0.02, 0.05, 30, False),  # too much memory, however long it took
        (0.01, 0.02, 30, False),
    ],
)
def test_only_time_that_is_unclear_leaves_the_budget_open(
    low: float, high: float, mb: float, verdict: bool | None
) -> None:
    assert sink_cost._verdict(low, high, mb) is verdict


def test_too_few_pairs_for_an_interval_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert 2 * 0.5**sink_cost.FEWEST_PAIRS < 0.05 < 2 * 0.5 ** (sink_cost.FEWEST_PAIRS - 1)
    (tmp_path / "clip.avi").touch()
    assert sink_cost.main([str(tmp_path / "clip.avi"), "--pairs", "5"]) == UsageError.exit_code
    assert "--pairs 5: fewer than 6" in one_line(capsys)


def test_a_daemon_that_does_not_start_is_said_with_its_own_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--minutes", "1", "--bundle", str(tmp_path / "none")]
    assert soak.main(arguments) == DataError.exit_code
    assert str(tmp_path / "none") in one_line(capsys)


@pytest.mark.parametrize("what", ["frames", "session"])
def test_what_cannot_be_measured_is_one_line(
    what: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert variants.main([what, str(tmp_path / "none")]) != 0
    assert str(tmp_path / "none") in one_line(capsys)


def test_a_prompt_without_a_place_for_the_class_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for prompt in ("a photo", "a photo of {name}", "{} and {}"):
        assert evaluate.main([str(tmp_path), "--prompt", prompt]) == UsageError.exit_code
        assert "needs one {}" in one_line(capsys)


def test_a_set_cannot_be_chosen_from_a_folder_that_is_one(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="leave --set out"):
        labelled.labelled_sets(tmp_path, "a photo of a {}", ["cifar10"])
