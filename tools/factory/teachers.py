"""Teachers: what a student learns to imitate. Pictures and phrases go in, unit embeddings of one space come out.

Three of them stand behind one interface, and `load_teacher` makes one from the word in a recipe:

- `HuggingFaceTeacher`: any CLIP or SigLIP that transformers can load, by name or by local path.
- `OnnxTeacher`: a CLIP image tower as one ONNX file, with a text bank for the phrases.
- `OfflineTeacher`: no CLIP picture tower at all. An ImageNet classifier says what is in the picture, genuine CLIP
  text embeddings say where those names lie (ConSE, Norouzi et al., ICLR 2014, equation 3).

Nothing here trains, and nothing here knows what a student is.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from edge_runtime.errors import ConfigError, DataError, NoInputError, UsageError
from tools.factory.mobilenet import TFSLIM, load_classifier, load_mobilenet

CLIP_B32 = "openai/clip-vit-base-patch32"
BACKGROUND_CLASSES = 1  # the TensorFlow-slim classifier's class 0 is no ImageNet class
FIRST_IMAGENET_ROW = 1203  # of the shared text bank; 1,000 rows in the order of the classes

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


def load_teacher(name: str, *, weights: Path | None = None, text: TextEncoder | None = None) -> Teacher:
    """Make the teacher a recipe names.

    Args:
        name: "offline"; "onnx:TOWER.onnx" (its bank is TOWER.json + TOWER.npy beside it); else a Hugging Face
            model, by hub name or by local folder.
        weights: folder of the shared weights, for "offline".
        text: encoder of phrases that the offline teacher's bank does not hold.

    Raises UsageError with the list of what exists when the name means nothing.
    """
    if name == "offline":
        if weights is None:
            raise UsageError("teacher offline: needs the folder of the MobileNetV2 weights and the text bank")
        return OfflineTeacher(weights, text=text)
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
            reason = str(error).strip().splitlines()[0]
            raise NoInputError(f"teacher {name}: transformers cannot load it ({reason})") from error
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


@dataclass(frozen=True)
class NamedRows:
    """Text embeddings by name: `rows` is float32 (len(names), dim), unit norm; names are unique and folded."""

    names: tuple[str, ...]
    rows: NDArray[np.float32]

    def find(self, phrases: Iterable[str]) -> list[int | None]:
        """The row of each phrase, as written or without "a photo of" and the article; None where there is none."""
        index = {name: i for i, name in enumerate(self.names)}
        return [index.get(fold(p), index.get(bare(p))) for p in phrases]


def fold(phrase: str) -> str:
    """The form in which names are compared: lower case, underscores and runs of spaces as one space."""
    return " ".join(phrase.replace("_", " ").casefold().split())


def bare(phrase: str) -> str:
    """A phrase without its leading "a photo of" and article: "a photo of a dog" -> "dog"."""
    phrase = fold(phrase)
    for start in ("a photo of ", "a picture of "):
        phrase = phrase.removeprefix(start)
    for article in ("a ", "an ", "the "):
        if phrase.startswith(article):
            return phrase.removeprefix(article)
    return phrase


def mean_by_name(names: Sequence[str], rows: NDArray[Any]) -> NamedRows:
    """One row a name: rows that carry the same folded name are averaged and normalised again."""
    members: dict[str, list[int]] = {}
    for i, name in enumerate(names):
        members.setdefault(fold(name), []).append(i)
    rows = unit(rows)
    return NamedRows(tuple(members), unit(np.stack([rows[i].mean(0) for i in members.values()])))


def read_shared_bank(weights: Path) -> tuple[NamedRows, NDArray[np.float32]]:
    """The genuine CLIP ViT-B/32 text rows of the shared folder.

    Returns (every name once, the 1,000 ImageNet rows in class order). An ImageNet name "tench, Tinca tinca" also
    answers to its synonyms where no other row does. Raises NoInputError when a file is missing.
    """
    try:
        bank = np.load(weights / "clip_vitb32_text_bank.npy", allow_pickle=False)
        extra = np.load(weights / "clip_vitb32_text_extra.npy", allow_pickle=False)
        listed = [
            json.loads((weights / f"clip_vitb32_text_{part}_names.json").read_text()) for part in ("bank", "extra")
        ]
    except FileNotFoundError as error:
        raise NoInputError(f"{error.filename}: missing; give the folder with the shared weights") from error
    entries = [entry["name"] for entry in listed[0] + listed[1]]
    rows = unit(np.concatenate((bank, extra)))
    imagenet = rows[FIRST_IMAGENET_ROW : FIRST_IMAGENET_ROW + 1000]
    known = {fold(name) for name in entries}
    names, picked = list(entries), list(range(len(entries)))
    for i in range(FIRST_IMAGENET_ROW, FIRST_IMAGENET_ROW + 1000):
        synonyms = [fold(s) for s in entries[i].split(",")]
        new = [s for s in synonyms if s not in known]
        known.update(new)
        names += new
        picked += [i] * len(new)
    return mean_by_name(names, rows[picked]), imagenet


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
            raise DataError(f"{tower}: ONNX Runtime refuses it ({str(error).splitlines()[0]})") from None
        port = self._session.get_inputs()[0]
        if len(port.shape) != 4 or not isinstance(port.shape[2], int) or port.shape[1] != 3:
            raise DataError(f"{tower}: its input is {port.shape}; a teacher takes (N, 3, size, size) of a fixed size")
        self._input, self._size = port.name, port.shape[2]
        self._batch = port.shape[0] if isinstance(port.shape[0], int) else batch

    def image_embeddings(self, pictures: Pictures) -> NDArray[np.float32]:
        """As `Teacher.image_embeddings`; pictures are cut to their centre square, as CLIP's own preprocessing does."""
        parts = []
        for start in range(0, len(pictures), self._batch):
            part = [_centre(p, self._size) for p in pictures[start : start + self._batch]]
            x = ((np.stack(part).astype(np.float32) / 255 - self._mean) / self._std).transpose(0, 3, 1, 2)
            missing = self._batch - len(x) if self._batch > len(x) else 0
            x = np.concatenate((x, np.zeros((missing, *x.shape[1:]), np.float32)))
            parts.append(self._session.run(None, {self._input: np.ascontiguousarray(x)})[0][: len(part)])
        return unit(np.concatenate(parts))

    def text_embeddings(self, phrases: Sequence[str]) -> NDArray[np.float32]:
        """As `Teacher.text_embeddings`, from the bank alone; raises DataError for a phrase it does not hold."""
        return _from_bank(self._bank, phrases, None)


class OfflineTeacher:
    """ImageNet classifiers and genuine CLIP text rows in place of a CLIP image tower (ConSE).

    The embedding of a picture is normalise(sum over classes k of p(k | picture) * v_k), where v_k stands for class
    k. With `shrinkage` None, v_k is the CLIP text row itself, as in ConSE. CLIP's text rows share one large mean
    (any two have cosine 0.7 or so), so by default v_k is the row after ridge whitening over the bank,
    (C + shrinkage * mean(diag C) * I)^-1 (t_k - mean t): the direction that tells class k best from all other names.
    """

    text_space = CLIP_B32

    def __init__(
        self,
        weights: Path,
        *,
        text: TextEncoder | None = None,
        shrinkage: float | None = 1.0,
        temperature: float = 1.0,
        size: int = 192,
        batch: int = 64,
    ) -> None:
        self.bank, self.imagenet = read_shared_bank(weights)
        self.prototypes = prototypes(self.bank.rows, self.imagenet, shrinkage)
        checkpoint = weights / "mobilenetv2_1.0_imagenet_tfslim.npz"
        self._net = nn.Sequential(load_mobilenet(checkpoint, TFSLIM), load_classifier(checkpoint)).eval()
        self._text, self._temperature, self._size, self._batch = text, temperature, size, batch

    @torch.no_grad()
    def posterior(self, pictures: Pictures) -> NDArray[np.float32]:
        """p(k | picture) of the 1,000 ImageNet classes: float32 (N, 1000), rows sum to 1."""
        parts = []
        for start in range(0, len(pictures), self._batch):
            part = np.stack([_squash(p, self._size) for p in pictures[start : start + self._batch]])
            x = torch.from_numpy(part).permute(0, 3, 1, 2).float() / 127.5 - 1
            logits = self._net(x)[:, BACKGROUND_CLASSES:]
            parts.append((logits / self._temperature).softmax(1).numpy())
        return np.concatenate(parts)

    def image_embeddings(self, pictures: Pictures) -> NDArray[np.float32]:
        """As `Teacher.image_embeddings`."""
        return unit(self.posterior(pictures) @ self.prototypes)

    def text_embeddings(self, phrases: Sequence[str]) -> NDArray[np.float32]:
        """As `Teacher.text_embeddings`: genuine rows where the bank has them, else the `text` encoder."""
        return _from_bank(self.bank, phrases, self._text)


def prototypes(bank: NDArray[np.float32], rows: NDArray[np.float32], shrinkage: float | None) -> NDArray[np.float32]:
    """Unit directions standing for `rows` (K, dim) against all of `bank` (N, dim); see `OfflineTeacher`."""
    if shrinkage is None:
        return unit(rows)
    mean = bank.mean(0)
    covariance = np.cov(bank - mean, rowvar=False)
    ridge = shrinkage * np.trace(covariance) / len(covariance) * np.eye(len(covariance))
    return unit(np.linalg.solve(covariance + ridge, (rows - mean).T).T)


def _from_bank(bank: NamedRows, phrases: Sequence[str], text: TextEncoder | None) -> NDArray[np.float32]:
    found = bank.find(phrases)
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


def _centre(picture: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    height, width = picture.shape[:2]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    return _squash(picture[top : top + side, left : left + side], size)
