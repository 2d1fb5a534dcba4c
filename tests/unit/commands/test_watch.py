"""``once --watch`` labels what arrives, line by line, and ends when it is told to."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from tests.daemon import EDGE_LABEL, PATIENCE_S, wait_until
from tests.unit.commands.pictures import names

RED = cv2.imencode(".png", np.full((40, 40, 3), (0, 0, 255), np.uint8))[1].tobytes()
JPEG = cv2.imencode(".jpg", np.random.default_rng(0).integers(0, 255, (90, 90, 3), np.uint8))[
    1
].tobytes()


class Watch:
    """``edge-label once --watch FOLDER``; a context manager that kills it."""

    def __init__(self, folder: Path, output: Path, bundle: Path, *more: str) -> None:
        self.log = output.with_name("log")
        command = [*EDGE_LABEL, "once", "--watch", str(folder), "--output", str(output), *more]
        command += ["--bundle", str(bundle), "--labels", "colours"]
        with self.log.open("w") as log:
            self.process = subprocess.Popen(command, stderr=log)

    def __enter__(self) -> Watch:
        wait_until(lambda: "watching" in self.log.read_text(), what=self.log.read_text())
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()

    def stop(self, number: int = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        return self.process.wait(PATIENCE_S)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "in"
    path.mkdir()
    return path


def labelled(output: Path) -> list[str]:
    return sorted(Path(name).name for name in names(output)) if output.exists() else []


@pytest.mark.fault("C23")
@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_pictures_are_labelled_as_they_arrive_and_a_restart_labels_none_twice(
    tmp_path: Path, tiny_bundle: Path, folder: Path, end: int
):
    output = tmp_path / "out.csv"
    (folder / "there.png").write_bytes(RED)
    with Watch(folder, output, tiny_bundle) as watch:
        wait_until(lambda: labelled(output) == ["there.png"])
        (folder / "new.png").write_bytes(RED)
        wait_until(lambda: labelled(output) == ["new.png", "there.png"])
        assert watch.stop(end) == 0
        assert "2 pictures labelled into" in watch.log.read_text()

    (folder / "meanwhile.png").write_bytes(RED)
    with Watch(folder, output, tiny_bundle, "--resume") as watch:
        wait_until(lambda: "meanwhile.png" in labelled(output))
        assert watch.stop() == 0
    assert labelled(output) == ["meanwhile.png", "new.png", "there.png"]


@pytest.mark.fault("C23")
def test_half_a_picture_is_labelled_when_the_rest_has_come(
    tmp_path: Path, tiny_bundle: Path, folder: Path
):
    """Its writer pauses for longer than the two looks."""
    output = tmp_path / "out.jsonl"
    with Watch(folder, output, tiny_bundle) as watch:
        with (folder / "slow.jpg").open("wb", buffering=0) as slow:
            slow.write(JPEG[:2000])
            wait_until(lambda: "slow.jpg: a JPEG that is cut off" in watch.log.read_text())
            assert labelled(output) == []
            slow.write(JPEG[2000:])
        wait_until(lambda: labelled(output) == ["slow.jpg"])
        assert watch.stop() == 0
        assert "1 pictures labelled" in watch.log.read_text()
        assert "0 could not be read" in watch.log.read_text()


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["--watch", "{t}/none"], 66, "no such folder"),
        (["--watch", "{t}/file.png"], 2, "not a folder"),
        (["--watch", "{t}", "--output", "{t}/x.parquet"], 2, "cannot grow line by line"),
        (["--watch", "{t}", "--output", "{t}/x.csv", "--embeddings"], 2, "needs a .parquet"),
    ],
)
def test_a_wrong_use_is_one_line(
    tmp_path: Path, tiny_bundle: Path, arguments: list[str], code: int, words: str
):
    (tmp_path / "file.png").write_bytes(RED)
    filled = [argument.format(t=tmp_path) for argument in arguments]
    command = [sys.executable, "-m", "edge_runtime", "once", *filled]
    command += ["--bundle", str(tiny_bundle), "--labels", "colours"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S)
    assert done.returncode == code, done.stderr
    assert words in done.stderr
    assert len(done.stderr.splitlines()) == 1
