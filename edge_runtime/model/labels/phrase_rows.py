"""Embeddings of phrases the text bank lacks, kept beside the label set that needs them: my.yaml -> my.embeddings.

One JSON line that says what follows, then the rows as ``.npy``. Written by ``edge-label labels build``, read by the
daemon, so that the daemon needs no text encoder. A file of another text space, or half a file, is refused.
"""

from __future__ import annotations

import io
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge_runtime.errors import BundleError, ConfigError
from edge_runtime.model.npy import read_embeddings
from edge_runtime.system.digest import sha256_hex
from edge_runtime.system.files import is_special, write_atomically

SCHEMA = "edge-label-phrases/1"
MAX_BYTES = 256 << 20


_BEGINNING = f'{{"schema": "{SCHEMA}"'.encode()


@dataclass(frozen=True, slots=True)
class PhraseRows:
    """``rows`` is float16 (phrases, dim), unit norm; ``encoder`` made all of them, ``approximate`` or exactly.

    ``pictured`` are phrases whose rows were made from pictures instead (tools.calibrate); a build keeps them.
    ``request`` is a hash over everything the rows depend on: equal hashes mean there is nothing to build.
    """

    phrases: tuple[str, ...]
    rows: NDArray[np.float16]
    encoder: str
    approximate: bool
    text_space: str
    request: str
    pictured: tuple[str, ...] = ()

    def write(self, path: Path) -> None:
        """Write atomically; equal content gives equal bytes. Raises DataError."""
        array = io.BytesIO()
        np.save(array, self.rows, allow_pickle=False)
        head = {
            "schema": SCHEMA,
            "text_space": self.text_space,
            "encoder": self.encoder,
            "approximate": self.approximate,
            "request": self.request,
            "sha256": sha256_hex(array.getvalue()),
            "phrases": list(self.phrases),
            "pictured": list(self.pictured),
        }
        write_atomically(
            path, json.dumps(head, ensure_ascii=False).encode() + b"\n" + array.getvalue()
        )

    @classmethod
    def read(cls, path: Path) -> PhraseRows | None:
        """The file's rows, None where there is no file. Raises ConfigError for anything but a whole file."""
        try:
            if is_special(path):
                raise ConfigError(
                    f"{path}: not a file", "remove it and run: edge-label labels build"
                )
            if path.stat().st_size > MAX_BYTES:
                raise ConfigError(
                    f"{path}: more than {MAX_BYTES >> 20} MB",
                    "remove it and run: edge-label labels build",
                )
            head, _, array = path.read_bytes().partition(b"\n")
        except FileNotFoundError:
            return None
        except OSError as error:
            raise ConfigError(f"{path}: cannot read: {error.strerror}") from None
        try:
            meta = json.loads(head)
            if meta["schema"] != SCHEMA or meta["sha256"] != sha256_hex(array):
                raise ValueError("schema or hash do not match")
            phrases = tuple(str(phrase) for phrase in meta["phrases"])
            rows = read_embeddings(array, str(path))
            if len(rows) != len(phrases):
                raise ValueError(f"{len(phrases)} phrases, {len(rows)} rows")
            texts = (str(meta[key]) for key in ("encoder", "text_space", "request"))
            encoder, space, request = texts
            pictured = tuple(str(phrase) for phrase in meta["pictured"])
            return cls(phrases, rows, encoder, bool(meta["approximate"]), space, request, pictured)
        except (ValueError, KeyError, TypeError, RecursionError, BundleError) as error:
            raise ConfigError(
                f"{path}: damaged ({error})", f"run: edge-label labels build {_yaml_of(path)}"
            ) from None


def remove_rows(path: Path) -> None:
    """Remove a file that an earlier build made. Raises ConfigError for one that no build made."""
    refuse_other_file(path)
    path.unlink(missing_ok=True)


def refuse_other_file(path: Path) -> None:
    """Raises ConfigError for a file that is there and does not begin as ours do, damaged ones included."""
    try:
        with path.open("rb") as stream:
            beginning = stream.read(len(_BEGINNING))
    except FileNotFoundError:
        return
    if not _BEGINNING.startswith(beginning):
        raise ConfigError(
            f"{path}: was not made by edge-label labels build", "move it away, its place is needed"
        )


def rows_path(label_set: Path) -> Path:
    """Where the rows of a label set stand: ``my.yaml`` -> ``my.embeddings``."""
    return label_set.with_suffix(".embeddings")


def _yaml_of(path: Path) -> str:
    return str(path.with_suffix(".yaml"))
