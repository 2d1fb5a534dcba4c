"""Semantic versions sort as the specification says."""

from __future__ import annotations

import pytest

from edge_runtime.model.store.versions import precedence


def test_versions_stand_in_the_order_of_the_specification():
    versions = [
        "1.0.0-alpha",
        "1.0.0-alpha.1",
        "1.0.0-alpha.beta",
        "1.0.0-beta",
        "1.0.0-beta.2",
        "1.0.0-beta.11",
        "1.0.0-rc.1",
        "1.0.0",
        "1.2.0",
        "1.10.0",
    ]
    order = [precedence(version) for version in versions]

    assert None not in order
    assert order == sorted(order)  # type: ignore[type-var]


def test_what_stands_after_a_plus_says_nothing():
    assert precedence("1.0.0+a") == precedence("1.0.0+b")


@pytest.mark.parametrize("text", ["1.0", "01.0.0", "1.0.0-01", "v1.0.0", "1.0.0-", "1.0.0\n", ""])
def test_a_text_that_is_no_semantic_version_has_no_place(text: str):
    assert precedence(text) is None
