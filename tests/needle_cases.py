"""Simple bodies with known geometry, and plans loaded from candidates, for the tests of template, needles and rules."""

import numpy as np

from brachy.geometry.structures import Structure
from brachy.needles.candidates import NeedleCandidates
from brachy.patient.plan import PlanNeedle, PlanSeed, PlanTemplate
from brachy.patient.protocol import change, load_protocol

SHIFT = np.array([13.3, -7.1, 4.9])
LIVER = load_protocol("liver-metastasis")


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
    )


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
