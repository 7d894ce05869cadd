"""The lateral margin: how near the used needles come to the edge of the target in each layer."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from brachy.geometry.structures import Structure
from brachy.needles.needle_path import RELATIVE_DIGITS
from brachy.needles.template import TemplateLayout

Float = NDArray[np.float64]
Int = NDArray[np.int64]

EDGE_STEP_MM = 1.0
"""Distance of the edge points on which the lateral margin is judged (engineering choice)."""


class Axes(NamedTuple):
    """Axes of some holes of a template, each from its hole to an end."""

    layout: TemplateLayout
    holes: Sequence[tuple[int, int]]
    """(column from 0, row from 1) of each."""
    ends_mm: Sequence[float]
    """Depth at which each ends."""


def edge_points(target: Structure, layout: TemplateLayout) -> tuple[Float, Int]:
    """Edge of the target's section in every row plane that crosses it.

    Parameters
    ----------
    target : Structure
        The planned target.
    layout : TemplateLayout
        Its rows are the layers; planes beyond its first and last row count too.

    Returns
    -------
    points_mm : (m, 3) array
        Edge points, patient frame (LPS), `EDGE_STEP_MM` apart.
    layers : (m,) array
        Layer of each.
    """
    corners = np.array(np.meshgrid(*target.bounds_mm.T)).reshape(3, -1).T
    heights = np.round((corners - layout.origin_mm) @ layout.row / layout.spacing_mm, RELATIVE_DIGITS)
    points, layers = [np.zeros((0, 3))], [np.zeros(0, dtype=np.int64)]
    for row in range(int(np.ceil(heights.min())) + 1, int(np.floor(heights.max())) + 2):
        found = target.section(layout.hole_mm(0, row), layout.row, EDGE_STEP_MM)
        points.append(found)
        layers.append(np.full(len(found), layout.layer(row), dtype=np.int64))
    return np.concatenate(points), np.concatenate(layers)


def needed_tips(points_mm: Float, axes: Axes, margin_mm: float) -> Float:
    """Least depth (m, h) to which each axis must reach to lie within a margin of each point.

    inf where even its end is farther than the margin.
    """
    across, depth = _across(points_mm, axes)
    room = np.round(margin_mm**2 - across**2, RELATIVE_DIGITS)
    needed = np.where(room >= 0, depth[:, None] - np.sqrt(np.maximum(room, 0.0)), np.inf)
    ends = np.asarray(axes.ends_mm, dtype=np.float64).reshape(1, -1)
    return np.where(needed <= ends, needed, np.inf)


def edge_causes(
    points_mm: Float, covered: NDArray[np.bool_], lost: tuple[Axes, Sequence[str]], margin_mm: float
) -> tuple[str, ...]:
    """Why no needle covers an edge point, (m,); "" where one does.

    Parameters
    ----------
    points_mm : (m, 3) array
        Edge points.
    covered : (m, n) array
        Which needle covers which point.
    lost : (Axes, sequence of str)
        Full axes of the holes that are blocked or shortened, and why. The nearest that would cover a point
        counts.
    margin_mm : float
        Lateral margin.
    """
    axes, reasons = lost
    causes = [""] * len(points_mm)
    places = np.flatnonzero(~covered.any(axis=1))
    if not len(places):
        return tuple(causes)
    would = np.isfinite(needed_tips(points_mm[places], axes, margin_mm))
    gaps = np.where(would, _across(points_mm[places], axes)[0], np.inf)
    for place, row in zip(places.tolist(), gaps, strict=True):
        if len(reasons) and np.isfinite(row.min()):
            causes[place] = reasons[int(row.argmin())]
        else:
            causes[place] = f"no hole's axis crosses the target within {margin_mm:g} mm of it"
    return tuple(causes)


def _across(points_mm: Float, axes: Axes) -> tuple[Float, Float]:
    """Distance (m, h) of each point from each axis, and depth (m,) of each point below the holes."""
    layout = axes.layout
    frame = np.column_stack([layout.column, layout.row, layout.direction])
    at = (points_mm - layout.origin_mm) @ frame
    lattice = layout.spacing_mm * (np.array(axes.holes, dtype=np.float64).reshape(-1, 2) - [0.0, 1.0])
    across = np.linalg.norm(at[:, None, :2] - lattice, axis=2)
    return np.round(across, RELATIVE_DIGITS), np.round(at[:, 2], RELATIVE_DIGITS)
