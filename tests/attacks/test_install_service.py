"""A service beside an install: it only reads the store, and cannot mislead root."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from edge_runtime.model.store import trial as trial_module
from edge_runtime.model.store.bundle_store import BundleStore
from edge_runtime.model.store.trial import PASSED, Trial
from tests.attacks.as_root import NOBODY, as_nobody, facts, root_only
from tests.attacks.test_archive import bundle_tar, install, spoil, version
from tests.commands import need
from tests.daemon import REPOSITORY

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
    """The default store and the state directory as systemd makes it, in a private /var/lib."""
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
