"""A rule that cannot mean anything is refused before it runs."""

from __future__ import annotations

import pytest

from edge_runtime.config import Condition, TriggerRule, TriggersConfig

FOG = Condition(label="fog")


def test_a_condition_is_exactly_one_test():
    with pytest.raises(ValueError, match="this has none"):
        Condition()
    with pytest.raises(ValueError, match="this has label and state"):
        Condition(label="fog", state="ok")
    with pytest.raises(ValueError, match="at least one condition"):
        Condition(all=())


def test_a_score_belongs_to_a_label_and_is_a_fraction():
    with pytest.raises(ValueError, match="min_score belongs to a label"):
        Condition(state="ok", min_score=0.5)
    with pytest.raises(ValueError, match="max_score must be between 0 and 1"):
        Condition(label="fog", max_score=1.5)


def test_a_condition_knows_the_labels_below_it():
    ice = Condition(label="ice", min_score=0.3)
    condition = Condition(any=(FOG, Condition(all=(ice, Condition(not_=Condition(label="sun"))))))
    assert condition.labels == {"fog", "ice", "sun"}
    assert Condition(state="ok").labels == set()


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ({"name": "a/b", "when": FOG}, "part of a file's name"),
        ({"name": "x"}, "would keep everything"),
        ({"name": "x", "when": FOG, "save": "clip"}, "needs pre_s or post_s"),
        ({"name": "x", "when": FOG, "pre_s": 1.0}, "are for save: clip"),
        ({"name": "x", "min_distance": 0.0}, "min_distance must be between"),
    ],
)
def test_a_rule_that_makes_no_sense_is_refused(rule: dict, message: str):
    with pytest.raises(ValueError, match=message):
        TriggerRule(**rule)


def test_rules_have_names_of_their_own_and_a_deletion_needs_its_hook():
    rule = TriggerRule("fog", when=FOG)
    with pytest.raises(ValueError, match="names must differ"):
        TriggersConfig("/spool", (rule, rule))
    with pytest.raises(ValueError, match="rules is empty"):
        TriggersConfig("/spool", ())
    with pytest.raises(ValueError, match=r"needs triggers\.hook"):
        TriggersConfig("/spool", (rule,), delete_after_hook=True)
