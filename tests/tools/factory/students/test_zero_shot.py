"""The closed-form head recognises names that the classifier never saw; the offline teacher agrees
with CLIP."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs edge-label[train]")
pytest.importorskip("transformers", reason="needs edge-label[train]")

from tests.paths import REPOSITORY  # noqa: E402
from tools.factory.students.zero_shot import classifier_head, predicted_weights, whitened  # noqa: E402
from tools.factory.teachers.offline import OfflineTeacher  # noqa: E402
from tools.factory.teachers.teacher import unit  # noqa: E402

SHARED = REPOSITORY.parent / "shared"
WEIGHTS = SHARED / "weights"


def _world(seed: int = 0) -> tuple[np.ndarray, torch.nn.Linear]:
    """300 names (with CLIP's large common mean) and a classifier whose weights are a linear map of
    them."""
    rng = np.random.default_rng(seed)
    names = unit(rng.normal(size=(300, 24)) + 4)
    classifier = torch.nn.Linear(64, 300)
    weight = (names - names.mean(0)) @ rng.normal(size=(24, 64)) * 4
    classifier.weight.data = torch.from_numpy(weight.astype(np.float32))
    torch.nn.init.zeros_(classifier.bias)
    return names, classifier


def test_weights_are_predicted_for_names_that_were_never_classes() -> None:
    """Learnt from 200 names, asked about the other 100: features of a class must lie nearest to its
    own name."""
    names, classifier = _world()
    known = torch.nn.Linear(64, 200)
    known.weight.data, known.bias.data = classifier.weight.data[:200], classifier.bias.data[:200]
    head = predicted_weights(known, torch.from_numpy(names[:200]), 0.01)
    found = head(classifier.weight[200:]).detach().numpy() @ names[200:].T
    assert (found.argmax(1) == np.arange(100)).mean() > 0.95


def test_whitened_names_are_told_apart_better_than_text_rows() -> None:
    rng = np.random.default_rng(0)
    names = unit(rng.normal(size=(200, 32)) * np.geomspace(1, 0.1, 32) + 5)

    def gap(directions: np.ndarray) -> float:
        cosines = directions @ names.T
        return float(((np.diag(cosines) - cosines.mean(1)) / cosines.std(1)).mean())

    assert gap(whitened(names, names, 0.1)) > 1.3 * gap(names)


def test_the_head_names_the_class_the_classifier_is_sure_of() -> None:
    names, classifier = _world()
    head = classifier_head(classifier, names, names)
    with torch.no_grad():
        found = head(classifier.weight).numpy() @ names.T
    assert (found.argmax(1) == np.arange(300)).mean() > 0.95


@pytest.mark.skipif(not SHARED.is_dir(), reason="../shared is not here")
def test_offline_teacher_points_where_genuine_clip_points() -> None:
    """On photographs with genuine CLIP embeddings, both centred, a picture finds its own embedding
    far above chance, and the scores over the whole text bank correlate.

    Measured: correlation 0.43 (chance 0), own picture among the first ten of 143 in 92 %
    (chance 7 %).
    """
    import io
    import zipfile

    from PIL import Image

    with np.load(WEIGHTS / "clip_vitb32_image_pairs.npz") as pairs:
        genuine, names = (
            unit(pairs["image_embeddings"] if "image_embeddings" in pairs else pairs["embeddings"]),
            [str(n) for n in pairs["file_name"]],
        )
    chosen = np.arange(0, len(names), 5)
    with zipfile.ZipFile(SHARED / "data" / "clip_pairs.zip") as archive:
        inside = {Path(n).name: n for n in archive.namelist()}
        pictures = [
            np.asarray(
                Image.open(io.BytesIO(archive.read(inside[Path(names[i]).name]))).convert("RGB")
            )
            for i in chosen
        ]
    teacher = OfflineTeacher(WEIGHTS)
    ours, theirs = teacher.image_embeddings(pictures), genuine[chosen]
    bank = teacher.bank.rows - teacher.bank.rows.mean(0)
    a, b = (
        unit(rows @ bank.T - (rows @ bank.T).mean(1, keepdims=True))
        for rows in (ours, theirs - theirs.mean(0))
    )
    correlation = float((a * b).sum(1).mean())
    similarity = unit(a - a.mean(0)) @ unit(b - b.mean(0)).T
    rank = (similarity >= np.diag(similarity)[:, None]).sum(1)
    print(
        f"{len(chosen)} pictures: correlation {correlation:.3f}, "
        f"own among the first ten {(rank <= 10).mean():.3f}"
    )
    assert correlation > 0.38
    assert (rank <= 10).mean() > 0.85
