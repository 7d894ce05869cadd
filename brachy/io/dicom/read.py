"""Reads DICOM: a case, a structure set, a dose, or the seeds of any vendor's permanent implant.

These are the functions for other modules and users. What is inferred and not read is returned as an `assumed` sentence;
what cannot be determined raises a one-line error.
"""

from dataclasses import replace
from os import PathLike
from pathlib import Path

from pydicom.dataset import Dataset

from brachy.errors import BrachyError, UsageError
from brachy.geometry.structures import Structure
from brachy.io.dicom.ct import Volume, day, read_series
from brachy.io.dicom.files import (
    StoredFile,
    is_zip,
    looks_like_dicom,
    parse,
    reading,
    sha256,
    shown,
    stages,
    text,
)
from brachy.io.dicom.find import DOSE, PLAN, STRUCTURES, Found, find_case
from brachy.io.dicom.imported_plan import ImportedPlan, ImportedSetup, ImportedSource
from brachy.io.dicom.rtdose import ImportedDose, ImportedDvh, imported_dose
from brachy.io.dicom.rtplan import imported_plan
from brachy.io.dicom.structure_set import StructureSet, image_heights, structure_set
from brachy.patient.case import Case, InputFile

__all__ = [
    "ImportedDose",
    "ImportedDvh",
    "ImportedPlan",
    "ImportedSetup",
    "ImportedSource",
    "StructureSet",
    "read_case",
    "read_dose",
    "read_plan",
    "read_structure_set",
    "read_structures",
]


def read_case(path: str | PathLike[str]) -> Case:
    """Read CT and structures of a DICOM case.

    Parameters
    ----------
    path : str or PathLike
        Any DICOM file of the case (CT slice, RTSTRUCT, RTPLAN, RTDOSE, DICOMDIR), a folder or a zip. The other files
        are found by UID in the file's folder, the folders below and the folder above; names do not matter.

    Returns
    -------
    Case
        `ct_hu` [z, y, x] with slices sorted along the normal of the images, on a right-handed grid in the patient
        frame (LPS, mm); contours as drawn; `assumed` sentences. It is the same for each file of the case.

    Raises
    ------
    UsageError
        If several series or structure sets are possible (they are listed), or there is no DICOM file.
    BrachyError
        If there is no CT; if its frame of reference or patient is not that of the structure set; if a slice is missing,
        duplicate, unevenly spaced or tilted; or if a file is unreadable. One line with the place and a remedy.

    References
    ----------
    DICOM PS3.3 C.7.6.2 (Image Plane), C.8.2.1 (CT Image), C.8.8.5 (Structure Set), C.8.8.6 (ROI Contour).

    Examples
    --------
    >>> from tempfile import TemporaryDirectory
    >>> from brachy.io.dicom.write import write_ct
    >>> from brachy.io.phantom.file import load_phantom
    >>> with TemporaryDirectory() as folder:
    ...     _ = write_ct(load_phantom("sphere-35mm"), folder)
    ...     case = read_case(folder)
    >>> case.ct_hu.shape, case.grid.spacing_mm.tolist(), case.assumed
    ((51, 80, 80), [2.0, 2.0, 2.0], ('no structure set was found that refers to this CT',))
    """
    given = Path(path)
    if (
        given.is_file()
        and not is_zip(given)
        and not StoredFile(given.name, given.name, given).looks_like_dicom()
    ):
        raise UsageError(f"{shown(given.name)} is no DICOM file: give a .dcm file, a folder or a zip")
    with stages(given) as batches:
        found = find_case(given, batches)
        volume = read_series(found.series)
        if found.structure_set is None:
            return _case(volume, None, (), found)
        file = found.structure_set.file
        content = file.read()
        with reading(file.place):
            dataset = parse(content, file.name)
            _check_whole(dataset, found)
            structures = structure_set(
                dataset, file.name, volume.grid, volume.identity.frame_of_reference_uid
            )
    _check_patient(volume, structures, file)
    structures = replace(
        structures, assumed=(*structures.assumed, *_contradictions(dataset, volume, shown(file.name)))
    )
    return _case(volume, structures, (InputFile(file.name, sha256(content)),), found)


def _case(
    volume: Volume, structures: StructureSet | None, added: tuple[InputFile, ...], found: Found
) -> Case:
    identity = volume.identity
    if structures is not None:
        identity = replace(
            identity,
            structure_set_uid=structures.uid,
            frame_of_reference_uid=identity.frame_of_reference_uid or structures.frame_of_reference_uid,
            patient_id=identity.patient_id or structures.patient_id,
        )
    return Case(
        ct_hu=volume.hu,
        grid=volume.grid,
        structures=structures.structures if structures else (),
        identity=identity,
        inputs=tuple(sorted((*volume.inputs, *added), key=lambda entry: (entry.sha256, entry.name))),
        assumed=(*volume.assumed, *found.notes, *(structures.assumed if structures else ())),
    )


def _check_whole(dataset: Dataset, found: Found) -> None:
    """Refuse a CT with only a part of the images that the structure set names."""
    assert found.structure_set is not None
    named = found.structure_set.series.get(found.series.uid, frozenset())
    there = {image.sop_uid for image in (*found.series.images, *found.series.localizers)}
    missing = sorted(named - there)
    # if none is present, the images have new UIDs (anonymised): the geometry is checked elsewhere
    if not missing or not named & there:
        return
    heights = image_heights(dataset)
    placed = sorted(heights[uid] for uid in missing if uid in heights)
    where = f"the one at z = {placed[0]:.2f} mm" if placed else f"UID {shown(missing[0])}"
    raise BrachyError(
        f"{len(missing)} of the {len(named)} CT images that {shown(found.structure_set.file.name)} refers to "
        f"{'is' if len(missing) == 1 else 'are'} missing, e.g. {where}: export the whole series"
    )


def _check_patient(volume: Volume, structures: StructureSet, file: StoredFile) -> None:
    ct, contours = volume.identity.patient_id, structures.patient_id
    if ct and contours and ct.casefold() != contours.casefold():
        raise BrachyError(
            f"the CT is of patient '{shown(ct)}' and {shown(file.name)} of '{shown(contours)}': "
            "export both again from one patient"
        )


def _contradictions(dataset: Dataset, volume: Volume, name: str) -> list[str]:
    """Sentences on a structure set that is dated before its CT, or names another date of birth."""
    notes = []
    drawn, taken = day(text(dataset, "StructureSetDate")), volume.identity.ct_date
    if drawn is not None and taken is not None and drawn < taken:
        notes.append(
            f"{name} is dated {drawn}, {(taken - drawn).days} days before its CT of {taken}: were its contours drawn "
            "on this CT?"
        )
    born = {text(dataset, "PatientBirthDate"), volume.identity.patient_birth_date} - {""}
    if len(born) > 1:
        notes.append(f"{name} and its CT name two dates of birth: are they of one patient?")
    return notes


def read_structure_set(path: str | PathLike[str], frame_uid: str = "") -> StructureSet:
    """Read the structures of one RTSTRUCT without its CT; the slice spacing is derived from the contours.

    Parameters
    ----------
    path : str or PathLike
        The RTSTRUCT file.
    frame_uid : str
        Frame of reference of a dose; ROIs in another frame are left out and reported.

    Raises
    ------
    UsageError, BrachyError
        If it is no RT Structure Set, or damaged.
    """
    _, dataset, name = _open(path, STRUCTURES, "an RT Structure Set")
    with reading(name):
        return structure_set(dataset, name, frame_uid=frame_uid, frame_of="the dose")


def read_structures(path: str | PathLike[str]) -> tuple[Structure, ...]:
    """Read the structures of one RTSTRUCT; `read_structure_set` returns its identifiers and notes too.

    Examples
    --------
    >>> from tempfile import TemporaryDirectory
    >>> from brachy.io.dicom.write import write_structures
    >>> from brachy.io.phantom.file import load_phantom
    >>> with TemporaryDirectory() as folder:
    ...     case = load_phantom("sphere-35mm")
    ...     _ = write_structures(case.structures, case, f"{folder}/RS.dcm")
    ...     [(structure.name, structure.interpreted_type) for structure in read_structures(f"{folder}/RS.dcm")]
    [('Water', 'EXTERNAL'), ('GTV', 'GTV')]
    """
    return read_structure_set(path).structures


def read_dose(path: str | PathLike[str]) -> ImportedDose:
    """Read the dose grid of one RTDOSE.

    Parameters
    ----------
    path : str or PathLike
        The RTDOSE file; frames may ascend or descend, with relative or absolute offsets, in any orientation.

    Returns
    -------
    ImportedDose
        A `Dose` in Gy on a right-handed grid (patient frame, LPS, mm), with the file's own DVHs and references.

    Raises
    ------
    UsageError, BrachyError
        If it is no RT Dose, not in Gy, unevenly spaced, or damaged.

    References
    ----------
    DICOM PS3.3 C.8.8.3 (RT Dose), C.8.8.3.2 (Grid Frame Offset Vector), C.8.8.4 (RT DVH).

    Examples
    --------
    >>> from tempfile import TemporaryDirectory
    >>> import numpy as np
    >>> from brachy.io.dicom.write import write_dose
    >>> from brachy.geometry.grid import Dose, Grid
    >>> from brachy.io.phantom.file import load_phantom
    >>> dose = Dose(Grid((0, 0, 0), (1, 1, 2.5), (4, 3, 2)), np.full((4, 3, 2), 145.0))
    >>> with TemporaryDirectory() as folder:
    ...     _ = write_dose(dose, None, load_phantom("sphere-35mm"), f"{folder}/RD.dcm", plan_instance_uid="2.25.1")
    ...     back = read_dose(f"{folder}/RD.dcm")
    >>> back.gy.shape, round(float(back.gy.max()), 3), back.grid.spacing_mm.tolist()
    ((4, 3, 2), 145.0, [1.0, 1.0, 2.5])
    """
    _, dataset, name = _open(path, DOSE, "an RT Dose", pixels=True)
    with reading(name):
        return imported_dose(dataset, name)


def read_plan(path: str | PathLike[str]) -> ImportedPlan:
    """Read the seeds of one RTPLAN of a permanent implant, of any vendor.

    Parameters
    ----------
    path : str or PathLike
        The RTPLAN file: one channel for each seed, or one for each needle with several positions.

    Raises
    ------
    UsageError, BrachyError
        If it is no RT Plan, or the plan is HDR, PDR, external beam or otherwise not PERMANENT; the message says which.

    References
    ----------
    DICOM PS3.3 C.8.8.15 (RT Brachy Application Setups).

    Examples
    --------
    >>> plan = read_plan("prostate/PL001.dcm")  # doctest: +SKIP
    >>> len(plan), plan.sources[0].model  # doctest: +SKIP
    (54, 'bard_stm1251')
    """
    content, dataset, name = _open(path, PLAN, "an RT Plan")
    with reading(name):
        return imported_plan(dataset, name, sha256(content))


def _open(
    path: str | PathLike[str], modality: str, what: str, pixels: bool = False
) -> tuple[bytes, Dataset, str]:
    """Bytes, data set and name of a single file that must have one modality; `what` names it in messages."""
    given = Path(path)
    if not given.is_file():
        raise UsageError(f"no file {given}: give {what} file")
    file = StoredFile(given.name, given.name, given)
    content = file.read()
    if not looks_like_dicom(content[:132]):
        raise UsageError(f"{shown(given.name)} is no DICOM file: give {what} file")
    with reading(given.name):
        dataset = parse(content, given.name, pixels=pixels)
        found = text(dataset, "Modality") or text(dataset, "SOPClassUID")
    classes = {STRUCTURES: "481.3", PLAN: "481.5", DOSE: "481.2"}
    if found != modality and not found.endswith(f".5.1.4.1.1.{classes[modality]}"):
        raise UsageError(f"{shown(given.name)} is {shown(found) or 'of no known kind'}: give {what} file")
    return content, dataset, given.name
