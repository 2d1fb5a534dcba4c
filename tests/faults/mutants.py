"""Does each mechanism of the matrix have a test that needs it? ``make mutants`` disables each.

For every row one line of the source is changed in a copy of the repository, so that the mechanism
does nothing any more, and the row's tests run there. A mutant that survives means a test that
cannot fail.
"""

# Over 400 lines because most of it is the table of mutants.

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from tests.daemon import REPOSITORY
from tests.faults.matrix import ROWS, select


@dataclass(frozen=True, slots=True)
class Mutant:
    """Replace ``old`` by ``new`` (everywhere in the file), and row ``id`` must fail."""

    id: str
    file: str
    old: str
    new: str


WEB = "edge_runtime/sinks/web/"
CAMERA, MODEL, SINKS = "edge_runtime/camera/", "edge_runtime/model/", "edge_runtime/sinks/"
NEW_ROWS = "edge_runtime/model/labels/new_rows.py"
TEXT = "edge_runtime/model/text/"
STORE = "edge_runtime/model/store/writable_store.py"
SERVICE = "edge_runtime/daemon/service.py"
LEARN = "edge_runtime/commands/learn.py"
TEACHING = "edge_runtime/commands/teaching_pictures.py"
TAUGHT = "edge_runtime/model/labels/taught.py"
PARTS = "edge_runtime/daemon/parts.py"
PIPELINE = "edge_runtime/pipeline.py"
FILE = "edge_runtime/sinks/files/record_file.py"
# A stream's camera must never be asked for this: a connection that only shows whether it is there.
KNOCK = "__import__('tests.faults.knock').on(config.source)"
# The mistake that the watchdog's rule forbids: a timer that says all is well, whatever happens.
TIMER = "notifier = Notifier(); __import__('tests.faults.timer').feed(notifier)"

MUTANTS = tuple(
    Mutant(*cells)
    for cells in (
        (
            "C1",
            SERVICE,
            "notifier.alive(self._status(record))",
            "frame and notifier.alive(self._status(record))",
        ),
        ("C2", "edge_runtime/camera/live.py", "if self._look() != before:", "if False:"),
        ("C3", "edge_runtime/camera/live.py", "if now - called > self._pace.stuck_s:", "if False:"),
        (
            "C4",
            "edge_runtime/camera/live.py",
            "frozen = 0 < self._frozen_frames <= repeats",
            "frozen = False",
        ),
        ("C5", PIPELINE, "    if flat:", "    if False:"),
        ("C6", PIPELINE, "self.counters.corrupt += 1", "pass"),
        (
            "C7",
            "edge_runtime/camera/v4l2.py",
            "if data.nbytes != math.prod(shape) * dtype.itemsize:",
            "if False:",
        ),
        (
            "C8",
            "edge_runtime/camera/v4l2.py",
            "self._stable = v4l2_ioctl.stable_name(node)",
            "pass",
        ),
        ("C9", "edge_runtime/camera/live.py", "self._dropped += 1", "pass"),
        (
            "C10",
            "edge_runtime/camera/stream.py",
            "            cv2.CAP_PROP_READ_TIMEOUT_MSEC,\n            limit_ms,\n",
            "",
        ),
        ("C11", "edge_runtime/camera/v4l2_ioctl.py", "== node for entry", "== '' for entry"),
        (
            "C12",
            "edge_runtime/camera/replay.py",
            'return f"file:{utf8_name(path)}"',
            "return utf8_name(path)",
        ),
        (
            "C12",
            "edge_runtime/commands/parquet_table.py",
            "write_table(table, stream)",
            "write_table(table, partial)",
        ),
        (
            "C13",
            "edge_runtime/camera/replay.py",
            "if 0 < container_s - self._time_s <= LONGEST_STEP_S:",
            "if False:",
        ),
        ("C13", "edge_runtime/camera/replay.py", "0 < self._rate <= MOST_FPS", "self._rate"),
        (
            "C14",
            PIPELINE,
            "if frame.file is not None and is_grey_photograph(",
            "if False and is_grey_photograph(",
        ),
        (
            "C14",
            "edge_runtime/commands/once.py",
            "except (ConfigError, DataError) as error:",
            "except MemoryError as error:",
        ),
        ("C14", "edge_runtime/camera/replay.py", "self._skip(error)", "raise error"),
        (
            "C15",
            "edge_runtime/camera/__init__.py",
            "stream.open, config,",
            f"stream.open, config, {KNOCK},",
        ),
        ("C16", "edge_runtime/camera/pace.py", "        if is_slow:", "        if False:"),
        ("C16", "edge_runtime/camera/stream.py", "if in_silence and pictures < FEW:", "if False:"),
        ("C16", "edge_runtime/camera/stream.py", "if self._pictures != 1:", "if True:"),
        ("C17", "edge_runtime/camera/folder.py", 'not entry.name.startswith(".")', "True"),
        ("C17", "edge_runtime/camera/folder.py", "in self._seen:", "in ():"),
        ("C17", "edge_runtime/camera/pictures.py", "if is_special(path):", "if False:"),
        ("C18", "edge_runtime/camera/decode.py", "if frame.turn is None:", "if True:"),
        ("C18", "edge_runtime/camera/jpeg.py", " and frame.turn is None:", ":"),
        ("C18", "edge_runtime/camera/live.py", "frame, turn=self._turn,", "frame,"),
        ("C18", "edge_runtime/camera/replay.py", "ORIENTATION_AUTO, 1)", "ORIENTATION_AUTO, 0)"),
        ("C22", CAMERA + "stream.py", "rtsp_transport;{transport}", "rtsp_transport;tcp"),
        ("C22", CAMERA + "stream.py", "|fflags;nobuffer", ""),
        ("C23", CAMERA + "arrivals.py", "self._stamps.get(path) == stamp !=", "stamp !="),
        ("C23", CAMERA + "arrivals.py", "else stamp", "else None"),
        ("C23", CAMERA + "arrivals.py", "None if readable", "stamp if readable"),
        ("C23", "edge_runtime/commands/watch.py", "batch = batch.without(table.stored)", "pass"),
        ("C19", CAMERA + "program.py", "now - self._picture_s > self._program.limit_s:", "False:"),
        (
            "C19",
            CAMERA + "child.py",
            "        self._tail = (self._tail + data)[-_TAIL:]",
            "        pass",
        ),
        (
            "C19",
            CAMERA + "live.py",
            "if frame is None:\n                    continue",
            "assert frame",
        ),
        ("C20", CAMERA + "splitter.py", "if self.unused > LIMIT:", "if False:"),
        ("C20", CAMERA + "splitter.py", "if next_start >= 0:", "if False:"),
        ("C21", CAMERA + "child.py", "self._signal(signal.SIGKILL)", "pass"),
        ("C21", CAMERA + "child.py", "start_new_session=True,", "process_group=None,"),
        ("C29", PIPELINE, "        if strange:", "        if False:"),
        ("C29", PIPELINE, "strange_view=strange or None", "strange_view=None"),
        (
            "C29",
            "edge_runtime/model/labels/compiled.py",
            "[label.any_view or label.name in pictured for label in labels]",
            "[False for label in labels]",
        ),
        ("M1", "edge_runtime/model/onnx_bytes.py", "    if not has_graph:", "    if False:"),
        ("M2", "edge_runtime/model/bundle.py", "if sha256_hex(data) != sha256:", "if False:"),
        (
            "M3",
            "edge_runtime/model/encoder.py",
            "        _check_ports(self._session, bundle, where)",
            "        pass",
        ),
        (
            "M4",
            "edge_runtime/model/labels/scorer.py",
            "if not math.isfinite(cosines.sum()):",
            "if False:",
        ),
        ("M5", "edge_runtime/model/encoder.py", "if space != manifest.text_space:", "if False:"),
        (
            "M6",
            "edge_runtime/model/npy.py",
            "if dtype.hasobject or dtype not in",
            "if False and dtype not in",
        ),
        (
            "M7",
            "edge_runtime/model/npy.py",
            "if len(data) - start != promised:",
            "if False:",
        ),
        (
            "M8",
            "edge_runtime/model/onnx_bytes.py",
            "if number == 13 or (number == 14 and value == 1):",
            "if False:",
        ),
        ("M9", "edge_runtime/model/store/archive.py", 'or ".." in path.parts', ""),
        ("M9", "edge_runtime/model/store/archive.py", "elif kind not in _NOTES:", "elif False:"),
        (
            "M10",
            "edge_runtime/commands/install.py",
            "refuse_unless_update(bundle, old)",
            "pass",
        ),
        ("M10", "edge_runtime/commands/signature.py", "key.public.verify(", "str("),
        ("M10", "edge_runtime/engine.py", "if verdict in (STARTED, FAILED):", "if False:"),
        ("M11", SERVICE, 'notifier.ready(f"reload refused: {why}")', "raise"),
        ("M12", "edge_runtime/commands/install.py", "self_test_in_child(bundle.path)", "pass"),
        ("U1", STORE, "        if foreign:", "        if False:"),
        ("U1", STORE, "if stranger is None:", "if True:"),
        ("U2", "edge_runtime/system/ownership.py", "if facts.st_uid != 0:", "if False:"),
        (
            "U2",
            "edge_runtime/system/ownership.py",
            "if facts.st_mode & writers and not sticky:",
            "if False:",
        ),
        ("U3", "edge_runtime/commands/signature.py", "DEFAULT_KEY.lstat()", "DEFAULT_KEY.stat()"),
        (
            "U3",
            "edge_runtime/commands/update.py",
            "    if new.manifest.name != installed.name:",
            "    if False:",
        ),
        (
            "U3",
            "edge_runtime/commands/update.py",
            "return Installed(name, None, good=False)",
            "return None",
        ),
        ("U3", "edge_runtime/model/store/versions.py", ", not identifiers, ranks", ", True, ranks"),
        ("U4", "edge_runtime/model/manifest.py", " or not low <= value <= high", ""),
        ("U4", "edge_runtime/model/manifest.py", ", parse_constant=_refuse_constant", ""),
        ("U4", "edge_runtime/model/self_test.py", "load_label_set(name, bundle)", "pass"),
        ("U5", STORE, "fcntl.flock(marker, fcntl.LOCK_EX | fcntl.LOCK_NB)", "pass"),
        ("U5", STORE, "        store.sweep()", "        pass"),
        ("U6", "edge_runtime/model/store/trial.py", "os.O_NOFOLLOW | ", ""),
        ("U6", "edge_runtime/model/store/trial.py", "        if state:", "        if False:"),
        ("U7", "edge_runtime/model/self_test.py", "os.setresuid(NOBODY, NOBODY, NOBODY)", "pass"),
        ("U8", "edge_runtime/system/files.py", "os.O_EXCL | os.O_NOFOLLOW", "os.O_TRUNC"),
        (
            "U8",
            "edge_runtime/system/ownership.py",
            "return os.O_NOFOLLOW if others else 0",
            "return 0",
        ),
        (
            "U8",
            "edge_runtime/model/labels/phrase_rows.py",
            "        refuse_other_file(path)\n        array",
            "        array",
        ),
        ("U8", "edge_runtime/sinks/triggers/spool.py", r"-\d{8}T\d{6}Z\.", r"\."),
        ("U8", "edge_runtime/sinks/files/rotated.py", r"(\d{6}|[1-9]\d{6})", r"(\d{6,})"),
        (
            "U8",
            "edge_runtime/commands/text_tables.py",
            "    if not head.startswith(beginning):",
            "    if False:",
        ),
        ("U9", STORE, "if not _former_version_made(folder, name)", "if True"),
        ("U9", "edge_runtime/commands/update.py", "place = BundleStore(former)", "pass"),
        (
            "M13",
            "edge_runtime/commands/doctor/doctor.py",
            "if process.returncode < 0:",
            "if False:",
        ),
        ("S1", FILE, "if not self._is_over(line_bytes, caps):", "if True:"),
        ("S2", FILE, "os.ftruncate(fd, self._size)", "pass"),
        (
            "S3",
            FILE,
            "self._size = repair(self._fd, self.path)",
            "self._size = os.fstat(self._fd).st_size",
        ),
        ("S4", FILE, "os.ftruncate(fd, self._size)", "pass"),
        ("S5", FILE, "if error.errno in _MISTAKES:", "if True:"),
        (
            "S5",
            "edge_runtime/sinks/triggers/spool.py",
            "if error.errno not in _MAY_PASS:",
            "if True:",
        ),
        ("S6", FILE, "if self._fd is not None and not is_at(self._fd, self.path):", "if False:"),
        ("S7", PARTS, "not source.live and not camera.loop and", "not source.live and"),
        ("S7", PARTS, "(path.is_file() or path.is_dir())", "path.exists()"),
        ("S8", SERVICE, "    daemon.check_sinks()", "    pass"),
        (
            "S8",
            "edge_runtime/sinks/thread.py",
            "if self._vital and isinstance(error, OSError):",
            "if False:",
        ),
        ("S9", "edge_runtime/system/files.py", "while at:", "while at > size - (1 << 20):"),
        (
            "S10",
            "edge_runtime/sinks/triggers/draft.py",
            "with_room(lambda: sync_folder(self.path.parent))",
            "pass",
        ),
        (
            "S10",
            "edge_runtime/sinks/triggers/capture.py",
            "if not (is_whole(self.sidecar) and is_whole(self.media)):",
            "if False:",
        ),
        (
            "S10",
            "edge_runtime/sinks/triggers/capture.py",
            "return described == (self.media.name, self.media.stat().st_size)",
            "return True",
        ),
        ("S11", FILE, "max(_SMALLEST, fits // 8)", "caps.rotate"),
        ("S11", FILE, "or self._empty_live_file(fd)", ""),
        (
            "S11",
            "edge_runtime/sinks/triggers/spool.py",
            "or not room.make_room(self._folder):",
            "or True:",
        ),
        (
            "S11",
            "edge_runtime/sinks/files/room.py",
            "offers.sort(key=lambda offer: offer[0])",
            "pass",
        ),
        ("S12", "edge_runtime/system/claims.py", "if inode in _mine:", "if True:"),
        ("S12", "edge_runtime/sinks/files/claimed.py", "if is_at(fd, path):", "if True:"),
        (
            "S12",
            FILE,
            "new = open_claimed(fresh)",
            "new = os.open(fresh, os.O_RDWR | os.O_CREAT, 0o644)",
        ),
        ("S12", "edge_runtime/system/claims.py", "if not _was_killed(pid):", "if True:"),
        ("S12", "edge_runtime/commands/table_base.py", "        claim(fd)", "        pass"),
        ("T1", SERVICE, "time.monotonic()", "time.time()"),
        ("T2", "edge_runtime/system/telemetry.py", "return now() < _RELEASED or", "return"),
        ("P1", "edge_runtime/daemon/signals.py", "(signal.SIGTERM, self._stop),", ""),
        ("P2", "systemd/edge-label.service", "WatchdogSec=30", ""),
        ("P2", SERVICE, "notifier = Notifier()", TIMER),
        (
            "P3",
            PIPELINE,
            "self._seq += 1",
            "self._seq += 1; vars(self).setdefault('kept', []).append(b'x' * 50_000)",
        ),
        ("P4", "edge_runtime/camera/live.py", "            device.close()", "            pass"),
        ("P5", SERVICE, "slowed = self._governor(record.temp_c, time.monotonic())", "slowed = 1"),
        (
            "P6",
            SERVICE,
            "except Exception as error:  # a file may hold anything",
            "except StuckError as error:  #",
        ),
        ("P6", SERVICE, "if fallback is None or isinstance(error, StuckError):", "if True:"),
        (
            "P6",
            "edge_runtime/camera/live.py",
            "except Exception:  # a library",
            "except StuckError:  #",
        ),
        ("P7", "edge_runtime/daemon/threads.py", "threading.excepthook = self._note", "pass"),
        ("P7", "edge_runtime/sinks/thread.py", "if not self._thread.is_alive():", "if False:"),
        ("P8", "edge_runtime/__main__.py", "signals = Signals()", "signals = None"),
        ("P9", "edge_runtime/system/streams.py", "if _is_closed(number):", "if False:"),
        (
            "P9",
            "edge_runtime/system/streams.py",
            'sys.stdout.reconfigure(errors="backslashreplace")',
            "pass",
        ),
        (
            "P9",
            "edge_runtime/system/streams.py",
            "            return len(text)",
            "            raise",
        ),
        (
            "P10",
            "edge_runtime/system/telemetry.py",
            "except OSError:  # no descriptor",
            "except StopIteration:  #",
        ),
        (
            "P11",
            "edge_runtime/system/files.py",
            "os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC",
            "os.O_RDONLY | os.O_CLOEXEC",
        ),
        ("P11", "edge_runtime/camera/pictures.py", "if is_special(path):", "if False:"),
        (
            "P12",
            "edge_runtime/cli.py",
            "except Exception as error:",
            "except EdgeLabelError as error:",
        ),
        ("P13", "edge_runtime/cli.py", "record.message = printable(record.message)", "pass"),
        (
            "P13",
            "edge_runtime/commands/table_base.py",
            "if unicodedata.category(c) in _NOT_TEXT else c",
            "if False else c",
        ),
        ("P14", "edge_runtime/commands/report/run.py", "if not abs(number) <= MOST:", "if False:"),
        (
            "P15",
            "edge_runtime/model/bundle.py",
            "for root in (Path(), ours) if _is_checkout(root)",
            "for root in (Path(), ours)",
        ),
        ("N1", "edge_runtime/sinks/thread.py", "queue.Queue(capacity or default)", "queue.Queue()"),
        ("N2", "edge_runtime/sinks/web/http.py", "if len(head) > MAX_HEAD:", "if False:"),
        (
            "N3",
            "edge_runtime/config/addresses.py",
            "not ipaddress.ip_address(host).is_loopback",
            "False",
        ),
        (
            "N4",
            WEB + "edit.js",
            'addElement("span", "", row).textContent = phrase;',
            'addElement("span", "", row).innerHTML = phrase;',
        ),
        ("N4", "edge_runtime/errors.py", "c if c.isprintable() else", "c if True else"),
        (
            "N5",
            "edge_runtime/model/encoder.py",
            'os.environ["ORT_DISABLE_TELEMETRY"] = "1"',
            "pass",
        ),
        (
            "N6",
            "edge_runtime/sinks/triggers/sink.py",
            "self._fired = task.fired_before + len(task.fired)",
            "self._fired += len(task.fired)",
        ),
        ("N6", "edge_runtime/sinks/triggers/rules.py", "self._owed = True", "pass"),
        ("N6", "edge_runtime/sinks/triggers/sink.py", "first = first or error", "raise"),
        (
            "N7",
            "edge_runtime/sinks/mqtt/sink.py",
            "for topic in sorted(self._retained - current, key=self._config_first):",
            "for topic in ():",
        ),
        ("N7", "edge_runtime/sinks/mqtt/sink.py", "if key not in components:", "if False:"),
        ("N7", "edge_runtime/sinks/mqtt/discovery.py", "if form.fullmatch(str(topic))", "if True"),
        ("N7", "edge_runtime/sinks/mqtt/discovery.py", "    if not is_ours:", "    if False:"),
        ("N7", "edge_runtime/sinks/web/prometheus.py", "del self._switched[name]", "pass"),
        (
            "N8",
            "edge_runtime/sinks/mqtt/link.py",
            "unreachable(sys.exc_info()[1], self._config)",
            "unreachable(None, self._config)",
        ),
        (
            "N8",
            "edge_runtime/sinks/mqtt/link.py",
            "self._complain(no_answer(self._config))",
            "pass",
        ),
        (
            "N9",
            "edge_runtime/sinks/mqtt/link.py",
            "if self._quick_losses < QUICK_LOSSES:",
            "if True:",
        ),
        ("N10", "edge_runtime/config/outputs.py", 'check_host("mqtt.host", self.host)', "pass"),
        (
            "N10",
            "edge_runtime/sinks/triggers/hook.py",
            "except Exception as error:",
            "except OSError as error:",
        ),
        (
            "N10",
            "edge_runtime/sinks/mqtt/link.py",
            "raise OSError(one_line(error)) from error",
            "raise",
        ),
        (
            "K1",
            "edge_runtime/sinks/web/http.py",
            "return None if self._has_place(connection) else _FULL",
            "return None",
        ),
        ("K1", "edge_runtime/sinks/web/http.py", "self._connections - placed", "self._connections"),
        (
            "K1",
            "edge_runtime/sinks/web/preview.html",
            "if (record) await showPicture",
            "if (record) showPicture",
        ),
        ("K2", "edge_runtime/secrecy.py", "hiding = True", "pass"),
        ("K2", "edge_runtime/errors.py", "printable(masked(line))", "printable(line)"),
        ("K2", "edge_runtime/cli.py", "masked(super().format(record))", "super().format(record)"),
        ("K2", "edge_runtime/cli.py", "        hide_arguments(sys.argv[1:])", "        pass"),
        ("K2", "edge_runtime/camera/stream.py", "self.name = shown(url)", "self.name = url"),
        (
            "K2",
            "edge_runtime/commands/doctor/doctor.py",
            "            command,\n            input=request,\n",
            "            [*command, request],\n            input=request,\n",
        ),
        ("K2", "edge_runtime/system/opencv.py", "os.environ.update(_SILENCE)", "pass"),
        (
            "K2",
            "edge_runtime/commands/report/report.py",
            "at_most=_strictest_mode(shown_files)",
            "at_most=0o644",
        ),
        (
            "K3",
            "edge_runtime/secrecy.py",
            "ctypes.CDLL(None).prctl(pr_set_dumpable, 0, 0, 0, 0)",
            "pass",
        ),
        ("K4", SINKS + "mqtt/pace.py", "now_s < self._next_picture_s", "False"),
        ("K4", SINKS + "mqtt/sink.py", "ask.append(self._topics.picture)", "pass"),
        ("W1", NEW_ROWS, "for place in (beside, kept):", "for place in (beside,):"),
        ("W1", NEW_ROWS, "f\"its rows cannot be kept: {', '.join(reasons)}\"", '"no"'),
        (
            "W2",
            NEW_ROWS,
            'f"{path}: the text bank lacks {_named(missing, bank)}, and {error.what}"',
            "error.what",
        ),
        (
            "W3",
            NEW_ROWS,
            "except ConfigError as error:\n        log.warning",
            "except OSError as error:\n        log.warning",
        ),
        ("W3", NEW_ROWS, "elif kept:", "elif False:"),
        ("W4", NEW_ROWS, " - set(rows.phrases)", ""),
        ("W5", NEW_ROWS, "path_that_only_root_can_change(place.parent)", "pass"),
        ("W6", TEXT + "encoder.py", "if outcome.returncode == -signal.SIGKILL:", "if False:"),
        ("W6", TEXT + "child.py", 'write_text("1000")', "exists()"),
        ("W7", "edge_runtime/daemon/loading.py", "self._thread.start()", "self._thread.run()"),
        ("W7", SERVICE, "        if signals.stop:\n            return\n", ""),
        ("W7", TEXT + "child.py", "pr_set_pdeathsig = 1", "pr_set_pdeathsig = 0"),
        ("E1", WEB + "guard.py", "if not is_own_name(request.host):", "if False:"),
        (
            "E1",
            WEB + "guard.py",
            'if origin_scheme not in ("http", "https") or origin_host != request.host:',
            "if False:",
        ),
        ("E1", WEB + "guard.py", "if not request.has_page_header:", "if False:"),
        ("E1", WEB + "guard.py", 'if request.content_type != "application/json":', "if False:"),
        ("E1", WEB + "http.py", "return guard.refusal(request) or", "return"),
        (
            "E1",
            "edge_runtime/config/outputs.py",
            "if self.edit and self.token_file is None:",
            "if False:",
        ),
        ("E2", WEB + "guard.py", "if request.length > MAX_BODY:", "if False:"),
        ("E2", WEB + "http.py", "connection.deadline_s = time.monotonic() + BODY_S", "pass"),
        ("E2", WEB + "editor.py", "    if count > MAX_PHRASES:", "    if False:"),
        ("E2", WEB + "kept_pictures.py", "if len(sizes) >= MAX_PICTURES or", "if"),
        ("E3", WEB + "editor.py", "if version != self.present().version:", "if False:"),
        ("E3", WEB + "editor.py", "            if self.doing:", "            if False:"),
        ("E3", WEB + "working_copy.py", "self._fd = claim_folder(folder)", "pass"),
        (
            "E3",
            "edge_runtime/daemon/label_exchange.py",
            "if instead_of is not present:",
            "if False:",
        ),
        ("E3", WEB + "edit.js", "edit.version !== draftVersion && !isDirty", "false"),
        ("E4", WEB + "kept_pictures.py", "folder_name(label) if label", "label if label"),
        (
            "E4",
            WEB + "editor.py",
            'if not re.fullmatch(r"[A-Za-z0-9_-]{1,64}", name):',
            "if False:",
        ),
        (
            "E5",
            WEB + "editor.py",
            "        except Exception as error:",
            "        except OSError as error:",
        ),
        ("E5", WEB + "editor.py", "            self._tried = before\n", "            pass\n"),
        (
            "E5",
            WEB + "working_copy.py",
            "                write_atomically(self.path, before, at_most=0o640)",
            "                pass",
        ),
        (
            "E5",
            "edge_runtime/daemon/label_exchange.py",
            "        except EdgeLabelError as error:",
            "        except OSError as error:",
        ),
        ("L1", LEARN, "if not groups:", "if False:"),
        (
            "L2",
            "edge_runtime/commands/lesson.py",
            "if NONE not in (label, label_before) and label_before != label:",
            "if False:",
        ),
        ("L3", LEARN, "except (DataError, ConfigError) as error:", "except EOFError as error:"),
        ("L4", TEACHING, "> MOST_PICTURES and share > 1:", "> 1e9:"),
        ("L5", TEACHING, "label = label_of.get(key)", "label = label_of.get(key, NONE)"),
        (
            "L6",
            "edge_runtime/model/labels/phrase_rows.py",
            "write_atomically(path, line + array + numbers)",
            "path.write_bytes(line + array + numbers)",
        ),
        (
            "L7",
            "edge_runtime/commands/picture_cache.py",
            "_checksum(body) != record[-_CHECKSUM_BYTES:]",
            "False",
        ),
        ("L8", LEARN, "not os.access(folder, os.W_OK | os.X_OK)", "False"),
        ("L9", TAUGHT, "if teaching.encoder != encoder_digest(manifest):", "if False:"),
        (
            "L10",
            TAUGHT,
            "if not (largest[:-1].max() <= MAX_ROW_NORM and largest[-1] <= MAX_BIAS):",
            "if False:",
        ),
        (
            "G1",
            "edge_runtime/system/yaml_nodes.py",
            "if isinstance(event, yaml.AliasEvent):",
            "if False:",
        ),
        (
            "G2",
            "edge_runtime/system/opencv.py",
            '"OPENCV_IO_MAX_IMAGE_PIXELS": str(MAX_PIXELS),',
            "",
        ),
        ("G3", PIPELINE, "else self._privacy(frame)", "else frame"),
        ("G3", "edge_runtime/camera/privacy.py", ", turn=None)", ")"),
        (
            "G4",
            "edge_runtime/system/strict_yaml.py",
            'if field.metadata.get("short"):',
            "if False:",
        ),
        (
            "G4",
            "edge_runtime/system/strict_yaml.py",
            'error.advice or field.metadata.get("advice", "")',
            "error.advice",
        ),
        (
            "G4",
            "edge_runtime/system/strict_yaml.py",
            "(switch is False and bool not in options)",
            "False",
        ),
        ("G5", "edge_runtime/system/strict_yaml.py", 'if "\\0" in text:', "if False:"),
        ("G5", "edge_runtime/model/bundle.py", 'if "\\0" in name:', "if False:"),
        ("G6", "edge_runtime/system/yaml_nodes.py", "_refuse_open_brackets(text, where)", "pass"),
        ("D1", "Makefile", "LOCK = --constraint requirements.lock", "LOCK ="),
        ("D1", "Dockerfile.arm64", "--require-hashes --requirement pip.txt", "--upgrade pip"),
        (
            "D2",
            "Dockerfile.arm64",
            "@sha256:a36c24f9cbdf4fd0f52d67f0823eeac19c2028c637cecc392d97f980d4fec56b",
            "",
        ),
        ("D3", "systemd/offline.conf", "RestrictAddressFamilies=\n", ""),
    )
)


def kill(mutant: Mutant, copy: Path) -> str | None:
    """The first test that fails with the mutant in place; None when it survives."""
    path = copy / mutant.file
    good = path.read_text()
    if mutant.old not in good:
        raise SystemExit(
            f"{mutant.file}: {mutant.old!r} is not there any more; mend the list of mutants"
        )
    path.write_text(good.replace(mutant.old, mutant.new))
    # What a mutant broke is waited for in vain. Child processes must load the copy too: an
    # installed edge_runtime, which has no mutant in it, stands before the current folder.
    env = {**os.environ, "EDGE_LABEL_PATIENCE": "15", "PYTHONPATH": str(copy)}
    command = [sys.executable, "-m", "pytest", "-q", "-x", "--tb=no", "-rfE", *select([mutant.id])]
    try:
        done = subprocess.run(
            command, cwd=copy, env=env, capture_output=True, text=True, timeout=300
        )
    except subprocess.TimeoutExpired:
        raise SystemExit(
            f"{mutant.id}: pytest ran for 300 s, which proves nothing; try a quiet machine"
        ) from None
    finally:
        path.write_text(good)
    if done.returncode == 0:
        return None
    if done.returncode != 1:
        raise SystemExit(
            f"{mutant.id}: pytest ended with {done.returncode}, which proves nothing; run it again"
        )
    failed = [
        line.split()[1].split("::")[-1]
        for line in done.stdout.splitlines()
        if line.startswith(("FAILED", "ERROR"))
    ]
    return failed[0] if failed else f"(pytest {done.returncode})"


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.faults.mutants", description=__doc__.splitlines()[0]
    )
    parser.add_argument("rows", nargs="*", metavar="ID", help="rows to try (default: all)")
    wanted = parser.parse_args().rows
    missing = {row.id for row in ROWS} - {mutant.id for mutant in MUTANTS}
    survivors = len(missing)
    if missing:
        print(f"no mutant for {', '.join(sorted(missing))}")
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "copy"
        skip = shutil.ignore_patterns(".git", ".venv", ".*_cache", "__pycache__", "dist", "build")
        shutil.copytree(REPOSITORY, copy, ignore=skip)
        if (shared := REPOSITORY.parent / "shared").is_dir():
            (Path(folder) / "shared").symlink_to(shared)
        for mutant in MUTANTS:
            if wanted and mutant.id not in wanted:
                continue
            start = time.monotonic()
            by = kill(mutant, copy)
            survivors += by is None
            verdict = f"killed by {by}" if by else "SURVIVES"
            print(f"{mutant.id:<4} {mutant.file}: {mutant.old.strip()}")
            print(f"     {verdict} ({time.monotonic() - start:.0f} s)", flush=True)
    print(
        "every mechanism is needed by a test" if not survivors else f"{survivors} mutants survive"
    )
    return 1 if survivors else 0


if __name__ == "__main__":
    sys.exit(main())
