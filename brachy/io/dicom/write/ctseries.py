"""Writes the CT of a case that was not DICOM as a series, so that plan, dose and structures can refer to it."""

from os import PathLike
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from brachy.errors import BrachyError
from brachy.io.dicom.write import modules
from brachy.io.dicom.write.modules import dataset
from brachy.patient.case import Case
from brachy.patient.uids import CT_IMAGE, identified


def write_ct(case: Case, folder: str | PathLike[str]) -> str:
    """Write the CT of a case as a series of CT images, one file a slice, beginning with CT0001.dcm.

    HU are stored as 16-bit signed integers (slope 1, intercept 0), rounded to 1 HU.

    Parameters
    ----------
    case : Case
        CT and grid; slices are written in the order of its third axis.
    folder : path
        Folder to write into; it must exist.

    Returns
    -------
    str
        Series instance UID.

    Raises
    ------
    BrachyError
        If a CT number is not finite or beyond 16 bits, or a file cannot be written.

    References
    ----------
    DICOM PS3.3, A.3 (CT Image IOD), C.7.6.2, C.8.2.1.
    """
    case = identified(case)
    identity = case.identity
    if len(identity.slices) != case.grid.shape[0]:
        raise BrachyError(
            f"{len(identity.slices)} references for {case.grid.shape[0]} CT slices: read the CT again"
        )
    shared = modules.joined(
        (
            modules.patient_and_study(identity),
            modules.series("CT", identity.ct_series_uid, 1, "CT"),
            modules.frame_of_reference(identity),
            dataset(
                PatientPosition=identity.patient_position,
                Laterality="",
                ImageType=["DERIVED", "SECONDARY", "AXIAL"],
                AcquisitionNumber=None,
                AcquisitionDate=modules.dicom_date(identity.ct_date),
                KVP=None,
                RescaleIntercept=0.0,
                RescaleSlope=1.0,
                RescaleType="HU",
            ),
            _plane(case),
        )
    )
    for k, slice_reference in enumerate(identity.slices):
        image = Dataset()
        image.update(shared)
        image.update(modules.sop_common(CT_IMAGE, slice_reference.sop_instance_uid))
        position = tuple(case.grid.index_to_mm(np.array([0.0, 0.0, float(k)])))
        image.update(dataset(InstanceNumber=k + 1, ImagePositionPatient=position))
        image.add_new("PixelData", "OW", _stored(case.ct_hu[k]).tobytes())
        modules.save(image, Path(folder) / f"CT{k + 1:04d}.dcm")
    return identity.ct_series_uid


def _plane(case: Case) -> Dataset:
    """Modules Image Plane (C.7.6.2) and Image Pixel (C.7.6.3) without position and pixels."""
    dx, dy, dz = case.grid.spacing_mm
    _, rows, columns = case.grid.shape
    return dataset(
        PixelSpacing=(dy, dx),
        ImageOrientationPatient=modules.orientation(case.grid.direction),
        SliceThickness=float(dz),
        SamplesPerPixel=1,
        PhotometricInterpretation="MONOCHROME2",
        Rows=rows,
        Columns=columns,
        BitsAllocated=16,
        BitsStored=16,
        HighBit=15,
        PixelRepresentation=1,
    )


def _stored(hu: NDArray[np.generic]) -> NDArray[np.int16]:
    """CT numbers as little-endian 16-bit integers."""
    values = np.rint(hu.astype(np.float64))
    if not (values.min() >= -32768 and values.max() <= 32767):  # also False where a value is not a number
        raise BrachyError("a CT number is not finite or beyond 16 bits: it cannot be written as a CT image")
    return values.astype("<i2")
