"""The fault matrix: every fault, what holds against it, and whether its tests pass. ``make faults`` prints it.

A test says which row it proves with ``@pytest.mark.fault("C1")``. A row without a test is a failure.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import pytest

from tests.daemon import REPOSITORY


@dataclass(frozen=True, slots=True)
class Row:
    """One fault and the mechanism that answers it."""

    id: str
    fault: str
    mechanism: str


ROWS = tuple(
    Row(*cells)
    for cells in (
        (
            "C1",
            "camera absent at boot",
            "READY after the model; retries after 1 to 30 s; the wait feeds the watchdog",
        ),
        (
            "C2",
            "unplug",
            "state machine; looked for twice a second, a stream every 4 s; a log line a change",
        ),
        (
            "C3",
            "read() blocks for ever",
            "stale record a second; exit 70 at camera.stuck_s; one capture thread ever",
        ),
        (
            "C4",
            "success that is none",
            "empty reads refused; equal bytes counted: frozen, then opened again",
        ),
        ("C5", "black, white, flat", "spread of the resized picture: low_information"),
        ("C6", "corrupt JPEG", "markers and promised size checked, counted in the records"),
        (
            "C7",
            "size or FOURCC changes",
            "what is read back is believed; another size opens the camera again",
        ),
        (
            "C8",
            "returns under another number",
            "by-id link followed, remembered behind /dev/videoN",
        ),
        ("C9", "slow consumer", "newest frame only, drops counted"),
        (
            "C10",
            "stream stalls",
            "read limit in FFmpeg, stale records, reconnect without a restart",
        ),
        ("C11", "EACCES, EBUSY", "probed before OpenCV: group video, and who holds it"),
        (
            "C12",
            "a path that looks like a URL",
            "every path reaches FFmpeg and Arrow as a file, never as a name",
        ),
        (
            "C13",
            "frames at no even rate",
            "times from the container; else the rate, where it can be believed",
        ),
        (
            "C14",
            "an odd picture in a folder",
            "named, counted, passed over; 16-bit and float grey taken as grey rgb",
        ),
        ("C15", "a server for one client", "no knock: opened, with a growing wait of at most 4 s"),
        (
            "C16",
            "slow camera, snapshot URL",
            "the pace is learned, or said by camera.fps; one log line a change",
        ),
        (
            "C17",
            "what lies beside pictures",
            "hidden and system files left out; links followed once; regular files",
        ),
        ("M1", "truncated, empty, garbage ONNX", "size and protobuf checked before ONNX Runtime"),
        ("M2", "bit-flipped ONNX", "sha256 of the bytes that are used"),
        ("M3", "wrong shape or dtype", "ports compared with the manifest"),
        ("M4", "bad embeddings, NaN", "norm of every row; NaN scores give invalid"),
        ("M5", "parts of two bundles", "text space id in model, bank and manifest"),
        ("M6", "pickle in .npy", "object arrays refused, no pickle ever"),
        ("M7", "array bomb", "header parsed and capped before a byte is taken"),
        ("M8", "external data, links out", "only inline tensors, only files inside"),
        ("M9", "hostile archive", "a tar reader that knows plain files only"),
        (
            "M10",
            "downgrade, bad signature, bad bundle",
            "version rule, Ed25519, self-test, trial start, roll back",
        ),
        (
            "M11",
            "reload during inference",
            "built beside, switched between two frames, else the old one stays",
        ),
        ("M12", "huge graph", "size cap; self-test in a child with limits"),
        ("M13", "SIGILL or abort on import", "every check of the doctor in its own process"),
        (
            "U1",
            "somebody's folder as the store",
            "our marker or an empty folder; only bundles with nothing else in them go",
        ),
        (
            "U2",
            "links planted where root works",
            "every folder on the way is root's own; names looked up in a descriptor",
        ),
        (
            "U3",
            "older, other, unreadable, unsigned",
            "semantic versions; what cannot be read or compared is refused",
        ),
        (
            "U4",
            "NaN and absurd numbers in a bundle",
            "every number has a range; label sets are read before the install",
        ),
        (
            "U5",
            "parallel or killed installs",
            "one lock; staging under one name, swept by the next install",
        ),
        (
            "U6",
            "a service that lies to root",
            "its verdict is a file of its own, read as text; only root switches links",
        ),
        (
            "U7",
            "hostile model tried by root",
            "the self-test's process becomes nobody before it reads",
        ),
        (
            "U8",
            "planted names, files of others",
            "new files only, through no link; deleted is only what is surely ours",
        ),
        (
            "U9",
            "store of a former version",
            "taken over if it holds nothing else; the default one is compared with",
        ),
        ("S1", "disk full", "byte cap, oldest deleted first, losses counted, other outputs go on"),
        ("S2", "short write", "a line whole or not at all; torn tail cut at the start"),
        ("S3", "SIGKILL while writing", "append only, repaired at the start"),
        (
            "S4",
            "n-th write, fsync, rename fails",
            "every call may fail; the file ends with a whole line",
        ),
        ("S5", "read-only file system", "only the file is lost, and tried again"),
        ("S6", "rotated by others", "inode compared before each line"),
        (
            "S7",
            "a run that never ends by itself",
            "byte cap for all but a file or folder that is read once",
        ),
        (
            "S8",
            "disk full in a run over a file",
            "exit 65 at the first record not stored; whole ones counted",
        ),
        (
            "S9",
            "power cut: a tail of zeros",
            "last newline looked for from the end, block by block, without a bound",
        ),
        (
            "S10",
            "power cut: half a capture",
            "picture, sidecar, folder synced in order; markers and size checked",
        ),
        (
            "S11",
            "disk full, small or shared",
            "rotated early; the oldest file or capture makes room for the newest",
        ),
        (
            "S12",
            "two programs on one file or spool",
            "flock for the life of the process; 78 with the other's id",
        ),
        ("T1", "clock jumps a day", "monotonic clock for everything but the time field"),
        ("T2", "boots in 1970", "clock_unsynced in every record"),
        ("P1", "SIGTERM", "flags only; one second a wait, three for all sinks"),
        ("P2", "SIGSTOP, hang", "watchdog fed by records alone; WatchdogSec in the unit"),
        ("P3", "memory creep", "fixed buffers; soak"),
        (
            "P4",
            "descriptor or thread leak",
            "device closed on every way out; one thread for all reconnects",
        ),
        ("P5", "hot CPU", "every 2nd, 4th, 8th frame; slowed in the records"),
        (
            "P6",
            "SIGHUP with a bad file",
            "all of it built beside the old, before anything old is closed",
        ),
        (
            "P7",
            "a thread of a sink dies",
            "noticed between two frames: exit 70 with its name, never silence",
        ),
        (
            "P8",
            "signal while starting",
            "handlers stand before the first library is loaded, and remember",
        ),
        (
            "P9",
            "standard stream closed, full, foreign",
            "mended before a file is opened; stderr forgives, stdout refuses in a line",
        ),
        (
            "P10",
            "no descriptor left",
            "vitals stay as they were; files, cameras and sinks are tried again",
        ),
        (
            "P11",
            "a device or a pipe as a file",
            "opened without waiting, looked at, read under a cap",
        ),
        (
            "P12",
            "an exception nobody foresaw",
            "one line and exit 70; the traceback with --verbose",
        ),
        (
            "P13",
            "file name a terminal obeys",
            "escaped in logs, on the terminal, in JSON and in tables",
        ),
        (
            "P14",
            "record of impossible numbers",
            "no record: counted, passed over; ticks and marks have a limit",
        ),
        ("P15", "a stranger's ./models", "looked for in a checkout of ours only"),
        ("N1", "broker down or slow", "bounded queue, own thread"),
        (
            "N2",
            "slowloris, huge head, bad path",
            "limits on time, size, connections; fixed routes; Host checked",
        ),
        ("N3", "bind beyond loopback without a token", "refused with 78"),
        ("N4", "hostile label text", "control characters refused; escaped in every output"),
        ("N5", "telemetry of a dependency", "switched off before the import; traced by strace"),
        (
            "N6",
            "a frame that a rule chose is lost",
            "the queue carries what is to be done; fired = kept + lost; a lost edge fires again",
        ),
        (
            "N7",
            "retained topics of what is gone",
            "cleared with an empty message, also a former run's, and nothing of others",
        ),
        (
            "N8",
            "broker unreachable or refusing",
            "the cause and the key to change, in one line a change",
        ),
        (
            "N9",
            "two programs of one MQTT name",
            "three quick losses: said once, then a minute between attempts",
        ),
        (
            "N10",
            "host that IDNA refuses, NUL in a hook",
            "refused in the configuration; no exception ends the threads of hook and MQTT",
        ),
        (
            "K1",
            "more viewers than places",
            "16 places, kept while used; the next one gets 503 with Retry-After",
        ),
        (
            "K2",
            "passwords on their way out",
            "one module masks addresses for log, errors, records; children get pipes",
        ),
        (
            "K3",
            "passwords in a core dump",
            "no core and no debugger for a process that knows a secret; LimitCORE=0",
        ),
        ("G1", "config typo, bomb, tag", "strict loader: line, nearest key, caps"),
        ("G2", "picture bomb", "pixel limit before decoding"),
        (
            "G3",
            "privacy",
            "frame rewritten before anything looks at it; no pixel on disk by default",
        ),
        (
            "G4",
            "YAML as people write it",
            "short forms and switch words taken; what is ambiguous is explained in the line",
        ),
        ("G5", "NUL byte in a path", "refused where the text comes in: YAML, manifests"),
        (
            "G6",
            "deep nesting, any YAML library",
            "own count of open brackets, before the parser looks ahead",
        ),
        (
            "D1",
            "a release or file that was not tested",
            "one lock with hashes, taken by make, CI and image",
        ),
        ("D2", "a base image moved under its tag", "bases named by digest"),
        (
            "D3",
            "network though the camera needs none",
            "drop-in: own empty network, every address denied, families reset",
        ),
    )
)


class Collector:
    """A pytest plugin that sorts outcomes by row."""

    def __init__(self) -> None:
        self._rows: dict[str, list[str]] = {}
        self.outcomes: dict[str, dict[str, int]] = defaultdict(lambda: defaultdict(int))
        self.failed: dict[str, list[str]] = defaultdict(list)

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        for item in items:
            self._rows[item.nodeid] = [
                str(i) for mark in item.iter_markers("fault") for i in mark.args
            ]

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when == "call" or report.outcome != "passed":
            for row in self._rows.get(report.nodeid, []):
                self.outcomes[row][report.outcome] += 1
                if report.failed:
                    self.failed[row].append(report.nodeid)


def select(rows: Iterable[str]) -> list[str]:
    """pytest's arguments for the tests of some rows; only files that name one of them are even imported."""
    rows = list(rows)
    files = []
    for path in sorted((REPOSITORY / "tests").rglob("test_*.py")):
        named = " ".join(re.findall(r"mark\.fault\(([^)]*)\)", path.read_text()))
        if any(f'"{row}"' in named for row in rows):
            files.append(str(path.relative_to(REPOSITORY)))
    return [*files, "-m", "fault", *(argument for row in rows for argument in ("--fault", row))]


def run(rows: Sequence[str]) -> Collector:
    """Run the tests of some rows."""
    collector = Collector()
    pytest.main(
        ["-q", "--no-header", "--durations=0", "--durations-min=600", *select(rows)],
        plugins=[collector],
    )
    return collector


def result(outcomes: dict[str, int]) -> str:
    """``pass (7)``, ``FAIL (1 of 7)``, ``skip (2)`` or ``NO TEST``."""
    total = sum(outcomes.values())
    if not total:
        return "NO TEST"
    if outcomes.get("failed"):
        return f"FAIL ({outcomes['failed']} of {total})"
    if outcomes.get("skipped") == total:
        return f"skip ({total})"
    return f"pass ({total})"


def table(collector: Collector, rows: Sequence[Row]) -> tuple[str, bool]:
    """The matrix as text, and whether every row holds."""
    lines = [f"{'id':<4} {'fault':<38} {'mechanism':<84} result"]
    good = True
    for row in rows:
        verdict = result(collector.outcomes[row.id])
        good = good and verdict.startswith("pass")
        lines.append(f"{row.id:<4} {row.fault:<38} {row.mechanism:<84} {verdict}")
        lines += [f"     failed: {node}" for node in collector.failed[row.id]]
    return "\n".join(lines), good


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.faults.matrix", description=__doc__.splitlines()[0]
    )
    parser.add_argument("rows", nargs="*", metavar="ID", help="rows to run (default: all)")
    wanted = parser.parse_args().rows
    rows = [row for row in ROWS if not wanted or row.id in wanted]
    text, good = table(run([row.id for row in rows]), rows)
    print(text)
    print(f"{len(rows)} faults: {'every one is answered' if good else 'NOT all answered'}")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
