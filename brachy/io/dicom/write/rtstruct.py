"""Writes an RT Structure Set: contours to 0.0001 mm that refer to the CT images (PS3.3 C.8.8.5, C.8.8.6, C.8.8.8)."""

import struct
from collections.abc import Sequence
from functools import lru_cache
from os import PathLike

import numpy as np
from numpy.typing import NDArray
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.tag import Tag
from pydicom.valuerep import VR

from brachy.errors import BrachyError
from brachy.geometry.structures import RoiCode, Structure
from brachy.io.dicom.write import modules
from brachy.io.dicom.write.modules import dataset
from brachy.patient.case import Case, Identity, SliceReference
from brachy.patient.palette import rtstruct_colour
from brachy.patient.uids import digest, identified, uid

Float = NDArray[np.float64]

STRUCTURE_SET = "1.2.840.10008.5.1.4.1.1.481.3"
"""SOP class RT Structure Set (PS3.4 table B.5-1)."""

_STUDY_CLASS = "1.2.840.10008.3.1.2.3.1"
"""SOP class Detached Study Management: retired, but still used by RT Referenced Study Sequence (PS3.3 C.8.8.5)."""

_TYPES = {
    "target": "GTV",
    "external": "EXTERNAL",
    "ignore": "CONTROL",
    "region": "CONTROL",
    "device": "DEVICE",
}
"""RT ROI Interpreted Type by role, for structures without one; other roles are ORGAN (C.8.8.8.1)."""

_CONTOURS = Tag(0x3006, 0x0040)
"""Contour Sequence."""


def structure_set_uid(structures: Sequence[Structure], case: Case) -> str:
    """SOP instance UID that `write_structures` assigns to these structures."""
    identity = identified(case).identity
    parts: list[object] = [identity.study_uid, identity.frame_of_reference_uid, identity.ct_series_uid]
    for structure, number in zip(structures, roi_numbers(structures), strict=True):
        parts += [
            number,
            structure.name,
            _type(structure),
            *structure.codes,
            _colour(structure),
            digest(*structure.contours_mm),
        ]
    return uid("RT Structure Set", *parts)


def write_structures(
    structures: Sequence[Structure], case: Case, path: str | PathLike[str], label: str = "brachy"
) -> str:
    """Write structures as RT Structure Set.

    Parameters
    ----------
    structures : sequence of Structure
        Structures; the ROI number of a structure is kept, those without one get free numbers.
    case : Case
        Patient, frame of reference, and CT slices to which the contours refer.
    path : path
        File to write; an existing file is replaced.
    label : str
        Structure Set Label, 16 characters.

    Returns
    -------
    str
        SOP instance UID of the structure set.

    Raises
    ------
    BrachyError
        If there is no structure, or the file cannot be written.

    References
    ----------
    DICOM PS3.3, A.19 (RT Structure Set IOD), C.8.8.5, C.8.8.6, C.8.8.8.
    """
    structures = tuple(structures)
    if not structures:
        raise BrachyError("a structure set needs a structure: there is none to write")
    case = identified(case)
    identity = case.identity
    instance = structure_set_uid(structures, case)
    numbers = roi_numbers(structures)
    slices = SliceFinder(case)
    content = modules.joined(
        (
            modules.sop_common(STRUCTURE_SET, instance),
            modules.patient_and_study(identity),
            modules.series("RTSTRUCT", uid("RT Structure Set series", instance), 2, "brachy structures"),
            modules.frame_of_reference(identity),
            _structure_set(structures, numbers, identity, label),
            dataset(
                ROIContourSequence=[
                    _contours(structure, number, slices)
                    for structure, number in zip(structures, numbers, strict=True)
                ],
                RTROIObservationsSequence=[
                    _observation(structure, index, number)
                    for index, (structure, number) in enumerate(zip(structures, numbers, strict=True), 1)
                ],
                ApprovalStatus="UNAPPROVED",
            ),
        )
    )
    # a contour can be longer than the 64 kB that a decimal string has in explicit VR (PS3.5 7.1.2)
    modules.save(content, path, implicit_vr=True)
    return instance


def roi_numbers(structures: Sequence[Structure]) -> list[int]:
    """ROI Number of each structure: its own unless an earlier structure has it, else the next free number.

    Examples
    --------
    >>> roi_numbers([Structure("a", (), number=2), Structure("b", ()), Structure("c", (), number=2)])
    [2, 1, 3]
    """
    kept: dict[int, int] = {}
    for index, structure in enumerate(structures):
        if structure.number is not None and structure.number >= 0:
            kept.setdefault(structure.number, index)
    by_index = {index: number for number, index in kept.items()}
    found: list[int] = []
    free = 1
    for index in range(len(structures)):
        if index in by_index:
            found.append(by_index[index])
            continue
        while free in kept:
            free += 1
        kept[free] = index
        found.append(free)
    return found


class SliceFinder:
    """Finds the CT image on which a planar contour lies: the nearest one, if it is within half the spacing."""

    def __init__(self, case: Case) -> None:
        self.slices: tuple[SliceReference, ...] = case.identity.slices
        self._normal = case.grid.direction[:, 2]
        self._half = 0.5 * float(case.grid.spacing_mm[2]) + 1e-3
        self._depths = (
            np.array([s.position_mm for s in self.slices], dtype=np.float64).reshape(-1, 3) @ self._normal
        )

    def find(self, contour_mm: Float) -> SliceReference | None:
        """Reference to the image of a contour (n, 3); None if it lies on no slice or across several."""
        if not self.slices:
            return None
        depths = contour_mm @ self._normal
        nearest = int(np.argmin(np.abs(self._depths - depths[0])))
        return self.slices[nearest] if np.abs(depths - self._depths[nearest]).max() <= self._half else None


def _structure_set(
    structures: Sequence[Structure], numbers: Sequence[int], identity: Identity, label: str
) -> Dataset:
    """Module Structure Set (C.8.8.5)."""
    images = [modules.reference(s.sop_class_uid, s.sop_instance_uid) for s in identity.slices]
    frame = dataset(FrameOfReferenceUID=identity.frame_of_reference_uid)
    if images:
        series = dataset(SeriesInstanceUID=identity.ct_series_uid, ContourImageSequence=images)
        study = modules.reference(_STUDY_CLASS, identity.study_uid)
        study.update(dataset(RTReferencedSeriesSequence=[series]))
        frame.update(dataset(RTReferencedStudySequence=[study]))
    rois = [
        dataset(
            ROINumber=number,
            ReferencedFrameOfReferenceUID=identity.frame_of_reference_uid,
            ROIName=structure.name,
            ROIGenerationAlgorithm="",
        )
        for structure, number in zip(structures, numbers, strict=True)
    ]
    found = dataset(
        StructureSetLabel=label,
        StructureSetDate=modules.dicom_date(identity.ct_date) or modules.dicom_date(identity.study_date),
        StructureSetTime="",
        ReferencedFrameOfReferenceSequence=[frame],
        StructureSetROISequence=rois,
    )
    if identity.is_dicom and identity.structure_set_uid:
        origin = modules.reference(STRUCTURE_SET, identity.structure_set_uid)
        found.update(dataset(PredecessorStructureSetSequence=[origin]))
    return found


def _observation(structure: Structure, index: int, number: int) -> Dataset:
    """Item of the RT ROI Observations Sequence; the codes that a structure brought are written again (C.8.8.8)."""
    item = dataset(
        ObservationNumber=index,
        ReferencedROINumber=number,
        RTROIInterpretedType=_type(structure),
        ROIInterpreter="",
    )
    if structure.codes:
        codes = [_code(code) for code in structure.codes]
        item.update(dataset(RTROIIdentificationCodeSequence=codes))
    return item


def _code(code: RoiCode) -> Dataset:
    """Code as PS3.3 table 8.8-1 has it; a value over 16 characters is a long one."""
    value = {"CodeValue" if len(code.value) <= 16 else "LongCodeValue": code.value}
    return dataset(
        **value, CodingSchemeDesignator=code.scheme, CodeMeaning=code.meaning[:64] or code.value[:64]
    )


def _type(structure: Structure) -> str:
    return structure.interpreted_type or _TYPES.get(structure.role, "ORGAN" if structure.role else "")


def _colour(structure: Structure) -> tuple[int, int, int]:
    return structure.colour or rtstruct_colour(structure.role)


def _contours(structure: Structure, number: int, slices: SliceFinder) -> Dataset:
    """Item of the ROI Contour Sequence."""
    found = dataset(ReferencedROINumber=number, ROIDisplayColor=list(_colour(structure)))
    items: list[bytes] = []
    for points in structure.contours_mm:
        if len(points) > 1 and np.array_equal(points[0], points[-1]):
            points = points[:-1]  # a closed contour does not repeat its first point
        if len(points):
            items.append(_contour(points, len(items) + 1, slices))
    if items:
        content = b"".join(items)
        found[_CONTOURS] = RawDataElement(_CONTOURS, VR.SQ, len(content), content, 0, True, True)
    return found


def _contour(points: Float, number: int, slices: SliceFinder) -> bytes:
    """Item of the Contour Sequence, as it stands in a file of implicit VR little endian (PS3.5 7.1.3, 7.5).

    A structure set has thousands of contours: an object for each of their elements, as elsewhere, takes seconds.
    """
    kinds = {1: b"POINT ", 2: b"OPEN_PLANAR "}
    image = slices.find(points)
    elements = (
        [] if image is None else [_element(0x0016, _image(image.sop_class_uid, image.sop_instance_uid))]
    )
    elements += [
        _element(0x0042, kinds.get(len(points), b"CLOSED_PLANAR ")),
        _element(0x0046, _even(str(len(points)))),
        _element(0x0048, _even(str(number))),
        _element(0x0050, contour_text(points)),
    ]
    return _item(b"".join(elements))


@lru_cache(4096)
def _image(sop_class_uid: str, sop_instance_uid: str) -> bytes:
    """Content of a Contour Image Sequence: one reference."""
    uids = ((0x1150, sop_class_uid), (0x1155, sop_instance_uid))
    return _item(b"".join(_element(number, _even(value, b"\0"), 0x0008) for number, value in uids))


def _item(content: bytes) -> bytes:
    return struct.pack("<HHL", 0xFFFE, 0xE000, len(content)) + content


def _element(number: int, value: bytes, group: int = 0x3006) -> bytes:
    return struct.pack("<HHL", group, number, len(value)) + value


def _even(text: str, padding: bytes = b" ") -> bytes:
    value = text.encode("ascii", "replace")
    return value + padding * (len(value) % 2)


def contour_text(points_mm: Float) -> bytes:
    r"""Contour Data of points (n, 3): decimal strings with 4 decimals, an even number of bytes.

    Examples
    --------
    >>> contour_text(np.array([[1.0, -2.5, 30.00004]]))
    b'1\\-2.5\\30 '
    """
    numbers = [f"{value:.4f}".rstrip("0").rstrip(".") for value in points_mm.ravel().tolist()]
    text = "\\".join("0" if number == "-0" else number for number in numbers).encode("ascii")
    return text + b" " * (len(text) % 2)
