"""The table counts wrong labels in strange views, and right labels in ordinary ones."""

import numpy as np

from tools.measure.strange_looks import Looks
from tools.measure.strange_material import SETS, Case
from tools.measure.strange_views import right_table, strange_table

LOOKS = Looks(
    *(np.zeros((100, 1), np.float32) for _ in range(2)), *(np.zeros(100) for _ in range(3))
)
ALL = np.ones((100, 2), bool)
NONE = ~ALL


def case(name, right, wrong, is_strange=False):
    return Case(name, LOOKS, dict.fromkeys(SETS, right), dict.fromkeys(SETS, wrong), is_strange)


def everything(_, looks):
    return ALL


def a_tenth(_, looks):
    on = NONE.copy()
    on[:10] = True
    return on


def test_wrong_labels_are_counted_for_a_hundred_views_and_right_ones_in_percent():
    cases = [case("noise", NONE, ALL, is_strange=True), case("held out", ALL, NONE)]
    ways = {"nothing refused": everything, "most refused": a_tenth}

    rows = strange_table(ways, cases).splitlines()
    assert "held out" not in rows[0], "only strange views stand in the first table"
    assert rows[2].split("|")[1:-1] == [" nothing refused ", " 600 ", " 0 "]
    assert rows[3].split("|")[1:-1] == [" most refused ", " 60 ", " 90 "]

    rows = right_table(ways, cases).splitlines()
    assert "noise" not in rows[0]
    assert rows[2].split("|")[1:-1] == [" right labels on ", " 200 ", " 200 ", " 200 "]
    assert rows[4].split("|")[1:-1] == [" most refused ", " 90.0 ", " 90.0 ", " 90.0 "]
