"""Parallel needles or needles at angles: both are searched, and the simpler is taken where it is about as good."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal, NamedTuple

import numpy as np

from brachy.core.loading import exact_dose
from brachy.optimise.arrangements import Searched
from brachy.optimise.control import SearchControl
from brachy.optimise.directions import Scored, Surroundings, TemplatePose
from brachy.optimise.goals import best_reached, least_v100_pct, reach_goals
from brachy.optimise.individual import apart_from_edge, search_individual
from brachy.optimise.objective import coverage
from brachy.optimise.preparation import Prepared
from brachy.optimise.search import SearchProblem, Solution
from brachy.patient.optimiser_record import ArrangementChoice, ArrangementFigures

WITHIN = 0.05
"""Parallel needles are chosen where their objective is at most so much above that of needles at angles (engineering
choice)."""


class Reached(NamedTuple):
    """The best loading of an arrangement with its goals reached as far as they can be, and the factor that took."""

    problem: SearchProblem
    solution: Solution
    raised: float


@dataclass(frozen=True, eq=False)
class Compared:
    """Which arrangement goes on, and the sentence that says why."""

    reached: Reached
    poses: tuple[TemplatePose, ...]
    choice: ArrangementChoice | None
    sentence: str


def compare_arrangements(
    around: Sequence[Surroundings],
    scans: Sequence[Sequence[Scored]],
    searched: Searched,
    parallel: Reached,
    prepared: Prepared,
    control: SearchControl,
) -> Compared:
    """Search needles at angles and choose, as `template.arrangement` says.

    Parameters
    ----------
    around : sequence of Surroundings
        Targets that get a template each.
    scans : sequence of sequence of Scored
        Poses that were scored for each.
    searched : Searched
        The best arrangement of parallel needles.
    parallel : Reached
        Its loading at the goals.
    prepared : Prepared
        Samples, seeds and weights.
    control : SearchControl
        Seed, threads, time limit, progress.
    """
    protocol = prepared.protocol
    flat = tuple(each.pose for each in searched.arrangement.scored)
    if control.stopped():
        return Compared(
            parallel, flat, None, "needles at angles were not tried: the search was stopped before"
        )
    scored = searched.arrangement.scored
    found = search_individual(around, scans, scored, (parallel.problem, parallel.solution), prepared, control)
    jobs = [
        partial(reach_goals, solution, found.problem, protocol, control, number)
        for number, solution in enumerate(found.solutions)
    ]
    individual = Reached(found.problem, *best_reached(control.run("goals", jobs), found.problem, protocol))
    of_flat = _figures(parallel, sum(pose.price(protocol) for pose in flat))
    of_angles = _figures(individual, sum(pose.price(protocol) for pose in found.poses))
    chosen, why = _choose(of_flat, of_angles, prepared)
    choice = ArrangementChoice(
        chosen=chosen, why=why, parallel=of_flat, individual=of_angles, lines_offered=found.offered
    )
    words = {"parallel": "parallel needles", "individual": "each needle at an angle of its own"}
    sentence = f"{words[chosen]}: {why}"
    if chosen == "parallel":
        return Compared(parallel, flat, choice, sentence)
    return Compared(individual, found.poses, choice, sentence)


def _figures(reached: Reached, price: float) -> ArrangementFigures:
    problem, loading = reached.problem, reached.solution.loading
    dose = exact_dose(problem.arrays, loading).astype(np.float32)
    return ArrangementFigures(
        objective=apart_from_edge(problem, reached.solution) + price,
        V100_pct=coverage(problem.samples, problem.level, dose)["V100_pct"],
        seeds=int(loading.sum()),
        needles=len(np.unique(problem.candidates.needle_of[loading > 0])),
    )


def _choose(
    flat: ArrangementFigures, angles: ArrangementFigures, prepared: Prepared
) -> tuple[Literal["parallel", "individual"], str]:
    """Which arrangement, and why."""
    both = (
        f"objective {flat.objective:.3g} and V100 {flat.V100_pct:.1f} % parallel, {angles.objective:.3g} and "
        f"{angles.V100_pct:.1f} % at angles"
    )
    if prepared.protocol.template.arrangement == "individual":
        return "individual", f"as asked for; {both}"
    least = least_v100_pct(prepared.protocol, required=True)
    met = flat.V100_pct >= least
    if flat.objective <= angles.objective:
        return "parallel", f"angles gain nothing; {both}"
    if met and flat.objective <= (1 + WITHIN) * angles.objective:
        return "parallel", f"angles gain less than {WITHIN:.0%}; {both}"
    why = f"better by more than {WITHIN:.0%}" if met else "parallel ones do not meet the required coverage"
    return "individual", f"{why}; {both}"
