"""Search for the poses of one set of seeds on another, whatever was lost, migrated or added.

The gain of a pose is the sum over matched pairs of 1 - (d / r)^2: d is their distance, r the inlier radius, and the
one-to-one matching is the one that makes it largest. A seed in its place counts 1, one at the radius or lost 0.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from brachy.postimplant.matching import moved_by, rigid_fit

Float = NDArray[np.float64]
Int = NDArray[np.int64]

SHIFTS = 8
"""Shifts that are followed from each turn (engineering choice)."""

FULLEST = 32
"""Cells of asked shifts, those with most pairs, among which these are chosen (engineering choice)."""

STARTS = 150
KEPT = 60
"""Poses that are refined roughly, and of these finely, the best first (engineering choice)."""

STEP_DEG = (5.0, 9.0)
"""Least and largest step between the turns tried; within these it follows from the size of the implant (engineering
choice)."""


@dataclass(frozen=True, eq=False)
class Pose:
    """One way in which planned seeds may lie on found ones.

    Parameters
    ----------
    matrix : (4, 4) array
        Planned to found, rigid, mm.
    gain : float
        Number of seeds in place, less for those off by a part of the inlier radius.
    pairs : (k, 2) int array
        Planned and found index of each seed that counts.
    """

    matrix: Float
    gain: float
    pairs: Int

    @property
    def turn_deg(self) -> float:
        """Angle of the rotation."""
        cosine = 0.5 * (float(np.trace(self.matrix[:3, :3])) - 1.0)
        return float(np.degrees(np.arccos(np.clip(cosine, -1.0, 1.0))))


def find_poses(
    planned_mm: ArrayLike, found_mm: ArrayLike, radius_mm: float, limit_deg: float
) -> tuple[Pose, ...]:
    """Local optima of the gain over shifts of any length and turns up to a limit, the best first.

    Parameters
    ----------
    planned_mm, found_mm : (n, 3), (m, 3) arrays
        Seed centres, each in its own frame, mm.
    radius_mm : float
        Inlier radius.
    limit_deg : float
        Largest turn from which the search starts; a pose may end somewhat beyond it.

    Returns
    -------
    tuple of Pose
        Every two differ by more than a tenth of the radius at some seed. Empty if a set has fewer than three seeds.

    Notes
    -----
    From each turn of a lattice of rotation vectors, the shifts on which most pairs of seeds agree are starts. All
    starts are refined together by weighted rigid fits with a shrinking radius; those that meet are merged.

    Examples
    --------
    >>> rng = np.random.default_rng(1)
    >>> planned = rng.uniform(-25, 25, (20, 3))
    >>> best, rival, *_ = find_poses(planned, planned + [40.0, -3.0, 100.0], 3.0, 10.0)
    >>> round(best.gain, 6), bool(rival.gain < 12)
    (20.0, True)
    """
    planned = np.asarray(planned_mm, dtype=np.float64).reshape(-1, 3)
    found = np.asarray(found_mm, dtype=np.float64).reshape(-1, 3)
    if min(len(planned), len(found)) < 3:
        return ()
    middle = planned.mean(axis=0)
    seeds = planned - middle
    turn, shift = _starts(seeds, found, radius_mm, limit_deg)
    wide = radius_mm * np.array([2.0, 1.6, 1.3])
    for apart, most, radii in (
        (1.5 * radius_mm, STARTS, wide),
        (0.3 * radius_mm, KEPT, [wide[-1], *[radius_mm] * 6]),
        (0.1 * radius_mm, KEPT, []),
    ):
        gain = _rough_gain(seeds, found, turn, shift, 2.0 * radius_mm if most == STARTS else radius_mm)
        best = _distinct(seeds, turn, shift, gain, apart, most)
        turn, shift = _refined(seeds, found, turn[best], shift[best], radii)
    poses = [
        _settled(planned, found, _matrix(a, b - a @ middle), radius_mm)
        for a, b in zip(turn, shift, strict=True)
    ]
    return tuple(sorted(poses, key=lambda pose: -pose.gain))


def turns_within(limit_deg: float, step_deg: float) -> Float:
    """Rotation matrices (k, 3, 3) up to an angle, on a body-centred cubic lattice of rotation vectors.

    Examples
    --------
    >>> turns_within(4.0, 5.0).tolist()
    [[[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]]
    """
    from scipy.spatial.transform import Rotation

    n = int(limit_deg / step_deg) + 1
    cubic = step_deg * np.mgrid[-n : n + 1, -n : n + 1, -n : n + 1].reshape(3, -1).T
    vectors = np.concatenate([cubic, cubic + 0.5 * step_deg])
    near = np.linalg.norm(vectors, axis=1) <= limit_deg + 1e-9
    return np.asarray(Rotation.from_rotvec(np.radians(vectors[near])).as_matrix())


def _starts(seeds: Float, found: Float, radius_mm: float, limit_deg: float) -> tuple[Float, Float]:
    """Turns (k, 3, 3) and shifts (k, 3) from which poses are refined; `seeds` are about their centre."""
    reach = float(np.linalg.norm(seeds, axis=1).max())
    # a lattice of this step leaves the outermost seed within 0.8 radii of its place
    step = float(np.clip(np.degrees(1.4 * radius_mm / max(reach, radius_mm)), *STEP_DEG))
    turns = turns_within(limit_deg, step)
    shifts = [_voted_shifts(seeds @ turn.T, found, radius_mm) for turn in turns]
    return np.repeat(turns, [len(each) for each in shifts], axis=0), np.concatenate(shifts)


def _voted_shifts(turned: Float, found: Float, radius_mm: float) -> Float:
    """Shifts (k, 3) that most pairs of seeds ask for, more than the radius apart."""
    from scipy.spatial import cKDTree

    asked = (found[None] - turned[:, None]).reshape(-1, 3)
    cell = np.floor((asked - asked.min(axis=0)) / radius_mm).astype(np.int64)
    _, which, count = np.unique(cell, axis=0, return_inverse=True, return_counts=True)
    fullest = np.argsort(-count, kind="stable")[:FULLEST]
    places = np.stack(
        [np.bincount(which.ravel(), asked[:, k])[fullest] / count[fullest] for k in range(3)], axis=1
    )
    tree = cKDTree(asked)
    places = np.array(
        [
            asked[near].mean(axis=0) if near else place
            for place, near in zip(places, tree.query_ball_point(places, radius_mm), strict=True)
        ]
    )
    wide = 1.5 * radius_mm
    votes = [
        float((1.0 - ((asked[near] - place) ** 2).sum(axis=1) / wide**2).sum())
        for place, near in zip(places, tree.query_ball_point(places, wide), strict=True)
    ]
    chosen: list[Float] = []
    for k in np.argsort(-np.array(votes), kind="stable").tolist():
        if all(((places[k] - other) ** 2).sum() > radius_mm**2 for other in chosen):
            chosen.append(places[k])
        if len(chosen) == SHIFTS:
            break
    return np.array(chosen)


def _nearness(seeds: Float, found: Float, turn: Float, shift: Float, radius_mm: float) -> Float:
    """1 - (d / r)^2 of each pose, planned and found seed, (k, n, m); 0 beyond the radius."""
    at = seeds @ turn.transpose(0, 2, 1) + shift[:, None]
    centre = found.mean(axis=0)  # squares of small numbers: images may lie far from the origin
    at, other = at - centre, found - centre
    squared = (at**2).sum(axis=2)[:, :, None] + (other**2).sum(axis=1) - 2.0 * at @ other.T
    return np.asarray(np.maximum(0.0, 1.0 - squared / radius_mm**2))


def _rough_gain(seeds: Float, found: Float, turn: Float, shift: Float, radius_mm: float) -> Float:
    """Gain (k,) with nearest neighbours in place of the one-to-one matching; never below it."""
    near = _nearness(seeds, found, turn, shift, radius_mm)
    return np.asarray(np.minimum(near.max(axis=2).sum(axis=1), near.max(axis=1).sum(axis=1)))


def _distinct(seeds: Float, turn: Float, shift: Float, gain: Float, apart_mm: float, most: int) -> list[int]:
    """Poses, the best first, that differ from every better one by more than a distance at some seed."""
    at = seeds @ turn.transpose(0, 2, 1) + shift[:, None]
    chosen: list[int] = []
    for k in np.argsort(-gain, kind="stable").tolist():
        apart = ((at[chosen] - at[k]) ** 2).sum(axis=2).max(axis=1)
        if (apart > apart_mm**2).all():
            chosen.append(k)
        if len(chosen) == most:
            break
    return chosen


def _refined(
    seeds: Float, found: Float, turn: Float, shift: Float, radii: Sequence[float] | Float
) -> tuple[Float, Float]:
    """Poses after a weighted rigid fit at each radius."""
    centre = found.mean(axis=0)
    for radius in radii:
        weight = _nearness(seeds, found, turn, shift, radius)
        # shared among neighbours, so that no seed weighs more than one
        shared = np.maximum(weight.sum(axis=1, keepdims=True), weight.sum(axis=2, keepdims=True))
        weight /= np.maximum(1.0, shared)
        total = np.maximum(weight.sum(axis=(1, 2)), 1e-9)[:, None]
        start = weight.sum(axis=2) @ seeds / total
        end = weight.sum(axis=1) @ (found - centre) / total
        cross = seeds.T @ (weight @ (found - centre)) - total[:, :, None] * start[:, :, None] * end[:, None]
        left, _, right = np.linalg.svd(cross)
        left[:, :, 2] *= np.linalg.det(left @ right)[:, None]
        turn = (left @ right).transpose(0, 2, 1)
        shift = end + centre - (turn @ start[:, :, None])[:, :, 0]
    return turn, shift


def _settled(planned: Float, found: Float, matrix: Float, radius_mm: float) -> Pose:
    """The pose after one-to-one matchings and fits in turn, as long as the gain grows."""
    from scipy.optimize import linear_sum_assignment

    best = Pose(matrix, -1.0, np.zeros((0, 2), dtype=np.int64))
    while True:
        apart = ((moved_by(matrix, planned)[:, None] - found) ** 2).sum(axis=2)
        near = np.maximum(0.0, 1.0 - apart / radius_mm**2)
        pairs = np.column_stack(linear_sum_assignment(-near)).astype(np.int64)
        pairs = pairs[near[pairs[:, 0], pairs[:, 1]] > 0]
        gain = float(near[pairs[:, 0], pairs[:, 1]].sum())
        if gain <= best.gain + 1e-9:
            return best
        best = Pose(matrix, gain, pairs)
        if len(pairs) < 3:
            return best
        matrix = rigid_fit(planned[pairs[:, 0]], found[pairs[:, 1]])


def _matrix(turn: Float, shift: Float) -> Float:
    matrix = np.eye(4)
    matrix[:3, :3], matrix[:3, 3] = turn, shift
    return matrix
