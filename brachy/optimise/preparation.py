"""A case made ready for a search: roles, targets, seeds and sample points, the same for plan, replan and edit."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from brachy.dosimetry.model import dose_model
from brachy.geometry.structures import Structure
from brachy.optimise.candidates import SeedTable
from brachy.optimise.goal_terms import goal_samples
from brachy.optimise.points import Samples, sample, spared_organs
from brachy.optimise.seed_stock import SeedStock
from brachy.optimise.targets import Asked, prescribed_targets
from brachy.patient import anatomy
from brachy.patient.access import Access, access_of
from brachy.patient.case import Case
from brachy.patient.obstacles import names_of, obstacles
from brachy.patient.protocol import Protocol
from brachy.patient.target import Target

Float = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Prepared:
    """All that a search knows of a patient before a template is laid out.

    Parameters
    ----------
    case : Case
        Every structure with its role; bone and skin found on the CT where no ROI has the role.
    protocol : Protocol
        What is asked for.
    targets : tuple of Target
        Expanded; the first is the one that the anchor hangs on.
    stock : SeedStock
        Seeds that may be used.
    external : Structure
        Outline of the patient.
    access : Access or None
        What bars needles from outside the patient; None for a plan that was made before that was asked.
    anchor_mm : (3,) array
        Lowest corner of the first target's box, patient frame (LPS), mm. Samples and candidates are relative to it and
        rounded, so that a patient who lies elsewhere gets the same plan to the last bit.
    samples : tuple of Samples
        Points of the objective, goals with a weight included.
    table : SeedTable
        Dose of one seed of the first strength.
    """

    case: Case
    protocol: Protocol
    targets: tuple[Target, ...]
    stock: SeedStock
    external: Structure
    access: Access | None
    anchor_mm: Float
    samples: tuple[Samples, ...]
    table: SeedTable

    def obstacles(self, target: Structure) -> tuple[Structure, ...]:
        """What the needles of a planned target keep away from, see `brachy.patient.obstacles`."""
        return tuple(obstacles(self.case.structures, self.protocol, target, names_of(self.targets)))

    @property
    def capsule_length_mm(self) -> float:
        """Length of a seed's capsule, mm."""
        return self.stock.source.capsule_length_mm


def prepare(
    case: Case, protocol: Protocol, asked: Asked | None, stock: SeedStock, *, outside: bool = True
) -> Prepared:
    """Make a case ready for a search.

    Parameters
    ----------
    case : Case
        CT and structures as read.
    protocol : Protocol
        Roles, margin, obstacles, objective and goals.
    asked : sequence of (ROI, Gy or None), optional
        Targets; by default the one ROI that can be one.
    stock : SeedStock
        Seeds that may be used.
    outside : bool
        Whether what lies outside the patient bars needles.

    Raises
    ------
    UsageError, BrachyError
        As `brachy.patient.anatomy.prepare`, `brachy.optimise.targets.prescribed_targets` and
        `brachy.optimise.goal_terms.goal_samples`.
    """
    names = None if asked is None else [name for name, _ in asked]
    case = anatomy.prepare(case, protocol, names, outside=outside)
    targets = prescribed_targets(case, protocol, asked)
    (external,) = case.with_role("external")
    access = access_of(case, protocol) if outside else None
    if access is not None:
        case = case.assuming([note for note in access.notes if note not in case.assumed])
    anchor = targets[0].structure.bounds_mm[0]
    samples = sample(targets, spared_organs(case.structures, protocol), external, anchor)
    samples += goal_samples(protocol, case.structures, targets, anchor)
    return Prepared(
        case=case,
        protocol=protocol,
        targets=tuple(targets),
        stock=stock,
        external=external,
        access=access,
        anchor_mm=anchor,
        samples=samples,
        table=SeedTable.of(dose_model(stock.first_seed(), protocol.source.formalism)),
    )
