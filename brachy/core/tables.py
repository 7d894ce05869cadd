"""Dose-rate tables of one seed in r^2 and angle, which the fast kernels read instead of evaluating TG-43.

A seed's dose rate is a factor that the kernels compute, times a table T that they read:

    1D: 1 times T(s) = the rate of eq. (11)
    2D: G_L = beta / (L r sin theta) times T(s, theta) = Lambda / G_L(1 cm, 90 degrees) g_L(r) F(r, theta)

with s = r^2. T is linear in s and in theta between the borders of its cells.

Segments. A float32 consists of sign, exponent and mantissa, so its top bits, read as an integer, are the number of a
segment of s: each octave (factor of 2) has 2^BITS segments of equal width, and finding the segment of a distance costs
one shift. The s of every whole number of cm up to 11, and of 0.25, 0.5, 0.75 and 1.5 cm, is the border of a segment, so
that the kinks of the published tables, which are linear between such radii, lie on borders and not inside. Angles are
divided into equal columns, as few as make every published angle a border: within a column T is linear in theta, as F
is.

Error. Inside a segment of width h <= s / 2^BITS a chord differs from T by at most h^2 / 8 |T''|. With T = exp(-mu r) /
s (1D), |T''| s^2 / T = 2 + 7/4 mu r + (mu r)^2 / 4; with T = exp(-mu r) (2D) it is (mu r + (mu r)^2) / 4. BITS = 7 and
mu = 0.3 per cm give 2e-5 (1D) and 1e-6 (2D) at 1 cm, 7e-5 and 2e-5 at 10 cm, 4e-4 and 3e-4 at 40 cm. Beyond the
published tables, where T is smooth, its values are shifted so that half of this error is left (`_balanced`). F is
linear in r and not in s, which adds h^2 / 32 |dF/dr| / r^3, below 1e-5. A kink inside a segment adds its change of
logarithmic slope times 2^-BITS / 4: 5e-4 at 0.2 cm for the worst of the models, nothing at most radii. The kernels' arc
tangents add 5e-6, float32 1e-6. A table is used only if its error measured on several thousand probes is below 0.07 %
(`brachy.dosimetry.tg43.dose_table`); every model: tests/independent/test_dose_fast_kernels.py.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Float = NDArray[np.float64]

BITS = 7
"""2^7 segments per octave of r^2 (engineering choice: the fewest with an error well under 0.1 %)."""

REACH_CM = 64.0
"""The tables end here; beyond it the kernels give the dose at the end (1e-10 of the dose at 1 cm)."""

MANTISSA_BITS = 23
"""Mantissa bits of a float32 (IEEE 754)."""

ORDER = 6
"""Interpolation nodes of a block along each axis."""

MOST_VOXELS = 96
"""Greatest width of a block in voxels: its work arrays grow as the cube of it (engineering choice)."""

COLUMNS = (9, 18, 30, 36, 45, 60, 90, 180, 360, 450, 900)
"""Numbers of columns between 0 and 90 degrees that are tried, to make every published angle a border."""


class DoseTable(NamedTuple):
    """Table of one seed of unit weight; the four corners of a cell (two angles, two radii) are adjacent in `values`."""

    values: Any  # (columns + 1, rows, 2) float32, flat: T at an angle and at the next
    columns: Any  # int64: number of columns of angle; 0 for 1D, which has no angles
    rows: Any  # int64: number of borders of r^2
    base: Any  # int64: number of the first segment
    low: Any  # float32: least s, cm^2: the square of the capsule's radius; smaller ones count as this
    high: Any  # float32: greatest s, cm^2; larger ones count as this
    half2: Any  # float32: square of half the capsule's length, cm^2
    length: Any  # float32: active length, cm
    cusp: (
        Any  # float32: relative error of interpolating across the axis, per radian of a block's half diagonal
    )


class Blocks(NamedTuple):
    """How a grid is divided into blocks, and a block interpolated. Index m is the number of voxels along an axis."""

    sizes: Any  # (levels, 3) int64: voxels of a block along z, y, x; each level half of the one before
    node_count: Any  # (m + 1,) int64: nodes along an axis, at most ORDER
    node_at: Any  # (m + 1, ORDER) float32: nodes, in voxels from the block's centre
    lagrange: Any  # (m + 1, ORDER, m) float32: weight of a node at a voxel, 0 for nodes beyond node_count
    check: Any  # (n, 3) float32: voxels that are compared, as fractions of the block along z, y, x
    reach: Any  # float32: a seed farther than so many half sides from a block is far
    tolerance: Any  # float32: greatest difference at a compared voxel, as a share of the total dose there
    share: Any  # float32: greatest error of all cusps in a block, as a share of the dose there


class Cells(NamedTuple):
    """Work arrays of `CHUNK` places: which cell of a table each reads, where in the cell, and times what."""

    cell: Any  # int32: index of the cell's first value
    along: Any  # float32: place in the cell along r^2, 0 to 1
    across: Any  # float32: place in the cell along the angle, 0 to 1
    factor: Any  # float32: what the table's value is multiplied by


class Work(NamedTuple):
    """Work arrays of one thread; those of places are multiples of `LANES` long, all float32 except `far`."""

    x: Any  # places: nodes and compared voxels of a block, or all its voxels
    y: Any
    z: Any
    value: Any  # dose at the places
    near: Any  # dose of the near seeds at the compared voxels
    far: Any  # int32: indices of the far seeds of the block
    lines: Any  # interpolation along x done
    planes: Any  # interpolation along x and y done
    voxels: Any  # dose of the block, x fastest
    whole: Any  # dose of the largest block around it, z y x


def segment_borders(least_cm: float) -> tuple[int, Float]:
    """Number of the first segment, and the borders in r^2 (cm^2) from `least_cm`^2 or less to REACH_CM^2."""
    first = int(np.floor(np.log2(least_cm**2)))
    last = int(np.log2(REACH_CM**2))
    base = _bits(2.0**first)
    numbers = np.arange((last - first << BITS) + 1) + base
    borders = (numbers << (MANTISSA_BITS - BITS)).astype(np.uint32).view(np.float32).astype(np.float64)
    return base, borders


def _bits(value: float) -> int:
    """Number of the segment in which a value of r^2 lies."""
    return int(np.float32(value).view(np.uint32)) >> (MANTISSA_BITS - BITS)


def angle_columns(angles_deg: Float) -> int:
    """The smallest of COLUMNS that makes every published angle a border; the largest if none does."""
    for columns in COLUMNS:
        place = angles_deg * columns / 90
        if np.abs(place - np.round(place)).max() < 1e-6:
            return columns
    return COLUMNS[-1]


def axis_cusp(angles_deg: Float, anisotropy: Float) -> float:
    """Relative error of interpolating across a seed's axis, per radian that a block's half diagonal spans.

    F is symmetric about the axis and linear in theta beside it. Its kink is a cusp of twice the slope on the axis, or
    the change of slope at one of the next angles; the largest one up to 10 degrees counts. A kink that is interpolated
    between Chebyshev nodes has an error of about 0.035 times its change of slope times the width (measured), which is
    two half diagonals here: hence 0.07.
    """
    theta = np.radians(angles_deg[angles_deg <= 10.0])
    slope = np.diff(anisotropy[: len(theta)], axis=0) / np.diff(theta)[:, None]
    bends = np.concatenate([2 * slope[:1], np.diff(slope, axis=0)]) if len(slope) else np.zeros((1, 1))
    least = np.maximum(anisotropy[: len(bends)], 1e-3)
    return float(0.07 * (np.abs(bends) / least).max())


def point_table(rate: Callable[[Float], Float], radius_cm: float, smooth_beyond_cm: float) -> DoseTable:
    """Table of the 1D dose rate `rate` (a function of r in cm); within `radius_cm` the kernels keep the rate there."""
    base, borders = segment_borders(radius_cm)
    values = _balanced(rate(np.sqrt(borders))[:, None], borders, smooth_beyond_cm)
    return _table(base, values, 0, radius_cm, 0.0, 0.0, 0.0)


def line_table(
    factor: Callable[[Float, Float], Float],
    columns: int,
    radius_cm: float,
    half_cm: float,
    length_cm: float,
    cusp: float,
    smooth_beyond_cm: float,
) -> DoseTable:
    """Table of the 2D dose rate divided by G_L, `factor` (a function of r in cm and theta in degrees).

    `radius_cm` and `half_cm` are half the capsule's diameter and length, `length_cm` is the active length, `cusp` that
    of `axis_cusp`; beyond `smooth_beyond_cm` the published tables have no nodes.
    """
    base, borders = segment_borders(radius_cm)
    values = factor(np.sqrt(borders)[:, None], np.linspace(0.0, 90.0, columns + 1))
    values = _balanced(values, borders, smooth_beyond_cm)
    return _table(base, values, columns, radius_cm, half_cm, length_cm, cusp)


def _balanced(values: Float, borders: Float, smooth_beyond_cm: float) -> Float:
    """Values at the borders shifted by a sixteenth of the second difference, beyond `smooth_beyond_cm`.

    A chord of a curved function errs to one side, by an eighth of the second difference at its middle. Shifting both
    ends by half of that makes the error as large at the ends as at the middle, with opposite signs: half of it is left.
    """
    bend = values[2:] - 2 * values[1:-1] + values[:-2]
    octave = np.arange(
        (1 << BITS) - 1, len(bend) - 1, 1 << BITS
    )  # there the step doubles and bend is no curvature
    bend[octave] = 0.5 * (bend[octave - 1] + bend[octave + 1])
    moved = values.copy()
    moved[1:-1] -= np.where(borders[1:-1, None] > smooth_beyond_cm**2, bend / 16, 0.0)
    return moved


def _table(
    base: int, values: Float, columns: int, radius_cm: float, half_cm: float, length_cm: float, cusp: float
) -> DoseTable:
    """Table in the layout of the kernels from `values` (rows, columns + 1) at the borders of the cells."""
    # each value beside that at the next angle; after 90 degrees its own, which is never used with any weight
    following = np.concatenate([values[:, 1:], values[:, -1:]], axis=1)
    pairs = np.stack([values.T, following.T], axis=-1).astype(np.float32).ravel()
    pairs.setflags(write=False)
    high = np.nextafter(np.float32(REACH_CM**2), np.float32(0))
    squares = np.float32(radius_cm**2), high, np.float32(half_cm**2)
    return DoseTable(pairs, columns, len(values), base, *squares, np.float32(length_cm), np.float32(cusp))


def read(table: DoseTable, across_cm: Float, along_cm: Float) -> Float:
    """Dose rate that the kernels read from a table, in numpy, for places outside the capsule: to check the table."""
    s = (across_cm**2 + along_cm**2).astype(np.float32)
    bits = np.maximum(s, table.low).view(np.uint32)
    segment = (bits >> np.uint32(MANTISSA_BITS - BITS)).astype(np.int64) - table.base
    part = (bits & np.uint32((1 << (MANTISSA_BITS - BITS)) - 1)) / float(1 << (MANTISSA_BITS - BITS))
    pairs = table.values.reshape(-1, table.rows, 2).astype(np.float64)
    angle = np.arctan2(across_cm, along_cm) * (table.columns / (np.pi / 2))
    column = np.minimum(angle.astype(np.int64), table.columns)
    u = angle - column
    low = (1 - u) * pairs[column, segment, 0] + u * pairs[column, segment, 1]
    high = (1 - u) * pairs[column, segment + 1, 0] + u * pairs[column, segment + 1, 1]
    value = (1 - part) * low + part * high
    if not table.columns:
        return np.asarray(value, dtype=np.float64)
    width = np.maximum(float(table.length) * across_cm, 1e-9)
    return np.asarray(
        value * np.arctan2(width, s - 0.25 * float(table.length) ** 2) / width, dtype=np.float64
    )


def interpolation(longest: int, order: int = ORDER) -> tuple[Any, Any, Any]:
    """`node_count`, `node_at` and `lagrange` of `Blocks` for blocks of up to `longest` voxels along an axis.

    The nodes are Chebyshev nodes over the range of the voxels' centres; a block of at most `order` voxels has its
    voxels as nodes.
    """
    count = np.zeros(longest + 1, dtype=np.int64)
    at = np.zeros((longest + 1, order), dtype=np.float32)
    weight = np.zeros((longest + 1, order, longest), dtype=np.float32)
    for m in range(1, longest + 1):
        voxels = np.arange(m) - 0.5 * (m - 1)
        nodes = voxels
        if m > order:
            nodes = 0.5 * (m - 1) * np.cos(np.pi * (np.arange(order) + 0.5) / order)
        count[m], at[m, : len(nodes)] = len(nodes), nodes
        for a, node in enumerate(nodes):
            others = np.delete(nodes, a)
            weight[m, a, :m] = np.prod((voxels[:, None] - others) / (node - others), axis=1)
    for array in (count, at, weight):
        array.setflags(write=False)
    return count, at, weight


def check_places(count: int) -> NDArray[np.float32]:
    """Places (count, 3) in a unit cube: its corners, then places midway between nodes and at the faces.

    Midway between nodes and at the faces the error of interpolating across a kink is largest. A low-discrepancy
    sequence chooses among them, so that every part of the block is met: the additive recurrence with powers of the root
    of x^4 = x + 1 (the analogue in 3D of the golden ratio).
    """
    nodes = np.sort(np.cos(np.pi * (np.arange(ORDER) + 0.5) / ORDER))
    between = np.concatenate([[-0.999], 0.5 * (nodes[1:] + nodes[:-1]), [0.998]])
    corners = 0.999 * np.array([[(i >> k) & 1 for k in range(3)] for i in range(8)])
    root = 1.2207440846057596
    steps = np.arange(1, count - 7)[:, None] * (1 / root ** np.arange(1, 4))
    chosen = between[((0.5 + steps) % 1 * len(between)).astype(np.int64)]
    places = np.concatenate([corners, 0.5 + 0.5 * chosen]).astype(np.float32)
    places.setflags(write=False)
    return places


def block_sizes(spacing_mm: Float, target_mm: float = 24.0, leaf_voxels: int = 12) -> NDArray[np.int64]:
    """Voxels (levels, 3) of a block along z, y, x: about `target_mm` wide, halving to about `leaf_voxels`.

    24 mm and 12 voxels were fastest for 80 seeds on 1 mm voxels among 12 to 32 (engineering choice).
    """
    spacing = np.asarray(spacing_mm, dtype=np.float64)[::-1]
    top = np.minimum(target_mm / spacing, MOST_VOXELS)
    levels = max(2, round(np.log2(top.max() / leaf_voxels)) + 1)
    leaf = np.maximum(2, np.round(top / 2 ** (levels - 1))).astype(np.int64)
    while leaf.prod() < 216:  # smaller blocks have as many nodes as voxels (ORDER^3): nothing to gain
        leaf[np.argmin(leaf * spacing)] += 1
    sizes = leaf * 2 ** np.arange(levels - 1, -1, -1, dtype=np.int64)[:, None]
    sizes.setflags(write=False)
    return sizes
