"""Which day counts as that of the implantation, and what a stated strength is on it."""

from datetime import date

import numpy as np
import pytest

from brachy.dosimetry.implant import Implant
from brachy.dosimetry.source import load_source
from brachy.errors import BrachyError
from brachy.patient.implant_date import ImplantDate, decayed, implant_date

NEW_YEAR, LATER = date(2026, 1, 1), date(2026, 1, 31)


def seed(strength=1.0):
    return Implant(load_source("amersham_6711"), [[0, 0, 0]], strength_U=strength)


@pytest.mark.parametrize(
    ("given", "planned", "assumed", "ct", "expected"),
    [
        (date(2026, 1, 7), NEW_YEAR, False, LATER, date(2026, 1, 7)),
        (None, NEW_YEAR, False, LATER, NEW_YEAR),
        (None, NEW_YEAR, True, LATER, LATER),
        (None, NEW_YEAR, True, None, NEW_YEAR),
        (None, None, False, LATER, LATER),
        (None, None, False, None, None),
        (date(2027, 1, 1), NEW_YEAR, False, LATER, date(2027, 1, 1)),  # given: not questioned
    ],
)
def test_order_of_dates(given, planned, assumed, ct, expected):
    assert implant_date(given, planned, assumed, ct).on == expected


@pytest.mark.parametrize(
    ("planned", "word"), [(date(2026, 2, 1), "after"), (date(2025, 11, 1), "91 days before")]
)
def test_a_day_that_cannot_be_is_refused(planned, word):
    with pytest.raises(BrachyError, match=rf"{word}.*--implant-on"):
        implant_date(None, planned, False, LATER)


def test_strength_at_the_implantation():
    """A half-life later half is left, and the sentence names the days and the factor."""
    half = Implant(load_source("amersham_6711"), [[0, 0, 0]], strength_U=2.0, half_life_days=30.0)
    (taken,), (note,) = decayed([half], NEW_YEAR, ImplantDate(LATER, "as given"))
    np.testing.assert_allclose(taken.strength_U, 1.0)
    assert taken.half_life_days == 30.0
    assert "30 days after" in note
    assert "factor 0.500" in note


def test_what_does_not_decay():
    same, nothing = decayed([seed()], NEW_YEAR, ImplantDate(NEW_YEAR, "the plan's date"))
    assert same[0].strength_U[0] == 1.0
    assert nothing == ()
    unknown, (note,) = decayed([seed()], None, ImplantDate(LATER, "as given"))
    assert unknown[0].strength_U[0] == 1.0
    assert "does not say for which day" in note
    assert decayed([seed()], NEW_YEAR, ImplantDate(None, "not known"))[1] == ()
