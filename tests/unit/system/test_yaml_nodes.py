"""A YAML text becomes a tree that can neither explode nor execute, or one line with its place."""

from __future__ import annotations

import pytest
import yaml

from edge_runtime.errors import ConfigError
from edge_runtime.system.yaml_nodes import MAX_DEPTH, compose


def values(text: str) -> list[str]:
    """The scalar values of a mapping."""
    return [value.value for _, value in compose(text, "x.yaml").value if value.id == "scalar"]


@pytest.mark.fault("G1")
def test_a_billion_laughs_is_refused_before_it_is_built():
    lines = ["a0: &a0 [x]"]
    for level in range(1, 12):
        below = ",".join([f"*a{level - 1}"] * 9)
        lines.append(f"a{level}: &a{level} [{below}]")
    with pytest.raises(ConfigError, match="aliases"):
        compose("\n".join(lines), "x.yaml")


@pytest.mark.fault("G6")
@pytest.mark.parametrize(
    "text",
    ["a: " + "[" * 5000 + "]" * 5000, "# [{\na: " + "{b: " * 5000, "a:\n- " + "[{a: " * 5000],
)
@pytest.mark.parametrize("with_libyaml", [True, False])
def test_deep_nesting_is_refused_in_the_same_words_by_every_yaml_library(
    text: str, with_libyaml: bool, monkeypatch: pytest.MonkeyPatch
):
    """libyaml 0.2.6 counts open brackets while it looks ahead, with an error of its own."""
    if not with_libyaml:
        monkeypatch.delattr(yaml, "CSafeLoader", raising=False)
    with pytest.raises(ConfigError) as error:
        compose(text, "x.yaml")
    line = text.count("\n") + 1
    assert str(error.value) == f"x.yaml:{line}: nested deeper than {MAX_DEPTH} levels"


def test_brackets_in_text_and_comments_are_no_nesting():
    assert values("name: 'a [ b'  # " + "[" * 500 + "\nnumbers: [1]\n") == ["a [ b"]
    assert values("name: " + "a] " * 200)[0].startswith("a]")


@pytest.mark.parametrize("with_libyaml", [True, False])
def test_an_error_repeats_nothing_of_a_line_that_may_hold_a_password(
    with_libyaml: bool, monkeypatch: pytest.MonkeyPatch
):
    """Not even in its cause, which --verbose shows: PyYAML quotes the line there."""
    if not with_libyaml:
        monkeypatch.delattr(yaml, "CSafeLoader", raising=False)
    for text in ("password: 'hunter2", "password: !hunter2", "password: @hunter2"):
        with pytest.raises(ConfigError) as error:
            compose(text, "x.yaml")
        assert "hunter2" not in str(error.value)
        assert error.value.__cause__ is None
        assert error.value.__suppress_context__ or error.value.__context__ is None


def test_an_empty_document_is_an_empty_mapping():
    for text in ("", "# nothing\n", "---\n"):
        assert values(text) == []
