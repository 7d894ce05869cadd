"""Common parts of all written DICOM objects: values as DICOM text; modules patient, study, series, equipment, SOP.

Modules are those of PS3.3 annex C; a function named after one returns its attributes.
"""

import io
import math
import re
from collections.abc import Iterable
from datetime import date
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom import config
from pydicom import uid as known_uids
from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.filewriter import dcmwrite

from brachy.errors import BrachyError
from brachy.patient.case import Case, Identity
from brachy.patient.uids import identified, identified_alone, uid
from brachy.version import __version__
from brachy.writing import write_bytes_whole

SOFTWARE = "brachy"

_LENGTH = {"AE": 16, "AS": 4, "CS": 16, "LO": 64, "LT": 10240, "PN": 64, "SH": 16, "ST": 1024, "UI": 64}
"""Longest value in characters (PS3.5 table 6.2-1)."""


def dataset(**attributes: Any) -> Dataset:
    """Dataset of attributes by keyword; text is shortened to its value representation, numbers become DS or IS.

    Values copied from another system (UIDs with leading zeros, odd names) are passed on without validation.
    """
    made = Dataset()
    for keyword, value in attributes.items():
        tag = tag_for_keyword(keyword)
        if tag is None:
            raise KeyError(keyword)
        vr = dictionary_VR(tag)
        if vr in _LENGTH and isinstance(value, str):
            value = text(value, _LENGTH[vr])
        elif vr == "DS" and isinstance(value, float):
            value = decimal(value)
        elif vr == "DS" and value is not None and not isinstance(value, str):
            value = [number if isinstance(number, str) else decimal(number) for number in value]
        made.add(DataElement(tag, vr, value, validation_mode=config.IGNORE))
    return made


def text(value: str, length: int) -> str:
    """Text made valid for DICOM: no backslash (it separates values), no control characters, at most `length` long."""
    encodable = value.encode("utf-8", "replace").decode("utf-8")
    return re.sub(r"[\x00-\x1f\x7f]+", " ", encodable.replace("\\", "/")).strip()[:length].rstrip()


def decimal(value: float, places: int = 6) -> str:
    """Decimal string of at most 16 characters, with `places` decimals or fewer if that would be too long.

    Raises
    ------
    BrachyError
        If the value is not finite.

    Examples
    --------
    >>> decimal(-12.5), decimal(7404141.786712), decimal(-1e-9), decimal(123456789012.3456789)
    ('-12.5', '7404141.786712', '0', '123456789012.346')
    """
    if not math.isfinite(value):
        raise BrachyError(f"a number to be written to DICOM is {value}: nothing was written")
    for digits in range(places, -1, -1):
        shown = f"{value:.{digits}f}"
        if len(shown) <= 16:
            shown = shown.rstrip("0").rstrip(".") if digits else shown
            return "0" if float(shown) == 0 else shown
    return f"{value:.9e}"


def identity_of(who: Case | Identity) -> Identity:
    """Identity of a case, or a given identity, with all missing UIDs filled in."""
    return identified(who).identity if isinstance(who, Case) else identified_alone(who)


def dicom_date(value: str | date | None) -> str:
    """DA value of a date in ISO or DICOM form, "" if it is no date.

    Examples
    --------
    >>> dicom_date("2026-01-31"), dicom_date("20260131"), dicom_date("soon")
    ('20260131', '20260131', '')
    """
    if isinstance(value, date):
        value = value.isoformat()
    digits = (value or "").strip()[:10].replace("-", "")
    return digits if re.fullmatch(r"\d{8}", digits) else ""


def dicom_time(value: str) -> str:
    """TM value as it was read, "" if it is no time."""
    return value.strip() if re.fullmatch(r"\d{2}(\d{2}(\d{2}(\.\d{1,6})?)?)?", value.strip()) else ""


def orientation(direction: NDArray[np.float64]) -> list[str]:
    """Image Orientation (Patient): direction cosines of row and column with 12 decimals."""
    return [decimal(cosine, 12) for cosine in direction[:, :2].T.ravel().tolist()]


def patient_and_study(identity: Identity) -> Dataset:
    """Modules Patient (C.7.1.1) and General Study (C.7.2.1), copied from the case."""
    return dataset(
        PatientName=identity.patient_name,
        PatientID=identity.patient_id,
        PatientBirthDate=dicom_date(identity.patient_birth_date),
        PatientSex=identity.patient_sex if identity.patient_sex in {"M", "F", "O"} else "",
        StudyInstanceUID=identity.study_uid,
        StudyID=identity.study_id,
        StudyDate=dicom_date(identity.study_date),
        StudyTime=dicom_time(identity.study_time),
        AccessionNumber=identity.accession_number,
        ReferringPhysicianName=identity.referring_physician,
    )


def series(modality: str, series_uid: str, number: int, description: str) -> Dataset:
    """Modules RT Series (C.8.8.1) or General Series (C.7.3.1) and General Equipment (C.7.5.1)."""
    return dataset(
        Modality=modality,
        SeriesInstanceUID=series_uid,
        SeriesNumber=number,
        SeriesDescription=description,
        OperatorsName="",
        Manufacturer=SOFTWARE,
        ManufacturerModelName=SOFTWARE,
        SoftwareVersions=__version__,
    )


def frame_of_reference(identity: Identity) -> Dataset:
    """Module Frame of Reference (C.7.4.1)."""
    return dataset(FrameOfReferenceUID=identity.frame_of_reference_uid, PositionReferenceIndicator="")


def sop_common(sop_class: str, sop_instance: str) -> Dataset:
    """Module SOP Common (C.12.1); all text is UTF-8."""
    return dataset(SpecificCharacterSet="ISO_IR 192", SOPClassUID=sop_class, SOPInstanceUID=sop_instance)


def reference(sop_class: str, sop_instance: str) -> Dataset:
    """SOP Instance Reference macro (table 10-11)."""
    return dataset(ReferencedSOPClassUID=sop_class, ReferencedSOPInstanceUID=sop_instance)


def joined(modules: Iterable[Dataset]) -> Dataset:
    """One dataset of several modules."""
    whole = Dataset()
    for module in modules:
        whole.update(module)
    return whole


def save(content: Dataset, path: str | PathLike[str], *, implicit_vr: bool = False) -> None:
    """Write a Part 10 file in little endian, completely or not at all."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = content.SOPClassUID
    meta.MediaStorageSOPInstanceUID = content.SOPInstanceUID
    syntax = known_uids.ImplicitVRLittleEndian if implicit_vr else known_uids.ExplicitVRLittleEndian
    meta.TransferSyntaxUID = syntax
    meta.ImplementationClassUID = known_uids.UID(uid(SOFTWARE, "implementation"))
    meta.ImplementationVersionName = text(f"BRACHY {__version__}", 16)
    content.file_meta = meta
    buffer = io.BytesIO()
    dcmwrite(buffer, content, enforce_file_format=True)
    write_bytes_whole(Path(path), buffer.getvalue())
