"""A label set with words that the tiny bank lacks, and the command that builds it."""

from __future__ import annotations

from edge_runtime.cli import main

SET = """\
labels:
  - name: crimson
  - name: forest
  - name: blue
background: ["grey"]
"""


def build(label_set, bundle, encoder, *more):
    return main(
        [
            "labels",
            "build",
            str(label_set),
            "--bundle",
            str(bundle),
            "--text-encoder",
            str(encoder),
            *more,
        ]
    )
