"""Lateral margin: the points on the edge of the target in each layer, and how deep a needle must go to cover them."""

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from brachy.geometry.structures import Structure
from brachy.needles.channel import RELATIVE_DIGITS, Lines
from brachy.needles.laying_out import largest_section_centroid
from brachy.needles.template import TemplateLayout

Float = NDArray[np.float64]
Int = NDArray[np.int64]

EDGE_STEP_MM = 1.0
"""Distance of the edge points on which the lateral margin is judged (engineering choice)."""


def edge_points(target: Structure, layout: TemplateLayout) -> tuple[Float, Int]:
    """Points on the edge of the target's section in every row plane that crosses it.

    Needles at angles have no rows: there the sections are those across the template's axis, a pitch apart, the first
    through the centroid of the largest axial section.

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
        Layer of each; of sections across the axis their number, positive deeper.
    """
    sections = list(edge_sections(target, layout))
    counts = [len(points) for points, _ in sections]
    numbers = np.array([layer for _, layer in sections], dtype=np.int64)
    return np.concatenate([np.zeros((0, 3)), *[points for points, _ in sections]]), np.repeat(numbers, counts)


def edge_sections(target: Structure, layout: TemplateLayout) -> Iterator[tuple[Float, int]]:
    """`edge_points` section by section: points (m, 3) and the number of the layer."""
    corners = np.array(np.meshgrid(*target.bounds_mm.T)).reshape(3, -1).T
    if layout.individual:
        centre = largest_section_centroid(target)
        depths = np.round((corners - centre) @ layout.direction / layout.spacing_mm, RELATIVE_DIGITS)
        for k in range(int(np.ceil(depths.min())), int(np.floor(depths.max())) + 1):
            place = centre + k * layout.spacing_mm * layout.direction
            yield target.section(place, layout.direction, EDGE_STEP_MM), k
        return
    heights = np.round((corners - layout.origin_mm) @ layout.row / layout.spacing_mm, RELATIVE_DIGITS)
    for row in range(int(np.ceil(heights.min())) + 1, int(np.floor(heights.max())) + 2):
        yield target.section(layout.hole_mm(0, row), layout.row, EDGE_STEP_MM), layout.layer(row)


def needed_tips(points_mm: Float, lines: Lines, margin_mm: float) -> Float:
    """Least depth (m, n) to which each needle must reach to lie within a margin of each point.

    Parameters
    ----------
    points_mm : (m, 3) array
        Edge points, patient frame (LPS).
    lines : Lines
        Of n needles.
    margin_mm : float
        Lateral margin.

    Returns
    -------
    (m, n) array
        Depth, mm; inf where even the end of the line is farther from the point than the margin.

    Examples
    --------
    >>> line = Lines(np.zeros((1, 3)), np.array([[0.0, 1.0, 0.0]]), np.array([50.0]))
    >>> needed_tips(np.array([[6.0, 40.0, 0.0], [11.0, 40.0, 0.0], [0.0, 70.0, 0.0]]), line, 10.0).tolist()
    [[32.0], [inf], [inf]]
    """
    across, depth = lines.feet_of(points_mm)
    square = np.round(margin_mm**2 - across**2, RELATIVE_DIGITS)
    needed = np.where(square >= 0, depth - np.sqrt(np.maximum(square, 0.0)), np.inf)
    return np.where(needed <= lines.ends_mm, needed, np.inf)


def edge_causes(
    points_mm: Float, covered: NDArray[np.bool_], lost: tuple[Lines, Sequence[str]], margin_mm: float
) -> tuple[str, ...]:
    """Why no needle covers an edge point, (m,); "" where one does.

    Parameters
    ----------
    points_mm : (m, 3) array
        Edge points.
    covered : (m, n) array
        Which needle covers which point.
    lost : (Lines, sequence of str)
        Whole lines of the needles that are blocked or shortened, and why. The nearest one that would cover a point is
        named.
    margin_mm : float
        Lateral margin.
    """
    lines, reasons = lost
    causes = [""] * len(points_mm)
    places = np.flatnonzero(~covered.any(axis=1))
    if not len(places):
        return tuple(causes)
    would = np.isfinite(needed_tips(points_mm[places], lines, margin_mm))
    gaps = np.where(would, lines.feet_of(points_mm[places])[0], np.inf)
    for place, row in zip(places.tolist(), gaps, strict=True):
        if len(reasons) and np.isfinite(row.min()):
            causes[place] = reasons[int(row.argmin())]
        else:
            causes[place] = f"no hole's axis crosses the target within {margin_mm:g} mm of it"
    return tuple(causes)
