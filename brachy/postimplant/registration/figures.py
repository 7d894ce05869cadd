"""Figures of uncertainty of registrations: section [registration] of brachy/data/verification_uncertainty.toml."""

import tomllib
from dataclasses import dataclass, fields
from functools import cache

from brachy import resources


@dataclass(frozen=True)
class Figures:
    """Scatter of seeds and contours, and the prior of the turn, each with its source in the file.

    Parameters
    ----------
    inlier_mm : float
        A seed this near to its planned place is in place.
    seed_sd_mm : float
        Scatter of seeds about the implant as a whole, along each axis.
    turn_deg : float
        Largest turn of a patient between two CTs; three SD of the prior about each axis.
    contour_sd_mm : float
        Least SD of a contour's place.
    contour_patch_mm2 : float
        Surface on which contour points err together.
    """

    inlier_mm: float
    seed_sd_mm: float
    turn_deg: float
    contour_sd_mm: float
    contour_patch_mm2: float


@cache
def figures() -> Figures:
    """Figures of the data file.

    Examples
    --------
    >>> figures().turn_deg
    15.0
    """
    with resources.data_file("verification_uncertainty.toml").open("rb") as stream:
        found = tomllib.load(stream)["registration"]
    return Figures(*(float(found[field.name]) for field in fields(Figures)))
