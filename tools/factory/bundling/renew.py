"""A new text bank and label sets for an encoder that stays."""

from __future__ import annotations

import re
import shutil
import tempfile
from pathlib import Path
from typing import Any

from edge_runtime.errors import ConfigError
from edge_runtime.model.bundle import load_bundle
from tools.factory.bundling.assemble import score_bundle
from tools.factory.bundling.card import provenance
from tools.factory.bundling.files import check_bundle, read_json, replace_folder, write_manifest

BANK = ("text_bank.npy", "text_bank.json")


def renew_bundle(
    bundle: Path, bank: Path, labels: list[Path], version: str, output: Path, data: Path | None
) -> None:
    """Copy the bundle, replace its bank and label sets, and check it before it takes `output`.

    Raises ConfigError for a bank of another text space, DataError where `output` is no bundle.
    """
    old = load_bundle(bundle)
    meta = read_json(bank / "text_bank.json", f"python -m tools.prompts --out {bank}")
    if meta["text_space"] != old.manifest.text_space:
        raise ConfigError(
            f"{bank}: a text bank of {meta['text_space']}, the encoder's is "
            f"{old.manifest.text_space}",
            "make one of its text space: python -m tools.prompts",
        )

    output.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=output.parent, prefix=f".{output.name}.") as parent:
        scratch = Path(parent) / "bundle"
        shutil.copytree(bundle, scratch)
        (scratch / "manifest.sig").unlink(missing_ok=True)
        shutil.rmtree(scratch / "labels")
        (scratch / "labels").mkdir()
        for path in labels:
            shutil.copy(path, scratch / "labels" / path.name)
        for name in BANK:
            shutil.copy(bank / name, scratch / name)
        write_manifest(scratch, _manifest(scratch, version, meta["sources"]))
        check_bundle(scratch)

        scores = score_bundle(scratch, None, data) if data else ""
        card = scratch / "MODEL_CARD.md"
        if card.is_file():
            old_name = f"{old.manifest.raw['name']} {old.manifest.raw['version']}"
            text = card.read_text(encoding="utf-8")
            new_name = f"{old.manifest.raw['name']} {version}"
            card.write_text(renewed_card(text, old_name, new_name, meta, scores), encoding="utf-8")
        check_bundle(scratch)
        replace_folder(scratch, output)


def _manifest(scratch: Path, version: str, sources: dict[str, str]) -> dict[str, Any]:
    """The old one with the new version and where the rows are from, without the old scores."""
    manifest: dict[str, Any] = read_json(scratch / "manifest.json", "")
    return manifest | {"version": version, "evaluation": {}, "text_rows": sources}


def renewed_card(text: str, old: str, new: str, bank: dict[str, Any], scores: str) -> str:
    """A model card under its new name, with the bank's new rows and the new scores, if any."""
    text = text.replace(f"# {old}", f"# {new}", 1)
    text = re.sub(r"\| text bank \|.*", lambda _: f"| text bank | {provenance(bank)} |", text)
    if scores:
        text = re.sub(
            r"(?<=\n\n)\| set \| pictures \|.*?(?=\n## float32 against int8)",
            lambda _: f"{scores}\n",
            text,
            count=1,
            flags=re.DOTALL,
        )
    return text
