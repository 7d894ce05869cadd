"""The state of the seed search: which candidates hold a seed, their dose, their cost, and updates by single seeds.

A candidate is a position where a seed may lie; row i of the influence matrix is the dose in Gy that one seed there
gives to every sample point. A loading is the choice of candidates that hold a seed. Its objective is a sum over classes
of points (targets, shells, organs) of hinges of the dose d,

    w0 sum (l0 - d)+  +  w1 sum (d - l1)+  +  w2 sum (d - l2)+

plus the structural cost: a price per needle, per seed and per group of edge points that no used needle covers.

The search tries millions of small changes, so everything about the current loading is kept in `State` and updated by
one seed at a time instead of being computed anew. A trial costs one pass over the points (`score` adds and subtracts
rows while it sums), whatever the number of seeds. The updates keep these invariants, which
tests/independent/test_search_kernels.py compares with loadings set anew (test_bookkeeping_of_random_seeds_that_come_
and_go):

* `dose` is the fixed dose plus the rows of the chosen candidates, up to float32 rounding since the last `refresh`.
* `cost[1]` is the structural cost, `cost[0]` that plus the dose part.
* `conflicting_seeds[k]` counts the used seeds that exclude candidate k, `conflicting_needles` the used needles that
  exclude a needle: whether a seed may be added is then known without a search. Counts are needed and not flags, because
  two seeds may exclude the same candidate and one of them may leave.
* `used[: counts[0]]` lists the chosen candidates in any order and `index_in_used` is its inverse, so that a random seed
  is drawn, and a seed removed, in constant time.

Points of a class are contiguous, so that the inner loops read only dose and rows. They are given slices because a loop
over `range(low, high)` is checked for negative indices, which keeps the compiler from using vector instructions
(measured: 1.35 instead of 0.15 ns a point).
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from brachy.core.compiling import njit

F32 = np.float32
ZERO = np.float32(0.0)
_SUM = {"reassoc", "contract", "nnan", "ninf", "nsz"}
"""Floating-point rules that let the compiler vectorise a sum; doses are finite, so nnan and ninf hold."""
PITCH_TOLERANCE = 1e-3
"""Deviation from a strand's pitch, as a share of it, that counts as none: depths are rounded."""


class Terms(NamedTuple):
    """Hinges of each class c of points start[c]:start[c+1]: weight (c, 3) and level (c, 3) in Gy, as above."""

    start: NDArray[np.int64]
    weight: NDArray[np.float64]
    level: NDArray[np.float32]


class SearchArrays(NamedTuple):
    """What does not change during a search.

    There are N candidates (sorted by needle), M needles, G groups of edge points of the target, and n sample points.
    Lists of different lengths are in CSR form: those of candidate j are `list[first[j] : first[j + 1]]`.
    """

    influence: NDArray[np.float32]  # (N + 1, n) Gy of one seed; the last row is zero and means "no seed"
    needle_of: NDArray[np.int64]  # (N,) needle of each candidate
    needle_first: NDArray[np.int64]  # (M + 1,) first candidate of each needle
    depth: NDArray[np.float64]  # (N,) mm along the needle
    seed_conflict_first: NDArray[np.int64]  # (N + 1,)
    seed_conflicts: NDArray[np.int64]  # candidates that may not be used together with one, both ways
    needle_conflict_first: NDArray[np.int64]  # (M + 1,)
    needle_conflicts: NDArray[np.int64]  # needles that may not be used together with one, both ways
    cover_first: NDArray[np.int64]  # (N + 1,)
    cover: NDArray[np.int64]  # groups of edge points that a seed covers through its needle
    cover_cost: NDArray[np.float64]  # (G,) price of a group that no used needle covers
    near: NDArray[np.int64]  # (N, K) nearest candidates, -1 where there are fewer
    needle_near: NDArray[np.int64]  # (M, K) nearest needles, -1 where there are fewer
    base: NDArray[np.float64]  # (n,) Gy of seeds that are fixed
    base_count: NDArray[np.int64]  # (M,) fixed seeds in each needle
    base_covered: NDArray[np.int64]  # (G,) how often a group is covered by fixed seeds
    needle_cost: NDArray[np.float64]  # (M,)
    seed_cost: NDArray[np.float64]  # (N,)
    limits: NDArray[np.int64]  # least seeds, most seeds, most needles
    strand: NDArray[np.float64] = np.zeros(2)  # pitch in mm (0: none), price of a pitch's error
    least_needles: NDArray[np.float64] = np.zeros(2)  # least needles, price of each that is missing


class State(NamedTuple):
    """A loading, what follows from it (see the invariants above), and the best loading met since it was set."""

    chosen: NDArray[np.int8]  # (N,) 1 where a candidate holds a seed
    dose: NDArray[np.float32]  # (n,) Gy
    needle_seeds: NDArray[np.int64]  # (M,) seeds in each needle, fixed ones included
    covered: NDArray[np.int64]  # (G,) seeds that cover each group
    conflicting_seeds: NDArray[np.int64]  # (N,) used seeds that exclude each candidate
    conflicting_needles: NDArray[np.int64]  # (M,) used needles that exclude each needle
    used: NDArray[np.int64]  # (N,) the chosen candidates, then anything
    index_in_used: NDArray[np.int64]  # (N,) place of each candidate in `used`, -1 if it is not chosen
    counts: NDArray[np.int64]  # seeds used, needles used
    cost: NDArray[np.float64]  # objective, structural part of it, objective of the best loading
    best: NDArray[np.int8]  # (N,)


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
    """Dose part of the objective for the dose (n,) plus the row `add` minus the row `drop`, without changing the dose.

    Rows are added while summing because most trials are rejected: the changed dose is never stored.
    """
    total = 0.0
    for c in range(terms.start.size - 1):
        first, last = terms.start[c], terms.start[c + 1]
        w0, w1, w2 = terms.weight[c, 0], terms.weight[c, 1], terms.weight[c, 2]
        if w0 == 0.0 and w2 == 0.0:  # organs and shells have one hinge only: a third of the arithmetic
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
def exact_dose(arrays: Any, chosen: Any) -> Any:
    """Dose (n,) float64 of a loading: rows summed in order, so that no rounding of earlier moves remains."""
    dose = arrays.base.copy()
    for i in range(chosen.size):
        if chosen[i]:
            row = arrays.influence[i]
            for k in range(dose.size):
                dose[k] += row[k]
    return dose


@njit(nogil=True, cache=True, error_model="numpy")
def shift_dose(dose: Any, add: Any, drop: Any) -> Any:
    """Add one row to the dose (n,) and subtract another, in place."""
    for k in range(dose.size):
        dose[k] += add[k] - drop[k]


@njit(nogil=True, cache=True, error_model="numpy")
def _pitch_error(arrays: Any, i: Any, j: Any) -> Any:
    """Deviation of the distance of two neighbours in a needle from the pitch of a strand, in pitches."""
    off = abs(abs(arrays.depth[i] - arrays.depth[j]) - arrays.strand[0]) / arrays.strand[0]
    return off if off > PITCH_TOLERANCE else 0.0


@njit(nogil=True, cache=True, error_model="numpy")
def _pitch_error_change(arrays: Any, state: Any, j: Any) -> Any:
    """Change of the summed pitch errors of a needle's strand by a seed at j, which must not be chosen; in pitches.

    Only the neighbours before and after j count: a new seed replaces the gap between them by two gaps.
    """
    needle = arrays.needle_of[j]
    before = -1
    after = -1
    for k in range(arrays.needle_first[needle], arrays.needle_first[needle + 1]):
        if state.chosen[k] and k < j:
            before = k
        elif state.chosen[k] and k > j:
            after = k
            break
    made = 0.0
    if before >= 0:
        made += _pitch_error(arrays, before, j)
    if after >= 0:
        made += _pitch_error(arrays, j, after)
    if before >= 0 and after >= 0:
        made -= _pitch_error(arrays, before, after)
    return made


@njit(nogil=True, cache=True, error_model="numpy")
def cost_of_adding(arrays: Any, state: Any, j: Any) -> Any:
    """Change of the structural cost by a seed at j: its price, its needle's if unused, less what it newly covers.

    It must be asked while the seed is not in the bookkeeping: before `add_seed` changes it and after `remove_seed` has.
    Then what an addition costs and what the removal of the same seed gives back are equal.
    """
    total = arrays.seed_cost[j]
    if state.needle_seeds[arrays.needle_of[j]] == 0:
        total += arrays.needle_cost[arrays.needle_of[j]]
        if state.counts[1] < arrays.least_needles[0]:  # one missing needle less to pay for
            total -= arrays.least_needles[1]
    if arrays.strand[0] > 0.0:
        total += arrays.strand[1] * _pitch_error_change(arrays, state, j)
    for g in arrays.cover[arrays.cover_first[j] : arrays.cover_first[j + 1]]:
        if state.covered[g] == 0:
            total -= arrays.cover_cost[g]
    return total


@njit(nogil=True, cache=True, error_model="numpy")
def allowed(arrays: Any, state: Any, j: Any) -> Any:
    """Whether a seed may be added at j: j is free, conflicts with no used seed or needle, and no limit is exceeded."""
    if state.chosen[j] or state.conflicting_seeds[j] > 0 or state.counts[0] >= arrays.limits[1]:
        return False
    needle = arrays.needle_of[j]
    if state.needle_seeds[needle] == 0:
        return state.conflicting_needles[needle] == 0 and state.counts[1] < arrays.limits[2]
    return True


@njit(nogil=True, cache=True, error_model="numpy")
def add_seed(arrays: Any, state: Any, j: Any) -> Any:
    """Add the seed j to the bookkeeping, not to the dose: the caller changes the dose once a move is accepted."""
    needle = arrays.needle_of[j]
    state.cost[1] += cost_of_adding(arrays, state, j)
    state.chosen[j] = 1
    state.used[state.counts[0]] = j
    state.index_in_used[j] = state.counts[0]
    state.counts[0] += 1
    for k in arrays.seed_conflicts[arrays.seed_conflict_first[j] : arrays.seed_conflict_first[j + 1]]:
        state.conflicting_seeds[k] += 1
    for g in arrays.cover[arrays.cover_first[j] : arrays.cover_first[j + 1]]:
        state.covered[g] += 1
    if state.needle_seeds[needle] == 0:
        state.counts[1] += 1
        for m in arrays.needle_conflicts[
            arrays.needle_conflict_first[needle] : arrays.needle_conflict_first[needle + 1]
        ]:
            state.conflicting_needles[m] += 1
    state.needle_seeds[needle] += 1


@njit(nogil=True, cache=True, error_model="numpy")
def remove_seed(arrays: Any, state: Any, i: Any) -> Any:
    """Remove the seed i from the bookkeeping, not from the dose."""
    needle = arrays.needle_of[i]
    state.chosen[i] = 0
    state.counts[0] -= 1
    # the last of the list takes the free place, so that the list stays without gaps
    last = state.used[state.counts[0]]
    state.used[state.index_in_used[i]] = last
    state.index_in_used[last] = state.index_in_used[i]
    state.index_in_used[i] = -1
    for k in arrays.seed_conflicts[arrays.seed_conflict_first[i] : arrays.seed_conflict_first[i + 1]]:
        state.conflicting_seeds[k] -= 1
    for g in arrays.cover[arrays.cover_first[i] : arrays.cover_first[i + 1]]:
        state.covered[g] -= 1
    state.needle_seeds[needle] -= 1
    if state.needle_seeds[needle] == 0:
        state.counts[1] -= 1
        for m in arrays.needle_conflicts[
            arrays.needle_conflict_first[needle] : arrays.needle_conflict_first[needle + 1]
        ]:
            state.conflicting_needles[m] -= 1
    state.cost[1] -= cost_of_adding(arrays, state, i)


@njit(nogil=True, cache=True, error_model="numpy")
def set_loading(arrays: Any, terms: Any, state: Any, loading: Any) -> Any:
    """Set the state to a loading (N,) of 0 and 1, which is then the best one met so far."""
    state.chosen[:] = 0
    # a needle that holds fixed seeds is open already: another seed in it pays for no needle
    state.needle_seeds[:] = arrays.base_count
    state.covered[:] = arrays.base_covered
    state.conflicting_seeds[:] = 0
    state.conflicting_needles[:] = 0
    state.index_in_used[:] = -1
    state.counts[:] = 0
    state.cost[1] = arrays.least_needles[0] * arrays.least_needles[1]
    for g in range(state.covered.size):
        if state.covered[g] == 0:
            state.cost[1] += arrays.cover_cost[g]
    for i in range(loading.size):
        if loading[i]:
            add_seed(arrays, state, i)
    refresh(arrays, terms, state)
    state.best[:] = state.chosen
    state.cost[2] = state.cost[0]


@njit(nogil=True, cache=True, error_model="numpy")
def value_with(arrays: Any, terms: Any, state: Any, i: Any, j: Any) -> Any:
    """Objective if seed i, which is no longer in the bookkeeping, left the dose and seed j came; N means no seed."""
    value = score(terms, state.dose, arrays.influence[j], arrays.influence[i]) + state.cost[1]
    if j < state.chosen.size:
        value += cost_of_adding(arrays, state, j)
    return value


@njit(nogil=True, cache=True, error_model="numpy")
def refresh(arrays: Any, terms: Any, state: Any) -> Any:
    """Recompute dose (summed in float64) and objective from the loading: removes the rounding left by many moves."""
    state.dose[:] = exact_dose(arrays, state.chosen).astype(F32)
    no_seed = arrays.influence[state.chosen.size]
    state.cost[0] = score(terms, state.dose, no_seed, no_seed) + state.cost[1]
