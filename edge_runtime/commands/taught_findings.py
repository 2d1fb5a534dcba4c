"""What pictures taught a label set, in a few lines for a person: ``labels check`` prints them."""

from __future__ import annotations

from edge_runtime.commands.label_findings import first_few
from edge_runtime.model.bundle import Bundle
from edge_runtime.model.labels.label_set import LabelSet
from edge_runtime.model.labels.taught import NONE, TaughtGroup, Teaching, still_holds


def describe_teaching(teaching: Teaching, label_set: LabelSet, bundle: Bundle) -> list[str]:
    """How many pictures taught which labels, which held-out ones were taken for what, and what no
    longer holds."""
    kept, lost = still_holds(teaching, label_set, bundle.manifest)
    lines = [f"  {line}; run: edge-label labels learn" for line in lost]
    if kept is None:
        return lines

    lines.append(f"  taught by pictures ({kept.method}):")
    for group in kept.groups:
        lines.append(f"    group {group.name}: {_counts(group, kept)}; {held_out_sentence(group)}")
        lines += [f"  {line}" for line in first_few(_mistakes(group))]
    return lines


def held_out_sentence(group: TaughtGroup) -> str:
    """``12 of 60 held-out pictures right before, 52 after``."""
    if not group.held_out:
        return "no picture could be held out: that takes two or more of most labels"
    return (
        f"{group.words_right} of {group.held_out} held-out pictures right before, "
        f"{group.right} after"
    )


def _counts(group: TaughtGroup, teaching: Teaching) -> str:
    """``wet road 8, dry road 10, none of these 25``, or how many of many labels."""
    pictures = teaching.pictures
    counts = [(label, len(pictures[label])) for label in group.labels if label in pictures]
    if len(counts) > 8:
        return f"{len(counts)} labels, {sum(count for _, count in counts)} pictures"
    return ", ".join(f"{_name(label)} {count}" for label, count in counts)


def _mistakes(group: TaughtGroup) -> list[str]:
    """``wet road taken for dry road: 3 of 8``, most often first."""
    asked: dict[str, int] = {}
    for label, _, count in group.answers:
        asked[label] = asked.get(label, 0) + count

    wrong = [answer for answer in group.answers if answer[0] != answer[1]]
    wrong.sort(key=lambda answer: -answer[2])
    return [
        f"{_name(label)} taken for {_name(answer)}: {count} of {asked[label]}"
        for label, answer, count in wrong
    ]


def _name(label: str) -> str:
    return "none of these" if label == NONE else label
