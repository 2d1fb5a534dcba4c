"""Resident memory of an encoder alone, in the userland: NumPy, ONNX Runtime and one ONNX file, four
threads."""

import json
import sys

import numpy as np
from guest_memory import guest_rss_mb

from edge_runtime.model.encoder import onnxruntime, session_options

session = onnxruntime.InferenceSession(
    sys.argv[1], session_options(4), providers=["CPUExecutionProvider"]
)
session._model_bytes = None
port = session.get_inputs()[0]
shape = [size if isinstance(size, int) else 1 for size in port.shape]
batch = np.zeros(shape, np.uint8 if port.type == "tensor(uint8)" else np.float32)
for _ in range(3):
    session.run(None, {port.name: batch})
print(json.dumps(guest_rss_mb()))
