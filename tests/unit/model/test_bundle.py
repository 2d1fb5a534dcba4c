"""A bundle is used only as the whole it was made as."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest

from edge_runtime.errors import BundleError, EdgeLabelError, NoInputError
from edge_runtime.model.bundle import (
    DEFAULT_STORE,
    find_bundle,
    load_bundle,
    read_verified,
)
from edge_runtime.model.encoder import Encoder
from edge_runtime.model.labels.text_bank import TextBank
from edge_runtime.model.manifest import MAX_FILE_BYTES, MAX_MANIFEST_BYTES
from edge_runtime.model.text.encoder import find_text_encoder
from tests.tiny import encoder_onnx, npy_bytes, text_rows, write_tiny_bundle


def use(path: Path) -> None:
    """Everything a run does with a bundle before the first frame."""
    bundle = load_bundle(path)
    bundle.verify()
    TextBank.from_bundle(bundle)
    Encoder(bundle, threads=1)


def refusal(path: Path) -> str:
    with pytest.raises(EdgeLabelError) as error:
        use(path)
    assert error.value.exit_code in (66, 78)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_a_good_bundle_is_used(tiny_bundle: Path):
    use(tiny_bundle)
    assert load_bundle(tiny_bundle).manifest.id == "tiny-1.0.0"


@pytest.mark.fault("M2")
@pytest.mark.parametrize(
    "name", ["encoder.onnx", "text_bank.npy", "text_bank.json", "labels/colours.yaml"]
)
def test_one_flipped_bit_anywhere_is_found(tiny_bundle: Path, name: str):
    data = bytearray((tiny_bundle / name).read_bytes())
    data[len(data) // 2] ^= 1
    (tiny_bundle / name).write_bytes(data)
    assert "altered" in refusal(tiny_bundle)


@pytest.mark.parametrize(
    "name", ["encoder.onnx", "text_bank.npy", "text_bank.json", "manifest.json"]
)
def test_a_missing_file_is_named(tiny_bundle: Path, name: str):
    (tiny_bundle / name).unlink()
    assert f"{name}: missing" in refusal(tiny_bundle)


@pytest.mark.fault("M1")
@pytest.mark.parametrize("name", ["encoder.onnx", "text_bank.npy"])
def test_a_truncated_file_is_told_by_its_size(tiny_bundle: Path, name: str):
    data = (tiny_bundle / name).read_bytes()
    (tiny_bundle / name).write_bytes(data[: len(data) // 2])
    assert "the manifest says" in refusal(tiny_bundle)


@pytest.mark.fault("M1", "M3", "M4", "M5", "M8")
@pytest.mark.parametrize(
    ("files", "says"),
    [
        ({"encoder__dot__onnx": b""}, "not an ONNX model"),
        ({"encoder__dot__onnx": b"garbage" * 50}, "not an ONNX model"),
        ({"encoder__dot__onnx": encoder_onnx()[:200]}, "encoder.onnx"),
        ({"encoder__dot__onnx": encoder_onnx(shape=(1, 64, 64, 3))}, "the manifest promises"),
        ({"encoder__dot__onnx": encoder_onnx(dim=8)}, "the manifest promises"),
        (
            {"encoder__dot__onnx": encoder_onnx(space="other/clip")},
            "parts of two bundles are mixed",
        ),
        (
            {"encoder__dot__onnx": encoder_onnx(external="../secrets")},
            "weights live in another file",
        ),
        ({"text_bank__dot__npy": npy_bytes(text_rows()[:3])}, "6 names for rows of shape (3, 16)"),
        ({"text_bank__dot__npy": npy_bytes(np.eye(6, 8, dtype=np.float16))}, "dimension 16"),
        ({"text_bank__dot__json": b"{}"}, "not a text bank"),
        ({"text_bank__dot__json": b"[" * 10_000}, "not a text bank"),
        (
            {
                "text_bank__dot__json": json.dumps(
                    {
                        "schema": "edge-label-bank/1",
                        "text_space": "other",
                        "names": [],
                        "approximate": [],
                    }
                ).encode()
            },
            "parts of two bundles are mixed",
        ),
    ],
)
def test_a_part_that_does_not_fit_is_refused(tmp_path: Path, files: dict[str, bytes], says: str):
    assert says in refusal(write_tiny_bundle(tmp_path / "b", **files))


@pytest.mark.fault("M8")
def test_a_link_out_of_the_bundle_is_refused(tiny_bundle: Path, tmp_path: Path):
    target = tmp_path / "elsewhere.npy"
    (tiny_bundle / "text_bank.npy").rename(target)
    (tiny_bundle / "text_bank.npy").symlink_to(target)
    assert "points outside" in refusal(tiny_bundle)


@pytest.mark.parametrize("name", ["encoder.onnx", "manifest.json"])
def test_a_pipe_where_a_file_should_be_is_not_waited_for(tiny_bundle: Path, name: str):
    (tiny_bundle / name).unlink()
    os.mkfifo(tiny_bundle / name)

    assert f"{name}: is not a file" in refusal(tiny_bundle)


def test_a_manifest_over_one_megabyte_is_not_read(tiny_bundle: Path):
    os.truncate(tiny_bundle / "manifest.json", MAX_MANIFEST_BYTES + 1)
    assert "1048577 bytes, the limit is 1 MB" in refusal(tiny_bundle)


def test_a_file_over_half_a_gigabyte_is_not_read(tmp_path: Path):
    """The text encoder's manifest has no limit of its own, so the reader has."""
    (tmp_path / "encoder.onnx").touch()
    os.truncate(tmp_path / "encoder.onnx", MAX_FILE_BYTES + 1)

    with pytest.raises(BundleError, match="the limit is 512 MB"):
        read_verified(tmp_path, "encoder.onnx", "", MAX_FILE_BYTES + 1)


def test_the_store_that_failed_gives_no_bundle(tiny_bundle: Path):
    with pytest.raises(NoInputError, match="it holds no other bundle"):
        find_bundle(str(tiny_bundle), excluded_store=tiny_bundle.parent)


def test_the_bundle_is_found_where_it_is_said_to_be(
    tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    assert find_bundle(str(tiny_bundle)) == tiny_bundle
    monkeypatch.setenv("EDGE_LABEL_BUNDLE", str(tiny_bundle))
    assert find_bundle() == tiny_bundle
    with pytest.raises(NoInputError, match="check --bundle"):
        find_bundle(str(tmp_path / "none"))
    with pytest.raises(NoInputError):
        load_bundle(tmp_path / "none")


def test_a_store_that_is_closed_to_this_user_is_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """/var/lib/edge-label belongs to the service alone; everybody else's commands must go on."""
    real = Path.stat

    def closed(path: Path, **options: bool) -> os.stat_result:
        if path.is_relative_to(DEFAULT_STORE.parent):
            raise PermissionError(13, "Permission denied", str(path))
        return real(path, **options)

    monkeypatch.delenv("EDGE_LABEL_BUNDLE", raising=False)
    monkeypatch.delenv("EDGE_LABEL_TEXT_ENCODER", raising=False)
    monkeypatch.chdir(tmp_path)
    write_checkout(tmp_path)
    monkeypatch.setattr(Path, "stat", closed)
    assert find_bundle() == Path("models/edge-clip")
    assert find_text_encoder() == "models/text-encoder"


@pytest.mark.fault("G5")
def test_a_file_name_with_a_nul_byte_is_one_line(tmp_path: Path):
    with pytest.raises(BundleError, match="NUL byte"):
        read_verified(tmp_path, "a\0b", "", 0)


def write_checkout(folder: Path) -> None:
    """What tells a clone of this repository from any folder that has one named models."""
    write_models(folder)
    (folder / "pyproject.toml").write_text('[project]\nname = "edge-label"\n')
    (folder / "edge_runtime").mkdir()
    (folder / "edge_runtime" / "cli.py").touch()


def write_models(folder: Path) -> None:
    write_tiny_bundle(folder / "models" / "edge-clip")
    (folder / "models" / "text-encoder").mkdir()
    (folder / "models" / "text-encoder" / "manifest.json").touch()


@pytest.mark.fault("P15")
def test_a_folder_that_is_no_checkout_of_ours_gives_no_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Who stands in a stranger's folder, a stick say, must not run the model that lies in it."""
    monkeypatch.delenv("EDGE_LABEL_BUNDLE", raising=False)
    monkeypatch.delenv("EDGE_LABEL_TEXT_ENCODER", raising=False)
    monkeypatch.chdir(tmp_path)
    write_models(tmp_path)
    for find in (find_bundle, find_text_encoder):
        try:
            found = Path(find())
        except NoInputError:
            continue
        assert found.is_absolute(), found
        assert not found.resolve().is_relative_to(tmp_path)


@pytest.mark.parametrize("name", ["edge-clip", "edge-clip-multi"])
def test_the_shipped_bundles_are_whole(default_bundle: Path, name: str):
    use(default_bundle.with_name(name))
