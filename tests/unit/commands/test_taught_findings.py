"""A person sees which labels are taught, by how many pictures, and what is still confused."""

from __future__ import annotations

from pathlib import Path

from tests.teaching_pictures import WRONG_WORDS, labels, picture, pictures


def check(label_set: Path, bundle: Path, capsys) -> list[str]:
    capsys.readouterr()
    assert labels("check", label_set, bundle) == 0
    lines = capsys.readouterr().out.splitlines()
    starts = [i for i, line in enumerate(lines) if "taught" in line]
    return lines[starts[0] :] if starts else []


def taught(tmp_path: Path, bundle: Path, **colours: str) -> Path:
    path = tmp_path / "my.yaml"
    path.write_text(WRONG_WORDS)
    assert labels("learn", path, bundle, pictures(tmp_path / "p", **colours)) == 0
    return path


def test_check_says_which_labels_are_taught_and_by_how_many_pictures(
    tiny_bundle: Path, tmp_path: Path, capsys
):
    path = taught(tmp_path, tiny_bundle, apple="red", lawn="green", none="blue")
    assert check(path, tiny_bundle, capsys) == [
        "  taught by pictures (prior-logistic/1):",
        "    group labels: apple 4, lawn 4, none of these 4; "
        "0 of 12 held-out pictures right before, 12 after",
    ]


def test_check_says_what_is_still_taken_for_what(tiny_bundle: Path, tmp_path: Path, capsys):
    path = tmp_path / "my.yaml"
    path.write_text(WRONG_WORDS)
    root = pictures(tmp_path / "p", apple="red", lawn="green")
    for i in range(4):  # four pictures under the wrong label
        picture(root / "lawn" / f"red{i}.png", "red", 500 + i)
    labels("learn", path, tiny_bundle, root)

    lines = check(path, tiny_bundle, capsys)
    assert lines[1].startswith("    group labels: apple 4, lawn 8; ")
    assert any(" taken for " in line and line.startswith("      ") for line in lines[2:])


def test_check_says_what_no_longer_holds(tiny_bundle: Path, tmp_path: Path, capsys):
    path = taught(tmp_path, tiny_bundle, apple="red", lawn="green")
    path.write_text(WRONG_WORDS.replace("[green]", "[grey]"))
    assert check(path, tiny_bundle, capsys)[0] == (
        "  changed since they were taught, so they go by their words: 'apple'; "
        "run: edge-label labels learn"
    )


def test_check_of_a_set_without_pictures_says_nothing_of_teaching(
    tiny_bundle: Path, tmp_path: Path, capsys
):
    path = tmp_path / "my.yaml"
    path.write_text(WRONG_WORDS)
    assert check(path, tiny_bundle, capsys) == []


def test_a_group_with_pictures_of_none_needs_no_background_prompt(
    tiny_bundle: Path, tmp_path: Path, capsys
):
    path = taught(tmp_path, tiny_bundle, apple="red", lawn="green")
    assert labels("check", path, tiny_bundle) == 0
    assert "always wins" in capsys.readouterr().out

    labels("learn", path, tiny_bundle, pictures(tmp_path / "p", none="blue"))
    capsys.readouterr()
    assert labels("check", path, tiny_bundle) == 0
    assert "always wins" not in capsys.readouterr().out
