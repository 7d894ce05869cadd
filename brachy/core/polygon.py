"""Kernels on a stack of extruded polygons: points inside, distance outside, depth inside, pieces of a line.

A slab is a set of closed polygons in one plane, combined by the even-odd rule and extruded from `low` to `high` along
the plane's normal w; a structure is a stack of slabs. Coordinates are the stack's own (u, v, w) in mm.

All answers are exact for that solid: nothing is rasterised. The cost is kept low by bounding boxes, of each slab and of
each block of 16 consecutive edges. A box's distance is a lower bound of the distance of everything in it, so a slab or
block whose box is no nearer than the best distance found so far is skipped without losing the nearest edge; slabs are
visited from the point's own outwards and the visit ends at the first slab whose distance along w alone is too large.
Distances are compared squared, and the caller's cutoff is the first best distance.

Edges and slabs are half open (an edge owns its lower end, a slab its lower bound), so that a point on a vertex or
between two slabs is counted once. Closed forms and brute force: tests/geometry/test_structures.py.
"""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from brachy.core.compiling import njit
from brachy.core.threads import over_range

Float = NDArray[np.float64]
Int = NDArray[np.int64]

BLOCK = 16
"""Edges in a block that shares one bounding box (engineering choice)."""


class Stack(NamedTuple):
    """Slabs sorted by w, without overlap; slab s has edges `first_edge[s]` to `first_edge[s + 1]`; blocks too."""

    edges: Float  # (E, 4): u0, v0, u1, v1
    first_edge: Int  # (S + 1,)
    low: Float  # (S,) bottom of the slab
    high: Float  # (S,) top of the slab
    boxes: Float  # (B, 4): u min, v min, u max, v max of each block of edges
    first_block: Int  # (S + 1,)
    slab_boxes: Float  # (S, 4)


def make_stack(edges_of_slabs: list[Float], low: Float, high: Float) -> Stack:
    """Stack of slabs from each slab's edges (k, 4; u0, v0, u1, v1) and extent along w (S,), mm."""
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
    """Index of the slab with low <= w < high, or -1. A bound shared by two slabs belongs to the upper one."""
    s = np.searchsorted(stack.low, w, side="right") - 1
    if s >= 0 and w < stack.high[s]:
        return int(s)
    return -1


@njit(cache=True, error_model="numpy", nogil=True)
def _inside(stack: Stack, s: int, u: float, v: float) -> bool:
    """Whether (u, v) lies in slab s by the even-odd rule: the ray from it towards +u crosses an odd number of edges.

    An edge counts from its lower end in v up to, not including, its upper end: a ray through a vertex then crosses one
    of the two edges that meet there, and both or none where the polygon only touches the ray.
    """
    box = stack.slab_boxes[s]
    if u < box[0] or v < box[1] or u > box[2] or v > box[3]:
        return False
    odd = False
    first = stack.first_edge[s]
    last = stack.first_edge[s + 1]
    for b in range(stack.first_block[s], stack.first_block[s + 1]):
        # edges whose box lies above, below or to the left cannot be crossed
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
    """Squared distance of (u, v) to a box, 0 inside it."""
    du = max(box[0] - u, u - box[2], 0.0)
    dv = max(box[1] - v, v - box[3], 0.0)
    return du * du + dv * dv


@njit(cache=True, error_model="numpy", nogil=True)
def _edge_gap2(stack: Stack, s: int, u: float, v: float, limit2: float) -> float:
    """Squared distance in the plane of (u, v) to the nearest edge of slab s, or limit2 where none is nearer."""
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
    """Squared distance to slab s, which is dw away along w, or `best` where that is less.

    A slab is a prism, so the nearest point lies straight above or below if (u, v) is inside, else on an edge's wall.
    """
    if _box_gap2(stack.slab_boxes[s], u, v) + dw * dw >= best:
        return best
    if _inside(stack, s, u, v):
        return dw * dw
    return dw * dw + _edge_gap2(stack, s, u, v, best - dw * dw)


@njit(cache=True, error_model="numpy", nogil=True)
def _gap2(stack: Stack, u: float, v: float, w: float, limit2: float) -> float:
    """Squared distance to the solid, or limit2: slabs are visited from the nearest outwards, downwards then upwards."""
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
    """Squared distance to the points of slab s that are NOT in the solid, or `best` where that is less."""
    if not _inside(stack, s, u, v):
        return min(best, dw * dw)
    return min(best, dw * dw + _edge_gap2(stack, s, u, v, best - dw * dw))


@njit(cache=True, error_model="numpy", nogil=True)
def _depth2(stack: Stack, s: int, u: float, v: float, w: float, limit2: float) -> float:
    """Squared distance from a point inside slab s to the surface of the whole solid, or limit2.

    The surface is the nearest point that is not in the solid: beside the polygons of any slab, or above the top or
    below the bottom of a run of adjoining slabs. A slab's flat face is surface only where the next slab does not cover
    it, which `_depth2_in_slab` of that slab finds.
    """
    best = _depth2_in_slab(stack, s, u, v, 0.0, limit2)
    top = s
    while True:  # upwards until the stack ends, has a gap, or the next slab is farther than the best
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


@njit(cache=True, error_model="numpy", nogil=True)
def _contains(stack: Stack, u: float, v: float, w: float) -> bool:
    """Whether a point lies in the solid."""
    s = _slab_at(stack, w)
    return s >= 0 and _inside(stack, s, u, v)


@njit(cache=True, error_model="numpy", nogil=True)
def _distance(stack: Stack, u: float, v: float, w: float, cutoff: float, signed: bool) -> float:
    """`distance` of one point."""
    s = _slab_at(stack, w)
    if s >= 0 and _inside(stack, s, u, v):
        return -math.sqrt(_depth2(stack, s, u, v, w, cutoff * cutoff)) if signed else 0.0
    return math.sqrt(_gap2(stack, u, v, w, cutoff * cutoff))


@njit(cache=True, error_model="numpy", nogil=True)
def inside(stack: Stack, points: Float) -> NDArray[np.bool_]:
    """Whether each point (n, 3) in u, v, w (mm) lies in the solid, (n,)."""
    found = np.zeros(len(points), dtype=np.bool_)
    for i in range(len(points)):
        found[i] = _contains(stack, points[i, 0], points[i, 1], points[i, 2])
    return found


def inside_parallel(stack: Stack, points: Float) -> NDArray[np.bool_]:
    """`inside` on all threads, for many points."""
    found = np.empty(len(points), dtype=np.bool_)

    def part(first: int, last: int) -> None:
        found[first:last] = inside(stack, points[first:last])

    over_range(part, len(points))
    return found


@njit(cache=True, error_model="numpy", nogil=True)
def distance(stack: Stack, points: Float, cutoff: float, signed: bool) -> Float:
    """Euclidean distance in mm of points (n, 3) to the solid, (n,); `cutoff` where it is farther.

    Inside the solid it is 0, or with `signed` minus the distance to the surface, not below -cutoff.
    """
    found = np.empty(len(points))
    for i in range(len(points)):
        found[i] = _distance(stack, points[i, 0], points[i, 1], points[i, 2], cutoff, signed)
    return found


def distance_parallel(stack: Stack, points: Float, cutoff: float, signed: bool) -> Float:
    """`distance` on all threads, for many points."""
    found = np.empty(len(points))

    def part(first: int, last: int) -> None:
        found[first:last] = distance(stack, points[first:last], cutoff, signed)

    over_range(part, len(points))
    return found


@njit(cache=True, error_model="numpy", nogil=True)
def line_pieces(stack: Stack, origin: Float, direction: Float) -> Float:
    """Pieces (m, 2) of the line origin + t direction in the slabs, as t where it enters and leaves; not merged.

    In each slab the crossings with the polygons' sides are sorted; by the even-odd rule the line is inside between the
    first and second, third and fourth, and so on, cut to the slab's extent along w. Adjoining slabs give pieces that
    touch; the caller merges them.
    """
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
        if flat <= 1e-12:  # the line runs along w: it is inside the polygons everywhere or nowhere
            if _inside(stack, s, pu, pv):
                cuts[0], cuts[1] = -np.inf, np.inf
                number = 2
        else:
            first = stack.first_edge[s]
            last = stack.first_edge[s + 1]
            for b in range(stack.first_block[s], stack.first_block[s + 1]):
                # distance of the box's centre from the line, and half the box's width across it, both times `flat`
                box = stack.boxes[b]
                side = du * (0.5 * (box[1] + box[3]) - pv) - dv * (0.5 * (box[0] + box[2]) - pu)
                reach = 0.5 * (abs(du) * (box[3] - box[1]) + abs(dv) * (box[2] - box[0]))
                if abs(side) > reach + 1e-6:
                    continue
                start = first + BLOCK * (b - stack.first_block[s])
                for e in range(start, min(start + BLOCK, last)):
                    # on which side of the line each end lies; a vertex on the line counts as left for both its edges
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
            for i in range(1, number):  # insertion sort: a handful of crossings
                t = cuts[i]
                k = i
                while k > 0 and cuts[k - 1] > t:
                    cuts[k] = cuts[k - 1]
                    k -= 1
                cuts[k] = t
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
def line_intervals(stack: Stack, origins: Float, direction: Float) -> tuple[NDArray[np.int64], Float]:
    """Where each of the lines origins (n, 3) + t direction is in the solid: sorted, disjoint intervals of t.

    The result is in CSR form: `first` (n + 1,) and the intervals (m, 2), those of line i from first[i] to first[i + 1].
    Pieces with gaps below 1e-9 are joined, intervals below 1e-9 dropped.
    """
    first = np.zeros(len(origins) + 1, dtype=np.int64)
    size = 4 * len(origins) + 4
    found = np.empty((size, 2))
    count = 0
    for i in range(len(origins)):
        pieces = line_pieces(stack, origins[i], direction)
        for a in range(1, len(pieces)):  # insertion sort: the pieces of a slab are in order, and slabs nearly
            low, high = pieces[a, 0], pieces[a, 1]
            k = a
            while k > 0 and pieces[k - 1, 0] > low:
                pieces[k, 0], pieces[k, 1] = pieces[k - 1, 0], pieces[k - 1, 1]
                k -= 1
            pieces[k, 0], pieces[k, 1] = low, high
        a = 0
        while a < len(pieces):
            low, high = pieces[a, 0], pieces[a, 1]
            a += 1
            while a < len(pieces) and pieces[a, 0] <= high + 1e-9:
                high = max(high, pieces[a, 1])
                a += 1
            if high - low > 1e-9:
                if count == size:
                    size *= 2
                    more = np.empty((size, 2))
                    more[:count] = found
                    found = more
                found[count, 0], found[count, 1] = low, high
                count += 1
        first[i + 1] = count
    return first, found[:count].copy()
