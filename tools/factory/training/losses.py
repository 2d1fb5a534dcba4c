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
    student: Tensor, texts: Tensor, text_rows: Tensor, scale: float, groups: Tensor | None = None
) -> Tensor:
    """Cross entropy: -log softmax(scale * s . t)[own text], mean over the pictures with a text.

    Args:
        student: (B, D); texts: (V, D); both unit norm.
        text_rows: (B,) the own text of each picture, -1 for none.
        groups: (V,) numbers; where given, a text competes with those of its own group only.
    """
    if not (text_rows >= 0).any():
        # Zero, but still a function of the weights: every process must have the same gradients.
        return student.sum() * 0
    logits = scale * student @ texts.T
    if groups is not None:
        own_group = groups[text_rows.clamp_min(0)]
        logits = logits.masked_fill(groups[None] != own_group[:, None], float("-inf"))
    return F.cross_entropy(logits, text_rows, ignore_index=-1)


def moved(texts: Tensor, bank: Tensor, share: float) -> Tensor:
    """Text rows (V, D), each moved by a share of the step between two random names of the bank.

    Such steps vary where names vary: a row ends where a phrase near its name might lie.
    """
    first = torch.randint(len(bank), (len(texts),), device=bank.device)
    second = torch.randint(len(bank), (len(texts),), device=bank.device)
    return F.normalize(texts + share * (bank[first] - bank[second]), dim=1)


def alignment(student: Tensor, target: Tensor, kind: str) -> Tensor:
    """Distance between unit embeddings (B, D), mean over the pictures.

    kind: "cosine" (1 - s . t), "mse" (squared error), or "l1" (absolute error).
    """
    if kind == "cosine":
        return (1 - (student * target).sum(1)).mean()
    if kind == "mse":
        return (student - target).square().sum(1).mean()
    return (student - target).abs().sum(1).mean()


def relational(
    student: Tensor, target: Tensor, bank: Tensor, student_scale: float, teacher_scale: float
) -> Tensor:
    """KL(p || q) with p = softmax(teacher scale * t . bank), q = softmax(student scale * s . bank).

    DIME-FM (Sun et al. 2023, equation 4), over the text bank (N, D), mean over the batch.
    """
    teacher_log = F.log_softmax(teacher_scale * target @ bank.T, dim=1)
    student_log = F.log_softmax(student_scale * student @ bank.T, dim=1)
    return F.kl_div(student_log, teacher_log, reduction="batchmean", log_target=True)


def posterior(student: Tensor, shares: Tensor, names: Tensor, scale: float) -> Tensor:
    """KL(shares || softmax(scale * s . names)): the relational term of a teacher that classifies.

    Args:
        shares: (B, K), the classifier's posterior, rows sum to 1.
        names: (K, D), unit-norm text rows of its classes.
    """
    student_log = F.log_softmax(scale * student @ names.T, dim=1)
    return F.kl_div(student_log, shares, reduction="batchmean")


def triplet(student: Tensor, groups: Tensor, margin: float, negatives: int = 3) -> Tensor:
    """Mean of max(0, d(a, p) - d(a, n) + margin): EdgeVL's second stage, both modalities mixed.

    p is the nearest other embedding with the anchor's pseudo-label; n are up to `negatives` random
    semi-hard ones of another label, d(a, p) < d(a, n) < d(a, p) + margin. d is the Euclidean
    distance of unit vectors.

    Args:
        student: (B, D), unit norm.
        groups: (B,), pseudo-labels, -1 for none; such rows do not count.
    """
    # |a - b|^2 = 2 - 2 a . b for unit vectors. Below 1e-7 the root has no usable gradient.
    distance = (2 - 2 * student @ student.T).clamp_min(1e-7).sqrt()
    known = groups >= 0
    both_known = known & known[:, None]
    alike = groups[:, None] == groups
    same = alike & both_known
    same.fill_diagonal_(False)
    other = ~alike & both_known

    positive = distance.masked_fill(~same, torch.inf).min(1, keepdim=True).values
    semi_hard = other & (distance > positive) & (distance < positive + margin)
    # Random numbers where a negative may be taken, -1 elsewhere: the largest are a fair draw.
    lot = torch.rand_like(distance).masked_fill(~semi_hard, -1)
    chosen = lot.topk(min(negatives, len(groups)), dim=1)
    taken = chosen.values >= 0
    if not taken.any():
        return student.sum() * 0

    # Semi-hard negatives lie within the margin, so no term is below 0 and max(0, .) is left out.
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
    text_rows: Tensor,
    conditions: Tensor,
    condition_rows: Tensor,
    names: Tensor | None = None,
    shares: Tensor | None = None,
) -> tuple[Tensor, dict[str, float]]:
    """Weighted sum of the terms whose weight is not zero, and each term's value.

    Args:
        student, target: (B, D), unit norm.
        bank, texts, conditions: (N, D), (V, D), (C, D) unit-norm text rows; groups: (V,).
        text_rows, condition_rows: (B,) rows of texts and conditions, -1 where unknown.
        names, shares: (K, D), (B, K): a classifier's class texts and posterior, where the teacher
            is one.
    """
    scale = recipe.contrastive_scale
    if recipe.text_noise:
        texts = moved(texts, bank, recipe.text_noise)
        conditions = moved(conditions, bank, recipe.text_noise)

    terms: dict[str, Tensor] = {}
    if recipe.contrastive:
        terms["contrastive"] = contrastive(student, texts, text_rows, scale, groups)
    if recipe.condition:
        terms["condition"] = contrastive(student, conditions, condition_rows, scale)
    if recipe.alignment:
        terms["alignment"] = alignment(student, target, recipe.alignment_kind)
    if recipe.relational:
        scales = (recipe.student_scale, recipe.teacher_scale)
        terms["relational"] = relational(student, target, bank, *scales)
    if recipe.posterior and names is not None and shares is not None:
        terms["posterior"] = posterior(student, shares, names, recipe.posterior_scale)
    if recipe.triplet:
        terms["triplet"] = triplet(student, text_rows, recipe.margin)

    total = torch.zeros((), device=student.device)
    for name, value in terms.items():
        total = total + getattr(recipe, name) * value
    return total, {name: float(value.detach()) for name, value in terms.items()}
