"""Metrics in Prometheus' text format: scraped from a loopback port, or as a file for node_exporter.

Names and units follow https://prometheus.io/docs/practices/naming: base units, ``_total`` for counters. A record
costs a few additions; text is made only when somebody asks, or every ``every_s`` seconds for the file.
"""

from __future__ import annotations

import logging
import resource
import threading
import time
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import get_args

from edge_runtime.config import PrometheusConfig
from edge_runtime.errors import ConfigError, DataError
from edge_runtime.records import CameraState, LabelledFrame, LabelRecord, RecordState
from edge_runtime.sinks.changes import LabelChanges
from edge_runtime.sinks.web.http import HttpServer
from edge_runtime.sinks.web.messages import Response
from edge_runtime.sinks.web.token import read_token
from edge_runtime.system.files import write_atomically
from edge_runtime.version import __version__

log = logging.getLogger("edge_label.prometheus")

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
BUCKETS_S = (0.005, 0.01, 0.02, 0.03, 0.04, 0.05, 0.075, 0.1, 0.2, 0.5, 1.0)
STAGES = ("decode", "preprocess", "encode", "score")
MAX_LABELS = 200  # series; a text bank has tens of thousands of names

Sample = tuple[dict[str, str], float]


class PrometheusSink:
    """Counts records. Raises ConfigError when the port, the token or the file's folder cannot be used.

    ``label_names`` gives the current label set. It is asked again whenever a record's ``labels_id`` changes, and a
    label that has left the set is told no more.
    """

    name = "prometheus"

    def __init__(
        self,
        config: PrometheusConfig,
        camera_state: Callable[[], CameraState],
        label_names: Callable[[], Sequence[str]],
    ) -> None:
        self._camera_state = camera_state
        self._label_names = label_names
        self._labels_id = ""
        self._started = time.time()
        self._lock = threading.Lock()  # the loop counts, the server reads
        self._newest: LabelRecord | None = None
        self._changes = LabelChanges()
        self._states: Counter[str] = Counter()
        self._switched: Counter[str] = Counter()
        self._buckets = [0] * (len(BUCKETS_S) + 1)
        self._total_s = 0.0
        self._stage_s = dict.fromkeys(STAGES, 0.0)
        self._frames = 0
        self._server: HttpServer | None = None
        self._stop = threading.Event()
        self._writer: threading.Thread | None = None
        if config.textfile:
            path = Path(config.textfile)
            if not path.parent.is_dir():
                raise ConfigError(
                    f"{path.parent}: no such folder for prometheus.textfile", "create it"
                )
            arguments = (path, config.every_s)
            self._writer = threading.Thread(
                target=self._write_files, args=arguments, name="prometheus", daemon=True
            )
        if config.listen:  # last: what is refused must not go on being served
            token = read_token(config.token_file)
            self._server = HttpServer(
                "prometheus", config.listen, {"/metrics": self._answer}, token
            )

    @property
    def address(self) -> tuple[str, int] | None:
        """Where it listens."""
        return self._server.address if self._server else None

    def write(self, labelled: LabelledFrame) -> None:
        """Count one record."""
        record = labelled.record
        if self._writer and self._writer.ident is None:
            self._writer.start()  # not earlier: a reload makes the new sink before the old one takes its file away
        with self._lock:
            self._newest = record
            self._frames += 1
            self._states[record.state] += 1
            total_s = record.ms.total / 1e3
            self._buckets[bisect_left(BUCKETS_S, total_s)] += 1
            self._total_s += total_s
            ms = record.ms
            for stage in STAGES:
                self._stage_s[stage] += getattr(ms, stage) / 1e3
            if record.labels_id != self._labels_id:
                self._labels_id = record.labels_id
                self._forget_all_but(self._label_names())
            for label in self._changes(record)[0]:
                if label.name in self._switched or len(self._switched) < MAX_LABELS:
                    self._switched[label.name] += 1

    def _forget_all_but(self, names: Sequence[str]) -> None:
        for gone in set(self._switched).difference(names):
            del self._switched[gone]

    def close(self) -> None:
        """Stop serving; the text file is taken away, so that nobody reads old numbers as new."""
        if self._server:
            self._server.close()
        if self._writer and self._writer.ident is not None:
            self._stop.set()
            self._writer.join(2)

    def _answer(self) -> Response:
        return Response(self.text().encode(), CONTENT_TYPE)

    def _write_files(self, path: Path, every_s: float) -> None:
        failing = False
        while True:
            try:
                write_atomically(path, self.text().encode(), mode=0o644, durable=False)
                failing = False
            except DataError as error:
                if not failing:
                    log.warning("prometheus: %s", error)
                failing = True
            if self._stop.wait(every_s):
                try:
                    path.unlink(missing_ok=True)
                except OSError:  # a disk that became read-only keeps it
                    pass
                return

    def text(self) -> str:
        """All metrics, as of now."""
        with self._lock:
            return "".join(self._families())

    def _families(self) -> Iterable[str]:
        record = self._newest
        bundle = {"bundle": record.bundle} if record else {}
        yield _family(
            "edge_label_build_info",
            "gauge",
            "Version and model bundle.",
            [({"version": __version__, **bundle}, 1)],
        )
        yield _family(
            "edge_label_start_time_seconds",
            "gauge",
            "Start, in seconds since 1970.",
            [({}, self._started)],
        )
        yield _family(
            "edge_label_cpu_seconds_total",
            "counter",
            "CPU time used, all threads.",
            [({}, _cpu_s())],
        )
        state = self._camera_state()
        states = [({"state": name}, float(name == state)) for name in get_args(CameraState)]
        yield _family(
            "edge_label_camera_state", "gauge", "1 for what the camera is doing now.", states
        )
        counts = [({"state": name}, self._states[name]) for name in get_args(RecordState)]
        yield _family("edge_label_records_total", "counter", "Records made, by state.", counts)
        yield self._histogram()
        stages = [({"stage": stage}, seconds) for stage, seconds in self._stage_s.items()]
        yield _family(
            "edge_label_stage_seconds_total", "counter", "Time spent in each stage.", stages
        )
        switched = [({"label": name}, count) for name, count in self._switched.items()]
        yield _family("edge_label_switched_on_total", "counter", "Times a label went on.", switched)
        if record is None:
            return
        shown = {label.name: label for label in record.labels}
        known = [name for name in self._switched if name in shown]
        scores = [({"label": name}, shown[name].score) for name in known]
        yield _family(
            "edge_label_score_ratio",
            "gauge",
            "Score of a label that was ever on, newest frame.",
            scores,
        )
        on = [({"label": name}, float(name in shown and shown[name].on)) for name in self._switched]
        yield _family("edge_label_on", "gauge", "1 while a label is on.", on)
        age = time.monotonic() - record.mono_s
        gauges: tuple[tuple[str, str, str, float | None], ...] = (
            (
                "edge_label_frames_dropped_total",
                "counter",
                "Frames replaced by newer ones.",
                record.dropped,
            ),
            (
                "edge_label_frames_per_second",
                "gauge",
                "Records a second, over the last 30.",
                record.fps,
            ),
            (
                "edge_label_last_record_age_seconds",
                "gauge",
                "Age of the newest frame.",
                age,
            ),
            ("edge_label_resident_memory_bytes", "gauge", "Resident set.", record.rss_mb * 1e6),
            (
                "edge_label_proportional_memory_bytes",
                "gauge",
                "Resident set, shared pages divided among their users.",
                None if record.pss_mb is None else record.pss_mb * 1e6,
            ),
            ("edge_label_temperature_celsius", "gauge", "Hottest thermal zone.", record.temp_c),
            ("edge_label_throttled", "gauge", "1 while the firmware throttles.", record.throttled),
        )
        for name, kind, text, value in gauges:
            if value is not None:
                yield _family(name, kind, text, [({}, value)])

    def _histogram(self) -> str:
        name = "edge_label_frame_duration_seconds"
        lines = [f"# HELP {name} Decode to score, for each frame.\n# TYPE {name} histogram\n"]
        below = 0
        for bound, count in zip((*BUCKETS_S, float("inf")), self._buckets, strict=True):
            below += count
            lines.append(f'{name}_bucket{{le="{_number(bound)}"}} {below}\n')
        lines.append(f"{name}_sum {_number(self._total_s)}\n{name}_count {self._frames}\n")
        return "".join(lines)


def _cpu_s() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def _family(name: str, kind: str, help_text: str, samples: Iterable[Sample]) -> str:
    """One metric with its samples; a metric without any is left out."""
    lines = [f"{name}{_labels(labels)} {_number(value)}\n" for labels, value in samples]
    return f"# HELP {name} {help_text}\n# TYPE {name} {kind}\n" + "".join(lines) if lines else ""


def _labels(labels: dict[str, str]) -> str:
    if not labels:
        return ""
    return "{" + ",".join(f'{key}="{_escaped(value)}"' for key, value in labels.items()) + "}"


def _escaped(value: str) -> str:
    return value.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")


def _number(value: float) -> str:
    if value == float("inf"):
        return "+Inf"
    return str(int(value)) if float(value).is_integer() else repr(round(float(value), 6))
