"""Where training pictures stand and what describes them: folders, CSV lists, WebDataset tar shards
-> one list.

A source of a recipe becomes samples; no pixel is decoded here."""

from __future__ import annotations

import csv
import hashlib
import json
import re
import tarfile
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np

from edge_runtime.errors import ConfigError, DataError, NoInputError
from edge_runtime.records import Modality
from tools.factory.data import conditions
from tools.factory.recipe import SourceRecipe

SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".ppm", ".pgm", ".gif"}
MAX_BYTES = 256 << 20


@dataclass(frozen=True)
class Sample:
    """One picture before it is decoded.

    key: source name and relative path, unique. file, offset, length: where its bytes stand (length
    0: all).
    prompts: the texts whose mean describes it, empty when it has none. condition: of
    conditions.NAMES, or "".
    modality: what the file holds. partner: key of the colour picture of the same scene, for
        infrared and depth; such a picture gets its partner's crop and its partner's target.
    """

    key: str
    source: int
    file: Path
    offset: int
    length: int
    prompts: tuple[str, ...]
    condition: str
    held_out: bool
    modality: Modality = "rgb"
    partner: str = ""

    def read(self) -> bytes:
        """The encoded picture's bytes. Raises OSError; ValueError when there are too many."""
        with self.file.open("rb") as stream:
            stream.seek(self.offset)
            data = stream.read(self.length or MAX_BYTES + 1)
        if len(data) > MAX_BYTES:
            raise ValueError(f"file of more than {MAX_BYTES >> 20} MB")
        return data


def scan(sources: tuple[SourceRecipe, ...], root: Path) -> list[Sample]:
    """Every picture of every source, in a fixed order.

    Raises NoInputError for a path that is missing, DataError for a source without pictures,
    ConfigError for a label without a text.
    """
    samples: list[Sample] = []
    for number, source in enumerate(sources):
        path = root / source.path
        lister = {"folder": _scan_folder, "csv": _scan_csv, "tar": _scan_tar}[source.kind]
        found = lister(source, number, path)
        if not found:
            raise DataError(
                f"{path}: source '{source.name}' holds no pictures",
                "check path and kind in the recipe",
            )
        if source.limit and len(found) > source.limit:
            keep = np.linspace(0, len(found) - 1, source.limit).round().astype(int)
            found = [found[i] for i in keep]
        samples += found
    return samples


def _held_out(place: str, share: float) -> bool:
    """Drawn by where the picture lies, not by its source: one in two sources is held out of both or
    of none."""
    digest = hashlib.blake2b(place.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") < share * 2**64


class _Texts:
    """Label -> prompts for one source."""

    def __init__(self, source: SourceRecipe, where: Path) -> None:
        self.source = source
        self.where = where
        self.mapping: dict[str, tuple[str, ...]] | None = None
        if source.texts:
            try:
                text = Path(source.texts).read_text(encoding="utf-8")
            except OSError as error:
                raise NoInputError(
                    f"{source.texts}: {error.strerror}", f"check 'texts' of '{source.name}'"
                ) from None
            import yaml

            try:
                # Everything is text here: a label may be called `on`, `no` or `007`.
                mapping = yaml.load(text, Loader=yaml.BaseLoader)  # noqa: S506 - makes strings and nothing else
            except yaml.YAMLError as error:
                raise ConfigError(
                    f"{source.texts}: not YAML ({str(error).splitlines()[0]})"
                ) from None
            if not isinstance(mapping, dict):
                raise ConfigError(f"{source.texts}: must be a mapping of label: text lines")
            self.mapping = {str(label): self._prompts(text) for label, text in mapping.items()}

    def _prompts(self, text: object) -> tuple[str, ...]:
        """A name goes into the templates; a list is prompts as they are."""
        if isinstance(text, list):
            return tuple(str(prompt).strip() for prompt in text if str(prompt).strip())
        name = "" if text is None else str(text).strip()
        return tuple(template.format(name) for template in self.source.templates) if name else ()

    def __call__(self, label: str) -> tuple[str, ...]:
        if self.mapping is None:
            prompts = self._prompts(" ".join(label.replace("_", " ").split()))
        elif label in self.mapping:
            prompts = self.mapping[label]
        else:
            raise ConfigError(
                f"{self.source.texts}: label '{label}' of '{self.source.name}' has no text",
                "add a line",
            )
        if not prompts:
            raise ConfigError(
                f"{self.source.texts or self.where}: label '{label}' has an empty text", "write one"
            )
        return prompts


def _check_condition(name: str, where: str) -> str:
    if name and name not in conditions.TEXTS:
        raise ConfigError(
            f"{where}: unknown condition '{name}'", f"known: {', '.join(conditions.NAMES)}"
        )
    return name


def _scan_folder(source: SourceRecipe, number: int, root: Path) -> list[Sample]:
    if not root.is_dir():
        raise NoInputError(
            f"{root}: no such folder (source '{source.name}')", "check --data and the recipe"
        )
    texts = _Texts(source, root)
    condition = _check_condition(source.condition, f"source '{source.name}'")
    pattern = None
    if source.label and source.label != "folder":
        try:
            pattern = re.compile(source.label)
        except re.error as error:
            raise ConfigError(
                f"source '{source.name}': label is not a regular expression ({error})"
            ) from None
        if pattern.groups != 1:
            raise ConfigError(f"source '{source.name}': label must hold exactly one (group)")
    samples = []
    for file in sorted(p for p in root.rglob("*") if p.suffix.lower() in SUFFIXES and p.is_file()):
        relative = file.relative_to(root).as_posix()
        prompts: tuple[str, ...] = ()
        if pattern is not None:
            match = pattern.search(relative)
            prompts = texts(match.group(1)) if match and match.group(1) else ()
        elif source.label == "folder" and "/" in relative:
            prompts = texts(relative.split("/", 1)[0])
        key = f"{source.name}/{relative}"
        held_out = _held_out(f"{source.path}/{relative}", source.validation)
        samples.append(Sample(key, number, file, 0, 0, prompts, condition, held_out))
    return samples


def _scan_csv(source: SourceRecipe, number: int, path: Path) -> list[Sample]:
    folder, path = (path, Path(source.list)) if source.list else (path.parent, path)
    texts = _Texts(source, path)
    samples = []
    try:
        with path.open(newline="", encoding="utf-8") as stream:
            reader = csv.DictReader(stream)
            columns = set(reader.fieldnames or ())
            if "file" not in columns:
                raise DataError(f"{path}: the first line must name the columns, 'file' among them")
            if source.label and source.label not in columns:
                raise DataError(
                    f"{path}: no column '{source.label}'", f"there are {', '.join(sorted(columns))}"
                )
            for row in reader:
                where = f"{path}:{reader.line_num}"
                if not row["file"]:
                    raise DataError(f"{where}: no file name", "every line needs one")
                text = (row.get("text") or "").strip()
                label = (row.get(source.label or "label") or "").strip()
                prompts = (text,) if text else texts(label) if label else ()
                condition = _check_condition(
                    (row.get("condition") or source.condition).strip(), where
                )
                key = f"{source.name}/{row['file']}"
                place = (Path(source.path) if source.list else Path(source.path).parent) / row[
                    "file"
                ]
                split = (row.get("split") or "").strip()
                if split == "test":
                    continue  # is neither trained on nor chosen by
                held_out = (
                    split == "validation"
                    if split
                    else _held_out(place.as_posix(), source.validation)
                )
                common = (0, 0, prompts, condition, held_out)
                samples.append(Sample(key, number, folder / row["file"], *common))
                for file, modality in _partner(
                    row, where
                ):  # one file may be both, a colour picture also shown in grey
                    name = f"{source.name}/{file}#{modality}"
                    samples.append(
                        Sample(name, number, folder / file, *common, modality, partner=key)
                    )
    except OSError as error:
        raise NoInputError(
            f"{path}: {error.strerror} (source '{source.name}')", "check the recipe"
        ) from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: not a CSV file in UTF-8 ({error})") from None
    return samples


def _partner(row: dict[str, str], where: str) -> list[tuple[str, Modality]]:
    """File and modality of the row's second picture, if it has one."""
    file = (row.get("partner") or "").strip()
    modality = (row.get("modality") or "").strip()
    if not file:
        return []
    if modality not in ("ir", "depth"):
        raise DataError(
            f"{where}: modality '{modality}' of the partner is not ir or depth", "mend the line"
        )
    return [(file, modality)]


def _scan_tar(source: SourceRecipe, number: int, path: Path) -> list[Sample]:
    texts = _Texts(source, path)
    condition = _check_condition(source.condition, f"source '{source.name}'")
    shards = sorted(path.parent.glob(path.name))
    if not shards:
        raise NoInputError(f"{path}: no such shards (source '{source.name}')", "check the recipe")
    samples = []
    for shard in shards:
        pictures: dict[str, tarfile.TarInfo] = {}
        notes: dict[str, dict[str, str]] = {}
        try:
            with tarfile.open(
                shard, "r:"
            ) as archive:  # "r:": a compressed shard cannot be read by offset
                for member in archive:
                    name = PurePosixPath(member.name)
                    stem = str(name.parent / name.name.split(".", 1)[0])
                    if not member.isfile():
                        continue
                    if name.suffix.lower() in SUFFIXES:
                        pictures[stem] = member
                    elif name.suffix in (".txt", ".cls", ".json") and member.size < 1 << 20:
                        stream = archive.extractfile(member)
                        content = stream.read().decode("utf-8", "replace").strip() if stream else ""
                        notes.setdefault(stem, {})[name.suffix] = content
        except (tarfile.TarError, OSError) as error:
            raise DataError(
                f"{shard}: not an uncompressed tar shard ({error})", "unpack or make it again"
            ) from None
        for stem, member in pictures.items():
            note = notes.get(stem, {})
            prompts: tuple[str, ...] = ()
            if note.get(".txt"):
                prompts = (note[".txt"],)
            elif note.get(".cls"):
                prompts = texts(note[".cls"])
            elif ".json" in note:
                prompts = _from_json(note[".json"], texts, f"{shard}: {stem}.json")
            key = f"{source.name}/{shard.name}/{stem}"
            held_out = _held_out(key, source.validation)
            samples.append(
                Sample(
                    key,
                    number,
                    shard,
                    member.offset_data,
                    member.size,
                    prompts,
                    condition,
                    held_out,
                )
            )
    return samples


def _from_json(content: str, texts: _Texts, where: str) -> tuple[str, ...]:
    try:
        entry = json.loads(content)
    except ValueError:
        raise DataError(f"{where}: not JSON", "mend or remove it") from None
    if isinstance(entry, dict):
        if entry.get("caption"):
            return (str(entry["caption"]),)
        if entry.get("label") is not None:
            return texts(str(entry["label"]))
    return ()
