"""Unreachable parts of the targets: below the prescription even with a seed at every candidate."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from brachy.optimise.search import SearchProblem
from brachy.patient.optimiser_record import UnreachedPart
from brachy.patient.target import Target

Float = NDArray[np.float64]

LEAST_CC = 0.05
"""A smaller part is not reported (engineering choice: below the volume of a few samples)."""


@dataclass(frozen=True)
class OutOfReach:
    """A part of a target that seeds in the clear holes cannot bring to its prescription."""

    roi: str
    volume_cc: float
    prescription_gy: float
    centre_mm: tuple[float, float, float]
    """Patient frame (LPS)."""

    @property
    def sentence(self) -> str:
        """For the summary."""
        x, y, z = self.centre_mm
        return (
            f"{self.volume_cc:.2g} cc of '{self.roi}' round ({x:.0f}, {y:.0f}, {z:.0f}) cannot reach "
            f"{self.prescription_gy:g} Gy by any loading of the clear holes"
        )

    @property
    def record(self) -> UnreachedPart:
        """For plan.json."""
        return UnreachedPart(roi=self.roi, volume_cc=self.volume_cc, centre_mm=self.centre_mm)


def out_of_reach(
    problem: SearchProblem, targets: Sequence[Target], anchor_mm: Float, strongest: int
) -> tuple[OutOfReach, ...]:
    """Parts of the targets that stay below the prescription even with a seed at every candidate.

    Conflicting seeds are counted together, so the dose is an upper bound and what is reported is certainly unreachable.

    Parameters
    ----------
    problem : SearchProblem
        Candidates and fine samples of the chosen direction.
    targets : sequence of Target
        The plan's.
    anchor_mm : (3,) array
        To which the samples are relative.
    strongest : int
        Index in the stock of the seeds that count.
    """
    arrays, candidates = problem.arrays, problem.candidates
    total = arrays.base.copy()
    for i in np.flatnonzero(candidates.strength[candidates.needle_of] == strongest):
        total += arrays.influence[i]
    places: dict[str, list[Float]] = {}
    shares: dict[str, float] = {}
    first = 0
    for part in problem.samples:
        count = part.counts[problem.level]
        if part.kind == "target" and count:
            low = total[first : first + count] < part.prescription_gy
            shares[part.name] = shares.get(part.name, 0.0) + part.share * float(low.mean())
            places.setdefault(part.name, []).append(part.points_mm[:count][low])
        first += count
    found = []
    for target in targets:
        roi = target.name
        volume = shares.get(roi, 0.0) * target.structure.volume_cc
        if volume >= LEAST_CC:
            x, y, z = (np.concatenate(places[roi]).mean(axis=0) + anchor_mm).round(1).tolist()
            found.append(OutOfReach(roi, float(f"{volume:.3g}"), target.prescription_gy, (x, y, z)))
    return tuple(found)
