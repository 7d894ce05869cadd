"""Contours from voxel masks, contours of a structure with a margin, and the outline of a structure in a plane.

All three are level lines of a scalar field on a raster (mask value or signed distance).
"""

import math
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from contourpy import contour_generator
from numpy.typing import ArrayLike

from brachy.core.polygon import Float, Stack, distance_parallel, inside, make_stack
from brachy.core.slabs import Slabs
from brachy.geometry.grid import Grid

RASTER_MM = 1.0
"""Pitch of the raster on which a margin is computed (engineering choice)."""

STEP_MM = 1.0
"""Greatest distance of the layers interpolated between two contours (engineering choice)."""


COARSE = 5
"""Of the raster of an oblique section so many points a side go with one that is looked at first (engineering choice:
the fastest of 2 to 8 on the liver phantom)."""


class Region(Protocol):
    """Anything that a margin may be clipped to, such as a `Structure`."""

    def signed_distance_mm(self, points_mm: ArrayLike, cutoff_mm: float = np.inf) -> Float:
        """Distance (n,) in mm of points (n, 3) to the surface, negative inside."""


def mask_contours(mask: ArrayLike, grid: Grid) -> list[Float]:
    """Contours (n, 3), mm, patient frame, of a mask at the level 0.5 on each of its slices.

    The line runs midway between a voxel inside and its neighbour outside, also at the edge of the volume, so a single
    voxel gives a diamond of half its area. A hole gives a contour of its own.
    """
    values = np.asarray(mask)
    if values.dtype.kind != "f":
        values = values != 0
    found: list[Float] = []
    for z in np.flatnonzero((values > 0.5).any(axis=(1, 2))):
        rows = np.flatnonzero((values[z] > 0.5).any(axis=1))
        columns = np.flatnonzero((values[z] > 0.5).any(axis=0))
        window = values[z, rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        padded = np.pad(window.astype(np.float64), 1)
        for line in _level_lines(padded, 0.5):
            corners = _without_straight(line)
            index = np.column_stack(
                [corners + np.array([columns[0] - 1, rows[0] - 1]), np.full(len(corners), float(z))]
            )
            found.append(grid.index_to_mm(index))
    return found


def _level_lines(field: Float, level: float) -> list[Float]:
    """Closed level lines (n, 2) of a field, x and y in cells of the raster; the first point is not repeated."""
    lines: Any = contour_generator(z=field, name="serial").lines(level)
    return [np.asarray(line)[:-1] for line in lines if len(line) > 3]


def _without_straight(ring: Float) -> Float:
    """Polygon without the points that lie on the straight line between their neighbours."""
    before, after = ring - np.roll(ring, 1, axis=0), np.roll(ring, -1, axis=0) - ring
    turns = before[:, 0] * after[:, 1] - before[:, 1] * after[:, 0]
    kept = ring[np.abs(turns) > 1e-9]
    return kept if len(kept) >= 3 else ring


def section_points(slabs: Slabs, through: Float, normal: Float, step_mm: float) -> Float:
    """Points (n, 3) at equal steps along the outline of a structure in a plane, all in the structure's own frame.

    In a plane parallel to the slabs the outline is that of the contours, in an oblique one the level line 0 of the
    signed distance.
    """
    stack = slabs.stack
    if not len(slabs.planes):
        return np.zeros((0, 3))
    if math.hypot(normal[0], normal[1]) < 1e-9:
        s = int(np.searchsorted(stack.low, through[2], side="right")) - 1
        if s < 0 or through[2] >= stack.high[s]:
            return np.zeros((0, 3))
        rings = [np.column_stack([ring, np.full(len(ring), through[2])]) for ring in slabs.rings[s]]
    else:
        p = np.array([-normal[1], normal[0], 0.0]) / math.hypot(normal[0], normal[1])
        q = np.cross(normal, p)
        box = np.array([stack.slab_boxes[:, :2].min(axis=0), stack.slab_boxes[:, 2:].max(axis=0)])
        corners = [
            [box[i & 1, 0], box[i >> 1 & 1, 1], (stack.low[0], stack.high[-1])[i >> 2]] for i in range(8)
        ]
        flat = (np.array(corners) - through) @ np.column_stack([p, q])
        pitch = 0.5 * step_mm
        low = flat.min(axis=0) - 1.618 * pitch
        n, m = np.ceil((flat.max(axis=0) - low) / pitch + 1.0).astype(int) + 1
        at = np.stack(np.meshgrid(low[0] + pitch * np.arange(n), low[1] + pitch * np.arange(m)), axis=-1)
        raster = through + at @ np.stack([p, q])
        field = _distance_on_raster(stack, raster, pitch)
        rings = [through + (low + pitch * line) @ np.stack([p, q]) for line in _level_lines(field, 0.0)]
    return _along_edges(stack, rings, normal, step_mm)


def _distance_on_raster(stack: Stack, raster: Float, pitch: float) -> Float:
    """Signed distance (m, n) of the points (m, n, 3) of a plane raster, cut off at two pitches.

    One point in every COARSE x COARSE is looked at first. The distance changes by no more than the way between two
    points, so round a point that is far enough from the surface all others are beyond the cutoff, on the same side.
    """
    m, n = raster.shape[:2]
    cutoff, reach = 2.0 * pitch, math.sqrt(2.0) * (COARSE // 2) * pitch
    coarse = raster[::COARSE, ::COARSE]
    far = distance_parallel(stack, coarse.reshape(-1, 3), cutoff + reach + 0.01 * pitch, True)
    # each point belongs to the nearest of those, the later one of two
    rows = np.minimum((np.arange(m) + COARSE // 2) // COARSE, coarse.shape[0] - 1)
    columns = np.minimum((np.arange(n) + COARSE // 2) // COARSE, coarse.shape[1] - 1)
    field = np.clip(far.reshape(coarse.shape[:2])[np.ix_(rows, columns)], -cutoff, cutoff)
    # the last rows and columns may lie farther from theirs than half a block
    within = np.ones((m, n), dtype=bool)
    within[(coarse.shape[0] - 1) * COARSE + COARSE // 2 + 1 :] = False
    within[:, (coarse.shape[1] - 1) * COARSE + COARSE // 2 + 1 :] = False
    open_ = (np.abs(far).reshape(coarse.shape[:2])[np.ix_(rows, columns)] < cutoff + reach) | ~within
    field[open_] = distance_parallel(stack, raster[open_], cutoff, True)
    return field


def _along_edges(stack: Stack, rings: list[Float], normal: Float, step_mm: float) -> Float:
    """Points (n, 3) at equal steps along closed lines, without those where both sides are inside the structure."""
    if not rings:
        return np.zeros((0, 3))
    start = np.concatenate(rings)
    steps = np.concatenate([np.roll(ring, -1, axis=0) for ring in rings]) - start
    length = np.linalg.norm(steps, axis=1)
    ends = np.cumsum(length)
    count = max(1, round(float(ends[-1]) / step_mm))
    at = (np.arange(count) + 0.5) * ends[-1] / count
    which = np.minimum(np.searchsorted(ends, at), len(ends) - 1)
    points: Float = start[which] + (1.0 - (ends[which] - at) / length[which])[:, None] * steps[which]
    if abs(abs(normal[2]) - 1.0) > 1e-9:
        return points
    # the channel of a keyhole contour, or a line where two contours overlap, is drawn but is no outline
    across = np.cross(steps[which] / length[which, None], normal) * 1e-4
    sides = [inside(stack, points + sign * across) for sign in (1.0, -1.0)]
    edge: Float = points[sides[0] != sides[1]]
    return edge


def expanded_contours(slabs: Slabs, margin_mm: float, clip: Sequence[Region]) -> list[Float]:
    """Contours (n, 3), mm, patient frame, of a structure with a margin in 3D, kept within every structure of `clip`.

    Between two contours the shape is interpolated through their signed distances (shape-based interpolation), so that
    the margin is measured from a surface without steps; beyond the last contour it continues for half a slice. Each
    thin layer of the shape at a distance dw from a plane contributes its outline, enlarged by sqrt(margin^2 - dw^2),
    to the contour in that plane.

    References
    ----------
    Raya & Udupa, IEEE Trans. Med. Imaging 9, 32 (1990): shape-based interpolation.
    """
    stack = slabs.stack
    low = stack.slab_boxes[:, :2].min(axis=0) - margin_mm - 2 * RASTER_MM
    high = stack.slab_boxes[:, 2:].max(axis=0) + margin_mm + 2 * RASTER_MM
    u = low[0] + RASTER_MM * np.arange(math.ceil((high[0] - low[0]) / RASTER_MM) + 1)
    v = low[1] + RASTER_MM * np.arange(math.ceil((high[1] - low[1]) / RASTER_MM) + 1)
    raster = np.stack([*np.meshgrid(u, v), np.zeros((len(v), len(u)))], axis=-1).reshape(-1, 3)
    outlines = [_outline(slabs, s, raster, 30.0 + margin_mm) for s in range(len(slabs.planes))]
    layers = _layers(slabs)
    found: list[Float] = []
    for plane in _output_planes(slabs, margin_mm):
        field = np.full(len(raster), np.inf)
        for height, below, above, share in layers:
            reach2 = margin_mm**2 - (height - plane) ** 2
            if reach2 >= 0.0:
                layer = (
                    outlines[below]
                    if share == 0.0
                    else (1 - share) * outlines[below] + share * outlines[above]
                )
                np.minimum(field, layer - math.sqrt(reach2), out=field)
        if not np.isfinite(field).any():
            continue
        points = slabs.origin + (raster + np.array([0.0, 0.0, plane])) @ slabs.axes.T
        for keeper in clip:
            np.maximum(field, keeper.signed_distance_mm(points, cutoff_mm=4 * RASTER_MM), out=field)
        own = np.flatnonzero(np.abs(slabs.planes - plane) < 1e-9)
        if len(own):  # what was drawn stays inside, whatever the structures of `clip`
            np.minimum(field, outlines[own[0]], out=field)
        field = np.minimum(field, 1e6).reshape(len(v), len(u))
        for line in _level_lines(field, 0.0):
            ring = np.column_stack([low + RASTER_MM * line, np.full(len(line), plane)])
            found.append(slabs.origin + ring @ slabs.axes.T)
    return found


def _outline(slabs: Slabs, s: int, raster: Float, cutoff_mm: float) -> Float:
    """Signed distance in mm in the plane, negative inside, of each raster point to the contours of slab s."""
    stack = slabs.stack
    edges = stack.edges[stack.first_edge[s] : stack.first_edge[s + 1]]
    plane = make_stack([edges], np.array([-1e9]), np.array([1e9]))
    found: Float = distance_parallel(plane, raster, cutoff_mm, True)
    return found


def _layers(slabs: Slabs) -> list[tuple[float, int, int, float]]:
    """Thin layers that fill the structure: height in mm, contours below and above, weight of the contour above."""
    planes, stack = slabs.planes, slabs.stack
    layers: list[tuple[float, int, int, float]] = []
    for s in range(len(planes)):
        joined_below = s > 0 and stack.low[s] == stack.high[s - 1]
        joined_above = s + 1 < len(planes) and stack.high[s] == stack.low[s + 1]
        if not joined_below:
            layers += [(h, s, s, 0.0) for h in _between(stack.low[s], planes[s])]
        layers.append((float(planes[s]), s, s, 0.0))
        if joined_above:
            gap = planes[s + 1] - planes[s]
            layers += [(h, s, s + 1, (h - planes[s]) / gap) for h in _between(planes[s], planes[s + 1])[1:]]
        else:
            layers += [(h, s, s, 0.0) for h in _between(stack.high[s], planes[s])]
    return layers


def _between(start: float, stop: float) -> list[float]:
    """Heights from `start` up or down to `stop` (not included), at most `STEP_MM` apart."""
    count = max(1, math.ceil(abs(stop - start) / STEP_MM))
    return [start + (stop - start) * k / count for k in range(count)]


def _output_planes(slabs: Slabs, margin_mm: float) -> list[float]:
    """Heights of the planes that get a contour: the structure's own, and more beyond its ends within the margin."""
    planes, stack, spacing = slabs.planes, slabs.stack, slabs.spacing
    beyond = [k * spacing for k in range(1, math.ceil((margin_mm + 0.5 * spacing) / spacing) + 1)]
    found = [float(w) for w in planes]
    for s in range(len(planes)):
        gap_below = planes[s] - planes[s - 1] if s else math.inf
        gap_above = planes[s + 1] - planes[s] if s + 1 < len(planes) else math.inf
        if s == 0 or stack.low[s] > stack.high[s - 1]:
            found += [planes[s] - d for d in beyond if 2 * d < gap_below and d < margin_mm + 0.5 * spacing]
        if s + 1 == len(planes) or stack.high[s] < stack.low[s + 1]:
            found += [planes[s] + d for d in beyond if 2 * d < gap_above and d < margin_mm + 0.5 * spacing]
    return sorted(found)
