"""A label set written back as YAML, in the form that `label_set.parse_label_set` reads."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import yaml

from edge_runtime.model.labels.label_set import LabelSet, LabelSpec


def label_set_yaml(label_set: LabelSet, comment: str = "") -> str:
    """The label set as YAML text, without what is the default. ``comment`` is one line."""
    whole: dict[str, Any] = {"labels": [_label(label) for label in label_set.labels]}
    for name in ("background", "templates"):
        if getattr(label_set, name):
            whole[name] = list(getattr(label_set, name))
    if label_set.temperatures:
        whole["temperatures"] = dict(label_set.temperatures)

    head = f"# {comment}\n" if comment else ""
    return head + yaml.safe_dump(whole, sort_keys=False, allow_unicode=True, width=100)


def _label(label: LabelSpec) -> str | dict[str, Any]:
    """What differs from the default; a label that has only a name is its name."""
    entry = {}
    for field in fields(LabelSpec):
        value = getattr(label, field.name)
        if value != field.default:
            entry[field.name] = list(value) if isinstance(value, tuple) else value
    return label.name if entry.keys() == {"name"} else entry
