"""The nouns that travel: Frame goes into the pipeline, LabelRecord comes out.

No behaviour beyond turning a record into its JSON line and into its JSON schema.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal, get_args

from edge_runtime.errors import json_printable

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

SCHEMA = "edge-label/1"

RecordState = Literal["ok", "unknown", "low_information", "frozen", "stale", "invalid"]
CameraState = Literal[
    "opening", "ok", "no_device", "busy", "denied", "no_signal", "frozen", "reconnecting"
]
Modality = Literal["rgb", "ir", "depth"]
WantedModality = Literal["auto", "rgb", "ir", "depth"]
Encoding = Literal["bgr", "grey", "mjpg", "yuyv", "y16", "f32"]


@dataclass(slots=True, frozen=True)
class Frame:
    """One picture, as the source delivered it.

    Decoding waits for the pipeline, so that a frame which a newer one replaces costs nothing. ``data`` is, by
    ``encoding``:

    - ``bgr``: uint8 (H, W, 3)
    - ``grey``: uint8 (H, W)
    - ``y16``: uint16 (H, W), infrared levels or depth in millimetres
    - ``f32``: float (H, W), depth in metres
    - ``yuyv``: uint8 (H, W, 2)
    - ``mjpg``: uint8 (n,), the camera's own JPEG bytes
    """

    data: NDArray[Any]
    encoding: Encoding
    captured_s: float  # CLOCK_MONOTONIC, seconds
    captured_at: float  # wall clock, seconds since 1970
    wait_ms: float = 0.0  # how long the reader waited for it
    decode_ms: float = 0.0  # what the source spent on decoding it
    dropped: int = 0  # frames replaced by newer ones since the source was opened
    file: str | None = None  # of a picture: its path relative to the source
    frozen: bool = False  # the camera repeats its last picture
    check_ms: float = 0.0  # what looking for a frozen camera took
    video_s: float | None = None  # time inside a recording that is not paced by the clock


def _doc(text: str, **schema: Any) -> Any:
    return field(metadata={"schema": {"description": text, **schema}})


def _optional(text: str, **schema: Any) -> Any:
    """A field that a record carries only when it is not None."""
    return field(
        default=None, metadata={"schema": {"description": text, "optional": True, **schema}}
    )


@dataclass(slots=True, frozen=True)
class LabelScore:
    """One label of one frame."""

    name: str = _doc("label as written in the label set")
    score: float = _doc("softmax probability inside the label's group", minimum=0, maximum=1)
    margin: float = _doc("score minus the best competitor in its group", minimum=-1, maximum=1)
    on: bool = _doc("winner of its group and above its threshold, for as long as consensus asks")


@dataclass(slots=True, frozen=True)
class LabelEvent:
    """A label that went on or off."""

    name: str = _doc("label as written in the label set")
    on: bool = _doc("true: it went on")
    lasted_s: float | None = _doc(
        "seconds its group had been unchanged; null at the first change", minimum=0
    )


@dataclass(slots=True, frozen=True)
class StageTimes:
    """Milliseconds one frame spent in each stage; ``total`` leaves out ``wait``."""

    wait: float = _doc("waiting for the camera", minimum=0)
    decode: float = _doc("JPEG or video decode, colour conversion", minimum=0)
    preprocess: float = _doc("resize to the encoder's input", minimum=0)
    encode: float = _doc("image encoder", minimum=0)
    score: float = _doc("similarity, softmax, thresholds", minimum=0)
    total: float = _doc("decode to score", minimum=0)
    check: float = field(
        default=0.0,
        metadata={
            "schema": {"description": "frozen? flat? part of total", "minimum": 0, "optional": True}
        },
    )


@dataclass(slots=True, frozen=True)
class LabelRecord:
    """What edge-label knows of one frame; ``to_json`` is the line that is written."""

    seq: int = _doc("number of this record since start, without gaps", minimum=0)
    time: str = _doc(
        "UTC wall time of capture; a field only, never used for timing", format="date-time"
    )
    mono_s: float = _doc("monotonic clock at capture, seconds", minimum=0)
    boot_id: str = _doc("kernel boot id that mono_s belongs to")
    camera: str = _doc("source as configured, without its password")
    modality: Modality = _doc("what the camera sees")
    state: RecordState = _doc("ok, or why no label is on")
    labels: tuple[LabelScore, ...] = _doc("highest score first; background labels are left out")
    ms: StageTimes = _doc("stage timings in milliseconds")
    fps: float = _doc("records per second over the last 30", minimum=0)
    dropped: int = _doc("frames replaced by newer ones since start", minimum=0)
    rss_mb: float = _doc("resident set, MB (1e6 bytes), sampled once a second", minimum=0)
    pss_mb: float | None = _doc("proportional set size, MB; null where the kernel hides it")
    temp_c: float | None = _doc("hottest thermal zone; null where there is none")
    throttled: bool | None = _doc("firmware throttle flag; null where there is none")
    bundle: str = _doc("name-version of the model bundle")
    labels_id: str = _doc("sha256 of the compiled label set")
    file: str | None = _optional("picture, relative to the source")
    events: tuple[LabelEvent, ...] | None = _optional("labels that went on or off with this frame")
    camera_state: CameraState | None = _optional("what the camera is doing, where that is not ok")
    corrupt: int | None = _optional(
        "frames that did not decode since start, once there are any", minimum=1
    )
    lost: int | None = _optional(
        "records some sink could not take since start, once there are any", minimum=1
    )
    deleted: int | None = _optional(
        "record files and captures deleted for room, once there are any", minimum=1
    )
    slowed: int | None = _optional(
        "the CPU is hot: one of so many camera frames is labelled", minimum=2
    )
    clock_unsynced: bool | None = _optional(
        "true while nothing has set the wall clock: trust seq and mono_s, not time"
    )

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types, in the documented order; optional fields only where there is something to say."""
        out: dict[str, Any] = {"schema": SCHEMA}
        for name in _RECORD_FIELDS:
            value = getattr(self, name)
            if value is not None or name not in _OPTIONAL_FIELDS:
                out[name] = value
        out["labels"] = [
            {"name": s.name, "score": s.score, "margin": s.margin, "on": s.on} for s in self.labels
        ]
        if self.events is not None:
            out["events"] = [
                {"name": e.name, "on": e.on, "lasted_s": e.lasted_s} for e in self.events
            ]
        out["ms"] = {name: getattr(self.ms, name) for name in _STAGES}
        return out

    def to_json(self) -> str:
        """One line of strict JSON: no NaN, no newline inside, control characters of a file's name escaped."""
        return json_printable(_one_line(self.to_dict()))


_one_line = json.JSONEncoder(allow_nan=False, ensure_ascii=False, separators=(",", ":")).encode
_RECORD_FIELDS = tuple(f.name for f in fields(LabelRecord))
_OPTIONAL_FIELDS = frozenset(
    f.name for f in fields(LabelRecord) if f.metadata["schema"].get("optional")
)
_STAGES = tuple(f.name for f in fields(StageTimes))


@dataclass(frozen=True, slots=True)
class LabelledFrame:
    """What the pipeline made of one frame.

    ``frame`` is what may be seen of it, after privacy; None in a record that no frame stands behind (``stale``).
    ``embedding`` is the image embedding, float32 (dim,) of unit norm; None where the frame did not decode.
    """

    record: LabelRecord
    frame: Frame | None = None
    embedding: NDArray[np.float32] | None = None


def utc_iso(epoch_s: float) -> str:
    """Wall time as in the record: ISO 8601, UTC, milliseconds."""
    return (
        datetime.fromtimestamp(epoch_s, UTC)
        .isoformat(timespec="milliseconds")
        .replace("+00:00", "Z")
    )


def json_schema() -> dict[str, Any]:
    """JSON Schema (2020-12) of one record, generated from the dataclasses above."""
    schema = _object_schema(LabelRecord)
    schema["properties"] = {"schema": {"const": SCHEMA}, **schema["properties"]}
    schema["required"] = ["schema", *schema["required"]]
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "edge-label record",
        **schema,
    }


_TYPES: dict[str, Any] = {
    "int": {"type": "integer"},
    "float": {"type": "number"},
    "str": {"type": "string"},
    "bool": {"type": "boolean"},
    "float | None": {"type": ["number", "null"]},
    "bool | None": {"type": ["boolean", "null"]},
    "str | None": {"type": "string"},
    "int | None": {"type": "integer"},
    "CameraState | None": {"enum": list(get_args(CameraState))},
    "Modality": {"enum": list(get_args(Modality))},
    "RecordState": {"enum": list(get_args(RecordState))},
}


def _object_schema(cls: type) -> dict[str, Any]:
    nested: dict[str, Any] = {
        "tuple[LabelScore, ...]": lambda: {"type": "array", "items": _object_schema(LabelScore)},
        "tuple[LabelEvent, ...] | None": lambda: {
            "type": "array",
            "items": _object_schema(LabelEvent),
        },
        "StageTimes": lambda: _object_schema(StageTimes),
    }
    properties: dict[str, Any] = {}
    required = []
    for f in fields(cls):
        extra = dict(f.metadata["schema"])
        if not extra.pop("optional", False):
            required.append(f.name)
        kind = str(f.type)
        properties[f.name] = {**(nested[kind]() if kind in nested else _TYPES[kind]), **extra}
    return {
        "type": "object",
        "properties": properties,
        "required": required,
        "additionalProperties": False,
    }
