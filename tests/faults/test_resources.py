"""What a machine may run out of, and what may stand where a file is expected."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import time
from pathlib import Path

import pytest
from PIL import Image

from edge_runtime import cli
from edge_runtime.commands.report.figures import MAX_TICKS
from edge_runtime.commands.report.page import to_html
from edge_runtime.commands.report.run import read_run
from edge_runtime.system.files import read_capped
from tests.daemon import EDGE_LABEL, REPOSITORY, Daemon, records_of, wait_until, write_config
from tests.doubles.ports import free_port
from tests.unit.test_records import record


@pytest.mark.fault("P10")
def test_without_a_descriptor_to_spare_labelling_goes_on_and_the_rest_comes_back(
    tmp_path: Path, tiny_bundle: Path
):
    """Every open() fails for seconds: vitals, captures, the metrics file, and a reload."""
    output, metrics = tmp_path / "run.jsonl", tmp_path / "m.prom"
    sections = {
        "output": {"file": str(output)},
        "prometheus": {
            "listen": f"127.0.0.1:{free_port()}",
            "textfile": str(metrics),
            "every_s": 1,
        },
        "triggers": {
            "spool": str(tmp_path / "spool"),
            "rules": [
                {"name": "all", "when": {"state": "ok"}, "edge": "level", "min_interval_s": 0.1}
            ],
        },
    }
    config = write_config(tmp_path / "c.yaml", tiny_bundle, **sections)

    with Daemon(tmp_path, "--config", config) as daemon:
        wait_until(metrics.exists)
        before = resource.prlimit(daemon.process.pid, resource.RLIMIT_NOFILE)
        resource.prlimit(daemon.process.pid, resource.RLIMIT_NOFILE, (3, before[1]))
        starved = records_of(output)[-1]["seq"]
        daemon.process.send_signal(1)
        daemon.wait_for("STATUS=reload refused")
        wait_until(
            lambda: records_of(output)[-1]["seq"] > starved + 60, what="two seconds of records"
        )
        assert "Too many open files" in daemon.log
        resource.prlimit(daemon.process.pid, resource.RLIMIT_NOFILE, before)
        captures = len(list((tmp_path / "spool").glob("*.jpg")))
        wait_until(
            lambda: len(list((tmp_path / "spool").glob("*.jpg"))) > captures, what="captures again"
        )
        assert daemon.stop() == 0
        assert "Traceback" not in daemon.log

    numbers = [read["seq"] for read in records_of(output)]
    assert numbers == list(range(len(numbers)))


@pytest.mark.fault("P10")
@pytest.mark.parametrize(
    "verb", [["run", "--camera", "demo", "--frames", "2"], ["labels", "list"], ["bundle", "info"]]
)
def test_a_start_without_descriptors_is_one_line(tiny_bundle: Path, verb: list[str]):
    """Every small number of descriptors that Python itself can start with."""
    model = [str(tiny_bundle)] if verb[0] == "bundle" else ["--bundle", str(tiny_bundle)]
    command = [*EDGE_LABEL, *verb, *model, *(["--labels", "colours"] if verb[0] == "run" else [])]
    python = [EDGE_LABEL[0], "-c", "import argparse, logging, edge_runtime.errors"]
    tried = [
        count
        for count in range(4, 16, 2)
        if limited(python, resource.RLIMIT_NOFILE, count).returncode == 0
    ]

    assert tried
    for count in tried[:3]:
        result = limited(command, resource.RLIMIT_NOFILE, count)
        if result.returncode != 0:
            assert len(result.stderr.splitlines()) == 1, result.stderr
            assert result.stderr.startswith("edge-label: "), result.stderr


def limited(command: list[str], what: int, most: int) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        cwd=REPOSITORY,
        timeout=60,
        preexec_fn=lambda: resource.setrlimit(what, (most, most)),
    )


@pytest.mark.usefixtures("uncounted_children")
@pytest.mark.parametrize("megabytes", [60, 250, 500, 550])
def test_too_little_memory_is_one_line(tiny_bundle: Path, megabytes: int):
    """``ulimit -v``. Between 400 and 450 MB OpenCV crashes on load, which nobody can catch."""
    camera = ["--camera", "demo", "--frames", "2"]
    command = [*EDGE_LABEL, *camera, "--bundle", str(tiny_bundle), "--labels", "colours"]
    result = limited(command, resource.RLIMIT_AS, megabytes * 1_024_000)

    assert "Traceback" not in result.stderr
    if result.returncode > 0:
        assert len(result.stderr.splitlines()) == 1, result.stderr
        assert "mistake" not in result.stderr


KINDS = ("device", "folder", "pipe", "loop")


def odd(path: Path, kind: str) -> Path:
    """Something at ``path`` that is no file."""
    if kind == "device":
        path.symlink_to("/dev/zero")
    elif kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    else:
        path.symlink_to(path)
    return path


@pytest.mark.fault("P11")
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "arguments",
    [
        ["run", "--config", "{x}"],
        ["run", "--camera", "demo", "--labels", "{x}"],
        ["run", "--camera", "demo", "--preview", "--preview-token-file", "{x}"],
        ["run", "--camera", "{x}.mp4"],
        ["once", "{x}.jpg"],
        ["report", "{x}"],
        ["labels", "check", "{x}"],
        ["bundle", "info", "{x}"],
    ],
)
def test_what_is_no_file_is_one_line_and_soon(
    tmp_path: Path, tiny_bundle: Path, kind: str, arguments: list[str]
):
    for suffix in ("", ".mp4", ".jpg"):
        odd(tmp_path / f"x{suffix}", kind)
    environment = {**os.environ, "EDGE_LABEL_BUNDLE": str(tiny_bundle)}
    labels = (
        ["--labels", "colours"]
        if arguments[0] in ("run", "once") and "--labels" not in arguments
        else []
    )
    command = [*EDGE_LABEL, *(argument.format(x=tmp_path / "x") for argument in arguments), *labels]
    result = subprocess.run(
        command,
        capture_output=True,
        text=True,
        cwd=REPOSITORY,
        env=environment,
        timeout=30,
        stdin=subprocess.DEVNULL,
    )

    assert result.returncode in (65, 66, 78), result.stderr
    assert len(result.stderr.splitlines()) == 1, result.stderr
    assert "mistake" not in result.stderr


@pytest.mark.fault("P11")
def test_a_pipe_among_pictures_is_passed_over(tmp_path: Path, tiny_bundle: Path):
    folder = tmp_path / "pictures"
    folder.mkdir()
    os.mkfifo(folder / "a.jpg")
    Image.new("RGB", (64, 64), "red").save(folder / "b.png")
    command = [
        *EDGE_LABEL,
        "once",
        str(folder),
        "--bundle",
        str(tiny_bundle),
        "--labels",
        "colours",
    ]
    result = subprocess.run(command, capture_output=True, text=True, cwd=REPOSITORY, timeout=30)

    assert result.returncode == 0, result.stderr
    assert [json.loads(line)["file"] for line in result.stdout.splitlines()] == ["b.png"]
    assert "a.jpg" in result.stderr


def test_a_shells_substitution_is_read_like_a_file(tmp_path: Path, tiny_bundle: Path):
    """``--config <(envsubst < template)``: a pipe that somebody does write to."""
    config = write_config(tmp_path / "c.yaml", tiny_bundle)
    command = f"{EDGE_LABEL[0]} -m edge_runtime run --frames 2 --config <(sleep 0.5; cat {config})"
    result = subprocess.run(
        ["bash", "-c", command], capture_output=True, text=True, cwd=REPOSITORY, timeout=60
    )

    assert result.returncode == 0, result.stderr
    assert len(result.stdout.splitlines()) == 2


def test_no_more_is_read_than_asked_for(tmp_path: Path):
    path = tmp_path / "big"
    path.write_bytes(b"x" * 3_000_000)
    assert len(read_capped(path, 2_000_000)) == 2_000_001
    assert len(read_capped(path, 4_000_000)) == 3_000_000


COMMANDS = {
    "edge_runtime.daemon.service.run": ["run", "--camera", "demo"],
    "edge_runtime.commands.once.label_pictures": ["once", "x.png"],
    "edge_runtime.commands.bench.run_bench": ["bench"],
    "edge_runtime.commands.doctor.doctor.examine": ["doctor"],
    "edge_runtime.commands.report.report.write_report": ["report", "x.jsonl"],
    "edge_runtime.commands.bundle.bundle_info": ["bundle", "info"],
    "edge_runtime.commands.labels.list_labels": ["labels", "list"],
}


@pytest.mark.fault("P12")
@pytest.mark.parametrize("function", COMMANDS)
@pytest.mark.parametrize(
    ("error", "says"),
    [
        (
            ZeroDivisionError("one\ntwo \x1b[31m"),
            "ZeroDivisionError: one; this is a bug: please report it",
        ),
        (MemoryError(), "not enough memory"),
        (OSError(24, "Too many open files"), "Too many open files; raise the limit (ulimit -n)"),
        (
            OSError(95, "Operation not supported"),
            "OSError: Operation not supported; this is a bug",
        ),
    ],
)
def test_what_nobody_foresaw_is_one_line_and_70(
    function: str,
    error: Exception,
    says: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):
    def fails(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(function, fails)
    assert cli.main(COMMANDS[function]) == 70
    message = capsys.readouterr().err
    assert says in message
    assert len(message.splitlines()) == 1


@pytest.mark.parametrize("place", ["before", "behind"])
def test_verbose_shows_where_it_comes_from(tmp_path: Path, place: str):
    command = ["labels", "list", "--bundle", str(tmp_path)]
    command = ["--verbose", *command] if place == "before" else [*command, "--verbose"]
    result = subprocess.run(
        [*EDGE_LABEL, *command], capture_output=True, text=True, cwd=REPOSITORY, timeout=60
    )

    assert result.returncode == 78
    assert "Traceback" in result.stderr
    assert "FileNotFoundError" in result.stderr, "also what lay behind the line"
    assert result.stderr.splitlines()[-1].startswith("edge-label: ")


@pytest.mark.fault("P14")
@pytest.mark.parametrize(
    "value", ["NaN", "Infinity", "-Infinity", "1e300", "1e308", "null", '"x"', "[]", "1" * 4000]
)
@pytest.mark.parametrize(
    "key", ["mono_s", "seq", "dropped", "fps", "rss_mb", "temp_c", "ms", "time", "labels"]
)
def test_a_record_of_impossible_numbers_costs_a_line_and_no_time(key: str, value: str):
    good = [record(seq=i, mono_s=50.0 + i / 10).to_json() for i in range(20)]
    fields = json.loads(good[10])
    fields[key] = "HERE"
    odd = json.dumps(fields).replace('"HERE"', value)
    start = time.monotonic()
    run = read_run([*good[:10], odd, *good[11:]], "x")
    page = to_html(run)

    assert time.monotonic() - start < 10
    assert len(run.t) in (19, 20)
    assert page.endswith("</html>\n")
    assert "nan" not in page.split("<svg")[1].split("</svg>")[0]


@pytest.mark.fault("P14")
def test_a_year_between_two_records_is_drawn_with_a_handful_of_marks():
    lines = [record(seq=i, mono_s=1e11 * i).to_json() for i in range(3)]
    page = to_html(read_run(lines, "x"))
    assert len(page) < 20_000
    assert page.count(":00:00 h<") <= MAX_TICKS + 1


@pytest.mark.fault("P14")
def test_a_hundred_thousand_restarts_are_drawn_once_a_pixel():
    lines = [record(seq=0, mono_s=50.0).to_json()] * 20_000
    assert to_html(read_run(lines, "x")).count(">restart<") <= 1000
