"""Triangles of the surface on which a lattice of values has one level: surface nets, smoothing, fewer triangles.

A cube of the lattice that the surface passes has one point, the mean of the crossings of its edges; an edge of the
lattice that the surface crosses has a square between the points of its four cubes (S. F. F. Gibson, MICCAI 1998, LNCS
1496, 888).
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

Float = NDArray[np.float64]
Int = NDArray[np.int64]

SMOOTHING = (0.5, -0.53)
"""Shares of the way to the mean of the neighbours, in turn: the second undoes the shrinking of the first
(G. Taubin, Proc. SIGGRAPH 1995, 351)."""

FIRST_TOLERANCE = 0.05
"""Fewer triangles: how far the surface may move at first, in spacings; doubled until the number is reached
(engineering choice)."""

MOST_TOLERANCE = 4.0
"""Above this many spacings the surface has more triangles rather than another shape (engineering choice)."""


def level_surface(values: NDArray[Any], level: float) -> tuple[Float, Int]:
    """Surface between lattice values above and not above a level; it is closed where values at the border are below.

    Parameters
    ----------
    values : (nz, ny, nx) array
        Values at the lattice points.
    level : float
        Level.

    Returns
    -------
    points : (n, 3) array
        Fractional indices in the order x, y, z.
    triangles : (m, 3) array
        Indices into the points; seen from below the level, their corners go round counter-clockwise.

    Examples
    --------
    >>> values = np.zeros((3, 3, 3))
    >>> values[1, 1, 1] = 1.0
    >>> points, triangles = level_surface(values, 0.5)
    >>> len(points), len(triangles), points.mean(axis=0).tolist()
    (8, 12, [1.0, 1.0, 1.0])
    """
    flat = np.asarray(values, dtype=np.float64).ravel()
    _, ny, nx = values.shape
    strides = (1, nx, nx * ny)
    where = np.arange(flat.size).reshape(values.shape)
    crossed = [_crossed_edges(flat > level, where, axis, strides[axis]) for axis in range(3)]
    number = np.full(flat.size, -1)
    total, count = np.zeros((flat.size, 3)), np.zeros(flat.size)
    faces = []
    for axis, (low, upward) in enumerate(crossed):
        along = flat[low + strides[axis]] - flat[low]
        place = np.stack([low % nx, low // nx % ny, low // (nx * ny)], axis=1).astype(np.float64)
        place[:, axis] += (level - flat[low]) / along
        first, second = strides[(axis + 1) % 3], strides[(axis + 2) % 3]
        around = [low, low - first, low - first - second, low - second]
        for cube in around:  # within one axis no cube is named twice by the same of its four edges
            total[cube] += place
            count[cube] += 1
        square = np.stack(around, axis=1)
        square[~upward] = square[~upward, ::-1]
        faces += [square[:, [0, 1, 2]], square[:, [0, 2, 3]]]
    cubes = np.flatnonzero(count)
    number[cubes] = np.arange(len(cubes))
    return total[cubes] / count[cubes, None], number[np.concatenate(faces)]


def _crossed_edges(
    above: NDArray[np.bool_], where: Int, axis: int, stride: int
) -> tuple[Int, NDArray[np.bool_]]:
    """Lattice points whose edge along an axis (x, y, z) crosses the surface, and whether its far end is below."""
    start = np.moveaxis(where, 2 - axis, 0)[:-1].ravel()
    low = start[above[start] != above[start + stride]]
    return low, above[low]


def smoothed(points: Float, triangles: Int, times: int) -> Float:
    """Points of a closed surface without the steps of its lattice; its volume is kept to about a per cent."""
    if not len(triangles):
        return points
    first = triangles.ravel()
    second = triangles[:, [1, 2, 0]].ravel()  # a closed surface has each edge once in each direction
    neighbours = np.bincount(first, minlength=len(points))
    moved = points.copy()
    for turn in range(2 * times):
        for k in range(3):
            mean = np.bincount(first, moved[second, k], minlength=len(points)) / neighbours
            moved[:, k] += SMOOTHING[turn % 2] * (mean - moved[:, k])
    return moved


def with_fewer_triangles(points: Float, triangles: Int, most: int) -> tuple[Float, Int]:
    """The surface with about `most` triangles or fewer, as near to the given one as that allows."""
    if len(triangles) <= most:
        return points, triangles
    from manifold3d import Manifold, Mesh

    solid = Manifold(Mesh(points.astype(np.float32), triangles.astype(np.uint32)))
    tolerance = FIRST_TOLERANCE
    while solid.num_tri() > most and tolerance < MOST_TOLERANCE:
        solid = solid.simplify(tolerance)
        tolerance *= 2.0
    if solid.is_empty():
        return points, triangles
    mesh = solid.to_mesh()
    return np.asarray(mesh.vert_properties, dtype=np.float64)[:, :3], np.asarray(mesh.tri_verts, np.int64)
