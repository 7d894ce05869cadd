"""Dose-rate tables of one seed, indexed by the bits of float32(r^2): what the fast kernels read instead of TG-43.

A float32 is sign, exponent and mantissa: its top bits number segments of r^2, 2^BITS to each octave, that are equal on
a logarithmic scale to a factor of 2. r^2 of every whole number of cm up to 11, and of 0.25, 0.5, 0.75 and 1.5 cm, is
the border of a segment, so that the kinks of the published tables lie on borders and not inside.

Error of the radial table. Inside a segment of r^2 = s, of width h <= s / 2^BITS, a chord is off by at most
h^2 / 8 |f''|. With f = exp(-mu r) / s, |f''| s^2 / f = 2 + 7/4 mu r + (mu r)^2 / 4; BITS = 7 and mu = 0.3 per cm give
2e-5 at 1 cm, 1e-4 at 10 cm, 5e-4 at 40 cm. A kink of g or phi_an inside a segment adds its change of logarithmic slope
times 2^-BITS / 4, at most 3e-4 for the shipped models. The table is balanced (half the midpoint's error is taken off),
which halves this.

Error of the 2D table. It holds s f, which is nearly flat, at segment borders and at equal steps of the angle from the
axis; all angles of the published tables are multiples of the step, so F is linear in each cell. What is left is the
curvature of G_L: h^2 / 8 |d2 ln G_L / d theta2|, 3e-4 at the capsule's ends, 1e-5 at 5 mm.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Float = NDArray[np.float64]

BITS = 7
"""2^7 segments an octave of r^2 (engineering choice: the fewest with an error well under 0.1 %)."""

REACH_CM = 64.0
"""The tables end here; beyond it a seed's dose is that at the end (and 1e-10 of the dose at 1 cm)."""

MANTISSA_BITS = 23


class DoseTable(NamedTuple):
    """One seed of unit weight. 1D: `offset` + `slope` s. 2D: bilinear in a cell's four `values`, over s."""

    offset: Any  # (segments,) float32
    slope: Any  # (segments,) float32
    values: Any  # (columns + 1, rows, 2) float32, flat: at an angle and the next, so that a cell's corners lie together
    columns: Any  # int64: number of angle cells, 0 for 1D
    rows: Any  # int64: number of borders of r^2
    base: Any  # int64: number of the first segment
    low: Any  # float32: s is at least this, cm^2
    high: Any  # float32: and at most this
    radius2: Any  # float32: square of half the capsule's diameter, cm^2
    half2: Any  # float32: square of half its length
    angle: Any  # (6,) float32: theta in cells = sqrt(w) polynomial(w), w = 1 - cos theta
    cusp: Any  # float32: error of interpolating across the axis, of the dose, per radian of a block's width


def segment_borders(least_cm: float) -> tuple[int, Float]:
    """Number of the first segment, and the borders in r^2 from at most `least_cm`^2 to REACH_CM^2."""
    first = int(np.floor(np.log2(least_cm**2)))
    last = int(np.log2(REACH_CM**2))
    base = _bits(2.0**first)
    numbers = np.arange((last - first << BITS) + 1) + base
    borders = (numbers << (MANTISSA_BITS - BITS)).astype(np.uint32).view(np.float32).astype(np.float64)
    return base, borders


def _bits(value: float) -> int:
    return int(np.float32(value).view(np.uint32)) >> (MANTISSA_BITS - BITS)


def angle_polynomial(columns: int) -> Float:
    """Coefficients c of theta / (90 degrees) columns = sqrt(w) (c0 + c1 w + ...), w = 1 - cos theta, 0 <= w <= 1.

    theta = 2 asin(sqrt(w / 2)); fitted at Chebyshev nodes, within 2e-6 radians.
    """
    w = 0.5 - 0.5 * np.cos(np.pi * (np.arange(64) + 0.5) / 64)
    theta_over_root = 2 * np.arcsin(np.sqrt(w / 2)) / np.sqrt(w)
    fit = np.polynomial.Polynomial.fit(w, theta_over_root, 5, domain=[0, 1], window=[0, 1])
    coefficients: Float = np.array(fit.coef, dtype=np.float64) * (columns / (np.pi / 2))
    return coefficients


def angle_columns(angles_deg: Float, active_cm: float, capsule_cm: float) -> int:
    """Cells between 0 and 90 degrees, so that every published angle is a border of one.

    Half a degree; finer where the active length nearly fills the capsule, because G_L is steep at its tip, by the
    ratio of (L/2)^2 to the difference of the squares; finer too for angles that are no multiples of it.
    """
    tip = active_cm**2 / (capsule_cm**2 - active_cm**2)
    finest = 180
    for columns in (180, 360, 450, 900):
        finest = columns
        if np.abs(angles_deg * columns / 90 - np.round(angles_deg * columns / 90)).max() < 1e-6:
            break
    return finest * min(2, max(1, int(np.ceil(tip / 4))))


def axis_cusp(angles_deg: Float, anisotropy: Float) -> float:
    """Relative error of interpolating across a seed's axis, per radian that a block's half diagonal spans.

    F is mirrored on the axis and linear in theta beside it: a cusp of twice the slope, or the change of slope at one
    of the first angles. A kink interpolated between Chebyshev nodes is off by about 0.035 of its change of slope times
    the width (measured), here two half diagonals.
    """
    theta = np.radians(angles_deg[angles_deg <= 10.0])
    slope = np.diff(anisotropy[: len(theta)], axis=0) / np.diff(theta)[:, None]
    bends = np.concatenate([2 * slope[:1], np.diff(slope, axis=0)]) if len(slope) else np.zeros((1, 1))
    least = np.maximum(anisotropy[: len(bends)], 1e-3)
    return float(0.07 * (np.abs(bends) / least).max())


def radial_table(rate: Callable[[Float], Float], radius_cm: float) -> tuple[int, Float, Float]:
    """First segment, offset and slope of a rate (r in cm) that is read from `radius_cm` on."""
    base, borders = segment_borders(radius_cm)
    low, high = borders[:-1], borders[1:]
    at = [rate(np.sqrt(s)) for s in (low, 0.5 * (low + high), high)]
    slope = (at[2] - at[0]) / (high - low)
    balance = 0.5 * (at[1] - 0.5 * (at[0] + at[2]))
    return base, at[0] - slope * low + balance, slope


def point_table(rate: Callable[[Float], Float], radius_cm: float) -> DoseTable:
    """Table of the 1D dose rate `rate` (r in cm), which the kernels hold constant within `radius_cm`."""
    base, offset, slope = radial_table(rate, radius_cm)
    empty = np.zeros(0)
    return _table(base, offset, slope, empty, 0, radius_cm, 0.0, np.zeros(6), 0.0)


def line_table(
    rate: Callable[[Float, Float], Float],
    columns: int,
    radius_cm: float,
    half_cm: float,
    cusp: float,
    smooth_beyond_cm: float,
) -> DoseTable:
    """Table of the 2D dose rate `rate` (distance from the axis, along the axis; cm), continued inside the capsule.

    Beyond `smooth_beyond_cm`, where the published tables have no more nodes, borders are moved by a sixteenth of
    the second difference, which halves the error of a chord.
    """
    base, borders = segment_borders(radius_cm)
    theta = np.linspace(0.0, np.pi / 2, columns + 1)
    r = np.sqrt(borders)[:, None]
    values = borders[:, None] * rate(r * np.sin(theta), r * np.cos(theta))
    bend = values[2:] - 2 * values[1:-1] + values[:-2]
    octave = np.arange((1 << BITS) - 1, len(bend) - 1, 1 << BITS)  # where the step doubles
    bend[octave] = 0.5 * (bend[octave - 1] + bend[octave + 1])
    values[1:-1] -= np.where(r[1:-1] > smooth_beyond_cm, bend / 16, 0.0)
    values = np.concatenate(
        [values, values[:, -1:]], axis=1
    )  # 90 degrees is read as the first of one more cell
    pairs = np.stack([values[:, :-1].T, values[:, 1:].T], axis=-1)
    _, offset, slope = radial_table(lambda distance: rate(distance, np.zeros_like(distance)), radius_cm)
    polynomial = angle_polynomial(columns)
    return _table(base, offset, slope, pairs, columns, radius_cm, half_cm, polynomial, cusp)


def _table(
    base: int,
    offset: Float,
    slope: Float,
    values: Float,
    columns: int,
    radius_cm: float,
    half_cm: float,
    polynomial: Float,
    cusp: float,
) -> DoseTable:
    rows = 0 if values.ndim == 1 else values.shape[1]

    def fixed(array: Float) -> NDArray[np.float32]:
        single = np.ascontiguousarray(array, dtype=np.float32)
        single.setflags(write=False)
        return single

    high = np.nextafter(np.float32(REACH_CM**2), np.float32(0))
    radius2 = np.float32(radius_cm**2)
    return DoseTable(
        fixed(offset),
        fixed(slope),
        fixed(values.ravel()),
        columns,
        rows,
        base,
        radius2,
        high,
        radius2,
        np.float32(half_cm**2),
        fixed(polynomial),
        np.float32(cusp),
    )


def read(table: DoseTable, across_cm: Float, along_cm: Float) -> Float:
    """What the kernels make of a table, in numpy, for places outside the capsule: for checking it."""
    s = (across_cm**2 + along_cm**2).astype(np.float32)
    bits = np.maximum(s, table.low).view(np.uint32)
    segment = (bits >> np.uint32(MANTISSA_BITS - BITS)).astype(np.int64) - table.base
    if not table.columns:
        return np.asarray(table.offset[segment] + table.slope[segment] * s, dtype=np.float64)
    part = (bits & np.uint32((1 << (MANTISSA_BITS - BITS)) - 1)) / float(1 << (MANTISSA_BITS - BITS))
    angle = np.arctan2(across_cm, along_cm) * (table.columns / (np.pi / 2))
    column = np.minimum(angle.astype(np.int64), table.columns)
    u = angle - column
    pairs = table.values.reshape(-1, table.rows, 2)
    low = (1 - u) * pairs[column, segment, 0] + u * pairs[column, segment, 1]
    high = (1 - u) * pairs[column, segment + 1, 0] + u * pairs[column, segment + 1, 1]
    return np.asarray(((1 - part) * low + part * high) / s, dtype=np.float64)


def interpolation(longest: int, order: int) -> tuple[Any, Any, Any]:
    """`node_count`, `node_at` and `lagrange` of `Blocks` for blocks of up to `longest` voxels along an axis.

    Chebyshev nodes over the voxels' centres; a block of at most `order` voxels has its voxels as nodes.
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
    """Places (count, 3) in a unit cube: its corners, then a low-discrepancy sequence.

    Additive recurrence with the powers of the plastic number's analogue in 3D, the root of x^4 = x + 1.
    """
    corners = 0.999 * np.array([[(i >> k) & 1 for k in range(3)] for i in range(8)])
    root = 1.2207440846057596
    steps = np.arange(1, count - 7)[:, None] * (1 / root ** np.arange(1, 4))
    places = np.concatenate([corners, (0.5 + steps) % 1]).astype(np.float32)
    places.setflags(write=False)
    return places


def block_sizes(spacing_mm: Float, target_mm: float = 24.0, leaf_voxels: int = 12) -> NDArray[np.int64]:
    """Voxels (levels, 3) of a block along z, y, x: about `target_mm` wide, halving to about `leaf_voxels`.

    24 mm and 12 voxels were fastest for 80 seeds on 1 mm voxels among 12 to 32 (engineering choice).
    """
    spacing = np.asarray(spacing_mm, dtype=np.float64)[::-1]
    top = target_mm / spacing
    levels = max(2, round(np.log2(top.max() / leaf_voxels)) + 1)
    leaf = np.maximum(2, np.round(top / 2 ** (levels - 1))).astype(np.int64)
    while leaf.prod() < 216:  # less is slower summed block by block
        leaf[np.argmin(leaf * spacing)] += 1
    sizes = leaf * 2 ** np.arange(levels - 1, -1, -1, dtype=np.int64)[:, None]
    sizes.setflags(write=False)
    return sizes
