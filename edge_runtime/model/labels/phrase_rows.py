"""What stands beside a label set, my.yaml -> my.embeddings: rows of phrases, and what was taught.

The file is one JSON line that describes it, then rows of phrases that the text bank lacks, as
``.npy``, then what pictures taught (``taught.py``). ``edge-label labels build`` and ``learn`` write
it and the daemon reads it, so the daemon needs no text encoder and no pictures. A file of another
text space, or half a file, is refused.
"""

from __future__ import annotations

import io
import json
from collections.abc import Collection
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge_runtime.errors import BundleError, ConfigError
from edge_runtime.model.labels.taught import Teaching
from edge_runtime.model.npy import read_embeddings
from edge_runtime.system.digest import sha256_hex
from edge_runtime.system.files import is_special, write_atomically

SCHEMA = "edge-label-phrases/1"
TAUGHT_SCHEMA = "edge-label-phrases/2"  # with a teaching; without one the file is as it always was
MAX_BYTES = 256 << 20

# Every file of ours starts so, damaged ones included: no other file is ever removed or replaced.
_BEGINNING = b'{"schema": "edge-label-phrases/'
_BUILD_AGAIN = "remove it and run: edge-label labels build"

# What reading a damaged file may raise.
_DAMAGED = (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError)


@dataclass(frozen=True, slots=True)
class PhraseRows:
    """Phrases and their embeddings, and what pictures taught.

    Attributes:
        phrases: One a row.
        rows: float16, shape (phrases, dim), unit norm.
        encoder: What made the rows, with a hash where there is one.
        approximate: True where the encoder only estimates the bundle's text space.
        text_space: The space of the rows; a bundle of another space refuses them.
        request: A hash over everything the rows depend on: an equal one means nothing to build.
        pictured: Phrases whose rows were made from pictures (tools.calibrate); a build keeps them.
        teaching: What pictures taught the labels (``labels learn``); a build keeps it.
    """

    phrases: tuple[str, ...]
    rows: NDArray[np.float16]
    encoder: str
    approximate: bool
    text_space: str
    request: str
    pictured: tuple[str, ...] = ()
    teaching: Teaching | None = None

    @classmethod
    def none(cls, text_space: str, dim: int) -> PhraseRows:
        """No phrase at all, for a file that holds a teaching only."""
        return cls((), np.empty((0, dim), np.float16), "", False, text_space, "")

    def only(self, phrases: Collection[str]) -> PhraseRows:
        """The rows of these phrases, in the order in which they stand here."""
        places = [place for place, phrase in enumerate(self.phrases) if phrase in phrases]
        return replace(
            self, phrases=tuple(self.phrases[place] for place in places), rows=self.rows[places]
        )

    def write(self, path: Path) -> None:
        """Write atomically; equal content gives equal bytes.

        Raises DataError, and ConfigError where a file is in the way that no build made.
        """
        refuse_other_file(path)
        array = _npy(self.rows) if self.phrases else b""
        numbers = self.teaching.numbers() if self.teaching else b""

        head = {
            "schema": TAUGHT_SCHEMA if self.teaching else SCHEMA,
            "text_space": self.text_space,
            "encoder": self.encoder,
            "approximate": self.approximate,
            "request": self.request,
            "sha256": sha256_hex(array, numbers),
            "phrases": list(self.phrases),
            "pictured": list(self.pictured),
        }
        if self.teaching:
            head["taught"] = self.teaching.to_dict()
            head["taught_bytes"] = len(numbers)

        line = json.dumps(head, ensure_ascii=False).encode() + b"\n"
        write_atomically(path, line + array + numbers)

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
        except (*_DAMAGED, BundleError) as error:
            label_set = path.with_suffix(".yaml")
            raise ConfigError(
                f"{path}: damaged ({error})", f"run: edge-label labels build {label_set}"
            ) from error

    @classmethod
    def _parse(cls, data: bytes, path: Path) -> PhraseRows:
        head, _, body = data.partition(b"\n")
        meta = json.loads(head)
        if meta["schema"] not in (SCHEMA, TAUGHT_SCHEMA) or meta["sha256"] != sha256_hex(body):
            raise ValueError("schema or hash do not match")

        array = body
        teaching = None
        if meta["schema"] == TAUGHT_SCHEMA:
            split = len(body) - int(meta["taught_bytes"])
            array = body[:split]
            teaching = Teaching.from_dict(meta["taught"], body[split:])

        phrases = tuple(str(phrase) for phrase in meta["phrases"])
        rows = _rows(array, phrases, teaching, path)
        return cls(
            phrases=phrases,
            rows=rows,
            encoder=str(meta["encoder"]),
            approximate=bool(meta["approximate"]),
            text_space=str(meta["text_space"]),
            request=str(meta["request"]),
            pictured=tuple(str(phrase) for phrase in meta["pictured"]),
            teaching=teaching,
        )


def _npy(rows: NDArray[np.float16]) -> bytes:
    stream = io.BytesIO()
    np.save(stream, rows, allow_pickle=False)
    return stream.getvalue()


def _rows(
    array: bytes, phrases: tuple[str, ...], teaching: Teaching | None, path: Path
) -> NDArray[np.float16]:
    """The rows of the phrases; a file with a teaching may have none. Raises ValueError."""
    if teaching and not phrases and not array:
        return np.empty((0, teaching.groups[0].rows.shape[1]), np.float16)

    rows = read_embeddings(array, str(path))
    if len(rows) != len(phrases):
        raise ValueError(f"{len(phrases)} phrases, {len(rows)} rows")
    return rows


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
