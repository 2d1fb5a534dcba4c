"""What a person may write in a label set, and where a set is found."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge_runtime.errors import ConfigError, NoInputError
from edge_runtime.model.bundle import Bundle
from edge_runtime.model.labels.label_set import load_label_set, parse_label_set


@pytest.mark.fault("G1", "N4")
@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("labels: []", "the label set is empty"),
        ("labels:\n  - name: ''", "name must be text"),
        ("labels:\n  - name: ' '", "is empty"),
        ("labels:\n  - name: red\n  - name: Red", "given twice"),
        ("labels:\n  - name: red\n    treshold: 0.5", "did you mean 'threshold'?"),
        ("labels:\n  - name: red\n    threshold: 1.5", "between 0 and 1"),
        ("labels:\n  - name: red\n    bias: 51", "between -50 and 50"),
        ("labels:\n  - name: red\n    prompts: ['']", "prompts[0] must be text"),
        ("labels:\n  - name: red\n    background: yes please", "background must be true or false"),
        (
            "labels:\n  - {name: red, background: true, threshold: 0.5}",
            "never on, so it can have no threshold",
        ),
        (
            "labels:\n  - {name: red, background: true, any_view: true}",
            "never on, so any_view says nothing",
        ),
        (
            "labels:\n  - {name: red, background: true}",
            "every label of group 'labels' is background",
        ),
        ('labels:\n  - name: "a\\nb"', "control characters"),
        ('labels:\n  - name: "a\\u202eb"', "control characters"),
        (f"labels:\n  - name: {'x' * 100_000}", "100000 characters"),
        ('labels:\n  - name: red\nbackground: ["\\x07"]', "control characters"),
        ("labels: [red]\ntemplates: ['a photo']", "must hold {} once"),
        ("labels: [red]\ntemplates: ['{} and {}']", "must hold {} once"),
        ("labels: [red]\ntemplates: ['{} {name}']", "must hold {} once"),
    ],
)
def test_a_bad_label_set_is_one_line(text: str, message: str):
    with pytest.raises(ConfigError) as error:
        parse_label_set(text, "x.yaml")

    assert message in str(error.value)
    assert len(str(error.value)) < 300


@pytest.mark.parametrize("line", ["{labels: 0}", "{labels: 1000}", "{labels: hot}", "{other: 2}"])
def test_an_impossible_temperature_is_refused(line: str):
    with pytest.raises(ConfigError, match="temperatures"):
        parse_label_set(f"labels: [{{name: red}}]\ntemperatures: {line}\n", "x.yaml")


def test_letters_of_every_script_are_letters():
    text = "labels:\n  - name: مطر\n  - name: 🚗 car\n  - name: 雪道\n"
    labels = parse_label_set(text, "x.yaml").labels

    assert [label.name for label in labels] == ["مطر", "🚗 car", "雪道"]


def test_a_label_set_is_found_by_name_or_by_path(bundle: Bundle, tmp_path: Path):
    assert len(load_label_set("colours", bundle).labels) == 3

    path = tmp_path / "my.yaml"
    path.write_text("labels:\n  - name: red\n")
    assert load_label_set(str(path), bundle).labels[0].name == "red"

    with pytest.raises(NoInputError, match="did you mean 'colours'"):
        load_label_set("colour", bundle)
    with pytest.raises(NoInputError, match="no such label set; check the path"):
        load_label_set("none.yaml", bundle)


def test_names_stand_in_the_templates_of_the_set_or_else_of_the_bundle():
    own = parse_label_set("labels: [red]\ntemplates: ['all {}']\nbackground: [grey]", "x.yaml")
    bare = parse_label_set("labels: [red, {name: sky, prompts: [blue, blue]}]", "x.yaml")

    assert own.phrases(("a photo of {}",)) == ["all red", "grey"]
    assert bare.phrases(("a photo of {}",)) == ["a photo of red", "blue"]
