"""The fault matrix: every fault, what answers it, and whether its tests pass.

``make faults`` prints it. A test says which row it proves with ``@pytest.mark.fault("C1")``. A row
without a test is a failure.
"""

# Over 400 lines because most of it is the table of faults.

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
            "READY once the model is loaded; retries after 1 to 30 s; waiting feeds the watchdog",
        ),
        (
            "C2",
            "camera unplugged",
            "looked for twice a second, a stream every 4 s; one log line for each change",
        ),
        (
            "C3",
            "read() blocks for ever",
            "a stale record each second; exit 70 after camera.stuck_s; only one capture thread",
        ),
        (
            "C4",
            "a read succeeds without a new picture",
            "empty reads refused; equal frames counted: frozen, then the camera is reopened",
        ),
        ("C5", "black, white or flat picture", "spread of the resized picture: low_information"),
        ("C6", "corrupt JPEG", "markers and announced size checked; counted in the records"),
        (
            "C7",
            "size or FOURCC changes",
            "the format is read back; another size reopens the camera",
        ),
        (
            "C8",
            "camera returns under another number",
            "the by-id link behind /dev/videoN is remembered and followed",
        ),
        ("C9", "slow consumer", "only the newest frame is kept; drops are counted"),
        (
            "C10",
            "stream stalls",
            "read timeout in FFmpeg; stale records; reconnects without a restart",
        ),
        (
            "C11",
            "EACCES, EBUSY",
            "checked before OpenCV opens it; names the group video, or the process that holds it",
        ),
        (
            "C12",
            "a path that looks like a URL",
            "FFmpeg and Arrow get every path as a file, never as a URL",
        ),
        (
            "C13",
            "frames at uneven intervals",
            "times come from the container, or from its frame rate where that is plausible",
        ),
        (
            "C14",
            "an odd picture in a folder",
            "named, counted and skipped; 16-bit and float grey is read as a grey photograph",
        ),
        (
            "C15",
            "a server that takes one client",
            "no test connection; the wait between attempts grows to 4 s at most",
        ),
        (
            "C16",
            "slow camera, snapshot URL",
            "the interval is learned or set by camera.fps; one log line for each change",
        ),
        (
            "C17",
            "other files beside the pictures",
            "hidden and system files skipped; links followed once; only regular files opened",
        ),
        (
            "C18",
            "a camera upside down, a phone's video",
            "turned before masks, encoder and captures, as camera.rotate or the file says",
        ),
        (
            "C22",
            "an RTSP camera drops and returns, or shows the past",
            "tcp or udp as configured; opened without a buffer; opened again when it falls silent",
        ),
        (
            "C23",
            "a watched folder: half a picture, a restart, a drive that goes",
            "two looks must agree; retried after a change; each name once, --resume too",
        ),
        (
            "C19",
            "a camera's program is absent, ends or falls silent",
            "its last line is logged, and it is started again after 1 to 30 s",
        ),
        (
            "C20",
            "a program's output is cut off, garbage or endless",
            "split by markers and lengths; at most 16 MB are kept",
        ),
        (
            "C21",
            "a program that will not end, or leaves others behind",
            "SIGTERM, half a second later SIGKILL to its process group; no zombie",
        ),
        (
            "C29",
            "a view that shows nothing: a wall, bare ground, noise, a hand over the lens",
            "labels off unless they have any_view or were taught; the record says strange_view",
        ),
        (
            "M1",
            "truncated, empty or garbage ONNX",
            "size and protobuf structure checked before ONNX Runtime reads it",
        ),
        ("M2", "bit-flipped ONNX", "SHA-256 of the very bytes that are used"),
        ("M3", "wrong shape or dtype", "inputs and outputs compared with the manifest"),
        (
            "M4",
            "bad embeddings, NaN",
            "the norm of every row is checked; NaN scores give the state invalid",
        ),
        (
            "M5",
            "parts of two bundles",
            "the text space of model, bank and manifest must be the same",
        ),
        ("M6", "pickle in .npy", "object arrays refused; nothing is unpickled"),
        ("M7", "array bomb", "header parsed and size capped before any data is read"),
        (
            "M8",
            "external data, links out of the bundle",
            "only inline tensors; only files inside the bundle",
        ),
        ("M9", "hostile archive", "a tar reader of our own that accepts plain files only"),
        (
            "M10",
            "downgrade, bad signature, bad bundle",
            "version rule, Ed25519, self-test, trial start, roll back",
        ),
        (
            "M11",
            "reload during inference",
            "built beside the old model; switched between two frames, or the old one stays",
        ),
        ("M12", "huge graph", "size cap; self-test in a child process with limits"),
        ("M13", "SIGILL or abort on import", "the doctor runs every check in a process of its own"),
        (
            "U1",
            "somebody's folder given as the store",
            "needs our marker or an empty folder; deletes only bundles that hold nothing else",
        ),
        (
            "U2",
            "links planted where root works",
            "every folder on the path belongs to root; names are looked up in a descriptor",
        ),
        (
            "U3",
            "older, other, unreadable, unsigned",
            "semantic versions; a bundle that cannot be read or compared is refused",
        ),
        (
            "U4",
            "NaN and absurd numbers in a bundle",
            "every number has a range; label sets are read before the install",
        ),
        (
            "U5",
            "parallel or killed installs",
            "one lock; one staging folder, which the next install removes",
        ),
        (
            "U6",
            "a service that lies to root",
            "its verdict is a separate file, read as text; only root switches links",
        ),
        (
            "U7",
            "hostile model tested by root",
            "the process of the self-test becomes nobody before it reads the model",
        ),
        (
            "U8",
            "planted names, other people's files",
            "creates new files only and follows no link; deletes only files that are surely ours",
        ),
        (
            "U9",
            "store of an earlier version",
            "taken over if it holds nothing else; the earlier default store limits the version",
        ),
        (
            "S1",
            "disk full",
            "byte cap; the oldest go first; losses are counted; other outputs continue",
        ),
        (
            "S2",
            "short write",
            "a line is written whole or not at all; a torn tail is cut off at the start",
        ),
        ("S3", "SIGKILL while writing", "append only; repaired at the next start"),
        (
            "S4",
            "n-th write, fsync or rename fails",
            "any call may fail; the file still ends with a whole line",
        ),
        ("S5", "read-only file system", "only the file is lost, and it is tried again"),
        ("S6", "file rotated by another program", "inode compared before each line"),
        (
            "S7",
            "a run that never ends by itself",
            "byte cap for all runs except a file or folder that is read once",
        ),
        (
            "S8",
            "disk full in a run over a file",
            "exit 65 at the first record that is not stored; whole records are counted",
        ),
        (
            "S9",
            "power cut: a tail of zeros",
            "the last newline is searched from the end, block by block, without a limit",
        ),
        (
            "S10",
            "power cut: half a capture",
            "picture, sidecar and folder synced in this order; markers and size checked",
        ),
        (
            "S11",
            "disk full, small or shared",
            "rotated early; the oldest file or capture makes room for the newest",
        ),
        (
            "S12",
            "two programs on one file or spool",
            "flock for the life of the process; exit 78 names the other process",
        ),
        ("T1", "clock jumps by a day", "monotonic clock for everything except the time field"),
        ("T2", "boot in 1970", "clock_unsynced in every record"),
        (
            "P1",
            "SIGTERM",
            "the handler only sets a flag; at most 1 s for each wait, 3 s for all sinks",
        ),
        ("P2", "SIGSTOP, hang", "only finished records feed the watchdog; WatchdogSec in the unit"),
        ("P3", "memory leak", "buffers of fixed size; soak test"),
        (
            "P4",
            "descriptor or thread leak",
            "the device is closed on every exit path; one thread for all reconnects",
        ),
        ("P5", "hot CPU", "every 2nd, 4th or 8th frame is labelled; slowed in the records"),
        ("P6", "SIGHUP with a bad file", "everything new is built before anything old is closed"),
        (
            "P7",
            "a sink's thread dies",
            "noticed between two frames: exit 70 with the thread's name",
        ),
        (
            "P8",
            "signal during start-up",
            "handlers are installed before the first library is loaded",
        ),
        (
            "P9",
            "standard stream closed, full, foreign",
            "repaired before any file is opened; stderr never fails; stdout fails in one line",
        ),
        (
            "P10",
            "no descriptor left",
            "vitals keep their last value; files, cameras and sinks are tried again",
        ),
        (
            "P11",
            "a device or a pipe as a file",
            "opened without blocking, its type checked, read up to a cap",
        ),
        ("P12", "unexpected exception", "one line and exit 70; the traceback with --verbose"),
        (
            "P13",
            "file name with terminal codes",
            "escaped in logs, on the terminal, in JSON and in tables",
        ),
        (
            "P14",
            "record with impossible numbers",
            "not drawn, and counted; the number of ticks and marks is limited",
        ),
        ("P15", "a stranger's ./models", "used only in a checkout of this repository"),
        ("N1", "broker down or slow", "bounded queue, thread of its own"),
        (
            "N2",
            "slowloris, huge header, bad path",
            "limits on time, size and connections; fixed routes; Host checked",
        ),
        ("N3", "public address without a token", "refused with exit 78"),
        ("N4", "hostile label text", "control characters refused; escaped in every output"),
        ("N5", "telemetry of a dependency", "switched off before the import; checked with strace"),
        (
            "N6",
            "a frame that a rule chose is lost",
            "the queue carries the task; fired = kept + lost; a lost edge fires again",
        ),
        (
            "N7",
            "retained topics that are out of date",
            "cleared with an empty message, also from an earlier run; other topics stay",
        ),
        (
            "N8",
            "broker unreachable or refusing",
            "one log line for each change, with the cause and the key to change",
        ),
        (
            "N9",
            "two programs with one MQTT name",
            "three quick losses: logged once, then one attempt a minute",
        ),
        (
            "N10",
            "host that IDNA refuses, NUL in a hook",
            "refused in the configuration; no exception ends the hook's or MQTT's thread",
        ),
        (
            "K1",
            "more viewers than places",
            "16 places, kept while used; the next one gets 503 with Retry-After",
        ),
        (
            "K2",
            "passwords in outputs",
            "one module masks addresses in logs, errors and records; children get pipes",
        ),
        (
            "K3",
            "passwords in a core dump",
            "no core dump and no debugger for a process with a secret; LimitCORE=0",
        ),
        (
            "K4",
            "pictures on a broker that nobody asked for",
            "off by default; masked; one at a time; a former run's is cleared when it is off",
        ),
        (
            "W1",
            "no place takes the rows of new words",
            "beside the label set, else the state directory, else exit 78 and the phrase's name",
        ),
        (
            "W2",
            "words whose rows cannot be made",
            "one line with the first phrase and the reason, exit 78; a reload keeps the old labels",
        ),
        (
            "W3",
            "kept rows damaged, or of another encoder",
            "what can be made again is made again; what cannot stays as it is",
        ),
        (
            "W4",
            "two programs make the same rows at once",
            "each writes a whole file and renames it; what both made stands there once",
        ),
        (
            "W5",
            "root labels with another user's words",
            "root keeps rows only where nobody else can plant a link",
        ),
        (
            "E1",
            "a stranger, or another web page, changes labels",
            "token, own Host and Origin, a header of its own and JSON; refused before the body",
        ),
        (
            "E2",
            "a huge or broken change, too many pictures",
            "256 KB, 500 phrases, 10 s; checked as a file is; 500 pictures of 100 MB in all",
        ),
        (
            "E3",
            "two editors, or a reload meanwhile",
            "a change names the version it began with; one job, one program for the working copy",
        ),
        (
            "E4",
            "a label or a name that is a path",
            "folders are escaped, saved sets have plain names, the configured set is only read",
        ),
        (
            "E5",
            "no text encoder, full disk, dead child, refused labels",
            "the page says it in one line; the labels in use stay, and the next change is made",
        ),
        (
            "L1",
            "teaching pictures that cannot teach",
            "one line and the old file, for no folder, no picture, and pictures of one label",
        ),
        (
            "L2",
            "one picture under two labels",
            "embeddings compared; both files are named, nothing is written",
        ),
        ("L3", "unreadable teaching pictures", "named and left out; the others teach"),
        (
            "L4",
            "10,000 teaching pictures",
            "an even choice of 1,000 a group is encoded, one at a time; memory stays under 180 MB",
        ),
        ("L5", "a folder of no label of the set", "refused, with the nearest label"),
        (
            "L6",
            "learn interrupted, or on a full disk",
            "the file is written at once and at the end; the old one stays whole",
        ),
        (
            "L7",
            "a full, torn or damaged picture cache",
            "every record has a checksum; the cache is given up in one line",
        ),
        (
            "L8",
            "no permission to write beside the label set",
            "looked at before the first picture is encoded",
        ),
        (
            "L9",
            "label set or bundle changed after teaching",
            "hashes of words and encoder; what does not fit goes by its words, in one line",
        ),
        (
            "L10",
            "damaged taught rows",
            "hash over the file; every number finite and in proportion",
        ),
        (
            "W6",
            "no memory for the text encoder",
            "the kernel ends the encoder first; one line, and the old labels stay (OOMPolicy)",
        ),
        (
            "W7",
            "a reload that takes long",
            "loaded beside the loop; a stop does not wait for it; no child outlives the daemon",
        ),
        ("G1", "config typo, YAML bomb, tag", "strict loader: line, nearest key, limits"),
        ("G2", "picture bomb", "pixel limit before decoding"),
        (
            "G3",
            "privacy",
            "masked before any other step sees the frame; no pixel on disk by default",
        ),
        (
            "G4",
            "YAML as people write it",
            "short forms and on/off words accepted; ambiguous values explained in the error",
        ),
        ("G5", "NUL byte in a path", "refused where text is read: YAML, manifests"),
        (
            "G6",
            "deep nesting, any YAML library",
            "open brackets are counted before the parser starts",
        ),
        (
            "D1",
            "an untested or altered release",
            "one lock file with hashes, used by make, CI and the image",
        ),
        ("D2", "a base image moved under its tag", "base images are pinned by digest"),
        (
            "D3",
            "network that the camera does not need",
            "drop-in: own empty network, every address denied, address families reset",
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
    """pytest's arguments for the tests of some rows; imports only files that name one of them."""
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
