"""A student as float32 ONNX: uint8 RGB pixels [1, H, W, 3] in, unit embedding [1, dim] out.

The scale of the pixels is folded into the weights of the first convolution, so only pixels - 114 is
left before it. In the int8 graph that becomes the zero point of the input. BatchNorm is folded into
the convolutions.
"""

from __future__ import annotations

import copy
import io
import tempfile
import warnings
from pathlib import Path

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnxruntime.quantization.shape_inference import quant_pre_process
from torch import Tensor, nn

from tools.factory.students.heads import CorrectedHead
from tools.factory.students.layers import ConvNorm
from tools.factory.students.mobilenet import fold_batch_norm
from tools.factory.students.student import PIXEL_OFFSET, PIXEL_SCALE, Student

OPSET = 18
INPUT = "pixels"
OUTPUT = "embedding"
# The exporter names nodes after their module's attribute: these normalise the embedding.
UNIT_NORM = "/unit_norm/"


class Deployed(nn.Module):
    """A student as it ships: uint8 NHWC in, unit embedding out."""

    def __init__(self, student: Student) -> None:
        super().__init__()
        student = fold_all(student)
        self.backbone = student.backbone
        self.head = student.head
        self.unit_norm = UnitNorm()
        # Dividing the weights is the same as dividing the pixels, and costs nothing in a frame.
        first, _ = self.backbone.first()
        with torch.no_grad():
            first.weight.div_(PIXEL_SCALE)

    def forward(self, pixels: Tensor) -> Tensor:
        """(B, H, W, 3) uint8 RGB -> (B, dim) float32, unit norm."""
        x = pixels.permute(0, 3, 1, 2).float() - PIXEL_OFFSET
        return self.unit_norm(self.head(self.backbone(x)))


class UnitNorm(nn.Module):
    """Rows divided by their Euclidean norm."""

    def forward(self, x: Tensor) -> Tensor:
        """(B, dim) -> (B, dim)."""
        return x / x.square().sum(1, keepdim=True).sqrt().clamp_min(1e-12)


def fold_all(student: Student) -> Student:
    """A copy in evaluation mode: BatchNorm is folded into the convolutions before it, and the
    correction of a head into the head."""
    student = fold_batch_norm(copy.deepcopy(student))
    if isinstance(student.head, CorrectedHead):
        student.head = student.head.folded()
    for module in student.modules():
        if isinstance(module, ConvNorm) and isinstance(module.bn, nn.BatchNorm2d):
            module.conv = nn.utils.fusion.fuse_conv_bn_eval(module.conv, module.bn)
            module.bn = nn.Identity()
    return student


def export_onnx(student: Student, size: int, text_space: str) -> bytes:
    """The student as ONNX bytes, batch 1, checked by onnx."""
    buffer = io.BytesIO()
    model = Deployed(student).eval()
    example = torch.zeros(1, size, size, 3, dtype=torch.uint8)
    with warnings.catch_warnings():
        # The tracing exporter announces its retirement in every call; torch is pinned.
        warnings.simplefilter("ignore")
        torch.onnx.export(
            model,
            (example,),
            buffer,
            input_names=[INPUT],
            output_names=[OUTPUT],
            opset_version=OPSET,
            dynamo=False,
        )

    graph = _simplified(buffer.getvalue())
    _fuse_padding(graph)
    onnx.helper.set_model_props(graph, {"edge_label.text_space": text_space})
    graph.producer_name = "edge-label"
    # A version here would change the bytes of a student with every release of torch.
    graph.producer_version = ""
    onnx.checker.check_model(graph, full_check=True)
    return graph.SerializeToString()


def _simplified(data: bytes) -> onnx.ModelProto:
    """Constants folded and shapes inferred by ONNX Runtime's basic optimisations."""
    with tempfile.TemporaryDirectory() as scratch:
        traced = Path(scratch) / "traced.onnx"
        simple = Path(scratch) / "simple.onnx"
        traced.write_bytes(data)
        quant_pre_process(traced, simple, skip_symbolic_shape=True)
        return onnx.load(simple)


def _fuse_padding(model: onnx.ModelProto) -> None:
    """Zero Pad -> Conv becomes Conv with that padding.

    TensorFlow's "SAME" padding is uneven, and torch needs a separate Pad for that; ONNX does not.
    """
    graph = model.graph
    constants = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in graph.initializer}
    convolutions = {node.input[0]: node for node in graph.node if node.op_type == "Conv"}
    pads = [node for node in graph.node if node.op_type == "Pad" and node.output[0] in convolutions]
    for pad in pads:
        conv = convolutions[pad.output[0]]
        # (N, C, H, W) at the begin, then at the end; a Conv pads only H and W.
        amounts = constants[pad.input[1]].reshape(2, -1)[:, 2:].reshape(-1)
        _add_padding(conv, amounts)
        conv.input[0] = pad.input[0]
        graph.node.remove(pad)

    drop_unused_constants(graph)
    _drop_unused_shapes(graph)


def _drop_unused_shapes(graph: onnx.GraphProto) -> None:
    """Remove, in place, the shapes of tensors that no node computes any more."""
    outputs = {name for node in graph.node for name in node.output}
    stale = [info for info in graph.value_info if info.name not in outputs]
    for info in stale:
        graph.value_info.remove(info)


def _add_padding(conv: onnx.NodeProto, amounts: NDArray[np.int64]) -> None:
    padding = next((attribute for attribute in conv.attribute if attribute.name == "pads"), None)
    if padding is None:
        padding = conv.attribute.add()
        padding.CopyFrom(onnx.helper.make_attribute("pads", [0] * len(amounts)))
    padding.ints[:] = [old + int(new) for old, new in zip(padding.ints, amounts, strict=True)]


def drop_unused_constants(graph: onnx.GraphProto) -> None:
    """Remove, in place, the constants that no node reads any more."""
    used = {name for node in graph.node for name in node.input}
    for tensor in [t for t in graph.initializer if t.name not in used]:
        graph.initializer.remove(tensor)
