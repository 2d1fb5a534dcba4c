"""Archives that reach out of their folder, unpack to too much, or are no archive: refused."""

# Over 400 lines because every attack on the tar reader is here, beside the archives they share.

from __future__ import annotations

import io
import os
import subprocess
import tarfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from edge_runtime.commands.install import install_bundle
from edge_runtime.config import ModelConfig
from edge_runtime.engine import start_engine
from edge_runtime.errors import BundleError, ConfigError, EdgeLabelError, NoInputError
from edge_runtime.model.bundle import load_bundle
from edge_runtime.model.store.archive import _members, unpack
from edge_runtime.model.store.bundle_store import BundleStore
from edge_runtime.model.store.trial import FAILED, PASSED, STARTED, UNTRIED, Trial
from edge_runtime.model.store.writable_store import opened
from tests.commands import need
from tests.daemon import Daemon, records_of, wait_until
from tests.tiny import DIM, SPACE, npy_bytes, text_rows, write_tiny_bundle


def pack(archive: Path, folder: Path, inside: str = "tiny") -> Path:
    """As a person would: tar cf ARCHIVE -C .. DIRECTORY."""
    with tarfile.open(archive, "w") as tar:
        tar.add(folder, arcname=inside)
    return archive


def bundle_tar(
    tmp_path: Path,
    name: str = "new",
    inside: str = "tiny",
    manifest: dict | None = None,
    **files: bytes,
):
    return pack(
        tmp_path / f"{name}.tar", write_tiny_bundle(tmp_path / name, manifest, **files), inside
    )


def install(
    archive: Path, store: Path, key: Path | None = None, allow_downgrade: bool = False
) -> str:
    return install_bundle(archive, store, key=key, allow_downgrade=allow_downgrade)


def tree(root: Path) -> set[str]:
    return {str(p.relative_to(root)) for p in root.rglob("*")}


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """A store with version 1.0.0 in use, its trial passed."""
    root = tmp_path / "state" / "bundles"
    add(root, "1.0.0")
    return root


def add(root: Path, version: str) -> None:
    """What an install does after its checks, and a first start that succeeded."""
    with opened(root) as store:
        staged = write_tiny_bundle(store.stage() / "bundle", {"version": version})
        store.add(load_bundle(staged), current_good=True)
        store.sweep()
    judge(root, PASSED)


def judge(root: Path, verdict: str) -> None:
    Trial(root / "trial").note(verdict, BundleStore(root).target("current"))


def verdict(root: Path) -> str | None:
    return Trial(root / "trial").verdict(BundleStore(root).target("current"))


def version(store: Path, link: str = "current") -> str:
    return load_bundle(store / link).manifest.version


@pytest.mark.parametrize("inside", ["tiny", "."])
@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_a_good_bundle_is_installed_whole(tmp_path: Path, inside: str, form: int):
    source = write_tiny_bundle(tmp_path / "tiny")
    archive = tmp_path / "b.tar"
    with tarfile.open(archive, "w", format=form) as tar:
        tar.add(source, arcname=inside)
    root = tmp_path / "state" / "bundles"
    assert "tiny-1.0.0 installed" in install(archive, root)
    assert tree(root / "current") == tree(source)
    load_bundle(root / "current").verify()


def test_the_tar_command_makes_what_install_takes(tmp_path: Path):
    source = write_tiny_bundle(tmp_path / "tiny")
    archive = tmp_path / "b.tar"
    subprocess.run(["tar", "cf", archive, "-C", source.parent, source.name], check=True)
    install(archive, tmp_path / "bundles")
    assert version(tmp_path / "bundles") == "1.0.0"


def member(name: str, data: bytes = b"x", **changes: object) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.size = len(data)
    for key, value in changes.items():
        setattr(info, key, value)
    return info, data


HOSTILE = {
    "parent": member("../evil"),
    "deep parent": member("tiny/../../evil"),
    "absolute": member("/tmp/edge-label-evil"),
    "backslash": member("tiny\\..\\evil"),
    "newline": member("tiny/a\nb"),
    "escape": member("tiny/\x1b[2Jx"),
    "nothing": member(""),
    "symlink": member("tiny/link", b"", type=tarfile.SYMTYPE, linkname="/etc/passwd"),
    "hard link": member("tiny/hard", b"", type=tarfile.LNKTYPE, linkname="tiny/encoder.onnx"),
    "character device": member("tiny/null", b"", type=tarfile.CHRTYPE, devmajor=1, devminor=3),
    "block device": member("tiny/sda", b"", type=tarfile.BLKTYPE, devmajor=8),
    "pipe": member("tiny/pipe", b"", type=tarfile.FIFOTYPE),
    "GNU sparse": member("tiny/sparse", b"", type=tarfile.GNUTYPE_SPARSE),
    "GNU long name": member("tiny/" + "n" * 300),
    "twice": member("tiny/encoder.onnx"),
    "not in the manifest": member("tiny/run.sh", b"#!/bin/sh\n"),
    "manifest of another": member("other/manifest.json", b"{}"),
}


@pytest.mark.fault("M9")
@pytest.mark.parametrize("what", HOSTILE)
def test_a_hostile_member_is_refused_and_nothing_is_written(tmp_path: Path, store: Path, what: str):
    archive = bundle_tar(tmp_path, manifest={"version": "2.0.0"})
    info, data = HOSTILE[what]
    with tarfile.open(archive, "a", format=tarfile.GNU_FORMAT) as tar:
        tar.addfile(info, io.BytesIO(data))
    outside = tree(tmp_path)
    with pytest.raises(BundleError) as error:
        install(archive, store)
    assert "\n" not in str(error.value)
    assert tree(tmp_path) == outside
    assert not Path("/tmp/edge-label-evil").exists()
    assert version(store) == "1.0.0"


def header(name: str, size: bytes, kind: bytes = b"0") -> bytes:
    """A tar header with any size field and a right check sum."""
    raw = bytearray(512)
    raw[: len(name)] = name.encode()
    raw[124 : 124 + len(size)] = size
    raw[156:157] = kind
    raw[257:263] = b"ustar\0"
    raw[148:156] = b"%06o\0 " % (sum(raw) + 8 * 32)
    return bytes(raw)


BOMBS = {
    "a size beyond the archive": header("tiny/a", b"77777777777"),
    "a binary size of 8 GB": header("tiny/a", b"\x80\0\0\0\0\0\0\2\0\0\0\0"),
    "a negative size": header("tiny/a", b"\xff" * 12),
    "a size that is no number": header("tiny/a", b"12x"),
    "a pax note of 8 GB": header("tiny/pax", b"77777777777", b"x"),
    "a wrong check sum": b"tiny/a".ljust(512, b"\0"),
    "a thousand members": header("tiny/d", b"0", b"5") * 1000,
    "no end": header("tiny/d", b"0", b"5"),
    "half a header": b"x" * 100,
    "nothing at all": b"",
    "zeros": bytes(10240),
}


@pytest.mark.fault("M9")
@pytest.mark.parametrize("what", BOMBS)
def test_a_bomb_is_refused_at_once(tmp_path: Path, store: Path, what: str):
    archive = tmp_path / "bomb.tar"
    archive.write_bytes(BOMBS[what])
    before = tree(store)
    start = time.monotonic()
    with pytest.raises(BundleError):
        install(archive, store)
    assert time.monotonic() - start < 2
    assert tree(store) == before


@pytest.mark.fault("M9")
@pytest.mark.parametrize("command", [["gzip", "-k"], ["xz", "-k"], ["bzip2", "-k"]])
def test_a_compressed_archive_is_named_not_unpacked(
    tmp_path: Path, store: Path, command: list[str]
):
    need(command[0], {"xz": "xz-utils"}.get(command[0], command[0]))
    archive = bundle_tar(tmp_path)
    subprocess.run([*command, archive], check=True)
    packed = next(p for p in tmp_path.glob("new.tar.*"))
    with pytest.raises(BundleError, match=r"plain \.tar"):
        install(packed, store)


@pytest.mark.fault("M9")
def test_more_than_a_gigabyte_is_refused_before_it_is_written(tmp_path: Path):
    """A sparse file on our side, so the test itself costs no disk."""
    archive = tmp_path / "big.tar"
    with archive.open("wb") as stream:
        for n in range(3):
            stream.write(header(f"tiny/{n}", b"%011o" % (400 << 20)))
            stream.seek(400 << 20, os.SEEK_CUR)
    os.truncate(archive, archive.stat().st_size + (400 << 20))
    with archive.open("rb") as stream, pytest.raises(BundleError, match="unpacks to more"):
        list(_members(stream, archive.stat().st_size, "big.tar"))


@pytest.mark.fault("M9")
def test_one_file_over_half_a_gigabyte_is_refused_before_it_is_written(tmp_path: Path):
    archive = tmp_path / "big.tar"
    archive.write_bytes(header("tiny/encoder.onnx", b"%011o" % ((512 << 20) + 1)))
    os.truncate(archive, 600 << 20)  # sparse: it costs no disk

    with pytest.raises(BundleError, match="512 MB a file"):
        unpack(archive, tmp_path / "into")
    assert not list((tmp_path / "into").iterdir())


@pytest.mark.fault("M10")
def test_a_downgrade_is_refused_unless_insisted_on(tmp_path: Path, store: Path):
    older = bundle_tar(tmp_path, "older", manifest={"version": "0.9.9"})
    with pytest.raises(BundleError, match=r"tiny-0\.9\.9 is older than the installed tiny-1\.0\.0"):
        install(older, store)
    assert version(store) == "1.0.0"
    install(older, store, allow_downgrade=True)
    assert (version(store), version(store, "previous")) == ("0.9.9", "1.0.0")


@pytest.mark.fault("M10")
def test_another_build_of_the_same_version_is_refused(tmp_path: Path, store: Path):
    twin = bundle_tar(tmp_path, "twin", labels__colours__dot__yaml=b"labels: [{name: red}]\n")
    with pytest.raises(BundleError, match="higher version"):
        install(twin, store)


def test_the_same_bundle_again_is_no_error(tmp_path: Path, store: Path):
    assert "installed already" in install(bundle_tar(tmp_path, "again"), store)


def test_installing_again_mends_a_damaged_bundle_and_keeps_the_previous_one(
    tmp_path: Path, store: Path
):
    second = bundle_tar(tmp_path, "second", manifest={"version": "2.0.0"})
    install(second, store)
    judge(store, PASSED)
    spoil(store)
    assert "2.0.0 installed" in install(second, store)
    assert load_bundle(store / "current").verify() > 0
    assert (version(store), version(store, "previous")) == ("2.0.0", "1.0.0")


@pytest.mark.fault("M10")
def test_with_a_key_only_a_signed_bundle_is_taken(tmp_path: Path, store: Path, keys: tuple):
    key, sign = keys
    folder = write_tiny_bundle(tmp_path / "signed", {"version": "2.0.0"})
    with pytest.raises(BundleError, match="not signed"):
        install(pack(tmp_path / "unsigned.tar", folder), store, key)
    sign(folder)
    assert "signature good" in install(pack(tmp_path / "signed.tar", folder), store, key)
    assert version(store) == "2.0.0"


@pytest.mark.fault("M10")
def test_a_signature_over_another_manifest_is_refused(tmp_path: Path, store: Path, keys: tuple):
    key, sign = keys
    folder = write_tiny_bundle(tmp_path / "forged", {"version": "2.0.0"})
    sign(folder)
    manifest = folder / "manifest.json"
    manifest.write_text(manifest.read_text().replace("2.0.0", "2.0.1"))
    with pytest.raises(BundleError, match="not made with the key"):
        install(pack(tmp_path / "forged.tar", folder), store, key)
    assert version(store) == "1.0.0"
    key.write_text("no key")
    with pytest.raises(ConfigError, match="Ed25519"):
        install(pack(tmp_path / "forged.tar", folder), store, key)


@pytest.mark.fault("M10")
@pytest.mark.parametrize(
    ("change", "says"),
    [
        (
            {"manifest": {"version": "2.0.0", "minimum_runtime": "99.0.0"}},
            "needs edge-label 99.0.0",
        ),
        ({"manifest": {"version": "2.0.0", "text_space": "another/space"}}, "text space"),
        ({"encoder__dot__onnx": b"garbage"}, "not an ONNX model"),
        ({"text_bank__dot__npy": npy_bytes(np.full((6, DIM), np.nan, np.float16))}, "norm"),
    ],
)
def test_a_bundle_that_cannot_run_never_replaces_one_that_can(
    tmp_path: Path, store: Path, change: dict, says: str
):
    change.setdefault("manifest", {"version": "2.0.0"})
    with pytest.raises(BundleError, match=says):
        install(bundle_tar(tmp_path, "bad", **change), store)
    assert version(store) == "1.0.0"
    assert verdict(store) == PASSED
    assert not list(store.glob(".incoming*"))


@pytest.mark.fault("M10")
def test_one_changed_byte_is_refused(tmp_path: Path, store: Path):
    folder = write_tiny_bundle(tmp_path / "flip", {"version": "2.0.0"})
    model = folder / "encoder.onnx"
    data = bytearray(model.read_bytes())
    data[len(data) // 2] ^= 1
    model.write_bytes(data)
    with pytest.raises(BundleError, match="sha256"):
        install(pack(tmp_path / "flip.tar", folder), store)


def bomb_onnx() -> bytes:
    """400 bytes of graph that unfold to 40 GB when the constant is made."""
    shape = helper.make_tensor("shape", TensorProto.INT64, [2], [100_000, 100_000])
    axes = helper.make_tensor("axes", TensorProto.INT64, [2], [1, 2])
    graph = helper.make_graph(
        [
            helper.make_node("ConstantOfShape", ["shape"], ["huge"]),
            helper.make_node("ReduceSum", ["huge"], ["sum"], keepdims=0),
            helper.make_node("Cast", ["pixels"], ["float"], to=TensorProto.FLOAT),
            helper.make_node("ReduceMean", ["float", "axes"], ["mean"], keepdims=0),
            helper.make_node("Add", ["mean", "sum"], ["embedding"]),
        ],
        "bomb",
        [helper.make_tensor_value_info("pixels", TensorProto.UINT8, (1, 32, 32, 3))],
        [helper.make_tensor_value_info("embedding", TensorProto.FLOAT, (1, 3))],
        [shape, axes],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    helper.set_model_props(model, {"edge_label.text_space": SPACE})
    data: bytes = model.SerializeToString()
    onnx.checker.check_model(model)
    return data


@pytest.mark.fault("M12")
def test_a_graph_that_unfolds_to_forty_gigabytes_dies_in_a_child(tmp_path: Path, store: Path):
    manifest = {"version": "2.0.0", "embedding": {"name": "embedding", "dim": 3}}
    rows = npy_bytes((text_rows()[:, :3] + [0, 0, 1e-3]).astype(np.float16))
    archive = bundle_tar(
        tmp_path,
        "bomb",
        manifest=manifest,
        encoder__dot__onnx=bomb_onnx(),
        text_bank__dot__npy=rows,
    )
    start = time.monotonic()
    with pytest.raises(
        BundleError, match=r"ONNX Runtime (refuses it|fails)|needs more|ended by SIG"
    ) as error:
        install(archive, store)
    print(error.value)
    assert time.monotonic() - start < 30
    assert version(store) == "1.0.0"


def spoil(store: Path) -> None:
    """What passed at installation is damaged before its first start: a bad card, a power cut."""
    (store / "current" / "encoder.onnx").write_bytes(b"")


@pytest.mark.fault("M10")
def test_a_bundle_that_fails_its_first_start_is_rolled_back(tmp_path: Path, store: Path):
    install(bundle_tar(tmp_path, manifest={"version": "2.0.0"}), store)
    assert (version(store), version(store, "previous")) == ("2.0.0", "1.0.0")
    spoil(store)
    output = tmp_path / "out.jsonl"
    arguments = (
        "--camera",
        "demo",
        "--bundle",
        store / "current",
        "--labels",
        "colours",
        "--output",
        output,
    )
    for _ in range(2):  # at the next start too
        with Daemon(tmp_path, *arguments) as daemon:
            seen = len(records_of(output))
            wait_until(lambda seen=seen: len(records_of(output)) > seen)
            assert daemon.stop() == 0
        assert "1.0.0" in daemon.log
        assert verdict(store) == FAILED
    assert {r["bundle"] for r in records_of(output)} == {"tiny-1.0.0"}


@pytest.mark.fault("M10")
def test_a_bundle_after_a_failed_one_goes_back_to_the_last_good_one(tmp_path: Path, store: Path):
    for number in (2, 3, 4):
        install(bundle_tar(tmp_path, f"v{number}", manifest={"version": f"{number}.0.0"}), store)
        assert (version(store), version(store, "previous")) == (f"{number}.0.0", "1.0.0")
        judge(store, FAILED)
    folders = [path.name for path in store.iterdir() if path.is_dir() and not path.is_symlink()]
    assert sorted(name.split("-")[1] for name in folders) == ["1.0.0", "4.0.0"]


@pytest.mark.fault("M10")
def test_a_bundle_that_failed_gets_a_new_trial_when_it_is_installed_again(
    tmp_path: Path, store: Path
):
    archive = bundle_tar(tmp_path, manifest={"version": "2.0.0"})
    install(archive, store)
    judge(store, FAILED)
    assert "tiny-2.0.0 installed" in install(archive, store)
    assert verdict(store) is None
    assert (version(store), version(store, "previous")) == ("2.0.0", "1.0.0")
    judge(store, PASSED)
    assert "installed already" in install(archive, store)


def config_of(store: Path) -> ModelConfig:
    return ModelConfig(bundle=str(store / "current"), labels="colours")


@pytest.mark.fault("M10")
def test_a_first_start_that_dies_is_rolled_back_at_the_next(tmp_path: Path, store: Path):
    install(bundle_tar(tmp_path, manifest={"version": "2.0.0"}), store)
    judge(
        store, STARTED
    )  # the process was killed there, by SIGILL or by the kernel's memory killer
    assert start_engine(config_of(store)).manifest.version == "1.0.0"
    assert verdict(store) == FAILED


@pytest.mark.fault("M10")
def test_a_first_bundle_that_fails_with_none_before_it_is_one_line(tmp_path: Path):
    store = tmp_path / "store"
    install(bundle_tar(tmp_path), store)
    judge(store, FAILED)
    with pytest.raises(BundleError, match=r"failed its first start.*install another"):
        start_engine(config_of(store))


@pytest.mark.fault("M10")
def test_a_mistake_in_the_configuration_is_not_blamed_on_a_new_bundle(tmp_path: Path, store: Path):
    install(bundle_tar(tmp_path, manifest={"version": "2.0.0"}), store)
    with pytest.raises(EdgeLabelError, match="no such label set"):
        start_engine(replace(config_of(store), labels="none"))
    assert verdict(store) == UNTRIED
    assert start_engine(config_of(store)).manifest.version == "2.0.0"
    assert verdict(store) == PASSED


@pytest.mark.fault("M10")
def test_a_reload_takes_the_new_bundle_or_keeps_the_old_one_running(tmp_path: Path, store: Path):
    output = tmp_path / "out.jsonl"
    arguments = (
        "--camera",
        "demo",
        "--bundle",
        store / "current",
        "--labels",
        "colours",
        "--output",
        output,
    )
    with Daemon(tmp_path, *arguments) as daemon:
        wait_until(lambda: records_of(output))
        install(bundle_tar(tmp_path, "two", manifest={"version": "2.0.0"}), store)
        daemon.process.send_signal(1)
        daemon.wait_for("STATUS=reloaded")
        wait_until(lambda: records_of(output)[-1]["bundle"] == "tiny-2.0.0")
        assert verdict(store) == PASSED
        install(bundle_tar(tmp_path, "three", manifest={"version": "3.0.0"}), store)
        spoil(store)
        daemon.process.send_signal(1)
        daemon.wait_for("STATUS=reload refused")
        seen = len(records_of(output))
        wait_until(lambda: len(records_of(output)) > seen + 5)
        assert daemon.stop() == 0
    assert records_of(output)[-1]["bundle"] == "tiny-2.0.0"
    assert verdict(store) == FAILED
    assert version(store, "previous") == "2.0.0"


def test_only_the_current_and_the_previous_bundle_are_kept(store: Path):
    for number in range(2, 6):
        add(store, f"{number}.0.0")
    assert (version(store), version(store, "previous")) == ("5.0.0", "4.0.0")
    assert len([p for p in store.iterdir() if p.is_dir() and not p.is_symlink()]) == 2


def test_a_missing_archive_is_one_line(tmp_path: Path):
    with pytest.raises(NoInputError, match="no such file"):
        unpack(tmp_path / "none.tar", tmp_path / "into")
    with pytest.raises(EdgeLabelError):
        install(tmp_path / "none.tar", tmp_path / "bundles")
