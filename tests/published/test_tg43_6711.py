"""Amersham 6711 against what AAPM TG-43U1 prints (Rivard et al., Med. Phys. 31, 633-674, 2004), retyped."""

import numpy as np
import pytest

from brachy.dosimetry.implant import Implant
from brachy.dosimetry.source import load_source
from brachy.dosimetry.tg43 import dose

# TG-43U1, dose rates per unit strength in the 1D formalism of eq. (11), model 6711: (r in cm, cGy/h/U, half a unit
# of the last printed digit). At 5 cm the tables' own product is 0.013358: 0.31 % from its printed rounding.
PRINTED_1D = (
    *((0.5, 3.937, 5e-4), (1.0, 0.911, 5e-4), (1.5, 0.368, 5e-4), (2.0, 0.186, 5e-4)),
    *((3.0, 0.0643, 5e-5), (4.0, 0.0284, 5e-5), (5.0, 0.0134, 5e-5), (6.0, 0.00688, 5e-6)),
)

# TG-43U1, consensus g_L(r) of the 6711, L = 3.0 mm
G_CM = (0.10, 0.15, 0.25, 0.50, 0.75, 1.00, 1.50, 2.00, 3.00, 4.00, 5.00, 6.00, 7.00, 8.00, 9.00, 10.0)
G_NEAR = (1.055, 1.078, 1.082, 1.071, 1.042, 1.000, 0.908, 0.814)
G_FAR = (0.632, 0.496, 0.364, 0.270, 0.199, 0.148, 0.109, 0.0803)
PRINTED_G = dict(zip(G_CM, (*G_NEAR, *G_FAR), strict=True))

# TG-43U1, consensus F(r, theta) of the 6711: columns r = 0.5, 1, 2, 3, 4, 5 cm
PRINTED_F = {
    0: (0.333, 0.370, 0.442, 0.488, 0.520, 0.550),
    5: (0.400, 0.429, 0.497, 0.535, 0.561, 0.587),
    10: (0.519, 0.537, 0.580, 0.609, 0.630, 0.645),
    20: (0.716, 0.705, 0.727, 0.743, 0.752, 0.760),
    30: (0.846, 0.834, 0.842, 0.846, 0.848, 0.852),
    40: (0.926, 0.925, 0.926, 0.926, 0.928, 0.928),
    50: (0.972, 0.972, 0.970, 0.969, 0.969, 0.969),
    60: (0.991, 0.991, 0.987, 0.987, 0.987, 0.987),
    70: (0.996, 0.996, 0.996, 0.995, 0.995, 0.995),
    80: (1.000, 1.000, 1.000, 0.999, 0.999, 0.999),
}

# TG-43U1, consensus phi_an(r) of the 6711
PRINTED_PHI = {0.5: 0.973, 1.0: 0.944, 2.0: 0.941, 3.0: 0.942, 4.0: 0.943, 5.0: 0.944}


@pytest.fixture(scope="module")
def source():
    return load_source("amersham_6711")


def test_printed_row_of_1d_dose_rates(source):
    for r, printed, half_digit in PRINTED_1D:
        assert source.dose_rate(r) == pytest.approx(printed, rel=3e-3, abs=half_digit)


def test_printed_row_through_the_kernel(source):
    points = [[10.0 * r, 0.0, 0.0] for r, _, _ in PRINTED_1D]
    gy = dose(points, Implant(source, [[0, 0, 0]], strength_U=1.0), method="exact")
    for found, (_, printed, half_digit) in zip(gy / 20.56706, PRINTED_1D, strict=True):
        assert found == pytest.approx(printed, rel=3e-3, abs=half_digit)


def test_mixing_g_of_the_line_with_inverse_square_would_fail(source):
    """The classic error: 4.022 instead of 3.937 at 0.5 cm."""
    wrong = (
        source.dose_rate_constant * source.radial_dose_function(0.5) * source.anisotropy_factor(0.5) / 0.25
    )
    assert wrong == pytest.approx(4.022, abs=5e-4)
    assert source.dose_rate(0.5) != pytest.approx(4.022, rel=0.01)


def test_tables_are_the_printed_ones(source):
    assert source.dose_rate_constant == 0.965
    assert source.active_length_cm == pytest.approx(0.30, abs=1e-15)
    assert source.half_life_days == 59.40
    assert dict(zip(source.radial_r_cm, source.radial_g, strict=True)) == PRINTED_G
    assert dict(zip(source.phi_r_cm, source.phi_an, strict=True)) == PRINTED_PHI
    np.testing.assert_array_equal(source.anisotropy_r_cm, (0.5, 1, 2, 3, 4, 5))
    rows = dict(zip(source.anisotropy_theta_deg, map(tuple, source.anisotropy_F), strict=True))
    assert rows.pop(90) == (1.0,) * 6  # by definition; the report's table ends at 80 degrees
    assert rows == PRINTED_F


def test_printed_2d_nodes(source):
    """Lambda g F G_L / G_L0, G_L from elementary geometry: the angle is a difference of arctangents."""
    half = 0.15
    for angle, row in PRINTED_F.items():
        for r, f in zip((0.5, 1, 2, 3, 4, 5), row, strict=True):
            across, along = r * np.sin(np.radians(angle)), r * np.cos(np.radians(angle))
            if angle == 0:
                geometry = 1 / (r**2 - half**2)
            else:
                geometry = (np.arctan((along + half) / across) - np.arctan((along - half) / across)) / (
                    0.3 * across
                )
            expected = 0.965 * geometry / (2 * np.arctan(half) / 0.3) * PRINTED_G[r] * f
            assert source.dose_rate(r, angle) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize(
    ("r_cm", "theta_deg", "value"),
    [(1.0, 90.0, 0.99259965), (1.0, 0.0, 1.02301790), (1.41421356, 45.0, 0.50186224)],
)
def test_geometry_function(source, r_cm, theta_deg, value):
    """Closed form, L = 3 mm, to the eight decimals computed by hand."""
    assert source.geometry_function(r_cm, theta_deg) == pytest.approx(value, abs=6e-9)


@pytest.mark.kernel
def test_total_dose_of_one_unit_at_the_reference_point(source):
    """0.965 cGy/h x 59.4 d x 24 / ln 2 = 1984.72 cGy."""
    seed = Implant(source, [[0, 0, 0]], axes=[0, 0, 1], strength_U=1.0)
    assert dose([[0, 10, 0]], seed, formalism="2D", method="exact")[0] * 100 == pytest.approx(
        1984.721, abs=5e-4
    )


@pytest.mark.kernel
def test_one_apparent_millicurie(source):
    """25.206 Gy on the transverse axis at 1 cm (2D), 23.794 Gy averaged over directions (1D): 1.270 U."""
    seed = Implant(source, [[0, 0, 0]], axes=[0, 0, 1], strength_U=1.270)
    assert dose([[10, 0, 0]], seed, formalism="2D", method="exact")[0] == pytest.approx(25.206, abs=5e-4)
    assert dose([[10, 0, 0]], seed, formalism="1D", method="exact")[0] == pytest.approx(23.794, abs=1e-3)


def test_decay_multipliers(source):
    """1 - 2^(-t/T): the decay law, 30, 60 and 180 days."""
    seed = Implant(source, [[0, 0, 0]], strength_U=1.0)
    whole = dose([[10, 0, 0]], seed, method="exact")[0]
    for days in (30, 60, 180):
        part = dose([[10, 0, 0]], seed, method="exact", days=days)[0]
        assert part / whole == pytest.approx(1 - 0.5 ** (days / 59.4), rel=1e-9)
