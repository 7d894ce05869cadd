"""Writes an RT Dose: dose on a regular grid as unsigned integers times a scaling (PS3.3 C.8.8.3)."""

from os import PathLike
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from brachy.errors import BrachyError, UsageError
from brachy.geometry.grid import Dose, Grid
from brachy.io.dicom.write import modules
from brachy.io.dicom.write.modules import dataset, decimal
from brachy.io.dicom.write.rtplan import RT_PLAN, plan_uid
from brachy.patient.case import Case, Identity
from brachy.patient.plan import Plan
from brachy.patient.uids import digest, uid

Array = NDArray[Any]

RT_DOSE = "1.2.840.10008.5.1.4.1.1.481.2"
"""SOP class RT Dose (PS3.4 table B.5-1)."""


def write_dose(
    dose: Dose,
    plan: Plan | None,
    case: Case | Identity,
    path: str | PathLike[str],
    *,
    plan_instance_uid: str = "",
    bits: int = 32,
    comment: str = "",
) -> str:
    """Write a dose as RT Dose.

    A grid may have any direction. DICOM frames are ordered along the cross product of the rows' and columns'
    directions, so a left-handed grid is written with its last slice first; no voxel changes its position.

    Parameters
    ----------
    dose : Dose
        Dose in Gy.
    plan : Plan or None
        Plan to which it belongs; None with `plan_instance_uid` for another system's plan.
    case : Case or Identity
        Patient, study and frame of reference.
    path : path
        File to write; an existing file is replaced.
    plan_instance_uid : str
        SOP instance UID of the RT Plan, as returned by `write_plan`; by default that of `plan` without structures.
    bits : int
        32, or 16 for systems that cannot read 32.
    comment : str
        Dose Comment; by default what the plan's dose model states of itself.

    Returns
    -------
    str
        SOP instance UID of the dose.

    Raises
    ------
    BrachyError
        If a dose is negative or not a number, or the file cannot be written.
    UsageError
        If there is neither a plan nor the UID of one, or `bits` is neither 16 nor 32.

    References
    ----------
    DICOM PS3.3, A.18 (RT Dose IOD), C.8.8.3.
    """
    if bits not in (16, 32):
        raise UsageError(f"an RT Dose has 16 or 32 bits, not {bits}")
    identity = modules.identity_of(case)
    if plan is not None and not plan_instance_uid:
        plan_instance_uid = plan_uid(plan, case)
    if not plan_instance_uid:
        raise UsageError("an RT Dose refers to its RT Plan: give the plan or its SOP instance UID")
    if plan is not None and not comment:
        comment = plan.dose_model().comment
    grid, gy = _right_handed(dose)
    scaling, stored = quantised(gy, bits)
    instance = uid(
        "RT Dose", plan_instance_uid, identity.study_uid, scaling, bits, comment,
        digest(stored, grid.origin_mm, grid.spacing_mm, grid.direction),
    )  # fmt: skip
    content = modules.joined(
        (
            modules.sop_common(RT_DOSE, instance),
            modules.patient_and_study(identity),
            modules.series("RTDOSE", uid("RT Dose series", instance), 4, "brachy dose"),
            modules.frame_of_reference(identity),
            _image_plane(grid),
            _pixels(stored, bits),
            dataset(
                InstanceNumber=1,
                DoseUnits="GY",
                DoseType="PHYSICAL",
                DoseSummationType="PLAN",
                DoseComment=comment,
                DoseGridScaling=scaling,
                TissueHeterogeneityCorrection="WATER",
                ReferencedRTPlanSequence=[modules.reference(RT_PLAN, plan_instance_uid)],
            ),
        )
    )
    modules.save(content, path)
    return instance


def quantised(gy: Array, bits: int) -> tuple[str, Array]:
    """Dose Grid Scaling as written, and integers whose product with it is the dose to within half of it.

    Raises
    ------
    BrachyError
        If a dose is negative or not a number.
    """
    highest = float(np.max(gy))
    if not np.isfinite(highest) or float(np.min(gy)) < 0:
        raise BrachyError("a dose to be written is negative or not a number: nothing was written")
    # the scaling is written with 10 digits; a margin of 1e-6 keeps the highest dose within the range of the integers
    top = (2**bits - 1) / (1 + 1e-6)
    scaling = f"{highest / top:.9e}" if highest > 0 else "1"
    stored = np.empty(gy.shape, dtype=np.dtype(f"<u{bits // 8}"))
    for k, plane in enumerate(gy):  # frame by frame, to avoid a copy of the volume in float64
        stored[k] = np.rint(plane.astype(np.float64) / float(scaling))
    return scaling, stored


def _right_handed(dose: Dose) -> tuple[Grid, Array]:
    """Grid and dose with the third axis along the cross product of the first two."""
    grid = dose.grid
    if np.linalg.det(grid.direction) > 0:
        return grid, dose.gy
    last = grid.index_to_mm(np.array([0.0, 0.0, grid.shape[0] - 1.0]))
    direction = grid.direction * np.array([1.0, 1.0, -1.0])
    return Grid(last, grid.spacing_mm, grid.shape, direction), dose.gy[::-1]


def _image_plane(grid: Grid) -> Dataset:
    """Modules Image Plane (C.7.6.2) and Multi-frame (C.7.6.6) with the frames' offsets."""
    dx, dy, dz = grid.spacing_mm
    plane = dataset(
        PixelSpacing=(dy, dx),
        ImageOrientationPatient=modules.orientation(grid.direction),
        ImagePositionPatient=tuple(grid.origin_mm),
        SliceThickness=float(dz),
    )
    if grid.shape[0] > 1:
        plane.update(
            dataset(
                NumberOfFrames=grid.shape[0],
                FrameIncrementPointer=0x3004000C,
                GridFrameOffsetVector=[decimal(k * dz) for k in range(grid.shape[0])],
            )
        )
    return plane


def _pixels(stored: Array, bits: int) -> Dataset:
    """Module Image Pixel (C.7.6.3)."""
    pixels = dataset(
        SamplesPerPixel=1,
        PhotometricInterpretation="MONOCHROME2",
        Rows=stored.shape[1],
        Columns=stored.shape[2],
        BitsAllocated=bits,
        BitsStored=bits,
        HighBit=bits - 1,
        PixelRepresentation=0,
    )
    pixels.add_new("PixelData", "OW", stored.tobytes())
    return pixels
