"""The fake-quantised student computes what ONNX Runtime computes, learns, and goes back into the
same int8 graph."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs edge-label[train]")

from edge_runtime.errors import DataError  # noqa: E402
from edge_runtime.model.encoder import open_session  # noqa: E402
from tools.factory.int8.export import INPUT, export_onnx  # noqa: E402
from tools.factory.int8.fake_quant import FakeQuantised  # noqa: E402
from tools.factory.int8.parity import cosines, run_all  # noqa: E402
from tools.factory.int8.quantise import quantise  # noqa: E402
from tools.factory.recipe import HeadRecipe, StudentRecipe  # noqa: E402
from tools.factory.students.student import build_student, to_pixels  # noqa: E402

CPU = torch.device("cpu")
SIDE = 48


def smooth_pictures(count: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    coarse = torch.from_numpy(rng.integers(0, 255, (count, 3, 6, 6)).astype(np.float32))
    fine = torch.nn.functional.interpolate(coarse, size=SIDE, mode="bicubic").clamp(0, 255)
    return fine.permute(0, 2, 3, 1).numpy().astype(np.uint8)


@pytest.fixture(scope="module")
def graphs() -> tuple[bytes, bytes]:
    """A small student of random weights with settled BatchNorm, as float32 and as int8 ONNX."""
    torch.manual_seed(0)
    student = build_student(
        StudentRecipe("mobilenetv4_conv_small", head=HeadRecipe(depth=2, width=32)), 16
    )
    student.train()
    for seed in range(8):
        student(to_pixels(smooth_pictures(16, seed), CPU))
    float32 = export_onnx(student.eval(), SIDE, "test/space")
    return float32, quantise(float32, list(smooth_pictures(16, 50)[:, None]), "minmax")


def as_torch(module: torch.nn.Module, pictures: np.ndarray) -> np.ndarray:
    with torch.no_grad():
        return module(to_pixels(pictures, CPU)).numpy()


def test_torch_and_onnx_runtime_agree(graphs: tuple[bytes, bytes]):
    _, int8 = graphs
    pictures = smooth_pictures(16, 99)
    module = FakeQuantised(int8)
    found = cosines(as_torch(module, pictures), run_all(module.to_onnx(), list(pictures[:, None])))
    assert found["mean"] >= 0.999, found


def test_without_rounding_it_is_the_float_graph(graphs: tuple[bytes, bytes]):
    float32, int8 = graphs
    pictures = smooth_pictures(8, 98)
    module = FakeQuantised(int8)
    module.rounding = False
    assert (
        cosines(as_torch(module, pictures), run_all(float32, list(pictures[:, None])))["mean"]
        >= 0.99
    )


def test_trained_weights_reach_the_onnx_file(graphs: tuple[bytes, bytes]):
    _, int8 = graphs
    pictures = smooth_pictures(8, 97)
    module = FakeQuantised(int8)
    before = module.to_onnx()
    wanted = torch.nn.functional.normalize(
        torch.randn(16, generator=torch.Generator().manual_seed(1)), dim=0
    )
    optimiser = torch.optim.Adam(module.parameters(), 5e-3)
    for _ in range(5):
        optimiser.zero_grad()
        (1 - module(to_pixels(pictures, CPU)) @ wanted).mean().backward()
        optimiser.step()
    after = run_all(module.to_onnx(), list(pictures[:, None]))
    assert (after @ wanted.numpy()).mean() > (
        run_all(before, list(pictures[:, None])) @ wanted.numpy()
    ).mean() + 0.1
    assert cosines(as_torch(module, pictures), after)["mean"] >= 0.999


def test_the_frozen_layers_are_onnx_runtimes_own_and_the_rest_goes_on_from_them(
    graphs: tuple[bytes, bytes],
):
    """Stage 2 starts at what the int8 graph itself makes of a picture; only later layers get a
    gradient."""
    _, int8 = graphs
    module, pictures = FakeQuantised(int8), smooth_pictures(8, 94)
    tensor = module.stem_of(4)
    session = open_session(module.cut(4), 1, "stem")
    levels = np.concatenate([session.run(None, {INPUT: p[None]})[0] for p in pictures])
    assert levels.dtype == np.uint8
    stem = torch.from_numpy((levels.astype(np.float32) - tensor.zero) * np.float32(tensor.scale))
    module.freeze(4)
    found = module(stem, 4)
    assert cosines(found.detach().numpy(), run_all(int8, list(pictures[:, None])))["mean"] >= 0.999
    found[:, 0].sum().backward()
    for name, weight in module.backbone.by_name().items():
        early = name.startswith(tuple(f"backbone.layers.{i}." for i in range(4)))
        assert (weight.grad is None) == early, name


def test_a_graph_cut_where_nothing_is_rounded_is_refused(graphs: tuple[bytes, bytes]):
    with pytest.raises(DataError, match=r"layer 0 .* does not start at a quantised tensor"):
        FakeQuantised(graphs[1]).stem_of(0)


def test_a_copy_rounds_by_its_own_switch(graphs: tuple[bytes, bytes]):
    import copy

    _, int8 = graphs
    module = FakeQuantised(int8)
    other = copy.deepcopy(module)
    other.rounding = False
    with torch.no_grad():
        for weight in other.parameters():
            weight.mul_(0.5)
    pictures = smooth_pictures(4, 96)
    assert not np.allclose(as_torch(module, pictures), as_torch(other, pictures))
    assert module.rounding
    assert as_torch(module, pictures) == pytest.approx(as_torch(FakeQuantised(int8), pictures))


def test_a_bias_on_a_channel_without_weights_survives(graphs: tuple[bytes, bytes]):
    """Its scale would be 0 / 127; the quantiser's way out loses the bias."""
    _, int8 = graphs
    module = FakeQuantised(int8)
    weights = module.backbone.by_name()
    name, product = next((n, p) for n, p in module._products.items() if p.bias)
    with torch.no_grad():
        weights[name][0] = 0
        weights[product.bias][0] = 0.2
    pictures = smooth_pictures(8, 95)
    assert (
        cosines(as_torch(module, pictures), run_all(module.to_onnx(), list(pictures[:, None])))[
            "mean"
        ]
        >= 0.999
    )
