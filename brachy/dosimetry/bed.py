"""Biologically effective dose (BED) of a permanent implant after AAPM TG-137.

The parameters are those that TG-137 recommends for the prostate. No report recommends any for liver, lung or pancreas,
so a BED there compares plans with each other and predicts nothing.

References
----------
Nath et al., Med. Phys. 36, 5310 (2009), AAPM TG-137, doi:10.1118/1.3246613: linear-quadratic model with repair and
repopulation during an exponentially decaying dose rate, and its parameters.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from brachy.errors import UsageError
from brachy.units import HOURS_PER_DAY, I125_HALF_LIFE_DAYS

Float = NDArray[np.float64]


@dataclass(frozen=True)
class Radiobiology:
    """Parameters of the linear-quadratic model with repair and repopulation.

    Raises
    ------
    UsageError
        If a parameter is not a positive number.
    """

    alpha_per_gy: float
    beta_per_gy2: float
    repair_half_life_hours: float
    doubling_days: float
    source: str

    def __post_init__(self) -> None:
        values = (self.alpha_per_gy, self.beta_per_gy2, self.repair_half_life_hours, self.doubling_days)
        if not all(math.isfinite(value) and value > 0 for value in values):
            raise UsageError("BED: alpha, beta, repair half-life and doubling time must be more than 0")

    def __str__(self) -> str:
        return (
            f"alpha {self.alpha_per_gy:g} /Gy, beta {self.beta_per_gy2:g} /Gy2, repair half-life "
            f"{self.repair_half_life_hours:g} h, potential doubling time {self.doubling_days:g} d ({self.source})"
        )


TG_137 = Radiobiology(
    0.15, 0.05, 0.27, 42.0, "prostate; AAPM TG-137, Nath et al., Med. Phys. 36, 5310 (2009)"
)
"""The parameters of TG-137 for the prostate: alpha/beta 3 Gy."""


def effective_days(
    dose_gy: ArrayLike, half_life_days: float = I125_HALF_LIFE_DAYS, tissue: Radiobiology = TG_137
) -> Float:
    """Effective treatment time in days: until repopulation exceeds the effect of the dose rate; 0 if it does at once.

    T_eff = (1 / lambda) ln(alpha D0' Tp / ln 2), with D0' = lambda D the initial dose rate.

    Parameters
    ----------
    dose_gy : array_like
        Dose to complete decay, Gy.
    half_life_days : float
        Half-life of the source.
    tissue : Radiobiology
        Parameters of the model.

    Returns
    -------
    array
        Days, in the shape of the doses.

    References
    ----------
    AAPM TG-137 (module docstring), effective treatment time.

    Examples
    --------
    >>> float(np.round(effective_days(145.0)))
    234.0
    """
    decay = math.log(2.0) / half_life_days
    dose = np.asarray(dose_gy, dtype=np.float64)
    ratio = tissue.alpha_per_gy * decay * dose * tissue.doubling_days / math.log(2.0)
    return np.asarray(np.log(np.maximum(ratio, 1.0)) / decay, dtype=np.float64)


def bed(
    dose_gy: ArrayLike, half_life_days: float = I125_HALF_LIFE_DAYS, tissue: Radiobiology = TG_137
) -> Float:
    """Biologically effective dose, Gy, of a dose to complete decay.

    BED = D(T) + quadratic part - ln 2 T / (alpha Tp), at the effective treatment time T. The quadratic part is that of
    an exponentially decaying dose rate with exponential repair (rate mu):
    2 (beta / alpha) D0'^2 / (mu - lambda) x
    [(1 - exp(-2 lambda T)) / 2 lambda - (1 - exp(-(mu + lambda) T)) / (mu + lambda)].

    Parameters
    ----------
    dose_gy : array_like
        Dose to complete decay, Gy.
    half_life_days : float
        Half-life of the source.
    tissue : Radiobiology
        Parameters of the model.

    Returns
    -------
    array
        Gy, in the shape of the doses. It rises with the dose and is 0 where repopulation is faster from the start.

    References
    ----------
    AAPM TG-137 (module docstring).

    Examples
    --------
    >>> float(np.round(bed(145.0), 1))
    111.1
    """
    decay = math.log(2.0) / half_life_days
    repair = math.log(2.0) / (tissue.repair_half_life_hours / HOURS_PER_DAY)
    dose = np.asarray(dose_gy, dtype=np.float64)
    rate = decay * dose
    days = effective_days(dose, half_life_days, tissue)
    delivered = dose * -np.expm1(-decay * days)
    pairs = -np.expm1(-2.0 * decay * days) / (2.0 * decay) + np.expm1(-(repair + decay) * days) / (
        repair + decay
    )
    quadratic = 2.0 * tissue.beta_per_gy2 / tissue.alpha_per_gy * rate**2 / (repair - decay) * pairs
    lost = math.log(2.0) * days / (tissue.alpha_per_gy * tissue.doubling_days)
    return np.asarray(np.maximum(delivered + quadratic - lost, 0.0), dtype=np.float64)
