"""A label set as the YAML it is read from."""

from __future__ import annotations

from typing import Any

from edge_runtime.model.labels.label_set import LabelSet


def to_yaml(label_set: LabelSet, comment: str) -> str:
    """A label set as the YAML it is read from; defaults are left out."""
    import yaml

    entries = []
    for label in label_set.labels:
        entry: dict[str, Any] = {"name": label.name}
        if label.prompts:
            entry["prompts"] = list(label.prompts)
        if label.threshold is not None:
            entry["threshold"] = label.threshold
        if label.bias:
            entry["bias"] = label.bias
        if label.background:
            entry["background"] = True
        if label.any_view:
            entry["any_view"] = True
        entries.append(entry | {"group": label.group})
    whole: dict[str, Any] = {"labels": entries}
    if label_set.background:
        whole["background"] = list(label_set.background)
    if label_set.templates:
        whole["templates"] = list(label_set.templates)
    if label_set.temperatures:
        whole["temperatures"] = label_set.temperatures
    return f"# {comment}\n" + yaml.safe_dump(whole, sort_keys=False, allow_unicode=True, width=110)
