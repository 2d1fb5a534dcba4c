"""A table of any kind holds every picture once, can be continued, and has one writer."""

from __future__ import annotations

import logging
import subprocess
import sys
from pathlib import Path

import pytest

from tests.unit.commands.pictures import names, once


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
