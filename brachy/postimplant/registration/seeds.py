"""Registration by the seeds themselves: the pose that most seeds agree on, refused where another is nearly as good."""

from collections.abc import Sequence
from typing import NoReturn

import numpy as np
from numpy.typing import ArrayLike, NDArray

from brachy.postimplant.matching import moved_by, rigid_fit
from brachy.postimplant.registration.figures import figures
from brachy.postimplant.registration.poses import Pose, find_poses
from brachy.postimplant.registration.transform import APART_MM, Registration, RegistrationError, farthest_mm

Float = NDArray[np.float64]

LEAST_SEEDS = 4
LEAST_SHARE = 0.5
"""Seeds, and share of the planned ones, that must be in place (engineering choice)."""

RIVAL = 0.85
"""A pose that explains this share of what the best one explains is nearly as good (engineering choice; measured on
synthetic implants, docs/verify.md)."""

MOST_ERROR_MM = 1.0
"""Expected error (RMS) at the worst placed planned seed above which the fit is refused (engineering choice: then about
one seed in twelve there is off by more than 1.5 mm, a normal deviate in three dimensions)."""

MOST_RESIDUAL_SHARE = 0.65
"""RMS distance of the seeds in place, as a share of the inlier radius, above which they are hardly nearer than partners
by chance, 0.77 (engineering choice)."""

REMEDY = "register by organ (contours of one organ on both CTs), by image (--planning-ct CASE) or with a transform file"


def by_seeds(planned_mm: ArrayLike, found_mm: ArrayLike) -> Registration:
    """Rigid transform that brings most planned seeds onto found ones, whatever was lost or migrated.

    Parameters
    ----------
    planned_mm, found_mm : (n, 3), (m, 3) arrays
        Seed centres, each in its own frame, mm; which belongs to which is not known.

    Raises
    ------
    BrachyError
        If fewer than half of the planned seeds, or than four, lie within the inlier radius of a found one; if the
        patient would be turned by more than 15 degrees; if a pose that differs by more than 3 mm at some seed explains
        nearly as much; if the seeds that match lie near one line, or scatter too widely; or if the expected error at a
        planned seed is above 1 mm.

    Notes
    -----
    The inlier radius and the prior of the turn are those of brachy/data/verification_uncertainty.toml. What the whole
    implant moved within the organ is taken for a move of the patient.

    Examples
    --------
    >>> rng = np.random.default_rng(1)
    >>> planned = rng.uniform(-25, 25, (30, 3))
    >>> found = by_seeds(planned, planned + [40.0, -3.0, 100.0])
    >>> found.residual_mm < 1e-6, np.round(found.transform[:3, 3])
    (True, array([ 40.,  -3., 100.]))
    """
    planned = np.asarray(planned_mm, dtype=np.float64).reshape(-1, 3)
    found = np.asarray(found_mm, dtype=np.float64).reshape(-1, 3)
    known = figures()
    radius, limit = known.inlier_mm, known.turn_deg
    poses = find_poses(planned, found, radius, limit)
    best = _best(poses, len(planned), radius, limit)
    _no_rival(best, poses, planned, limit)
    start, end = planned[best.pairs[:, 0]], found[best.pairs[:, 1]]
    _not_on_a_line(start, radius)
    matrix, residual = _fitted(start, end, np.radians(limit / 3.0))
    if residual > MOST_RESIDUAL_SHARE * radius:
        _refuse(
            f"the {len(start)} seeds that match scatter by {residual:.1f} mm, {MOST_RESIDUAL_SHARE * radius:.1f} mm at "
            "most are trusted"
        )
    error = _expected_error(start, planned, residual, known.seed_sd_mm, np.radians(limit / 3.0))
    if error > MOST_ERROR_MM:
        _refuse(
            f"the {len(start)} seeds that match leave {error:.1f} mm open at a planned seed, {MOST_ERROR_MM:g} mm at "
            "most are trusted"
        )
    note = (
        f"{len(start)} of {len(planned)} planned seeds within {radius:g} mm, {residual:.2f} mm RMS; expected error at "
        f"most {error:.2f} mm at a seed"
    )
    return Registration("seeds", matrix, residual, note, error_mm=error, uses_seeds=True)


def _refuse(reason: str) -> NoReturn:
    raise RegistrationError("registration by the seeds", reason, REMEDY)


def _best(poses: Sequence[Pose], count: int, radius_mm: float, limit_deg: float) -> Pose:
    """The best pose, if enough seeds are in place and the turn is possible."""
    least = max(LEAST_SEEDS, int(np.ceil(LEAST_SHARE * count)))
    matched = len(poses[0].pairs) if poses else 0
    if matched < least:
        _refuse(
            f"{matched} of {count} planned seeds find a partner within {radius_mm:g} mm, {least} are needed"
        )
    if poses[0].turn_deg > limit_deg:
        _refuse(
            f"the patient would be turned by {poses[0].turn_deg:.0f} degrees, {limit_deg:g} at most are taken for "
            "possible"
        )
    return poses[0]


def _no_rival(best: Pose, poses: Sequence[Pose], planned: Float, limit_deg: float) -> None:
    """Refuse where another possible pose explains the seeds nearly as well."""
    for pose in poses[1:]:
        if pose.gain < RIVAL * best.gain:
            return
        apart = farthest_mm(best.matrix, pose.matrix, planned)
        if apart > APART_MM and pose.turn_deg <= limit_deg:
            _refuse(
                f"two poses {apart:.0f} mm apart explain the seeds nearly equally well ({len(best.pairs)} and "
                f"{len(pose.pairs)} of {len(planned)} in place)"
            )


def _not_on_a_line(seeds: Float, radius_mm: float) -> None:
    """Refuse seeds that leave the turn about their common line open."""
    spread = np.linalg.svd(seeds - seeds.mean(axis=0), compute_uv=False)
    if np.sqrt((spread[1:] ** 2).sum() / len(seeds)) < radius_mm:
        _refuse(f"the {len(seeds)} seeds that match lie near one line, and the turn about it is open")


def _fitted(start: Float, end: Float, turn_sd: float) -> tuple[Float, float]:
    """Most probable pose of the pairs under the prior of the turn, and RMS distance of the pairs."""
    rms = _rms(rigid_fit(start, end), start, end)
    freedom = max(1.0 - 2.0 / len(start), 1.0 / len(start))  # three coordinates a seed, six are fitted
    variance = rms**2 / 3.0 / freedom
    matrix = rigid_fit(start, end, stiffness_mm2=variance / (2.0 * turn_sd**2))
    return matrix, _rms(matrix, start, end)


def _rms(matrix: Float, start: Float, end: Float) -> float:
    return float(np.sqrt(((moved_by(matrix, start) - end) ** 2).sum(axis=1).mean()))


def _expected_error(fitted: Float, at: Float, rms_mm: float, seed_sd_mm: float, turn_sd: float) -> float:
    """RMS error (mm) that the scatter of the fitted seeds leaves at the worst of some points.

    The variance of a seed along an axis is that of the residuals with six more observations of `seed_sd_mm`, so that a
    few pairs that happen to fit are not taken for exact.
    """
    count = len(fitted)
    variance = (count * rms_mm**2 + 6.0 * seed_sd_mm**2) / (3.0 * count)
    q = fitted - fitted.mean(axis=0)
    information = ((q**2).sum() * np.eye(3) - q.T @ q) / variance + np.eye(3) / turn_sd**2
    turning = np.linalg.inv(information)
    p = at - fitted.mean(axis=0)
    squared = 3.0 * variance / count + np.trace(turning) * (p**2).sum(axis=1)
    squared -= np.einsum("ni,ij,nj->n", p, turning, p)
    return float(np.sqrt(squared.max()))
