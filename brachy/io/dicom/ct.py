"""Reads a CT series as CT numbers on a grid; slices are sorted along their normal and checked for completeness."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import date
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from brachy.errors import BrachyError
from brachy.geometry.grid import Grid
from brachy.io.dicom.files import (
    declared_charset,
    integer,
    items,
    numbers,
    parse,
    reading,
    sha256,
    shown,
    text,
)
from brachy.io.dicom.find import Series
from brachy.io.dicom.padding import AIR_HU, HIGHEST_HU, without_padding
from brachy.io.dicom.pixels import MAX_VOXELS, Decoder, check_size
from brachy.patient.case import Identity, InputFile, SliceReference

Float = NDArray[np.float64]

# Tolerances of a regular stack (engineering choices): positions are written with 3 to 6 decimals, scanners move the
# table with an accuracy of some hundredths of a millimetre, and a missing slice is a gap of a whole spacing.
GAP_TOLERANCE = 0.02  # of the spacing
GAP_TOLERANCE_MM = 0.02
DRIFT_TOLERANCE = 0.1  # of the spacing: of any slice from its position in an evenly spaced stack
SHEAR_TOLERANCE_MM = 0.05  # of a slice's origin from the normal through the first one
DIRECTION_TOLERANCE = 1e-3  # of a direction cosine
_HU_TYPES = {"", "HU", "HU_MOD", "US"}


@dataclass(frozen=True, eq=False)
class Frame:
    """Geometry of one stored image, and slope and intercept that turn its stored values into HU."""

    name: str
    sop_class_uid: str
    sop_uid: str
    position_mm: Float
    row_axis: Float  # direction of the column index
    column_axis: Float  # direction of the row index
    pixel_mm: tuple[float, float]  # between rows, between columns
    shape: tuple[int, int]
    slope: float
    intercept: float
    rescale_assumed: bool = False


@dataclass(frozen=True, eq=False)
class Volume:
    """A CT series that was read: `hu` [z, y, x] (int16 or float32) on `grid`, identity, input files, assumptions."""

    hu: NDArray[Any]
    grid: Grid
    identity: Identity
    inputs: tuple[InputFile, ...]
    assumed: tuple[str, ...]


def read_series(series: Series) -> Volume:
    """Read the images of a series.

    Raises
    ------
    BrachyError
        If a slice is missing, duplicate, tilted, of another size or unreadable; the message names its position.
    """
    frames: list[Frame] = []
    slices: list[NDArray[Any]] = []
    inputs: list[InputFile] = []
    notes: dict[str, None] = {}
    identity = Identity()
    days: set[date] = set()
    seen: dict[str, str] = {}
    with Decoder() as decoder:
        for header in sorted(series.images, key=lambda image: image.file.place):
            content = header.file.read()
            name = header.file.name
            inputs.append(InputFile(name, sha256(content)))
            with reading(header.file.place):
                dataset = parse(content, name, pixels=True)
                if not frames:
                    identity = _identity(dataset, notes)
                _check_same(dataset, seen, name)
                days |= {taken} if (taken := _own_day(dataset)) is not None else set()
                for index, frame in enumerate(_frames(dataset, name)):
                    frames.append(frame)
                    if len(frames) * frame.shape[0] * frame.shape[1] > MAX_VOXELS:
                        raise BrachyError(
                            f"the CT series has more than {MAX_VOXELS // 10**6} million voxels: crop it"
                        )
                    slices.append(_hu(decoder.decode(dataset, index, name), frame, dataset, notes))
    order, grid = stack(frames)
    without_padding(slices, frames[0].pixel_mm, notes)
    if any(frame.rescale_assumed for frame in frames):
        notes["CT numbers are the stored values (the images have no rescale slope and intercept)"] = None
    if len(days) > 1:
        notes[f"the slices of the CT were taken on several dates, {min(days)} to {max(days)}"] = None
    if series.localizers:
        notes[f"{len(series.localizers)} localizer images of the series were left out"] = None
    references = tuple(
        SliceReference(frames[i].sop_class_uid, frames[i].sop_uid, _triple(frames[i].position_mm))
        for i in order
    )
    whole = bool(
        identity.study_uid and identity.ct_series_uid and all(r.sop_instance_uid for r in references)
    )
    if not whole:
        notes["the CT has no UIDs of its own: it is treated like a CT that was not DICOM"] = None
    return Volume(
        hu=_stacked(slices, order),
        grid=grid,
        identity=replace(identity, slices=references if whole else (), is_dicom=whole),
        inputs=tuple(sorted(inputs, key=lambda entry: (entry.sha256, entry.name))),
        assumed=tuple(notes),
    )


def _triple(position: Float) -> tuple[float, float, float]:
    return float(position[0]), float(position[1]), float(position[2])


# ---- one image -------------------------------------------------------------------------------------------------


def _frames(dataset: Dataset, name: str) -> Iterator[Frame]:
    """Images of a file: one, or each frame of an enhanced multi-frame CT (PS3.3 C.7.6.16)."""
    if not dataset.get("Rows"):
        raise BrachyError(f"{shown(name)} has no pixels: export the CT series again")
    count = integer(dataset, "NumberOfFrames") or 1
    check_size(dataset, count, name)
    per_frame = items(dataset, "PerFrameFunctionalGroupsSequence")
    if not per_frame:
        if count != 1:
            raise BrachyError(f"{shown(name)} has {count} frames without positions: export single CT slices")
        yield _frame(dataset, [dataset], name)
        return
    if len(per_frame) != count:
        raise BrachyError(f"{shown(name)} has {count} frames but {len(per_frame)} positions: export it again")
    shared = items(dataset, "SharedFunctionalGroupsSequence")
    for groups in per_frame:
        yield _frame(dataset, [groups, *shared], name)


_MACROS = {
    "ImagePositionPatient": "PlanePositionSequence",
    "ImageOrientationPatient": "PlaneOrientationSequence",
    "PixelSpacing": "PixelMeasuresSequence",
    "RescaleSlope": "PixelValueTransformationSequence",
    "RescaleIntercept": "PixelValueTransformationSequence",
    "RescaleType": "PixelValueTransformationSequence",
}


def _frame(dataset: Dataset, groups: Sequence[Dataset], name: str) -> Frame:
    def holder(keyword: str) -> Dataset:
        places = [group for group in groups if keyword in group]
        places += [item for group in groups for item in items(group, _MACROS[keyword]) if keyword in item]
        return places[0] if places else Dataset()

    def values(keyword: str, count: int) -> Float:
        found = numbers(holder(keyword), keyword)
        if len(found) != count:
            raise BrachyError(f"{shown(name)} has no valid {keyword}: export the CT series again")
        return np.array(found)

    cosines = values("ImageOrientationPatient", 6)
    row, column = cosines[:3], cosines[3:]
    if (
        abs(np.linalg.norm(row) - 1) > 1e-2
        or abs(np.linalg.norm(column) - 1) > 1e-2
        or abs(row @ column) > 1e-2
    ):
        raise BrachyError(
            f"{shown(name)}: ImageOrientationPatient is no pair of unit vectors at right angles"
        )
    row = row / np.linalg.norm(row)
    column = column - (column @ row) * row
    between = values("PixelSpacing", 2)
    if not (between > 0).all():
        raise BrachyError(f"{shown(name)}: PixelSpacing {between} mm is not positive")
    kind = text(holder("RescaleType"), "RescaleType").upper()
    if kind not in _HU_TYPES:
        raise BrachyError(f"{shown(name)} holds {kind} and not CT numbers in HU: give the CT series in HU")
    slope, intercept = (
        numbers(holder("RescaleSlope"), "RescaleSlope"),
        numbers(holder("RescaleIntercept"), "RescaleIntercept"),
    )
    signed = integer(dataset, "PixelRepresentation") == 1
    if (not slope or not intercept) and not signed:
        raise BrachyError(
            f"{shown(name)} has no rescale slope and intercept, so its HU are unknown: export the CT again"
        )
    if slope and slope[0] <= 0:
        raise BrachyError(f"{shown(name)}: RescaleSlope {slope[0]:g} is not positive")
    return Frame(
        name=name,
        sop_class_uid=text(dataset, "SOPClassUID"),
        sop_uid=text(dataset, "SOPInstanceUID"),
        position_mm=values("ImagePositionPatient", 3),
        row_axis=row,
        column_axis=column / np.linalg.norm(column),
        pixel_mm=(float(between[0]), float(between[1])),
        shape=(integer(dataset, "Rows") or 0, integer(dataset, "Columns") or 0),
        slope=slope[0] if slope else 1.0,
        intercept=intercept[0] if intercept else 0.0,
        rescale_assumed=not slope or not intercept,
    )


def _hu(stored: NDArray[Any], frame: Frame, dataset: Dataset, notes: dict[str, None]) -> NDArray[Any]:
    """CT numbers of a slice: int16 if slope and intercept are whole numbers and the values fit, else float32."""
    if frame.slope == int(frame.slope) and frame.intercept == int(frame.intercept):
        whole = stored.astype(np.int32) * int(frame.slope) + int(frame.intercept)
        fits = whole.min() >= -(2**15) and whole.max() < 2**15
        values: NDArray[Any] = whole.astype(np.int16 if fits else np.float32)
    else:
        values = (stored * frame.slope + frame.intercept).astype(np.float32)
    padding = integer(dataset, "PixelPaddingValue")
    if padding is not None and padding * frame.slope + frame.intercept > HIGHEST_HU:
        outside = stored == padding
        if outside.any():
            values[outside] = AIR_HU
            notes[f"pixels outside the field of view (padding value {padding}) are air, {AIR_HU:g} HU"] = None
    return values


def _stacked(slices: list[NDArray[Any]], order: Sequence[int]) -> NDArray[Any]:
    """Slices in order as one array; the memory of each is released once it is copied."""
    whole = all(one.dtype == np.int16 for one in slices)
    volume = np.empty((len(order), *slices[0].shape), dtype=np.int16 if whole else np.float32)
    for place, index in enumerate(order):
        volume[place] = slices[index]
        slices[index] = np.empty(0)
    volume.setflags(write=False)
    return volume


# ---- the stack -------------------------------------------------------------------------------------------------


def stack(frames: Sequence[Frame]) -> tuple[list[int], Grid]:
    """Order of the slices along their normal, and the grid that they form.

    The third column of the grid's direction is the cross product of the first two, so the grid is right-handed in
    whatever order the slices were stored.

    Raises
    ------
    BrachyError
        If the slices are not parallel, of one size, evenly spaced and in line with their normal.
    """
    first = frames[0]
    for frame in frames[1:]:
        turned = max(
            np.abs(frame.row_axis - first.row_axis).max(), np.abs(frame.column_axis - first.column_axis).max()
        )
        if turned > DIRECTION_TOLERANCE:
            raise BrachyError(
                f"CT slice {_at(frame)} ({shown(frame.name)}) is turned against the others: give a series of parallel "
                "slices"
            )
        if frame.shape != first.shape or not np.allclose(frame.pixel_mm, first.pixel_mm, rtol=1e-4, atol=0):
            raise BrachyError(
                f"CT slice {_at(frame)} ({shown(frame.name)}) has another matrix or pixel size than the others: "
                "give a series of equal slices"
            )
    normal = np.cross(first.row_axis, first.column_axis)
    heights = np.array([frame.position_mm @ normal for frame in frames])
    order = [int(i) for i in np.argsort(heights, kind="stable")]
    if len(order) < 2:
        raise BrachyError(f"the CT series has one slice alone ({_at(first)}): give the whole series")
    spacing = _check_gaps([frames[i] for i in order], heights[order])
    _check_shear([frames[i] for i in order], normal)
    lowest = frames[order[0]]
    grid = Grid(
        lowest.position_mm,
        (first.pixel_mm[1], first.pixel_mm[0], spacing),
        (len(order), *first.shape),
        np.column_stack([first.row_axis, first.column_axis, normal]),
    )
    return order, grid


def _at(frame: Frame) -> str:
    """Position of a slice for a message: z if it is axial, else its first voxel."""
    normal = np.cross(frame.row_axis, frame.column_axis)
    if abs(normal[2]) > 1 - DIRECTION_TOLERANCE:
        return f"at z = {frame.position_mm[2]:.2f} mm"
    return "at ({:.2f}, {:.2f}, {:.2f}) mm".format(*frame.position_mm)


def _check_gaps(frames: Sequence[Frame], heights: Float) -> float:
    """Spacing in mm of the sorted slices; refuses duplicate, missing and unevenly spaced slices."""
    gaps = np.diff(heights)
    # the lower median: of two gaps the smaller one is the spacing, in the larger one a slice may be missing
    usual = float(np.sort(gaps)[(len(gaps) - 1) // 2])
    for k, gap in enumerate(gaps):
        if gap < max(GAP_TOLERANCE_MM, 0.1 * usual):
            raise BrachyError(
                f"two CT slices {_at(frames[k + 1])}: {shown(frames[k].name)} and {shown(frames[k + 1].name)}; "
                "remove one (two acquisitions must be two series)"
            )
    tolerance = max(GAP_TOLERANCE_MM, GAP_TOLERANCE * usual)
    for k, gap in enumerate(gaps):
        if abs(gap - usual) > tolerance:
            times = round(gap / usual)
            lost = times - 1
            if lost >= 1 and abs(gap - times * usual) <= times * tolerance:
                what = "a CT slice is" if lost == 1 else f"{lost} CT slices are"
                where = f"after the one {_at(frames[k])}"
                raise BrachyError(
                    f"{what} missing {where}: the next is {_at(frames[k + 1])}, {gap:.2f} mm on where the others are "
                    f"{usual:.2f} mm apart; export the whole series"
                )
            raise BrachyError(
                f"CT slices are unevenly spaced: {gap:.2f} mm between those {_at(frames[k])} and {_at(frames[k + 1])}, "
                f"{usual:.2f} mm elsewhere; resample the series to even slices"
            )
    spacing = float((heights[-1] - heights[0]) / len(gaps))
    drift = np.abs(heights - heights[0] - spacing * np.arange(len(heights)))
    if drift.max() > DRIFT_TOLERANCE * spacing:
        worst = int(drift.argmax())
        raise BrachyError(
            f"CT slices are unevenly spaced: the one {_at(frames[worst])} is {drift[worst]:.2f} mm off an even ladder; "
            "resample the series to even slices"
        )
    return spacing


def _check_shear(frames: Sequence[Frame], normal: Float) -> None:
    """Refuse slices whose origins are not in line with the normal: a tilted gantry, or a displaced slice."""
    positions = np.array([frame.position_mm for frame in frames])
    from_first = positions - positions[0]
    sideways = from_first - np.outer(from_first @ normal, normal)
    away = np.linalg.norm(sideways, axis=1)
    if away.max() <= SHEAR_TOLERANCE_MM:
        return
    last = from_first[-1]
    # the same shift from each slice to the next is a tilted gantry
    even = np.outer(np.linspace(0, 1, len(frames)), sideways[-1])
    if np.abs(sideways - even).max() <= SHEAR_TOLERANCE_MM:
        angle = float(np.degrees(np.arctan2(away[-1], abs(last @ normal))))
        raise BrachyError(
            f"the CT was taken with a tilted gantry ({angle:.1f} degrees): the slice {_at(frames[1])} is shifted by "
            f"{away[1]:.2f} mm in its plane against the one before; resample the series without tilt"
        )
    worst = int(away.argmax())
    raise BrachyError(
        f"the CT slice {_at(frames[worst])} ({shown(frames[worst].name)}) is shifted by {away[worst]:.2f} mm in its "
        "plane against the first: export the series again"
    )


# ---- who it is -------------------------------------------------------------------------------------------------

_DATES = (
    ("AcquisitionDate", ""),
    ("SeriesDate", ""),
    ("ContentDate", ""),
    ("StudyDate", "the CT's date is the study's, {} (the images have none of their own)"),
)


def _identity(dataset: Dataset, notes: dict[str, None]) -> Identity:
    charset = declared_charset(dataset)
    taken: date | None = None
    for keyword, note in _DATES:
        taken = day(text(dataset, keyword))
        if taken is not None:
            if note:
                notes[note.format(taken.isoformat())] = None
            break

    return replace(
        patient_and_study(dataset),
        ct_series_uid=text(dataset, "SeriesInstanceUID", charset),
        patient_position=text(dataset, "PatientPosition", charset),
        bore_centre_mm=_bore_centre(dataset),
        ct_date=taken,
    )


def _bore_centre(dataset: Dataset) -> tuple[float, float, float] | None:
    """Data Collection Center (Patient), None where the image has none, or no three finite numbers."""
    try:
        values = [float(value) for value in dataset.get("DataCollectionCenterPatient") or ()]
    except (TypeError, ValueError):
        return None
    if len(values) != 3 or not np.isfinite(values).all():
        return None
    return values[0], values[1], values[2]


def _own_day(dataset: Dataset) -> date | None:
    """Date on which an image was taken, None if it has none of its own."""
    return next((found for name, note in _DATES if not note and (found := day(text(dataset, name)))), None)


def _check_same(dataset: Dataset, seen: dict[str, str], name: str) -> None:
    """Refuse an image of another patient or frame of reference than those before it (`seen`) in its series."""
    for keyword, what in (
        ("PatientID", "of another patient"),
        ("FrameOfReferenceUID", "in another frame of reference"),
    ):
        value = text(dataset, keyword, declared_charset(dataset)).casefold()
        if value and value != seen.setdefault(keyword, value):
            raise BrachyError(f"{shown(name)} is {what} than other slices of its series: export the CT again")


def patient_and_study(dataset: Dataset) -> Identity:
    """Patient, study and frame of reference of a DICOM object; "" for each value that it does not have."""
    charset = declared_charset(dataset)

    def value(keyword: str) -> str:
        return text(dataset, keyword, charset)

    return Identity(
        patient_id=value("PatientID"),
        patient_name=value("PatientName"),
        patient_birth_date=value("PatientBirthDate"),
        patient_sex=value("PatientSex"),
        study_uid=value("StudyInstanceUID"),
        study_id=value("StudyID"),
        study_date=value("StudyDate"),
        study_time=value("StudyTime"),
        accession_number=value("AccessionNumber"),
        referring_physician=value("ReferringPhysicianName"),
        frame_of_reference_uid=value("FrameOfReferenceUID"),
    )


def day(value: str) -> date | None:
    """Date of a DICOM DA value (also in the old form 2001.02.03), None if it is no date.

    Examples
    --------
    >>> day("20150916")
    datetime.date(2015, 9, 16)
    """
    digits = value.replace(".", "")[:8]
    try:
        return date(int(digits[:4]), int(digits[4:6]), int(digits[6:8])) if len(digits) == 8 else None
    except ValueError:
        return None
