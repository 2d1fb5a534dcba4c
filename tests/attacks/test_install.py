"""Attacks on ``bundle install``: by the service's user on root, by an archive on the rules, by accident on a home.

Root is played by root; what only root can play is skipped for an ordinary developer, and says so.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from edge_runtime.commands import install as module
from edge_runtime.commands import signature
from edge_runtime.commands.tables import open_table
from edge_runtime.errors import BundleError, ConfigError, EdgeLabelError, NoInputError
from edge_runtime.model import bundle as bundle_module
from edge_runtime.model.bundle import find_bundle, load_bundle
from edge_runtime.model.store import trial as trial_module
from edge_runtime.model.store.bundle_store import BundleStore
from edge_runtime.model.store.trial import PASSED, Trial
from edge_runtime.model.store.writable_store import MARKER, bundle_name, opened
from edge_runtime.sinks.files.record_file import Caps, RecordFile
from edge_runtime.system.files import write_atomically
from edge_runtime.system.ownership import path_that_only_root_can_change
from tests.attacks.test_archive import bundle_tar, install, pack, spoil, tree, version
from tests.commands import need
from tests.daemon import REPOSITORY
from tests.tiny import write_tiny_bundle

NOBODY = 65534
root_only = pytest.mark.skipif(
    os.geteuid() != 0, reason="plays root against another user: needs root"
)


@pytest.fixture
def var(tmp_path: Path) -> Iterator[Path]:
    """A /var/lib of root's, where another user can look in, as pytest's own folders do not allow."""
    folder = Path(tempfile.mkdtemp(prefix="edge-label-test-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def state(var: Path) -> Path:
    """The service's state directory: its own, as systemd makes it."""
    folder = var / "edge-label"
    folder.mkdir(mode=0o755)
    os.chown(folder, NOBODY, NOBODY)
    return folder


@pytest.fixture
def store(var: Path, tmp_path: Path) -> Path:
    """A store beside the state directory with version 1.0.0 in use."""
    root = var / "edge-label-bundles"
    install(bundle_tar(tmp_path, "first"), root)
    return root


def as_nobody(attack: Callable[[], object]) -> str:
    """Do it in a process of the service's user; returns the name of the exception that ended it, or nothing."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.setgroups([])
            os.setresgid(NOBODY, NOBODY, NOBODY)
            os.setresuid(NOBODY, NOBODY, NOBODY)
            attack()
        except BaseException as error:
            os.write(write, type(error).__name__.encode())
        finally:
            os._exit(0)
    os.close(write)
    os.waitpid(child, 0)
    with os.fdopen(read) as stream:
        return stream.read()


def facts(root: Path) -> dict[str, tuple[int, int, int]]:
    """Owner, mode and inode of everything below."""
    found = {}
    for path in sorted(root.rglob("*")):
        at = path.lstat()
        found[str(path.relative_to(root))] = (at.st_uid, at.st_mode, at.st_ino)
    return found


# A store is recognisably ours, and nothing that we did not create is ever deleted.


@pytest.mark.fault("U1")
def test_a_home_is_no_store_and_nothing_in_it_is_touched(tmp_path: Path):
    home = tmp_path / "home"
    for name in ("photos/a.jpg", "documents/letter.txt", ".ssh/id_ed25519"):
        (home / name).parent.mkdir(parents=True)
        (home / name).write_text(name)
    before = facts(home)
    with pytest.raises(ConfigError, match=r"is no bundle store, it holds '\.ssh'") as error:
        install(bundle_tar(tmp_path), home)
    assert "\n" not in str(error.value)
    assert facts(home) == before


@pytest.mark.fault("U1")
@pytest.mark.parametrize("made", [True, False])
def test_an_empty_or_absent_folder_becomes_a_store(tmp_path: Path, made: bool):
    root = tmp_path / "a" / "store"
    if made:
        root.mkdir(parents=True)
    install(bundle_tar(tmp_path), root)
    assert version(root) == "1.0.0"
    assert (root / MARKER).is_file()


@pytest.mark.fault("U1")
def test_what_others_put_into_a_store_stays(tmp_path: Path):
    store = tmp_path / "store"
    install(bundle_tar(tmp_path, "v1"), store)
    (store / "photos").mkdir()
    (store / "photos" / "a.jpg").write_text("a")
    (store / "tiny-0.1.0-0123abcd").mkdir()  # named like one of ours, and is not
    (store / "tiny-0.1.0-0123abcd" / "diary.txt").write_text("d")
    (store / ".incoming.mine").mkdir()
    (store / "note.txt").write_text("n")
    in_ours = store / "current" / "notes.txt"
    in_ours.write_text("mine")

    told = ""
    for number in (2, 3, 4):
        told += install(
            bundle_tar(tmp_path, f"v{number}", manifest={"version": f"{number}.0.0"}), store
        )

    assert "tiny-0.1.0-0123abcd stays, it cannot be read as a bundle" in told
    assert "notes.txt in it is not of the bundle" in told
    kept = tree(store)
    assert {"photos/a.jpg", "tiny-0.1.0-0123abcd/diary.txt", ".incoming.mine", "note.txt"} <= kept
    assert len([name for name in kept if name.endswith("/notes.txt")]) == 1
    assert not [
        name for name in kept if name.startswith("tiny-2.0.0")
    ]  # ours and nothing else: gone


@pytest.mark.fault("U1")
def test_a_marker_that_is_not_ours_makes_no_store(tmp_path: Path):
    store = tmp_path / "store"
    store.mkdir()
    (store / MARKER).write_text("something else")
    (store / "photos").mkdir()
    with pytest.raises(ConfigError, match=r"was not made by edge-label"):
        install(bundle_tar(tmp_path), store)
    (store / MARKER).unlink()
    os.mkfifo(store / MARKER)
    with pytest.raises(ConfigError, match=r"was not made by edge-label"):
        install(bundle_tar(tmp_path, "again"), store)
    assert (store / "photos").is_dir()


@pytest.mark.fault("U1")
@pytest.mark.parametrize("what", ["folder", "out"])
def test_a_current_that_no_install_made_is_refused(tmp_path: Path, what: str):
    store = tmp_path / "store"
    install(bundle_tar(tmp_path, "v1"), store)
    (store / "current").unlink()
    if what == "folder":
        (store / "current").mkdir()
    else:
        (store / "current").symlink_to(tmp_path)
    with pytest.raises(ConfigError, match=r"current: (is not the link|leads out)"):
        install(bundle_tar(tmp_path, "v2", manifest={"version": "2.0.0"}), store)
    assert (store / "current").is_dir()


def test_no_store_is_made_for_an_archive_that_is_not_there(tmp_path: Path):
    with pytest.raises(NoInputError, match=r"no such file"):
        install(tmp_path / "none.tar", tmp_path / "store")
    assert not (tmp_path / "store").exists()


def test_a_pipe_or_a_folder_is_no_archive_and_is_not_waited_for(tmp_path: Path):
    os.mkfifo(tmp_path / "pipe.tar")
    for path in (tmp_path / "pipe.tar", tmp_path, Path("/dev/zero")):
        with pytest.raises(BundleError, match=r"is not a file"):
            install(path, tmp_path / "store")


# Root works where only root can write.


@root_only
@pytest.mark.fault("U2")
def test_a_planted_link_makes_root_write_nowhere_else(var: Path, state: Path, tmp_path: Path):
    secret = var / "shadow"
    secret.write_text("root:secret")
    secret.chmod(0o600)

    def plant() -> None:
        (state / "bundles").mkdir()
        for name in (".trial.new", "trial", MARKER, ".incoming", ".current.new"):
            (state / "bundles" / name).symlink_to(secret)

    assert as_nobody(plant) == ""
    with pytest.raises(ConfigError, match=rf"edge-label: belongs to user {NOBODY}"):
        install(bundle_tar(tmp_path), state / "bundles")
    assert secret.read_text() == "root:secret"
    assert stat.S_IMODE(secret.stat().st_mode) == 0o600


@root_only
@pytest.mark.fault("U2")
def test_a_store_replaced_by_a_link_makes_root_delete_nothing(
    var: Path, state: Path, tmp_path: Path
):
    foreign = var / "srv"
    (foreign / "website").mkdir(parents=True)
    before = facts(foreign)
    assert as_nobody(lambda: (state / "bundles").symlink_to(foreign)) == ""
    with pytest.raises(ConfigError, match=r"belongs to user"):
        install(bundle_tar(tmp_path), state / "bundles")
    assert facts(foreign) == before


@root_only
@pytest.mark.fault("U2")
def test_staging_cannot_be_swapped_during_the_self_test(
    var: Path, state: Path, store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    foreign = var / "srv"
    foreign.mkdir()
    (foreign / "page").write_text("x")
    before = facts(foreign)
    ended = []

    def attack(folder: Path) -> None:
        def swap() -> None:
            folder.parent.rename(state / "taken")
            folder.parent.symlink_to(foreign)

        def write() -> None:
            (folder / "encoder.onnx").write_bytes(b"evil")

        def plant() -> None:
            (store / ".current.new").symlink_to(foreign)

        ended.extend(as_nobody(deed) for deed in (swap, write, plant))

    monkeypatch.setattr(module, "self_test_in_child", attack)
    install(bundle_tar(tmp_path, "v2", manifest={"version": "2.0.0"}), store)
    assert ended == ["PermissionError"] * 3
    assert version(store) == "2.0.0"
    assert facts(foreign) == before
    assert {uid for uid, _, _ in facts(store).values()} == {0}


@root_only
@pytest.mark.fault("U2")
@pytest.mark.parametrize("mode", [0o777, 0o775, 0o1777])
def test_a_store_where_others_can_write_is_refused(var: Path, tmp_path: Path, mode: int):
    parent = var / "shared"
    parent.mkdir()
    os.chown(parent, 0, NOBODY)
    parent.chmod(mode)
    if mode & stat.S_ISVTX:  # others cannot take root's folder away, but they may have made it
        assert as_nobody(lambda: (parent / "store").mkdir()) == ""
    with pytest.raises(ConfigError, match=r"lets others write|belongs to user"):
        install(bundle_tar(tmp_path), parent / "store")


@root_only
@pytest.mark.fault("U2")
def test_links_on_the_way_are_followed_only_where_root_made_them(var: Path, state: Path):
    (var / "real").mkdir()
    (var / "of-root").symlink_to("real/../real")
    assert path_that_only_root_can_change(var / "of-root" / "new") == var / "real" / "new"
    assert as_nobody(lambda: (state / "link").symlink_to(var / "real")) == ""
    (var / "hop").symlink_to(state / "link")
    with pytest.raises(ConfigError, match=r"belongs to user"):
        path_that_only_root_can_change(var / "hop" / "new")
    (var / "round").symlink_to("round")
    with pytest.raises(ConfigError, match=r"symbolic links"):
        path_that_only_root_can_change(var / "round" / "x")


@root_only
@pytest.mark.fault("U2")
def test_a_strict_umask_leaves_the_bundle_readable_for_the_service(var: Path, tmp_path: Path):
    before = os.umask(0o077)
    try:
        install(bundle_tar(tmp_path), var / "store")
    finally:
        os.umask(before)
    assert as_nobody(lambda: load_bundle(var / "store" / "current").verify()) == ""


@root_only
@pytest.mark.fault("U7")
def test_a_strangers_model_is_tried_as_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Seen from outside: who the process is while it reads the model."""
    seen = tmp_path / "seen"
    spy = textwrap.dedent(f"""
        import os
        from edge_runtime.model import self_test
        fd = os.open({str(seen)!r}, os.O_WRONLY | os.O_CREAT)
        ids = lambda: repr((os.getresuid(), os.getresgid(), os.getgroups()))
        self_test.self_test = lambda bundle: os.write(fd, ids().encode())
        raise SystemExit(self_test._main({str(write_tiny_bundle(tmp_path / "b"))!r}))
    """)
    subprocess.run([sys.executable, "-c", spy], check=True, cwd=REPOSITORY, timeout=60)
    assert seen.read_text() == repr(((NOBODY,) * 3, (NOBODY,) * 3, []))


# The service only reads; what it found out stands in a file of its own.

_SERVICE = """
import logging, sys
logging.basicConfig(format="%(message)s")
from edge_runtime.config import ModelConfig
from edge_runtime.model.self_test import _become_nobody
from edge_runtime.engine import start_engine
_become_nobody()
engine = start_engine(ModelConfig(bundle=sys.argv[1], labels="colours"))
print(engine.manifest.version)
"""


def start_service(store: Path, state: Path) -> tuple[str, str]:
    """The version that the service's user starts with, and its log."""
    done = subprocess.run(
        [sys.executable, "-c", _SERVICE, str(store / "current")],
        env={**os.environ, "STATE_DIRECTORY": str(state)},
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip(), done.stderr


@root_only
@pytest.mark.fault("U6")
def test_the_service_keeps_its_verdict_in_a_file_of_its_own_and_only_reads_the_store(
    var: Path, state: Path, store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(trial_module, "STATE_ROOT", var)
    untouched = facts(store)
    assert start_service(store, state)[0] == "1.0.0"
    assert (state / "trial").read_text() == f"passed {BundleStore(store).target('current')}\n"
    assert (state / "trial").stat().st_uid == NOBODY

    install(bundle_tar(tmp_path, "v2", manifest={"version": "2.0.0"}), store)
    spoil(store)
    links = facts(store)
    chosen, log = start_service(store, state)
    assert chosen == "1.0.0"
    assert "tiny-2.0.0" in log
    assert (state / "trial").read_text() == f"failed {BundleStore(store).target('current')}\n"
    assert start_service(store, state)[0] == "1.0.0"
    assert facts(store) == links != untouched

    install(bundle_tar(tmp_path, "v3", manifest={"version": "3.0.0"}), store)
    assert (version(store), version(store, "previous")) == ("3.0.0", "1.0.0")
    assert start_service(store, state)[0] == "3.0.0"


@root_only
@pytest.mark.fault("U6")
@pytest.mark.parametrize("lie", ["link", "pipe", "huge", "binary", "other", "folder"])
def test_a_service_that_lies_in_its_verdict_misleads_root_in_nothing(
    var: Path, state: Path, store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lie: str
):
    monkeypatch.setattr(trial_module, "STATE_ROOT", var)
    trial, current = state / "trial", BundleStore(store).target("current")
    secret = var / "secret"
    secret.write_text(f"failed {current}\n")
    secret.chmod(0o600)

    def plant() -> None:
        match lie:
            case "link":
                trial.symlink_to(secret)
            case "pipe":
                os.mkfifo(trial)
            case "huge":
                trial.write_bytes(b"failed " + b"x" * 10_000_000)
            case "binary":
                trial.write_bytes(b"\xff\x00 \xff")
            case "other":
                trial.write_text("failed ../../../etc\n")
            case "folder":
                trial.mkdir()

    assert as_nobody(plant) == ""
    install(bundle_tar(tmp_path, "v2", manifest={"version": "2.0.0"}), store)
    assert (version(store), version(store, "previous")) == ("2.0.0", "1.0.0")


@pytest.mark.fault("U6")
def test_a_store_of_ones_own_keeps_the_verdict_in_the_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.delenv("STATE_DIRECTORY", raising=False)
    assert Trial.of(tmp_path).file == tmp_path / "trial"
    monkeypatch.setattr(os, "access", lambda *_: False)
    assert Trial.of(tmp_path).file is None
    Trial(None).note(PASSED, "x")
    assert Trial(None).verdict("x") is None


_REAL_PLACES = """
set -eu
mount -t tmpfs -o mode=755 tmpfs /var/lib
install -d -m 700 /var/lib/private
install -d -m 750 -o 65534 -g 65534 /var/lib/private/edge-label
ln -s private/edge-label /var/lib/edge-label  # as systemd does it for DynamicUser
service() {  # the right to read everything, for Python may lie in root's home; none to write
    STATE_DIRECTORY=/var/lib/edge-label setpriv --reuid 65534 --regid 65534 --clear-groups \\
        --inh-caps=-all,+dac_read_search --ambient-caps=-all,+dac_read_search \\
        "$PYTHON" -m edge_runtime run --camera demo --frames 2 --labels colours \\
        --output /var/lib/edge-label/labels.jsonl
    echo "verdict: $(cat /var/lib/edge-label/trial)"
}
for number in 1 2 3; do
    "$PYTHON" -m edge_runtime bundle install "$ARCHIVES/v$number.tar"
    test $number != 2 || : > /var/lib/edge-label-bundles/current/encoder.onnx
    service
    "$PYTHON" -m edge_runtime bundle info
done
cat /var/lib/edge-label/labels.jsonl
find /var/lib/edge-label-bundles ! -user 0 -o -perm /022 ! -type l
"""


@root_only
@pytest.mark.fault("U6")
def test_root_installs_and_the_service_runs_in_the_real_places(tmp_path: Path):
    """The default store and the state directory as systemd lays it out, in a /var/lib of this test's own."""
    for tool in ("unshare", "setpriv"):
        need(tool, "util-linux")
    if subprocess.run(["unshare", "-m", "true"], capture_output=True).returncode:
        pytest.skip("may not make a mount namespace here")
    for number in (1, 2, 3):
        bundle_tar(tmp_path, f"v{number}", manifest={"version": f"{number}.0.0"})
    done = subprocess.run(
        ["unshare", "-m", "sh", "-c", _REAL_PLACES],
        env={
            **os.environ,
            "PYTHON": sys.executable,
            "ARCHIVES": str(tmp_path),
            "EDGE_LABEL_BUNDLE": "",
        },
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    verdicts = [line.split()[1] for line in lines if line.startswith("verdict: ")]
    assert verdicts == ["passed", "failed", "passed"]
    used = [json.loads(line)["bundle"] for line in lines if line.startswith("{")]
    assert used == ["tiny-1.0.0"] * 4 + ["tiny-3.0.0"] * 2
    assert "failed according to /var/lib/edge-label/trial; the previous" in done.stdout
    assert lines[-1].startswith("{"), "something in the store is not root's alone"


# Every decision fails closed.


@pytest.fixture
def keys(tmp_path: Path) -> tuple[Path, Callable[[Path], None]]:
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    private = Ed25519PrivateKey.generate()
    pem = private.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    path = tmp_path / "key.pem"
    path.write_bytes(pem)

    def sign(folder: Path) -> None:
        (folder / "manifest.sig").write_bytes(private.sign((folder / "manifest.json").read_bytes()))

    return path, sign


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
    with pytest.raises(BundleError, match=r"nobody knows whether tiny-1\.0\.0 is newer"):
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


# One install at a time, and what a killed one leaves.


@pytest.mark.fault("U5")
def test_a_second_install_is_told_so_in_one_line(tmp_path: Path):
    store, archive = tmp_path / "store", bundle_tar(tmp_path)
    with opened(store), pytest.raises(ConfigError, match=r"another install is at work there"):
        install(archive, store)
    install(archive, store)


@pytest.mark.fault("U5")
def test_parallel_installs_end_whole_or_in_that_line(tmp_path: Path):
    store = tmp_path / "store"
    command = [sys.executable, "-m", "edge_runtime", "bundle", "install", "--store", str(store)]
    running = []
    for number in range(1, 5):
        archive = bundle_tar(tmp_path, f"v{number}", manifest={"version": f"{number}.0.0"})
        running.append(
            subprocess.Popen(
                [*command, str(archive)],
                cwd=REPOSITORY,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
            )
        )
    ends = [
        (process.communicate(timeout=120)[1].decode(), process.returncode) for process in running
    ]
    assert any(code == 0 for _, code in ends), ends
    for said, code in ends:
        assert code == 0 or (
            code == 78 and ("another install" in said or "is older than" in said)
        ), ends
        assert said.count("\n") == (code != 0), ends
    assert load_bundle(store / "current").verify() > 0
    assert not list(store.glob(".*incoming*"))


def killed_at(place: str, archive: Path, store: Path) -> None:
    """An install that is killed where the function ``place`` would be called."""
    owner, name = place.rsplit(".", 1)
    code = textwrap.dedent(f"""
        import os, signal, sys
        from pathlib import Path
        from edge_runtime.commands import install
        from edge_runtime.model.store import archive
        from edge_runtime.model.store import writable_store
        from edge_runtime.model.store.writable_store import WritableStore
        {owner}.{name} = lambda *_, **__: os.kill(os.getpid(), signal.SIGKILL)
        install.install_bundle(Path(sys.argv[1]), Path(sys.argv[2]), key=None, allow_downgrade=False)
    """)
    done = subprocess.run(
        [sys.executable, "-c", code, str(archive), str(store)], cwd=REPOSITORY, timeout=60
    )
    assert done.returncode == -signal.SIGKILL


@pytest.mark.fault("U5")
@pytest.mark.parametrize(
    "place",
    [
        "archive._write",
        "install.self_test_in_child",
        "WritableStore._point",
        "WritableStore._forget_all_but",
    ],
)
def test_what_a_killed_install_leaves_is_swept_by_the_next(tmp_path: Path, place: str):
    store = tmp_path / "store"
    install(bundle_tar(tmp_path, "v1"), store)
    archive = bundle_tar(tmp_path, "v2", manifest={"version": "2.0.0"})
    killed_at(place, archive, store)
    assert load_bundle(store / "current").verify() > 0
    (store / ".incoming.mine").mkdir()

    install(bundle_tar(tmp_path, "v3", manifest={"version": "3.0.0"}), store)
    assert version(store) == "3.0.0"
    entries = {path.name for path in store.iterdir()}
    hidden = {name for name in entries if name.startswith(".")}
    assert hidden == {MARKER, ".incoming.mine"}
    assert len([name for name in entries if name.startswith("tiny-")]) == 2


# A store of the former version.


def former_store(root: Path, tmp_path: Path, number: str = "1.0.0") -> Path:
    """What the version before the marker left behind, a killed install among it."""
    folder = write_tiny_bundle(root / "new", {"version": number})
    name = bundle_name(load_bundle(folder))
    folder.rename(root / name)
    (root / "current").symlink_to(name)
    (root / "trial").write_text("installed")
    (root / ".incoming.4711").mkdir()
    (root / ".incoming.4711" / "half").write_text("x")
    return root


@pytest.mark.fault("U9")
def test_a_store_of_the_former_version_is_taken_over(tmp_path: Path):
    store = former_store(tmp_path / "store", tmp_path)
    told = install(bundle_tar(tmp_path, "v2", manifest={"version": "2.0.0"}), store)
    assert "has been taken over" in told
    assert (version(store), version(store, "previous")) == ("2.0.0", "1.0.0")
    assert not (store / ".incoming.4711").exists()
    assert "taken over" not in install(
        bundle_tar(tmp_path, "v3", manifest={"version": "3.0.0"}), store
    )


@pytest.mark.fault("U9")
@pytest.mark.parametrize("foreign", ["photos/", "notes.txt", ".ssh/"])
def test_a_former_store_with_anything_else_in_it_is_refused(tmp_path: Path, foreign: str):
    store = former_store(tmp_path / "store", tmp_path)
    path = store / foreign
    path.mkdir() if foreign.endswith("/") else path.touch()
    before = facts(store)
    with pytest.raises(ConfigError, match=r"is no bundle store, it holds"):
        install(bundle_tar(tmp_path, "v2", manifest={"version": "2.0.0"}), store)
    assert facts(store) == before


@pytest.mark.fault("U9")
def test_the_default_store_moves_and_still_refuses_what_is_older(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.delenv("EDGE_LABEL_BUNDLE", raising=False)
    former, new = (
        former_store(tmp_path / "state" / "bundles", tmp_path, "2.0.0"),
        tmp_path / "bundles",
    )
    for place in (module, bundle_module):
        monkeypatch.setattr(place, "FORMER_STORE", former)
        monkeypatch.setattr(place, "DEFAULT_STORE", new)
    assert find_bundle() == former / "current"

    with pytest.raises(BundleError, match=r"is older than the installed tiny-2\.0\.0"):
        install(bundle_tar(tmp_path, "v1"), new)
    told = install(bundle_tar(tmp_path, "v3", manifest={"version": "3.0.0"}), new)
    assert f"{former}, the store of a former version, is not used any more" in told
    assert find_bundle() == new / "current"
    assert version(former) == "2.0.0"


# The kind: files that root writes where another user may have prepared something.


@pytest.mark.fault("U8")
def test_a_file_is_written_through_no_link_that_was_planted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    victim = tmp_path / "victim"
    victim.write_text("whole")
    monkeypatch.setattr(os, "urandom", bytes)  # even where the name is guessed
    planted = tmp_path / f".report.html.{os.getpid()}-00000000.part"
    planted.symlink_to(victim)
    with pytest.raises(EdgeLabelError, match=r"File exists"):
        write_atomically(tmp_path / "report.html", b"page")
    assert victim.read_text() == "whole"
    assert planted.is_symlink()  # not ours to take away
    planted.unlink()
    (tmp_path / "report.html").symlink_to(victim)
    write_atomically(tmp_path / "report.html", b"page")
    assert victim.read_text() == "whole"


@root_only
@pytest.mark.fault("U8")
@pytest.mark.parametrize("there", [True, False])
def test_root_appends_through_no_link_of_another_user(var: Path, state: Path, there: bool):
    """As ``sudo edge-label run`` and ``once`` would do it, in the state directory of the service."""
    victim = var / "victim"
    if there:
        victim.write_text('{"schema":"half a line')
    before = facts(var)

    def plant() -> None:
        for name in ("labels.jsonl", "table.csv"):
            (state / name).symlink_to(victim)

    assert as_nobody(plant) == ""
    with pytest.raises(ConfigError, match=r"labels\.jsonl: cannot write there: .*symbolic links"):
        RecordFile(state / "labels.jsonl", Caps())
    with pytest.raises(EdgeLabelError, match="symbolic links"):
        open_table(state / "table.csv", resume=True, embeddings=False)
    assert {name: at for name, at in facts(var).items() if not name.startswith("edge-label/")} == {
        name: at for name, at in before.items() if not name.startswith("edge-label/")
    }
    if there:
        assert victim.read_text() == '{"schema":"half a line'

    (var / "own").symlink_to(state.parent / "elsewhere")  # a link that root made is followed
    RecordFile(var / "own", Caps()).close()
    assert (var / "elsewhere").exists()
