"""What a bundle holds and what can be said with it, as text for a person or as JSON."""

from __future__ import annotations

import json
from itertools import groupby

from edge_runtime.model.bundle import find_bundle, load_bundle
from edge_runtime.model.encoder import Encoder
from edge_runtime.model.labels.label_set import LabelSpec, load_label_set
from edge_runtime.model.labels.text_bank import TextBank
from edge_runtime.model.store.bundle_store import CURRENT, BundleStore
from edge_runtime.model.store.trial import failures


def bundle_info(path: str | None, *, as_json: bool) -> str:
    """The manifest's facts. Reads no weights."""
    bundle = load_bundle(find_bundle(path))
    raw = bundle.manifest.raw
    store = BundleStore.of(bundle.path)
    if as_json:
        return json.dumps(raw, indent=2, ensure_ascii=False)
    size = sum(size for _, size in bundle.manifest.files.values())
    height, width = bundle.manifest.input.size
    lines = [
        f"{bundle.manifest.id} in {bundle.path}, {size / 1e6:.1f} MB in {len(bundle.manifest.files)} files"
    ]
    facts = {
        "trial": _trial(store) if store else None,
        "input": f"{width}x{height} {bundle.manifest.input.layout} uint8, {bundle.manifest.input.resize}, "
        f"{'/'.join(bundle.manifest.input.modalities)}",
        "text space": bundle.manifest.text_space,
        "label sets": ", ".join(bundle.label_sets()) or "none",
        "student": raw.get("student"),
        "teacher": raw.get("teacher"),
        "data": raw.get("data"),
        "licences": raw.get("licences"),
        "evaluation": raw.get("evaluation"),
        "a72 (modelled)": raw.get("a72"),
    }
    for name, value in facts.items():
        if value:
            text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
            lines.append(f"  {name:<15}{text}")
    return "\n".join(lines)


def _trial(store: BundleStore) -> str | None:
    """What a service says that could not start with the store's current bundle."""
    said = failures(store.root, store.target(CURRENT) or "")
    return f"failed, and the previous one is used, says {said[0]}" if said else None


def bundle_verify(path: str | None, *, as_json: bool) -> str:
    """Hash every file, read the bank and load the encoder, as a run would. Raises BundleError."""
    bundle = load_bundle(find_bundle(path))
    total = bundle.verify()
    names = len(TextBank.from_bundle(bundle).names)
    Encoder(bundle, threads=1)
    if as_json:
        return json.dumps(
            {"bundle": bundle.manifest.id, "path": str(bundle.path), "bytes": total, "ok": True}
        )
    return f"{bundle.manifest.id}: {len(bundle.manifest.files)} files, {total / 1e6:.1f} MB, {names} texts: all good"


def list_labels(wanted: str | None, bundle_path: str | None) -> str:
    """Label sets of the bundle, or the labels of one, by group."""
    bundle = load_bundle(find_bundle(bundle_path))
    if wanted is None:
        sets = {name: load_label_set(name, bundle) for name in bundle.label_sets()}
        lines = [
            f"{name:<12}{len(s.labels):>4} labels: {_few([x.name for x in s.labels])}"
            for name, s in sets.items()
        ]
        bank = TextBank.from_bundle(bundle)
        lines.append(
            f"text bank   {len(bank.names):>4} phrases, {len(bank.approximate)} of them approximate"
        )
        return "\n".join(lines)
    label_set = load_label_set(wanted, bundle)
    by_group = groupby(
        sorted(label_set.labels, key=lambda label: label.group), key=lambda label: label.group
    )
    lines = [
        f"{group}: {', '.join(_named(label) for label in labels)}" for group, labels in by_group
    ]
    if label_set.background:
        lines.append(f"background: {', '.join(label_set.background)}")
    return "\n".join(lines)


def _named(label: LabelSpec) -> str:
    return f"{label.name} (background)" if label.background else label.name


def _few(names: list[str], n: int = 6) -> str:
    return ", ".join(names[:n]) + (", ..." if len(names) > n else "")
