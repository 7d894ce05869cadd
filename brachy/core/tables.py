"""Dose-rate tables of one seed in r^2 and angle, which the fast kernels read instead of evaluating TG-43.

Tables hold the dose rate of a seed of unit strength as a function of s = r^2:

    1D: the rate of eq. (11) of TG-43U1
    2D: the rate of eq. (1), as a function of the angle theta from the axis too

Nearer than FAR active lengths, where G_L = beta / (L r sin theta) varies too fast, a second table of 2D holds the rate
divided by G_L, which the kernels compute. In a cell a table is bilinear in s and theta.

Segments. A float32 consists of sign, exponent and mantissa, so its top bits, read as an integer, are the number of a
segment of s: each octave (factor of 2) has 2^BITS segments of equal width, and finding the segment of a distance costs
one shift. The s of every whole number of cm up to 11, and of 0.25, 0.5, 0.75 and 1.5 cm, is the border of a segment, so
that the kinks of the published tables, which are linear between such radii, lie on borders and not inside. Angles are
divided into equal columns, at least 36, as few as make every published angle a border: within a column F is linear.

Error. Inside a segment of width h <= s / 2^BITS a chord differs from T by at most h^2 / 8 |T''|. With T = exp(-mu r) /
s, |T''| s^2 / T = 2 + 7/4 mu r + (mu r)^2 / 4. Every cell is shifted by half of its error in the middle, so that half
is left (`_cells`): with BITS = 7 and mu = 0.3 per cm, 1e-5 at 1 cm, 4e-5 at 10 cm, 2e-4 at 40 cm. Along a column of
2.5 degrees r^2 G_L bends: at 1.5 active lengths 1e-4 is left of it, less as the fourth power of the distance (measured
for the shipped models). F is linear in r and not in s, which adds h^2 / 32 |dF/dr| / r^3, below 1e-5. A kink inside a
segment adds its change of logarithmic slope times 2^-BITS / 4: 5e-4 at 0.2 cm for the worst of the models, nothing at
most radii. The kernels' arc tangents add 3e-5 at most, float32 1e-6. A table is used only if its error measured on
several thousand probes is below 0.07 % (`brachy.dosimetry.tg43.dose_table`); every model: tests/independent/
test_dose_fast_kernels.py.
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

FAR = 1.5
"""Active lengths from a seed beyond which the 2D rate itself is tabulated (engineering choice: see Error above)."""

_HIGH = np.nextafter(np.float32(REACH_CM**2), np.float32(0))

ORDER = 6
"""Interpolation nodes of a block along each axis."""

LOW_ORDER = 5
"""Nodes along each axis where many seeds are far, whose errors partly cancel."""

MOST_VOXELS = 96
"""Greatest width of a block in voxels: its work arrays grow as the cube of it (engineering choice)."""

COLUMNS = (36, 45, 60, 90, 180, 360, 450, 900)
"""Numbers of columns between 0 and 90 degrees that are tried, to make every published angle a border; fewer than 36 are
too wide for G_L (engineering choice)."""


class DoseTable(NamedTuple):
    """Table of one seed of unit weight: four coefficients for each cell, see `_cells`."""

    values: Any  # (columns + 1, rows, 4) float32, flat: the dose rate
    columns: Any  # int64: number of columns of angle; 0 for 1D, which has no angles
    rows: Any  # int64: number of segments of r^2
    base: Any  # int64: number of the first segment
    low: Any  # float32: least s, cm^2; 1D: smaller ones count as this; 2D: where `near` ends
    high: Any  # float32: greatest s, cm^2; larger ones count as this
    near: Any  # (columns + 1, near_rows, 4) float32, flat, for s below `low`: the dose rate over G_L; 2D
    near_rows: Any  # int64
    near_base: Any  # int64
    radius2: Any  # float32: square of the capsule's radius, cm^2
    half2: Any  # float32: square of half the capsule's length, cm^2
    length: Any  # float32: active length, cm
    cusp: (
        Any  # float32: relative error of interpolating across the axis, per radian of a block's half diagonal
    )


class Blocks(NamedTuple):
    """How a grid is divided into blocks, and a block interpolated. Index m is the number of voxels along an axis."""

    sizes: Any  # (levels, 3) int64: voxels of a block along z, y, x; each level half of the one before
    # the first index: 0 for ORDER, 1 for LOW_ORDER
    node_count: Any  # (2, m + 1) int64: nodes along an axis, at most the order
    node_at: Any  # (2, m + 1, ORDER) float32: nodes, in voxels from the block's centre
    lagrange: Any  # (2, m + 1, ORDER, m) float32: weight of a node at a voxel, 0 for nodes beyond node_count
    check: Any  # (2, n, 3) float32: voxels that are compared, as fractions of the block along z, y, x
    many: Any  # int64: so many far seeds are interpolated with LOW_ORDER
    reach: Any  # float32: a seed farther than so many half sides from a block is far
    tolerance: Any  # float32: greatest difference at a compared voxel, as a share of the total dose there
    share: Any  # float32: greatest error of all cusps in a block, as a share of the dose there


class Cells(NamedTuple):
    """Work arrays of `CHUNK` places: which cell of a table each reads, where in the cell, and times what."""

    cell: Any  # int32: index of the cell's first value, counted as if the table began at the segment 0
    along: Any  # float32: place in the cell along r^2, in the last bit of its mantissa
    across: Any  # float32: place in the cell along the angle, 0 to 1
    place: Any  # int32: indices of places near a seed
    factor: Any  # float32: what the table's value is multiplied by there
    kept: Any  # float32: dose there


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


def segment_borders(least_cm: float, most_cm: float = REACH_CM) -> tuple[int, Float]:
    """Number of the first segment, and the borders in r^2 (cm^2) from `least_cm`^2 or less to `most_cm`^2 or more."""
    first = int(np.floor(np.log2(least_cm**2)))
    last = int(np.ceil(np.log2(most_cm**2)))
    base = _bits(2.0**first)
    return base, _values(np.arange((last - first << BITS) + 1) + base)


def _values(numbers: NDArray[np.int64]) -> Float:
    """Values of r^2 at which segments begin."""
    return (numbers << (MANTISSA_BITS - BITS)).astype(np.uint32).view(np.float32).astype(np.float64)


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


def point_table(rate: Callable[[Float], Float], radius_cm: float) -> DoseTable:
    """Table of the 1D dose rate `rate` (a function of r in cm); within `radius_cm` the kernels keep the rate there."""
    base, borders = segment_borders(radius_cm)
    values = _cells(lambda r, _: rate(r), borders, 0)
    none = _frozen(np.zeros(4))
    low = np.float32(radius_cm**2)
    return DoseTable(values, 0, len(borders) - 1, base, low, _HIGH, none, 0, 0, low, *3 * (np.float32(0),))


def line_table(
    rate: Callable[[Float, Float], Float],
    factor: Callable[[Float, Float], Float],
    columns: int,
    radius_cm: float,
    half_cm: float,
    length_cm: float,
    cusp: float,
) -> DoseTable:
    """Tables of the 2D dose rate, `rate`, and of that over G_L, `factor` (functions of r in cm, theta in degrees).

    `radius_cm` and `half_cm` are half the capsule's diameter and length, `length_cm` is the active length, `cusp` that
    of `axis_cusp`.
    """
    far_cm = FAR * length_cm
    base, borders = segment_borders(far_cm)
    near_base, near_borders = segment_borders(radius_cm, far_cm)
    squares = np.float32(radius_cm**2), np.float32(half_cm**2)
    return DoseTable(
        _cells(rate, borders, columns),
        columns,
        len(borders) - 1,
        base,
        np.float32(far_cm**2),
        _HIGH,
        _cells(factor, near_borders, columns),
        len(near_borders) - 1,
        near_base,
        *squares,
        np.float32(length_cm),
        np.float32(cusp),
    )


def _cells(function: Callable[[Float, Float], Float], borders: Float, columns: int) -> NDArray[np.float32]:
    """Coefficients (columns + 1, rows, 4), flat, of a function of r (cm) and theta (degrees) in each cell.

    With u the position in the segment, in the last bit of the mantissa of r^2, and v that in the column, 0 to 1, the
    function is c0 + c1 u + (c2 + c3 u) v. A cell's chords meet the function at its corners, and then are shifted by
    half of what they miss in the middle. After 90 degrees follows a column that is never used with any weight.
    """
    s0, s1 = borders[:-1], borders[1:]
    theta = np.linspace(0.0, 90.0, columns + 1) if columns else np.zeros(1)
    middle = 0.5 * (theta[1:] + theta[:-1])

    def at(s: Float, angles: Float) -> Float:
        return function(np.sqrt(s)[None, :], angles[:, None])

    inner = at(0.5 * (s0 + s1), theta)
    ends = 0.5 * (at(s0, theta) + at(s1, theta))
    shift = 0.5 * (inner - ends)
    first, last = at(s0, theta) + shift, at(s1, theta) + shift
    if columns:
        bend = 0.5 * (at(0.5 * (s0 + s1), middle) - 0.5 * (inner[1:] + inner[:-1]))
    else:
        bend = np.zeros((0, len(s0)))
    cells = np.zeros((columns + 1, len(s0), 4))
    cells[..., 0], cells[..., 1] = first, (last - first) / (1 << (MANTISSA_BITS - BITS))
    cells[:-1, :, 2:] = cells[1:, :, :2] - cells[:-1, :, :2]
    cells[:-1, :, 0] += bend
    return _frozen(cells)


def _frozen(values: Float) -> NDArray[np.float32]:
    """Flat float32 that is not to be changed."""
    flat = values.astype(np.float32).ravel()
    flat.setflags(write=False)
    return flat


def read(table: DoseTable, across_cm: Float, along_cm: Float) -> Float:
    """Dose rate that the kernels read from a table, in numpy, for places outside the capsule: to check the table."""
    s = np.maximum((across_cm**2 + along_cm**2).astype(np.float32), table.radius2)
    angle = np.arctan2(across_cm, along_cm) * (table.columns / (np.pi / 2))
    found = _read(table.values, table.rows, table.base, np.maximum(s, table.low), angle)
    if not table.columns:
        return found
    near = s < table.low
    width = np.maximum(float(table.length) * across_cm[near], 1e-9)
    geometry = np.arctan2(width, s[near] - 0.25 * float(table.length) ** 2) / width
    found[near] = geometry * _read(table.near, table.near_rows, table.near_base, s[near], angle[near])
    return found


def _read(values: Any, rows: int, base: int, s: NDArray[np.float32], angle: Float) -> Float:
    """Values of a table's cells at r^2 and angles, the angles in columns."""
    bits = s.view(np.uint32)
    segment = (bits >> np.uint32(MANTISSA_BITS - BITS)).astype(np.int64) - base
    u = (bits & np.uint32((1 << (MANTISSA_BITS - BITS)) - 1)).astype(np.float64)
    column = angle.astype(np.int64)
    v = angle - column
    c = values.reshape(-1, rows, 4)[column, segment].astype(np.float64)
    return np.asarray(c[:, 0] + c[:, 1] * u + (c[:, 2] + c[:, 3] * u) * v, dtype=np.float64)


def both_orders(longest: int, checked: int) -> tuple[Any, Any, Any, Any]:
    """`node_count`, `node_at`, `lagrange` and `check` of `Blocks`."""
    orders = ORDER, LOW_ORDER
    found = [(*interpolation(longest, order), check_places(checked, order)) for order in orders]
    count, at, weight, check = (np.stack(arrays) for arrays in zip(*found, strict=True))
    for array in (count, at, weight, check):
        array.setflags(write=False)
    return count, at, weight, check


def interpolation(longest: int, order: int = ORDER) -> tuple[Any, Any, Any]:
    """`node_count`, `node_at` and `lagrange` of `Blocks` for blocks of up to `longest` voxels along an axis.

    The nodes are Chebyshev nodes over the range of the voxels' centres; a block of at most `order` voxels has its
    voxels as nodes.
    """
    count = np.zeros(longest + 1, dtype=np.int64)
    at = np.zeros((longest + 1, ORDER), dtype=np.float32)
    weight = np.zeros((longest + 1, ORDER, longest), dtype=np.float32)
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


def check_places(count: int, order: int = ORDER) -> NDArray[np.float32]:
    """Places (count, 3) in a unit cube: its corners, then places midway between nodes and at the faces.

    Midway between nodes and at the faces the error of interpolating across a kink is largest. A low-discrepancy
    sequence chooses among them, so that every part of the block is met: the additive recurrence with powers of the root
    of x^4 = x + 1 (the analogue in 3D of the golden ratio).
    """
    nodes = np.sort(np.cos(np.pi * (np.arange(order) + 0.5) / order))
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
