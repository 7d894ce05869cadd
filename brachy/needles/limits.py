"""How deep a seed may lie on each axis that crosses the target, and what blocks or shortens the needle there."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from brachy.geometry.structures import Structure
from brachy.needles.channel import RELATIVE_DIGITS, Axis
from brachy.needles.needle_path import contact_depth, skin_entries, target_spans
from brachy.patient.access import COUCH, SCAN, Access
from brachy.patient.protocol import Protocol

Float = NDArray[np.float64]
T = TypeVar("T")

ROUNDING_MM = 1e-3
"""Margins are kept by this much more, so that they still hold after plan.json has rounded the positions (engineering
choice)."""


CUT_SLACK = 1e-3
"""An entry keeps from the scan's borders by so many voxels more, for the same reason (engineering choice)."""


@dataclass
class AxisLimits:
    """What is found about an axis that crosses the target. Depths in mm from the hole along the axis."""

    axis: Axis
    span: tuple[float, float]
    """Depths at which the axis first enters and last leaves the target."""
    deepest: float
    """Deepest legal seed centre so far."""
    skin_depth: float = 0.0
    shortened_by: str = ""
    """What keeps the needle from its full depth: a structure's name, "needle length", "skin", or ""."""
    cause: str = ""
    """What blocks it: a structure's name, "needle length", "skin", "air", "distal edge", or one of
    `brachy.patient.access`; "" while nothing does."""
    reason: str = ""
    """What is wrong and where, in a few words."""

    def at(self, depth_mm: float | Float) -> Float:
        """Points (..., 3) at depths (...)."""
        found: Float = self.axis.hole_mm + np.asarray(depth_mm)[..., None] * self.axis.direction
        return found

    def block(self, cause: str, reason: str) -> None:
        """State why no needle may be used here; the first cause is kept."""
        if not self.cause:
            self.cause, self.reason = cause, reason


def axis_limits(
    axes: Sequence[Axis],
    target: Structure,
    external: Structure,
    obstacles: Sequence[Structure],
    tip_offset_mm: float,
    protocol: Protocol,
    access: Access | None = None,
    standoff_mm: float = 0.0,
) -> list[AxisLimits]:
    """Limits of every axis that crosses the target, in the order given.

    Parameters
    ----------
    axes : sequence of Axis
        Lines along which a needle might be inserted, each with its own hole and direction.
    target, external : Structure
        The planned target, and the outline of the patient.
    obstacles : sequence of Structure
        What a needle must not meet.
    tip_offset_mm : float
        Centre of the most distal seed to the tip.
    protocol : Protocol
        Margins, clearances, needle length.
    access : Access, optional
        What bars needles from outside the patient; by default nothing.
    standoff_mm : float
        Least way from the hole to the skin; a lattice is laid out with it, holes of needles at angles are not.

    Examples
    --------
    >>> from brachy.patient.protocol import load_protocol
    >>> square = np.array([[-1, -1, 0], [1, -1, 0], [1, 1, 0], [-1, 1, 0]])
    >>> tumour = Structure("GTV", [12 * square + [0, 0, z] for z in range(-10, 11, 2)])
    >>> body = Structure("Body", [90 * square + [0, 0, z] for z in range(-90, 91, 2)])
    >>> holes = np.array([[0.0, -110.0, 0.0], [40.0, -110.0, 0.0]])
    >>> axes = [Axis(name, hole, np.array([0.0, 1.0, 0.0])) for name, hole in zip("AB", holes)]
    >>> found = axis_limits(axes, tumour, body, [], 5.25, load_protocol("liver-metastasis"))
    >>> [(each.axis.hole, each.span, round(each.deepest, 2), each.skin_depth) for each in found]
    [('A', (98.0, 122.0), 117.0, 20.0)]
    """
    found = _crossing(axes, target, external, protocol)
    for limits in found:
        if limits.skin_depth < standoff_mm + ROUNDING_MM and standoff_mm > 0:
            limits.block(
                "air", f"enters the skin {limits.skin_depth:.0f} mm from the plate, {standoff_mm:g} are kept"
            )
    if access is not None:
        _block_by_direction(found, access)
        _block_at_cuts(found, access)
    _limit_by_length(found, tip_offset_mm, protocol)
    if access is not None:
        _block_by_couch_top(found, tip_offset_mm, access)
        for device in access.devices:
            _block_by_device(found, device, access)
    _limit_by_obstacles(found, obstacles, tip_offset_mm, protocol)
    _limit_by_skin(found, external, protocol)
    return found


def depth_in_skin(external: Structure, points_mm: Float, cutoff_mm: float) -> Float:
    """Distance (n,) of points from the skin, positive inside the patient, at most just above the cutoff."""
    return np.round(-external.signed_distance_mm(points_mm, cutoff_mm + 1.0), RELATIVE_DIGITS)


def _crossing(
    axes: Sequence[Axis], target: Structure, external: Structure, protocol: Protocol
) -> list[AxisLimits]:
    """Axes that cross the target, with their skin entries."""
    spans = _each(axes, partial(target_spans, target, overshoot_mm=protocol.template.lateral_overshoot_mm))
    crossing = [(axis, span) for axis, span in zip(axes, spans, strict=True) if span is not None]
    depths = iter([span[0] for _, span in crossing])
    entries = _each(
        [axis for axis, _ in crossing],
        lambda points, direction: skin_entries(external, points, direction, [next(depths) for _ in points]),
    )
    found = []
    for (axis, span), entry in zip(crossing, entries, strict=True):
        deepest = round(span[1] - protocol.seeds.distal_margin_mm - ROUNDING_MM, RELATIVE_DIGITS)
        limits = AxisLimits(axis, span, deepest)
        found.append(limits)
        if deepest < span[0]:
            length = span[1] - span[0]
            limits.block(
                "distal edge",
                f"its axis crosses {length:.1f} mm of the target, too little for a seed "
                f"{protocol.seeds.distal_margin_mm:g} mm before the distal edge",
            )
        if entry is None:
            limits.block("air", f"its axis reaches the target outside '{external.name}'")
        elif entry.crossed_mm is not None:
            apart = entry.depth_mm - entry.crossed_mm
            limits.block(
                "air", f"its axis passes through the patient {apart:.0f} mm before it enters the skin"
            )
        elif entry.depth_mm <= 0:
            limits.block("air", "the hole lies inside the skin")
        limits.skin_depth = entry.depth_mm if entry is not None else 0.0
    return found


def _each(axes: Sequence[Axis], of_parallel: Callable[[Float, Float], list[T]]) -> list[T]:
    """What is asked of parallel lines, for each axis in order: neighbours of one direction are asked together."""
    found: list[T] = []
    for _, group in groupby(axes, key=lambda axis: axis.direction.tobytes()):
        together = list(group)
        found += of_parallel(np.array([axis.hole_mm for axis in together]), together[0].direction)
    return found


def _limit_by_length(found: list[AxisLimits], tip_offset: float, protocol: Protocol) -> None:
    longest = protocol.needle.max_needle_mm
    for limits in found:
        if limits.deepest + tip_offset > longest - ROUNDING_MM:
            limits.deepest, limits.shortened_by = longest - ROUNDING_MM - tip_offset, "needle length"
            if limits.deepest < limits.span[0]:
                needed = limits.span[0] + tip_offset
                limits.block(
                    "needle length",
                    f"needs {needed:.0f} mm from the hole to the first seed of {longest:g} mm",
                )


def _open(found: list[AxisLimits]) -> tuple[list[AxisLimits], Float, Float]:
    """The axes that nothing blocks so far, with their holes (n, 3) and directions (n, 3)."""
    free = [limits for limits in found if not limits.cause]
    holes = np.array([limits.axis.hole_mm for limits in free]).reshape(-1, 3)
    return free, holes, np.array([limits.axis.direction for limits in free]).reshape(-1, 3)


def _block_by_direction(found: list[AxisLimits], access: Access) -> None:
    """Block axes that come from where none may."""
    known: dict[bytes, tuple[str, str]] = {}
    for limits in found:
        key = limits.axis.direction.tobytes()
        cause, reason = known.setdefault(key, access.bars(limits.axis.direction))
        if cause:
            limits.block(cause, reason)


def _block_at_cuts(found: list[AxisLimits], access: Access) -> None:
    """Block axes that enter where the image cuts the patient: the skin there is not the patient's own."""
    free, holes, directions = _open(found)
    entries = holes + np.array([limits.skin_depth for limits in free])[:, None] * directions
    for limits, cut in zip(free, access.border.cuts(entries, CUT_SLACK).tolist(), strict=True):
        if cut:
            limits.block(SCAN, "enters where the image cuts the patient, not through skin that is seen")


def _block_by_couch_top(found: list[AxisLimits], tip_offset: float, access: Access) -> None:
    """Block needles that lie in part at or below the couch's top, also beyond the image; shorten where a tip does."""
    free, holes, directions = _open(found)
    firsts = np.array([limits.span[0] for limits in free]) + tip_offset  # the shallowest tip that is of use
    left = access.under_couch_top(holes, directions, holes + firsts[:, None] * directions)
    for limits, above in zip(free, left.tolist(), strict=True):
        if above <= 0:
            limits.block(COUCH, f"reaches {-above:.0f} mm below the top of the couch")
    free, holes, directions = _open(found)
    deepest = np.array([limits.deepest for limits in free]) + tip_offset
    left = access.under_couch_top(holes, directions, holes + deepest[:, None] * directions)
    for limits, above in zip(free, left.tolist(), strict=True):
        if (
            above <= 0 and access.down is not None
        ):  # what is behind the hole is clear, so the needle goes down
            steep = float(limits.axis.direction @ access.down)
            limits.deepest, limits.shortened_by = limits.deepest + (above - ROUNDING_MM) / steep, COUCH


def _block_by_device(found: list[AxisLimits], device: Structure, access: Access) -> None:
    """Block needles that a thing outside the patient comes too near to, before the skin or behind the hole."""
    free, holes, directions = _open(found)
    if not free:
        return
    clearance, radius = access.protocol.obstacles.clearance_mm, access.protocol.needle.radius_mm
    skin = np.array([limits.skin_depth for limits in free])
    front = contact_depth(holes, directions, skin, device, radius + clearance)
    hub = access.hub_radius_mm + clearance
    behind = contact_depth(holes, -directions, np.full(len(free), access.behind_mm), device, hub)
    for limits, before, after in zip(free, front.tolist(), behind.tolist(), strict=True):
        if before < np.inf:
            limits.block(
                access.named(device), f"meets '{device.name}' {before:.0f} mm from the hole, before the skin"
            )
        elif after < np.inf:
            limits.block(access.named(device), f"meets '{device.name}' {after:.0f} mm behind the hole")


def _limit_by_obstacles(
    found: list[AxisLimits], obstacles: Sequence[Structure], tip_offset: float, protocol: Protocol
) -> None:
    """Shorten needles to what lies before the first obstacle that each would meet, or block them."""
    reach = protocol.needle.radius_mm + protocol.obstacles.clearance_mm
    for obstacle in obstacles:
        judged = [limits for limits in found if not limits.cause]
        if not judged or obstacle.is_empty:
            continue
        starts = np.array([limits.axis.hole_mm for limits in judged])
        directions = np.array([limits.axis.direction for limits in judged])
        tips = np.array([limits.deepest for limits in judged]) + tip_offset
        contacts = np.floor(contact_depth(starts, directions, tips, obstacle, reach) * 1e6) / 1e6
        lost = []
        for limits, contact, tip in zip(judged, contacts.tolist(), tips.tolist(), strict=True):
            if contact == np.inf:
                continue
            limits.deepest, limits.shortened_by = contact - tip_offset, obstacle.name
            if limits.deepest < limits.span[0]:
                lost.append((limits, contact, tip))
        for (limits, contact, _), gap in zip(lost, _clearances(lost, obstacle, protocol), strict=True):
            passes = f"passes {gap:.1f} mm from '{obstacle.name}'" if gap > 0 else f"meets '{obstacle.name}'"
            limits.block(obstacle.name, f"{passes}, {contact:.0f} mm from the hole")


def _clearances(
    lost: Sequence[tuple[AxisLimits, float, float]], obstacle: Structure, protocol: Protocol
) -> list[float]:
    """Least distance of each needle's surface from an obstacle between two depths, every mm; 0 in contact."""
    if not lost:
        return []
    depths = [np.linspace(start, stop, int(stop - start) + 2) for _, start, stop in lost]
    points = [entry[0].at(along) for entry, along in zip(lost, depths, strict=True)]
    reach = protocol.needle.radius_mm + protocol.obstacles.clearance_mm
    gaps = obstacle.distance_mm(np.concatenate(points), reach + 1.0)
    first = np.cumsum([0] + [len(along) for along in depths[:-1]])
    least = np.minimum.reduceat(gaps, first) - protocol.needle.radius_mm
    return [max(float(gap), 0.0) for gap in least]


def _limit_by_skin(found: list[AxisLimits], external: Structure, protocol: Protocol) -> None:
    """Draw the deepest centres back until they are far enough from the skin on the far side.

    Going back by what is missing skips no legal centre: the distance to the skin changes no faster than the depth.
    """
    margin = protocol.seeds.skin_margin_mm + ROUNDING_MM
    judged = [limits for limits in found if not limits.cause]
    while judged:
        centres = np.array([limits.at(limits.deepest) for limits in judged])
        missing = margin - depth_in_skin(external, centres, margin)
        near = []
        for limits, lacks in zip(judged, missing.tolist(), strict=True):
            if lacks <= 0:
                continue
            limits.deepest, limits.shortened_by = limits.deepest - max(lacks, ROUNDING_MM), "skin"
            near.append(limits)
            if limits.deepest < limits.span[0]:
                wanted = protocol.seeds.skin_margin_mm
                limits.block("skin", f"no part of its axis in the target is {wanted:g} mm from the skin")
        judged = [limits for limits in near if not limits.cause]
