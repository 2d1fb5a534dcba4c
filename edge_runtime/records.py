"""The nouns that travel: a Frame goes into the pipeline, a LabelRecord comes out.

What must not live here: behaviour, apart from a record's JSON line and its JSON schema.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime
from types import NoneType
from typing import TYPE_CHECKING, Any, Literal, get_args, get_origin, get_type_hints

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
Encoding = Literal["bgr", "grey", "mjpg", "yuyv", "yu12", "y16", "f32"]
Degrees = Literal[0, 90, 180, 270]
Flip = Literal["horizontal", "vertical"]


@dataclass(slots=True, frozen=True)
class Turn:
    """What makes a picture upright: first turned clockwise, then mirrored."""

    degrees: Degrees = 0
    flip: Flip | None = None


@dataclass(slots=True, frozen=True)
class Frame:
    """One picture, as the source delivered it.

    The pipeline decodes it, so a frame that a newer one replaces costs nothing. ``data`` is, by
    ``encoding``:

    - ``bgr``: uint8 (H, W, 3)
    - ``grey``: uint8 (H, W)
    - ``y16``: uint16 (H, W), infrared levels or depth in millimetres
    - ``f32``: float (H, W), depth in metres
    - ``yuyv``: uint8 (H, W, 2)
    - ``yu12``: uint8 (1.5 H, W), a plane of brightness and two small ones of colour (YUV420, I420)
    - ``mjpg``: uint8 (n,), the camera's own JPEG bytes
    """

    data: NDArray[Any]
    encoding: Encoding
    captured_s: float  # CLOCK_MONOTONIC, seconds
    captured_at: float  # wall clock, seconds since 1970
    wait_ms: float = 0.0  # how long the reader waited for it
    decode_ms: float = 0.0  # how long the source decoded it
    dropped: int = 0  # frames replaced by newer ones since the source was opened
    file: str | None = None  # of a picture: its path relative to the source
    frozen: bool = False  # the camera repeats its last picture
    turn: Turn | None = None  # how ``data`` must be turned; None: it is upright
    check_ms: float = 0.0  # what the check for a frozen camera took
    video_s: float | None = None  # time inside a recording that is not paced by the clock


def _doc(text: str, **schema: Any) -> Any:
    """A field with its description and limits in the JSON schema."""
    return field(metadata={"schema": {"description": text, **schema}})


def _optional(text: str, default: Any = None, **schema: Any) -> Any:
    """A field that a record may lack: it is left out when it is None."""
    metadata = {"schema": {"description": text, "optional": True, **schema}}
    return field(default=default, metadata=metadata)


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
    """Milliseconds that one frame spent in each stage. ``total`` does not include ``wait``."""

    wait: float = _doc("waiting for the camera", minimum=0)
    decode: float = _doc("JPEG or video decode, colour conversion", minimum=0)
    preprocess: float = _doc("resize to the encoder's input", minimum=0)
    encode: float = _doc("image encoder", minimum=0)
    score: float = _doc("similarity, softmax, thresholds", minimum=0)
    total: float = _doc("decode to score", minimum=0)
    check: float = _optional("frozen? flat? part of total", default=0.0, minimum=0)


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
    strange_view: bool | None = _optional(
        "true where the view shows nothing that a label could be right about: the frame votes only "
        "for labels with any_view, and for labels that pictures taught"
    )
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
        "true while nothing has set the wall clock: trust seq and mono_s, not time",
        # Never null in a record, but edge-label/1 was published with it.
        type=["boolean", "null"],
    )

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types in the documented order. Optional fields that are None are left out."""
        record: dict[str, Any] = {"schema": SCHEMA}
        for name in _RECORD_FIELDS:
            value = getattr(self, name)
            if value is not None or name not in _OPTIONAL_FIELDS:
                record[name] = value

        # Written out, because dataclasses.asdict copies every value and this runs for every frame.
        record["labels"] = [
            {"name": s.name, "score": s.score, "margin": s.margin, "on": s.on} for s in self.labels
        ]
        if self.events is not None:
            record["events"] = [
                {"name": e.name, "on": e.on, "lasted_s": e.lasted_s} for e in self.events
            ]
        record["ms"] = {name: getattr(self.ms, name) for name in _STAGES}
        return record

    def to_json(self) -> str:
        """One line of strict JSON: no NaN, no newline inside, every control character escaped.

        Raises ValueError for NaN and infinity.
        """
        return json_printable(_one_line(self.to_dict()))


_one_line = json.JSONEncoder(allow_nan=False, ensure_ascii=False, separators=(",", ":")).encode
_RECORD_FIELDS = tuple(f.name for f in fields(LabelRecord))
_OPTIONAL_FIELDS = frozenset(
    f.name for f in fields(LabelRecord) if f.metadata["schema"].get("optional")
)
_STAGES = tuple(f.name for f in fields(StageTimes))


@dataclass(frozen=True, slots=True)
class LabelledFrame:
    """A record, with the frame and the embedding that it was made from.

    Attributes:
        record: What the sinks write.
        frame: The frame after privacy; None where there was no frame (state ``stale``).
        embedding: float32 (dim,) of unit norm; None where the frame did not decode.
    """

    record: LabelRecord
    frame: Frame | None = None
    embedding: NDArray[np.float32] | None = None


def utc_iso(epoch_s: float) -> str:
    """Wall time as in the record: ISO 8601, UTC, milliseconds."""
    moment = datetime.fromtimestamp(epoch_s, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


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


_JSON_TYPES = {int: "integer", float: "number", str: "string", bool: "boolean"}


def _object_schema(cls: type) -> dict[str, Any]:
    """Schema of a dataclass above: one property for each field, from its type and its `_doc`."""
    hints = get_type_hints(cls)
    properties = {}
    required = []
    for f in fields(cls):
        doc = dict(f.metadata["schema"])
        optional = doc.pop("optional", False)
        if not optional:
            required.append(f.name)
        properties[f.name] = {**_type_schema(hints[f.name], nullable=not optional), **doc}

    return {
        "type": "object",
        "properties": properties,
        "required": required,
        "additionalProperties": False,
    }


def _type_schema(hint: Any, *, nullable: bool) -> dict[str, Any]:
    """Schema of a value. None is null in JSON where ``nullable``; else the field is left out."""
    if NoneType in get_args(hint):
        (inner,) = [part for part in get_args(hint) if part is not NoneType]
        schema = _type_schema(inner, nullable=nullable)
        if nullable:
            schema["type"] = [schema["type"], "null"]
        return schema

    if get_origin(hint) is Literal:
        return {"enum": list(get_args(hint))}
    if get_origin(hint) is tuple:
        return {"type": "array", "items": _object_schema(get_args(hint)[0])}
    if hint in _JSON_TYPES:
        return {"type": _JSON_TYPES[hint]}
    return _object_schema(hint)
