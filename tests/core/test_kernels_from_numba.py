"""The frozen names of `brachy.core.tg43`, called from a user's compiled code, and the example that shows it."""

import runpy
from pathlib import Path

import numpy as np
import pytest
from numba import njit

import brachy
from brachy.core.tg43 import influence_rows, line_source_dose, point_source_dose
from brachy.dosimetry.implant import Implant
from brachy.dosimetry.tg43 import dose, dose_table
from brachy.units import total_dose_hours

POINTS = np.array([[10.0, 0, 0], [3.0, -8.0, 12.0], [0.0, 0.5, 30.0]])
SEEDS = np.array([[0.0, 0, 0], [5.0, 5.0, -5.0]])
AXES = np.array([[0.0, 0, 1], [0.6, 0, 0.8]])


@njit
def exact_sums(points, seeds, axes, weight, constant, length, radius, half, g, phi, f):
    one, two = np.zeros(len(points)), np.zeros(len(points))
    point_source_dose(points, seeds, weight, constant, length, radius, g[0], g[1], phi[0], phi[1], one)
    line_source_dose(
        points, seeds, axes, weight, constant, length, radius, half, g[0], g[1], f[0], f[1], f[2], two
    )
    return one, two


@njit
def summed_rows(x, y, z, seeds, axes, weight, table):
    rows = np.empty((len(seeds), len(x)), np.float32)
    influence_rows(x, y, z, seeds, axes, weight, table, rows)
    return rows.sum(axis=0)


@pytest.fixture(scope="module")
def implant():
    return Implant(brachy.load_source("amersham_6711"), SEEDS, axes=AXES, strength_U=0.7)


@pytest.mark.kernel
def test_exact_sums_from_numba(implant):
    source = implant.source
    one, two = exact_sums(
        POINTS / 10,
        SEEDS / 10,
        AXES,
        np.full(2, 0.7 * total_dose_hours() * 0.01),
        source.dose_rate_constant / float(source.geometry_function(1.0, 90.0)),
        source.active_length_cm,
        0.05 * source.capsule_diameter_mm,
        0.05 * source.capsule_length_mm,
        (source.radial_r_cm, np.log(source.radial_g)),
        (source.phi_r_cm, source.phi_an),
        (source.anisotropy_r_cm, source.anisotropy_theta_deg, source.anisotropy_F),
    )
    np.testing.assert_allclose(one, dose(POINTS, implant, "1D", "exact"), rtol=1e-12)
    np.testing.assert_allclose(two, dose(POINTS, implant, "2D", "exact"), rtol=1e-12)


@pytest.mark.kernel
@pytest.mark.parametrize("formalism", ["1D", "2D"])
def test_influence_from_numba(implant, formalism):
    x, y, z = np.ascontiguousarray(POINTS.T / 10, np.float32)
    weight = np.full(2, 0.7 * total_dose_hours() * 0.01, np.float32)
    found = summed_rows(
        x,
        y,
        z,
        (SEEDS / 10).astype(np.float32),
        AXES.astype(np.float32),
        weight,
        dose_table(implant.source, formalism),
    )
    np.testing.assert_allclose(found, dose(POINTS, implant, formalism, "exact"), rtol=1e-4)


def test_example(capsys):
    """Its D90 without shifts is that of the exact dose; a shift of every seed lowers it."""
    example = Path(__file__).parents[2] / "examples" / "kernel_in_research.py"
    planned, *shifted = runpy.run_path(str(example))["main"](samples=5)
    assert "D90" in capsys.readouterr().out
    lattice = np.array(
        [[x, y, z] for x in range(-20, 21, 10) for y in range(-20, 21, 10) for z in range(-20, 21, 10)]
    )
    seeds = lattice[np.linalg.norm(lattice, axis=1) <= 20]
    points = np.random.default_rng(2).uniform(-20, 20, (4000, 3))
    points = points[np.linalg.norm(points, axis=1) <= 20]
    implant = Implant(brachy.load_source("amersham_6711"), seeds, axes=[0, 0, 1], strength_U=0.5)
    exact = dose(points, implant, "2D", "exact")
    assert planned == pytest.approx(np.percentile(exact, 10), rel=1e-4)
    assert max(shifted) < planned
