"""Sample points of a structure for its DVH: one in each cell of a lattice that is finer near the seeds.

The volumes of the cells are exact and add up to the structure's volume (`brachy.core.raster.samples`).
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from brachy.core import raster
from brachy.geometry.structures import Structure

Float = NDArray[np.float64]

REACH, ORGAN_REACH = 8.0, 4.0
"""Least distance of a cell from the bounding box of the seeds, in widths of the cell: for targets, and for organs
(engineering choice)."""

COARSEST = 8.0
"""Greatest volume of a cell, in cells of a uniform lattice with the same number of samples (engineering choice)."""

SMALLEST_MM, LARGEST_MM = 0.1, 32.0
"""Least and greatest width of a cell (engineering choice)."""

AMONG_SEEDS_MM = 2.0
"""Greatest width of a cell within the seeds' bounding box with 20 000 samples; it scales with the cube root of their
number (engineering choice)."""


BESIDE_CC, BESIDE_PARTS = 2.0, 4.0
"""Cells beside seeds are divided further: within the radius at which balls around all seeds have this volume in cc
(D2cc is the largest of the usual hot volumes), into cells of this fraction of that radius (engineering choice)."""


class Lattice(NamedTuple):
    """Widths of the cells near the seeds and of the widest cells, mm, and the reach in cell widths (see `REACH`)."""

    step_mm: float
    widest_mm: float
    reach: float = REACH


class Samples(NamedTuple):
    """Sample points (n, 3), patient frame, mm, and the exact volume (n,) of the cell of each, cc."""

    points_mm: Float
    cell_cc: Float


def sample(structure: Structure, seeds_mm: Float | None, lattice: Lattice) -> Samples:
    """Samples of a structure: narrow cells around the seeds, wider ones farther away.

    The lattice is anchored to the structure, so that both move together. Without seeds (a dose that was read from a
    file) all cells have the same width.

    Parameters
    ----------
    structure : Structure
        Region.
    seeds_mm : (n, 3) array or None
        Seed centres, mm.
    lattice : Lattice
        Widths of the cells.

    Examples
    --------
    >>> square = [[0, 0, 0], [20, 0, 0], [20, 10, 0], [0, 10, 0]]
    >>> found = sample(Structure("box", [square], slice_spacing_mm=5.0), None, Lattice(1.0, 1.0))
    >>> len(found.points_mm), round(float(found.cell_cc.sum()), 12)
    (1000, 1.0)
    """
    stack = structure.slab_stack.stack
    local, volume = raster.samples(stack, lattice.step_mm, _zones(structure, seeds_mm, lattice))
    if seeds_mm is not None and len(seeds_mm) and len(local):
        local, volume = _refined(local, volume, structure, structure.to_local(seeds_mm), lattice.step_mm)
    return Samples(structure.to_patient(local), volume / 1000.0)


def _refined(
    local: Float, volume: Float, structure: Structure, seeds: Float, step: float
) -> tuple[Float, Float]:
    """Divide the cells beside seeds that the outline does not cut, because the dose varies strongly within them.

    D0.1cc and D1cc of a structure with 83 seeds are the doses at 0.7 and 1.4 mm from the seeds. Points and volumes are
    in the structure's own frame, mm and mm3.
    """
    from scipy.spatial import cKDTree

    beside = (BESIDE_CC * 1000.0 / len(seeds) * 3.0 / (4.0 * np.pi)) ** (1.0 / 3.0)
    finest = _three_digits(beside / BESIDE_PARTS)
    if step <= finest:
        return local, volume

    stack = structure.slab_stack.stack
    slab = np.clip(np.searchsorted(stack.low, local[:, 2], side="right") - 1, 0, len(stack.low) - 1)
    thickness = (stack.high - stack.low)[slab]
    height = thickness / np.ceil(thickness / step - 1e-9)
    whole = np.abs(volume - step * step * height) < 1e-6 * volume
    corner = np.empty_like(local)
    corner[:, :2] = np.floor(local[:, :2] / step) * step
    corner[:, 2] = stack.low[slab] + np.floor((local[:, 2] - stack.low[slab]) / height) * height
    size = np.column_stack([np.full(len(local), step), np.full(len(local), step), height])
    away = np.round(cKDTree(seeds).query(corner + 0.5 * size)[0], 4)
    chosen = whole & (away <= beside + 0.5 * np.sqrt(2 * step * step + height * height))
    if not chosen.any():
        return local, volume
    points, volumes = [local[~chosen]], [volume[~chosen]]
    across = int(np.ceil(step / finest))
    deep = np.ceil(height / finest).astype(int)
    for layers in np.unique(deep[chosen]).tolist():
        mine = np.flatnonzero(chosen & (deep == layers))
        parts = np.meshgrid(*((np.arange(n) + 0.5) / n for n in (across, across, layers)), indexing="ij")
        inner = np.stack([part.ravel() for part in parts], axis=1)
        points.append((corner[mine, None] + inner[None] * size[mine, None]).reshape(-1, 3))
        volumes.append(np.repeat(volume[mine] / len(inner), len(inner)))
    return np.concatenate(points), np.concatenate(volumes)


def lattice_for(structure: Structure, seeds_mm: Float | None, count: int, reach: float = REACH) -> Lattice:
    """Lattice that gives about `count` samples of a structure; widths are rounded to three digits.

    Examples
    --------
    >>> square = np.array([[-5.0, -5, 0], [5, -5, 0], [5, 5, 0], [-5, 5, 0]])
    >>> box = Structure("box", [square + [0, 0, z] for z in (-4, -2, 0, 2, 4)])
    >>> lattice = lattice_for(box, None, 1000)
    >>> 500 < len(sample(box, None, lattice).cell_cc) < 2000
    True
    """
    if structure.is_empty:
        return Lattice(1.0, 1.0)
    volume_mm3 = structure.volume_cc * 1000.0
    stack = structure.slab_stack.stack
    thickness = float(np.median(stack.high - stack.low))
    largest = COARSEST * volume_mm3 / count
    widest = _three_digits(_within(max(largest ** (1.0 / 3.0), (largest / thickness) ** 0.5)))
    rough = _within((volume_mm3 / 1500.0) ** (1.0 / 3.0))
    cells = sample(structure, None, Lattice(rough, rough))
    volume = cells.cell_cc * 1000.0
    away = np.zeros(len(volume))
    if seeds_mm is not None and len(seeds_mm):
        local, seeds = structure.to_local(cells.points_mm), structure.to_local(seeds_mm)
        away = np.maximum(seeds.min(axis=0) - local, local - seeds.max(axis=0)).max(axis=1)

    def expected(step: float) -> float:
        limits = reach * step * 2.0 ** (np.arange(_zone_count(Lattice(step, widest))) + 1)
        width = step * 2.0 ** (away[:, None] > limits).sum(axis=1)
        return float((volume / (width**2 * thickness / np.ceil(thickness / width))).sum())

    low, high = SMALLEST_MM, LARGEST_MM
    if seeds_mm is not None and len(seeds_mm) and (away <= 0).any():
        high = AMONG_SEEDS_MM * (20_000 / count) ** (1.0 / 3.0)
    for _ in range(12):
        middle = (low * high) ** 0.5
        low, high = (middle, high) if expected(middle) > count else (low, middle)
    return Lattice(_three_digits(high), max(widest, _three_digits(high)), reach)


def _within(width_mm: float) -> float:
    return min(max(width_mm, SMALLEST_MM), LARGEST_MM)


def _three_digits(value: float) -> float:
    return float(f"{value:.3g}")


def _zone_count(lattice: Lattice) -> int:
    return max(0, int(np.floor(np.log2(lattice.widest_mm / lattice.step_mm) + 1e-9)))


def _zones(structure: Structure, seeds_mm: Float | None, lattice: Lattice) -> Float:
    """Nested boxes around the seeds for `raster.samples`, up to the first that contains the whole structure."""
    if seeds_mm is None or not len(seeds_mm) or structure.is_empty:
        return np.zeros((0, 6))
    stack = structure.slab_stack.stack
    whole_low = np.append(stack.slab_boxes[:, :2].min(axis=0), stack.low[0])
    whole_high = np.append(stack.slab_boxes[:, 2:].max(axis=0), stack.high[-1])
    seeds = structure.to_local(seeds_mm)
    found = []
    for k in range(_zone_count(lattice)):
        outside = lattice.step_mm * 2.0 ** (k + 1)
        low, high = seeds.min(axis=0) - lattice.reach * outside, seeds.max(axis=0) + lattice.reach * outside
        if (low <= whole_low).all() and (high >= whole_high).all():
            break
        found.append(
            [*np.floor(low[:2] / outside), *np.ceil(high[:2] / outside), float(low[2]), float(high[2])]
        )
    return np.array(found).reshape(-1, 6)
