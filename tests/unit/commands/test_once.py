"""Thousands of pictures into a table: complete, resumable after any end, and said as it goes."""

from __future__ import annotations

import csv
import io
import json
import logging
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest

from edge_runtime.cli import main
from edge_runtime.commands.progress import Progress
from edge_runtime.commands.text_tables import CSV_COLUMNS, cut_torn_line
from tests.tiny import write_tiny_bundle

COLOURS = {"red": (0, 0, 255), "green": (0, 255, 0), "blue": (255, 0, 0)}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Thirty pictures, one of them broken, and a file that is none."""
    root = tmp_path / "pictures"
    (root / "below").mkdir(parents=True)
    for i in range(30):
        name, colour = list(COLOURS.items())[i % 3]
        place = root / "below" if i % 2 else root
        noise = np.random.default_rng(i).integers(0, 60, (40, 40, 3))
        cv2.imwrite(
            str(place / f"{i:02d}-{name}.png"), np.abs(np.array(colour) - noise).astype(np.uint8)
        )
    (root / "04-green.png").write_bytes(b"broken")
    (root / "notes.txt").write_text("no picture")
    return root


def once(bundle: Path, *arguments: object) -> int:
    return main(["once", *map(str, arguments), "--bundle", str(bundle), "--labels", "colours"])


def names(output: Path) -> list[str]:
    if output.suffix == ".csv":
        with output.open(newline="") as stream:
            return [row["file"] for row in csv.DictReader(stream)]
    if output.suffix == ".jsonl":
        records = [json.loads(line) for line in output.read_text().splitlines()]
        return [f"{r['camera']}/{r['file']}" for r in records]
    import pyarrow.parquet

    return pyarrow.parquet.read_table(output.absolute()).column("file").to_pylist()


@pytest.mark.parametrize("suffix", [".jsonl", ".csv", ".parquet"])
def test_every_picture_is_in_the_table_once_also_after_a_resume(
    tiny_bundle: Path, folder: Path, tmp_path: Path, suffix: str, caplog: pytest.LogCaptureFixture
):
    output = tmp_path / f"out{suffix}"
    assert once(tiny_bundle, folder / "below", "--output", output) == 0
    first = names(output)
    assert len(first) == 15
    assert once(tiny_bundle, folder, "--output", output, "--resume") == 0
    caplog.set_level(logging.INFO)
    assert once(tiny_bundle, folder, "--output", output, "--resume") == 0
    assert "29 of 30 pictures are done already" in caplog.text
    got = names(output)
    assert sorted(set(got)) == sorted(
        str(p) for p in folder.rglob("*.png") if p.name != "04-green.png"
    )
    assert got[:15] == first
    assert len(got) == 29, (
        "the ones below were asked for under another name, and are the same pictures"
    )


def test_csv_rows_say_what_is_on(tiny_bundle: Path, folder: Path, tmp_path: Path):
    output = tmp_path / "out.csv"
    once(tiny_bundle, folder, "--output", output)
    with output.open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert tuple(rows[0]) == CSV_COLUMNS
    for row in rows:
        colour = Path(row["file"]).stem.split("-")[1]
        assert (row["label"], row["on"], row["state"]) == (colour, colour, "ok")
        assert float(row["score"]) > 0.5


def test_parquet_holds_labels_and_embeddings(
    tiny_bundle: Path, folder: Path, tmp_path: Path, monkeypatch
):
    from pyarrow import parquet

    monkeypatch.setattr("edge_runtime.commands.parquet_table.PART_ROWS", 10)
    output = tmp_path / "out.parquet"
    once(tiny_bundle, folder, "--output", output, "--embeddings")
    assert len(list(output.glob("part-*.parquet"))) == 3
    rows = parquet.read_table(output).to_pylist()
    assert len(rows) == 29
    for row in rows:
        assert row["labels"][0]["name"] in row["file"]
        assert np.linalg.norm(row["embedding"]) == pytest.approx(1, abs=1e-5)


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
    pixels = {
        "name": "pixels",
        "layout": "NHWC",
        "dtype": "uint8",
        "size": [32, 32],
        "resize": "squash",
    }
    bundle = write_tiny_bundle(
        tmp_path / "multi", {"input": {**pixels, "modalities": ["rgb", "depth"]}}
    )
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


@pytest.mark.fault("C12")
@pytest.mark.parametrize("suffix", [".jsonl", ".csv", ".parquet"])
def test_a_tables_name_is_never_taken_for_a_url(
    tiny_bundle: Path, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str
):
    """Of a relative path with a colon, Arrow makes a URL."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "s3:2026-03-29T02:30").mkdir()
    output = Path("s3:2026-03-29T02:30") / f"%03d=out{suffix}"
    for _ in range(2):
        assert once(tiny_bundle, folder, "--output", output, "--resume") == 0
        assert len(names(output)) == 29


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


@pytest.mark.parametrize("name", ["there.csv", "there.jsonl"])
def test_a_table_that_is_no_text_is_one_line(
    tiny_bundle, folder, tmp_path: Path, capsys, name: str
):
    (tmp_path / name).write_bytes(b"\xff\xfe\x00" * 99 + b"\n")
    assert once(tiny_bundle, folder, "--output", tmp_path / name, "--resume") == 65
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize("suffix", [".jsonl", ".csv"])
def test_a_full_disk_is_one_line_and_can_be_gone_on_from(
    tiny_bundle, folder, tmp_path: Path, capsys, suffix: str
):
    """RLIMIT_FSIZE is the disk: it lets a part of a line through."""
    output = tmp_path / f"out{suffix}"
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        assert once(tiny_bundle, folder, "--output", output) == 65
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    error = capsys.readouterr().err.splitlines()[-1]
    assert error == (
        f"edge-label: {output}: cannot write: File too large; what it holds is whole; "
        "make room, then continue with --resume"
    )
    assert output.read_bytes().endswith(b"\n")
    assert len(names(output)) >= 1
    assert once(tiny_bundle, folder, "--output", output, "--resume") == 0
    assert len(set(names(output))) == len(names(output)) == 29


def test_a_broken_picture_on_a_terminal_draws_no_bar_between_the_lines(
    tiny_bundle, folder, monkeypatch
):
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    once(tiny_bundle, folder)
    assert "pictures" not in terminal.getvalue().replace(str(folder), "")


def test_without_pyarrow_the_error_says_what_to_do(
    tiny_bundle, folder, tmp_path: Path, capsys, monkeypatch
):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    assert once(tiny_bundle, folder, "--output", tmp_path / "x.parquet") == 78
    assert "pip install 'edge-label[parquet]'" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["notes.jsonl", "notes.csv"])
def test_a_table_that_is_not_ours_is_refused_and_stays_as_it_was(
    tiny_bundle, folder, tmp_path: Path, name: str
):
    theirs = tmp_path / name
    theirs.write_text("first line\nlast line without an end")
    assert once(tiny_bundle, folder, "--output", theirs, "--resume") == 65
    assert theirs.read_text() == "first line\nlast line without an end"


def test_a_parquet_folder_keeps_what_is_not_ours(tiny_bundle, folder, tmp_path: Path):
    output = tmp_path / "out.parquet"
    output.mkdir()
    theirs = (output / ".download.part", output / "part-of-a-song.parquet")
    for path in theirs:
        path.write_text("theirs")
    (output / ".part-000000.parquet.part").write_text("torn")
    assert once(tiny_bundle, folder, "--output", output, "--resume") == 0
    assert [path.read_text() for path in theirs] == ["theirs", "theirs"]
    assert len(list(output.glob(".part-*"))) == 0


@pytest.mark.fault("S12")
@pytest.mark.parametrize("suffix", [".jsonl", ".csv", ".parquet"])
def test_a_table_that_another_process_writes_is_refused_with_78(
    tiny_bundle, folder, tmp_path, capsys, suffix: str
):
    output = tmp_path / f"out{suffix}"
    assert once(tiny_bundle, folder / "below", "--output", output) == 0
    held = (
        "import fcntl, os, sys; fd = os.open(sys.argv[1], os.O_RDONLY); "
        "fcntl.flock(fd, 2); print(); input()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", held, output],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as other:
        other.stdout.readline()
        before = capsys.readouterr()
        assert once(tiny_bundle, folder, "--output", output, "--resume") == 78
        other.stdin.close()
    error = capsys.readouterr().err
    assert f"process {other.pid} (python" in error, before
    assert "wait for it, or give another --output" in error


@pytest.mark.parametrize(
    ("before", "after"),
    [(b"", b""), (b"a\nb\n", b"a\nb\n"), (b"a\nb", b"a\n"), (b"x" * 100_000, b""), (b"\n", b"\n")],
)
def test_only_what_follows_the_last_newline_is_cut(tmp_path: Path, before: bytes, after: bytes):
    path = tmp_path / "table"
    path.write_bytes(before)
    cut_torn_line(path)
    assert path.read_bytes() == after


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


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
