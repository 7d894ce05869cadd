"""verification.json, version 1: its content as a record, and its text."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from brachy.dosimetry.implant import Implant
from brachy.patient.case import Case
from brachy.patient.plan import Plan
from brachy.patient.target import Target
from brachy.postimplant.seed_files import GivenSeeds
from brachy.writing import canonical, rounded

Float = NDArray[np.float64]

FORMAT = "brachy-verification"
VERSION = 1


@dataclass(frozen=True, eq=False)
class CarriedPlan:
    """Planned seeds in the post-implant frame (LPS, mm).

    Parameters
    ----------
    labels : tuple of str
        Name of each seed.
    positions_mm : (n, 3) array
        Centres.
    axes : (n, 3) array or None
        Unit vectors.
    implants : tuple of Implant
        The same seeds by kind, with source and strength.
    plan : Plan or None
        The plan, where it is ours.
    """

    labels: tuple[str, ...]
    positions_mm: Float
    axes: Float | None
    implants: tuple[Implant, ...]
    plan: Plan | None = None


@dataclass(frozen=True, eq=False)
class Verification:
    """An implant as it is, beside what was planned.

    Parameters
    ----------
    data : dict
        Content of verification.json (docs/verify.md).
    implants : tuple of Implant
        Seeds as implanted, in the post-implant frame (LPS, mm), by kind.
    order : tuple of int
        Index in `data["seeds"]` of each seed of the implants, in their order.
    seeds : GivenSeeds
        The same seeds as found or given.
    case : Case
        CT after the implant, with the structures that were evaluated, roles included.
    targets : tuple of Target
        Targets on that CT with their prescriptions.
    formalism : str
        "1D" or "2D".
    planned : CarriedPlan or None
        What was planned, where the registration puts it.
    check : dict
        The second opinion on the files, once they are written.
    """

    data: dict[str, Any]
    implants: tuple[Implant, ...]
    order: tuple[int, ...]
    seeds: GivenSeeds
    case: Case
    targets: tuple[Target, ...]
    formalism: str
    planned: CarriedPlan | None = None
    check: dict[str, Any] = field(default_factory=dict)

    @property
    def goals_met(self) -> bool:
        """Whether every required goal is met."""
        return all(goal["met"] for goal in self.data["goals"] if goal["required"])

    def content(self) -> dict[str, Any]:
        """The object of verification.json: floats at 6 significant digits, a missing number null."""
        data: dict[str, Any] = rounded(_known({**self.data, "check": self.check}))
        return data

    def to_json(self) -> str:
        """Text of verification.json."""
        return canonical(self.content())


def _known(value: Any) -> Any:
    """JSON data in which NaN and infinity are null."""
    if isinstance(value, dict):
        return {key: _known(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_known(item) for item in value]
    if isinstance(value, np.ndarray):
        return _known(value.tolist())
    if isinstance(value, float) and not np.isfinite(value):
        return None
    return value
