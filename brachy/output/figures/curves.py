"""Dose-volume curves as pictures need them: in percent, without their flat end, and which are far from all dose."""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from brachy.errors import UsageError

Float = NDArray[np.float64]
Curves = Mapping[str, tuple[ArrayLike, ArrayLike]]

FAR = 0.1
"""A structure that gets less than this part of the prescription is not drawn among curves (engineering choice)."""


def far_from_dose(
    parts: Mapping[str, tuple[Float, Float]], prescription_gy: float, targets: Sequence[str]
) -> list[str]:
    """ROIs, no targets, of which less than 1 % gets `FAR` of the prescription."""
    limit = FAR * prescription_gy
    return [
        name
        for name, (gy, percent) in parts.items()
        if name not in targets and float(np.interp(limit, gy, percent, right=0.0)) < 1.0
    ]


def percent_curve(name: str, gy: ArrayLike, cc: ArrayLike) -> tuple[Float, Float]:
    """A cumulative curve in Gy and % of its first volume, without the flat end at 0."""
    dose, volume = np.asarray(gy, dtype=np.float64), np.asarray(cc, dtype=np.float64)
    if dose.shape != volume.shape or dose.ndim != 1 or not len(dose):
        raise UsageError(f"the curve of '{name}' has {dose.shape} doses and {volume.shape} volumes")
    percent = 100.0 * volume / volume[0] if volume[0] > 0 else np.zeros_like(volume)
    last = int(np.flatnonzero(percent > 0)[-1]) + 2 if (percent > 0).any() else 1
    return dose[:last], percent[:last]


def reach_of(part: tuple[Float, Float]) -> float:
    """Dose that half a percent of the volume gets."""
    gy, percent = part
    return max(float(gy[np.flatnonzero(percent >= 0.5)[-1]]), 1.0) if (percent >= 0.5).any() else 1.0
