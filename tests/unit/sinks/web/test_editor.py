"""What the page tries is in use within a second, and what goes wrong leaves all as it was."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edge_runtime.camera.decode import FULL_SIZE, decode
from edge_runtime.camera.privacy import Privacy
from edge_runtime.config import PrivacyConfig
from edge_runtime.engine import load_engine
from edge_runtime.errors import ConfigError
from edge_runtime.model.labels.label_set import parse_label_set
from edge_runtime.records import Frame
from edge_runtime.sinks.web import editor as editor_module
from edge_runtime.sinks.web import kept_pictures
from edge_runtime.system.claims import let_go
from tests.commands import instead_of_python
from tests.disks import small_disk
from tests.tiny_text import write_tiny_text_encoder
from tests.unit.sinks.web.editing import Bench


def keep(bench: Bench, label: str, colour: str = "red") -> dict[str, object]:
    bench.see(colour)
    bench.ask("GET", "/picture.jpg")
    seq = bench.get("/state")["record"]["seq"]
    status, said = bench.post("/keep", {"label": label, "seq": seq})
    assert status == 202, said
    return bench.settled()


def test_a_phrase_that_the_bank_lacks_is_scored_within_a_second_of_its_row(
    bench: Bench, tmp_path: Path
):
    write_tiny_text_encoder(tmp_path / "text-encoder")
    start = time.monotonic()
    notice = bench.change({"name": "crimson", "group": "colour"})
    print(f"{time.monotonic() - start:.2f} s")
    assert notice["text"] == "In use: 4 labels"
    assert not notice["is_error"]
    bench.see("red")
    assert bench.edit()["scores"]["crimson"][0] > bench.edit()["scores"]["green"][0]


@pytest.mark.fault("E2")
def test_a_set_that_is_too_large_for_a_page_is_read_once_and_said_once(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    many = tmp_path / "many.yaml"
    rows = "".join(
        f"  - {{name: a {i}, prompts: [red]}}\n" for i in range(editor_module.MAX_PHRASES)
    )
    many.write_text(f"labels:\n{rows}")
    bench.config = replace(bench.config, labels=str(many))
    bench.reload()
    loads = []
    load = editor_module.load_label_set
    monkeypatch.setattr(
        editor_module, "load_label_set", lambda *given: loads.append(1) or load(*given)
    )
    for _ in range(5):
        bench.see("red")
        assert bench.edit()["scores"] == {}
    status, answer = bench.ask("GET", "/labels")
    assert status == 400
    assert b"too large for a page" in answer
    assert bench.post("/learn", {})[0] == 400
    assert loads == [1]


@pytest.mark.fault("E5")
def test_without_a_text_encoder_the_page_says_so_in_one_line_and_the_labels_stay(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("EDGE_LABEL_TEXT_ENCODER", "/nowhere/text-encoder")
    before = bench.pipeline.engine
    notice = bench.change({"name": "crimson", "group": "colour"})
    assert notice["is_error"]
    assert notice["text"].startswith("The text bank lacks 'a photo of a crimson'")
    assert "no such text encoder" in notice["text"]
    assert "\n" not in notice["text"]
    assert bench.pipeline.engine is before
    assert bench.names() == ["red", "green", "blue"]
    assert not bench.change("grey")["is_error"], "the next change is made"


@pytest.mark.fault("E5")
def test_a_child_that_dies_is_one_line_and_the_labels_stay(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    write_tiny_text_encoder(tmp_path / "text-encoder")
    bench.change("grey")
    instead_of_python(tmp_path, monkeypatch, "echo of ours >&2; exit 9")
    notice = bench.change("crimson")
    assert notice["is_error"]
    assert notice["text"].endswith("of ours")
    assert bench.names() == ["red", "green", "blue", "grey"]
    copy = bench.state_folder / "page" / "labels.yaml"
    assert "crimson" not in copy.read_text(), "the working copy is what is in use"


def test_thresholds_groups_and_background_are_in_use_at_once(bench: Bench):
    present = bench.labels()
    red, green, blue = present["set"]["labels"]
    red["threshold"] = 0.99
    green["background"] = True
    blue["group"] = "other"
    bench.post("/labels", present)
    assert not bench.settled()["is_error"]
    labels = bench.pipeline.engine.score.labels
    assert labels.reported == ("red", "blue")
    assert [name for name, _ in labels.groups] == ["colour", "other"]
    assert labels.thresholds[labels.names.index("red")] == np.float32(0.99)


def test_a_reload_goes_back_to_the_configuration_and_every_page_learns_of_it(bench: Bench):
    bench.change("grey", remove="blue")
    version = bench.labels()["version"]
    bench.reload()
    assert bench.names() == ["red", "green", "blue"]
    assert bench.labels()["version"] == version + 1


@pytest.mark.fault("E5")
def test_labels_that_the_loop_refuses_are_not_shown_as_if_they_were_in_use(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
):
    def refuse(*_: object) -> None:
        raise ConfigError("triggers: the label set has no 'blue'")

    monkeypatch.setattr(bench.editor, "_use_labels", refuse)
    notice = bench.change("grey", remove="blue")
    assert notice["text"] == "Triggers: the label set has no 'blue'"
    assert bench.names() == ["red", "green", "blue"]


def test_a_taught_set_stays_taught_while_other_labels_are_tried(bench: Bench, tmp_path: Path):
    write_tiny_text_encoder(tmp_path / "text-encoder")
    bench.change("crimson")
    saved = bench.state_folder / "labels" / "mine.yaml"
    bench.post("/save", {"name": "mine"})
    bench.settled()
    # Now the saved set is the configured one; its rows come with it.
    bench.config = replace(bench.config, labels=str(saved))
    bench.reload()
    (tmp_path / "text-encoder" / "manifest.json").unlink()
    assert not bench.change("grey")["is_error"]
    assert bench.names() == ["red", "green", "blue", "crimson", "grey"]


def test_a_saved_set_is_an_ordinary_label_set_and_the_line_that_makes_it_permanent_is_shown(
    bench: Bench, tmp_path: Path
):
    write_tiny_text_encoder(tmp_path / "text-encoder")
    bench.change({"name": "crimson", "group": "colour", "threshold": 0.4})
    bench.post("/save", {"name": "my-labels"})
    notice = bench.settled()
    saved = bench.state_folder / "labels" / "my-labels.yaml"
    assert notice["line"] == f"labels: {saved}"
    assert not notice["is_error"]
    engine = load_engine(replace(bench.config, labels=str(saved)))
    assert engine.score.labels.id == bench.pipeline.engine.score.labels.id
    assert saved.read_text().startswith("# Saved by the preview page")
    assert parse_label_set(saved.read_text(), "x").labels[3].threshold == 0.4


def test_a_picture_is_kept_as_the_page_showed_it_and_can_be_taken_back(bench: Bench):
    assert keep(bench, "red")["text"] == "Kept a picture of 'red'"
    assert keep(bench, "", "green")["text"] == "Kept a picture of none of these"
    pictures = bench.state_folder / "page" / "pictures"
    assert bench.edit()["pictures"] == {"red": 1, "": 1}
    (kept,) = (pictures / "none").glob("*.jpg")
    assert kept.read_bytes() == bench.ask("GET", "/picture.jpg")[1]
    assert bench.post("/remove", {"label": ""})[0] == 202
    assert bench.settled()["text"] == "Removed the newest picture of none of these"
    assert bench.edit()["pictures"] == {"red": 1}
    assert not (pictures / "none").exists()
    bench.post("/remove", {"label": "blue"})
    assert bench.settled()["text"] == "No picture of 'blue' is kept"


@pytest.mark.fault("G3")
def test_what_privacy_hides_is_black_in_a_kept_picture(tmp_path: Path, tiny_bundle: Path):
    left_half = ((0.0, 0.0), (0.5, 0.0), (0.5, 1.0), (0.0, 1.0))
    bench = Bench(tmp_path, tiny_bundle, Privacy(PrivacyConfig(masks=(left_half,))))
    keep(bench, "red")
    bench.close()
    (kept,) = bench.state_folder.rglob("*.jpg")
    pixels = decode(Frame(np.frombuffer(kept.read_bytes(), np.uint8), "mjpg", 0, 0), FULL_SIZE)
    assert pixels[:, :300].max() < 10
    assert pixels[:, 340:].max() > 100


@pytest.mark.fault("E2")
def test_pictures_have_a_limit_in_number_and_in_bytes(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(kept_pictures, "MAX_PICTURES", 2)
    for _ in range(2):
        assert not keep(bench, "red")["is_error"]
    assert "at most 2" in keep(bench, "green")["text"]
    monkeypatch.setattr(kept_pictures, "MAX_PICTURES", 500)
    monkeypatch.setattr(kept_pictures, "MAX_BYTES", 1000)
    assert keep(bench, "green")["is_error"]
    assert bench.edit()["pictures"] == {"red": 2}


@pytest.mark.fault("E5")
def test_a_full_disk_is_one_line_and_leaves_no_half_picture(tmp_path: Path, tiny_bundle: Path):
    with small_disk(tmp_path / "disk", "1m") as disk:
        bench = Bench(tmp_path, tiny_bundle)
        bench.state_folder.symlink_to(disk)
        (disk / "filler").write_bytes(b"x" * 900_000)
        while not keep(bench, "red")["is_error"]:
            pass
        notice = bench.edit()["notice"]
        assert "No space left on device" in notice["text"]
        kept = list((disk / "page" / "pictures" / "red").iterdir())
        assert {path.suffix for path in kept} <= {".jpg"}
        assert len(kept) == bench.edit()["pictures"].get("red", 0)
        assert bench.names() == ["red", "green", "blue"], "the page goes on"
        bench.close()


@pytest.mark.fault("E3")
def test_a_second_program_does_not_write_to_the_same_working_copy(
    bench: Bench, tmp_path: Path, tiny_bundle: Path
):
    bench.change("grey")
    program = (
        "import sys; from pathlib import Path; "
        "from edge_runtime.sinks.web.working_copy import WorkingCopy; "
        "WorkingCopy(Path(sys.argv[1])).begin(None)"
    )
    other = subprocess.run(
        [sys.executable, "-c", program, bench.state_folder / "page"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert other.returncode == 1
    assert f"process {os.getpid()} (" in other.stderr
    assert "writes there already" in other.stderr
    assert "give each its own $STATE_DIRECTORY" in other.stderr


def test_closing_lets_another_program_have_the_working_copy(bench: Bench):
    bench.change("grey")
    bench.editor.close()
    bench.editor.close()
    fd = os.open(bench.state_folder / "page", os.O_RDONLY)
    from edge_runtime.system.claims import claim

    claim(fd)
    let_go(fd)


def test_what_no_job_foresaw_is_one_line_and_the_next_one_runs(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    def broken(*_: object) -> None:
        raise ZeroDivisionError("of ours")

    with monkeypatch.context() as patch:
        patch.setattr(editor_module.WorkingCopy, "load", broken)
        assert bench.change("grey")["text"] == "Of ours"
    assert "preview: changing the labels failed" in caplog.text
    assert not bench.change("grey")["is_error"]


@pytest.mark.fault("E4")
def test_the_file_of_the_configured_set_is_never_written(tmp_path: Path, tiny_bundle: Path):
    bench = Bench(tmp_path, tiny_bundle)
    mine = tmp_path / "mine.yaml"
    mine.write_text("labels: [red, blue]\n")
    bench.config = replace(bench.config, labels=str(mine))
    bench.reload()
    before = {path: path.read_bytes() for path in tmp_path.glob("mine*")}
    bench.change("grey", remove="blue")
    bench.post("/save", {"name": "mine"})
    bench.settled()
    bench.close()
    assert {path: path.read_bytes() for path in tmp_path.glob("mine*")} == before


def test_learning_teaches_with_the_kept_pictures_and_is_in_use_at_once(bench: Bench):
    """The real command in its child process; what it says is on the page."""
    for colour in ("red", "green", "blue"):
        for _ in range(3):
            assert not keep(bench, colour, colour)["is_error"]
    before = bench.pipeline.engine.score.labels.id
    version = bench.labels()["version"]
    assert bench.post("/learn", {})[0] == 202
    notice = bench.settled()
    print(notice["text"])
    assert not notice["is_error"]
    assert "held-out pictures" in notice["text"]
    assert "SIGHUP" not in notice["text"], "it is in use already"
    assert bench.pipeline.engine.score.labels.id != before
    assert bench.labels()["version"] == version + 1
    # Another threshold does not forget what was taught.
    taught = bench.pipeline.engine.score.labels.matrix.copy()
    present = bench.labels()
    present["set"]["labels"][0]["threshold"] = 0.6
    bench.post("/labels", present)
    assert not bench.settled()["is_error"]
    assert (bench.pipeline.engine.score.labels.matrix == taught).all()


@pytest.mark.fault("E5")
def test_learning_that_cannot_teach_says_why_and_the_labels_stay(bench: Bench):
    before = bench.pipeline.engine.score.labels.id
    bench.post("/learn", {})
    notice = bench.settled()
    assert notice["is_error"]
    assert "no such folder" in notice["text"]
    keep(bench, "red")
    bench.post("/learn", {})
    notice = bench.settled()
    assert notice["is_error"]
    assert "\n" not in notice["text"]
    assert bench.pipeline.engine.score.labels.id == before
