"""Intervals of D90 and V100 of an implant: localisation of the seeds, their strength, and if asked the contour."""

import tomllib
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from brachy import resources
from brachy.dosimetry.implant import Implant
from brachy.dosimetry.model import DoseModel
from brachy.geometry.grid import Grid
from brachy.patient.target import Target
from brachy.postimplant.coverage import dose_to
from brachy.postimplant.record import Interval

Float = NDArray[np.float64]

POINTS = 4000
"""Points of a target on which the intervals are sampled (engineering choice)."""

SAMPLES = 200
LEVEL = 0.95

_FILE = resources.data_file("verification_uncertainty.toml")


@dataclass(frozen=True)
class Uncertainties:
    """Strength of all seeds together, percent (k = 1), and where the figure of each error is from."""

    strength_pct: float
    sources: dict[str, str]


@cache
def uncertainties() -> Uncertainties:
    """Uncertainties with their sources, `brachy/data/verification_uncertainty.toml`.

    Examples
    --------
    >>> uncertainties().strength_pct
    1.3
    """
    with _FILE.open("rb") as stream:
        data = tomllib.load(stream)
    sources = {name: str(entry["source"]) for name, entry in data.items()}
    return Uncertainties(float(data["air_kerma_strength"]["percent"]), sources)


@dataclass(frozen=True)
class TargetIntervals:
    """Intervals of a target's metrics, and the SD that each error makes alone.

    Parameters
    ----------
    of : dict of str to Interval
        Central 95 % intervals of D90_gy and V100_pct.
    sd : dict of str to dict
        {metric: {"localisation" | "strength" | "contour" | "total": SD}}.
    """

    of: dict[str, Interval]
    sd: dict[str, dict[str, float]]


@dataclass(frozen=True, eq=False)
class Errors:
    """What is uncertain, k = 1.

    Parameters
    ----------
    position_sd_mm : (n, 3) array
        Of each seed in the order of the implants, mm.
    presence : (n,) array
        Probability that each seed is there.
    strength_pct : float
        Of all strengths together, percent.
    together_mm : float
        Of all seeds together along each axis, mm (a transform that carried the target over).
    contour_mm : float
        Of the target's surface, mm.
    """

    position_sd_mm: Float
    presence: Float
    strength_pct: float
    together_mm: float = 0.0
    contour_mm: float = 0.0


def intervals(
    target: Target,
    model: DoseModel,
    errors: Errors,
    nominal: dict[str, float | None],
    samples: int = SAMPLES,
    seed: int = 0,
) -> TargetIntervals:
    """Central 95 % intervals of D90 and V100, and the SD that each error makes alone.

    Parameters
    ----------
    target : Target
        The target; V100 is of its prescription.
    model : DoseModel
        Dose of the seeds as found.
    errors : Errors
        What is uncertain.
    nominal : dict
        D90_gy and V100_pct as evaluated finely; the intervals are laid round these.
    samples, seed : int
        Random implants, and the seed of the generator.

    Returns
    -------
    TargetIntervals
        Of D90_gy and V100_pct, where they have a nominal value.

    Examples
    --------
    >>> from brachy.dosimetry.dvh import dvh
    >>> from brachy.dosimetry.model import dose_model
    >>> from brachy.dosimetry.source import load_source
    >>> from brachy.geometry.structures import Structure
    >>> ring = 8 * np.array([[np.cos(a), np.sin(a), 0] for a in np.linspace(0, 6.2, 40)])
    >>> ball = Structure("ball", [ring + [0, 0, z] for z in (-4, -2, 0, 2, 4)])
    >>> implant = Implant(load_source("amersham_6711"), [[0, 0, 0]], strength_U=5.0)
    >>> sure = Errors(np.zeros((1, 3)), np.ones(1), strength_pct=1.0)
    >>> d90 = dvh(implant, ball).D(90)
    >>> nominal = {"D90_gy": d90, "V100_pct": 90.0}
    >>> found = intervals(Target(ball, 100.0), dose_model(implant), sure, nominal, samples=100)
    >>> bool(0.8 < 100 * found.sd["D90_gy"]["total"] / d90 < 1.2)  # a percent of strength is a percent of D90
    True
    """
    reach = 3.0 * errors.contour_mm
    structure, prescription_gy = target.structure, target.prescription_gy
    step = max(0.8, (1000.0 * structure.volume_cc / POINTS) ** (1 / 3))
    low, high = structure.bounds_mm
    points = Grid.around(low - reach + 0.25 * step, high + reach, float(f"{step:.3g}")).centres_mm()
    depth = structure.signed_distance_mm(points, cutoff_mm=reach + 1.0)
    near = depth <= reach
    points, depth = points[near], depth[near]
    inside = depth <= 0
    count = sum(map(len, model.implants))
    base = _sums(points, model, np.ones(count), np.zeros(3), None)
    here = _metrics(base[inside], prescription_gy)
    rng = np.random.default_rng(np.random.SeedSequence([seed, 6]))
    parts: dict[str, list[tuple[float, float]]] = {
        "localisation": [],
        "strength": [],
        "contour": [],
        "total": [],
    }
    for _ in range(samples):
        moves = rng.normal(size=(count, 3)) * errors.position_sd_mm
        shift = rng.normal(size=3) * errors.together_mm
        there = (rng.random(count) < errors.presence).astype(np.float64)
        factor = max(0.0, 1.0 + 0.01 * errors.strength_pct * float(rng.normal()))
        surface = errors.contour_mm * float(rng.normal())
        gy = _sums(points, model, there, shift, moves)
        drawn = depth <= surface
        parts["localisation"].append(_metrics(gy[inside], prescription_gy))
        parts["strength"].append(_metrics(factor * base[inside], prescription_gy))
        if errors.contour_mm > 0:
            parts["contour"].append(_metrics(base[drawn], prescription_gy))
        parts["total"].append(_metrics(factor * gy[drawn], prescription_gy))
    of: dict[str, Interval] = {}
    sd: dict[str, dict[str, float]] = {}
    for column, name in enumerate(("D90_gy", "V100_pct")):
        value = nominal.get(name)
        if value is None:
            continue
        total = np.array(parts["total"])[:, column]
        edges = np.quantile(total, [0.5 - LEVEL / 2, 0.5 + LEVEL / 2]) - here[column]
        bounds = np.clip(value + edges, 0.0, 100.0 if name == "V100_pct" else np.inf)
        of[name] = Interval(float(bounds[0]), float(bounds[1]), LEVEL)
        sd[name] = {
            part: float(np.array(found)[:, column].std(ddof=1)) for part, found in parts.items() if found
        }
    return TargetIntervals(of, sd)


def _metrics(gy: Float, prescription_gy: float) -> tuple[float, float]:
    covered = 100.0 * float((gy >= prescription_gy).mean()) if len(gy) else 0.0
    return dose_to(gy, np.ones(len(gy)), 90), covered


def _sums(points: Float, model: DoseModel, there: Float, shift: Float, moves: Float | None) -> Float:
    """Dose (n,) of the seeds that are there, shifted together by (3,) mm and moved each by (seeds, 3) mm."""
    changed, first = [], 0
    for implant in model.implants:
        mine = slice(first, first + len(implant))
        first += len(implant)
        at = implant.positions_mm + shift if moves is None else implant.positions_mm + shift + moves[mine]
        changed.append(
            Implant(
                implant.source, at, implant.axes, strength_U=implant.strength_U * there[mine],
                half_life_days=implant.half_life_days,
            )
        )  # fmt: skip
    # from tables at any number of seeds: hundreds of implants, compared with each other
    return model.of(changed, exact_pairs=0).at(points)
