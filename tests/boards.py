"""Small boards of the seed search, and the value of a loading counted out with plain numpy."""

import itertools

import numpy as np

from brachy.core.loading import SearchArrays, Terms

NEEDLES, DEEP = 4, 3
SIZE = NEEDLES * DEEP


def board_and_terms(seed, lateral, **rules):
    """Search arrays of four needles with three places each; `rules` replaces fields, limits are free by default."""
    rng = np.random.default_rng(seed)
    places = np.array(
        [[10.0 * (n // 2), 10.0 * (n % 2), 5.0 * k] for n in range(NEEDLES) for k in range(DEEP)]
    )
    points = rng.uniform([-6, -6, -6], [16, 16, 16], (120, 3))
    distance = np.linalg.norm(places[:, None] - points, axis=2)
    influence = np.zeros((SIZE + 1, 120), np.float32)
    influence[:SIZE] = rng.uniform(1500, 4000) / np.maximum(distance, 1.0) ** 2
    needle_of = np.repeat(np.arange(NEEDLES), DEEP)
    cover = np.flatnonzero(rng.uniform(size=SIZE) < 0.5)
    none = np.zeros(0, np.int64)
    board = SearchArrays(
        influence=influence,
        needle_of=needle_of,
        needle_first=np.arange(NEEDLES + 1) * DEEP,
        depth=places[:, 2],
        seed_conflict_first=np.zeros(SIZE + 1, np.int64),
        seed_conflicts=none,
        needle_conflict_first=np.zeros(NEEDLES + 1, np.int64),
        needle_conflicts=none,
        cover_first=np.searchsorted(cover, np.arange(SIZE + 1)),
        cover=cover % 2,
        cover_cost=np.array([lateral, 2 * lateral]),
        near=np.zeros((SIZE, 1), np.int64),
        needle_near=np.zeros((NEEDLES, 1), np.int64),
        base=np.zeros(120),
        base_count=np.zeros(NEEDLES, np.int64),
        base_covered=np.zeros(2, np.int64),
        needle_cost=np.full(NEEDLES, rng.uniform(0, 0.3)),
        seed_cost=np.full(SIZE, rng.uniform(0, 0.1)),
        limits=np.array([0, SIZE, NEEDLES]),
    )
    scale = rng.uniform(0.2, 5) / 60 / 120
    terms = Terms(
        np.array([0, 60, 120]),
        scale * np.array([[20.0, 1.0, 1.0], [0.0, 5.0, 0.0]]),
        np.array([[120, 180, 240], [0, 120, 1e30]], np.float32),
    )
    return board._replace(**rules), terms


def value(board, terms, loading):
    dose = board.influence[:SIZE].astype(float).T @ loading
    total = board.seed_cost @ loading
    used = np.unique(board.needle_of[loading > 0])
    total += board.needle_cost[used].sum()
    total += board.least_needles[1] * max(board.least_needles[0] - len(used), 0)
    if board.strand[0] > 0:
        gaps = np.concatenate(
            [np.diff(board.depth[(loading > 0) & (board.needle_of == n)]) for n in used] or [[]]
        )
        total += board.strand[1] * np.abs(gaps - board.strand[0]).sum() / board.strand[0]
    covered = {
        g
        for i in np.flatnonzero(loading)
        for g in board.cover[board.cover_first[i] : board.cover_first[i + 1]]
    }
    total += sum(cost for g, cost in enumerate(board.cover_cost) if g not in covered)
    for c, (first, last) in enumerate(itertools.pairwise(terms.start)):
        here = dose[first:last]
        total += terms.weight[c, 0] * np.maximum(terms.level[c, 0] - here, 0).sum()
        total += terms.weight[c, 1] * np.maximum(here - terms.level[c, 1], 0).sum()
        total += terms.weight[c, 2] * np.maximum(here - terms.level[c, 2], 0).sum()
    return total
