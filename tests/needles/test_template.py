"""Directions, lattice and place of the template, and axes against skin, target and obstacles: closed forms."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import brentq, minimize

from brachy.errors import BrachyError, UsageError
from brachy.geometry.structures import Structure
from brachy.needles.laying_out import largest_section_centroid, lay_out
from brachy.needles.needle_path import AIR_GAP_MM, contact_depth, segment_distances, skin_entry, target_span
from brachy.needles.template import (
    TemplateLayout,
    column_letters,
    needle_direction,
    parse_hole,
    template_axes,
)
from brachy.patient.plan import PlanTemplate
from tests.needle_cases import SHIFT, box, ellipsoid, shifted

WATER = box("Body", (-150, -100, -100), (150, 100, 100), "external")
SIZE = {"pitch_mm": 10.0, "standoff_mm": 20.0}


@pytest.mark.parametrize(
    ("azimuth", "tilt", "direction"),
    [
        (0, 0, (0, 1, 0)),  # enters anteriorly, going posterior (LPS: +y)
        (90, 0, (-1, 0, 0)),  # enters at the patient's left (+x), going right
        (180, 0, (0, -1, 0)),
        (270, 0, (1, 0, 0)),
        (-90, 0, (1, 0, 0)),
        (0, 90, (0, 0, 1)),  # toward the head
        (0, 30, (0, np.sqrt(0.75), 0.5)),
        (90, -30, (-np.sqrt(0.75), 0, -0.5)),
    ],
)
def test_direction_by_the_convention(azimuth, tilt, direction):
    assert needle_direction(azimuth, tilt) == pytest.approx(direction, abs=1e-12)


def test_straight_approaches_are_exactly_straight():
    for azimuth in range(0, 360, 90):
        assert sorted(np.abs(needle_direction(azimuth)).tolist()) == [0.0, 0.0, 1.0]


def test_a_direction_that_is_none():
    with pytest.raises(UsageError, match="tilt between -90 and 90"):
        needle_direction(0, 120)
    with pytest.raises(UsageError, match="three numbers"):
        template_axes([0, 0, 0])


@given(st.floats(-360, 360), st.floats(-85, 85))
def test_axes_are_those_of_an_operator_who_looks_along_the_needles(azimuth, tilt):
    direction = needle_direction(azimuth, tilt)
    column, row = template_axes(direction)
    frame = np.stack([column, row, direction])
    assert frame @ frame.T == pytest.approx(np.eye(3), abs=1e-12)
    assert column[2] == pytest.approx(0, abs=1e-12)  # in the axial plane, whatever the tilt
    assert row[2] == pytest.approx(np.cos(np.deg2rad(tilt)), abs=1e-12)  # as near the head as it can be
    assert column == pytest.approx(np.cross(direction, row), abs=1e-12)


def test_anterior_approach_has_columns_from_right_to_left_and_rows_to_the_head():
    column, row = template_axes(needle_direction(0))
    assert (column.tolist(), row.tolist()) == ([1, 0, 0], [0, 0, 1])


@given(st.integers(0, 20_000), st.integers(1, 9999))
def test_labels_read_back(column, row):
    label = f"{column_letters(column)}{row}"
    if len(label.rstrip("0123456789")) <= 3:
        assert parse_hole(label) == (column, row)


@pytest.mark.parametrize("label", ["", "4C", "C0", "C", "C-1", "C4.2", "12"])
def test_a_label_that_is_none(label):
    with pytest.raises(UsageError, match="such as C4"):
        parse_hole(label)


def egg():
    """A cone cut at z: the largest section is not at the centre of mass."""
    contours = []
    for z in np.arange(0.0, 40.0, 2.5):
        half = 25.0 - 0.5 * abs(z - 10.0)
        x = 3.0 + half * np.array([-1, 1, 1, -1])
        contours.append(np.column_stack([x, -5.0 + half * np.array([-1, -1, 1, 1]), np.full(4, z)]))
    return Structure("GTV", tuple(contours), slice_spacing_mm=2.5)


@pytest.mark.parametrize(("azimuth", "tilt"), [(0, 0), (37, 0), (90, 20), (200, -35)])
def test_layer_0_and_one_axis_pass_through_the_centroid_of_the_largest_section(azimuth, tilt):
    layout = lay_out(egg(), WATER, needle_direction(azimuth, tilt), **SIZE)
    centroid = np.array([3.0, -5.0, 10.0])
    offsets = []
    for column in range(layout.columns):
        way = centroid - layout.hole_mm(column, layout.central_row)
        assert abs(way @ layout.row) < 0.005
        offsets.append(np.linalg.norm(way - (way @ layout.direction) * layout.direction))
    assert min(offsets) < 0.005
    assert layout.layer(layout.central_row) == 0
    assert layout.layer(layout.central_row + 1) == 1


def test_of_equal_sections_the_one_nearest_the_middle_counts():
    cylinder = box("GTV", (-20, -20, -17.5), (20, 20, 20))
    assert largest_section_centroid(cylinder) == pytest.approx((0, 0, 1.25), abs=2e-6)


def test_a_target_drawn_on_sagittal_planes_is_cut_axially():
    axial = egg()
    squares = []
    for x in np.arange(-21.0, 28.0, 2.0):
        height = 2 * (25.0 - abs(x - 3.0))  # the cut at x is where 25 - |z - 10| / 2 > |x - 3|
        if height > 1:
            low, high = max(0.0, 10 - height), min(37.5, 10 + height)
            depth = [25 - 0.5 * abs(z - 10.0) for z in (low, 10.0, high)]
            y = [-5 - depth[0], -5 - depth[1], -5 - depth[2], -5 + depth[2], -5 + depth[1], -5 + depth[0]]
            squares.append(np.column_stack([np.full(6, x), y, [low, 10.0, high, high, 10.0, low]]))
    sagittal = Structure("GTV", tuple(squares), slice_spacing_mm=2.0)
    assert abs(sagittal.normal[0]) == 1.0
    assert largest_section_centroid(sagittal) == pytest.approx(largest_section_centroid(axial), abs=1.0)


@pytest.mark.parametrize("offset", [(0.0, 0.0), (2.5, 0.0), (-4.0, 3.0)])
@pytest.mark.parametrize(("azimuth", "tilt"), [(0, 0), (50, 15)])
def test_holes_cover_the_projection_and_no_more(azimuth, tilt, offset):
    target = ellipsoid("GTV", (3, -5, 10), (30, 20, 16))
    layout = lay_out(target, WATER, needle_direction(azimuth, tilt), offset_mm=offset, **SIZE)
    crossing = {
        (column, row)
        for column in range(-3, layout.columns + 3)
        for row in range(-2, layout.rows + 4)
        if target_span(target, layout.hole_mm(column, row), layout.direction) is not None
    }
    columns, rows = zip(*crossing, strict=True)
    assert (min(columns), max(columns)) == (0, layout.columns - 1)
    assert (min(rows), max(rows)) == (1, layout.rows)


def test_offset_moves_the_lattice():
    direction = needle_direction(20)
    plain = lay_out(egg(), WATER, direction, **SIZE)
    moved = lay_out(egg(), WATER, direction, offset_mm=(2.5, 1.0), **SIZE)
    way = (moved.origin_mm - plain.origin_mm) @ np.column_stack([plain.column, plain.row]) - [2.5, 1.0]
    assert way / 10.0 == pytest.approx(np.round(way / 10.0), abs=1e-7)


def test_plate_before_a_flat_skin_stands_off_exactly():
    layout = lay_out(egg(), WATER, needle_direction(0), **SIZE)
    assert layout.origin_mm[1] == pytest.approx(-120, abs=1e-5)


def test_plate_before_a_round_skin_is_as_near_as_the_used_holes_allow():
    body = ellipsoid("Body", (0, 0, 0), (150, 100, 1500), slices=10.0, points=720)
    target = ellipsoid("GTV", (60, -30, 0), (30, 20, 16))
    layout = lay_out(target, body, needle_direction(0), **SIZE)
    heights = []
    for column in range(layout.columns):
        for row in range(1, layout.rows + 1):
            hole = layout.hole_mm(column, row)
            if target_span(target, hole, layout.direction):
                for dx in (-5, 0, 5):  # half a pitch around counts too
                    heights.append(-100 * np.sqrt(1 - ((hole[0] + dx) / 150) ** 2))
    assert layout.origin_mm[1] == pytest.approx(min(heights) - 20, abs=0.05)


def test_an_arm_does_not_push_the_plate_away():
    arm = [[200, -20, 0], [240, -20, 0], [240, 20, 0], [200, 20, 0]]
    slabs = [np.add(arm, (0, 0, z)) for z in np.arange(-98.75, 100, 2.5)]
    body = Structure("Body", (*WATER.contours_mm, *slabs), slice_spacing_mm=2.5)
    layout = lay_out(egg(), body, needle_direction(90), **SIZE)
    assert layout.origin_mm[0] == pytest.approx(170, abs=1e-5)


def test_what_cannot_be_laid_out_says_why():
    direction = needle_direction(0)
    with pytest.raises(BrachyError, match="no contours"):
        lay_out(Structure("GTV", ()), WATER, direction, **SIZE)
    with pytest.raises(BrachyError, match="smaller pitch"):
        lay_out(box("GTV", (0, 0, 0), (4, 4, 5)), WATER, direction, offset_mm=(5.0, 5.0), **SIZE)
    with pytest.raises(BrachyError, match="does not lie inside 'Body'"):
        lay_out(box("GTV", (0, 120, 0), (40, 140, 40)), WATER, direction, **SIZE)


@pytest.mark.parametrize(("azimuth", "tilt"), [(0, 0), (90, 0), (130, 25)])
def test_a_patient_who_lies_elsewhere_gets_the_same_template(azimuth, tilt):
    direction = needle_direction(azimuth, tilt)
    # pixel-edge contours whose slabs and faces coincide with the lattice of holes
    target = box("GTV", (-30, -20, -20), (30, 20, 20))
    here = lay_out(target, WATER, direction, **SIZE)
    there = lay_out(shifted(target), shifted(WATER), direction, **SIZE)
    assert (here.columns, here.rows, here.central_row) == (there.columns, there.rows, there.central_row)
    assert there.origin_mm - SHIFT == pytest.approx(here.origin_mm, abs=2e-6)


def test_insertion_goes_from_the_centre_outwards():
    layout = lay_out(egg(), WATER, needle_direction(0), **SIZE)
    layers = [layout.layer(row) for row in layout.insertion_order()]
    assert layers[:3] == [0, 1, -1]
    assert [abs(layer) for layer in layers] == sorted(abs(layer) for layer in layers)


@pytest.mark.parametrize("cone", [0.0, 30.0])
def test_a_layout_is_the_same_after_plan_json(cone):
    layout = replace(lay_out(egg(), WATER, needle_direction(25, 10), **SIZE), cone_deg=cone)
    written = layout.to_plan().model_dump(mode="json")
    assert ("cone_deg" in written) == (cone > 0)
    again = TemplateLayout.of(PlanTemplate.model_validate(written))
    assert again.cone_deg == cone
    assert again.holes == layout.holes
    for hole in layout.holes:
        place = layout.hole_mm(*hole)
        assert again.hole_mm(*hole) == pytest.approx(place, abs=2e-3)  # 6 significant digits
        assert layout.to_plate([place])[0] == pytest.approx([*layout.on_plate(*hole), 0.0], abs=1e-9)
    assert [axis.hole for axis in layout.axes()] == [layout.hole_label(*hole) for hole in layout.holes]
    assert not layout.has_hole(layout.columns, 1)
    assert not layout.has_hole(0, 0)


# ---- axes against structures -------------------------------------------------------------------------------------


def first_contact(structure, point, direction, length, reach):
    one = contact_depth(
        np.array([point], float), np.array(direction, float), np.array([float(length)]), structure, reach
    )
    return float(one[0])


def test_head_on_contact_is_at_the_face_less_the_reach():
    wall = box("wall", (-20, 50, -20), (20, 60, 20))
    assert first_contact(wall, (3, 0, 1), (0, 1, 0), 200, 2.65) == pytest.approx(47.35, abs=2e-3)
    assert first_contact(wall, (3, 0, 1), (0, 1, 0), 47.3, 2.65) == np.inf
    assert first_contact(wall, (3, 55, 1), (0, 1, 0), 10, 2.65) == 0.0


@pytest.mark.parametrize(("gap", "meets"), [(2.640, True), (2.6499, True), (2.6515, False), (2.66, False)])
def test_a_grazing_needle_is_decided_to_a_thousandth(gap, meets):
    wall = box("wall", (-20, 50, -20), (20, 150, 20))
    contact = first_contact(wall, (20 + gap, 0, 1), (0, 1, 0), 300, 2.65)
    # the needle first comes within reach of the wall's near edge: a right triangle
    wanted = 50 - np.sqrt(max(2.65**2 - gap**2, 0.0)) if meets else np.inf
    assert contact == pytest.approx(wanted, abs=0.1)
    assert contact <= max(wanted, 0.0)


def test_contact_with_the_corner_of_a_box_in_closed_form():
    wall = box("wall", (0, 0, 0), (20, 20, 20))
    direction = np.array([1.0, 1.0, 1.0]) / np.sqrt(3)
    start = np.array([-30.0, -31.0, -29.0])
    root = brentq(lambda t: np.linalg.norm(start + t * direction) - 2.65, 0, 51)
    assert first_contact(wall, start, direction, 100, 2.65) == pytest.approx(root, abs=3e-3)


def test_contacts_of_random_axes_against_dense_sampling():
    random = np.random.default_rng(5)
    rib = ellipsoid("rib", (5, 3, -2), (18, 9, 6), slices=2.0, points=40)
    for _ in range(6):
        direction = random.normal(size=3)
        direction /= np.linalg.norm(direction)
        points = random.uniform(-12, 12, (15, 3)) - 60 * direction
        found = contact_depth(points, direction, np.full(15, 120.0), rib, 2.65)
        depths = np.arange(20, 100, 0.01)
        for point, contact in zip(points, found, strict=True):
            gaps = rib.distance_mm(point + depths[:, None] * direction, 10.0)
            near = depths[gaps < 2.65]
            clear = depths[gaps < 2.652]
            if len(near):
                assert contact <= near[0] + 1e-9
            if np.isfinite(contact):
                assert len(clear)
                assert contact >= clear[0] - 0.02
            else:
                assert not len(near)


def test_skin_entry_is_the_last_one_before_the_target():
    arm = box("Body", (200, -20, -100), (240, 20, 100))
    body = Structure("Body", (*WATER.contours_mm, *arm.contours_mm), slice_spacing_mm=2.5)
    entry = skin_entry(body, np.array([300.0, 0, 0]), np.array([-1.0, 0, 0]), 290.0)
    assert (entry.depth_mm, entry.crossed_mm) == pytest.approx((150, 60))
    clear = skin_entry(body, np.array([300.0, 30, 0]), np.array([-1.0, 0, 0]), 290.0)
    assert clear.depth_mm == pytest.approx(150)
    assert clear.crossed_mm is None
    assert skin_entry(body, np.array([300.0, 150, 0]), np.array([-1.0, 0, 0]), 290.0) is None


@pytest.mark.parametrize(("gap", "crossed"), [(AIR_GAP_MM - 0.1, None), (AIR_GAP_MM + 0.1, 10.0)])
def test_a_crease_of_the_skin_is_not_a_way_out(gap, crossed):
    outer = box("Body", (-20, 0, -10), (20, 5, 10))
    inner = box("Body", (-20, 5 + gap, -10), (20, 60, 10))
    body = Structure("Body", (*outer.contours_mm, *inner.contours_mm), slice_spacing_mm=2.5)
    entry = skin_entry(body, np.array([0.0, -10, 0]), np.array([0.0, 1, 0]), 40.0)
    assert entry.crossed_mm == (None if crossed is None else pytest.approx(crossed))
    assert entry.depth_mm == pytest.approx(10 if crossed is None else 15 + gap)


def test_span_reaches_over_gaps_and_knows_an_axis_that_passes_near():
    one, two = box("GTV", (-10, 0, -10), (10, 12, 10)), box("GTV", (-10, 30, -10), (10, 50, 10))
    both = Structure("GTV", (*one.contours_mm, *two.contours_mm), slice_spacing_mm=2.5)
    along = np.array([0.0, 1, 0])
    assert target_span(both, np.array([0.0, -10, 0]), along) == pytest.approx((10, 60))
    assert target_span(both, np.array([12.0, -10, 0]), along) is None
    # within 3 mm of a corner: a circle about it, sqrt(9 - 4) beyond both ends
    near = target_span(both, np.array([12.0, -10, 0]), along, overshoot_mm=3.0)
    assert near == pytest.approx((10 - np.sqrt(5), 60 + np.sqrt(5)), abs=1e-2)
    assert near[0] >= 10 - np.sqrt(5)  # never beyond
    assert near[1] <= 60 + np.sqrt(5)


def test_distance_of_segments_against_a_minimiser():
    random = np.random.default_rng(2)
    starts, vectors = random.uniform(-20, 20, (6, 3)), random.uniform(-20, 20, (6, 3))
    vectors[1] = vectors[0]  # parallel ones too
    gaps = segment_distances(starts, vectors, starts[::-1], vectors[::-1])
    for i in range(6):
        for j in range(6):
            p, v, q, w = starts[i], vectors[i], starts[5 - j], vectors[5 - j]
            least = min(
                np.sqrt(
                    minimize(
                        lambda x, p=p, v=v, q=q, w=w: np.sum((p + x[0] * v - q - x[1] * w) ** 2),
                        guess,
                        bounds=[(0, 1), (0, 1)],
                    ).fun
                )
                for guess in ((0.1, 0.1), (0.9, 0.9), (0.5, 0.5))
            )
            assert gaps[i, j] == pytest.approx(least, abs=1e-3)


@settings(max_examples=25, deadline=None)
@given(st.floats(0, 360), st.floats(-40, 40), st.floats(2.5, 15))
def test_plate_is_outside_the_skin_for_any_direction(azimuth, tilt, pitch):
    body = ellipsoid("Body", (0, 0, 0), (150, 100, 120), slices=5.0)
    target = ellipsoid("GTV", (40, -20, 10), (20, 14, 12))
    layout = lay_out(target, body, needle_direction(azimuth, tilt), pitch_mm=pitch, standoff_mm=15.0)
    for column in range(layout.columns):
        for row in range(1, layout.rows + 1):
            hole = layout.hole_mm(column, row)
            span = target_span(target, hole, layout.direction)
            if span is not None:
                assert skin_entry(body, hole, layout.direction, span[0]).depth_mm >= 15.0 - 1e-5
