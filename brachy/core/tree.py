"""Fast sums of dose over seeds, in float32: at points, on a grid, and the influence matrix (one row per seed).

Coordinates are cm, in one frame; a weight is what the table of a seed of unit strength is multiplied by. The kernels
here decide which seeds go where; `source_sums.add` adds seeds to the values at a list of places. Each thread owns its
places and adds the seeds of a place in a fixed order, so the result has the same bits for any number of threads.

The tree (`_sum_block`). The dose of a seed far from a block of voxels varies slowly over the block. So far seeds are
summed at ORDER^3 Chebyshev nodes of the block (at its voxels, where these are fewer along an axis) and that sum is
interpolated to the voxels once, whatever the number of seeds. Where at least `many` seeds are far, LOW_ORDER^3 nodes
are tried first: the errors at their kinks (see below) partly cancel. Near seeds are passed on to the block's eight
parts, and so on; in the smallest blocks they are summed voxel by voxel. Invariant: the list of a block holds exactly
the seeds that no larger block around it has added, so each seed is added once to each voxel.

Error of the interpolation. For a smooth function it falls as (z + sqrt(z^2 - 1))^-n with n nodes along an axis and
z = 1 + `reach`, where `reach` is the distance of a seed from the block over half the block's side (Bernstein's bound;
the seed is the nearest singularity): for reach 3, 4e-6 with ORDER and 3e-5 with LOW_ORDER. But published tables are
linear between their nodes, and no order removes the error at such a kink. Two rules bound it:

* On a seed's axis F has a cusp, too narrow for the compared points below to meet. The expected error of each cusp that
  crosses a block is known (`tables.axis_cusp`); seeds count as far only while these errors together stay below `share`
  of the dose in the block (`_part`).
* At the block's corners and at points spread inside it, the interpolated sum is compared with the true one. Where they
  differ by more than `tolerance` of the dose, the interpolation is discarded and the block's far seeds are treated as
  near: passed on to its parts, or in the smallest block summed voxel by voxel (`_interpolate`).

The second rule is a sample and no proof, so the tolerance has a margin: the greatest error in a block is usually two to
three, at most about four times what the compared points show. With tolerances of 2.3e-4 (1D) and 2.7e-4 (2D) the tree
stayed within 6.5e-4 (1D) and 8.3e-4 (2D) of the direct sum at every voxel of 257 random implants
(benchmarks/tree_error.py); a reach of 2 in 1D missed one place by 1.03e-3. tests/independent/test_dose_fast_kernels.py
holds it to 1e-3. The errors of many seeds partly cancel; those of few, or of seeds in one spot, do not, so few seeds
are summed directly (`brachy.dosimetry.tg43`).
"""

# numba infers the types of the small kernels; those with a signature say what they take
# mypy: allow-untyped-defs, allow-untyped-calls

import math

import numpy as np
from numba import float32, int64, prange, types, void

from brachy.core.compiling import njit
from brachy.core.source_sums import HALF, SHIFT, ZERO, add
from brachy.core.tables import Blocks, DoseTable
from brachy.core.threads import over_range
from brachy.core.work_arrays import CHUNK, FAST, LANES, make_cells, make_work, padded

STRIDES = 61
"""The blocks of a grid are dealt out in so many runs: see `dose_on_grid` (a prime; engineering choice)."""

AXIS_ANGLE = np.float32(0.09)
"""Radians (5 degrees) around the axis within which the cusp of F matters."""

_PLACES = (float32[::1], float32[::1], float32[::1])
_LIST = types.Array(float32, 1, "C", readonly=True)
_ROWS = types.Array(float32, 2, "C", readonly=True)
_CUBE = types.Array(float32, 3, "C", readonly=True)
_INT_ROWS = types.Array(int64, 2, "C", readonly=True)
_TABLE = types.NamedTuple(
    (_LIST, int64, int64, int64, float32, float32, _LIST, int64, int64, *(float32,) * 4), DoseTable
)


_FOUR = types.Array(float32, 4, "C", readonly=True)
_BLOCKS = types.NamedTuple(
    (_INT_ROWS, _INT_ROWS, _CUBE, _FOUR, _CUBE, int64, float32, float32, float32), Blocks
)


@njit(**FAST)
def _radial(table, r2):
    """Approximate dose rate at a distance (1D), or on the transverse axis (2D), to weigh seeds against each other."""
    r2 = np.float32(min(max(r2, table.low), table.high))
    row = np.int64(r2.view(np.int32) >> SHIFT) - table.base
    return table.values[(table.columns * table.rows + row) * 4]


@njit(**FAST)
def _part(centre, half, seeds, axes, weight, table, blocks, chosen, count, far, near):
    """Divide the `count` seeds of `chosen` into far and near ones for a block; returns how many of each.

    A seed is far if its distance from the block, not from its centre, exceeds `reach` half sides and, in 2D, if the
    error of its cusp still fits the share that the block may have.
    """
    radius = np.float32(math.sqrt(half[0] * half[0] + half[1] * half[1] + half[2] * half[2]))
    limit = blocks.reach * max(half[0], max(half[1], half[2]))
    line = table.columns > 0
    total = ZERO
    if line:
        # lower estimate of the dose in the block: every seed at the farthest corner of the sphere around the block
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
            if beside < radius + AXIS_ANGLE * r:  # the axis, or the cone around it, may cross the block
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


@njit(**FAST)
def _combine(weights, rows, out):
    """Set `out` to the sum of ORDER = 6 rows, written out so that each value is written once."""
    w0, w1, w2, w3, w4, w5 = weights
    r0, r1, r2, r3, r4, r5 = rows[0], rows[1], rows[2], rows[3], rows[4], rows[5]
    for i in range(out.size):
        out[i] = w0 * r0[i] + w1 * r1[i] + w2 * r2[i] + w3 * r3[i] + w4 * r4[i] + w5 * r5[i]


@njit(**FAST)
def _spread(blocks, low, value, shape, work):
    """Interpolate the values at a block's nodes to its voxels, axis by axis.

    One axis after the other costs a few times ORDER products a voxel, all three at once ORDER^3. Nodes that an axis
    does not have weigh 0.
    """
    mz, my, mx = shape
    nz, ny, nx = blocks.node_count[low, mz], blocks.node_count[low, my], blocks.node_count[low, mx]
    gz, gy, gx = blocks.lagrange[low, mz], blocks.lagrange[low, my], blocks.lagrange[low, mx]
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
            weights = (gy[0, j], gy[1, j], gy[2, j], gy[3, j], gy[4, j], gy[5, j])
            _combine(weights, lines, planes[c, j * mx : (j + 1) * mx])
    for k in range(mz):
        weights = (gz[0, k], gz[1, k], gz[2, k], gz[3, k], gz[4, k], gz[5, k])
        _combine(weights, planes, work.voxels[k * my * mx : (k + 1) * my * mx])


@njit(**FAST)
def _interpolate(
    centre, step, shape, seeds, axes, weight, table, blocks, low, checks, n_far, near, n_near, work, cells
):
    """Sum the far seeds at the block's nodes and interpolate to its voxels; False where a compared voxel disagrees.

    The compared voxels are summed in the same call as the nodes. The near seeds' dose there is added to the true sum
    only in the tolerance: it is the error of the whole dose that counts.
    """
    mz, my, mx = shape
    x, y, z, value = work.x, work.y, work.z, work.value
    q = 0
    count, node_at, check = blocks.node_count[low], blocks.node_at[low], blocks.check[low]
    for a in range(count[mz]):
        for b in range(count[my]):
            for c in range(count[mx]):
                x[q] = centre[0] + step[0] * node_at[mx, c]
                y[q] = centre[1] + step[1] * node_at[my, b]
                z[q] = centre[2] + step[2] * node_at[mz, a]
                q += 1
    nodes = q
    for c in range(checks):
        k, j, i = int(check[c, 0] * mz), int(check[c, 1] * my), int(check[c, 2] * mx)
        x[q] = centre[0] + step[0] * (np.float32(i) - HALF * np.float32(mx - 1))
        y[q] = centre[1] + step[1] * (np.float32(j) - HALF * np.float32(my - 1))
        z[q] = centre[2] + step[2] * (np.float32(k) - HALF * np.float32(mz - 1))
        q += 1
    value[: padded(q)] = ZERO
    work.near[:] = ZERO
    add(x, y, z, value[: padded(q)], seeds, axes, weight, work.far, n_far, table, cells)
    add(x[nodes:], y[nodes:], z[nodes:], work.near, seeds, axes, weight, near, n_near, table, cells)
    _spread(blocks, low, value, shape, work)
    for c in range(checks):
        k, j, i = int(check[c, 0] * mz), int(check[c, 1] * my), int(check[c, 2] * mx)
        true = value[nodes + c]
        if abs(work.voxels[(k * my + j) * mx + i] - true) > blocks.tolerance * (true + work.near[c]):
            return False
    return True


@njit(**FAST)
def _sum_block(corner, seeds, axes, weight, table, blocks, step, out):
    """Add all seeds to the voxels of one of the largest blocks, whose first voxel is `corner` (z, y, x).

    The tree is walked depth first with a stack of blocks (level and first voxel). One list of seeds per level is then
    enough: the list that a block leaves to its parts stays unchanged until the last of them is done.
    """
    nz, ny, nx = out.shape
    sizes = blocks.sizes
    levels, count = sizes.shape[0], seeds.shape[0]
    work, cells = make_work(blocks, count), make_cells()
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
        size, shape = mz * my * mx, (mz, my, mx)
        voxels = work.voxels[: padded(size)]
        low, done = 1 if n_far >= blocks.many else 0, False
        while n_far > 0 and low >= 0 and not done:
            per_axis = blocks.node_count[low]
            nodes = per_axis[mz] * per_axis[my] * per_axis[mx]
            # so many that the nodes and they fill the vector registers
            checks = min(blocks.check.shape[1], padded(nodes + LANES) - nodes)
            if nodes + checks < size:  # else summing every voxel is cheaper
                # fmt: off
                done = _interpolate(
                    centre, step, shape, seeds, axes, weight, table, blocks, low, checks,
                    n_far, near, n_near, work, cells,
                )
                # fmt: on
            low -= 1
        if not done:  # the far seeds join the near ones
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
            add(work.x, work.y, work.z, voxels, seeds, axes, weight, near, n_near, table, cells)
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


def dose_on_grid(seeds, axes, weight, table, blocks, step, out):
    """Add the dose of all seeds to a grid [z, y, x], on all threads.

    Parameters
    ----------
    seeds, axes : (s, 3) float32
        Centres in cm and unit axes, x y z, from the grid's centre and along its own axes. 1D does not read `axes`.
    weight : (s,) float32
        Strength times what the dose rate is to be multiplied by.
    table : DoseTable
        Of one unit seed.
    blocks : Blocks
        How to divide the grid; a huge `reach` makes no seed far, so that every seed is summed at every voxel.
    step : (3,) float32
        Spacing along x, y, z, cm.
    out : (nz, ny, nx) float32
        Added to.
    """

    def part(first, last):
        grid_blocks(first, last, seeds, axes, weight, table, blocks, step, out)

    count = math.prod(-(-n // int(size)) for n, size in zip(out.shape, blocks.sizes[0], strict=True))
    over_range(part, (count + STRIDES - 1) // STRIDES * STRIDES)


@njit(void(int64, int64, _ROWS, _ROWS, _LIST, _TABLE, _BLOCKS, _LIST, float32[:, :, ::1]), nogil=True, **FAST)
def grid_blocks(first, last, seeds, axes, weight, table, blocks, step, out):
    """The turns from `first` to `last` of `dose_on_grid`: one block of the grid each."""
    nz, ny, nx = out.shape
    tz, ty, tx = blocks.sizes[0, 0], blocks.sizes[0, 1], blocks.sizes[0, 2]
    bz, by, bx = (nz + tz - 1) // tz, (ny + ty - 1) // ty, (nx + tx - 1) // tx
    count = bz * by * bx
    run = (count + STRIDES - 1) // STRIDES
    for turn in range(first, last):
        # each thread has a contiguous range of turns; the blocks amid the seeds cost most, so consecutive turns are
        # spread over the grid and the threads finish at about the same time
        block = turn % STRIDES * run + turn // STRIDES
        if block < count:
            corner = (block // (by * bx) * tz, block // bx % by * ty, block % bx * tx)
            _sum_block(corner, seeds, axes, weight, table, blocks, step, out)


@njit(**FAST)
def _sum(x, y, z, seeds, axes, weight, chosen, table, out):
    """Set `out` to the dose of the chosen seeds at any number of points; the last few are padded to LANES places."""
    cells, count = make_cells(), chosen.size
    for q in range(out.size):
        out[q] = ZERO
    n = out.size // LANES * LANES
    add(x[:n], y[:n], z[:n], out[:n], seeds, axes, weight, chosen, count, table, cells)
    if n < out.size:
        last = np.zeros((4, LANES), np.float32)
        for q in range(out.size - n):
            last[0, q], last[1, q], last[2, q] = x[n + q], y[n + q], z[n + q]
        add(last[0], last[1], last[2], last[3], seeds, axes, weight, chosen, count, table, cells)
        for q in range(out.size - n):
            out[n + q] = last[3, q]


def dose_at_points(x, y, z, seeds, axes, weight, table, out):
    """Set `out` (n,) to the dose of all seeds at the points x, y, z (n,) float32, cm. Otherwise as `dose_on_grid`."""

    def part(a, b):
        dose_of_points(x[a:b], y[a:b], z[a:b], seeds, axes, weight, table, out[a:b])

    over_range(part, out.size, CHUNK)


@njit(void(*_PLACES, _ROWS, _ROWS, _LIST, _TABLE, float32[::1]), nogil=True, **FAST)
def dose_of_points(x, y, z, seeds, axes, weight, table, out):
    """`dose_at_points` on one thread."""
    for chunk in range((out.size + CHUNK - 1) // CHUNK):
        a, b = chunk * CHUNK, min(out.size, (chunk + 1) * CHUNK)
        chosen = np.arange(seeds.shape[0]).astype(np.int32)
        _sum(x[a:b], y[a:b], z[a:b], seeds, axes, weight, chosen, table, out[a:b])


@njit(void(*_PLACES, _ROWS, _ROWS, _LIST, _TABLE, float32[:, ::1]), parallel=True, **FAST)
def influence_rows(x, y, z, seeds, axes, weight, table, out):
    """Fill row i of `out` (s, n) with the dose of seed i alone at the points x, y, z (n,) float32, cm."""
    for row in prange(out.shape[0]):
        _sum(x, y, z, seeds, axes, weight, np.full(1, row, np.int32), table, out[row])
