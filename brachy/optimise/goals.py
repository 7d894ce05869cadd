"""Coverage goals: where the objective's optimum misses one, the target's weights are raised until it is met.

Aims count too: hot spots are to be as low as coverage allows, not the other way round.
"""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from brachy.core.loading import exact_dose
from brachy.optimise.control import SearchControl
from brachy.optimise.objective import coverage, hinge_terms
from brachy.optimise.search import Found, Game, anneal, moves_for
from brachy.patient.protocol import Protocol

RAISE = 1.15
"""Factor of a raise (engineering choice: small, so that no more dose is given than the goal needs)."""

MOST_RAISES = 12
"""A goal that twelve raises (a factor of 5) do not meet is out of reach of these needles (engineering choice)."""

SURE_PCT = 0.1
"""V100 is carried this far beyond its limit, since the report samples the target anew (engineering choice)."""


def least_v100_pct(protocol: Protocol, required: bool = False) -> float:
    """V100 in % that the protocol's goals, with or without its aims, ask of every target; D90 >= Rx asks for 90."""
    least = 0.0
    for goal in protocol.goals:
        if goal.op == ">=" and goal.roi == "target" and (goal.required or not required):
            if goal.metric == "V100_pct" and goal.limit != "Rx":
                least = max(least, float(goal.limit))
            if goal.metric == "D90_gy" and goal.limit == "Rx":
                least = max(least, 90.0)
    return min(least + SURE_PCT, 100.0) if least else 0.0


def reach_goals(found: Found, game: Game, protocol: Protocol, control: SearchControl) -> tuple[Found, float]:
    """Search again with raised weights of underdose and over-200 % until every target has its V100.

    Parameters
    ----------
    found : Found
        Optimum of the protocol's own weights.
    game : Game
        Candidates and fine samples.

    Returns
    -------
    found, raised : Found, float
        The loading, valued with the protocol's own weights, and the factor of the last raise, 1 where none was
        needed. If no raise meets the goals, the loading with the best coverage.
    """
    least = least_v100_pct(protocol)
    best, covered = found, _v100(game, found)
    raised, factor = 1.0, 1.0
    for step in range(MOST_RAISES):
        if covered >= least or control.stopped():
            break
        factor *= RAISE
        objective = protocol.objective.model_copy(
            update={
                "underdose": factor * protocol.objective.underdose,
                "over_200": factor * protocol.objective.over_200,
            }
        )
        other = replace(game, terms=hinge_terms(game.samples, objective, game.level))
        start = Found(best.loading, _value(other, best))
        rule = protocol.search
        rng = control.rng("goals", step)
        control.best_value = np.inf
        moves = moves_for(len(game.candidates), rule.fine_moves)
        tried = anneal(other, start, moves, rule.fine_hot, rule.cold, rng, control)
        reached = _v100(game, tried)
        if reached > covered:
            best, covered, raised = tried, reached, factor
    return Found(best.loading, _value(game, best)), raised


def coverage_short_by(game: Game, found: Found, least_pct: float) -> tuple[float, float]:
    """V100 in % of the worst target, and the factor of strength at which every target would have `least_pct`."""
    dose = exact_dose(game.board, found.loading)
    worst, factor, first = 100.0, 1.0, 0
    parts: dict[str, list[tuple[NDArray[np.float64], float]]] = {}
    for part in game.samples:
        last = first + part.counts[game.level]
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


def _v100(game: Game, found: Found) -> float:
    dose = exact_dose(game.board, found.loading).astype(np.float32)
    return coverage(game.samples, game.level, dose)["V100_pct"]


def _value(game: Game, found: Found) -> float:
    return float(sum(game.terms_of(found.loading).values()))
