"""Solids of the phantoms against closed forms and brute force."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.path import Path
from scipy.spatial import cKDTree
from scipy.spatial.transform import Rotation

from brachy.geometry.grid import Grid
from brachy.io.phantom.solids import SAGITTA_MM, Arc, Box, Ellipsoid, EllipticCylinder, Tube, voxel_share

size = st.floats(3, 40)
place = st.floats(-30, 30)
angle = st.floats(-180, 180)


def area(outline):
    """Shoelace formula."""
    x, y = outline.T
    return 0.5 * abs(x @ np.roll(y, -1) - y @ np.roll(x, -1))


def ellipsoid(centre, semi, turn):
    return Ellipsoid(kind="ellipsoid", centre_mm=centre, semi_axes_mm=semi, turn_deg=turn)


@given(
    st.tuples(place, place, place),
    st.tuples(size, size, size),
    st.tuples(angle, angle, angle),
    st.floats(-1, 1),
)
@settings(deadline=None, max_examples=60)
def test_a_turned_ellipsoid_s_section_lies_on_its_surface(centre, semi, turn, where):
    solid = ellipsoid(centre, semi, turn)
    # turned back by another library, the surface is |p / semi-axes| = 1
    rotation = Rotation.from_euler("xyz", turn, degrees=True)
    height = centre[2] + where * 0.99 * (solid.bounds_mm[1, 2] - centre[2])
    (outline,) = solid.section(height)
    points = np.column_stack([outline, np.full(len(outline), height)]) - centre
    level = np.square(rotation.inv().apply(points) / semi).sum(axis=1)
    assert np.allclose(level, 1.0, atol=1e-9)
    assert solid.section(solid.bounds_mm[1, 2] + 1e-6) == []


def test_bounds_of_a_turned_ellipsoid_hold_it_tightly():
    solid = ellipsoid((3, -2, 8), (30, 10, 20), (20, -35, 60))
    sphere = np.random.default_rng(1).normal(size=(200_000, 3))
    sphere /= np.linalg.norm(sphere, axis=1)[:, None]
    rotation = Rotation.from_euler("xyz", (20, -35, 60), degrees=True)
    points = np.add(rotation.apply(sphere * (30, 10, 20)), (3, -2, 8))
    low, high = solid.bounds_mm
    assert (points >= low - 1e-9).all()
    assert (points <= high + 1e-9).all()
    assert np.allclose(points.min(axis=0), low, atol=0.05)
    assert np.allclose(points.max(axis=0), high, atol=0.05)


def test_an_elliptic_section_has_the_area_of_an_ellipse():
    solid = EllipticCylinder(
        kind="elliptic_cylinder",
        centre_mm=(5, -3),
        semi_axes_mm=(178, 128),
        z_mm=(-10, 10),
        turn_deg=30,
        wall_mm=3,
    )
    outer, inner = solid.section(0.0)
    # a polygon within the sagitta of the curve lacks no more than two thirds of sagitta x perimeter
    assert math.pi * 178 * 128 - area(outer) == pytest.approx(0, abs=SAGITTA_MM * 970)
    assert math.pi * 175 * 125 - area(inner) == pytest.approx(0, abs=SAGITTA_MM * 950)
    assert solid.section(10.1) == []
    turned = (outer - (5, -3)) @ Rotation.from_euler("z", 30, degrees=True).as_matrix()[:2, :2]
    assert np.allclose(np.square(turned / (178, 128)).sum(axis=1), 1.0)


@pytest.mark.parametrize("lean", [0.0, 30.0, 60.0])
def test_an_oblique_tube_is_cut_in_an_ellipse(lean):
    """A straight tube of radius r leaning by t is cut in an ellipse of area pi r^2 / cos t."""
    along = np.array([math.sin(math.radians(lean)), 0.0, math.cos(math.radians(lean))])
    solid = Tube(kind="tube", points_mm=[tuple(-60 * along), tuple(60 * along)], radius_mm=5.0)
    (outline,) = solid.section(1.3)
    expected = math.pi * 25 / math.cos(math.radians(lean))
    assert area(outline) == pytest.approx(expected, rel=4 * SAGITTA_MM / 5)
    across = outline - np.array([1.3 * math.tan(math.radians(lean)), 0.0])
    distance = np.hypot(across[:, 0] * math.cos(math.radians(lean)), across[:, 1])
    assert np.allclose(distance, 5.0, atol=1e-9)


def test_the_round_end_of_a_tube_is_a_ball():
    solid = Tube(kind="tube", points_mm=[(0, 0, 0), (0, 0, -30)], radius_mm=5.0)
    (outline,) = solid.section(3.0)
    assert np.allclose(np.hypot(*outline.T), 4.0, atol=1e-6)
    assert solid.section(5.0) == []


def test_an_arc_lies_within_its_radius_of_the_ellipse():
    solid = Arc(
        kind="arc",
        centre_mm=(2, 5),
        semi_axes_mm=(150, 100),
        azimuth_deg=(200, 300),
        z_mm=(40, -20),
        radius_mm=4.25,
    )
    share = np.linspace(0, 1, 400_001)
    az = np.radians(200 + 100 * share)
    line = np.column_stack([2 + 150 * np.sin(az), 5 - 100 * np.cos(az), 40 - 60 * share])
    assert (
        line[0] @ (0, 1, 0) > 0 > line[-1] @ (0, 1, 0)
    )  # from the back, over the right (x < 0), to the front
    assert line[200_000, 0] < -130
    for height in (-21.0, -12.3, 0.0, 10.0, 38.7):
        for outline in solid.section(height):
            for x, y in outline[::7]:
                nearest = np.sqrt(np.square(line - (x, y, height)).sum(axis=1).min())
                # the arc is a polyline of about a degree a step: 2.7 mm, whose sagitta is below 0.01 mm
                assert nearest == pytest.approx(4.25, abs=0.01)


def test_a_flat_ring_has_a_hole():
    ring = Arc(
        kind="arc", centre_mm=(0, 0), semi_axes_mm=(30, 30), azimuth_deg=(0, 360), z_mm=(0, 0), radius_mm=4.0
    )
    inner, outer = sorted(ring.section(0.0), key=area)
    assert area(outer) == pytest.approx(math.pi * 34**2, rel=2e-3)
    assert area(inner) == pytest.approx(math.pi * 26**2, rel=2e-3)


@given(st.sampled_from(["ellipsoid", "tube", "arc", "cylinder", "box"]), st.integers(0, 10_000))
@settings(deadline=None, max_examples=40)
def test_inside_and_section_agree(kind, seed):
    """A point is inside the solid exactly where it is inside the section's polygons (by matplotlib)."""
    rng = np.random.default_rng(seed)
    solid = {
        "ellipsoid": lambda: ellipsoid(
            tuple(rng.uniform(-5, 5, 3)), tuple(rng.uniform(5, 30, 3)), (10, 40, 70)
        ),
        "tube": lambda: Tube(kind="tube", points_mm=rng.uniform(-30, 30, (4, 3)).tolist(), radius_mm=4.0),
        "arc": lambda: Arc(
            kind="arc",
            centre_mm=(0, 0),
            semi_axes_mm=(30, 20),
            azimuth_deg=(0, float(rng.uniform(40, 300))),
            z_mm=(-10, 15),
            radius_mm=3.0,
        ),
        "cylinder": lambda: EllipticCylinder(
            kind="elliptic_cylinder",
            centre_mm=(1, 2),
            semi_axes_mm=(20, 9),
            z_mm=(-20, 20),
            turn_deg=25,
            wall_mm=3,
        ),
        "box": lambda: Box(kind="box", low_mm=(-12, -8, -20), high_mm=(9, 15, 20)),
    }[kind]()
    height = float(rng.uniform(-12, 12))
    points = rng.uniform(-40, 40, (4000, 2))
    crossed = np.zeros(len(points), dtype=int)
    near = np.zeros(len(points), dtype=bool)
    for outline in solid.section(height):
        closed = np.vstack([outline, outline[:1]])
        crossed += Path(closed).contains_points(points)
        share = np.linspace(0, 1, 12)[:-1, None, None]
        edges = (closed[:-1] + share * np.diff(closed, axis=0)).reshape(-1, 2)
        near |= cKDTree(edges).query(points)[0] < 0.2  # beside the outline chords and surface differ
    inside = solid.contains(points[:, 0], points[:, 1], np.array(height))
    assert np.array_equal(inside[~near], (crossed % 2 == 1)[~near])


@pytest.mark.parametrize(
    ("solid", "volume", "tolerance"),
    [
        (ellipsoid((0.3, -0.2, 0.9), (18, 11, 14), (10, 50, -20)), 4 / 3 * math.pi * 18 * 11 * 14, 3e-3),
        (
            Box(kind="box", low_mm=(-10.3, -5.1, -7), high_mm=(9, 6, 8)),
            19.3 * 11.1 * 15,
            0.03,
        ),  # flat faces: 1/8 voxel each
        (
            Tube(kind="tube", points_mm=[(-15, -3, -8), (15, 9, 12)], radius_mm=5),
            math.pi * 25 * math.sqrt(30**2 + 12**2 + 20**2) + 4 / 3 * math.pi * 125,
            3e-3,
        ),
    ],
)
def test_shares_of_the_voxels_sum_to_the_volume(solid, volume, tolerance):
    grid = Grid((-40.2, -40.7, -40.1), (2, 2, 2.5), (33, 41, 41))
    where, share = voxel_share(solid, grid, 4)
    assert share.min() >= 0
    assert share.max() <= 1
    assert share.sum() * grid.voxel_cc * 1000 == pytest.approx(volume, rel=tolerance)
    assert share.shape == tuple(s.stop - s.start for s in where)


def test_a_solid_beyond_the_grid_has_no_share_and_one_across_its_edge_is_cut():
    grid = Grid((0, 0, 0), (1, 1, 1), (10, 10, 10))
    assert voxel_share(ellipsoid((30, 5, 5), (4, 4, 4), (0, 0, 0)), grid, 2) is None
    where, share = voxel_share(ellipsoid((-0.5, 4.5, 4.5), (4, 4, 4), (0, 0, 0)), grid, 5)
    assert where[2].start == 0
    assert share.sum() == pytest.approx(2 / 3 * math.pi * 64, rel=0.01)  # half of the ball
