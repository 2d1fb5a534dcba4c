"""``edge-label bundle info`` and ``verify``: what a bundle holds, as text or as JSON."""

from __future__ import annotations

import json

from edge_runtime.model.bundle import Bundle, find_bundle, load_bundle
from edge_runtime.model.encoder import Encoder
from edge_runtime.model.labels.text_bank import TextBank
from edge_runtime.model.store.bundle_store import CURRENT, BundleStore
from edge_runtime.model.store.trial import failures


def bundle_info(path: str | None, *, as_json: bool) -> str:
    """The manifest's facts. Reads no weights. Raises BundleError, NoInputError."""
    bundle = load_bundle(find_bundle(path))
    manifest = bundle.manifest
    if as_json:
        return json.dumps(manifest.raw, indent=2, ensure_ascii=False)

    size = sum(size for _, size in manifest.files.values())
    lines = [f"{manifest.id} in {bundle.path}, {size / 1e6:.1f} MB in {len(manifest.files)} files"]
    for name, fact in _facts(bundle).items():
        if fact:
            text = fact if isinstance(fact, str) else json.dumps(fact, ensure_ascii=False)
            lines.append(f"  {name:<15}{text}")
    return "\n".join(lines)


def _facts(bundle: Bundle) -> dict[str, object]:
    """What a manifest says, in the order of the output; empty values are left out."""
    manifest = bundle.manifest
    raw = manifest.raw
    height, width = manifest.input.size
    modalities = "/".join(manifest.input.modalities)
    return {
        "trial": _trial(bundle),
        "input": f"{width}x{height} {manifest.input.layout} uint8, {manifest.input.resize}, "
        f"{modalities}",
        "text space": manifest.text_space,
        "label sets": ", ".join(bundle.label_sets()) or "none",
        "student": raw.get("student"),
        "teacher": raw.get("teacher"),
        "data": raw.get("data"),
        "licences": raw.get("licences"),
        "evaluation": raw.get("evaluation"),
        "a72 (modelled)": raw.get("a72"),
    }


def _trial(bundle: Bundle) -> str | None:
    """What a service wrote that could not start with the store's current bundle."""
    store = BundleStore.of(bundle.path)
    if store is None:
        return None

    files = failures(store.root, store.target(CURRENT) or "")
    return f"failed according to {files[0]}; the previous bundle is used" if files else None


def bundle_verify(path: str | None, *, as_json: bool) -> str:
    """Hash every file, read the bank and load the encoder, as a run would. Raises BundleError."""
    bundle = load_bundle(find_bundle(path))
    total = bundle.verify()
    names = TextBank.from_bundle(bundle).names
    Encoder(bundle, threads=1)

    manifest = bundle.manifest
    if as_json:
        facts = {"bundle": manifest.id, "path": str(bundle.path), "bytes": total, "ok": True}
        return json.dumps(facts)
    return (
        f"{manifest.id}: {len(manifest.files)} files, {total / 1e6:.1f} MB, "
        f"{len(names)} texts: all good"
    )
