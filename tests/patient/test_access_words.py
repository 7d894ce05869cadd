"""The words of --access against the sides of the patient, written down here by hand."""

import numpy as np
import pytest

from brachy.errors import UsageError
from brachy.patient.access import beyond_ranges
from brachy.patient.access_words import access_fields, united
from brachy.patient.options import NeedleOptions, PrescriptionOptions, SourceOptions
from brachy.patient.overrides import changed_protocol

WAY_IN = {"front": (0, 1), "left": (-1, 0), "back": (0, -1), "right": (1, 0)}
"""x, y in which a needle goes that enters there: +x is the patient's left, +y the back (LPS)."""


@pytest.mark.parametrize("side", WAY_IN)
def test_a_side_is_what_enters_there(side):
    ((low, high),) = access_fields(side)["azimuth_deg"]
    middle = np.radians(0.5 * (low + high))
    np.testing.assert_allclose([-np.sin(middle), np.cos(middle)], WAY_IN[side], atol=1e-12)
    assert high - low == 90


def test_other_words():
    assert access_fields("Anterior") == access_fields("front")
    assert access_fields(" posterior ") == access_fields("back")
    assert access_fields("head") == {
        "tilt_deg": (-90, 0)
    }  # from the head's side a needle goes toward the feet
    assert access_fields("feet") == {"tilt_deg": (0, 90)}
    assert access_fields("head,feet") == {"tilt_deg": (-90, 90)}
    assert access_fields("front,right") == {"azimuth_deg": ((225, 405),)}
    assert access_fields("front,left,back,right") == {"azimuth_deg": ((0, 360),)}
    assert access_fields("200..220,tilt -5 .. 12.5") == {"azimuth_deg": ((200, 220),), "tilt_deg": (-5, 12.5)}


@pytest.mark.parametrize(
    "words", ["top", "", "front,", "front right", "225-405", "tilt 5", "300..250", "0..361"]
)
def test_what_cannot_be_meant(words):
    with pytest.raises(UsageError) as failure:
        changed_protocol(PrescriptionOptions(), SourceOptions(), NeedleOptions(access=words))
    assert "\n" not in str(failure.value)


def test_the_words_that_exist_are_listed():
    with pytest.raises(UsageError, match="front, anterior, left, back, posterior, right, head, feet"):
        access_fields("above")


def test_the_option_changes_the_protocol():
    rule = changed_protocol(PrescriptionOptions(), SourceOptions(), NeedleOptions(access="front,head")).access
    assert rule.azimuth_deg == ((315, 405),)
    assert rule.tilt_deg == (-90, 0)
    assert rule.bore_mm == 700


def test_united_by_brute_force():
    random = np.random.default_rng(3)
    for _ in range(200):
        lows = random.integers(-360, 360, random.integers(1, 5))
        ranges = [(float(low), float(low + random.integers(0, 300))) for low in lows]
        joined = united(ranges)
        for azimuth in np.arange(0.5, 360, 1):
            inside = any(beyond_ranges(azimuth, [each]) == 0 for each in ranges)
            assert inside == (sum(beyond_ranges(azimuth, [each]) == 0 for each in joined) == 1)
