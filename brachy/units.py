"""Unit conversions: activity and air-kerma strength, radioactive decay, time. Each conversion exists only here.

Strengths are in U (1 U = 1 uGy m^2/h = 1 cGy cm^2/h), times in days unless the name says otherwise.
"""

import math
from datetime import date, datetime

I125_HALF_LIFE_DAYS = 59.40
"""Half-life of 125I. Rivard et al., Med. Phys. 31, 633 (2004), AAPM TG-43U1, section IV.A."""

U_PER_MCI_APPARENT = 1.270
"""Air-kerma strength of 1 mCi of APPARENT 125I activity. Williamson et al., Med. Phys. 26, 2529 (1999)."""

MBQ_PER_MCI = 37.0
"""Definition of the curie: 3.7e10 Bq."""

HOURS_PER_DAY = 24.0
SECONDS_PER_DAY = 86400.0


def strength_from_mci(apparent_mci: float) -> float:
    """Air-kerma strength in U of an apparent 125I activity in mCi.

    Examples
    --------
    >>> round(strength_from_mci(0.7), 4)
    0.889
    """
    return apparent_mci * U_PER_MCI_APPARENT


def mci_from_strength(strength_u: float) -> float:
    """Apparent 125I activity in mCi of an air-kerma strength in U.

    Examples
    --------
    >>> round(mci_from_strength(0.889), 4)
    0.7
    """
    return strength_u / U_PER_MCI_APPARENT


def strength_from_contained_mci(contained_mci: float, u_per_contained_mci: float) -> float:
    """Air-kerma strength in U of a CONTAINED activity in mCi.

    The factor depends on the seed (how much its capsule absorbs), so it is never assumed: the source file states it.
    Taking a contained activity for an apparent one, or the reverse, is an error of a factor of about 1.7 for a
    6711-type seed.

    Examples
    --------
    >>> round(strength_from_contained_mci(1.2, 0.741), 4)
    0.8892
    """
    return contained_mci * u_per_contained_mci


def decay_factor(days: float, half_life_days: float = I125_HALF_LIFE_DAYS) -> float:
    """Fraction of the strength that remains after `days` (more than 1 for negative days).

    Examples
    --------
    >>> decay_factor(59.4)
    0.5
    """
    return math.exp2(-days / half_life_days)


def total_dose_hours(half_life_days: float = I125_HALF_LIFE_DAYS, days: float | None = None) -> float:
    """Hours by which an initial dose rate is multiplied to give the dose after `days` (None: complete decay).

    T1/2 / ln 2 in hours, times 1 - 2^(-days / T1/2).

    Examples
    --------
    >>> round(total_dose_hours(), 3)
    2056.706
    >>> round(total_dose_hours(days=59.4) / total_dose_hours(), 12)
    0.5
    """
    complete = half_life_days * HOURS_PER_DAY / math.log(2.0)
    if days is None:
        return complete
    return complete * -math.expm1(-math.log(2.0) * days / half_life_days)


def days_between(start: date | datetime, end: date | datetime) -> float:
    """Days from `start` to `end`; a plain date means its midnight.

    Examples
    --------
    >>> days_between(date(2026, 1, 1), date(2026, 1, 31))
    30.0
    """
    return (_as_datetime(end) - _as_datetime(start)).total_seconds() / SECONDS_PER_DAY


def _as_datetime(value: date | datetime) -> datetime:
    if isinstance(value, datetime):
        return value.replace(tzinfo=None)
    return datetime(value.year, value.month, value.day)
