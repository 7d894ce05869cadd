"""Kernels of the seed search: greedy start, annealing and descent over the loadings of `brachy.core.loading`.

Random numbers come from a xorshift generator kept in an array (G. Marsaglia, J. Stat. Softw. 8(14), 2003): each start
owns its own and is reproducible.
"""

from typing import Any, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from brachy.core.loading import (
    allowed,
    leave,
    refresh,
    score,
    shift_dose,
    take,
    value_with,
)

_THIRTEEN, _SEVEN, _SEVENTEEN, _ELEVEN = np.uint64(13), np.uint64(7), np.uint64(17), np.uint64(11)
SIGNIFICANT = 1e-6
"""A descent step must win this much, well above the rounding of float32 sums (engineering choice)."""


class Schedule(NamedTuple):
    """Annealing: temperature falls geometrically from `hot` to `cold` over `moves`.

    `shares` (4,) are cumulative: swap with a near place, swap with any, add, drop; the rest moves a whole needle.
    """

    moves: int
    hot: float
    cold: float
    shares: NDArray[np.float64]


@njit(nogil=True, cache=True, error_model="numpy")
def uniform(generator: Any) -> Any:
    """Next random number in [0, 1) of a generator, a (1,) uint64 array that is never 0."""
    x = generator[0]
    x ^= x << _THIRTEEN
    x ^= x >> _SEVEN
    x ^= x << _SEVENTEEN
    generator[0] = x
    return np.float64(x >> _ELEVEN) * (1.0 / 9007199254740992.0)


@njit(nogil=True, cache=True, error_model="numpy")
def greedy(board: Any, terms: Any, state: Any) -> Any:
    """Add the best seed until none betters the value and the least number is reached. Returns scores computed."""
    size = state.chosen.size
    scored = 0
    while True:
        best = np.inf
        found = size
        for j in range(size):
            if allowed(board, state, j):
                value = value_with(board, terms, state, size, j)
                scored += 1
                if value < best:
                    best = value
                    found = j
        if found == size or (best >= state.cost[0] - SIGNIFICANT and state.tally[0] >= board.limits[0]):
            return scored
        take(board, state, found)
        shift_dose(state.dose, board.influence[found], board.influence[size])
        state.cost[0] = best


@njit(nogil=True, cache=True, error_model="numpy")
def _nearest_in_needle(board: Any, state: Any, needle: Any, depth: Any) -> Any:
    """Free candidate of a needle nearest to a depth, -1 if none is allowed."""
    best = np.inf
    found = -1
    for j in range(board.needle_first[needle], board.needle_first[needle + 1]):
        distance = abs(board.depth[j] - depth)
        if distance < best and allowed(board, state, j):
            best = distance
            found = j
    return found


@njit(nogil=True, cache=True, error_model="numpy")
def _relocate(board: Any, state: Any, needle: Any, other: Any, gone: Any, come: Any) -> Any:
    """Move all seeds of a needle in the bookkeeping.

    `other` >= 0: into that needle at the same depths; -1: each to the nearest allowed place of any used needle;
    -2, -3: one step deeper, shallower. A seed that finds no place is lost. Returns their number out and in.
    """
    leaving = 0
    coming = 0
    for i in range(board.needle_first[needle], board.needle_first[needle + 1]):
        if state.chosen[i]:
            gone[leaving] = i
            leaving += 1
    for k in range(leaving):
        leave(board, state, gone[k])
    for k in range(leaving):
        i = gone[k]
        found = -1
        if other >= 0:
            found = _nearest_in_needle(board, state, other, board.depth[i])
        elif other == -1:
            for j in board.near[i]:
                if j < 0:
                    break
                target = board.needle_of[j]
                if target != needle and state.loaded[target] > 0 and allowed(board, state, j):
                    found = j
                    break
        else:
            j = i - 1 if other == -2 else i + 1
            inside = board.needle_first[needle] <= j < board.needle_first[needle + 1]
            if inside and allowed(board, state, j):
                found = j
        if found >= 0:
            take(board, state, found)
            come[coming] = found
            coming += 1
    return leaving, coming


@njit(nogil=True, cache=True, error_model="numpy")
def _undo(board: Any, state: Any, gone: Any, leaving: Any, come: Any, coming: Any) -> Any:
    for k in range(coming):
        leave(board, state, come[k])
    for k in range(leaving):
        take(board, state, gone[k])


@njit(nogil=True, cache=True, error_model="numpy")
def _try_needle(
    board: Any, terms: Any, state: Any, needle: Any, other: Any, gone: Any, come: Any, dose: Any
) -> Any:
    """Move a needle in the bookkeeping and in the copy `dose`. Returns seeds out, seeds in, and the value.

    The value is inf where too few seeds would be left; the caller keeps the move or undoes it.
    """
    leaving, coming = _relocate(board, state, needle, other, gone, come)
    if state.tally[0] < board.limits[0]:
        return leaving, coming, np.inf
    none = board.influence[state.chosen.size]
    dose[:] = state.dose
    for k in range(max(leaving, coming)):
        add = board.influence[come[k]] if k < coming else none
        drop = board.influence[gone[k]] if k < leaving else none
        shift_dose(dose, add, drop)
    return leaving, coming, score(terms, dose, none, none) + state.cost[1]


@njit(nogil=True, cache=True, error_model="numpy")
def _anneal_seed(board: Any, terms: Any, state: Any, shares: Any, heat: Any, generator: Any) -> Any:
    """One move of a seed: swap, add or drop. Returns whether it was accepted."""
    size = state.chosen.size
    kind, pick, where, luck = uniform(generator), uniform(generator), uniform(generator), uniform(generator)
    kind *= shares[3]
    seeds = state.tally[0]
    i = size
    j = size
    if kind < shares[1] or kind >= shares[2]:
        if seeds == 0 or (kind >= shares[2] and seeds <= board.limits[0]):
            return False
        i = state.used[int(pick * seeds)]
    if kind < shares[0]:
        j = board.near[i, int(where * board.near.shape[1])]
    elif kind < shares[2]:
        j = int(where * size)
    if j < 0 or (j < size and state.chosen[j]):
        return False
    if i < size:
        leave(board, state, i)
    fits = j == size or allowed(board, state, j)
    if fits:
        if j < size:
            take(board, state, j)
        value = score(terms, state.dose, board.influence[j], board.influence[i]) + state.cost[1]
        if value <= state.cost[0] or luck < np.exp((state.cost[0] - value) / heat):
            shift_dose(state.dose, board.influence[j], board.influence[i])
            state.cost[0] = value
            return True
        if j < size:
            leave(board, state, j)
    if i < size:
        take(board, state, i)
    return False


@njit(nogil=True, cache=True, error_model="numpy")
def anneal(board: Any, terms: Any, state: Any, schedule: Any, first: Any, last: Any, generator: Any) -> Any:
    """Annealing moves first ... last - 1 of a schedule; the state keeps the best. Returns the moves accepted."""
    size = state.chosen.size
    gone = np.empty(size, np.int64)
    come = np.empty(size, np.int64)
    scratch = np.empty_like(state.dose)
    options = board.needle_near.shape[1]
    accepted = 0
    for move in range(first, last):
        heat = schedule.hot * (schedule.cold / schedule.hot) ** (move / schedule.moves)
        if uniform(generator) < schedule.shares[3]:
            taken = _anneal_seed(board, terms, state, schedule.shares, heat, generator)
        else:
            pick, where, luck = uniform(generator), uniform(generator), uniform(generator)
            if state.tally[0] == 0:
                continue
            needle = board.needle_of[state.used[int(pick * state.tally[0])]]
            option = int(where * 4.0)
            other = -option
            if option == 0:
                other = board.needle_near[needle, int(where * 4.0 * options)]
                if other < 0 or state.loaded[other] > 0:
                    continue
            leaving, coming, value = _try_needle(board, terms, state, needle, other, gone, come, scratch)
            taken = value <= state.cost[0] or luck < np.exp((state.cost[0] - value) / heat)
            if taken:
                state.dose[:] = scratch
                state.cost[0] = value
            else:
                _undo(board, state, gone, leaving, come, coming)
        if taken:
            accepted += 1
            if accepted % 4096 == 0:
                refresh(board, terms, state)
            if state.cost[0] < state.cost[2] - SIGNIFICANT:
                state.cost[2] = state.cost[0]
                state.best[:] = state.chosen
    return accepted


@njit(nogil=True, cache=True, error_model="numpy")
def _descend_seeds(board: Any, terms: Any, state: Any, everywhere: Any) -> Any:
    """One sweep over all seeds: the best of dropping it or moving it, then over all places to add one."""
    size = state.chosen.size
    width = size if everywhere else board.near.shape[1]
    scored = 0
    better = False
    for i in range(size):
        if not state.chosen[i]:
            continue
        best = state.cost[0] - SIGNIFICANT
        found = i
        leave(board, state, i)
        if state.tally[0] >= board.limits[0]:
            value = value_with(board, terms, state, i, size)
            scored += 1
            if value < best:
                best = value
                found = size
        for k in range(width):
            j = k if everywhere else board.near[i, k]
            if j < 0:
                break
            if j != i and allowed(board, state, j):
                value = value_with(board, terms, state, i, j)
                scored += 1
                if value < best:
                    best = value
                    found = j
        if found < size:
            take(board, state, found)
        if found != i:
            shift_dose(state.dose, board.influence[found], board.influence[i])
            state.cost[0] = best
            better = True
    for j in range(size):
        if allowed(board, state, j):
            value = value_with(board, terms, state, size, j)
            scored += 1
            if value < state.cost[0] - SIGNIFICANT:
                take(board, state, j)
                shift_dose(state.dose, board.influence[j], board.influence[size])
                state.cost[0] = value
                better = True
    return better, scored


@njit(nogil=True, cache=True, error_model="numpy")
def _descend_needles(board: Any, terms: Any, state: Any) -> Any:
    """One sweep over the used needles: shift into a free hole, slide a step, dissolve into the others, remove."""
    gone = np.empty(state.chosen.size, np.int64)
    come = np.empty(state.chosen.size, np.int64)
    scratch = np.empty_like(state.dose)
    scored = 0
    better = False
    for needle in range(state.loaded.size):
        for option in range(-3, board.needle_near.shape[1]):
            if state.loaded[needle] == 0:
                break
            other = option if option < 0 else board.needle_near[needle, option]
            if option >= 0 and (other < 0 or state.loaded[other] > 0):
                continue
            leaving, coming, value = _try_needle(board, terms, state, needle, other, gone, come, scratch)
            scored += 1
            if value < state.cost[0] - SIGNIFICANT:
                state.dose[:] = scratch
                state.cost[0] = value
                better = True
            else:
                _undo(board, state, gone, leaving, come, coming)
    return better, scored


@njit(nogil=True, cache=True, error_model="numpy")
def descend(board: Any, terms: Any, state: Any, everywhere: Any, sweeps: Any) -> Any:
    """Descend over seeds and needles until no move betters the value, at most `sweeps` sweeps. Returns scores."""
    total = 0
    for _ in range(sweeps):
        seeds_better, scored = _descend_seeds(board, terms, state, everywhere)
        total += scored
        needles_better, scored = _descend_needles(board, terms, state)
        total += scored
        refresh(board, terms, state)
        if not (seeds_better or needles_better):
            break
    return total
