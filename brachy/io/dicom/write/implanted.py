"""Writes an implant as found on the post-implant CT as an RT Plan: one channel for each seed, with its axis."""

from collections.abc import Sequence
from os import PathLike

from pydicom.dataset import Dataset

from brachy.dosimetry.implant import Implant
from brachy.dosimetry.model import DoseModel
from brachy.errors import BrachyError
from brachy.io.dicom.write import modules
from brachy.io.dicom.write.modules import dataset
from brachy.io.dicom.write.rtplan import RT_PLAN, UNKNOWN_DATE, mean_life_seconds
from brachy.io.dicom.write.rtstruct import STRUCTURE_SET
from brachy.patient.case import Case
from brachy.patient.target import Target
from brachy.patient.uids import uid


def write_implanted(
    model: DoseModel,
    labels: Sequence[str],
    case: Case,
    path: str | PathLike[str],
    *,
    target: Target,
    structure_set: str = "",
) -> str:
    """Write seeds found on CT as an RT Plan, technique PERMANENT, intent VERIFICATION.

    Parameters
    ----------
    model : DoseModel
        Seeds by kind, patient frame (LPS), mm, with their strengths at implantation, and how their dose is calculated.
    labels : sequence of str
        Name of each seed in the order of the implants: its planned name, or a new one if it matches no planned seed.
    case : Case
        Post-implant CT.
    path : path
        File to write; an existing file is replaced.
    target : Target
        Target and prescribed dose.
    structure_set : str
        SOP instance UID of the structure set; by default the case's.

    Returns
    -------
    str
        SOP instance UID of the plan.

    Raises
    ------
    BrachyError
        If there is no seed, or the file cannot be written.

    Notes
    -----
    After the implantation there are no needles, so each seed is an applicator of its own: Source Applicator ID is its
    name, Control Point Relative Position 0. A seed with unknown axis has no Control Point Orientation.
    """
    implants = model.implants
    count = sum(map(len, implants))
    if not count:
        raise BrachyError("an implant without seeds cannot be an RT Plan: check the seeds")
    identity = case.identity
    structure_set = structure_set or identity.structure_set_uid
    day = next(
        (d for d in map(modules.dicom_date, (identity.ct_date, identity.study_date)) if d), UNKNOWN_DATE
    )
    seeds = [
        (
            kind,
            implant.positions_mm[k].tolist(),
            None if implant.axes is None else implant.axes[k].tolist(),
            float(implant.strength_U[k]),
            implant.half_life_days,
        )
        for kind, implant in enumerate(implants)
        for k in range(len(implant))
    ]
    instance = uid("RT Plan as implanted", identity.study_uid, identity.frame_of_reference_uid, structure_set,
                   *labels, *([implant.source.name for implant in implants]), *seeds)  # fmt: skip
    general = dataset(
        RTPlanLabel="as implanted",
        RTPlanDescription=f"{count} seeds as found on the CT after the implant; {model.name}, to complete decay.",
        RTPlanDate="" if day == UNKNOWN_DATE else day,
        RTPlanTime="",
        PlanIntent="VERIFICATION",
        RTPlanGeometry="PATIENT" if structure_set else "TREATMENT_DEVICE",
    )
    if structure_set:
        general.update(
            dataset(ReferencedStructureSetSequence=[modules.reference(STRUCTURE_SET, structure_set)])
        )
    channels = [
        _channel(n, label, *seed) for n, (label, seed) in enumerate(zip(labels, seeds, strict=True), 1)
    ]
    air_kerma = sum(seed[3] * mean_life_seconds(seed[4]) / 3600.0 for seed in seeds)
    content = modules.joined(
        (
            modules.sop_common(RT_PLAN, instance),
            modules.patient_and_study(identity),
            modules.series("RTPLAN", uid("RT Plan series", instance), 5, "brachy verify"),
            modules.frame_of_reference(identity),
            general,
            dataset(
                DoseReferenceSequence=[
                    dataset(
                        DoseReferenceNumber=1,
                        DoseReferenceStructureType="SITE",
                        DoseReferenceDescription=target.name,
                        DoseReferenceType="TARGET",
                        TargetPrescriptionDose=target.prescription_gy,
                    )
                ],
                FractionGroupSequence=[
                    dataset(
                        FractionGroupNumber=1,
                        NumberOfFractionsPlanned=1,
                        NumberOfBeams=0,
                        NumberOfBrachyApplicationSetups=1,
                        ReferencedBrachyApplicationSetupSequence=[
                            dataset(
                                ReferencedBrachyApplicationSetupNumber=1,
                                BrachyApplicationSetupDose=target.prescription_gy,
                            )
                        ],
                    )
                ],
                BrachyTreatmentTechnique="PERMANENT",
                BrachyTreatmentType="MANUAL",
                TreatmentMachineSequence=[dataset(TreatmentMachineName="MANUAL LOADING")],
                SourceSequence=[_source(kind + 1, implant, day) for kind, implant in enumerate(implants)],
                ApplicationSetupSequence=[
                    dataset(
                        ApplicationSetupType="PERCUTANEOUS",
                        ApplicationSetupNumber=1,
                        ApplicationSetupName=modules.text(target.name, 64),
                        TotalReferenceAirKerma=air_kerma,
                        ChannelSequence=channels,
                    )
                ],
            ),
            dataset(ApprovalStatus="UNAPPROVED"),
        )
    )
    modules.save(content, path)
    return instance


def _source(number: int, implant: Implant, day: str) -> Dataset:
    """Item of the Source Sequence for one kind of seed."""
    seed = implant.source
    names = [name for name in (seed.model, *seed.aliases) if len(name) <= 16]
    strength = float(implant.strength_U[0])
    return dataset(
        SourceNumber=number,
        SourceType="LINE",
        SourceManufacturer=seed.manufacturer,
        SourceModelID=names[0] if names else seed.model,
        SourceDescription=seed.name,
        ActiveSourceLength=seed.active_length_cm * 10.0,
        SourceIsotopeName=seed.nuclide,
        SourceIsotopeHalfLife=implant.half_life_days,
        SourceStrengthUnits="AIR_KERMA_RATE",
        SourceStrength=strength,
        ReferenceAirKermaRate=strength,
        SourceStrengthReferenceDate=day,
        SourceStrengthReferenceTime="000000",
    )


def _channel(
    number: int, label: str, kind: int, at: list[float], axis: list[float] | None, _: float, half_life: float
) -> Dataset:
    """Item of the Channel Sequence for one seed: two control points at one place."""
    points = []
    for index, weight in enumerate((0.0, 100.0)):
        point = dataset(
            ControlPointIndex=index,
            CumulativeTimeWeight=weight,
            ControlPointRelativePosition=0.0,
            ControlPoint3DPosition=at,
        )
        if axis is not None:
            point.update(dataset(ControlPointOrientation=axis))
        points.append(point)
    return dataset(
        ChannelNumber=number,
        ChannelLength=None,
        ChannelTotalTime=mean_life_seconds(half_life),
        SourceMovementType="FIXED",
        SourceApplicatorNumber=number,
        SourceApplicatorID=modules.text(label, 16),
        SourceApplicatorType="RIGID",
        TransferTubeNumber=None,
        ReferencedROINumber=None,
        ReferencedSourceNumber=kind + 1,
        FinalCumulativeTimeWeight=100.0,
        NumberOfControlPoints=2,
        BrachyControlPointSequence=points,
    )
