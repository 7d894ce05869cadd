"""Dose of an implant on a grid or at points, and the influence of single seeds."""

from collections.abc import Sequence
from typing import Literal, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray

from brachy.errors import BrachyError, UsageError
from brachy.grid import Dose, Grid
from brachy.implant import Implant
from brachy.source import Source
from brachy.units import total_dose_hours

Float = NDArray[np.float64]
Formalism = Literal["1D", "2D"]
Method = Literal["auto", "exact", "direct", "tree"]

METHODS = ("auto", "exact", "direct", "tree")
GY_PER_CGY = 0.01
CM_PER_MM = 0.1


@overload
def dose(
    where: Grid,
    implants: Implant | Sequence[Implant],
    formalism: str = "1D",
    method: str = "auto",
    days: float | None = None,
) -> Dose: ...


@overload
def dose(
    where: ArrayLike,
    implants: Implant | Sequence[Implant],
    formalism: str = "1D",
    method: str = "auto",
    days: float | None = None,
) -> Float: ...


def dose(
    where: Grid | ArrayLike,
    implants: Implant | Sequence[Implant],
    formalism: str = "1D",
    method: str = "auto",
    days: float | None = None,
) -> Dose | Float:
    """Dose to water of permanent seeds, in Gy.

    Parameters
    ----------
    where : Grid or (n, 3) array
        A grid, or points in the patient frame (LPS), mm.
    implants : Implant or sequence of Implant
        Seeds; several models are several implants, their doses sum.
    formalism : {"1D", "2D"}
        Point source, or line source with each seed's axis.
    method : {"auto", "exact", "direct", "tree"}
        "exact" is the float64 sum over seeds; the others approximate it within 0.1 % outside the capsules.
    days : float, optional
        Dose delivered in so many days after implantation; to complete decay by default.

    Returns
    -------
    Dose or (n,) array
        `Dose` with `.gy` [z, y, x] for a grid, Gy at each point otherwise.

    Raises
    ------
    UsageError
        If the formalism or method is unknown, or the days are negative.
    BrachyError
        If 2D is asked of seeds without axes, or the points are not (n, 3) numbers.

    References
    ----------
    Rivard et al., Med. Phys. 31, 633 (2004), AAPM TG-43U1, eq. (1) and (11). Complete decay: rate times
    T1/2 / ln 2.

    Examples
    --------
    >>> from brachy.implant import Implant
    >>> from brachy.source import load_source
    >>> seed = Implant(load_source("amersham_6711"), [[0, 0, 0]], axes=[0, 0, 1], strength_U=1.0)
    >>> round(float(dose([[10, 0, 0]], seed, formalism="2D")[0]), 4)
    19.8472
    """
    listed = _checked(implants, formalism, method, days)
    if isinstance(where, Grid):
        return Dose(where, _on_grid(where, listed, formalism, days))
    points = _points(where)
    return _at_points(points, listed, formalism, days)


def influence(
    points_mm: ArrayLike,
    positions_mm: ArrayLike,
    source: Source,
    strength_U: float,
    axis: ArrayLike | None = None,
    formalism: str = "1D",
    half_life_days: float | None = None,
) -> NDArray[np.float32]:
    """Dose to complete decay that one seed at each position would give to each point, in Gy.

    Parameters
    ----------
    points_mm : (n, 3) array
        Where dose is wanted, mm.
    positions_mm : (m, 3) array
        Candidate seed centres, mm.
    source : Source
        Seed model.
    strength_U : float
        Air-kerma strength of a seed, U.
    axis : (3,) or (m, 3) array, optional
        Seed axes, one for all or one each; needed by 2D.
    formalism : {"1D", "2D"}
        As in `dose`.
    half_life_days : float, optional
        Overrides the source's.

    Returns
    -------
    (m, n) float32 array
        A row per candidate: row i is the dose of a seed at `positions_mm[i]` at all points.

    Raises
    ------
    BrachyError
        As in `dose`.

    Examples
    --------
    >>> from brachy.source import load_source
    >>> matrix = influence([[10, 0, 0], [20, 0, 0]], [[0, 0, 0]], load_source("amersham_6711"), 1.0)
    >>> matrix.shape
    (1, 2)
    """
    seeds = Implant(
        source, positions_mm, axes=axis, strength_U=float(strength_U), half_life_days=half_life_days
    )
    (seeds,) = _checked(seeds, formalism, "auto", None)
    points = _points(points_mm)
    matrix = np.empty((len(seeds), len(points)), dtype=np.float32)
    for row in range(len(seeds)):
        one = Implant(
            source,
            seeds.positions_mm[row : row + 1],
            axes=None if seeds.axes is None else seeds.axes[row : row + 1],
            strength_U=float(strength_U),
            half_life_days=half_life_days,
        )
        matrix[row] = _at_points(points, [one], formalism, None)
    return matrix


def _checked(
    implants: Implant | Sequence[Implant], formalism: str, method: str, days: float | None
) -> list[Implant]:
    listed = [implants] if isinstance(implants, Implant) else list(implants)
    if formalism not in ("1D", "2D"):
        raise UsageError(f"unknown formalism '{formalism}': choose 1D or 2D")
    if method not in METHODS:
        raise UsageError(f"unknown dose method '{method}': choose from {', '.join(METHODS)}")
    if days is not None and not days >= 0:
        raise UsageError(f"dose to {days} days: give 0 or more")
    if formalism == "2D" and any(implant.axes is None for implant in listed):
        raise BrachyError("the 2D formalism needs the axis of every seed: give the axes, or use 1D")
    return listed


def _points(points_mm: ArrayLike) -> Float:
    points = np.ascontiguousarray(points_mm, dtype=np.float64)
    if points.ndim != 2 or points.shape[1] != 3:
        raise BrachyError(f"points of shape {points.shape}: give (n, 3) positions x, y, z in mm")
    if not np.isfinite(points).all():
        raise BrachyError("a point is not a number: give x, y, z in mm")
    return points


def _at_points(points_mm: Float, implants: Sequence[Implant], formalism: str, days: float | None) -> Float:
    out = np.zeros(len(points_mm))
    for implant in implants:
        _add_exact(points_mm, implant, formalism, days, out)
    return out


def _on_grid(grid: Grid, implants: Sequence[Implant], formalism: str, days: float | None) -> Float:
    """Slice by slice, so that no array of all the voxels' positions exists."""
    nz, ny, nx = grid.shape
    gy = np.zeros(grid.shape)
    y, x = (index.ravel() for index in np.mgrid[0:ny, 0:nx])
    for k in range(nz):
        points = grid.index_to_mm(np.stack([x, y, np.full(x.size, k)], axis=1))
        gy[k] = _at_points(points, implants, formalism, days).reshape(ny, nx)
    return gy


def _add_exact(points_mm: Float, implant: Implant, formalism: str, days: float | None, out: Float) -> None:
    from brachy.core import tg43

    if not len(implant) or not len(points_mm):
        return
    source = implant.source
    # distances matter, not places: coordinates about the implant keep their digits wherever it lies
    anchor = implant.positions_mm[0]
    points = np.ascontiguousarray((points_mm - anchor) * CM_PER_MM)
    seeds = np.ascontiguousarray((implant.positions_mm - anchor) * CM_PER_MM)
    weight = implant.strength_U * (total_dose_hours(implant.half_life_days, days) * GY_PER_CGY)
    constant = source.dose_rate_constant / float(source.geometry_function(1.0, 90.0))
    length, radius = source.active_length_cm, 0.5 * source.capsule_diameter_mm * CM_PER_MM
    radial = source.radial_r_cm, np.log(source.radial_g)
    if formalism == "1D":
        tg43.point_source_dose(
            points, seeds, weight, constant, length, radius, *radial, source.phi_r_cm, source.phi_an, out
        )
        return
    tg43.line_source_dose(
        points,
        seeds,
        np.ascontiguousarray(implant.axes),
        weight,
        constant,
        length,
        radius,
        0.5 * source.capsule_length_mm * CM_PER_MM,
        *radial,
        source.anisotropy_r_cm,
        source.anisotropy_theta_deg,
        source.anisotropy_F,
        out,
    )
