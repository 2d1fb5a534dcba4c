"""The files of a bundle: read, listed in the manifest with their hashes, checked, put in place."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

from edge_runtime.errors import DataError, NoInputError
from edge_runtime.model.bundle import Bundle, load_bundle
from edge_runtime.model.encoder import Encoder
from edge_runtime.model.labels.compiled import compile_labels
from edge_runtime.model.labels.label_set import load_label_set
from edge_runtime.model.labels.text_bank import TextBank
from edge_runtime.system.digest import sha256_hex
from edge_runtime.system.files import write_atomically


def read_json(path: Path, needed_by: str) -> Any:
    """Raises NoInputError with the command that makes the file, DataError when it is not JSON."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise NoInputError(f"{path}: missing", f"first: {needed_by}") from error
    except (ValueError, OSError) as error:
        raise DataError(f"{path}: cannot be read ({error})") from error


def write_manifest(folder: Path, manifest: dict[str, Any]) -> None:
    """Write manifest.json with size and sha256 of every other file except the card."""
    manifest["files"] = {}
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        name = path.relative_to(folder).as_posix()
        if name not in ("manifest.json", "MODEL_CARD.md"):
            data = path.read_bytes()
            manifest["files"][name] = {
                "sha256": hashlib.sha256(data).hexdigest(),
                "size": len(data),
            }
    (folder / "manifest.json").write_text(json.dumps(manifest, indent=1) + "\n", encoding="utf-8")


def check_bundle(folder: Path) -> None:
    """Open the bundle as the runtime does: hashes, session, bank, every label set.

    Raises EdgeLabelError for what the runtime would refuse.
    """
    bundle = load_bundle(folder)
    bundle.verify()
    Encoder(bundle)
    bank = TextBank.from_bundle(bundle)
    for name in bundle.label_sets():
        compile_labels(load_label_set(name, bundle), bundle, bank)


def refuse_other_folder(output: Path) -> None:
    """Raises DataError for a folder that is not a bundle: its files would be lost."""
    empty = output.is_dir() and not any(output.iterdir())
    if output.exists() and not empty and not (output / "manifest.json").is_file():
        raise DataError(
            f"{output}: exists and is not a bundle", "give --output a bundle or a new folder"
        )


def replace_folder(new: Path, output: Path) -> None:
    """Replace `output` by `new`, which is beside it on the same disk.

    The old folder is deleted last. Raises DataError where `output` is not a bundle.
    """
    refuse_other_folder(output)
    # Two renames, because a folder cannot be renamed onto one that is not empty.
    old = output.with_name(f".{output.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    if output.exists():
        output.rename(old)
    new.rename(output)
    shutil.rmtree(old, ignore_errors=True)


def update_bundle(bundle: Bundle, files: dict[str, bytes], facts: dict[str, Any]) -> None:
    """Write files into a bundle, and the manifest with their hashes and other facts. Raises
    BundleError, DataError."""
    for name, data in files.items():
        write_atomically(bundle.path / name, data)
    hashes = {
        name: {"sha256": sha, "size": size} for name, (sha, size) in bundle.manifest.files.items()
    }
    hashes |= {
        name: {"sha256": sha256_hex(data), "size": len(data)} for name, data in files.items()
    }
    manifest = bundle.manifest.raw | {"files": dict(sorted(hashes.items()))} | facts
    write_atomically(
        bundle.path / "manifest.json", (json.dumps(manifest, indent=1) + "\n").encode()
    )
    load_bundle(bundle.path).verify()
