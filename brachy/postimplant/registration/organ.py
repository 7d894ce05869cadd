"""Registration by organ: the contours of one organ on both CTs, brought onto each other."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NoReturn

import numpy as np
from numpy.typing import ArrayLike, NDArray

from brachy.errors import BrachyError
from brachy.geometry.structures import Structure
from brachy.postimplant.matching import moved_by
from brachy.postimplant.registration.figures import Figures, figures
from brachy.postimplant.registration.transform import (
    APART_MM,
    Registration,
    RegistrationError,
    about,
    farthest_mm,
)

Float = NDArray[np.float64]

POINTS = 400
"""Surface points of each organ in the fit (engineering choice)."""

PIXELS = 64
MARGIN_MM = 20.0
"""Distances to a contour are tabulated on so many pixels across, of 1 to 4 mm, and so far round it (engineering
choice)."""

FAR_MM = 2000.0
"""Thickness given to a contour for distances within its plane; no image is as large."""

MOST_RESIDUAL_MM = 4.0
"""RMS distance of the surfaces above which the two are not the same organ in the same form (engineering choice)."""

LEAST_SHARES = (0.25, 0.5)
"""Shares of the two surfaces that must face contours of the other, the smaller and the larger (engineering choice)."""

HUBER_SD = 1.5
"""Residuals beyond this many SD weigh less (Huber, Ann. Math. Stat. 35, 73 (1964))."""

STEPS = 40
"""Gauss-Newton steps of a fit, at most; it ends earlier when a step moves the organ by less than 0.01 mm."""

REMEDY = "register by image (--planning-ct CASE), by the seeds or with a transform file"

STARTS = (
    ((0.0, 0.0, 0.0), (0.0, 0.0, 0.0)),
    ((6.0, -6.0, 6.0), (6.0, 0.0, -6.0)),
    ((-6.0, 6.0, -6.0), (-6.0, 6.0, 0.0)),
)
"""Shifts (mm) and turns (degrees about x, y, z) from which the fit starts again (engineering choice)."""

AS_GOOD = 1.05
"""A start that leaves an RMS distance above this times the least has ended in a local optimum (engineering choice)."""


@dataclass(frozen=True, eq=False)
class _Surface:
    """An organ's side wall: its contours and the surface between them, without what lies beyond the first and the last.

    Parameters
    ----------
    points : (n, 3) array
        On the contours, evenly along them, patient frame (LPS), mm.
    organ : Structure
        For its own frame.
    heights : (k,) array
        Of the contour planes in that frame, mm, ascending.
    origin, pitch : (2,) array and float
        First pixel of the table in a plane, and its size, mm.
    table : (k, nv, nu) array
        Distance to the contours of each plane within the plane, mm, negative inside.
    """

    points: Float
    organ: Structure
    heights: Float
    origin: Float
    pitch: float
    table: Float

    def faces(self, points: Float) -> NDArray[np.bool_]:
        """Whether points (n, 3) lie between the first and the last contour."""
        along = self.organ.to_local(points)[:, 2]
        return np.asarray((along >= self.heights[0]) & (along <= self.heights[-1]))

    def distance(self, points: Float) -> tuple[Float, Float]:
        """Signed distance (n,) of points to the wall, to first order, and its normal there (n, 3)."""
        local = self.organ.to_local(points)
        steps = np.concatenate([np.eye(3), -np.eye(3)])
        found = self._level(np.concatenate([local, *(local + step for step in steps)])).reshape(7, -1)
        gradient = 0.5 * (found[1:4] - found[4:]).T
        size = np.maximum(np.linalg.norm(gradient, axis=1), 0.5)
        return found[0] / size, (gradient / size[:, None]) @ self.organ.slab_stack.axes.T

    def _level(self, local: Float) -> Float:
        """In-plane distance, between two planes linear in height (shape-based interpolation)."""
        from scipy.ndimage import map_coordinates

        height = np.interp(local[:, 2], self.heights, np.arange(len(self.heights)))
        pixel = (local[:, :2] - self.origin) / self.pitch
        at = np.stack([height, pixel[:, 1], pixel[:, 0]])
        return np.asarray(map_coordinates(self.table, at, order=1, mode="nearest"))


def by_organ(
    planned: Structure,
    post: Structure,
    at_mm: ArrayLike | None = None,
    start: ArrayLike | None = None,
) -> Registration:
    """Rigid transform that brings the surface of an organ onto that of the same organ after the implant.

    Parameters
    ----------
    planned, post : Structure
        The organ on the planning CT and on the CT after the implant.
    at_mm : (n, 3) array, optional
        Where the transform is needed (planned seeds), on the planning CT; by default the corners of the organ's box.
    start : (4, 4) array, optional
        A first guess, plan to post, besides centre on centre and end on end.

    Returns
    -------
    Registration
        `residual_mm` is the RMS distance of the surfaces, `error_mm` what the form of the organ leaves open at `at_mm`.

    Raises
    ------
    BrachyError
        If the surfaces stay more than 4 mm apart (RMS), too little of one faces the other, the patient would be
        turned by more than 15 degrees, the form of the organ leaves more than 3 mm open at `at_mm`, or starts that
        fit as well end more than 3 mm apart there.

    Notes
    -----
    Least squares of the distances of contour points to the side wall of the other organ, both ways, with a Huber
    loss, and a normal prior of the turn about each axis of 5 degrees: a ball has no turn to find, and none is taken.
    Points beyond the other's first or last contour take no part: an organ may be scanned or contoured in part.

    Neighbouring points of a contour err together: the points count as one independent observation for each
    `contour_patch_mm2` of the surface.

    References
    ----------
    Between contours: Raya and Udupa, IEEE Trans. Med. Imaging 9, 32 (1990), doi:10.1109/42.52980.

    Examples
    --------
    >>> angle = np.linspace(0, 2 * np.pi, 40, endpoint=False)
    >>> ring = np.stack([20 * np.cos(angle), 12 * np.sin(angle), 0 * angle], axis=1)
    >>> organ = Structure("Liver", [np.sqrt(1 - (z / 20) ** 2) * ring + [0, 0, z] for z in range(-18, 19, 3)])
    >>> matrix = np.eye(4)
    >>> matrix[:3, 3] = [4, -3, 6]
    >>> found = by_organ(organ, organ.moved(matrix))
    >>> np.round(found.transform[:3, 3], 1)
    array([ 4., -3.,  6.])
    """
    for each in (planned, post):
        if each.is_empty:
            raise BrachyError(f"ROI '{each.name}' has no contour: name another for the registration by organ")
    known = figures()
    at = _corners(planned) if at_mm is None else np.asarray(at_mm, dtype=np.float64).reshape(-1, 3)
    pair = _Pair(_surface(planned), _surface(post), _patches(planned, post, known), known)
    guesses = (
        _guesses(planned, post)
        if start is None
        else [np.asarray(start, dtype=np.float64), *_guesses(planned, post)]
    )
    fits = sorted((_fitted(pair, guess) for guess in guesses), key=lambda fit: fit.rms_mm)
    for shift, turn in STARTS:
        again = fits[0].matrix @ about(planned.centroid_mm, turn)
        again[:3, 3] += shift
        fits.append(_fitted(pair, again))
    fits.sort(key=lambda fit: fit.rms_mm)
    return _trusted(fits, planned.name, at, known.turn_deg)


@dataclass(frozen=True, eq=False)
class _Pair:
    """The two surfaces, the number of independent observations they are worth, and the figures of uncertainty."""

    planned: _Surface
    post: _Surface
    patches: float
    known: Figures


@dataclass(frozen=True, eq=False)
class _Fit:
    """Where a fit ended: transform, RMS distance, shares of the surfaces that face each other, and covariance (6, 6) of
    turn (rad) and shift (mm) about `centre`.
    """

    matrix: Float
    rms_mm: float
    shares: tuple[float, float]
    covariance: Float
    centre: Float

    def error_mm(self, points_mm: Float) -> float:
        """Largest RMS error at points on the planning CT, mm."""
        arms = moved_by(self.matrix, points_mm) - self.centre
        moves = np.concatenate([-_cross(arms), np.broadcast_to(np.eye(3), (len(arms), 3, 3))], axis=2)
        squared = np.einsum("nij,jk,nik->n", moves, self.covariance, moves)
        return float(np.sqrt(squared.max()))


def _surface(organ: Structure) -> _Surface:
    """Points of the contours and tables of the distance to them."""
    planes = organ.planes()
    low, high = (
        organ.to_local(_corners(organ)).min(axis=0)[:2],
        organ.to_local(_corners(organ)).max(axis=0)[:2],
    )
    pitch = float(np.clip((high - low).max() / PIXELS, 1.0, 4.0))
    origin = low - MARGIN_MM
    u, v = (np.arange(0.0, high[k] + MARGIN_MM - origin[k] + pitch, pitch) + origin[k] for k in (0, 1))
    pixels = np.stack([*np.meshgrid(u, v), np.zeros((len(v), len(u)))], axis=2).reshape(-1, 3)
    heights, tables = [], []
    for plane in planes:
        alone = Structure(organ.name, plane.contours_mm, slice_spacing_mm=FAR_MM)
        height = float(organ.to_local(plane.centroid_mm)[2])
        places = organ.to_patient(pixels + [0.0, 0.0, height])
        heights.append(height)
        tables.append(alone.signed_distance_mm(places, FAR_MM / 4).reshape(len(v), len(u)))
    return _Surface(_points_on(organ), organ, np.array(heights), origin, pitch, np.stack(tables))


def _points_on(organ: Structure) -> Float:
    """Points (n, 3) evenly along all contours."""
    starts, ends = [], []
    for plane in organ.planes():
        for ring in plane.contours_mm:
            starts.append(ring)
            ends.append(np.roll(ring, -1, axis=0))
    start, end = np.concatenate(starts), np.concatenate(ends)
    reached = np.cumsum(np.linalg.norm(end - start, axis=1))
    wanted = (np.arange(POINTS) + 0.5) / POINTS * reached[-1]
    edge = np.searchsorted(reached, wanted)
    length = np.diff(reached, prepend=0.0)[edge]
    share = 1.0 - (reached[edge] - wanted) / np.maximum(length, 1e-12)
    return np.asarray(start[edge] + share[:, None] * (end - start)[edge])


def _patches(planned: Structure, post: Structure, known: Figures) -> float:
    """Independent observations that the smaller surface is worth."""
    areas = []
    for organ in (planned, post):
        areas.append(
            sum(
                plane.thickness_mm * float(np.linalg.norm(np.roll(ring, -1, axis=0) - ring, axis=1).sum())
                for plane in organ.planes()
                for ring in plane.contours_mm
            )
        )
    return max(1.0, min(areas) / known.contour_patch_mm2)


def _corners(organ: Structure) -> Float:
    box = organ.bounds_mm
    return np.array([[box[(i >> k) & 1, k] for k in range(3)] for i in range(8)])


def _guesses(planned: Structure, post: Structure) -> list[Float]:
    """Centre on centre, and from there the lowest or the highest contours on each other."""
    whence, where = planned.planes(), post.planes()
    normal = post.normal
    shifts = [post.centroid_mm - planned.centroid_mm]
    for end in (0, -1):
        along = float((where[end].centroid_mm - whence[end].centroid_mm - shifts[0]) @ normal)
        shifts.append(shifts[0] + along * normal)
    guesses = []
    for shift in shifts:
        matrix = np.eye(4)
        matrix[:3, 3] = shift
        guesses.append(matrix)
    return guesses


def _fitted(pair: _Pair, guess: Float) -> _Fit:
    """Gauss-Newton steps from a guess to the most probable transform."""
    known = pair.known
    turn_sd, contour_sd = np.radians(known.turn_deg / 3.0), known.contour_sd_mm
    centre = moved_by(guess, pair.planned.points).mean(axis=0)
    reach = float(np.linalg.norm(pair.planned.points - pair.planned.points.mean(axis=0), axis=1).max())
    matrix, best = guess, None
    for _ in range(STEPS):
        distance, rows, shares = _residuals(pair, matrix, centre)
        rms = float(np.sqrt((distance**2).mean())) if len(distance) else np.inf
        sd = max(contour_sd, rms)
        weight = np.minimum(1.0, HUBER_SD * sd / np.maximum(np.abs(distance), 1e-12))
        weight *= pair.patches / max(len(distance), 1) / sd**2
        information = (rows * weight[:, None]).T @ rows
        information[:3, :3] += np.eye(3) / turn_sd**2
        information += 1e-9 * np.eye(6)  # what nothing fixes is uncertain, not an error
        pull = (rows * weight[:, None]).T @ distance
        pull[:3] += _vector(matrix) / turn_sd**2
        if best is None or rms < best.rms_mm:
            best = _Fit(matrix, rms, shares, np.asarray(np.linalg.inv(information), dtype=np.float64), centre)
        step = np.asarray(-np.linalg.solve(information, pull), dtype=np.float64)
        matrix = _stepped(matrix, step, centre)
        if np.linalg.norm(step[3:]) + reach * np.linalg.norm(step[:3]) < 0.01:
            break
    assert best is not None
    return best


def _residuals(pair: _Pair, matrix: Float, centre: Float) -> tuple[Float, Float, tuple[float, float]]:
    """Distances (n,) of facing points to the other surface, rows (n, 6) of their change with turn and shift, shares."""
    back = np.linalg.inv(matrix)
    there, here = moved_by(matrix, pair.planned.points), moved_by(back, pair.post.points)
    facing = pair.post.faces(there), pair.planned.faces(here)
    forward, outward = pair.post.distance(there[facing[0]])
    backward, inward = pair.planned.distance(here[facing[1]])
    # a body that moves toward a point does what the point would do moving against it
    normals = np.concatenate([outward, -inward @ matrix[:3, :3].T])
    arms = np.concatenate([there[facing[0]], pair.post.points[facing[1]]]) - centre
    rows = np.concatenate([np.cross(arms, normals), normals], axis=1)
    return np.concatenate([forward, backward]), rows, (float(facing[0].mean()), float(facing[1].mean()))


def _stepped(matrix: Float, step: Float, centre: Float) -> Float:
    """The transform followed by a small turn about `centre` and a shift."""
    from scipy.spatial.transform import Rotation

    turn = Rotation.from_rotvec(step[:3]).as_matrix()
    moved = np.eye(4)
    moved[:3, :3] = turn
    moved[:3, 3] = centre - turn @ centre + step[3:]
    return np.asarray(moved @ matrix)


def _vector(matrix: Float) -> Float:
    """Rotation vector (3,), rad."""
    from scipy.spatial.transform import Rotation

    return np.asarray(Rotation.from_matrix(matrix[:3, :3]).as_rotvec())


def _cross(arms: Float) -> Float:
    """Matrices (n, 3, 3) of the cross product with each arm from the left."""
    return np.stack([np.cross(arms, unit) for unit in np.eye(3)], axis=2)


def _trusted(fits: Sequence[_Fit], name: str, at: Float, limit_deg: float) -> Registration:
    """The best fit as a registration, if it can be trusted."""
    best = fits[0]
    if not np.isfinite(best.rms_mm) or (min(best.shares), max(best.shares)) < LEAST_SHARES:
        _refuse(name, "too little of its contours on one CT faces those on the other")
    if best.rms_mm > MOST_RESIDUAL_MM:
        _refuse(
            name,
            f"its surfaces stay {best.rms_mm:.1f} mm apart (RMS), {MOST_RESIDUAL_MM:g} mm at most are trusted",
        )
    degrees = float(np.degrees(np.linalg.norm(_vector(best.matrix))))
    if degrees > limit_deg:
        _refuse(
            name,
            f"the patient would be turned by {degrees:.0f} degrees, {limit_deg:g} at most are taken for possible",
        )
    error = best.error_mm(at)
    for other in fits[1:]:
        if other.rms_mm <= AS_GOOD * best.rms_mm + 1e-3:
            error = max(error, farthest_mm(best.matrix, other.matrix, at))
    if error > APART_MM:
        _refuse(
            name, f"its form leaves {error:.1f} mm open at the seeds, {APART_MM:g} mm at most are trusted"
        )
    note = (
        f"surfaces of '{name}' {best.rms_mm:.2f} mm apart (RMS); turned by {degrees:.1f} degrees; expected error at "
        f"most {error:.2f} mm at a seed"
    )
    return Registration("organ", best.matrix, best.rms_mm, note, error_mm=error)


def _refuse(name: str, reason: str) -> NoReturn:
    raise RegistrationError(f"registration by organ '{name}'", reason, REMEDY)
