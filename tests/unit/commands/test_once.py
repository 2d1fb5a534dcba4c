"""Pictures and folders are labelled whatever is among them, and what cannot be is said."""

from __future__ import annotations

import json
import logging
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest

from edge_runtime.cli import main
from tests.tiny import tiny_input, write_tiny_bundle
from tests.unit.commands.pictures import Terminal, names, once


def test_a_killed_run_is_gone_on_with(tiny_bundle: Path, tmp_path: Path):
    root = tmp_path / "many"
    root.mkdir()
    picture = cv2.imencode(".png", np.full((40, 40, 3), (0, 0, 255), np.uint8))[1].tobytes()
    for i in range(3000):
        (root / f"{i:04d}.png").write_bytes(picture)
    output = tmp_path / "out.csv"
    command = [
        sys.executable,
        "-m",
        "edge_runtime",
        "once",
        str(root),
        "--output",
        str(output),
        "--resume",
    ]
    command += ["--bundle", str(tiny_bundle), "--labels", "colours"]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 30
    while not (output.exists() and output.stat().st_size > 5000):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    with output.open("a") as stream:
        stream.write("torn,half")
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    assert "pictures are done already" in done.stderr
    assert sorted(names(output)) == sorted(str(path) for path in root.iterdir())


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["{f}", "--output", "{f}/x.txt"], 2, "end it in .jsonl, .csv, .parquet"),
        (["{f}", "--output", "{t}/there.csv"], 2, "--resume continues it"),
        (["{f}", "--output", "{t}/there.csv", "--resume"], 65, "has other columns"),
        (["{f}", "--output", "{t}/there.jsonl", "--resume"], 65, "there.jsonl:1: not a record"),
        (["{f}", "--output", "{t}/none/x.csv"], 65, "cannot write there"),
        (["{f}", "--output", "{t}/x.csv", "--embeddings"], 2, "needs a .parquet output"),
        (["{t}/none.png"], 66, "no such file or folder"),
        (["{t}/there.csv"], 65, "not a picture"),
        (["{t}/empty"], 65, "no pictures in it"),
    ],
)
def test_a_mistake_is_one_line(
    tiny_bundle, folder, tmp_path: Path, capsys, arguments, code: int, words: str
):
    (tmp_path / "there.csv").write_text("a,b\n1,2\n")
    (tmp_path / "there.jsonl").write_text("{}\n")
    (tmp_path / "empty").mkdir()
    assert once(tiny_bundle, *(a.format(f=folder, t=tmp_path) for a in arguments)) == code
    error = capsys.readouterr().err
    assert words in error
    assert error.count("\n") == 1


def test_a_broken_picture_among_others_is_named_and_passed_over(
    tiny_bundle, folder, tmp_path: Path, caplog
):
    """As the shell hands them on: once photos/*.png."""
    output = tmp_path / "out.csv"
    assert once(tiny_bundle, *sorted(folder.glob("*.png")), "--output", output) == 0
    assert len(names(output)) == 14
    assert "04-green.png: not a picture" in caplog.text


ODD = {
    "a-deep.png": np.tile(np.linspace(0, 65535, 40).astype(np.uint16), (40, 1)),
    "b-twelve-bits.png": np.tile(np.linspace(0, 4095, 40).astype(np.uint16), (40, 1)),
    "c-float.tiff": np.tile(np.linspace(0, 1, 40, dtype=np.float32), (40, 1)),
    "d-double.tiff": np.tile(np.linspace(-1, 9, 40), (40, 1)),
    "e-one-point.png": np.full((1, 1, 3), 90, np.uint8),
    "f-a-line.png": np.random.default_rng(0).integers(0, 255, (1, 5000, 3), np.uint8),
    "g-alpha.png": np.full((40, 40, 4), 90, np.uint8),
}
NONE = {
    "h-signed.tiff": np.full((40, 40), -3, np.int16),
    "i-hdr.tiff": np.full((40, 40, 3), 0.5, np.float32),
    "j-whole.tiff": np.full((40, 40), 70_000, np.int32),
}


@pytest.mark.fault("C14")
def test_one_odd_picture_never_ends_a_folder_and_is_named_and_counted(
    tiny_bundle: Path, folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    for name, pixels in {**ODD, **NONE}.items():
        cv2.imwrite(str(folder / name), pixels)
    output = tmp_path / "out.csv"
    caplog.set_level(logging.INFO)
    assert once(tiny_bundle, folder, "--output", output) == 0
    assert {Path(name).name for name in names(output)} >= set(ODD)
    assert len(names(output)) == 29 + len(ODD)
    assert f"{29 + len(ODD)} pictures labelled into {output}, 4 could not be read" in caplog.text
    for name in NONE:
        assert f"{folder / name}: pixels of" in caplog.text
    assert once(tiny_bundle, folder, "--output", output, "--resume") == 0
    assert len(names(output)) == 29 + len(ODD)


@pytest.mark.fault("C14")
def test_deep_grey_is_labelled_as_grey_where_the_bundle_knows_photographs_only(
    tiny_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    """Sixteen bits, twelve bits in sixteen, and floats: the same scene has the same embedding."""
    shades = np.random.default_rng(0).integers(0, 255, (40, 40))
    shades[0, 0] = 255
    for name, pixels in {
        "a.png": shades.astype(np.uint8),
        "b.png": (shades * 257).astype(np.uint16),
        "c.png": (shades * 16).astype(np.uint16),
        "d.tiff": (shades / 255).astype(np.float32),
    }.items():
        cv2.imwrite(str(tmp_path / name), pixels)
    for modality in ("auto", "rgb"):
        assert (
            once(
                tiny_bundle,
                *(tmp_path / n for n in ("a.png", "b.png", "c.png", "d.tiff")),
                "--modality",
                modality,
            )
            == 0
        )
        records = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
        assert [r["modality"] for r in records] == ["rgb"] * 4
        scores = [[label["score"] for label in r["labels"]] for r in records]
        for other in scores[1:]:
            assert other == pytest.approx(scores[0], abs=0.01)


@pytest.mark.fault("C14")
def test_a_picture_that_is_not_of_the_modality_asked_for_is_passed_over(
    tmp_path: Path,
    folder: Path,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
):
    bundle = write_tiny_bundle(tmp_path / "multi", {"input": tiny_input("rgb", "depth")})
    cv2.imwrite(str(folder / "deep.png"), ODD["a-deep.png"])
    output = tmp_path / "out.csv"
    assert once(bundle, folder, "--modality", "depth", "--output", output) == 0
    assert [Path(name).name for name in names(output)] == ["deep.png"]
    assert "00-red.png: --modality depth: the frames are 8-bit colour" in caplog.text
    run = [
        "--camera",
        str(folder),
        "--bundle",
        str(bundle),
        "--labels",
        "colours",
        "--modality",
        "depth",
    ]
    assert main([*run, "--output", str(tmp_path / "run.jsonl")]) == 0
    assert [json.loads(line)["file"] for line in (tmp_path / "run.jsonl").open()] == ["deep.png"]
    (folder / "deep.png").unlink()
    assert once(bundle, folder, "--modality", "depth") == 78
    assert "--modality depth" in capsys.readouterr().err
    assert main(run) == 78
    assert capsys.readouterr().out == ""


def test_a_foreign_format_beside_others_is_passed_over_and_alone_is_one_line(
    tiny_bundle: Path,
    folder: Path,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
):
    foreign = folder / "x.heic"
    foreign.write_bytes(b"\0\0\0\x18ftypheic")
    assert once(tiny_bundle, foreign, folder / "00-red.png") == 0
    assert "x.heic: OpenCV does not read .heic pictures; convert them first" in caplog.text
    assert len(capsys.readouterr().out.splitlines()) == 1
    assert once(tiny_bundle, foreign) == 65
    assert once(tiny_bundle, foreign, foreign) == 65


def test_nothing_but_broken_pictures_is_65(tiny_bundle, folder, capsys):
    broken = folder / "04-green.png"
    assert once(tiny_bundle, broken) == 65
    assert capsys.readouterr().err.count("\n") == 1
    assert once(tiny_bundle, broken, broken) == 65
    assert "none of the 2 pictures can be read" in capsys.readouterr().err


def test_what_is_wrong_with_the_model_leaves_no_table_behind(tiny_bundle, folder, tmp_path: Path):
    output = tmp_path / "out.csv"
    assert (
        main(
            [
                "once",
                str(folder),
                "--output",
                str(output),
                "--bundle",
                str(tiny_bundle),
                "--labels",
                "raod",
            ]
        )
        == 66
    )
    assert not output.exists()


def test_a_broken_picture_on_a_terminal_draws_no_bar_between_the_lines(
    tiny_bundle, folder, monkeypatch
):
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    once(tiny_bundle, folder)
    assert "pictures" not in terminal.getvalue().replace(str(folder), "")
