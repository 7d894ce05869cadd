"""The set-up sheet: how the template stands on the patient, in an operator's words and drawings."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from brachy.geometry.grid import Grid
from brachy.geometry.structures import Structure
from brachy.needles.template import TemplateLayout
from brachy.output import csv_tables
from brachy.output.figures.cuts import needle_name, towards
from brachy.output.report.setup_drawings import Drawing, Drawings, Outline
from brachy.output.report.setup_words import HEAD, Lie, Pointing, pointing
from brachy.patient.plan import Plan, PlanNeedle

Float = NDArray[np.float64]

GAP_MM = 2.0
"""A template farther off the skin than this is set again (engineering choice)."""

GROUP = 5
"""Needles at angles that go in between two scans (engineering choice)."""


@dataclass(frozen=True)
class SkinMark:
    """The cross on the skin for the lasers: where one needle enters."""

    hole: str
    z_mm: float
    """Of the axial laser, in the CT's frame."""
    ct_slice: int
    """Number of the CT slice nearest to it, counted from 1 at the feet."""
    below_top_mm: float
    """Below the topmost point of the outline in that axial section."""
    aside_mm: float
    """From the middle of the outline's width in that section; positive to the right of who looks to the head."""
    aside_of: str
    """The patient's side toward which that is."""


@dataclass(frozen=True)
class SetUp:
    """All that the sheet says of one template."""

    title: str
    pointing: Pointing
    lie_known: bool
    layout: TemplateLayout
    mark: SkinMark
    corners: tuple[tuple[str, float | None], ...]
    """Distance from the template's plane to the skin through its corner holes; None where no skin is met."""
    deepest_mm: float
    needle_mm: float
    outside_mm: tuple[float, float]
    section: Drawing
    from_side: Drawing
    steps: tuple[str, ...]


def set_ups(plan: Plan, structures: Sequence[Structure], grid: Grid) -> tuple[SetUp, ...]:
    """The sheet of each template that has needles; none without an outline of the patient.

    Parameters
    ----------
    plan : Plan
        A plan.
    structures : sequence of Structure
        With their roles: the external, and the targets.
    grid : Grid
        Of the CT.
    """
    external = next((s for s in structures if s.role == "external" and not s.is_empty), None)
    if external is None:
        return ()
    by_name = {structure.name: structure for structure in structures}
    lie = Lie.of(plan)
    found = []
    for index, template in enumerate(plan.templates):
        needles = [n for n in csv_tables.in_order_of_insertion(plan) if n.template == index]
        if needles:
            target = by_name.get(template.target)
            found.append(_set_up(plan, index, needles, external, target, grid, lie))
    return tuple(found)


def _set_up(
    plan: Plan,
    index: int,
    needles: Sequence[PlanNeedle],
    external: Structure,
    target: Structure | None,
    grid: Grid,
    lie: Lie,
) -> SetUp:
    layout = TemplateLayout.of(plan.templates[index])
    chosen = reference_needle(plan, index, needles)
    outline = Outline.of(external, lie)
    mark = skin_mark(needle_name(plan, chosen), np.array(chosen.skin_mm), outline, grid)
    where = pointing(layout.direction, lie, mark.aside_mm)
    reach = plan.protocol.needle.max_needle_mm
    depths = [needle.depth_mm for needle in needles]
    corners = tuple(
        (label, first_skin(external, layout.on_plate_mm(*place), layout.direction))
        for label, place in corner_holes(layout)
    )
    drawn = Drawings(plan, layout, needles, chosen, outline, target, where)
    several = len(plan.templates) > 1
    return SetUp(
        title=f"Template {index + 1}, for {layout.target}" if several else "",
        pointing=where,
        lie_known=lie.known,
        layout=layout,
        mark=mark,
        corners=corners,
        deepest_mm=max(depths),
        needle_mm=reach,
        outside_mm=(reach - max(depths), reach - min(depths)),
        section=drawn.section(),
        from_side=drawn.from_side(),
        steps=_steps(plan, needles, where, mark, corners, lie),
    )


def reference_needle(plan: Plan, index: int, needles: Sequence[PlanNeedle]) -> PlanNeedle:
    """The needle whose entry is marked: in the layer nearest to layer 0, nearest to the middle column."""
    layout = TemplateLayout.of(plan.templates[index])
    low, high = layout.extent
    middle = np.array([0.5 * (low[0] + high[0]), layout.middle[1]])

    def far(needle: PlanNeedle) -> tuple[float, float]:
        off = np.abs(np.array(layout.place(needle.hole)) - middle)
        if layout.individual:
            return float(np.linalg.norm(off)), 0.0
        return float(off[1].round(6)), float(off[0].round(6))

    return min(needles, key=far)


def corner_holes(layout: TemplateLayout) -> list[tuple[str, tuple[float, float]]]:
    """Names and places on the plate of the holes at the corners, each once; an individual plate's own corners."""
    (left, lower), (right, upper) = (ends.tolist() for ends in layout.extent)
    if layout.individual:
        words = ("lower left", "lower right", "upper left", "upper right")
        return list(zip(words, ((left, lower), (right, lower), (left, upper), (right, upper)), strict=True))
    columns, rows = (0, layout.columns - 1), (1, layout.rows)
    spots = dict.fromkeys((c, r) for r in rows for c in columns)
    return [(layout.hole_label(*spot), layout.on_plate(*spot)) for spot in spots]


def first_skin(external: Structure, hole_mm: Float, direction: Float) -> float | None:
    """Distance from a hole along a direction to the skin; None where no skin is met."""
    inside = external.line_intervals(hole_mm, direction)
    ahead = inside[inside[:, 1] > 0.0]
    return float(ahead[0, 0]) if len(ahead) else None


def skin_mark(hole: str, skin_mm: Float, outline: Outline, grid: Grid) -> SkinMark:
    """Where the lasers must cross for a needle's entry (3,)."""
    lie = outline.lie
    section = outline.at(float(skin_mm @ HEAD))
    there = section.aside[np.isfinite(section.top[0])]
    top = float(np.nanmin(section.top)) if len(there) else np.nan
    middle = 0.5 * float(there[0] + there[-1]) if len(there) else np.nan
    off = float(skin_mm @ lie.aside) - middle
    index = grid.mm_to_index(skin_mm[None])[0, 2]
    return SkinMark(
        hole=hole,
        z_mm=float(skin_mm @ HEAD),
        ct_slice=int(np.clip(np.rint(index), 0, grid.shape[0] - 1)) + 1,
        below_top_mm=float(skin_mm @ lie.down) - top,
        aside_mm=off,
        aside_of=towards(lie.aside if off >= 0 else -lie.aside),
    )


def _steps(
    plan: Plan,
    needles: Sequence[PlanNeedle],
    where: Pointing,
    mark: SkinMark,
    corners: Sequence[tuple[str, float | None]],
    lie: Lie,
) -> tuple[str, ...]:
    """The procedure, a sentence or two each; when to scan and what to measure are engineering choices."""
    lies = plan.access.sentence if lie.known and plan.access else "as on the planning CT"
    to_come = [needle for needle in needles if not needle.begun]
    layers = _groups(plan, to_come)
    gaps = ", ".join(f"{hole} {gap:.0f} mm" for hole, gap in corners if gap is not None)
    if len(to_come) < len(needles):
        there = (
            f"{len(needles) - len(to_come)} of {len(needles)} needles are in: the template stays where it is."
        )
        steps = [
            there,
            *([f"Insert the rest, and scan after each layer: {'; '.join(layers)}."] if layers else []),
        ]
    else:
        individual = bool(needles) and plan.templates[needles[0].template].arrangement == "individual"
        steps = _first_steps(lies, where, mark, gaps, layers, individual)
    steps += [
        "Measure tip and entry of each needle on the last scan, write them into placed.csv and run `brachy replan` "
        "where a needle is off.",
        "Deposit the seeds needle by needle by the chart, and tick each. Scan after the last one; `brachy verify` "
        "compares it with the plan.",
    ]
    return tuple(steps)


def _groups(plan: Plan, needles: Sequence[PlanNeedle]) -> list[str]:
    """Needles that go in between two scans: a layer, or of needles at angles the next few."""
    names: dict[str, list[str]] = {}
    for k, needle in enumerate(needles):
        layer = csv_tables.layer_of(needle, plan)
        if layer is None:
            title = f"group {k // GROUP + 1}"
        else:
            title = f"layer {layer:+d}" if layer else "layer 0"
        names.setdefault(title, []).append(needle_name(plan, needle))
    return [f"{title}: {', '.join(named)}" for title, named in names.items()]


def _first_steps(
    lies: str, where: Pointing, mark: SkinMark, gaps: str, layers: Sequence[str], individual: bool
) -> list[str]:
    """Steps from the empty couch to the last needle."""
    corners = "at its corners, along its axis" if individual else "through the corner holes"
    upper = "marked HEAD" if individual else "with the row of the highest number"
    axis = "its axis points" if individual else "its needles come"
    rest = "groups" if individual else "layers"
    steps = [
        f"Lay the patient on the couch: {lies}, arms and cushions as on the planning CT.",
        f"Move the table until the axial laser is at z = {mark.z_mm:.1f} mm (CT slice {mark.ct_slice}). Mark the cross "
        f"on the skin: {mark.below_top_mm:.0f} mm below the topmost point of the outline, {abs(mark.aside_mm):.0f} mm "
        f"from its middle toward the {mark.aside_of}. There needle {mark.hole} enters.",
        f"Stand at the patient's {where.side} side and set the template so that {axis} {where.words}, the "
        f"edge {upper} toward the head.",
        f"Measure from the template to the skin {corners}: {gaps or 'none meets the skin'}. Correct "
        f"the template where one is off by more than {GAP_MM:g} mm (engineering choice).",
        f"Insert {mark.hole} to half of its depth and scan. Compare its angle and entry with the plan; correct the "
        "template before any other needle.",
        f"Insert {layers[0]}, each to its depth in the chart. Scan.",
    ]
    if layers[1:]:
        steps.append(f"Insert the other {rest} in this order, and scan after each: {'; '.join(layers[1:])}.")
    return steps
