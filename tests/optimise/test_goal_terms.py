"""Goals with weights as terms: against closed forms, and seen in the plans they make."""

import numpy as np
import pytest

from brachy.core.loading import hinge_sums
from brachy.errors import UsageError
from brachy.geometry.structures import Structure
from brachy.optimise import plan
from brachy.optimise.goal_terms import goal_samples
from brachy.optimise.objective import hinge_terms
from brachy.optimise.points import FINE, SCAN
from brachy.patient.protocol import Objective, Protocol
from brachy.patient.target import Target
from tests.sphere_case import QUICK, sphere


def cube(name, low, high, role=""):
    x, y = np.array([low[0], high[0], high[0], low[0]]), np.array([low[1], low[1], high[1], high[1]])
    rings = [np.column_stack([x, y, np.full(4, z)]) for z in np.arange(low[2] + 1, high[2], 2.0)]
    return Structure(name, rings, slice_spacing_mm=2.0, role=role)


TARGET = cube("GTV", (-10, -10, -10), (10, 10, 10), "target")
BOWEL = cube("Bowel", (20, -10, -10), (40, 10, 10), "bowel")  # 8 cc


def protocol(*goals):
    return Protocol.model_validate({**QUICK.model_dump(), "goals": goals})


def value(goal, dose, level=FINE):
    """Value of the only goal's term for a dose (n, 3) -> (n,)."""
    targets = [Target(TARGET, 120.0)]
    (part,) = goal_samples(protocol(goal), [TARGET, BOWEL], targets, np.zeros(3))
    terms = hinge_terms([part], Objective(), level)
    points = part.points_mm[: part.counts[level]]
    return float(hinge_sums(terms, dose(points)).sum())


def rising(points):
    """1 Gy a mm across the bowel: 100 Gy at x = 20, 120 Gy at x = 40."""
    return 80.0 + points[:, 0]


@pytest.mark.parametrize(
    ("metric", "op", "limit", "expected"),
    [
        # excess above 110 Gy: the mean of (x - 30)+ over 20..40 is 2.5
        ("D50_gy", "<=", 110, 2.5 / 110),
        ("V110Gy_pct", "<=", 10, 2.5 / 110),
        # of 8 cc, counted as the excess of the hottest 2 cc or 0.1 cc
        ("D2cc_gy", "<=", 110, 4 * 2.5 / 110),
        ("max_gy", "<=", 110, 80 * 2.5 / 110),
        # the prescription is 120 Gy: the mean of (120 - 80 - x)+ is 10
        ("V100_pct", ">=", 90, 10 / 120),
        ("D90_gy", ">=", "Rx", 10 / 120),
        ("mean_gy", "<=", 55, 110 / 55),
        ("mean_gy", ">=", 120, 10 / 120),
        ("D1cc_gy", "<=", 125, 0.0),
    ],
)
def test_terms_against_closed_forms(metric, op, limit, expected):
    goal = {"roi": "Bowel", "metric": metric, "op": op, "limit": limit, "weight": 3.0}
    assert value(goal, rising) == pytest.approx(3 * expected, rel=0.02)
    assert value({**goal, "priority": 3}, rising) == pytest.approx(0.03 * expected, rel=0.02)
    assert value(goal, rising, SCAN) == pytest.approx(3 * expected, rel=0.1)


def test_roles_and_targets_are_meant_and_unknown_names_refused():
    def parts(roi, weight=1.0):
        goal = {"roi": roi, "metric": "V150_pct", "op": "<=", "limit": 30, "weight": weight}
        targets = [Target(TARGET, 120.0), Target(cube("Boost", (-4, -4, -4), (4, 4, 4), "target"), 160.0)]
        return goal_samples(protocol(goal), [TARGET, BOWEL], targets, np.zeros(3))

    assert [(p.name, p.level_gy) for p in parts("target")] == [("GTV", 180.0), ("Boost", 240.0)]
    assert [(p.name, p.level_gy) for p in parts("Boost")] == [("Boost", 240.0)]
    assert [(p.name, p.level_gy) for p in parts("bowel")] == [("Bowel", 240.0)]
    assert parts("bowel", 0.0) == ()
    with pytest.raises(UsageError, match="no ROI has the name or role 'Duodenum'"):
        parts("Duodenum")


def test_a_weight_lowers_what_it_is_given_to_and_is_named_in_the_plan():
    goal = {"roi": "target", "metric": "V200_pct", "op": "<=", "limit": 15.0}
    plain, weighed = (
        plan(sphere(), protocol({**goal, **extra}), direction=(0, 0)) for extra in ({}, {"weight": 60.0})
    )
    assert weighed.evaluation.structures["GTV"]["V200_pct"] < plain.evaluation.structures["GTV"]["V200_pct"]
    assert set(weighed.optimiser.terms) - set(plain.optimiser.terms) == {"goal GTV V200_pct <= 15"}
    assert sum(weighed.optimiser.terms.values()) == pytest.approx(weighed.optimiser.objective, rel=1e-5)
