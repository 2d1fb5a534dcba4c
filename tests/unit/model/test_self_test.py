"""A new bundle is tried where it can do no harm, and whatever it does there becomes one line."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edge_runtime.errors import BundleError
from edge_runtime.model import self_test as module
from edge_runtime.model.bundle import load_bundle
from edge_runtime.model.encoder import Encoder
from edge_runtime.model.self_test import self_test, self_test_in_child
from tests.commands import instead_of_python

pytestmark = pytest.mark.usefixtures("uncounted_children")


def test_a_good_bundle_passes(tiny_bundle: Path):
    self_test_in_child(tiny_bundle)


def test_a_bundle_that_crashes_its_process_is_refused(
    tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    instead_of_python(tmp_path, monkeypatch, "kill -SEGV $$")
    with pytest.raises(BundleError, match="ended by SIGSEGV; it must not be installed"):
        self_test_in_child(tiny_bundle)


def test_a_bundle_that_never_answers_is_refused(
    tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    instead_of_python(tmp_path, monkeypatch, "exec sleep 100")
    monkeypatch.setattr(module, "WALL_S", 0.2)
    with pytest.raises(BundleError, match=r"more than 0\.2 s"):
        self_test_in_child(tiny_bundle)


def test_a_process_that_fails_without_a_word_is_no_pass(
    tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    instead_of_python(tmp_path, monkeypatch, "exit 3")
    with pytest.raises(BundleError, match="its self-test fails"):
        self_test_in_child(tiny_bundle)


@pytest.mark.parametrize("value", [np.nan, 3.0])
def test_an_encoder_that_gives_no_unit_vector_is_refused(
    tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch, value: float
):
    dim = load_bundle(tiny_bundle).manifest.dim
    monkeypatch.setattr(Encoder, "__call__", lambda _self, _batch: np.full(dim, value, np.float32))
    with pytest.raises(BundleError, match="no unit-norm embedding"):
        self_test(load_bundle(tiny_bundle))
