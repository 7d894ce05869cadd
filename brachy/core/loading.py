"""A loading of candidates with seeds: its dose, its score, and the bookkeeping of a seed that comes or goes.

A candidate is a place where a seed may lie; row i of the influence matrix is what one seed there gives to every
sample point, in Gy. The dose of the chosen seeds is kept, so that a move costs one pass over the points and not a
sum over seeds. The objective is a sum over classes of points (targets, shells, organs) of hinges

    w0 sum (l0 - d)+  +  w1 sum (d - l1)+  +  w2 sum (d - l2)+

plus a cost per needle and seed and per group of edge points that no used needle covers. Points of a class stand
side by side, so that the inner loops read nothing but dose and rows.

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
STRAIGHT = 1e-3
"""Two seeds lie a pitch apart to this share of it; depths are rounded."""


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
def shift_dose(dose: Any, add: Any, drop: Any) -> Any:
    """Add one row to the dose (n,) and take another away, in place."""
    for k in range(dose.size):
        dose[k] += add[k] - drop[k]


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
