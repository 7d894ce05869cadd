"""Regular voxel grids in the patient frame (origin, spacing, direction; mm to index and back) and dose on them."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Float = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Grid:
    """A regular volume `[z, y, x]` in the DICOM patient frame (LPS, mm).

    Parameters
    ----------
    origin_mm : (3,) array
        CENTRE of voxel [0, 0, 0].
    spacing_mm : (3,) array
        Voxel size along the x, y and z index; positive.
    shape : tuple of int
        (nz, ny, nx).
    direction : (3, 3) array, optional
        COLUMNS are the unit vectors along the x, y and z index; the identity by default. A left-handed system is
        allowed (slices stored from head to feet).

    Raises
    ------
    ValueError
        If a spacing is not positive, a shape is empty, or the columns are not orthonormal to 1e-4.

    Examples
    --------
    >>> grid = Grid((0, 0, 0), (1, 1, 2.5), (4, 3, 2))
    >>> grid.index_to_mm([[1, 2, 3]])
    array([[1. , 2. , 7.5]])
    """

    origin_mm: Float
    spacing_mm: Float
    shape: tuple[int, int, int]
    direction: Float = field(default_factory=lambda: np.eye(3))

    def __init__(
        self, origin_mm: ArrayLike, spacing_mm: ArrayLike, shape: Any, direction: ArrayLike | None = None
    ) -> None:
        origin = np.array(origin_mm, dtype=np.float64)
        spacing = np.array(spacing_mm, dtype=np.float64)
        axes = np.eye(3) if direction is None else np.array(direction, dtype=np.float64)
        size = tuple(int(n) for n in shape)
        if origin.shape != (3,) or spacing.shape != (3,) or axes.shape != (3, 3) or len(size) != 3:
            raise ValueError("a grid needs 3 origin, 3 spacing, 3 shape values and a 3 x 3 direction")
        if not (np.isfinite(origin).all() and np.isfinite(spacing).all() and (spacing > 0).all()):
            raise ValueError(f"spacing {spacing} mm must be positive and origin {origin} mm finite")
        if min(size) < 1:
            raise ValueError(f"shape {size} has an empty axis")
        if not np.allclose(axes.T @ axes, np.eye(3), atol=1e-4):
            raise ValueError("the columns of direction must be orthogonal unit vectors")
        for array in (origin, spacing, axes):
            array.setflags(write=False)
        object.__setattr__(self, "origin_mm", origin)
        object.__setattr__(self, "spacing_mm", spacing)
        object.__setattr__(self, "shape", size)
        object.__setattr__(self, "direction", axes)

    @property
    def voxel_cc(self) -> float:
        """Volume of one voxel in cc."""
        return float(np.prod(self.spacing_mm)) / 1000.0

    @property
    def size(self) -> int:
        """Number of voxels."""
        return int(np.prod(self.shape))

    def index_to_mm(self, index_xyz: ArrayLike) -> Float:
        """Positions (n, 3) in mm of (fractional) voxel indices (n, 3) in the order x, y, z."""
        index = np.asarray(index_xyz, dtype=np.float64)
        return (index * self.spacing_mm) @ self.direction.T + self.origin_mm

    def mm_to_index(self, points_mm: ArrayLike) -> Float:
        """Fractional voxel indices (n, 3), order x, y, z, of positions (n, 3) in mm."""
        points = np.asarray(points_mm, dtype=np.float64)
        return ((points - self.origin_mm) @ self.direction) / self.spacing_mm

    def centres_mm(self) -> Float:
        """Centres of all voxels, (nz * ny * nx, 3) mm, x fastest. Needs 24 bytes a voxel."""
        nz, ny, nx = self.shape
        z, y, x = np.meshgrid(np.arange(nz), np.arange(ny), np.arange(nx), indexing="ij")
        return self.index_to_mm(np.stack([x.ravel(), y.ravel(), z.ravel()], axis=1))

    def corners_mm(self) -> Float:
        """Outer corners (8, 3) in mm of the volume, at voxel EDGES."""
        nz, ny, nx = self.shape
        low, high = np.full(3, -0.5), np.array([nx, ny, nz]) - 0.5
        corners = [[(low, high)[(i >> k) & 1][k] for k in range(3)] for i in range(8)]
        return self.index_to_mm(np.array(corners))

    def contains(self, points_mm: ArrayLike) -> NDArray[np.bool_]:
        """Whether each of the points (n, 3) lies within the voxels' outer edges."""
        nz, ny, nx = self.shape
        index = self.mm_to_index(points_mm)
        return np.asarray(((index >= -0.5) & (index <= np.array([nx, ny, nz]) - 0.5)).all(axis=-1))

    @staticmethod
    def around(low_mm: ArrayLike, high_mm: ArrayLike, spacing_mm: float) -> "Grid":
        """Axis-aligned isotropic grid whose voxel centres cover the box from `low_mm` to `high_mm`.

        The first centre is at `low_mm` itself, so that the grid moves with the box.
        """
        low, high = np.asarray(low_mm, dtype=np.float64), np.asarray(high_mm, dtype=np.float64)
        nx, ny, nz = (np.ceil((high - low) / spacing_mm - 1e-9).astype(int) + 1).tolist()
        return Grid(low, np.full(3, spacing_mm), (nz, ny, nx))


@dataclass(frozen=True, eq=False)
class Dose:
    """A dose distribution on a grid.

    Parameters
    ----------
    grid : Grid
        Geometry.
    gy : (nz, ny, nx) array
        Dose in Gy (to complete decay, unless it was computed for a number of days).

    Raises
    ------
    ValueError
        If the shapes differ.
    """

    grid: Grid
    gy: NDArray[Any]

    def __post_init__(self) -> None:
        if self.gy.shape != self.grid.shape:
            raise ValueError(f"dose {self.gy.shape} and grid {self.grid.shape} differ in shape")
