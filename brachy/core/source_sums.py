"""Dose of seeds at places, summed from tables in float32: `add`, which all kernels of `brachy.core.tree` call.

1D reads the rate of eq. (11) of TG-43U1 from a table in r^2. 2D reads the rate of eq. (1) from a table in r^2 and the
angle from the axis, too: away from the seed it varies so little within a cell that nothing else need be computed. At a
place nearer than `far` of the table, G_L varies too fast for that; there it is computed, and the table holds the rate
divided by it. Which of the two holds depends on the place and the seed alone, not on the places beside it.
"""

# numba infers the types
# mypy: allow-untyped-defs, allow-untyped-calls

import math

import numba
import numpy as np

from brachy.core.compiling import njit
from brachy.core.lanes import WIDTH, add_cells_at
from brachy.core.tables import BITS, MANTISSA_BITS
from brachy.core.work_arrays import CHUNK, FAST, LANES

# a float32's bits to the number of its segment in a table (SHIFT), and to the position in the segment (MASK)
SHIFT = np.int32(MANTISSA_BITS - BITS)
MASK = np.int32((1 << (MANTISSA_BITS - BITS)) - 1)
ZERO, HALF, ONE, TWO = np.float32(0.0), np.float32(0.5), np.float32(1.0), np.int32(2)
PI, RIGHT_ANGLE = np.float32(np.pi), np.float32(np.pi / 2)
ON_AXIS = np.float32(1e-13)
"""Square of the least distance from a seed's axis, cm^2, so that nothing is divided by 0: it turns the angle of a place
beside the capsule's tip by 2e-6 radians."""

AT_SEED = ON_AXIS * ON_AXIS
"""Keeps the arc tangent's argument at 1 or less in the middle of a seed, where both of its legs are 0."""

FINE, COARSE = np.float32(4096.0), np.float32(1.0 / 4096.0)
"""Coordinates as whole numbers are in these parts of a cm, to find the box around places."""

MOST = np.int32(2**31 - 1)

ARC = (0.99999563, -0.33299459, 0.19563585, -0.12123887, 0.057477086, -0.013480379)
"""arctan(q) = q (ARC[0] + ARC[1] q^2 + ...) for 0 <= q <= 1, relative error below 5e-6 (reweighted least squares;
tests/independent/test_dose_fast_kernels.py, test_angle_from_the_axis)."""

A0, A1, A2, A3, A4, A5 = (np.float32(a) for a in ARC)

SHORT_ARC = (0.99996998, -0.33170116, 0.18521704, -0.091928296, 0.023864053)
"""The same with a term less, relative error below 3.1e-5 (linear programming): for the place between two angles of a
table, where the rate changes by less than a few per cent for 0.01 radians."""


@njit(inline="always", **FAST)
def angle(across, along):
    """Angle from the axis, 0 to pi, of a place at the distance `across` (above 0) from it and `along` on it."""
    size = abs(along)  # of the two legs, the smaller over the larger is within the polynomial's range
    q = min(across, size) / max(across, size)
    w = q * q
    found = q * (A0 + w * (A1 + w * (A2 + w * (A3 + w * (A4 + w * A5)))))
    found = RIGHT_ANGLE - found if across > size else found
    return PI - found if along < ZERO else found


if numba.config.DISABLE_JIT:

    def _add_cells(values, first, cell, along, across, weight, value):
        """value += weight x the table in each place's cell, bilinear in `along` (r^2) and `across` (angle).

        The same in numpy, for NUMBA_DISABLE_JIT=1; the compiled version below reads sixteen cells at once.
        """
        n = value.size
        c, u, v = cell[:n] + first, along[:n], across[:n]
        value += weight * (values[c] + values[c + 1] * u + (values[c + 2] + values[c + 3] * u) * v)

else:

    @njit(**FAST)
    def _add_cells(values, first, cell, along, across, weight, value):
        for q in range(0, value.size, WIDTH):
            add_cells_at(values, first, cell, along, across, weight, value, q)


@njit(**FAST)
def _add_point_sources(x, y, z, value, seeds, weight, chosen, count, table, cells):
    """value += 1D dose, TG-43U1 eq. (11), of the first `count` seeds of `chosen` at places.

    The top bits of r^2 as a float32 are the number of its segment in the table and the rest its position in the
    segment (`brachy.core.tables`): no root, logarithm or search is needed to find the cell.
    """
    cell, along, across = cells.cell, cells.along, cells.across
    low, high, first = table.low, table.high, -4 * table.base
    for q in range(value.size):
        across[q] = ZERO
    for c in range(count):
        s = chosen[c]
        sx, sy, sz = seeds[s, 0], seeds[s, 1], seeds[s, 2]
        for q in range(value.size):
            dx, dy, dz = x[q] - sx, y[q] - sy, z[q] - sz
            r2 = np.float32(min(max(dx * dx + dy * dy + dz * dz, low), high))
            bits = r2.view(np.int32)
            cell[q] = np.int32(bits >> SHIFT) << TWO
            along[q] = np.float32(np.int32(bits & MASK))
        _add_cells(table.values, first, cell, along, across, weight[s], value)


@njit(**FAST)
def _add_line_sources(x, y, z, value, seeds, axes, weight, chosen, count, table, cells):
    """The same for the 2D dose, eq. (1), at places outside `far`; `_near_places` sees to those inside."""
    cell, along, across = cells.cell, cells.along, cells.across
    rows, first = np.int32(4 * table.rows), -4 * table.base
    low, high, columns = table.low, table.high, np.float32(table.columns)
    scale = columns / RIGHT_ANGLE
    b0, b1, b2 = (
        scale * np.float32(SHORT_ARC[0]),
        scale * np.float32(SHORT_ARC[1]),
        scale * np.float32(SHORT_ARC[2]),
    )
    b3, b4 = scale * np.float32(SHORT_ARC[3]), scale * np.float32(SHORT_ARC[4])
    x0, y0, z0, x1, y1, z1 = MOST, MOST, MOST, -MOST, -MOST, -MOST
    for q in range(value.size if count > 1 else 0):  # for one seed it costs as much as it spares
        # whole numbers, because the compiler keeps the least of several float32 out of vector registers
        i, j, k = np.int32(x[q] * FINE), np.int32(y[q] * FINE), np.int32(z[q] * FINE)
        x0, y0, z0, x1, y1, z1 = min(x0, i), min(y0, j), min(z0, k), max(x1, i), max(y1, j), max(z1, k)
    ax, ay, az = np.float32(x0) * COARSE, np.float32(y0) * COARSE, np.float32(z0) * COARSE
    bx, by, bz = np.float32(x1) * COARSE, np.float32(y1) * COARSE, np.float32(z1) * COARSE
    reach = np.float32(math.sqrt(low)) + np.float32(4.0) * COARSE  # the ends of the box are rounded
    for c in range(count):
        s = chosen[c]
        sx, sy, sz, w = seeds[s, 0], seeds[s, 1], seeds[s, 2], weight[s]
        ux, uy, uz = axes[s, 0], axes[s, 1], axes[s, 2]
        gx, gy, gz = max(ax - sx, sx - bx, ZERO), max(ay - sy, sy - by, ZERO), max(az - sz, sz - bz, ZERO)
        near = 0
        if count == 1 or gx * gx + gy * gy + gz * gz < reach * reach:
            near = _near_places(x, y, z, value, (sx, sy, sz), (ux, uy, uz), w, table, cells)
        for q in range(value.size):
            dx, dy, dz = x[q] - sx, y[q] - sy, z[q] - sz
            t = dx * ux + dy * uy + dz * uz
            # the perpendicular part as a vector: r^2 - t^2 would lose its digits near the axis
            px, py, pz = dx - t * ux, dy - t * uy, dz - t * uz
            p2, t2 = px * px + py * py + pz * pz, t * t
            r2 = np.float32(min(max(p2 + t2, low), high))
            # arctangent of the smaller of the two legs over the larger, in columns of the table
            small, large = max(min(p2, t2), ON_AXIS), max(p2, t2)
            # compiled to the reciprocal root instruction with a correction: faster than a root and a division
            tangent = small / np.float32(math.sqrt(small * large + AT_SEED))
            m = tangent * tangent
            theta = tangent * (b0 + m * (b1 + m * (b2 + m * (b3 + m * b4))))
            theta = columns - theta if p2 > t2 else theta
            column = np.int32(theta)
            bits = r2.view(np.int32)
            cell[q] = np.int32(column * rows) + (np.int32(bits >> SHIFT) << TWO)
            along[q] = np.float32(np.int32(bits & MASK))
            across[q] = theta - np.float32(column)
        _add_cells(table.values, first, cell, along, across, w, value)
        for n in range(near):
            value[cells.place[n]] = cells.kept[n]


@njit(**FAST)
def _near_places(x, y, z, value, seed, axis, weight, table, cells):
    """Find the places nearer than `far`, and compute in `cells.kept` their value with the seed's dose added.

    Returns how many there are; `cells.place` has their indices.
    """
    place, kept, factor = cells.place, cells.kept, cells.factor
    cell, along, across = cells.cell, cells.along, cells.across
    sx, sy, sz = seed
    ux, uy, uz = axis
    for q in range(value.size):
        dx, dy, dz = x[q] - sx, y[q] - sy, z[q] - sz
        factor[q] = dx * dx + dy * dy + dz * dz
    n, low = 0, table.low
    for a in range(0, value.size, LANES):
        some = factor[a : a + LANES]
        inside = ZERO  # counted in vector registers: mostly there is none
        for q in range(LANES):
            inside += ONE if some[q] < low else ZERO
        if inside > ZERO:
            for q in range(LANES):
                place[n] = a + q
                n += int(some[q] < low)
    if n == 0:
        return 0
    size = (n + WIDTH - 1) // WIDTH * WIDTH
    for k in range(n, size):
        place[k] = place[0]
    for k in range(
        size
    ):  # apart from what follows: reading here and there keeps a loop out of vector registers
        q = place[k]
        along[k], across[k], kept[k] = x[q], y[q], z[q]
    rows, first = np.int32(4 * table.near_rows), -4 * table.near_base
    columns = np.float32(table.columns) / RIGHT_ANGLE
    least, half2, length = table.radius2, table.half2, table.length
    end2, w = HALF * HALF * length * length, weight / length
    for k in range(size):
        dx, dy, dz = along[k] - sx, across[k] - sy, kept[k] - sz
        t = dx * ux + dy * uy + dz * uz
        px, py, pz = dx - t * ux, dy - t * uy, dz - t * uz
        # a place inside the capsule is moved outward to its side
        p2 = max(px * px + py * py + pz * pz, least if t * t <= half2 else ON_AXIS)
        inverse = ONE / np.float32(math.sqrt(p2))
        p = p2 * inverse
        r2 = np.float32(min(p2 + t * t, low))
        factor[k] = w * angle(length * p, r2 - end2) * inverse
        theta = angle(p, abs(t)) * columns
        column = np.int32(theta)
        bits = r2.view(np.int32)
        cell[k] = np.int32(column * rows) + (np.int32(bits >> SHIFT) << TWO)
        along[k] = np.float32(np.int32(bits & MASK))
        across[k] = theta - np.float32(column)
        kept[k] = ZERO
    _add_cells(table.near, first, cell, along, across, ONE, kept[:size])
    for k in range(n):
        kept[k] = value[place[k]] + factor[k] * kept[k]
    return n


@njit(**FAST)
def add(x, y, z, value, seeds, axes, weight, chosen, count, table, cells):
    """value += dose of the first `count` seeds of `chosen` at the places, whose number is a multiple of LANES."""
    for a in range(0, value.size, CHUNK):
        b = min(a + CHUNK, value.size)
        xs, ys, zs, part = x[a:b], y[a:b], z[a:b], value[a:b]
        if table.columns > 0:
            _add_line_sources(xs, ys, zs, part, seeds, axes, weight, chosen, count, table, cells)
        else:
            _add_point_sources(xs, ys, zs, part, seeds, weight, chosen, count, table, cells)
