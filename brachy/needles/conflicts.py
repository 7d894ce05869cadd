"""Which candidate seeds, and which needles, may not be used together."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from brachy.needles.channel import RELATIVE_DIGITS, Channel, Needle
from brachy.needles.limits import ROUNDING_MM
from brachy.needles.needle_path import paired_distances, segment_distances
from brachy.patient.protocol import Protocol

Float = NDArray[np.float64]
Int = NDArray[np.int64]

MOST_PAIRS = 200_000
"""Pairs of needles whose distances are computed at a time, for memory (engineering choice)."""


def seed_conflicts(positions_mm: Float, needle_of: Int, protocol: Protocol, capsule_length_mm: float) -> Int:
    """Pairs (p, 2) of candidate seeds that exclude each other, sorted.

    Parameters
    ----------
    positions_mm : (n, 3) array
        Seed centres relative to a point that moves with the patient.
    needle_of : (n,) array
        Needle of each; seeds of one needle also leave room for capsules and spacer.
    protocol : Protocol
        Distances.
    capsule_length_mm : float
        Length of a seed.
    """
    anywhere = protocol.seeds.min_spacing_mm
    inside = protocol.seeds.spacing_in_needle_mm(capsule_length_mm)
    pairs = _near_pairs(positions_mm, max(anywhere, inside))
    if inside > anywhere and len(pairs):
        gaps = np.linalg.norm(positions_mm[pairs[:, 0]] - positions_mm[pairs[:, 1]], axis=1)
        same = needle_of[pairs[:, 0]] == needle_of[pairs[:, 1]]
        pairs = pairs[same | (gaps < anywhere - 1e-6)]
    return pairs


def _near_pairs(points_mm: Float, spacing_mm: float) -> Int:
    """Pairs (p, 2) of points nearer than a spacing, in order."""
    if len(points_mm) < 2:
        return np.zeros((0, 2), dtype=np.int64)
    pairs = cKDTree(points_mm).query_pairs(spacing_mm - 10.0**-RELATIVE_DIGITS, output_type="ndarray")
    ordered: Int = pairs[np.lexsort(pairs.T[::-1])].astype(np.int64)
    return ordered


def needle_conflicts(channels: Sequence[Channel], anchor_mm: Float, spacing_mm: float) -> Int:
    """Pairs (q, 2) of needles whose axes come nearer than a spacing between their holes and their tips, in order.

    Parameters
    ----------
    channels : sequence of Channel
        Needles at the deepest place they can have.
    anchor_mm : (3,) array
        A point that moves with the patient.
    spacing_mm : float
        Least distance of two axes.

    Examples
    --------
    >>> along = [np.array([0.0, 1.0, 0.0]), np.array([0.6, 0.8, 0.0]), np.array([0.0, 1.0, 0.0])]
    >>> needles = [Channel("", np.array([10.0 * k, 0, 2 * k]), way, 20.0, 90.0) for k, way in enumerate(along)]
    >>> needle_conflicts(needles, np.zeros(3), 5.5).tolist()
    [[1, 2]]
    """
    starts, vectors = segments_of(channels, anchor_mm)
    first, second = (index.astype(np.int64) for index in np.triu_indices(len(channels), 1))
    found = [np.zeros((0, 2), dtype=np.int64)]
    for start in range(0, len(first), MOST_PAIRS):
        i, j = first[start : start + MOST_PAIRS], second[start : start + MOST_PAIRS]
        gaps = paired_distances(starts[i], vectors[i], starts[j], vectors[j])
        near = gaps <= spacing_mm - 10.0**-RELATIVE_DIGITS
        found.append(np.column_stack([i[near], j[near]]))
    return np.concatenate(found)


def segments_of(channels: Sequence[Channel], anchor_mm: Float) -> tuple[Float, Float]:
    """Holes (n, 3), relative to an anchor, and the vectors (n, 3) from them to the tips."""
    holes = np.array([channel.hole_mm for channel in channels]).reshape(-1, 3) - anchor_mm
    ways = np.array([channel.tip_depth_mm * channel.direction for channel in channels]).reshape(-1, 3)
    return holes, ways


def conflicts_between(one: Sequence[Needle], other: Sequence[Needle], protocol: Protocol) -> tuple[Int, Int]:
    """Candidate seeds and needles of two groups that may not be used together.

    Parameters
    ----------
    one, other : sequence of Needle
        Needles of two templates, or of a template and one that is measured.
    protocol : Protocol
        Distances.

    Returns
    -------
    seeds : (p, 2) array
        Candidate seeds (of one, of other) nearer than `min_spacing_mm`, counted needle by needle.
    needles : (q, 2) array
        Needles (of one, of other) whose surfaces come nearer than `min_needle_spacing_mm` between their holes and
        their deepest tips.
    """
    none = np.zeros((0, 2), dtype=np.int64)
    if not (one and other):
        return none, none
    anchor = one[0].hole_mm
    within = protocol.seeds.min_spacing_mm + ROUNDING_MM
    places = [np.concatenate([needle.positions_mm for needle in group]) - anchor for group in (one, other)]
    near = cKDTree(places[0]).query_ball_tree(cKDTree(places[1]), within)
    seeds = [(i, j) for i, found in enumerate(near) for j in sorted(found)]
    gaps = segment_distances(*segments_of(one, anchor), *segments_of(other, anchor))
    close = np.argwhere(gaps < protocol.needle.axes_apart_mm + ROUNDING_MM)
    return np.array(seeds, dtype=np.int64).reshape(-1, 2), close.astype(np.int64)
