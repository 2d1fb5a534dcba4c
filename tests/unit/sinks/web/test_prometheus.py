"""Metrics that promtool accepts, over HTTP and as a file."""

from __future__ import annotations

import errno
import socket
import subprocess
import urllib.request
from pathlib import Path

import pytest

from edge_runtime.config import Config, PrometheusConfig
from edge_runtime.errors import ConfigError
from edge_runtime.records import LabelledFrame, LabelScore
from edge_runtime.sinks.web.prometheus import MAX_LABELS, PrometheusSink
from edge_runtime.system import strict_yaml
from tests.commands import need
from tests.daemon import wait_until
from tests.doubles.ports import free_port
from tests.unit.test_records import record

HOSTILE = 'a "quoted" \\ name\nwith {braces="x"} 1\n# HELP'


def names_in_use() -> tuple[str, ...]:
    return ("cat",)


def lit(*names: str, **changes: object):
    return record(labels=tuple(LabelScore(name, 0.75, 0.5, True) for name in names), **changes)


@pytest.fixture
def sink():
    made = PrometheusSink(PrometheusConfig(listen="127.0.0.1:0"), lambda: "ok", names_in_use)
    yield made
    made.close()


def check(text: str) -> str:
    """promtool's complaints; empty when there are none."""
    promtool = need("promtool", "prometheus")
    done = subprocess.run(
        [promtool, "check", "metrics"], input=text, capture_output=True, text=True, check=False
    )
    return done.stdout + done.stderr + ("" if done.returncode == 0 else f"exit {done.returncode}")


def scrape(sink: PrometheusSink) -> tuple[str, str]:
    host, port = sink.address or ("", 0)
    with urllib.request.urlopen(f"http://{host}:{port}/metrics", timeout=10) as answer:
        return answer.read().decode(), answer.headers["Content-Type"]


def test_promtool_finds_nothing_wrong_before_and_after_the_first_record(sink: PrometheusSink):
    assert check(scrape(sink)[0]) == ""
    sink.write(LabelledFrame(lit("cat", temp_c=61.2, throttled=False, pss_mb=70.5)))
    text, content_type = scrape(sink)
    assert check(text) == ""
    assert content_type == "text/plain; version=0.0.4; charset=utf-8"


def test_promtool_would_have_found_something_wrong():
    assert "total" in check(
        "# HELP edge_label_frames Frames.\n# TYPE edge_label_frames counter\nedge_label_frames 1\n"
    )


@pytest.mark.fault("N4")
def test_a_hostile_label_stays_inside_its_quotes(sink: PrometheusSink):
    sink.write(LabelledFrame(lit(HOSTILE)))
    text = sink.text()
    assert check(text) == ""
    assert [line for line in text.splitlines() if line.startswith("edge_label_on")] == [
        r'edge_label_on{label="a \"quoted\" \\ name\nwith {braces=\"x\"} 1\n# HELP"} 1'
    ]


def test_numbers_are_in_base_units_and_add_up(sink: PrometheusSink):
    for seq in range(10):
        sink.write(
            LabelledFrame(
                lit(*(("cat",) if seq % 2 else ()), seq=seq, state="ok" if seq % 2 else "unknown")
            )
        )
    values = dict(
        line.rsplit(" ", 1) for line in sink.text().splitlines() if not line.startswith("#")
    )
    assert (
        values['edge_label_records_total{state="ok"}']
        == values['edge_label_records_total{state="unknown"}']
        == "5"
    )
    assert values['edge_label_switched_on_total{label="cat"}'] == "5"
    assert values['edge_label_frame_duration_seconds_bucket{le="0.02"}'] == "0"
    assert values['edge_label_frame_duration_seconds_bucket{le="0.03"}'] == "10"
    assert values['edge_label_frame_duration_seconds_bucket{le="+Inf"}'] == "10"
    assert float(values["edge_label_frame_duration_seconds_sum"]) == pytest.approx(0.226)
    assert float(values["edge_label_resident_memory_bytes"]) == 80.1e6
    assert values['edge_label_camera_state{state="ok"}'] == "1"
    assert values['edge_label_camera_state{state="frozen"}'] == "0"
    assert "edge_label_temperature_celsius" not in values


def test_the_number_of_series_is_bounded(sink: PrometheusSink):
    for i in range(3 * MAX_LABELS):
        sink.write(LabelledFrame(lit(f"label {i}")))
    assert sink.text().count("edge_label_on{") == MAX_LABELS


def test_the_text_file_is_whole_readable_by_others_and_taken_away_at_the_end(tmp_path: Path):
    path = tmp_path / "edge_label.prom"
    sink = PrometheusSink(
        PrometheusConfig(textfile=str(path), every_s=1), lambda: "ok", names_in_use
    )
    sink.write(LabelledFrame(lit("cat")))
    wait_until(lambda: path.exists() and "edge_label_on" in path.read_text())
    assert check(path.read_text()) == ""
    assert path.stat().st_mode & 0o777 == 0o644
    sink.close()
    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_became_read_only_does_not_end_in_a_traceback(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    sink = PrometheusSink(
        PrometheusConfig(textfile=str(tmp_path / "edge_label.prom"), every_s=1),
        lambda: "ok",
        names_in_use,
    )

    def read_only(path: Path, *_: object, **__: object) -> None:
        raise OSError(30, "Read-only file system", str(path))

    monkeypatch.setattr(Path, "unlink", read_only)
    sink.close()  # pytest turns an exception in its thread into a failure


def test_a_reload_leaves_the_text_file_of_the_new_sink(tmp_path: Path):
    """The new sink is made before the old one is closed; a refused reload closes the new one."""
    path = tmp_path / "edge_label.prom"
    old, given_up, new = (
        PrometheusSink(PrometheusConfig(textfile=str(path)), lambda: "ok", names_in_use)
        for _ in range(3)
    )
    old.write(LabelledFrame(lit("cat")))
    wait_until(path.exists)
    given_up.close()
    assert path.exists()
    old.close()
    new.write(LabelledFrame(lit("cat")))
    wait_until(path.exists)
    new.close()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("prometheus:\n", "needs listen"),
        ("prometheus: {textfile: /tmp/metrics.txt}", "must end in .prom"),
        ("prometheus: {listen: ':9'}", "is not ADDRESS:PORT"),
    ],
)
def test_a_wrong_section_is_one_clear_line(text: str, problem: str):
    with pytest.raises(ConfigError, match=problem):
        strict_yaml.parse(text, "x.yaml", Config)


def test_a_missing_folder_is_said_at_the_start(tmp_path: Path):
    with pytest.raises(ConfigError, match="no such folder"):
        PrometheusSink(
            PrometheusConfig(textfile=str(tmp_path / "no" / "x.prom")), lambda: "ok", names_in_use
        )


def test_a_refused_sink_serves_nothing(tmp_path: Path):
    """Else the half of a refused reload would answer some of the requests, with no metrics."""
    port = free_port()
    with pytest.raises(ConfigError, match="no such folder"):
        PrometheusSink(
            PrometheusConfig(listen=f"127.0.0.1:{port}", textfile=str(tmp_path / "no" / "x.prom")),
            lambda: "ok",
            names_in_use,
        )
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", port)) == errno.ECONNREFUSED


@pytest.mark.fault("N7")
def test_a_label_that_left_the_set_is_told_no_more():
    names = ["cat", "gone"]
    sink = PrometheusSink(
        PrometheusConfig(listen="127.0.0.1:0"), lambda: "ok", lambda: tuple(names)
    )
    sink.write(LabelledFrame(lit("cat", "gone", labels_id="sha256:1")))
    assert 'edge_label_on{label="gone"} 1' in sink.text()
    names.remove("gone")
    sink.write(LabelledFrame(lit("cat", labels_id="sha256:2")))
    assert "gone" not in sink.text()
    assert 'edge_label_switched_on_total{label="cat"} 1' in sink.text()
    sink.close()
