"""New words in a daemon that runs: labelling goes on while their rows are made, whatever happens.

The text encoder waits here for as long as the test wants: its tokenizer is a pipe.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from edge_runtime.errors import DataError
from edge_runtime.model.text.encoder import encode_phrases
from edge_runtime.system.opencv import cv2
from tests.attacks.as_root import NOBODY, root_only
from tests.commands import instead_of_python, need
from tests.daemon import EDGE_LABEL, Daemon, is_running, records_of, wait_until, write_config
from tests.tiny_text import encoder_onnx, tokenizer_json, write_tiny_text_encoder

NEW = {"labels": [{"name": "crimson", "prompts": ["crimson"]}, "blue"]}


class SlowEncoder:
    """A text tower whose tokenizer comes when the test says so."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        (folder / "model.onnx").write_bytes(encoder_onnx())
        self.folder = folder
        self._tokenizer = folder / "tokenizer.json"
        os.mkfifo(self._tokenizer)
        self._pipe = -1

    def is_asked(self) -> bool:
        """Whether somebody reads the pipe. The reader waits from then on."""
        try:
            self._pipe = os.open(self._tokenizer, os.O_WRONLY | os.O_NONBLOCK)
        except OSError:
            return False
        return True

    def answer(self) -> None:
        os.write(self._pipe, tokenizer_json())
        self.forget()

    def forget(self) -> None:
        if self._pipe >= 0:
            os.close(self._pipe)
        self._pipe = -1


@pytest.fixture
def slow_encoder(tmp_path: Path) -> Iterator[SlowEncoder]:
    encoder = SlowEncoder(tmp_path / "slow")
    yield encoder
    encoder.forget()


@pytest.fixture
def label_set(tmp_path: Path) -> Path:
    path = tmp_path / "my.yaml"
    path.write_text(json.dumps({"labels": ["red", "blue"]}))
    return path


def start(tmp_path: Path, bundle: Path, label_set: Path, encoder: Path, **popen) -> Daemon:
    config = write_config(
        tmp_path / "edge-label.yaml",
        bundle,
        model={"labels": str(label_set)},
        output={"file": str(tmp_path / "run.jsonl")},
    )
    environment = {"EDGE_LABEL_TEXT_ENCODER": str(encoder)}
    return Daemon(tmp_path, "--config", config, env=environment, **popen)


def child_of(daemon: Daemon, encoder: SlowEncoder) -> int:
    """The text encoder's process, which waits for its tokenizer."""
    wait_until(encoder.is_asked, what="the text encoder")
    children = []
    for task in Path(f"/proc/{daemon.process.pid}/task").iterdir():
        children += (task / "children").read_text().split()
    return next(
        int(child)
        for child in children
        if b"model.text.child" in Path(f"/proc/{child}/cmdline").read_bytes()
    )


def reload_with_new_words(daemon: Daemon, label_set: Path) -> None:
    """Ask a daemon that labels already to reload words that its bank lacks."""
    daemon.wait_for("READY")
    label_set.write_text(json.dumps(NEW))
    daemon.process.send_signal(signal.SIGHUP)


def names_in(output: Path) -> set[str]:
    """The labels of the newest record."""
    return {label["name"] for label in records_of(output)[-1]["labels"]}


@pytest.mark.fault("W6")
@pytest.mark.fault("W7")
def test_frames_are_labelled_while_a_reload_makes_the_rows_of_new_words(
    tmp_path: Path, tiny_bundle: Path, slow_encoder: SlowEncoder, label_set: Path
):
    output = tmp_path / "run.jsonl"
    with start(tmp_path, tiny_bundle, label_set, slow_encoder.folder) as daemon:
        reload_with_new_words(daemon, label_set)
        child = child_of(daemon, slow_encoder)
        assert Path(f"/proc/{child}/oom_score_adj").read_text() == "1000\n"

        before = len(records_of(output))
        wait_until(lambda: len(records_of(output)) > before + 10, what="ten frames")
        assert is_running(child)
        assert names_in(output) == {"red", "blue"}

        slow_encoder.answer()
        wait_until(lambda: "reloaded" in daemon.log, what="the reload")
        wait_until(lambda: names_in(output) == {"crimson", "blue"}, what="the new label")
        # Neither before nor after has the daemon loaded what only the child needs.
        assert "tokenizers" not in Path(f"/proc/{daemon.process.pid}/maps").read_text()
        assert daemon.stop() == 0
    assert "wrote rows for 1 new phrase ('crimson') to " in daemon.log


@pytest.mark.fault("W2")
def test_a_reload_whose_words_have_no_rows_keeps_the_old_labels(
    tmp_path: Path, tiny_bundle: Path, label_set: Path
):
    with start(tmp_path, tiny_bundle, label_set, tmp_path / "nowhere") as daemon:
        reload_with_new_words(daemon, label_set)
        wait_until(lambda: "reload refused" in daemon.log, what="the refusal")
        lines = [line for line in daemon.log.splitlines() if "refused" in line]
        assert lines == [
            "edge-label: reload refused, the old configuration stays: "
            f"{label_set}: the text bank lacks 'crimson', and {tmp_path}/nowhere: no such text "
            "encoder; check $EDGE_LABEL_TEXT_ENCODER"
        ]
        assert daemon.stop() == 0


@pytest.mark.fault("W7")
@pytest.mark.parametrize("when", ["start", "reload"])
def test_a_stop_does_not_wait_for_the_rows_of_new_words(
    tmp_path: Path, tiny_bundle: Path, slow_encoder: SlowEncoder, label_set: Path, when: str
):
    """As systemd stops a service: SIGTERM for every process of it."""
    if when == "start":
        label_set.write_text(json.dumps(NEW))
    with start(
        tmp_path, tiny_bundle, label_set, slow_encoder.folder, start_new_session=True
    ) as daemon:
        if when == "reload":
            reload_with_new_words(daemon, label_set)
        child = child_of(daemon, slow_encoder)
        os.killpg(daemon.process.pid, signal.SIGTERM)
        assert daemon.process.wait(10) == 0, daemon.log
        wait_until(lambda: not is_running(child), what="the end of the text encoder")
    assert not label_set.with_suffix(".embeddings").exists()


@pytest.mark.fault("W7")
def test_the_text_encoder_does_not_outlive_the_daemon(
    tmp_path: Path, tiny_bundle: Path, slow_encoder: SlowEncoder, label_set: Path
):
    with start(tmp_path, tiny_bundle, label_set, slow_encoder.folder) as daemon:
        reload_with_new_words(daemon, label_set)
        child = child_of(daemon, slow_encoder)
        daemon.process.kill()
        daemon.process.wait(10)
        wait_until(lambda: not is_running(child), what="the end of the text encoder")


@pytest.mark.fault("W6")
def test_a_text_encoder_that_the_kernel_ends_for_memory_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    instead_of_python(tmp_path, monkeypatch, "kill -KILL $$")
    with pytest.raises(DataError, match="mine: killed, it needs 200 MB of memory; run on another"):
        encode_phrases(["a"], "mine")


@root_only
@pytest.mark.fault("W1")
def test_the_service_s_user_keeps_the_rows_where_it_may_write(tmp_path: Path, tiny_bundle: Path):
    """As in the unit: /etc is root's, and the state directory is the service's."""
    setpriv = need("setpriv", "util-linux")
    encoder = write_tiny_text_encoder(tmp_path / "encoder")
    # Named, for access(2) does not count the right to read everything.
    places = {"STATE_DIRECTORY": str(tmp_path / "service"), "EDGE_LABEL_TEXT_ENCODER": str(encoder)}
    etc = tmp_path / "etc"
    state = tmp_path / "service"
    for folder in (etc, state):
        folder.mkdir(mode=0o755)
    os.chown(state, NOBODY, NOBODY)
    (etc / "my.yaml").write_text(json.dumps(NEW))
    cv2.imwrite(str(etc / "red.png"), np.full((32, 32, 3), (0, 0, 255), np.uint8))

    # The right to read everything, for Python may lie in root's home; none to write.
    identity = ["--reuid", str(NOBODY), "--regid", str(NOBODY), "--clear-groups"]
    rights = ["--inh-caps=-all,+dac_read_search", "--ambient-caps=-all,+dac_read_search"]
    once = [*EDGE_LABEL, "once", etc / "red.png", "--labels", etc / "my.yaml"]
    logs = []
    for _ in range(2):
        done = subprocess.run(
            [setpriv, *identity, *rights, *once, "--bundle", tiny_bundle],
            capture_output=True,
            text=True,
            env={**os.environ, **places},
        )
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["labels"][0]["name"] == "crimson"
        logs.append(done.stderr)

    (kept,) = (state / "embeddings").iterdir()
    assert kept.stat().st_uid == NOBODY
    assert f"wrote rows for 1 new phrase ('crimson') to {kept} in " in logs[0]
    assert "wrote" not in logs[1]
    assert {path.name for path in etc.iterdir()} == {"my.yaml", "red.png"}
