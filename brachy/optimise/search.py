"""A search problem and the moves on it: greedy start, annealing and descent by the kernels of `brachy.core.search`."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from brachy.core import loading as loadings
from brachy.core import search as kernels
from brachy.optimise.candidates import Candidates, SeedTable, empty_state, make_board
from brachy.optimise.control import Rng, SearchControl
from brachy.optimise.objective import coverage, dose_terms, hinge_terms
from brachy.optimise.points import Samples
from brachy.patient.protocol import Protocol

Float = NDArray[np.float64]
Loading = NDArray[np.int8]

SHARES = np.array([0.65, 0.75, 0.85, 0.95])
"""Cumulative shares of moves: near swap, any swap, add, drop; the rest moves a whole needle (engineering choice)."""

CHUNK = 20_000
"""Moves between two looks at the clock and at the keyboard."""

USUAL_CANDIDATES = 400
LEAST_EFFORT, MOST_EFFORT = 0.1, 1.8
"""A protocol's moves are for so many candidates; more or fewer are searched in proportion, within these bounds
(engineering choice)."""

SWEEPS = 40
"""A descent ends after so many sweeps at the latest (engineering choice; 3 to 6 are usual)."""


@dataclass(frozen=True, eq=False)
class Game:
    """Candidates with their influence on one level of the samples, ready to be searched."""

    candidates: Candidates
    samples: tuple[Samples, ...]
    level: int
    board: loadings.SearchArrays
    terms: loadings.Terms

    @staticmethod
    def of(
        candidates: Candidates,
        samples: Sequence[Samples],
        level: int,
        table: SeedTable,
        protocol: Protocol,
        matrix: NDArray[np.float32] | None = None,
    ) -> "Game":
        """Compute the influence matrix of a level, or take the one of the first strength (m + 1, n) that is given."""
        if matrix is None:
            points = np.concatenate([part.points_mm[: part.counts[level]] for part in samples])
            matrix = table.rows(points, candidates.positions_mm, np.ascontiguousarray(candidates.axes))
        stock = protocol.source.stock_mCi
        if len(stock) > 1:  # the table is that of the first strength
            share = np.array(stock, dtype=np.float32) / np.float32(stock[0])
            matrix[:-1] *= share[candidates.strength[candidates.needle_of], None]
        board = make_board(candidates, matrix, protocol)
        return Game(candidates, tuple(samples), level, board, hinge_terms(samples, protocol.objective, level))

    def coarser(self, level: int, protocol: Protocol) -> "Game":
        """The same on the first samples of each part."""
        starts = self.terms.start[:-1].tolist()
        columns = np.concatenate(
            [
                np.arange(first, first + part.counts[level])
                for first, part in zip(starts, self.samples, strict=True)
            ]
        )
        matrix = np.ascontiguousarray(self.board.influence[:, columns])
        board = self.board._replace(influence=matrix, base=self.board.base[columns])
        terms = hinge_terms(self.samples, protocol.objective, level)
        return Game(self.candidates, self.samples, level, board, terms)

    def terms_of(self, loading: Loading) -> dict[str, float]:
        """Value of each term of the objective for a loading, in float64."""
        values = dose_terms(self.samples, self.terms, loadings.exact_dose(self.board, loading))
        state = empty_state(self.board)
        loadings.set_loading(self.board, self.terms, state, loading)
        used = state.needle_seeds > 0
        values["needle"] = float(self.board.needle_cost[used].sum())
        values["seed"] = float(self.board.seed_cost[loading > 0].sum())
        values["lateral"] = float(self.board.cover_cost[state.covered == 0].sum())
        # what no plan may have: gaps in strands, missing needles; 0 in every plan that is handed out
        forbidden = float(state.cost[1]) - values["needle"] - values["seed"] - values["lateral"]
        if abs(forbidden) > 1e-6:
            values["forbidden"] = forbidden
        return values


@dataclass(frozen=True, eq=False)
class Found:
    """A loading and its value on the level it was searched on."""

    loading: Loading
    value: float


def moves_for(candidates: int, moves: int) -> int:
    """Annealing moves for a number of candidates, where the protocol gives so many for the usual number.

    Examples
    --------
    >>> moves_for(400, 1000), moves_for(100, 1000), moves_for(10, 1000), moves_for(4000, 1000)
    (1000, 250, 100, 1800)
    """
    share = min(max(candidates / USUAL_CANDIDATES, LEAST_EFFORT), MOST_EFFORT)
    return round(moves * share)


def greedy(game: Game) -> Found:
    """Add the best seed until none betters the value."""
    state = empty_state(game.board)
    loadings.set_loading(game.board, game.terms, state, state.chosen.copy())
    kernels.greedy(game.board, game.terms, state)
    return Found(state.chosen.copy(), float(state.cost[0]))


def anneal(
    game: Game,
    start: Found,
    moves: int,
    hot: float,
    cold: float,
    rng: Rng,
    control: SearchControl,
    quiet: bool = False,
) -> Found:
    """Anneal from a loading and descend to a local optimum; the best loading met."""
    state = empty_state(game.board)
    loadings.set_loading(game.board, game.terms, state, start.loading)
    schedule = kernels.Schedule(moves, hot, cold, SHARES)
    for first in range(0, moves, CHUNK):
        if control.stopped():
            break
        kernels.anneal(game.board, game.terms, state, schedule, first, min(first + CHUNK, moves), rng)
        if not quiet:
            _note(control, game, state.best, float(state.cost[2]))
    return descend(game, Found(state.best.copy(), float(state.cost[2])))


def descend(game: Game, start: Found, everywhere: bool = False) -> Found:
    """Local optimum over swaps, additions, removals and needle moves."""
    state = empty_state(game.board)
    loadings.set_loading(game.board, game.terms, state, start.loading)
    kernels.descend(game.board, game.terms, state, everywhere, SWEEPS)
    return Found(state.chosen.copy(), float(state.cost[0]))


def _note(control: SearchControl, game: Game, best: Loading, value: float) -> None:
    """Keep the coverage of the best loading for showing; nothing else depends on it."""
    if control.progress is None or value >= control.best_value:
        return
    control.best_value = value
    dose = loadings.exact_dose(game.board, best).astype(np.float32)
    control.best = coverage(game.samples, game.level, dose)
