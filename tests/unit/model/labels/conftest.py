"""The tiny bundle and its bank: red, green, blue, grey, dark red and 'a photo of nothing'."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge_runtime.model.bundle import Bundle, load_bundle
from edge_runtime.model.labels.text_bank import TextBank


@pytest.fixture
def bundle(tiny_bundle: Path) -> Bundle:
    return load_bundle(tiny_bundle)


@pytest.fixture
def bank(bundle: Bundle) -> TextBank:
    return TextBank.from_bundle(bundle)
