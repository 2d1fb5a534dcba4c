"""Metrics for Prometheus: scraped from a port, or as a file for node_exporter.

Names and units follow https://prometheus.io/docs/practices/naming: base units, ``_total`` for
counters. A record costs a few additions. Text is made only when somebody asks, or every ``every_s``
seconds for the file.
"""

from __future__ import annotations

import logging
import resource
import threading
import time
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import get_args

from edge_runtime.config import PrometheusConfig
from edge_runtime.errors import ConfigError, DataError
from edge_runtime.records import CameraState, LabelledFrame, LabelRecord, RecordState
from edge_runtime.sinks.changes import LabelChanges
from edge_runtime.sinks.web.http import HttpServer
from edge_runtime.sinks.web.messages import Response
from edge_runtime.sinks.web.metrics_text import CONTENT_TYPE, histogram, metric
from edge_runtime.sinks.web.token import read_token
from edge_runtime.system.files import write_atomically
from edge_runtime.version import __version__

log = logging.getLogger("edge_label.prometheus")

BUCKETS_S = (0.005, 0.01, 0.02, 0.03, 0.04, 0.05, 0.075, 0.1, 0.2, 0.5, 1.0)
STAGES = ("decode", "preprocess", "encode", "score")
MAX_LABELS = 200  # series; a text bank has tens of thousands of names


class PrometheusSink:
    """Counts records.

    ``label_names`` gives the current label set. It is called when a record's ``labels_id`` changes;
    the series of labels that have left the set end then.

    Raises ConfigError when the port, the token or the file's folder cannot be used.
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
        self._started_s = time.time()

        # The pipeline's thread counts, the server's or the writer's thread reads.
        self._lock = threading.Lock()
        self._newest: LabelRecord | None = None
        self._labels_id = ""
        self._changes = LabelChanges()
        self._states: Counter[str] = Counter()
        self._switched: Counter[str] = Counter()  # how often each label went on
        self._buckets = [0] * (len(BUCKETS_S) + 1)
        self._total_s = 0.0
        self._stage_s = dict.fromkeys(STAGES, 0.0)

        self._stop = threading.Event()
        self._writer: threading.Thread | None = None
        if config.textfile:
            self._writer = self._make_writer(Path(config.textfile), config.every_s)
        # The server comes last: it listens at once, and a sink that is refused must serve nothing.
        self._server: HttpServer | None = None
        if config.listen:
            routes = {"/metrics": self._answer}
            token = read_token(config.token_file)
            self._server = HttpServer("prometheus", config.listen, routes, token)

    @property
    def address(self) -> tuple[str, int] | None:
        """(host, port) where it listens."""
        return self._server.address if self._server else None

    def write(self, labelled: LabelledFrame) -> None:
        """Count one record."""
        # Not in __init__: a reload makes the new sink before the old one has deleted its file.
        if self._writer and self._writer.ident is None:
            self._writer.start()

        record = labelled.record
        ms = record.ms
        total_s = ms.total / 1e3
        with self._lock:
            self._newest = record
            self._states[record.state] += 1
            self._buckets[bisect_left(BUCKETS_S, total_s)] += 1
            self._total_s += total_s
            for stage in STAGES:
                self._stage_s[stage] += getattr(ms, stage) / 1e3
            self._count_labels(record)

    def _count_labels(self, record: LabelRecord) -> None:
        if record.labels_id != self._labels_id:
            self._labels_id = record.labels_id
            self._end_series_except(self._label_names())
        on, _off = self._changes(record)
        for label in on:
            if label.name in self._switched or len(self._switched) < MAX_LABELS:
                self._switched[label.name] += 1

    def _end_series_except(self, names: Sequence[str]) -> None:
        for name in set(self._switched).difference(names):
            del self._switched[name]

    def close(self) -> None:
        """Stop serving, and delete the text file, so that nobody reads old numbers as new ones."""
        if self._server:
            self._server.close()
        if self._writer and self._writer.ident is not None:
            self._stop.set()
            self._writer.join(2)

    def text(self) -> str:
        """All metrics, as of now."""
        with self._lock:
            return "".join(self._metrics())

    def _answer(self) -> Response:
        return Response(self.text().encode(), CONTENT_TYPE)

    def _make_writer(self, path: Path, every_s: float) -> threading.Thread:
        if not path.parent.is_dir():
            what = f"{path.parent}: no such folder for prometheus.textfile"
            raise ConfigError(what, "create it")
        return threading.Thread(
            target=self._write_files, args=(path, every_s), name="prometheus", daemon=True
        )

    def _write_files(self, path: Path, every_s: float) -> None:
        failing = False
        while True:
            try:
                write_atomically(path, self.text().encode(), mode=0o644, durable=False)
                failing = False
            except DataError as error:
                if not failing:  # one line a failure, not one a try
                    log.warning("prometheus: %s", error)
                failing = True

            if self._stop.wait(every_s):
                try:
                    path.unlink(missing_ok=True)
                except OSError:  # a disk that has become read-only keeps the file
                    pass
                return

    def _metrics(self) -> Iterator[str]:
        yield from self._of_the_process()
        yield from self._of_all_records()
        if self._newest is not None:
            yield from self._of_labels(self._newest)
            yield from self._of_the_newest(self._newest)

    def _of_the_process(self) -> Iterator[str]:
        usage = resource.getrusage(resource.RUSAGE_SELF)
        cpu_s = usage.ru_utime + usage.ru_stime
        build = {"version": __version__}
        if self._newest is not None:
            build["bundle"] = self._newest.bundle
        state = self._camera_state()
        states = [({"state": name}, float(name == state)) for name in get_args(CameraState)]

        yield metric("edge_label_build_info", "gauge", "Version and model bundle.", [(build, 1)])
        yield metric(
            "edge_label_start_time_seconds",
            "gauge",
            "Start, in seconds since 1970.",
            [({}, self._started_s)],
        )
        yield metric(
            "edge_label_cpu_seconds_total",
            "counter",
            "CPU time used, all threads.",
            [({}, cpu_s)],
        )
        yield metric(
            "edge_label_camera_state", "gauge", "1 for what the camera is doing now.", states
        )

    def _of_all_records(self) -> Iterator[str]:
        states = [({"state": name}, self._states[name]) for name in get_args(RecordState)]
        stages = [({"stage": stage}, seconds) for stage, seconds in self._stage_s.items()]
        switched = [({"label": name}, count) for name, count in self._switched.items()]

        yield metric("edge_label_records_total", "counter", "Records made, by state.", states)
        yield histogram(
            "edge_label_frame_duration_seconds",
            "Decode to score, for each frame.",
            BUCKETS_S,
            self._buckets,
            self._total_s,
        )
        yield metric(
            "edge_label_stage_seconds_total", "counter", "Time spent in each stage.", stages
        )
        yield metric("edge_label_switched_on_total", "counter", "Times a label went on.", switched)

    def _of_labels(self, record: LabelRecord) -> Iterator[str]:
        reported = {label.name: label for label in record.labels}
        scores = []
        on = []
        for name in self._switched:
            label = reported.get(name)
            on.append(({"label": name}, float(label is not None and label.on)))
            if label is not None:
                scores.append(({"label": name}, label.score))

        yield metric(
            "edge_label_score_ratio",
            "gauge",
            "Score of a label that was ever on, newest frame.",
            scores,
        )
        yield metric("edge_label_on", "gauge", "1 while a label is on.", on)

    def _of_the_newest(self, record: LabelRecord) -> Iterator[str]:
        age_s = time.monotonic() - record.mono_s
        pss = None if record.pss_mb is None else record.pss_mb * 1e6
        rows: tuple[tuple[str, str, str, float | None], ...] = (
            ("frames_dropped_total", "counter", "Frames replaced by newer ones.", record.dropped),
            ("frames_per_second", "gauge", "Records a second, over the last 30.", record.fps),
            ("last_record_age_seconds", "gauge", "Age of the newest frame.", age_s),
            ("resident_memory_bytes", "gauge", "Resident set.", record.rss_mb * 1e6),
            (
                "proportional_memory_bytes",
                "gauge",
                "Resident set, shared pages divided among their users.",
                pss,
            ),
            ("temperature_celsius", "gauge", "Hottest thermal zone.", record.temp_c),
            ("throttled", "gauge", "1 while the firmware throttles.", record.throttled),
        )
        for name, kind, help_text, value in rows:
            if value is not None:  # not every machine measures everything
                yield metric(f"edge_label_{name}", kind, help_text, [({}, value)])
