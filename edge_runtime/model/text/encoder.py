"""Any phrase -> an embedding in the bundle's text space, made in a short-lived process of its own.

This is the caller's side: find a text encoder, name it, ask it. ``child.py`` loads the tokenizer
and the network, and its memory is gone when the rows are made. The daemon imports neither.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge_runtime.errors import DataError, NoInputError
from edge_runtime.model.bundle import checkout_models
from edge_runtime.model.npy import read_embeddings
from edge_runtime.system import child
from edge_runtime.system.digest import sha256_hex

DEFAULT_NAME = "text-encoder"
_TIMEOUT_S = 300  # and a second more for each phrase
_ENVIRONMENT = {
    # A name that is not on this disk is an error; nothing is fetched behind the user's back.
    "HF_HUB_OFFLINE": "1",
    # glibc learns to keep large blocks for later, and the kernel would have to find 60 MB more for
    # 500 phrases. A fixed threshold gives each block back at once.
    "MALLOC_MMAP_THRESHOLD_": "131072",
}


@dataclass(frozen=True, slots=True)
class Encoded:
    """What a text encoder answers.

    Attributes:
        rows: float32, shape (phrases, dim), unit norm.
        encoder: What made the rows, with a hash where there is one.
        approximate: True where it only estimates the bundle's text space.
    """

    rows: NDArray[np.float32]
    encoder: str
    approximate: bool


def find_text_encoder(encoder: str | None = None, bundle: Path | None = None) -> str:
    """``encoder``, else $EDGE_LABEL_TEXT_ENCODER, else the first of the usual places.

    The first usual place is beside the bundle.

    Raises NoInputError with the places that were looked at.
    """
    named = encoder or os.environ.get("EDGE_LABEL_TEXT_ENCODER")
    if named:
        # Anything that does not look like a path may be a model's name:
        # openai/clip-vit-base-patch32.
        if named.startswith(("/", ".")) and not Path(named).exists():
            source = "--text-encoder" if encoder else "$EDGE_LABEL_TEXT_ENCODER"
            raise NoInputError(f"{named}: no such text encoder", f"check {source}")
        return named

    places = [
        Path("/var/lib/edge-label") / DEFAULT_NAME,
        *checkout_models(DEFAULT_NAME),
        Path("/usr/share/edge-label/models") / DEFAULT_NAME,
    ]
    if bundle:
        places.insert(0, bundle.absolute().with_name(DEFAULT_NAME))

    for place in places:
        # The service's own folder is closed to other users: os.access says False and does not
        # raise.
        if os.access(place / "manifest.json", os.R_OK):
            return str(place)

    raise NoInputError(
        f"no text encoder found in {', '.join(str(place) for place in places)}",
        f"copy models/{DEFAULT_NAME} from the edge-label repository to one of them, "
        "or name one in $EDGE_LABEL_TEXT_ENCODER",
    )


def encoder_hash(encoder: str) -> str:
    """A hash that changes with an encoder's answers.

    It is over the manifest, else over the files' names, sizes and times, else over the name of a
    model.
    """
    folder = Path(encoder)
    manifest = folder / "manifest.json"
    if manifest.is_file():
        return sha256_hex(manifest.read_bytes())
    if not folder.is_dir():
        return sha256_hex(encoder.encode())

    # A CLIP tower has hundreds of megabytes: to hash it would take longer than to use it.
    parts = []
    for file in sorted(path for path in folder.rglob("*") if path.is_file()):
        facts = file.stat()
        parts.append(f"{file.name} {facts.st_size} {facts.st_mtime_ns}".encode())
    return sha256_hex(*parts)


def encode_phrases(phrases: Sequence[str], encoder: str) -> Encoded:
    """Run the child on the phrases. Raises DataError with the child's own line when it fails."""
    timeout_s = _TIMEOUT_S + len(phrases)
    try:
        outcome = subprocess.run(  # noqa: S603 - our interpreter and module
            child.command("edge_runtime.model.text.child", encoder),
            input=json.dumps(list(phrases)).encode(),
            capture_output=True,
            timeout=timeout_s,
            check=False,
            env={**_ENVIRONMENT, **os.environ},
        )
    except subprocess.TimeoutExpired as error:
        raise DataError(
            f"text encoder {encoder}: no answer within {timeout_s} s", "give it fewer phrases"
        ) from error

    if outcome.returncode == -signal.SIGKILL:
        raise DataError(
            f"text encoder {encoder}: killed, it needs 200 MB of memory",
            "run on another machine: edge-label labels build",
        )
    if outcome.returncode:
        message = child.last_line(outcome.stderr.decode(errors="replace"))
        reason = message or f"ended with {outcome.returncode}"
        raise DataError(f"text encoder {encoder}: {reason}")

    head, _, array = outcome.stdout.partition(b"\n")
    meta = json.loads(head)
    rows = read_embeddings(array, f"text encoder {encoder}").astype(np.float32)
    return Encoded(rows, str(meta["encoder"]), bool(meta["approximate"]))
