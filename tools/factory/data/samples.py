"""Where training pictures are and what describes them.

Folders, CSV lists and WebDataset tar shards become one list of samples. No pixel is decoded here.
"""

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
MAX_BYTES = 256 << 20  # of one encoded picture; a path may name a disk image by mistake
NOTES = (".txt", ".cls", ".json")  # files beside a picture in a shard that describe it
MAX_NOTE = 1 << 20  # bytes; a longer note is not a caption


@dataclass(frozen=True)
class Sample:
    """One picture before it is decoded.

    Attributes:
        key: source name and relative path, unique.
        source: number of its source in the recipe.
        file, offset, length: where its bytes are; length 0 is the whole file.
        prompts: the texts whose mean describes it, empty when it has none.
        condition: one of conditions.NAMES, or "".
        held_out: not trained on; validation is computed on it.
        modality: what the file holds.
        partner: key of the colour picture of the same scene, for infrared and depth; such a picture
            gets its partner's crop and its partner's target.
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
        own = lister(source, number, path)
        if not own:
            raise DataError(
                f"{path}: source '{source.name}' holds no pictures",
                "check path and kind in the recipe",
            )
        # A limit takes pictures evenly from the whole list: sorted folders hold one class each.
        if source.limit and len(own) > source.limit:
            spread = np.linspace(0, len(own) - 1, source.limit).round().astype(int)
            own = [own[row] for row in spread]
        samples += own
    return samples


def is_held_out(place: str, share: float) -> bool:
    """Drawn by where the picture lies, not by its source.

    A picture that two sources list is held out of both or of none.
    """
    digest = hashlib.blake2b(place.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") < share * 2**64


class _Texts:
    """Label -> prompts for one source."""

    def __init__(self, source: SourceRecipe, where: Path) -> None:
        self.source = source
        self.where = where
        self.mapping: dict[str, tuple[str, ...]] | None = None
        if source.texts:
            entries = _read_texts(source)
            self.mapping = {str(label): self._prompts(text) for label, text in entries.items()}

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
            where = self.source.texts or self.where
            raise ConfigError(f"{where}: label '{label}' has an empty text", "write one")
        return prompts

    def _prompts(self, text: object) -> tuple[str, ...]:
        """A name goes into the templates; a list is prompts as they are."""
        if isinstance(text, list):
            return tuple(str(prompt).strip() for prompt in text if str(prompt).strip())
        name = "" if text is None else str(text).strip()
        return tuple(template.format(name) for template in self.source.templates) if name else ()


def _read_texts(source: SourceRecipe) -> dict[object, object]:
    """The YAML mapping that a source names. Raises NoInputError, ConfigError."""
    import yaml

    try:
        text = Path(source.texts).read_text(encoding="utf-8")
        # Everything is text here: a label may be called `on`, `no` or `007`.
        entries = yaml.load(text, Loader=yaml.BaseLoader)  # noqa: S506 - makes only strings
    except OSError as error:
        raise NoInputError(
            f"{source.texts}: {error.strerror}", f"check 'texts' of '{source.name}'"
        ) from error
    except yaml.YAMLError as error:
        reason = str(error).splitlines()[0]
        raise ConfigError(f"{source.texts}: not YAML ({reason})") from error
    if not isinstance(entries, dict):
        raise ConfigError(f"{source.texts}: must be a mapping of label: text lines")
    return entries


def _check_condition(name: str, where: str) -> str:
    if name and name not in conditions.TEXTS:
        known = ", ".join(conditions.NAMES)
        raise ConfigError(f"{where}: unknown condition '{name}'", f"known: {known}")
    return name


def _scan_folder(source: SourceRecipe, number: int, root: Path) -> list[Sample]:
    if not root.is_dir():
        raise NoInputError(
            f"{root}: no such folder (source '{source.name}')",
            "check --data and the path in the recipe",
        )
    texts = _Texts(source, root)
    condition = _check_condition(source.condition, f"source '{source.name}'")
    pattern = _label_pattern(source)
    wanted = _compiled(source, "only", source.only)
    files = [path for path in root.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file()]

    samples = []
    for file in sorted(files):
        relative = file.relative_to(root).as_posix()
        if not wanted.search(relative):
            continue
        label = _label_of(relative, source, pattern)
        prompts = texts(label) if label else ()
        key = f"{source.name}/{relative}"
        held_out = is_held_out(f"{source.path}/{relative}", source.validation)
        samples.append(Sample(key, number, file, 0, 0, prompts, condition, held_out))
    return samples


def _label_pattern(source: SourceRecipe) -> re.Pattern[str] | None:
    """The regular expression that finds a label in a path; None where the folder names it."""
    if not source.label or source.label == "folder":
        return None
    pattern = _compiled(source, "label", source.label)
    if pattern.groups != 1:
        raise ConfigError(f"source '{source.name}': label must hold exactly one (group)")
    return pattern


def _compiled(source: SourceRecipe, key: str, expression: str) -> re.Pattern[str]:
    try:
        return re.compile(expression)
    except re.error as error:
        raise ConfigError(
            f"source '{source.name}': {key} is not a regular expression ({error})"
        ) from error


def _label_of(relative: str, source: SourceRecipe, pattern: re.Pattern[str] | None) -> str:
    """The label in a path, "" for none."""
    if pattern is not None:
        match = pattern.search(relative)
        return (match.group(1) or "") if match else ""
    if source.label == "folder" and "/" in relative:
        return relative.split("/", 1)[0]
    return ""


def _scan_csv(source: SourceRecipe, number: int, path: Path) -> list[Sample]:
    """Lines of a list; `source.list` names one that lies elsewhere than its pictures."""
    table = Path(source.list) if source.list else path
    folder = path if source.list else path.parent
    texts = _Texts(source, table)
    samples = []
    try:
        with table.open(newline="", encoding="utf-8") as stream:
            reader = csv.DictReader(stream)
            _check_columns(table, set(reader.fieldnames or ()), source)
            for row in reader:
                where = f"{table}:{reader.line_num}"
                samples += _samples_of_row(source, number, folder, texts, row, where)
    except OSError as error:
        raise NoInputError(
            f"{table}: {error.strerror} (source '{source.name}')", "check the recipe"
        ) from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{table}: not a CSV file in UTF-8 ({error})") from error
    return samples


def _check_columns(table: Path, columns: set[str], source: SourceRecipe) -> None:
    if "file" not in columns:
        raise DataError(f"{table}: the first line must name the columns, 'file' among them")
    if source.label and source.label not in columns:
        names = ", ".join(sorted(columns))
        raise DataError(f"{table}: no column '{source.label}'", f"there are {names}")


def _samples_of_row(
    source: SourceRecipe,
    number: int,
    folder: Path,
    texts: _Texts,
    row: dict[str, str],
    where: str,
) -> list[Sample]:
    """A picture, and its infrared or depth partner if it has one; nothing of the split "test"."""
    if not row["file"]:
        raise DataError(f"{where}: no file name", "fill the column 'file' in every line")

    def cell(name: str) -> str:
        return (row.get(name) or "").strip()

    prompts: tuple[str, ...] = ()
    label = cell(source.label or "label")
    if cell("text"):
        prompts = (cell("text"),)
    elif label:
        prompts = texts(label)
    condition = _check_condition((row.get("condition") or source.condition).strip(), where)

    # What is held out depends on the path in the recipe, not on where the data lies today.
    split = cell("split")
    if split == "test":
        return []
    recipe_folder = Path(source.path) if source.list else Path(source.path).parent
    place = (recipe_folder / row["file"]).as_posix()
    held_out = split == "validation" if split else is_held_out(place, source.validation)

    key = f"{source.name}/{row['file']}"
    common = (0, 0, prompts, condition, held_out)
    samples = [Sample(key, number, folder / row["file"], *common)]
    partner = _partner(cell("partner"), cell("modality"), where)
    if partner:
        file, modality = partner
        # One file may be both: a colour picture that is also shown in grey.
        name = f"{source.name}/{file}#{modality}"
        samples.append(Sample(name, number, folder / file, *common, modality, partner=key))
    return samples


def _partner(file: str, modality: str, where: str) -> tuple[str, Modality] | None:
    """File and modality of the row's second picture, if it has one."""
    if not file:
        return None
    if modality not in ("ir", "depth"):
        raise DataError(
            f"{where}: modality '{modality}' of the partner is not ir or depth", "correct the line"
        )
    return file, modality


def _scan_tar(source: SourceRecipe, number: int, path: Path) -> list[Sample]:
    """Shards of WebDataset: NAME.jpg with NAME.txt, NAME.cls or NAME.json beside it."""
    texts = _Texts(source, path)
    condition = _check_condition(source.condition, f"source '{source.name}'")
    shards = sorted(path.parent.glob(path.name))
    if not shards:
        raise NoInputError(f"{path}: no such shards (source '{source.name}')", "check the recipe")

    samples = []
    for shard in shards:
        pictures, notes = _read_shard(shard)
        for stem, member in pictures.items():
            prompts = _prompts_of_note(notes.get(stem, {}), texts, f"{shard}: {stem}.json")
            key = f"{source.name}/{shard.name}/{stem}"
            held_out = is_held_out(key, source.validation)
            place = (shard, member.offset_data, member.size)
            samples.append(Sample(key, number, *place, prompts, condition, held_out))
    return samples


def _read_shard(shard: Path) -> tuple[dict[str, tarfile.TarInfo], dict[str, dict[str, str]]]:
    """(pictures by stem, notes by stem and suffix). Raises DataError."""
    pictures: dict[str, tarfile.TarInfo] = {}
    notes: dict[str, dict[str, str]] = {}
    try:
        # "r:" refuses compressed shards: a picture in one cannot be read by its offset.
        with tarfile.open(shard, "r:") as archive:
            for member in archive:
                if not member.isfile():
                    continue
                name = PurePosixPath(member.name)
                stem = str(name.parent / name.name.split(".", 1)[0])
                if name.suffix.lower() in SUFFIXES:
                    pictures[stem] = member
                elif name.suffix in NOTES and member.size < MAX_NOTE:
                    stream = archive.extractfile(member)
                    content = stream.read().decode("utf-8", "replace").strip() if stream else ""
                    notes.setdefault(stem, {})[name.suffix] = content
    except (tarfile.TarError, OSError) as error:
        raise DataError(
            f"{shard}: not an uncompressed tar shard ({error})", "decompress it or write it again"
        ) from error
    return pictures, notes


def _prompts_of_note(note: dict[str, str], texts: _Texts, where: str) -> tuple[str, ...]:
    if note.get(".txt"):
        return (note[".txt"],)
    if note.get(".cls"):
        return texts(note[".cls"])
    if ".json" in note:
        return _from_json(note[".json"], texts, where)
    return ()


def _from_json(content: str, texts: _Texts, where: str) -> tuple[str, ...]:
    try:
        entry = json.loads(content)
    except ValueError as error:
        raise DataError(f"{where}: not JSON", "correct or remove it") from error
    if isinstance(entry, dict):
        if entry.get("caption"):
            return (str(entry["caption"]),)
        if entry.get("label") is not None:
            return texts(str(entry["label"]))
    return ()
