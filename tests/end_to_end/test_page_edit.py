"""A person at the page of a real daemon changes labels, and a reload takes them back."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.daemon import Daemon, records_of, wait_until, write_config
from tests.doubles.ports import free_port
from tests.unit.sinks.web.editing import TOKEN, Bench


class Page(Bench):
    """The page of a daemon, asked as `Bench` asks."""

    def __init__(self, port: int) -> None:
        self.port = port


@pytest.fixture
def config(tmp_path: Path, tiny_bundle: Path) -> Path:
    token = tmp_path / "token"
    token.write_text(TOKEN)
    token.chmod(0o600)
    return write_config(
        tmp_path / "c.yaml",
        tiny_bundle,
        output={"file": str(tmp_path / "run.jsonl")},
        preview={
            "listen": f"127.0.0.1:{free_port()}",
            "token_file": str(token),
            "edit": True,
        },
        triggers={
            "spool": str(tmp_path / "spool"),
            "rules": [{"name": "r", "when": {"label": "red"}}],
        },
    )


def page_of(config: Path) -> Page:
    return Page(int(json.loads(config.read_text())["preview"]["listen"].split(":")[1]))


def change(page: Page, labels: list[object]) -> dict[str, object]:
    """Try these labels; returns what the page says at the end."""
    number = page.edit()["notice"]["number"]
    version = page.labels()["version"]
    assert page.post("/labels", {"version": version, "set": {"labels": labels}})[0] == 202
    wait_until(lambda: page.edit()["notice"]["number"] > number, what="the end of the change")
    return page.edit()["notice"]


def ids(output: Path) -> list[str]:
    """The label sets that records were made with, in order."""
    found: list[str] = []
    for record in records_of(output):
        if found[-1:] != [record["labels_id"]]:
            found.append(record["labels_id"])
    return found


@pytest.mark.fault("E5")
def test_labels_change_between_frames_without_a_gap_and_a_reload_takes_them_back(
    config: Path, tmp_path: Path
):
    output = tmp_path / "run.jsonl"
    with Daemon(tmp_path, "--config", config) as daemon:
        wait_until(lambda: records_of(output), what="a record")
        page = page_of(config)
        assert change(page, ["red", "grey"])["text"] == "In use: 2 labels"
        wait_until(lambda: len(ids(output)) == 2, what="a record with the new labels")
        assert page.edit()["scores"].keys() == {"red", "grey"}

        refused = change(page, ["green", "grey"])
        assert refused["is_error"]
        assert "the label set has no 'red'" in refused["text"]

        daemon.process.send_signal(signal.SIGHUP)
        wait_until(lambda: len(ids(output)) == 3, what="a record with the configured labels")
        names = [label["name"] for label in page.labels()["set"]["labels"]]
        assert names == ["red", "green", "blue"]
        assert daemon.stop() == 0

    found = ids(output)
    assert found[0] == found[2] != found[1]
    sequence = [record["seq"] for record in records_of(output)]
    assert sequence == list(range(len(sequence)))
    assert json.loads(config.read_text())["model"]["labels"] == "colours", "nobody wrote it"


def test_a_page_that_only_shows_loads_nothing_of_the_editor(tmp_path: Path, tiny_bundle: Path):
    """And a run without a page loads nothing of the page."""
    program = (
        "import sys\n"
        "from edge_runtime.cli import main\n"
        "code = main(sys.argv[1:])\n"
        "print(code, *[name for name in sys.modules if name.startswith('edge_runtime.sinks.web') "
        "or name in ('edge_runtime.sinks.web.editor', 'edge_runtime.model.labels.label_yaml')])\n"
    )
    run = [sys.executable, "-c", program, "run", "--camera", "demo", "--bundle", tiny_bundle]
    run += ["--labels", "colours", "--frames", "3", "--output", tmp_path / "o.jsonl"]
    out = subprocess.run(run, capture_output=True, text=True, check=True).stdout.split()
    assert out == ["0"]
    run += ["--preview", f"127.0.0.1:{free_port()}"]
    out = subprocess.run(run, capture_output=True, text=True, check=True).stdout.split()
    assert "edge_runtime.sinks.web.preview" in out
    loaded = {name.rsplit(".", 1)[1] for name in out[1:]}
    assert not loaded & {"editor", "edit_routes", "working_copy", "kept_pictures", "label_yaml"}
