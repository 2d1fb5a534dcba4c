"""N1, S1: with every sink on, a dead broker and a full spool lose no record and stall no frame.

EDGE_LABEL_SINK_FAULT_SECONDS=60 makes each fault a minute long; the default is short.
"""

from __future__ import annotations

import itertools
import json
import os
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import disks
from tests.commands import need_mosquitto
from tests.daemon import Daemon, records_of, wait_until
from tests.disks import bytes_in
from tests.doubles.mosquitto import Broker
from tests.doubles.ports import free_port

SECONDS = float(os.environ.get("EDGE_LABEL_SINK_FAULT_SECONDS", "4"))
LONGEST_GAP_S = 1.0  # a connection attempt that blocked a frame would take five

CONFIG = """\
mqtt: {{host: 127.0.0.1, port: {mqtt}, device: cam, every_s: 1}}
prometheus: {{listen: "127.0.0.1:{metrics}"}}
preview: {{listen: "127.0.0.1:{preview}"}}
triggers:
  spool: {spool}
  max_mb: {max_mb}
  rules:
    - name: every
      when: {{not: {{label: red, min_score: 1, max_score: 1}}}}
      edge: level
      min_interval_s: 0.2
    - name: clip
      when: {{not: {{state: stale}}}}
      edge: level
      save: clip
      pre_s: 1
      post_s: 1
      min_interval_s: 1
"""


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of one megabyte."""
    with disks.small_disk(tmp_path / "small", "1m") as folder:
        yield folder


class Run:
    """edge-label on the demo camera with every sink on, and what can be seen of it from outside.

    Beside it runs another without any sink: gaps that both have are the machine's.
    """

    def __init__(
        self, tmp_path: Path, bundle: Path, broker: Broker, spool: Path, max_mb: float
    ) -> None:
        self.output = tmp_path / "run.jsonl"
        self.metrics = free_port()
        config = tmp_path / "config.yaml"
        ports = {"mqtt": broker.port, "metrics": self.metrics, "preview": free_port()}
        config.write_text(CONFIG.format(**ports, spool=spool, max_mb=max_mb))
        plain = ["--camera", "demo", "--bundle", bundle, "--labels", "colours"]
        self.daemon = Daemon(tmp_path, *plain, "--config", config, "--output", self.output)
        (tmp_path / "beside").mkdir()
        self.beside = Daemon(
            tmp_path / "beside", *plain, "--output", tmp_path / "beside" / "run.jsonl"
        )

    def __enter__(self) -> Run:
        return self

    def __exit__(self, *_: object) -> None:
        self.daemon.__exit__()
        self.beside.__exit__()

    def records(self) -> list[dict]:
        return records_of(self.output)

    def wait(self, seconds: float) -> None:
        """Let it run; the metrics must answer all the while."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            time.sleep(0.5)
            with urllib.request.urlopen(
                f"http://127.0.0.1:{self.metrics}/metrics", timeout=30
            ) as answer:
                assert b"edge_label_records_total" in answer.read()

    def check(self) -> str:
        """End the run: no number is missing, and no gap is longer than the machine's own."""
        self.daemon.process.terminate()
        assert self.daemon.process.wait(10) == 0
        records = self.records()
        assert [r["seq"] for r in records] == list(range(len(records)))
        longest = _longest_gap_s(records)
        beside = _longest_gap_s(records_of(self.beside.folder / "run.jsonl"))
        assert longest < LONGEST_GAP_S + 2 * beside
        return f"{len(records)} records, longest gap {longest:.2f} s (without sinks {beside:.2f} s)"


def _longest_gap_s(records: list[dict]) -> float:
    return max(b["mono_s"] - a["mono_s"] for a, b in itertools.pairwise(records))


def started(run: Run) -> None:
    run.daemon.wait_for("READY=1")
    wait_until(lambda: len(run.records()) >= 30, what="30 records")


def test_a_broker_that_is_killed_frozen_and_back_costs_no_record_and_no_frame(
    tiny_bundle: Path, tmp_path: Path
):
    need_mosquitto()
    with Broker(tmp_path) as broker:
        run = Run(tmp_path, tiny_bundle, broker, tmp_path / "spool", 50)
        with run:
            started(run)
            killed_at = len(run.records())
            broker.stop()
            run.wait(SECONDS)
            broker.start()
            broker.freeze()
            run.wait(SECONDS)
            broker.thaw()
            published = dict(broker.listen(1, topic="edge-label/cam/state", timeout_s=40))
            assert json.loads(published["edge-label/cam/state"])["seq"] >= killed_at, (
                "a broker that died keeps nothing"
            )
            print(f"broker dead {SECONDS:g} s, frozen {SECONDS:g} s: {run.check()}")
            assert run.daemon.log.count("trying again") <= 6, run.daemon.log


def test_a_spool_at_its_cap_costs_no_record_and_no_frame(tiny_bundle: Path, tmp_path: Path):
    need_mosquitto()
    spool = tmp_path / "spool"
    with Broker(tmp_path) as broker:
        run = Run(tmp_path, tiny_bundle, broker, spool, 1.0)
        with run:
            started(run)
            for _ in range(int(SECONDS)):
                run.wait(1.0)
                # A listing may meet a capture that is being deleted.
                assert min(bytes_in(spool) for _ in range(3)) <= 1e6
            print(f"spool at its cap for {SECONDS:g} s: {run.check()}")
            assert run.daemon.log.count("is full: from now on") == 1


def test_a_full_disk_under_the_spool_costs_no_record_and_no_frame(
    tiny_bundle: Path, tmp_path: Path, small_disk: Path
):
    need_mosquitto()
    with Broker(tmp_path) as broker:
        run = Run(tmp_path, tiny_bundle, broker, small_disk / "spool", 50)
        with run:
            started(run)
            run.wait(SECONDS)
            assert "No space left on device" not in run.daemon.log
            assert run.daemon.log.count("the disk is full; from now on the oldest") == 1
            assert run.records()[-1]["deleted"] > 0
            print(f"disk full for {SECONDS:g} s: {run.check()}")
        for sidecar in (small_disk / "spool").glob("*.json"):
            capture = json.loads(sidecar.read_text())
            assert (small_disk / "spool" / capture["file"]).stat().st_size == capture["bytes"]
