"""edge-label: zero-shot text labels for every camera frame, on a small ARM computer.

This package is what is installed on the camera. It imports numpy, onnxruntime, cv2 and yaml, each only
where it is needed; the model factory that makes the bundles lives in ``tools/`` and is never imported here.
"""

__version__ = "0.1.0"
