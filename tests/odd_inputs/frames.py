"""Frames of reference, patients and orientations."""

import numpy as np
from pydicom.uid import generate_uid

from tests.odd_inputs.case import DAY_1, LIVER, decimal, put_raw, roi
from tests.odd_inputs.kind import kind

OTHER = generate_uid(entropy_srcs=["another frame of reference"])
OTHER_FRAME = r"another frame of reference"
OTHER_PATIENT = r"another patient|of patient"


def structures_in(case, frame):
    data = case.structures
    if "FrameOfReferenceUID" in data:
        data.FrameOfReferenceUID = frame
    for item in data.ReferencedFrameOfReferenceSequence:
        item.FrameOfReferenceUID = frame
    for item in data.StructureSetROISequence:
        item.ReferencedFrameOfReferenceUID = frame


@kind("frames", DAY_1, "dvh", OTHER_FRAME)
def structures_of_another_frame(case, rng):
    """Refused: nothing of them can be put into this dose."""
    structures_in(case, OTHER)
    return "the structure set is of another frame of reference"


@kind("frames", LIVER, "plan", OTHER_FRAME)
def structures_of_another_frame_than_their_ct(case, rng):
    """Refused."""
    structures_in(case, OTHER)
    return "the structure set is of another frame of reference than the CT"


@kind("frames", DAY_1, "dvh", r"left out")
def one_roi_of_another_frame(case, rng):
    """Left out by name."""
    name = ("Rectum", "Prostate")[rng.integers(2)]
    roi(case, name).ReferencedFrameOfReferenceUID = OTHER
    return f"{name} is of another frame of reference"


@kind("frames", LIVER, "plan", r"left out")
def one_organ_of_another_frame(case, rng):
    """Left out by name."""
    name = ("Colon", "Stomach", "Lungs")[rng.integers(3)]
    roi(case, name).ReferencedFrameOfReferenceUID = OTHER
    return f"{name} is of another frame of reference"


@kind("frames", DAY_1, "dvh", OTHER_FRAME)
def a_dose_of_another_frame(case, rng):
    """Refused."""
    case.dose.FrameOfReferenceUID = OTHER
    return "the dose is of another frame of reference"


@kind("frames", DAY_1, "dvh", r"no frame of reference")
def a_dose_without_a_frame(case, rng):
    """Used, and said that nothing proves that it belongs here."""
    del case.dose.FrameOfReferenceUID
    return "the dose names no frame of reference"


@kind("frames", DAY_1, "dose", OTHER_FRAME)
def a_plan_of_another_frame(case, rng):
    """Refused."""
    case.plan.FrameOfReferenceUID = OTHER
    return "the plan is of another frame of reference than the dose"


@kind("frames", DAY_1, "verify", r"registration|by seeds|seeds", same=True)
def a_plan_of_another_frame_than_the_ct(case, rng):
    """Registered by the seeds; the same dose, because the target is drawn on this CT."""
    case.plan.FrameOfReferenceUID = OTHER
    return "the plan is of another frame of reference than the CT"


@kind("frames", LIVER, "plan", OTHER_FRAME)
def a_ct_of_another_frame(case, rng):
    """Refused."""
    for data in case.ct:
        data.FrameOfReferenceUID = OTHER
    return "the CT is of another frame of reference than its structure set"


@kind("frames", LIVER, "plan", r"(?i)frame")
def slices_of_two_frames(case, rng):
    """Refused, or said: slices of two frames of reference are no volume."""
    for data in case.ct[60:]:
        data.FrameOfReferenceUID = OTHER
    return "half of the slices are of another frame of reference"


@kind("frames", LIVER, "plan", r"nothing proves")
def every_uid_is_blank(case, rng):
    """Read, and said that nothing proves that CT and contours belong together."""
    for data in case.everything():
        for element in data.iterall():
            if element.VR == "UI" and element.keyword not in ("SOPClassUID", "ReferencedSOPClassUID"):
                element.value = ""
    return "every UID is blank"


@kind("frames", LIVER, "plan", r"series|refers", same=True)
def structures_that_name_another_series(case, rng):
    """The CT of the same frame is used and that is said, or it is refused."""
    for frame in case.structures.ReferencedFrameOfReferenceSequence:
        for study in frame.RTReferencedStudySequence:
            for series in study.RTReferencedSeriesSequence:
                series.SeriesInstanceUID = OTHER
    return "the structure set refers to another series of the same frame"


@kind("frames", LIVER, "plan", OTHER_PATIENT)
def structures_of_another_patient(case, rng):
    """Refused."""
    case.structures.PatientID = f"X{rng.integers(10**6)}"
    return "the structure set is of another patient"


@kind("frames", DAY_1, "dvh", OTHER_PATIENT)
def a_dose_of_another_patient(case, rng):
    """Refused."""
    case.dose.PatientID = f"X{rng.integers(10**6)}"
    return "the dose is of another patient than the structures"


@kind("frames", DAY_1, "dose", OTHER_PATIENT)
def a_plan_of_another_patient(case, rng):
    """Refused."""
    case.plan.PatientID = f"X{rng.integers(10**6)}"
    return "the plan is of another patient than the dose"


@kind("frames", DAY_1, "verify", OTHER_PATIENT)
def a_plan_of_another_patient_than_the_ct(case, rng):
    """Refused."""
    case.plan.PatientID = f"X{rng.integers(10**6)}"
    return "the plan is of another patient than the CT"


@kind("frames", LIVER, "plan", r"dates of birth")
def contours_of_a_patient_born_on_another_day(case, rng):
    """Said: one patient ID and two dates of birth."""
    for k, data in enumerate(case.everything()):
        data.PatientBirthDate = "19500101" if k < len(case.ct) else f"19{rng.integers(51, 99)}0101"
    return "the structure set has the CT's patient ID and another date of birth"


@kind("frames", LIVER, "plan", r"(?i)patient")
def slices_of_two_patients(case, rng):
    """Refused."""
    for data in case.ct[60:]:
        data.PatientID = f"X{rng.integers(10**6)}"
    return "half of the slices are of another patient"


@kind("frames", DAY_1, "dose", OTHER_PATIENT, same=True)
def one_patient_in_two_character_sets(case, rng):
    """The same dose: it is one patient."""
    for data, charset, codec in ((case.plan, "GB18030", "gb18030"), (case.dose, "ISO_IR 192", "utf-8")):
        data.SpecificCharacterSet = charset
        put_raw(data, "PatientID", "病人001".encode(codec))
    return "a Chinese patient ID, in GB18030 in the plan and in UTF-8 in the dose"


@kind("frames", LIVER, "plan", r"(?i)feet|prone|position", same=True)
def a_header_that_says_prone_or_feet_first(case, rng):
    """The same plan: each voxel is placed by its own orientation."""
    position = ("FFS", "HFP", "FFP")[rng.integers(3)]
    for data in case.ct:
        data.PatientPosition = position
    return f"the header says {position}, the orientation stays"


@kind("frames", LIVER, "plan", r"outside the CT")
def an_orientation_turned_by_half(case, rng):
    """Said that the contours lie outside the CT, or refused."""
    for data in case.ct:
        data.ImageOrientationPatient = ["-1", "0", "0", "0", "-1", "0"]
    return "rows and columns point the other way, the positions stay"


@kind("frames", LIVER, "plan", r"outside the CT")
def heights_with_the_other_sign(case, rng):
    """Said that the contours lie outside the CT, or refused."""
    for data in case.ct:
        x, y, z = (float(value) for value in data.ImagePositionPatient)
        data.ImagePositionPatient = decimal(np.array([x, y, -z]))
    return "z of every slice has the other sign"


@kind("frames", LIVER, "plan", r"shifted|unevenly|missing")
def one_slice_displaced(case, rng):
    """Refused with the place."""
    data = case.ct[int(rng.integers(30, 90))]
    x, y, z = (float(value) for value in data.ImagePositionPatient)
    data.ImagePositionPatient = decimal(np.array([x + 9, y, z]))
    return "one slice is displaced by 9 mm"
