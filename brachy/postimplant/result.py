"""Result of `brachy.verify`: the content of verification.json, and the objects that its other files are made of."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from brachy.dosimetry.implant import Implant
from brachy.dosimetry.model import DoseModel
from brachy.patient.case import Case
from brachy.patient.check_report import CheckReport
from brachy.patient.plan import Plan
from brachy.patient.target import Target
from brachy.postimplant.record import PostImplantRecord
from brachy.postimplant.seed_files import GivenSeeds

Float = NDArray[np.float64]


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
        The plan, where it was made by this program.
    """

    labels: tuple[str, ...]
    positions_mm: Float
    axes: Float | None
    implants: tuple[Implant, ...]
    plan: Plan | None = None


@dataclass(frozen=True, eq=False)
class PostImplant:
    """An implant as found after the implantation, compared with the plan if there is one.

    Parameters
    ----------
    record : PostImplantRecord
        Content of verification.json (docs/verify.md), numbers as computed.
    model : DoseModel
        Dose to complete decay of the seeds as implanted, by kind, in the post-implant frame (LPS, mm).
    order : tuple of int
        Index in `record.seeds` of each seed of the implants, in their order.
    seeds : GivenSeeds
        The same seeds as found or given.
    case : Case
        CT after the implant, with the structures that were evaluated, roles included.
    targets : tuple of Target
        Targets on that CT with their prescriptions.
    planned : CarriedPlan or None
        Planned seeds, moved by the registration.
    """

    record: PostImplantRecord
    model: DoseModel
    order: tuple[int, ...]
    seeds: GivenSeeds
    case: Case
    targets: tuple[Target, ...]
    planned: CarriedPlan | None = None

    @property
    def implants(self) -> tuple[Implant, ...]:
        """Seeds as implanted, by kind."""
        return self.model.implants

    @property
    def check(self) -> CheckReport:
        """The independent check of the files, once they are written."""
        return self.record.check

    @property
    def goals_met(self) -> bool | None:
        """Whether every required goal is met; None where none is missed and some have no verdict."""
        return self.record.goals_met

    @property
    def data(self) -> dict[str, Any]:  # plain JSON data
        """Content of verification.json as JSON data, numbers as computed; for scripts."""
        return self.record.data()

    def to_json(self) -> str:
        """Text of verification.json."""
        return self.record.to_json()
