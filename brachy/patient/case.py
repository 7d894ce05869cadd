"""A case: CT numbers on a grid, structures, and identity of the patient. Arrays only, independent of files."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import date

import numpy as np
from numpy.typing import NDArray

from brachy.errors import UsageError
from brachy.geometry.grid import Grid
from brachy.geometry.structures import Structure


@dataclass(frozen=True)
class InputFile:
    """A file that was read: its name without folders, and the SHA-256 of its bytes."""

    name: str
    sha256: str


@dataclass(frozen=True)
class SliceReference:
    """Reference to one CT image: SOP class, SOP instance and position of its first voxel (patient frame, mm)."""

    sop_class_uid: str
    sop_instance_uid: str
    position_mm: tuple[float, float, float]


@dataclass(frozen=True)
class Identity:
    """Attributes of patient, study and CT that all DICOM objects of one case share; "" where unknown."""

    patient_id: str = ""
    patient_name: str = ""
    patient_birth_date: str = ""
    patient_sex: str = ""
    study_uid: str = ""
    study_id: str = ""
    study_date: str = ""
    study_time: str = ""
    accession_number: str = ""
    referring_physician: str = ""
    frame_of_reference_uid: str = ""
    ct_series_uid: str = ""
    structure_set_uid: str = ""
    patient_position: str = ""
    bore_centre_mm: tuple[float, float, float] | None = field(default=None, repr=False)
    """A point on the axis of the scanner's bore, patient frame, if the CT has it (0018,9313)."""
    ct_date: date | None = None
    slices: tuple[SliceReference, ...] = ()
    is_dicom: bool = False


@dataclass(frozen=True, eq=False)
class Case:
    """CT and structures of one patient.

    Parameters
    ----------
    ct_hu : (nz, ny, nx) array
        CT numbers in HU, int16 or float32.
    grid : Grid
        Geometry of the CT; slices are sorted along the third column of `grid.direction`.
    structures : sequence of Structure
        Structures in the order of the structure set.
    identity : Identity
        UIDs and patient attributes.
    inputs : tuple of InputFile
        Files read, sorted by hash.
    assumed : tuple of str
        One sentence for each thing that was inferred and not read.
    """

    ct_hu: NDArray[np.generic]
    grid: Grid
    structures: tuple[Structure, ...] = ()
    identity: Identity = field(default_factory=Identity)
    inputs: tuple[InputFile, ...] = ()
    assumed: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.ct_hu.shape != self.grid.shape:
            raise UsageError(f"CT array {self.ct_hu.shape} and grid {self.grid.shape} differ in shape")
        object.__setattr__(self, "structures", tuple(self.structures))

    def structure(self, name: str) -> Structure:
        """Return the structure with a name; upper and lower case matter only if names differ in nothing else.

        Raises
        ------
        UsageError
            If there is none (the message lists the structures), or several.
        """
        exact = [s for s in self.structures if s.name == name]
        loose = [s for s in self.structures if s.name.casefold() == name.casefold()]
        found = exact or loose
        if len(found) == 1:
            return found[0]
        if len(found) > 1:
            raise UsageError(
                f"{len(found)} ROIs are called '{name}': rename all but one in the structure set"
            )
        listed = ", ".join(s.name for s in self.structures) or "none"
        raise UsageError(f"no ROI '{name}' in this case; it has: {listed}")

    def with_role(self, *roles: str) -> tuple[Structure, ...]:
        """Structures that have one of the roles."""
        return tuple(s for s in self.structures if s.role in roles)

    def with_structures(self, structures: Sequence[Structure]) -> "Case":
        """Return the same case with these structures instead of its own."""
        return replace(self, structures=tuple(structures))

    def having(self, *added: Structure) -> "Case":
        """Return the same case with structures added; a structure of the same name is replaced in its place."""
        merged: list[Structure] = list(self.structures)
        for structure in added:
            places = [i for i, old in enumerate(merged) if old.name == structure.name]
            if places:
                merged[places[0]] = structure
            else:
                merged.append(structure)
        return replace(self, structures=tuple(merged))

    def assuming(self, sentences: Sequence[str]) -> "Case":
        """Return the same case with sentences added to `assumed`."""
        return replace(self, assumed=(*self.assumed, *sentences))
