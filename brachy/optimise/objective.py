"""The objective: hinges on dose in each structure, and the cost of needles, seeds and uncovered edge points.

With D(p) the dose at a sample p, Rx the prescription of the target it belongs to and <.> the volume mean:

    F = underdose <(Rx - D)+> / Rx                 in each target
      + over_150  <(D - 1.5 Rx)+> / Rx             in each target
      + over_200  <(D - 2 Rx)+> / Rx               in each target
      + spill     <(D - Rx)+> / Rx                 in the shell of 10 mm outside each target
      + organ     <(D - organ_fraction Rx)+> / Rx  in each organ within 20 mm of a target
      + needle (needles used) + seed (seeds used)
      + lateral (edge points, 1 mm apart, that a clear hole could serve, with no used needle within the margin)
      + out_of_reach (edge points that no clear hole can serve: a constant of the direction)

Each goal with a weight of its own adds a term, see `brachy.optimise.goal_terms`. The names of the terms are the fields
of the protocol's table `[objective]`. A target counts without the targets nested in it.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from brachy.core.loading import Terms, hinge_sums
from brachy.optimise.points import Samples
from brachy.patient.protocol import Objective

Float = NDArray[np.float64]

FAR = np.float32(1e30)
"""Level of a hinge that is not used, Gy."""

NAMES = ("underdose", "over_150", "over_200", "spill", "organ", "needle", "seed", "lateral")


def hinge_terms(samples: Sequence[Samples], objective: Objective, level: int) -> Terms:
    """Hinges of the dose part on one level of the samples, for the kernels."""
    counts = [part.counts[level] for part in samples]
    start = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    weight = np.zeros((len(samples), 3))
    heights = np.zeros((len(samples), 3), dtype=np.float32)
    for k, part in enumerate(samples):
        rx = part.prescription_gy
        heights[k] = (0.0, FAR, FAR)
        scale = part.share / max(part.counts[level], 1) / rx
        if part.kind == "target":
            heights[k] = (rx, 1.5 * rx, 2.0 * rx)
            weight[k] = (
                objective.underdose * scale,
                objective.over_150 * scale,
                objective.over_200 * scale,
            )
        elif part.kind == "shell":
            heights[k, 1] = rx
            weight[k, 1] = objective.spill * scale
        elif part.kind == "goal":
            slot = 0 if part.below else 1
            heights[k, slot] = part.level_gy
            weight[k, slot] = part.weight / max(part.counts[level], 1)
        else:
            heights[k, 1] = objective.organ_fraction * rx
            weight[k, 1] = objective.organ * scale
    return Terms(start, weight, heights)


def dose_terms(samples: Sequence[Samples], terms: Terms, dose: Float) -> dict[str, float]:
    """Value of each term of the dose part, by name, for the dose (n,) at the samples of the level."""
    values = dict.fromkeys(NAMES[:5], 0.0)
    for part, sums in zip(samples, hinge_sums(terms, dose).tolist(), strict=True):
        if part.kind == "target":
            values["underdose"] += sums[0]
            values["over_150"] += sums[1]
            values["over_200"] += sums[2]
        elif part.kind == "goal":
            values[part.label] = values.get(part.label, 0.0) + sums[0] + sums[1]
        else:
            values["spill" if part.kind == "shell" else "organ"] += sums[1]
    return values


def coverage(samples: Sequence[Samples], level: int, dose: NDArray[np.float32]) -> dict[str, float]:
    """D90 in Gy and V100 in % of the worst covered target, from the samples: for showing progress."""
    parts: dict[str, list[tuple[Float, float, float]]] = {}
    first = 0
    for part in samples:
        last = first + part.counts[level]
        if part.kind == "target" and last > first:
            here = dose[first:last].astype(np.float64)
            parts.setdefault(part.name, []).append((here, part.share / len(here), part.prescription_gy))
        first = last
    lowest, worst = np.inf, {"D90_gy": 0.0, "V100_pct": 100.0}
    for pieces in parts.values():
        values = np.concatenate([here for here, _, _ in pieces])
        weights = np.concatenate([np.full(len(here), weight) for here, weight, _ in pieces])
        order = np.argsort(values)
        below = np.cumsum(weights[order])
        d90 = float(values[order][min(int(np.searchsorted(below, 0.1 * below[-1])), len(values) - 1)])
        v100 = 100.0 * float(weights[values >= pieces[0][2]].sum() / weights.sum())
        if d90 / pieces[0][2] < lowest:
            lowest, worst["D90_gy"] = d90 / pieces[0][2], d90
        worst["V100_pct"] = min(worst["V100_pct"], v100)
    return worst
