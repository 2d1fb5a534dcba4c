"""Labels tried on the live picture: the label set as the page changes it, until it is saved.

What is tried is a working copy below the state directory (`working_copy`). It is loaded as any
label set is: missing rows are made in a child process, and what pictures taught is kept. Then the
daemon's loop takes the labels between two frames. A reload goes back to the label set of the
configuration, which nothing here ever writes.

What must not live here: requests and answers (`edit_routes`).
"""

from __future__ import annotations

import json
import logging
import os
import re
import subprocess
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from edge_runtime.engine import Engine
from edge_runtime.errors import DataError, EdgeLabelError, UsageError, one_line
from edge_runtime.model.labels.compiled import CompiledLabels
from edge_runtime.model.labels.label_set import LabelSet, load_label_set
from edge_runtime.model.labels.phrase_rows import rows_path
from edge_runtime.model.labels.taught import NONE
from edge_runtime.sinks.web.kept_pictures import KeptPictures
from edge_runtime.sinks.web.working_copy import WorkingCopy, save_label_set
from edge_runtime.system import child
from edge_runtime.system.memory import release_memory

log = logging.getLogger("edge_label.preview")

MAX_PHRASES = 500  # names, prompts and background prompts; nobody types more
LEARN_S = 600.0
MAX_SAID = 4000  # characters of what the child says
LOWER_PRIORITY = 10  # of the child that learns: labelling goes first

UseLabels = Callable[[CompiledLabels, Engine], None]


class ConflictError(EdgeLabelError):
    """Somebody else was quicker, or something is still going on."""


@dataclass(frozen=True, slots=True)
class Present:
    """The label set in use, and its version: who changes it must know the newest."""

    label_set: LabelSet
    version: int


@dataclass(frozen=True, slots=True)
class Notice:
    """What a job said at its end. ``line`` is to be copied into the configuration."""

    number: int = 0
    text: str = ""
    is_error: bool = False
    line: str = ""


class Editor:
    """One label set, changed by one job at a time.

    ``folder`` is the state directory, ``engine`` gives the engine in use, and ``use_labels`` labels
    with others and waits for the frame from which it does. Jobs run in a thread of their own; all
    public methods are called by the server's thread.
    """

    def __init__(self, folder: Path, engine: Callable[[], Engine], use_labels: UseLabels) -> None:
        self._engine = engine
        self._use_labels = use_labels
        self._copy = WorkingCopy(folder / "page")
        self._saved = folder / "labels"
        self.pictures = KeptPictures(folder / "page" / "pictures")

        self._lock = threading.Lock()  # of the server's thread and the job
        self._present: Present | EdgeLabelError | None = None
        self._present_id = ""
        # A page that another process served must not know a version by chance.
        self._version = int(time.time())
        self._tried: tuple[str, LabelSet] | None = None  # id and label set of the working copy
        self._learning: subprocess.Popen[str] | None = None
        self.doing = ""  # empty while no job runs
        self.notice = Notice()

    def present(self) -> Present:
        """The label set in use.

        Raises EdgeLabelError where its file is gone or wrong, or the set too large for a page.
        """
        with self._lock:
            engine = self._engine()
            labels_id = engine.score.labels.id
            if self._present is None or labels_id != self._present_id:
                self._present_id = labels_id
                self._version += 1
                # An error is kept too: every look of every page asks.
                try:
                    self._present = Present(self._label_set_of(engine), self._version)
                except EdgeLabelError as error:
                    self._present = error
            if isinstance(self._present, EdgeLabelError):
                raise self._present
            return self._present

    def _label_set_of(self, engine: Engine) -> LabelSet:
        if self._tried and self._tried[0] == engine.score.labels.id:
            return self._tried[1]
        # At the start, and after a reload.
        self._tried = None
        label_set = load_label_set(engine.config.labels, engine.bundle)
        _refuse_large(label_set)
        return label_set

    def change(self, version: int, label_set: LabelSet) -> None:
        """Try another label set. Raises UsageError for a large one, and ConflictError."""
        if version != self.present().version:
            raise ConflictError(
                "the labels have changed meanwhile; the page shows them now, so make your change "
                "again"
            )
        _refuse_large(label_set)
        self._start("changing the labels", lambda: self._try(label_set))

    def keep(self, label: str, jpeg: bytes) -> None:
        """Keep a picture that teaches a label, or `NONE`. Raises UsageError, ConflictError."""
        names = {known.name for known in self.present().label_set.labels}
        if label != NONE and label not in names:
            raise UsageError("the label set has no such label", "add it first")

        def job() -> Notice:
            self.pictures.keep(label, jpeg)
            return _notice(f"kept a picture of {_quoted(label)}")

        self._start("keeping the picture", job)

    def remove_newest(self, label: str) -> None:
        """Remove the picture that was kept last of a label. Raises ConflictError."""

        def job() -> Notice:
            self.pictures.remove_newest(label)
            return _notice(f"removed the newest picture of {_quoted(label)}")

        self._start("removing the picture", job)

    def learn(self) -> None:
        """Teach the labels with the pictures that were kept. Raises ConflictError."""
        label_set = self.present().label_set
        self._start("learning", lambda: self._learn(label_set))

    def save(self, name: str) -> None:
        """Write the label set to a file of this name. Raises UsageError, ConflictError."""
        if not re.fullmatch(r"[A-Za-z0-9_-]{1,64}", name):
            raise UsageError("a name may hold letters, digits, - and _", "choose another")
        label_set = self.present().label_set
        self._start("saving", lambda: self._save(label_set, self._saved / f"{name}.yaml"))

    def close(self) -> None:
        """End what goes on, and leave the working copy to another program."""
        learning = self._learning
        if learning is not None:
            learning.kill()
        self._copy.close()

    def _start(self, doing: str, job: Callable[[], Notice]) -> None:
        with self._lock:
            if self.doing:
                raise ConflictError(f"still {self.doing}", "try again")
            self.doing = doing
        thread = threading.Thread(target=self._run, args=(job,), name="preview-edit", daemon=True)
        try:
            thread.start()
        except RuntimeError as error:  # no more threads
            self.doing = ""
            raise DataError(f"cannot start: {error}") from error

    def _run(self, job: Callable[[], Notice]) -> None:
        """Whatever goes wrong in a job, the page says it and labelling goes on."""
        try:
            notice = job()
        except Exception as error:
            if not isinstance(error, EdgeLabelError | OSError):
                log.exception("preview: %s failed", self.doing)
            # The working copy is ours; nobody looks for a mistake there.
            line = one_line(error).removeprefix(f"{self._copy.path}: ")
            notice = _notice(line, is_error=True)
        number = self.notice.number + 1
        self.notice = Notice(number, notice.text, notice.is_error, notice.line)
        release_memory()
        self.doing = ""

    def _try(self, label_set: LabelSet) -> Notice:
        engine = self._begin()
        self._use(self._copy.load(label_set, engine.bundle), label_set, engine)
        return _notice(f"in use: {len(label_set.labels)} labels")

    def _learn(self, label_set: LabelSet) -> Notice:
        engine = self._begin()
        self._copy.load(label_set, engine.bundle)
        said = self._run_learn()
        self._use(self._copy.load(label_set, engine.bundle), label_set, engine)
        return _notice(said)

    def _save(self, label_set: LabelSet, path: Path) -> Notice:
        engine = self._engine()
        save_label_set(label_set, self._rows(engine), path, engine.bundle)
        text = "saved; to keep these labels, write this line into the section model of the "
        return _notice(f"{text}configuration", line=f"labels: {_yaml_text(str(path))}")

    def _begin(self) -> Engine:
        """The engine in use, once the working copy has the rows of its labels."""
        engine = self._engine()
        if self._tried is None:
            self._copy.begin(self._rows(engine))
        return engine

    def _rows(self, engine: Engine) -> Path | None:
        """Where the rows of the labels in use are that the bundle lacks."""
        if self._tried is not None:
            return rows_path(self._copy.path)
        name = engine.config.labels
        return None if name in engine.bundle.label_sets() else rows_path(Path(name))

    def _use(self, labels: CompiledLabels, label_set: LabelSet, engine: Engine) -> None:
        before = self._tried
        self._tried = (labels.id, label_set)
        try:
            if labels.id != engine.score.labels.id:
                self._use_labels(labels, engine)
        except BaseException:
            self._tried = before
            raise

        with self._lock:
            # Other words may score the same: then no other id says that the set has changed.
            if isinstance(self._present, Present) and self._present.label_set is not label_set:
                self._present_id = ""

    def _run_learn(self) -> str:
        """What ``edge-label labels learn`` says of the working copy. Raises DataError."""
        engine = self._engine()
        options = ["--bundle", str(engine.bundle.path), "--modality", engine.config.modality]
        files = [str(self._copy.path), str(self.pictures.folder)]
        command = child.command("edge_runtime", "labels", "learn", *files, *options)
        pipe = subprocess.PIPE
        with subprocess.Popen(  # noqa: S603 - our interpreter and module
            command, stdin=subprocess.DEVNULL, stdout=pipe, stderr=pipe, text=True
        ) as learning:
            self._learning = learning
            try:
                os.setpriority(os.PRIO_PROCESS, learning.pid, LOWER_PRIORITY)
                said, errors = learning.communicate(timeout=LEARN_S)
            except subprocess.TimeoutExpired as error:
                raise DataError(f"not done in {LEARN_S:.0f} s", "keep fewer pictures") from error
            finally:
                learning.kill()
                self._learning = None

        if learning.returncode:
            reason = child.last_line(errors) or f"ended with {learning.returncode}"
            raise DataError(reason.removeprefix("edge-label: "))
        # The last line says where it was written, and how to reload. Neither is of interest here.
        rows = f"{rows_path(self._copy.path)}: "
        lines = [line for line in said.splitlines() if not line.startswith(rows)]
        return "\n".join(lines).removeprefix(f"{self._copy.path}: ")[:MAX_SAID]


def _notice(text: str, *, is_error: bool = False, line: str = "") -> Notice:
    return Notice(0, text[:1].upper() + text[1:], is_error, line)


def _quoted(label: str) -> str:
    return f"'{label}'" if label != NONE else "none of these"


def _refuse_large(label_set: LabelSet) -> None:
    prompts = sum(len(label.prompts) for label in label_set.labels)
    count = len(label_set.labels) + prompts + len(label_set.background)
    if count > MAX_PHRASES:
        raise UsageError(
            f"a label set of {count} phrases is too large for a page, more than {MAX_PHRASES}",
            "change its file",
        )


def _yaml_text(text: str) -> str:
    """Text as it may stand in a line of YAML; in quotes unless it is a plain path."""
    return text if re.fullmatch(r"[\w./-]+", text) else json.dumps(text)
