"""Pictures teach a label set: what is written, what is said, and when nothing changes."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from edge_runtime import load
from edge_runtime.commands import learn as command
from edge_runtime.model.labels.phrase_rows import PhraseRows, rows_path
from edge_runtime.model.labels.taught import METHOD, NONE
from tests.teaching_pictures import WRONG_WORDS, labels, picture, pictures


@pytest.fixture
def label_set(tmp_path: Path) -> Path:
    path = tmp_path / "my.yaml"
    path.write_text(WRONG_WORDS)
    return path


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return pictures(tmp_path / "pictures", apple="red", lawn="green")


def best(label_set: Path, bundle: Path, path: Path) -> str:
    return load(bundle, labels=str(label_set))(path).labels[0].name


def test_pictures_put_right_what_the_words_say_wrongly(
    tiny_bundle: Path, label_set: Path, root: Path, capsys
):
    asked = picture(root.parent / "asked.png", "red", 99)
    assert best(label_set, tiny_bundle, asked) == "lawn"

    assert labels("learn", label_set, tiny_bundle, root) == 0

    assert best(label_set, tiny_bundle, asked) == "apple"
    assert capsys.readouterr().out.splitlines() == [
        f"{label_set}: 8 pictures taught 2 labels",
        "  group labels: 0 of 8 held-out pictures right before, 8 after",
        f"{rows_path(label_set)}: written; a running edge-label takes it up on SIGHUP "
        "(systemctl reload edge-label)",
    ]


def test_the_same_pictures_give_the_same_bytes_and_are_encoded_once(
    tiny_bundle: Path, label_set: Path, root: Path, monkeypatch
):
    labels("learn", label_set, tiny_bundle, root)
    first = rows_path(label_set).read_bytes()
    rows_path(label_set).unlink()

    # The model is loaded by the first picture that is not in the cache.
    monkeypatch.setattr(command, "Labeller", None)
    assert labels("learn", label_set, tiny_bundle, root) == 0
    assert rows_path(label_set).read_bytes() == first


def test_the_file_says_which_pictures_taught_what_with_which_method(
    tiny_bundle: Path, label_set: Path, root: Path
):
    labels("learn", label_set, tiny_bundle, root)
    teaching = PhraseRows.read(rows_path(label_set)).teaching

    assert teaching.method == METHOD
    assert {label: len(of) for label, of in teaching.pictures.items()} == {"apple": 4, "lawn": 4}
    assert all(len(digest) == 64 for digest in teaching.pictures["apple"])
    assert len(set(teaching.pictures["apple"])) == 4


def test_none_keeps_all_labels_of_a_taught_group_off(
    tiny_bundle: Path, label_set: Path, root: Path, capsys
):
    sky = picture(root.parent / "sky.png", "blue", 99)
    labels("learn", label_set, tiny_bundle, root)
    assert best(label_set, tiny_bundle, sky) == "sky"

    pictures(root, none="blue")
    assert labels("learn", label_set, tiny_bundle, root) == 0
    assert "12 pictures taught 2 labels and 'none of these'" in capsys.readouterr().out
    record = load(tiny_bundle, labels=str(label_set))(sky)
    assert record.state == "unknown"


GROUPS = """\
labels:
  - {name: apple, prompts: [green], group: a}
  - {name: lawn, prompts: [red], group: a}
  - {name: sky, prompts: [red], group: b}
  - {name: fog, prompts: [blue], group: c}
  - {name: dusk, prompts: [green], group: c}
"""


def test_a_picture_teaches_its_own_group_and_none_every_group(
    tiny_bundle: Path, tmp_path: Path, capsys
):
    path = tmp_path / "groups.yaml"
    path.write_text(GROUPS)
    root = pictures(tmp_path / "p", apple="red", lawn="green", sky="blue", none="grey")

    assert labels("learn", path, tiny_bundle, root) == 0
    teaching = PhraseRows.read(rows_path(path)).teaching
    assert {group.name: group.labels for group in teaching.groups} == {
        "a": ("apple", "lawn", NONE),
        "b": ("sky", NONE),
        "c": (NONE,),
    }
    out = capsys.readouterr().out
    assert "16 pictures taught 3 labels and 'none of these'" in out
    assert "  group c: 0 of 4 held-out pictures right before, " in out


def test_none_alone_silences_what_it_shows_and_leaves_the_words_as_they_are(
    tiny_bundle: Path, tmp_path: Path, capsys
):
    path = tmp_path / "my.yaml"
    path.write_text("labels: [red, green, blue]\n")
    root = pictures(tmp_path / "p", none="grey")
    capsys.readouterr()
    asked = [picture(tmp_path / f"{name}.png", name, 99) for name in ("grey", "red", "green")]
    before = load(tiny_bundle, labels=str(path))(asked)

    assert labels("learn", path, tiny_bundle, root) == 0
    assert "4 pictures taught 'none of these'\n" in capsys.readouterr().out
    labeller = load(tiny_bundle, labels=str(path))
    after = labeller(asked)
    assert [record.state for record in before] == ["ok", "ok", "ok"]
    assert [record.state for record in after] == ["unknown", "ok", "ok"]
    assert [record.labels[0].name for record in after[1:]] == ["red", "green"]
    words = load(tiny_bundle, labels="colours")._pipeline.engine.score.labels
    taught = labeller._pipeline.engine.score.labels
    assert taught.matrix[:3].tobytes() == words.matrix[:3].tobytes()


def test_a_picture_of_a_label_that_is_also_in_none_is_none_of_the_other_groups(
    tiny_bundle: Path, tmp_path: Path, capsys
):
    path = tmp_path / "groups.yaml"
    path.write_text(GROUPS)
    root = pictures(tmp_path / "p", apple="red", lawn="green")
    for name in ("apple", "lawn"):
        shutil.copytree(root / name, root / "none", dirs_exist_ok=True)
    for i in range(4):
        shutil.copy(root / "apple" / f"{i}.png", root / "none" / f"apple{i}.png")

    assert labels("learn", path, tiny_bundle, root) == 0
    teaching = PhraseRows.read(rows_path(path)).teaching
    assert {group.name: group.labels for group in teaching.groups} == {
        "a": ("apple", "lawn"),
        "b": (NONE,),
        "c": (NONE,),
    }
    assert (
        "8 pictures of labels are in none/ too: they show none of the labels of other groups"
        in (capsys.readouterr().out)
    )


def test_a_group_with_pictures_of_one_label_is_left_as_it_is_in_one_line(
    tiny_bundle: Path, tmp_path: Path, capsys
):
    path = tmp_path / "groups.yaml"
    path.write_text(WRONG_WORDS + "  - {name: fog, prompts: [grey], group: weather}\n")
    root = pictures(tmp_path / "p", apple="red", lawn="green", fog="grey")

    assert labels("learn", path, tiny_bundle, root) == 0
    assert "group weather: all pictures are of 'fog'" in capsys.readouterr().out
    teaching = PhraseRows.read(rows_path(path)).teaching
    assert [group.name for group in teaching.groups] == ["labels"]
    assert teaching.pictures.keys() == {"apple", "lawn"}


def test_one_picture_a_label_teaches_and_says_that_nothing_was_held_out(
    tiny_bundle: Path, label_set: Path, tmp_path: Path, capsys
):
    picture(tmp_path / "p" / "apple" / "1.png", "red", 1)
    picture(tmp_path / "p" / "lawn" / "1.png", "green", 2)
    assert labels("learn", label_set, tiny_bundle, tmp_path / "p") == 0
    assert "group labels: no picture could be held out" in capsys.readouterr().out


def test_untaught_labels_of_the_group_go_by_their_words(
    tiny_bundle: Path, label_set: Path, root: Path
):
    """The factor in the file is what `teach` made of rows that have no pictures."""
    labels("learn", label_set, tiny_bundle, root)
    group = PhraseRows.read(rows_path(label_set)).teaching.groups[0]
    words = load(tiny_bundle, labels="colours")._pipeline.engine.score.labels
    blue = words.matrix[words.names.index("blue")]
    assert group.rows[2].tolist() == pytest.approx((group.factor * blue).tolist(), abs=1e-6)


def test_a_second_learn_replaces_the_first(tiny_bundle: Path, label_set: Path, root: Path):
    labels("learn", label_set, tiny_bundle, root)
    other = pictures(root.parent / "other", sky="blue", lawn="green")
    labels("learn", label_set, tiny_bundle, other)
    assert PhraseRows.read(rows_path(label_set)).teaching.pictures.keys() == {"sky", "lawn"}


def test_forget_takes_back_one_label_or_all(tiny_bundle: Path, label_set: Path, root: Path, capsys):
    pictures(root, none="blue")
    labels("learn", label_set, tiny_bundle, root)
    capsys.readouterr()

    assert labels("forget", label_set, tiny_bundle, "apple") == 0
    assert capsys.readouterr().out.startswith(f"{label_set}: forgot apple; a running edge-label")
    assert PhraseRows.read(rows_path(label_set)).teaching.pictures.keys() == {"lawn", NONE}

    assert labels("forget", label_set, tiny_bundle, "apple") == 2
    assert capsys.readouterr().err == (
        f"edge-label: {label_set}: 'apple' was not taught; taught are 'lawn', 'none'\n"
    )

    assert labels("forget", label_set, tiny_bundle) == 0
    assert not rows_path(label_set).exists()
    assert labels("forget", label_set, tiny_bundle) == 0
    assert "nothing to forget" in capsys.readouterr().out


def test_forgotten_is_bit_for_bit_never_taught(tiny_bundle: Path, label_set: Path, root: Path):
    before = load(tiny_bundle, labels=str(label_set))._pipeline.engine.score.labels
    labels("learn", label_set, tiny_bundle, root)
    labels("forget", label_set, tiny_bundle)
    after = load(tiny_bundle, labels=str(label_set))._pipeline.engine.score.labels
    assert after.id == before.id
    assert after.matrix.tobytes() == before.matrix.tobytes()


def test_the_scores_of_a_taught_set_are_those_that_were_held_out(
    tiny_bundle: Path, label_set: Path, root: Path
):
    """A taught row is used as it was fitted: a picture that taught is answered with its label."""
    labels("learn", label_set, tiny_bundle, root)
    labeller = load(tiny_bundle, labels=str(label_set))
    for path in sorted(root.rglob("*.png")):
        (label,) = [label.name for label in labeller(path).labels if label.on]
        assert label == path.parent.name


def test_a_set_that_ships_is_copied_first(tiny_bundle: Path, root: Path, capsys):
    assert labels("learn", Path("colours"), tiny_bundle, root) == 2
    assert "colours ships with the bundle and cannot be taught; copy" in capsys.readouterr().err


@pytest.mark.fault("L6")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_learn_leaves_the_old_file_and_goes_on_where_it_was(
    number: int, tiny_bundle: Path, label_set: Path, root: Path, tmp_path: Path
):
    labels("learn", label_set, tiny_bundle, root)
    old = rows_path(label_set).read_bytes()
    pictures(root, none="blue")
    slow = (
        # A shell's background job ignores SIGINT, and so would this child.
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "import sys, time; import edge_runtime.commands.learn as m; see = m._see\n"
        "def slowly(*a):\n"
        "    seen = see(*a); print(seen.picture.path, flush=True); time.sleep(30); return seen\n"
        "m._see = slowly; from edge_runtime.cli import main; sys.exit(main(sys.argv[1:]))\n"
    )
    command_line = ["labels", "learn", label_set, root, "--bundle", tiny_bundle]
    process = subprocess.Popen(
        [sys.executable, "-c", slow, *map(str, command_line)], stdout=subprocess.PIPE
    )
    assert process.stdout.readline()
    process.send_signal(number)
    process.wait(60)
    process.stdout.close()

    assert process.returncode != 0
    assert rows_path(label_set).read_bytes() == old
    assert [path.name for path in tmp_path.iterdir() if path.name.endswith(".part")] == []
    assert labels("learn", label_set, tiny_bundle, root) == 0
