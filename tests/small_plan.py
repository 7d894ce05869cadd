"""A small case and plan for tests of files: made by hand, not by the planner."""

from datetime import date

import numpy as np

from brachy.dosimetry.source import load_source
from brachy.geometry.grid import Dose, Grid
from brachy.geometry.structures import Structure
from brachy.patient.case import Case, Identity, InputFile
from brachy.patient.plan import (
    Evaluation,
    GoalResult,
    Plan,
    PlanCase,
    PlanNeedle,
    PlanSeed,
    PlanSource,
    PlanTarget,
    PlanTemplate,
)
from brachy.units import mci_from_strength
from tests.quick_protocol import AXIAL

TILTED = np.array([-0.6, 0.64, 0.48])
"""A unit vector along no axis."""


def circle(centre, radius, points=24):
    angle = np.linspace(0, 2 * np.pi, points, endpoint=False)
    ring = np.stack([np.cos(angle), np.sin(angle), np.zeros(points)], axis=1)
    return np.asarray(centre) + radius * ring


def small_case(identity=None, direction=None, origin=(-40.0, -45.0, 100.0)):
    """CT of 12 slices with a body and a tumour; not DICOM unless an identity says so."""
    grid = Grid(origin, (2.0, 2.5, 3.0), (12, 20, 24), direction)
    random = np.random.default_rng(7)
    hu = random.integers(-1000, 1000, grid.shape).astype(np.int16)
    middle = grid.index_to_mm([11.5, 9.5, 0])
    step = grid.direction[:, 2] * 3.0
    aside = 14.0 * (grid.direction[:, 0] + grid.direction[:, 1])
    body = tuple(circle(middle + k * step, 22.0, 48) for k in range(12))
    tumour = tuple(circle(middle + k * step, 8.0 + 0.1234567 * k) for k in range(4, 9))
    structures = (
        Structure("BODY", body, role="external", interpreted_type="EXTERNAL", number=3, colour=(0, 255, 0)),
        Structure("GTV", tumour, role="target", number=1),
        Structure(
            "Rippe löst", tuple(circle(middle + k * step + aside, 2.0) for k in range(12)), role="bone"
        ),
        Structure("nothing drawn", (), role="organ"),
    )
    return Case(hu, grid, structures, identity or Identity(), (InputFile("ct.nii.gz", "ab" * 32),))


def dicom_identity():
    """An identity as a DICOM reader gives it; the slices of `small_case` included."""
    grid = small_case().grid
    from brachy.patient.case import SliceReference

    slices = tuple(
        SliceReference(
            "1.2.840.10008.5.1.4.1.1.2", f"1.2.3.4.{k + 1}", tuple(grid.index_to_mm([0, 0, k]).tolist())
        )
        for k in range(12)
    )
    return Identity(
        patient_id="P-17",
        patient_name="Muster^Märta",
        patient_birth_date="19500203",
        patient_sex="F",
        study_uid="1.2.3.1",
        study_id="77",
        study_date="20260105",
        study_time="101112",
        accession_number="A5",
        referring_physician="Ref^Doc",
        frame_of_reference_uid="1.2.3.2",
        ct_series_uid="1.2.3.3",
        structure_set_uid="1.2.3.5",
        patient_position="HFS",
        ct_date=date(2026, 1, 5),
        slices=slices,
        is_dicom=True,
    )


def plan_source(model, strength, implant_on="2026-01-12"):
    source = load_source(model)
    return PlanSource(
        model=model,
        air_kerma_strength_U=strength,
        apparent_activity_mCi=mci_from_strength(strength),
        half_life_days=source.half_life_days,
        strength_on="2026-01-05",
        implant_on=implant_on,
        data=source.to_dict(),
    )


def needle(hole, template, start, direction, length, seed_depths, sources, skin_after=20.0):
    """A needle from its hole: seeds lie `seed_depths` mm behind the tip."""
    start, direction = np.asarray(start, float), np.asarray(direction, float)
    tip = start + length * direction
    return PlanNeedle(
        hole=hole,
        template=template,
        hole_mm=tuple(start),
        skin_mm=tuple(start + skin_after * direction),
        tip_mm=tuple(tip),
        direction=tuple(direction),
        depth_mm=length,
        depth_from_skin_mm=length - skin_after,
        seeds=tuple(
            PlanSeed(position_mm=tuple(tip - depth * direction), depth_mm=depth, source=source)
            for depth, source in zip(seed_depths, sources, strict=True)
        ),
    )


def small_plan(**changes):
    """Two templates, three sources (two strengths of one model, and another model), six needles."""
    first, second = np.array([0.0, 1.0, 0.0]), TILTED
    column, row = np.array([1.0, 0.0, 0.0]), np.array([0.0, 0.0, 1.0])
    plate = np.array([-40.0, -110.0, 95.0])
    needles = [
        needle(
            f"{'ABCD'[c]}{r}", 0, plate + 10 * c * column + 10 * (r - 1) * row, first, 111.25, depths, sources
        )
        for c, r, depths, sources in (
            (1, 1, (2.25, 7.25, 17.25), (0, 0, 0)),
            (2, 3, (2.25, 12.25), (0, 1)),
            (1, 2, (2.25, 8.123456), (0, 0)),
            (0, 2, (3.4,), (0,)),
            (2, 2, (2.25, 7.25), (1, 0)),
        )
    ]
    needles.append(needle("AB1", 1, (31.2345, -60.1, 80.0), second, 87.654321, (2.25, 10.0), (2, 2)))
    plan = Plan(
        software="brachy 0",
        case=PlanCase(patient_id="P-17", study_uid="1.2.3.1"),
        protocol=AXIAL,
        assumed=("implanted on the day of the CT",),
        sources=(
            plan_source("amersham_6711", 0.889),
            plan_source("amersham_6711", 0.762),
            plan_source("bard_stm1251", 0.621),
        ),
        targets=(
            PlanTarget(roi="GTV", prescription_gy=120.0, volume_cc=3.1, planned_volume_cc=3.1),
            PlanTarget(roi="GTV 2", prescription_gy=145.0, volume_cc=2.0, planned_volume_cc=2.0),
        ),
        templates=(
            PlanTemplate(
                origin_mm=tuple(plate), direction=tuple(first), row=tuple(row), column=tuple(column),
                spacing_mm=10.0, target="GTV", columns=4, rows=3, central_row=2,
            ),
            PlanTemplate(
                origin_mm=(31.2345, -60.1, 80.0), direction=tuple(second), row=(0.8, 0.48, 0.36),
                column=(0.0, 0.6, -0.8), spacing_mm=5.0, target="GTV 2", columns=28, rows=1, central_row=1,
            ),
        ),
        needles=tuple(needles),
        evaluation=Evaluation(
            formalism="1D",
            structures={"GTV": {"D90_gy": 131.23456789, "V100_pct": 97.0}},
            goals=(GoalResult(roi="GTV", metric="D90_gy", op=">=", limit=120.0, value=131.2, met=True),),
        ),
        optimiser={"seed": 1, "objective": 1.0 / 3.0, "terms": {"underdose": 1e-7 / 3}},
    )  # fmt: skip
    return plan.model_copy(update=changes) if changes else plan


def small_dose(direction=None, origin=(-20.0, -15.0, 105.0)):
    """A dose without any symmetry."""
    grid = Grid(origin, (2.0, 3.0, 4.0), (5, 6, 7), direction)
    random = np.random.default_rng(11)
    return Dose(grid, random.gamma(1.5, 80.0, grid.shape).astype(np.float32))
