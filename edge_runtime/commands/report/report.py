"""``edge-label report RUN.jsonl``: read records back, draw them, write a page and a picture.

Reading is in ``run.py``, drawing in ``chart.py``, the page in ``page.py``. No plotting library is
used. What lives here are the files: which are read, which are written, and who may read them.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from edge_runtime.commands.report.chart import chart
from edge_runtime.commands.report.figures import clock
from edge_runtime.commands.report.page import to_html
from edge_runtime.commands.report.run import read_run
from edge_runtime.errors import DataError, NoInputError
from edge_runtime.system.files import write_atomically

# Characters. A record is about a thousand; a file of another kind may be one line of gigabytes.
MAX_LINE = 1 << 20


def write_report(runs: list[str], output: str | None, png: str | None, spool: str | None) -> str:
    """Read the files as one run, write the page and with ``png`` the chart; returns what to print.

    Raises NoInputError for a run or a spool that is missing, DataError for a file without records,
    an output that would overwrite a run, or one that cannot be written.
    """
    paths = [Path(name) for name in runs]
    page_path = Path(output) if output else paths[0].with_suffix(".html")
    png_path = Path(png) if png else None
    spool_path = Path(spool) if spool else None

    _refuse_missing(paths, spool_path)
    run = read_run(_lines(paths), runs[0])
    _refuse_to_overwrite(paths, page_path, "--output")
    if png_path is not None:
        _refuse_to_overwrite(paths, png_path, "--png")

    thumbnails: dict[int, str] = {}
    shown_files = list(paths)
    if spool_path is not None:
        # Here and below: a report without pictures needs no OpenCV, which is 30 MB.
        from edge_runtime.commands.report.thumbnails import find_thumbnails

        thumbnails = find_thumbnails(run, spool_path)
        if thumbnails:
            shown_files += spool_path.iterdir()

    page = to_html(run, thumbnails).encode()
    write_atomically(page_path, page, at_most=_strictest_mode(shown_files))
    written = [str(page_path)]

    if png_path is not None:
        from edge_runtime.commands.report.png import to_png

        write_atomically(png_path, to_png(chart(run)), at_most=_strictest_mode(paths))
        written.append(str(png_path))

    duration = clock(round(run.duration_s, 1))
    return f"{len(run.t)} records, {duration}: {', '.join(written)}"


def _refuse_missing(runs: list[Path], spool: Path | None) -> None:
    for path in runs:
        if not path.is_file():
            raise NoInputError(f"{path}: no such file", "give what --output wrote")
    if spool is not None and not spool.is_dir():
        raise NoInputError(f"{spool}: no such spool folder", "check --spool")


def _lines(paths: list[Path]) -> Iterator[str]:
    for path in paths:
        with path.open(encoding="utf-8", errors="replace") as stream:
            while line := stream.readline(MAX_LINE):
                yield line


def _refuse_to_overwrite(runs: list[Path], target: Path, option: str) -> None:
    if target.exists() and any(target.samefile(path) for path in runs):
        raise DataError(f"{target}: would overwrite the run itself", f"give another {option}")


def _strictest_mode(paths: list[Path]) -> int:
    """The permissions of a page that shows these files: as private as the most private of them."""
    mode = 0o666
    for path in paths:
        try:
            facts = path.stat()
        except OSError:  # a capture that the service has just deleted to make room
            return 0o600
        mode &= facts.st_mode | 0o600

        # The page gets the group of this process. A file of another group was not meant for it.
        if facts.st_gid != os.getegid():
            mode &= ~0o070
    return mode
