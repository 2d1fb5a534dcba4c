"""The word in a recipe -> the teacher it names."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from edge_runtime.errors import UsageError
from tools.factory.students.bundle_start import BUNDLE
from tools.factory.teachers.bundle_teacher import BundleTeacher
from tools.factory.teachers.hugging_face import HuggingFaceTeacher
from tools.factory.teachers.offline import OfflineTeacher
from tools.factory.teachers.onnx_tower import OnnxTeacher
from tools.factory.teachers.teacher import CLIP_B32, Teacher, TextEncoder
from tools.factory.text.rows import bank_of, known_rows


def load_teacher(
    name: str,
    *,
    weights: Path | None = None,
    members: Sequence[str] = ("mobilenet_v2",),
    words: Sequence[str] = (),
    text: TextEncoder | None = None,
) -> Teacher:
    """Make the teacher a recipe names.

    Args: name: "offline"; "bundle:DIR", the encoder of a bundle; "onnx:TOWER.onnx" (its bank is
        TOWER.json + TOWER.npy beside it); else a Hugging Face model, by hub name or by local
        folder.
        weights: folder of the shared weights, for "offline".
        words: kinds of words whose genuine rows a bundle as teacher knows; all where it is empty.
        members: the classifiers "offline" asks, of MEMBERS.
        text: encoder of phrases that the offline teacher's bank does not hold.

    Raises UsageError with the list of what exists when the name means nothing.
    """
    if name == "offline":
        if weights is None:
            raise UsageError(
                "teacher offline: needs the folder of the MobileNetV2 weights and the text bank"
            )
        return OfflineTeacher(weights, members, text=text)
    if name.startswith(BUNDLE):
        if weights is None:
            raise UsageError(f"teacher {name}: needs the folder of the text rows")
        bank = bank_of(known_rows(weights, words))
        return BundleTeacher(Path(name.removeprefix(BUNDLE)), bank, text)
    if name.startswith("onnx:"):
        return OnnxTeacher(Path(name.removeprefix("onnx:")))
    if "/" in name or (name and Path(name).is_dir()):
        return HuggingFaceTeacher(name)
    raise UsageError(
        f"teacher {name!r}: no such teacher",
        "there are: offline, bundle:DIR, onnx:TOWER.onnx, "
        f"any Hugging Face CLIP or SigLIP by name (such as {CLIP_B32}) or by local folder",
    )
