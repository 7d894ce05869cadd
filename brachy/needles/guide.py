"""Individual needles: lines through a target within a cone about the template's axis, and which exclude each other.

The needles of an individually made guide have a direction each. Unlike parallel ones a pitch apart, two of them can
meet anywhere along their length: in the patient, at the plate, where each needs a sleeve, and behind it, where their
hubs are.
"""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from brachy.core.segments import mark_near
from brachy.geometry.structures import Structure
from brachy.needles.channel import RELATIVE_DIGITS, Axis, Needle
from brachy.needles.limits import ROUNDING_MM
from brachy.needles.template import OFF_LATTICE_MM, TemplateLayout, template_axes
from brachy.patient.protocol import Protocol

Float = NDArray[np.float64]
Int = NDArray[np.int64]

RING_DEG = 10.0
"""Angle between neighbouring directions of a cone (engineering choice: half the angle by which a needle 60 mm long
moves one pitch at its end)."""

PLATE_MM, SLEEVE_MM = 5.0, 10.0
"""Thickness of the plate, and length of the sleeves beyond it toward the skin (engineering choice, as the printed
template's)."""

LEAST_SLEEVES_MM = 5.0
"""Least distance of two needles' axes at the ends of their sleeves, where they are not held by the plate: two sleeves
of 4.5 mm do not meet (engineering choice)."""

GOLDEN = (0.7548776662466927, 0.5698402909980532)
"""Steps of the low-discrepancy sequence by which the lattices of neighbouring directions are shifted: the powers of the
root of x^3 = x + 1 (M. Roberts, "The unreasonable effectiveness of quasirandom sequences", 2018)."""


def cone_directions(axis: Float, cone_deg: float, step_deg: float = RING_DEG) -> Float:
    """Directions (n, 3) within an angle of an axis, about a step apart, the axis first, then ring by ring.

    Examples
    --------
    >>> [len(cone_directions(np.array([0.0, 1.0, 0.0]), cone)) for cone in (0, 10, 20, 30)]
    [1, 7, 19, 37]
    >>> ways = cone_directions(np.array([0.0, 1.0, 0.0]), 20)
    >>> sorted(set(np.degrees(np.arccos(np.clip(ways[:, 1], -1, 1))).round(6).tolist()))
    [0.0, 10.0, 20.0]
    """
    column, row = template_axes(axis)
    found = [np.asarray(axis, dtype=np.float64)]
    rings = math.floor(cone_deg / step_deg + 1e-9)
    for ring in range(1, rings + 1):
        angle = math.radians(step_deg * ring)
        count = round(2 * math.pi * math.sin(angle) / math.sin(math.radians(step_deg)))
        for k in range(count):
            turn = 2 * math.pi * (k + 0.5 * (ring % 2)) / count
            found.append(leaning(axis, column, row, angle, turn))
    return np.array(found)


def leaning(axis: Float, column: Float, row: Float, angle: float, turn: float) -> Float:
    """Unit vector (3,) at an angle from the axis, toward `column` turned by `turn` toward `row`; radians."""
    across = math.cos(turn) * column + math.sin(turn) * row
    return math.cos(angle) * axis + math.sin(angle) * across


def through(layout: TemplateLayout, points_mm: Float, directions: Float, first: int = 1) -> list[Axis]:
    """Lines through points (n, 3) with directions (n, 3), as axes from the template's plane; named L1, L2 ...

    Examples
    --------
    >>> column, row = np.array([1.0, 0, 0]), np.array([0.0, 0, 1])
    >>> plate = TemplateLayout(np.zeros(3), np.array([0.0, 1, 0]), column, row, 10.0, 1, 1, 1, "GTV", 30.0)
    >>> axis = through(plate, np.array([[5.0, 60.0, 0.0]]), np.array([[0.6, 0.8, 0.0]]))[0]
    >>> axis.hole, axis.hole_mm.tolist()
    ('L1', [-40.0, 0.0, 0.0])
    """
    behind = (layout.origin_mm - points_mm) @ layout.direction / (directions @ layout.direction)
    holes = np.round(points_mm + behind[:, None] * directions - layout.origin_mm, RELATIVE_DIGITS)
    return [
        Axis(f"L{first + k}", layout.origin_mm + hole, way)
        for k, (hole, way) in enumerate(zip(holes, directions, strict=True))
    ]


def lattice_lines(
    target: Structure, layout: TemplateLayout, cone_deg: float, pitch_mm: float
) -> tuple[Float, Float]:
    """Points (n, 3) and directions (n, 3) of lines through a target: for every direction of a cone a lattice of aims.

    The lattices of the directions are shifted against each other, so that together they aim at more places than the
    pitch of one.
    """
    low, high = target.bounds_mm
    centre, reach = 0.5 * (low + high), 0.5 * float(np.linalg.norm(high - low))
    count = int(reach / pitch_mm) + 1
    aims, ways = [], []
    for k, way in enumerate(cone_directions(layout.direction, cone_deg)):
        column, row = template_axes(way)
        shift = [(k * step) % 1.0 if k else 0.0 for step in GOLDEN]
        for j in range(-count, count + 1):
            for i in range(-count, count + 1):
                # off the planes between slices, where rounding would decide in which slab a level line runs
                u = (i + shift[0]) * pitch_mm + float(OFF_LATTICE_MM[0])
                v = (j + shift[1]) * pitch_mm + float(OFF_LATTICE_MM[1])
                if math.hypot(u, v) <= reach:
                    aims.append(centre + u * column + v * row)
                    ways.append(way)
    return np.array(aims).reshape(-1, 3), np.array(ways).reshape(-1, 3)


def individual_conflicts(needles: Sequence[Needle], layout: TemplateLayout, protocol: Protocol) -> Int:
    """Pairs (q, 2) of needles of one guide that may not be used together, in order.

    Each needle counts with every depth it may have, so any subset without such a pair can be inserted in any order:

    * the surfaces keep `needle.min_needle_spacing_mm` along the whole needle, from the deepest tip to its other end;
    * the axes keep `template.sleeve_spacing_mm` on both faces of the plate, and the ends of the sleeves apart;
    * no hub, on its way from where the tip enters the hole to where it comes to rest, meets another hub or needle.
    """
    if len(needles) < 2:
        return np.zeros((0, 2), dtype=np.int64)
    rule, corner = protocol.needle, layout.origin_mm
    holes = np.round(np.array([needle.hole_mm for needle in needles]) - corner, RELATIVE_DIGITS)
    ways = np.array([needle.direction for needle in needles])
    tips = np.array([needle.tip_depth_mm for needle in needles])
    deepest = np.array([needle.depths_mm[0] for needle in needles])
    shallowest = np.array([needle.depths_mm[-1] for needle in needles])
    longest = rule.max_needle_mm
    ends = (
        shallowest + (tips - deepest) - longest
    )  # of the needle at its shallowest, behind the hole: negative
    rests = tips - longest
    near = np.zeros((len(needles), len(needles)), dtype=np.bool_)

    def between(first: Float, last: Float) -> tuple[Float, Float]:
        """Segments of all needles between two depths, the start of each relative to hole A1."""
        starts = holes + first[:, None] * ways
        return np.ascontiguousarray(starts), np.ascontiguousarray((last - first)[:, None] * ways)

    body = between(ends, tips)
    hub = between(np.full(len(needles), -longest), rests)
    width = protocol.access.hub_diameter_mm
    slack = ROUNDING_MM
    mark_near(*body, *body, rule.axes_apart_mm + slack, near)
    mark_near(*hub, *hub, width + slack, near)
    mark_near(*hub, *body, 0.5 * width + rule.radius_mm + slack, near)
    slope = ways @ layout.direction
    for height, apart in (
        (0.0, protocol.template.sleeve_spacing_mm),
        (PLATE_MM, protocol.template.sleeve_spacing_mm),
        (PLATE_MM + SLEEVE_MM, LEAST_SLEEVES_MM),
    ):
        places = layout.to_plate(corner + holes + (height / slope)[:, None] * ways)[:, :2]
        gaps = np.linalg.norm(places[:, None] - places[None], axis=2)
        near |= gaps < apart + slack
    np.fill_diagonal(near, False)
    first, second = np.nonzero(np.triu(near))
    return np.column_stack([first, second]).astype(np.int64)
