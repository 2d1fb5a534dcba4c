"""Half of the way is half of the way, and a run without a known start is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="needs edge-label[train]")

from tools import interpolate  # noqa: E402
from tools.factory.training import interpolation  # noqa: E402


def test_between_walks_straight_from_start_to_end() -> None:
    start, end = {"w": torch.zeros(3)}, {"w": torch.tensor([1.0, 2.0, 4.0])}
    assert interpolation.between(start, end, 0.25)["w"].tolist() == [0.25, 0.5, 1.0]
    assert interpolation.between(start, end, 0)["w"].tolist() == start["w"].tolist()
    assert interpolation.between(start, end, 1)["w"].tolist() == end["w"].tolist()
    # BatchNorm counts its steps in whole numbers.
    start, end = {"count": torch.tensor(3)}, {"count": torch.tensor(8)}
    assert interpolation.between(start, end, 0.5)["count"] == 8


def test_missing_run_and_half_a_request_are_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert interpolate.main([str(tmp_path / "none"), "--share", "0.5"]) == 2
    assert "--share and --output belong together" in capsys.readouterr().err
    assert (
        interpolate.main(
            [str(tmp_path / "none"), "--share", "0.5", "--output", str(tmp_path / "out")]
        )
        == 66
    )
    assert capsys.readouterr().err.count("\n") == 1
    assert not (tmp_path / "out").exists()
