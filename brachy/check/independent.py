"""Independent TG-43 dose: the line source is integrated numerically, the tables are interpolated by scipy.

Nothing here calls `brachy.dosimetry.tg43`, `brachy.core` or `brachy.dosimetry.source`: the code was written from the
report a second time, in float64 and without regard to speed, so that an error in the dose engine is not repeated here.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

Float = NDArray[np.float64]

NODES = 96
"""Number of Gauss-Legendre nodes along the active length. At the capsule's surface (0.4 mm from a line of 3 mm) the
integral agrees with the closed form to 1e-12 (tests/independent/test_independent_check.py)."""


@dataclass(frozen=True)
class Seed:
    """One seed as read back: centre (LPS, mm), axis or None, strength (U), half-life (d), data of its source file."""

    position_mm: tuple[float, float, float]
    axis: tuple[float, float, float] | None
    strength_U: float
    half_life_days: float
    data: Mapping[str, Any]


@cache
def _quadrature() -> tuple[Float, Float]:
    """Nodes in [-1, 1] and weights of the Gauss-Legendre rule."""
    return np.polynomial.legendre.leggauss(NODES)


def geometry_function(across_cm: Float, along_cm: Float, length_cm: float) -> Float:
    """G_L in cm^-2: the mean of 1 / distance^2 over the active length, by quadrature.

    Parameters
    ----------
    across_cm, along_cm : (n,) arrays
        Distance from the seed's axis, and distance along it from the seed's centre.
    length_cm : float
        Active length.

    References
    ----------
    AAPM TG-43U1 (Rivard et al., Med. Phys. 31, 633, 2004), eq. (3) with a uniform line of activity.
    """
    node, weight = _quadrature()
    total = np.zeros_like(across_cm)
    for x, w in zip(node, weight, strict=True):
        total += 0.5 * w / (across_cm**2 + (along_cm - 0.5 * length_cm * x) ** 2)
    return total


def dose_rate_per_U(data: Mapping[str, Any], across_cm: Float, along_cm: Float, formalism: str) -> Float:
    """Dose rate (n,) in cGy/h/U at points given by their distances from and along a seed's axis (cm).

    References
    ----------
    AAPM TG-43U1 eq. (1) for "2D", eq. (11) for "1D"; extrapolation as in docs/source-files.md.
    """
    length = float(data["active_length"]["mm"]) / 10.0
    radius = 0.5 * float(data["capsule"]["diameter_mm"]) / 10.0
    half_capsule = 0.5 * float(data["capsule"]["length_mm"]) / 10.0
    one = np.array([1.0])
    reference = geometry_function(one, 0 * one, length)[0]
    if formalism == "1D":
        r = np.maximum(np.hypot(across_cm, along_cm), radius)
        geometry = geometry_function(r, np.zeros_like(r), length)
        table = data["anisotropy_1d"]
        angular = np.interp(r, table["r_cm"], table["phi"])
    else:
        inside = (np.abs(along_cm) <= half_capsule) & (across_cm < radius)
        across = np.where(inside, radius, across_cm)
        r = np.hypot(across, along_cm)
        geometry = geometry_function(across, along_cm, length)
        table = data["anisotropy_function"]
        radii, angles = np.array(table["r_cm"]), np.array(table["theta_deg"])
        theta = np.degrees(np.arctan2(across, np.abs(along_cm)))
        from scipy.interpolate import RegularGridInterpolator

        look_up = RegularGridInterpolator((angles, radii), np.array(table["F"]))
        angular = look_up(
            np.stack([np.clip(theta, angles[0], angles[-1]), np.clip(r, radii[0], radii[-1])], axis=-1)
        )
    constant = float(data["dose_rate_constant"]["cGy_per_h_U"])
    rate: Float = constant * geometry / reference * _radial(data["radial_dose_function"], r) * angular
    return rate


def _radial(table: Mapping[str, Any], r_cm: Float) -> Float:
    """g_L(r): log-linear, beyond the table exponential through its last two nodes."""
    nodes, values = np.array(table["r_cm"]), np.array(table["g"])
    beyond = values[-1] * (values[-1] / values[-2]) ** ((r_cm - nodes[-1]) / (nodes[-1] - nodes[-2]))
    within = np.exp(np.interp(r_cm, nodes, np.log(values)))
    found: Float = np.where(r_cm > nodes[-1], beyond, within)
    return found


def dose_gy(points_mm: Float, seeds: Sequence[Seed], formalism: str) -> Float:
    """Dose (n,) in Gy to complete decay at points (n, 3) mm: S_K x rate x T1/2 / ln 2, summed over the seeds.

    Raises
    ------
    ValueError
        If the formalism is 2D and a seed has no axis.
    """
    total = np.zeros(len(points_mm))
    for seed in seeds:
        apart = (points_mm - np.array(seed.position_mm)) / 10.0
        if seed.axis is None:
            if formalism == "2D":
                raise ValueError("a seed without an axis has no 2D dose")
            along = np.zeros(len(apart))
        else:
            along = apart @ (np.array(seed.axis) / np.linalg.norm(seed.axis))
        across = np.sqrt(np.maximum((apart**2).sum(axis=1) - along**2, 0.0))
        hours = seed.half_life_days * 24.0 / np.log(2.0)
        rate = dose_rate_per_U(seed.data, across, along, formalism)
        total += seed.strength_U * hours / 100.0 * rate
    return total
