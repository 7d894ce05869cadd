"""Lines of an individual guide, and which of them exclude each other, by points along them."""

from dataclasses import replace

import numpy as np
import pytest

from brachy.needles.channel import Needle
from brachy.needles.guide import cone_directions, individual_conflicts, lattice_lines, through
from brachy.needles.laying_out import lay_out
from brachy.needles.template import needle_direction
from brachy.patient.protocol import change
from tests.needle_cases import box
from tests.quick_protocol import AXIAL

WATER = box("Body", (-150, -100, -100), (150, 100, 100), "external")
CUBE = box("GTV", (-22, -22, -20), (22, 22, 20), "target")
FLAT = lay_out(CUBE, WATER, needle_direction(0), pitch_mm=10.0, standoff_mm=20.0)
LAYOUT = replace(FLAT, cone_deg=30.0, individual=True, columns=0, rows=0, central_row=0)
RULE = change(AXIAL, template={"arrangement": "individual"})


def needle(x, z, way, tip=120.0, seeds=3):
    """A needle from a place on the plate, with seeds 5 mm apart."""
    way = np.array(way, dtype=float) / np.linalg.norm(way)
    hole = LAYOUT.on_plate_mm(x, z)
    return Needle("L1", hole, way, 25.0, tip, tip - 2.25 - 5.0 * np.arange(seeds), (90.0, 125.0))


def pairs(*needles, rule=RULE):
    return [tuple(pair) for pair in individual_conflicts(needles, LAYOUT, rule).tolist()]


@pytest.mark.parametrize("cone", [0.0, 10.0, 20.0, 30.0])
def test_directions_lie_in_the_cone_about_a_step_apart(cone):
    axis = needle_direction(250, 20)
    ways = cone_directions(axis, cone)
    assert ways[0] == pytest.approx(axis)
    assert np.linalg.norm(ways, axis=1) == pytest.approx(np.ones(len(ways)))
    assert np.degrees(np.arccos(np.clip(ways @ axis, -1, 1))).max() == pytest.approx(cone, abs=1e-6)
    if len(ways) > 1:
        apart = np.degrees(np.arccos(np.clip(ways @ ways.T, -1, 1))) + 360 * np.eye(len(ways))
        assert apart.min(axis=1).min() > 8.5
        assert apart.min(axis=1).max() < 11.5


def test_lines_pass_through_their_points_from_the_plate():
    points, ways = lattice_lines(CUBE, LAYOUT, 30.0, 10.0)
    for axis, point, way in zip(through(LAYOUT, points, ways), points, ways, strict=True):
        assert (axis.hole_mm - LAYOUT.origin_mm) @ LAYOUT.direction == pytest.approx(0, abs=2e-6)
        off = np.cross(point - axis.hole_mm, way)
        assert np.linalg.norm(off) < 1e-5
        assert np.linalg.norm(point - np.array([0.0, 0, 0])) < np.linalg.norm([22, 22, 20]) + 1e-6


def test_parallel_needles_exclude_each_other_where_their_sleeves_are_too_near():
    ahead = (0, 1, 0)
    assert pairs(needle(0, 0, ahead), needle(10, 0, ahead)) == []
    near = change(RULE, access={"hub_diameter_mm": 1.5})
    assert pairs(needle(0, 0, ahead), needle(7.1, 0, ahead), rule=near) == []
    assert pairs(needle(0, 0, ahead), needle(6.9, 0, ahead), rule=near) == [(0, 1)]


def test_hubs_of_parallel_needles_need_their_diameter():
    ahead = (0, 1, 0)
    assert pairs(needle(0, 0, ahead), needle(8.1, 0, ahead)) == []
    assert pairs(needle(0, 0, ahead), needle(7.9, 0, ahead)) == [(0, 1)]


def test_needles_that_cross_in_the_patient_are_found():
    # they come from 60 mm apart and would meet 100 mm deep, or pass each other 3.31 or 3.29 mm apart
    left, right = (0.3, 1, 0), (-0.3, 1, 0)
    for gap, meet in ((3.32, []), (3.28, [(0, 1)])):
        assert pairs(needle(-30, 0, left, 115.0), needle(30, gap, right, 115.0)) == meet
    # one that ends before they meet is clear of the other
    assert pairs(needle(-30, 0, left, 80.0), needle(30, 0, right, 115.0)) == []


def test_needles_that_meet_behind_the_plate_are_found():
    # tips apart, hubs together: they lean away from each other
    assert pairs(needle(-5, 0, (-0.06, 1, 0)), needle(5, 0, (0.06, 1, 0))) == [(0, 1)]
    assert pairs(needle(-5, 0, (0.06, 1, 0)), needle(5, 0, (-0.06, 1, 0), 40.0)) == []


def test_sleeves_are_judged_on_both_faces_of_the_plate():
    few = change(RULE, access={"hub_diameter_mm": 1.5})
    # 8 mm apart outside, and nearer by 2 x 5 mm x 0.15 on the inner face
    one, other = needle(-4, 0, (0.15, 1, 0), 40.0), needle(4, 0, (-0.15, 1, 0), 18.0)
    assert pairs(one, other, rule=few) == [(0, 1)]
    assert pairs(one, needle(5.8, 0, (-0.15, 1, 0), 18.0), rule=few) == []


def test_none_and_one_exclude_nothing():
    assert individual_conflicts([], LAYOUT, RULE).shape == (0, 2)
    assert individual_conflicts([needle(0, 0, (0, 1, 0))], LAYOUT, RULE).shape == (0, 2)
