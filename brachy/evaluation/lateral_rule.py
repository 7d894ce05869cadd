"""The lateral margin of a finished plan: the edge of the target in each layer against the needles that are used.

An edge point that no needle comes near is no breach where every hole that could serve it is barred; it is then
reported with its place and cause. What bars a hole is found here by sampling its axis, not looked up in an offer.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from brachy.geometry.structures import Structure
from brachy.needles.lateral import edge_points
from brachy.needles.needle_path import skin_entry, target_span
from brachy.needles.template import TemplateLayout
from brachy.patient.plan import PlanTemplate, RuleResult
from brachy.patient.protocol import Protocol

Float = NDArray[np.float64]

SAMPLE_MM = 0.5
"""Paths are sampled at this distance before the search closes in (engineering choice)."""

TOLERANCE_MM = 0.01
"""A rule counts as kept to this: a position in plan.json has 6 significant digits (engineering choice)."""

WHOLE_AXIS_MM = 1e4
"""An axis that counts as a line is cut off here, far outside every patient."""

BARRED_MM = 0.005
"""A hole is barred where it falls short of a limit by this or more, so that what is called free can be drilled."""


def nearest_on_path(
    start_mm: Float, end_mm: Float, structure: Structure, enough_mm: float = np.inf
) -> tuple[float, float]:
    """Least distance of a straight path to a structure, and the depth from the start at which it is so near.

    Sampled at `SAMPLE_MM`, then every stretch that may hide a smaller value, since a distance changes no
    faster than the place, is sampled ten times finer, and again; the result is exact to 0.0025 mm. A path
    that proves to stay farther than `enough_mm` may be given any value above that.

    Examples
    --------
    >>> square = [[-9, -9, 0], [9, -9, 0], [9, 9, 0], [-9, 9, 0]]
    >>> vessel = Structure("Aorta", [square], slice_spacing_mm=10.0)
    >>> nearest_on_path(np.array([12.0, -50.0, 0.0]), np.array([12.0, 0.0, 0.0]), vessel)[0]
    3.0
    """
    length = float(np.linalg.norm(end_mm - start_mm))
    unit = (end_mm - start_mm) / length

    def distance(depths: Float) -> Float:
        return structure.distance_mm(start_mm + depths[:, None] * unit, cutoff)

    cutoff = np.inf
    coarse = distance(np.linspace(0.0, length, 9, dtype=np.float64))
    if coarse.min() - length / 16.0 > enough_mm:
        return float(coarse.min()), 0.0
    cutoff = float(coarse.min()) + 1.0
    count = int(np.ceil(length / SAMPLE_MM))
    step = length / count
    left: Float = step * np.arange(count, dtype=np.float64)
    best, place = np.inf, 0.0
    for _ in range(3):
        near, far = distance(left), distance(left + step)
        for depths, gaps in ((left, near), (left + step, far)):
            k = int(gaps.argmin())
            if gaps[k] < best:
                best, place = float(gaps[k]), float(depths[k])
        hiding = left[0.5 * (near + far - step) < best]
        step /= 10.0
        left = (hiding[:, None] + step * np.arange(10)).ravel()
        if not len(left):
            break
    return best, place


def distance_to_segment(points_mm: Float, start_mm: Float, end_mm: Float) -> Float:
    """Distance (n,) of points to a segment."""
    along = end_mm - start_mm
    part = np.clip((points_mm - start_mm) @ along / (along @ along), 0.0, 1.0)
    found: Float = np.linalg.norm(points_mm - start_mm - part[:, None] * along, axis=1)
    return found


@dataclass(frozen=True)
class _Hole:
    """A hole whose axis crosses the target. Depths in mm from the hole."""

    label: str
    point_mm: Float
    counts_to: float
    """How far a needle through it may count: the whole axis, or the deepest tip that is free; 0 if it is barred."""
    barred_by: str
    """What keeps a needle from its full depth, or ""."""


@dataclass(frozen=True, eq=False)
class LateralRule:
    """The lateral margin of one plan; see `check`.

    Parameters
    ----------
    obstacles : sequence of Structure
        What a needle must not meet.
    external : Structure
        Outline of the patient.
    protocol : Protocol
        Margins, clearance, needle length.
    capsule_length_mm : float
        Length of a seed.
    blocked : collection of (template, hole)
        Holes that were found impossible during the implantation.
    """

    obstacles: Sequence[Structure]
    external: Structure
    protocol: Protocol
    capsule_length_mm: float
    blocked: Collection[tuple[int, str]] = ()

    @property
    def _tip_offset(self) -> float:
        return self.protocol.needle.tip_to_seed_mm + 0.5 * self.capsule_length_mm

    def check(
        self,
        needles: Sequence[tuple[Float, Float, tuple[float, float]]],
        template: PlanTemplate,
        target: Structure,
        name: str = "",
        number: int = 0,
    ) -> list[RuleResult]:
        """One row a layer: the edge point of the target that is farthest from a used needle, and the cause.

        Parameters
        ----------
        needles : sequence of (hole, tip, span)
            Used needles of this template: (3,) mm each, and the depths at which the axis enters and leaves the target.
        template : PlanTemplate
            Their template.
        target : Structure
            Its planned target.
        name : str
            Added to the name of the rule.
        number : int
            Of the template, from 0.

        Notes
        -----
        The axis of a needle counts as a whole line if a needle there could legally go to its full depth, and as far
        as its tip if something bars it.
        """
        margin = self.protocol.template.lateral_margin_mm
        layout = layout_of(template)
        points, layers = edge_points(target, layout)
        gaps = np.full(len(points), np.inf)
        for hole, tip, span in needles:
            unit = (tip - hole) / np.linalg.norm(tip - hole)
            end = hole + self._counts_to(hole, tip, span) * unit
            gaps = np.minimum(gaps, distance_to_segment(points, hole, end))
        missed = gaps > margin + TOLERANCE_MM
        causes, barred = self._causes(points, missed, needles, layout, target, number)
        results = []
        for layer in sorted(np.unique(layers).tolist(), key=lambda number: (abs(number), -number)):
            here = np.flatnonzero(layers == layer)
            bad = here[missed[here]]
            # a point that a free hole could serve speaks before those that nothing can reach, then the farthest
            place = (
                min(bad, key=lambda i: (barred[i], -gaps[i])) if len(bad) else here[int(gaps[here].argmax())]
            )
            x, y, z = points[place].tolist()
            where = f"at ({x:.1f}, {y:.1f}, {z:.1f})"
            if not needles:
                where = "no needle"
            elif len(bad):
                where += f" and {len(bad) - 1} more of {len(here)} points: {causes[place]}"
                where = f"reported: {where}" if barred[place] else where
            worst = float(gaps[here].max())
            results.append(
                RuleResult(
                    rule=f"target edge to needle, layer {layer:+d}{name}",
                    limit=f"<= {margin:g} mm, or barred and reported",
                    worst=worst if np.isfinite(worst) else None,
                    where=where,
                    met=bool(needles) and bool(barred[bad].all()),
                )
            )
        return results

    def _counts_to(self, hole: Float, tip: Float, span: tuple[float, float]) -> float:
        """Depth to which a used needle's axis counts."""
        length = float(np.linalg.norm(tip - hole))
        if not np.isfinite(span[1]):
            return length
        rules = self.protocol
        direction = (tip - hole) / length
        full = span[1] - rules.seeds.distal_margin_mm - TOLERANCE_MM
        deepest = full + self._tip_offset
        if deepest > length:
            reach = rules.needle.radius_mm + rules.obstacles.clearance_mm - TOLERANCE_MM
            way = tip, hole + deepest * direction
            skin = -float(self.external.signed_distance_mm((hole + full * direction)[None])[0])
            if (
                deepest > rules.needle.max_needle_mm + TOLERANCE_MM
                or skin < rules.seeds.skin_margin_mm - TOLERANCE_MM
                or any(nearest_on_path(*way, obstacle, reach)[0] < reach for obstacle in self.obstacles)
            ):
                return length
        return WHOLE_AXIS_MM

    def _causes(
        self,
        points: Float,
        missed: NDArray[np.bool_],
        needles: Sequence[tuple[Float, Float, tuple[float, float]]],
        layout: TemplateLayout,
        target: Structure,
        number: int,
    ) -> tuple[list[str], NDArray[np.bool_]]:
        """Why no needle passes near a missed point, (m,), and whether every hole that could serve it is barred."""
        margin = self.protocol.template.lateral_margin_mm
        causes = [""] * len(points)
        barred = np.ones(len(points), dtype=bool)
        places = np.flatnonzero(missed)
        if not (len(places) and len(needles)):
            return causes, barred
        holes = self._holes_near(points[places], layout, target, number)
        used = [hole for hole, _, _ in needles]
        for i in places:
            cause = f"no hole's axis crosses the target within {margin:g} mm of it"
            nearest = np.inf
            for hole in holes:
                far = hole.point_mm + WHOLE_AXIS_MM * layout.direction
                across = round(float(distance_to_segment(points[i : i + 1], hole.point_mm, far)[0]), 6)
                if across > margin:
                    continue
                if hole.counts_to > 0:
                    end = hole.point_mm + hole.counts_to * layout.direction
                    gap = float(distance_to_segment(points[i : i + 1], hole.point_mm, end)[0])
                    if gap <= margin - TOLERANCE_MM:
                        deep = any(np.linalg.norm(place - hole.point_mm) < 0.1 for place in used)
                        cause = f"hole {hole.label} is free but not used{' so deep' if deep else ''}"
                        barred[i] = False
                        break
                if across < nearest:
                    nearest = across
                    cause = f"hole {hole.label} is blocked by {hole.barred_by or 'the margins'}"
            causes[i] = cause
        return causes, barred

    def _holes_near(
        self, points: Float, layout: TemplateLayout, target: Structure, number: int
    ) -> list[_Hole]:
        """Holes whose axes cross the target within the lateral margin of one of the points."""
        found = []
        direction = layout.direction
        for row in range(1, layout.rows + 1):
            for column in range(layout.columns):
                hole = layout.hole_mm(column, row)
                way = points - hole
                across = np.linalg.norm(way - (way @ direction)[:, None] * direction, axis=1)
                if across.min() > self.protocol.template.lateral_margin_mm:
                    continue
                span = target_span(target, hole, direction, self.protocol.template.lateral_overshoot_mm)
                if span is not None:
                    deepest, barred_by = self._deepest_tip(hole, direction, span)
                    if (number, layout.hole_label(column, row)) in self.blocked:
                        deepest, barred_by = 0.0, "what was found in the room"
                    counts_to = deepest if barred_by else WHOLE_AXIS_MM
                    found.append(_Hole(layout.hole_label(column, row), hole, counts_to, barred_by))
        return found

    def _deepest_tip(self, hole: Float, direction: Float, span: tuple[float, float]) -> tuple[float, str]:
        """Depth of the deepest tip that is legal, 0 if there is none, and why not deeper."""
        rules = self.protocol
        entry = skin_entry(self.external, hole, direction, span[0])
        if entry is None or entry.crossed_mm is not None or entry.depth_mm <= 0:
            return 0.0, "what lies before the skin"
        centre = span[1] - rules.seeds.distal_margin_mm - BARRED_MM
        if centre < span[0]:
            return 0.0, f"the distal edge: {span[1] - span[0]:.1f} mm of the target on its axis"
        tip, why = centre + self._tip_offset, ""
        if tip > rules.needle.max_needle_mm - BARRED_MM:
            tip, why = rules.needle.max_needle_mm - BARRED_MM, "the needle's length"
        reach = rules.needle.radius_mm + rules.obstacles.clearance_mm
        for obstacle in self.obstacles:
            contact, gap = _contact(hole, direction, tip, obstacle, reach)
            if contact < tip:
                tip, why = contact, f"{obstacle.name} at {max(gap - rules.needle.radius_mm, 0.0):.1f} mm"
        centres = np.append(np.arange(tip - self._tip_offset, span[0], -SAMPLE_MM), span[0])
        centres = centres[centres >= span[0]]
        depths = -self.external.signed_distance_mm(hole + centres[:, None] * direction)
        legal = np.flatnonzero(depths > rules.seeds.skin_margin_mm + BARRED_MM)
        if tip - self._tip_offset < span[0] or not len(legal):
            return 0.0, why or "the skin"
        if legal[0] > 0:
            tip, why = float(centres[legal[0]]) + self._tip_offset, "the skin"
        return tip, why


def _contact(
    hole: Float, direction: Float, length: float, obstacle: Structure, reach_mm: float
) -> tuple[float, float]:
    """Depth before which an axis stays clear of an obstacle, at most `length`, and the least distance up to there on.

    At a distance D of two samples h apart the true distance is at least D - h^2 / 8 D between them, less than
    `BARRED_MM` for the steps here.
    """
    cutoff = reach_mm + 1.0
    depths = np.append(np.arange(0.0, length, 0.25 if reach_mm > 1.6 else 0.05), length)
    gaps = obstacle.distance_mm(hole + depths[:, None] * direction, cutoff)
    near = np.flatnonzero(gaps < reach_mm + BARRED_MM)
    if not len(near):
        return length, float(gaps.min())
    first = int(near[0])
    if first == 0:
        return 0.0, float(gaps.min())
    fine = np.linspace(depths[first - 1], depths[first], 101)
    close = obstacle.distance_mm(hole + fine[:, None] * direction, cutoff)
    return float(fine[max(int(np.argmax(close < reach_mm + BARRED_MM)) - 1, 0)]), float(gaps.min())


def layout_of(template: PlanTemplate) -> TemplateLayout:
    """The lattice of a template as plan.json has it."""
    return TemplateLayout(
        np.array(template.origin_mm),
        np.array(template.direction),
        np.array(template.column),
        np.array(template.row),
        template.spacing_mm,
        template.columns,
        template.rows,
        template.central_row,
        template.target,
    )
