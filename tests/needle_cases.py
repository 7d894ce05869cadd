"""Simple bodies with known geometry, and plans loaded from candidates, for the tests of template, needles and rules."""

import numpy as np

from brachy.geometry.structures import Structure
from brachy.needles.candidates import NeedleCandidates
from brachy.needles.channel import Axis
from brachy.patient.plan import PlanNeedle, PlanSeed, PlanTemplate
from brachy.patient.protocol import change
from tests.quick_protocol import AXIAL

SHIFT = np.array([13.3, -7.1, 4.9])
LIVER = AXIAL


def box(name, low, high, role="", slices=2.5):
    """Box whose slabs end exactly at its faces (its height must be a multiple of the slice spacing)."""
    low, high = np.array(low, dtype=float), np.array(high, dtype=float)
    count = round((high[2] - low[2]) / slices)
    assert abs(count * slices - (high[2] - low[2])) < 1e-9
    x, y = [low[0], high[0], high[0], low[0]], [low[1], low[1], high[1], high[1]]
    heights = low[2] + slices * (np.arange(count) + 0.5)
    contours = tuple(np.column_stack([x, y, np.full(4, z)]) for z in heights)
    return Structure(name, contours, role, slice_spacing_mm=slices)


def ellipsoid(name, centre, half_axes, role="", slices=2.0, points=60):
    a, b, c = half_axes
    angle = np.linspace(0, 2 * np.pi, points, endpoint=False)
    contours = []
    for z in np.arange(-c + 0.5 * slices, c, slices):
        f = np.sqrt(1 - (z / c) ** 2)
        contours.append(
            np.column_stack([a * f * np.cos(angle), b * f * np.sin(angle), np.full(points, z)]) + centre
        )
    return Structure(name, tuple(contours), role, slice_spacing_mm=slices)


def shifted(structure, by=SHIFT):
    matrix = np.eye(4)
    matrix[:3, 3] = by
    return structure.moved(matrix)


def protocol(**tables):
    return change(LIVER, **tables)


def plan_template(layout):
    return PlanTemplate(
        origin_mm=tuple(layout.origin_mm.tolist()),
        direction=tuple(layout.direction.tolist()),
        row=tuple(layout.row.tolist()),
        column=tuple(layout.column.tolist()),
        spacing_mm=layout.spacing_mm,
        target=layout.target,
        columns=layout.columns,
        rows=layout.rows,
        central_row=layout.central_row,
        cone_deg=layout.cone_deg,
    )


def cone_axes(layout, low, high, count, seed=3):
    """Lines from random holes of a template to random points of a box: each has a direction of its own."""
    random = np.random.default_rng(seed)
    holes = [
        layout.holes[k] for k in random.choice(len(layout.holes), count, replace=count > len(layout.holes))
    ]
    found = []
    for hole in holes:
        way = random.uniform(low, high) - layout.hole_mm(*hole)
        found.append(Axis(layout.hole_label(*hole), layout.hole_mm(*hole), way / np.linalg.norm(way)))
    return found


def to_box(points, low, high):
    """Distance (n,) of points (n, 3) from a box, 0 inside."""
    return np.linalg.norm(np.maximum(np.maximum(low - points, points - np.asarray(high)), 0.0), axis=1)


def to_segment(points, start, end):
    """Distance (n,) of points (n, 3) from a segment."""
    way = np.asarray(end) - start
    part = np.clip((points - start) @ way / (way @ way), 0.0, 1.0)
    return np.linalg.norm(points - start - part[:, None] * way, axis=1)


def through_box(start, direction, low, high):
    """Depths at which a line enters and leaves a box; the first is the larger where it misses it."""
    with np.errstate(divide="ignore"):
        ends = (np.array([low, high]) - start) / direction
    return float(ends.min(axis=0).max()), float(ends.max(axis=0).min())


def apart(one, other, step=0.05):
    """Least distance of two channels between hole and tip: one is sampled, the other taken exactly."""
    points = one.at(np.append(np.arange(0.0, one.tip_depth_mm, step), one.tip_depth_mm))
    return float(to_segment(points, other.hole_mm, other.tip_mm).min())


def plan_needles(candidates: NeedleCandidates, loaded, template=0):
    """Needles of a plan that loads the candidates of those indices."""
    found = []
    loaded = np.asarray(loaded, dtype=int)
    for index, needle in enumerate(candidates.needles):
        mine = loaded[candidates.needle_of[loaded] == index]
        if not len(mine):
            continue
        seeds = candidates.positions_mm[np.sort(mine)]
        tip = candidates.tip_mm(index, float((seeds[0] - needle.hole_mm) @ needle.direction))
        found.append(
            PlanNeedle(
                hole=needle.hole,
                template=template,
                hole_mm=tuple(needle.hole_mm.tolist()),
                skin_mm=tuple(needle.entry_mm.tolist()),
                tip_mm=tuple(tip.tolist()),
                direction=tuple(needle.direction.tolist()),
                depth_mm=float(np.linalg.norm(tip - needle.hole_mm)),
                depth_from_skin_mm=float(np.linalg.norm(tip - needle.entry_mm)),
                seeds=tuple(
                    PlanSeed(position_mm=tuple(s.tolist()), depth_mm=float(np.linalg.norm(tip - s)))
                    for s in seeds
                ),
            )
        )
    return found
