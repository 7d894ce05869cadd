"""What is in stock: counts, bounds on needles, strands, cartridges, mixed strengths; and what cannot be."""

import numpy as np
import pytest

from brachy.check import check_plan
from brachy.errors import BrachyError, UsageError
from brachy.optimise import plan
from brachy.optimise.candidates import Candidates
from brachy.optimise.control import SearchControl
from brachy.optimise.planner import solve
from brachy.output.plan_folder import write_outputs
from brachy.patient.protocol import Protocol, change
from tests.quick_protocol import AXIAL
from tests.sphere_case import QUICK, sphere


def made(**tables):
    found = plan(sphere(), change(QUICK, **tables), direction=(0, 0))
    assert [rule.rule for rule in found.rules if rule.broken] == []
    return found


def depths(needle):
    along = (np.array([s.position_mm for s in needle.seeds]) - needle.hole_mm) @ np.array(needle.direction)
    return np.sort(along)


def test_an_exact_count_is_used_and_a_range_is_kept():
    assert made(seeds={"count": 23}).seed_count == 23
    found = made(seeds={"count": (24, 30)})
    assert 24 <= found.seed_count <= 30
    assert {rule.rule: rule.limit for rule in found.rules}["seeds in stock"] == "24-30"


def test_needles_are_bounded_from_above_and_below():
    assert len(made(needle={"count": 8}).needles) <= 8
    assert len(made(needle={"count": (10, 12)}).needles) >= 10


def test_a_strand_has_one_pitch_and_no_gap():
    found = made(seeds={"supply": "strand", "strand_pitch_mm": 10.0})
    longest = max(len(needle.seeds) for needle in found.needles)
    assert longest >= 3
    for needle in found.needles:
        assert np.diff(depths(needle)) == pytest.approx(10.0, abs=0.01)


def test_loose_seeds_have_room_for_the_smallest_spacer():
    found = made(seeds={"smallest_spacer_mm": 4.0})  # a capsule of 4.5 mm: every second place of 5 mm
    assert min(np.diff(depths(n)).min() for n in found.needles if len(n.seeds) > 1) >= 8.5
    # a cartridge drops single seeds: no spacer between them
    close = made(seeds={"smallest_spacer_mm": 4.0, "supply": "cartridge", "count": 32})
    assert min(np.diff(depths(n)).min() for n in close.needles if len(n.seeds) > 1) < 8.5


def test_strengths_are_mixed_by_whole_needles_and_every_file_agrees(tmp_path):
    found = made(source={"activities_mCi": (0.8, 0.6)}, needle={"count": 8})
    assert len(found.sources) == 2
    assert {round(s.apparent_activity_mCi, 6) for s in found.sources} == {0.6, 0.8}
    for needle in found.needles:
        assert len({seed.source for seed in needle.seeds}) == 1
    out = write_outputs(found, sphere(), tmp_path / "out", pictures=False)
    report = check_plan(out)
    assert report.verdict == "pass", report.failures


def test_a_stronger_stock_needs_fewer_seeds():
    weak, strong = made(source={"activity_mCi": 0.6}), made(source={"activity_mCi": 0.8})
    assert strong.seed_count < weak.seed_count


def test_candidates_of_several_strengths_exclude_each_other_in_a_hole():
    solved = solve(sphere(), QUICK, SearchControl(), None, None, None, (0, 0))
    one = Candidates.of(solved.problem.candidates.templates, np.zeros(3), QUICK)
    three = Candidates.of(solved.problem.candidates.templates, np.zeros(3), QUICK, 3)
    assert len(three) == 3 * len(one)
    blocked = {tuple(sorted(pair)) for pair in three.needle_conflicts.tolist()}
    for needle in range(len(one.template_of)):
        for i in range(3):
            for j in range(i):
                assert (3 * needle + j, 3 * needle + i) in blocked
    for new, old in enumerate(three.base.tolist()):
        assert (three.positions_mm[new] == one.positions_mm[old]).all()
        assert three.needle_of[new] // 3 == one.needle_of[old]
    assert three.edges[2].sum() == one.edges[2].sum()


def test_too_small_a_stock_says_the_activity_that_would_do():
    with pytest.raises(
        BrachyError, match=r"12 seeds reach V100 [\d.]+ %, 95 % is required: about"
    ) as refused:
        plan(sphere(), change(QUICK, seeds={"count": 12}), direction=(0, 0))
    needed = float(str(refused.value).split("about ")[1].split(" mCi")[0])
    # dose is proportional to strength: with it, as many seeds do
    wide = change(
        QUICK, source={"allowed_mCi": (0.1, 9.0), "activity_mCi": 1.1 * needed}, seeds={"count": 12}
    )
    assert plan(sphere(), wide, direction=(0, 0)).evaluation.structures["GTV"]["V100_pct"] >= 95


def test_counts_that_find_no_place_are_refused():
    with pytest.raises(BrachyError, match=r"only \d+ find a place"):
        plan(sphere(), change(QUICK, seeds={"count": 500}), direction=(0, 0))
    with pytest.raises(BrachyError, match=r"least number of needles finds no place"):
        plan(sphere(), change(QUICK, needle={"count": (60, 80)}), direction=(0, 0))


@pytest.mark.parametrize(
    ("tables", "words"),
    [
        ({"seeds": {"count": (9, 5)}}, "the least is above the most"),
        ({"seeds": {"count": 0}}, "count"),
        ({"needle": {"count": (9, 5)}}, "the least is above the most"),
        ({"seeds": {"supply": "strand", "strand_pitch_mm": 12.0}}, "no multiple of step_mm"),
        ({"seeds": {"supply": "strand", "strand_pitch_mm": 4.0}}, "below min_spacing_mm"),
        ({"source": {"activities_mCi": (0.7, 0.9)}}, "outside allowed_mCi"),
        ({"source": {"activities_mCi": (0.7, 0.7)}}, "twice"),
    ],
)
def test_a_stock_that_cannot_be_is_refused_by_name(tables, words):
    with pytest.raises(UsageError, match=words) as refused:
        change(QUICK, **tables)
    assert "\n" not in str(refused.value)


def with_goals(*goals):
    return {**QUICK.model_dump(), "goals": goals}


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (("D90_gy", ">=", 150), ("D90_gy", "<=", 120)),
        (("D90_gy", ">=", "Rx"), ("D50_gy", "<=", 100)),
        (("V100_pct", ">=", 95), ("V100_pct", "<=", 90)),
        (("V150_pct", ">=", 60), ("V100_pct", "<=", 50)),
        (("V100_pct", ">=", 95), ("max_gy", "<=", 110)),
        (("D95_gy", ">=", 130), ("V100_pct", "<=", 90)),
    ],
)
def test_goals_that_contradict_each_other_are_refused(one, other):
    goals = [{"roi": "target", "metric": m, "op": op, "limit": limit} for m, op, limit in (one, other)]
    for order in (goals, goals[::-1]):
        with pytest.raises(ValueError, match="contradict each other"):
            Protocol.model_validate(with_goals(*order))
    Protocol.model_validate(with_goals(goals[0], {**goals[1], "roi": "Bowel"}))


def test_goals_that_can_be_met_together_are_taken():
    liver = AXIAL
    assert len(liver.goals) >= 4
    touching = [
        {"roi": "target", "metric": "D90_gy", "op": ">=", "limit": 120},
        {"roi": "target", "metric": "D90_gy", "op": "<=", "limit": 120},
        {"roi": "target", "metric": "V150_pct", "op": "<=", "limit": 10},
    ]
    Protocol.model_validate(with_goals(*touching))


def test_a_share_beyond_all_of_it_is_refused():
    with pytest.raises(ValueError, match="between 0 and 100 %"):
        Protocol.model_validate(with_goals({"roi": "target", "metric": "V100_pct", "op": ">=", "limit": 101}))


def test_an_unknown_metric_is_refused_by_name():
    with pytest.raises(ValueError, match="unknown metric 'V100percent'"):
        Protocol.model_validate(
            with_goals({"roi": "target", "metric": "V100percent", "op": ">=", "limit": 95})
        )
    with pytest.raises(ValueError, match="cannot be optimised for"):
        Protocol.model_validate(
            with_goals({"roi": "target", "metric": "CI", "op": ">=", "limit": 0.9, "weight": 1})
        )
