"""Matching of found to planned seeds, against enumeration of every partial matching and closed forms."""

from itertools import combinations, permutations

import numpy as np
import pytest

from brachy.errors import UsageError
from brachy.postimplant.matching import assign, common_shift, match, moved_by, rigid_fit, shifts, statistics


def needles(columns=4, rows=3, seeds=5, pitch=10.0, step=5.0):
    """Planned seeds of parallel needles on a grid, as the planner makes them."""
    return np.array(
        [
            [pitch * c, step * s + 2.5 * ((c + r) % 2), pitch * r]
            for c in range(columns)
            for r in range(rows)
            for s in range(seeds)
        ]
    )


def cheapest(planned, found, gate):
    """Least cost over every partial matching, by enumeration."""
    best = np.inf
    n, m = len(planned), len(found)
    for k in range(min(n, m) + 1):
        for some in combinations(range(n), k):
            for others in permutations(range(m), k):
                apart = np.linalg.norm(planned[list(some)] - found[list(others)], axis=1)
                if (apart > gate).any():
                    continue
                best = min(best, float((apart**2).sum()) + 0.5 * gate**2 * (n + m - 2 * k))
    return best


@pytest.mark.parametrize("seed", range(8))
def test_assignment_is_the_cheapest_of_all(seed):
    dice = np.random.default_rng(seed)
    planned, found = dice.uniform(0, 15, (4, 3)), dice.uniform(0, 15, (dice.integers(2, 6), 3))
    made = assign(planned, found, 8.0)
    apart = np.linalg.norm(planned[made.pairs[:, 0]] - found[made.pairs[:, 1]], axis=1)
    cost = float((apart**2).sum()) + 0.5 * 64.0 * (len(made.missing) + len(made.extra))
    assert cost == pytest.approx(cheapest(planned, found, 8.0))
    assert (apart <= 8.0).all()
    assert sorted([*made.pairs[:, 0], *made.missing]) == list(range(len(planned)))
    assert sorted([*made.pairs[:, 1], *made.extra]) == list(range(len(found)))


@pytest.mark.parametrize("shift", [(0, 0, 0), (0, 4, 0), (3, -4, 2), (0, -7, 0), (-6, 5, 4)])
def test_a_shift_of_the_whole_implant_is_followed_whatever_is_lost(shift):
    """A shift by most of a seed's spacing must not be taken for a shift by the rest of it to the next seed."""
    planned = needles()
    lost, migrated = [0, 19, 44], [7, 31]
    found = planned + np.array(shift, dtype=float)
    found[migrated[0]] += [0, 60, 200]
    found[migrated[1]] += [80, 0, -20]
    kept = np.setdiff1d(np.arange(len(planned)), lost)
    made = match(planned, found[kept], 10.0)
    assert made.missing.tolist() == sorted([*lost, *migrated])
    assert sorted(kept[made.extra].tolist()) == sorted(migrated)
    assert (kept[made.pairs[:, 1]] == made.pairs[:, 0]).all()
    moved = shifts(planned[made.pairs[:, 0]], found[kept][made.pairs[:, 1]])
    found = statistics(moved)
    assert found.systematic_mm == pytest.approx(shift, abs=1e-9)
    assert found.random_mm == pytest.approx(0.0, abs=1e-9)


@pytest.mark.parametrize("shift", [(0, 0, 0), (0, 4, 0)])
def test_scatter_of_real_needles_is_not_taken_for_a_shift_by_a_spacing(shift):
    """With 2.5 mm of scatter along each axis, many seeds lie nearer to a neighbour's place by chance."""
    planned, right = needles(), 0
    for seed in range(10):
        found = planned + np.array(shift) + 2.5 * np.random.default_rng(seed).normal(size=planned.shape)
        made = match(planned, found, 10.0)
        assert np.linalg.norm(made.shift_mm - shift) < 2.0
        right += int((made.pairs[:, 0] == made.pairs[:, 1]).sum())
    assert right > 0.85 * 10 * len(planned)


def test_a_migrated_seed_is_extra_and_never_a_long_shift():
    made = match([[0, 0, 0], [10, 0, 0]], [[0, 0, 0], [10, 0, 60]], 10.0)
    assert (made.pairs.tolist(), made.missing.tolist(), made.extra.tolist()) == ([[0, 0]], [1], [1])


def test_statistics_of_a_hand_made_example():
    moved = shifts(
        [[0, 0, 0], [0, 0, 5], [0, 0, 10]],
        [[1, 0, 0], [0, 0, 7], [0, 2, 10]],
        [[0, 0, 1]] * 3,
        [[0, 0, -1], [0, 1, 1], [1, 0, 0]],
    )
    assert moved.along_mm.tolist() == [0, 2, 0]
    assert moved.across_mm.tolist() == [1, 0, 2]
    found = statistics(moved)
    assert found.mean_mm == pytest.approx(5 / 3)
    assert found.sd_mm == pytest.approx(np.sqrt(1 / 3))
    assert found.max_mm == 2
    assert found.systematic_mm == pytest.approx([1 / 3, 2 / 3, 2 / 3])
    # sum of squares 9 less 3 |mean|^2 = 3, over three
    assert found.random_mm == pytest.approx(np.sqrt(2.0))
    assert statistics(moved, [0]).sd_mm is None
    assert statistics(moved, []).model_dump() == {"seeds": 0}


def test_the_sign_of_a_found_axis_has_no_meaning():
    moved = shifts([[0, 0, 0]] * 2, [[0, 0, 0]] * 2, [[0, 0, 1]] * 2, [[0, 0, -1], [0, 0.6, -0.8]])
    assert moved.angle_deg == pytest.approx([0.0, np.degrees(np.arccos(0.8))])


def test_unknown_axes_leave_no_numbers():
    moved = shifts([[0, 0, 0]], [[0, 0, 1]])
    assert np.isnan([moved.along_mm[0], moved.across_mm[0], moved.angle_deg[0]]).all()
    assert "along_mean_mm" not in statistics(moved).model_dump()


def test_rigid_fit_finds_a_known_motion_and_never_a_mirror():
    dice = np.random.default_rng(3)
    points = dice.normal(size=(12, 3)) * 20
    turn, _ = np.linalg.qr(dice.normal(size=(3, 3)))
    turn *= np.sign(np.linalg.det(turn))
    matrix = np.eye(4)
    matrix[:3, :3], matrix[:3, 3] = turn, [5, -7, 30]
    assert np.allclose(rigid_fit(points, moved_by(matrix, points)), matrix, atol=1e-9)
    assert np.linalg.det(rigid_fit(points, points * [1, 1, -1])[:3, :3]) == pytest.approx(1.0)
    with pytest.raises(UsageError, match="three pairs"):
        rigid_fit(points[:2], points[:2])


def test_nothing_to_match():
    made = match(np.zeros((0, 3)), [[1, 2, 3]])
    assert made.extra.tolist() == [0]
    assert common_shift([[0, 0, 0]], np.zeros((0, 3)))[1] == 0
    with pytest.raises(UsageError, match="gate"):
        assign([[0, 0, 0]], [[0, 0, 0]], 0.0)
