"""Replanning during the implantation: placed seeds stay, the remaining ones are optimised again."""

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from brachy.core.loading import exact_dose
from brachy.errors import BrachyError
from brachy.optimise.candidates import without_conflicts
from brachy.optimise.control import Progress, SearchControl
from brachy.optimise.goals import SURE_PCT, least_v100_pct
from brachy.optimise.objective import hinge_terms
from brachy.optimise.replanning.edits import in_words
from brachy.optimise.replanning.implanted_so_far import Placed
from brachy.optimise.replanning.reopen import (
    SAME_MM,
    completed,
    dose_of,
    loading_of,
    problem_with,
    searched_needles,
)
from brachy.optimise.replanning.state import Key, Standing, opened_for, stand
from brachy.optimise.search import SearchProblem, Solution, anneal, moves_for
from brachy.patient.case import Case
from brachy.patient.optimiser_record import BlockedHole, Figures, Shortfall
from brachy.patient.plan import Plan, PlanNeedle, PlanSource
from brachy.patient.protocol import Protocol

Float = NDArray[np.float64]

PRESSURES = (1.0, 2.0, 4.0, 8.0, 16.0)
"""Factors on the weight of underdose, tried in turn until the V100 aimed for is met, by the new plan or by the old one
carried on (engineering choice)."""

MOST_AIMED_PCT = 99.5
"""More V100 is never aimed for."""

KEPT_D90 = 0.995
"""Part of the D90 of the old plan carried on that the new one must keep."""


def replan(
    plan: Plan,
    case: Case,
    placed: Placed,
    *,
    seed: int = 0,
    threads: int | None = None,
    time_limit: float | None = None,
    progress: Progress | None = None,
    cache: Path | None = None,
    control: SearchControl | None = None,
) -> Plan:
    """Optimise the remaining seeds of an implantation: a new plan that names its parent.

    Parameters
    ----------
    plan : Plan
        As it was before.
    case : Case
        The plan's case.
    placed : Placed
        Of `brachy.optimise.replanning.implanted_so_far.read_placed`.
    seed, threads, time_limit, progress, control
        As for `brachy.plan`.
    cache : Path, optional
        Folder of the plan, in which the influence matrix is kept (`influence.cache`, safe to delete).

    Returns
    -------
    Plan
        Placed seeds stand in it to the last digit, marked `placed`. `optimiser.replan` has D90, V100, V150 and V200 of
        each target on the samples of the search: `now` (what is in), `old` (the old plan carried on) and `new`;
        `optimiser.changes` the changes in words, `optimiser.short_by` and `optimiser.helps_most` what is missing where
        a required goal is out of reach.

    Raises
    ------
    BrachyError
        If the case is another one than the plan's.

    Notes
    -----
    The new plan covers no less than the old one carried on (V100 not lower, D90 not lower by more than 0.5 %, one of
    them higher, on the samples of the search); where the search finds none, the old plan is carried on. Where nothing
    is reported that the plan does not have already, it is carried on without a search: needles, dose and rules stay.

    Examples
    --------
    >>> from brachy.optimise.planner import plan
    >>> from brachy.io.phantom.file import load_phantom
    >>> from brachy.patient.protocol import change, load_protocol
    >>> quick = change(load_protocol("liver-metastasis"), search={"starts": 1, "moves": 2000, "fine_moves": 0})
    >>> sphere = load_phantom("sphere-35mm")
    >>> before = plan(sphere, quick, direction=(0, 0))
    >>> blocked = frozenset({(0, before.needles[0].hole)})
    >>> after = replan(before, sphere, Placed({}, frozenset(), blocked, {}))
    >>> after.parent == before.checksum, blocked & {(n.template, n.hole) for n in after.needles}
    (True, frozenset())
    """
    standing = stand(plan, replace(opened_for(plan, case), cache=cache), placed)
    control = SearchControl.of(control, seed=seed, threads=threads, time_limit=time_limit, progress=progress)
    return concluded(plan, standing, *search_rest(plan, standing, control), control)


def search_rest(
    plan: Plan, standing: Standing, control: SearchControl
) -> tuple[SearchProblem, Solution | None, dict[str, Figures], float]:
    """Search the remaining seeds.

    Returns problem, best solution (None where the old plan is carried on), the figures of placed seeds, old and new
    plan, and the factor on the weight of underdose.
    """
    opened, protocol = standing.opened, plan.protocol
    control.show("influence")
    problem = problem_with(opened, standing.fixed, standing.closed, standing.present)
    every = [*standing.rest]
    planned = loading_of(every, problem.candidates, plan)
    problem = _preferring(problem, planned, protocol)
    start = without_conflicts(planned, problem.candidates)
    points = np.concatenate([part.points_mm[: part.counts[problem.level]] for part in problem.samples])
    carried = problem.arrays.base + dose_of(opened, every, points)
    figures = {"now": figures_of(problem, problem.arrays.base), "old": figures_of(problem, carried)}
    raised = plan.optimiser.raised_for_goals
    raised = 1.0 if raised is None else raised
    rule = protocol.search
    to_come = len(standing.rest) / max(len(standing.rest) + len(standing.fixed), 1)
    least = min(least_v100_pct(protocol) + protocol.replan.reserve_pct * to_come, MOST_AIMED_PCT)
    control.show("search")
    moves = moves_for(len(problem.candidates), protocol.replan.moves)
    best: Solution | None = None
    covered = -1.0
    carried_pct = min(values["V100_pct"] for values in figures["old"].values())
    here = start
    for number, pressure in enumerate(PRESSURES):
        if control.stopped() or not standing.news:
            break
        # underdose alone: what is in may be hot already, and seeds beside it must not be kept away for that
        objective = protocol.objective.model_copy(
            update={"underdose": raised * pressure * protocol.objective.underdose}
        )
        other = replace(problem, terms=hinge_terms(problem.samples, objective, problem.level))
        rng = control.rng("replan", number)
        value = float(sum(other.terms_of(here).values()))
        tried = anneal(other, Solution(here, value), moves, rule.fine_hot, rule.cold, rng, control)
        here = tried.loading
        found = figures_of(problem, exact_dose(problem.arrays, tried.loading))
        worst = min(values["V100_pct"] for values in found.values())
        if no_worse(found, figures["old"]) and worst > covered:
            best, covered, figures["new"] = tried, worst, found
        if max(covered, carried_pct) >= least:
            break
    if best is None:
        figures["new"] = figures["old"]
    return problem, best, figures, raised


def concluded(
    plan: Plan,
    standing: Standing,
    problem: SearchProblem,
    solution: Solution | None,
    figures: dict[str, Figures],
    raised: float,
    control: SearchControl,
) -> Plan:
    """Evaluated plan of a search, with the placed seeds, the shortfall and the changes in words."""
    needles, sources = continued(plan, standing, problem, solution)
    if not any(needle.seeds for needle in needles):
        raise BrachyError("no seed is placed and none can be: there is nothing to plan")
    out = sorted(standing.blocked - standing.measured)
    optimiser = plan.optimiser.only("seed", "directions").having(
        raised_for_goals=raised,
        replan=figures,
        carried_on=solution is None,
        blocked=[BlockedHole(template=template, hole=hole) for template, hole in out],
    )
    least = least_v100_pct(plan.protocol, required=True) - SURE_PCT
    short = {
        roi: Shortfall(
            V100_pct=round(max(least - values["V100_pct"], 0.0), 3),
            D90_gy=round(max(_rx(plan, roi) - values["D90_gy"], 0.0), 3),
        )
        for roi, values in figures["new"].items()
        if values["V100_pct"] < least or values["D90_gy"] < _rx(plan, roi)
    }
    if short:
        loading = (
            solution.loading if solution is not None else loading_of(standing.rest, problem.candidates, plan)
        )
        optimiser = optimiser.having(short_by=short, helps_most=helps_most(problem, loading, standing))
    notes = ["replanned in the room: placed seeds stand where they were placed"]
    early, ended = control.early_end()
    notes += ended
    child = completed(standing.opened, needles, sources, optimiser.having(**early), notes)
    words = child.optimiser.having(changes=in_words(plan, child))
    return child.model_copy(update={"optimiser": words}).sealed()


def continued(
    plan: Plan, standing: Standing, problem: SearchProblem, solution: Solution | None
) -> tuple[list[PlanNeedle], list[PlanSource]]:
    """Needles with placed and remaining seeds, and their sources; without a solution the old plan is carried on."""
    sources = list(plan.sources)
    if not standing.news:
        return list(plan.needles), sources
    if solution is None:
        return joined(standing.fixed, standing.rest), sources
    added, sources = searched_needles(standing.opened, problem, solution.loading, sources)
    return joined(standing.fixed, added), sources


def _rx(plan: Plan, roi: str) -> float:
    return next(t.prescription_gy for t in plan.targets if roi in (t.roi, t.planned_roi))


def joined(fixed: Sequence[PlanNeedle], added: Sequence[PlanNeedle]) -> list[PlanNeedle]:
    """Merge fixed and added seeds needle by needle; a needle in place without seeds has been withdrawn."""
    found: dict[Key, PlanNeedle] = {(n.template, n.hole): n for n in fixed}
    for needle in added:
        key = (needle.template, needle.hole)
        old = found.get(key)
        if old is None:
            found[key] = needle
            continue
        if not old.in_place:
            old = _inserted_again(old, needle)
        tip = np.array(old.tip_mm)
        every = [
            seed.model_copy(update={"depth_mm": float(np.linalg.norm(tip - np.array(seed.position_mm)))})
            for seed in (*old.seeds, *needle.seeds)
        ]
        seeds = sorted(every, key=lambda each: each.depth_mm)
        found[key] = old.model_copy(update={"seeds": tuple(seeds)})
    return [needle for needle in found.values() if needle.seeds]


def _inserted_again(old: PlanNeedle, needle: PlanNeedle) -> PlanNeedle:
    """A withdrawn needle whose hole is used again: as deep as the deeper of the two, and where the new one goes.

    A needle that was measured lay on a line of its own; the new one goes straight through the hole.
    """
    names = ["tip_mm", "depth_mm", "depth_from_skin_mm"]
    if math.dist(old.hole_mm, needle.hole_mm) > SAME_MM or math.dist(old.direction, needle.direction) > 1e-4:
        names += ["hole_mm", "skin_mm", "direction"]
    elif needle.depth_mm <= old.depth_mm:
        return old
    return old.model_copy(update={name: getattr(needle, name) for name in names})


def _preferring(problem: SearchProblem, old: NDArray[np.int8], protocol: Protocol) -> SearchProblem:
    """Add the cost of a change to every seed and needle that the old plan does not have."""
    arrays = problem.arrays
    used = np.zeros(len(arrays.needle_cost), dtype=bool)
    used[arrays.needle_of[old > 0]] = True
    used |= arrays.base_count > 0
    needle_cost = arrays.needle_cost + np.where(used, 0.0, protocol.replan.change_needle)
    seed_cost = arrays.seed_cost + np.where(old > 0, 0.0, protocol.replan.change_seed)
    return replace(problem, arrays=arrays._replace(needle_cost=needle_cost, seed_cost=seed_cost))


def figures_of(problem: SearchProblem, dose: Float) -> Figures:
    """D90, V100, V150 and V200 of each target on the samples of the problem, for the dose (n,) there."""
    parts: dict[str, list[tuple[Float, Float]]] = {}
    rx: dict[str, float] = {}
    first = 0
    for part in problem.samples:
        count = part.counts[problem.level]
        if part.kind == "target" and count:
            weight = np.full(count, part.share / count)
            parts.setdefault(part.name, []).append((dose[first : first + count], weight))
            rx[part.name] = part.prescription_gy
        first += count
    found = {}
    for name, pieces in parts.items():
        values = np.concatenate([value for value, _ in pieces])
        weights = np.concatenate([weight for _, weight in pieces])
        order = np.argsort(values)
        below = np.cumsum(weights[order]) / weights.sum()
        d90 = float(values[order][min(int(np.searchsorted(below, 0.1)), len(values) - 1)])
        above = {
            f"V{level}_pct": 100.0 * float(weights[values >= level / 100.0 * rx[name]].sum() / weights.sum())
            for level in (100, 150, 200)
        }
        found[name] = {"D90_gy": d90, **above}
    return found


def no_worse(new: Figures, old: Figures) -> bool:
    """Whether every target keeps its V100 and, to 0.5 %, its D90, and one of them is better somewhere."""
    kept = all(
        new[roi]["V100_pct"] >= values["V100_pct"] and new[roi]["D90_gy"] >= KEPT_D90 * values["D90_gy"]
        for roi, values in old.items()
    )
    better = any(
        new[roi]["V100_pct"] > values["V100_pct"] or new[roi]["D90_gy"] > values["D90_gy"]
        for roi, values in old.items()
    )
    return kept and better


def helps_most(problem: SearchProblem, loading: NDArray[np.int8], standing: Standing) -> str:
    """The one further seed that raises the lowest V100 most, in words."""
    arrays = problem.arrays
    dose = exact_dose(arrays, loading)
    before = min(values["V100_pct"] for values in figures_of(problem, dose).values())
    gains = []
    for j in np.flatnonzero(loading == 0):
        after = figures_of(problem, dose + arrays.influence[j])
        gains.append((min(v["V100_pct"] for v in after.values()) - before, -int(j)))
    if not gains or max(gains)[0] <= 0:
        return "no single further seed raises V100"
    gain, k = max(gains)
    candidates = problem.candidates
    number = int(candidates.needle_of[-k])
    hole = candidates.needles[number].hole
    return (
        f"a further seed in hole {hole}, {candidates.depths_mm[-k]:.1f} mm from the template, raises V100 "
        f"by {gain:.2g} %"
    )


__all__ = ["continued", "figures_of", "no_worse", "replan", "search_rest"]
