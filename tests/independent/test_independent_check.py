"""Formulas of the independent check against closed forms, and against the dose engine that it checks."""

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from brachy.check import independent
from brachy.dosimetry import tg43
from brachy.dosimetry.implant import Implant
from brachy.dosimetry.source import load_source

MODELS = ("amersham_6711", "amersham_6702", "best_2301", "bard_stm1251", "isoaid_iai125a")


@pytest.mark.parametrize("length_cm", [0.3, 0.381, 0.4])
def test_quadrature_of_the_line_agrees_with_its_closed_form(length_cm):
    """G_L = beta / (L r sin theta), and 1 / (r^2 - L^2/4) on the axis: TG-43U1 eq. (4)."""
    across = np.array([0.04, 0.1, 0.5, 1.0, 5.0])
    for along in (0.0, 0.15, 0.7):
        beta = np.arctan((along + length_cm / 2) / across) - np.arctan((along - length_cm / 2) / across)
        closed = beta / (length_cm * across)
        np.testing.assert_allclose(
            independent.geometry_function(across, np.full(5, along), length_cm), closed, rtol=1e-12
        )
    on_axis = independent.geometry_function(np.zeros(1), np.array([1.0]), length_cm)
    assert on_axis[0] == pytest.approx(1 / (1 - length_cm**2 / 4), rel=1e-12)


def test_the_printed_values_of_the_geometry_function():
    """L = 3 mm: G_L(1 cm, 90) = 0.99259965, G_L(1 cm, 0) = 1.02301790, G_L(1.41421356 cm, 45) = 0.50186224 cm^-2."""
    found = independent.geometry_function(np.array([1.0, 0.0, 1.0]), np.array([0.0, 1.0, 1.0]), 0.3)
    np.testing.assert_allclose(found, [0.99259965, 1.02301790, 0.50186224], atol=5e-9)


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("formalism", ["1D", "2D"])
def test_both_definitions_agree_for_tilted_seeds(model, formalism):
    """Engine and independent check share no code; they agree to rounding outside and inside the tables' ranges."""
    rng = np.random.default_rng(7)
    source = load_source(model)
    positions, axes = rng.uniform(-20, 20, (5, 3)), Rotation.random(5, random_state=3).apply([0, 0, 1])
    strength = rng.uniform(0.4, 1.0, 5)
    points = np.vstack([rng.uniform(-30, 30, (300, 3)), rng.uniform(-150, 150, (100, 3))])
    implant = Implant(source, positions, axes, strength_U=strength)
    seeds = [
        independent.Seed(tuple(p), tuple(a), float(u), source.half_life_days, source.to_dict())
        for p, a, u in zip(positions, axes, strength, strict=True)
    ]
    engine = tg43.dose(points, implant, formalism=formalism, method="exact")
    np.testing.assert_allclose(independent.dose_gy(points, seeds, formalism), engine, rtol=1e-9)


def test_a_seed_without_an_axis_has_no_2d_dose():
    data = load_source("amersham_6711").to_dict()
    with pytest.raises(ValueError, match="axis"):
        independent.dose_gy(np.zeros((1, 3)), [independent.Seed((0, 0, 5), None, 1.0, 59.4, data)], "2D")
