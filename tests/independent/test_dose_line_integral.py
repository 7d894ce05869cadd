"""The dose of an implant by a slow second definition that shares no code with the product.

The line source is integrated numerically (scipy.quad) over point emitters; tables are interpolated with numpy.
"""

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.spatial.transform import Rotation

from brachy.dosimetry.implant import Implant
from brachy.dosimetry.source import load_source
from brachy.dosimetry.tg43 import dose
from brachy.geometry.grid import Grid

HOURS = 59.4 * 24 / np.log(2)


def slow_rate(source, point_cm, seed_cm, axis):
    """cGy/h/U of one seed at one point; `axis` None is the 1D formalism."""
    d = np.asarray(point_cm) - seed_cm
    length, radius = source.active_length_cm, source.capsule_diameter_mm / 20

    def geometry(across, along):
        def emitter(t):
            return 1 / (across**2 + (along - t) ** 2)

        return quad(emitter, -length / 2, length / 2, epsabs=0, epsrel=1e-11, limit=500)[0] / length

    if axis is None:
        across, along = max(np.linalg.norm(d), radius), 0.0
    else:
        along = float(d @ axis)
        across = float(np.linalg.norm(d - along * axis))
        if abs(along) <= source.capsule_length_mm / 20 and across < radius:
            across = radius
    r = np.hypot(across, along)
    nodes, g = source.radial_r_cm, source.radial_g
    if r <= nodes[-1]:
        radial = np.exp(np.interp(r, nodes, np.log(g)))
    else:
        radial = g[-1] * (g[-1] / g[-2]) ** ((r - nodes[-1]) / (nodes[-1] - nodes[-2]))
    if axis is None:
        anisotropy = np.interp(r, source.phi_r_cm, source.phi_an)
    else:
        theta = np.degrees(np.arccos(min(abs(along) / r, 1.0)))
        columns = [np.interp(theta, source.anisotropy_theta_deg, column) for column in source.anisotropy_F.T]
        anisotropy = np.interp(r, source.anisotropy_r_cm, columns)
    return source.dose_rate_constant * geometry(across, along) / geometry(1.0, 0.0) * radial * anisotropy


def random_implant(name, seed=0, count=7):
    rng = np.random.default_rng(seed)
    axes = rng.normal(size=(count, 3))
    return Implant(
        load_source(name),
        rng.uniform(-15, 15, (count, 3)),
        axes=axes,
        strength_U=rng.uniform(0.3, 1.2, count),
    )


@pytest.mark.parametrize("formalism", ["1D", "2D"])
@pytest.mark.parametrize("name", ["amersham_6711", "bard_stm1251", "nucletron_selectseed_130002"])
def test_sum_over_seeds(name, formalism):
    implant = random_implant(name)
    rng = np.random.default_rng(1)
    near = implant.positions_mm + rng.uniform(-1.0, 1.0, (7, 3))  # some of them inside a capsule
    far = rng.uniform(-150, 150, (8, 3))
    points = np.concatenate([near, rng.uniform(-25, 25, (12, 3)), far, implant.positions_mm[:2]])
    expected = [
        sum(
            strength * slow_rate(implant.source, point / 10, seed / 10, axis if formalism == "2D" else None)
            for seed, axis, strength in zip(
                implant.positions_mm, implant.axes, implant.strength_U, strict=True
            )
        )
        for point in points
    ]
    found = dose(points, implant, formalism=formalism, method="exact")
    np.testing.assert_allclose(found, np.array(expected) * HOURS / 100, rtol=1e-7)


@pytest.mark.kernel
def test_scalar_oracle_and_kernel_are_one_definition():
    source = load_source("amersham_6711")
    r = np.array([0.0, 0.03, 0.05, 0.1, 0.23, 0.5, 1.7, 4.99, 5.5, 9.9, 14.0])
    theta = np.array([0.0, 33.0, 90.0, 1e-7, 0.0, 147.0, 179.0, 61.0, 90.0, 180.0, 12.3])
    seed = Implant(source, [[0, 0, 0]], axes=[0, 0, 1], strength_U=1.0)
    points = 10 * np.stack([r * np.sin(np.radians(theta)), 0 * r, r * np.cos(np.radians(theta))], axis=1)
    for formalism, rate in (("1D", source.dose_rate(r)), ("2D", source.dose_rate(r, theta))):
        found = dose(points, seed, formalism=formalism, method="exact")
        np.testing.assert_allclose(found, rate * HOURS / 100, rtol=1e-9)


@pytest.mark.parametrize("formalism", ["1D", "2D"])
def test_moving_and_turning_everything_changes_nothing(formalism):
    implant = random_implant("best_2301", seed=3)
    points = np.random.default_rng(4).uniform(-40, 40, (200, 3))
    turn = Rotation.from_euler("zyx", [31.0, -77.0, 12.0], degrees=True).as_matrix()
    moved = Implant(
        implant.source,
        implant.positions_mm @ turn.T + (130.3, -7.1, 411.9),
        axes=implant.axes @ turn.T,
        strength_U=implant.strength_U,
    )
    before = dose(points, implant, formalism=formalism, method="exact")
    after = dose(points @ turn.T + (130.3, -7.1, 411.9), moved, formalism=formalism, method="exact")
    np.testing.assert_allclose(after, before, rtol=1e-9)


def test_total_is_the_sum_of_seeds_and_of_models():
    first, second = random_implant("amersham_6711", 5), random_implant("bard_stm1251", 6)
    points = np.random.default_rng(7).uniform(-40, 40, (50, 3))
    one_by_one = np.zeros(50)
    for implant in (first, second):
        for i in range(len(implant)):
            single = Implant(
                implant.source,
                implant.positions_mm[i : i + 1],
                axes=implant.axes[i],
                strength_U=implant.strength_U[i],
            )
            one_by_one += dose(points, single, formalism="2D", method="exact")
    np.testing.assert_allclose(
        dose(points, [first, second], formalism="2D", method="exact"), one_by_one, rtol=1e-12
    )


@pytest.mark.parametrize("name", ["amersham_6711", "isoaid_iai125a", "bard_stm1251"])
def test_far_field(name):
    """Far away a line is a point: G_L -> 1/r^2 with relative deviation below L^2 / (4 r^2)."""
    source = load_source(name)
    r = np.array([3.0, 10.0, 100.0])
    for theta in (0.0, 45.0, 90.0):
        deviation = np.abs(source.geometry_function(r, theta) * r**2 - 1)
        assert (deviation <= 1.01 * source.active_length_cm**2 / (4 * r**2)).all()


def test_exponential_beyond_the_table_of_g():
    """g(11) / g(10) = g(10) / g(9): one more step of the last segment."""
    source = load_source("amersham_6711")
    assert source.radial_dose_function(11.0) == pytest.approx(0.0803**2 / 0.109, rel=1e-12)
    assert source.radial_dose_function(0.01) == 1.055


def test_no_half_space_is_hotter_than_the_other():
    """A known wrong implementation takes F = 1 outside its table: 2.7 times too hot on half of the axis."""
    source = load_source("amersham_6711")
    theta = np.linspace(0, 180, 181)
    for r in (0.3, 1.0, 4.0, 8.0, 20.0):
        rate = source.dose_rate(r, theta)
        np.testing.assert_allclose(rate, rate[::-1], rtol=1e-12)
    assert source.dose_rate(8.0, 0.0) / source.dose_rate(8.0, 90.0) == pytest.approx(0.550, abs=2e-3)


@pytest.mark.kernel
def test_oblique_left_handed_grid_is_the_sum_at_its_voxel_centres():
    direction = Rotation.from_euler("xyz", [10, 20, 30], degrees=True).as_matrix() @ np.diag([1, 1, -1])
    grid = Grid((-8.0, -6.0, 9.0), (4.0, 3.0, 5.0), (3, 4, 5), direction)
    implant = random_implant("amersham_6711", 8, count=3)
    result = dose(grid, implant, formalism="2D", method="exact")
    at_points = dose(grid.centres_mm(), implant, formalism="2D", method="exact").reshape(grid.shape)
    assert result.gy.shape == (3, 4, 5)
    np.testing.assert_allclose(result.gy, at_points, rtol=1e-12)
    where = grid.index_to_mm([[4, 1, 2]])[0]
    expected = sum(
        s * slow_rate(implant.source, where / 10, p / 10, a)
        for p, a, s in zip(implant.positions_mm, implant.axes, implant.strength_U, strict=True)
    )
    assert result.gy[2, 1, 4] == pytest.approx(expected * HOURS / 100, rel=1e-7)
