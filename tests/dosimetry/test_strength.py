"""Strength, orders and half-life: against hand calculation."""

import re
from datetime import date, datetime

import pytest

from brachy import units
from brachy.dosimetry import strength
from brachy.dosimetry.source import load_source
from brachy.errors import UsageError


def test_order_of_two_strengths_in_order_of_use():
    seeds = [("amersham_6711", 0.889)] * 41 + [("amersham_6711", 1.016)] * 20
    first, second = strength.order_list(seeds)
    assert (first.planned, first.spares, first.count) == (41, 3, 44)  # 2.05 spares, rounded up
    assert (second.planned, second.spares, second.count) == (20, 1, 21)  # exactly 1
    assert first.total_strength_U == pytest.approx(44 * 0.889)
    assert first.total_activity_mCi == pytest.approx(44 * 0.7)
    assert first.apparent_activity_mCi == pytest.approx(0.7)


def test_order_refuses_nonsense():
    assert strength.order_list([]) == ()
    with pytest.raises(UsageError, match="strength 0"):
        strength.order_list([("amersham_6711", 0.0)])
    with pytest.raises(UsageError, match="spare fraction"):
        strength.order_list([], spare_fraction=-0.1)


def test_strength_needed_is_a_proportion():
    assert strength.strength_needed(0.8, 100.0, 120.0) == pytest.approx(0.96)
    with pytest.raises(UsageError, match="more than 0"):
        strength.strength_needed(0.8, 0.0, 120.0)


def test_decay_between_two_days():
    """One half-life, and the hour counts."""
    assert strength.strength_on_day(1.0, date(2026, 1, 1), date(2026, 3, 1), 59.0) == pytest.approx(0.5)
    half = strength.strength_on_day(1.0, datetime(2026, 1, 1, 0), datetime(2026, 1, 1, 12), 0.5)
    assert half == pytest.approx(0.5)


def test_air_kerma_rate_of_seeds():
    """1 U is 1 uGy/h at 1 m: 60 seeds of 0.7 mCi apparent are 42 mCi x 1.270."""
    assert strength.air_kerma_rate_at_1m([units.strength_from_mci(0.7)] * 60) == pytest.approx(42 * 1.270)


@pytest.mark.parametrize(
    ("arguments", "days", "words"),
    [
        ({"source_days": 59.4}, 59.4, None),
        ({"source_days": 59.4, "plan_days": 59.6}, 59.6, "imported plan.*\\+0.34 %"),
        ({"source_days": 60.0, "plan_days": 59.4}, 59.4, None),
        ({"source_days": 59.4, "plan_days": 59.6, "protocol_days": 60.2}, 60.2, "protocol.*\\+1.35 %"),
        ({"source_days": 60.14}, 60.14, "source.*\\+1.25 %"),
    ],
)
def test_half_life_precedence(arguments, days, words):
    found, note = strength.half_life_used(**arguments)
    assert found == days
    if words is None:
        assert note is None
    else:
        assert re.search(words, note)


def test_contained_is_not_apparent():
    """6711: 1.270 U per apparent mCi, about 0.74 per contained: a factor of 1.7."""
    factor = load_source("amersham_6711").U_per_contained_mCi
    ratio = units.strength_from_mci(1.0) / units.strength_from_contained_mci(1.0, factor)
    assert ratio == pytest.approx(1.7, abs=0.05)
    assert load_source("isoaid_iai125a").U_per_contained_mCi is None
