"""Removes what identifies the patient from cases, plans and post-implant results.

An anonymous case is like one that was never DICOM: its identifiers are derived from its CT, a CT series of its own is
written beside the plan so that references resolve, and dates, names and file names are removed. What stays and may
still identify the patient: the images, the names of ROIs, the SHA-256 of the files read, and dates given as options.
"""

import hashlib
import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from brachy.errors import UsageError
from brachy.patient.case import Case, Identity, InputFile
from brachy.patient.uids import digest, identified, uid

if TYPE_CHECKING:
    from brachy.patient.plan import Plan

PREFIX = "ANON-"


def anonymised(case: Case) -> Case:
    """The same CT and structures of a patient called ANON- and 12 digits derived from the CT.

    The same CT always gets the same name, which does not help anyone without the CT to find the patient. A case that
    has such a name already is returned unchanged.

    Parameters
    ----------
    case : Case
        Case as read.

    Examples
    --------
    >>> import numpy as np
    >>> from brachy.geometry.grid import Grid
    >>> who = Identity(patient_id="4711", patient_name="Doe^J", study_uid="1.2.3", is_dicom=True)
    >>> case = Case(np.zeros((2, 3, 3), np.int16), Grid((0, 0, 0), (1, 1, 1), (2, 3, 3)), identity=who)
    >>> found = anonymised(case).identity
    >>> found.patient_id[:5], found.patient_name == found.patient_id, found.study_uid[:5], found.is_dicom
    ('ANON-', True, '2.25.', False)
    """
    old = case.identity
    if old.patient_id.startswith(PREFIX):
        return case
    grid = case.grid
    name = PREFIX + digest(case.ct_hu, grid.origin_mm, grid.spacing_mm, grid.direction)[:12].upper()
    who = Identity(
        patient_id=name,
        patient_name=name,
        patient_position=old.patient_position,
        bore_centre_mm=old.bore_centre_mm,
    )
    inputs = tuple(InputFile(f"input-{k}", file.sha256) for k, file in enumerate(case.inputs, 1))
    assumed = tuple(scrubbed(sentence, case) for sentence in case.assumed)
    return identified(replace(case, identity=who, inputs=inputs, assumed=assumed))


def scrubbed(value: Any, case: Case) -> Any:
    """Text, or all texts in lists and dictionaries, with the words that identify a case removed.

    Examples
    --------
    >>> import numpy as np
    >>> from brachy.geometry.grid import Grid
    >>> case = Case(np.zeros((1, 1, 1)), Grid((0, 0, 0), (1, 1, 1), (1, 1, 1)), identity=Identity(patient_id="4711"))
    >>> scrubbed({"note": ["of patient 4711", 4711]}, case)
    {'note': ['of patient (removed)', 4711]}
    """
    if isinstance(value, dict):
        return {key: scrubbed(item, case) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(scrubbed(item, case) for item in value)
    if not isinstance(value, str):
        return value
    for word in _words(case):
        # not inside longer words: a patient ID "1" would remove digits from every number
        value = re.sub(rf"(?<![\w.]){re.escape(word)}(?!\w|\.\w)", "(removed)", value)
    return value


def _words(case: Case) -> list[str]:
    """Words that identify a case: names, identifiers, dates, file names; the longest first."""
    who = case.identity
    name_parts = re.split(r"[\^=\s,]+", who.patient_name)
    days = [who.patient_birth_date, who.study_date]
    if who.ct_date is not None:
        days.append(who.ct_date.isoformat())
    found = [
        who.patient_id, who.patient_name, *(part for part in name_parts if len(part) > 2), who.accession_number,
        who.referring_physician, who.study_id, who.study_uid, who.frame_of_reference_uid, who.ct_series_uid,
        who.structure_set_uid, *days, *(file.name for file in case.inputs),
    ]  # fmt: skip
    # the longest first, so that a whole name is removed before its parts
    return sorted({word for word in found if word}, key=lambda word: (-len(word), word))


def identifying(identity: Identity) -> str:
    """Sentence part that lists what in a report identifies the patient.

    Examples
    --------
    >>> identifying(Identity(patient_id="4711", study_uid="1.2"))
    'patient ID, unique identifiers, the pictures, names of ROIs'
    >>> identifying(Identity(patient_id="ANON-0123456789AB", study_uid="2.25.1"))
    'the pictures and the names of ROIs; all else was anonymised'
    """
    if identity.patient_id.startswith(PREFIX):
        return "the pictures and the names of ROIs; all else was anonymised"
    held = {
        "name": identity.patient_name, "patient ID": identity.patient_id, "date of birth": identity.patient_birth_date,
        "sex": identity.patient_sex, "date of the CT": identity.ct_date,
        "unique identifiers": identity.study_uid or identity.ct_series_uid,
    }  # fmt: skip
    return ", ".join([*(what for what, value in held.items() if value), "the pictures", "names of ROIs"])


def nameless(plan: "Plan") -> "Plan":
    """The same plan for display: without patient ID, identifiers and file names; its checksum is kept."""
    return plan.model_copy(update={"case": type(plan.case)()})


def must_be_nameless(plan: "Plan", what: str) -> None:
    """Refuse a plan that names its patient, if a plan derived from it or a comparison with it is to be anonymous.

    Raises
    ------
    UsageError
        If the plan names its patient; `what` names the plan in the message.
    """
    if not plan.case.patient_id.startswith(PREFIX):
        raise UsageError(
            f"--anonymise: {what} names its patient: plan with --anonymise first, then change that"
        )


def nameless_identity(identity: Identity) -> Identity:
    """An anonymous identity where there is no CT: name and identifiers are derived from the SHA-256 of the old
    identity.

    Examples
    --------
    >>> found = nameless_identity(Identity(patient_id="4711", patient_name="Doe^J", study_uid="1.2.3"))
    >>> found.patient_id[:5], found.study_uid[:5], found.patient_birth_date
    ('ANON-', '2.25.', '')
    """
    if identity.patient_id.startswith(PREFIX):
        return identity
    secret = hashlib.sha256(repr(identity).encode("utf-8", "surrogatepass")).hexdigest()
    name = PREFIX + secret[:12].upper()
    return Identity(
        patient_id=name,
        patient_name=name,
        study_uid=uid("anonymous study", secret),
        frame_of_reference_uid=uid("anonymous frame of reference", secret),
    )
