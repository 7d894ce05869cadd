"""Reads an RT Structure Set: contours as drawn, names in their character set, and a note on everything left out."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from brachy.errors import BrachyError
from brachy.geometry.grid import Grid
from brachy.geometry.structures import RoiCode, Structure
from brachy.io.dicom.files import declared_charset, guessed, integer, items, numbers, shown, text

Float = NDArray[np.float64]

CLOSED = {"CLOSED_PLANAR", "CLOSEDPLANAR_XOR", "CLOSED_PLANAR_XOR"}
CODE_SEQUENCES = ("RTROIIdentificationCodeSequence", "SegmentedPropertyTypeCodeSequence")
"""Of an RT ROI Observation: what a ROI is (PS3.3 C.8.8.8)."""
LONGEST_NAME = 128
"""ROI names are cut to this many characters; DICOM allows 64 (engineering choice)."""
SAME_PLANE_MM = 0.1
"""Contours closer than this along the normal lie in one plane (engineering choice: z is often rounded to 0.1 mm)."""
OUTSIDE_TOLERANCE = (
    0.01  # of a voxel: contours made from masks run along the volume's edge (engineering choice)
)


@dataclass(frozen=True, eq=False)
class StructureSet:
    """Structures of one RT Structure Set, its identifiers, and sentences on what was inferred or left out."""

    structures: tuple[Structure, ...]
    uid: str = ""
    label: str = ""
    patient_id: str = ""
    frame_of_reference_uid: str = ""
    assumed: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()
    """ROIs that were left out because they are drawn in another frame of reference."""
    names_frame: bool = True
    """Whether the file names any frame of reference."""


def structure_set(
    dataset: Dataset, name: str, grid: Grid | None = None, frame_uid: str = "", frame_of: str = "the CT"
) -> StructureSet:
    """Structures from a parsed RTSTRUCT.

    Parameters
    ----------
    dataset : Dataset
        The parsed file.
    name : str
        Name of the file, for messages.
    grid : Grid, optional
        Grid of the CT: gives the slice spacing; structures outside it are noted.
    frame_uid : str
        Frame of reference of the CT (or the dose), or ""; ROIs in another frame are left out and reported.
    frame_of : str
        Name of the object with that frame of reference, for the report.

    Raises
    ------
    BrachyError
        If it is no structure set, or a contour does not consist of finite x, y, z.
    """
    rois = items(dataset, "StructureSetROISequence")
    if not rois:
        raise BrachyError(f"{shown(name)} has no ROIs: give a structure set with contours")
    charset = declared_charset(dataset)
    drawn: dict[int | None, list[Dataset]] = {}
    for item in items(dataset, "ROIContourSequence"):
        drawn.setdefault(integer(item, "ReferencedROINumber"), []).append(item)
    twice = [
        number for number, count in Counter(integer(roi, "ROINumber") for roi in rois).items() if count > 1
    ]
    if twice:
        raise BrachyError(f"{shown(name)} uses ROI number {twice[0]} for several ROIs: export it again")
    observed = _observations(dataset, charset)
    notes = _Notes()
    frames = _frames(dataset, rois)
    kept: list[tuple[str, int | None, list[Float]]] = []
    left_out: list[str] = []
    common = frames[0] if len(frames) == 1 else ""
    for place, roi in enumerate(rois):
        number = integer(roi, "ROINumber")
        title = _title(roi, number, place, charset, notes)
        frame = text(roi, "ReferencedFrameOfReferenceUID") or common
        if frame_uid and frame and frame != frame_uid:
            notes.add(f"in another frame of reference than {frame_of}, left out", title)
            left_out.append(title)
            continue
        polygons = _polygons(drawn.get(number, []), title, name, notes)
        if polygons:
            kept.append((title, number, polygons))
    spacing = float(grid.spacing_mm[2]) if grid is not None else usual_gap(p for _, _, p in kept)
    derived = f"slice spacing {spacing:g} mm derived from the contours" if grid is None and spacing else ""
    found = [
        Structure(
            title,
            tuple(polygons),
            interpreted_type=observed.get(number, ("", ()))[0],
            number=number,
            colour=_colour(drawn.get(number, [])),
            slice_spacing_mm=spacing,
            codes=observed.get(number, ("", ()))[1],
        )
        for title, number, polygons in kept
    ]
    for structure in found:
        for note in structure.notes:
            notes.add(note, structure.name)
    found = [structure for structure in found if not structure.is_empty]
    for title, count in Counter(structure.name for structure in found).items():
        if count > 1:
            notes.add(f"{count} ROIs have this name, kept side by side", title)
    if grid is not None:
        _note_outside(found, grid, notes)
    return StructureSet(
        structures=tuple(found),
        uid=text(dataset, "SOPInstanceUID"),
        label=text(dataset, "StructureSetLabel", charset),
        patient_id=text(dataset, "PatientID", charset),
        frame_of_reference_uid=frames[0] if len(frames) == 1 else "",
        assumed=((f"{shown(name)}: {derived}",) if derived else ()) + notes.sentences(),
        left_out=tuple(left_out),
        names_frame=bool(frames),
    )


class _Notes:
    """Remarks on ROIs; each kind becomes one sentence that lists its ROIs."""

    def __init__(self) -> None:
        self._of: dict[str, list[str]] = {}

    def add(self, remark: str, roi: str) -> None:
        rois = self._of.setdefault(remark, [])
        if roi not in rois:
            rois.append(roi)

    def sentences(self) -> tuple[str, ...]:
        return tuple(f"ROI {', '.join(rois)}: {remark}" for remark, rois in self._of.items())


def _frames(dataset: Dataset, rois: Iterable[Dataset]) -> list[str]:
    named = {text(dataset, "FrameOfReferenceUID")}
    named |= {
        text(item, "FrameOfReferenceUID") for item in items(dataset, "ReferencedFrameOfReferenceSequence")
    }
    named |= {text(roi, "ReferencedFrameOfReferenceUID") for roi in rois}
    return sorted(named - {""})


def _title(roi: Dataset, number: int | None, place: int, charset: Sequence[str] | None, notes: _Notes) -> str:
    title = text(roi, "ROIName", charset)
    if not title:
        title = f"ROI {place if number is None else number}"
        notes.add("has no name and is called by its number", title)
    if len(title) > LONGEST_NAME:
        title = title[:LONGEST_NAME].rstrip()
        notes.add(f"its name was cut to {LONGEST_NAME} characters", title)
    if guessed(roi, "ROIName", charset):
        notes.add(
            "its name is not in a character set that the file declares: read as UTF-8 or Latin-1", title
        )
    return title


def _observations(
    dataset: Dataset, charset: Sequence[str] | None
) -> dict[int | None, tuple[str, tuple[RoiCode, ...]]]:
    """Interpreted type and codes of each ROI, by its number."""
    return {
        integer(item, "ReferencedROINumber"): (
            text(item, "RTROIInterpretedType").upper(),
            tuple(code for name in CODE_SEQUENCES for code in _codes(item, name, charset)),
        )
        for item in items(dataset, "RTROIObservationsSequence")
    }


def _codes(observation: Dataset, name: str, charset: Sequence[str] | None) -> Iterator[RoiCode]:
    for item in items(observation, name):
        value = text(item, "CodeValue") or text(item, "LongCodeValue")
        if value:
            yield RoiCode(text(item, "CodingSchemeDesignator"), value, text(item, "CodeMeaning", charset))


def _colour(drawn: Sequence[Dataset]) -> tuple[int, int, int] | None:
    values = numbers(drawn[0], "ROIDisplayColor") if drawn else []
    if len(values) != 3 or not all(0 <= value <= 255 for value in values):
        return None
    return int(values[0]), int(values[1]), int(values[2])


def _polygons(drawn: Sequence[Dataset], title: str, name: str, notes: _Notes) -> list[Float]:
    """Closed contours (n, 3) of an ROI in mm; points and open contours are noted and left out."""
    polygons: list[Float] = []
    contours = [contour for item in drawn for contour in items(item, "ContourSequence")]
    for contour in contours:
        kind = text(contour, "ContourGeometricType").upper()
        try:
            values = np.array(numbers(contour, "ContourData"))
        except ValueError:
            raise BrachyError(
                f"{shown(name)}: a contour of ROI '{title}' has a coordinate that is no finite number: draw it again"
            ) from None
        if len(values) % 3:
            raise BrachyError(
                f"{shown(name)}: a contour of ROI '{title}' has {len(values)} coordinates, not x, y, z for each point"
            )
        points = values.reshape(-1, 3)
        if kind and kind not in CLOSED:
            notes.add(f"its {kind} contours have no volume, left out", title)
        elif len(points) < 3:
            notes.add("contours of fewer than 3 points have no area, left out", title)
        else:
            if not kind:
                notes.add("its contours name no type and are taken as closed", title)
            points.setflags(write=False)
            polygons.append(points)
    if not contours:
        notes.add("is empty, left out", title)
    return polygons


def usual_gap(contours_of: Iterable[Sequence[Float]]) -> float | None:
    """Most frequent distance in mm of neighbouring contour planes over all ROIs, None if no ROI has two planes.

    Examples
    --------
    >>> square = np.array([[0, 0, 0], [1, 0, 0], [1, 1, 0.0]])
    >>> usual_gap([[square, square + [0, 0, 2.5], square + [0, 0, 5]]])
    2.5
    """
    gaps: Counter[float] = Counter()
    for contours in contours_of:
        if not contours:
            continue
        widest = max(contours, key=lambda points: float(np.ptp(points, axis=0).max()))
        centred = widest - widest.mean(axis=0)
        normal = np.linalg.svd(centred, full_matrices=False)[2][-1]
        heights = np.sort([float(points.mean(axis=0) @ normal) for points in contours])
        steps = np.round(np.diff(heights), 2)
        gaps.update(float(step) for step in steps[steps > SAME_PLANE_MM])
    if not gaps:
        return None
    # of equally frequent gaps the smaller one is the spacing, the larger one a skipped slice
    return min(gaps, key=lambda gap: (-gaps[gap], gap))


def _note_outside(found: Iterable[Structure], grid: Grid, notes: _Notes) -> None:
    nz, ny, nx = grid.shape
    high = np.array([nx, ny, nz]) - 0.5 + OUTSIDE_TOLERANCE
    for structure in found:
        index = grid.mm_to_index(np.concatenate(structure.contours_mm))
        inside = ((index >= -0.5 - OUTSIDE_TOLERANCE) & (index <= high)).all(axis=1)
        if not inside.any():
            notes.add("lies outside the CT", structure.name)
        elif not inside.all():
            notes.add("reaches outside the CT", structure.name)


def image_heights(dataset: Dataset) -> Mapping[str, float]:
    """Z in mm of each image that the contours of a structure set name, by SOP Instance UID."""
    heights: dict[str, float] = {}
    for roi in items(dataset, "ROIContourSequence"):
        for contour in items(roi, "ContourSequence"):
            for image in items(contour, "ContourImageSequence"):
                uid = text(image, "ReferencedSOPInstanceUID")
                if uid not in heights:
                    values = numbers(contour, "ContourData")
                    if len(values) >= 3:
                        heights[uid] = values[2]
    return heights
