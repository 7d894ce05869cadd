"""The view along each needle of a plan with needles at angles: the plane that holds it, from the plate to its tip."""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from brachy.core.threads import side_by_side
from brachy.geometry.grid import Grid
from brachy.geometry.structures import Structure
from brachy.needles.channel import Channel
from brachy.needles.template import HEAD
from brachy.output import csv_tables
from brachy.output.figures import cuts
from brachy.output.report.picture import (
    Mark,
    Picture,
    base_picture,
    corner_of,
    isodose_lines,
    short,
    with_needles,
)
from brachy.patient.case import Case
from brachy.patient.palette import role_of, shown, stops_needles
from brachy.patient.plan import Plan, PlanNeedle

Float = NDArray[np.float64]

WIDE_MM, BEYOND_MM, PIXEL_MM = 120.0, 30.0, 1.25
"""Width of a picture, how far it reaches beyond the tip, and its pixels (engineering choice)."""

NEAR_MM = 1.5
"""Needles and seeds so near to the plane are drawn in it (engineering choice)."""


def needle_pictures(plan: Plan, case: Case, structures: Sequence[Structure]) -> tuple[Picture, ...]:
    """A picture for each needle, in the order of insertion: downward is the way in, to the right the head's side.

    Parameters
    ----------
    plan : Plan
        A plan with needles.
    case : Case
        CT.
    structures : sequence of Structure
        Targets and obstacles among them are drawn.
    """
    drawn = [s for s in structures if role_of(s, plan) == "target" or stops_needles(s, plan)]
    regions, model = shown(drawn, plan), plan.dose_model()
    rx, _ = cuts.prescription(plan)

    def made(needle: PlanNeedle) -> Picture:
        cut = along_needle(needle)
        lines = isodose_lines(cut, model, cuts.LEVELS_PCT, rx)
        picture = with_needles(base_picture(cut, case, regions, plan, lines), cut, plan, NEAR_MM)
        corner = corner_of(cut)
        azimuth, tilt = csv_tables.direction_angles(needle.direction)
        seeds = [Mark(*short(place - corner), name=name) for name, place in cuts.seeds_on(cut, plan, NEAR_MM)]
        title = (
            f"{cuts.needle_name(plan, needle)}: azimuth {azimuth}, tilt {tilt}, {needle.depth_mm:.0f} mm deep"
        )
        return replace(picture, title=title, seeds=tuple(seeds))

    return tuple(side_by_side([partial(made, needle) for needle in csv_tables.in_order_of_insertion(plan)]))


def along_needle(needle: PlanNeedle) -> Grid:
    """The plane through a needle that comes nearest to holding the direction of the head."""
    channel = Channel.of(needle)
    way = channel.direction
    up = HEAD if abs(way @ HEAD) < 0.99 else np.array([0.0, -1.0, 0.0])
    right = up - (up @ way) * way
    right /= np.linalg.norm(right)
    height = channel.tip_depth_mm + BEYOND_MM
    return cuts.oblique_cut(channel.at(0.5 * height), right, way, (WIDE_MM, height), PIXEL_MM)
