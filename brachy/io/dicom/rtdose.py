"""Reads an RT Dose: the grid in Gy, and the DVHs that the file contains."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from brachy.errors import BrachyError
from brachy.geometry.grid import Dose, Grid
from brachy.io.dicom.files import declared_charset, integer, items, number, numbers, shown, text
from brachy.io.dicom.pixels import Decoder, check_size

Float = NDArray[np.float64]

MAX_DOSE_VOXELS = 64_000_000
"""Largest dose grid (engineering choice: 400 x 400 x 400 voxels, 512 MB in float64)."""
OFFSET_TOLERANCE = 0.01  # of the frame spacing (engineering choice: offsets are written with 2 to 6 decimals)


@dataclass(frozen=True, eq=False)
class ImportedDvh:
    """A cumulative or differential DVH as the file has it.

    `volume[k]`, in `volume_units` (CM3 or PERCENT), is the volume at or above `dose_gy[k]` if `kind` is CUMULATIVE, and
    the volume of the bin that begins there if it is DIFFERENTIAL. Minimum, maximum and mean are None if absent.
    """

    roi_number: int | None
    kind: str
    dose_gy: Float
    volume: Float
    volume_units: str
    min_gy: float | None = None
    max_gy: float | None = None
    mean_gy: float | None = None

    @property
    def median_gy(self) -> float | None:
        """Dose that half of the volume gets, None if the curve is not cumulative or ends before."""
        if self.kind != "CUMULATIVE" or not self.volume[0] > 0:
            return None
        below = np.flatnonzero(self.volume <= 0.5 * self.volume[0])
        return float(self.dose_gy[below[0]]) if len(below) else None


@dataclass(frozen=True, eq=False)
class ImportedDose(Dose):
    """A dose read from a file: a `Dose` with the file's identifiers, references, DVHs and `assumed` sentences."""

    summation: str = ""
    uid: str = ""
    plan_uid: str = ""
    structure_set_uid: str = ""
    frame_of_reference_uid: str = ""
    patient_id: str = ""
    dvhs: tuple[ImportedDvh, ...] = ()
    assumed: tuple[str, ...] = ()


def imported_dose(dataset: Dataset, name: str) -> ImportedDose:
    """Dose from a parsed RTDOSE; see `brachy.io.dicom.read.read_dose`."""
    where = shown(name)
    units = text(dataset, "DoseUnits").upper()
    if units != "GY":
        raise BrachyError(f"{where}: its dose is in {units or 'no named unit'}, not in Gy: export it in Gy")
    kind = text(dataset, "DoseType").upper()
    if kind == "ERROR":
        raise BrachyError(f"{where} holds differences of dose (DoseType ERROR): give the dose itself")
    if dataset.get("PixelData") is None and items(dataset, "DVHSequence"):
        raise BrachyError(f"{where} holds DVHs alone and no dose grid: export the dose grid")
    scaling = number(dataset, "DoseGridScaling")
    if scaling is None or not scaling > 0:
        raise BrachyError(f"{where}: its DoseGridScaling {scaling} is not positive: export it again")
    frames = integer(dataset, "NumberOfFrames") or 1
    check_size(dataset, frames, name)
    rows, columns = integer(dataset, "Rows") or 0, integer(dataset, "Columns") or 0
    if frames * rows * columns > MAX_DOSE_VOXELS:
        raise BrachyError(
            f"{where}: {frames} x {rows} x {columns} dose points are more than {MAX_DOSE_VOXELS // 10**6} million: "
            "export a coarser grid"
        )
    grid, descending = _grid(dataset, (frames, rows, columns), where)
    gy = np.empty(grid.shape)
    with Decoder() as decoder:
        for index in range(frames):
            gy[frames - 1 - index if descending else index] = decoder.decode(dataset, index, name)
    gy *= scaling
    gy.setflags(write=False)
    notes = []
    if kind == "EFFECTIVE":
        notes.append(f"{where} is an EFFECTIVE dose and is taken as Gy")
    summation = text(dataset, "DoseSummationType").upper()
    if summation not in ("PLAN", ""):
        notes.append(f"{where} is the dose of {summation}, not of one whole PLAN")
    return ImportedDose(
        grid,
        gy,
        summation=summation,
        uid=text(dataset, "SOPInstanceUID"),
        plan_uid=_first_reference(dataset, "ReferencedRTPlanSequence"),
        structure_set_uid=_first_reference(dataset, "ReferencedStructureSetSequence"),
        frame_of_reference_uid=text(dataset, "FrameOfReferenceUID"),
        patient_id=text(dataset, "PatientID", declared_charset(dataset)),
        dvhs=_dvhs(dataset),
        assumed=tuple(notes),
    )


def _first_reference(dataset: Dataset, keyword: str) -> str:
    found = [text(item, "ReferencedSOPInstanceUID") for item in items(dataset, keyword)]
    return next((uid for uid in found if uid), "")


def _grid(dataset: Dataset, shape: tuple[int, int, int], where: str) -> tuple[Grid, bool]:
    """Grid of the frames in ascending order along their normal, and whether the file has them in descending order."""
    cosines = numbers(dataset, "ImageOrientationPatient")
    position, between = numbers(dataset, "ImagePositionPatient"), numbers(dataset, "PixelSpacing")
    if len(cosines) != 6 or len(position) != 3 or len(between) != 2 or min(between) <= 0:
        raise BrachyError(
            f"{where} does not say where its dose lies (position, orientation, spacing): export it again"
        )
    row, column = np.array(cosines[:3]), np.array(cosines[3:])
    if (
        abs(np.linalg.norm(row) - 1) > 1e-2
        or abs(np.linalg.norm(column) - 1) > 1e-2
        or abs(row @ column) > 1e-2
    ):
        raise BrachyError(f"{where}: its ImageOrientationPatient is no pair of unit vectors at right angles")
    row = row / np.linalg.norm(row)
    column = column - (column @ row) * row
    column = column / np.linalg.norm(column)
    normal = np.cross(row, column)
    offsets = _offsets(dataset, shape[0], position, normal, where)
    steps = np.diff(offsets)
    if len(steps):
        spacing = float(offsets[-1] - offsets[0]) / len(steps)
        if spacing == 0 or np.abs(steps - spacing).max() > OFFSET_TOLERANCE * abs(spacing):
            worst = int(np.abs(steps - np.median(steps)).argmax())
            raise BrachyError(
                f"{where}: its frames are unevenly spaced ({steps[worst]:g} mm after frame {worst + 1}, "
                f"{np.median(steps):g} mm elsewhere): export an even grid"
            )
    else:
        spacing = number(dataset, "SliceThickness") or 0.0
        if spacing <= 0:
            raise BrachyError(f"{where} has one frame and no thickness: export a dose grid of several planes")
    lowest = np.array(position) + min(offsets[0], offsets[-1]) * normal
    axes = np.column_stack([row, column, normal])
    return Grid(lowest, (between[1], between[0], abs(spacing)), shape, axes), spacing < 0


def _offsets(dataset: Dataset, count: int, position: list[float], normal: Float, where: str) -> Float:
    """Offset in mm of each frame from the first along the normal; the file may have absolute ones (PS3.3 C.8.8.3.2)."""
    if count == 1:
        return np.zeros(1)
    offsets: Float = np.array(numbers(dataset, "GridFrameOffsetVector"))
    if len(offsets) != count:
        raise BrachyError(f"{where}: {len(offsets)} frame offsets for {count} frames: export it again")
    if abs(offsets[0]) < 1e-6:
        return offsets
    # absolute offsets are z coordinates in the patient and allowed for axial frames only
    if abs(abs(normal[2]) - 1) < 1e-3 and abs(offsets[0] - position[2]) < 0.01:
        along: Float = (offsets - offsets[0]) * np.sign(normal[2])
        return along
    raise BrachyError(
        f"{where}: its frame offsets begin at {offsets[0]:g} mm, neither 0 nor the z of its position "
        f"({position[2]:g} mm): export it again"
    )


def _dvhs(dataset: Dataset) -> tuple[ImportedDvh, ...]:
    """DVHs in Gy of one ROI each; a damaged one is left out, because the dose can be used without it."""
    found = []
    for item in items(dataset, "DVHSequence"):
        if text(item, "DoseUnits").upper() != "GY":
            continue
        try:
            data = np.array(numbers(item, "DVHData"))
            scale = number(item, "DVHDoseScaling")
            lowest, highest, mean = (
                number(item, f"DVH{which}Dose") for which in ("Minimum", "Maximum", "Mean")
            )
        except ValueError:
            continue
        rois = [integer(one, "ReferencedROINumber") for one in items(item, "DVHReferencedROISequence")]
        if len(data) < 2 or len(data) % 2 or len(rois) != 1:
            continue
        widths, volume = data[0::2] * (1.0 if scale is None else scale), data[1::2]
        # a bin's volume belongs to the dose at which the bin begins: this reproduces the V100 to V290 that a planning
        # system printed for a seed implant
        found.append(
            ImportedDvh(
                roi_number=rois[0],
                kind=text(item, "DVHType").upper(),
                dose_gy=np.concatenate([[0.0], np.cumsum(widths)[:-1]]),
                volume=volume,
                volume_units=text(item, "DVHVolumeUnits").upper(),
                min_gy=lowest,
                max_gy=highest,
                mean_gy=mean,
            )
        )
    return tuple(found)
