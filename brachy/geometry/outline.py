"""The filled outline of a structure: what its contours enclose on their planes, holes included."""

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from brachy.geometry.structures import Structure

Float = NDArray[np.float64]

STEP_MM = 1.5
"""Outlines are filled on a lattice of this step (engineering choice)."""


def within_outline(structure: Structure, points_mm: Float) -> NDArray[np.bool_]:
    """Whether points (n, 3), mm, lie within the filled outline of a structure, on the slabs of its contours.

    A hole counts as inside however it is drawn: as a contour of its own, or as a keyhole, a polygon that enters it by a
    channel without width. An organ from which a tumour was cut out at its surface is open there and encloses nothing.

    Examples
    --------
    >>> square = np.array([[-1, -1, 0], [1, -1, 0], [1, 1, 0], [-1, 1, 0.0]])
    >>> ring = Structure("Liver-GTV", [30 * square, 10 * square], slice_spacing_mm=3.0)
    >>> ring.contains([[0, 0, 0]]), within_outline(ring, np.array([[0, 0, 0], [31, 0, 0], [0, 0, 9.0]]))
    (array([False]), array([ True, False, False]))
    """
    inside = np.zeros(len(points_mm), dtype=bool)
    if structure.is_empty or not len(points_mm):
        return inside
    local, own = structure.to_local(points_mm), structure.slab_stack
    for slab, w in enumerate(own.planes.tolist()):
        here = np.flatnonzero((local[:, 2] >= own.stack.low[slab]) & (local[:, 2] < own.stack.high[slab]))
        if len(here):
            inside[here] = _within_plane(structure, slab, w, local[here, :2])
    return inside


def _within_plane(structure: Structure, slab: int, w: float, places: Float) -> NDArray[np.bool_]:
    """The same on one plane, for places (k, 2) in the structure's own frame."""
    box = structure.slab_stack.stack.slab_boxes[slab]
    low, high = box[:2] - STEP_MM, box[2:] + STEP_MM
    counts = np.ceil((high - low) / STEP_MM).astype(int) + 1
    u, v = (low[k] + STEP_MM * np.arange(counts[k]) for k in (0, 1))
    lattice = np.stack([*np.meshgrid(u, v, indexing="ij"), np.full(tuple(counts), w)], axis=-1)
    solid = structure.contains(structure.to_patient(lattice.reshape(-1, 3))).reshape(tuple(counts))
    filled = ndimage.binary_fill_holes(solid)
    index = np.rint((places - low) / STEP_MM).astype(int)
    known = ((index >= 0) & (index < counts)).all(axis=1)
    found = np.zeros(len(places), dtype=bool)
    found[known] = filled[tuple(index[known].T)]
    return found
