"""Embeddings of phrases that the text bank lacks, beside their label set: my.yaml -> my.embeddings.

The file is one JSON line that describes it, then the rows as ``.npy``. ``edge-label labels build``
writes it and the daemon reads it, so the daemon needs no text encoder. A file of another text
space, or half a file, is refused.
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

# Every file of ours starts so, damaged ones included: no other file is ever removed or replaced.
_BEGINNING = f'{{"schema": "{SCHEMA}"'.encode()
_BUILD_AGAIN = "remove it and run: edge-label labels build"


@dataclass(frozen=True, slots=True)
class PhraseRows:
    """Phrases and their embeddings.

    Attributes:
        phrases: One a row.
        rows: float16, shape (phrases, dim), unit norm.
        encoder: What made the rows, with a hash where there is one.
        approximate: True where the encoder only estimates the bundle's text space.
        text_space: The space of the rows; a bundle of another space refuses them.
        request: A hash over everything the rows depend on: an equal one means nothing to build.
        pictured: Phrases whose rows were made from pictures (tools.calibrate); a build keeps them.
    """

    phrases: tuple[str, ...]
    rows: NDArray[np.float16]
    encoder: str
    approximate: bool
    text_space: str
    request: str
    pictured: tuple[str, ...] = ()

    def write(self, path: Path) -> None:
        """Write atomically; equal content gives equal bytes.

        Raises DataError, and ConfigError where a file is in the way that no build made.
        """
        refuse_other_file(path)
        stream = io.BytesIO()
        np.save(stream, self.rows, allow_pickle=False)
        array = stream.getvalue()

        head = {
            "schema": SCHEMA,
            "text_space": self.text_space,
            "encoder": self.encoder,
            "approximate": self.approximate,
            "request": self.request,
            "sha256": sha256_hex(array),
            "phrases": list(self.phrases),
            "pictured": list(self.pictured),
        }
        write_atomically(path, json.dumps(head, ensure_ascii=False).encode() + b"\n" + array)

    @classmethod
    def read(cls, path: Path) -> PhraseRows | None:
        """The file's rows, None where there is no file.

        Raises ConfigError for anything but a whole file of ours.
        """
        data = _read_bytes(path)
        if data is None:
            return None

        try:
            return cls._parse(data, path)
        except (ValueError, KeyError, TypeError, RecursionError, BundleError) as error:
            label_set = path.with_suffix(".yaml")
            raise ConfigError(
                f"{path}: damaged ({error})", f"run: edge-label labels build {label_set}"
            ) from error

    @classmethod
    def _parse(cls, data: bytes, path: Path) -> PhraseRows:
        head, _, array = data.partition(b"\n")
        meta = json.loads(head)
        if meta["schema"] != SCHEMA or meta["sha256"] != sha256_hex(array):
            raise ValueError("schema or hash do not match")

        phrases = tuple(str(phrase) for phrase in meta["phrases"])
        rows = read_embeddings(array, str(path))
        if len(rows) != len(phrases):
            raise ValueError(f"{len(phrases)} phrases, {len(rows)} rows")

        return cls(
            phrases=phrases,
            rows=rows,
            encoder=str(meta["encoder"]),
            approximate=bool(meta["approximate"]),
            text_space=str(meta["text_space"]),
            request=str(meta["request"]),
            pictured=tuple(str(phrase) for phrase in meta["pictured"]),
        )


def _read_bytes(path: Path) -> bytes | None:
    try:
        if is_special(path):
            raise ConfigError(f"{path}: not a file", _BUILD_AGAIN)
        if path.stat().st_size > MAX_BYTES:
            raise ConfigError(f"{path}: more than {MAX_BYTES >> 20} MB", _BUILD_AGAIN)
        return path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ConfigError(f"{path}: cannot read: {error.strerror}") from error


def remove_rows(path: Path) -> None:
    """Remove a file that an earlier build made. Raises ConfigError for one that no build made."""
    refuse_other_file(path)
    path.unlink(missing_ok=True)


def refuse_other_file(path: Path) -> None:
    """Raise ConfigError for a file that no build made. A damaged file of ours passes."""
    if is_special(path):  # opening a pipe would wait for somebody who writes to it
        raise ConfigError(f"{path}: not a file", _BUILD_AGAIN)

    try:
        with path.open("rb") as stream:
            beginning = stream.read(len(_BEGINNING))
    except FileNotFoundError:
        return

    if not _BEGINNING.startswith(beginning):
        raise ConfigError(
            f"{path}: was not made by edge-label labels build",
            "move it away, or rename the label set",
        )


def rows_path(label_set: Path) -> Path:
    """Where the rows of a label set are: ``my.yaml`` -> ``my.embeddings``."""
    return label_set.with_suffix(".embeddings")
