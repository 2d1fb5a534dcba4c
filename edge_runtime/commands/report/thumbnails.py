"""Pictures for the events of a report, taken from what triggers kept in a spool.

A spool holds pairs: a picture or a clip, and a JSON sidecar with the record of its moment. What
cannot be read is skipped: the service may delete a capture at any time.
"""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge_runtime.camera.replay import ffmpeg_name
from edge_runtime.commands.report.run import Run, Span
from edge_runtime.system.files import is_special, read_capped
from edge_runtime.system.opencv import cv2

MAX_THUMBNAILS = 60
MAX_SIDECAR = 1 << 20  # bytes; a sidecar is about two thousand
WIDTH = 320  # twice what the page shows, for screens of high resolution
JPEG_QUALITY = 70


@dataclass(frozen=True, slots=True)
class _Capture:
    """One sidecar: which moment of which run it belongs to, and where its picture lies."""

    media: Path
    seq: int
    boot_id: str
    labels_on: set[str]

    @classmethod
    def read(cls, sidecar: Path) -> _Capture | None:
        """None where the sidecar is gone, or is none of ours."""
        try:
            facts = json.loads(read_capped(sidecar, MAX_SIDECAR))
            record = facts["record"]
            return cls(
                # Only the name: a sidecar must not point out of its spool.
                media=sidecar.with_name(Path(facts["file"]).name),
                seq=int(record["seq"]),
                boot_id=record["boot_id"],
                labels_on={label["name"] for label in record["labels"] if label["on"]},
            )
        except (OSError, ValueError, KeyError, TypeError, RecursionError, OverflowError):
            return None

    def shows(self, span: Span) -> bool:
        """Whether it was taken while the label was on."""
        first_seq, last_seq = span.seqs
        same_run = span.boot_id == self.boot_id and first_seq <= self.seq <= last_seq
        return same_run and span.label in self.labels_on


def find_thumbnails(run: Run, spool: Path) -> dict[int, str]:
    """Index into ``run.spans`` -> the first picture kept during that span, as a data: URL.

    Raises DataError for a spool whose path is not UTF-8.
    """
    thumbnails: dict[int, str] = {}

    for sidecar in sorted(spool.glob("*.json")):
        if len(thumbnails) >= MAX_THUMBNAILS:
            break
        capture = _Capture.read(sidecar)
        if capture is None:
            continue

        spans = [
            index
            for index, span in enumerate(run.spans)
            if index not in thumbnails and capture.shows(span)
        ]
        picture = _first_picture(capture.media) if spans else None
        if picture is not None:
            thumbnails.update(dict.fromkeys(spans, _data_url(picture)))
    return thumbnails


def _first_picture(media: Path) -> NDArray[np.uint8] | None:
    """BGR uint8 (H, W, 3) of a picture, or of the first frame of a clip."""
    # A pipe or a device under a picture's name would be waited for.
    if is_special(media):
        return None
    name = ffmpeg_name(media)
    if not media.is_file():
        return None

    ok, picture = cv2.VideoCapture(name, cv2.CAP_FFMPEG).read()
    return np.asarray(picture, np.uint8) if ok else None


def _data_url(picture: NDArray[np.uint8]) -> str:
    height = max(1, round(WIDTH * picture.shape[0] / picture.shape[1]))
    small = cv2.resize(picture, (WIDTH, height), interpolation=cv2.INTER_AREA)
    jpeg = bytes(cv2.imencode(".jpg", small, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])[1])
    return f"data:image/jpeg;base64,{base64.b64encode(jpeg).decode()}"
