"""Samples -> decoded pictures, in one memory-mapped cache.

Decoding costs more than training on two cores, so every picture is decoded once into a
memory-mapped uint8 array. A picture that cannot be read is counted and listed; it never ends the
run. A picture of more than MAX_PIXELS is refused by its header, before a pixel is decoded.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps
from tqdm import tqdm

from edge_runtime.camera.pictures import read_picture
from edge_runtime.errors import DataError
from edge_runtime.model.manifest import InputSpec
from edge_runtime.model.preprocess import Preprocessor
from edge_runtime.system.files import write_atomically
from tools.factory.data.samples import Sample
from tools.factory.recipe import InputRecipe

MAX_PIXELS = 50_000_000  # 150 MB as RGB
DECODE_THREADS = 2  # the factory is written for two cores
CHUNK = 256  # pictures decoded ahead of the one that is written


def preprocessor(spec: InputRecipe, side: int) -> Preprocessor:
    """What the runtime does to a frame before a student sees it, at `side` pixels."""
    return Preprocessor(InputSpec("pixels", "NHWC", (side, side), spec.resize, ("rgb",)))


def show(sample: Sample, prepare: Preprocessor) -> NDArray[np.uint8]:
    """A sample as the runtime would show it to the encoder: (1, H, W, 3) uint8 RGB, overwritten by
    the next call.

    Raises OSError, ValueError and DataError for what is not a picture of the sample's modality.
    """
    if sample.modality == "rgb":
        return prepare(decode(sample.read()))
    return prepare(read_picture(sample.file), sample.modality)


def decode(data: bytes) -> NDArray[np.uint8]:
    """Encoded picture -> (H, W, 3) uint8 BGR, turned upright as its EXIF says.

    Raises ValueError for anything that is not a whole picture, or has more than MAX_PIXELS pixels.
    """
    try:
        with warnings.catch_warnings():
            # Pillow warns of large pictures; the limit below is lower and decides.
            warnings.simplefilter("ignore")
            with Image.open(io.BytesIO(data)) as picture:
                width, height = picture.size
                if width * height > MAX_PIXELS:
                    millions = MAX_PIXELS // 1_000_000
                    raise ValueError(
                        f"{width} x {height} pixels, more than {millions} million: refused"
                    )
                if min(width, height) < 2:
                    raise ValueError(f"{width} x {height} pixels is no picture")

                upright = ImageOps.exif_transpose(picture)
                # 16-bit and float pictures have no fixed white; their own range becomes 8 bits.
                if upright.mode.startswith(("I", "F")):
                    grey = np.asarray(upright, np.float64)
                    low = float(grey.min())
                    span = float(np.ptp(grey)) or 1.0
                    upright = Image.fromarray(((grey - low) * (255 / span)).astype(np.uint8))
                return np.ascontiguousarray(np.asarray(upright.convert("RGB"))[..., ::-1])
    except ValueError:
        raise
    except Image.DecompressionBombError as error:
        # Pillow's own limit, which is higher, stops some files before ours is asked.
        raise ValueError(
            f"far more than {MAX_PIXELS // 1_000_000} million pixels: refused"
        ) from error
    except Exception as error:
        # Damaged data makes a decoder raise exceptions of any kind.
        raise ValueError(f"{type(error).__name__}: {error}") from error


class PictureCache:
    """All readable samples, decoded: `pictures` is (N, S, S, 3) uint8 RGB, row i belongs to
    `samples[i]`.

    `broken` lists (key, reason) of those that could not be read.
    """

    def __init__(
        self,
        samples: list[Sample],
        pictures: NDArray[np.uint8],
        broken: list[tuple[str, str]],
        digest: str,
    ) -> None:
        self.samples = samples
        self.pictures = pictures
        self.broken = broken
        self.digest = digest


def cache_pictures(
    samples: list[Sample], spec: InputRecipe, folder: Path, *, quiet: bool = False
) -> PictureCache:
    """Decode every sample once into `folder`, or open what an earlier run decoded.

    Raises DataError when no picture at all can be read, and when the disk is full.
    """
    folder.mkdir(parents=True, exist_ok=True)
    side = spec.cache_size
    digest = _samples_digest(samples, spec)
    array_path = folder / f"pictures-{digest}.u8"
    index_path = folder / f"pictures-{digest}.json"
    if not index_path.exists():
        _decode_all(samples, spec, array_path, index_path, quiet=quiet)

    index = json.loads(index_path.read_text(encoding="utf-8"))
    broken = [(str(key), str(reason)) for key, reason in index["broken"]]
    unreadable = {key for key, _ in broken}
    readable = [sample for sample in samples if sample.key not in unreadable]
    if not readable:
        raise DataError(
            f"none of {len(samples)} pictures can be read",
            f"the first: {broken[0][0]}: {broken[0][1]}",
        )

    # Only readable pictures were written, one after the other; what is left over is at the end.
    pictures = np.memmap(array_path, np.uint8, "r", shape=(len(samples), side, side, 3))
    return PictureCache(readable, pictures[: len(readable)], broken, digest)


def _samples_digest(samples: list[Sample], spec: InputRecipe) -> str:
    """Changes when a file, its place in the list, or the size of the cache changes."""
    # The 2 is the version of the cache's layout.
    digest = hashlib.sha256(f"2 {spec.cache_size} {spec.resize}".encode())
    sizes: dict[Path, tuple[int, int]] = {}
    for sample in samples:
        if sample.file not in sizes:
            try:
                stat = sample.file.stat()
                sizes[sample.file] = (stat.st_size, stat.st_mtime_ns)
            except OSError:
                # A missing file is reported when it is decoded; here it only counts as different.
                sizes[sample.file] = (-1, 0)
        line = f"{sample.key}\0{sample.modality}\0{sample.offset}\0{sizes[sample.file]}\n"
        digest.update(line.encode())
    return digest.hexdigest()[:16]


def _decode_all(
    samples: list[Sample], spec: InputRecipe, array_path: Path, index_path: Path, *, quiet: bool
) -> None:
    """Write the readable pictures one after the other, then the index that names the others.

    The index is written last: a cache without it is not trusted.
    """
    side = spec.cache_size

    def load(sample: Sample) -> NDArray[np.uint8] | str:
        """The picture, or the reason why there is none."""
        try:
            return show(sample, preprocessor(spec, side))[0].copy()
        except (OSError, ValueError, DataError) as error:
            return " ".join(str(error).split()) or type(error).__name__

    partial = array_path.with_suffix(".partial")
    broken: list[tuple[str, str]] = []
    try:
        with partial.open("wb") as out, ThreadPoolExecutor(DECODE_THREADS) as pool:
            bar = tqdm(total=len(samples), desc="decode", unit="pic", disable=quiet)
            for start in range(0, len(samples), CHUNK):
                chunk = samples[start : start + CHUNK]
                for sample, result in zip(chunk, pool.map(load, chunk), strict=True):
                    if isinstance(result, str):
                        broken.append((sample.key, result))
                    else:
                        out.write(result.data)
                bar.update(len(chunk))
            bar.close()
            out.truncate(len(samples) * side * side * 3)
        partial.replace(array_path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise DataError(
            f"{array_path}: cannot write decoded pictures: {error.strerror}",
            "free some space, or name another folder with --cache",
        ) from error
    write_atomically(index_path, json.dumps({"broken": broken}).encode())


def write_broken_list(broken: list[tuple[str, str]], path: Path) -> None:
    """Write a CSV of what could not be read: key, reason."""
    out = io.StringIO()
    csv.writer(out).writerows([("file", "reason"), *broken])
    write_atomically(path, out.getvalue().encode())
