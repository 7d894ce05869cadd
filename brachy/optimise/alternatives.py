"""Alternative plans: the same candidates searched again with other weights, each plan best by one criterion.

For each criterion its weights are raised, in two strengths; the best loading is annealed again and the coverage goals
are reached. Every result competes under every criterion, whatever it was searched for: "fewest needles" has the fewest
needles of all results. A plan is listed only if it is clearly better than the balanced plan by its criterion.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from brachy.core.loading import exact_dose
from brachy.optimise.control import SearchControl
from brachy.optimise.goals import least_v100_pct, reach_goals
from brachy.optimise.objective import hinge_terms
from brachy.optimise.search import SearchProblem, Solution, anneal, moves_for
from brachy.patient.protocol import Objective, Protocol

Float = NDArray[np.float64]

STRENGTHS = (1.0, 2.0)
"""Powers of the factors: each criterion is searched with its factors and with their squares (engineering choice)."""

LEAST_PRICE = 0.02
"""What a factor multiplies where the protocol has no price or weight (engineering choice)."""


@dataclass(frozen=True)
class Criterion:
    """A quantity in which a plan may be better than the balanced plan."""

    name: str
    factors: dict[str, float]
    """Factors of the objective's weights, by name."""
    least: Callable[["Measured"], float]
    """The quantity that is to be least."""
    clearly: Callable[[float], float]
    """From the balanced plan's quantity to the highest that is clearly better."""


@dataclass(frozen=True)
class Measured:
    """Figures of a loading on the fine samples; of several targets the worst."""

    needles: int
    seeds: int
    v100_pct: float
    v150_pct: float
    spill: float
    organ: float


CRITERIA = (
    Criterion("fewest needles", {"needle": 2.5}, lambda m: m.needles, lambda v: v - 1),
    Criterion(
        "most homogeneous",
        {"over_150": 2.5, "over_200": 2.5},
        lambda m: round(m.v150_pct, 1),
        lambda v: v - 1.0,
    ),
    Criterion("organs best spared", {"organ": 4.0}, lambda m: round(m.organ, 6), lambda v: 0.95 * v - 1e-5),
    Criterion("fewest seeds", {"seed": 4.0}, lambda m: m.seeds, lambda v: v - 1),
    Criterion("most conformal", {"spill": 2.5}, lambda m: round(m.spill, 6), lambda v: 0.95 * v),
    Criterion("best covered", {"underdose": 3.0}, lambda m: -round(m.v100_pct, 1), lambda v: v - 0.5),
)
"""In the order in which plans are listed; the factors and what counts as better are engineering choices."""


@dataclass(frozen=True, eq=False)
class Alternative:
    """A loading that is best by a criterion, and the factor of the weights at which it met its goals."""

    name: str
    solution: Solution
    raised: float


def different(
    base: Solution, problem: SearchProblem, protocol: Protocol, count: int, control: SearchControl
) -> list[Alternative]:
    """Up to `count` loadings other than `base`, each best in its criterion; values are those of the protocol's weights.

    Parameters
    ----------
    base : Solution
        The plan on `problem`.
    problem : SearchProblem
        Candidates and fine samples, with the protocol's weights.
    count : int
        Loadings wanted.
    """
    jobs = [
        partial(_searched, base, problem, protocol, criterion, strength, control)
        for strength in STRENGTHS
        for criterion in CRITERIA
    ]
    pool = [(found, raised) for found, raised in control.run("alternatives", jobs)]
    own = measured(problem, base)
    least = min(least_v100_pct(protocol), own.v100_pct)
    figures = [measured(problem, found) for found, _ in pool]
    taken = {base.loading.tobytes()}
    kept: list[Alternative] = []
    for criterion in CRITERIA:
        good = [
            k
            for k, (found, _) in enumerate(pool)
            if figures[k].v100_pct >= least
            and criterion.least(figures[k]) <= criterion.clearly(criterion.least(own))
            and found.loading.tobytes() not in taken
        ]
        if good and len(kept) < count:
            best = min(good, key=lambda k: (criterion.least(figures[k]), pool[k][0].value, k))
            taken.add(pool[best][0].loading.tobytes())
            kept.append(Alternative(criterion.name, *pool[best]))
    return kept


def measured(problem: SearchProblem, solution: Solution) -> Measured:
    """Figures of a loading."""
    dose = exact_dose(problem.arrays, solution.loading)
    terms = problem.terms_of(solution.loading)
    shares: dict[str, Float] = {}
    first = 0
    for part in problem.samples:
        last = first + part.counts[problem.level]
        if part.kind == "target" and last > first:
            here = dose[first:last]
            levels = part.prescription_gy * np.array([1.0, 1.5])
            above = 100.0 * part.share * (here[:, None] >= levels).mean(axis=0)
            shares[part.name] = shares.get(part.name, np.zeros(2)) + above
        first = last
    covered = np.array(list(shares.values()))
    return Measured(
        needles=len(np.unique(problem.candidates.needle_of[solution.loading > 0])),
        seeds=int(solution.loading.sum()),
        v100_pct=float(covered[:, 0].min()),
        v150_pct=float(covered[:, 1].max()),
        spill=terms["spill"],
        organ=terms["organ"],
    )


def weighted(objective: Objective, criterion: Criterion, strength: float) -> Objective:
    """The protocol's weights with those of a criterion raised.

    Examples
    --------
    >>> raised = weighted(Objective(needle=0.1), CRITERIA[0], 2.0)
    >>> float(f"{raised.needle:.6g}"), raised.spill == Objective().spill
    (0.625, True)
    """
    update = {
        name: factor**strength * max(getattr(objective, name), LEAST_PRICE)
        for name, factor in criterion.factors.items()
    }
    return objective.model_copy(update=update)


def _searched(
    base: Solution,
    problem: SearchProblem,
    protocol: Protocol,
    criterion: Criterion,
    strength: float,
    control: SearchControl,
) -> tuple[Solution, float]:
    """Anneal the base anew for a criterion and reach the coverage goals; valued with the protocol's own weights."""
    objective = weighted(protocol.objective, criterion, strength)
    arrays = problem.arrays
    needle_cost = arrays.needle_cost + (objective.needle - protocol.objective.needle)
    seed_cost = arrays.seed_cost + (objective.seed - protocol.objective.seed)
    other = replace(
        problem,
        arrays=arrays._replace(needle_cost=needle_cost, seed_cost=seed_cost),
        terms=hinge_terms(problem.samples, objective, problem.level),
    )
    reweighted = protocol.model_copy(update={"objective": objective})
    rule = protocol.search
    moves = moves_for(len(problem.candidates), rule.moves)
    rng = control.rng("alternative", criterion.name, strength)
    start = Solution(base.loading, _value(other, base))
    found = anneal(other, start, moves, rule.hot, rule.cold, rng, control, quiet=True)
    found, raised = reach_goals(found, other, reweighted, control)
    return Solution(found.loading, _value(problem, found)), raised


def _value(problem: SearchProblem, solution: Solution) -> float:
    return float(sum(problem.terms_of(solution.loading).values()))
