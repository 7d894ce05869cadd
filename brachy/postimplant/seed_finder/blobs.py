"""Bright blobs (connected bright voxels) of a CT, and their division into pieces of one seed's mass each.

The mass of a blob, its integral of HU above the background, divided by that of one seed is the number of seeds in it.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from brachy.postimplant.seed_finder.fit import Image, Scale, make

Float = NDArray[np.float64]

LARGEST = 10
"""A blob of more seeds than this is divided by a higher threshold before it is fitted (engineering choice)."""


@dataclass(frozen=True, eq=False)
class Blob:
    """Connected bright voxels: sample points (n, 3; scan mm), mass at each (n,; HU mm3), brightest voxel (z, y, x)."""

    points: Float
    mass: Float
    peak: NDArray[np.int64]


def sampled(
    block: NDArray[Any], mask: NDArray[np.bool_], low: NDArray[np.int64], spacing: Float
) -> tuple[Float, Float]:
    """Points (n, 3) in scan mm and masses (n,) in HU mm3 of the voxels of a mask; `low` is the block's first voxel, x y
    z.

    Thick slices are divided into layers of about 1 mm, so that a blob can be cut within a slice.
    """
    at = np.argwhere(mask)
    layers = max(1, round(spacing[2]))
    z = at[:, 0, None] + (np.arange(layers) + 0.5) / layers - 0.5
    index = np.stack(np.broadcast_arrays(at[:, 2, None], at[:, 1, None], z), axis=-1).reshape(-1, 3) + low
    value = np.clip(block[tuple(at.T)].astype(np.float64), 0, None) * float(spacing.prod()) / layers
    return index * spacing, np.repeat(value, layers)


def find_blobs(image: Image, scale: Scale, allowed: NDArray[np.bool_] | None, threshold: float) -> list[Blob]:
    """Connected components above a threshold in HU, each with the fainter voxels around it.

    Where a component has more than `LARGEST` seeds' mass, the threshold is raised by 30 % there until it falls apart;
    one with less than 15 % of a seed's mass is dropped (engineering choices).
    """
    found: list[Blob] = []
    size = np.array(image.excess.shape[::-1])
    margin = np.array([np.ceil(3 * scale.blur[0] / s) for s in image.spacing[:2]] + [1]).astype(np.int64)

    def visit(
        low: NDArray[np.int64], high: NDArray[np.int64], inside: NDArray[np.bool_] | None, level: float
    ) -> None:
        block = image.excess[low[2] : high[2], low[1] : high[1], low[0] : high[0]]
        bright = block > level
        if inside is not None:
            bright &= inside
        labels, _count = ndimage.label(bright, np.ones((3, 3, 3)))
        for number, part in enumerate(ndimage.find_objects(labels), start=1):
            own = labels[part] == number
            seen = block[part]
            mass = float(np.where(own, seen, 0).sum()) * image.spacing.prod()
            part_low = low + [part[2].start, part[1].start, part[0].start]
            part_high = low + [part[2].stop, part[1].stop, part[0].stop]
            if mass > LARGEST * scale.mass:
                visit(part_low, part_high, own, level * 1.3)
                continue
            if mass < 0.15 * scale.mass:
                continue
            wide_low, wide_high = np.maximum(part_low - margin, 0), np.minimum(part_high + margin, size)
            a, b = part_low - wide_low, wide_high - part_high
            padded = np.pad(own, [(a[k], b[k]) for k in (2, 1, 0)])
            for axis, reach in ((0, margin[2]), (1, margin[1]), (2, margin[0])):
                padded = ndimage.maximum_filter1d(padded, 2 * int(reach) + 1, axis=axis, mode="constant")
            box = image.excess[
                wide_low[2] : wide_high[2], wide_low[1] : wide_high[1], wide_low[0] : wide_high[0]
            ]
            rest = box > level
            rest[
                a[2] : rest.shape[0] - b[2], a[1] : rest.shape[1] - b[1], a[0] : rest.shape[2] - b[0]
            ] &= ~own
            points, weight = sampled(box, padded & ~rest, wide_low, image.spacing)
            top = np.unravel_index(int(np.where(own, seen, -np.inf).argmax()), own.shape)
            peak = np.array(top, dtype=np.int64) + part_low[::-1]
            if allowed is None or allowed[tuple(peak)]:
                found.append(Blob(points, weight, peak))

    visit(np.zeros(3, np.int64), size, None, threshold)
    return found


def principal_axes(points: Float, mass: Float, spacing: Float) -> Float:
    """Unit principal axes of a mass distribution as columns, the longest first.

    The variance of a slice's thickness, which widens every distribution along z, is subtracted first.
    """
    total = max(float(mass.sum()), 1e-9)
    offset = points - (mass[:, None] * points).sum(axis=0) / total
    spread = (mass[:, None, None] * offset[:, :, None] * offset[:, None, :]).sum(axis=0) / total
    spread[2, 2] = max(spread[2, 2] - spacing[2] ** 2 / 12, 0.0)
    return np.linalg.eigh(spread)[1][:, ::-1]


def cut(points: Float, mass: Float, spacing: Float, count: int, one: float, first: int = 0) -> list[Float]:
    """Cut a blob into `count` pieces of equal mass and return a capsule (7 numbers, mass `one`) for each.

    Cuts are perpendicular to the longest axis; `first` selects another principal axis for the first cut.
    """
    axes = principal_axes(points, mass, spacing)
    total = max(float(mass.sum()), 1e-9)
    if count == 1:
        centre = (mass[:, None] * points).sum(axis=0) / total
        return [make(centre, axes[:, first], one)]
    along = points @ axes[:, first]
    order = np.argsort(along, kind="stable")
    share = np.cumsum(mass[order]) / total
    at = int(np.searchsorted(share, (count // 2) / count))
    left, right = order[: at + 1], order[at + 1 :]
    if len(left) < 4 or len(right) < 4:
        return [make((mass[:, None] * points).sum(axis=0) / total, axes[:, 0], one)] * count
    return cut(points[left], mass[left], spacing, count // 2, one) + cut(
        points[right], mass[right], spacing, count - count // 2, one
    )
