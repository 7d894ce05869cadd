"""What is offered: closed forms of distal edge, shortened needles, skin, length, clearance, lateral margin."""

import numpy as np
import pytest

from brachy.geometry.structures import Structure
from brachy.needles.candidates import needle_candidates
from brachy.needles.conflicts import conflicts_between
from brachy.needles.laying_out import lay_out
from brachy.needles.needle_path import contact_depth
from brachy.needles.template import needle_direction, parse_hole
from tests.needle_cases import SHIFT, box, ellipsoid, protocol, shifted

WATER = box("Body", (-150, -100, -100), (150, 100, 100), "external")
CUBE = box("GTV", (-22, -22, -20), (22, 22, 20))
RULES = protocol(needle={"max_needle_mm": 300.0})
CAPSULE = 4.5


def offered(target=CUBE, obstacles=(), azimuth=0.0, tilt=0.0, rules=RULES, external=WATER, offset=(0.0, 0.0)):
    layout = lay_out(
        target,
        external,
        needle_direction(azimuth, tilt),
        pitch_mm=rules.template.pitch_mm,
        standoff_mm=rules.template.standoff_mm,
        offset_mm=offset,
        overshoot_mm=rules.template.lateral_overshoot_mm,
    )
    return needle_candidates(target, external, obstacles, layout, rules, CAPSULE)


def test_cube_in_open_water():
    found = offered()
    assert not found.blocked
    assert not found.notes
    assert len(found.needles) == 5 * 4  # columns at 0, +-10, +-20; layers at -1.25, +-10 of it, within +-20
    assert not len(found.seed_conflicts)
    assert not len(found.needle_conflicts)
    for index, needle in enumerate(found.needles):
        assert needle.shortened_by == ""
        assert needle.entry_mm[1] == pytest.approx(-100, abs=1e-5)
        centres = found.positions_mm[found.needle_of == index]
        # 5 mm (and the thousandth kept for rounding) before the face at +22, then every 5 mm to the face at -22
        assert centres[:, 1] == pytest.approx(17 - 0.001 - 5 * np.arange(8), abs=1e-5)
        assert needle.tip_depth_mm == pytest.approx(120 + 17 + 2.25 - 0.001, abs=1e-5)
        assert found.tip_mm(index, needle.depths_mm[0])[1] == pytest.approx(19.25 - 0.001, abs=1e-5)


def test_labels_and_places_agree():
    found = offered(azimuth=70)
    for needle in found.needles:
        assert needle.hole == found.layout.hole_label(*parse_hole(needle.hole))
        assert needle.hole_mm == pytest.approx(found.layout.hole_mm(*parse_hole(needle.hole)))


@pytest.mark.parametrize("gap", [0.4, 2.6, 2.64, 2.655, 2.7, 6.0, 7.2])
def test_a_rib_blocks_the_holes_within_radius_and_clearance(gap):
    # a bar 3 mm wide along z in front of the target; the columns pass at 0.003819 + 10 k
    edge = 0.003819 - gap
    rib = box("Ribs", (edge - 3, -70, -60), (edge, -60, 60), "bone")
    found = offered(obstacles=[rib])
    columns = {round(needle.hole_mm[0], 6) for needle in offered().needles}
    distance = {x: max(x - edge, edge - 3 - x, 0.0) for x in columns}
    blocked = {round(found.layout.hole_mm(*parse_hole(entry.hole))[0], 6) for entry in found.blocked}
    assert blocked == {x for x in columns if distance[x] < 2.65}
    assert all(entry.cause == "Ribs" for entry in found.blocked)
    for entry in found.blocked:
        x = round(found.layout.hole_mm(*parse_hole(entry.hole))[0], 6)
        surface = distance[x] - 0.65
        wanted = f"passes {surface:.1f} mm from 'Ribs', " if surface > 0 else "meets 'Ribs', "
        assert entry.reason.startswith(wanted)
        assert entry.reason.endswith("mm from the hole")


def test_a_needle_is_offered_shortened_to_what_lies_before_the_obstacle():
    vessel = box("Vena", (-60, 8, -60), (60, 12, 60), "vessel")
    found = offered(obstacles=[vessel])
    assert not found.blocked
    for index, needle in enumerate(found.needles):
        assert needle.shortened_by == "Vena"
        deepest = found.positions_mm[found.needle_of == index][0, 1]
        # tip surface 2 mm before the wall at 8: 8 - 2 - 0.65 - half a capsule
        assert deepest == pytest.approx(8 - 2.65 - 2.25, abs=3e-3)
        assert deepest <= 8 - 2.65 - 2.25
        # re-anchored: one more centre fits than from the distal edge's own steps
        assert len(needle.depths_mm) == int((deepest + 22) // 5) + 1
    assert found.notes == ("20 needles shortened: Vena 20", *found.notes[1:])


def test_an_obstacle_before_the_target_blocks_and_the_nearest_names_the_shortening():
    front = box("Colon", (-60, -60, -60), (60, -50, 60), "bowel")
    found = offered(obstacles=[front])
    assert not found.needles
    assert found.positions_mm.shape == (0, 3)
    assert found.edge_covered_by.shape == (len(found.edge_points_mm), 0)
    assert found.notes[0] == "20 of 20 holes that cross the target blocked: Colon 20"
    deep, shallow = box("A", (-60, 15, -60), (60, 18, 60)), box("B", (-60, 5, -60), (60, 7, 60))
    for order in ([deep, shallow], [shallow, deep]):
        assert {needle.shortened_by for needle in offered(obstacles=order).needles} == {"B"}


def test_a_needle_too_long_is_shortened_or_blocked():
    found = offered(rules=protocol(needle={"max_needle_mm": 130.0}))
    for needle in found.needles:
        assert needle.shortened_by == "needle length"
        assert needle.tip_depth_mm == pytest.approx(130, abs=2e-3)
        assert needle.tip_depth_mm <= 130
    none = offered(rules=protocol(needle={"max_needle_mm": 99.0}))
    assert not none.needles
    assert {entry.cause for entry in none.blocked} == {"needle length"}
    assert "needs 100 mm" in none.blocked[0].reason


def test_tip_to_seed_reaches_further():
    wall = box("Vena", (-60, 8, -60), (60, 12, 60), "vessel")
    rules = protocol(needle={"max_needle_mm": 300.0, "tip_to_seed_mm": 3.0})
    found = offered(obstacles=[wall], rules=rules)
    assert found.tip_offset_mm == pytest.approx(5.25)
    assert found.positions_mm[:, 1].max() == pytest.approx(8 - 2.65 - 5.25, abs=3e-3)


def test_centres_near_the_skin_are_left_out_on_either_side():
    superficial = box("GTV", (-20, -98, -20), (20, -60, 20))
    found = offered(target=superficial)
    assert found.positions_mm[:, 1].min() > -90
    assert found.positions_mm[:, 1].min() < -90 + 5
    deep = box("GTV", (-20, 60, -20), (20, 97, 20))  # its distal edge lies 3 mm under the skin of the back
    found = offered(target=deep)
    assert {needle.shortened_by for needle in found.needles} == {"skin"}
    assert found.positions_mm[:, 1].max() == pytest.approx(90 - 0.001, abs=3e-3)
    assert found.positions_mm[:, 1].max() < 90
    in_the_skin = box("GTV", (-20, -99, -20), (20, -91, 20))
    found = offered(target=in_the_skin)
    assert {entry.cause for entry in found.blocked} == {"skin"}


def test_skin_margin_is_three_dimensional():
    lateral = box("GTV", (110, -20, -20), (147, 20, 20))  # its side lies 3 mm from the skin at the left
    found = offered(target=lateral, offset=(5.0, 0.0))  # an axis at x = 143.5
    assert found.positions_mm[:, 0].max() < 140
    assert {entry.cause for entry in found.blocked} == {"skin"}
    gaps = -WATER.signed_distance_mm(found.positions_mm)
    assert gaps.min() > 10


def test_a_sliver_has_no_room_before_its_distal_edge():
    found = offered(target=box("GTV", (-20, 0, -20), (20, 4.8, 20)))
    assert not found.needles
    assert {entry.cause for entry in found.blocked} == {"distal edge"}
    assert "4.8 mm" in found.blocked[0].reason


def test_last_exit_counts_when_the_target_is_in_two_parts():
    one, two = box("GTV", (-20, -20, -20), (20, -2, 20)), box("GTV", (-20, 4, -20), (20, 20, 20))
    both = Structure("GTV", (*one.contours_mm, *two.contours_mm), slice_spacing_mm=2.5)
    found = offered(target=both)
    assert found.positions_mm[found.needle_of == 0][:, 1] == pytest.approx(
        15 - 0.001 - 5 * np.arange(7), abs=1e-5
    )


def test_an_arm_in_the_way_blocks_the_holes_behind_it():
    arm = box("Body", (200, -100, -2.5), (240, 20, 100))
    body = Structure("Body", (*WATER.contours_mm, *arm.contours_mm), "external", slice_spacing_mm=2.5)
    found = offered(azimuth=90, external=body)
    assert found.needles
    assert {entry.cause for entry in found.blocked} == {"air"}
    assert "90 mm before it enters the skin" in found.blocked[0].reason
    for entry in found.blocked:
        assert found.layout.hole_mm(*parse_hole(entry.hole))[2] > -2.5
    for needle in found.needles:
        assert needle.hole_mm[2] < -2.5 or needle.hole_mm[1] > 20


def test_overshoot_offers_holes_that_only_pass_near():
    narrow = box("GTV", (-13, -22, -12.5), (13, 22, 12.5))
    rules = protocol(needle={"max_needle_mm": 300.0}, template={"lateral_overshoot_mm": 8.0})
    plain, wide = offered(target=narrow), offered(target=narrow, rules=rules)
    assert {round(needle.hole_mm[0]) for needle in plain.needles} == {-10, 0, 10}
    assert {round(needle.hole_mm[0]) for needle in wide.needles} == {-20, -10, 0, 10, 20}
    side = next(needle for needle in wide.needles if round(needle.hole_mm[0]) == 20)
    near = np.sqrt(8.0**2 - 7.003819**2)  # a circle of 8 mm about the target's edge at x = 13
    assert side.target_mm == pytest.approx((120 - 22 - near, 120 + 22 + near), abs=2e-2)
    assert side.target_mm[1] <= 120 + 22 + near


def test_every_path_offered_is_clear_and_every_blocked_one_is_not():
    random = np.random.default_rng(11)
    ribs = [
        ellipsoid(
            f"rib {k}", random.uniform((-40, -80, -30), (40, 10, 30)), random.uniform(4, 14, 3), slices=1.0
        )
        for k in range(6)
    ]
    found = offered(obstacles=ribs, azimuth=25, tilt=10)
    assert found.needles
    assert found.blocked

    def least(hole, direction, depth):
        along = hole + np.append(np.arange(0, depth, 0.1), depth)[:, None] * direction
        return min(rib.distance_mm(along).min() for rib in ribs)

    for needle in found.needles:
        assert least(needle.hole_mm, needle.direction, needle.tip_depth_mm) >= 2.65
    for entry in found.blocked:
        hole = found.layout.hole_mm(*parse_hole(entry.hole))
        enters = found.needles[0].target_mm[0]
        inside = CUBE.line_intervals(hole, found.layout.direction)
        enters = inside[0, 0]
        assert least(hole, found.layout.direction, enters + 2.25) < 2.66 or entry.cause == "distal edge"
    for needle in found.needles:
        if needle.shortened_by in {rib.name for rib in ribs}:  # a hair deeper would be too near
            deeper = needle.tip_depth_mm + 0.05
            assert least(needle.hole_mm, needle.direction, deeper) < 2.66


# ---- lateral margin ----------------------------------------------------------------------------------------------


def test_edge_points_are_those_of_the_sections_of_the_box():
    found = offered()
    assert sorted(set(found.edge_layer.tolist())) == [-1, 0, 1, 2]
    for layer in (-1, 0, 1, 2):
        points = found.edge_points_mm[found.edge_layer == layer]
        assert points[:, 2] == pytest.approx(-1.25 + 0.002361 + 10 * layer, abs=1e-5)
        assert np.abs(points[:, :2]).max(axis=1) == pytest.approx(22, abs=1e-5)
        assert len(points) == pytest.approx(4 * 44, abs=2)


@pytest.mark.parametrize("obstacle", [None, box("Vena", (-60, 8, -60), (5, 12, 60), "vessel")])
def test_coverage_of_edge_points_against_distances_to_segments(obstacle):
    rules = protocol(needle={"max_needle_mm": 300.0}, template={"lateral_margin_mm": 7.0})
    found = offered(obstacles=[obstacle] if obstacle else [], rules=rules)
    for index, needle in enumerate(found.needles):
        end = needle.tip_depth_mm if needle.shortened_by else np.inf
        way = found.edge_points_mm - needle.hole_mm
        along = np.clip(way @ needle.direction, 0, end)
        gaps = np.linalg.norm(way - along[:, None] * needle.direction, axis=1)
        assert np.array_equal(found.edge_covered_by[:, index], gaps <= 7.0)
        if needle.shortened_by:  # the tip depth that is asked for is the one at which the distance is 7 mm
            needs = found.edge_needs_tip_mm[:, index]
            k = np.flatnonzero(np.isfinite(needs) & (way @ needle.direction > needs))
            gap = np.linalg.norm(way[k] - needs[k, None] * needle.direction, axis=1)
            assert gap == pytest.approx(7.0, abs=1e-4)
    if obstacle:
        assert not found.edge_covered_by.any(axis=1).all()
        causes = {cause for cause in found.edge_cause if cause}
        assert causes
        assert all("shortened by Vena" in cause for cause in causes)
        assert any("edge points have no needle within 7 mm" in note for note in found.notes)
    else:
        assert set(found.edge_cause) == {""}


def test_the_whole_axis_of_a_free_needle_counts():
    # the far face rises to one side: edge points beyond the exit of the axis beside them lie near its line
    x, y = np.array([-22, 22, 22, -22]), np.array([-22, -22, 26, -6])
    wedge = Structure(
        "GTV", tuple(np.column_stack([x, y, np.full(4, z)]) for z in np.arange(-18.75, 20, 2.5))
    )
    rules = protocol(needle={"max_needle_mm": 300.0}, template={"lateral_margin_mm": 6.0})
    found = offered(target=wedge, rules=rules)
    beyond = 0
    for index, needle in enumerate(found.needles):
        way = found.edge_points_mm - needle.hole_mm
        along = way @ needle.direction
        across = np.linalg.norm(way - along[:, None] * needle.direction, axis=1)
        assert np.array_equal(found.edge_covered_by[:, index], np.round(across, 6) <= 6.0)
        beyond += int((found.edge_covered_by[:, index] & (along > needle.tip_depth_mm + 6.0)).sum())
    assert beyond


def test_an_edge_that_no_hole_comes_near_has_its_cause():
    rules = protocol(needle={"max_needle_mm": 300.0}, template={"lateral_margin_mm": 4.0, "pitch_mm": 20.0})
    found = offered(rules=rules)
    lonely = [cause for cause in found.edge_cause if cause]
    assert lonely
    assert set(lonely) == {"no hole's axis crosses the target within 4 mm of it"}


def test_blocked_hole_is_the_cause_of_an_uncovered_edge():
    bar = box("Ribs", (15, -70, -60), (60, -60, 60), "bone")  # shuts the columns at +20
    rules = protocol(needle={"max_needle_mm": 300.0}, template={"lateral_margin_mm": 8.0})
    found = offered(obstacles=[bar], rules=rules)
    uncovered = found.edge_points_mm[~found.edge_covered_by.any(axis=1)]
    assert (uncovered[:, 0] > 10).all()
    causes = {cause for cause in found.edge_cause if cause}
    assert all("blocked: meets 'Ribs'" in cause for cause in causes)


def test_edges_can_be_left_out():
    layout = lay_out(CUBE, WATER, needle_direction(0), pitch_mm=10.0, standoff_mm=20.0)
    found = needle_candidates(CUBE, WATER, [], layout, RULES, CAPSULE, edges=False)
    assert found.edge_points_mm.shape == (0, 3)
    assert len(found.positions_mm) == len(offered().positions_mm)


# ---- conflicts ---------------------------------------------------------------------------------------------------


def test_dense_lattices_list_their_conflicts():
    rules = protocol(
        needle={"max_needle_mm": 300.0, "min_needle_spacing_mm": 5.5 - 1.3},
        template={"pitch_mm": 4.0},
        seeds={"step_mm": 3.0},
    )
    found = offered(target=box("GTV", (-9, -9, -10), (9, 9, 10)), rules=rules)
    gaps = np.linalg.norm(found.positions_mm[:, None] - found.positions_mm[None], axis=2)
    wanted = np.argwhere(np.triu(gaps < 5 - 1e-6, 1))
    assert np.array_equal(found.seed_conflicts, wanted)
    holes = np.array([needle.hole_mm for needle in found.needles])
    gaps = np.linalg.norm(holes[:, None] - holes[None], axis=2)
    assert np.array_equal(found.needle_conflicts, np.argwhere(np.triu(gaps < 5.5 - 1e-6, 1)))


def test_two_templates_keep_their_seeds_and_needles_apart():
    second = box("PTV2", (-22, -22, -20), (22, 22, 20))
    one, other = offered(azimuth=0), offered(target=second, azimuth=70)
    seeds, needles = conflicts_between(one.needles, other.needles, RULES)
    gaps = np.linalg.norm(one.positions_mm[:, None] - other.positions_mm[None], axis=2)
    assert np.array_equal(seeds, np.argwhere(gaps < 5.001))
    assert len(needles)
    listed = {tuple(pair) for pair in needles.tolist()}
    for i, a in enumerate(one.needles):
        path = a.hole_mm + np.linspace(0, a.tip_depth_mm, 1000)[:, None] * a.direction
        for j, b in enumerate(other.needles):
            way = path - b.hole_mm
            along = np.clip(way @ b.direction, 0, b.tip_depth_mm)
            gap = np.linalg.norm(way - along[:, None] * b.direction, axis=1).min()
            assert ((i, j) in listed) == (gap < 3.301) or abs(gap - 3.301) < 0.02


# ---- the frame does not matter ----------------------------------------------------------------------------------


@pytest.mark.parametrize(("azimuth", "tilt"), [(0, 0), (90, 0), (210, 15)])
def test_a_patient_who_lies_elsewhere_gets_the_same_needles(azimuth, tilt):
    ribs = [box("Ribs", (-60, -70, z), (60, -60, z + 7.5), "bone") for z in (-30.0, -10.0, 10.0)]
    ribs += [box("Vena", (5, 5, -20), (15, 15, 20), "vessel")]
    here = offered(obstacles=ribs, azimuth=azimuth, tilt=tilt)
    there = offered(
        target=shifted(CUBE),
        external=shifted(WATER),
        obstacles=[shifted(r) for r in ribs],
        azimuth=azimuth,
        tilt=tilt,
    )
    assert [n.hole for n in here.needles] == [n.hole for n in there.needles]
    assert [n.shortened_by for n in here.needles] == [n.shortened_by for n in there.needles]
    assert here.blocked == there.blocked
    assert here.notes == there.notes
    assert np.array_equal(here.needle_of, there.needle_of)
    assert there.positions_mm - SHIFT == pytest.approx(here.positions_mm, abs=3e-6)
    assert np.array_equal(here.edge_covered_by, there.edge_covered_by)


def test_order_of_obstacles_changes_no_candidate():
    ribs = [box(f"rib {z}", (-60, -70, z), (60, -60, z + 7.5), "bone") for z in (-30.0, -10.0, 10.0)]
    ribs += [
        box("Vena", (5, 5, -20), (15, 15, 20), "vessel"),
        box("Aorta", (-15, 9, -20), (-5, 15, 20), "vessel"),
    ]
    forward, backward = offered(obstacles=ribs, tilt=12), offered(obstacles=ribs[::-1], tilt=12)
    assert np.array_equal(forward.positions_mm, backward.positions_mm)
    assert {b.hole for b in forward.blocked} == {b.hole for b in backward.blocked}


def test_a_structure_without_contours_is_no_obstacle():
    assert len(offered(obstacles=[Structure("Ribs", ())]).needles) == 20
    assert contact_depth(np.zeros((2, 3)), np.array([0.0, 1, 0]), np.full(2, 9.0), CUBE, 2.65).tolist() == [
        0.0,
        0.0,
    ]
