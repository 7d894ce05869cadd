"""Copies of the two real cases whose data sets are changed in place and written to a folder: `liver` and `day 1`."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from pydicom import dcmread
from pydicom.datadict import dictionary_VR
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset, FileDataset
from pydicom.tag import Tag

LIVER, DAY_1 = "liver_abdomen", "day 1"
FOLDERS = {LIVER: ("liver_abdomen", "CT", "."), DAY_1: ("prostate_postimplant_day1", "dicom", "dicom")}


@dataclass(eq=False)
class Case:
    """One real case in memory: CT slices by height, and the RT objects it has, by modality."""

    ct: list[FileDataset]
    objects: dict[str, FileDataset]
    names: dict[int, str] = field(default_factory=dict)

    @property
    def structures(self) -> FileDataset:
        return self.objects["RTSTRUCT"]

    @property
    def dose(self) -> FileDataset:
        return self.objects["RTDOSE"]

    @property
    def plan(self) -> FileDataset:
        return self.objects["RTPLAN"]

    def everything(self) -> list[FileDataset]:
        return [*self.ct, *self.objects.values()]

    def write(self, folder: Path) -> None:
        """CT000.dcm ... in ct/, the RT objects as RTSTRUCT.dcm and so on beside it."""
        (folder / "ct").mkdir(parents=True)
        for data in self.everything():
            keep_bytes(data)
        for k, data in enumerate(self.ct):
            data.save_as(folder / "ct" / f"CT{k:03d}.dcm", enforce_file_format=False)
        for modality, data in self.objects.items():
            data.save_as(folder / f"{modality}.dcm", enforce_file_format=False)


def load(case: str, data: Path) -> Case:
    """A fresh copy of a case from the folder with the real data; values stay as the file has them."""
    folder, ct, objects = FOLDERS[case]
    read = [dcmread(file) for file in sorted((data / folder / ct).glob("*.dcm"))]
    others = [dcmread(file) for file in sorted((data / folder / objects).glob("*.dcm"))]
    slices = sorted((d for d in read if d.Modality == "CT"), key=lambda d: float(d.ImagePositionPatient[2]))
    return Case(slices, {str(d.Modality): d for d in others if d.Modality != "CT"})


def keep_bytes(data: Dataset) -> None:
    """Let raw elements be written as they are where the character set was changed: pydicom would convert them."""
    if None not in data.original_encoding:
        data.set_original_encoding(*data.original_encoding, data._character_set)
    for element in data.values():
        if not isinstance(element, RawDataElement) and element.VR == "SQ":
            for item in element.value:
                keep_bytes(item)


def put_raw(data: Dataset, keyword: str, value: bytes) -> None:
    """An element with these bytes, in whatever character set they are."""
    value += b" " * (len(value) % 2)
    tag = Tag(keyword)
    data[tag] = RawDataElement(tag, dictionary_VR(keyword), len(value), value, 0, False, True)


# ---- structures ------------------------------------------------------------------------------------------------


def roi(case: Case, name: str) -> Dataset:
    """The item of an ROI in the Structure Set ROI Sequence."""
    return next(item for item in case.structures.StructureSetROISequence if item.ROIName == name)


def of_roi(case: Case, name: str, sequence: str) -> Dataset:
    """The item of an ROI in another sequence of the structure set."""
    number = roi(case, name).ROINumber
    return next(item for item in case.structures[sequence] if item.ReferencedROINumber == number)


def observation(case: Case, name: str) -> Dataset:
    return of_roi(case, name, "RTROIObservationsSequence")


def contours(case: Case, name: str) -> list[Dataset]:
    return list(of_roi(case, name, "ROIContourSequence").ContourSequence)


def scale_contours(case: Case, name: str, factor: float) -> None:
    for contour in contours(case, name):
        contour.ContourData = decimal(np.array(contour.ContourData, float) * factor)


def without(case: Case, *names: str) -> None:
    """Remove ROIs and all that refers to them."""
    numbers = {int(roi(case, name).ROINumber) for name in names}
    data = case.structures
    data.StructureSetROISequence = [i for i in data.StructureSetROISequence if i.ROINumber not in numbers]
    for keyword in ("ROIContourSequence", "RTROIObservationsSequence"):
        kept = [i for i in data[keyword] if i.ReferencedROINumber not in numbers]
        setattr(data, keyword, kept)


def from_ct(case: Case) -> None:
    """The liver case whose skin and bone have to be taken from the CT."""
    without(case, "BODY", "Ribs", "CostalCartilages", "Vertebrae")


# ---- images ----------------------------------------------------------------------------------------------------


def stored(data: Dataset) -> np.ndarray:
    return data.pixel_array.copy()


def put_pixels(data: Dataset, values: np.ndarray) -> None:
    data.PixelData = np.ascontiguousarray(values).tobytes()
    data.PixelRepresentation = int(values.dtype.kind == "i")


def each_slice(case: Case, change: Callable[[np.ndarray], np.ndarray]) -> None:
    for data in case.ct:
        put_pixels(data, change(stored(data)))


def unsigned(case: Case) -> None:
    """The liver's CT as most scanners store it: unsigned, intercept -1024; the same HU."""
    each_slice(case, lambda values: np.clip(values.astype(np.int32) + 1024, 0, None).astype(np.uint16))
    for data in case.ct:
        data.RescaleIntercept = "-1024"


def outside_circle(data: Dataset, radius_mm: float | None = None) -> np.ndarray:
    """Pixels outside a circle round the middle of the image; by default the largest that fits its wider side."""
    rows, columns = data.Rows, data.Columns
    spacing = [float(value) for value in data.PixelSpacing]
    y = (np.arange(rows) - (rows - 1) / 2) * spacing[0]
    x = (np.arange(columns) - (columns - 1) / 2) * spacing[1]
    radius = radius_mm or max(rows * spacing[0], columns * spacing[1]) / 2
    return x[None] ** 2 + y[:, None] ** 2 > radius**2


def pad(case: Case, value: int, radius_mm: float | None = None) -> None:
    """One stored value outside a circle, as scanners fill what they did not reconstruct."""

    def padded(data: Dataset) -> np.ndarray:
        values = stored(data)
        values[outside_circle(data, radius_mm)] = value
        return values

    for data in case.ct:
        put_pixels(data, padded(data))


# ---- numbers ---------------------------------------------------------------------------------------------------


def decimal(values: np.ndarray) -> list[str]:
    return [f"{value:.10g}"[:16] for value in np.atleast_1d(np.asarray(values, float))]


def shifted_day(value: str, days: int) -> str:
    """A DICOM date so many days later."""
    return (np.datetime64(f"{value[:4]}-{value[4:6]}-{value[6:]}") + days).astype(str).replace("-", "")


def control_points(case: Case) -> list[Dataset]:
    return [
        point
        for setup in case.plan.ApplicationSetupSequence
        for channel in setup.ChannelSequence
        for point in channel.BrachyControlPointSequence
    ]


def channels(case: Case) -> list[Dataset]:
    return [channel for setup in case.plan.ApplicationSetupSequence for channel in setup.ChannelSequence]
