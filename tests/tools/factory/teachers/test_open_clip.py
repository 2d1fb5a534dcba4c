"""A checkpoint of open_clip answers as a teacher as it does in open_clip, and runs nothing."""

from __future__ import annotations

import json
import pickle
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs edge-label[train]")
pytest.importorskip("transformers", reason="needs edge-label[train]")

from safetensors.torch import load_file  # noqa: E402

from edge_runtime.errors import DataError, NoInputError  # noqa: E402
from tools import open_clip  # noqa: E402
from tools.factory.teachers.hugging_face import HuggingFaceTeacher  # noqa: E402
from tools.factory.teachers.open_clip import find_model  # noqa: E402

TINY = Path(__file__).parent / "open_clip"  # make.py there has made it, with open_clip
MODEL = TINY / "tiny.json"
WEIGHTS = TINY / "tiny.safetensors"


def run(output: Path, *, model: Path | str = MODEL, weights: Path = WEIGHTS) -> int:
    vocabulary = str(TINY / "bpe.txt.gz")
    options = ["--output", str(output), "--vocabulary", vocabulary]
    return open_clip.main([str(model), str(weights), *options])


def check_answers(folder: Path) -> None:
    answers = np.load(TINY / "answers.npz")
    teacher = HuggingFaceTeacher(str(folder))
    image = teacher.image_embeddings(answers["pictures"])
    text = teacher.text_embeddings([str(phrase) for phrase in answers["phrases"]])
    # fp32 on another machine adds up in another order.
    assert ((image * answers["image"]).sum(1) > 0.99999).all()
    assert ((text * answers["text"]).sum(1) > 0.99999).all()


def test_a_converted_checkpoint_answers_as_it_does_in_open_clip(tmp_path: Path) -> None:
    assert run(tmp_path / "clip") == 0
    check_answers(tmp_path / "clip")


def test_a_checkpoint_of_a_training_on_several_gpus_is_taken(tmp_path: Path) -> None:
    state = {f"module.{name}": tensor.float() for name, tensor in load_file(WEIGHTS).items()}
    torch.save({"epoch": 3, "name": "mine", "state_dict": state}, tmp_path / "epoch_3.pt")
    assert run(tmp_path / "clip", weights=tmp_path / "epoch_3.pt") == 0
    check_answers(tmp_path / "clip")


def test_a_model_is_found_by_name_without_importing_open_clip(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "site" / "open_clip"
    (package / "model_configs").mkdir(parents=True)
    (package / "__init__.py").write_text("raise RuntimeError('imported')")
    shutil.copy(MODEL, package / "model_configs" / "ViT-tiny.json")
    shutil.copy(TINY / "bpe.txt.gz", package / "bpe_simple_vocab_16e6.txt.gz")
    monkeypatch.syspath_prepend(tmp_path / "site")
    assert open_clip.main(["ViT-tiny", str(WEIGHTS), "--output", str(tmp_path / "clip")]) == 0
    check_answers(tmp_path / "clip")
    assert "open_clip" not in sys.modules
    with pytest.raises(NoInputError, match="ViT-none: no such model"):
        find_model("ViT-none")


def test_without_open_clip_the_advice_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(NoInputError, match="pip install --no-deps open_clip_torch"):
        find_model("ViT-B-32")
    with pytest.raises(NoInputError, match="give --vocabulary"):
        find_model(str(MODEL))


def changed(part: str, key: str, value: Any) -> dict[str, Any]:
    config = json.loads(MODEL.read_text())
    (config[part] if part else config)[key] = value
    return config


@pytest.mark.parametrize(
    ("config", "said"),
    [
        (changed("vision_cfg", "timm_model_name", "vit_base"), "timm_model_name is vit_base"),
        (changed("text_cfg", "no_causal_mask", True), "no_causal_mask is True"),
        (changed("text_cfg", "pool_type", "last"), "pool_type is last"),
        (changed("text_cfg", "tokenizer_kwargs", {"clean": "lower"}), "tokenizer_kwargs is {"),
        (changed("vision_cfg", "layers", [3, 4, 6, 3]), "its image tower is no transformer"),
        (changed("vision_cfg", "width", 32), "not the weights of changed: size mismatch"),
        (changed("vision_cfg", "layers", 3), "not the weights of changed: Missing key"),
        (changed("text_cfg", "vocab_size", 540), "gives 534 tokens, the model has 540"),
        ({"embed_dim": 16}, "not the configuration of an open_clip model"),
        ([], "not the configuration of an open_clip model"),
    ],
)
def test_a_network_that_is_no_plain_clip_is_refused_in_one_line(
    config: Any, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "changed.json").write_text(json.dumps(config))
    weights = tmp_path / "tiny.pt"
    state = {name: tensor.float() for name, tensor in load_file(WEIGHTS).items()}
    if "540" in said:
        state["token_embedding.weight"] = torch.zeros(540, 24)
    torch.save(state, weights)
    code = run(tmp_path / "clip", model=tmp_path / "changed.json", weights=weights)
    assert code == DataError.exit_code
    errors = [line for line in capsys.readouterr().err.splitlines() if "tools.open_clip:" in line]
    assert len(errors) == 1
    assert said in errors[0]


def test_settings_that_change_no_answer_are_accepted(tmp_path: Path) -> None:
    config = changed("vision_cfg", "patch_dropout", 0.5) | {"custom_text": True}
    (tmp_path / "open_clip_config.json").write_text(json.dumps({"model_cfg": config}))
    state = load_file(WEIGHTS)
    text = ("token_embedding", "positional_embedding", "transformer", "ln_final", "text_projection")
    named = {f"text.{name}" if name.startswith(text) else name: t for name, t in state.items()}
    torch.save(named, tmp_path / "custom.pt")
    config_path = tmp_path / "open_clip_config.json"
    assert run(tmp_path / "clip", model=config_path, weights=tmp_path / "custom.pt") == 0
    check_answers(tmp_path / "clip")


class _Runs:
    """What unpickles into a call of open()."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Any, ...]:
        return (open, (str(self.target), "w"))


def test_weights_that_hold_code_are_refused_and_not_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.save({"visual.proj": _Runs(tmp_path / "ran")}, tmp_path / "evil.pt")
    (tmp_path / "evil.bin").write_bytes(pickle.dumps(_Runs(tmp_path / "ran")))
    for name in ("evil.pt", "evil.bin"):
        assert run(tmp_path / "clip", weights=tmp_path / name) == DataError.exit_code
        assert "code from a file of weights is never run" in capsys.readouterr().err
    assert not (tmp_path / "ran").exists()


def test_a_folder_of_transformers_that_holds_code_is_refused_and_not_run(tmp_path: Path) -> None:
    assert run(tmp_path / "clip") == 0
    (tmp_path / "clip" / "model.safetensors").unlink()
    weights = tmp_path / "clip" / "pytorch_model.bin"
    torch.save({"logit_scale": _Runs(tmp_path / "ran")}, weights)
    with pytest.raises(NoInputError, match="code from a file of weights is never run"):
        HuggingFaceTeacher(str(tmp_path / "clip"))
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("content", [b"", b"no weights", b"\x80\x02]."])
def test_a_file_without_weights_is_one_line(
    content: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file.pt").write_bytes(content)
    assert run(tmp_path / "clip", weights=tmp_path / "file.pt") == DataError.exit_code
    assert "file.pt: " in capsys.readouterr().err


def test_a_missing_file_and_an_alien_tensor_are_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(tmp_path / "clip", weights=tmp_path / "none.pt") == NoInputError.exit_code
    assert "none.pt: no such weights" in capsys.readouterr().err
    state = load_file(WEIGHTS) | {"visual.trunk.patch_embed.proj.weight": torch.zeros(1)}
    torch.save(state, tmp_path / "timm.pt")
    assert run(tmp_path / "clip", weights=tmp_path / "timm.pt") == DataError.exit_code
    assert "'visual.trunk.patch_embed.proj.weight' is no tensor" in capsys.readouterr().err
