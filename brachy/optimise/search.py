"""A search problem and the moves on it: greedy start, annealing and descent by the kernels of `brachy.core.search`."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from brachy.core import loading as loadings
from brachy.core import search as kernels
from brachy.optimise.candidates import Candidates, SeedTable, empty_state, search_arrays
from brachy.optimise.control import Rng, SearchControl
from brachy.optimise.objective import coverage, dose_terms, hinge_terms
from brachy.optimise.points import Samples
from brachy.patient.protocol import Protocol

Float = NDArray[np.float64]
Loading = NDArray[np.int8]

SHARES = np.array([0.65, 0.75, 0.85, 0.95])
"""Cumulative shares of moves: near swap, any swap, add, drop; the rest moves a whole needle (engineering choice)."""

CHUNK = 20_000
"""Number of moves between two checks of time limit and cancellation (engineering choice)."""

USUAL_CANDIDATES = 400
LEAST_EFFORT, MOST_EFFORT = 0.1, 1.8
"""The protocol's numbers of moves hold for so many candidates; for others they are scaled in proportion, within these
bounds (engineering choice)."""

SWEEPS = 40
"""Greatest number of sweeps of a descent (engineering choice; 3 to 6 are usual)."""


@dataclass(frozen=True, eq=False)
class SearchProblem:
    """Candidates with their influence on one level of the samples: what a search works on."""

    candidates: Candidates
    samples: tuple[Samples, ...]
    level: int
    arrays: loadings.SearchArrays
    terms: loadings.Terms

    @staticmethod
    def of(
        candidates: Candidates,
        samples: Sequence[Samples],
        level: int,
        table: SeedTable,
        protocol: Protocol,
        matrix: NDArray[np.float32] | None = None,
    ) -> "SearchProblem":
        """Compute the influence matrix of a level, or take the one of the first strength (m + 1, n) that is given."""
        if matrix is None:
            points = np.concatenate([part.points_mm[: part.counts[level]] for part in samples])
            matrix = table.rows(points, candidates.positions_mm, np.ascontiguousarray(candidates.axes))
        stock = protocol.source.stock_mCi
        if len(stock) > 1:  # the table is that of the first strength
            share = np.array(stock, dtype=np.float32) / np.float32(stock[0])
            matrix[:-1] *= share[candidates.strength[candidates.needle_of], None]
        arrays = search_arrays(candidates, matrix, protocol)
        return SearchProblem(
            candidates, tuple(samples), level, arrays, hinge_terms(samples, protocol.objective, level)
        )

    def coarser(self, level: int, protocol: Protocol) -> "SearchProblem":
        """The same problem on a coarser level: the first samples of each part."""
        starts = self.terms.start[:-1].tolist()
        columns = np.concatenate(
            [
                np.arange(first, first + part.counts[level])
                for first, part in zip(starts, self.samples, strict=True)
            ]
        )
        matrix = np.ascontiguousarray(self.arrays.influence[:, columns])
        arrays = self.arrays._replace(influence=matrix, base=self.arrays.base[columns])
        terms = hinge_terms(self.samples, protocol.objective, level)
        return SearchProblem(self.candidates, self.samples, level, arrays, terms)

    def terms_of(self, loading: Loading) -> dict[str, float]:
        """Value of each term of the objective for a loading, in float64."""
        values = dose_terms(self.samples, self.terms, loadings.exact_dose(self.arrays, loading))
        state = empty_state(self.arrays)
        loadings.set_loading(self.arrays, self.terms, state, loading)
        used = state.needle_seeds > 0
        values["needle"] = float(self.arrays.needle_cost[used].sum())
        values["seed"] = float(self.arrays.seed_cost[loading > 0].sum())
        values["lateral"] = float(self.arrays.cover_cost[state.covered == 0].sum())
        # price of what no plan may have (gaps in strands, missing needles); 0 in every finished plan
        forbidden = float(state.cost[1]) - values["needle"] - values["seed"] - values["lateral"]
        if abs(forbidden) > 1e-6:
            values["forbidden"] = forbidden
        return values


@dataclass(frozen=True, eq=False)
class Solution:
    """A loading (n,) and its objective on the level of samples on which it was searched."""

    loading: Loading
    value: float


def moves_for(candidates: int, moves: int) -> int:
    """Annealing moves for a number of candidates, scaled from the protocol's number of moves.

    Examples
    --------
    >>> moves_for(400, 1000), moves_for(100, 1000), moves_for(10, 1000), moves_for(4000, 1000)
    (1000, 250, 100, 1800)
    """
    share = min(max(candidates / USUAL_CANDIDATES, LEAST_EFFORT), MOST_EFFORT)
    return round(moves * share)


def greedy(problem: SearchProblem) -> Solution:
    """Greedy start: add the best seed until none lowers the objective."""
    state = empty_state(problem.arrays)
    loadings.set_loading(problem.arrays, problem.terms, state, state.chosen.copy())
    kernels.greedy(problem.arrays, problem.terms, state)
    return Solution(state.chosen.copy(), float(state.cost[0]))


def anneal(
    problem: SearchProblem,
    start: Solution,
    moves: int,
    hot: float,
    cold: float,
    rng: Rng,
    control: SearchControl,
    quiet: bool = False,
) -> Solution:
    """Anneal from a loading, then descend from the best loading met to a local optimum."""
    state = empty_state(problem.arrays)
    loadings.set_loading(problem.arrays, problem.terms, state, start.loading)
    schedule = kernels.Schedule(moves, hot, cold, SHARES)
    for first in range(0, moves, CHUNK):
        if control.stopped():
            break
        kernels.anneal(problem.arrays, problem.terms, state, schedule, first, min(first + CHUNK, moves), rng)
        if not quiet:
            _note(control, problem, state.best, float(state.cost[2]))
    return descend(problem, Solution(state.best.copy(), float(state.cost[2])))


def descend(problem: SearchProblem, start: Solution, everywhere: bool = False) -> Solution:
    """Descend to a local optimum of swaps, additions, removals and needle moves."""
    state = empty_state(problem.arrays)
    loadings.set_loading(problem.arrays, problem.terms, state, start.loading)
    kernels.descend(problem.arrays, problem.terms, state, everywhere, SWEEPS)
    return Solution(state.chosen.copy(), float(state.cost[0]))


def _note(control: SearchControl, problem: SearchProblem, best: Loading, value: float) -> None:
    """Keep the coverage of the best loading for the progress display; nothing else depends on it."""
    if control.progress is None or value >= control.best_value:
        return
    control.best_value = value
    dose = loadings.exact_dose(problem.arrays, best).astype(np.float32)
    control.best = coverage(problem.samples, problem.level, dose)
