"""Loads a case from whatever it is stored as: DICOM file, folder or zip, volume with masks, or phantom."""

from collections.abc import Mapping
from os import PathLike
from pathlib import Path

from brachy import resources
from brachy.errors import BrachyError, UsageError
from brachy.patient.case import Case

_KINDS = "a DICOM file, folder or zip, a CT in NIfTI/NRRD/MHA, or a phantom"


def load_case(path: str | PathLike[str], masks: Mapping[str, str | PathLike[str]] | None = None) -> Case:
    """Load CT and structures of a case; the kind of storage is recognised from the path and the first bytes.

    Parameters
    ----------
    path : str or PathLike
        Any DICOM file of the case, its folder or a zip; a CT as .nii, .nii.gz, .nrrd or .mha; a phantom's name or
        .toml file. If a file or folder has the name of a phantom, it is used.
    masks : mapping, optional
        Structure name to mask file (or "FILE:LABEL") on the CT's grid, added to the structures of the case.

    Returns
    -------
    Case
        In the patient frame (LPS, mm), with an `assumed` sentence for everything that was inferred.

    Raises
    ------
    UsageError
        If it is none of these, or contains several cases (they are listed).
    BrachyError
        If it is damaged or incomplete.

    Examples
    --------
    >>> case = load_case("sphere-35mm")
    >>> case.grid.shape == case.ct_hu.shape
    True
    """
    file, given = Path(path), str(path)
    if not given.strip():
        raise UsageError(f"no case is named: give {_KINDS}")
    from brachy.io import volumes

    if _exists(file):
        if file.is_file() and volumes.is_volume(file):
            return volumes.read_volume(file, masks)
        if file.suffix.lower() == ".toml":
            case = _phantom(file)
        else:
            case = _dicom(file)
    elif file.name == given and given in resources.names("phantoms"):
        case = _phantom(given)
    else:
        shipped = ", ".join(resources.names("phantoms"))
        raise UsageError(f"no file, folder or phantom '{given}': give {_KINDS} ({shipped})")
    return volumes.add_masks(case, masks) if masks else case


def _exists(file: Path) -> bool:
    try:
        return file.exists()
    except (OSError, ValueError):  # a name that the file system cannot hold
        return False


def _phantom(name: str | Path) -> Case:
    from brachy.io.phantom.file import load_phantom

    return load_phantom(name)


def _dicom(file: Path) -> Case:
    if file.is_file():
        _check_kind(file)
    elif not file.is_dir():
        raise UsageError(f"{file.name} is neither a file nor a folder: give {_KINDS}")
    elif not _entries(file):
        raise UsageError(f"the folder {file.name} is empty: give {_KINDS}")
    # pydicom takes a quarter of a second to import: only where there is DICOM to read
    from brachy.io.dicom.read import read_case

    return read_case(file)


def _entries(folder: Path) -> list[str]:
    try:
        return sorted(entry.name for entry in folder.iterdir())
    except OSError as error:
        raise BrachyError(f"cannot read {folder.name}: {error.strerror}") from None


def _check_kind(file: Path) -> None:
    """Refuse files that are no case but may be given as one (empty, JSON, misnamed volumes), and say the remedy."""
    try:
        with file.open("rb") as stream:
            start = stream.read(132)
    except OSError as error:
        raise BrachyError(f"cannot read {file.name}: {error.strerror}") from None
    if not start:
        raise UsageError(f"{file.name} is empty: give {_KINDS}")
    if start.lstrip()[:1] == b"{":
        raise UsageError(f"{file.name} is JSON (a plan is no case): give {_KINDS}")
    gzip, nifti = start[:2] == b"\x1f\x8b", start[:4] in (b"\x5c\x01\x00\x00", b"\x00\x00\x01\x5c")
    if gzip or nifti or start[:4] == b"NRRD" or start[:10] == b"ObjectType":
        raise UsageError(
            f"{file.name} is a volume or an archive by its content, not by its name: name it .nii.gz, "
            ".nii, .nrrd, .mha or .zip"
        )
