"""`labels build --text-encoder` with a real CLIP: its own rows, from transformers and from ONNX,
each row signed."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs edge-label[train]")
transformers = pytest.importorskip("transformers", reason="needs edge-label[train]")

from edge_runtime.cli import main  # noqa: E402
from edge_runtime.model.bundle import load_bundle  # noqa: E402
from edge_runtime.model.labels.compiled import load_labels  # noqa: E402
from edge_runtime.model.labels.phrase_rows import PhraseRows  # noqa: E402
from tests.tiny import encoder_onnx, npy_bytes, write_tiny_bundle  # noqa: E402
from tools.factory.teachers.hugging_face import HuggingFaceTeacher  # noqa: E402
from tools.factory.text.tower import export_text_tower  # noqa: E402

SET = """\
labels:
  - {name: pond, prompts: [a pond]}
  - {name: lake, prompts: [a mild lake, lake]}
  - {name: fog}
"""
KNOWN = ("lake", "cab", "hill")


@pytest.fixture
def bundle(tiny_clip: Path, tmp_path: Path) -> Path:
    """A bundle in the text space of the tiny CLIP; its bank holds three names exactly and guesses a
    fourth."""
    rows = HuggingFaceTeacher(str(tiny_clip)).text_embeddings(KNOWN)
    guess = np.eye(1, 16, dtype=np.float32)
    space = str(tiny_clip)
    names = [*KNOWN, "a photo of a fog"]
    meta = {
        "schema": "edge-label-bank/1",
        "text_space": space,
        "names": names,
        "approximate": [3],
        "sources": {},
    }
    return write_tiny_bundle(
        tmp_path / "bundle",
        {"text_space": space},
        encoder__dot__onnx=encoder_onnx(space),
        text_bank__dot__npy=npy_bytes(np.concatenate((rows, guess)).astype(np.float16)),
        text_bank__dot__json=json.dumps(meta).encode(),
        labels__colours__dot__yaml=b"labels: [{name: lake, prompts: [lake]}]\n",
    )


@pytest.fixture
def onnx_folder(tiny_clip: Path, tmp_path: Path) -> Path:
    """The CLIP's text tower as ONNX and its tokenizer.json, as an exporter leaves them."""
    folder = tmp_path / "tower"
    folder.mkdir()
    clip = transformers.CLIPModel.from_pretrained(tiny_clip, attn_implementation="eager").eval()

    class Text(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.clip = clip

        def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
            features = self.clip.get_text_features(
                input_ids=input_ids, attention_mask=attention_mask
            )
            return getattr(
                features, "pooler_output", features
            )  # transformers 5 wraps what 4 returned bare

    (folder / "text_model.onnx").write_bytes(export_text_tower(Text().eval(), "text_embeds"))
    tokenizer = transformers.CLIPTokenizerFast.from_pretrained(tiny_clip)
    tokenizer.backend_tokenizer.save(str(folder / "tokenizer.json"))
    return folder


def _build(bundle: Path, tmp_path: Path, encoder: Path) -> Path:
    path = tmp_path / "my.yaml"
    path.write_text(SET)
    assert (
        main(
            ["labels", "build", str(path), "--bundle", str(bundle), "--text-encoder", str(encoder)]
        )
        == 0
    )
    return path


@pytest.mark.parametrize("kind", ["transformers", "onnx"])
def test_a_real_clip_makes_exact_rows_and_signs_each(
    kind: str,
    bundle: Path,
    tiny_clip: Path,
    tmp_path: Path,
    request: pytest.FixtureRequest,
    capsys: pytest.CaptureFixture[str],
) -> None:
    encoder = tiny_clip if kind == "transformers" else request.getfixturevalue("onnx_folder")
    path = _build(bundle, tmp_path, encoder)
    out = capsys.readouterr().out
    teacher = HuggingFaceTeacher(str(tiny_clip))
    phrases = ["a pond", "a mild lake", "a photo of a fog"]
    built = PhraseRows.read(path.with_suffix(".embeddings"))
    assert built is not None
    assert list(built.phrases) == phrases
    np.testing.assert_allclose(built.rows, teacher.text_embeddings(phrases), atol=2e-3)
    assert not built.approximate
    name = str(tiny_clip) if kind == "transformers" else "tower "
    assert built.encoder.startswith(name)
    assert f"3 phrases by {built.encoder}, exact" in out
    assert (
        f"3 phrases: {built.encoder}, exact\n"
        "    'a pond'\n    'a mild lake'\n    'a photo of a fog'\n" in out
    )
    assert "1 phrases: bank, exact" in out
    labels = load_labels(str(path), load_bundle(bundle))  # what the daemon does: no encoder
    pond, mild, lake, fog = teacher.text_embeddings(
        ["a pond", "a mild lake", "lake", "a photo of a fog"]
    )
    mean = (mild + lake) / np.linalg.norm(mild + lake)
    np.testing.assert_allclose(labels.matrix, [pond, mean, fog], atol=2e-3)


def test_another_clip_is_refused_and_nothing_is_written(
    bundle: Path, tiny_clip: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = tmp_path / "other"
    transformers.CLIPProcessor.from_pretrained(tiny_clip).save_pretrained(other)
    torch.manual_seed(1)
    transformers.CLIPModel(transformers.CLIPConfig.from_pretrained(tiny_clip)).save_pretrained(
        other
    )
    path = tmp_path / "my.yaml"
    path.write_text(SET)
    capsys.readouterr()
    assert (
        main(["labels", "build", str(path), "--bundle", str(bundle), "--text-encoder", str(other)])
        == 78
    )
    err = capsys.readouterr().err
    assert "does not encode into the bundle's text space" in err
    assert len(err.splitlines()) == 1
    assert not path.with_suffix(".embeddings").exists()


@pytest.mark.parametrize(
    ("name", "code"), [("nowhere/clip", 65), ("./nowhere", 66)]
)  # a name of a hub; a path
def test_a_clip_that_is_not_there_is_one_line(
    name: str, code: int, bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "my.yaml"
    path.write_text(SET)
    assert (
        main(["labels", "build", str(path), "--bundle", str(bundle), "--text-encoder", name])
        == code
    )
    err = capsys.readouterr().err
    assert name in err
    assert len(err.splitlines()) == 1
    assert not path.with_suffix(".embeddings").exists()
