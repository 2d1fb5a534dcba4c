"""Attacks by the service's user on root, who installs, reports and records."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from edge_runtime.commands import install as module
from edge_runtime.commands.tables import open_table
from edge_runtime.errors import ConfigError, EdgeLabelError
from edge_runtime.model.bundle import load_bundle
from edge_runtime.model.store.writable_store import MARKER
from edge_runtime.sinks.files.record_file import Caps, RecordFile
from edge_runtime.system.files import write_atomically
from edge_runtime.system.ownership import path_that_only_root_can_change
from tests.attacks.as_root import NOBODY, as_nobody, facts, root_only
from tests.attacks.test_archive import bundle_tar, install, version
from tests.daemon import REPOSITORY
from tests.tiny import write_tiny_bundle

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
    """As ``sudo edge-label run`` and ``once`` would, in the state directory of the service."""
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
