"""Students: sizes as published, input normalisation folded exactly, timm's weights by their
names."""

from __future__ import annotations

from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="needs edge-label[train]")

from edge_runtime.errors import DataError, NoInputError  # noqa: E402
from tools.factory.int8.export import Deployed, fold_all  # noqa: E402
from tools.factory.recipe import HeadRecipe, StudentRecipe  # noqa: E402
from tools.factory.students.layers import Backbone, ConvNorm, SqueezeExcite  # noqa: E402
from tools.factory.students.mobilenet import TFSLIM, TORCHVISION, Flavour, MobileNetV2  # noqa: E402
from tools.factory.students.networks import STUDENTS  # noqa: E402
from tools.factory.students.student import build_student, fold_normalisation, load_backbone  # noqa: E402

# Parameters of the published networks without their classifier, in millions.
PUBLISHED = {
    "mobilenetv4_conv_small": 2.49,
    "efficientnet_lite0": 3.37,
    "efficientnet_b3": 10.70,
    "mobilenet_v2": 2.22,
}


@pytest.mark.parametrize("name", STUDENTS)
def test_students_have_the_published_size_and_give_unit_embeddings(name: str) -> None:
    student = build_student(StudentRecipe(name, head=HeadRecipe(depth=2, width=64)), 24).eval()
    parameters = sum(p.numel() for p in student.backbone.parameters()) / 1e6
    assert parameters == pytest.approx(PUBLISHED[name], rel=0.01)
    with torch.no_grad():
        embedding = student(torch.randint(0, 256, (2, 3, 64, 64)).float())
    assert embedding.shape == (2, 24)
    torch.testing.assert_close(embedding.norm(dim=1), torch.ones(2))


@pytest.mark.parametrize("flavour", [TORCHVISION, TFSLIM], ids=["torchvision", "tfslim"])
def test_folded_normalisation_gives_what_the_checkpoint_gives(flavour: Flavour) -> None:
    """Inside the picture exactly; the border sees grey 114 in place of the mean colour."""
    torch.manual_seed(0)
    net = MobileNetV2(flavour).eval()
    pixels = torch.randint(0, 256, (1, 3, 96, 96)).float()
    mean, std = (torch.tensor(v)[:, None, None] for v in (flavour.mean, flavour.std))
    with torch.no_grad():
        expected = net.layers[0]((pixels / 255 - mean) / std)
        backbone = Backbone(list(net.layers), 1280)
        fold_normalisation(backbone, flavour.mean, flavour.std)
        found = backbone.layers[0]((pixels - 114) / 57)
    torch.testing.assert_close(
        found[..., 1:-1, 1:-1], expected[..., 1:-1, 1:-1], atol=1e-5, rtol=1e-4
    )


@pytest.mark.parametrize("name", STUDENTS)
def test_the_deployed_graph_is_the_student(name: str) -> None:
    """BatchNorm and pixel scale folded away, the same embedding."""
    torch.manual_seed(0)
    student = build_student(StudentRecipe(name), 16)
    with torch.no_grad():
        for _ in range(2):
            student(torch.randint(0, 256, (4, 3, 64, 64)).float())  # statistics other than 0 and 1
    student.eval()
    pixels = torch.randint(0, 256, (1, 64, 64, 3), dtype=torch.uint8)
    with torch.no_grad():
        expected = student(pixels.permute(0, 3, 1, 2).float())
        found = Deployed(student).eval()(pixels)
    torch.testing.assert_close(found, expected, atol=2e-4, rtol=1e-3)
    assert not [m for m in fold_all(student).modules() if isinstance(m, torch.nn.BatchNorm2d)]


def timm_state(backbone: Backbone) -> dict[str, torch.Tensor]:
    """The backbone's tensors under the names timm gives them."""
    state = {}
    for module in backbone.modules():
        if isinstance(module, ConvNorm):
            conv, norm = module.names
            state[f"{conv}.weight"] = module.conv.weight
            for part in ("weight", "bias", "running_mean", "running_var"):
                state[f"{norm}.{part}"] = getattr(module.bn, part)
        elif isinstance(module, SqueezeExcite):
            for ours, theirs in ((module.reduce, "conv_reduce"), (module.expand, "conv_expand")):
                state |= {
                    f"{module.name}.{theirs}.{part}": getattr(ours, part)
                    for part in ("weight", "bias")
                }
    return {name: tensor.detach().clone() for name, tensor in state.items()}


@pytest.mark.parametrize("name", ["mobilenetv4_conv_small", "efficientnet_b3"])
def test_weights_with_timm_names_are_loaded(name: str, tmp_path: Path) -> None:
    torch.manual_seed(1)
    source, target = STUDENTS[name](), STUDENTS[name]()
    state = timm_state(source)
    # A name of each kind, as timm spells them.
    assert "conv_stem.weight" in state
    assert {"mobilenetv4_conv_small": "blocks.2.0.dw_start.conv.weight"}.get(
        name, "blocks.1.0.conv_pwl.weight"
    ) in state
    torch.save(state, tmp_path / "weights.pt")
    load_backbone(target, str(tmp_path / "weights.pt"))
    for (_, a), (_, b) in zip(
        source.state_dict().items(), target.state_dict().items(), strict=True
    ):
        assert torch.equal(a, b)
    del state["conv_stem.weight"]
    torch.save(state, tmp_path / "weights.pt")
    with pytest.raises(DataError, match=r"conv_stem\.weight is missing"):
        load_backbone(target, str(tmp_path / "weights.pt"))
    with pytest.raises(NoInputError, match="no such weights"):
        load_backbone(target, str(tmp_path / "other.pt"))
