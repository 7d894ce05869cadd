"""Other good plans: the same candidates searched again with other weights, each best in what it is named after.

The weights of one wish are raised, in two strengths, the best loading is annealed anew and the coverage goals are
reached; all that is found, whatever it was searched for, stands for every name. So "fewest needles" has the fewest
needles of all that were found, and none is listed that is not clearly better than the balanced plan in what it is
named after.
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
from brachy.optimise.search import Found, Game, anneal, moves_for
from brachy.patient.protocol import Objective, Protocol

Float = NDArray[np.float64]

STRENGTHS = (1.0, 2.0)
"""Each wish is searched for with its factors, and with their squares (powers; engineering choice)."""

LEAST_PRICE = 0.02
"""What a factor multiplies where the protocol has no price or weight (engineering choice)."""


@dataclass(frozen=True)
class Wish:
    """What a plan may be best in: its name, the weights that are raised for it, and what is then least."""

    name: str
    factors: dict[str, float]
    least: Callable[["Measured"], float]
    clearly: Callable[[float], float]
    """The highest value that is clearly better than the balanced plan's."""


@dataclass(frozen=True)
class Measured:
    """Figures of a loading on the fine samples; of several targets the worst."""

    needles: int
    seeds: int
    v100_pct: float
    v150_pct: float
    spill: float
    organ: float


WISHES = (
    Wish("fewest needles", {"needle": 2.5}, lambda m: m.needles, lambda v: v - 1),
    Wish(
        "most homogeneous",
        {"over_150": 2.5, "over_200": 2.5},
        lambda m: round(m.v150_pct, 1),
        lambda v: v - 1.0,
    ),
    Wish("organs best spared", {"organ": 4.0}, lambda m: round(m.organ, 6), lambda v: 0.95 * v - 1e-5),
    Wish("fewest seeds", {"seed": 4.0}, lambda m: m.seeds, lambda v: v - 1),
    Wish("most conformal", {"spill": 2.5}, lambda m: round(m.spill, 6), lambda v: 0.95 * v),
    Wish("best covered", {"underdose": 3.0}, lambda m: -round(m.v100_pct, 1), lambda v: v - 0.5),
)
"""In the order in which they are offered; the factors and what counts as better are engineering choices."""


@dataclass(frozen=True, eq=False)
class Alternative:
    """A loading that is best in something, and the last raise of the weights that its goals needed."""

    name: str
    found: Found
    raised: float


def different(
    base: Found, game: Game, protocol: Protocol, count: int, control: SearchControl
) -> list[Alternative]:
    """Up to `count` loadings other than `base`, each best in its wish; values are those of the protocol's weights.

    Parameters
    ----------
    base : Found
        The plan on `game`.
    game : Game
        Candidates and fine samples, with the protocol's weights.
    count : int
        Loadings wanted.
    """
    jobs = [
        partial(_searched, base, game, protocol, wish, strength, control)
        for strength in STRENGTHS
        for wish in WISHES
    ]
    pool = [(found, raised) for found, raised in control.run("alternatives", jobs)]
    own = measured(game, base)
    least = min(least_v100_pct(protocol), own.v100_pct)
    figures = [measured(game, found) for found, _ in pool]
    taken = {base.loading.tobytes()}
    kept: list[Alternative] = []
    for wish in WISHES:
        good = [
            k
            for k, (found, _) in enumerate(pool)
            if figures[k].v100_pct >= least
            and wish.least(figures[k]) <= wish.clearly(wish.least(own))
            and found.loading.tobytes() not in taken
        ]
        if good and len(kept) < count:
            best = min(good, key=lambda k: (wish.least(figures[k]), pool[k][0].value, k))
            taken.add(pool[best][0].loading.tobytes())
            kept.append(Alternative(wish.name, *pool[best]))
    return kept


def measured(game: Game, found: Found) -> Measured:
    """Figures of a loading."""
    dose = exact_dose(game.board, found.loading)
    terms = game.terms_of(found.loading)
    shares: dict[str, Float] = {}
    first = 0
    for part in game.samples:
        last = first + part.counts[game.level]
        if part.kind == "target" and last > first:
            here = dose[first:last]
            levels = part.prescription_gy * np.array([1.0, 1.5])
            above = 100.0 * part.share * (here[:, None] >= levels).mean(axis=0)
            shares[part.name] = shares.get(part.name, np.zeros(2)) + above
        first = last
    covered = np.array(list(shares.values()))
    return Measured(
        needles=len(np.unique(game.candidates.needle_of[found.loading > 0])),
        seeds=int(found.loading.sum()),
        v100_pct=float(covered[:, 0].min()),
        v150_pct=float(covered[:, 1].max()),
        spill=terms["spill"],
        organ=terms["organ"],
    )


def weighted(objective: Objective, wish: Wish, strength: float) -> Objective:
    """The protocol's weights with those of a wish raised.

    Examples
    --------
    >>> raised = weighted(Objective(needle=0.1), WISHES[0], 2.0)
    >>> float(f"{raised.needle:.6g}"), raised.spill == Objective().spill
    (0.625, True)
    """
    update = {
        name: factor**strength * max(getattr(objective, name), LEAST_PRICE)
        for name, factor in wish.factors.items()
    }
    return objective.model_copy(update=update)


def _searched(
    base: Found, game: Game, protocol: Protocol, wish: Wish, strength: float, control: SearchControl
) -> tuple[Found, float]:
    """Anneal the base anew for a wish and reach the coverage goals; valued with the protocol's own weights."""
    objective = weighted(protocol.objective, wish, strength)
    board = game.board
    needle_cost = board.needle_cost + (objective.needle - protocol.objective.needle)
    seed_cost = board.seed_cost + (objective.seed - protocol.objective.seed)
    other = replace(
        game,
        board=board._replace(needle_cost=needle_cost, seed_cost=seed_cost),
        terms=hinge_terms(game.samples, objective, game.level),
    )
    wished = protocol.model_copy(update={"objective": objective})
    rule = protocol.search
    moves = moves_for(len(game.candidates), rule.moves)
    rng = control.rng("alternative", wish.name, strength)
    start = Found(base.loading, _value(other, base))
    found = anneal(other, start, moves, rule.hot, rule.cold, rng, control, quiet=True)
    found, raised = reach_goals(found, other, wished, control)
    return Found(found.loading, _value(game, found)), raised


def _value(game: Game, found: Found) -> float:
    return float(sum(game.terms_of(found.loading).values()))
