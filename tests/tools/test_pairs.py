"""Pairs of colour and infrared or depth share crop, flip and target; curated lists are read as
written."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

pytest.importorskip("torch", reason="needs edge-label[train]")

from edge_runtime.errors import DataError, NoInputError
from tools import curate
from tools.factory.data.augment import apply_view, monochrome, whole_picture
from tools.factory.data.pictures import PictureCache, cache_pictures
from tools.factory.data.samples import scan
from tools.factory.data.views import partners
from tools.factory.edgevl import curation
from tools.factory.recipe import (
    InputRecipe,
    Recipe,
    SourceRecipe,
    StudentRecipe,
    TargetsRecipe,
    TeacherRecipe,
)
from tools.factory.teachers.targets import cache_targets


class MeanColour:
    """A teacher that sees the mean colour, and four words for it."""

    text_space = "test/mean"
    words = ("red", "green", "blue", "grey")

    def image_embeddings(self, pictures):
        means = np.stack([np.asarray(p, np.float32).mean((0, 1)) for p in pictures])
        rows = np.concatenate(
            [means - means.mean(1, keepdims=True), np.full((len(means), 1), 20.0)], 1
        )
        return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)

    def text_embeddings(self, phrases):
        names = [p.removeprefix("a photo of a ") for p in phrases]
        return np.stack([np.eye(4, dtype=np.float32)[self.words.index(n)] for n in names])


@pytest.fixture
def pair_folders(tmp_path: Path) -> Path:
    """24 colour pictures and depth frames of the same stems; a left half that is nearer and
    redder."""
    (tmp_path / "rgb").mkdir()
    (tmp_path / "depth").mkdir()
    rng = np.random.default_rng(0)
    for i in range(24):
        colour = np.zeros((40, 60, 3), np.uint8) + rng.integers(0, 60, 3).astype(np.uint8)
        colour[..., i % 3] = 200
        colour[:, :30] //= 2
        Image.fromarray(colour).save(tmp_path / "rgb" / f"{i:02}.png")
        depth = np.full((40, 60), 3000, np.uint16)
        depth[:, :30] = 1000
        depth[:4] = 0
        cv2.imwrite(str(tmp_path / "depth" / f"{i:02}.png"), depth)
    (tmp_path / "words.yaml").write_text(
        "labels: [{name: red}, {name: green}, {name: blue}, {name: grey}]\n"
    )
    return tmp_path


def curated(folder: Path, keep: float = 1.0) -> list[curation.Pair]:
    teacher = MeanColour()
    pairs = curation.find_pairs(folder / "rgb", folder / "depth", "depth")
    superset = curation.load_superset(folder / "words.yaml", teacher)
    return curation.keep_confident(
        curation.pseudo_label(pairs, teacher, superset, quiet=True), keep
    )


def recipe_of(folder: Path, views: int) -> Recipe:
    return Recipe(
        name="pairs",
        teacher=TeacherRecipe("none"),
        student=StudentRecipe("mobilenet_v2"),
        data=(SourceRecipe("pairs", "pairs.csv", kind="csv", label="label"),),
        input=InputRecipe(32, 32),
        targets=TargetsRecipe(views=views),
    )


@pytest.fixture
def paired_cache(pair_folders: Path) -> tuple[Recipe, PictureCache, Path]:
    (pair_folders / "pairs.csv").write_text(curation.to_csv(curated(pair_folders), pair_folders))
    recipe = recipe_of(pair_folders, views=3)
    return (
        recipe,
        cache_pictures(
            scan(recipe.data, pair_folders), recipe.input, pair_folders / "c", quiet=True
        ),
        pair_folders,
    )


def test_both_halves_of_a_pair_share_crop_flip_and_target(paired_cache):
    recipe, cache, folder = paired_cache
    targets = cache_targets(MeanColour(), recipe, cache, folder / "c", quiet=True)
    assert len(partners(cache)) == len(cache.samples) // 2
    flips = set()
    for depth, colour in partners(cache).items():
        assert cache.samples[depth].modality == "depth"
        assert cache.samples[colour].modality == "rgb"
        np.testing.assert_array_equal(targets.embeddings[:, depth], targets.embeddings[:, colour])
        np.testing.assert_array_equal(
            targets.views["box"][:, depth], targets.views["box"][:, colour]
        )
        np.testing.assert_array_equal(
            targets.views["flip"][:, depth], targets.views["flip"][:, colour]
        )
        flips |= set(targets.views["flip"][:, depth].tolist())
    assert flips == {True, False}


def test_depth_is_decoded_as_the_runtime_shows_it(paired_cache):
    _, cache, _ = paired_cache
    row = next(iter(partners(cache)))
    picture = np.asarray(cache.pictures[row])
    assert set(np.unique(picture)) == {0, 1, 255}  # no reading, near, far
    np.testing.assert_array_equal(picture[..., 0], picture[..., 2])


def test_a_pair_is_held_out_whole_and_its_neighbours_with_it(pair_folders: Path):
    pairs = curated(pair_folders)
    assert [p.split for p in pairs] == [curation.SPLIT[i % 8] for i in range(24)]

    # A longer recording is split in the same order, in runs of neighbours.
    many = [curation.SPLIT[i * 24 // 480 % 8] for i in range(480)]
    runs = [many[start : start + 20] for start in range(0, 480, 20)]
    assert all(len(set(run)) == 1 for run in runs)

    (pair_folders / "pairs.csv").write_text(curation.to_csv(pairs, pair_folders))
    samples = scan(recipe_of(pair_folders, 0).data, pair_folders)
    colour = {s.file.stem: s.held_out for s in samples if s.modality == "rgb"}
    depth = {s.file.stem: s.held_out for s in samples if s.modality == "depth"}
    assert depth == colour
    assert len(colour) == 24 - sum(pair.split == "test" for pair in pairs)


def test_curation_keeps_the_surest_training_pictures_and_every_test_picture(pair_folders: Path):
    everything, kept = curated(pair_folders), curated(pair_folders, keep=0.5)
    train = sorted((p.confidence for p in everything if p.split == "train"), reverse=True)
    left = sorted((p.confidence for p in kept if p.split == "train"), reverse=True)
    assert left == [c for c in train if c >= train[len(train) // 2 - 1]]  # ties stay together
    assert left[-1] >= train[len(left) - 1]
    for split in ("validation", "test"):
        assert sum(p.split == split for p in kept) == sum(p.split == split for p in everything)
    assert {p.label for p in everything} == {"red", "green", "blue"}


def test_the_verb_says_what_it_kept_and_bad_input_is_one_line(
    pair_folders: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setattr(curate, "teacher_of", lambda _: MeanColour())
    common = [str(pair_folders / "rgb"), "--labels", str(pair_folders / "words.yaml"), "--output"]
    out = pair_folders / "list.csv"
    assert (
        curate.main(
            [*common, str(out), "--partner", str(pair_folders / "depth"), "--modality", "depth"]
        )
        == 0
    )
    assert "test" in capsys.readouterr().out
    assert out.read_text().splitlines()[0] == ",".join(curation.COLUMNS)
    assert curate.main([*common, str(out), "--partner", str(pair_folders / "depth")]) == 2
    assert "--modality" in capsys.readouterr().err
    assert (
        curate.main([*common, str(out), "--partner", str(pair_folders), "--modality", "ir"]) == 65
    )
    assert (
        curate.main([str(pair_folders / "none"), *common[1:], str(out)]) == NoInputError.exit_code
    )


def test_a_list_that_names_no_modality_is_refused(pair_folders: Path):
    (pair_folders / "pairs.csv").write_text(
        "file,partner,modality,label\nrgb/00.png,depth/00.png,sonar,red\n"
    )
    with pytest.raises(DataError, match=r"pairs.csv:2: modality 'sonar'"):
        scan(recipe_of(pair_folders, 0).data, pair_folders)


def test_a_pair_without_its_colour_half_is_refused(pair_folders: Path):
    (pair_folders / "rgb" / "00.png").write_bytes(b"broken")
    (pair_folders / "pairs.csv").write_text(
        "file,partner,modality,label\nrgb/00.png,depth/00.png,depth,red\n"
    )
    recipe = recipe_of(pair_folders, 0)
    cache = cache_pictures(
        scan(recipe.data, pair_folders), recipe.input, pair_folders / "c", quiet=True
    )
    with pytest.raises(DataError, match=r"rgb/00.png: cannot be read, but .* needs it"):
        partners(cache)


def test_a_negative_turns_hot_white_into_hot_black():
    picture = np.tile(np.arange(32, dtype=np.uint8)[None, :, None] * 8, (32, 1, 3))
    negative = apply_view(picture, monochrome(whole_picture(), negative=True), 32)
    assert np.abs(negative.astype(int) - (255 - picture.astype(int))).max() <= 1


def test_a_colour_picture_may_be_its_own_infrared_partner(pair_folders: Path):
    (pair_folders / "pairs.csv").write_text(
        "file,partner,modality,label\nrgb/00.png,rgb/00.png,ir,red\n"
    )
    recipe = recipe_of(pair_folders, 0)
    cache = cache_pictures(
        scan(recipe.data, pair_folders), recipe.input, pair_folders / "c", quiet=True
    )
    assert partners(cache) == {1: 0}
    colour, grey = (np.asarray(cache.pictures[i]) for i in (0, 1))
    assert np.ptp(colour, axis=2).max() > 0
    assert np.ptp(grey, axis=2).max() == 0
