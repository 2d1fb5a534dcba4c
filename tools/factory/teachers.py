"""Teachers: what a student learns to imitate. Pictures and phrases go in, unit embeddings of one space come out.

Three of them stand behind one interface, and `load_teacher` makes one from the word in a recipe:

- `HuggingFaceTeacher`: any CLIP or SigLIP that transformers can load, by name or by local path.
- `OnnxTeacher`: a CLIP image tower as one ONNX file, with a text bank for the phrases.
- `OfflineTeacher`: no CLIP picture tower at all. ImageNet classifiers say what is in the picture, genuine CLIP
  text embeddings say where those names lie (zero_shot.py).

Nothing here trains, and nothing here knows what a student is.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from edge_runtime.errors import ConfigError, DataError, NoInputError, UsageError, first_line
from edge_runtime.model.labels import TextBank
from edge_runtime.model.phrases import normalise
from edge_runtime.model.preprocess import centre_square
from tools.factory.efficientnet_lite import LITE, VARIANTS, fill_lite, lite_layers, lite_weights
from tools.factory.heads import ClassifierHead
from tools.factory.mobilenet import TFSLIM, Flavour, load_mobilenet
from tools.factory.sentence_map import load_text_rows, unique_rows
from tools.factory.weights import read_state
from tools.factory.zero_shot import imagenet_names, load_classifier_head

CLIP_B32 = "openai/clip-vit-base-patch32"

Pictures = Sequence[NDArray[np.uint8]] | NDArray[np.uint8]
TextEncoder = Callable[[Sequence[str]], NDArray[np.float32]]


class Teacher(Protocol):
    """What distillation needs to know of a teacher."""

    text_space: str

    def image_embeddings(self, pictures: Pictures) -> NDArray[np.float32]:
        """uint8 RGB pictures (H, W, 3), of any size each -> float32 (N, dim), unit norm."""
        ...

    def text_embeddings(self, phrases: Sequence[str]) -> NDArray[np.float32]:
        """Phrases as they are, no template added -> float32 (N, dim), unit norm."""
        ...


def load_teacher(
    name: str,
    *,
    weights: Path | None = None,
    members: Sequence[str] = ("mobilenet_v2",),
    text: TextEncoder | None = None,
) -> Teacher:
    """Make the teacher a recipe names.

    Args:
        name: "offline"; "onnx:TOWER.onnx" (its bank is TOWER.json + TOWER.npy beside it); else a Hugging Face
            model, by hub name or by local folder.
        weights: folder of the shared weights, for "offline".
        members: the classifiers "offline" asks, of MEMBERS.
        text: encoder of phrases that the offline teacher's bank does not hold.

    Raises UsageError with the list of what exists when the name means nothing.
    """
    if name == "offline":
        if weights is None:
            raise UsageError("teacher offline: needs the folder of the MobileNetV2 weights and the text bank")
        return OfflineTeacher(weights, members, text=text)
    if name.startswith("onnx:"):
        return OnnxTeacher(Path(name.removeprefix("onnx:")))
    if "/" in name or (name and Path(name).is_dir()):
        return HuggingFaceTeacher(name)
    raise UsageError(
        f"teacher {name!r}: no such teacher; there are: offline, onnx:TOWER.onnx, "
        f"any Hugging Face CLIP or SigLIP by name (such as {CLIP_B32}) or by local folder"
    )


def check_text_space(teacher: Teacher, text_space: str, where: str) -> None:
    """Raise ConfigError unless `where` (a bank, a bundle, a cache) speaks the teacher's text space."""
    if teacher.text_space != text_space:
        raise ConfigError(
            f"{where}: made for text space {text_space}, the teacher speaks {teacher.text_space}; "
            "embeddings of two spaces cannot be compared, remake it with this teacher"
        )


def unit(rows: NDArray[Any]) -> NDArray[np.float32]:
    """Rows of (N, dim), each divided by its norm (a row of zeros stays zero), as float32."""
    rows = np.asarray(rows, np.float32)
    return rows / np.maximum(np.linalg.norm(rows, axis=-1, keepdims=True), 1e-12)


class HuggingFaceTeacher:
    """A CLIP or SigLIP of the transformers library; its own processor prepares pictures and phrases."""

    def __init__(self, name: str, *, device: str | None = None, batch: int = 64) -> None:
        from transformers import AutoModel, AutoProcessor

        try:
            self._model = AutoModel.from_pretrained(name)
            self._processor = AutoProcessor.from_pretrained(name)
        except (OSError, ValueError, KeyError) as error:
            raise NoInputError(f"teacher {name}: transformers cannot load it ({first_line(error)})") from error
        if not hasattr(self._model, "get_image_features"):
            raise DataError(f"teacher {name}: a {type(self._model).__name__} has no image and text towers; name a CLIP")
        self.text_space = name
        self._device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        self._batch = batch
        self._model.eval().to(self._device)
        # SigLIP was trained on texts padded to its full length, CLIP masks the padding.
        self._text_options = {
            "padding": "max_length" if self._model.config.model_type.startswith("siglip") else True,
            "max_length": self._model.config.text_config.max_position_embeddings,
            "truncation": True,
        }

    def image_embeddings(self, pictures: Pictures) -> NDArray[np.float32]:
        """As `Teacher.image_embeddings`."""
        return self._run(
            pictures,
            lambda part: self._processor(images=[np.asarray(p) for p in part], return_tensors="pt"),
            self._model.get_image_features,
        )

    def text_embeddings(self, phrases: Sequence[str]) -> NDArray[np.float32]:
        """As `Teacher.text_embeddings`; phrases longer than the tower reads are cut."""
        return self._run(
            phrases,
            lambda part: self._processor(text=list(part), return_tensors="pt", **self._text_options),
            self._model.get_text_features,
        )

    @torch.no_grad()
    def _run(
        self, items: Sequence[Any], prepare: Callable[[Any], Any], tower: Callable[..., Any]
    ) -> NDArray[np.float32]:
        parts = []
        for start in range(0, len(items), self._batch):
            inputs = prepare(items[start : start + self._batch]).to(self._device)
            output = tower(**inputs)
            # transformers 5 wraps what transformers 4 returned bare.
            parts.append(getattr(output, "pooler_output", output).float().cpu().numpy())
        return unit(np.concatenate(parts))


def mean_by_name(names: Sequence[str], rows: NDArray[Any]) -> TextBank:
    """One row a name: rows of names that differ in case, underscores and spaces only are averaged, normalised again."""
    members: dict[str, list[int]] = {}
    for i, name in enumerate(names):
        members.setdefault(normalise(name.replace("_", " ")), []).append(i)
    rows = unit(rows)
    return TextBank(list(members), unit(np.stack([rows[i].mean(0) for i in members.values()])))


class OnnxTeacher:
    """A CLIP image tower as one ONNX file, with the text rows beside it.

    TOWER.onnx takes float32 NCHW pictures, normalised, of a fixed square size, and gives (N, dim). TOWER.json says
    {"text_space", "mean", "std", "names"}; TOWER.npy holds one text row a name.
    """

    def __init__(self, tower: Path, *, batch: int = 32) -> None:
        import onnxruntime

        sidecar, bank = tower.with_suffix(".json"), tower.with_suffix(".npy")
        for path in (tower, sidecar, bank):
            if not path.is_file():
                raise NoInputError(f"{path}: missing; an ONNX teacher is TOWER.onnx, TOWER.json and TOWER.npy")
        try:
            meta = json.loads(sidecar.read_text())
            self.text_space = str(meta["text_space"])
            self._mean, self._std = (np.asarray(meta[key], np.float32).reshape(3) for key in ("mean", "std"))
            self._bank = mean_by_name([str(n) for n in meta["names"]], np.load(bank, allow_pickle=False))
        except (ValueError, KeyError, TypeError, IndexError) as error:
            raise DataError(f"{sidecar}: needs text_space, mean, std and a name for each bank row ({error})") from error
        try:
            self._session: Any = onnxruntime.InferenceSession(str(tower), providers=["CPUExecutionProvider"])
        except Exception as error:  # ONNX Runtime raises its own unexported types
            raise DataError(f"{tower}: ONNX Runtime refuses it ({first_line(error)})") from None
        port = self._session.get_inputs()[0]
        if len(port.shape) != 4 or not isinstance(port.shape[2], int) or port.shape[1] != 3:
            raise DataError(f"{tower}: its input is {port.shape}; a teacher takes (N, 3, size, size) of a fixed size")
        self._input, self._size = port.name, port.shape[2]
        self._batch = port.shape[0] if isinstance(port.shape[0], int) else batch

    def image_embeddings(self, pictures: Pictures) -> NDArray[np.float32]:
        """As `Teacher.image_embeddings`; pictures are cut to their centre square, as CLIP's own preprocessing does."""
        parts = []
        for start in range(0, len(pictures), self._batch):
            part = [_squash(centre_square(p), self._size) for p in pictures[start : start + self._batch]]
            x = ((np.stack(part).astype(np.float32) / 255 - self._mean) / self._std).transpose(0, 3, 1, 2)
            missing = self._batch - len(x) if self._batch > len(x) else 0
            x = np.concatenate((x, np.zeros((missing, *x.shape[1:]), np.float32)))
            parts.append(self._session.run(None, {self._input: np.ascontiguousarray(x)})[0][: len(part)])
        return unit(np.concatenate(parts))

    def text_embeddings(self, phrases: Sequence[str]) -> NDArray[np.float32]:
        """As `Teacher.text_embeddings`, from the bank alone; raises DataError for a phrase it does not hold."""
        return _from_bank(self._bank, phrases, None)


@dataclass(frozen=True)
class Member:
    """An ImageNet classifier in the offline teacher.

    features: (B, 3, H, W) normalised by `flavour` -> (B, 1280, h, w) or (B, 1280); head: these, averaged -> (B, 512).
    """

    features: nn.Module
    head: ClassifierHead
    flavour: Flavour

    def __call__(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """(B, 3, H, W) RGB values 0 ... 255 -> p(class), (B, 1000), and unit embeddings, (B, 512)."""
        mean, std = (torch.tensor(v)[:, None, None] for v in (self.flavour.mean, self.flavour.std))
        features = self.features((pixels / 255 - mean) / std)
        if features.ndim == 4:
            features = features.mean((2, 3))
        return self.head.classify(features).softmax(1), F.normalize(self.head(features), dim=1)


MEMBERS = ("mobilenet_v2", *VARIANTS)


def load_member(name: str, weights: Path) -> Member:
    """A classifier by its name; the MobileNetV2 and the text rows stand in the folder `weights`.

    Raises UsageError for an unknown name, NoInputError when its weights are missing.
    """
    if name == "mobilenet_v2":
        source = str(weights / "mobilenetv2_1.0_imagenet_tfslim.npz")
        net, flavour = load_mobilenet(source, TFSLIM).layers, TFSLIM
    elif name in VARIANTS:
        source, flavour = lite_weights(name), LITE
        layers = lite_layers(name)
        fill_lite(layers, read_state(source), source)
        net = nn.Sequential(*layers)
    else:
        raise UsageError(f"teacher.members: no classifier '{name}'; there are: {', '.join(MEMBERS)}")
    head = load_classifier_head(source, weights)
    return Member(net.eval().to(memory_format=torch.channels_last), head.eval(), flavour)


class OfflineTeacher:
    """ImageNet classifiers and genuine CLIP text rows in place of a CLIP image tower; see zero_shot.py."""

    text_space = CLIP_B32

    def __init__(
        self,
        weights: Path,
        members: Sequence[str] = ("mobilenet_v2",),
        *,
        text: TextEncoder | None = None,
        size: int = 192,
        batch: int = 64,
    ) -> None:
        rows = load_text_rows(weights)
        names = unique_rows(rows)
        self.bank = TextBank(list(names), np.stack(list(names.values())))
        self.imagenet = imagenet_names(rows)
        self._members = [load_member(name, weights) for name in members]
        self._text, self._size, self._batch = text, size, batch

    @torch.no_grad()
    def look(self, pictures: Pictures) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """p(class | picture) over the names `imagenet`, (N, 1000), and the embeddings, (N, 512) unit norm.

        Both are means over the members.
        """
        posteriors, embeddings = [], []
        for start in range(0, len(pictures), self._batch):
            part = np.stack([_squash(p, self._size) for p in pictures[start : start + self._batch]])
            pixels = torch.from_numpy(part).permute(0, 3, 1, 2).float()
            said = [member(pixels) for member in self._members]
            posteriors.append(torch.stack([p for p, _ in said]).mean(0).numpy())
            embeddings.append(torch.stack([e for _, e in said]).mean(0).numpy())
        return np.concatenate(posteriors), unit(np.concatenate(embeddings))

    def image_embeddings(self, pictures: Pictures) -> NDArray[np.float32]:
        """As `Teacher.image_embeddings`."""
        return self.look(pictures)[1]

    def text_embeddings(self, phrases: Sequence[str]) -> NDArray[np.float32]:
        """As `Teacher.text_embeddings`: genuine rows where the bank has them, else the `text` encoder."""
        return _from_bank(self.bank, phrases, self._text)


def _from_bank(bank: TextBank, phrases: Sequence[str], text: TextEncoder | None) -> NDArray[np.float32]:
    found = [bank.find(phrase) for phrase in phrases]
    unknown = [phrase for phrase, row in zip(phrases, found, strict=True) if row is None]
    if unknown and text is None:
        raise DataError(
            f"'{unknown[0]}' is not in the teacher's text bank ({len(unknown)} of {len(phrases)} phrases); "
            "give a text encoder or use names of the bank"
        )
    made = iter(text(unknown)) if unknown and text is not None else iter(())
    return unit(np.stack([next(made) if row is None else bank.rows[row] for row in found]))


def _squash(picture: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    """The whole picture in a square, shrunk by area and enlarged linearly."""
    shrinks = min(picture.shape[:2]) >= size
    return cv2.resize(picture, (size, size), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)
