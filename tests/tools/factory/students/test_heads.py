"""A factored head gives almost the embeddings of the whole head. A corrected one is folded without
a trace. A head that cannot be factored is refused."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch", reason="needs edge-label[train]")

from tools.factory.recipe import HeadRecipe  # noqa: E402
from tools.factory.students.heads import (  # noqa: E402
    ClassifierHead,
    CorrectedHead,
    ProjectionHead,
)


def head(inputs: int = 40, classes: int = 12, outputs: int = 24) -> ClassifierHead:
    torch.manual_seed(0)
    return ClassifierHead(
        torch.nn.Linear(inputs, classes),
        torch.randn(classes, outputs),
        torch.nn.Linear(inputs, outputs),
    )


def test_a_factored_head_is_smaller_and_exact_where_features_span_no_more_than_its_rank() -> None:
    whole, small = head(), head()
    features = torch.randn(200, 8) @ torch.randn(8, 40)
    moments = features.T @ features / 200 + 1e-6 * torch.eye(40)
    small.factor(8, moments)
    with torch.no_grad():
        torch.testing.assert_close(small(features), whole(features), atol=1e-3, rtol=1e-3)
        elsewhere = torch.randn(50, 40)
        assert (small(elsewhere) - whole(elsewhere)).abs().max() > 0.01  # it did give something up
    assert sum(p.numel() for p in small.parameters()) < sum(p.numel() for p in whole.parameters())


def test_moments_choose_what_is_kept() -> None:
    """At the same rank, a head factored for the features at hand changes them less than one
    factored blindly."""
    features = torch.randn(300, 40) * torch.linspace(3, 0.1, 40)
    lost = []
    for moments in (None, features.T @ features / 300):
        small = head()
        small.factor(6, moments)
        with torch.no_grad():
            lost.append(float((small(features) - head()(features)).square().mean()))
    assert lost[1] < 0.9 * lost[0]


def test_a_head_is_factored_once() -> None:
    small = head()
    small.factor(4)
    with pytest.raises(TypeError, match="factored already"):
        small.factor(4)


def test_a_correction_changes_nothing_at_first_and_is_alone_in_being_trained() -> None:
    plain = head()
    features = torch.randn(5, 40)
    corrected = CorrectedHead(plain, 24)
    assert torch.allclose(direction(corrected(features)), direction(plain(features)), atol=1e-6)
    corrected(features).sum().backward()
    trained = [name for name, p in corrected.named_parameters() if p.grad is not None]
    assert trained == ["change.weight"]


@pytest.mark.parametrize("kind", ["classifier", "factored", "mlp"])
def test_a_folded_correction_answers_the_same_without_a_layer_more(kind: str) -> None:
    torch.manual_seed(1)
    plain = ProjectionHead(40, 24, HeadRecipe(width=16)) if kind == "mlp" else head()
    if kind == "factored":
        plain.factor(8)
    corrected = CorrectedHead(plain, 24)
    torch.nn.init.normal_(corrected.change.weight, std=0.2)
    features = torch.randn(5, 40)
    folded = corrected.folded()
    own = direction(corrected(features))
    assert torch.allclose(direction(folded(features)), own, atol=1e-5)
    assert not torch.allclose(direction(plain(features)), own, atol=0.1)
    assert [p.shape for p in folded.parameters()] == [p.shape for p in plain.parameters()]


def direction(answers: torch.Tensor) -> torch.Tensor:
    return torch.nn.functional.normalize(answers, dim=1)
