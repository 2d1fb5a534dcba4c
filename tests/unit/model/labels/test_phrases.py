"""The same name written differently is found; a different thing never is."""

from __future__ import annotations

import time

import pytest

from edge_runtime.model.labels.phrases import PhraseIndex, bare


@pytest.mark.parametrize(
    ("phrase", "name"),
    [
        ("airplanes", "airplane"),
        ("Leopards", "leopard"),
        ("a photo of the buses", "bus"),
        ("gases", "gas"),
        ("camera lenses", "camera lens"),
        ("watches", "watch"),
        ("tomatoes", "tomato"),
        ("shoes", "shoe"),
        ("cookies", "cookie"),
        ("strawberries", "strawberry"),
        ("taxis", "taxi"),
        ("dresses", "dress"),
        ("knives", "knife"),
        ("bookshelves", "bookshelf"),
        ("leaves", "leaf"),
        ("olives", "olive"),
        ("gloves", "glove"),
        ("policewomen", "policewoman"),
        ("children", "child"),
        ("people", "person"),
        ("geese", "goose"),
        ("traffic lights", "traffic light"),
        ("fire-hydrants", "fire hydrant"),
        ("wineglasses", "wineglass"),
        ("headphone", "headphones"),
        ("chopstick", "chopsticks"),
        ("green bean", "green beans"),
        ("sea horse", "seahorse"),
        ("Sea-Horses", "seahorse"),
        ("cellphone", "cell phone"),
        ("traffic_light", "traffic light"),
        ("tshirt", "t-shirt"),
        ("t shirts", "t-shirt"),
        ("potters wheel", "potter's wheel"),
        ("hot air balloon", "hot-air balloon"),
        ("tire", "tyre"),
        ("Theatre", "theater"),
        ("gray wolf", "grey wolf"),
    ],
)
def test_the_same_name_written_differently_is_found(phrase: str, name: str):
    assert PhraseIndex(["something else", name]).find(phrase) == 1


@pytest.mark.parametrize(
    ("phrase", "name"),
    [
        ("glasses", "glass"),
        ("glass", "glasses"),
        ("reading glasses", "reading glass"),
        ("news", "new"),
        ("new", "news"),
        ("woods", "wood"),
        ("wood", "woods"),
        ("short", "shorts"),
        ("goods", "good"),
        ("spectacles", "spectacle"),
        ("marbles", "marble"),
        ("electronics", "electronic"),
        ("bus", "bu"),
        ("gas", "ga"),
        ("lens", "len"),
        ("brass", "bras"),
        ("bras", "brass"),
        ("princess", "princes"),
        ("species", "specie"),
        ("clothes", "cloth"),
        ("caves", "cafe"),
        ("black bird", "blackbird"),
        ("green house", "greenhouse"),
        ("whiteboard", "white board"),
        ("people crossing", "person crossing"),
        ("cat", "cats and dogs"),
        ("penny", "penny (coin)"),
        ("-", "'"),
    ],
)
def test_a_different_thing_is_never_taken_for_it(phrase: str, name: str):
    assert PhraseIndex([name]).find(phrase) is None


def test_what_is_written_comes_first_then_the_nearer_spelling():
    names = ["head phone", "headphones", "headphone"]
    assert [PhraseIndex(names[:n]).find("headphone") for n in (1, 2, 3)] == [0, 0, 2]
    assert PhraseIndex(["seahorses", "seahorse"]).find("sea horses") == 0
    assert PhraseIndex(["jeans", "jean"]).find("a photo of a jean") == 1


def test_an_exact_row_wins_over_an_approximate_one():
    assert PhraseIndex(["roads", "road"], frozenset({0})).find("roads") == 1
    assert PhraseIndex(["roads", "road"], frozenset({0, 1})).find("roads") == 0
    assert PhraseIndex(["road", "ROAD"], frozenset({0})).find("road") == 1


def test_ten_thousand_names_are_indexed_and_found_in_a_blink():
    names = [f"bottle number {i} of the shelves" for i in range(10_000)]
    started = time.process_time()
    index = PhraseIndex(names)
    assert [index.find(f"{name[:-7]}shelf") for name in names] == list(range(10_000))
    assert time.process_time() - started < 2


def test_an_article_of_the_name_and_one_of_the_template_are_both_ignored():
    assert bare("a photo of a an apple") == "apple"
    assert bare("the an apple") == "apple"
    assert bare("another apple") == "another apple"
