"""manifest.json: what a bundle says about itself, checked field by field.

``parse_manifest`` takes bytes. No file is opened here: ``bundle.py`` reads and verifies them.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any

from edge_runtime.errors import BundleError
from edge_runtime.model.npy import MAX_DIM
from edge_runtime.records import Modality
from edge_runtime.version import __version__

SCHEMA = "edge-label-bundle/1"
ENCODER = "encoder.onnx"
REQUIRED_FILES = (ENCODER, "text_bank.npy", "text_bank.json")

MAX_MANIFEST_BYTES = 1 << 20
MAX_FILE_BYTES = 512 << 20  # a CLIP ViT-B/32 tower in float32 is 350 MB
MIN_SIDE = 16  # pixels of the encoder's input
MAX_SIDE = 1024
DEFAULT_THRESHOLD = 0.35  # of a manifest that gives none


@dataclass(frozen=True, slots=True)
class InputSpec:
    """The input of the encoder: uint8 RGB, batch 1. Mean and std are folded into the graph."""

    name: str
    layout: str  # NHWC or NCHW
    size: tuple[int, int]  # height, width
    resize: str  # squash: the whole frame; crop: the largest square in its centre
    modalities: tuple[Modality, ...]

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """(1, H, W, 3) or (1, 3, H, W)."""
        height, width = self.size
        return (1, height, width, 3) if self.layout == "NHWC" else (1, 3, height, width)


@dataclass(frozen=True, slots=True)
class StrangeSpec:
    """Where ordinary views end; `model.strange` reads it."""

    encoder: str | None  # sha256 of the encoder that it was fitted for
    contrast: float  # how much the contrast counts
    limit: float


@dataclass(frozen=True, slots=True)
class Manifest:
    """The fields that the runtime acts on. ``raw`` keeps all of them for ``bundle info``."""

    name: str
    version: str
    input: InputSpec
    embedding_name: str
    dim: int
    logit_scale: float
    text_space: str
    templates: tuple[str, ...]
    threshold: float
    strange_views: StrangeSpec | None  # None where the bundle has none
    files: dict[str, tuple[str, int]]  # name -> sha256 in hex, size in bytes
    raw: dict[str, Any] = field(repr=False)

    @property
    def id(self) -> str:
        """``name-version``, as in every record."""
        return f"{self.name}-{self.version}"


def parse_manifest(data: bytes, where: str) -> Manifest:
    """The manifest in these bytes. Raises BundleError that begins with ``where``."""
    try:
        raw = json.loads(data, parse_constant=_refuse_constant)
        manifest = _manifest(raw)
        minimum = _version(raw.get("minimum_runtime", "0"))
    except KeyError as error:
        raise BundleError(
            f"{where}: {error} is missing", "this is not a complete bundle"
        ) from error
    except (ValueError, TypeError, AttributeError, RecursionError, OverflowError) as error:
        raise BundleError(
            f"{where}: {error or 'not a manifest'}", "reinstall the bundle"
        ) from error

    if minimum > version_tuple(__version__):
        raise BundleError(
            f"{where}: needs edge-label {raw['minimum_runtime']}, this is {__version__}",
            "upgrade edge-label",
        )
    return manifest


def _refuse_constant(name: str) -> None:
    # json reads NaN and Infinity, which are no JSON and pass many a comparison.
    raise ValueError(f"{name} is not a number")


def _manifest(raw: dict[str, Any]) -> Manifest:
    if raw["schema"] != SCHEMA:
        raise ValueError(f"schema {raw['schema']!r} is not {SCHEMA}")

    return Manifest(
        name=_word(raw["name"]),
        version=_word(raw["version"]),
        input=_input_spec(raw["input"]),
        embedding_name=str(raw["embedding"]["name"]),
        dim=_whole("embedding dim", raw["embedding"]["dim"], 1, MAX_DIM),
        logit_scale=_number("logit_scale", raw["logit_scale"], 0.1, 1000),
        text_space=str(raw["text_space"]),
        templates=_templates(raw["templates"]),
        threshold=_number("threshold", raw.get("threshold", DEFAULT_THRESHOLD), 0, 1),
        strange_views=_strange_spec(raw["strange_views"]) if "strange_views" in raw else None,
        files=_files(raw["files"]),
        raw=raw,
    )


def _files(entries: dict[str, Any]) -> dict[str, tuple[str, int]]:
    files = {}
    for name, entry in dict(entries).items():
        size = _whole(f"size of {name}", entry["size"], 0, MAX_FILE_BYTES)
        files[str(name)] = (str(entry["sha256"]), size)

    for name in files:
        path = PurePosixPath(name)
        if path.is_absolute() or ".." in path.parts or "\\" in name or not name.isprintable():
            raise ValueError(f"file name {name!r} points outside the bundle")

    for name in REQUIRED_FILES:
        if name not in files:
            raise ValueError(f"'{name}' is not among its files")
    return files


def _input_spec(spec: dict[str, Any]) -> InputSpec:
    if spec["layout"] not in ("NHWC", "NCHW") or spec["dtype"] != "uint8":
        raise ValueError(f"input {spec['layout']} {spec['dtype']} is not uint8 NHWC or NCHW")
    if spec["resize"] not in ("squash", "crop"):
        raise ValueError(f"input resize {spec['resize']!r} is not squash or crop")

    height, width = (_whole("input size", side, MIN_SIDE, MAX_SIDE) for side in spec["size"])

    modalities = tuple(spec["modalities"])
    if not modalities or not set(modalities) <= {"rgb", "ir", "depth"}:
        raise ValueError(f"input modalities {modalities} are not of rgb, ir, depth")

    return InputSpec(str(spec["name"]), spec["layout"], (height, width), spec["resize"], modalities)


def _strange_spec(spec: dict[str, Any]) -> StrangeSpec:
    return StrangeSpec(
        encoder=spec.get("encoder"),
        contrast=_number("strange_views contrast", spec.get("contrast", 0), -10, 10),
        limit=_number("strange_views limit", spec["limit"], -10, 10),
    )


def _templates(values: list[Any]) -> tuple[str, ...]:
    templates = tuple(str(value) for value in values)
    if not templates or any(template.count("{}") != 1 for template in templates):
        raise ValueError("every template must hold {} once")
    return templates


def _number(name: str, value: object, low: float, high: float) -> float:
    """A number from ``low`` to ``high``. NaN is in no range."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        raise ValueError(f"{name} {value!r} is not a number from {low:g} to {high:g}")
    return float(value)


def _whole(name: str, value: object, low: int, high: int) -> int:
    # bool is a kind of int: without the first test, true would be 1.
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise ValueError(f"{name} {value!r} is not a whole number from {low} to {high}")
    return value


def _word(value: object) -> str:
    """A name or version. Folders in the store are named after it, so little is allowed."""
    if not isinstance(value, str) or not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,63}", value):
        raise ValueError(f"{value!r} is not a plain name or version")
    return value


def _version(value: object) -> tuple[int, ...]:
    text = str(value)
    if not text[:1].isdigit():
        raise ValueError(f"minimum_runtime {text!r} is not a version")
    return version_tuple(text)


def version_tuple(version: str) -> tuple[int, ...]:
    """The numbers of a version, which sort as versions do. What follows them is ignored."""
    match = re.match(r"\d+(\.\d+)*", version)
    return tuple(int(part) for part in match[0].split(".")) if match else (0,)
