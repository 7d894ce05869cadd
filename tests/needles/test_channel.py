"""Needles with directions of their own: channels, contacts, distances, candidates and conflicts against brute force."""

import numpy as np
import pytest

from brachy.needles.candidates import needle_candidates
from brachy.needles.channel import Axis, Channel, Lines, Needle
from brachy.needles.conflicts import conflicts_between, needle_conflicts
from brachy.needles.laying_out import lay_out
from brachy.needles.measured import measured_channel, measured_needle
from brachy.needles.needle_path import contact_depth, segment_distances
from brachy.needles.template import needle_direction
from brachy.optimise.candidates import Candidates
from brachy.patient.plan import PlanNeedle
from tests.needle_cases import (
    apart,
    box,
    cone_axes,
    ellipsoid,
    protocol,
    through_box,
    to_box,
    to_segment,
)

CUBE_LOW, CUBE_HIGH = np.array([-22.0, -22, -20]), np.array([22.0, 22, 20])
RIB_LOW, RIB_HIGH = np.array([-12.0, -70, -60]), np.array([-6.0, -55, 60])
DEEP_LOW, DEEP_HIGH = np.array([5.0, 8, -60]), np.array([60.0, 20, 60])
WATER = box("Body", (-150, -100, -100), (150, 100, 100), "external")
CUBE = box("GTV", CUBE_LOW, CUBE_HIGH)
RIB = box("Ribs", RIB_LOW, RIB_HIGH, "bone")
DEEP = box("Vena", DEEP_LOW, DEEP_HIGH, "vessel")
RULES = protocol(needle={"max_needle_mm": 300.0})
REACH = 0.65 + 2.0
CAPSULE = 4.5
LAYOUT = lay_out(CUBE, WATER, needle_direction(0), pitch_mm=10.0, standoff_mm=20.0)
AXES = cone_axes(LAYOUT, CUBE_LOW, CUBE_HIGH, 60)


@pytest.fixture(scope="module")
def angled():
    """Candidates of 60 lines, each in a direction of its own, past a rib and a deep vessel."""
    return needle_candidates(CUBE, WATER, [RIB, DEEP], LAYOUT, RULES, CAPSULE, axes=AXES)


def samples(channel, end, step=0.02):
    return channel.at(np.append(np.arange(0.0, end, step), end))


# ---- channels and lines ------------------------------------------------------------------------------------------


def test_a_channel_of_a_plan_goes_from_hole_to_tip():
    needle = PlanNeedle(
        hole="C4", hole_mm=(1, 2, 3), skin_mm=(1, 14, 19), tip_mm=(1, 62, 83), direction=(0, 0.6, 0.8),
        depth_mm=100, depth_from_skin_mm=80, seeds=(),
    )  # fmt: skip
    channel = Channel.of(needle)
    assert (channel.hole, channel.tip_depth_mm, channel.entry_depth_mm) == ("C4", 100.0, pytest.approx(20.0))
    assert channel.direction == pytest.approx([0, 0.6, 0.8])
    assert channel.entry_mm == pytest.approx([1, 14, 19])
    assert channel.at([0.0, 50.0]) == pytest.approx(np.array([[1, 2, 3], [1, 32, 43]]))


def test_feet_on_lines_of_many_directions_against_dense_sampling():
    random = np.random.default_rng(1)
    points = random.uniform(-30, 30, (8, 3))
    across, depth = Lines.of(AXES[:6], [np.inf] * 6).feet_of(points)
    t = np.arange(-20.0, 260.0, 0.01)
    for k, axis in enumerate(AXES[:6]):
        gaps = np.linalg.norm(points[:, None] - (axis.hole_mm + t[:, None] * axis.direction), axis=2)
        assert across[:, k] == pytest.approx(gaps.min(axis=1), abs=1e-4)
        assert depth[:, k] == pytest.approx(t[gaps.argmin(axis=1)], abs=0.0051)


def test_contacts_of_needles_in_many_directions_against_dense_sampling():
    rib = ellipsoid("rib", (5, -40, -2), (18, 9, 6), slices=2.0, points=40)
    starts, ways = np.array([a.hole_mm for a in AXES]), np.array([a.direction for a in AXES])
    lengths = np.full(len(AXES), 140.0)
    found = contact_depth(starts, ways, lengths, rib, REACH)
    t = np.arange(40.0, 140.0, 0.02)
    met = 0
    for k, axis in enumerate(AXES):
        alone = contact_depth(starts[k : k + 1], ways[k], lengths[:1], rib, REACH)[0]
        assert found[k] == alone  # a common direction, and one needle at a time, give the same
        gaps = rib.distance_mm(axis.hole_mm + t[:, None] * axis.direction, 10.0)
        near, clear = t[gaps < REACH], t[gaps < REACH + 0.002]
        if np.isfinite(found[k]):
            assert clear[0] - 0.03 <= found[k]
        if len(near):
            met += 1
            assert found[k] <= near[0] + 1e-9
    assert 10 < met < 50


@pytest.mark.parametrize("spread", [1.0, 1e-2, 1e-5, 0.0])
def test_distances_of_segments_from_nearly_parallel_to_any_against_dense_sampling(spread):
    random = np.random.default_rng(7)
    ways = np.array([0.0, 1.0, 0.0]) + spread * random.normal(size=(12, 3))
    ways *= random.uniform(60, 140, (12, 1)) / np.linalg.norm(ways, axis=1, keepdims=True)
    starts = random.uniform(-25, 25, (12, 3))
    gaps = segment_distances(starts, ways, starts, ways)
    t = np.linspace(0, 1, 20_001)[:, None]
    for i in range(12):
        for j in range(i):
            least = to_segment(starts[i] + t * ways[i], starts[j], starts[j] + ways[j]).min()
            assert gaps[i, j] == pytest.approx(least, abs=2e-4)
            assert gaps[i, j] == pytest.approx(gaps[j, i], abs=1e-9)


# ---- candidates --------------------------------------------------------------------------------------------------


def test_each_candidate_needle_lies_on_the_line_that_was_tried(angled):
    tried = {(a.hole, tuple(a.direction)) for a in AXES}
    assert {(n.hole, tuple(n.direction)) for n in angled.needles} <= tried
    assert len({tuple(n.direction) for n in angled.needles}) == len(angled.needles) > 20
    assert len(angled.needles) + len(angled.blocked) == len(AXES)
    for index, needle in enumerate(angled.needles):
        seeds = angled.positions_mm[angled.needle_of == index]
        assert needle.off_axis(seeds) == pytest.approx(np.zeros(len(seeds)), abs=1e-9)
        assert needle.depth_of(seeds) == pytest.approx(needle.depths_mm, abs=1e-9)
        tip = angled.tip_mm(index, needle.depths_mm[0])
        assert np.linalg.norm(tip - seeds[0]) == pytest.approx(0.5 * CAPSULE)
        assert tip == pytest.approx(needle.tip_mm)


def test_spans_entries_and_margins_in_closed_form_along_each_needle(angled):
    for needle in angled.needles:
        enter, leave = through_box(needle.hole_mm, needle.direction, CUBE_LOW, CUBE_HIGH)
        assert needle.target_mm == pytest.approx((enter, leave), abs=2e-5)
        assert needle.entry_mm[1] == pytest.approx(-100.0, abs=1e-5)
        assert needle.depths_mm.max() <= leave - 5.0
        assert needle.depths_mm.min() >= enter - 1e-6
        assert np.diff(needle.depths_mm) == pytest.approx(-5.0)
        if not needle.shortened_by:
            assert needle.depths_mm[0] == pytest.approx(leave - 5.001, abs=2e-5)


def test_paths_stay_clear_of_obstacles_and_are_shortened_where_they_meet_them(angled):
    rib, deep = (RIB_LOW, RIB_HIGH), (DEEP_LOW, DEEP_HIGH)
    shortened = 0
    for needle in angled.needles:
        path = samples(needle, needle.tip_depth_mm)
        assert min(to_box(path, *rib).min(), to_box(path, *deep).min()) >= REACH - 1e-6
        if needle.shortened_by:
            shortened += 1
            limits = {"Ribs": rib, "Vena": deep}[needle.shortened_by]
            # a few thousandths deeper it would be too near
            assert to_box(samples(needle, needle.tip_depth_mm + 0.003), *limits).min() < REACH + 0.002
    assert shortened > 3
    by_place = {(a.hole, tuple(a.direction)) for a in AXES} - {
        (n.hole, tuple(n.direction)) for n in angled.needles
    }
    barred = 0
    for axis in (a for a in AXES if (a.hole, tuple(a.direction)) in by_place):
        enter, leave = through_box(axis.hole_mm, axis.direction, CUBE_LOW, CUBE_HIGH)
        path = samples(Channel(*axis, 0.0, 0.0), max(enter, 0.0) + 0.5 * CAPSULE + 0.003)
        blocked = min(to_box(path, *rib).min(), to_box(path, *deep).min()) < REACH + 0.002
        assert blocked or leave - enter < 5.002
        barred += blocked
    assert barred > 5


def test_conflicts_of_needles_and_seeds_against_brute_force(angled):
    rules = protocol(needle={"max_needle_mm": 300.0, "min_needle_spacing_mm": 4.0 - 1.3})
    found = needle_candidates(CUBE, WATER, [RIB, DEEP], LAYOUT, rules, CAPSULE, axes=AXES, edges=False)
    pairs = {tuple(pair) for pair in found.needle_conflicts.tolist()}
    crossing = 0
    for j, other in enumerate(found.needles):
        for i in range(j):
            gap = apart(found.needles[i], other, 0.1)
            if abs(gap - 4.0) > 2e-3:
                assert ((i, j) in pairs) == (gap < 4.0)
                crossing += gap < 4.0 and found.needles[i].hole != other.hole
    assert crossing > 10
    same_hole = [
        (i, j)
        for j in range(len(found.needles))
        for i in range(j)
        if found.needles[i].hole == found.needles[j].hole
    ]
    assert same_hole
    assert set(same_hole) <= pairs
    gaps = np.linalg.norm(angled.positions_mm[:, None] - angled.positions_mm, axis=2)
    near = np.argwhere(np.triu(gaps < 5.0 - 1e-6, 1))
    same = angled.needle_of[near[:, 0]] == angled.needle_of[near[:, 1]]
    assert not same.any()
    assert np.array_equal(angled.seed_conflicts, near)


def test_edge_points_are_covered_by_the_needles_that_pass_near(angled):
    points, margin = angled.edge_points_mm, RULES.template.lateral_margin_mm
    assert len(points) > 500
    for index, needle in enumerate(angled.needles):
        end = needle.tip_mm if needle.shortened_by else needle.at(1000.0)
        gaps = to_segment(points, needle.hole_mm, end)
        clear = np.abs(gaps - margin) > 1e-4
        assert np.array_equal(angled.edge_covered_by[clear, index], gaps[clear] <= margin)


def test_lines_along_the_axis_give_the_candidates_of_the_lattice():
    plain = needle_candidates(CUBE, WATER, [RIB, DEEP], LAYOUT, RULES, CAPSULE)
    given = needle_candidates(CUBE, WATER, [RIB, DEEP], LAYOUT, RULES, CAPSULE, axes=LAYOUT.axes())
    assert np.array_equal(plain.positions_mm, given.positions_mm)
    assert plain.edge_cause == given.edge_cause
    assert plain.notes == given.notes


def test_two_groups_of_angled_needles_against_brute_force(angled):
    others = [
        Needle(*axis, 20.0, 110.0, np.array([107.0, 99.0, 91.0]), (95.0, 140.0))
        for axis in cone_axes(LAYOUT, CUBE_LOW, CUBE_HIGH, 8, seed=11)
    ]
    seeds, needles = conflicts_between(angled.needles, others, RULES)
    theirs = np.concatenate([n.positions_mm for n in others])
    gaps = np.linalg.norm(angled.positions_mm[:, None] - theirs, axis=2)
    assert {tuple(p) for p in seeds.tolist()} == {tuple(p) for p in np.argwhere(gaps < 5.001).tolist()}
    found = {tuple(p) for p in needles.tolist()}
    for i, one in enumerate(angled.needles):
        for j, other in enumerate(others):
            gap = apart(one, other, 0.1)
            if abs(gap - 3.3) > 5e-3:
                assert ((i, j) in found) == (gap < 3.3)


def test_the_search_knows_the_direction_of_every_candidate(angled):
    anchor = np.array([-22.0, -22, -20])
    every = Candidates.of([angled], anchor, RULES)
    for index, needle in enumerate(angled.needles):
        mine = every.needle_of == index
        assert np.array_equal(every.axes[mine], np.tile(needle.direction, (int(mine.sum()), 1)))
        assert every.positions_mm[mine] + anchor == pytest.approx(needle.positions_mm, abs=1e-6)
    assert np.array_equal(every.needle_conflicts, angled.needle_conflicts)


# ---- measured needles --------------------------------------------------------------------------------------------


def test_a_measured_needle_offers_seeds_along_its_own_line():
    planned = Channel("B2", LAYOUT.hole_mm(1, 2), LAYOUT.direction, 20.0, 135.0)
    entry, tip = planned.entry_mm + [3.0, 0, -2], np.array([9.0, 14.0, 6.0])
    channel = measured_channel(planned, tip, entry)
    assert channel.tip_mm == pytest.approx(tip)
    assert channel.entry_mm == pytest.approx(entry)
    assert np.linalg.norm(channel.hole_mm - entry) == pytest.approx(20.0)
    needle = measured_needle(channel, CUBE, WATER, 0.5 * CAPSULE, RULES)
    enter, leave = through_box(channel.hole_mm, channel.direction, CUBE_LOW, CUBE_HIGH)
    deepest = min(channel.tip_depth_mm - 0.5 * CAPSULE, leave - 5.0)
    assert needle.depths_mm[0] == pytest.approx(deepest, abs=1e-5)
    assert needle.depths_mm[-1] - enter < RULES.replan.step_mm
    assert needle.measured
    lattice = needle_candidates(CUBE, WATER, [], LAYOUT, RULES, CAPSULE)
    every = Candidates.of([lattice], np.zeros(3), RULES, 1, [(0, needle)], 5.0)
    assert every.measured.sum() == 1
    assert every.names[-1] == (0, "B2")
    assert every.axes[-1] == pytest.approx(channel.direction)
    # its own seeds, a replanning step apart, exclude each other within 5 mm, and the lattice's seeds beside it too
    own = np.flatnonzero(every.needle_of == len(lattice.needles))
    gaps = np.linalg.norm(every.positions_mm[own][:, None] - every.positions_mm, axis=2)
    wanted = {
        (min(own[i], j), max(own[i], j)) for i, j in np.argwhere(gaps < 5.0 - 1e-4).tolist() if own[i] != j
    }
    found = {tuple(p) for p in every.seed_conflicts.tolist() if max(p) >= own[0]}
    assert wanted <= found
    assert all(gaps[b - own[0], a] < 5.001 for a, b in found)


def test_no_needle_has_no_conflicts():
    assert needle_conflicts([], np.zeros(3), 2.0).shape == (0, 2)
    one = Channel(*Axis("A1", np.zeros(3), np.array([0.0, 1.0, 0.0])), 20.0, 100.0)
    assert needle_conflicts([one], np.zeros(3), 2.0).shape == (0, 2)
