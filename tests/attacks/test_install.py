"""``bundle install`` on a home, twice at once, killed half-way, and on a former store."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from edge_runtime.commands import install as module
from edge_runtime.errors import BundleError, ConfigError, NoInputError
from edge_runtime.model import bundle as bundle_module
from edge_runtime.model.bundle import find_bundle, load_bundle
from edge_runtime.model.store.writable_store import MARKER, bundle_name, opened
from tests.attacks.as_root import facts
from tests.attacks.test_archive import bundle_tar, install, tree, version
from tests.daemon import REPOSITORY
from tests.tiny import write_tiny_bundle

# A store is recognisably ours, and nothing that we did not create is ever deleted.


@pytest.mark.fault("U1")
def test_a_home_is_no_store_and_nothing_in_it_is_touched(tmp_path: Path):
    home = tmp_path / "home"
    for name in ("photos/a.jpg", "documents/letter.txt", ".ssh/id_ed25519"):
        (home / name).parent.mkdir(parents=True)
        (home / name).write_text(name)
    before = facts(home)
    with pytest.raises(ConfigError, match=r"is not a bundle store: it contains '\.ssh'") as error:
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
    with pytest.raises(ConfigError, match=r"current: (is not the link|points outside)"):
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


# One install at a time, and what a killed one leaves.


@pytest.mark.fault("U5")
def test_a_second_install_is_told_so_in_one_line(tmp_path: Path):
    store, archive = tmp_path / "store", bundle_tar(tmp_path)
    with opened(store), pytest.raises(ConfigError, match=r"another install is running there"):
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
        archive_path, store_path = map(Path, sys.argv[1:])
        install.install_bundle(archive_path, store_path, key=None, allow_downgrade=False)
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
        "WritableStore._delete_all_but",
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
    with pytest.raises(ConfigError, match=r"is not a bundle store: it contains"):
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
