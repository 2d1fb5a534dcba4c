"""A model bundle: one directory, verified by sha256 before a byte of it is used.

Files are read once, hashed, and handed on as those verified bytes, so nothing can change between the check and
the use. Mixing parts of two bundles fails here, by hash and by text-space id.
"""

from __future__ import annotations

import json
import os
import re
import stat
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from edge_runtime.errors import BundleError, NoInputError
from edge_runtime.model.onnx_bytes import refuse_external_data
from edge_runtime.records import Modality
from edge_runtime.system.digest import sha256_hex
from edge_runtime.version import __version__

SCHEMA = "edge-label-bundle/1"
DEFAULT_NAME = "edge-clip"
DEFAULT_STORE = Path("/var/lib/edge-label-bundles")  # what `bundle install` fills; root's own
FORMER_STORE = Path(
    "/var/lib/edge-label/bundles"
)  # where it was until 0.1: the service could write there
MAX_FILE_BYTES = 512 << 20  # a CLIP ViT-B/32 tower in float32 is 350 MB
MAX_MANIFEST_BYTES = 1 << 20
MAX_DIM = 8192
REQUIRED_FILES = ("encoder.onnx", "text_bank.npy", "text_bank.json")


@dataclass(frozen=True, slots=True)
class InputSpec:
    """What the encoder wants: uint8 RGB, batch 1; mean and std are folded into the graph."""

    name: str
    layout: str  # NHWC or NCHW
    size: tuple[int, int]  # height, width
    resize: str  # squash: whole frame to the square; crop: short side, then the centre
    modalities: tuple[Modality, ...]

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """(1, H, W, 3) or (1, 3, H, W)."""
        height, width = self.size
        return (1, height, width, 3) if self.layout == "NHWC" else (1, 3, height, width)


@dataclass(frozen=True, slots=True)
class Manifest:
    """The parts of manifest.json the runtime acts on; ``raw`` keeps all of it for ``bundle info``."""

    name: str
    version: str
    input: InputSpec
    embedding_name: str
    dim: int
    logit_scale: float
    text_space: str
    templates: tuple[str, ...]
    threshold: float
    files: dict[str, tuple[str, int]]
    raw: dict[str, Any] = field(repr=False)

    @property
    def id(self) -> str:
        """``name-version``, as in every record."""
        return f"{self.name}-{self.version}"


@dataclass(frozen=True, slots=True)
class Bundle:
    """A verified bundle. ``read`` gives a file's bytes, checked against the manifest each time."""

    path: Path
    manifest: Manifest

    def read(self, name: str) -> bytes:
        """Verified bytes of one file of the manifest. Raises BundleError if missing or altered."""
        if name not in self.manifest.files:
            known = ", ".join(sorted(self.manifest.files))
            raise BundleError(f"{self.path}: the manifest has no '{name}'", f"it lists {known}")
        return read_verified(self.path, name, *self.manifest.files[name])

    def encoder_bytes(self) -> bytes:
        """encoder.onnx, verified and free of external data."""
        data = self.read("encoder.onnx")
        refuse_external_data(data, str(self.path / "encoder.onnx"))
        return data

    def label_sets(self) -> list[str]:
        """Names of the label sets that ship with the bundle."""
        return sorted(
            PurePosixPath(name).stem
            for name in self.manifest.files
            if re.fullmatch(r"labels/[^/]+\.yaml", name)
        )

    def verify(self) -> int:
        """Read and hash every file; returns their total size in bytes. Raises BundleError at the first fault."""
        total = sum(len(self.read(name)) for name in self.manifest.files)
        self.encoder_bytes()
        return total


def read_verified(folder: Path, name: str, expected: str, size: int) -> bytes:
    """Bytes of ``folder/name``, checked against size and hash. Raises BundleError if missing or altered."""
    if "\0" in name:
        raise BundleError(f"{folder}: the manifest names a file with a NUL byte", "reinstall it")
    path = folder / name
    if not path.resolve().is_relative_to(folder.resolve()):
        raise BundleError(f"{path}: leads out of its folder", "reinstall it")
    data = _read_capped(path, size)
    if sha256_hex(data) != expected:
        raise BundleError(
            f"{path}: altered (sha256 does not match the manifest)", "reinstall the bundle"
        )
    return data


def find_bundle(wanted: str | None = None, *, besides: Path | None = None) -> Path:
    """The bundle directory: as given, else $EDGE_LABEL_BUNDLE, else the first of the usual places.

    ``besides`` leaves out the store of that folder, also where it was given by name.
    Raises NoInputError with the places looked at.
    """
    given = wanted or os.environ.get("EDGE_LABEL_BUNDLE")
    if given:
        if besides is not None and Path(given).parent == besides:
            raise NoInputError(f"{besides}: it is the first one in this store")
        if not Path(given).is_dir():
            raise NoInputError(f"{given}: no such bundle directory", "check --bundle")
        return Path(given)
    places = [
        DEFAULT_STORE / "current",
        FORMER_STORE / "current",
        *checkout_models(DEFAULT_NAME),
        Path("/usr/share/edge-label/models") / DEFAULT_NAME,
    ]
    for place in places:
        if place.parent == besides:
            continue
        if os.access(
            place / "manifest.json", os.R_OK
        ):  # the former store is closed to all users but the service's
            return place
    raise NoInputError(
        f"no model bundle found in {', '.join(str(p) for p in places)}",
        f"copy models/{DEFAULT_NAME} from the edge-label repository to one of them, or give --bundle DIR",
    )


def checkout_models(name: str) -> list[Path]:
    """``models/NAME`` of a checkout of this repository: the one we run from, or the one the user stands in.

    Of any other folder nothing is taken: it may be a stranger's stick.
    """
    ours = Path(__file__).resolve().parents[2]
    return [root / "models" / name for root in (Path(), ours) if _is_checkout(root)]


def _is_checkout(root: Path) -> bool:
    try:
        with (root / "pyproject.toml").open("rb") as file:
            return (
                b'name = "edge-label"\n' in file.read(4096)
                and (root / "edge_runtime" / "cli.py").is_file()
            )
    except OSError:
        return False


def load_bundle(path: Path) -> Bundle:
    """Read and check the manifest; the files are verified as they are read. Raises NoInputError, BundleError."""
    if not path.is_dir():
        raise NoInputError(f"{path}: no such bundle directory", "check --bundle")
    where = path / "manifest.json"
    data = _read_capped(where, None)
    try:
        raw = json.loads(data, parse_constant=_refuse_constant)
        manifest = _manifest(raw)
        _check_runtime(str(raw.get("minimum_runtime", "0")), where)
    except KeyError as error:
        raise BundleError(f"{where}: {error} is missing", "this is not a complete bundle") from None
    except (ValueError, TypeError, AttributeError, RecursionError, OverflowError) as error:
        raise BundleError(f"{where}: {error or 'not a manifest'}", "reinstall the bundle") from None
    return Bundle(path, manifest)


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not a number")


def _manifest(raw: dict[str, Any]) -> Manifest:
    if raw["schema"] != SCHEMA:
        raise ValueError(f"schema {raw['schema']!r} is not {SCHEMA}")
    files = {
        str(name): (
            str(entry["sha256"]),
            _whole(f"size of {name}", entry["size"], 0, MAX_FILE_BYTES),
        )
        for name, entry in dict(raw["files"]).items()
    }
    for name in files:
        parts = PurePosixPath(name)
        if parts.is_absolute() or ".." in parts.parts or "\\" in name or not name.isprintable():
            raise ValueError(f"file name {name!r} leads out of the bundle")
    for name in REQUIRED_FILES:
        if name not in files:
            raise ValueError(f"'{name}' is not among its files")
    spec = raw["input"]
    if spec["layout"] not in ("NHWC", "NCHW") or spec["dtype"] != "uint8":
        raise ValueError(f"input {spec['layout']} {spec['dtype']} is not uint8 NHWC or NCHW")
    if spec["resize"] not in ("squash", "crop"):
        raise ValueError(f"input resize {spec['resize']!r} is not squash or crop")
    height, width = (_whole("input size", side, 16, 1024) for side in spec["size"])
    modalities = tuple(spec["modalities"])
    if not modalities or not set(modalities) <= {"rgb", "ir", "depth"}:
        raise ValueError(f"input modalities {modalities} are not of rgb, ir, depth")
    templates = tuple(str(t) for t in raw["templates"])
    if not templates or any(t.count("{}") != 1 for t in templates):
        raise ValueError("every template must hold {} once")
    return Manifest(
        name=_word(raw["name"]),
        version=_word(raw["version"]),
        input=InputSpec(
            str(spec["name"]), spec["layout"], (height, width), spec["resize"], modalities
        ),
        embedding_name=str(raw["embedding"]["name"]),
        dim=_whole("embedding dim", raw["embedding"]["dim"], 1, MAX_DIM),
        logit_scale=_number("logit_scale", raw["logit_scale"], 0.1, 1000),
        text_space=str(raw["text_space"]),
        templates=templates,
        threshold=_number("threshold", raw.get("threshold", 0.35), 0, 1),
        files=files,
        raw=raw,
    )


def _number(name: str, value: object, low: float, high: float) -> float:
    """A number from ``low`` to ``high``. NaN is in no range."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        raise ValueError(f"{name} {value!r} is not a number from {low:g} to {high:g}")
    return float(value)


def _whole(name: str, value: object, low: int, high: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise ValueError(f"{name} {value!r} is not a whole number from {low} to {high}")
    return value


def _word(value: object) -> str:
    if not isinstance(value, str) or not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,63}", value):
        raise ValueError(f"{value!r} is not a plain name or version")
    return value


def version_tuple(version: str) -> tuple[int, ...]:
    """Semantic version to a tuple that sorts; a pre-release suffix is ignored."""
    match = re.match(r"\d+(\.\d+)*", version)
    return tuple(int(part) for part in match[0].split(".")) if match else (0,)


def _check_runtime(minimum: str, where: Path) -> None:
    if not minimum[:1].isdigit():
        raise ValueError(f"minimum_runtime {minimum!r} is not a version")
    if version_tuple(minimum) > version_tuple(__version__):
        raise BundleError(
            f"{where}: needs edge-label {minimum}, this is {__version__}", "upgrade edge-label"
        )


def _read_capped(path: Path, expected: int | None) -> bytes:
    cap = MAX_MANIFEST_BYTES if expected is None else MAX_FILE_BYTES
    try:
        fd = os.open(
            path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC
        )  # a pipe in its place is not waited for
        with os.fdopen(fd, "rb") as file:
            facts = os.fstat(fd)
            if not stat.S_ISREG(facts.st_mode):
                raise BundleError(f"{path}: is not a file", "reinstall the bundle")
            size = facts.st_size
            if expected is not None and size != expected:
                raise BundleError(
                    f"{path}: {size} bytes, the manifest says {expected}", "reinstall the bundle"
                )
            if size > cap:
                raise BundleError(
                    f"{path}: {size >> 20} MB is more than a bundle file may have ({cap >> 20} MB)"
                )
            return file.read(size)
    except FileNotFoundError:
        raise BundleError(f"{path}: missing", "reinstall the bundle") from None
    except OSError as error:
        raise BundleError(f"{path}: cannot read: {error.strerror}") from None
