"""Reads CT and masks from NIfTI, NRRD and MetaImage files with SimpleITK.

SimpleITK represents every image in the patient frame of DICOM (LPS, mm): the RAS of a NIfTI and the spaces of an NRRD
are converted on reading. The axes of a volume are reordered or flipped so that they point most nearly to the patient's
left, back and head; voxels are never interpolated.
"""

from collections.abc import Mapping
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from brachy.errors import BrachyError, UsageError
from brachy.geometry.grid import Grid
from brachy.geometry.structures import Structure
from brachy.patient.case import Case, InputFile

SUFFIXES = (".nii", ".nii.gz", ".nrrd", ".mha")
"""Formats with a volume and its geometry in one file."""
_TWO_FILES = (".mhd", ".nhdr", ".hdr", ".img", ".img.gz")

# Engineering choices. A mask belongs to a CT if their corners agree to this fraction of a voxel (NIfTI stores geometry
# in 32 bits).
MAX_VOXELS = 400_000_000
CORNER_TOLERANCE = 0.02
MOST_LABELS = 4096
_HEAD_BYTES = 65536
_MOST_COMPRESSED = 1100  # deflate cannot compress by more than a factor of 1032


def is_volume(path: Path) -> bool:
    """Whether a file's name is that of a volume format, including formats in two files, which are refused later."""
    return path.name.lower().endswith(SUFFIXES + _TWO_FILES)


def read_volume(path: str | PathLike[str], masks: Mapping[str, str | PathLike[str]] | None = None) -> Case:
    """Read a CT from a volume file and structures from mask files.

    Parameters
    ----------
    path : str or PathLike
        CT in HU: .nii, .nii.gz, .nrrd or .mha.
    masks : mapping, optional
        Structure name to mask file on the CT's grid, or to "FILE:LABEL" for one label of a label map.

    Returns
    -------
    Case
        In the patient frame (LPS, mm), without DICOM identity.

    Raises
    ------
    UsageError
        If a file has another format, or a mask is on another grid, empty, or needs a label.
    BrachyError
        If a file is unreadable, or the CT is clearly not in HU.

    Examples
    --------
    >>> from tempfile import TemporaryDirectory
    >>> import SimpleITK
    >>> voxels = np.full((4, 8, 8), -1000, np.int16)
    >>> voxels[1:3, 2:6, 2:6] = 40
    >>> with TemporaryDirectory() as folder:
    ...     for name, array in {"ct": voxels, "box": (voxels > 0).astype(np.uint8)}.items():
    ...         SimpleITK.WriteImage(SimpleITK.GetImageFromArray(array), f"{folder}/{name}.nrrd")
    ...     case = read_volume(f"{folder}/ct.nrrd", {"Box": f"{folder}/box.nrrd"})
    >>> case.ct_hu.dtype, round(case.structure("Box").volume_cc, 3)
    (dtype('int16'), 0.031)
    """
    file = Path(path)
    array, grid, notes = _read(file)
    hu, more = _hounsfield(array, file.name)
    hu.setflags(write=False)
    case = Case(ct_hu=hu, grid=grid, inputs=(_input(file),), assumed=(*notes, *more))
    return add_masks(case, masks or {})


def add_masks(case: Case, masks: Mapping[str, str | PathLike[str]]) -> Case:
    """Return the case with structures from mask files added; a mask replaces a structure of the same name.

    Raises
    ------
    UsageError, BrachyError
        As `read_volume`.
    """
    images: dict[Path, tuple[NDArray[Any], Grid]] = {}
    inputs = {(entry.sha256, entry.name): entry for entry in case.inputs}
    structures: list[Structure] = []
    notes: list[str] = []
    for name, given in masks.items():
        file, label = _mask_file(str(given))
        if file not in images:
            array, grid, file_notes = _read(file)
            _check_same_place(grid, case.grid, file.name)
            images[file] = (array, grid)
            notes += [note for note in file_notes if note not in notes]
            entry = _input(file)
            inputs[entry.sha256, entry.name] = entry
        array, grid = images[file]
        structures.append(Structure.from_mask(name, _inside(array, label, name, file.name), grid))
    if not structures:
        return case
    merged = case.having(*structures).assuming(notes)
    return Case(
        merged.ct_hu,
        merged.grid,
        merged.structures,
        merged.identity,
        tuple(inputs[key] for key in sorted(inputs)),
        merged.assumed,
    )


def _input(file: Path) -> InputFile:
    import hashlib

    with file.open("rb") as stream:
        return InputFile(file.name, hashlib.file_digest(stream, "sha256").hexdigest())


def _mask_file(given: str) -> tuple[Path, int | None]:
    """File and label of "FILE" or "FILE:LABEL"; the whole text is the file if a file of that name exists."""
    head, colon, label = given.rpartition(":")
    if colon and label.isdecimal() and not Path(given).is_file():
        return Path(head), int(label)
    return Path(given), None


# ---- one file --------------------------------------------------------------------------------------------------


def _read(file: Path) -> tuple[NDArray[Any], Grid, tuple[str, ...]]:
    """Voxels [z, y, x], their grid, and sentences about what was assumed of the file."""
    import SimpleITK as sitk

    name = file.name
    if not file.is_file():
        raise UsageError(f"no file {file}: give a CT or mask as {', '.join(SUFFIXES)}")
    if name.lower().endswith(_TWO_FILES) or not name.lower().endswith(SUFFIXES):
        raise UsageError(f"{name} is no volume in one file: convert it to {', '.join(SUFFIXES)}")
    notes = _check_head(file)
    sitk.ProcessObject.GlobalWarningDisplayOff()
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(file))
    try:
        reader.ReadImageInformation()
        _check_size(reader, file)
        image = reader.Execute()
        if image.GetDimension() == 4:
            image = image[:, :, :, 0]
        image = sitk.DICOMOrient(image, "LPS")
    except RuntimeError as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        reason = lines[-1].replace(str(file), name)[:120] if lines else "no reason given"
        raise BrachyError(f"{name} is not readable as a volume ({reason}): save it again") from None
    except MemoryError:
        raise BrachyError(f"{name} does not fit in memory: crop or resample it") from None
    array = sitk.GetArrayFromImage(image)
    try:
        grid = Grid(
            image.GetOrigin(), image.GetSpacing(), array.shape, np.array(image.GetDirection()).reshape(3, 3)
        )
    except ValueError as error:
        raise BrachyError(f"{name}: its geometry is broken ({error}): save it again") from None
    return array, grid, notes


def _check_head(file: Path) -> tuple[str, ...]:
    """Refuse a file whose voxels are in another file; returns a note if an NRRD names no patient space."""
    with file.open("rb") as stream:
        head = stream.read(_HEAD_BYTES)
    lower = file.name.lower()
    if lower.endswith(".nrrd"):
        lines = head.split(b"\n\n")[0].lower().splitlines()
        keys = {line.split(b":")[0].strip() for line in lines if b":" in line}
        if keys & {b"data file", b"datafile"}:
            raise UsageError(f"{file.name} keeps its voxels in another file: save it as one .nrrd or .mha")
        if b"space" not in keys:
            return (f"{file.name} names no space: its coordinates are taken as LPS",)
    if lower.endswith(".mha"):
        local = [
            line.split(b"=")[-1].strip() for line in head.splitlines() if line.startswith(b"ElementDataFile")
        ]
        dimensions = [line.split(b"=")[-1].strip() for line in head.splitlines() if line.startswith(b"NDims")]
        if any(number not in (b"2", b"3", b"4") for number in dimensions):  # the library would crash
            raise UsageError(f"{file.name} has no NDims of 3: give one volume of three dimensions")
        if local[:1] != [b"LOCAL"]:
            raise UsageError(f"{file.name} keeps its voxels in another file: save it as one .mha")
    return ()


def _check_size(reader: Any, file: Path) -> None:
    """Refuse, before memory is allocated, a file that is no volume, too large, or too short for its declared size."""
    size = tuple(int(n) for n in reader.GetSize())
    if len(size) not in (3, 4) or (len(size) == 4 and size[3] != 1) or min(size) < 1:
        shape = " x ".join(map(str, size))
        raise UsageError(f"{file.name} has {shape} voxels: give one volume of three dimensions")
    if reader.GetNumberOfComponents() != 1:
        raise UsageError(
            f"{file.name} has {reader.GetNumberOfComponents()} values a voxel: give a grey volume"
        )
    voxels = int(np.prod([float(n) for n in size]))
    if voxels > MAX_VOXELS:
        raise BrachyError(
            f"{file.name} has more than {MAX_VOXELS // 10**6} million voxels: crop or resample it"
        )
    shrunk = 1 if file.name.lower().endswith(".nii") else _MOST_COMPRESSED
    if voxels > file.stat().st_size * shrunk:
        raise BrachyError(f"{file.name} is cut short: it declares {voxels} voxels; copy it again")
    if file.name.lower().endswith((".nii", ".nii.gz")):
        codes = [
            reader.GetMetaData(key) for key in ("qform_code", "sform_code") if reader.HasMetaDataKey(key)
        ]
        if codes and not any(code.strip() not in ("", "0") and "UNKNOWN" not in code for code in codes):
            raise BrachyError(f"{file.name} does not say how it lies in the patient: save it with its affine")


# ---- CT and masks ----------------------------------------------------------------------------------------------


def _hounsfield(array: NDArray[Any], name: str) -> tuple[NDArray[Any], tuple[str, ...]]:
    """CT numbers as int16 if all are whole and in range, else float32, and notes; refuses what is clearly not HU."""
    low, high = float(array.min()), float(array.max())
    if not (np.isfinite(low) and np.isfinite(high)):
        raise BrachyError(f"{name} has voxels that are no numbers: fill them with air, -1000 HU")
    if array.dtype.itemsize == 1:
        raise BrachyError(
            f"{name} is an 8-bit image and no CT in HU: give the CT, and masks with --mask NAME=FILE"
        )
    whole = array.dtype.kind in "iu" or bool((array == np.rint(array)).all())
    if not whole and low >= -10.0 and high <= 10.0:
        raise BrachyError(
            f"{name} holds values from {low:g} to {high:g}, scaled and not in HU: give the CT in HU"
        )
    if low >= 0 and high > 500:
        raise BrachyError(
            f"{name} holds no value below 0 (it has {low:g} to {high:g}), so it is not in HU: subtract its offset "
            "so that air is -1000"
        )
    notes = [f"the values of {name} are CT numbers in HU"]
    if low > -200:
        notes.append(f"{name} holds no air (its lowest value is {low:g} HU)")
    if whole and low >= -(2**15) and high < 2**15:
        return array.astype(np.int16), tuple(notes)
    return array.astype(np.float32), tuple(notes)


def _check_same_place(mask: Grid, ct: Grid, name: str) -> None:
    """Refuse a mask whose corners differ from the CT's, or that has other numbers of voxels."""
    corners, wanted = mask.corners_mm(), ct.corners_mm()
    apart = np.linalg.norm(corners[:, None] - wanted[None], axis=2).min(axis=1)
    worst = float(apart.max())
    if worst <= CORNER_TOLERANCE * float(ct.spacing_mm.min()) and sorted(mask.shape) == sorted(ct.shape):
        return
    ours, theirs = (" x ".join(map(str, reversed(grid.shape))) for grid in (mask, ct))
    raise UsageError(
        f"mask {name} does not lie on the CT's grid ({ours} voxels for {theirs}, corners up to {worst:.2f} mm apart): "
        "resample it to the CT"
    )


def _inside(array: NDArray[Any], label: int | None, roi: str, name: str) -> NDArray[np.bool_]:
    """Voxels of one structure as a boolean array: those with the label, or all that are not 0."""
    if not np.isfinite(array).all():
        raise BrachyError(f"mask {name} has voxels that are no numbers: save it again as integers")
    values = np.unique(array)
    if array.dtype.kind == "f" and (len(values) > MOST_LABELS or not (values == np.rint(values)).all()):
        raise UsageError(f"mask {name} holds fractions: save it as 0 and 1")
    labels = [int(value) for value in values if value != 0]
    if label is None and len(labels) > 1:
        listed = ", ".join(map(str, labels[:30])) + (" ..." if len(labels) > 30 else "")
        raise UsageError(f"mask {name} holds labels {listed}: say which with --mask {roi}={name}:LABEL")
    if not labels or (label is not None and label not in labels):
        what = "is empty" if not labels else f"has no label {label}"
        raise UsageError(f"mask {name} of '{roi}' {what}: give the mask of this structure")
    inside: NDArray[np.bool_] = array != 0 if label is None else array == label
    return inside
