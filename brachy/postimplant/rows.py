"""Rows of verification.json, built from the objects that were computed."""

from collections.abc import Sequence
from dataclasses import asdict

import numpy as np

from brachy.dosimetry.implant import Implant
from brachy.patient.case import Case
from brachy.patient.plan import PlanInput
from brachy.patient.records import vector
from brachy.patient.target import Target
from brachy.postimplant.compare import Comparison
from brachy.postimplant.planned import Planned
from brachy.postimplant.record import (
    AgreementRow,
    ImplantCase,
    ImplantSource,
    ImplantTarget,
    RegistrationRow,
    SeedPlace,
    SeedRow,
)
from brachy.postimplant.registration import Registration
from brachy.postimplant.seed_files import GivenSeeds


def seed_rows(
    seeds: GivenSeeds,
    planned: Planned | None,
    comparison: Comparison | None,
    places: Sequence[SeedPlace],
) -> tuple[SeedRow, ...]:
    """Rows of all seeds, with the planned seed and the shift of those that match one."""
    partner: dict[int, int] = {}
    if comparison is not None and planned is not None:
        partner = {int(f): k for k, (_, f) in enumerate(comparison.matching.pairs)}
    rows = []
    for f in range(len(seeds)):
        shift = {}
        if planned is not None and comparison is not None and f in partner:
            k, moved = partner[f], comparison.moved
            shift = {
                "planned": planned.labels[int(comparison.matching.pairs[k, 0])],
                "shift_mm": float(moved.distance_mm[k]),
                "shift_along_mm": float(moved.along_mm[k]),
                "shift_across_mm": float(moved.across_mm[k]),
                "angle_deg": float(moved.angle_deg[k]),
                "shift_vector_mm": vector(moved.vector_mm[k]),
            }
        known = {
            "position_mm": vector(seeds.positions_mm[f]),
            "axis": vector(seeds.axes[f]) if np.isfinite(seeds.axes[f]).all() else None,
            "confidence": float(seeds.confidence[f]),
            "mass": float(seeds.mass[f]),
            "position_sd_mm": vector(seeds.position_sd_mm[f]),
            "place": places[f],
        }
        rows.append(SeedRow.model_validate({**known, **shift}))
    return tuple(rows)


def registration_row(found: Registration | None) -> RegistrationRow | None:
    """Method, residual and transform of a registration, and the others it was compared with."""
    if found is None:
        return None
    return RegistrationRow(
        method=found.method,
        residual_mm=found.residual_mm,
        error_mm=found.error_mm,
        transform=found.transform.tolist(),
        note=found.note,
        uses_seeds=found.uses_seeds,
        agreement=tuple(AgreementRow.model_validate(asdict(other)) for other in found.agreement),
    )


def source_row(implant: Implant) -> ImplantSource:
    """Model, number and strength of the seeds of one kind."""
    return ImplantSource(
        model=implant.source.name,
        seeds=len(implant),
        air_kerma_strength_U=float(implant.strength_U[0]),
        half_life_days=implant.half_life_days,
    )


def target_row(target: Target) -> ImplantTarget:
    """Name, prescription and volume of a target."""
    drawn = target.structure
    return ImplantTarget(roi=drawn.name, prescription_gy=target.prescription_gy, volume_cc=drawn.volume_cc)


def case_row(case: Case) -> ImplantCase:
    """Identity of the CT after the implant, and the files that were read."""
    who = case.identity
    return ImplantCase(
        patient_id=who.patient_id,
        study_uid=who.study_uid,
        frame_of_reference_uid=who.frame_of_reference_uid,
        ct_series_uid=who.ct_series_uid,
        structure_set_uid=who.structure_set_uid,
        ct_date="" if who.ct_date is None else who.ct_date.isoformat(),
        inputs=tuple(PlanInput(name=file.name, sha256=file.sha256) for file in case.inputs),
    )


def held_by_organ(places: Sequence[SeedPlace]) -> dict[str, tuple[int, ...]]:
    """Seeds in each vessel, lung and the like."""
    found: dict[str, tuple[int, ...]] = {}
    for k, place in enumerate(places):
        for roi in place.organs:
            found[roi] = (*found.get(roi, ()), k)
    return found
