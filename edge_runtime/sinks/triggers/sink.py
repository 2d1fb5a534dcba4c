"""Keeps the frames that the rules chose, as snapshots and clips in a spool.

`Rules` chooses in the pipeline's thread, `TriggerSink` keeps in its own. All that goes from one to
the other is a `Task` in the queue.

Every firing is counted: fired = kept + lost. A firing is lost when a full queue drops its frame,
when the disk refuses, when the frame is broken or when the cap is too small for it. Only the first
kind may happen again: the rule gets its interval back and fires anew while its condition still
holds. After the others it does not, because trying a full disk again with every frame would help
nobody.
"""

from __future__ import annotations

import errno
import logging
from collections.abc import Callable, Iterable
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

from edge_runtime.config import TriggerRule, TriggersConfig
from edge_runtime.errors import DataError
from edge_runtime.records import Frame, LabelRecord
from edge_runtime.sinks.triggers.clips import Clip
from edge_runtime.sinks.triggers.draft import Draft
from edge_runtime.sinks.triggers.hook import WAITING, Hook
from edge_runtime.sinks.triggers.ring import Ring
from edge_runtime.sinks.triggers.rules import Task
from edge_runtime.sinks.triggers.spool import Spool

log = logging.getLogger("edge_label.triggers")

SCHEMA = "edge-label-capture/1"


class TriggerSink:
    """Keeps what `Rules` chose. Raises ConfigError for a spool or hook that cannot be used.

    ``to_jpeg`` encodes snapshots; ``to_clip_jpeg`` encodes the frames of clips, which are many and
    may be smaller.
    """

    name = "triggers"

    def __init__(
        self,
        config: TriggersConfig,
        to_jpeg: Callable[[Frame], bytes],
        to_clip_jpeg: Callable[[Frame], bytes] | None = None,
    ) -> None:
        self._to_jpeg = to_jpeg
        self._to_clip_jpeg = to_clip_jpeg or to_jpeg
        clip_rules = [rule for rule in config.rules if rule.save == "clip"]
        longest_pre_s = max((rule.pre_s for rule in clip_rules), default=0.0)
        self._ring = Ring(longest_pre_s, config.ring_mb * 1e6)
        self._clips: list[Clip] = []  # the open ones

        self._deletes_after_hook = config.delete_after_hook
        self._hook: Hook | None = None
        if config.hook:
            self._hook = Hook(config.hook, config.hook_timeout_s, delete=config.delete_after_hook)
        try:
            self._spool = Spool(Path(config.spool), int(config.max_mb * 1e6))
        except BaseException:
            if self._hook:
                self._hook.close()
            raise
        self._spool_is_open = False

        self._fired = 0  # as of the newest task: it counts the firings of dropped tasks too
        self.kept = 0

    @property
    def deleted(self) -> int:
        """Captures deleted to make room for newer ones."""
        return self._spool.deleted

    @property
    def lost(self) -> int:
        """Firings whose frame or clip was not kept."""
        return self._fired - self.kept - len(self._clips)

    def write(self, task: Task) -> None:
        """Keep what the task asks for. A broken frame is skipped. Raises OSError."""
        self._fired = task.fired_before + len(task.fired)
        if not self._spool_is_open:
            self._open_spool()

        frame = task.frame
        now_s = task.record.mono_s if frame is None else frame.captured_s
        _do_all(
            [
                # First the clips that have ended: on a full disk they may then make room.
                partial(self._finish_clips, lambda clip: clip.end_s < now_s),
                partial(self._keep, task),
                # Then those whose last frame this was.
                partial(self._finish_clips, lambda clip: clip.end_s <= now_s),
            ]
        )

    def close(self) -> None:
        """Finish open clips with what they have; give the hook a second. Raises OSError."""
        try:
            self._finish_clips(lambda clip: True)
        finally:  # on a full disk they cannot be finished
            self._spool.close()
            if self._hook:
                self._hook.close()
            if self._fired or self._spool.deleted:
                log.info(
                    "triggers: fired %d times: %d captures kept, %d lost, %d deleted for room",
                    self._fired,
                    self.kept,
                    self.lost,
                    self._spool.deleted,
                )

    def _open_spool(self) -> None:
        self._spool.open()
        self._spool_is_open = True
        # A capture that is still there has not been handed over yet, or it would be deleted.
        if self._hook and self._deletes_after_hook:
            self._hook.extend(self._spool.captures(newest=WAITING))

    def _keep(self, task: Task) -> None:
        frame = task.frame
        if frame is None or not (task.sampled or task.fired):
            return
        try:
            _do_all(self._steps(task, frame))
        except DataError as error:
            log.debug("%s", error)

    def _steps(self, task: Task, frame: Frame) -> list[Callable[[], None]]:
        """What to do with a frame. Raises DataError for one that cannot be encoded."""
        steps: list[Callable[[], None]] = []
        needs_clip_jpeg = task.sampled or any(rule.config.save == "clip" for rule in task.fired)
        clip_jpeg = self._to_clip_jpeg(frame) if needs_clip_jpeg else b""

        if task.sampled:
            self._ring.add(frame.captured_s, clip_jpeg)
            unfinished = [clip for clip in self._clips if frame.captured_s <= clip.end_s]
            steps += [
                partial(self._append, clip, clip_jpeg, frame.captured_s) for clip in unfinished
            ]

        for rule in task.fired:
            if rule.config.save == "clip":
                step = partial(self._start_clip, rule.config, task.record, frame, clip_jpeg)
            else:
                step = partial(self._keep_snapshot, rule.config, task.record, frame)
            steps.append(step)
        return steps

    def _keep_snapshot(self, rule: TriggerRule, record: LabelRecord, frame: Frame) -> None:
        jpeg = self._to_jpeg(frame)
        draft = self._spool.start(_name(rule, record), ".jpg")
        try:
            if not draft.reserve(len(jpeg)):
                raise _too_large(rule)
            draft.stream.write(jpeg)
        except OSError:
            draft.abandon()
            raise
        self._finish_draft(draft, rule, record, {})

    def _start_clip(
        self,
        rule: TriggerRule,
        record: LabelRecord,
        frame: Frame,
        jpeg: bytes,
    ) -> None:
        draft = self._spool.start(_name(rule, record), ".avi")
        clip = Clip(rule, record, frame.captured_s, draft)
        self._clips.append(clip)

        for time_s, earlier in self._ring.since(frame.captured_s - rule.pre_s):
            if time_s < frame.captured_s:  # the ring may hold this frame too
                self._append(clip, earlier, time_s)
        self._append(clip, jpeg, frame.captured_s)

    def _append(self, clip: Clip, jpeg: bytes, time_s: float) -> None:
        try:
            clip.append(jpeg, time_s)
        except OSError:
            self._clips.remove(clip)
            raise

    def _finish_clips(self, has_ended: Callable[[Clip], bool]) -> None:
        ended = [clip for clip in self._clips if has_ended(clip)]
        _do_all([partial(self._finish_clip, clip) for clip in ended])

    def _finish_clip(self, clip: Clip) -> None:
        self._clips.remove(clip)
        if not clip.frames:
            clip.draft.abandon()
            return
        self._finish_draft(clip.draft, clip.rule, clip.record, clip.finish())

    def _finish_draft(
        self,
        draft: Draft,
        rule: TriggerRule,
        record: LabelRecord,
        clip_fields: dict[str, Any],
    ) -> None:
        def sidecar(media: str, size: int) -> dict[str, Any]:
            return {
                "schema": SCHEMA,
                "rule": rule.name,
                "kind": rule.save,
                "file": media,
                "bytes": size,
                **clip_fields,
                "record": record.to_dict(),
            }

        capture = draft.finish(sidecar)
        if capture is None:
            raise _too_large(rule)
        self.kept += 1
        if self._hook:
            self._hook.extend([capture])


def _do_all(steps: Iterable[Callable[[], None]]) -> None:
    """Do every step, even after one has failed; then raise the first exception.

    One rule that cannot keep its frame must not cost the other rules theirs.
    """
    first: Exception | None = None
    for step in steps:
        try:
            step()
        except Exception as error:
            first = first or error
    if first is not None:
        raise first


def _too_large(rule: TriggerRule) -> OSError:
    what = f"a capture of rule {rule.name} alone is larger than triggers.max_mb; raise that"
    return OSError(errno.ENOSPC, what)


def _name(rule: TriggerRule, record: LabelRecord) -> str:
    return f"{rule.name}-{datetime.fromisoformat(record.time):%Y%m%dT%H%M%SZ}"
