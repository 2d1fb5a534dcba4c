"""A verdict is kept where the service may write, and a file that is not ours says nothing."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from edge_runtime.model.store.trial import FAILED, PASSED, Trial


def test_a_verdict_belongs_to_one_bundle(tmp_path: Path):
    trial = Trial(tmp_path / "trial")
    trial.note(PASSED, "tiny-1.0.0")

    assert trial.verdict("tiny-1.0.0") == PASSED
    assert trial.verdict("tiny-2.0.0") is None


def test_the_service_keeps_it_in_its_own_state_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("STATE_DIRECTORY", f"{tmp_path}/state:{tmp_path}/other")
    assert Trial.of(tmp_path / "store").file == tmp_path / "state" / "trial"

    monkeypatch.delenv("STATE_DIRECTORY")
    (tmp_path / "store").mkdir()
    assert Trial.of(tmp_path / "store").file == tmp_path / "store" / "trial"


def test_without_a_place_nothing_is_kept():
    trial = Trial(None)
    trial.note(FAILED, "tiny-1.0.0")
    assert trial.verdict("tiny-1.0.0") is None


def test_a_link_a_pipe_and_a_long_file_say_nothing(tmp_path: Path):
    (tmp_path / "real").write_text(f"{PASSED} tiny-1.0.0\n")
    (tmp_path / "link").symlink_to(tmp_path / "real")
    (tmp_path / "long").write_text("word " * 1000)
    os.mkfifo(tmp_path / "pipe")

    for name in ("link", "long", "pipe", "none"):
        assert Trial(tmp_path / name).verdict("tiny-1.0.0") is None
