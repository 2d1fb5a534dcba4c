"""What docs promise of `labels build` holds for the encoder and the bundle that ship."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from edge_runtime.errors import DataError, UsageError
from edge_runtime.model.bundle import load_bundle
from edge_runtime.model.labels.text_bank import TextBank
from tests.daemon import wait_until
from tests.paths import REPOSITORY
from tools.measure import label_cost

BUNDLE = REPOSITORY / "models" / "edge-clip"


def test_twenty_phrases_are_built_within_ten_seconds_of_processor_and_250_mb(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    monkeypatch.chdir(REPOSITORY)
    row = label_cost.cost_row(20, TextBank.from_bundle(load_bundle(BUNDLE)), str(BUNDLE))
    labels, _, processor, build_mb, *_ = (float(cell) for cell in row.strip("| ").split(" | "))
    assert labels == 20
    assert processor < 10
    assert 50 < build_mb < 250


def test_every_process_of_a_command_is_counted() -> None:
    one = "x = bytearray(60_000_000)"
    alone = label_cost.cost_of([sys.executable, "-c", f"{one}; import time; time.sleep(0.3)"])
    grandchild = f"{one}; import time; time.sleep(0.3)"
    child = f"import subprocess, sys; subprocess.run([sys.executable, '-c', '{grandchild}'])"
    both = label_cost.cost_of([sys.executable, "-c", f"{one}; {child}"])
    assert 60 < alone.peak_mb < 90
    assert 120 < both.peak_mb < 180
    with pytest.raises(DataError, match="ended with 1: no such thing"):
        label_cost.cost_of([sys.executable, "-c", "raise SystemExit('no such thing')"])


def test_only_phrases_the_bank_lacks_are_made_and_never_too_few() -> None:
    bank = TextBank.from_bundle(load_bundle(BUNDLE))
    phrases = label_cost.phrases_outside(bank, 10_000)
    assert len(set(phrases)) == 10_000
    assert not any(bank.find(phrase) is not None for phrase in phrases)
    with pytest.raises(UsageError, match="not 99999999; ask for fewer"):
        label_cost.phrases_outside(bank, 99_999_999)


def test_a_child_counts_whichever_thread_began_it() -> None:
    began: list[subprocess.Popen[bytes]] = []
    over = threading.Event()

    def begin() -> None:
        began.append(subprocess.Popen(["sleep", "60"]))
        over.wait(30)

    thread = threading.Thread(target=begin, daemon=True)
    thread.start()
    try:
        wait_until(lambda: began, what="the child")
        assert {os.getpid(), began[0].pid} <= set(label_cost.family(os.getpid()))
        assert label_cost.pss_mb(began[0].pid) > 0
    finally:
        began[0].kill()
        began[0].wait()
        over.set()
