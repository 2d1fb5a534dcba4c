"""The real daemon takes up what pictures taught, and what was forgotten, on SIGHUP."""

from __future__ import annotations

import signal
from pathlib import Path

from tests.daemon import Daemon, records_of, wait_until, write_config
from tests.teaching_pictures import WRONG_WORDS, labels, picture, pictures


def test_a_running_daemon_takes_up_a_teaching_on_sighup(tiny_bundle: Path, tmp_path: Path):
    label_set = tmp_path / "my.yaml"
    label_set.write_text(WRONG_WORDS)
    root = pictures(tmp_path / "p", apple="red", lawn="green")
    picture(tmp_path / "camera" / "red.png", "red", 99)
    output = tmp_path / "run.jsonl"
    config = write_config(
        tmp_path / "edge-label.yaml",
        tiny_bundle,
        camera={"source": str(tmp_path / "camera"), "loop": True, "realtime": True, "fps": 20},
        model={"labels": str(label_set)},
        output={"file": str(output)},
    )

    def says(name: str) -> bool:
        records = records_of(output)
        return bool(records) and records[-1]["labels"][0]["name"] == name

    with Daemon(tmp_path, "--config", config) as daemon:
        wait_until(lambda: says("lawn"), what="the words' answer")

        assert labels("learn", label_set, tiny_bundle, root) == 0
        daemon.process.send_signal(signal.SIGHUP)
        wait_until(lambda: says("apple"), what="the taught answer")

        assert labels("forget", label_set, tiny_bundle) == 0
        daemon.process.send_signal(signal.SIGHUP)
        wait_until(lambda: says("lawn"), what="the words' answer again")
        assert daemon.stop() == 0
        assert "Traceback" not in daemon.log


def test_a_running_daemon_keeps_the_old_labels_when_the_file_is_damaged(
    tiny_bundle: Path, tmp_path: Path
):
    label_set = tmp_path / "my.yaml"
    label_set.write_text(WRONG_WORDS)
    root = pictures(tmp_path / "p", apple="red", lawn="green")
    assert labels("learn", label_set, tiny_bundle, root) == 0
    output = tmp_path / "run.jsonl"
    config = write_config(
        tmp_path / "edge-label.yaml",
        tiny_bundle,
        model={"labels": str(label_set)},
        output={"file": str(output)},
    )

    with Daemon(tmp_path, "--config", config) as daemon:
        wait_until(lambda: records_of(output), what="a record")
        taught = records_of(output)[-1]["labels_id"]
        file = label_set.with_suffix(".embeddings")
        file.write_bytes(file.read_bytes()[:-1])

        daemon.process.send_signal(signal.SIGHUP)
        wait_until(lambda: "my.embeddings: damaged" in daemon.log, what="the reason")
        count = len(records_of(output))
        wait_until(lambda: len(records_of(output)) > count + 2, what="more records")
        assert records_of(output)[-1]["labels_id"] == taught
