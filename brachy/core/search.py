"""Kernels of the seed search: score, greedy start, annealing and descent over binary candidates.

A candidate is a place where a seed may lie; row i of the influence matrix is what one seed there gives to every
sample point, in Gy. The dose of the chosen seeds is kept, so that a move costs one pass over the points and not a
sum over seeds. The objective is a sum over classes of points (targets, shells, organs) of hinges

    w0 sum (l0 - d)+  +  w1 sum (d - l1)+  +  w2 sum (d - l2)+

plus a cost per needle and seed and per group of edge points that no used needle covers. Points of a class stand
side by side, so that the inner loops read nothing but dose and rows. Random numbers come from a xorshift generator
kept in an array (G. Marsaglia, J. Stat. Softw. 8(14), 2003): each start owns its own and is reproducible.

Slices are passed to the inner loops because a loop over `range(low, high)` is checked for negative indices, which
keeps the compiler from using vector instructions (measured: 1.35 instead of 0.15 ns a point).
"""

from typing import Any, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

F32 = np.float32
ZERO = np.float32(0.0)
_SUM = {"reassoc", "contract", "nnan", "ninf", "nsz"}
_THIRTEEN, _SEVEN, _SEVENTEEN, _ELEVEN = np.uint64(13), np.uint64(7), np.uint64(17), np.uint64(11)
STRAIGHT = 1e-3
"""Two seeds lie a pitch apart to this share of it; depths are rounded."""

SIGNIFICANT = 1e-6
"""A descent step must win this much, well above the rounding of float32 sums (engineering choice)."""


class Terms(NamedTuple):
    """Hinges of each class c of points start[c]:start[c+1]: weight (c, 3) and level (c, 3) in Gy, as above."""

    start: NDArray[np.int64]
    weight: NDArray[np.float64]
    level: NDArray[np.float32]


class Board(NamedTuple):
    """What does not change during a search. N candidates, sorted by needle; n points; lists in CSR form.

    `influence` is (N + 1, n): the last row is zero and stands for "no seed". `clash` lists the candidates that may
    not be used with one, `block` the needles that may not be used with one, `cover` the groups of edge points that
    a seed covers through its needle, `near` (N, K) the nearest candidates and `needle_near` the nearest needles, -1
    where there are fewer, `depth` (N,) mm along the needle. `base`, `base_count` and `base_covered` are dose, seeds
    and cover that are fixed. `limits` are the least and most seeds and the most needles. `strand` is the pitch of
    strands in mm, 0 for none, and the price of a gap of one pitch in a needle; `least_needles` the least needles and
    the price of each that is missing.
    """

    influence: NDArray[np.float32]
    needle_of: NDArray[np.int64]
    needle_first: NDArray[np.int64]
    depth: NDArray[np.float64]
    clash_first: NDArray[np.int64]
    clash: NDArray[np.int64]
    block_first: NDArray[np.int64]
    block: NDArray[np.int64]
    cover_first: NDArray[np.int64]
    cover: NDArray[np.int64]
    cover_cost: NDArray[np.float64]
    near: NDArray[np.int64]
    needle_near: NDArray[np.int64]
    base: NDArray[np.float64]
    base_count: NDArray[np.int64]
    base_covered: NDArray[np.int64]
    needle_cost: NDArray[np.float64]
    seed_cost: NDArray[np.float64]
    limits: NDArray[np.int64]
    strand: NDArray[np.float64] = np.zeros(2)
    least_needles: NDArray[np.float64] = np.zeros(2)


class State(NamedTuple):
    """A loading and all that follows from it, and the best loading met since it was set.

    `loaded` = seeds by needle, `tally` = seeds used, needles used; `cost` = value, structural part of it, best value.
    """

    chosen: NDArray[np.int8]
    dose: NDArray[np.float32]
    loaded: NDArray[np.int64]
    covered: NDArray[np.int64]
    clashes: NDArray[np.int64]
    blocks: NDArray[np.int64]
    used: NDArray[np.int64]
    place: NDArray[np.int64]
    tally: NDArray[np.int64]
    cost: NDArray[np.float64]
    best: NDArray[np.int8]


class Schedule(NamedTuple):
    """Annealing: temperature falls geometrically from `hot` to `cold` over `moves`.

    `shares` (4,) are cumulative: swap with a near place, swap with any, add, drop; the rest moves a whole needle.
    """

    moves: int
    hot: float
    cold: float
    shares: NDArray[np.float64]


@njit(nogil=True, cache=True, error_model="numpy", fastmath=_SUM)
def _one_hinge(dose: Any, add: Any, drop: Any, level: Any) -> Any:
    total = ZERO
    for k in range(dose.size):
        total += max(dose[k] + add[k] - drop[k] - level, ZERO)
    return total


@njit(nogil=True, cache=True, error_model="numpy", fastmath=_SUM)
def _three_hinges(dose: Any, add: Any, drop: Any, low: Any, high: Any, higher: Any) -> Any:
    under = ZERO
    over = ZERO
    far_over = ZERO
    for k in range(dose.size):
        value = dose[k] + add[k] - drop[k]
        under += max(low - value, ZERO)
        over += max(value - high, ZERO)
        far_over += max(value - higher, ZERO)
    return under, over, far_over


@njit(nogil=True, cache=True, error_model="numpy")
def score(terms: Any, dose: Any, add: Any, drop: Any) -> Any:
    """Dose part of the objective for the dose (n,) plus the row `add` minus the row `drop`."""
    total = 0.0
    for c in range(terms.start.size - 1):
        first, last = terms.start[c], terms.start[c + 1]
        w0, w1, w2 = terms.weight[c, 0], terms.weight[c, 1], terms.weight[c, 2]
        if w0 == 0.0 and w2 == 0.0:
            total += w1 * _one_hinge(dose[first:last], add[first:last], drop[first:last], terms.level[c, 1])
        else:
            l0, l1, l2 = terms.level[c, 0], terms.level[c, 1], terms.level[c, 2]
            sums = _three_hinges(dose[first:last], add[first:last], drop[first:last], l0, l1, l2)
            total += w0 * sums[0] + w1 * sums[1] + w2 * sums[2]
    return total


@njit(nogil=True, cache=True, error_model="numpy")
def hinge_sums(terms: Any, dose: Any) -> Any:
    """Weighted hinge sums (classes, 3) of a dose (n,), summed in float64 in a fixed order."""
    sums = np.zeros((terms.start.size - 1, 3))
    for c in range(terms.start.size - 1):
        for k in range(terms.start[c], terms.start[c + 1]):
            value = dose[k]
            sums[c, 0] += max(terms.level[c, 0] - value, 0.0)
            sums[c, 1] += max(value - terms.level[c, 1], 0.0)
            sums[c, 2] += max(value - terms.level[c, 2], 0.0)
        for h in range(3):
            sums[c, h] *= terms.weight[c, h]
    return sums


@njit(nogil=True, cache=True, error_model="numpy")
def exact_dose(board: Any, chosen: Any) -> Any:
    """Dose (n,) float64 of a loading: rows summed in order, so that no rounding of earlier moves remains."""
    dose = board.base.copy()
    for i in range(chosen.size):
        if chosen[i]:
            row = board.influence[i]
            for k in range(dose.size):
                dose[k] += row[k]
    return dose


@njit(nogil=True, cache=True, error_model="numpy")
def _change(dose: Any, add: Any, drop: Any) -> Any:
    for k in range(dose.size):
        dose[k] += add[k] - drop[k]


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
def _gap(board: Any, i: Any, j: Any) -> Any:
    """How far the distance of two neighbours in a needle is off the pitch of a strand, in pitches."""
    off = abs(abs(board.depth[i] - board.depth[j]) - board.strand[0]) / board.strand[0]
    return off if off > STRAIGHT else 0.0


@njit(nogil=True, cache=True, error_model="numpy")
def _gaps_made(board: Any, state: Any, j: Any) -> Any:
    """Change of the gaps in a needle's strand by a seed at j, in pitches."""
    needle = board.needle_of[j]
    before = -1
    after = -1
    for k in range(board.needle_first[needle], board.needle_first[needle + 1]):
        if state.chosen[k] and k < j:
            before = k
        elif state.chosen[k] and k > j:
            after = k
            break
    made = 0.0
    if before >= 0:
        made += _gap(board, before, j)
    if after >= 0:
        made += _gap(board, j, after)
    if before >= 0 and after >= 0:
        made -= _gap(board, before, after)
    return made


@njit(nogil=True, cache=True, error_model="numpy")
def opening_cost(board: Any, state: Any, j: Any) -> Any:
    """Change of the structural cost by a seed at j: its own, its needle's if unused, less what it newly covers."""
    total = board.seed_cost[j]
    if state.loaded[board.needle_of[j]] == 0:
        total += board.needle_cost[board.needle_of[j]]
        if state.tally[1] < board.least_needles[0]:
            total -= board.least_needles[1]
    if board.strand[0] > 0.0:
        total += board.strand[1] * _gaps_made(board, state, j)
    for g in board.cover[board.cover_first[j] : board.cover_first[j + 1]]:
        if state.covered[g] == 0:
            total -= board.cover_cost[g]
    return total


@njit(nogil=True, cache=True, error_model="numpy")
def allowed(board: Any, state: Any, j: Any) -> Any:
    """Whether a seed may be added at j: free, no clash, its needle not blocked, no limit passed."""
    if state.chosen[j] or state.clashes[j] > 0 or state.tally[0] >= board.limits[1]:
        return False
    needle = board.needle_of[j]
    if state.loaded[needle] == 0:
        return state.blocks[needle] == 0 and state.tally[1] < board.limits[2]
    return True


@njit(nogil=True, cache=True, error_model="numpy")
def take(board: Any, state: Any, j: Any) -> Any:
    """Add the seed j to the bookkeeping (not to the dose)."""
    needle = board.needle_of[j]
    state.cost[1] += opening_cost(board, state, j)
    state.chosen[j] = 1
    state.used[state.tally[0]] = j
    state.place[j] = state.tally[0]
    state.tally[0] += 1
    for k in board.clash[board.clash_first[j] : board.clash_first[j + 1]]:
        state.clashes[k] += 1
    for g in board.cover[board.cover_first[j] : board.cover_first[j + 1]]:
        state.covered[g] += 1
    if state.loaded[needle] == 0:
        state.tally[1] += 1
        for m in board.block[board.block_first[needle] : board.block_first[needle + 1]]:
            state.blocks[m] += 1
    state.loaded[needle] += 1


@njit(nogil=True, cache=True, error_model="numpy")
def leave(board: Any, state: Any, i: Any) -> Any:
    """Take the seed i out of the bookkeeping (not out of the dose)."""
    needle = board.needle_of[i]
    state.chosen[i] = 0
    state.tally[0] -= 1
    last = state.used[state.tally[0]]
    state.used[state.place[i]] = last
    state.place[last] = state.place[i]
    state.place[i] = -1
    for k in board.clash[board.clash_first[i] : board.clash_first[i + 1]]:
        state.clashes[k] -= 1
    for g in board.cover[board.cover_first[i] : board.cover_first[i + 1]]:
        state.covered[g] -= 1
    state.loaded[needle] -= 1
    if state.loaded[needle] == 0:
        state.tally[1] -= 1
        for m in board.block[board.block_first[needle] : board.block_first[needle + 1]]:
            state.blocks[m] -= 1
    state.cost[1] -= opening_cost(board, state, i)


@njit(nogil=True, cache=True, error_model="numpy")
def load(board: Any, terms: Any, state: Any, wanted: Any) -> Any:
    """Set the state to the loading `wanted` (N,), and its cost to value and structural part."""
    state.chosen[:] = 0
    state.loaded[:] = board.base_count
    state.covered[:] = board.base_covered
    state.clashes[:] = 0
    state.blocks[:] = 0
    state.place[:] = -1
    state.tally[:] = 0
    state.cost[1] = board.least_needles[0] * board.least_needles[1]
    for g in range(state.covered.size):
        if state.covered[g] == 0:
            state.cost[1] += board.cover_cost[g]
    for i in range(wanted.size):
        if wanted[i]:
            take(board, state, i)
    refresh(board, terms, state)
    state.best[:] = state.chosen
    state.cost[2] = state.cost[0]


@njit(nogil=True, cache=True, error_model="numpy")
def value_with(board: Any, terms: Any, state: Any, i: Any, j: Any) -> Any:
    """Value if the seed i, already out of the bookkeeping, left the dose and j came; N stands for no seed."""
    value = score(terms, state.dose, board.influence[j], board.influence[i]) + state.cost[1]
    if j < state.chosen.size:
        value += opening_cost(board, state, j)
    return value


@njit(nogil=True, cache=True, error_model="numpy")
def refresh(board: Any, terms: Any, state: Any) -> Any:
    """Recompute dose and value of the state from its loading, in float64."""
    state.dose[:] = exact_dose(board, state.chosen).astype(F32)
    none = board.influence[state.chosen.size]
    state.cost[0] = score(terms, state.dose, none, none) + state.cost[1]


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
        _change(state.dose, board.influence[found], board.influence[size])
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
        _change(dose, add, drop)
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
            _change(state.dose, board.influence[j], board.influence[i])
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
            _change(state.dose, board.influence[found], board.influence[i])
            state.cost[0] = best
            better = True
    for j in range(size):
        if allowed(board, state, j):
            value = value_with(board, terms, state, size, j)
            scored += 1
            if value < state.cost[0] - SIGNIFICANT:
                take(board, state, j)
                _change(state.dose, board.influence[j], board.influence[size])
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
