"""Search kernels on boards small enough to count out: every loading and every move, with plain numpy."""

import itertools

import numpy as np
import pytest

from brachy.core import loading as loadings
from brachy.core import search
from brachy.optimise.candidates import empty_state
from brachy.optimise.control import rng_of
from brachy.optimise.search import SHARES
from tests.boards import DEEP, NEEDLES, SIZE, board_and_terms, value

pytestmark = pytest.mark.kernel

ALL = [np.array(x) for x in itertools.product((0, 1), repeat=SIZE)]


def lists(pairs, size):
    """Pairs, both ways, as first positions and neighbours."""
    both = sorted({*pairs, *((b, a) for a, b in pairs)})
    return np.searchsorted([a for a, _ in both], np.arange(size + 1)), np.array(
        [b for _, b in both], np.int64
    )


def ruled():
    """Rules of every kind: the two shallowest places of a needle exclude each other, needles 0 and 3 too."""
    seed_conflict_first, seed_conflicts = lists([(DEEP * n, DEEP * n + 1) for n in range(NEEDLES)], SIZE)
    needle_conflict_first, needle_conflicts = lists([(0, 3)], NEEDLES)
    needle = np.arange(SIZE) // DEEP
    near = np.array([[j for j in range(SIZE) if j != i][: SIZE - 1] for i in range(SIZE)])
    return {
        "seed_conflict_first": seed_conflict_first,
        "seed_conflicts": seed_conflicts,
        "needle_conflict_first": needle_conflict_first,
        "needle_conflicts": needle_conflicts,
        "limits": np.array([2, 6, 3]),
        "strand": np.array([5.0, 0.01]),
        "least_needles": np.array([2.0, 0.05]),
        "near": np.array(
            [sorted(row, key=lambda j: (needle[j] != needle[i], j)) for i, row in enumerate(near)]
        ),
        "needle_near": np.array([[n for n in range(NEEDLES) if n != m] for m in range(NEEDLES)]),
    }


def keeps_rules(board, loading):
    used = set(board.needle_of[loading > 0].tolist())
    conflict = any(
        loading[i] and loading[j]
        for i in range(SIZE)
        for j in board.seed_conflicts[board.seed_conflict_first[i] : board.seed_conflict_first[i + 1]]
    )
    least, most, needles = board.limits
    return not conflict and not {0, 3} <= used and len(used) <= needles and least <= loading.sum() <= most


def opened(board, terms, loading=None):
    state = empty_state(board)
    loadings.set_loading(board, terms, state, np.zeros(SIZE, np.int8) if loading is None else loading)
    return state


def test_greedy_takes_the_best_seed_each_time():
    board, terms = board_and_terms(1, 0.2, **ruled())
    state = opened(board, terms)
    search.greedy(board, terms, state)
    loading = np.zeros(SIZE, np.int8)
    while True:
        options = [
            (value(board, terms, loading + unit), k)
            for k, unit in enumerate(np.eye(SIZE, dtype=np.int8))
            if not loading[k] and keeps_rules(board._replace(limits=np.array([0, 6, 3])), loading + unit)
        ]
        if not options or (min(options)[0] >= value(board, terms, loading) - 1e-6 and loading.sum() >= 2):
            break
        loading[min(options)[1]] = 1
    assert np.array_equal(state.chosen, loading)
    assert state.cost[0] == pytest.approx(value(board, terms, loading), rel=1e-5)


@pytest.mark.parametrize("seed", range(3))
def test_annealing_and_descent_find_the_best_of_all_loadings(seed):
    board, terms = board_and_terms(seed, 0.2, **ruled())
    best = min(value(board, terms, x) for x in ALL if keeps_rules(board, x))
    state = opened(board, terms)
    search.greedy(board, terms, state)
    state = opened(board, terms, state.chosen.copy())
    start = state.cost[0]
    schedule = search.Schedule(1500, 3.0, 0.03, SHARES)
    search.anneal(board, terms, state, schedule, 0, 1500, rng_of(seed, "test"))
    assert keeps_rules(board, state.chosen)
    assert state.cost[0] == pytest.approx(value(board, terms, state.chosen), rel=1e-4, abs=1e-4)
    assert keeps_rules(board, state.best)
    assert state.cost[2] == pytest.approx(value(board, terms, state.best), rel=1e-4, abs=1e-4)
    assert state.cost[2] <= start
    final = opened(board, terms, state.best.copy())
    search.descend(board, terms, final, True, 20)
    assert value(board, terms, final.chosen) == pytest.approx(best, rel=1e-5)


@pytest.mark.parametrize("everywhere", [True, False])
def test_after_a_descent_no_swap_addition_or_removal_is_better(everywhere):
    board, terms = board_and_terms(5, 0.2, **ruled())
    poor = np.zeros(SIZE, np.int8)
    poor[[0, 3]] = 1
    state = opened(board, terms, poor)
    search.descend(board, terms, state, everywhere, 50)
    found = state.chosen.astype(int)
    assert keeps_rules(board, found)
    here = value(board, terms, found)
    assert here < value(board, terms, poor)
    for out, into in itertools.product([None, *np.flatnonzero(found)], [None, *np.flatnonzero(found == 0)]):
        other = found.copy()
        other[[k for k in (out, into) if k is not None]] ^= 1
        if keeps_rules(board, other):
            assert value(board, terms, other) > here - 1e-5


def crowded():
    """`ruled`, but all places of a needle may be used, at unequal distances, and the most seeds are soon reached."""
    free = {"seed_conflict_first": np.zeros(SIZE + 1, np.int64), "seed_conflicts": np.zeros(0, np.int64)}
    depth = np.tile([0.0, 5.0, 12.0], NEEDLES)
    return {**ruled(), **free, "depth": depth, "limits": np.array([0, 5, 3])}


@pytest.mark.parametrize(("rules", "places"), [(ruled, SIZE), (crowded, 2 * DEEP)])
def test_bookkeeping_of_random_seeds_that_come_and_go(rules, places):
    """Cost, counts, conflicts and cover after each step are those of the loading set anew, and what is allowed next."""
    board, terms = board_and_terms(2, 0.2, **rules())
    rng = np.random.default_rng(0)
    state = opened(board, terms)
    no_least = board._replace(limits=np.array([0, *board.limits[1:]]))
    most, between = 0, 0
    for _ in range(60):
        j = int(rng.integers(places))
        if state.chosen[j] and rng.uniform() < 0.5:
            loadings.remove_seed(board, state, j)
        elif loadings.allowed(board, state, j):
            loadings.add_seed(board, state, j)
            between += j % DEEP == 1 and state.chosen[j - 1] and state.chosen[j + 1]
        most = max(most, state.chosen.sum())
        anew = opened(board, terms, state.chosen.copy())
        for name in ("needle_seeds", "covered", "conflicting_seeds", "conflicting_needles"):
            assert np.array_equal(getattr(state, name), getattr(anew, name)), name
        assert state.counts.tolist() == anew.counts.tolist()
        assert sorted(state.used[: state.counts[0]]) == np.flatnonzero(state.chosen).tolist()
        doseless = board._replace(influence=np.zeros_like(board.influence))
        free = terms._replace(weight=np.zeros_like(terms.weight))
        assert state.cost[1] == pytest.approx(value(doseless, free, state.chosen), abs=1e-9)
        for k in np.flatnonzero(state.chosen == 0):
            more = state.chosen + np.eye(SIZE, dtype=np.int8)[k]
            assert loadings.allowed(board, state, k) == keeps_rules(no_least, more)
    assert most >= 5
    assert between or rules is ruled


def test_hinge_sums_and_dose_against_numpy():
    board, terms = board_and_terms(4, 0.0)
    loading = ALL[1234]
    dose = board.influence[:SIZE].astype(float).T @ loading
    assert loadings.exact_dose(board, loading) == pytest.approx(dose, rel=1e-12)
    free = board._replace(needle_cost=np.zeros(NEEDLES), seed_cost=np.zeros(SIZE))
    assert loadings.hinge_sums(terms, dose).sum() == pytest.approx(value(free, terms, loading), rel=1e-12)
    none = board.influence[SIZE]
    found = loadings.score(terms, dose.astype(np.float32), none, none)
    assert found == pytest.approx(value(free, terms, loading), rel=1e-5)
