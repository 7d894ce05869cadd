"""Unique identifiers derived from content, so that the same input always gets the same ones."""

import hashlib
import uuid
from dataclasses import replace

import numpy as np

from brachy.patient.case import Case, Identity, SliceReference

CT_IMAGE = "1.2.840.10008.5.1.4.1.1.2"
"""SOP class of a CT image (PS3.4 table B.5-1)."""

_SPACE = uuid.UUID("6c5f9a54-3d0e-5b7e-9c1b-0d2f4f5f2a11")
"""Name space of all identifiers made here: a fixed random number."""


def uid(*parts: object) -> str:
    """DICOM UID "2.25.<number>" from the text of the parts: a name-based UUID (RFC 9562, version 5; PS3.5 annex B.2).

    Examples
    --------
    >>> uid("plan", 1) == uid("plan", 1), uid("plan", 1) == uid("plan", 2), len(uid("plan")) <= 64
    (True, False, True)
    """
    # with the length before each part ("ab", "c") and ("a", "bc") give different identifiers
    text = "".join(f"{len(str(part))}:{part};" for part in parts)
    return f"2.25.{uuid.uuid5(_SPACE, text.encode('utf-8', 'surrogatepass').hex()).int}"


def digest(*arrays: object) -> str:
    """SHA-256 of the shapes, types and bytes of arrays, hexadecimal."""
    found = hashlib.sha256()
    for array in arrays:
        values = np.ascontiguousarray(array)
        found.update(f"{values.shape}{values.dtype.str}".encode())
        found.update(values.data)
    return found.hexdigest()


def identified(case: Case) -> Case:
    """The same case with every empty UID filled in, and a reference for each slice.

    Values read from DICOM are kept. Missing ones, as in a volume or a phantom, are derived from CT, grid and patient
    ID, so that all files written from one case refer to each other.

    Examples
    --------
    >>> from brachy.geometry.grid import Grid
    >>> case = identified(Case(np.zeros((2, 3, 3), np.int16), Grid((0, 0, 0), (1, 1, 1), (2, 3, 3))))
    >>> case.identity.study_uid[:5], len(case.identity.slices), identified(case).identity == case.identity
    ('2.25.', 2, True)
    """
    old, grid = case.identity, case.grid
    # a CT read from DICOM never gets made-up slices: if they had no UIDs there are no references
    slices_needed = not old.slices and not old.is_dicom
    if old.study_uid and old.frame_of_reference_uid and old.ct_series_uid and not slices_needed:
        return case
    content = (digest(case.ct_hu, grid.origin_mm, grid.spacing_mm, grid.direction), old.patient_id)
    series = old.ct_series_uid or uid("CT series", *content)
    slices = old.slices
    if slices_needed:
        centres = grid.index_to_mm(np.array([[0, 0, k] for k in range(grid.shape[0])]))
        slices = tuple(
            SliceReference(CT_IMAGE, uid("CT image", series, k), (float(x), float(y), float(z)))
            for k, (x, y, z) in enumerate(centres)
        )
    identity = replace(
        old,
        study_uid=old.study_uid or uid("study", *content),
        frame_of_reference_uid=old.frame_of_reference_uid or uid("frame of reference", *content),
        ct_series_uid=series,
        slices=slices,
    )
    return replace(case, identity=identity)


def identified_alone(identity: Identity) -> Identity:
    """The same identity with its empty UIDs filled in, for use without a CT (the dose of a plan alone)."""
    content = (
        identity.patient_id,
        identity.study_uid,
        identity.frame_of_reference_uid,
        identity.ct_series_uid,
    )
    return replace(
        identity,
        study_uid=identity.study_uid or uid("study alone", *content),
        frame_of_reference_uid=identity.frame_of_reference_uid or uid("frame of reference alone", *content),
    )
