"""The report draws what the records say, from any file a run can leave behind."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from edge_runtime.camera.jpeg import JpegEncoder
from edge_runtime.cli import main
from edge_runtime.commands.report.page import MAX_EVENTS, chart, read_run, to_html
from edge_runtime.config import TriggerRule, TriggersConfig
from edge_runtime.errors import DataError
from edge_runtime.records import Frame, LabelledFrame, LabelScore, StageTimes
from edge_runtime.sinks.triggers.rules import Rules
from edge_runtime.sinks.triggers.sink import TriggerSink
from tests.chromium import dom
from tests.unit.test_records import record

HOSTILE = "<script>document.title='owned'</script>"


def line(seq: int, *on: str, **changes: object) -> str:
    labels = (
        *(LabelScore(name, 0.9, 0.5, True) for name in on),
        LabelScore("off", 0.1, -0.8, False),
    )
    changes = {
        "mono_s": 50 + seq / 10,
        "state": "ok" if on else "unknown",
        "labels": labels,
        **changes,
    }
    return record(seq=seq, **changes).to_json()


def drive() -> list[str]:
    """Ten seconds: snow from 2 s to 5 s, a tunnel from 4 s to 6 s, snow again at 8 s for one frame."""
    names = [
        ("snow",) * (20 <= i < 50 or i == 80) + ("tunnel",) * (40 <= i < 60) for i in range(100)
    ]
    return [
        line(i, *on, dropped=i // 10, ms=StageTimes(1, 2, 1, 20, 0, 20 + i / 10))
        for i, on in enumerate(names)
    ]


def test_spans_say_from_when_to_when_a_label_was_on():
    run = read_run(drive(), "x")
    spans = [(s.label, round(s.start_s, 1), round(s.end_s, 1)) for s in run.spans]
    assert spans == [("snow", 2.0, 5.0), ("tunnel", 4.0, 6.0), ("snow", 8.0, 8.1)]
    assert run.duration_s == pytest.approx(9.9)
    assert sum(run.drops) == 9
    assert [(round(a, 1), round(b, 1), state) for a, b, state in run.states] == [
        (0.0, 2.0, "unknown"),
        (2.0, 6.0, "ok"),
        (6.0, 8.0, "unknown"),
        (8.0, 8.1, "ok"),
        (8.1, 9.9, "unknown"),
    ]


def test_a_torn_line_and_rubbish_are_counted_and_passed_over():
    lines = drive()
    lines[10] = lines[10][:100]
    lines[20:20] = [
        "",
        "rubbish",
        "[1]",
        '{"schema":"edge-label-event/1"}',
        '{"schema":"edge-label/1","seq":1}',
    ]
    run = read_run(lines, "x")
    assert len(run.t) == 99
    assert run.unreadable == 5
    assert {len(column) for column in run.values.values()} == {99}


def test_a_file_without_records_is_a_data_error():
    with pytest.raises(DataError, match="no record of edge-label in it"):
        read_run(["rubbish", ""], "x")


def test_a_restart_is_a_gap_and_not_a_jump_in_time():
    again = [line(i, "snow", mono_s=3 + i / 10, boot_id="another") for i in range(50)]
    run = read_run([*drive(), *again], "x")
    assert len(run.restarts) == 1
    assert run.duration_s == pytest.approx(9.9 + 1 + 4.9)
    assert (np.diff(np.asarray(run.t)) > 0).all()
    same_boot = [line(i, "snow", mono_s=80 + i / 10) for i in range(50)]
    assert len(read_run([*drive(), *same_boot], "x").restarts) == 1


def test_a_wall_clock_that_jumps_bends_nothing():
    straight = read_run(drive(), "x")
    jumping = read_run(
        [text.replace("2023-", "1970-") if i % 2 else text for i, text in enumerate(drive())], "x"
    )
    assert list(jumping.t) == list(straight.t)


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


def test_the_png_is_a_picture_of_the_same_chart():
    canvas = chart(read_run(drive(), "x"))
    picture = cv2.imdecode(np.frombuffer(canvas.to_png(), np.uint8), cv2.IMREAD_COLOR)
    assert picture.shape == (2 * canvas.height, 2 * canvas.width, 3)
    green = np.abs(picture.astype(int) - (0x4B, 0x6B, 0x0A)).max(axis=2) < 60
    assert green.sum() > 5000


def test_one_record_is_a_run_too():
    run = read_run([line(0, "snow")], "x")
    assert "snow" in to_html(run)
    assert chart(run).to_png()


def test_events_show_the_picture_that_was_kept_of_them(tmp_path: Path):
    spool = tmp_path / "spool"
    rules = (TriggerRule("all", min_distance=0.001, min_interval_s=0),)
    config = TriggersConfig(str(spool), rules)
    sink = TriggerSink(config, JpegEncoder())
    made = record(seq=45, mono_s=54.5, labels=(LabelScore("snow", 0.9, 0.5, True),))
    frame = Frame(np.full((48, 64, 3), 200, np.uint8), "bgr", 54.5, 0.0)
    item = Rules(config, ()).choose(LabelledFrame(made, frame, np.ones(4, np.float32) / 2))
    assert item is not None
    sink.write(*item)
    sink.close()
    (spool / "00000009-broken.json").write_text("{}")
    run = tmp_path / "run.jsonl"
    run.write_text("\n".join(drive()))
    assert (
        main(["report", str(run), "--spool", str(spool), "--png", str(tmp_path / "run.png")]) == 0
    )
    page = (tmp_path / "run.html").read_text()
    assert page.count("data:image/jpeg;base64,") == 1
    assert 'alt="snow"' in page
    assert (tmp_path / "run.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.fault("K2")
def test_a_page_is_as_private_as_the_most_private_file_that_it_shows(tmp_path: Path):
    test_events_show_the_picture_that_was_kept_of_them(tmp_path)
    run, page = tmp_path / "run.jsonl", tmp_path / "run.html"
    assert page.stat().st_mode & 0o777 == 0o600, "it shows captures, which are"
    run.chmod(0o644)
    main(["report", str(run)])
    assert page.stat().st_mode & 0o777 == 0o644
    run.chmod(0o640)
    main(["report", str(run), "--png", str(tmp_path / "run.png")])
    assert page.stat().st_mode & 0o777 == (tmp_path / "run.png").stat().st_mode & 0o777 == 0o640


def test_the_password_of_an_older_record_is_not_shown():
    text = to_html(read_run([line(0, "snow", camera="rtsp://admin:hunter2@10.0.0.7/s")], "x"))
    assert "hunter2" not in text
    assert "10.0.0.7" in text


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["no-such.jsonl"], 66, "no such file"),
        (["empty.jsonl"], 65, "no record of edge-label in it"),
        (["run.jsonl", "--spool", "no-such"], 66, "no such spool folder"),
        (["run.jsonl", "--output", "run.jsonl"], 65, "would overwrite the run"),
        (["run.jsonl", "--output", "../{name}/run.jsonl"], 65, "would overwrite the run"),
        (["run.jsonl", "--png", "run.jsonl"], 65, "give another --png"),
        (["run.jsonl", "--output", "empty.jsonl/x.html"], 65, "cannot write"),
    ],
)
def test_a_mistake_is_one_line(
    tmp_path: Path, monkeypatch, capsys, arguments: list[str], code: int, words: str
):
    monkeypatch.chdir(tmp_path)
    Path("empty.jsonl").touch()
    Path("run.jsonl").write_text("\n".join(drive()))
    assert (
        main(["report", *(argument.format(name=tmp_path.name) for argument in arguments)]) == code
    )
    error = capsys.readouterr().err
    assert words in error
    assert error.count("\n") == 1
    assert json.loads(Path("run.jsonl").read_text().splitlines()[0])
