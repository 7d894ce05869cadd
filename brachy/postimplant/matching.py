"""Matching of planned and found seeds: one-to-one assignment within a gate, and the shifts.

A seed is matched to at most one other and never across more than the gate, so that a lost or migrated seed is
missing or extra and never a displacement of several centimetres.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from brachy.errors import UsageError
from brachy.postimplant.record import ShiftStatistics

Float = NDArray[np.float64]
Int = NDArray[np.int64]

GATE_MM = 10.0
"""Farthest that a seed is followed once the shift of the whole implant is taken away (engineering choice: twice the
smallest distance of two seeds, 5 mm)."""

VOTE_MM = 2.0
"""Two pairs of seeds that ask for shifts this near agree on a shift of the whole implant (engineering choice)."""


@dataclass(frozen=True, eq=False)
class Matching:
    """Result of a matching.

    Parameters
    ----------
    pairs : (k, 2) int array
        Index of the planned and of the found seed of each pair, by planned index.
    missing, extra : (m,) int arrays
        Planned seeds without a found one; found seeds without a planned one.
    shift_mm : (3,) array
        Shift of the whole implant that was taken away before the pairs were chosen.
    """

    pairs: Int
    missing: Int
    extra: Int
    shift_mm: Float


def assign(planned_mm: ArrayLike, found_mm: ArrayLike, gate_mm: float = GATE_MM) -> Matching:
    """One-to-one assignment of least sum of squared distances; a pair farther apart than the gate is none.

    Parameters
    ----------
    planned_mm, found_mm : (n, 3), (m, 3) arrays
        Positions in one frame, mm.
    gate_mm : float
        An unmatched seed costs half the square of the gate, so that no pair beyond it is ever worth while.

    Raises
    ------
    UsageError
        If the gate is not positive.

    Examples
    --------
    >>> found = assign([[0, 0, 0], [0, 0, 10], [0, 0, 20]], [[0, 0, 11], [60, 0, 20], [0, 1, 0]])
    >>> found.pairs.tolist(), found.missing.tolist(), found.extra.tolist()
    ([[0, 2], [1, 0]], [2], [1])
    """
    from scipy.optimize import linear_sum_assignment

    if not gate_mm > 0:
        raise UsageError(f"gate {gate_mm:g} mm: give a distance above 0")
    planned, found = _positions(planned_mm), _positions(found_mm)
    n, m = len(planned), len(found)
    squared = ((planned[:, None] - found[None]) ** 2).sum(axis=2)
    big = 1e6 * gate_mm**2
    cost = np.full((n + m, n + m), big)
    cost[:n, :m] = np.where(squared <= gate_mm**2, squared, big)
    cost[np.arange(n), m + np.arange(n)] = 0.5 * gate_mm**2
    cost[n + np.arange(m), np.arange(m)] = 0.5 * gate_mm**2
    cost[n:, m:] = 0.0
    rows, columns = linear_sum_assignment(cost)
    real = (rows < n) & (columns < m)
    pairs = np.column_stack([rows[real], columns[real]]).astype(np.int64)
    missing = np.setdiff1d(np.arange(n), pairs[:, 0]).astype(np.int64)
    extra = np.setdiff1d(np.arange(m), pairs[:, 1]).astype(np.int64)
    return Matching(pairs, missing, extra, np.zeros(3))


def common_shift(planned_mm: ArrayLike, found_mm: ArrayLike, reach_mm: float = np.inf) -> tuple[Float, int]:
    """Shift (3,) of the whole implant on which most pairs of seeds agree, and how many planned seeds agree.

    Every planned and found seed ask for one shift; the place where most of them fall within `VOTE_MM` wins. Lost
    and migrated seeds ask for others and change nothing. Rows of equally spaced seeds also agree on shifts by one
    spacing, but with fewer votes, since the seeds at their ends find no partner.

    Examples
    --------
    >>> planned = np.array([[0, 0, 0], [0, 0, 5], [0, 0, 10], [10, 0, 0], [10, 0, 7.0]])
    >>> shift, votes = common_shift(planned, planned + [4, 0, 4])
    >>> shift.tolist(), votes
    ([4.0, 0.0, 4.0], 5)
    """
    from scipy.spatial import cKDTree

    planned, found = _positions(planned_mm), _positions(found_mm)
    asked = (found[None] - planned[:, None]).reshape(-1, 3)
    of_planned = np.repeat(np.arange(len(planned)), len(found))
    near = (asked**2).sum(axis=1) <= reach_mm**2
    asked, of_planned = asked[near], of_planned[near]
    if not len(asked):
        return np.zeros(3), 0
    tree = cKDTree(asked)
    counts = tree.query_ball_point(asked, VOTE_MM, return_length=True)
    most = int(counts.max())
    # of equally many the shortest: what did not move is not said to have moved
    best = min(np.flatnonzero(counts >= most), key=lambda i: (float((asked[i] ** 2).sum()), int(i)))
    chosen = tree.query_ball_point(asked[best], VOTE_MM)
    # a median a component: one seed off does not draw it
    return np.median(asked[chosen], axis=0), len(set(of_planned[chosen].tolist()))


def match(planned_mm: ArrayLike, found_mm: ArrayLike, gate_mm: float = GATE_MM) -> Matching:
    """Match found seeds to planned ones, following the implant where it moved as a whole.

    Parameters
    ----------
    planned_mm, found_mm : (n, 3), (m, 3) arrays
        Positions in one frame, mm.
    gate_mm : float
        Farthest that a seed is followed beyond the common shift. The common shift itself is at most this long.

    Returns
    -------
    Matching
        Of staying where they are and the eight shifts on which most pairs of seeds agree, each bettered by the median
        of what is left, the one after which the assignment costs least.

    Examples
    --------
    >>> planned = [[0, 0, 0], [0, 0, 5], [0, 0, 10], [0, 0, 15]]
    >>> found = [[0, 0, 9], [0, 0, 14], [0, 0, 19]]  # all moved by 4 mm, the first was lost
    >>> match(planned, found).missing.tolist()
    [0]
    """
    planned, found = _positions(planned_mm), _positions(found_mm)
    best, least = assign(planned, found, gate_mm), np.inf
    for start in (np.zeros(3), *_asked_shifts(planned, found, gate_mm)):
        shift = start
        for _ in range(3):
            pairs = assign(planned + shift, found, gate_mm).pairs
            if not len(pairs):
                break
            better = np.median(found[pairs[:, 1]] - planned[pairs[:, 0]], axis=0)
            if np.linalg.norm(better) > gate_mm or np.array_equal(better, shift):
                break
            shift = better
        tried = assign(planned + shift, found, gate_mm)
        apart = found[tried.pairs[:, 1]] - planned[tried.pairs[:, 0]] - shift
        alone = len(tried.missing) + len(tried.extra)
        # a shift is paid for as if it were one more seed's, so that of equals the shorter wins
        cost = float((apart**2).sum() + (shift**2).sum()) + 0.5 * gate_mm**2 * alone
        if cost < least - 1e-9:
            best, least = Matching(tried.pairs, tried.missing, tried.extra, shift), cost
    return best


def _asked_shifts(planned: Float, found: Float, reach_mm: float, most: int = 8) -> list[Float]:
    """Shifts on which many pairs of seeds agree, at least `VOTE_MM` apart, those with most votes first."""
    from scipy.spatial import cKDTree

    asked = (found[None] - planned[:, None]).reshape(-1, 3)
    asked = asked[(asked**2).sum(axis=1) <= reach_mm**2]
    if not len(asked):
        return []
    counts = cKDTree(asked).query_ball_point(asked, VOTE_MM, return_length=True)
    chosen: list[Float] = []
    for k in np.argsort(-counts, kind="stable").tolist():
        if all(np.linalg.norm(asked[k] - other) > VOTE_MM for other in chosen):
            chosen.append(asked[k])
        if len(chosen) == most:
            break
    return chosen


@dataclass(frozen=True, eq=False)
class Shifts:
    """How matched seeds moved, a row a pair.

    Parameters
    ----------
    vector_mm : (k, 3) array
        Found minus planned position.
    distance_mm, along_mm, across_mm : (k,) arrays
        Its length, its part along the planned axis (positive toward the tip), and the distance from that axis. NaN
        where the planned seed has no axis.
    angle_deg : (k,) array
        Between the planned and the found axis, 0 to 90; NaN where one is unknown.
    """

    vector_mm: Float
    distance_mm: Float
    along_mm: Float
    across_mm: Float
    angle_deg: Float


def shifts(
    planned_mm: ArrayLike,
    found_mm: ArrayLike,
    planned_axes: ArrayLike | None = None,
    found_axes: ArrayLike | None = None,
) -> Shifts:
    """Shift of each found seed from its planned place, along and across the needle, and the angle.

    Parameters
    ----------
    planned_mm, found_mm : (k, 3) arrays
        Row i of one belongs to row i of the other, mm.
    planned_axes, found_axes : (k, 3) arrays, optional
        Unit vectors; a planned one points from skin to tip. Rows of NaN are unknown.

    Examples
    --------
    >>> moved = shifts([[0, 0, 0]], [[3, 0, 4]], [[0, 0, 1]], [[0, 1, 0]])
    >>> moved.distance_mm, moved.along_mm, moved.across_mm, moved.angle_deg
    (array([5.]), array([4.]), array([3.]), array([90.]))
    """
    vector = _positions(found_mm) - _positions(planned_mm)
    distance = np.linalg.norm(vector, axis=1)
    unknown = np.full(len(vector), np.nan)
    along, across, angle = unknown, unknown.copy(), unknown.copy()
    if planned_axes is not None:
        axes = _positions(planned_axes)
        along = (vector * axes).sum(axis=1)
        across = np.linalg.norm(vector - along[:, None] * axes, axis=1)
        if found_axes is not None:
            cosine = np.abs((axes * _positions(found_axes)).sum(axis=1))
            angle = np.degrees(np.arccos(np.clip(cosine, 0.0, 1.0)))
    return Shifts(vector, distance, along, across, angle)


def statistics(moved: Shifts, rows: Sequence[int] | Int | None = None) -> ShiftStatistics:
    """Mean, SD, largest and systematic part of the shifts of some pairs.

    Parameters
    ----------
    moved : Shifts
        Of all pairs.
    rows : sequence of int, optional
        Which of them; all by default.

    Returns
    -------
    ShiftStatistics
        `mean_mm`, `sd_mm` and `max_mm` of the distances, the same along and across the needle, angles where known, the
        mean vector, and the root mean square of the vectors without it. Without a pair only `seeds`, 0, is given.

    Examples
    --------
    >>> found = statistics(shifts([[0, 0, 0], [5, 0, 0]], [[2, 0, 1], [7, 0, -1]]))
    >>> found.systematic_mm, found.random_mm
    ((2.0, 0.0, 0.0), 1.0)
    """
    chosen = np.arange(len(moved.distance_mm)) if rows is None else np.asarray(rows, dtype=np.int64)
    if not len(chosen):
        return ShiftStatistics(seeds=0)
    vectors = moved.vector_mm[chosen]
    systematic = vectors.mean(axis=0)
    angles = moved.angle_deg[chosen]
    known = _spread("", moved.distance_mm[chosen])
    known |= _spread("along_", moved.along_mm[chosen]) | _spread("across_", moved.across_mm[chosen])
    if np.isfinite(angles).any():
        known["angle_mean_deg"] = float(np.nanmean(angles))
        known["angle_max_deg"] = float(np.nanmax(angles))
    return ShiftStatistics.model_validate(
        {
            "seeds": len(chosen),
            **known,
            "systematic_mm": systematic.tolist(),
            "random_mm": float(np.sqrt(((vectors - systematic) ** 2).sum(axis=1).mean())),
        }
    )


def _spread(prefix: str, values: Float) -> dict[str, float | None]:
    known = values[np.isfinite(values)]
    if not len(known):
        return {}
    return {
        f"{prefix}mean_mm": float(known.mean()),
        f"{prefix}sd_mm": float(known.std(ddof=1)) if len(known) > 1 else None,
        f"{prefix}max_mm": float(known[np.argmax(np.abs(known))]),
    }


def rigid_fit(from_mm: ArrayLike, to_mm: ArrayLike, stiffness_mm2: float = 0.0) -> Float:
    """Rigid 4 x 4 matrix that brings points (k, 3) nearest to others (k, 3), least squares.

    Parameters
    ----------
    from_mm, to_mm : (k, 3) arrays
        Row i of one belongs to row i of the other, mm.
    stiffness_mm2 : float
        Resistance to turning: variance of a point along an axis / (2 x variance of the turn about an axis, rad^2) makes
        the fit the most probable one under a matrix Fisher prior about no turn.

    Raises
    ------
    UsageError
        If the two differ in number or there are fewer than three.

    References
    ----------
    Kabsch, Acta Cryst. A 32, 922 (1976), doi:10.1107/S0567739476001873. Khatri and Mardia, J. R. Stat. Soc. B 39, 95
    (1977): the matrix von Mises-Fisher distribution.

    Examples
    --------
    >>> corners = np.eye(3)
    >>> np.round(rigid_fit(corners, corners + [1, 2, 3]), 9)[:3, 3]
    array([1., 2., 3.])
    """
    start, end = _positions(from_mm), _positions(to_mm)
    if len(start) != len(end) or len(start) < 3:
        raise UsageError(f"a rigid fit needs three pairs of points or more, not {len(start)} and {len(end)}")
    middle, aim = start.mean(axis=0), end.mean(axis=0)
    left, _, right = np.linalg.svd((start - middle).T @ (end - aim) + stiffness_mm2 * np.eye(3))
    sign = np.sign(np.linalg.det(right.T @ left.T))
    turn = right.T @ np.diag([1.0, 1.0, sign]) @ left.T
    matrix = np.eye(4)
    matrix[:3, :3] = turn
    matrix[:3, 3] = aim - turn @ middle
    return matrix


def moved_by(matrix: ArrayLike, points_mm: ArrayLike) -> Float:
    """Points (n, 3) moved by a rigid 4 x 4 matrix.

    Examples
    --------
    >>> moved_by(np.eye(4), [[1, 2, 3]])
    array([[1., 2., 3.]])
    """
    transform = np.asarray(matrix, dtype=np.float64)
    return _positions(points_mm) @ transform[:3, :3].T + transform[:3, 3]


def _positions(points_mm: ArrayLike) -> Float:
    return np.asarray(points_mm, dtype=np.float64).reshape(-1, 3)
