"""Dose of an implant on a grid or at points, and the influence of single seeds."""

from collections.abc import Iterator, Sequence
from functools import lru_cache
from importlib import import_module
from typing import TYPE_CHECKING, Any, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray

from brachy.dosimetry.implant import Implant
from brachy.dosimetry.source import Source
from brachy.errors import BrachyError, UsageError
from brachy.geometry.grid import Dose, Grid
from brachy.units import total_dose_hours

if TYPE_CHECKING:
    from brachy.core.tables import Blocks, DoseTable

Float = NDArray[np.float64]

METHODS = ("auto", "exact", "direct", "tree")
GY_PER_CGY = 0.01
CM_PER_MM = 0.1

EXACT_PAIRS = 2_000_000
"""Up to so many pairs of seed and place are summed exactly unless a method is asked for (engineering choice)."""

REACH_MM = 640.0
"""Seeds farther away than the fast tables reach are summed exactly (brachy.core.tables.REACH_CM)."""

TABLE_ERROR = 7e-4
"""A table worse than this is not used (engineering choice: under the 0.1 % that is promised)."""

SKEW = 2e-5
"""A grid whose directions are less perpendicular is summed exactly (engineering choice)."""

FEW_SEEDS = 24
"""Up to so many seeds are summed directly on a grid: it is as fast, and their errors could add up (measured)."""

CHECKED = 40
"""Places compared in each block (engineering choice: with 216 nodes they fill 256, a multiple of LANES)."""

TOLERANCE = {"1D": 2.3e-4, "2D": 2.7e-4}
"""Of the dose at each of them; the greatest error elsewhere stays within three times that (measured)."""

CUSP_SHARE = 6e-4
"""Of the dose in a block, for the cusps on seeds' axes together (engineering choice, measured)."""

REACH = {"1D": 2.0, "2D": 3.0}
"""A seed is far beyond so many half sides of a block (engineering choice: the fastest that keep the promise)."""


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
        "exact" is the float64 sum over seeds. "direct" sums them in float32 from a table, "tree" sums far seeds of a
        grid together (points directly); both are within 0.1 % of it everywhere outside the capsules. "auto" is exact
        up to EXACT_PAIRS pairs of seed and place, which takes a fraction of a second, beyond it the tree.
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
    >>> from brachy.dosimetry.implant import Implant
    >>> from brachy.dosimetry.source import load_source
    >>> seed = Implant(load_source("amersham_6711"), [[0, 0, 0]], axes=[0, 0, 1], strength_U=1.0)
    >>> round(float(dose([[10, 0, 0]], seed, formalism="2D")[0]), 4)
    19.8472
    """
    listed = _checked(implants, formalism, method, days)
    seeds = sum(len(implant) for implant in listed)
    if isinstance(where, Grid):
        method = _chosen(method, where.size * seeds)
        return Dose(where, _on_grid(where, listed, formalism, method, days))
    points = _points(where)
    method = _chosen(method, len(points) * seeds)
    out = np.zeros(len(points))
    for implant in listed:
        _at_points(points, implant, formalism, method, days, out)
    return out


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
    >>> from brachy.dosimetry.source import load_source
    >>> matrix = influence([[10, 0, 0], [20, 0, 0]], [[0, 0, 0]], load_source("amersham_6711"), 1.0)
    >>> matrix.shape
    (1, 2)
    """
    seeds = Implant(
        source, positions_mm, axes=axis, strength_U=float(strength_U), half_life_days=half_life_days
    )
    _checked(seeds, formalism, "direct", None)
    points = _points(points_mm)
    matrix = np.empty((len(seeds), len(points)), dtype=np.float32)
    if not matrix.size:
        return matrix
    table = dose_table(source, formalism)
    anchor = seeds.positions_mm[0]
    if table is None or _farthest(points, seeds) > REACH_MM:
        for row, one in zip(matrix, _singles(seeds), strict=True):
            row[:] = dose(points, one, formalism=formalism, method="exact")
        return matrix
    tg43 = kernels("tg43")
    positions, axes, strength = _seeds(seeds, anchor, None)
    weight = _single(strength * _gy_per_rate(seeds, None))
    tg43.influence_rows(*_single(_relative(points, anchor).T), positions, axes, weight, table, matrix)
    return matrix


@lru_cache(maxsize=32)
def dose_table(source: Source, formalism: str) -> "DoseTable | None":
    """Table of one seed of 1 U for the fast kernels, cGy/h; None if it is not within 0.07 % of the source.

    All shipped models are. A table of one's own may have kinks between the borders of the cells and not be: then the
    dose is summed exactly.

    Examples
    --------
    >>> from brachy.dosimetry.source import load_source
    >>> table = dose_table(load_source("amersham_6711"), "2D")
    >>> table.columns
    18
    """
    from brachy.core import tables

    radius_cm, half_cm = 0.05 * source.capsule_diameter_mm, 0.05 * source.capsule_length_mm
    if formalism == "1D":
        smooth_cm = max(source.radial_r_cm[-1], source.phi_r_cm[-1])
        table = tables.point_table(source.point_rate, radius_cm, smooth_cm)
    else:
        constant = source.dose_rate_constant / float(source.geometry_function(1.0, 90.0))
        angles = source.anisotropy_theta_deg
        table = tables.line_table(
            lambda r, theta: constant * source.radial_dose_function(r) * source.anisotropy_function(r, theta),
            tables.angle_columns(angles),
            radius_cm,
            half_cm,
            source.active_length_cm,
            tables.axis_cusp(angles, source.anisotropy_F),
            max(source.radial_r_cm[-1], source.anisotropy_r_cm[-1]),
        )
    return table if _table_error(table, source, formalism) < TABLE_ERROR else None


def _table_error(table: "DoseTable", source: Source, formalism: str) -> float:
    """Greatest relative error of a table at probes between its borders and at the capsule's tips."""
    from brachy.core import tables

    radius, half = 0.05 * source.capsule_diameter_mm, 0.05 * source.capsule_length_mm
    r = np.geomspace(radius * (1 + 1e-6), 0.999 * tables.REACH_CM, 4001)
    if formalism == "1D":
        return float(np.abs(tables.read(table, r, 0 * r) / source.point_rate(r) - 1).max())
    theta = np.radians((np.arange(len(r)) * 0.6180339887498949 % 1) * 90)
    tip = radius * np.linspace(0, 1, 101)
    side = half * np.linspace(0, 1, 101)
    across = np.concatenate([r * np.sin(theta), tip, np.full(101, radius * (1 + 1e-6))])
    along = np.concatenate([r * np.cos(theta), np.full(101, half * (1 + 1e-6)), side])
    outside = (across >= radius) | (along > half)
    across, along = across[outside], along[outside]
    return float(np.abs(tables.read(table, across, along) / source.line_rate(across, along) - 1).max())


def kernels(name: str) -> Any:
    """A module of kernels, imported (and on the first run compiled) when it is needed.

    Examples
    --------
    >>> kernels("tg43").__name__
    'brachy.core.tg43'
    """
    return import_module(f"brachy.core.{name}")


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


def _chosen(method: str, pairs: int) -> str:
    if method != "auto":
        return method
    return "exact" if pairs <= EXACT_PAIRS else "tree"


def _points(points_mm: ArrayLike) -> Float:
    points = np.ascontiguousarray(points_mm, dtype=np.float64)
    if points.ndim != 2 or points.shape[1] != 3:
        raise BrachyError(f"points of shape {points.shape}: give (n, 3) positions x, y, z in mm")
    if not np.isfinite(points).all():
        raise BrachyError("a point is not a number: give x, y, z in mm")
    return points


def _relative(points_mm: Float, anchor_mm: Float) -> Float:
    """Coordinates about an anchor in cm, to 2^-20 mm: the same bits wherever everything is moved to."""
    return np.round((points_mm - anchor_mm) * 2.0**20) / 2.0**20 * CM_PER_MM


def _single(array: ArrayLike) -> NDArray[np.float32]:
    return np.ascontiguousarray(array, dtype=np.float32)


def _seeds(
    implant: Implant, anchor_mm: Float, direction: Float | None
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
    """Positions (cm, about the anchor), axes and strengths (U), turned into the frame of `direction`."""
    positions = _relative(implant.positions_mm, anchor_mm)
    axes = np.zeros_like(positions) if implant.axes is None else implant.axes
    if direction is not None:
        positions, axes = positions @ direction, axes @ direction
    return _single(positions), _single(axes), _single(implant.strength_U)


def _gy_per_rate(implant: Implant, days: float | None) -> float:
    """Gy of an initial rate of 1 cGy/h."""
    return total_dose_hours(implant.half_life_days, days) * GY_PER_CGY


def _singles(implant: Implant) -> Iterator[Implant]:
    for row in range(len(implant)):
        yield Implant(
            implant.source,
            implant.positions_mm[row : row + 1],
            axes=None if implant.axes is None else implant.axes[row : row + 1],
            strength_U=implant.strength_U[row],
            half_life_days=implant.half_life_days,
        )


def _farthest(points_mm: Float, implant: Implant) -> float:
    """No point is farther than this from any seed, mm: the farthest corners of the boxes round the two."""
    seeds = implant.positions_mm
    beyond = np.maximum(points_mm.max(axis=0) - seeds.min(axis=0), seeds.max(axis=0) - points_mm.min(axis=0))
    return float(np.linalg.norm(beyond))


def _at_points(
    points_mm: Float, implant: Implant, formalism: str, method: str, days: float | None, out: Float
) -> None:
    """Add an implant's dose at points to `out`."""
    if not len(implant) or not len(points_mm):
        return
    table = None if method == "exact" else dose_table(implant.source, formalism)
    if table is None or _farthest(points_mm, implant) > REACH_MM:
        _add_exact(points_mm, implant, formalism, days, out)
        return
    anchor = implant.positions_mm[0]
    part = np.empty(len(points_mm), dtype=np.float32)
    places = _single(_relative(points_mm, anchor).T)
    kernels("tree").dose_at_points(*places, *_seeds(implant, anchor, None), table, part)
    out += part.astype(np.float64) * _gy_per_rate(implant, days)


def _on_grid(
    grid: Grid, implants: Sequence[Implant], formalism: str, method: str, days: float | None
) -> NDArray[np.float32] | Float:
    corners = grid.corners_mm()
    skew = np.abs(grid.direction.T @ grid.direction - np.eye(3)).max()
    tables = [dose_table(i.source, formalism) for i in implants] if method != "exact" else [None]
    far = any(len(i) and _farthest(corners, i) > REACH_MM for i in implants)
    if any(table is None for table in tables) or far or skew > SKEW:
        return _on_grid_exact(grid, implants, formalism, days)
    gy = np.zeros(grid.shape, dtype=np.float32)
    anchor = grid.index_to_mm(0.5 * (np.array(grid.shape[::-1]) - 1))
    step = _single(grid.spacing_mm * CM_PER_MM)
    for implant, table in zip(implants, tables, strict=True):
        if not len(implant):
            continue
        few = _alike(implant.strength_U) <= FEW_SEEDS
        blocks = _blocks(tuple(grid.spacing_mm.tolist()), formalism, method == "direct" or few)
        positions, axes, strength = _seeds(implant, anchor, grid.direction)
        weight = _single(strength * _gy_per_rate(implant, days))
        kernels("tree").dose_on_grid(positions, axes, weight, table, blocks, step, gy)
    return gy


def _alike(strength_U: Float) -> float:
    """Number of equal seeds whose dose would vary as much: (sum S)^2 / sum S^2."""
    squares = float(np.sum(strength_U**2))
    return float(np.sum(strength_U)) ** 2 / squares if squares > 0 else 0.0


@lru_cache(maxsize=32)
def _blocks(spacing_mm: tuple[float, ...], formalism: str, direct: bool) -> "Blocks":
    from brachy.core import tables

    sizes = tables.block_sizes(np.array(spacing_mm))
    if direct:
        sizes = np.ascontiguousarray(sizes[-1:])
        sizes.setflags(write=False)
    rules = (1e9, 0.0, 0.0) if direct else (REACH[formalism], TOLERANCE[formalism], CUSP_SHARE)
    return tables.Blocks(
        sizes,
        *tables.interpolation(int(sizes.max())),
        tables.check_places(CHECKED),
        *(np.float32(rule) for rule in rules),
    )


def _on_grid_exact(grid: Grid, implants: Sequence[Implant], formalism: str, days: float | None) -> Float:
    """Slice by slice, so that no array of all the voxels' positions exists."""
    nz, ny, nx = grid.shape
    gy = np.zeros(grid.shape)
    y, x = (index.ravel() for index in np.mgrid[0:ny, 0:nx])
    for k in range(nz):
        points = grid.index_to_mm(np.stack([x, y, np.full(x.size, k)], axis=1))
        for implant in implants:
            _add_exact(points, implant, formalism, days, gy[k].reshape(-1))
    return gy


def _add_exact(points_mm: Float, implant: Implant, formalism: str, days: float | None, out: Float) -> None:
    tg43 = kernels("tg43")
    if not len(implant) or not len(points_mm):
        return
    source = implant.source
    # distances matter, not places: coordinates about the implant keep their digits wherever it lies
    anchor = implant.positions_mm[0]
    points = np.ascontiguousarray((points_mm - anchor) * CM_PER_MM)
    seeds = np.ascontiguousarray((implant.positions_mm - anchor) * CM_PER_MM)
    weight = implant.strength_U * _gy_per_rate(implant, days)
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
