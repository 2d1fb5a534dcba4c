"""Figures come with the machine that gave them."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge_runtime.commands import machine


def test_the_board_has_the_name_that_its_device_tree_gives(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    (tmp_path / "model").write_bytes(b"Raspberry Pi 4 Model B Rev 1.4\0")
    monkeypatch.setattr(machine, "_BOARD", tmp_path / "model")
    monkeypatch.setattr(machine, "_GOVERNOR", tmp_path / "none")
    facts = machine.machine_facts(threads=3)
    assert facts["cpu"] == "Raspberry Pi 4 Model B Rev 1.4"
    assert (facts["threads"], facts["governor"]) == (3, "unknown")


def test_a_computer_without_a_device_tree_has_its_processors_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(machine, "_BOARD", tmp_path / "none")
    assert machine.machine_facts(threads=1)["cpu"]
