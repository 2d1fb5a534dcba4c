"""The image encoder: an ONNX Runtime session over verified bytes.

This is the only file that imports onnxruntime.
"""

from __future__ import annotations

import os
import platform
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_runtime.errors import BundleError, StuckError, first_line
from edge_runtime.model.bundle import Bundle
from edge_runtime.model.manifest import ENCODER
from edge_runtime.system.instance import instance

# ONNX Runtime 1.31 for Linux ships with telemetry on: it writes files under ~/.cache and /tmp, and
# has a host to send them to. It reads this variable when it is imported.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"

import onnxruntime

TEXT_SPACE_KEY = "edge_label.text_space"

# Name, shape and type of one input or output of a graph.
_Port = tuple[str, tuple[int, ...], str]


def default_threads() -> int:
    """The cores this process may use, at most 4: a Pi 4's memory bus feeds no more.

    One of several services takes half of them, since there are at least two.
    """
    cores = min(4, len(os.sched_getaffinity(0)))
    return max(1, cores // 2) if instance() else cores


def session_options(threads: int) -> onnxruntime.SessionOptions:
    """Session options for a small computer.

    docs/decisions/002-session-options.md has the figures.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.enable_mem_pattern = False
    options.log_severity_level = 3
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")

    if platform.machine() == "x86_64":
        # Without VNNI, x86 saturates u8 x s8 products; the A72 does not. With this the numbers are
        # the same everywhere.
        options.add_session_config_entry("session.x64quantprecision", "1")
    return options


def open_session(data: bytes, threads: int, where: str, *, lean: bool = False) -> Any:
    """An inference session over ONNX bytes. Raises BundleError when ONNX Runtime refuses them.

    ``lean`` leaves int8 weights int8 until a node needs them, and keeps no arena: slower, and 25 MB
    smaller.
    """
    options = session_options(threads)
    arguments: dict[str, Any] = {"providers": ["CPUExecutionProvider"]}
    if lean:
        options.enable_cpu_mem_arena = False
        arguments["disabled_optimizers"] = ["ConstantFolding"]

    try:
        session = onnxruntime.InferenceSession(data, options, **arguments)
    except Exception as error:  # ONNX Runtime raises types that it does not export
        raise BundleError(
            f"{where}: ONNX Runtime refuses it ({first_line(error)})", "reinstall it"
        ) from error

    # ONNX Runtime keeps the bytes for a change of provider: as much memory as the model.
    session._model_bytes = None
    return session


class Encoder:
    """Callable: uint8 input of ``spec.shape`` -> float32 unit-norm embedding of shape (dim,)."""

    def __init__(self, bundle: Bundle, threads: int | None = None) -> None:
        """Raises BundleError for a graph that is not what the manifest says."""
        manifest = bundle.manifest
        where = str(bundle.path / ENCODER)

        self.threads = threads or default_threads()
        self._session = open_session(bundle.encoder_bytes(), self.threads, where)
        self._input = manifest.input.name
        self._outputs = [manifest.embedding_name]

        _check_ports(self._session, bundle, where)
        space = self._session.get_modelmeta().custom_metadata_map.get(TEXT_SPACE_KEY)
        if space != manifest.text_space:
            raise BundleError(
                f"{where}: made for text space {space!r}, "
                f"the manifest says {manifest.text_space!r}",
                "parts of two bundles are mixed, reinstall one",
            )

    def __call__(self, batch: NDArray[np.uint8]) -> NDArray[np.float32]:
        """The embedding of one picture. Raises StuckError when ONNX Runtime fails.

        Out of memory is the usual reason.
        """
        try:
            outputs = self._session.run(self._outputs, {self._input: batch})
        except Exception as error:
            raise StuckError(
                f"encoder: ONNX Runtime fails ({first_line(error)})",
                "only a new process can help",
            ) from error

        embedding: NDArray[np.float32] = outputs[0][0]
        unit: NDArray[np.float32] = embedding / np.sqrt(embedding @ embedding)
        return unit


def _check_ports(session: Any, bundle: Bundle, where: str) -> None:
    """One input and one output, of the names, shapes and types that the manifest promises."""
    manifest = bundle.manifest

    promised: _Port = (manifest.input.name, manifest.input.shape, "tensor(uint8)")
    inputs = _ports(session.get_inputs())
    if inputs != [promised]:
        raise BundleError(
            f"{where}: takes {inputs}, the manifest promises {[promised]}", "reinstall the bundle"
        )

    promised = (manifest.embedding_name, (1, manifest.dim), "tensor(float)")
    outputs = _ports(session.get_outputs())
    if outputs != [promised]:
        raise BundleError(
            f"{where}: gives {outputs}, the manifest promises {[promised]}", "reinstall the bundle"
        )


def _ports(ports: Any) -> list[_Port]:
    return [(port.name, tuple(port.shape), port.type) for port in ports]
