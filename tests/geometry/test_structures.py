"""Structures against closed forms and laws: every expected number is elementary geometry."""

import itertools

import numpy as np
import pytest

from brachy.core import polygon, raster
from brachy.errors import BrachyError
from brachy.geometry.grid import Grid
from brachy.geometry.structures import Structure

SHIFT = np.array([13.3, -7.1, 4.9])


def rectangle(x0, y0, x1, y1, z=0.0):
    return np.array([[x0, y0, z], [x1, y0, z], [x1, y1, z], [x0, y1, z]], dtype=float)


def circle(radius, z=0.0, n=360, centre=(0.0, 0.0)):
    angle = 2 * np.pi * np.arange(n) / n
    return np.column_stack(
        [centre[0] + radius * np.cos(angle), centre[1] + radius * np.sin(angle), np.full(n, z)]
    )


def sphere(radius, spacing, phase=0.3):
    heights = spacing * (np.arange(-50, 51) + phase)
    return Structure(
        "sphere",
        [circle(np.sqrt(radius**2 - z**2), z) for z in heights if abs(z) < radius - 1e-6],
        slice_spacing_mm=spacing,
    )


def rotation(seed):
    q, r = np.linalg.qr(np.random.default_rng(seed).normal(size=(3, 3)))
    q = q * np.sign(np.diag(r))
    return q if np.linalg.det(q) > 0 else -q


def moved_by(matrix3, shift):
    matrix = np.eye(4)
    matrix[:3, :3], matrix[:3, 3] = matrix3, shift
    return matrix


def cup():
    """A box with a hole, an island in the hole, and a second box beside it: 3 planes, 2 mm apart."""
    parts = [(0, 0, 20, 20), (4, 4, 16, 16), (8, 8, 12, 12), (25, 0, 30, 5)]
    return Structure("cup", [rectangle(*part, z=z) for z in (0.0, 2.0, 4.0) for part in parts])


# --- the slab rule -------------------------------------------------------------------------------------------------


def test_volume_counts_holes_islands_and_neighbours():
    assert cup().volume_cc == pytest.approx((400 - 144 + 16 + 25) * 6 / 1000, rel=1e-12)


def test_keyhole_is_a_hole():
    outer, inner = (
        [(0, 0), (20, 0), (20, 20), (0, 20), (0, 10)],
        [(5, 10), (5, 15), (15, 15), (15, 5), (5, 5)],
    )
    path = [*outer, *inner, (5, 10), (0, 10)]
    keyhole = Structure("keyhole", [np.array([(x, y, 0) for x, y in path])], slice_spacing_mm=1.0)
    assert keyhole.volume_cc == pytest.approx(0.3, rel=1e-12)
    assert keyhole.contains([[2, 10.1, 0], [10, 10, 0], [2, 9.9, 0]]).tolist() == [True, False, True]


def test_figure_of_eight_and_overlap_are_even_odd():
    eight = Structure("8", [[[0, 0, 0], [10, 10, 0], [10, 0, 0], [0, 10, 0]]], slice_spacing_mm=1.0)
    assert eight.volume_cc == pytest.approx(0.05, rel=1e-9)
    both = Structure("overlap", [rectangle(0, 0, 10, 10), rectangle(5, 5, 15, 15)], slice_spacing_mm=1.0)
    assert both.volume_cc == pytest.approx(0.15, rel=1e-9)


def test_slabs_reach_half_the_gap_and_half_the_spacing_at_the_ends():
    uneven = Structure("uneven", [rectangle(0, 0, 10, 10, z) for z in (0, 2, 6)], slice_spacing_mm=3.0)
    assert [plane.thickness_mm for plane in uneven.planes()] == [2.5, 3.0, 3.5]
    assert uneven.bounds_mm.tolist() == [[0, 0, -1.5], [10, 10, 7.5]]
    assert Structure("u", uneven.contours_mm).bounds_mm[:, 2].tolist() == [-1.0, 7.0]


def test_missing_slices_are_filled_and_parts_are_kept_apart():
    heights = [0, 3, 6, 15, 18, 21]  # two slices missing
    filled = Structure("filled", [rectangle(0, 0, 10, 10, z) for z in heights])
    assert filled.volume_cc == pytest.approx(2.4, rel=1e-12)
    assert any("slices missing at 1 places" in note for note in filled.notes)
    apart = Structure("apart", [rectangle(0, 0, 10, 10, z) for z in (0, 3, 6, 36, 39, 42)])
    assert apart.volume_cc == pytest.approx(1.8, rel=1e-12)
    assert any("separates two parts" in note for note in apart.notes)
    assert not apart.contains([[5, 5, 21]])[0]
    assert apart.distance_mm([[5, 5, 21]])[0] == pytest.approx(13.5)


def test_planes_closer_than_a_hundredth_are_one():
    jitter = Structure(
        "jitter", [rectangle(0, 0, 10, 10, 0.004), rectangle(20, 0, 30, 10), rectangle(0, 0, 10, 10, 5)]
    )
    assert len(jitter.planes()) == 2


def test_degenerate_contours_are_left_out_with_a_note():
    line = np.array([[0, 0, 0], [5, 5, 0], [9, 9, 0]], dtype=float)
    made = Structure("made", [rectangle(0, 0, 10, 10), line, line[:2], line[:0]], slice_spacing_mm=2.0)
    assert made.volume_cc == pytest.approx(0.2)
    assert made.notes == ("3 contours without area left out",)


def test_a_contour_drawn_twice_counts_once():
    twice = Structure("twice", [rectangle(0, 0, 10, 10), np.roll(rectangle(0, 0, 10, 10)[::-1], 1, axis=0)])
    assert twice.volume_cc == pytest.approx(0.1)
    assert any("drawn twice" in note for note in twice.notes)


def test_empty_structure_is_nowhere():
    nothing = Structure("nothing", [])
    assert nothing.is_empty
    assert nothing.volume_cc == 0.0
    assert not nothing.contains([[0, 0, 0]])[0]
    assert nothing.distance_mm([[0, 0, 0]], cutoff_mm=7.0)[0] == 7.0
    assert nothing.line_intervals([0, 0, 0], [1, 0, 0]).shape == (0, 2)
    assert nothing.fraction_mask(Grid((0, 0, 0), (1, 1, 1), (2, 2, 2))).sum() == 0


def test_bad_contours_are_refused_by_name():
    with pytest.raises(BrachyError, match="ROI 'bent': a contour leaves its plane"):
        Structure("bent", [rectangle(0, 0, 10, 10), [[0, 0, 5], [10, 0, 5], [10, 10, 9], [0, 10, 9]]])
    with pytest.raises(BrachyError, match="ROI 'nan'"):
        Structure("nan", [[[0, 0, 0], [1, 0, 0], [np.nan, 1, 0]]])
    with pytest.raises(BrachyError, match="spacing"):
        Structure("s", [rectangle(0, 0, 1, 1)], slice_spacing_mm=0.0)


# --- storage and place change nothing -------------------------------------------------------------------------------


def test_order_direction_and_start_change_nothing_at_all():
    straight = cup()
    rng = np.random.default_rng(4)
    turned = [np.roll(c[:: rng.choice([-1, 1])], rng.integers(4), axis=0) for c in straight.contours_mm]
    shuffled = Structure("cup", [turned[i] for i in rng.permutation(len(turned))])
    for one, other in zip(straight.slab_stack.stack, shuffled.slab_stack.stack, strict=True):
        np.testing.assert_array_equal(one, other)
    np.testing.assert_array_equal(straight.slab_stack.axes, np.eye(3))


def test_moving_everything_changes_nothing_at_all():
    rng = np.random.default_rng(5)
    here = Structure("a", [circle(20, z, n=41) * [0.9765625, 0.9765625, 1] for z in (0.1, 2.6, 5.1)])
    there = Structure("a", [c + SHIFT for c in here.contours_mm])
    for one, other in zip(here.slab_stack.stack, there.slab_stack.stack, strict=True):
        np.testing.assert_array_equal(one, other)
    points = np.round(rng.uniform(-30, 30, (2000, 3)), 3)
    points[::3, 2] = 3.85  # on the bound of two slabs
    np.testing.assert_array_equal(here.contains(points), there.contains(points + SHIFT))
    np.testing.assert_array_equal(here.distance_mm(points, 15.0), there.distance_mm(points + SHIFT, 15.0))


@pytest.mark.parametrize("seed", range(3))
def test_any_orientation_gives_the_same_solid(seed):
    matrix = moved_by(rotation(seed), SHIFT)
    here = cup()
    there = here.moved(matrix)
    assert there.volume_cc == pytest.approx(here.volume_cc, rel=1e-6)  # rounded to 1e-6 mm
    np.testing.assert_allclose(there.centroid_mm, matrix[:3, :3] @ here.centroid_mm + SHIFT, atol=1e-6)
    points = np.random.default_rng(seed).uniform(-8, 38, (500, 3))
    np.testing.assert_allclose(
        there.signed_distance_mm(points @ matrix[:3, :3].T + SHIFT),
        here.signed_distance_mm(points),
        atol=1e-5,
    )


def test_coronal_and_sagittal_contours_have_a_frame_along_the_axes():
    for k in range(3):
        order = [(k + 1) % 3, (k + 2) % 3, k]
        points = np.zeros((4, 3))
        points[:, order] = rectangle(0, 0, 10, 20, 5)
        made = Structure("made", [points], slice_spacing_mm=2.0)
        np.testing.assert_array_equal(made.normal, np.eye(3)[k])
        assert made.volume_cc == pytest.approx(0.4)


# --- inside, distance, lines ----------------------------------------------------------------------------------------


def test_contains_is_even_odd_in_the_plane_and_half_open_along_it():
    points = [[2, 2, 0], [6, 6, 0], [10, 10, 0], [27, 2, 0], [22, 2, 0], [2, 2, -1.0], [2, 2, 5.0]]
    assert cup().contains(points).tolist() == [True, False, True, True, False, True, False]


def test_distance_of_a_box_is_the_closed_form():
    box = Structure("box", [rectangle(-10, -5, 10, 5, z) for z in (-2, 0, 2)])
    half = np.array([10, 5, 3])
    points = np.random.default_rng(0).uniform(-25, 25, (4000, 3))
    beyond = np.abs(points) - half
    outside = np.linalg.norm(np.maximum(beyond, 0), axis=1)
    exact = np.where((beyond < 0).all(axis=1), beyond.max(axis=1), outside)
    np.testing.assert_allclose(box.signed_distance_mm(points), exact, atol=2e-6)
    np.testing.assert_allclose(box.distance_mm(points), outside, atol=2e-6)
    np.testing.assert_allclose(box.distance_mm(points, 4.0), np.minimum(outside, 4.0), atol=2e-6)
    np.testing.assert_allclose(box.signed_distance_mm(points, 2.0), np.clip(exact, -2, 2), atol=2e-6)


def test_distance_of_steps_and_holes_is_that_of_the_nearest_wall():
    """Brute force: the least distance to a dense set of points of the solid (or of what is not solid)."""
    solid = cup()
    axes = [np.arange(-6, 36, 0.5) + 0.25, np.arange(-6, 26, 0.5) + 0.25, np.arange(-6, 10, 0.5) + 0.25]
    dense = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 3)
    within = solid.contains(dense)
    points = np.random.default_rng(1).uniform([-5, -5, -4], [35, 25, 8], (60, 3))
    signed = solid.signed_distance_mm(points)
    for point, value, inside in zip(points, signed, solid.contains(points), strict=True):
        cells = dense[~within] if inside else dense[within]
        least = np.linalg.norm(np.maximum(np.abs(cells - point) - 0.25, 0), axis=1).min()
        assert abs(value) == pytest.approx(least, abs=2e-6)


def test_line_through_a_cylinder_is_its_chord():
    cylinder = Structure("cylinder", [circle(10, z, n=3600) for z in (-4, -2, 0, 2, 4)])
    (interval,) = cylinder.line_intervals([-20, 6, 0], [1, 0, 0])
    assert interval == pytest.approx([12, 28], abs=1e-4)
    (interval,) = cylinder.line_intervals([0, 0, 0], [1, 0, 1])  # the top, at 5 mm, is met before the wall
    assert interval == pytest.approx([-5 * np.sqrt(2), 5 * np.sqrt(2)], abs=1e-6)
    (interval,) = cylinder.line_intervals([3, 3, 50], [0, 0, -2])
    assert interval == pytest.approx([45, 55])
    assert len(cylinder.line_intervals([0, 10.5, 0], [1, 0, 0])) == 0


def test_line_through_walls_islands_and_corners():
    intervals = cup().line_intervals([-1, 10, 0], [1, 0, 0])
    np.testing.assert_allclose(intervals, [[1, 5], [9, 13], [17, 21]], atol=1e-9)
    diagonal = cup().line_intervals([0, 0, 0], [1, 1, 0]) / np.sqrt(2)
    np.testing.assert_allclose(diagonal, [[0, 4], [8, 12], [16, 20]], atol=1e-9)
    along_an_edge = cup().line_intervals([-1, 0, 0], [1, 0, 0])
    assert {tuple(np.round(i, 6)) for i in along_an_edge} <= {(1, 21), (26, 31)}


def test_line_meets_the_slabs_of_two_parts_apart():
    apart = Structure("apart", [rectangle(0, 0, 10, 10, z) for z in (0, 3, 36, 39)])
    np.testing.assert_allclose(apart.line_intervals([5, 5, 0], [0, 0, 1]), [[-1.5, 4.5], [34.5, 40.5]])


# --- masks ----------------------------------------------------------------------------------------------------------


def test_fractions_of_a_box_are_products_of_overlaps():
    box = Structure("box", [rectangle(0.3, 1.25, 7.7, 6.5, z) for z in (0, 1, 2)])
    for direction in (np.eye(3), np.diag([1.0, 1, -1]), np.diag([-1.0, -1, 1]), np.eye(3)[[1, 0, 2]]):
        grid = Grid(direction @ [-2.0, -1, -3], (1.0, 1.0, 0.8), (9, 12, 12), direction)
        axes = [grid.centres_mm().reshape(*grid.shape, 3) @ np.eye(3)[:, k] for k in range(3)]
        spacing = np.abs(direction) @ grid.spacing_mm
        exact = np.ones(grid.shape)
        for at, size, low, high in zip(axes, spacing, (0.3, 1.25, -0.5), (7.7, 6.5, 2.5), strict=True):
            exact *= np.clip(np.minimum(at + size / 2, high) - np.maximum(at - size / 2, low), 0, None) / size
        np.testing.assert_allclose(box.fraction_mask(grid), exact, atol=1e-6)


def test_fractions_of_a_disc_sum_to_its_area_whatever_the_grid():
    disc = Structure("disc", [circle(9.7, n=720)], slice_spacing_mm=2.0)
    area = 0.5 * 720 * 9.7**2 * np.sin(2 * np.pi / 720)
    for spacing, origin in itertools.product((0.31, 1.0, 3.7), (-13.0, -12.77)):
        count = int(26 / spacing) + 2
        fractions = disc.fraction_mask(Grid((origin, origin, 0), (spacing, spacing, 4.0), (1, count, count)))
        assert fractions.sum(dtype=float) * spacing**2 * 4.0 == pytest.approx(area * 2.0, rel=2e-6)
        assert fractions.max() <= 0.5


def test_fractions_on_an_oblique_grid_are_close():
    box = Structure("box", [rectangle(0, 0, 12, 9, z) for z in (0, 2, 4)])
    grid = Grid((-8, -8, -8), (1.0, 1.0, 1.0), (30, 34, 34), rotation(2))
    grid = Grid(
        np.array([6, 4.5, 2]) - grid.direction @ [17, 17, 15], grid.spacing_mm, grid.shape, grid.direction
    )
    assert box.fraction_mask(grid).sum() / 1000 == pytest.approx(box.volume_cc, rel=5e-3)


def test_part_of_a_structure_outside_the_grid_is_left_out():
    box = Structure("box", [rectangle(0, 0, 10, 10)], slice_spacing_mm=1.0)
    grid = Grid((5.5, -2.5, 0), (1, 1, 1), (1, 20, 3))  # x from 5 to 8
    assert box.fraction_mask(grid).sum() == pytest.approx(30.0)
    grid = Grid((-2.5, 5.5, 0), (1, 1, 1), (1, 3, 5))  # x from -3 to 2, y from 5 to 8
    assert box.fraction_mask(grid).sum() == pytest.approx(6.0)


@pytest.mark.parametrize("flip", [1.0, -1.0])
def test_a_mask_becomes_contours_in_the_patient_and_back(flip):
    grid = Grid((5, -3, 10), (0.9, 1.1, 2.5), (6, 30, 30), np.diag([1.0, flip, -flip]))
    y, x = np.mgrid[:30, :30]
    mask = np.zeros(grid.shape, dtype=bool)
    mask[1:5] = ((x - 14) ** 2 + (y - 15) ** 2 < 121) & ~((x - 14) ** 2 + (y - 15) ** 2 < 25)
    made = Structure.from_mask("ring", mask, grid)
    assert made.volume_cc == pytest.approx(mask.sum() * grid.voxel_cc, rel=2e-3)
    np.testing.assert_array_equal(made.contains(grid.centres_mm()).reshape(grid.shape), mask)
    assert len(made.contours_mm) == 8


def test_thin_parts_of_a_mask_and_its_edge_survive():
    grid = Grid((0, 0, 0), (1, 1, 1), (3, 8, 8))
    mask = np.zeros(grid.shape, dtype=np.uint8)
    mask[1, 4, :] = 1  # one voxel wide, across the whole volume
    mask[2, 0, 0] = 1
    made = Structure.from_mask("thin", mask, grid)
    assert made.contains([[x, 4, 1] for x in range(8)]).all()
    assert made.contains([[0, 0, 2]])[0]
    np.testing.assert_allclose(made.bounds_mm, [[-0.5, -0.5, 0.5], [7.5, 4.5, 2.5]])
    full = Structure.from_mask("full", np.ones(grid.shape), grid)
    np.testing.assert_allclose(full.bounds_mm, [[-0.5, -0.5, -0.5], [7.5, 7.5, 2.5]])


# --- margins and sections -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("radius", "spacing", "margin"), [(10, 1, 5), (20, 2.5, 5), (30, 2.5, 2), (20, 5, 10)]
)
def test_margin_of_a_sphere_is_a_larger_sphere(radius, spacing, margin):
    grown = sphere(radius, spacing).expanded(margin)
    assert grown.volume_cc == pytest.approx(4 / 3 * np.pi * (radius + margin) ** 3 / 1000, rel=0.03)
    off = np.linalg.norm(np.concatenate(grown.contours_mm), axis=1) - (radius + margin)
    assert np.abs(off).max() < 0.5 * spacing
    assert abs(np.median(off)) < 0.15


def test_margin_is_clipped_but_never_eats_what_was_drawn():
    ball = sphere(15, 3)
    plate = Structure("plate", [rectangle(-50, -50, 50, 17, z) for z in range(-60, 61, 3)])
    clipped = ball.expanded(8, clip=[plate])
    assert clipped.bounds_mm[1, 1] == pytest.approx(17, abs=0.05)
    assert clipped.bounds_mm[0, 1] == pytest.approx(-23, abs=0.3)
    through = Structure("through", [rectangle(-50, -50, 50, 5, z) for z in range(-60, 61, 3)])
    kept = ball.expanded(8, clip=[through])
    edge = np.concatenate(ball.contours_mm)
    assert kept.distance_mm(edge).max() < 0.05
    assert kept.bounds_mm[1, 1] == pytest.approx(ball.bounds_mm[1, 1], abs=0.05)


def test_margin_of_nothing_is_the_structure_itself():
    ball = sphere(10, 2)
    assert ball.expanded(0.0) is ball
    with pytest.raises(BrachyError, match="0 or more"):
        ball.expanded(-1.0)


def test_margin_moves_with_the_patient():
    here = sphere(12, 3)
    there = here.moved(moved_by(np.eye(3), SHIFT))
    for one, other in zip(here.expanded(4).contours_mm, there.expanded(4).contours_mm, strict=True):
        np.testing.assert_allclose(other - SHIFT, one, atol=1e-9)


def test_section_along_the_slices_runs_on_the_contour():
    disc = Structure("disc", [circle(20, z) for z in (0, 2)])
    edge = disc.section([3, 4, 0.5], [0, 0, 1])
    assert len(edge) == pytest.approx(2 * np.pi * 20, abs=1)
    np.testing.assert_allclose(np.hypot(edge[:, 0], edge[:, 1]), 20, atol=0.01)
    np.testing.assert_allclose(edge[:, 2], 0.5)
    steps = np.linalg.norm(np.diff(edge, axis=0), axis=1)
    assert steps.min() > 0.9
    assert steps.max() < 1.1
    assert disc.section([0, 0, 3.5], [0, 0, 1]).shape == (0, 3)


def test_oblique_section_lies_on_plane_and_surface():
    box = Structure("box", [rectangle(-10, -10, 10, 10, z) for z in range(-9, 10, 3)])
    normal = np.array([1.0, 0.0, 1.0]) / np.sqrt(2)  # cuts a rectangle of 20 x 20 sqrt(2)
    edge = box.section([0, 0, 0], normal)
    np.testing.assert_allclose(edge @ normal, 0, atol=1e-9)
    assert np.abs(box.signed_distance_mm(edge)).max() < 0.25
    assert len(edge) == pytest.approx(40 + 40 * np.sqrt(2), abs=3)
    assert box.section([40, 0, 0], normal).shape == (0, 3)


def test_section_leaves_out_a_keyhole_channel():
    path = [
        (0, 0),
        (20, 0),
        (20, 20),
        (0, 20),
        (0, 10),
        (5, 10),
        (5, 15),
        (15, 15),
        (15, 5),
        (5, 5),
        (5, 10),
        (0, 10),
    ]
    keyhole = Structure("keyhole", [np.array([(x, y, 0) for x, y in path])], slice_spacing_mm=1.0)
    edge = keyhole.section([0, 0, 0], [0, 0, 1], step_mm=0.5)
    assert not ((edge[:, 0] > 0.3) & (edge[:, 0] < 4.7) & (np.abs(edge[:, 1] - 10) < 0.3)).any()
    assert len(edge) == pytest.approx(2 * (80 + 40), abs=4)


# --- kernels, also without compilation ------------------------------------------------------------------------------


@pytest.mark.kernel
def test_kernels_on_a_unit_square():
    edges = np.array([[0, 0, 1, 0], [1, 0, 1, 1], [1, 1, 0, 1], [0, 1, 0, 0]], dtype=float)
    stack = polygon.make_stack([edges], np.array([0.0]), np.array([1.0]))
    points = np.array([[0.5, 0.5, 0.5], [4.0, 5.0, 0.5], [0.5, 0.5, 3.0], [0.5, 0.9, 0.5]])
    assert polygon.inside(stack, points).tolist() == [True, False, False, True]
    np.testing.assert_allclose(polygon.distance(stack, points, np.inf, False), [0, 5, 2, 0])
    np.testing.assert_allclose(polygon.distance(stack, points, np.inf, True), [-0.5, 5, 2, -0.1])
    np.testing.assert_allclose(polygon.distance(stack, points, 1.0, True), [-0.5, 1, 1, -0.1])
    pieces = polygon.line_pieces(stack, np.array([-1.0, 0.25, 0.5]), np.array([1.0, 0.0, 0.0]))
    np.testing.assert_allclose(pieces, [[1, 2]])


@pytest.mark.kernel
def test_coverage_of_a_triangle_has_exact_areas_and_moments():
    edges = np.array([[0, 0, 2, 0], [2, 0, 0, 2], [0, 2, 0, 0]], dtype=float)
    area, mean_x, mean_y = np.zeros((3, 2, 2))
    raster.add_coverage(edges, np.eye(2, 3), 1.0, area, mean_x, mean_y)
    np.testing.assert_allclose(area, [[1, 0.5], [0.5, 0]])
    np.testing.assert_allclose(mean_x, [[0.5, 2 / 3], [1 / 6, 0]], atol=1e-12)
    np.testing.assert_allclose(mean_y, [[0.5, 1 / 6], [2 / 3, 0]], atol=1e-12)


@pytest.mark.kernel
def test_coverage_of_crossing_edges_is_exact():
    bow = np.array([[0, 0, 2, 2], [2, 2, 2, 0], [2, 0, 0, 2], [0, 2, 0, 0]], dtype=float)
    area = np.zeros((1, 1))
    raster.add_coverage(
        bow, np.array([[0.5, 0, 0], [0, 0.5, 0]]), 1.0, area, np.zeros((0, 0)), np.zeros((0, 0))
    )
    assert area[0, 0] == pytest.approx(0.5, abs=1e-9)


@pytest.mark.kernel
def test_fractions_share_a_voxel_between_slabs():
    edges = np.array([[0, 0, 1, 0], [1, 0, 1, 1], [1, 1, 0, 1], [0, 1, 0, 0]], dtype=float)
    stack = polygon.make_stack([edges, 0.5 * edges], np.array([0.0, 1.0]), np.array([1.0, 2.0]))
    out = np.zeros((2, 1, 1), dtype=np.float32)
    raster.fractions(stack, np.eye(2, 3), np.array([0.5, 1.5]), np.array([1.5, 2.5]), out)
    np.testing.assert_allclose(out.ravel(), [0.5 + 0.125, 0.125])
