"""Traced program: an encoder alone, any ONNX file.

    guest_encoder.py MODEL [PROFILE]

Uses the runtime's own session options. With PROFILE, ONNX Runtime's profiler is on and writes under
that prefix; its clock reads cut the trace at each operator.
"""

import sys

import numpy as np
from guest import mark

from edge_runtime.model.encoder import onnxruntime, session_options

options = session_options(1)
if len(sys.argv) > 2:
    options.enable_profiling = True
    options.profile_file_prefix = sys.argv[2]
session = onnxruntime.InferenceSession(sys.argv[1], options, providers=["CPUExecutionProvider"])
port = session.get_inputs()[0]
shape = [size if isinstance(size, int) else 1 for size in port.shape]
random = np.random.default_rng(1)
if port.type == "tensor(uint8)":
    batch = random.integers(0, 255, shape, dtype=np.uint8)
else:
    batch = random.standard_normal(shape, dtype=np.float32)

# The first inference allocates memory and packs weights.
session.run(None, {port.name: batch})
mark(0)
session.run(None, {port.name: batch})
mark(1)
