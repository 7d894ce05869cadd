"""Conversions against closed forms and the figures that reports print."""

import math
from datetime import date, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from brachy import units


def test_one_mci_apparent_gives_the_printed_dose():
    """1 mCi apparent of 6711 at 1 cm, 90 degrees: Lambda * 1.270 U * 2056.706 h = 25.206 Gy (printed digits)."""
    gy = 0.965 * units.strength_from_mci(1.0) * units.total_dose_hours(59.4) / 100.0
    assert gy == pytest.approx(25.206, abs=5e-4)


def test_complete_decay_hours_are_half_life_over_ln2():
    assert units.total_dose_hours(59.4) == pytest.approx(59.4 * 24 / math.log(2), rel=1e-15)
    assert units.total_dose_hours(60.2) / units.total_dose_hours(59.4) == pytest.approx(1.0135, abs=5e-5)


@given(st.floats(0, 2000), st.floats(0, 2000), st.floats(1, 200))
def test_doses_of_two_spans_add_up(first, second, half_life):
    """D(0, a + b) = D(0, a) + 2^(-a/T) D(0, b): the decay law."""
    whole = units.total_dose_hours(half_life, first + second)
    parts = units.total_dose_hours(half_life, first) + units.decay_factor(
        first, half_life
    ) * units.total_dose_hours(half_life, second)
    assert whole == pytest.approx(parts, rel=1e-9, abs=1e-9)


@given(st.floats(1e-3, 1e3))
def test_activity_and_strength_are_inverse(mci):
    assert units.mci_from_strength(units.strength_from_mci(mci)) == pytest.approx(mci, rel=1e-14)


def test_days_between_dates_and_times():
    assert units.days_between(date(2026, 2, 28), date(2026, 3, 1)) == 1.0
    assert units.days_between(datetime(2026, 1, 1, 12), date(2026, 1, 2)) == 0.5
