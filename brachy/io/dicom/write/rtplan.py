"""Writes the RT Plan of a permanent implant: a channel for each seed, an application setup for each template.

A permanent seed is a source that does not move: two control points at one place, with weights 0 and 100, for the mean
life of the nuclide (PS3.3 C.8.8.15). The channels of one needle have the same applicator number and hole.
"""

import math
from os import PathLike

from pydicom.dataset import Dataset

from brachy import units
from brachy.dosimetry.source import Source
from brachy.errors import BrachyError
from brachy.geometry.structures import Structure
from brachy.io.dicom.write import modules
from brachy.io.dicom.write.modules import dataset
from brachy.io.dicom.write.rtstruct import STRUCTURE_SET, roi_numbers, structure_set_uid
from brachy.patient.case import Case, Identity
from brachy.patient.plan import Plan, PlanNeedle, PlanSeed, PlanSource
from brachy.patient.uids import uid

RT_PLAN = "1.2.840.10008.5.1.4.1.1.481.5"
"""SOP class RT Plan (PS3.4 table B.5-1)."""

UNKNOWN_DATE = "19000101"
"""Reference date of the source strength for a case without any date (a NIfTI). DICOM requires a date; nobody will take
this one for real, and the plan's description mentions it."""


def plan_uid(plan: Plan, who: Case | Identity, structures: tuple[Structure, ...] | None = None) -> str:
    """SOP instance UID that `write_plan` assigns to this plan."""
    identity = modules.identity_of(who)
    return uid(
        "RT Plan",
        plan.sealed().checksum,
        identity.study_uid,
        identity.frame_of_reference_uid,
        _structure_set(who, structures),
    )


def write_plan(
    plan: Plan,
    case: Case | Identity,
    path: str | PathLike[str],
    structures: tuple[Structure, ...] | None = None,
) -> str:
    """Write a plan as RT Plan, technique PERMANENT.

    Parameters
    ----------
    plan : Plan
        Plan with seeds, needles, templates and prescriptions.
    case : Case or Identity
        Patient, study and frame of reference.
    path : path
        File to write; an existing file is replaced.
    structures : tuple of Structure, optional
        Structures that `write_structures` writes: the plan then refers to that structure set and its ROI numbers,
        by default to the structure set of the case.

    Returns
    -------
    str
        SOP instance UID of the plan.

    Raises
    ------
    BrachyError
        If the plan has no seed, or the file cannot be written.

    References
    ----------
    DICOM PS3.3, A.20 (RT Plan IOD), C.8.8.9 to C.8.8.15.
    """
    plan = plan.sealed()
    if plan.seed_count == 0:
        raise BrachyError("a plan without seeds cannot be an RT Plan: plan again")
    identity = modules.identity_of(case)
    instance = plan_uid(plan, case, structures)
    setups = [index for index in range(len(plan.templates)) if _needles(plan, index)]
    sources = _distinct_sources(plan)
    content = modules.joined(
        (
            modules.sop_common(RT_PLAN, instance),
            modules.patient_and_study(identity),
            modules.series("RTPLAN", uid("RT Plan series", instance), 3, "brachy plan"),
            modules.frame_of_reference(identity),
            _general_plan(plan, identity, _structure_set(case, structures)),
            _prescription(plan, _numbers_by_name(case, structures)),
            _fraction_scheme(plan, setups),
            dataset(
                BrachyTreatmentTechnique="PERMANENT",
                BrachyTreatmentType="MANUAL",
                TreatmentMachineSequence=[dataset(TreatmentMachineName="MANUAL LOADING")],
                SourceSequence=[
                    _source(number, entry, _reference_date(entry, identity))
                    for number, entry in dict(sources.values()).items()
                ],
                ApplicationSetupSequence=[_setup(plan, index, sources) for index in setups],
            ),
            dataset(ApprovalStatus="UNAPPROVED"),
        )
    )
    modules.save(content, path)
    return instance


def _structure_set(who: Case | Identity, structures: tuple[Structure, ...] | None) -> str:
    identity = modules.identity_of(who)
    if not isinstance(who, Case) or (structures is None and identity.is_dicom):
        return identity.structure_set_uid
    return structure_set_uid(who.structures if structures is None else structures, who)


def _numbers_by_name(who: Case | Identity, structures: tuple[Structure, ...] | None) -> dict[str, int]:
    found = structures if structures is not None else who.structures if isinstance(who, Case) else ()
    return {structure.name: number for structure, number in zip(found, roi_numbers(found), strict=True)}


def _needles(plan: Plan, template: int) -> list[tuple[int, PlanNeedle]]:
    """Needles of a template that hold seeds, with their number in the plan, from 1."""
    return [
        (i, needle)
        for i, needle in enumerate(plan.needles, 1)
        if needle.template == template and needle.seeds
    ]


def _distinct_sources(plan: Plan) -> dict[int, tuple[int, PlanSource]]:
    """Source Number and source for each used source index of the plan; equal model and strength have one number."""
    used = {seed.source for needle in plan.needles for seed in needle.seeds}
    numbers: dict[tuple[str, float, float, str], int] = {}
    found: dict[int, tuple[int, PlanSource]] = {}
    for index, entry in enumerate(plan.sources):
        if index in used:
            key = (entry.model, entry.air_kerma_strength_U, entry.half_life_days, entry.implant_on)
            found[index] = (numbers.setdefault(key, len(numbers) + 1), entry)
    return found


def _reference_date(entry: PlanSource, identity: Identity) -> str:
    """Date for which the strength in the plan is stated: that of the implantation."""
    dates = (entry.implant_on, identity.ct_date, identity.study_date)
    return next((found for found in map(modules.dicom_date, dates) if found), UNKNOWN_DATE)


def _general_plan(plan: Plan, identity: Identity, structure_set: str) -> Dataset:
    """Module RT General Plan (C.8.8.9)."""
    day = _reference_date(plan.sources[0], identity)
    about = [
        f"{plan.protocol.title or plan.protocol.name}:",
        f"{plan.seed_count} seeds in {len(plan.needles)} needles;",
        f"{plan.dose_model().name}, Gy to complete decay; checksum of plan.json {plan.checksum}.",
    ]
    if day == UNKNOWN_DATE:
        about.append("No date of the case is known: 1900-01-01 stands for the day of implantation.")
    general = dataset(
        RTPlanLabel=plan.protocol.name or "brachy",
        RTPlanName=plan.protocol.name,
        RTPlanDescription=" ".join(about),
        # the day of the strengths, so that a reader that decays them to the plan's date does not change them
        RTPlanDate="" if day == UNKNOWN_DATE else day,
        RTPlanTime="",
        RTPlanGeometry="PATIENT" if structure_set else "TREATMENT_DEVICE",
    )
    if structure_set:
        general.update(
            dataset(ReferencedStructureSetSequence=[modules.reference(STRUCTURE_SET, structure_set)])
        )
    return general


def _prescription(plan: Plan, numbers: dict[str, int]) -> Dataset:
    """Module RT Prescription (C.8.8.10): a dose reference for each target."""
    references = []
    for number, target in enumerate(plan.targets, 1):
        roi = numbers.get(target.planned_roi, numbers.get(target.roi))
        item = dataset(
            DoseReferenceNumber=number,
            DoseReferenceStructureType="SITE" if roi is None else "VOLUME",
            DoseReferenceDescription=target.roi,
            DoseReferenceType="TARGET",
            TargetPrescriptionDose=target.prescription_gy,
        )
        if roi is not None:
            item.update(dataset(ReferencedROINumber=roi))
        references.append(item)
    return dataset(DoseReferenceSequence=references)


def _fraction_scheme(plan: Plan, setups: list[int]) -> Dataset:
    """Module RT Fraction Scheme (C.8.8.13): one fraction of all application setups."""
    referenced = []
    for index in setups:
        item = dataset(ReferencedBrachyApplicationSetupNumber=index + 1)
        item.update(dataset(BrachyApplicationSetupDose=plan.target_of(index).prescription_gy))
        referenced.append(item)
    group = dataset(
        FractionGroupNumber=1,
        NumberOfFractionsPlanned=1,
        NumberOfBeams=0,
        NumberOfBrachyApplicationSetups=len(setups),
        ReferencedBrachyApplicationSetupSequence=referenced,
    )
    return dataset(FractionGroupSequence=[group])


def _source(number: int, entry: PlanSource, day: str) -> Dataset:
    """Item of the Source Sequence; strength in U equals the air-kerma rate in uGy/h at 1 m (TG-43U1, III.A)."""
    seed = Source.from_dict(entry.data, name=entry.model)
    return dataset(
        SourceNumber=number,
        SourceType="LINE",
        SourceManufacturer=seed.manufacturer,
        SourceModelID=_short_model(seed),
        SourceDescription=entry.model,
        ActiveSourceLength=seed.active_length_cm * 10.0,
        SourceIsotopeName=seed.nuclide,
        SourceIsotopeHalfLife=entry.half_life_days,
        SourceStrengthUnits="AIR_KERMA_RATE",
        SourceStrength=entry.air_kerma_strength_U,
        ReferenceAirKermaRate=entry.air_kerma_strength_U,
        SourceStrengthReferenceDate=day,
        SourceStrengthReferenceTime="000000",
    )


def _short_model(seed: Source) -> str:
    """Name of the model for the 16 characters of a Source Model ID; an alias if the name is longer."""
    fitting = [name for name in (seed.model, *seed.aliases) if len(name) <= 16]
    return fitting[0] if fitting else seed.model


def mean_life_seconds(half_life_days: float) -> float:
    """Mean life, T1/2 / ln 2, in seconds: time in which the initial dose rate gives the dose to complete decay.

    Examples
    --------
    >>> round(mean_life_seconds(59.4), 1)
    7404141.8
    """
    return half_life_days * units.SECONDS_PER_DAY / math.log(2.0)


def _setup(plan: Plan, index: int, sources: dict[int, tuple[int, PlanSource]]) -> Dataset:
    """Item of the Application Setup Sequence: one template."""
    template = plan.templates[index]
    channels: list[Dataset] = []
    air_kerma = 0.0
    for applicator, needle in _needles(plan, index):
        for seed in needle.seeds:
            number, entry = sources[seed.source]
            channels.append(
                _channel(len(channels) + 1, applicator, needle, seed, number, entry.half_life_days)
            )
            air_kerma += entry.air_kerma_strength_U * mean_life_seconds(entry.half_life_days) / 3600.0
    return dataset(
        # C.8.8.15.1 has no defined term for a percutaneous template of the trunk, and allows other terms
        ApplicationSetupType="PERCUTANEOUS",
        ApplicationSetupNumber=index + 1,
        ApplicationSetupName=template.target,
        TemplateNumber=index + 1,
        TemplateType="NONCOPLANAR" if template.arrangement == "individual" else "COPLANAR",
        TemplateName=f"{len(template.holes)} holes at angles up to {template.cone_deg:g} deg"
        if template.arrangement == "individual"
        else f"{template.columns} x {template.rows} holes, {template.spacing_mm:g} mm apart",
        TotalReferenceAirKerma=air_kerma,
        ChannelSequence=channels,
    )


def _channel(
    number: int, applicator: int, needle: PlanNeedle, seed: PlanSeed, source: int, half_life_days: float
) -> Dataset:
    """Item of the Channel Sequence: one seed of a needle."""
    points = []
    for index, weight in enumerate((0.0, 100.0)):
        points.append(
            dataset(
                ControlPointIndex=index,
                CumulativeTimeWeight=weight,
                # from the needle's tip to the seed's centre
                ControlPointRelativePosition=seed.depth_mm,
                ControlPoint3DPosition=seed.position_mm,
                ControlPointOrientation=list(needle.direction),
            )
        )
    return dataset(
        ChannelNumber=number,
        ChannelLength=None,
        ChannelTotalTime=mean_life_seconds(half_life_days),
        SourceMovementType="FIXED",
        SourceApplicatorNumber=applicator,
        SourceApplicatorID=needle.hole,
        SourceApplicatorType="RIGID",
        SourceApplicatorLength=needle.depth_mm,
        TransferTubeNumber=None,
        ReferencedROINumber=None,
        ReferencedSourceNumber=source,
        FinalCumulativeTimeWeight=100.0,
        NumberOfControlPoints=2,
        BrachyControlPointSequence=points,
    )
