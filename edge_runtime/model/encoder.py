"""The image encoder: an ONNX Runtime session over verified bytes. The only file that imports onnxruntime."""

from __future__ import annotations

import os
import platform
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_runtime.errors import BundleError, StuckError, first_line
from edge_runtime.model.bundle import Bundle

# onnxruntime 1.31 for Linux ships with telemetry on: files under ~/.cache and /tmp, and a host to send to.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"

import onnxruntime

TEXT_SPACE_KEY = "edge_label.text_space"


def default_threads() -> int:
    """The cores this process may use, at most 4: a Pi 4's memory bus feeds no more."""
    return min(4, len(os.sched_getaffinity(0)))


def session_options(threads: int) -> onnxruntime.SessionOptions:
    """Session options for a small computer; docs/decisions/002-session-options.md has the figures."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.enable_mem_pattern = False
    options.log_severity_level = 3
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    if platform.machine() == "x86_64":
        # Without VNNI x86 saturates u8 x s8 products; the A72 does not. Same numbers everywhere.
        options.add_session_config_entry("session.x64quantprecision", "1")
    return options


def open_session(data: bytes, threads: int, where: str, *, lean: bool = False) -> Any:
    """An inference session over ONNX bytes. Raises BundleError when ONNX Runtime refuses them.

    ``lean`` leaves int8 weights int8 until a node needs them, and keeps no arena: slower, and 25 MB smaller.
    """
    options = session_options(threads)
    more: dict[str, Any] = {}
    if lean:
        options.enable_cpu_mem_arena = False
        more["disabled_optimizers"] = ["ConstantFolding"]
    try:
        session = onnxruntime.InferenceSession(
            data, options, providers=["CPUExecutionProvider"], **more
        )
    except Exception as error:  # ONNX Runtime raises its own unexported types
        raise BundleError(
            f"{where}: ONNX Runtime refuses it ({first_line(error)})", "reinstall it"
        ) from None
    session._model_bytes = (
        None  # kept by ONNX Runtime for a change of provider: as much memory as the model
    )
    return session


class Encoder:
    """Callable: uint8 input of ``spec.shape`` -> float32 unit-norm embedding of shape (dim,)."""

    def __init__(self, bundle: Bundle, threads: int | None = None) -> None:
        manifest = bundle.manifest
        where = str(bundle.path / "encoder.onnx")
        self.threads = threads or default_threads()
        self._session = open_session(bundle.encoder_bytes(), self.threads, where)
        _check_ports(self._session, bundle, where)
        space = self._session.get_modelmeta().custom_metadata_map.get(TEXT_SPACE_KEY)
        if space != manifest.text_space:
            raise BundleError(
                f"{where}: made for text space {space!r}, the manifest says {manifest.text_space!r}",
                "parts of two bundles are mixed, reinstall one",
            )
        self._input = manifest.input.name
        self._outputs = [manifest.embedding_name]

    def __call__(self, batch: NDArray[np.uint8]) -> NDArray[np.float32]:
        """The embedding of one picture. Raises StuckError when ONNX Runtime fails, out of memory above all."""
        try:
            embedding: NDArray[np.float32] = self._session.run(self._outputs, {self._input: batch})[
                0
            ][0]
        except Exception as error:
            why = f"encoder: ONNX Runtime fails ({first_line(error)}); only a new process can help"
            raise StuckError(why) from None
        unit: NDArray[np.float32] = embedding / np.sqrt(embedding @ embedding)
        return unit


def _check_ports(session: Any, bundle: Bundle, where: str) -> None:
    """One input and one output, of the names, shapes and types the manifest promises."""
    manifest = bundle.manifest
    got = [(p.name, tuple(p.shape), p.type) for p in session.get_inputs()]
    want: list[tuple[str, tuple[int, ...], str]] = [
        (manifest.input.name, manifest.input.shape, "tensor(uint8)")
    ]
    if got != want:
        raise BundleError(
            f"{where}: takes {got}, the manifest promises {want}", "reinstall the bundle"
        )
    got = [(p.name, tuple(p.shape), p.type) for p in session.get_outputs()]
    want = [(manifest.embedding_name, (1, manifest.dim), "tensor(float)")]
    if got != want:
        raise BundleError(
            f"{where}: gives {got}, the manifest promises {want}", "reinstall the bundle"
        )
