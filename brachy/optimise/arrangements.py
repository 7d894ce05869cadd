"""Arrangements of the templates, one pose for each: the best of the scan are searched in full, the best results again
on the fine samples."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from brachy.optimise.candidates import Candidates
from brachy.optimise.control import SearchControl
from brachy.optimise.directions import Scored, TemplatePose
from brachy.optimise.points import FINE, SEARCH
from brachy.optimise.preparation import Prepared
from brachy.optimise.search import SearchProblem, Solution, anneal, greedy, moves_for
from brachy.patient.protocol import Protocol

KEPT_FOR_FINE = 2
"""Results of the search that are annealed again on the fine samples (engineering choice)."""


@dataclass(frozen=True)
class Arrangement:
    """One scored pose for each template, in the order of the templates."""

    scored: tuple[Scored, ...]

    @property
    def value(self) -> float:
        """Sum of the scores; lower is better."""
        return sum(each.value for each in self.scored)

    def price(self, protocol: Protocol) -> float:
        """Cost of the templates' tilts in the objective."""
        return sum(each.pose.price(protocol) for each in self.scored)


@dataclass(frozen=True, eq=False)
class Searched:
    """The best loading of all arrangements.

    Parameters
    ----------
    arrangement : Arrangement
        The one that won.
    problem : SearchProblem
        Its candidates with the fine samples.
    solution : Solution
        The loading.
    values : list of dict
        For each template, the lowest objective that was reached on the search's samples with each pose.
    """

    arrangement: Arrangement
    problem: SearchProblem
    solution: Solution
    values: list[dict[TemplatePose, float]]


def best_arrangements(scans: Sequence[Sequence[Scored]], count: int) -> list[Arrangement]:
    """The `count` best combinations of one pose for each template, by the sum of their scores."""
    combined = [Arrangement(())]
    for scored in scans:
        usable = [each for each in scored if np.isfinite(each.value)][:count]
        joined = [Arrangement((*one.scored, each)) for one in combined for each in usable]
        combined = sorted(joined, key=lambda one: one.value)[:count]
    return combined


def search_arrangements(
    arrangements: Sequence[Arrangement], prepared: Prepared, control: SearchControl
) -> Searched:
    """Anneal every arrangement from several starts, then the best results on the fine samples.

    Parameters
    ----------
    arrangements : sequence of Arrangement
        Searched in turn; each has at least one start.
    prepared : Prepared
        Samples, seeds and weights.
    control : SearchControl
        Seed, threads, time limit, progress.
    """
    rule = prepared.protocol.search
    problems = control.run("influence", [partial(_problem, one, prepared, SEARCH) for one in arrangements])
    firsts = control.run("greedy", [partial(greedy, problem) for problem in problems])
    starts = [(start % len(arrangements), start) for start in range(max(rule.starts, len(arrangements)))]

    def search(which: int, start: int) -> Solution:
        moves = moves_for(len(problems[which].candidates), rule.moves)
        rng = control.rng("search", start)
        return anneal(problems[which], firsts[which], moves, rule.hot, rule.cold, rng, control)

    found = control.run("search", [partial(search, which, start) for which, start in starts])
    prices = [one.price(prepared.protocol) for one in arrangements]

    def cost(k: int, solution: Solution) -> float:
        return solution.value + prices[starts[k][0]]

    order = sorted(range(len(found)), key=lambda k: (cost(k, found[k]), k))[:KEPT_FOR_FINE]
    fine = {
        which: _problem(arrangements[which], prepared, FINE)
        for which in dict.fromkeys(starts[k][0] for k in order)
    }

    def polish(k: int) -> Solution:
        problem = fine[starts[k][0]]
        moves = moves_for(len(problem.candidates), rule.fine_moves)
        rng = control.rng("fine", starts[k][1])
        return anneal(problem, found[k], moves, rule.fine_hot, rule.cold, rng, control)

    control.best_value = np.inf  # values on other samples do not compare
    polished = control.run("polish", [partial(polish, k) for k in order])
    best = min(range(len(order)), key=lambda k: (cost(order[k], polished[k]), k))
    winner = starts[order[best]][0]
    values: list[dict[TemplatePose, float]] = [{} for _ in arrangements[0].scored]
    for (which, _), result in zip(starts, found, strict=True):
        for of_template, each in zip(values, arrangements[which].scored, strict=True):
            value = result.value + prices[which]
            of_template[each.pose] = min(of_template.get(each.pose, np.inf), value)
    return Searched(arrangements[winner], fine[winner], polished[best], values)


def _problem(arrangement: Arrangement, prepared: Prepared, level: int) -> SearchProblem:
    """All candidates of an arrangement with their influence on one level of the samples."""
    protocol = prepared.protocol
    templates = [each.candidates for each in arrangement.scored if each.candidates is not None]
    candidates = Candidates.of(templates, prepared.anchor_mm, protocol, len(protocol.source.stock_mCi))
    return SearchProblem.of(candidates, prepared.samples, level, prepared.table, protocol)


def moves_made(scans: Sequence[Sequence[Scored]], candidates: int, protocol: Protocol) -> int:
    """Annealing moves of scan and search together, for plan.json; those that reach the goals come on top."""
    rule = protocol.search
    scored = sum(1 for tried in scans for each in tried if np.isfinite(each.value))
    full = rule.starts * moves_for(candidates, rule.moves)
    return scored * rule.scan_moves + full + KEPT_FOR_FINE * moves_for(candidates, rule.fine_moves)
