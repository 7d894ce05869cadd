"""The fast kernels against the float64 sum: within 0.1 % everywhere outside the capsules.

The limit is the promise of `brachy.dose`. Every voxel is compared; the float64 sum is itself held to a numerical line
integral elsewhere.
"""

import numba
import numpy as np
import pytest
from scipy.spatial import cKDTree
from scipy.spatial.transform import Rotation

from brachy import resources
from brachy.core import source_sums, tables
from brachy.dosimetry.implant import Implant
from brachy.dosimetry.source import load_source, unverified_names
from brachy.dosimetry.tg43 import dose, dose_table, influence
from brachy.geometry.grid import Grid

PROMISE = 1e-3
JIT = not numba.config.DISABLE_JIT


def outside_capsules(implant, points):
    """Points that lie in no capsule; (n, 3) mm."""
    ok = np.ones(len(points), dtype=bool)
    radius, half = implant.source.capsule_diameter_mm / 2, implant.source.capsule_length_mm / 2
    close = cKDTree(points).query_ball_point(implant.positions_mm, np.hypot(half, radius))
    for seed, axis, near in zip(implant.positions_mm, implant.axes, close, strict=True):
        d = points[near] - seed
        along = np.abs(d @ axis)
        ok[near] &= ~((along <= half) & (np.einsum("ij,ij->i", d, d) - along**2 < radius**2))
    return ok


def unit(vectors):
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


def implants(name):
    """Implants that are hard for a tree in different ways, (label, positions mm, axes)."""
    rng = np.random.default_rng(11)
    inside = unit(rng.normal(size=(60, 3))) * 22 * rng.uniform(size=(60, 1)) ** (1 / 3)
    oblique = unit(np.array([0.3, 0.5, 0.81]))
    rows = np.array(
        [[x, y, z] for x in (-10, 0, 10) for y in (-10, 0, 10) for z in range(-21, 22, 6)], dtype=float
    )
    turned = Rotation.align_vectors([oblique], [[0, 0, 1]])[0]
    cases = {
        "random": (inside, unit(rng.normal(size=(60, 3)))),
        "parallel": (inside, np.tile([0.0, 0.0, 1.0], (60, 1))),
        "tilted": (inside, unit(np.array([0.0, 0.0, 1.0]) + rng.normal(0, 0.1, (60, 3)))),
        "needles": (rows + 0.13, np.tile([0.0, 0.0, 1.0], (72, 1))),
        "oblique needles": (turned.apply(rows) + 0.13, np.tile(oblique, (72, 1))),
        "clustered": (rng.uniform(-2.5, 2.5, (40, 3)), np.tile(oblique, (40, 1))),
        "single file": (np.outer(np.arange(30) * 5.0 - 70, oblique), np.tile(oblique, (30, 1))),
        "single": (np.array([[1.2, 3.3, -2.7]]), oblique[None]),
    }
    positions, axes = cases[name]
    return positions, axes


CASES = ["random", "parallel", "tilted", "needles", "oblique needles", "clustered", "single file", "single"]
GRIDS = {
    "1 mm": Grid((-31.5, -31.5, -29.5), (1, 1, 1), (60, 64, 64)),
    "0.5 x 0.5 x 2.5 mm": Grid((-24.75, -24.75, -23.75), (0.5, 0.5, 2.5), (20, 100, 100)),
}


@pytest.mark.skipif(not JIT, reason="millions of pairs: compiled kernels only")
@pytest.mark.parametrize("formalism", ["1D", "2D"])
@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize("case", CASES)
def test_tree_on_every_voxel(case, grid, formalism):
    """Against the direct sum, which is held to the float64 sum at a tenth of the promise on a sample."""
    positions, axes = implants(case)
    strength = np.random.default_rng(1).uniform(0.5, 1.0, len(positions))
    implant = Implant(load_source("amersham_6711"), positions, axes=axes, strength_U=strength)
    geometry = GRIDS[grid]
    centres = geometry.centres_mm()
    ok = outside_capsules(implant, centres)
    direct = dose(geometry, implant, formalism=formalism, method="direct").gy.ravel()
    tree = dose(geometry, implant, formalism=formalism, method="tree").gy.ravel()
    sample = np.flatnonzero(ok)[:: max(1, len(positions) * ok.sum() // 200_000)]
    exact = dose(centres[sample], implant, formalism=formalism, method="exact")
    assert np.abs(direct[sample] / exact - 1).max() < 2e-4
    assert np.abs(tree[sample] / exact - 1).max() < PROMISE
    assert np.abs(tree[ok] / direct[ok] - 1).max() < PROMISE - 2e-4


@pytest.mark.skipif(not JIT, reason="millions of pairs: compiled kernels only")
@pytest.mark.parametrize("model", ["best_2301", "bard_stm1251", "nucletron_selectseed_130002"])
def test_tree_with_models_of_sharp_anisotropy(model):
    """F of these changes by half over five degrees near the axis."""
    positions, axes = implants("needles")
    implant = Implant(load_source(model), positions, axes=axes, strength_U=0.7)
    grid = GRIDS["1 mm"]
    ok = outside_capsules(implant, grid.centres_mm())
    direct = dose(grid, implant, formalism="2D", method="direct").gy.ravel()[ok]
    tree = dose(grid, implant, formalism="2D", method="tree").gy.ravel()[ok]
    assert np.abs(tree / direct - 1).max() < PROMISE - 2e-4


@pytest.mark.skipif(not JIT, reason="millions of pairs: compiled kernels only")
@pytest.mark.parametrize("spacing", [0.7, 2.0, 4.0])
def test_tree_on_oblique_grids_of_other_spacings(spacing):
    """Any direction, left-handed, away from the origin; shapes that no block size divides."""
    direction = Rotation.from_euler("xyz", [25, -40, 70], degrees=True).as_matrix() @ np.diag(
        [1.0, -1.0, 1.0]
    )
    middle = np.array([130.0, -70.0, 410.0])
    shape = (37, 43, 51)
    half = 0.5 * (np.array(shape[::-1]) - 1) * spacing
    grid = Grid(middle - direction @ half, (spacing,) * 3, shape, direction)
    positions, axes = implants("tilted")
    implant = Implant(load_source("amersham_6711"), positions + middle, axes=axes, strength_U=0.7)
    centres = grid.centres_mm()
    sample = np.flatnonzero(outside_capsules(implant, centres))[::29]
    for formalism in ("1D", "2D"):
        tree = dose(grid, implant, formalism=formalism, method="tree").gy.ravel()[sample]
        exact = dose(centres[sample], implant, formalism=formalism, method="exact")
        assert np.abs(tree / exact - 1).max() < PROMISE


@pytest.mark.skipif(not JIT, reason="millions of pairs: compiled kernels only")
@pytest.mark.parametrize("seed", range(12))
def test_tree_on_random_implants(seed):
    """Any model, 25 to 140 seeds in balls, discs, lines and rows, tilted little or much, any grid direction."""
    rng = np.random.default_rng(seed)
    count = int(rng.integers(25, 140))
    positions = (
        unit(rng.normal(size=(count, 3))) * rng.uniform(8, 40) * rng.uniform(size=(count, 1)) ** (1 / 3)
    )
    shape = rng.integers(4)
    if shape == 1:
        positions[:, :2] = np.round(positions[:, :2] / 10) * 10  # needles on a template
    positions = positions * [(1, 1, 1), (1, 1, 1), (1, 1, 0.1), (0.05, 0.05, 2)][shape]
    axes = unit(unit(rng.normal(size=3)) + rng.choice([0, 0.1, 3]) * rng.normal(size=(count, 3)))
    names = resources.names("sources")
    source = load_source(names[rng.integers(len(names))])
    implant = Implant(source, positions, axes=axes, strength_U=rng.uniform(0.5, 1, count))
    spacing = np.array(
        [(1, 1, 1), (0.5, 0.5, 2.5), (2, 2, 2), (1.3, 0.8, 1.1), (0.98, 0.98, 5)][rng.integers(5)]
    )
    size = np.clip(rng.uniform(60, 140, 3) / spacing[::-1], 3, 100).astype(int)
    direction = Rotation.random(random_state=seed).as_matrix()
    origin = rng.uniform(-30, 30, 3) - direction @ (0.5 * (size[::-1] - 1) * spacing)
    grid = Grid(origin, tuple(spacing), tuple(size.tolist()), direction)
    ok = outside_capsules(implant, grid.centres_mm())
    for formalism in ("1D", "2D"):
        direct = dose(grid, implant, formalism=formalism, method="direct").gy.ravel()[ok]
        tree = dose(grid, implant, formalism=formalism, method="tree").gy.ravel()[ok]
        assert np.abs(tree / direct - 1).max() < PROMISE - 2e-4


@pytest.mark.parametrize("name", resources.names("sources") + unverified_names())
@pytest.mark.parametrize("formalism", ["1D", "2D"])
def test_direct_sum_of_every_model(name, formalism):
    """From the capsule's side and tips to half a metre, at all angles."""
    source = load_source(name, accept_unverified=True)
    rng = np.random.default_rng(5)
    radius, half = source.capsule_diameter_mm / 2, source.capsule_length_mm / 2
    r = np.concatenate([np.geomspace(radius, 500, 1500), np.full(200, half), rng.uniform(0, 3 * half, 800)])
    cosine = rng.uniform(-1, 1, len(r))
    across, along = r * np.sqrt(1 - cosine**2), r * cosine
    across = np.where((across < radius * 1.001) & (np.abs(along) <= half * 1.001), radius * 1.001, across)
    turn = rng.uniform(0, 2 * np.pi, len(r))
    axis = unit(np.array([0.2, -0.5, 0.7]))
    frame = Rotation.align_vectors([axis], [[0, 0, 1]])[0]
    place = np.array([5.0, 6.0, 7.0])
    points = place + frame.apply(np.stack([across * np.cos(turn), across * np.sin(turn), along], axis=1))
    seed = Implant(source, [place], axes=axis, strength_U=0.7)
    exact = dose(points, seed, formalism=formalism, method="exact")
    direct = dose(points, seed, formalism=formalism, method="direct")
    assert np.abs(direct / exact - 1).max() < 7e-4
    near = np.hypot(across, along) < 100
    assert np.abs(direct / exact - 1)[near & (np.hypot(across, along) > 5)].max() < 1.2e-4
    assert np.median(np.abs(direct / exact - 1)[near]) < 2e-5
    row = influence(points, [place], source, 0.7, axis=axis, formalism=formalism)[0]
    np.testing.assert_allclose(row, direct, rtol=2e-6)


@pytest.mark.parametrize(
    "name", ["amersham_6711", "best_2301", "draximage_ls1", "nasi_med3631", "theragenics_agx100"]
)
def test_either_side_of_where_g_l_is_no_longer_computed(name):
    """Tilted seeds at 0.9 to 1.2 of that distance, on their axes, and in their capsules; all in one list of places."""
    source = load_source(name, accept_unverified=True)
    rng = np.random.default_rng(8)
    positions, axes = (
        rng.uniform(-1, 1, (3, 3)) + [[0, 0, 0], [60, 0, 0], [0, 60, 0]],
        unit(rng.normal(size=(3, 3))),
    )
    border, half = 10 * tables.FAR * source.active_length_cm, source.capsule_length_mm / 2
    points, group = [], []
    for place, axis in zip(positions, axes, strict=True):
        around = unit(rng.normal(size=(800, 3))) * border * rng.uniform(0.9, 1.2, (800, 1))
        exactly = unit(rng.normal(size=(100, 3))) * border * (1 + np.linspace(-1e-6, 1e-6, 100)[:, None])
        on_axis = np.outer(np.linspace(1.01 * half, 2.5 * border, 100) * rng.choice([-1, 1], 100), axis)
        inside = np.outer(np.linspace(-0.99 * half, 0.99 * half, 50), axis)
        points += [place + near for near in (around, exactly, on_axis, inside)]
        group += [0] * 1000 + [1] * 50
    points, inside = np.concatenate(points), np.array(group) == 1
    order = rng.permutation(len(points))
    implant = Implant(source, positions, axes=axes, strength_U=0.7)
    exact = dose(points[order], implant, formalism="2D", method="exact")
    direct = dose(points[order], implant, formalism="2D", method="direct")
    error = np.abs(direct / exact - 1)
    assert error[~inside[order]].max() < 2e-4
    assert error[inside[order]].max() < 1e-3


@pytest.mark.kernel
def test_a_place_has_the_same_dose_whatever_places_are_beside_it():
    """Whether the rate is read whole or divided by G_L depends on the place alone."""
    implant = Implant(
        load_source("amersham_6711"), [[0, 0, 0], [3, 0, 0]], axes=[[0, 0, 1], [0.6, 0, 0.8]], strength_U=0.7
    )
    points = unit(np.random.default_rng(4).normal(size=(40, 3))) * np.linspace(1, 12, 40)[:, None]
    for formalism in ("1D", "2D"):
        together = dose(points, implant, formalism=formalism, method="direct")
        alone = [dose([point], implant, formalism=formalism, method="direct")[0] for point in points]
        np.testing.assert_array_equal(together, alone)


def test_every_shipped_model_has_its_tables():
    """None is summed exactly for want of a table, not even the 1251L: its capsule ends 0.075 mm from its core."""
    for name in resources.names("sources") + unverified_names():
        source = load_source(name, accept_unverified=True)
        assert dose_table(source, "1D") is not None, name
        assert dose_table(source, "2D") is not None, name


def test_inside_the_capsule_the_direct_sum_keeps_the_rule():
    """A point inside is moved to the side in float32 too."""
    source = load_source("amersham_6711")
    seed = Implant(source, [[0, 0, 0]], axes=[0, 0, 1], strength_U=1.0)
    points = [[0, 0, 0], [0.1, 0.2, 1.0], [0, 0, -2.2], [0.39, 0, 2.24]]
    for formalism in ("1D", "2D"):
        exact = dose(points, seed, formalism=formalism, method="exact")
        np.testing.assert_allclose(dose(points, seed, formalism=formalism, method="direct"), exact, rtol=1e-3)


@pytest.mark.kernel
def test_far_beyond_the_tables_the_sum_is_exact():
    source = load_source("amersham_6711")
    seed = Implant(source, [[0, 0, 0]], strength_U=1.0)
    points = [[10.0, 0, 0], [900.0, 0, 0]]
    np.testing.assert_array_equal(dose(points, seed, method="direct"), dose(points, seed, method="exact"))


@pytest.mark.kernel
def test_a_table_with_kinks_between_its_borders_is_not_used():
    """A user's F with a spike at an odd angle: refused as a table, summed exactly."""
    data = load_source("amersham_6711").to_dict()
    table = data["anisotropy_function"]
    table["theta_deg"] = [0.0, 41.03, 41.11, 41.19, 90.0]
    table["F"] = [[0.3] * 6, [0.9] * 6, [0.1] * 6, [0.9] * 6, [1.0] * 6]
    source = type(load_source("amersham_6711")).from_dict(data, "spike")
    assert dose_table(source, "2D") is None
    seed = Implant(source, [[0, 0, 0]], axes=[0, 0, 1], strength_U=1.0)
    angle = np.radians(41.11)
    point = [[10 * np.sin(angle), 0, 10 * np.cos(angle)]]
    assert dose(point, seed, formalism="2D", method="tree")[0] / dose(
        [[10, 0, 0]], seed, formalism="2D", method="tree"
    )[0] == pytest.approx(0.1, rel=0.02)


@pytest.mark.kernel
@pytest.mark.parametrize("formalism", ["1D", "2D"])
def test_tree_and_direct_on_a_few_voxels(formalism):
    """Tiny, so that it runs without the compiler too: every branch of the tree."""
    rng = np.random.default_rng(2)
    there = np.array([60.0, 0.0, 0.0])
    positions = np.concatenate([rng.uniform(-3, 3, (14, 3)), there + rng.uniform(-3, 3, (14, 3))])
    axes = unit(rng.normal(size=(28, 3)))
    implant = Implant(load_source("amersham_6711"), positions, axes=axes, strength_U=0.7)
    grid = Grid((-6.0, -5.0, -5.0), (2.0, 2.0, 2.0), (9, 10, 13))
    ok = outside_capsules(implant, grid.centres_mm()).reshape(grid.shape)
    exact = dose(grid, implant, formalism=formalism, method="exact").gy
    for method in ("direct", "tree"):
        found = dose(grid, implant, formalism=formalism, method=method).gy
        assert np.abs(found / exact - 1)[ok].max() < PROMISE


@pytest.mark.kernel
def test_borders_hold_the_radii_of_published_tables():
    """r^2 of the whole centimetres and of 0.25, 0.5, 0.75, 1.5 cm: no kink inside a segment."""
    _, borders = tables.segment_borders(0.04)
    for r in (0.25, 0.5, 0.75, 1.0, 1.5, *range(2, 12)):
        assert r**2 in borders
    assert (np.diff(borders) > 0).all()
    assert borders[0] <= 0.04**2 < borders[-1]


@pytest.mark.kernel
def test_angle_from_the_axis():
    """The kernels' arc tangent against numpy's, in all four octants and for a seed's G_L."""
    theta = np.radians(np.linspace(0.01, 179.99, 500))
    across, along = np.float32(np.sin(theta)), np.float32(np.cos(theta))
    found = [float(source_sums.angle(a, t)) for a, t in zip(across, along, strict=True)]
    np.testing.assert_allclose(found, theta, rtol=5e-6)
    tangent = np.linspace(0.001, 1, 500)
    short = sum(a * tangent ** (2 * k + 1) for k, a in enumerate(source_sums.SHORT_ARC))
    np.testing.assert_allclose(short, np.arctan(tangent), rtol=3.1e-5)


@pytest.mark.kernel
def test_columns_hold_the_published_angles():
    for name in resources.names("sources") + unverified_names():
        angles = load_source(name, accept_unverified=True).anisotropy_theta_deg
        steps = angles * tables.angle_columns(angles) / 90
        np.testing.assert_allclose(steps, np.round(steps), atol=1e-6)


@pytest.mark.kernel
@pytest.mark.parametrize("voxels", [1, 4, 6, 7, 24])
def test_interpolation_is_exact_for_polynomials(voxels):
    """Degree 5 through 6 nodes; fewer voxels than nodes are met one by one."""
    count, at, weight = tables.interpolation(24, 6)
    nodes = at[voxels, : count[voxels]].astype(float)
    places = np.arange(voxels) - 0.5 * (voxels - 1)
    for degree in range(count[voxels]):
        found = (nodes / 12) ** degree @ weight[voxels, : count[voxels], :voxels]
        np.testing.assert_allclose(found, (places / 12) ** degree, atol=3e-6)


def test_checked_places_lie_in_the_block():
    places = tables.check_places(32)
    assert places.shape == (32, 3)
    assert places.min() >= 0
    assert places.max() < 1
    assert len({tuple((p * 2).astype(int)) for p in places[8:]}) == 8  # every octant is met


def test_blocks_are_about_24_mm_and_halve():
    for spacing in ((1, 1, 1), (0.5, 0.5, 2.5), (2, 2, 2), (0.98, 0.98, 3), (5, 5, 5)):
        sizes = tables.block_sizes(np.array(spacing, dtype=float))
        assert (sizes[:-1] == 2 * sizes[1:]).all()
        assert sizes[-1].prod() >= 216
    np.testing.assert_array_equal(tables.block_sizes(np.ones(3)), [[24, 24, 24], [12, 12, 12]])
    assert tables.block_sizes(np.full(3, 0.01)).max() <= 1.1 * tables.MOST_VOXELS


@pytest.mark.skipif(not JIT, reason="millions of pairs: compiled kernels only")
@pytest.mark.parametrize("formalism", ["1D", "2D"])
@pytest.mark.parametrize(
    ("spacing", "shape"),
    [
        ((1, 1, 1), (1, 1, 1)),
        ((0.01, 0.01, 0.01), (20, 20, 20)),
        ((50, 50, 50), (5, 6, 7)),
        ((0.3, 7, 2), (20, 3, 99)),
    ],
)
def test_tree_on_odd_grids(spacing, shape, formalism):
    """One voxel; voxels finer than a capsule's wall or wider than the implant; a slab."""
    positions, axes = implants("tilted")
    implant = Implant(load_source("amersham_6711"), positions, axes=axes, strength_U=0.7)
    grid = Grid(np.full(3, 30.0) - np.array(spacing) * (np.array(shape[::-1]) - 1) / 2, spacing, shape)
    exact = dose(grid, implant, formalism=formalism, method="exact").gy
    tree = dose(grid, implant, formalism=formalism, method="tree").gy
    ok = outside_capsules(implant, grid.centres_mm()).reshape(shape)
    assert np.abs(tree / exact - 1)[ok].max() < PROMISE
