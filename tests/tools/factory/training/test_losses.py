"""The terms of the objective pull and push as their papers say."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch", reason="needs edge-label[train]")

from torch.nn.functional import normalize  # noqa: E402

from tools.factory.training.losses import moved, triplet  # noqa: E402


def test_triplets_pull_the_same_label_and_push_the_others():
    torch.manual_seed(0)
    points = normalize(torch.randn(24, 8), dim=1).requires_grad_()
    groups = torch.arange(24) % 3

    def spread(x: torch.Tensor) -> float:
        distance = torch.cdist(x, x)
        same = groups[:, None] == groups
        return float((distance[~same].mean() - distance[same].sum() / (same.sum() - 24)).detach())

    before = spread(points)
    optimiser = torch.optim.SGD([points], 0.5)
    for _ in range(40):
        optimiser.zero_grad()
        triplet(normalize(points, dim=1), groups, 0.3).backward()
        optimiser.step()
    assert spread(normalize(points, dim=1)) > before + 0.1


def test_triplets_without_a_partner_or_a_label_cost_nothing():
    points = torch.eye(4, requires_grad=True)
    for groups in (
        torch.tensor([0, 1, 2, 3]),
        torch.tensor([-1, -1, -1, -1]),
        torch.tensor([0, 0, 0, 0]),
    ):
        loss = triplet(points, groups, 0.3)
        loss.backward()
        assert loss.item() == 0
    assert torch.isfinite(points.grad).all()


def test_text_rows_move_along_the_steps_between_names_and_stay_near():
    torch.manual_seed(0)
    # Names differ in the first two directions only.
    bank = normalize(torch.cat((torch.randn(50, 2), torch.ones(50, 2)), 1), dim=1)
    texts = bank[:8]
    near = moved(texts, bank, 0.2)
    assert not torch.equal(near, moved(texts, bank, 0.2)), "every step moves them anew"
    assert torch.equal(moved(texts, bank, 0.0), normalize(texts, dim=1))
    assert torch.allclose(near.norm(dim=1), torch.ones(8))
    assert (near * texts).sum(1).min() > 0.8
    assert torch.allclose(near[:, 2], near[:, 3], atol=1e-5)
