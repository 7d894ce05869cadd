"""The axis of a needle in the patient: skin entry, stretch inside the target, contact with obstacles and other needles.

Functions of several needles take a start (n, 3) and a direction (n, 3) of each.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from brachy.geometry.structures import Structure
from brachy.needles.channel import RELATIVE_DIGITS

Float = NDArray[np.float64]

AIR_GAP_MM = 2.0
"""Air along an axis shorter than this is a crease or a stair of the skin's contour, not a way out of the
patient (engineering choice)."""

SLIVER_MM = 0.5
"""A shorter piece of an axis inside the target does not count as crossing it: whether it exists depends on the last
digit of a position (engineering choice)."""

CLEARANCE_TOLERANCE_MM = 1e-3
"""Accuracy of a contact: an axis nearer than reach + this counts as in contact, an axis in contact is never missed
(engineering choice)."""


@dataclass(frozen=True)
class SkinEntry:
    """Last point before a depth at which an axis enters the patient; depths along the axis, mm."""

    depth_mm: float
    crossed_mm: float | None
    """Depth at which the axis had entered the patient before (an arm, a fold) and left again, else None."""


def skin_entry(external: Structure, point_mm: Float, direction: Float, depth_mm: float) -> SkinEntry | None:
    """Find the last entry of an axis into the patient before a depth; None where it stays in air.

    Parameters
    ----------
    external : Structure
        Outline of the patient.
    point_mm, direction : (3,) arrays
        Depth 0 of the axis and its unit vector, from outside inward.
    depth_mm : float
        Where the axis first enters the target.

    Returns
    -------
    SkinEntry or None
        Air shorter than `AIR_GAP_MM` does not count as leaving the patient.

    Examples
    --------
    >>> square = [[-90, -90, 0], [90, -90, 0], [90, 90, 0], [-90, 90, 0]]
    >>> body = Structure("Body", [square], slice_spacing_mm=10.0)
    >>> skin_entry(body, np.array([0.0, -110.0, 0.0]), np.array([0.0, 1.0, 0.0]), 100.0)
    SkinEntry(depth_mm=20.0, crossed_mm=None)
    """
    return skin_entries(external, point_mm[None], direction, [depth_mm])[0]


def skin_entries(
    external: Structure, points_mm: Float, direction: Float, depths_mm: Sequence[float]
) -> list[SkinEntry | None]:
    """`skin_entry` of parallel axes from many points (n, 3)."""
    found = external.intervals_on_lines(points_mm, direction)
    return [_last_entry(pieces, depth) for pieces, depth in zip(found, depths_mm, strict=True)]


def _last_entry(pieces: Float, depth_mm: float) -> SkinEntry | None:
    inside: list[list[float]] = []
    for enter, leave in np.round(pieces, RELATIVE_DIGITS).tolist():
        if inside and enter - inside[-1][1] <= AIR_GAP_MM:
            inside[-1][1] = leave
        else:
            inside.append([enter, leave])
    for index, (enter, leave) in enumerate(inside):
        if leave > depth_mm:
            return SkinEntry(enter, inside[0][0] if index else None)
    return None


def target_span(
    target: Structure, point_mm: Float, direction: Float, overshoot_mm: float = 0.0
) -> tuple[float, float] | None:
    """Depths at which an axis first enters and last leaves the target, or None where it misses it.

    Where it misses the target by at most `overshoot_mm`, these are the ends of the stretch that lies so near.

    Examples
    --------
    >>> square = [[-9, -9, 0], [9, -9, 0], [9, 9, 0], [-9, 9, 0]]
    >>> target_span(Structure("GTV", [square]), np.array([0.0, -50.0, 0.0]), np.array([0.0, 1.0, 0.0]))
    (41.0, 59.0)
    """
    return target_spans(target, point_mm[None], direction, overshoot_mm)[0]


def target_spans(
    target: Structure, points_mm: Float, direction: Float, overshoot_mm: float = 0.0
) -> list[tuple[float, float] | None]:
    """`target_span` of parallel axes through many points (n, 3)."""
    found = target.intervals_on_lines(points_mm, direction)
    return [
        _span(target, pieces, point, direction, overshoot_mm)
        for pieces, point in zip(found, points_mm, strict=True)
    ]


def _span(
    target: Structure, pieces: Float, point_mm: Float, direction: Float, overshoot_mm: float
) -> tuple[float, float] | None:
    inside = np.round(pieces, RELATIVE_DIGITS)
    inside = inside[inside[:, 1] - inside[:, 0] >= SLIVER_MM]
    if len(inside):
        return float(inside[0, 0]), float(inside[-1, 1])
    # an axis that grazes: a small error of the distance is a large one of the depth
    near = overshoot_mm - 5.0 * CLEARANCE_TOLERANCE_MM
    if near <= 0:
        return None
    reach = float(np.linalg.norm(np.ptp(target.bounds_mm, axis=0)) + 2 * overshoot_mm)
    middle = float((target.bounds_mm.mean(axis=0) - point_mm) @ direction)
    ends = []
    for sense in (1.0, -1.0):
        start = point_mm + (middle - sense * reach) * direction
        contacts = contact_depth(start[None], sense * direction, np.array([2 * reach]), target, near)
        ends.append(middle + sense * (float(contacts[0]) - reach))
    if not np.isfinite(ends).all():
        return None
    return float(np.round(ends[0], RELATIVE_DIGITS)), float(np.round(ends[1], RELATIVE_DIGITS))


def contact_depth(
    points_mm: Float, directions: ArrayLike, lengths_mm: Float, structure: Structure, reach_mm: float
) -> Float:
    """Depth at which each axis first comes within a distance of a structure.

    Parameters
    ----------
    points_mm : (n, 3) array
        Where the axes start.
    directions : (n, 3) array
        Their unit vectors; (3,) if all have the same.
    lengths_mm : (n,) array
        How far each is followed.
    structure : Structure
        Obstacle.
    reach_mm : float
        Distance that counts as contact.

    Returns
    -------
    (n,) array
        Depth, mm; inf where there is no contact. Up to it every point of the axis, not only the samples, is farther
        than `reach_mm`; it is early by `CLEARANCE_TOLERANCE_MM` at most, in depth or in distance.

    Notes
    -----
    The squared distance f^2 to any set, minus t^2 along a line, is a minimum of affine functions and therefore
    concave. Between two samples a and b, f^2 is thus never below its chord minus (t - a)(b - t), and an interval is
    clear if that parabola stays above reach^2; otherwise it is halved.

    Examples
    --------
    >>> square = [[-9, -9, 0], [9, -9, 0], [9, 9, 0], [-9, 9, 0]]
    >>> vessel = Structure("Aorta", [square], slice_spacing_mm=10.0)
    >>> starts, along = np.array([[0.0, -50, 0], [12, -50, 0], [12, -50, 0]]), np.array([[0.0, 1, 0]] * 3)
    >>> along[2] = [-0.28, 0.96, 0]  # the same hole as the second, another direction
    >>> contact_depth(starts, along, np.full(3, 90.0), vessel, 2.65).round(2).tolist()
    [38.35, inf, 39.95]
    """
    contact = np.full(len(points_mm), np.inf)
    along = np.broadcast_to(np.asarray(directions, dtype=np.float64), points_mm.shape)
    start, stop = _clip_to_box(points_mm, along, lengths_mm, structure.bounds_mm, reach_mm + 0.01)
    cutoff = 3.0 * reach_mm + 3.0
    touching = reach_mm + CLEARANCE_TOLERANCE_MM

    def distance(which: NDArray[np.int64], depth: Float) -> Float:
        at = points_mm[which] + depth[:, None] * along[which]
        return np.round(structure.distance_mm(at, cutoff), RELATIVE_DIGITS)

    pieces = np.where(start <= stop, np.ceil((stop - start) / cutoff) + 1, 0).astype(np.int64)
    axis = np.repeat(np.arange(len(pieces)), pieces)
    if not len(axis):
        return contact
    order = np.arange(len(axis)) - np.repeat(np.cumsum(pieces) - pieces, pieces)
    width = ((stop - start) / np.maximum(pieces, 1))[axis]
    low = start[axis] + order * width
    high = low + width
    near = distance(axis, low)
    far = distance(axis, high)
    while len(axis):
        for depth, gap in ((low, near), (high, far)):
            touched = gap < touching
            np.minimum.at(contact, axis[touched], depth[touched])
        width = high - low
        chord = np.divide(far**2 - near**2, width, out=np.zeros_like(width), where=width > 0)
        lowest = np.clip(0.5 * (width - chord), 0.0, width)
        clear = near**2 + lowest * (lowest - width + chord) >= reach_mm**2
        clear |= low >= contact[axis]
        tiny = ~clear & (width <= CLEARANCE_TOLERANCE_MM)
        np.minimum.at(contact, axis[tiny], low[tiny])
        open_ = ~clear & ~tiny
        axis, low, high = axis[open_], low[open_], high[open_]
        near, far = near[open_], far[open_]
        middle = 0.5 * (low + high)
        half = distance(axis, middle) if len(axis) else middle
        axis = np.concatenate([axis, axis])
        low, high = np.concatenate([low, middle]), np.concatenate([middle, high])
        near, far = np.concatenate([near, half]), np.concatenate([half, far])
    return contact


def _clip_to_box(
    points_mm: Float, directions: Float, lengths_mm: Float, bounds_mm: Float, margin_mm: float
) -> tuple[Float, Float]:
    """Depths between which each axis is inside a box grown by a margin; start > stop where it never is."""
    start, stop = np.zeros(len(points_mm)), lengths_mm.astype(np.float64).copy()
    for k in range(3):
        low, high = bounds_mm[0, k] - margin_mm, bounds_mm[1, k] + margin_mm
        along = directions[:, k]
        level = np.abs(along) < 1e-12
        stop[level & ((points_mm[:, k] < low) | (points_mm[:, k] > high))] = -1.0
        ends = (np.array([low, high])[:, None] - points_mm[:, k]) / np.where(level, 1.0, along)
        start = np.where(level, start, np.maximum(start, ends.min(axis=0)))
        stop = np.where(level, stop, np.minimum(stop, ends.max(axis=0)))
    return start, stop


def segment_distances(starts: Float, vectors: Float, other_starts: Float, other_vectors: Float) -> Float:
    """Least distance (n, k) between each of n segments and each of k others, mm.

    Parameters
    ----------
    starts, vectors : (n, 3) arrays
        One end of each segment and the vector to the other end.
    other_starts, other_vectors : (k, 3) arrays
        The same of the other segments.

    Examples
    --------
    >>> up, side = np.array([[0.0, 0, 10]]), np.array([[10.0, 0, 0]])
    >>> segment_distances(np.zeros((1, 3)), up, np.array([[2.0, 3, 5]]), side)
    array([[3.60555128]])
    """
    return paired_distances(starts[:, None], vectors[:, None], other_starts[None], other_vectors[None])


def paired_distances(starts: Float, vectors: Float, other_starts: Float, other_vectors: Float) -> Float:
    """Least distance (...) of two segments (..., 3) each, mm; the arrays are broadcast against each other.

    The squared distance is a convex function of the two places on the segments: it is least where both lines come
    nearest, if that is on both segments, else where an end of one is nearest to the other.
    """
    gap, v, w = starts - other_starts, vectors, other_vectors
    vv, ww, vw = (v * v).sum(-1), (w * w).sum(-1), (v * w).sum(-1)
    gv, gw = (gap * v).sum(-1), (gap * w).sum(-1)
    det = vv * ww - vw**2
    parallel = det <= 1e-12 * vv * ww
    safe = np.where(parallel, 1.0, det)
    s = np.where(parallel, 0.0, (vw * gw - ww * gv) / safe)
    t = np.where(parallel, 0.0, (vv * gw - vw * gv) / safe)
    inner = ~parallel & (s >= 0) & (s <= 1) & (t >= 0) & (t <= 1)
    places = [(np.where(inner, s, 0.0), np.where(inner, t, np.clip(gw / ww, 0, 1)))]
    for end in (0.0, 1.0):
        places.append((np.full_like(s, end), np.clip((gw + end * vw) / ww, 0, 1)))
        places.append((np.clip((end * vw - gv) / vv, 0, 1), np.full_like(t, end)))
    found = [np.linalg.norm(gap + a[..., None] * v - b[..., None] * w, axis=-1) for a, b in places]
    least: Float = np.min(found, axis=0)
    return least
