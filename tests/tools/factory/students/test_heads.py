"""A factored head gives almost the embeddings of the whole head, and a head that cannot be factored
is refused."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch", reason="needs edge-label[train]")

from tools.factory.students.heads import ClassifierHead  # noqa: E402


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
