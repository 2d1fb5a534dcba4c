"""The table of wrong labels counts what a person would count, and silence does not win it."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from edge_runtime.errors import ConfigError, DataError, NoInputError
from edge_runtime.model.labels.label_set import parse_label_set
from tools.lib.paths import RECIPES, REPOSITORY
from tools.measure import clip_labels

# Ten red frames and ten blue ones, for the set `colours` of the tiny bundle.
TRUTH = """\
judged: {colours: [red, green, blue]}
clips:
  clip.avi:
    name: red, then blue
    frames: 20
    labels:
      colours:
        colour: {red: {right: 0-9, acceptable: "10, 11"}, blue: {right: 10-19}}
"""


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    path = tmp_path / "clip.avi"
    random = np.random.default_rng(0)
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 2, (64, 48))
    for number in range(20):
        picture = random.integers(0, 60, (48, 64, 3)).astype(np.uint8)
        picture[..., 2 if number < 10 else 0] += 180
        writer.write(picture)
    writer.release()
    return path


def write(folder: Path, text: str) -> Path:
    path = folder / "truth.yaml"
    path.write_text(text)
    return path


def run(folder: Path, bundle: Path, truth: str, *more: str) -> int:
    arguments = ["--videos", str(folder), "--bundle", str(bundle)]
    return clip_labels.main([*arguments, "--truth", str(write(folder, truth)), *more])


def test_a_bundle_that_is_right_has_no_wrong_label_and_finds_all(
    clip: Path, tiny_bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(clip.parent, tiny_bundle, TRUTH, "--json") == 0
    [row] = json.loads(capsys.readouterr().out)
    assert (row["frames"], row["share_wrong"], row["wrong"]) == (20, 0, {})
    # Consensus needs a frame or two to come on, as on a camera.
    assert row["groups"] == 20
    assert 0.75 <= row["share_found"] < 1


def test_a_label_that_nobody_saw_is_counted_by_frames(
    clip: Path, tiny_bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wrong = TRUTH.replace("red: {right: 0-9", "green: {right: 0-9")
    assert run(clip.parent, tiny_bundle, wrong, "--json") == 0
    [row] = json.loads(capsys.readouterr().out)
    assert set(row["wrong"]) == {"red"}
    assert row["frames_wrong"] == row["wrong"]["red"] > 5
    assert row["share_found"] < 0.5
    assert run(clip.parent, tiny_bundle, wrong) == 0
    assert f"| red {row['wrong']['red']} | green 10" in capsys.readouterr().out.splitlines()[-1]


def of(truth: str, on: list[set[str]], tmp_path: Path) -> clip_labels.Score:
    judgement = clip_labels.read_judgement(write(tmp_path, truth))
    frames = [frozenset(names) for names in on]
    return clip_labels.score("clip.avi", "colours", frames, judgement)


def test_silence_is_never_wrong_and_finds_nothing(tmp_path: Path) -> None:
    result = of(TRUTH, [set()] * 20, tmp_path)
    assert (result.share_wrong, result.share_found) == (0, 0)
    assert result.missed == {"red": 10, "blue": 10}


def test_acceptable_labels_count_neither_way(tmp_path: Path) -> None:
    result = of(TRUTH, [{"red"}] * 12 + [{"blue"}] * 8, tmp_path)
    assert (result.frames_wrong, result.groups_found, result.groups) == (0, 18, 20)
    assert of(TRUTH, [{"red"}] * 20, tmp_path).wrong == {"red": 8}


def test_any_right_label_of_a_group_is_a_good_answer(tmp_path: Path) -> None:
    either = TRUTH.replace("blue: {right: 10-19}", "blue: {right: all}")
    assert of(either, [{"blue"}] * 20, tmp_path).share_found == 1
    assert of(either, [set()] * 20, tmp_path).missed == {"blue or red": 10, "blue": 10}


def test_a_set_with_nothing_to_find_shows_no_share(tmp_path: Path) -> None:
    nothing = TRUTH[: TRUTH.index("colours:\n        colour")] + "other: {}\n"
    result = of(nothing, [set()] * 20, tmp_path)
    assert result.share_found is None
    assert "| 0% | - | - | - |" in clip_labels.as_table([result])


def test_a_hundred_frames_are_evenly_spaced_and_hold_both_ends() -> None:
    numbers = clip_labels.looked_at(1394)
    assert (len(numbers), numbers[0], numbers[-1]) == (100, 0, 1393)
    assert set(np.diff(numbers)) == {14, 15}
    assert clip_labels.looked_at(38) == list(range(38))


@pytest.mark.parametrize(
    ("truth", "error"),
    [
        (TRUTH.replace("0-9", "0-20"), "0-20 is no range of frames 0-19"),
        (TRUTH.replace("0-9", "9-0"), "9-0 is no range"),
        (TRUTH.replace("0-9", "some"), "invalid literal"),
        (TRUTH.replace('"10, 11"', "9-11"), "'red' is right and acceptable in one frame"),
        (TRUTH.replace("[red, green, blue]", "[red]"), "'blue' is not under 'judged'"),
    ],
)
def test_a_file_that_contradicts_itself_is_refused(truth: str, error: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=error):
        clip_labels.read_judgement(write(tmp_path, truth))


def test_a_misspelt_key_is_refused_with_its_line(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"yaml:8: .*'rihgt'.*did you mean 'right'"):
        clip_labels.read_judgement(write(tmp_path, TRUTH.replace("right: 0-9", "rihgt: 0-9")))


@pytest.mark.parametrize(
    ("truth", "error"),
    [
        pytest.param(
            TRUTH.replace("frames: 20", "frames: 21"),
            "clip.avi: 20 frames in it, not 21",
            id="another cut of a clip",
        ),
        pytest.param(
            TRUTH.replace("[red, green, blue]", "[red, blue]"),
            "'green' of the set colours is not under 'judged'",
            id="a label that nobody judged",
        ),
    ],
)
def test_what_was_not_looked_at_is_refused(
    truth: str, error: str, clip: Path, tiny_bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(clip.parent, tiny_bundle, truth) == DataError.exit_code
    assert error in capsys.readouterr().err


def test_a_clip_that_is_missing_is_named(
    tmp_path: Path, tiny_bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(tmp_path, tiny_bundle, TRUTH) == NoInputError.exit_code
    assert "clip.avi: no such clip" in capsys.readouterr().err


def test_what_was_seen_in_the_five_clips_is_whole() -> None:
    """Ranges begin and end with frames that were looked at, and every label of the sets that ship
    was judged.
    """
    judgement = clip_labels.read_judgement(RECIPES / "clip_labels.yaml")
    sets = REPOSITORY / "models" / "edge-clip" / "labels"
    assert set(judgement.judged) == {path.stem for path in sets.glob("*.yaml")}
    for labels, judged in judgement.judged.items():
        text = (sets / f"{labels}.yaml").read_text(encoding="utf-8")
        shipped = parse_label_set(text, labels).labels
        assert {label.name for label in shipped if not label.background} <= set(judged)
    for name, clip in judgement.clips.items():
        numbers = set(clip_labels.looked_at(clip.frames))
        assert set(clip.labels) == set(judgement.judged), name
        for by_group in clip.labels.values():
            for by_label in by_group.values():
                for label, seen in by_label.items():
                    for text in (seen.right, seen.acceptable):
                        ends = [] if text == "all" else text.replace("-", ",").split(",")
                        assert {int(end) for end in ends if end} <= numbers, (name, label, text)
