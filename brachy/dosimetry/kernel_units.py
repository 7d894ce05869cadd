"""From the units of the public functions to those of the kernels: mm to cm about an anchor, float64 to float32.

The dose depends on distances alone. Coordinates about an anchor that moves with the seeds keep their digits in single
precision, and a moved patient gets the same dose to the last bit.
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import ArrayLike, NDArray

from brachy.dosimetry.implant import Implant
from brachy.errors import BrachyError
from brachy.units import total_dose_hours

Float = NDArray[np.float64]

GY_PER_CGY = 0.01
CM_PER_MM = 0.1


def checked_points(points_mm: ArrayLike) -> Float:
    """Points as a contiguous (n, 3) float64 array, mm.

    Raises
    ------
    BrachyError
        If they are not (n, 3) numbers.

    Examples
    --------
    >>> checked_points([[1, 2, 3]])
    array([[1., 2., 3.]])
    """
    points = np.ascontiguousarray(points_mm, dtype=np.float64)
    if points.ndim != 2 or points.shape[1] != 3:
        raise BrachyError(f"points of shape {points.shape}: give (n, 3) positions x, y, z in mm")
    if not np.isfinite(points).all():
        raise BrachyError("a point is not a number: give x, y, z in mm")
    return points


def relative_cm(points_mm: Float, anchor_mm: Float) -> Float:
    """Coordinates about an anchor in cm, to 2^-20 mm: the same bits wherever everything is moved to.

    Examples
    --------
    >>> relative_cm(np.array([[30.0, 0, 0]]), np.array([10.0, 0, 0]))
    array([[2., 0., 0.]])
    """
    return np.round((points_mm - anchor_mm) * 2.0**20) / 2.0**20 * CM_PER_MM


def single_precision(array: ArrayLike) -> NDArray[np.float32]:
    """A contiguous float32 array.

    Examples
    --------
    >>> single_precision([1, 2]).dtype
    dtype('float32')
    """
    return np.ascontiguousarray(array, dtype=np.float32)


def seeds_for_kernel(
    implant: Implant, anchor_mm: Float, direction: Float | None
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
    """Positions (n, 3) in cm about the anchor, axes (n, 3), zero where unknown, and strengths (n,) in U.

    Positions and axes are turned into the frame whose axes are the columns of `direction` (3, 3), where that is given.

    Examples
    --------
    >>> from brachy.dosimetry.source import load_source
    >>> seed = Implant(load_source("amersham_6711"), [[0, 0, 10]], axes=[0, 0, 1], strength_U=1.0)
    >>> turned = np.array([[0.0, 1, 0], [0, 0, 1], [1, 0, 0]])  # its first column is the patient's z
    >>> [part.tolist() for part in seeds_for_kernel(seed, np.zeros(3), turned)]
    [[[1.0, 0.0, 0.0]], [[1.0, 0.0, 0.0]], [1.0]]
    """
    positions = relative_cm(implant.positions_mm, anchor_mm)
    axes = np.zeros_like(positions) if implant.axes is None else implant.axes
    if direction is not None:
        positions, axes = positions @ direction, axes @ direction
    return single_precision(positions), single_precision(axes), single_precision(implant.strength_U)


def gy_per_rate(implant: Implant, days: float | None = None) -> float:
    """Gy that an initial dose rate of 1 cGy/h gives in so many days; None: to complete decay.

    Examples
    --------
    >>> from brachy.dosimetry.source import load_source
    >>> seed = Implant(load_source("amersham_6711"), [[0, 0, 0]], strength_U=1.0)
    >>> round(gy_per_rate(seed), 4), round(gy_per_rate(seed, days=59.4), 4)
    (20.5671, 10.2835)
    """
    return total_dose_hours(implant.half_life_days, days) * GY_PER_CGY


def seed_by_seed(implant: Implant) -> Iterator[Implant]:
    """Each seed as an implant of its own, in their order.

    Examples
    --------
    >>> from brachy.dosimetry.source import load_source
    >>> seeds = Implant(load_source("amersham_6711"), [[0, 0, 0], [0, 0, 10]], strength_U=[1.0, 2.0])
    >>> [float(one.strength_U[0]) for one in seed_by_seed(seeds)]
    [1.0, 2.0]
    """
    for row in range(len(implant)):
        yield Implant(
            implant.source,
            implant.positions_mm[row : row + 1],
            axes=None if implant.axes is None else implant.axes[row : row + 1],
            strength_U=implant.strength_U[row],
            half_life_days=implant.half_life_days,
        )


def farthest_mm(points_mm: Float, implant: Implant) -> float:
    """No point (n, 3) is farther than this from any seed, mm: the farthest corners of the boxes round the two.

    Examples
    --------
    >>> from brachy.dosimetry.source import load_source
    >>> seed = Implant(load_source("amersham_6711"), [[0, 0, 0]], strength_U=1.0)
    >>> farthest_mm(np.array([[3.0, 4, 0], [1, 1, 0]]), seed)
    5.0
    """
    seeds = implant.positions_mm
    beyond = np.maximum(points_mm.max(axis=0) - seeds.min(axis=0), seeds.max(axis=0) - points_mm.min(axis=0))
    return float(np.linalg.norm(beyond))


def equal_seeds(strength_U: Float) -> float:
    """Number of equal seeds whose dose would vary as much: (sum S)^2 / sum S^2.

    Examples
    --------
    >>> equal_seeds(np.array([1.0, 1.0, 0.0]))
    2.0
    """
    squares = float(np.sum(strength_U**2))
    return float(np.sum(strength_U)) ** 2 / squares if squares > 0 else 0.0
