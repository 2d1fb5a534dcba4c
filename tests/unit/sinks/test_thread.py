"""A sink in a thread may fail or stall; the pipeline never notices."""

from __future__ import annotations

import logging
import threading
import time

import numpy as np
import pytest

from edge_runtime.errors import StuckError
from edge_runtime.records import Frame, LabelledFrame
from edge_runtime.sinks import thread as sink_thread
from edge_runtime.sinks.thread import SinkThread
from tests.daemon import wait_until
from tests.unit.test_records import record


class Held:
    """A sink that waits until the test lets it go on."""

    name = "held"

    def __init__(self, fail: int = 0) -> None:
        self.gate = threading.Event()
        self.got: list[int] = []
        self.fail = fail
        self.closed = False

    def write(self, labelled) -> None:
        self.gate.wait(10)
        if self.fail:
            self.fail -= 1
            raise OSError(28, "No space left on device")
        self.got.append(labelled.record.seq)

    def close(self) -> None:
        self.closed = True


@pytest.mark.fault("N1")
def test_a_stalled_sink_loses_the_oldest_records_and_counts_them():
    sink = Held()
    thread = SinkThread(sink, lossless=False, capacity=4)
    for seq in range(20):
        thread.put(LabelledFrame(record(seq=seq)))
    sink.gate.set()
    thread.close()
    assert sink.got[-4:] == [16, 17, 18, 19]
    assert len(sink.got) + thread.lost == 20
    # Four are queued and one is held; a queue without bounds would lose nothing.
    assert thread.lost >= 15
    assert sink.closed


def test_files_lose_nothing():
    sink = Held()
    sink.gate.set()
    thread = SinkThread(sink, lossless=True, capacity=2)
    for seq in range(50):
        thread.put(LabelledFrame(record(seq=seq)))
    thread.close()
    assert sink.got == list(range(50))


def test_a_failing_sink_is_logged_once_and_recovers(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(sink_thread, "SETTLED_S", 0.0)
    sink = Held(fail=3)
    sink.gate.set()
    thread = SinkThread(sink, lossless=True)
    with caplog.at_level(logging.WARNING):
        for seq in range(6):
            thread.put(LabelledFrame(record(seq=seq)))
        thread.close()
    assert sink.got == [3, 4, 5]
    assert thread.lost == 3
    assert len(caplog.records) == 2
    assert "No space left" in caplog.text
    assert "works again" in caplog.text


def test_a_mistake_in_a_sink_costs_a_record_and_holds_up_no_file(caplog: pytest.LogCaptureFixture):
    class Mistaken(Held):
        def write(self, labelled) -> None:
            if labelled.record.seq == 3:
                raise ValueError("a bug")
            self.got.append(labelled.record.seq)

    sink = Mistaken()
    thread = SinkThread(sink, lossless=True, capacity=2)
    with caplog.at_level(logging.WARNING):
        for seq in range(20):
            thread.put(LabelledFrame(record(seq=seq)))
        thread.close()
    assert sink.got == [seq for seq in range(20) if seq != 3]
    assert thread.lost == 1
    assert "a bug; labelling goes on" in caplog.text
    assert "Traceback" in caplog.text
    assert sink.closed


def test_a_sink_that_cannot_flush_at_the_end_says_so_in_one_line(caplog: pytest.LogCaptureFixture):
    class Full(Held):
        def close(self) -> None:
            raise OSError(28, "No space left on device")

    thread = SinkThread(Full(), lossless=True)
    with caplog.at_level(logging.WARNING):
        thread.close()
    assert caplog.messages == ["held: No space left on device; what it held back is lost"]
    assert "Traceback" not in caplog.text


def test_a_sink_that_fails_now_and_then_does_not_fill_the_log(caplog: pytest.LogCaptureFixture):
    sink = Held()
    sink.gate.set()
    thread = SinkThread(sink, lossless=True)
    with caplog.at_level(logging.WARNING):
        for seq in range(50):
            sink.fail = seq % 2
            thread.put(LabelledFrame(record(seq=seq)))
            time.sleep(0.002)
        thread.close()
    assert thread.lost > 10
    assert len(caplog.records) == 1


@pytest.mark.parametrize("pictures", [False, True])
def test_only_sinks_that_want_pictures_hold_them(pictures: bool):
    """256 raw frames in the queue of a stalled sink would be 236 MB."""
    frame = Frame(np.zeros((480, 640, 3), np.uint8), "bgr", 0.0, 0.0)
    sink = Held()
    thread = SinkThread(sink, lossless=False, pictures=pictures)
    thread.put(LabelledFrame(record(), frame))
    # Now the sink holds one record, and takes no other while the queue is looked at.
    wait_until(thread._queue.empty)
    for seq in range(300):
        thread.put(LabelledFrame(record(seq=seq), frame))
    held = [item[0].frame for item in thread._queue.queue if item]
    assert len(held) == (4 if pictures else 256)
    assert all((held_frame is frame) == pictures for held_frame in held)
    sink.gate.set()
    thread.close()


def test_closing_gives_up_on_a_stuck_sink(caplog: pytest.LogCaptureFixture):
    sink = Held()
    thread = SinkThread(sink, lossless=False, capacity=2)
    for seq in range(5):
        thread.put(LabelledFrame(record(seq=seq)))
    with caplog.at_level(logging.WARNING):
        thread.close(timeout_s=0.05)
    assert "still stuck" in caplog.text
    sink.gate.set()


@pytest.mark.fault("P7")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_file_is_not_held_up_for_ever_by_a_thread_that_is_dead(monkeypatch: pytest.MonkeyPatch):
    class Deadly(Held):
        def write(self, labelled) -> None:
            raise SystemExit

    monkeypatch.setattr(sink_thread, "_LOOK_S", 0.01)
    thread = SinkThread(Deadly(), lossless=True, capacity=1)
    thread.put(LabelledFrame(record()))
    thread._thread.join(10)
    thread.put(LabelledFrame(record()))
    refused: list[str] = []

    def put() -> None:
        try:
            thread.put(LabelledFrame(record()))
        except StuckError as error:
            refused.append(str(error))

    waiting = threading.Thread(target=put, daemon=True)
    waiting.start()
    waiting.join(10)
    assert refused == ["held: its thread has died; only a new process can help"]


class Every:
    """A chooser that passes every record on, and remembers what was dropped."""

    def __init__(self) -> None:
        self.dropped_seqs: list[int] = []

    def choose(self, labelled):
        return (labelled,)

    def dropped(self, labelled) -> None:
        self.dropped_seqs.append(labelled.record.seq)


def test_what_a_stuck_sink_did_not_get_is_counted_and_never_written_later():
    sink = Held()
    chooser = Every()
    thread = SinkThread(sink, lossless=False, capacity=4, chooser=chooser)
    thread.put(LabelledFrame(record(seq=0)))
    wait_until(thread._queue.empty)
    for seq in range(1, 8):
        thread.put(LabelledFrame(record(seq=seq)))
    thread.close(timeout_s=0.05)
    assert (thread.lost, chooser.dropped_seqs) == (7, [1, 2, 3, 4, 5, 6, 7])
    sink.gate.set()
    wait_until(lambda: sink.closed)
    assert sink.got == [0]


def test_losses_in_both_threads_are_all_counted():
    """Each record is written, refused or dropped; one counter for two threads would miss some."""
    sink = Held()
    sink.gate.set()
    thread = SinkThread(sink, lossless=False, capacity=1)
    for seq in range(3000):
        sink.fail = seq % 2
        thread.put(LabelledFrame(record(seq=seq)))
    thread.close(30)
    assert len(sink.got) + thread.lost == 3000
