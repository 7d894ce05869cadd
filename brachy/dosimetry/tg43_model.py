"""The TG-43 formalism as dose models: point source (1D) and line source (2D), by the exact sum or by fast tables.

References
----------
Rivard et al., Med. Phys. 31, 633 (2004), AAPM TG-43U1, eq. (1) and (11).
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from importlib import import_module
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from brachy.dosimetry.implant import Implant, listed
from brachy.dosimetry.kernel_units import (
    CM_PER_MM,
    checked_points,
    equal_seeds,
    farthest_mm,
    gy_per_rate,
    relative_cm,
    seed_by_seed,
    seeds_for_kernel,
    single_precision,
)
from brachy.dosimetry.source import Source
from brachy.errors import BrachyError, UsageError
from brachy.geometry.grid import Dose, Grid

if TYPE_CHECKING:
    from brachy.core.tables import Blocks, DoseTable

Float = NDArray[np.float64]

METHODS = ("auto", "exact", "direct", "tree")

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
"""Most places compared in a block (engineering choice: with 216 nodes they fill 256, a multiple of LANES)."""

CUSP_SHARE = 6e-4
"""Of the dose in a block, for the cusps on seeds' axes together (engineering choice, measured)."""


def tg43_model(
    implants: Implant | Sequence[Implant],
    formalism: str = "1D",
    days: float | None = None,
    method: str = "auto",
) -> "TG43":
    """The TG-43 model of some seeds: `PointSource` for 1D, `LineSource` for 2D.

    Parameters
    ----------
    implants, formalism, days, method
        As `dose` takes them.

    Raises
    ------
    UsageError, BrachyError
        As `dose`.

    Examples
    --------
    >>> tg43_model([], "2D").name
    'TG-43 2D'
    """
    return _kind(formalism)(tuple(listed(implants)), days, method)


@dataclass(frozen=True, eq=False)
class TG43(ABC):
    """Dose to water of permanent seeds after AAPM TG-43U1: what the 1D and the 2D formalism share.

    Parameters
    ----------
    implants : tuple of Implant
        Seeds; their doses sum.
    days : float, optional
        Dose delivered in so many days after implantation; to complete decay by default.
    method : {"auto", "exact", "direct", "tree"}
        As of `dose`.
    exact_pairs : int
        "auto" sums up to so many pairs of seed and place exactly.
    """

    implants: tuple[Implant, ...]
    days: float | None = None
    method: str = "auto"
    exact_pairs: int = EXACT_PAIRS

    formalism: ClassVar[Literal["1D", "2D"]]
    """As plan.json names it."""
    needs_axes: ClassVar[bool]
    """Whether the dose depends on the axes of the seeds."""
    tolerance: ClassVar[float]
    """Of the dose at each place where a block of the tree is checked; elsewhere the greatest error stays within three
    times that (measured)."""
    many: ClassVar[int]
    """So many far seeds are interpolated with fewer nodes (engineering choice)."""
    reach: ClassVar[float]
    """A seed is far beyond so many half sides of a block (engineering choice: the fastest that keep the promise)."""

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise UsageError(f"unknown dose method '{self.method}': choose from {', '.join(METHODS)}")
        if self.days is not None and not self.days >= 0:
            raise UsageError(f"dose to {self.days} days: give 0 or more")

    @property
    def name(self) -> str:
        """ "TG-43 1D" or "TG-43 2D"."""
        return f"TG-43 {self.formalism}"

    @property
    def comment(self) -> str:
        """For the Dose Comment of an RT Dose: model, medium, and until when."""
        until = "to complete decay" if self.days is None else f"to day {self.days:g}"
        return f"{self.name}, water, {until}"

    def of(self, implants: Implant | Sequence[Implant], exact_pairs: int | None = None) -> "TG43":
        """The same model for other seeds, or with another number of pairs that are summed exactly."""
        pairs = self.exact_pairs if exact_pairs is None else exact_pairs
        return replace(self, implants=tuple(listed(implants)), exact_pairs=pairs)

    @abstractmethod
    def counterpart(self) -> "TG43 | None":
        """The other formalism for the same seeds, for comparison; None where the axes that it needs are unknown."""

    @classmethod
    @abstractmethod
    def build_table(cls, source: Source) -> "DoseTable":
        """Table of one seed of 1 U for the fast kernels, cGy/h."""

    @classmethod
    @abstractmethod
    def table_error(cls, table: "DoseTable", source: Source) -> float:
        """Greatest relative error of a table at probes between its borders and at the capsule's tips."""

    @abstractmethod
    def _sum(self, points: Float, seeds: Float, weight: Float, implant: Implant, out: Float) -> None:
        """Add the exact sum over seeds to `out` (n,), Gy; positions in cm, weight in Gy per cGy/h and U."""

    def at(self, points_mm: ArrayLike) -> Float:
        """Dose at points (n, 3), patient frame (LPS), mm: (n,) array, Gy.

        Raises
        ------
        BrachyError
            If the points are not (n, 3) numbers.
        """
        points = checked_points(points_mm)
        exact = self._is_exact(len(points))
        out = np.zeros(len(points))
        for implant in self.implants:
            self._add_at(points, implant, exact, out)
        return out

    def on(self, grid: Grid) -> Dose:
        """Dose on a grid, Gy."""
        return Dose(grid, self._on_grid(grid))

    def influence(self, points_mm: ArrayLike) -> NDArray[np.float32]:
        """Dose to complete decay that each seed of the first implant alone gives to each point: (seeds, n) float32, Gy.

        Raises
        ------
        BrachyError
            If the points are not (n, 3) numbers.
        """
        seeds, points = self.implants[0], checked_points(points_mm)
        matrix = np.empty((len(seeds), len(points)), dtype=np.float32)
        if not matrix.size:
            return matrix
        table = dose_table(seeds.source, self.formalism)
        anchor = seeds.positions_mm[0]
        if table is None or farthest_mm(points, seeds) > REACH_MM:
            for row, one in zip(matrix, seed_by_seed(seeds), strict=True):
                row[:] = replace(self, implants=(one,), days=None, method="exact").at(points)
            return matrix
        positions, axes, strength = seeds_for_kernel(seeds, anchor, None)
        weight = single_precision(strength * gy_per_rate(seeds))
        kernel = kernels("tg43").influence_rows
        kernel(*single_precision(relative_cm(points, anchor).T), positions, axes, weight, table, matrix)
        return matrix

    def _is_exact(self, places: int) -> bool:
        if self.method != "auto":
            return self.method == "exact"
        return places * sum(len(implant) for implant in self.implants) <= self.exact_pairs

    def _add_at(self, points_mm: Float, implant: Implant, exact: bool, out: Float) -> None:
        """Add an implant's dose at points to `out`."""
        if not len(implant) or not len(points_mm):
            return
        table = None if exact else dose_table(implant.source, self.formalism)
        if table is None or farthest_mm(points_mm, implant) > REACH_MM:
            self._add_exact(points_mm, implant, out)
            return
        anchor = implant.positions_mm[0]
        part = np.empty(len(points_mm), dtype=np.float32)
        places = single_precision(relative_cm(points_mm, anchor).T)
        kernels("tree").dose_at_points(*places, *seeds_for_kernel(implant, anchor, None), table, part)
        out += part.astype(np.float64) * gy_per_rate(implant, self.days)

    def _on_grid(self, grid: Grid) -> NDArray[np.float32] | Float:
        if self._is_exact(grid.size):
            return self._on_grid_exact(grid)
        corners = grid.corners_mm()
        skew = np.abs(grid.direction.T @ grid.direction - np.eye(3)).max()
        tables = [dose_table(implant.source, self.formalism) for implant in self.implants]
        far = any(len(i) and farthest_mm(corners, i) > REACH_MM for i in self.implants)
        if any(table is None for table in tables) or far or skew > SKEW:
            return self._on_grid_exact(grid)
        gy = np.zeros(grid.shape, dtype=np.float32)
        anchor = grid.index_to_mm(0.5 * (np.array(grid.shape[::-1]) - 1))
        step = single_precision(grid.spacing_mm * CM_PER_MM)
        for implant, table in zip(self.implants, tables, strict=True):
            if not len(implant):
                continue
            direct = self.method == "direct" or equal_seeds(implant.strength_U) <= FEW_SEEDS
            rules = None if direct else (self.many, self.reach, self.tolerance, CUSP_SHARE)
            blocks = _blocks(tuple(grid.spacing_mm.tolist()), rules)
            positions, axes, strength = seeds_for_kernel(implant, anchor, grid.direction)
            weight = single_precision(strength * gy_per_rate(implant, self.days))
            kernels("tree").dose_on_grid(positions, axes, weight, table, blocks, step, gy)
        return gy

    def _on_grid_exact(self, grid: Grid) -> Float:
        """Slice by slice, so that no array of all the voxels' positions exists."""
        nz, ny, nx = grid.shape
        gy = np.zeros(grid.shape)
        y, x = (index.ravel() for index in np.mgrid[0:ny, 0:nx])
        for k in range(nz):
            points = grid.index_to_mm(np.stack([x, y, np.full(x.size, k)], axis=1))
            for implant in self.implants:
                self._add_exact(points, implant, gy[k].reshape(-1))
        return gy

    def _add_exact(self, points_mm: Float, implant: Implant, out: Float) -> None:
        if not len(implant) or not len(points_mm):
            return
        # distances matter, not places: coordinates about the implant keep their digits wherever it lies
        anchor = implant.positions_mm[0]
        points = np.ascontiguousarray((points_mm - anchor) * CM_PER_MM)
        seeds = np.ascontiguousarray((implant.positions_mm - anchor) * CM_PER_MM)
        self._sum(points, seeds, implant.strength_U * gy_per_rate(implant, self.days), implant, out)


class PointSource(TG43):
    """1D: a point source; dose falls with distance alone. Rivard et al. (2004), eq. (11)."""

    formalism: ClassVar[Literal["1D", "2D"]] = "1D"
    needs_axes = False
    tolerance = 2.3e-4
    reach = 2.5
    many = 100

    def counterpart(self) -> "TG43 | None":
        """2D for the same seeds; None where an axis is unknown."""
        if any(implant.axes is None for implant in self.implants):
            return None
        return LineSource(self.implants, self.days, self.method, self.exact_pairs)

    @classmethod
    def build_table(cls, source: Source) -> "DoseTable":
        """Table over distance."""
        from brachy.core import tables

        return tables.point_table(source.point_rate, 0.05 * source.capsule_diameter_mm)

    @classmethod
    def table_error(cls, table: "DoseTable", source: Source) -> float:
        """Against `Source.point_rate`."""
        from brachy.core import tables

        r = _probes_cm(source)
        return float(np.abs(tables.read(table, r, 0 * r) / source.point_rate(r) - 1).max())

    def _sum(self, points: Float, seeds: Float, weight: Float, implant: Implant, out: Float) -> None:
        source = implant.source
        kernels("tg43").point_source_dose(
            points,
            seeds,
            weight,
            _rate_per_geometry(source),
            source.active_length_cm,
            0.5 * source.capsule_diameter_mm * CM_PER_MM,
            source.radial_r_cm,
            np.log(source.radial_g),
            source.phi_r_cm,
            source.phi_an,
            out,
        )


class LineSource(TG43):
    """2D: a line source along each seed's axis. Rivard et al. (2004), eq. (1)."""

    formalism: ClassVar[Literal["1D", "2D"]] = "2D"
    needs_axes = True
    tolerance = 2.7e-4
    reach = 3.0
    many = 100

    def __post_init__(self) -> None:
        super().__post_init__()
        if any(implant.axes is None for implant in self.implants):
            raise BrachyError("the 2D formalism needs the axis of every seed: give the axes, or use 1D")

    def counterpart(self) -> "TG43 | None":
        """1D for the same seeds."""
        return PointSource(self.implants, self.days, self.method, self.exact_pairs)

    @classmethod
    def build_table(cls, source: Source) -> "DoseTable":
        """Table over the distances along and across the seed."""
        from brachy.core import tables

        constant, angles = _rate_per_geometry(source), source.anisotropy_theta_deg
        return tables.line_table(
            lambda r, theta: source.line_rate(r * np.sin(np.radians(theta)), r * np.cos(np.radians(theta))),
            lambda r, theta: constant * source.radial_dose_function(r) * source.anisotropy_function(r, theta),
            tables.angle_columns(angles),
            0.05 * source.capsule_diameter_mm,
            0.05 * source.capsule_length_mm,
            source.active_length_cm,
            tables.axis_cusp(angles, source.anisotropy_F),
        )

    @classmethod
    def table_error(cls, table: "DoseTable", source: Source) -> float:
        """Against `Source.line_rate`, at angles spread evenly and along the capsule's surface."""
        from brachy.core import tables

        radius, half = 0.05 * source.capsule_diameter_mm, 0.05 * source.capsule_length_mm
        r = _probes_cm(source)
        theta = np.radians(
            (np.arange(len(r)) * 0.6180339887498949 % 1) * 90
        )  # golden ratio: even at any length
        tip = radius * np.linspace(0, 1, 101)
        side = half * np.linspace(0, 1, 101)
        across = np.concatenate([r * np.sin(theta), tip, np.full(101, radius * (1 + 1e-6))])
        along = np.concatenate([r * np.cos(theta), np.full(101, half * (1 + 1e-6)), side])
        outside = (across >= radius) | (along > half)
        across, along = across[outside], along[outside]
        return float(np.abs(tables.read(table, across, along) / source.line_rate(across, along) - 1).max())

    def _sum(self, points: Float, seeds: Float, weight: Float, implant: Implant, out: Float) -> None:
        source = implant.source
        kernels("tg43").line_source_dose(
            points,
            seeds,
            np.ascontiguousarray(implant.axes),
            weight,
            _rate_per_geometry(source),
            source.active_length_cm,
            0.5 * source.capsule_diameter_mm * CM_PER_MM,
            0.5 * source.capsule_length_mm * CM_PER_MM,
            source.radial_r_cm,
            np.log(source.radial_g),
            source.anisotropy_r_cm,
            source.anisotropy_theta_deg,
            source.anisotropy_F,
            out,
        )


_KINDS: dict[str, type[TG43]] = {"1D": PointSource, "2D": LineSource}


def _kind(formalism: str) -> type[TG43]:
    if formalism not in _KINDS:
        raise UsageError(f"unknown formalism '{formalism}': choose 1D or 2D")
    return _KINDS[formalism]


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
    36
    """
    kind = _kind(formalism)
    table = kind.build_table(source)
    return table if kind.table_error(table, source) < TABLE_ERROR else None


def _probes_cm(source: Source) -> Float:
    """Distances from the capsule's radius to the end of the tables' reach, cm."""
    from brachy.core import tables

    return np.geomspace(0.05 * source.capsule_diameter_mm * (1 + 1e-6), 0.999 * tables.REACH_CM, 4001)


def _rate_per_geometry(source: Source) -> float:
    """Dose-rate constant over the geometry function at the reference point, 1 cm and 90 degrees: cGy cm^2/h per U."""
    return source.dose_rate_constant / float(source.geometry_function(1.0, 90.0))


def kernels(name: str) -> Any:
    """A module of kernels, imported (and on the first run compiled) when it is needed.

    Examples
    --------
    >>> kernels("tg43").__name__
    'brachy.core.tg43'
    """
    return import_module(f"brachy.core.{name}")


@lru_cache(maxsize=32)
def _blocks(spacing_mm: tuple[float, ...], rules: tuple[int, float, float, float] | None) -> "Blocks":
    """Blocks of a grid for the tree; without rules (many, reach, tolerance, share of cusps) every seed is near."""
    from brachy.core import tables

    sizes = tables.block_sizes(np.array(spacing_mm))
    if rules is None:
        sizes = np.ascontiguousarray(sizes[-1:])
        sizes.setflags(write=False)
        rules = (1, 1e9, 0.0, 0.0)
    return tables.Blocks(
        sizes,
        *tables.both_orders(int(sizes.max()), CHECKED),
        rules[0],
        *(np.float32(rule) for rule in rules[1:]),
    )
