"""A model bundle: one directory, verified by sha256 before a byte of it is used.

Each file is read once, hashed, and handed on as those verified bytes, so nothing can change between
the check and the use. Parts of two bundles do not mix: their hashes and text spaces differ.
``manifest.py`` says what a manifest may hold; docs/bundle.md lists all limits.
"""

from __future__ import annotations

import os
import re
import stat
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from edge_runtime.errors import BundleError, NoInputError
from edge_runtime.model.manifest import (
    ENCODER,
    MAX_FILE_BYTES,
    MAX_MANIFEST_BYTES,
    Manifest,
    parse_manifest,
)
from edge_runtime.model.onnx_bytes import refuse_external_data
from edge_runtime.system.digest import sha256_hex

DEFAULT_NAME = "edge-clip"
DEFAULT_STORE = Path("/var/lib/edge-label-bundles")  # `bundle install` fills it; root owns it
FORMER_STORE = Path("/var/lib/edge-label/bundles")  # until 0.1, where the service could write


@dataclass(frozen=True, slots=True)
class Bundle:
    """A bundle whose manifest is read. ``read`` checks a file against the manifest each time."""

    path: Path
    manifest: Manifest

    def read(self, name: str) -> bytes:
        """Verified bytes of one file of the manifest. Raises BundleError if missing or altered."""
        if name not in self.manifest.files:
            known = ", ".join(sorted(self.manifest.files))
            raise BundleError(f"{self.path}: the manifest has no '{name}'", f"it lists {known}")

        sha256, size = self.manifest.files[name]
        return read_verified(self.path, name, sha256, size)

    def encoder_bytes(self) -> bytes:
        """encoder.onnx, verified and free of external data. Raises BundleError."""
        data = self.read(ENCODER)
        refuse_external_data(data, str(self.path / ENCODER))
        return data

    def label_sets(self) -> list[str]:
        """Names of the label sets that ship with the bundle."""
        return sorted(
            PurePosixPath(name).stem
            for name in self.manifest.files
            if re.fullmatch(r"labels/[^/]+\.yaml", name)
        )

    def verify(self) -> int:
        """Read and hash every file. Returns their total size in bytes.

        Raises BundleError at the first fault.
        """
        others = [name for name in self.manifest.files if name != ENCODER]
        return len(self.encoder_bytes()) + sum(len(self.read(name)) for name in others)


def load_bundle(path: Path) -> Bundle:
    """Read and check the manifest; the other files are verified as they are read.

    Raises NoInputError where there is no directory, BundleError for a manifest that is not usable.
    """
    if not path.is_dir():
        raise NoInputError(f"{path}: no such bundle directory", "check --bundle")

    file = path / "manifest.json"
    data = _read_file(file, MAX_MANIFEST_BYTES)
    return Bundle(path, parse_manifest(data, str(file)))


def read_verified(folder: Path, name: str, sha256: str, size: int) -> bytes:
    """Bytes of ``folder/name``, of this size and hash. Raises BundleError if missing or altered."""
    # Path.resolve would raise ValueError for it, which nobody expects from a path.
    if "\0" in name:
        raise BundleError(f"{folder}: the manifest names a file with a NUL byte", "reinstall it")

    path = folder / name
    if not path.resolve().is_relative_to(folder.resolve()):
        raise BundleError(f"{path}: points outside its folder", "reinstall it")

    data = _read_file(path, MAX_FILE_BYTES, size)
    if sha256_hex(data) != sha256:
        raise BundleError(
            f"{path}: altered (sha256 does not match the manifest)", "reinstall the bundle"
        )
    return data


def _read_file(path: Path, limit: int, promised: int | None = None) -> bytes:
    """All bytes of a file: at most ``limit``, and exactly ``promised`` where that is not None."""
    # O_NONBLOCK: a pipe that lies where the file should be must not be waited for.
    flags = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        with os.fdopen(os.open(path, flags), "rb") as file:
            facts = os.fstat(file.fileno())
            if not stat.S_ISREG(facts.st_mode):
                raise BundleError(f"{path}: is not a file", "reinstall the bundle")
            _check_size(path, facts.st_size, limit, promised)
            return file.read(facts.st_size)
    except FileNotFoundError as error:
        raise BundleError(f"{path}: missing", "reinstall the bundle") from error
    except OSError as error:
        raise BundleError(f"{path}: cannot read: {error.strerror}") from error


def _check_size(path: Path, size: int, limit: int, promised: int | None) -> None:
    if promised is not None and size != promised:
        raise BundleError(
            f"{path}: {size} bytes, the manifest says {promised}", "reinstall the bundle"
        )
    if size > limit:
        raise BundleError(
            f"{path}: {size} bytes, the limit is {limit >> 20} MB", "reinstall the bundle"
        )


def find_bundle(path: str | None = None, *, excluded_store: Path | None = None) -> Path:
    """The bundle directory: ``path``, else $EDGE_LABEL_BUNDLE, else the first of the usual places.

    ``excluded_store`` is a store whose bundles do not count, even if the path names one of them.
    Raises NoInputError with the places that were looked at.
    """
    named = path or os.environ.get("EDGE_LABEL_BUNDLE")
    if named:
        if excluded_store is not None and Path(named).parent == excluded_store:
            raise NoInputError(f"{excluded_store}: it holds no other bundle")
        if not Path(named).is_dir():
            raise NoInputError(f"{named}: no such bundle directory", "check --bundle")
        return Path(named)

    places = [
        DEFAULT_STORE / "current",
        FORMER_STORE / "current",
        *checkout_models(DEFAULT_NAME),
        Path("/usr/share/edge-label/models") / DEFAULT_NAME,
    ]
    for place in places:
        # The former store is open to the service alone. os.access says False there for any other
        # user, where Path.is_file may raise PermissionError.
        if place.parent != excluded_store and os.access(place / "manifest.json", os.R_OK):
            return place

    raise NoInputError(
        f"no model bundle found in {', '.join(str(place) for place in places)}",
        f"copy models/{DEFAULT_NAME} from the edge-label repository to one of them, "
        "or give --bundle DIR",
    )


def checkout_models(name: str) -> list[Path]:
    """``models/NAME`` of a checkout of this repository: the working directory's, then this file's.

    A working directory that is no checkout gives nothing: it may be a stranger's USB stick.
    """
    ours = Path(__file__).resolve().parents[2]
    return [root / "models" / name for root in (Path(), ours) if _is_checkout(root)]


def _is_checkout(root: Path) -> bool:
    try:
        with (root / "pyproject.toml").open("rb") as file:
            named = b'name = "edge-label"\n' in file.read(4096)
        return named and (root / "edge_runtime" / "cli.py").is_file()
    except OSError:
        return False
