"""Strength of the seeds: strength needed, order list, decay to a day, air-kerma rate at 1 m, half-life used."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, datetime

from brachy.errors import UsageError
from brachy.units import (
    I125_HALF_LIFE_DAYS,
    MBQ_PER_MCI,
    U_PER_MCI_APPARENT,
    days_between,
    decay_factor,
    mci_from_strength,
)

USUAL_U = (0.1, 10.0)
"""Usual air-kerma strengths of one permanent seed of 125I, 103Pd or 131Cs, U (engineering choice: the range of seeds on
the market)."""

_UNITS_U = {
    "MBq apparent": U_PER_MCI_APPARENT / MBQ_PER_MCI,
    "mCi apparent": U_PER_MCI_APPARENT,
    "GBq apparent": 1000.0 * U_PER_MCI_APPARENT / MBQ_PER_MCI,
}
"""Units that may be mistaken for U, and their values in U."""

SPARE_FRACTION = 0.05
"""Spare seeds on an order as a fraction of the planned seeds (engineering choice)."""


@dataclass(frozen=True)
class OrderLine:
    """One line of an order: seeds of one model and strength."""

    model: str
    strength_U: float
    planned: int
    spares: int

    @property
    def count(self) -> int:
        """Seeds to order, spares included."""
        return self.planned + self.spares

    @property
    def apparent_activity_mCi(self) -> float:
        """Apparent activity of one seed, mCi."""
        return mci_from_strength(self.strength_U)

    @property
    def total_strength_U(self) -> float:
        """Air-kerma strength of all seeds ordered, U."""
        return self.count * self.strength_U

    @property
    def total_activity_mCi(self) -> float:
        """Apparent activity of all seeds ordered, mCi."""
        return mci_from_strength(self.total_strength_U)


def question_strength(strength_U: float, accept: bool, where: str) -> None:
    """Refuse a strength that is unusual for a permanent seed, unless it is accepted; the message names units that fit.

    Parameters
    ----------
    strength_U : float
        Air-kerma strength of one seed, U.
    accept : bool
        Take it as it is (`--accept-strength`).
    where : str
        What stated it, for the message.

    Raises
    ------
    UsageError
        If it is outside `USUAL_U` and not accepted.

    Examples
    --------
    >>> question_strength(0.889, False, "the protocol")
    >>> try:
    ...     question_strength(18.5, False, "RP.dcm")
    ... except UsageError as error:
    ...     print(str(error)[:60])
    RP.dcm: 18.5 U a seed is outside the usual 0.1-10 U: MBq? (1
    """
    low, high = USUAL_U
    if accept or low <= strength_U <= high:
        return
    meant = [
        f"{unit.split()[0]}? ({strength_U:g} {unit} are {strength_U * factor:.3g} U)"
        for unit, factor in _UNITS_U.items()
        if low <= strength_U * factor <= high
    ]
    question = f": {', or '.join(meant)}" if meant else "."
    raise UsageError(
        f"{where}: {strength_U:g} U a seed is outside the usual {low:g}-{high:g} U{question} "
        "Correct the strength, or take it with --accept-strength"
    )


def order_list(
    seeds: Iterable[tuple[str, float]], spare_fraction: float = SPARE_FRACTION
) -> tuple[OrderLine, ...]:
    """Seeds to order: one line for each model and strength, in the order in which they first occur.

    Parameters
    ----------
    seeds : iterable of (model, strength_U)
        One entry for each planned seed.
    spare_fraction : float
        Spares as a fraction of the planned seeds, rounded up to whole seeds.

    Raises
    ------
    UsageError
        If the fraction is negative or a strength is not positive.

    Examples
    --------
    >>> line, = order_list([("amersham_6711", 0.889)] * 61)
    >>> line.count, round(line.total_strength_U, 3), round(line.total_activity_mCi, 2)
    (65, 57.785, 45.5)
    """
    if not spare_fraction >= 0:
        raise UsageError(f"spare fraction {spare_fraction}: give 0 or more")
    counts: dict[tuple[str, float], int] = {}
    for model, strength in seeds:
        if not strength > 0:
            raise UsageError(f"seed {model} has strength {strength} U: give more than 0")
        counts[model, strength] = counts.get((model, strength), 0) + 1
    return tuple(
        OrderLine(model, strength, planned, math.ceil(planned * spare_fraction - 1e-9))
        for (model, strength), planned in counts.items()
    )


def strength_needed(strength_U: float, achieved_gy: float, wanted_gy: float) -> float:
    """Strength of every seed, U, that changes a dose from `achieved_gy` (with `strength_U`) to `wanted_gy`.

    Dose is proportional to air-kerma strength, so both doses may be any one quantity: D90, the minimum, a point dose.

    Raises
    ------
    UsageError
        If a value is not positive.

    Examples
    --------
    >>> round(strength_needed(0.889, achieved_gy=118.0, wanted_gy=120.0), 4)
    0.9041
    """
    if not (strength_U > 0 and achieved_gy > 0 and wanted_gy > 0):
        raise UsageError("strength needed: strength, achieved and wanted dose must be more than 0")
    return strength_U * wanted_gy / achieved_gy


def strength_on_day(
    strength_U: float,
    strength_on: date | datetime,
    day: date | datetime,
    half_life_days: float = I125_HALF_LIFE_DAYS,
) -> float:
    """Air-kerma strength on `day`, U, of a seed that was certified with `strength_U` on `strength_on`.

    Examples
    --------
    >>> round(strength_on_day(1.0, date(2026, 1, 1), date(2026, 1, 31)), 4)
    0.7046
    """
    return strength_U * decay_factor(days_between(strength_on, day), half_life_days)


def air_kerma_rate_at_1m(strengths_U: Iterable[float]) -> float:
    """Air-kerma rate at 1 m of all seeds together, uGy/h, in free space.

    1 U is 1 uGy/h at 1 m by definition. Absorption in tissue, which removes most of it, is neglected, so this is an
    upper bound for the implanted patient.

    References
    ----------
    Nath et al., Med. Phys. 22, 209 (1995), AAPM TG-43, definition of air-kerma strength.

    Examples
    --------
    >>> round(air_kerma_rate_at_1m([0.889] * 61), 3)
    54.229
    """
    return math.fsum(strengths_U)


def half_life_used(
    source_days: float, plan_days: float | None = None, protocol_days: float | None = None
) -> tuple[float, str | None]:
    """Half-life to use (the protocol's, else the imported plan's, else the source's) and a note if it is not 59.4 d.

    Returns
    -------
    days : float
        Half-life to use.
    note : str or None
        One sentence for the plan's `assumed`, with the change of the total dose; None for 59.4 d.

    Examples
    --------
    >>> half_life_used(59.4, protocol_days=60.2)
    (60.2, 'half-life 60.2 d (protocol) instead of 59.4 d: total dose changes by +1.35 %')
    """
    days, origin = source_days, "source"
    if plan_days is not None:
        days, origin = plan_days, "imported plan"
    if protocol_days is not None:
        days, origin = protocol_days, "protocol"
    if abs(days - I125_HALF_LIFE_DAYS) < 1e-9:
        return days, None
    change = 100.0 * (days / I125_HALF_LIFE_DAYS - 1.0)
    note = (
        f"half-life {days:g} d ({origin}) instead of {I125_HALF_LIFE_DAYS:g} d: "
        f"total dose changes by {change:+.2f} %"
    )
    return days, note
