"""Progress is one changing line on a terminal, and rare lines in a log."""

from __future__ import annotations

import io

import pytest

from edge_runtime.commands import progress as progress_module
from edge_runtime.commands.progress import Progress
from tests.unit.commands.pictures import Terminal


def test_progress_is_one_changing_line_on_a_terminal_and_silent_for_a_short_job_in_a_log(
    monkeypatch,
):
    terminal, log = Terminal(), io.StringIO()
    for stream in (terminal, log):
        progress = Progress("pictures", 200, stream)
        for _ in range(200):
            progress.step()
        progress.close()
    assert log.getvalue() == ""
    shown = terminal.getvalue().split("\r\x1b[K")
    assert shown[-1].startswith("200/200 pictures  100 %  [####################]")
    assert shown[-1].endswith("0:00 left\n")
    assert terminal.getvalue().count("\n") == 1


@pytest.mark.parametrize(
    ("total", "done", "seconds", "text"),
    [
        (5000, 1200, 13.6, "1200/5000 pictures  24 %  [#####---------------]  88.2/s  0:43 left"),
        (20_000, 1, 1.0, "1/20000 pictures  0 %  [--------------------]  1.0/s  5:33:19 left"),
        (0, 0, 1.0, "0/0 pictures  0 %  [--------------------]  0.0/s  0:00 left"),
    ],
)
def test_the_line_has_count_share_rate_and_time_left(
    total: int, done: int, seconds: float, text: str
):
    progress = Progress("pictures", total, io.StringIO())
    progress.count = done
    assert progress.text(progress._start + seconds) == text


def test_a_long_job_writes_to_a_log_every_ten_seconds(monkeypatch: pytest.MonkeyPatch):
    now = 0.0
    monkeypatch.setattr(progress_module.time, "monotonic", lambda: now)
    log = io.StringIO()
    progress = Progress("pictures", 100, log)
    for _ in range(100):
        now += 1
        progress.step()
    progress.close()
    assert len(log.getvalue().splitlines()) == 10
    assert log.getvalue().startswith("edge-label: 10/100 pictures  10 %")
