"""One object controls a search: seed, threads, time limit, progress, cancellation."""

import numpy as np
import pytest

import brachy
from brachy.errors import UsageError
from brachy.optimise.control import SearchControl
from brachy.optimise.replanning.reopen import reopen
from brachy.patient.protocol import change
from tests.quick_protocol import AXIAL
from tests.sphere_case import sphere

QUICK = change(
    AXIAL,
    search={"starts": 2, "moves": 4000, "fine_moves": 1000, "scan_moves": 200},
)


@pytest.fixture(scope="module")
def plain():
    return brachy.plan(sphere(), QUICK, direction=(0, 0), seed=5, threads=1)


def test_a_control_stands_for_its_keywords(plain):
    made = brachy.plan(sphere(), QUICK, direction=(0, 0), control=SearchControl(seed=5, threads=2))
    assert made.to_json() == plain.to_json()


def test_both_at_once_are_refused():
    with pytest.raises(UsageError, match="either control, or seed"):
        brachy.plan(sphere(), QUICK, seed=1, control=SearchControl())


def test_a_cancelled_search_ends_with_its_best_and_says_so(plain):
    """Cancelled from the progress callback, which another thread may call; the loading so far is a plan."""
    stages = []

    def cancel(stage, best=None):
        stages.append(stage)
        if stage.startswith("search"):
            control.cancel()

    control = SearchControl(seed=5, progress=cancel)
    made = brachy.plan(sphere(), QUICK, direction=(0, 0), control=control)
    assert made.optimiser.interrupted is True
    assert any("interrupted" in note for note in made.assumed)
    assert made.seed_count > 0
    assert stages.index("structures") == 0


def test_random_numbers_follow_from_seed_and_place_alone():
    one, other = SearchControl(seed=1), SearchControl(seed=2)
    assert one.rng("search", 0) == one.rng("search", 0)
    states = [
        int(c.rng(*place)[0]) for c in (one, other) for place in (("search", 0), ("search", 1), ("fine", 0))
    ]
    assert len(set(states)) == 6
    assert all(states)  # a xorshift generator never leaves 0


def test_a_plan_that_is_opened_again_is_prepared_as_it_was_planned(plain):
    """Same anchor, samples and dose of one seed for planning and for what follows."""
    from brachy.optimise.planner import solve

    first = solve(sphere(), QUICK, SearchControl(seed=5), None, None, None, (0, 0)).prepared
    again = reopen(plain, sphere()).prepared
    assert np.array_equal(first.anchor_mm, again.anchor_mm)
    assert [part.name for part in first.samples] == [part.name for part in again.samples]
    for one, two in zip(first.samples, again.samples, strict=True):
        assert np.array_equal(one.points_mm, two.points_mm)
    assert first.stock.strengths_U == pytest.approx(
        again.stock.strengths_U, rel=1e-5
    )  # 6 digits in plan.json
    assert first.table.values == pytest.approx(again.table.values, rel=1e-5)
