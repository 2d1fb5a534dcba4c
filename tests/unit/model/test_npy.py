"""An embedding file is read without executing, exploding or believing it."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

from edge_runtime.errors import BundleError
from edge_runtime.model.npy import read_embeddings
from tests.tiny import npy_bytes


class Evil:
    def __reduce__(self):
        return (pytest.fail, ("a pickle was executed",))


def unit(rows: int = 3, dim: int = 8) -> np.ndarray:
    matrix = np.random.default_rng(0).normal(size=(rows, dim))
    return matrix / np.linalg.norm(matrix, axis=1, keepdims=True)


def test_float16_and_float32_rows_are_read():
    for dtype in (np.float16, np.float32):
        got = read_embeddings(npy_bytes(unit().astype(dtype)), "f")
        assert got.dtype == np.float16
        np.testing.assert_allclose(got, unit(), atol=1e-3)


def header(shape: tuple[int, ...], descr: str = "<f2") -> bytes:
    text = repr({"descr": descr, "fortran_order": False, "shape": shape}).encode()
    return b"\x93NUMPY\x01\x00" + (len(text) + 1).to_bytes(2, "little") + text + b"\n"


@pytest.mark.fault("M4", "M6", "M7")
@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "not a NumPy array"),
        (b"garbage" * 10, "not a NumPy array"),
        (npy_bytes(np.array([[Evil()]], dtype=object)), "holds object"),
        (npy_bytes(unit().astype(np.float64)), "holds float64"),
        (npy_bytes(unit()[0].astype(np.float16)), "is not (rows, dim)"),
        (npy_bytes(np.asfortranarray(unit().astype(np.float16))), "is not (rows, dim)"),
        (npy_bytes(unit().astype(np.float16))[:-1], "header promises"),
        (header((10**9, 512)), "is not (rows, dim)"),  # 1 TB in 80 bytes
        (header((1000, 4096)), "header promises"),
        (header((1, 8)).replace(b"<f2", b"\\d2"), "not a NumPy array"),
        (npy_bytes(np.zeros((2, 8), np.float16)), "row 0 has norm 0"),
        (npy_bytes(np.full((2, 8), np.nan, np.float16)), "row 0 has norm nan"),
    ],
)
def test_anything_else_is_refused_in_one_line(data: bytes, says: str):
    with (
        pytest.raises(BundleError) as error,
        warnings.catch_warnings(action="always", record=True) as warned,
    ):
        read_embeddings(data, "bank.npy")
    assert warned == [], "one line, and no warning of a library before it"
    assert says in str(error.value)
    assert str(error.value).startswith("bank.npy: ")
