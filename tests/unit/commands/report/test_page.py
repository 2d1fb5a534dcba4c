"""The page shows what the records say, is complete in itself, and trusts no text of theirs."""

from __future__ import annotations

from pathlib import Path

from edge_runtime.commands.report.page import MAX_EVENTS, to_html
from edge_runtime.commands.report.run import read_run
from tests.chromium import dom
from tests.unit.commands.report.runs import drive, line

HOSTILE = "<script>document.title='owned'</script>"


def test_a_day_of_records_is_drawn_in_a_bounded_picture():
    lines = [line(i, *(("snow",) if i % 7 < 3 else ()), mono_s=float(4 * i)) for i in range(21_600)]
    run = read_run(lines, "x")
    page = to_html(run)
    assert len(page) < 1_500_000
    assert f"The longest {MAX_EVENTS}" in page
    assert "23:59:" in page


def test_the_page_in_a_browser_shows_everything_and_asks_nobody(tmp_path: Path):
    path = tmp_path / "run.html"
    lines = [line(i, "snow", HOSTILE, temp_c=50 + i / 10) for i in range(100)]
    path.write_text(to_html(read_run([*drive(), *[t.replace('"b"', '"c"') for t in lines]], "x")))
    assert "http:" not in path.read_text().replace('xmlns="http://www.w3.org/2000/svg"', "")
    assert "<script" not in path.read_text()
    page, console = dom(tmp_path / "profile", path.as_uri())
    for text in (
        "Latency, ms",
        "FPS",
        "Memory, MB",
        "Temperature, °C",
        "Frames dropped",
        "restart",
        "snow",
        "tunnel",
    ):
        assert f">{text}</text>" in page
    assert "<title>owned" not in page
    assert console == ""


def test_one_record_is_a_run_too():
    assert "snow" in to_html(read_run([line(0, "snow")], "x"))


def test_the_password_of_an_older_record_is_not_shown():
    text = to_html(read_run([line(0, "snow", camera="rtsp://admin:hunter2@10.0.0.7/s")], "x"))
    assert "hunter2" not in text
    assert "10.0.0.7" in text
