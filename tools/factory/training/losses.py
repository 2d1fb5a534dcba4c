"""The objective: what each term compares, as plain functions of unit embeddings.

Clip4Retrofit names a contrastive objective and a cross-modal feature-alignment loss, optimised
together; the relational term is DIME-FM's (Sun et al. 2023, equation 4): teacher and student must
agree on how a picture relates to every sentence of a frozen text bank.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from tools.factory.recipe import LossRecipe


def contrastive(
    student: Tensor, texts: Tensor, wanted: Tensor, scale: float, groups: Tensor | None = None
) -> Tensor:
    """Cross entropy of softmax(scale * cosine) over `texts`; rows with wanted < 0 have no text and
    do not count.

    Args: student (B, D) and texts (V, D), unit norm; wanted (B,) rows of `texts`; groups (V,)
        numbers, where given a text competes with those of its own group only.
    """
    if not (wanted >= 0).any():
        return student.sum() * 0
    logits = scale * student @ texts.T
    if groups is not None:
        logits = logits.masked_fill(
            groups[None] != groups[wanted.clamp_min(0)][:, None], float("-inf")
        )
    return F.cross_entropy(logits, wanted, ignore_index=-1)


def alignment(student: Tensor, target: Tensor, kind: str) -> Tensor:
    """Distance between unit embeddings (B, D): 1 - cosine, squared error or absolute error, per
    picture."""
    if kind == "cosine":
        return (1 - (student * target).sum(1)).mean()
    if kind == "mse":
        return (student - target).square().sum(1).mean()
    return (student - target).abs().sum(1).mean()


def relational(
    student: Tensor, target: Tensor, bank: Tensor, student_scale: float, teacher_scale: float
) -> Tensor:
    """KL(teacher || student) between softmaxes over the text bank (N, D), averaged over the
    batch."""
    wanted = F.log_softmax(teacher_scale * target @ bank.T, dim=1)
    found = F.log_softmax(student_scale * student @ bank.T, dim=1)
    return F.kl_div(found, wanted, reduction="batchmean", log_target=True)


def posterior(student: Tensor, wanted: Tensor, names: Tensor, scale: float) -> Tensor:
    """KL(classifier's posterior || softmax(scale * cosine)) over the names of its classes, averaged
    over the batch.

    The relational term of a teacher that is a classifier: wanted (B, K) rows sum to 1, names (K, D)
    unit norm.
    """
    return F.kl_div(F.log_softmax(scale * student @ names.T, dim=1), wanted, reduction="batchmean")


def triplet(student: Tensor, groups: Tensor, margin: float, negatives: int = 3) -> Tensor:
    """EdgeVL's second stage: mean of max(0, d(a, p) - d(a, n) + margin) over the batch, both
    modalities mixed.

    p is the nearest other embedding with the anchor's pseudo-label; n are up to `negatives` random
    semi-hard ones of another label, d(a, p) < d(a, n) < d(a, p) + margin. d is the Euclidean
    distance of unit vectors.

    Args: student (B, D), unit norm; groups (B,), pseudo-labels, -1 for none (such rows do not
    count).
    """
    distance = (2 - 2 * student @ student.T).clamp_min(1e-7).sqrt()
    known = groups >= 0
    same = (groups[:, None] == groups) & known & known[:, None]
    same.fill_diagonal_(False)
    other = (groups[:, None] != groups) & known & known[:, None]
    positive = distance.masked_fill(~same, torch.inf).min(1, keepdim=True).values
    semi_hard = other & (distance > positive) & (distance < positive + margin)
    order = torch.rand_like(distance).masked_fill(~semi_hard, -1)
    chosen = order.topk(min(negatives, len(groups)), dim=1)
    taken = chosen.values >= 0
    if not taken.any():
        return student.sum() * 0
    loss = positive - distance.gather(1, chosen.indices) + margin
    return loss[taken].mean()


def objective(
    recipe: LossRecipe,
    student: Tensor,
    target: Tensor,
    *,
    bank: Tensor,
    texts: Tensor,
    groups: Tensor,
    wanted_text: Tensor,
    conditions: Tensor,
    wanted_condition: Tensor,
    names: Tensor | None = None,
    wanted_names: Tensor | None = None,
) -> tuple[Tensor, dict[str, float]]:
    """Weighted sum of the terms whose weight is not zero, and each term's value.

    Args: student, target (B, D) unit norm; bank (N, D), texts (V, D), conditions (C, D) unit-norm
        text rows; groups (V,); wanted_text, wanted_condition (B,) rows of these, -1 where unknown;
        names (K, D) and wanted_names (B, K): a classifier's class texts and posterior, where the
        teacher is one.
    """
    terms: dict[str, Tensor] = {}
    if recipe.contrastive:
        terms["contrastive"] = contrastive(
            student, texts, wanted_text, recipe.contrastive_scale, groups
        )
    if recipe.condition:
        terms["condition"] = contrastive(
            student, conditions, wanted_condition, recipe.contrastive_scale
        )
    if recipe.alignment:
        terms["alignment"] = alignment(student, target, recipe.alignment_kind)
    if recipe.relational:
        terms["relational"] = relational(
            student, target, bank, recipe.student_scale, recipe.teacher_scale
        )
    if recipe.posterior and names is not None and wanted_names is not None:
        terms["posterior"] = posterior(student, wanted_names, names, recipe.posterior_scale)
    if recipe.triplet:
        terms["triplet"] = triplet(student, wanted_text, recipe.margin)
    total = torch.zeros((), device=student.device)
    for name, value in terms.items():
        total = total + getattr(recipe, name) * value
    return total, {name: float(value.detach()) for name, value in terms.items()}
