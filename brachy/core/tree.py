"""Fast sums over seeds, in float32: at points, on grids, and a row for each seed.

Coordinates are cm, in one frame; a weight is what a unit seed's table is multiplied by. `_add` reads a `DoseTable` and
adds seeds to the values at a list of places; the kernels below it decide which seeds go where. Each thread owns its
places and adds the seeds of a place in one order, so the result is the same bit for bit with any number of threads.

The tree. A seed far from a block of voxels changes slowly over it: all such seeds are summed at ORDER^3 Chebyshev
nodes of the block (at its voxels, where these are fewer along an axis) and interpolated once. The blocks halve until
a seed is far or the block is a leaf, whose near seeds are summed voxel by voxel. The smooth part of the error falls
as (z + sqrt(z^2 - 1))^-ORDER with z = 1 + `reach`, the distance over half the side: 4e-6 for reach 3. What is left
comes from the kinks of published tables, which are linear between their nodes; no order removes it. Two rules do:

* On a seed's axis F has a cusp, too narrow to be met by chance. Seeds whose axis passes through a block are not far
  for it once the steps of their cusps over the block add up to more than `share` of the dose there.
* At the corners and at points spread inside each block, the interpolated sum is compared with the true one. Where
  they differ by more than `tolerance` of the dose there, the seeds go on to the children, in a leaf to its voxels.

A kink's greatest error is two to three times what the compared points see, four times at the most on hundreds of random
implants, so tolerances of 2.3e-4 (1D) and 2.7e-4 (2D) keep 1e-3.
Few seeds, or seeds in one spot, err together, and their kinks do not average out: few seeds are summed directly.
"""

# numba infers the types of the small kernels; those with a signature say what they take
# mypy: allow-untyped-defs, allow-untyped-calls

import math
from typing import Any, NamedTuple

import numba
import numpy as np
from numba import float32, int64, njit, prange, types, void

from brachy.core.lanes import add_four_cells
from brachy.core.tables import BITS, MANTISSA_BITS, ORDER, Blocks, DoseTable

CHUNK = 512
"""Places that are summed together: their work arrays fit the innermost cache."""

LANES = 64
"""Places are summed in multiples of this many, so that no vector register is half full."""

STRIDES = 61
"""Blocks that follow each other in time lie so many strides apart."""

AXIS_ANGLE = np.float32(0.09)
"""Radians (5 degrees) about the axis that belong to the cusp of F."""

SHIFT = np.int32(MANTISSA_BITS - BITS)
MASK = np.int32((1 << (MANTISSA_BITS - BITS)) - 1)
PART = np.float32(1.0 / (1 << (MANTISSA_BITS - BITS)))
ZERO, HALF, ONE, TWO = np.float32(0.0), np.float32(0.5), np.float32(1.0), np.int32(2)
PI, RIGHT_ANGLE = np.float32(np.pi), np.float32(np.pi / 2)
ON_AXIS = np.float32(1e-10)
"""Square of the least distance from a seed's axis, cm^2: there G_L is its limit to 1e-9."""

ARC = (0.99999563, -0.33299459, 0.19563585, -0.12123887, 0.057477086, -0.013480379)
"""arctan(q) = q (ARC[0] + ARC[1] q^2 + ...) for 0 <= q <= 1, within 5e-6 of itself (least squares, reweighted)."""

A0, A1, A2, A3, A4, A5 = (np.float32(a) for a in ARC)

# `error_model="numpy"`: a check for division by zero would keep the loops out of vector registers
_FAST = {"error_model": "numpy", "fastmath": True, "cache": True}
_PLACES = (float32[::1], float32[::1], float32[::1])
_LIST = types.Array(float32, 1, "C", readonly=True)
_ROWS = types.Array(float32, 2, "C", readonly=True)
_CUBE = types.Array(float32, 3, "C", readonly=True)
_INTS = types.Array(int64, 1, "C", readonly=True)
_INT_ROWS = types.Array(int64, 2, "C", readonly=True)
_TABLE = types.NamedTuple(
    (_LIST, int64, int64, int64, float32, float32, float32, float32, float32), DoseTable
)


_BLOCKS = types.NamedTuple((_INT_ROWS, _INTS, _ROWS, _CUBE, _ROWS, float32, float32, float32), Blocks)


class Cells(NamedTuple):
    """Where CHUNK places read a table: see `_add_cells`."""

    cell: Any
    along: Any
    across: Any
    factor: Any


class Work(NamedTuple):
    """One thread's arrays; those of places are multiples of LANES long."""

    x: Any
    y: Any
    z: Any
    value: Any
    near: Any  # dose of the near seeds at the points compared
    far: Any
    lines: Any
    planes: Any
    voxels: Any  # the block's, x fastest
    whole: Any  # those of the largest block, z y x


@njit(**_FAST)
def _whole(count):
    """The count, or the next multiple of LANES."""
    return (count + LANES - 1) // LANES * LANES


@njit(**_FAST)
def _make_cells():
    return Cells(
        np.zeros(CHUNK, np.int32),
        np.zeros(CHUNK, np.float32),
        np.zeros(CHUNK, np.float32),
        np.zeros(CHUNK, np.float32),
    )


@njit(**_FAST)
def _make_work(blocks, seeds):
    mz, my, mx = blocks.sizes[0]
    leaf = blocks.sizes[-1].prod()
    places = _whole(max(ORDER * ORDER * ORDER + _whole(len(blocks.check)), leaf))
    return Work(
        np.zeros(places, np.float32),
        np.zeros(places, np.float32),
        np.zeros(places, np.float32),
        np.zeros(places, np.float32),
        np.zeros(_whole(len(blocks.check)), np.float32),
        np.empty(seeds, np.int32),
        np.empty((ORDER, mx), np.float32),
        np.zeros((ORDER, my * mx), np.float32),
        np.empty(_whole(mz * my * mx), np.float32),
        np.zeros((mz, my, mx), np.float32),
    )


@njit(inline="always", **_FAST)
def _angle(across, along):
    """Angle from the axis of a place `across` (above 0) from it and `along` it, 0 to pi."""
    size = abs(along)
    q = min(across, size) / max(across, size)
    w = q * q
    angle = q * (A0 + w * (A1 + w * (A2 + w * (A3 + w * (A4 + w * A5)))))
    angle = RIGHT_ANGLE - angle if across > size else angle
    return PI - angle if along < ZERO else angle


if numba.config.DISABLE_JIT:

    def _add_cells(values, cell, along, across, factor, value):
        """value += factor x the table in each place's cell, linear in `along` (r^2) and `across` (angle)."""
        n = value.size
        c, u, v = cell[:n], along[:n], across[:n]
        a = values[c] + (values[c + 2] - values[c]) * u
        b = values[c + 1] + (values[c + 3] - values[c + 1]) * u
        value += (a + (b - a) * v) * factor[:n]

else:

    @njit(**_FAST)
    def _add_cells(values, cell, along, across, factor, value):
        for q in range(0, value.size, 4):
            add_four_cells(values, cell, along, across, factor, value, q)


@njit(**_FAST)
def _add_point_sources(x, y, z, value, seeds, weight, chosen, count, table, cells):
    """value += 1D dose, TG-43U1 eq. (11), of the first `count` seeds of `chosen` at places."""
    cell, along, across, factor = cells
    values, base, low, high = table.values, np.int32(table.base), table.low, table.high
    for c in range(count):
        s = chosen[c]
        sx, sy, sz, w = seeds[s, 0], seeds[s, 1], seeds[s, 2], weight[s]
        for q in range(value.size):
            dx, dy, dz = x[q] - sx, y[q] - sy, z[q] - sz
            r2 = np.float32(min(max(dx * dx + dy * dy + dz * dz, low), high))
            bits = r2.view(np.int32)
            cell[q] = (np.int32(bits >> SHIFT) - base) * TWO
            along[q] = np.float32(np.int32(bits & MASK)) * PART
            factor[q] = w
        _add_cells(values, cell, along, across, factor, value)


@njit(**_FAST)
def _add_line_sources(x, y, z, value, seeds, axes, weight, chosen, count, table, cells):
    """The same for the 2D dose, eq. (1): the factor of a cell is weight G_L."""
    cell, along, across, factor = cells
    values, base, rows = table.values, np.int32(table.base), np.int32(table.rows)
    columns = np.float32(table.columns) / RIGHT_ANGLE
    high, radius2, half2, length = table.high, table.low, table.half2, table.length
    end2 = HALF * HALF * length * length
    for c in range(count):
        s = chosen[c]
        sx, sy, sz, w = seeds[s, 0], seeds[s, 1], seeds[s, 2], weight[s] / length
        ux, uy, uz = axes[s, 0], axes[s, 1], axes[s, 2]
        for q in range(value.size):
            dx, dy, dz = x[q] - sx, y[q] - sy, z[q] - sz
            t = dx * ux + dy * uy + dz * uz
            # d less its part along the axis: r^2 - t^2 would lose its digits near the axis
            px, py, pz = dx - t * ux, dy - t * uy, dz - t * uz
            # from inside the capsule to its side
            p2 = max(px * px + py * py + pz * pz, radius2 if t * t <= half2 else ON_AXIS)
            inverse = ONE / np.float32(
                math.sqrt(p2)
            )  # estimated and corrected: faster than a root and a division
            p = p2 * inverse
            r2 = np.float32(min(p2 + t * t, high))
            factor[q] = w * _angle(length * p, r2 - end2) * inverse
            theta = _angle(p, abs(t)) * columns
            column = np.int32(theta)
            bits = r2.view(np.int32)
            cell[q] = (np.int32(column * rows) + np.int32(bits >> SHIFT) - base) * TWO
            along[q] = np.float32(np.int32(bits & MASK)) * PART
            across[q] = theta - np.float32(column)
        _add_cells(values, cell, along, across, factor, value)


@njit(**_FAST)
def _add(x, y, z, value, seeds, axes, weight, chosen, count, table, cells):
    """value += dose of the first `count` seeds of `chosen` at the places; as many as a multiple of LANES."""
    for a in range(0, value.size, CHUNK):
        b = min(a + CHUNK, value.size)
        xs, ys, zs, part = x[a:b], y[a:b], z[a:b], value[a:b]
        if table.columns > 0:
            _add_line_sources(xs, ys, zs, part, seeds, axes, weight, chosen, count, table, cells)
        else:
            _add_point_sources(xs, ys, zs, part, seeds, weight, chosen, count, table, cells)


@njit(**_FAST)
def _radial(table, r2):
    """About the dose rate at a distance (1D), or on the transverse axis (2D): to tell which seeds matter."""
    r2 = np.float32(min(max(r2, table.low), table.high))
    row = np.int64(r2.view(np.int32) >> SHIFT) - table.base
    value = table.values[(table.columns * table.rows + row) * 2]
    return value / r2 if table.columns > 0 else value


@njit(**_FAST)
def _part(centre, half, seeds, axes, weight, table, blocks, chosen, count, far, near):
    """Divide seeds into far and near for a block; returns how many of each."""
    radius = np.float32(math.sqrt(half[0] * half[0] + half[1] * half[1] + half[2] * half[2]))
    limit = blocks.reach * max(half[0], max(half[1], half[2]))
    line = table.columns > 0
    total = ZERO
    if line:  # least dose in the block, as on the seeds' transverse axes
        for c in range(count):
            s = chosen[c]
            dx, dy, dz = seeds[s, 0] - centre[0], seeds[s, 1] - centre[1], seeds[s, 2] - centre[2]
            r = np.float32(math.sqrt(dx * dx + dy * dy + dz * dz)) + radius
            total += weight[s] * _radial(table, r * r)
    n_far, n_near, spent = 0, 0, ZERO
    for c in range(count):
        s = chosen[c]
        dx, dy, dz = seeds[s, 0] - centre[0], seeds[s, 1] - centre[1], seeds[s, 2] - centre[2]
        gx, gy, gz = max(abs(dx) - half[0], ZERO), max(abs(dy) - half[1], ZERO), max(abs(dz) - half[2], ZERO)
        is_far = gx * gx + gy * gy + gz * gz > limit * limit
        if line and is_far:
            r2 = dx * dx + dy * dy + dz * dz
            r = np.float32(math.sqrt(r2))
            t = dx * axes[s, 0] + dy * axes[s, 1] + dz * axes[s, 2]
            beside = np.float32(math.sqrt(max(r2 - t * t, ZERO)))
            if beside < radius + AXIS_ANGLE * r:
                error = weight[s] * _radial(table, r2) * table.cusp * radius / r
                is_far = spent + error <= blocks.share * total
                if is_far:
                    spent += error
        if is_far:
            far[n_far] = s
            n_far += 1
        else:
            near[n_near] = s
            n_near += 1
    return n_far, n_near


@njit(**_FAST)
def _spread(blocks, value, shape, work):
    """Interpolate the values at a block's nodes to its voxels, axis by axis."""
    mz, my, mx = shape
    nz, ny, nx = blocks.node_count[mz], blocks.node_count[my], blocks.node_count[mx]
    gz, gy, gx = blocks.lagrange[mz], blocks.lagrange[my], blocks.lagrange[mx]
    lines, planes = work.lines, work.planes
    for c in range(nz):
        for b in range(ny):
            row, at = lines[b, :mx], (c * ny + b) * nx
            row[:] = ZERO
            for a in range(nx):
                v = value[at + a]
                for i in range(mx):
                    row[i] += v * gx[a, i]
        for j in range(my):
            row = planes[c, j * mx : (j + 1) * mx]
            row[:] = ZERO
            for b in range(ny):
                v = gy[b, j]
                for i in range(mx):
                    row[i] += v * lines[b, i]
    p0, p1, p2, p3, p4, p5 = planes[0], planes[1], planes[2], planes[3], planes[4], planes[5]
    for k in range(mz):
        w0, w1, w2, w3, w4, w5 = gz[0, k], gz[1, k], gz[2, k], gz[3, k], gz[4, k], gz[5, k]
        layer = work.voxels[k * my * mx : (k + 1) * my * mx]
        for n in range(my * mx):
            layer[n] = w0 * p0[n] + w1 * p1[n] + w2 * p2[n] + w3 * p3[n] + w4 * p4[n] + w5 * p5[n]


@njit(**_FAST)
def _interpolate(centre, step, shape, seeds, axes, weight, table, blocks, n_far, near, n_near, work, cells):
    """Sum the far seeds at the block's nodes and spread them to its voxels; False if that does not agree."""
    mz, my, mx = shape
    x, y, z, value = work.x, work.y, work.z, work.value
    q = 0
    for a in range(blocks.node_count[mz]):
        for b in range(blocks.node_count[my]):
            for c in range(blocks.node_count[mx]):
                x[q] = centre[0] + step[0] * blocks.node_at[mx, c]
                y[q] = centre[1] + step[1] * blocks.node_at[my, b]
                z[q] = centre[2] + step[2] * blocks.node_at[mz, a]
                q += 1
    nodes, checks = q, blocks.check.shape[0]
    for c in range(checks):
        k, j, i = int(blocks.check[c, 0] * mz), int(blocks.check[c, 1] * my), int(blocks.check[c, 2] * mx)
        x[q] = centre[0] + step[0] * (np.float32(i) - HALF * np.float32(mx - 1))
        y[q] = centre[1] + step[1] * (np.float32(j) - HALF * np.float32(my - 1))
        z[q] = centre[2] + step[2] * (np.float32(k) - HALF * np.float32(mz - 1))
        q += 1
    value[: _whole(q)] = ZERO
    work.near[:] = ZERO
    _add(x, y, z, value[: _whole(q)], seeds, axes, weight, work.far, n_far, table, cells)
    _add(x[nodes:], y[nodes:], z[nodes:], work.near, seeds, axes, weight, near, n_near, table, cells)
    _spread(blocks, value, shape, work)
    for c in range(checks):
        k, j, i = int(blocks.check[c, 0] * mz), int(blocks.check[c, 1] * my), int(blocks.check[c, 2] * mx)
        true = value[nodes + c]
        if abs(work.voxels[(k * my + j) * mx + i] - true) > blocks.tolerance * (true + work.near[c]):
            return False
    return True


@njit(**_FAST)
def _sum_block(corner, seeds, axes, weight, table, blocks, step, out):
    """Add all seeds to the voxels of one of the largest blocks, `corner` z, y, x."""
    nz, ny, nx = out.shape
    sizes = blocks.sizes
    levels, count, checks = sizes.shape[0], seeds.shape[0], blocks.check.shape[0]
    work, cells = _make_work(blocks, count), _make_cells()
    lists = np.empty((levels + 1, count), np.int32)
    counts = np.zeros(levels + 1, np.int64)
    for s in range(count):
        lists[0, s] = s
    counts[0] = count
    stack = np.empty((8 * levels + 1, 4), np.int64)
    stack[0, 0], stack[0, 1], stack[0, 2], stack[0, 3] = 0, corner[0], corner[1], corner[2]
    depth = 1
    while depth > 0:
        depth -= 1
        level, z0, y0, x0 = stack[depth, 0], stack[depth, 1], stack[depth, 2], stack[depth, 3]
        mz, my, mx = (
            min(sizes[level, 0], nz - z0),
            min(sizes[level, 1], ny - y0),
            min(sizes[level, 2], nx - x0),
        )
        half = (
            HALF * np.float32(mx - 1) * step[0],
            HALF * np.float32(my - 1) * step[1],
            HALF * np.float32(mz - 1) * step[2],
        )
        centre = (
            (np.float32(x0) - HALF * np.float32(nx - 1)) * step[0] + half[0],
            (np.float32(y0) - HALF * np.float32(ny - 1)) * step[1] + half[1],
            (np.float32(z0) - HALF * np.float32(nz - 1)) * step[2] + half[2],
        )
        near = lists[level + 1]
        n_far, n_near = _part(
            centre, half, seeds, axes, weight, table, blocks, lists[level], counts[level], work.far, near
        )
        nodes = blocks.node_count[mz] * blocks.node_count[my] * blocks.node_count[mx]
        size = mz * my * mx
        voxels = work.voxels[: _whole(size)]
        done = False
        if n_far > 0 and nodes + checks < size:
            done = _interpolate(
                centre,
                step,
                (mz, my, mx),
                seeds,
                axes,
                weight,
                table,
                blocks,
                n_far,
                near,
                n_near,
                work,
                cells,
            )
        if not done:
            voxels[:] = ZERO
            for c in range(n_far):
                near[n_near] = work.far[c]
                n_near += 1
        counts[level + 1] = n_near
        if n_near > 0 and level == levels - 1:
            x, y, z = (
                work.x[:size].reshape((mz, my, mx)),
                work.y[:size].reshape((mz, my, mx)),
                work.z[:size].reshape((mz, my, mx)),
            )
            for k in range(mz):
                for j in range(my):
                    for i in range(mx):
                        x[k, j, i] = centre[0] - half[0] + np.float32(i) * step[0]
                        y[k, j, i] = centre[1] - half[1] + np.float32(j) * step[1]
                        z[k, j, i] = centre[2] - half[2] + np.float32(k) * step[2]
            _add(work.x, work.y, work.z, voxels, seeds, axes, weight, near, n_near, table, cells)
        if done or level == levels - 1:
            cube = voxels[:size].reshape((mz, my, mx))
            part = work.whole[z0 - corner[0] :, y0 - corner[1] :, x0 - corner[2] :]
            for k in range(mz):
                for j in range(my):
                    for i in range(mx):
                        part[k, j, i] += cube[k, j, i]
        if n_near > 0 and level < levels - 1:
            for a in range(z0, z0 + mz, sizes[level + 1, 0]):
                for b in range(y0, y0 + my, sizes[level + 1, 1]):
                    for c in range(x0, x0 + mx, sizes[level + 1, 2]):
                        stack[depth, 0], stack[depth, 1] = level + 1, a
                        stack[depth, 2], stack[depth, 3] = b, c
                        depth += 1
    block = out[corner[0] :, corner[1] :, corner[2] :]
    for k in range(min(sizes[0, 0], block.shape[0])):
        for j in range(min(sizes[0, 1], block.shape[1])):
            for i in range(min(sizes[0, 2], block.shape[2])):
                block[k, j, i] += work.whole[k, j, i]


@njit(void(_ROWS, _ROWS, _LIST, _TABLE, _BLOCKS, _LIST, float32[:, :, ::1]), parallel=True, **_FAST)
def dose_on_grid(seeds, axes, weight, table, blocks, step, out):
    """Add the dose of all seeds to a grid [z, y, x].

    Parameters
    ----------
    seeds, axes : (s, 3) float32
        Centres in cm and unit axes, x y z, from the grid's centre and along its own axes. 1D does not read `axes`.
    weight : (s,) float32
        Strength times what the dose rate is to be multiplied by.
    table : DoseTable
        Of one unit seed.
    blocks : Blocks
        How to cut the grid; an infinite `reach` sums every seed at every voxel.
    step : (3,) float32
        Spacing along x, y, z, cm.
    out : (nz, ny, nx) float32
        Added to.
    """
    nz, ny, nx = out.shape
    tz, ty, tx = blocks.sizes[0, 0], blocks.sizes[0, 1], blocks.sizes[0, 2]
    bz, by, bx = (nz + tz - 1) // tz, (ny + ty - 1) // ty, (nx + tx - 1) // tx
    count = bz * by * bx
    run = (count + STRIDES - 1) // STRIDES
    for turn in prange(run * STRIDES):
        # a thread's share of turns is scattered over the grid: the blocks amid the seeds cost most
        block = turn % STRIDES * run + turn // STRIDES
        if block < count:
            corner = (block // (by * bx) * tz, block // bx % by * ty, block % bx * tx)
            _sum_block(corner, seeds, axes, weight, table, blocks, step, out)


@njit(**_FAST)
def _sum(x, y, z, seeds, axes, weight, chosen, table, out):
    """Set `out` to the dose of the chosen seeds at points, any number of them: the last few are filled up to LANES."""
    cells, count = _make_cells(), chosen.size
    for q in range(out.size):
        out[q] = ZERO
    n = out.size // LANES * LANES
    _add(x[:n], y[:n], z[:n], out[:n], seeds, axes, weight, chosen, count, table, cells)
    if n < out.size:
        last = np.zeros((4, LANES), np.float32)
        for q in range(out.size - n):
            last[0, q], last[1, q], last[2, q] = x[n + q], y[n + q], z[n + q]
        _add(last[0], last[1], last[2], last[3], seeds, axes, weight, chosen, count, table, cells)
        for q in range(out.size - n):
            out[n + q] = last[3, q]


@njit(void(*_PLACES, _ROWS, _ROWS, _LIST, _TABLE, float32[::1]), parallel=True, **_FAST)
def dose_at_points(x, y, z, seeds, axes, weight, table, out):
    """Set `out` (n,) to the dose of all seeds at the points x, y, z (n,) float32, cm. Otherwise as `dose_on_grid`."""
    for chunk in prange((out.size + CHUNK - 1) // CHUNK):
        a, b = chunk * CHUNK, min(out.size, (chunk + 1) * CHUNK)
        chosen = np.arange(seeds.shape[0]).astype(np.int32)
        _sum(x[a:b], y[a:b], z[a:b], seeds, axes, weight, chosen, table, out[a:b])


@njit(void(*_PLACES, _ROWS, _ROWS, _LIST, _TABLE, float32[:, ::1]), parallel=True, **_FAST)
def influence_rows(x, y, z, seeds, axes, weight, table, out):
    """Fill row i of `out` (s, n) with the dose of seed i alone at the points x, y, z (n,) float32, cm."""
    for row in prange(out.shape[0]):
        _sum(x, y, z, seeds, axes, weight, np.full(1, row, np.int32), table, out[row])
