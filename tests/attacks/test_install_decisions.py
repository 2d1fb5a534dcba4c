"""What is older, unsigned, unreadable or out of range is not installed."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

from edge_runtime.commands import signature
from edge_runtime.errors import BundleError, ConfigError, EdgeLabelError
from edge_runtime.model.bundle import load_bundle
from tests.attacks.as_root import NOBODY, root_only
from tests.attacks.test_archive import bundle_tar, install, pack, version
from tests.tiny import write_tiny_bundle

# Every decision fails closed.


@pytest.mark.fault("U3")
@pytest.mark.parametrize("damage", ["cut", "empty", "gone", "folder gone"])
def test_a_damaged_manifest_lets_no_older_version_in(tmp_path: Path, keys: tuple, damage: str):
    key, sign = keys
    store = tmp_path / "store"
    newer = write_tiny_bundle(tmp_path / "newer", {"version": "2.0.0"})
    older = write_tiny_bundle(tmp_path / "older", {"version": "1.0.0"})
    sign(newer), sign(older)
    install(pack(tmp_path / "newer.tar", newer), store, key)
    manifest = store / "current" / "manifest.json"
    match damage:
        case "cut":
            manifest.write_bytes(manifest.read_bytes()[:50])
        case "empty":
            manifest.write_bytes(b"")
        case "gone":
            manifest.unlink()
        case "folder gone":
            shutil.rmtree(manifest.parent.resolve())

    older_tar = pack(tmp_path / "older.tar", older)
    with pytest.raises(BundleError, match=r"it is unknown whether tiny-1\.0\.0 is newer"):
        install(older_tar, store, key)
    assert "tiny-2.0.0 installed" in install(
        tmp_path / "newer.tar", store, key
    )  # the same one mends it
    assert version(store) == "2.0.0"
    with pytest.raises(BundleError, match=r"is older"):
        install(older_tar, store, key)


@pytest.mark.fault("U3")
@pytest.mark.parametrize(
    "what", ["dangling", "folder dangling", "folder a file", "unreadable", "empty", "pipe"]
)
def test_a_key_that_cannot_be_read_lets_no_unsigned_bundle_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str
):
    if what == "unreadable" and os.geteuid() == 0:
        pytest.skip("root may read every file: needs an ordinary user")
    etc = tmp_path / "edge-label"
    key = etc / "bundle-key.pem"
    monkeypatch.setattr(signature, "DEFAULT_KEY", key)
    if what == "folder dangling":
        etc.symlink_to(tmp_path / "gone")
    elif what == "folder a file":
        etc.write_text("")
    else:
        etc.mkdir()
    match what:
        case "dangling":
            key.symlink_to(tmp_path / "gone")
        case "unreadable":
            key.touch(mode=0)
        case "empty":
            key.touch()
        case "pipe":
            os.mkfifo(key)
    with pytest.raises(EdgeLabelError, match=r"bundle-key\.pem|is not a folder") as error:
        install(bundle_tar(tmp_path), tmp_path / "store")
    assert error.value.exit_code in (66, 78)
    assert not (tmp_path / "store").exists()


@root_only
@pytest.mark.fault("U3")
def test_a_key_that_others_can_write_is_not_believed(tmp_path: Path, keys: tuple):
    key, sign = keys
    folder = write_tiny_bundle(tmp_path / "signed")
    sign(folder)
    archive = pack(tmp_path / "signed.tar", folder)
    os.chown(key, NOBODY, NOBODY)
    with pytest.raises(ConfigError, match=rf"belongs to user {NOBODY}"):
        install(archive, tmp_path / "store", key)
    os.chown(key, 0, 0)
    key.chmod(0o666)
    with pytest.raises(ConfigError, match=r"lets others write"):
        install(archive, tmp_path / "store", key)


@pytest.mark.fault("U3")
@pytest.mark.parametrize(
    ("new", "says"),
    [
        ({"version": "0.4.0-rc1"}, "is older than"),
        ({"version": "0.4.0-0"}, "is older than"),
        ({"version": "0.3.9"}, "is older than"),
        ({"version": "0.3.99999999999999999999"}, "is older than"),
        ({"version": "0.4.0", "data": "another"}, "has other content"),
        ({"version": "0.4.0+build2"}, "has other content"),
        ({"name": "other", "version": "0.1.0"}, "is not an update of"),
        ({"name": "other", "version": "9.0.0"}, "is not an update of"),
        ({"version": "0.5"}, "cannot be compared"),
        ({"version": "9.0.0.0"}, "cannot be compared"),
        ({"version": "00.5.0"}, "cannot be compared"),
        ({"version": "1.0.0-01"}, "cannot be compared"),
        ({"version": "latest"}, "cannot be compared"),
    ],
)
def test_what_is_no_update_is_refused_unless_insisted_on(tmp_path: Path, new: dict, says: str):
    store = tmp_path / "store"
    install(bundle_tar(tmp_path, "old", manifest={"version": "0.4.0"}), store)
    archive = bundle_tar(tmp_path, "new", manifest=new)
    with pytest.raises(BundleError, match=says) as error:
        install(archive, store)
    assert "--allow-downgrade installs it anyway" in str(error.value)
    assert version(store) == "0.4.0"
    install(archive, store, allow_downgrade=True)
    assert load_bundle(store / "current").manifest.raw.items() >= new.items()


@pytest.mark.fault("U3")
@pytest.mark.parametrize(
    "versions", [("0.4.0-rc1", "0.4.0"), ("1.0.0-rc.2", "1.0.0-rc.10"), ("0.9.0", "0.10.0")]
)
def test_what_is_an_update_is_taken(tmp_path: Path, versions: tuple[str, str]):
    store = tmp_path / "store"
    for number in versions:
        install(bundle_tar(tmp_path, number, manifest={"version": number}), store)
    assert version(store) == versions[1]


# Thresholds and scales are finite and in range.


@pytest.mark.fault("U4")
@pytest.mark.parametrize(
    "line",
    [
        '"threshold": NaN',
        '"threshold": -1e308',
        '"threshold": 1e308',
        '"threshold": -Infinity',
        '"threshold": 1.01',
        '"threshold": true',
        '"threshold": "0.5"',
        '"threshold": null',
        '"logit_scale": NaN',
        '"logit_scale": 1e-300',
        '"logit_scale": 1e400',
        '"logit_scale": -35.4',
        '"evaluation": {"top1": NaN}',
        '"minimum_runtime": "latest"',
        '"embedding": {"name": "embedding", "dim": 16.5}',
        '"embedding": {"name": "embedding", "dim": 1e18}',
        '"embedding": {"name": "embedding", "dim": -16}',
    ],
)
def test_a_number_that_makes_no_sense_is_refused(tmp_path: Path, line: str):
    folder = write_tiny_bundle(tmp_path / "b")
    manifest = folder / "manifest.json"
    raw = json.loads(manifest.read_text())
    raw.pop(line.split('"')[1], None)
    manifest.write_text(json.dumps(raw)[:-1] + f", {line}}}")
    with pytest.raises(BundleError, match=r"manifest\.json: ") as error:
        install(pack(tmp_path / "b.tar", folder), tmp_path / "store")
    assert "\n" not in str(error.value)


@pytest.mark.fault("U4")
@pytest.mark.parametrize(
    "key", ["threshold: .nan", "threshold: -1e308", "threshold: 1.5", "bias: .nan", "bias: 1e308"]
)
def test_a_label_set_of_the_bundle_is_read_before_it_is_installed(tmp_path: Path, key: str):
    text = f"labels:\n  - name: red\n    {key}\n".encode()
    with pytest.raises(BundleError, match=key.split(":")[0]):
        install(bundle_tar(tmp_path, labels__colours__dot__yaml=text), tmp_path / "store")
