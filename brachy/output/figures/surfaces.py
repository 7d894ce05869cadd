"""Surfaces of structures and isodoses for 3D pictures, as triangles; not for measurements."""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from brachy.geometry.grid import Dose, Grid
from brachy.geometry.structures import Structure
from brachy.output.figures.isosurface import level_surface, smoothed, with_fewer_triangles

Float = NDArray[np.float64]

MOST_VOXELS = 250_000
"""A structure is sampled on a lattice of about this many voxels at most (engineering choice)."""

FINEST_MM = 1.5
"""Least spacing of that lattice (engineering choice)."""

MOST_TRIANGLES = 6000
"""Surfaces are reduced to about this many triangles (engineering choice)."""


SMOOTHINGS = 10
"""Times that the surface of a structure is smoothed, each with Taubin's two steps (engineering choice)."""


class Surface(NamedTuple):
    """Triangles in the patient frame (LPS), mm."""

    points_mm: NDArray[np.float32]
    """(n, 3)"""
    triangles: NDArray[np.int32]
    """(m, 3) indices into the points"""

    @property
    def is_empty(self) -> bool:
        """Whether there is no triangle."""
        return len(self.triangles) == 0


def structure_surface(
    structure: Structure,
    box_mm: Float | None = None,
    most_triangles: int = MOST_TRIANGLES,
    most_voxels: int = MOST_VOXELS,
) -> Surface:
    """Smoothed surface of a structure, or of its part in a box.

    Parameters
    ----------
    structure : Structure
        Structure.
    box_mm : (2, 3) array, optional
        Lowest and highest corner, patient frame (LPS), mm.
    most_triangles, most_voxels : int
        Limits on the size of the result and of the lattice that is sampled.

    Returns
    -------
    Surface
        Empty where the structure or its part in the box is.

    Examples
    --------
    >>> square = np.array([[0, 0, 0], [20, 0, 0], [20, 20, 0], [0, 20, 0]])
    >>> box = Structure("box", [square + [0, 0, z] for z in range(0, 21, 2)])
    >>> np.abs(structure_surface(box).points_mm.mean(axis=0) - 10).max() < 0.5
    np.True_
    """
    if structure.is_empty:
        return _none()
    low, high = structure.bounds_mm
    if box_mm is not None:
        low, high = np.maximum(low, box_mm[0]), np.minimum(high, box_mm[1])
    if not (high > low).all():
        return _none()
    spacing = max(FINEST_MM, float(np.prod(high - low) / most_voxels) ** (1 / 3))
    grid = Grid.around(low - 2 * spacing, high + 2 * spacing, spacing)
    mask = structure.fraction_mask(grid)
    mask[0], mask[-1] = 0.0, 0.0  # closed also where the box cuts it
    return _level(grid, mask, 0.5, most_triangles, smooth=SMOOTHINGS)


def dose_surface(dose: Dose, level_gy: float, most_triangles: int = MOST_TRIANGLES) -> Surface:
    """Isodose surface at a level in Gy, from the values of the dose grid."""
    return _level(dose.grid, np.asarray(dose.gy), level_gy, most_triangles, smooth=0)


def _level(grid: Grid, values: NDArray[Any], level: float, most: int, smooth: int) -> Surface:
    if min(grid.shape) < 2 or not values.min() < level < values.max():
        return _none()
    padded = np.pad(np.asarray(values, dtype=np.float64), 1, constant_values=float(values.min()))
    points, triangles = level_surface(padded, level)
    points, triangles = with_fewer_triangles(smoothed(points, triangles, smooth), triangles, most)
    mm = grid.index_to_mm(points - 1.0)
    return Surface(mm.astype(np.float32), triangles.astype(np.int32))


def _none() -> Surface:
    return Surface(np.zeros((0, 3), np.float32), np.zeros((0, 3), np.int32))
