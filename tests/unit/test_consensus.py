"""Labels do not flap: votes are smoothed, groups have one winner, and every change is one event."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_runtime.config import ConsensusConfig
from edge_runtime.consensus import Consensus

NAMES = ("dry", "wet", "day", "night")
GROUPS = (slice(0, 2), slice(2, 4))


def votes(*names):
    return np.array([name in names for name in NAMES])


def run(consensus, sequence, fps=25, start=0):
    """What is on after each frame, and all events with their times."""
    on = []
    events = []

    for i, labels in enumerate(sequence, start):
        now_on, changes = consensus(votes(*labels), i / fps)
        on.append({NAMES[k] for k in np.flatnonzero(now_on)})
        events += [(i / fps, event) for event in changes]

    return on, events


@pytest.fixture
def consensus():
    return Consensus(ConsensusConfig(), NAMES, GROUPS)


def test_a_label_that_every_second_frame_contradicts_does_not_flap(consensus):
    flapping = [("wet",) if i % 2 else ("dry",) for i in range(250)]
    _, events = run(consensus, [("dry",)] * 50 + flapping)
    assert len(events) == 1


@pytest.mark.parametrize("method", ["exponential", "k_of_n"])
@pytest.mark.parametrize("fps", [5, 12, 25, 60])
def test_a_clean_change_is_passed_on_within_a_second_at_any_frame_rate(method, fps):
    if method == "k_of_n" and fps == 5:
        pytest.skip("nine frames at 5 a second are longer than a second")
    consensus = Consensus(ConsensusConfig(method=method), NAMES, GROUPS)
    _, events = run(consensus, [("dry",)] * (4 * fps) + [("wet",)] * (4 * fps), fps)
    change = next(time for time, event in events if event.name == "wet" and event.on)
    assert 4.0 < change <= 5.0


def test_no_group_changes_twice_within_the_dwell_time():
    consensus = Consensus(ConsensusConfig(tau_s=0.05, min_dwell_s=2.0), NAMES, GROUPS)
    swinging = [("dry",) if (i // 20) % 2 else ("wet",) for i in range(500)]
    _, events = run(consensus, swinging)
    times = sorted({time for time, _ in events})
    assert len(times) > 3
    assert min(b - a for a, b in itertools.pairwise(times)) >= 2.0


def test_between_the_two_thresholds_a_label_keeps_what_it_has(consensus):
    half = [(), ("dry",)] * 100  # share about 0.5: below on, above off
    on, _ = run(consensus, half)
    assert "dry" not in on[-1]
    on, _ = run(consensus, [("dry",)] * 100, start=200)
    assert "dry" in on[-1]
    on, _ = run(consensus, half, start=300)
    assert "dry" in on[-1]


def test_a_change_is_told_once_with_both_labels_and_how_long_it_lasted(consensus):
    _, events = run(consensus, [("dry",)] * 100 + [("wet",)] * 100)
    changes = [(event.name, event.on) for _, event in events]
    assert changes == [("dry", True), ("dry", False), ("wet", True)]
    assert events[0][1].lasted_s is None
    assert events[1][1].lasted_s == pytest.approx(4, abs=0.6)


def test_groups_do_not_disturb_each_other(consensus):
    on, _ = run(consensus, [("dry", "day")] * 100 + [("dry", "night")] * 100)
    assert on[99] == {"dry", "day"}
    assert on[-1] == {"dry", "night"}


@pytest.mark.parametrize(("k", "n"), [(7, 10), (6, 9), (9, 10), (4, 7)])
def test_k_of_n_takes_k_votes_and_no_more(k: int, n: int):
    consensus = Consensus(ConsensusConfig(method="k_of_n", k=k, n=n, min_dwell_s=0), NAMES, GROUPS)
    on, _ = run(consensus, [("dry",)] * k + [()] * n)
    assert ["dry" in now for now in on].index(True) == k - 1
    assert ["dry" in now for now in on].count(True) == k  # until n - k votes are left


def test_off_means_every_frame_speaks_for_itself():
    consensus = Consensus(ConsensusConfig(method="off"), NAMES, GROUPS)
    on, events = run(consensus, [("dry",), ("wet",), ()])
    assert on == [{"dry"}, {"wet"}, set()]
    assert events == []


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from([0, 1, None]), st.floats(0, 3)), max_size=60),
    st.sampled_from(["exponential", "k_of_n"]),
)
def test_a_group_never_has_two_winners_whatever_comes(steps, method):
    consensus = Consensus(ConsensusConfig(method=method), NAMES, GROUPS)
    now = 0.0
    for winner, gap in steps:
        now += gap
        on, _ = consensus(votes(*([NAMES[winner]] if winner is not None else [])), now)
        assert on[:2].sum() <= 1


@pytest.mark.parametrize(
    "bad",
    [
        {"k": 2, "n": 5},
        {"k": 6, "n": 5},
        {"on_share": 0.4},
        {"off_share": 0.7},
        {"tau_s": 0},
        {"min_dwell_s": -1},
    ],
)
def test_a_consensus_that_could_not_decide_is_refused(bad):
    with pytest.raises(ValueError, match="consensus"):
        ConsensusConfig(**bad)
