"""Builds a stack of slabs from planar contours, in a coordinate frame of the structure's own.

The frame depends only on the set of contours: not on their order, their direction or first point, and not on where the
patient lies. Coordinates are relative to the lowest corner of the contours and rounded to 2^-20 mm, so that a patient
who is moved gets the same bits and hence the same decisions. The step is a power of two because no decimal coordinate
and no half pixel lies midway between two steps, where rounding could go either way.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from brachy.core.polygon import Float, Stack, make_stack

QUANTUM_MM = 2.0**-20
"""Relative coordinates are rounded to multiples of this (just under 1e-6 mm)."""

SAME_PLANE_MM = 1e-2
"""Contours whose planes differ by less count as lying in one plane (engineering choice)."""

FLAT_MM = 0.5
"""A contour farther than this from the plane of its structure is refused (engineering choice)."""

MISSING_SLICES = 5.0
"""A gap of up to this many slice spacings counts as missing slices: the slabs on both sides are extended to its middle.
A wider gap separates two parts, whose end slabs reach half a spacing into it (engineering choice)."""


class Slabs(NamedTuple):
    """A structure's geometry in its own frame: patient = origin + axes @ (u, v, w)."""

    origin: Float  # (3,) mm, patient
    axes: Float  # (3, 3), columns u, v, w
    planes: Float  # (S,) w of each contour plane
    spacing: float  # nominal, mm
    rings: tuple[tuple[Float, ...], ...]  # per plane: closed polygons (n, 2)
    stack: Stack
    notes: tuple[str, ...]


class NotPlanarError(ValueError):
    """Contours that do not lie in parallel planes."""


def rounded(values: Float) -> Float:
    """Coordinates rounded to multiples of 2^-20 mm."""
    return np.round(values / QUANTUM_MM) * QUANTUM_MM


def frame_of(contours: list[Float]) -> Float:
    """Axes of the structure's frame as columns u, v, w (3, 3) in the patient frame.

    w is the contours' common normal, with its largest component positive. Contours that are perpendicular to an axis of
    the patient to within `SAME_PLANE_MM` give exactly the patient's axes, so that axial contours have no rounding.
    """
    areas = []
    for points in contours:
        relative = points - points[0]
        areas.append(0.5 * np.cross(relative, np.roll(relative, -1, axis=0)).sum(axis=0))
    vectors = np.array(areas)
    largest = vectors[np.argmax(np.linalg.norm(vectors, axis=1))]
    vectors[vectors @ largest < 0] *= -1.0
    normal = vectors.sum(axis=0)
    if (
        np.linalg.norm(normal) == 0.0
    ):  # signed areas cancel (figures of eight only): fit a plane to the points instead
        normal = np.linalg.svd(contours[0] - contours[0].mean(axis=0))[2][2]
    normal = normal / np.linalg.norm(normal)
    k = int(np.argmax(np.abs(np.round(normal, 6))))
    if all(np.ptp(points[:, k]) < SAME_PLANE_MM for points in contours):
        normal = np.eye(3)[k]
    normal = normal if normal[k] > 0 else -normal
    u = np.eye(3)[(k + 1) % 3]
    u = u - (u @ normal) * normal
    u /= np.linalg.norm(u)
    return np.stack([u, np.cross(normal, u), normal], axis=1)


def build(contours: list[Float], slice_spacing_mm: float | None) -> Slabs:
    """Slabs of a structure from its contours (n, 3), mm, patient frame.

    `slice_spacing_mm` is the CT's slice spacing; without it the smallest distance of two contour planes is taken.

    Raises
    ------
    NotPlanarError
        If a contour does not lie in a plane parallel to the others.
    """
    notes: list[str] = []
    solid = [c for c in map(_without_repeats, contours) if _has_area(c)]
    if len(solid) < len(contours):
        notes.append(f"{len(contours) - len(solid)} contours without area left out")
    if not solid:
        nowhere = make_stack([], np.zeros(0), np.zeros(0))
        return Slabs(np.zeros(3), np.eye(3), np.zeros(0), slice_spacing_mm or 1.0, (), nowhere, tuple(notes))
    axes = frame_of(solid)
    local = [c @ axes for c in solid]
    corner = np.min([c.min(axis=0) for c in local], axis=0)
    local = [c - corner for c in local]
    tilt = max(float(np.abs(c[:, 2] - c[:, 2].mean()).max()) for c in local)
    if tilt > FLAT_MM:
        raise NotPlanarError(f"a contour leaves its plane by {tilt:.1f} mm")
    heights = rounded(np.array([c[:, 2].mean() for c in local]))
    order = np.argsort(heights, kind="stable")
    breaks = np.flatnonzero(np.diff(heights[order]) >= SAME_PLANE_MM) + 1
    groups = np.split(order, breaks)
    planes = rounded(np.array([heights[group].mean() for group in groups]))
    rings, twice = [], 0
    for group in groups:
        unique = {ring.tobytes(): ring for ring in (_canonical(local[i][:, :2]) for i in group)}
        twice += len(group) - len(unique)
        rings.append(tuple(sorted(unique.values(), key=lambda ring: ring.tolist())))
    if twice:
        notes.append(f"{twice} contours drawn twice in one plane counted once")
    low, high, spacing, gap_notes = _extents(planes, slice_spacing_mm)
    notes.extend(gap_notes)
    edges = [np.concatenate([np.hstack([r, np.roll(r, -1, axis=0)]) for r in rs]) for rs in rings]
    return Slabs(
        axes @ corner, axes, planes, spacing, tuple(rings), make_stack(edges, low, high), tuple(notes)
    )


def _extents(planes: Float, slice_spacing_mm: float | None) -> tuple[Float, Float, float, list[str]]:
    """Lower and upper bound of each slab, nominal spacing (all mm), and notes.

    A slab reaches half the gap to its neighbour planes, and half the nominal spacing at an end of the structure.
    """
    notes = []
    gaps = np.diff(planes)
    if slice_spacing_mm is not None:
        spacing = float(slice_spacing_mm)
    elif len(gaps):
        spacing = float(gaps.min())
    else:
        spacing = 1.0
        notes.append("one contour plane and no slice spacing: taken as 1 mm thick")
    usual = max(spacing, float(np.median(gaps))) if len(gaps) else spacing
    parts = gaps > MISSING_SLICES * usual
    for i in np.flatnonzero(parts):
        notes.append(f"a gap of {gaps[i]:.4g} mm between its contours separates two parts")
    missing = (gaps > 1.5 * usual) & ~parts
    if missing.any():
        notes.append(
            f"slices missing at {int(missing.sum())} places (gaps of up to {gaps[missing].max():.4g} mm): "
            "each side fills half the gap"
        )
    half = np.where(parts, 0.5 * spacing, 0.5 * gaps)
    low = planes - np.concatenate([[0.5 * spacing], half])
    high = planes + np.concatenate([half, [0.5 * spacing]])
    low[1:][~parts] = high[:-1][
        ~parts
    ]  # the same number, not one that rounding made differ: no gap, no overlap
    return low, high, spacing, notes


def _without_repeats(points: Float) -> Float:
    """Polygon without points that repeat the point before; the last point is the one before the first."""
    if len(points) == 0:
        return points
    keep: NDArray[np.bool_] = np.abs(points - np.roll(points, 1, axis=0)).max(axis=1) > QUANTUM_MM
    return points[keep]


def _has_area(points: Float) -> bool:
    """Whether the points are not all on one line."""
    if len(points) < 3:
        return False
    relative = points - points[0]
    far = relative[np.argmax((relative**2).sum(axis=1))]
    return bool(np.linalg.norm(np.cross(relative, far), axis=1).max() > 1e-6 * np.linalg.norm(far))


def _canonical(ring: Float) -> Float:
    """The same polygon in a standard form: rounded, counter-clockwise, starting at its lowest u (then v)."""
    ring = _without_repeats(rounded(ring))
    following = np.roll(ring, -1, axis=0)
    if (ring[:, 0] * following[:, 1] - following[:, 0] * ring[:, 1]).sum() < 0:
        ring = ring[::-1]
    return np.ascontiguousarray(np.roll(ring, -int(np.lexsort((ring[:, 1], ring[:, 0]))[0]), axis=0))
