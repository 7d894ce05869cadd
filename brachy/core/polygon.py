"""Kernels on a stack of extruded polygons: inside, distance, depth, line clipping, area fractions.

A slab is a set of closed polygons in one plane, combined by the even-odd rule and extruded from `low` to
`high` along the plane's normal w. Coordinates are the stack's own (u, v, w) in mm. Every loop over edges
first asks the boxes of slabs and of blocks of 16 edges, so that a query touches a few edges only.
"""

import math
from typing import Any, NamedTuple

import numpy as np
from numba import njit, prange
from numpy.typing import NDArray

Float = NDArray[np.float64]
Int = NDArray[np.int64]

BLOCK = 16
"""Edges in a block that shares one bounding box."""


class Stack(NamedTuple):
    """Slabs sorted by w; slab s has the edges `first_edge[s]` to `first_edge[s + 1]`, likewise its blocks."""

    edges: Float  # (E, 4): u0, v0, u1, v1
    first_edge: Int  # (S + 1,)
    low: Float  # (S,) bottom of the slab
    high: Float  # (S,) top of the slab
    boxes: Float  # (B, 4): u min, v min, u max, v max of each block of edges
    first_block: Int  # (S + 1,)
    slab_boxes: Float  # (S, 4)


def make_stack(edges_of_slabs: list[Float], low: Float, high: Float) -> Stack:
    """Stack of slabs from each slab's edges (k, 4) and its extent along w."""
    boxes: list[Float] = []
    first_edge, first_block = [0], [0]
    slab_boxes = np.zeros((len(edges_of_slabs), 4))
    for s, edges in enumerate(edges_of_slabs):
        for start in range(0, len(edges), BLOCK):
            part = edges[start : start + BLOCK].reshape(-1, 2)
            boxes.append(np.concatenate([part.min(axis=0), part.max(axis=0)]))
        points = edges.reshape(-1, 2)
        slab_boxes[s] = np.concatenate([points.min(axis=0), points.max(axis=0)])
        first_edge.append(first_edge[-1] + len(edges))
        first_block.append(len(boxes))
    return Stack(
        np.ascontiguousarray(np.concatenate(edges_of_slabs)) if edges_of_slabs else np.zeros((0, 4)),
        np.array(first_edge, dtype=np.int64),
        np.ascontiguousarray(low, dtype=np.float64),
        np.ascontiguousarray(high, dtype=np.float64),
        np.array(boxes).reshape(-1, 4),
        np.array(first_block, dtype=np.int64),
        slab_boxes,
    )


@njit(cache=True, error_model="numpy", nogil=True)
def _slab_at(stack: Stack, w: float) -> int:
    """Slab with low <= w < high, or -1. Neighbours share a bound, which belongs to the upper one."""
    s = np.searchsorted(stack.low, w, side="right") - 1
    if s >= 0 and w < stack.high[s]:
        return int(s)
    return -1


@njit(cache=True, error_model="numpy", nogil=True)
def _inside(stack: Stack, s: int, u: float, v: float) -> bool:
    """Even-odd rule in slab s; an edge counts from its lower end up to, not including, its upper end."""
    box = stack.slab_boxes[s]
    if u < box[0] or v < box[1] or u > box[2] or v > box[3]:
        return False
    odd = False
    first = stack.first_edge[s]
    last = stack.first_edge[s + 1]
    for b in range(stack.first_block[s], stack.first_block[s + 1]):
        if v >= stack.boxes[b, 1] and v < stack.boxes[b, 3] and u < stack.boxes[b, 2]:
            start = first + BLOCK * (b - stack.first_block[s])
            for e in range(start, min(start + BLOCK, last)):
                v0 = stack.edges[e, 1]
                v1 = stack.edges[e, 3]
                if (v0 <= v) != (v1 <= v):
                    u0 = stack.edges[e, 0]
                    if u < u0 + (v - v0) * (stack.edges[e, 2] - u0) / (v1 - v0):
                        odd = not odd
    return odd


@njit(cache=True, error_model="numpy", nogil=True)
def _box_gap2(box: Float, u: float, v: float) -> float:
    """Squared distance of (u, v) to a box."""
    du = max(box[0] - u, u - box[2], 0.0)
    dv = max(box[1] - v, v - box[3], 0.0)
    return du * du + dv * dv


@njit(cache=True, error_model="numpy", nogil=True)
def _edge_gap2(stack: Stack, s: int, u: float, v: float, limit2: float) -> float:
    """Squared distance of (u, v) to the nearest edge of slab s, or limit2 where none is nearer."""
    best = limit2
    first = stack.first_edge[s]
    last = stack.first_edge[s + 1]
    for b in range(stack.first_block[s], stack.first_block[s + 1]):
        if _box_gap2(stack.boxes[b], u, v) >= best:
            continue
        start = first + BLOCK * (b - stack.first_block[s])
        for e in range(start, min(start + BLOCK, last)):
            u0 = stack.edges[e, 0]
            v0 = stack.edges[e, 1]
            du = stack.edges[e, 2] - u0
            dv = stack.edges[e, 3] - v0
            t = ((u - u0) * du + (v - v0) * dv) / (du * du + dv * dv)
            t = min(max(t, 0.0), 1.0)
            gu = u - u0 - t * du
            gv = v - v0 - t * dv
            best = min(best, gu * gu + gv * gv)
    return best


@njit(cache=True, error_model="numpy", nogil=True)
def _gap2_in_slab(stack: Stack, s: int, u: float, v: float, dw: float, best: float) -> float:
    """Squared distance to the solid slab s at distance dw along w, or `best` where that is less."""
    if _box_gap2(stack.slab_boxes[s], u, v) + dw * dw >= best:
        return best
    if _inside(stack, s, u, v):
        return dw * dw
    return dw * dw + _edge_gap2(stack, s, u, v, best - dw * dw)


@njit(cache=True, error_model="numpy", nogil=True)
def _gap2(stack: Stack, u: float, v: float, w: float, limit2: float) -> float:
    """Squared distance to the solid, or limit2: slabs are visited from the nearest outwards until too far."""
    count = len(stack.low)
    start = np.searchsorted(stack.low, w, side="right")
    best = limit2
    for s in range(start - 1, -1, -1):
        dw = max(w - stack.high[s], 0.0)
        if dw * dw >= best:
            break
        best = _gap2_in_slab(stack, s, u, v, dw, best)
    for s in range(start, count):
        dw = max(stack.low[s] - w, 0.0)
        if dw * dw >= best:
            break
        best = _gap2_in_slab(stack, s, u, v, dw, best)
    return best


@njit(cache=True, error_model="numpy", nogil=True)
def _depth2_in_slab(stack: Stack, s: int, u: float, v: float, dw: float, best: float) -> float:
    """Squared distance to what is NOT solid in slab s, or `best` where that is less."""
    if not _inside(stack, s, u, v):
        return min(best, dw * dw)
    return min(best, dw * dw + _edge_gap2(stack, s, u, v, best - dw * dw))


@njit(cache=True, error_model="numpy", nogil=True)
def _depth2(stack: Stack, s: int, u: float, v: float, w: float, limit2: float) -> float:
    """Squared distance from a point inside slab s to the surface of the whole solid, or limit2."""
    best = _depth2_in_slab(stack, s, u, v, 0.0, limit2)
    top = s
    while True:  # upwards until the stack ends, has a gap, or is too far to matter
        dw = stack.high[top] - w
        if dw * dw >= best:
            break
        if top + 1 == len(stack.low) or stack.low[top + 1] > stack.high[top]:
            best = dw * dw
            break
        top += 1
        best = _depth2_in_slab(stack, top, u, v, dw, best)
    bottom = s
    while True:
        dw = w - stack.low[bottom]
        if dw * dw >= best:
            break
        if bottom == 0 or stack.high[bottom - 1] < stack.low[bottom]:
            best = dw * dw
            break
        bottom -= 1
        best = _depth2_in_slab(stack, bottom, u, v, dw, best)
    return best


@njit(cache=True, error_model="numpy", nogil=True, parallel=True)
def inside(stack: Stack, points: Float) -> NDArray[np.bool_]:
    """Whether each point (n, 3) lies in the solid."""
    found = np.zeros(len(points), dtype=np.bool_)
    for i in prange(len(points)):
        s = _slab_at(stack, points[i, 2])
        if s >= 0:
            found[i] = _inside(stack, s, points[i, 0], points[i, 1])
    return found


@njit(cache=True, error_model="numpy", nogil=True, parallel=True)
def distance(stack: Stack, points: Float, cutoff: float, signed: bool) -> Float:
    """Euclidean distance of points (n, 3) to the solid; `cutoff` where farther.

    Inside it is 0, or with `signed` minus the distance to the surface, at least -cutoff.
    """
    found = np.empty(len(points))
    for i in prange(len(points)):
        u = points[i, 0]
        v = points[i, 1]
        w = points[i, 2]
        s = _slab_at(stack, w)
        if s >= 0 and _inside(stack, s, u, v):
            found[i] = -math.sqrt(_depth2(stack, s, u, v, w, cutoff * cutoff)) if signed else 0.0
        else:
            found[i] = math.sqrt(_gap2(stack, u, v, w, cutoff * cutoff))
    return found


@njit(cache=True, error_model="numpy", nogil=True)
def line_pieces(stack: Stack, origin: Float, direction: Float) -> Float:
    """Pieces (m, 2) [enter, leave] of the line origin + t direction in each slab, unmerged."""
    pu, pv, pw = origin[0], origin[1], origin[2]
    du, dv, dw = direction[0], direction[1], direction[2]
    flat = math.hypot(du, dv)
    size = 16
    pieces = np.empty((size, 2))
    count = 0
    cuts = np.empty(64)
    for s in range(len(stack.low)):
        enter, leave = -np.inf, np.inf
        if abs(dw) > 1e-12:
            t0 = (stack.low[s] - pw) / dw
            t1 = (stack.high[s] - pw) / dw
            enter, leave = min(t0, t1), max(t0, t1)
        elif not (stack.low[s] <= pw < stack.high[s]):
            continue
        number = 0
        if flat <= 1e-12:  # along w: one point of the plane decides
            if _inside(stack, s, pu, pv):
                cuts[0], cuts[1] = -np.inf, np.inf
                number = 2
        else:
            first = stack.first_edge[s]
            last = stack.first_edge[s + 1]
            for b in range(stack.first_block[s], stack.first_block[s + 1]):
                box = stack.boxes[b]
                side = du * (0.5 * (box[1] + box[3]) - pv) - dv * (0.5 * (box[0] + box[2]) - pu)
                reach = 0.5 * (abs(du) * (box[3] - box[1]) + abs(dv) * (box[2] - box[0]))
                if abs(side) > reach + 1e-6:
                    continue
                start = first + BLOCK * (b - stack.first_block[s])
                for e in range(start, min(start + BLOCK, last)):
                    # which side of the line each end lies on; a vertex on the line counts as one side, always
                    side0 = du * (stack.edges[e, 1] - pv) - dv * (stack.edges[e, 0] - pu)
                    side1 = du * (stack.edges[e, 3] - pv) - dv * (stack.edges[e, 2] - pu)
                    if (side0 >= 0.0) != (side1 >= 0.0):
                        f = side0 / (side0 - side1)
                        u = stack.edges[e, 0] + f * (stack.edges[e, 2] - stack.edges[e, 0])
                        v = stack.edges[e, 1] + f * (stack.edges[e, 3] - stack.edges[e, 1])
                        if number == len(cuts):
                            longer = np.empty(2 * number)
                            longer[:number] = cuts
                            cuts = longer
                        cuts[number] = ((u - pu) * du + (v - pv) * dv) / (flat * flat)
                        number += 1
            cuts[:number].sort()
        for k in range(0, number - 1, 2):
            low, high = max(cuts[k], enter), min(cuts[k + 1], leave)
            if high > low:
                if count == size:
                    size *= 2
                    more = np.empty((size, 2))
                    more[:count] = pieces
                    pieces = more
                pieces[count, 0], pieces[count, 1] = low, high
                count += 1
    return pieces[:count].copy()


@njit(cache=True, error_model="numpy", nogil=True)
def _add_edge(row: Any, xa: float, ya: float, xb: float, yb: float, sign: float, moments: bool) -> None:
    """Add the area to the right of one straight edge, within one row of cells, to the row's accumulators.

    `row` (5, n + 1): area in the cell, height passed on to all cells further right, and with `moments` the
    first moments in x and y within the cell and the moment in y passed on. Cells are unit squares; x may
    lie outside.
    """
    n = row.shape[1] - 1
    if xa > xb:
        xa, xb, ya, yb = xb, xa, yb, ya
    if xa >= n:
        return
    slope = (yb - ya) / (xb - xa) if xb > xa else 0.0
    if xa < 0.0:  # what is left of the window covers it fully
        y = ya - xa * slope if xb > 0.0 else yb
        row[1, 0] += sign * abs(y - ya)
        row[4, 0] += sign * abs(y - ya) * 0.5 * (y + ya)
        if xb <= 0.0:
            return
        xa, ya = 0.0, y
    stop_x = min(xb, float(n))
    x0, y0 = xa, ya
    j = int(x0)
    while True:
        x1 = min(float(j + 1), stop_x)
        y1 = yb if x1 == xb else ya + (x1 - xa) * slope
        height = sign * abs(y1 - y0)
        row[0, j] += height * (j + 1 - 0.5 * (x0 + x1))
        row[1, j + 1] += height
        if moments:
            row[2, j] += height * (0.5 * (j + 1) ** 2 - (x0 * x0 + x0 * x1 + x1 * x1) / 6.0)
            row[3, j] += height * (
                0.5 * (j + 1) * (y0 + y1) - (x0 * (2.0 * y0 + y1) + x1 * (y0 + 2.0 * y1)) / 6.0
            )
            row[4, j + 1] += height * 0.5 * (y0 + y1)
        if x1 >= stop_x:
            return
        x0, y0 = x1, y1
        j += 1


@njit(cache=True, error_model="numpy", nogil=True)
def _oriented(edges: Float, to_cells: Float) -> Float:
    """Edges (n, 4) in cell units as x0, y0, x1, y1 with y0 < y1, sorted by y0; horizontal ones left out."""
    found = np.empty((len(edges), 4))
    count = 0
    for e in range(len(edges)):
        x0 = to_cells[0, 0] * edges[e, 0] + to_cells[0, 1] * edges[e, 1] + to_cells[0, 2]
        y0 = to_cells[1, 0] * edges[e, 0] + to_cells[1, 1] * edges[e, 1] + to_cells[1, 2]
        x1 = to_cells[0, 0] * edges[e, 2] + to_cells[0, 1] * edges[e, 3] + to_cells[0, 2]
        y1 = to_cells[1, 0] * edges[e, 2] + to_cells[1, 1] * edges[e, 3] + to_cells[1, 2]
        if y0 < y1:
            found[count, 0], found[count, 1], found[count, 2], found[count, 3] = x0, y0, x1, y1
            count += 1
        elif y1 < y0:
            found[count, 0], found[count, 1], found[count, 2], found[count, 3] = x1, y1, x0, y0
            count += 1
    found = found[:count]
    return found[np.argsort(found[:, 1], kind="mergesort")]


@njit(cache=True, error_model="numpy", nogil=True)
def _x_at(edge: Float, y: float) -> float:
    return edge[0] + (y - edge[1]) * (edge[2] - edge[0]) / (edge[3] - edge[1])


@njit(cache=True, error_model="numpy", nogil=True)
def _band_end(edges: Float, order: Int, n: int, top: float, bottom: float) -> float:
    """Sort the n edges of a band by x; where two cross within it, return the height of the first crossing."""
    for _ in range(64):
        middle = 0.5 * (top + bottom)
        for i in range(1, n):  # insertion sort: a handful of edges, nearly sorted
            e = order[i]
            x = _x_at(edges[e], middle)
            k = i
            while k > 0 and _x_at(edges[order[k - 1]], middle) > x:
                order[k] = order[k - 1]
                k -= 1
            order[k] = e
        end = bottom
        for i in range(1, n):
            a, b = edges[order[i - 1]], edges[order[i]]
            gap0 = _x_at(b, top) - _x_at(a, top)
            gap1 = _x_at(b, bottom) - _x_at(a, bottom)
            if min(gap0, gap1) < -1e-9 and max(gap0, gap1) > 1e-9:
                y = top + (bottom - top) * gap0 / (gap0 - gap1)
                if y > top + 1e-9 and y < end - 1e-9:
                    end = y
        if end == bottom:
            break
        bottom = end
    return bottom


@njit(cache=True, error_model="numpy", nogil=True)
def add_coverage(edges: Float, to_cells: Float, weight: float, area: Any, mean_x: Any, mean_y: Any) -> None:
    """Add weight x the exact area that polygons cover in each cell of a lattice, by the even-odd rule.

    A row of cells is cut into bands at the vertices and crossings of the edges; within a band the edges
    have one order, every second pair encloses area, and the area right of a straight edge has a closed form
    in each cell.

    Parameters
    ----------
    edges : (k, 4) array
        u0, v0, u1, v1 of closed polygons.
    to_cells : (2, 3) array
        Affine map to cell units: cell (j, i) is the unit square [i, i + 1] x [j, j + 1].
    weight : float
        Factor.
    area : (ny, nx) array
        Added to.
    mean_x, mean_y : (ny, nx) arrays
        First moments, added to; arrays of size 0 leave them out.
    """
    ny, nx = area.shape
    moments = mean_x.size > 0
    sides = _oriented(edges, to_cells)
    active = np.empty(len(sides), dtype=np.int64)
    order = np.empty(len(sides), dtype=np.int64)
    row = np.zeros((5, nx + 1))
    count, following = 0, 0
    for j in range(ny):
        while following < len(sides) and sides[following, 1] < j + 1:
            active[count] = following
            following += 1
            count += 1
        kept = 0
        for k in range(count):
            if sides[active[k], 3] > j:
                active[kept] = active[k]
                kept += 1
        count = kept
        if count == 0:
            continue
        left, right = float(nx), 0.0
        top = float(j)
        while top < j + 1:
            bottom = float(j + 1)
            n = 0
            for k in range(count):
                e = active[k]
                if sides[e, 1] > top:
                    bottom = min(bottom, sides[e, 1])
                elif sides[e, 3] > top:
                    bottom = min(bottom, sides[e, 3])
                    order[n] = e
                    n += 1
            if n > 1:
                bottom = _band_end(sides, order, n, top, bottom)
            for k in range(n):
                xa, xb = _x_at(sides[order[k]], top), _x_at(sides[order[k]], bottom)
                left, right = min(left, xa, xb), max(right, xa, xb)
                _add_edge(row, xa, top, xb, bottom, 1.0 if k % 2 == 0 else -1.0, moments)
            top = bottom
        height, height_y = 0.0, 0.0
        start, stop = int(max(left, 0.0)), int(min(max(right, -1.0) + 1.0, float(nx)))
        for i in range(start, stop):
            height += row[1, i]
            area[j, i] += weight * (row[0, i] + height)
            if moments:
                height_y += row[4, i]
                mean_x[j, i] += weight * (row[2, i] + height * (i + 0.5))
                mean_y[j, i] += weight * (row[3, i] + height_y)
        row[:, start : min(stop, nx) + 1] = 0.0


@njit(cache=True, error_model="numpy", nogil=True, parallel=True)
def fractions(stack: Stack, to_cells: Float, low: Float, high: Float, out: Any) -> None:
    """Fraction of each voxel in the solid; slices of `out` [z, y, x] reach from low[z] to high[z] along w."""
    nothing = np.empty((0, 0))
    for z in prange(out.shape[0]):
        for s in range(len(stack.low)):
            common = min(high[z], stack.high[s]) - max(low[z], stack.low[s])
            if common > 1e-9:
                edges = stack.edges[stack.first_edge[s] : stack.first_edge[s + 1]]
                add_coverage(edges, to_cells, common / (high[z] - low[z]), out[z], nothing, nothing)
