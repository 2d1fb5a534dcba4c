"""SIGHUP with a file that may hold anything: the old configuration stays whole and working."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import tempfile
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge_runtime.system.opencv import cv2
from tests.daemon import EDGE_LABEL, Daemon, records_of, wait_until, write_config
from tests.doubles.ports import free_port
from tests.tiny import tiny_input, write_tiny_bundle

LONG = "n" * 300  # a file's name has at most 255 bytes


@pytest.fixture
def place() -> Iterator[Path]:
    """A folder with everything that a path may lead to by mistake."""
    folder = Path(tempfile.mkdtemp(prefix="edge-label-reload-"))
    write_tiny_bundle(folder / "tiny")
    (folder / "closed").mkdir()
    (folder / "closed" / "folder").mkdir()
    (folder / "pictures").mkdir()
    (folder / "empty").mkdir()
    (folder / "garbage.mp4").write_bytes(os.urandom(4096))
    write_tiny_bundle(folder / "damaged", {"name": "another"})
    (folder / "damaged" / "encoder.onnx").write_bytes(b"\0" * 100)
    os.mkfifo(folder / "pipe")
    os.mkfifo(folder / "pipe.mp4")
    for name in ("token", "secret"):
        (folder / name).write_text("0123456789abcdef")
        (folder / name).chmod(0o600 if name == "token" else 0)
    (folder / "closed").chmod(0)
    yield folder
    (folder / "closed").chmod(0o700)
    shutil.rmtree(folder)


# For root no folder is closed. So the daemon runs without root's right to ignore the modes of
# files (CAP_DAC_OVERRIDE and CAP_DAC_READ_SEARCH, dropped by PR_CAPBSET_DROP).
_MODES_COUNT = """
import ctypes, os, sys
for capability in (1, 2):
    ctypes.CDLL(None).prctl(24, capability)
os.execv(sys.executable, [sys.executable, "-m", "edge_runtime", *sys.argv[1:]])
"""
MODES_COUNT = (EDGE_LABEL[0], "-c", _MODES_COUNT)


class Reloaded:
    """A daemon with every output that needs no other program, and what must stay true of it."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self.config = place / "edge-label.yaml"
        self.output = place / "run.jsonl"
        self.metrics = free_port()
        self.page = free_port()
        self.good: dict[str, Any] = {
            "output": {"file": str(self.output)},
            "prometheus": {
                "listen": f"127.0.0.1:{self.metrics}",
                "textfile": str(place / "metrics.prom"),
            },
            "preview": {"listen": f"127.0.0.1:{self.page}"},
            "triggers": {
                "spool": str(place / "spool"),
                "rules": [
                    {"name": "all", "when": {"state": "ok"}, "edge": "level", "min_interval_s": 0.2}
                ],
                "hook": ["/bin/true"],
            },
        }
        self.write()
        self.daemon = Daemon(place, "--config", self.config, program=MODES_COUNT)

    def write(self, **sections: dict[str, Any]) -> None:
        """The good configuration with keys changed; camera and model are the tiny bundle's."""
        self.config.unlink(missing_ok=True)
        changed = {name: {**self.good.get(name, {}), **keys} for name, keys in sections.items()}
        write_config(self.config, self.place / "tiny", **{**self.good, **changed})

    def reload(self) -> str:
        """Send SIGHUP; returns what the daemon logs about it."""
        start = len(self.daemon.log)
        self.daemon.process.send_signal(signal.SIGHUP)
        return wait_until(lambda: self._answer(start), what="an answer to SIGHUP")

    def _answer(self, start: int) -> str:
        code = self.daemon.process.poll()
        lines = self.daemon.log[start:]
        assert code is None, f"ended with {code}: {lines}"
        return lines if "reload" in lines and lines.endswith("\n") else ""

    def works(self) -> None:
        """Records, metrics, page and captures go on."""
        before = len(records_of(self.output))
        wait_until(lambda: len(records_of(self.output)) > before + 2, what="more records")
        for port, path in ((self.metrics, "metrics"), (self.page, "picture.jpg")):
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/{path}", timeout=10) as answer:
                assert answer.status == 200

    def holds(self) -> tuple[int, int]:
        """(threads, open descriptors) of the process."""
        process = Path(f"/proc/{self.daemon.process.pid}")
        return len(list((process / "task").iterdir())), len(list((process / "fd").iterdir()))


def bad_sections(place: Path, taken: int) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every section with a value that cannot be used: closed, too long, NUL, of the wrong kind."""
    kinds = {
        "closed": str(place / "closed" / "folder" / "x"),
        "long": str(place / LONG / "x"),
        "nul": f"{place}/a\0b",
    }
    for kind, path in kinds.items():
        yield f"bundle {kind}", {"model": {"bundle": path}}
        yield f"labels {kind}", {"model": {"labels": f"{path}.yaml"}}
        yield f"source {kind}", {"camera": {"source": f"{path}.mp4"}}
        yield f"output {kind}", {"output": {"file": f"{path}.jsonl"}}
        yield f"textfile {kind}", {"prometheus": {"textfile": f"{path}.prom"}}
        yield f"spool {kind}", {"triggers": {"spool": path}}
        yield f"token {kind}", {"preview": {"token_file": path}}

    yield "bundle half a letter", {"model": {"bundle": "\ud800"}}
    yield "bundle damaged", {"model": {"bundle": str(place / "damaged")}}
    yield "bundle a file", {"model": {"bundle": str(place / "token")}}
    yield "bundle whose manifest is a folder", {"model": {"bundle": str(place)}}
    for name in ("empty", "pipe"):
        yield f"labels {name}", {"model": {"labels": str(place / name)}}
    yield "labels device", {"model": {"labels": "/dev/zero"}}
    for name in ("none.mp4", "empty", "closed", "pipe.mp4", "garbage.mp4", "x" * 5000):
        yield f"source {name[:20]}", {"camera": {"source": f"{place}/{name}"}}
    yield "output a folder", {"output": {"file": str(place / "empty")}}
    yield "port taken", {"prometheus": {"listen": f"127.0.0.1:{taken}"}}
    yield "token a pipe", {"preview": {"token_file": str(place / "pipe")}}
    yield "token unreadable", {"preview": {"token_file": str(place / "secret")}}
    yield "hook absent", {"triggers": {"hook": ["/no/such/program"]}}
    yield "rule unknown", {"triggers": {"rules": [{"name": "x", "when": {"label": "zebra"}}]}}
    yield "zones nul", {"thermal": {"zones": "a\0b"}}


def bad_files(config: Path) -> Iterator[tuple[str, Any]]:
    """The file itself: what it holds, and what it is."""
    for text in (
        b"]",
        b"camrea: {source: demo}",
        b"\xff\xfe\0",
        b"camera: {source: 'a\0b'}",
        b"[" * 5000,
    ):
        yield repr(text[:20]), lambda text=text: config.write_bytes(text)

    yield "9 MB", lambda: config.write_bytes(b"#" * 9_000_000)
    yield "absent", lambda: None
    yield "a folder", config.mkdir
    yield "a pipe", lambda: os.mkfifo(config)
    yield "a device", lambda: config.symlink_to("/dev/zero")
    yield "a loop", lambda: config.symlink_to(config)
    yield "closed", lambda: config.touch(mode=0)


@pytest.mark.fault("P6")
def test_no_bad_file_ends_the_daemon_or_costs_it_a_sink(place: Path):
    """One daemon meets all of them, and has as many threads and descriptors afterwards."""
    test = Reloaded(place)
    with test.daemon as daemon, socket.create_server(("127.0.0.1", 0)) as taken:
        daemon.wait_for("WATCHDOG=1")
        test.works()
        before = test.holds()
        count = 0
        for name, sections in bad_sections(place, taken.getsockname()[1]):
            test.write(**sections)
            refused(test, name)
            count += 1
        for name, make in bad_files(test.config):
            test.config.unlink(missing_ok=True)
            make()
            refused(test, name)
            if test.config.is_dir():
                test.config.rmdir()
            count += 1
        assert count >= 28
        test.works()
        wait_until(
            lambda: test.holds() <= before,
            what=f"{test.holds()} threads and descriptors to be {before}",
        )
        test.write(model={"top_k": 1})
        assert "reloaded" in test.reload()
        test.works()
        assert daemon.stop() == 0
        assert "Traceback" not in daemon.log

    records = records_of(test.output)
    assert [record["seq"] for record in records] == list(range(len(records)))
    assert not any("lost" in record for record in records)
    assert list((place / "spool").glob("*.jpg"))


def refused(test: Reloaded, name: str) -> None:
    try:
        log = test.reload()
    except AssertionError as error:
        raise AssertionError(f"{name}: {error}") from error
    lines = [line for line in log.splitlines() if "preview: http" not in line]
    assert len(lines) == 1, f"{name}: {log}"
    assert "reload refused, the old configuration stays: " in lines[0], f"{name}: {log}"


@pytest.mark.fault("P6")
@pytest.mark.parametrize(
    "source", [f"/dev/{LONG}", f"rtsp://{'a' * 300}/x", "http://ü..ü/x", f"rtsp://h/{'x' * 9000}"]
)
def test_a_camera_that_can_never_be_is_waited_for(tmp_path: Path, tiny_bundle: Path, source: str):
    """An absent live source is no mistake, so it is accepted. No name of one ends a thread."""
    output = tmp_path / "run.jsonl"
    config = write_config(tmp_path / "c.yaml", tiny_bundle)

    with Daemon(tmp_path, "--config", config, "--output", output) as daemon:
        daemon.wait_for("WATCHDOG=1")
        write_config(config, tiny_bundle, camera={"source": source})
        daemon.process.send_signal(signal.SIGHUP)
        daemon.wait_for("READY=1")
        wait_until(
            lambda: sum(r["state"] == "stale" for r in records_of(output)) > 1,
            what="records without a picture",
        )
        write_config(config, tiny_bundle)
        daemon.process.send_signal(signal.SIGHUP)
        wait_until(lambda: records_of(output)[-1]["state"] != "stale", what="the old camera")
        assert daemon.stop() == 0
        assert "Traceback" not in daemon.log


@pytest.mark.fault("P6")
def test_a_source_that_opens_and_gives_no_picture_is_taken_back(tmp_path: Path):
    """What only the first frame shows: no picture can be read, or none is of the modality."""
    output = tmp_path / "run.jsonl"
    bundle = write_tiny_bundle(tmp_path / "multi", {"input": tiny_input("rgb", "depth")})
    config = write_config(tmp_path / "c.yaml", bundle)
    broken = tmp_path / "broken"
    colour = tmp_path / "colour"
    broken.mkdir()
    colour.mkdir()
    for i in range(2):
        (broken / f"{i}.jpg").write_bytes(b"not a picture")
        cv2.imwrite(str(colour / f"{i}.png"), np.zeros((40, 40, 3), np.uint8))

    with Daemon(tmp_path, "--config", config, "--output", output) as daemon:
        daemon.wait_for("WATCHDOG=1")
        for folder, modality in ((broken, "auto"), (colour, "depth")):
            camera = {"source": str(folder), "loop": True}
            write_config(config, bundle, camera=camera, model={"modality": modality})
            start = len(daemon.log)
            daemon.process.send_signal(signal.SIGHUP)
            daemon.wait_for("STATUS=reload taken back")
            assert daemon.log[start:].count("the old configuration is in use again") == 1
            before = len(records_of(output))
            wait_until(
                lambda before=before: len(records_of(output)) > before + 3,
                what="records of the old camera",
            )
            assert records_of(output)[-1]["camera"] == "demo"
        assert daemon.stop() == 0


@pytest.mark.fault("P8")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_before_the_libraries_are_loaded_is_remembered(
    tmp_path: Path, tiny_bundle: Path, number: int
):
    output = tmp_path / "run.jsonl"
    config = write_config(tmp_path / "c.yaml", tiny_bundle)

    with Daemon(tmp_path, "--config", config, "--output", output) as daemon:
        process = Path(f"/proc/{daemon.process.pid}")
        while True:
            loaded = (process / "maps").read_text()
            if handles(process, number):
                break
            assert not any(name in loaded for name in ("numpy", "onnxruntime", "cv2", "_yaml"))
        daemon.process.send_signal(number)
        if number == signal.SIGTERM:
            assert daemon.process.wait(30) == 0
            assert "STOPPING=1" in daemon.wait_for("STOPPING=1")
        else:
            daemon.wait_for("STATUS=reloaded")
            wait_until(lambda: len(records_of(output)) > 3)
            assert daemon.stop() == 0


def handles(process: Path, number: int) -> bool:
    caught = next(
        line for line in (process / "status").read_text().splitlines() if line.startswith("SigCgt:")
    )
    return bool(int(caught.split()[1], 16) >> (number - 1) & 1)


_DEADLY = """
import sys
from edge_runtime import cli
from edge_runtime.sinks.web.http import HttpServer
def dies(self):
    raise ValueError("of ours")
HttpServer._run = dies
sys.exit(cli.main())
"""


@pytest.mark.fault("P7")
def test_a_thread_that_dies_ends_the_process_with_a_reason_never_in_silence(
    tmp_path: Path, tiny_bundle: Path
):
    config = write_config(
        tmp_path / "c.yaml", tiny_bundle, preview={"listen": f"127.0.0.1:{free_port()}"}
    )
    with Daemon(tmp_path, "--config", config, program=(EDGE_LABEL[0], "-c", _DEADLY)) as daemon:
        assert daemon.process.wait(60) == 70
        last = daemon.log.splitlines()[-1]

    assert "thread http-preview died of ValueError: of ours; only a new process can help" in last
    assert "Traceback" not in daemon.log
