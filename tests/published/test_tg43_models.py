"""Every shipped model against the transcriptions of its published tables, and every node of its 2D table."""

import tomllib

import numpy as np
import pytest

from brachy import resources
from brachy.dosimetry.implant import Implant
from brachy.dosimetry.source import load_source, unverified_names
from brachy.dosimetry.tg43 import dose

VERIFIED = resources.names("sources")
ALL = VERIFIED + unverified_names()

# Lambda (cGy/h/U) and active length (mm): TG-43U1 (2004), TG-43U1S1 (2007), Karaiskos et al. (2001)
PUBLISHED = {
    "amersham_6702": (1.036, 3.0),
    "amersham_6711": (0.965, 3.0),
    "best_2301": (1.018, 4.0),
    "bard_stm1251": (1.018, 3.81),
    "isoaid_iai125a": (0.981, 3.0),
    "nucletron_selectseed_130002": (0.954, 3.4),
}


X, W = np.polynomial.legendre.leggauss(200)


def geometry(r, theta_deg, length):
    """G_L as the mean of 1/d^2 along the line, by Gauss-Legendre: no arctangent."""
    across, along = r * np.sin(np.radians(theta_deg)), r * np.cos(np.radians(theta_deg))
    return 0.5 * np.sum(W / (across**2 + (along - 0.5 * length * X) ** 2))


def test_six_models_are_shipped():
    assert sorted(PUBLISHED) == VERIFIED


@pytest.mark.parametrize("name", VERIFIED)
def test_published_constants(name):
    source = load_source(name)
    assert (source.dose_rate_constant, source.active_length_cm * 10) == pytest.approx(PUBLISHED[name])


@pytest.mark.parametrize("name", ALL)
def test_tables_are_the_transcribed_ones(name, shared):
    folder = shared / "tg43" if name in VERIFIED else shared / "tg43" / "unverified"
    table = tomllib.loads((folder / f"{name}.toml").read_text("utf-8"))
    source = load_source(name, accept_unverified=True)
    assert source.dose_rate_constant == table["dose_rate_constant_cGy_per_h_U"]
    assert source.active_length_cm * 10 == pytest.approx(table["active_length_mm"], rel=1e-12)
    np.testing.assert_array_equal(source.radial_r_cm, table["radial_dose_line"]["r_cm"])
    np.testing.assert_array_equal(source.radial_g, table["radial_dose_line"]["g"])
    np.testing.assert_array_equal(source.anisotropy_r_cm, table["anisotropy_2d"]["r_cm"])
    np.testing.assert_array_equal(source.anisotropy_theta_deg, table["anisotropy_2d"]["theta_deg"])
    np.testing.assert_array_equal(source.anisotropy_F, table["anisotropy_2d"]["F"])
    if source.phi_an_origin == "published":
        np.testing.assert_array_equal(source.phi_r_cm, table["anisotropy_1d"]["r_cm"])
        np.testing.assert_array_equal(source.phi_an, table["anisotropy_1d"]["phi"])


@pytest.mark.parametrize("name", ALL)
def test_every_node_of_the_2d_table(name):
    """Scalar oracle and kernel at each (r, theta) node outside the capsule: Lambda (G/G0) g F, to 1e-6."""
    source = load_source(name, accept_unverified=True)
    reference = geometry(1.0, 90.0, source.active_length_cm)
    log_g = dict(zip(source.radial_r_cm, np.log(source.radial_g), strict=True))
    nodes, expected = [], []
    for j, theta in enumerate(source.anisotropy_theta_deg):
        for i, r in enumerate(source.anisotropy_r_cm):
            across, along = r * np.sin(np.radians(theta)), r * np.cos(np.radians(theta))
            inside = across < source.capsule_diameter_mm / 20 and along <= source.capsule_length_mm / 20
            if inside:
                continue
            if r in log_g:
                g = np.exp(log_g[r])
            elif r > max(log_g):  # exponential from the last two nodes
                (low, a), (high, b) = list(log_g.items())[-2:]
                g = np.exp(b + (b - a) * (r - high) / (high - low))
            else:  # between two nodes of g: log-linear by hand
                low, high = max(x for x in log_g if x < r), min(x for x in log_g if x > r)
                g = np.exp(log_g[low] + (log_g[high] - log_g[low]) * (r - low) / (high - low))
            nodes.append((r, theta))
            expected.append(
                source.dose_rate_constant
                * geometry(r, theta, source.active_length_cm)
                / reference
                * g
                * source.anisotropy_F[j, i]
            )
    r, theta = np.array(nodes).T
    np.testing.assert_allclose(source.dose_rate(r, theta), expected, rtol=1e-6)
    angle = np.radians(theta)
    points = 10 * np.stack([0.6 * r * np.sin(angle), 0.8 * r * np.sin(angle), r * np.cos(angle)], axis=1)
    seed = Implant(source, [[0, 0, 0]], axes=[0, 0, 1], strength_U=1.0)
    gy = dose(points, seed, formalism="2D", method="exact")
    np.testing.assert_allclose(gy / (59.4 * 24 / np.log(2)) * 100, expected, rtol=1e-6)


@pytest.mark.parametrize("name", ALL)
def test_integrated_phi_an(name):
    """phi_an by the definition of TG-43U1: F G_L over the sphere, here by the midpoint rule.

    Published ones agree with their own F to the reports' rounding (0.4 %), but for those whose caveats say not.
    """
    source = load_source(name, accept_unverified=True)
    angles = np.arange(0.1, 90.0, 0.2)
    weight = np.sin(np.radians(angles)) * np.radians(0.2)
    checked = 0
    for i, r in enumerate(source.anisotropy_r_cm):
        if r < source.active_length_cm:
            continue
        g = np.array([geometry(r, angle, source.active_length_cm) for angle in angles])
        f = np.interp(angles, source.anisotropy_theta_deg, source.anisotropy_F[:, i])
        value = np.sum(weight * g * f) / geometry(r, 90.0, source.active_length_cm)
        if source.phi_an_origin == "integrated":
            assert source.anisotropy_factor(r) == pytest.approx(value, rel=5e-5), r
            checked += 1
        elif name in VERIFIED and r in source.phi_r_cm:
            assert source.anisotropy_factor(r) == pytest.approx(value, rel=4e-3), r
            checked += 1
    assert checked >= 5 or name not in VERIFIED


@pytest.mark.parametrize("name", ["best_2301", "isoaid_iai125a", "bard_stm1251"])
def test_models_that_use_the_integrated_phi_an(name):
    assert load_source(name).phi_an_origin == "integrated"


def test_best_2301_reads_the_integrated_value_at_1_cm():
    """Its F integrates to 0.9946 at 1 cm; 0.945 is what one transcription prints."""
    assert load_source("best_2301").anisotropy_factor(1.0) == pytest.approx(0.9946, abs=1e-4)
