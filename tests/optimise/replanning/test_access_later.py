"""Replanning and edits of plans that were made before what lies outside was judged, and of those made since."""

import numpy as np
import pytest

from brachy.optimise import plan, plan_edited, replan
from brachy.optimise.replanning.edits import read_edits
from brachy.optimise.replanning.implanted_so_far import Placed
from brachy.patient.plan import Plan
from tests.access_cases import lying, positioned
from tests.quick_protocol import QUICK

NOTHING = Placed({}, frozenset(), frozenset(), {})
ACCESS_RULES = {"direction within the access", "needle above the couch's top"}


@pytest.fixture(scope="module")
def case():
    return lying("HFS")


@pytest.fixture(scope="module")
def old(case):
    """A plan through the couch, of a program that did not look at it."""
    bare = positioned(lying("HFS", couch=False), "")
    data = plan(bare, QUICK, direction=(180.0, 0.0)).model_dump(mode="json")
    del data["access"], data["protocol"]["access"]
    data["rules"] = [rule for rule in data["rules"] if rule["rule"] not in ACCESS_RULES]
    return Plan.model_validate(data).sealed()


@pytest.fixture(scope="module")
def new(case):
    return plan(case, QUICK)


def seeds_of(made):
    return {seed.position_mm for needle in made.needles for seed in needle.seeds}


def first_needle(made):
    needle = made.needles[0]
    seeds = {
        (needle.template, needle.hole, k): seed.position_mm
        for k, seed in enumerate(sorted(needle.seeds, key=lambda s: s.depth_mm), 1)
    }
    return Placed(seeds, frozenset(), frozenset(), {})


def test_a_plan_of_before_goes_on_as_it_was_made(case, old):
    child = replan(old, case, first_needle(old))
    assert child.access is None
    assert {needle.direction for needle in child.needles} == {needle.direction for needle in old.needles}
    assert not any("couch" in rule.rule for rule in child.rules)
    assert (
        child.evaluation.structures["GTV"]["V100_pct"] >= old.evaluation.structures["GTV"]["V100_pct"] - 3.0
    )
    again = replan(child, case, first_needle(child))
    assert again.access is None


def test_a_plan_made_now_keeps_its_access(case, new):
    child = replan(new, case, first_needle(new))
    assert child.access == new.access
    assert all(rule.status != "broken" for rule in child.rules if rule.rule in ACCESS_RULES)
    for needle in child.needles:
        assert np.array(needle.direction) @ [0, -1, 0] < 0.5 + 1e-6


def test_needles_in_the_patient_are_not_judged_again(case, old, new):
    """A plan of now that holds a needle from below, placed: the rules are for what can still be changed."""
    every = {}
    for needle in old.needles:
        for k, seed in enumerate(sorted(needle.seeds, key=lambda s: s.depth_mm), 1):
            every[needle.template, needle.hole, k] = seed.position_mm
    now = old.model_copy(update={"access": new.access, "protocol": new.protocol}).sealed()
    child = replan(now, case, Placed(every, frozenset(), frozenset(), {}))
    assert seeds_of(child) >= seeds_of(old)
    rules = {rule.rule: rule for rule in child.rules}
    assert all(rules[name].status == "not checked" for name in ACCESS_RULES)


def test_an_edited_plan_is_judged(case, new, tmp_path):
    needle = new.needles[0]
    csv = tmp_path / "edits.csv"
    csv.write_text(f"action,template,hole,seed,depth_mm\nremove,1,{needle.hole},1,\n")
    child = plan_edited(new, case, read_edits(csv, new))
    assert child.access == new.access
    assert {rule.rule for rule in child.rules} >= ACCESS_RULES
