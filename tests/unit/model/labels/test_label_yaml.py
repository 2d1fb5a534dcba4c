"""What is written is read back as it was, whatever the words are."""

from __future__ import annotations

import string
from dataclasses import fields

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_runtime.model.labels.label_set import LabelSet, LabelSpec, parse_label_set
from edge_runtime.model.labels.label_yaml import label_set_yaml

# Words of YAML, numbers and signs are what could be read as something else.
words = st.one_of(
    st.sampled_from(
        ["off", "no", "null", "~", "012", "1_0", "1e3", ".nan", "=", "<<", "1:30", "2024-01-01"]
    ),
    st.text(string.ascii_letters + string.digits + "äé猫🐈 -_#:,'\"[]{}&*!|>%@`\\/?.", min_size=1),
).filter(lambda text: bool(text.strip()) and not text.startswith("~/"))
labels = st.builds(
    LabelSpec,
    name=words,
    prompts=st.lists(words, max_size=3).map(tuple),
    threshold=st.none() | st.floats(0, 1),
    bias=st.floats(-50, 50),
    group=words,
    any_view=st.booleans(),
)
label_sets = st.builds(
    LabelSet,
    labels=st.lists(
        labels,
        min_size=1,
        max_size=4,
        unique_by=lambda label: " ".join(label.name.casefold().split()),
    ).map(tuple),
    background=st.lists(words, max_size=2).map(tuple),
)


@given(label_sets)
def test_every_label_set_survives_being_written(label_set: LabelSet):
    assert parse_label_set(label_set_yaml(label_set, "a comment"), "x") == label_set


def test_what_is_the_default_is_left_out():
    plain = LabelSet((LabelSpec("cat"), LabelSpec("dog", threshold=0.5)))
    assert label_set_yaml(plain) == "labels:\n- cat\n- name: dog\n  threshold: 0.5\n"


def test_no_key_of_a_label_set_is_forgotten():
    label = LabelSpec("cat", ("a cat",), None, 1.0, "animals", background=True)
    whole = LabelSet(
        (label, LabelSpec("dog", group="animals", threshold=0.5, any_view=True)),
        ("a wall",),
        ("a {}",),
        {"animals": 2.0},
    )
    text = label_set_yaml(whole)
    assert parse_label_set(text, "x") == whole
    for field in (*fields(LabelSet), *fields(LabelSpec)):
        assert f"{field.name}:" in text


@pytest.mark.parametrize("name", ["${HOME}"])
def test_a_name_that_the_file_could_not_hold_is_refused_when_it_is_read(name: str):
    from edge_runtime.errors import ConfigError

    with pytest.raises(ConfigError, match="not replaced here"):
        parse_label_set(label_set_yaml(LabelSet((LabelSpec(name),))), "x")
