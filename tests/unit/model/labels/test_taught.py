"""What pictures taught is kept while its words are the same, and read back to the bit."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from edge_runtime.errors import ConfigError
from edge_runtime.model.bundle import Bundle
from edge_runtime.model.labels.compiled import CompiledLabels, compile_labels, load_labels
from edge_runtime.model.labels.label_set import LabelSet, parse_label_set
from edge_runtime.model.labels.phrase_rows import PhraseRows, rows_path
from edge_runtime.model.labels.scorer import Scorer
from edge_runtime.model.labels.taught import (
    NONE,
    TaughtGroup,
    Teaching,
    count_answers,
    encoder_digest,
    still_holds,
    words_of,
)
from edge_runtime.model.labels.text_bank import TextBank

SET = "labels: [red, green, blue]\nbackground: [grey]\n"


def axis(*weights: float) -> np.ndarray:
    vector = np.zeros(16, np.float32)
    vector[: len(weights)] = weights
    return vector / np.linalg.norm(vector)


def teaching_of(label_set: LabelSet, bundle: Bundle, *, none: bool = False) -> Teaching:
    """'green' is taught the axis of red, and 'none of these' the axis of blue."""
    manifest = bundle.manifest
    labels = [*label_set.labels, *([None] if none else [])]
    rows = np.zeros((len(labels), 16), np.float32)
    rows[1, 0] = 3
    rows[-1, 2] = 3 if none else 0.5
    pictures = {"green": ("aa", "bb"), **({NONE: ("cc",)} if none else {})}

    group = TaughtGroup(
        name="labels",
        labels=tuple(label.name if label else NONE for label in labels),
        words=tuple(words_of(label, label_set, "labels", manifest) for label in labels),
        rows=rows,
        biases=np.array([0, 0.25, 0, 0.5][: len(labels)], np.float32),
        factor=0.5,
        threshold=0.6,
        words_right=1,
        answers=count_answers([("green", "green"), ("green", "red"), ("green", "green")]),
    )
    return Teaching("test/1", encoder_digest(manifest), pictures, (group,))


def store(path, teaching: Teaching, bundle: Bundle, text: str = SET) -> None:
    path.write_text(text)
    rows = PhraseRows.none(bundle.manifest.text_space, bundle.manifest.dim)
    replace(rows, teaching=teaching).write(rows_path(path))


def scores(labels: CompiledLabels, embedding: np.ndarray) -> dict[str, float]:
    found = Scorer(labels)(embedding)
    assert found is not None
    return dict(zip(labels.names, found.scores.tolist(), strict=True))


def test_a_teaching_is_read_as_it_was_written_and_equal_ones_give_equal_bytes(
    bundle: Bundle, tmp_path
):
    teaching = teaching_of(parse_label_set(SET, "x"), bundle, none=True)
    path = tmp_path / "my.yaml"
    store(path, teaching, bundle)
    first = rows_path(path).read_bytes()

    read = PhraseRows.read(rows_path(path))
    assert read is not None
    assert read.phrases == ()
    again = read.teaching
    assert again is not None
    assert again.to_dict() == teaching.to_dict()
    np.testing.assert_array_equal(again.groups[0].rows, teaching.groups[0].rows)
    np.testing.assert_array_equal(again.groups[0].biases, teaching.groups[0].biases)
    assert (again.groups[0].right, again.groups[0].held_out) == (2, 3)

    read.write(rows_path(path))
    assert rows_path(path).read_bytes() == first


def test_a_file_without_a_teaching_is_to_the_byte_what_it_was(tmp_path):
    rows = PhraseRows(("crimson",), np.eye(1, 16, dtype=np.float16), "e", True, "s", "r")
    rows.write(tmp_path / "my.embeddings")
    head = (tmp_path / "my.embeddings").read_bytes().partition(b"\n")[0]
    assert head.startswith(b'{"schema": "edge-label-phrases/1", ')
    assert b"taught" not in head


def test_without_pictures_the_answers_are_bit_identical(bundle: Bundle, bank: TextBank):
    """The scorer's sums are those of the words alone, written out as before teaching existed."""
    text = "labels: [red, {name: blue, group: b, bias: 1.5}, green]\nbackground: [grey, dark red]\n"
    labels = compile_labels(parse_label_set(text, "x"), bundle, bank)
    embedding = np.random.default_rng(1).normal(size=16).astype(np.float32)
    embedding /= np.linalg.norm(embedding)
    found = Scorer(labels)(embedding)
    assert found is not None

    cosines = labels.matrix @ embedding
    for _, rows in labels.groups:
        logits = np.concatenate((cosines[rows], cosines[3:])) * np.float64(20.0)
        logits += np.append(labels.biases[rows], np.zeros(2))
        odds = np.exp(logits - logits.max())
        expected = (odds / np.add.reduceat(odds, [0])[0])[: rows.stop - rows.start]
        assert found.scores[rows].tolist() == expected.tolist()


def test_taught_rows_biases_and_threshold_take_the_place_of_the_words(bundle: Bundle, tmp_path):
    path = tmp_path / "my.yaml"
    store(path, teaching_of(parse_label_set(SET, "x"), bundle), bundle)
    labels = load_labels(str(path), bundle)

    logits = {"red": 0.0, "green": 20 * 3 + 0.25, "blue": 0.0, "grey": 0.5 * 0}
    odds = np.exp(list(logits.values()))
    expected = dict(zip(logits, (odds / odds.sum()).tolist(), strict=True))
    found = scores(labels, axis(1))
    assert {name: found[name] for name in found} == pytest.approx(
        {name: expected[name] for name in found}
    )
    assert labels.thresholds.tolist() == pytest.approx([0.6] * 3)


def test_a_label_that_pictures_taught_may_be_on_in_any_view(bundle: Bundle, bank: TextBank):
    label_set = parse_label_set("labels: [red, green, {name: blue, any_view: true}]\n", "x")
    taught = compile_labels(label_set, bundle, bank, teaching_of(label_set, bundle))
    assert taught.in_any_view.tolist() == [False, True, True]
    words = compile_labels(label_set, bundle, bank)
    assert words.in_any_view.tolist() == [False, False, True]
    silent = parse_label_set("labels: [red, green, blue]\n", "x")
    assert words.id != compile_labels(silent, bundle, bank).id, "another answer, another id"


def test_the_background_is_scaled_as_the_words_beside_it(bundle: Bundle, tmp_path):
    path = tmp_path / "my.yaml"
    store(path, teaching_of(parse_label_set(SET, "x"), bundle), bundle)
    logits = np.array([0.0, 0.25, 0.0, 0.5 * 20])  # red, green, blue, and grey at half its scale
    expected = np.exp(logits) / np.exp(logits).sum()
    found = scores(load_labels(str(path), bundle), axis(0, 0, 0, 1))
    assert list(found.values()) == pytest.approx(expected[:3].tolist())


def test_none_of_these_competes_beside_the_background(bundle: Bundle, tmp_path):
    path = tmp_path / "my.yaml"
    store(path, teaching_of(parse_label_set(SET, "x"), bundle, none=True), bundle)
    labels = load_labels(str(path), bundle)

    for embedding, grey, none in ((axis(0, 0, 1), 0.0, 60.5), (axis(0, 0, 0, 1), 10.0, 0.5)):
        found = Scorer(labels)(embedding)
        assert found is not None
        assert not found.votes.any()
        odds = np.exp([0.0, 0.25, 0.5 * 20 * float(embedding[2]), grey, none])
        assert found.scores.tolist() == pytest.approx((odds / odds.sum())[:3].tolist())


def test_none_of_these_stays_in_the_groups_that_were_taught(bundle: Bundle, bank: TextBank):
    text = "labels: [red, green, blue, {name: dark red, group: z}]\nbackground: [grey]\n"
    label_set = parse_label_set(text, "x")
    whole = teaching_of(label_set, bundle, none=True)
    places = [0, 1, 2, 4]
    group = whole.groups[0]
    group = replace(
        group,
        labels=(*group.labels[:3], NONE),
        words=tuple(group.words[i] for i in places),
        rows=group.rows[places],
        biases=np.zeros(4, np.float32),
    )
    taught = compile_labels(label_set, bundle, bank, replace(whole, groups=(group,)))
    untaught = compile_labels(label_set, bundle, bank)
    grey = axis(0.1, 0, 0, 1)

    assert scores(taught, grey)["dark red"] == scores(untaught, grey)["dark red"]
    assert scores(taught, grey)["red"] != scores(untaught, grey)["red"]
    assert taught.id != untaught.id


def test_a_threshold_in_the_label_set_wins_over_the_learnt_one(bundle: Bundle, tmp_path):
    text = "labels: [red, {name: green, threshold: 0.11}, blue]\nbackground: [grey]\n"
    path = tmp_path / "my.yaml"
    store(path, teaching_of(parse_label_set(text, "x"), bundle), bundle, text)
    assert load_labels(str(path), bundle).thresholds.tolist() == pytest.approx([0.6, 0.11, 0.6])


CHANGES = {
    "a label more": ("labels: [red, green, blue, dark red]\nbackground: [grey]\n", []),
    "another label gone": ("labels: [green, blue]\nbackground: [grey]\n", []),
    "another label's prompts": (
        "labels: [{name: red, prompts: [dark red]}, green, blue]\nbackground: [grey]\n",
        [],
    ),
    "a threshold": (
        "labels: [red, {name: green, threshold: 0.2}, blue]\nbackground: [grey]\n",
        [],
    ),
    "its prompts": (
        "labels: [red, {name: green, prompts: [dark red]}, blue]\nbackground: [grey]\n",
        ["green"],
    ),
    "its bias": (
        "labels: [red, {name: green, bias: 1}, blue]\nbackground: [grey]\n",
        ["green"],
    ),
    "its group": (
        "labels: [red, {name: green, group: g}, blue]\nbackground: [grey]\n",
        ["green"],
    ),
    "its name": (
        "labels: [red, {name: verdant, prompts: [green]}, blue]\nbackground: [grey]\n",
        ["green"],
    ),
    "the background": ("labels: [red, green, blue]\nbackground: [dark red]\n", []),
    "the temperature": (
        SET + "temperatures: {labels: 2}\n",
        ["green", "none of these"],
    ),
}


@pytest.mark.fault("L9")
@pytest.mark.parametrize(("text", "lost"), CHANGES.values(), ids=CHANGES)
def test_a_label_stays_taught_while_its_own_words_are_the_same(
    text: str, lost: list[str], bundle: Bundle, tmp_path, caplog
):
    path = tmp_path / "my.yaml"
    store(path, teaching_of(parse_label_set(SET, "x"), bundle, none=True), bundle, text)
    labels = load_labels(str(path), bundle)

    taught = bool(
        np.isclose(np.linalg.norm(labels.matrix, axis=1), 3, atol=1e-3)[: len(labels.names)].any()
    )
    assert taught == ("green" not in lost)
    said = [record.getMessage() for record in caplog.records]
    if not lost:
        assert said == []
    else:
        names = ", ".join(name if name == "none of these" else f"'{name}'" for name in lost)
        assert said == [
            f"{path}: changed since they were taught, so they go by their words: {names}; "
            "run: edge-label labels learn"
        ]


def test_a_new_label_competes_at_the_scale_of_the_others(bundle: Bundle, bank: TextBank):
    before = parse_label_set(SET, "x")
    teaching = teaching_of(before, bundle)
    after = parse_label_set("labels: [red, green, blue, dark red]\nbackground: [grey]\n", "x")
    kept, _ = still_holds(teaching, after, bundle.manifest)

    words = compile_labels(after, bundle, bank).matrix[3]
    np.testing.assert_array_equal(compile_labels(after, bundle, bank, kept).matrix[3], 0.5 * words)


@pytest.mark.fault("L9")
def test_what_was_taught_with_another_encoder_is_left_out_in_one_line(
    bundle: Bundle, tmp_path, caplog
):
    teaching = teaching_of(parse_label_set(SET, "x"), bundle)
    path = tmp_path / "my.yaml"
    store(path, replace(teaching, encoder="another"), bundle)

    assert scores(load_labels(str(path), bundle), axis(1))["red"] > 0.9
    (record,) = caplog.records
    assert record.getMessage() == (
        f"{path}: the labels were taught with another bundle, so they go by their words; "
        "run: edge-label labels learn"
    )


def test_forgetting_all_pictures_of_a_group_forgets_the_group(bundle: Bundle):
    teaching = teaching_of(parse_label_set(SET, "x"), bundle, none=True)
    left = teaching.without({"green"})
    assert left is not None
    assert (left.groups[0].labels, list(left.pictures)) == (("red", "blue", NONE), [NONE])
    assert teaching.without({"green", NONE}) is None


@pytest.mark.fault("L10")
@pytest.mark.parametrize("value", [np.nan, np.inf, -2000.0])
@pytest.mark.parametrize("place", [0, -1])
def test_taught_numbers_out_of_all_proportion_are_refused(
    value: float, place: int, bundle: Bundle, tmp_path
):
    teaching = teaching_of(parse_label_set(SET, "x"), bundle)
    group = teaching.groups[0]
    if place == 0:
        group.rows[1, 3] = value
    else:
        group.biases[1] = value * 10
    store(tmp_path / "my.yaml", teaching, bundle)

    with pytest.raises(ConfigError, match=r"damaged .*out of all proportion"):
        load_labels(str(tmp_path / "my.yaml"), bundle)


def test_a_damaged_teaching_is_refused_in_one_line(bundle: Bundle, tmp_path):
    teaching = teaching_of(parse_label_set(SET, "x"), bundle)
    fields = teaching.to_dict()
    numbers = teaching.numbers()
    (group,) = fields["groups"]

    assert Teaching.from_dict(fields, numbers).to_dict() == fields
    for damage in (
        {"dim": 15},
        {"dim": 0},
        {"dim": "16"},
        {"groups": []},
        {"groups": [group, group]},
        {"groups": [{**group, "labels": ["red"]}]},
        {"groups": [{**group, "labels": [], "words": []}]},
        {"groups": [{**group, "factor": -1}]},
        {"groups": [{**group, "threshold": float("nan")}]},
        {"groups": [{**group, "answers": [["red"]]}]},
    ):
        with pytest.raises((ValueError, TypeError, KeyError)):
            Teaching.from_dict({**fields, **damage}, numbers)
    with pytest.raises(ValueError, match="no taught rows"):
        Teaching.from_dict(fields, numbers[:-1])


@pytest.mark.fault("L10")
def test_half_a_file_with_a_teaching_is_refused(bundle: Bundle, tmp_path):
    path = tmp_path / "my.yaml"
    store(path, teaching_of(parse_label_set(SET, "x"), bundle), bundle)
    data = rows_path(path).read_bytes()

    for damaged in (data[:-1], data[:90], data.replace(b'"taught"', b'"thought"')):
        rows_path(path).write_bytes(damaged)
        with pytest.raises(ConfigError, match=r"damaged .*; run: edge-label labels build"):
            PhraseRows.read(rows_path(path))
