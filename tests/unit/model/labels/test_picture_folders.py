"""Any label has a folder, on any disk, and the folder says which label it is."""

from __future__ import annotations

import unicodedata

import pytest

from edge_runtime.errors import ConfigError
from edge_runtime.model.labels.picture_folders import NONE_FOLDER, folder_name, label_name


@pytest.mark.parametrize(
    ("label", "folder"),
    [
        ("snowy road", "snowy road"),
        ("wet/icy road", "wet%2Ficy road"),
        ("100 %", "100 %25"),
        ("a: b?", "a%3A b%3F"),
        (".hidden", "%2Ehidden"),
        ("..", "%2E%2E"),
        ("etc.", "etc%2E"),
        ("none", "%6Eone"),
        ("雪道", "雪道"),
        ('a\\b|<c>*"', "a%5Cb%7C%3Cc%3E%2A%22"),
    ],
)
def test_a_label_has_a_folder_and_a_folder_its_label(label: str, folder: str):
    assert folder_name(label) == folder
    assert label_name(folder) == label
    assert folder != NONE_FOLDER


def test_an_accent_that_stands_apart_from_its_letter_is_the_same_label():
    assert label_name(unicodedata.normalize("NFD", "café")) == "café"


def test_a_label_too_long_for_a_folder_is_one_line():
    with pytest.raises(ConfigError, match="too long to be the name of a folder; give it a short"):
        folder_name("道" * 86)
