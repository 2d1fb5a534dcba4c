"""MobileNetV2 in plain torch: the checkpoints work, and BatchNorm goes in and out without any
change."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs edge-label[train]")

from edge_runtime.errors import DataError, NoInputError  # noqa: E402
from tests.paths import REPOSITORY  # noqa: E402
from tools.factory.students.mobilenet import (  # noqa: E402
    TFSLIM,
    MobileNetV2,
    fold_batch_norm,
    insert_batch_norm,
    load_classifier,
    load_mobilenet,
)

WEIGHTS = REPOSITORY.parent / "shared" / "weights"
TFSLIM_NPZ = WEIGHTS / "mobilenetv2_1.0_imagenet_tfslim.npz"
TORCHVISION_NPZ = WEIGHTS / "mobilenetv2_1.0_imagenet_torchvision.npz"
needs_weights = pytest.mark.skipif(not WEIGHTS.is_dir(), reason="../shared/weights is not here")


@needs_weights
def test_tfslim_checkpoint_recognises_a_real_photograph() -> None:
    """skimage carries a photograph of a cat; the classifier must name a cat (ImageNet 281-285)."""
    data = pytest.importorskip("skimage.data", reason="needs scikit-image")
    cv2 = pytest.importorskip("cv2")
    picture = cv2.resize(data.chelsea()[:, 75:375], (224, 224), interpolation=cv2.INTER_AREA)
    pixels = torch.from_numpy(picture.copy()).permute(2, 0, 1)[None].float() / 127.5 - 1
    with torch.no_grad():
        winner = int(
            load_classifier(TFSLIM_NPZ)(load_mobilenet(TFSLIM_NPZ, TFSLIM).eval()(pixels)).argmax()
        )
    assert winner - 1 in range(281, 286)


@needs_weights
def test_torchvision_checkpoint_fills_every_convolution() -> None:
    net = load_mobilenet(TORCHVISION_NPZ)
    assert len(net.convolutions()) == 52
    features = net.features(torch.zeros(1, 3, 96, 96))
    assert features.shape == (1, 1280, 3, 3)
    assert torch.isfinite(features).all()


@pytest.mark.parametrize("size", [64, 65, 96])
def test_same_padding_keeps_the_ceiling_of_the_size(size: int) -> None:
    assert MobileNetV2(TFSLIM).features(torch.zeros(1, 3, size, size)).shape[-1] == -(-size // 32)


def test_batch_norm_goes_in_and_out_without_changing_the_network() -> None:
    torch.manual_seed(0)
    net = MobileNetV2().eval()
    pictures = torch.randn(8, 3, 64, 64)
    with torch.no_grad():
        before = net(pictures)
        insert_batch_norm(net, [pictures[:4], pictures[4:]])
        torch.testing.assert_close(net(pictures), before, atol=1e-4, rtol=1e-3)
        # Statistics that training moved must be folded, not forgotten.
        for layer in net.convolutions():
            layer.norm.running_mean.add_(0.1)
            layer.norm.weight.mul_(1.1)
        moved = net(pictures)
        torch.testing.assert_close(fold_batch_norm(net)(pictures), moved, atol=1e-4, rtol=1e-3)
        assert (moved - before).abs().max() > 1e-3


def test_a_wrong_checkpoint_is_one_clear_error(tmp_path: Path) -> None:
    with pytest.raises(NoInputError, match="no such weights"):
        load_mobilenet(tmp_path / "nothing.npz")
    np.savez(tmp_path / "other.npz", weight=np.zeros(3, np.float32))
    with pytest.raises(DataError, match=r"00\.weight is missing, should be \(32, 3, 3, 3\)"):
        load_mobilenet(tmp_path / "other.npz")
    with pytest.raises(DataError, match="no classifier"):
        load_classifier(tmp_path / "other.npz")
