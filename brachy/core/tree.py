"""Fast sums over seeds, in float32: at points, on grids, and a row for each seed.

Coordinates are cm, in one frame; a weight is what a unit seed's table is multiplied by. `_add_point_sources` and
`_add_line_sources` read a `DoseTable` and add seeds to the values at a list of places; the kernels below them
decide which seeds go where. Each thread owns its places and adds the seeds of a place in one order, so the result is
the same bit for bit with any number of threads.

The tree. A seed far from a block of voxels changes slowly over it: all such seeds are summed at ORDER^3 Chebyshev
nodes of the block (at its voxels, where these are fewer along an axis) and interpolated once. The blocks halve until
a seed is far or the block is a leaf, whose near seeds are summed voxel by voxel. The smooth part of the error falls
as (z + sqrt(z^2 - 1))^-ORDER with z = 1 + `reach`, the distance over half the side: 4e-6 for reach 3. What is left
comes from the kinks of published tables, which are linear between their nodes; no order removes it. Two rules do:

* On a seed's axis F has a cusp, too narrow to be met by chance. Seeds whose axis passes through a block are not far
  for it once the steps of their cusps over the block add up to more than `share` of the dose there.
* At the corners and at points spread inside each block, the interpolated sum is compared with the true one. Where
  they differ by more than `tolerance` of the dose there, the seeds go on to the children, in a leaf to its voxels.

A kink's greatest error is two to three times what the compared points see, so a tolerance of 2.5e-4 keeps 1e-3.
Few seeds, or seeds in one spot, err together, and their kinks do not average out: few seeds are summed directly.
"""

# numba infers the types of the small kernels; those with a signature say what they take
# mypy: allow-untyped-defs, allow-untyped-calls

import math
from typing import Any, NamedTuple

import numpy as np
from numba import float32, int64, njit, prange, types, void

from brachy.core.tables import BITS, MANTISSA_BITS, DoseTable

ORDER = 6
"""Interpolation nodes of a block along each axis."""

CHUNK = 512
"""Points that are summed together: their work arrays fit the innermost cache."""

STRIDES = 61
"""Blocks that follow each other in time lie so many strides apart."""

AXIS_ANGLE = np.float32(0.09)
"""Radians (5 degrees) about the axis that belong to the cusp of F."""

SHIFT = np.uint32(MANTISSA_BITS - BITS)
MASK = np.int32((1 << (MANTISSA_BITS - BITS)) - 1)
PART = np.float32(1.0 / (1 << (MANTISSA_BITS - BITS)))
ZERO, HALF, ONE = np.float32(0.0), np.float32(0.5), np.float32(1.0)

# `error_model="numpy"`: a check for division by zero would keep the loops out of vector registers
_FAST = {"error_model": "numpy", "fastmath": True, "cache": True}
_PLACES = (float32[::1], float32[::1], float32[::1])
_LIST = types.Array(float32, 1, "C", readonly=True)
_ROWS = types.Array(float32, 2, "C", readonly=True)
_CUBE = types.Array(float32, 3, "C", readonly=True)
_INTS = types.Array(int64, 1, "C", readonly=True)
_INT_ROWS = types.Array(int64, 2, "C", readonly=True)
_TABLE = types.NamedTuple(
    (_LIST, _LIST, _LIST, int64, int64, int64, float32, float32, float32, float32, _LIST, float32), DoseTable
)


class Blocks(NamedTuple):
    """How a grid is cut into blocks, and a block interpolated. Index m is the number of voxels along an axis."""

    sizes: Any  # (levels, 3) int64: voxels of a block along z, y, x; each level half of the one before
    node_count: Any  # (m + 1,) int64: nodes along an axis, at most ORDER
    node_at: Any  # (m + 1, ORDER) float32: nodes, in voxels from the block's centre
    lagrange: Any  # (m + 1, ORDER, m) float32: weight of a node at a voxel, 0 for nodes that are not there
    check: Any  # (n, 3) float32: voxels that are compared, as fractions of the block along z, y, x
    reach: Any  # float32: a seed is far beyond so many half sides
    tolerance: Any  # float32: of the total dose
    share: Any  # float32: of the total dose


_BLOCKS = types.NamedTuple((_INT_ROWS, _INTS, _ROWS, _CUBE, _ROWS, float32, float32, float32), Blocks)


class Work(NamedTuple):
    """One thread's arrays."""

    x: Any
    y: Any
    z: Any
    value: Any
    near: Any  # dose of the near seeds at the points compared
    cell: Any
    across: Any
    along: Any
    inverse: Any
    nodes: Any
    voxels: Any  # the block's, x fastest
    far: Any


@njit(**_FAST)
def _make_work(places, checks, voxels, seeds):
    return Work(
        np.empty(places, np.float32),
        np.empty(places, np.float32),
        np.empty(places, np.float32),
        np.empty(places, np.float32),
        np.empty(checks, np.float32),
        np.empty(places, np.int32),
        np.empty(places, np.float32),
        np.empty(places, np.float32),
        np.empty(places, np.float32),
        np.empty((ORDER, ORDER * ORDER), np.float32),
        np.empty(voxels, np.float32),
        np.empty(seeds, np.int32),
    )


@njit(**_FAST)
def _add_point_sources(x, y, z, value, seeds, weight, chosen, count, table, work):
    """value += 1D dose of the first `count` seeds of `chosen` at (x, y, z).

    Two passes over the places: the first runs in vector registers, the second follows indices and cannot.
    """
    cell, square = work.cell, work.along
    offset, slope, base = table.offset, table.slope, np.int32(table.base)
    low, high = table.low, table.high
    for c in range(count):
        s = chosen[c]
        sx, sy, sz, w = seeds[s, 0], seeds[s, 1], seeds[s, 2], weight[s]
        for q in range(value.size):
            dx, dy, dz = x[q] - sx, y[q] - sy, z[q] - sz
            r2 = np.float32(min(max(dx * dx + dy * dy + dz * dz, low), high))
            square[q] = r2
            cell[q] = (np.float32(r2).view(np.int32) >> np.int32(SHIFT)) - base
        for q in range(value.size):
            k = np.uint64(cell[q])  # unsigned: a signed index would be checked for counting from the end
            value[q] += w * (offset[k] + slope[k] * square[q])


@njit(**_FAST)
def _add_line_sources(x, y, z, value, seeds, axes, weight, chosen, count, table, work):
    """value += 2D dose of the first `count` seeds of `chosen` at (x, y, z), in two passes like the 1D."""
    cell, across, along, inverse = work.cell, work.across, work.along, work.inverse
    values, rows, base = table.values, np.int32(table.rows), np.int32(table.base)
    high, radius2, half2, angle = table.high, table.radius2, table.half2, table.angle
    c0, c1, c2, c3, c4, c5 = angle[0], angle[1], angle[2], angle[3], angle[4], angle[5]
    for c in range(count):
        s = chosen[c]
        sx, sy, sz, w = seeds[s, 0], seeds[s, 1], seeds[s, 2], weight[s]
        ux, uy, uz = axes[s, 0], axes[s, 1], axes[s, 2]
        for q in range(value.size):
            dx, dy, dz = x[q] - sx, y[q] - sy, z[q] - sz
            t = abs(dx * ux + dy * uy + dz * uz)
            px, py, pz = dy * uz - dz * uy, dz * ux - dx * uz, dx * uy - dy * ux
            a2 = px * px + py * py + pz * pz
            if t * t <= half2:
                a2 = max(a2, radius2)  # from inside the capsule to its side
            r2 = np.float32(min(a2 + t * t, high))
            r = np.float32(math.sqrt(r2))
            d = ONE / (r2 * (r + t))  # one division for 1 / r2 and 1 / (r + t)
            v = min(a2 * r * d, ONE)  # 1 - cos theta = a2 / (r (r + t)), without cancellation
            theta = np.float32(math.sqrt(v)) * (c0 + v * (c1 + v * (c2 + v * (c3 + v * (c4 + v * c5)))))
            bits = np.float32(r2).view(np.int32)
            column = np.int32(theta)
            across[q] = theta - np.float32(column)
            along[q] = np.float32(bits & MASK) * PART
            inverse[q] = w * d * (r + t)
            cell[q] = (column * rows + (bits >> np.int32(SHIFT)) - base) * np.int32(2)
        for q in range(value.size):
            k = np.uint64(cell[q])
            h = along[q]
            a = values[k] + (values[k + np.uint64(2)] - values[k]) * h
            b = values[k + np.uint64(1)] + (values[k + np.uint64(3)] - values[k + np.uint64(1)]) * h
            value[q] += (a + (b - a) * across[q]) * inverse[q]


@njit(**_FAST)
def _add(x, y, z, value, seeds, axes, weight, chosen, count, table, work):
    if table.columns > 0:
        _add_line_sources(x, y, z, value, seeds, axes, weight, chosen, count, table, work)
    else:
        _add_point_sources(x, y, z, value, seeds, weight, chosen, count, table, work)


@njit(**_FAST)
def _radial(table, r2):
    """The table on the transverse axis (2D) or at a distance (1D)."""
    r2 = np.float32(min(max(r2, table.low), table.high))
    k = np.uint64((np.float32(r2).view(np.uint32) >> SHIFT) - np.uint32(table.base))
    return table.offset[k] + table.slope[k] * r2


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
    nodes, voxels = work.nodes, work.voxels
    nodes[:] = ZERO
    q = 0
    for a in range(nz):
        for b in range(ny):
            for c in range(nx):
                nodes[a, b * ORDER + c] = value[q]
                q += 1
    z0, z1, z2, z3, z4, z5 = nodes[0], nodes[1], nodes[2], nodes[3], nodes[4], nodes[5]
    plane = np.empty(ORDER * ORDER, np.float32)
    g = blocks.lagrange[mx]
    g0, g1, g2, g3, g4, g5 = g[0], g[1], g[2], g[3], g[4], g[5]
    q = 0
    for k in range(mz):
        w = blocks.lagrange[mz, :, k]
        w0, w1, w2, w3, w4, w5 = w[0], w[1], w[2], w[3], w[4], w[5]
        for n in range(ORDER * ORDER):
            plane[n] = w0 * z0[n] + w1 * z1[n] + w2 * z2[n] + w3 * z3[n] + w4 * z4[n] + w5 * z5[n]
        for j in range(my):
            r0, r1, r2, r3, r4, r5 = ZERO, ZERO, ZERO, ZERO, ZERO, ZERO
            for b in range(ny):
                w0 = blocks.lagrange[my, b, j]
                r0 += w0 * plane[b * ORDER]
                r1 += w0 * plane[b * ORDER + 1]
                r2 += w0 * plane[b * ORDER + 2]
                r3 += w0 * plane[b * ORDER + 3]
                r4 += w0 * plane[b * ORDER + 4]
                r5 += w0 * plane[b * ORDER + 5]
            row = voxels[q : q + mx]
            for i in range(mx):
                row[i] = r0 * g0[i] + r1 * g1[i] + r2 * g2[i] + r3 * g3[i] + r4 * g4[i] + r5 * g5[i]
            q += mx


@njit(**_FAST)
def _interpolate(centre, step, shape, seeds, axes, weight, table, blocks, n_far, near, n_near, work):
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
    value[:q] = ZERO
    work.near[:] = ZERO
    _add(x, y, z, value[:q], seeds, axes, weight, work.far, n_far, table, work)
    _add(x[nodes:], y[nodes:], z[nodes:], work.near, seeds, axes, weight, near, n_near, table, work)
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
    top = sizes[0, 0] * sizes[0, 1] * sizes[0, 2]
    leaf = sizes[levels - 1, 0] * sizes[levels - 1, 1] * sizes[levels - 1, 2]
    work = _make_work(max(ORDER * ORDER * ORDER + checks, leaf), checks, top, count)
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
        voxels = work.voxels[: mz * my * mx]
        done = False
        if n_far > 0 and nodes + checks < voxels.size:
            done = _interpolate(
                centre, step, (mz, my, mx), seeds, axes, weight, table, blocks, n_far, near, n_near, work
            )
        if not done:
            voxels[:] = ZERO
            for c in range(n_far):
                near[n_near] = work.far[c]
                n_near += 1
        counts[level + 1] = n_near
        if n_near > 0 and level == levels - 1:
            q = 0
            for k in range(mz):
                for j in range(my):
                    for i in range(mx):
                        work.x[q] = centre[0] - half[0] + np.float32(i) * step[0]
                        work.y[q] = centre[1] - half[1] + np.float32(j) * step[1]
                        work.z[q] = centre[2] - half[2] + np.float32(k) * step[2]
                        q += 1
            _add(work.x, work.y, work.z, voxels, seeds, axes, weight, near, n_near, table, work)
        if done or level == levels - 1:
            q = 0
            for k in range(mz):
                for j in range(my):
                    row = out[z0 + k, y0 + j, x0 : x0 + mx]
                    for i in range(mx):
                        row[i] += voxels[q + i]
                    q += mx
        if n_near > 0 and level < levels - 1:
            for a in range(z0, z0 + mz, sizes[level + 1, 0]):
                for b in range(y0, y0 + my, sizes[level + 1, 1]):
                    for c in range(x0, x0 + mx, sizes[level + 1, 2]):
                        stack[depth, 0], stack[depth, 1] = level + 1, a
                        stack[depth, 2], stack[depth, 3] = b, c
                        depth += 1


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
def _sum_chunk(x, y, z, seeds, axes, weight, table, out):
    chosen = np.arange(seeds.shape[0]).astype(np.int32)
    work = _make_work(out.size, 0, 0, 0)
    _add(x, y, z, out, seeds, axes, weight, chosen, chosen.size, table, work)


@njit(void(*_PLACES, _ROWS, _ROWS, _LIST, _TABLE, float32[::1]), parallel=True, **_FAST)
def dose_at_points(x, y, z, seeds, axes, weight, table, out):
    """Add the dose of all seeds to `out` (n,) at the points x, y, z (n,) float32, cm. Otherwise as `dose_on_grid`."""
    for chunk in prange((out.size + CHUNK - 1) // CHUNK):
        a, b = chunk * CHUNK, min(out.size, (chunk + 1) * CHUNK)
        _sum_chunk(x[a:b], y[a:b], z[a:b], seeds, axes, weight, table, out[a:b])


@njit(**_FAST)
def _fill_row(x, y, z, row, seeds, axes, weight, table, out):
    chosen = np.full(1, row, np.int32)
    work = _make_work(min(CHUNK, out.size), 0, 0, 0)
    for a in range(0, out.size, CHUNK):
        b = min(out.size, a + CHUNK)
        value = out[a:b]
        value[:] = ZERO
        _add(x[a:b], y[a:b], z[a:b], value, seeds, axes, weight, chosen, 1, table, work)


@njit(void(*_PLACES, _ROWS, _ROWS, _LIST, _TABLE, float32[:, ::1]), parallel=True, **_FAST)
def influence_rows(x, y, z, seeds, axes, weight, table, out):
    """Fill row i of `out` (s, n) with the dose of seed i alone at the points x, y, z (n,) float32, cm."""
    for row in prange(out.shape[0]):
        _fill_row(x, y, z, row, seeds, axes, weight, table, out[row])
