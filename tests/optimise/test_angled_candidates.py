"""Candidates in directions of their own go through search, plan, files, independent check, edits and replanning.

The planner lays out parallel needles alone: here it is given others.
"""

from dataclasses import replace

import numpy as np
import pytest

from brachy.check import check_plan
from brachy.needles.candidates import needle_candidates
from brachy.needles.channel import Channel
from brachy.needles.laying_out import lay_out
from brachy.needles.template import needle_direction
from brachy.optimise.assemble import Chosen, assemble
from brachy.optimise.candidates import Candidates
from brachy.optimise.control import SearchControl
from brachy.optimise.points import FINE
from brachy.optimise.preparation import prepare
from brachy.optimise.replanning.edited import plan_edited
from brachy.optimise.replanning.edits import read_edits
from brachy.optimise.replanning.implanted_so_far import Placed
from brachy.optimise.replanning.reopen import loading_of, problem_with, reopen
from brachy.optimise.replanning.replan import replan
from brachy.optimise.search import SearchProblem, anneal, greedy
from brachy.optimise.seed_stock import stock_of_protocol
from brachy.output.plan_folder import write_outputs
from brachy.patient.plan import Plan
from tests.needle_cases import apart, cone_axes
from tests.sphere_case import QUICK, sphere

LATERAL = "target edge"


@pytest.fixture(scope="module")
def made():
    """A plan of the sphere with needles in a cone of 30 degrees, loaded by the planner's own search."""
    case, rule = sphere(), QUICK.search
    prepared = prepare(case, QUICK, None, stock_of_protocol(QUICK, None, None, None))
    target = prepared.targets[0].structure
    layout = lay_out(target, prepared.external, needle_direction(0), pitch_mm=10.0, standoff_mm=20.0)
    layout = replace(layout, cone_deg=30.0)
    low, high = target.bounds_mm
    found = needle_candidates(
        target, prepared.external, prepared.obstacles(target), layout, QUICK, prepared.capsule_length_mm,
        axes=cone_axes(layout, low, high, 90),
    )  # fmt: skip
    candidates = Candidates.of([found], prepared.anchor_mm, QUICK)
    problem = SearchProblem.of(candidates, prepared.samples, FINE, prepared.table, QUICK)
    control = SearchControl(seed=1, threads=1)
    solution = anneal(
        problem, greedy(problem), 20_000, rule.hot, rule.cold, control.rng("angled"), control, quiet=True
    )
    terms = problem.terms_of(solution.loading)
    optimiser = {"objective": sum(terms.values()), "terms": terms, "seed": 1}
    return assemble(Chosen(candidates, solution.loading), prepared, (), optimiser)


def broken(plan):
    return {result.rule for result in plan.rules if result.broken and not result.rule.startswith(LATERAL)}


def test_the_search_loads_them_and_every_rule_is_kept(made):
    directions = np.array([needle.direction for needle in made.needles])
    assert len(made.needles) >= 5
    assert np.degrees(np.arccos((directions @ directions.T).min())) > 10
    assert broken(made) == set()
    assert made.evaluation.structures["GTV"]["V100_pct"] > 90
    lines = [Channel.of(needle) for needle in made.needles]
    least = min(apart(lines[i], lines[j], 0.2) for j in range(len(lines)) for i in range(j))
    assert least >= QUICK.needle.min_needle_spacing_mm + 1.3 - 0.01
    for needle, line in zip(made.needles, lines, strict=True):
        seeds = np.array([seed.position_mm for seed in needle.seeds])
        assert line.off_axis(seeds) == pytest.approx(np.zeros(len(seeds)), abs=2e-3)


def test_files_are_written_and_the_independent_check_agrees(made, tmp_path):
    folder = write_outputs(made, sphere(), tmp_path / "out", pictures=False, independent_check=False)
    assert Plan.load(folder).templates[0].cone_deg == 30.0
    assert check_plan(folder).verdict == "pass"


def test_an_opened_plan_finds_its_own_needles_and_value(made):
    opened = reopen(made, sphere())
    problem = problem_with(opened, ())
    loading = loading_of(made.needles, problem.candidates, made)
    assert loading.sum() == made.seed_count
    values = problem.terms_of(loading)
    wanted = made.optimiser["terms"]
    for term in ("underdose", "over_150", "over_200", "spill"):
        assert values[term] == pytest.approx(wanted[term], rel=1e-3, abs=1e-6)


def test_an_edited_needle_keeps_its_direction(made, tmp_path):
    needle = max(made.needles, key=lambda each: len(each.seeds))
    deep = needle.depth_mm - needle.seeds[0].depth_mm
    file = tmp_path / "edits.csv"
    file.write_text(f"action,template,hole,seed,depth_mm\nmove,1,{needle.hole},1,{deep - 1.0}\n")
    child = plan_edited(made, sphere(), read_edits(file, made))
    (after,) = [each for each in child.needles if each.hole == needle.hole]
    assert after.direction == needle.direction
    gap = np.array(after.seeds[0].position_mm) - np.array(needle.seeds[0].position_mm)
    assert gap == pytest.approx(-1.0 * np.array(needle.direction), abs=2e-3)
    assert broken(child) <= {"between seeds", "between seeds of a needle"}


def test_replanning_keeps_what_is_placed_and_the_other_needles_lines(made):
    first, other = made.needles[0], made.needles[1]
    placed = {(0, first.hole, k): seed.position_mm for k, seed in enumerate(first.seeds, 1)}
    child = replan(
        made, sphere(), Placed(placed, frozenset(), frozenset({(0, other.hole)}), {}), control=SearchControl()
    )
    assert other.hole not in {needle.hole for needle in child.needles}
    kept = {seed.position_mm for needle in child.needles for seed in needle.seeds if seed.placed}
    assert kept == set(placed.values())
    own = {needle.hole: needle.direction for needle in made.needles}
    assert all(needle.direction == own[needle.hole] for needle in child.needles)
    assert broken(child) == set()
