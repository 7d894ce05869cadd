"""The lateral margin of a finished plan: the edge of the target in each layer against the needles that are used.

An edge point that no needle comes near is no breach where every hole that could serve it is barred; it is then
reported with its place and cause. What bars a hole is found here by sampling its axis, not taken from the planner's
candidates. Each needle counts along its own direction.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from brachy.geometry.structures import Structure
from brachy.needles.channel import Axis, Channel, Lines
from brachy.needles.lateral import edge_points
from brachy.needles.needle_path import skin_entry, target_span
from brachy.needles.template import TemplateLayout
from brachy.patient.evaluation_record import RuleResult, RuleStatus
from brachy.patient.protocol import Protocol

Float = NDArray[np.float64]

SAMPLE_MM = 0.5
"""Paths are sampled at this distance before the search closes in (engineering choice)."""

TOLERANCE_MM = 0.01
"""A rule counts as kept to this: a position in plan.json has 6 significant digits (engineering choice)."""

WHOLE_AXIS_MM = 1e4
"""Depth at which an axis that counts as a whole line is cut off, far outside every patient (engineering choice)."""

BARRED_MM = 0.005
"""A hole is barred where it falls short of a limit by this or more, so that a hole called free can be used
(engineering choice)."""


def nearest_on_path(
    start_mm: Float, end_mm: Float, structure: Structure, enough_mm: float = np.inf
) -> tuple[float, float]:
    """Least distance of a straight path to a structure, and the depth from the start at which it is so near.

    The path is sampled at `SAMPLE_MM`. A distance changes no faster than the place, so only some stretches may hold a
    smaller value: these are sampled ten times finer, and again; the result is exact to 0.0025 mm. For a path that
    stays farther than `enough_mm` any value above that may be returned.

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
    """Distance (n,) of points (n, 3) from a segment."""
    along = end_mm - start_mm
    part = np.clip((points_mm - start_mm) @ along / (along @ along), 0.0, 1.0)
    found: Float = np.linalg.norm(points_mm - start_mm - part[:, None] * along, axis=1)
    return found


@dataclass(frozen=True)
class UsedNeedle:
    """A needle of the plan, and the depths at which its axis enters and leaves the target (NaN where it never does)."""

    channel: Channel
    span: tuple[float, float]


@dataclass(frozen=True)
class _Hole:
    """An axis from a hole that crosses the target. Depths in mm from the hole."""

    axis: Axis
    counts_to: float
    """How far a needle on it may count: the whole axis, or the deepest tip that is free; 0 if it is barred."""
    barred_by: str
    """What keeps a needle from its full depth, or ""."""


@dataclass(frozen=True, eq=False)
class LateralRule:
    """Check of the lateral margin of one plan, see `check`.

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
        Holes that were found impossible during the implantation; no needle is counted on there.
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
        needles: Sequence[UsedNeedle],
        layout: TemplateLayout,
        target: Structure,
        name: str = "",
        number: int = 0,
    ) -> list[RuleResult]:
        """One result a layer: the edge point of the target that is farthest from a used needle, and the cause.

        Parameters
        ----------
        needles : sequence of UsedNeedle
            Used needles of this template.
        layout : TemplateLayout
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
        points, layers = edge_points(target, layout)
        gaps = np.full(len(points), np.inf)
        for used in needles:
            end = used.channel.at(self._counts_to(used))
            gaps = np.minimum(gaps, distance_to_segment(points, used.channel.hole_mm, end))
        missed = gaps > margin + TOLERANCE_MM
        causes, barred = self._causes(points, missed, needles, layout, target, number)
        results = []
        level = "section" if layout.individual else "layer"
        for layer in sorted(np.unique(layers).tolist(), key=lambda number: (abs(number), -number)):
            here = np.flatnonzero(layers == layer)
            bad = here[missed[here]]
            # a point that a free hole could serve is named before those that nothing can reach, then the farthest
            place = (
                min(bad, key=lambda i: (barred[i], -gaps[i])) if len(bad) else here[int(gaps[here].argmax())]
            )
            x, y, z = points[place].tolist()
            where = f"at ({x:.1f}, {y:.1f}, {z:.1f})"
            status: RuleStatus = "kept"
            if not needles:
                where, status = "no needle", "broken"
            elif len(bad):
                where += f" and {len(bad) - 1} more of {len(here)} points: {causes[place]}"
                status = "reported" if barred[bad].all() else "broken"
            worst = float(gaps[here].max())
            results.append(
                RuleResult(
                    rule=f"target edge to needle, {level} {layer:+d}{name}",
                    limit=f"<= {margin:g} mm, or barred and reported",
                    worst=worst if np.isfinite(worst) else None,
                    where=where,
                    status=status,
                )
            )
        return results

    def _counts_to(self, used: UsedNeedle) -> float:
        """Depth to which a used needle's axis counts."""
        channel, span = used.channel, used.span
        length = channel.tip_depth_mm
        if not np.isfinite(span[1]):
            return length
        rules = self.protocol
        full = span[1] - rules.seeds.distal_margin_mm - TOLERANCE_MM
        deepest = full + self._tip_offset
        if deepest > length:
            reach = rules.needle.radius_mm + rules.obstacles.clearance_mm - TOLERANCE_MM
            way = channel.tip_mm, channel.at(deepest)
            skin = -float(self.external.signed_distance_mm(channel.at(full)[None])[0])
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
        needles: Sequence[UsedNeedle],
        layout: TemplateLayout,
        target: Structure,
        number: int,
    ) -> tuple[list[str], NDArray[np.bool_]]:
        """Why no needle comes near each missed point, (m,), and whether every hole that could serve it is barred."""
        causes = [""] * len(points)
        barred = np.ones(len(points), dtype=bool)
        places = np.flatnonzero(missed)
        if not (len(places) and len(needles)):
            return causes, barred
        holes = self._holes_near(points[places], layout, target, number)
        lines = Lines.of([hole.axis for hole in holes], [hole.counts_to for hole in holes])
        across = lines.feet_of(points[places])[0]
        for place, row in zip(places.tolist(), across, strict=True):
            causes[place], barred[place] = self._cause(points[place], row, holes, needles)
        return causes, barred

    def _cause(
        self, point: Float, across: Float, holes: Sequence[_Hole], needles: Sequence[UsedNeedle]
    ) -> tuple[str, bool]:
        """Why no needle passes near a point, whose distances from the holes' axes are given; whether all are barred."""
        margin = self.protocol.template.lateral_margin_mm
        cause = f"no hole's axis crosses the target within {margin:g} mm of it"
        nearest = np.inf
        for hole, gap in zip(holes, across.tolist(), strict=True):
            if gap > margin:
                continue
            start = hole.axis.hole_mm
            if hole.counts_to > 0:
                end = start + hole.counts_to * hole.axis.direction
                if float(distance_to_segment(point[None], start, end)[0]) <= margin - TOLERANCE_MM:
                    deep = any(np.linalg.norm(used.channel.hole_mm - start) < 0.1 for used in needles)
                    return f"hole {hole.axis.hole} is free but not used{' so deep' if deep else ''}", False
            if gap < nearest:
                nearest = gap
                cause = f"hole {hole.axis.hole} is blocked by {hole.barred_by or 'the margins'}"
        return cause, True

    def _holes_near(
        self, points: Float, layout: TemplateLayout, target: Structure, number: int
    ) -> list[_Hole]:
        """Axes of the holes that cross the target within the lateral margin of one of the points."""
        found = []
        axes = layout.axes()
        across = Lines.of(axes, [np.inf] * len(axes)).feet_of(points)[0]
        for axis, gaps in zip(axes, across.T, strict=True):
            if gaps.min() > self.protocol.template.lateral_margin_mm:
                continue
            span = target_span(
                target, axis.hole_mm, axis.direction, self.protocol.template.lateral_overshoot_mm
            )
            if span is not None:
                deepest, barred_by = self._deepest_tip(axis.hole_mm, axis.direction, span)
                if (number, axis.hole) in self.blocked:
                    deepest, barred_by = 0.0, "what was found in the room"
                found.append(_Hole(axis, deepest if barred_by else WHOLE_AXIS_MM, barred_by))
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
