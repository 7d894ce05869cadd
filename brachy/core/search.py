"""Kernels of the seed search: greedy start, simulated annealing and descent over the loadings of `brachy.core.loading`.

A greedy loading gives a start; annealing leaves its local optimum by accepting a worse loading with the probability
exp(-increase / temperature); descent then makes every improving move until none is left. Moves are of two kinds: one
seed (swapped with a near candidate or with any, added, dropped) and one needle with all its seeds (shifted to a free
needle, its seeds spread over the other needles, slid to the candidates before or after). Needle moves are needed
because a used needle has a price: emptying it seed by seed first raises the objective by every lost seed.

A trial has two steps, so that a rejected one costs no sum over seeds: the bookkeeping is changed first, because costs
and conflicts depend on it, and the objective is computed from the old dose plus and minus the rows concerned; only an
accepted move changes the dose. A rejected one is undone in the bookkeeping. Tests against every loading of small
problems: tests/independent/test_search_kernels.py.

Random numbers come from a xorshift generator kept in an array (G. Marsaglia, J. Stat. Softw. 8(14), 2003). Each start
of the search has its own, and a kernel runs on one thread, so the result does not depend on the number of threads.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from brachy.core.compiling import njit
from brachy.core.loading import (
    add_seed,
    allowed,
    refresh,
    remove_seed,
    score,
    shift_dose,
    value_with,
)

_THIRTEEN, _SEVEN, _SEVENTEEN, _ELEVEN = np.uint64(13), np.uint64(7), np.uint64(17), np.uint64(11)
SIGNIFICANT = 1e-6
"""A descent step must lower the objective by more than this: rounding alone must not let two loadings alternate
(engineering choice, well above the rounding of float32 sums)."""


class Schedule(NamedTuple):
    """Annealing: the temperature (in units of the objective) falls geometrically from `hot` to `cold` over `moves`.

    `shares` (4,) are cumulative probabilities of the moves: swap a seed with a near candidate, with any candidate, add
    a seed, drop a seed; the rest moves a whole needle.
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
def greedy(arrays: Any, terms: Any, state: Any) -> Any:
    """Add the best seed until none lowers the objective and the least number is reached; returns the trials made."""
    size = state.chosen.size
    scored = 0
    while True:
        best = np.inf
        found = size
        for j in range(size):
            if allowed(arrays, state, j):
                value = value_with(arrays, terms, state, size, j)
                scored += 1
                if value < best:
                    best = value
                    found = j
        # below the least number of seeds the best one is added even if it raises the objective
        if found == size or (best >= state.cost[0] - SIGNIFICANT and state.counts[0] >= arrays.limits[0]):
            return scored
        add_seed(arrays, state, found)
        shift_dose(state.dose, arrays.influence[found], arrays.influence[size])
        state.cost[0] = best


@njit(nogil=True, cache=True, error_model="numpy")
def _nearest_in_needle(arrays: Any, state: Any, needle: Any, depth: Any) -> Any:
    """Allowed candidate of a needle nearest to a depth (mm), -1 if there is none."""
    best = np.inf
    found = -1
    for j in range(arrays.needle_first[needle], arrays.needle_first[needle + 1]):
        distance = abs(arrays.depth[j] - depth)
        if distance < best and allowed(arrays, state, j):
            best = distance
            found = j
    return found


@njit(nogil=True, cache=True, error_model="numpy")
def _relocate(arrays: Any, state: Any, needle: Any, other: Any, removed: Any, added: Any) -> Any:
    """Move all seeds of a needle in the bookkeeping; returns how many were removed and added.

    `other` >= 0: into that needle at the same depths; -1: each to the nearest allowed candidate of another used needle;
    -2, -3: each to the candidate before, after it in the same needle. A seed without a free candidate is dropped.
    `removed` and `added` (N,) are filled with the candidates concerned.
    """
    removed_count = 0
    added_count = 0
    # all seeds are removed before the first is placed again, so that none stands in the way of another
    for i in range(arrays.needle_first[needle], arrays.needle_first[needle + 1]):
        if state.chosen[i]:
            removed[removed_count] = i
            removed_count += 1
    for k in range(removed_count):
        remove_seed(arrays, state, removed[k])
    for k in range(removed_count):
        i = removed[k]
        found = -1
        if other >= 0:
            found = _nearest_in_needle(arrays, state, other, arrays.depth[i])
        elif other == -1:
            for j in arrays.near[i]:
                if j < 0:
                    break
                target = arrays.needle_of[j]
                if target != needle and state.needle_seeds[target] > 0 and allowed(arrays, state, j):
                    found = j
                    break
        else:
            j = i - 1 if other == -2 else i + 1
            inside = arrays.needle_first[needle] <= j < arrays.needle_first[needle + 1]
            if inside and allowed(arrays, state, j):
                found = j
        if found >= 0:
            add_seed(arrays, state, found)
            added[added_count] = found
            added_count += 1
    return removed_count, added_count


@njit(nogil=True, cache=True, error_model="numpy")
def _undo(arrays: Any, state: Any, removed: Any, removed_count: Any, added: Any, added_count: Any) -> Any:
    """Undo `_relocate` in the bookkeeping: what was added leaves first, since it may conflict with what returns."""
    for k in range(added_count):
        remove_seed(arrays, state, added[k])
    for k in range(removed_count):
        add_seed(arrays, state, removed[k])


@njit(nogil=True, cache=True, error_model="numpy")
def _try_needle(
    arrays: Any, terms: Any, state: Any, needle: Any, other: Any, removed: Any, added: Any, dose: Any
) -> Any:
    """Move a needle in the bookkeeping and in the copy `dose`; returns seeds removed and added, and the objective.

    Several rows change at once, so the dose is changed in a copy and not while summing. The objective is inf where too
    few seeds would be left; the caller keeps the move or undoes it.
    """
    removed_count, added_count = _relocate(arrays, state, needle, other, removed, added)
    if state.counts[0] < arrays.limits[0]:
        return removed_count, added_count, np.inf
    no_seed = arrays.influence[state.chosen.size]
    dose[:] = state.dose
    for k in range(max(removed_count, added_count)):
        add = arrays.influence[added[k]] if k < added_count else no_seed
        drop = arrays.influence[removed[k]] if k < removed_count else no_seed
        shift_dose(dose, add, drop)
    return removed_count, added_count, score(terms, dose, no_seed, no_seed) + state.cost[1]


@njit(nogil=True, cache=True, error_model="numpy")
def _anneal_seed(arrays: Any, terms: Any, state: Any, shares: Any, temperature: Any, generator: Any) -> Any:
    """One move of a seed: swap, add or drop. Returns whether it was accepted."""
    size = state.chosen.size
    # always four numbers, whatever becomes of the move: the random sequence then depends on the kinds of moves alone
    kind, pick, where, chance = uniform(generator), uniform(generator), uniform(generator), uniform(generator)
    kind *= shares[3]  # the caller has decided that one seed moves: choose among the shares of such moves
    seeds = state.counts[0]
    i = size
    j = size
    if kind < shares[1] or kind >= shares[2]:
        if seeds == 0 or (kind >= shares[2] and seeds <= arrays.limits[0]):
            return False
        i = state.used[int(pick * seeds)]
    if kind < shares[0]:
        j = arrays.near[i, int(where * arrays.near.shape[1])]
    elif kind < shares[2]:
        j = int(where * size)
    if j < 0 or (j < size and state.chosen[j]):
        return False
    if i < size:
        remove_seed(arrays, state, i)
    fits = j == size or allowed(arrays, state, j)
    if fits:
        if j < size:
            add_seed(arrays, state, j)
        value = score(terms, state.dose, arrays.influence[j], arrays.influence[i]) + state.cost[1]
        if value <= state.cost[0] or chance < np.exp((state.cost[0] - value) / temperature):
            shift_dose(state.dose, arrays.influence[j], arrays.influence[i])
            state.cost[0] = value
            return True
        if j < size:
            remove_seed(arrays, state, j)
    if i < size:
        add_seed(arrays, state, i)
    return False


@njit(nogil=True, cache=True, error_model="numpy")
def anneal(arrays: Any, terms: Any, state: Any, schedule: Any, first: Any, last: Any, generator: Any) -> Any:
    """Annealing moves first ... last - 1 of a schedule; the state keeps the best loading. Returns the moves accepted.

    A schedule is run in parts so that the caller can show progress and stop between them.
    """
    size = state.chosen.size
    removed = np.empty(size, np.int64)
    added = np.empty(size, np.int64)
    scratch = np.empty_like(state.dose)
    options = arrays.needle_near.shape[1]
    accepted = 0
    for move in range(first, last):
        temperature = schedule.hot * (schedule.cold / schedule.hot) ** (move / schedule.moves)
        if uniform(generator) < schedule.shares[3]:
            taken = _anneal_seed(arrays, terms, state, schedule.shares, temperature, generator)
        else:
            pick, where, chance = uniform(generator), uniform(generator), uniform(generator)
            if state.counts[0] == 0:
                continue
            needle = arrays.needle_of[state.used[int(pick * state.counts[0])]]
            option = int(
                where * 4.0
            )  # a quarter each: to a free needle, spread over other needles, slid two ways
            other = -option
            if option == 0:  # in this quarter 4 x where is uniform in [0, 1) again
                other = arrays.needle_near[needle, int(where * 4.0 * options)]
                if other < 0 or state.needle_seeds[other] > 0:
                    continue
            removed_count, added_count, value = _try_needle(
                arrays, terms, state, needle, other, removed, added, scratch
            )
            taken = value <= state.cost[0] or chance < np.exp((state.cost[0] - value) / temperature)
            if taken:
                state.dose[:] = scratch
                state.cost[0] = value
            else:
                _undo(arrays, state, removed, removed_count, added, added_count)
        if taken:
            accepted += 1
            if (
                accepted % 4096 == 0
            ):  # before the float32 rounding of the updates adds up (engineering choice)
                refresh(arrays, terms, state)
            if state.cost[0] < state.cost[2] - SIGNIFICANT:
                state.cost[2] = state.cost[0]
                state.best[:] = state.chosen
    return accepted


@njit(nogil=True, cache=True, error_model="numpy")
def _descend_seeds(arrays: Any, terms: Any, state: Any, everywhere: Any) -> Any:
    """One sweep over all seeds, making for each the best of dropping and moving it, then over all candidates to add.

    A seed is moved to near candidates only, or with `everywhere` to any. Returns whether the objective fell, and the
    number of trials.
    """
    size = state.chosen.size
    width = size if everywhere else arrays.near.shape[1]
    scored = 0
    better = False
    for i in range(size):
        if not state.chosen[i]:
            continue
        best = state.cost[0] - SIGNIFICANT
        found = i  # unless something is better, it stays
        remove_seed(arrays, state, i)
        if state.counts[0] >= arrays.limits[0]:
            value = value_with(arrays, terms, state, i, size)
            scored += 1
            if value < best:
                best = value
                found = size
        for k in range(width):
            j = k if everywhere else arrays.near[i, k]
            if j < 0:
                break
            if j != i and allowed(arrays, state, j):
                value = value_with(arrays, terms, state, i, j)
                scored += 1
                if value < best:
                    best = value
                    found = j
        if found < size:
            add_seed(arrays, state, found)
        if found != i:
            shift_dose(state.dose, arrays.influence[found], arrays.influence[i])
            state.cost[0] = best
            better = True
    for j in range(size):
        if allowed(arrays, state, j):
            value = value_with(arrays, terms, state, size, j)
            scored += 1
            if value < state.cost[0] - SIGNIFICANT:
                add_seed(arrays, state, j)
                shift_dose(state.dose, arrays.influence[j], arrays.influence[size])
                state.cost[0] = value
                better = True
    return better, scored


@njit(nogil=True, cache=True, error_model="numpy")
def _descend_needles(arrays: Any, terms: Any, state: Any) -> Any:
    """One sweep over the used needles: slide it a step, spread its seeds over the others, or shift it to a free needle.

    Each improving move is made at once. Returns whether the objective fell, and the number of trials.
    """
    removed = np.empty(state.chosen.size, np.int64)
    added = np.empty(state.chosen.size, np.int64)
    scratch = np.empty_like(state.dose)
    scored = 0
    better = False
    for needle in range(state.needle_seeds.size):
        for option in range(-3, arrays.needle_near.shape[1]):
            if state.needle_seeds[needle] == 0:
                break
            other = option if option < 0 else arrays.needle_near[needle, option]
            if option >= 0 and (other < 0 or state.needle_seeds[other] > 0):
                continue
            removed_count, added_count, value = _try_needle(
                arrays, terms, state, needle, other, removed, added, scratch
            )
            scored += 1
            if value < state.cost[0] - SIGNIFICANT:
                state.dose[:] = scratch
                state.cost[0] = value
                better = True
            else:
                _undo(arrays, state, removed, removed_count, added, added_count)
    return better, scored


@njit(nogil=True, cache=True, error_model="numpy")
def descend(arrays: Any, terms: Any, state: Any, everywhere: Any, sweeps: Any) -> Any:
    """Improve seeds and needles until no move lowers the objective, at most `sweeps` sweeps; returns the trials made.

    Every accepted move lowers the objective by more than `SIGNIFICANT`, so it ends; then no swap, addition or removal
    of a seed among those tried is better.
    """
    total = 0
    for _ in range(sweeps):
        seeds_better, scored = _descend_seeds(arrays, terms, state, everywhere)
        total += scored
        needles_better, scored = _descend_needles(arrays, terms, state)
        total += scored
        refresh(arrays, terms, state)
        if not (seeds_better or needles_better):
            break
    return total
