"""Coverage goals: if the optimum of the objective misses one, the target's weights are raised until it is met.

Goals that are not required (aims) count too: coverage has priority over hot spots. Among loadings that reach the
coverage one is taken that keeps the limits on hot spots, if there is one.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from brachy.core.loading import exact_dose
from brachy.dosimetry.metrics import parse_metric
from brachy.optimise.control import SearchControl
from brachy.optimise.objective import coverage, hinge_terms
from brachy.optimise.search import SearchProblem, Solution, anneal, moves_for
from brachy.patient.protocol import Protocol

RAISE = 1.15
"""Factor by which weights are raised in a step (engineering choice: small, so that dose is not raised beyond need)."""

MOST_RAISES = 12
"""After twelve raises (a factor of 5) the goal counts as out of reach of these needles (engineering choice)."""

BISECTIONS = 2
"""Smaller raises that are tried once one has met the goals (engineering choice)."""

COOL, COOLINGS, COOLED_PCT = 1.3, 3, 5.0
"""Where hot spots exceed a limit by no more than so many per cent of the volume, further searches are made, so many at
most, each with the weights of hot spots raised by this factor more (engineering choice)."""

SURE_PCT = 0.1
"""V100 must exceed its limit by this much, because the evaluation samples the target again (engineering choice)."""


def least_v100_pct(protocol: Protocol, required: bool = False) -> float:
    """V100 in % that all goals, or only the required ones, demand of every target; D90 >= Rx is V100 >= 90 %."""
    least = 0.0
    for goal in protocol.goals:
        if goal.op == ">=" and goal.roi == "target" and (goal.required or not required):
            if goal.metric == "V100_pct" and goal.limit != "Rx":
                least = max(least, float(goal.limit))
            if goal.metric == "D90_gy" and goal.limit == "Rx":
                least = max(least, 90.0)
    return min(least + SURE_PCT, 100.0) if least else 0.0


def reach_goals(
    solution: Solution, problem: SearchProblem, protocol: Protocol, control: SearchControl, number: int = 0
) -> tuple[Solution, float]:
    """Search again with raised weights of underdose and over-200 % until every target has its V100.

    Parameters
    ----------
    solution : Solution
        Optimum of the protocol's own weights.
    problem : SearchProblem
        Candidates and fine samples.
    number : int
        Of this solution where several are brought to the goals, for other random numbers.

    Returns
    -------
    solution, raised : Solution, float
        The loading, valued with the protocol's own weights, and the factor of its weights, 1 if none was raised. If no
        raise meets the goals, the loading with the best coverage.
    """
    least = least_v100_pct(protocol)
    best, covered = solution, _v100(problem, solution)
    raised, factor, unmet = 1.0, 1.0, solution

    limits = hot_limits(protocol)

    def anew(factor: float, start: Solution, step: int, cooling: float = 1.0) -> Solution:
        """A search with raised weights from a loading."""
        objective = protocol.objective.model_copy(
            update={
                "underdose": factor * protocol.objective.underdose,
                "over_150": cooling * protocol.objective.over_150,
                "over_200": factor * cooling * protocol.objective.over_200,
            }
        )
        other = replace(problem, terms=hinge_terms(problem.samples, objective, problem.level))
        rule = protocol.search
        rng = control.rng("goals", step, number) if number else control.rng("goals", step)
        control.best_value = np.inf
        moves = moves_for(len(problem.candidates), rule.fine_moves)
        first = Solution(start.loading, _value(other, start))
        return anneal(other, first, moves, rule.fine_hot, rule.cold, rng, control)

    for step in range(MOST_RAISES):
        if covered >= least or control.stopped():
            break
        unmet = best
        factor *= RAISE
        tried = anew(factor, best, step)
        reached = _v100(problem, tried)
        if reached > covered:
            best, covered, raised = tried, reached, factor
    if raised > 1.0 and covered >= least:  # a smaller raise may do, with less dose above need
        low, high = raised / RAISE, raised
        for step in range(BISECTIONS):
            if control.stopped():
                break
            factor = float(np.sqrt(low * high))
            tried = anew(factor, unmet, MOST_RAISES + step)
            if _v100(problem, tried) < least:
                low = factor
                continue
            high = factor
            if _rank(problem, tried, limits) < _rank(problem, best, limits):
                best, raised = tried, factor
    for step in range(COOLINGS):
        if covered < least or control.stopped() or not 0.0 < _hot(problem, best, limits) <= COOLED_PCT:
            break
        # from the loading before the raise: one that has the seed more settles about its hot spots again
        tried = anew(max(raised, RAISE), unmet, MOST_RAISES + BISECTIONS + step, COOL**step)
        if _v100(problem, tried) >= least and _rank(problem, tried, limits) < _rank(problem, best, limits):
            best = tried
    return Solution(best.loading, _value(problem, best)), raised


def best_reached(
    found: Sequence[tuple[Solution, float]], problem: SearchProblem, protocol: Protocol
) -> tuple[Solution, float]:
    """Of several results of `reach_goals` the best: by coverage up to the goals', by hot spots, by the objective."""
    least, limits = least_v100_pct(protocol), hot_limits(protocol)

    def key(each: tuple[Solution, float]) -> tuple[float, tuple[float, float]]:
        return -min(_v100(problem, each[0]), least), _rank(problem, each[0], limits)

    return min(found, key=key)


def hot_limits(protocol: Protocol) -> list[tuple[float, float]]:
    """(share of the prescription, limit in % of the volume) of every goal that keeps a target's V below a limit."""
    found = []
    for goal in protocol.goals:
        metric = parse_metric(goal.metric)
        if goal.roi == "target" and goal.op == "<=" and metric.kind == "V" and metric.unit == "pct":
            found.append((metric.value / 100.0, float(goal.limit)))
    return found


def _hot(problem: SearchProblem, solution: Solution, limits: Sequence[tuple[float, float]]) -> float:
    """By how many % of the volume the targets exceed limits on hot spots, all together."""
    dose = exact_dose(problem.arrays, solution.loading)
    excess, first = 0.0, 0
    shares: dict[str, list[tuple[NDArray[np.float64], float]]] = {}
    for part in problem.samples:
        last = first + part.counts[problem.level]
        if part.kind == "target" and last > first:
            relative = dose[first:last] / part.prescription_gy
            shares.setdefault(part.name, []).append((relative, part.share / (last - first)))
        first = last
    for pieces in shares.values():
        whole = sum(len(values) * weight for values, weight in pieces)
        for level, limit in limits:
            above = sum(float((values >= level).sum()) * weight for values, weight in pieces)
            excess += max(0.0, 100.0 * above / whole + SURE_PCT - limit)
    return excess


def _rank(
    problem: SearchProblem, solution: Solution, limits: Sequence[tuple[float, float]]
) -> tuple[float, float]:
    """Loadings that reach the coverage: first those whose hot spots exceed no limit, then by the objective."""
    return _hot(problem, solution, limits), _value(problem, solution)


def coverage_short_by(problem: SearchProblem, solution: Solution, least_pct: float) -> tuple[float, float]:
    """V100 in % of the worst target, and the factor of strength at which every target would have `least_pct`."""
    dose = exact_dose(problem.arrays, solution.loading)
    worst, factor, first = 100.0, 1.0, 0
    parts: dict[str, list[tuple[NDArray[np.float64], float]]] = {}
    for part in problem.samples:
        last = first + part.counts[problem.level]
        if part.kind == "target" and last > first:
            relative = dose[first:last] / part.prescription_gy
            parts.setdefault(part.name, []).append((relative, part.share / (last - first)))
        first = last
    for pieces in parts.values():
        relative = np.concatenate([values for values, _ in pieces])
        weights = np.concatenate([np.full(len(values), weight) for values, weight in pieces])
        order = np.argsort(relative)[::-1]
        above = 100.0 * np.cumsum(weights[order]) / weights.sum()
        level = float(relative[order][min(int(np.searchsorted(above, least_pct)), len(order) - 1)])
        worst = min(worst, 100.0 * float(weights[relative >= 1.0].sum() / weights.sum()))
        factor = max(factor, 1.0 / max(level, 1e-6))
    return worst, factor


def _v100(problem: SearchProblem, solution: Solution) -> float:
    dose = exact_dose(problem.arrays, solution.loading).astype(np.float32)
    return coverage(problem.samples, problem.level, dose)["V100_pct"]


def _value(problem: SearchProblem, solution: Solution) -> float:
    return float(sum(problem.terms_of(solution.loading).values()))
