"""Make the text bank of a bundle: text_bank.npy and text_bank.json.

    python -m tools.prompts --out DIR                                   offline: genuine rows, approximate phrases
    python -m tools.prompts --out DIR --teacher openai/clip-vit-base-patch32      every row from a real CLIP

Offline, every name of the shared bank is exact; the phrases of the label sets and of tools/recipes/phrases.txt
that it lacks come from the sentence map and are listed as approximate. The result depends on its inputs only.
"""

from __future__ import annotations

import argparse
import io
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edge_runtime.errors import EdgeLabelError
from edge_runtime.files import write_atomically
from edge_runtime.model.labels import BANK_SCHEMA, parse_label_set
from edge_runtime.model.phrases import PhraseIndex, bare, normalise
from edge_runtime.strict_yaml import read_text
from tools.factory.sentence_map import DEFAULT_WEIGHTS, SentenceMap, load_text_rows, unique_rows
from tools.factory.teachers import CLIP_B32, Teacher, load_teacher, unit

RECIPES = Path(__file__).parent / "recipes"
TEMPLATES = ("a photo of a {}",)


@dataclass(frozen=True)
class Bank:
    """Text embeddings by name. ``rows``: float16 (N, dim), unit norm; ``approximate``: indices of estimated rows."""

    names: tuple[str, ...]
    rows: np.ndarray
    approximate: tuple[int, ...]
    text_space: str
    sources: dict[str, str]

    def files(self) -> dict[str, bytes]:
        """text_bank.npy and text_bank.json as the runtime reads them."""
        array = io.BytesIO()
        np.save(array, self.rows, allow_pickle=False)
        meta = {
            "schema": BANK_SCHEMA,
            "text_space": self.text_space,
            "names": list(self.names),
            "approximate": list(self.approximate),
            "sources": self.sources,
        }
        text = json.dumps(meta, ensure_ascii=False, indent=0) + "\n"
        return {"text_bank.npy": array.getvalue(), "text_bank.json": text.encode()}


def wanted_phrases(label_sets: Iterable[Path], phrase_lists: Iterable[Path] = ()) -> dict[str, str]:
    """Bare phrase -> as first written: every prompt and background of the sets, every line of the lists."""
    written: list[str] = []
    for path in label_sets:
        labels = parse_label_set(read_text(path, "label set"), str(path))
        for label in labels.labels:
            written += label.prompts or [template.format(label.name) for template in TEMPLATES]
        written += labels.background
    for path in phrase_lists:
        lines = (line.strip() for line in read_text(path, "phrase list").splitlines())
        written += [TEMPLATES[0].format(line) for line in lines if line and not line.startswith("#")]
    out: dict[str, str] = {}
    for phrase in written:
        out.setdefault(bare(normalise(phrase)), phrase)
    return out


def offline_bank(phrases: dict[str, str], weights: Path = DEFAULT_WEIGHTS) -> Bank:
    """Genuine CLIP ViT-B/32 rows, then the sentence map's rows for the phrases they lack."""
    text_rows = load_text_rows(weights)
    exact = unique_rows(text_rows)
    known = PhraseIndex(list(exact))
    missing = sorted(phrase for phrase in phrases if known.find(phrase) is None)
    estimated = SentenceMap(text_rows)([phrases[name] for name in missing])
    moved = set(exact) - {n for n, kind in zip(text_rows.names, text_rows.kinds, strict=True) if kind == "plain"}
    return Bank(
        names=(*exact, *missing),
        rows=np.concatenate([np.stack(list(exact.values())), estimated]).astype(np.float16),
        approximate=tuple(range(len(exact), len(exact) + len(missing))),
        text_space=CLIP_B32,
        sources={
            "exact": "OpenAI CLIP ViT-B/32 text embeddings of LVIS, ImageNet, Objects365 and OpenImages names, "
            "from facebookresearch/Detic, rotem154154/clip_lt and others (Apache-2.0, MIT); "
            f"{len(moved)} names that were encoded in another spelling are moved by the mean step between spellings",
            "approximate": "kernel ridge regression from all-MiniLM-L6-v2 (Apache-2.0) onto the exact rows; "
            "python -m tools.factory.sentence_map prints its quality",
        },
    )


def teacher_bank(teacher: Teacher, phrases: dict[str, str], names: Sequence[str] = ()) -> Bank:
    """Every row from the teacher's own text tower: ``names`` in the first template, phrases as written."""
    texts = {name: TEMPLATES[0].format(name) for name in names} | phrases
    order = sorted(texts)
    rows = unit(teacher.text_embeddings([texts[name] for name in order]))
    return Bank(tuple(order), rows.astype(np.float16), (), teacher.text_space, {"exact": teacher.text_space})


def main() -> int:
    """Command line; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.prompts", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="where the two files go")
    parser.add_argument("--teacher", default="offline", help="offline (default), or a CLIP transformers can load")
    parser.add_argument("--labels", type=Path, nargs="*", default=sorted((RECIPES / "labels").glob("*.yaml")))
    parser.add_argument("--phrases", type=Path, nargs="*", default=[RECIPES / "phrases.txt"])
    parser.add_argument("--weights", type=Path, default=DEFAULT_WEIGHTS, help="folder of the shared text bank")
    options = parser.parse_args()
    try:
        phrases = wanted_phrases(options.labels, options.phrases)
        if options.teacher == "offline":
            bank = offline_bank(phrases, options.weights)
        else:
            names = list(unique_rows(load_text_rows(options.weights))) if options.weights.is_dir() else []
            bank = teacher_bank(load_teacher(options.teacher), phrases, names)
        for name, data in bank.files().items():
            write_atomically(options.out / name, data)
    except EdgeLabelError as error:
        parser.exit(error.exit_code, f"tools.prompts: {error}\n")
    exact = len(bank.names) - len(bank.approximate)
    print(f"{options.out}: {len(bank.names)} names, {exact} exact, {len(bank.approximate)} approximate")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
