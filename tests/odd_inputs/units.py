"""Units: of strengths, times, doses, lengths and CT numbers."""

import numpy as np
from pydicom.dataset import Dataset

from tests.odd_inputs.case import (
    DAY_1,
    LIVER,
    channels,
    control_points,
    decimal,
    each_slice,
    from_ct,
    roi,
    scale_contours,
)
from tests.odd_inputs.kind import kind


def strength(case, factor):
    for source in case.plan.SourceSequence:
        source.ReferenceAirKermaRate = decimal(float(source.ReferenceAirKermaRate) * factor)[0]


def time(case, factor):
    for channel in channels(case):
        channel.ChannelTotalTime = decimal(float(channel.ChannelTotalTime) * factor)[0]


@kind("units", DAY_1, "dose", r"MBq")
def an_activity_in_mbq_as_a_strength(case, rng):
    """Refused; the unit is guessed by name."""
    strength(case, 37 / 1.27)
    return "MBq stand where U are expected"


@kind("units", DAY_1, "dose", r"(?i)air[- ]kerma|mCi")
def an_activity_in_mci_as_a_strength(case, rng):
    """0.49 is a strength that seeds have: said where the plan's total air kerma contradicts it."""
    strength(case, 1 / 1.27)
    return "mCi stand where U are expected"


@kind("units", DAY_1, "dose", r"air-kerma rate")
def a_strength_in_gy_an_hour(case, rng):
    """Refused: it is no strength of a seed."""
    strength(case, (1e-6, 1e-3)[rng.integers(2)])
    return "Gy/h or mGy/h stand where uGy/h are expected"


@kind("units", DAY_1, "dose", r"DOSE_RATE_WATER")
def a_strength_as_a_dose_rate(case, rng):
    """Refused by the name of the quantity."""
    case.plan.SourceSequence[0].SourceStrengthUnits = "DOSE_RATE_WATER"
    return "the strength is a dose rate to water"


@kind("units", DAY_1, "dose", r"mean life in (days|hours|minutes)")
def a_time_that_is_not_in_seconds(case, rng):
    """Known by its size, and said; the dose is the same."""
    unit, seconds = (("days", 86400), ("hours", 3600), ("minutes", 60))[rng.integers(3)]
    time(case, 1 / seconds)
    return f"ChannelTotalTime in {unit}"


@kind("units", DAY_1, "dose", r"not the mean life")
def a_time_that_is_no_mean_life(case, rng):
    """The dose to complete decay, and the time is said."""
    time(case, float(rng.uniform(0.2, 0.8)))
    return "ChannelTotalTime is a part of the mean life"


@kind("units", DAY_1, "dose", r"half-life")
def a_half_life_in_other_units(case, rng):
    """Refused: no permanent seed has it."""
    case.plan.SourceSequence[0].SourceIsotopeHalfLife = decimal(59.4 * (24, 1440, 86400)[rng.integers(3)])[0]
    return "the half-life is in hours, minutes or seconds"


@kind("units", DAY_1, "dose", r"half-life")
def the_half_life_of_another_nuclide(case, rng):
    """The plan's half-life is used, and said."""
    case.plan.SourceSequence[0].SourceIsotopeHalfLife = "16.991"
    return "the half-life is that of 103Pd"


@kind("units", DAY_1, "dvh", r"(?i)cGy")
def a_dose_in_cgy_that_says_gy(case, rng):
    """A hundredfold dose is questioned by name of the unit."""
    case.dose.DoseGridScaling = decimal(float(case.dose.DoseGridScaling) * 100)[0]
    return "the dose is in cGy, its unit says Gy"


@kind("units", DAY_1, "dvh", r"CGY|not in Gy")
def a_dose_whose_unit_is_not_gy(case, rng):
    """Refused by the unit."""
    unit = ("RELATIVE", "CGY", "")[rng.integers(3)]
    case.dose.DoseUnits = unit
    return f"DoseUnits is {unit or 'blank'}"


@kind("units", DAY_1, "dvh", r"own DVH|DVHs? of the file|file's")
def a_dose_in_per_cent_that_says_gy(case, rng):
    """Said where the DVHs in the file contradict it."""
    case.dose.DoseGridScaling = decimal(float(case.dose.DoseGridScaling) / 1.45)[0]
    return "the dose is in per cent of 145 Gy, its unit says Gy"


@kind("units", DAY_1, "dvh", r"outside the dose grid")
def a_dose_grid_in_cm(case, rng):
    """Said how much of each ROI lies outside the dose."""
    case.dose.PixelSpacing = ["0.1", "0.1"]
    return "the pixel spacing of the dose is in cm"


@kind("units", DAY_1, "dvh", r"not of one whole PLAN")
def the_dose_of_a_part(case, rng):
    """Said: it is not the dose of the whole plan."""
    case.dose.DoseSummationType = ("BEAM", "FRACTION", "CONTROL_POINT")[rng.integers(3)]
    return f"DoseSummationType is {case.dose.DoseSummationType}"


@kind("units", DAY_1, "dvh", r"EFFECTIVE")
def an_effective_dose(case, rng):
    """Said: it is no physical dose."""
    case.dose.DoseType = "EFFECTIVE"
    return "DoseType is EFFECTIVE"


@kind("units", DAY_1, "verify", r"(?i)cGy|prescri")
def a_prescription_in_cgy(case, rng):
    """Questioned: no implant is prescribed 14 500 Gy."""
    item = Dataset()
    item.DoseReferenceNumber, item.DoseReferenceStructureType, item.DoseReferenceType = 1, "SITE", "TARGET"
    item.TargetPrescriptionDose = "14500"
    case.plan.DoseReferenceSequence = [item]
    return "the plan prescribes 14500"


@kind("units", DAY_1, "dose", r"nearer|overlap|apart|cm\b")
def seed_positions_in_cm(case, rng):
    """Seeds that would lie inside each other are questioned."""
    for point in control_points(case):
        point.ControlPoint3DPosition = decimal(np.array(point.ControlPoint3DPosition, float) / 10)
    return "the seeds' positions are in cm"


@kind("units", LIVER, "plan", r"outside")
def contours_in_cm(case, rng):
    """Refused, or said that the contours lie outside the CT."""
    for item in case.structures.StructureSetROISequence:
        scale_contours(case, item.ROIName, 0.1)
    return "all contours are in cm"


@kind("units", LIVER, "plan", r"Ribs.*outside|outside.*Ribs")
def one_roi_in_cm(case, rng):
    """Said that the ROI lies outside the CT."""
    scale_contours(case, "Ribs", 0.1)
    return "the contours of Ribs are in cm"


@kind("units", LIVER, "plan", r"outside the CT")
def a_pixel_spacing_in_cm(case, rng):
    """Refused, or said that the contours lie outside the CT."""
    for data in case.ct:
        data.PixelSpacing = ["0.3", "0.3"]
    return "the pixel spacing is in cm"


@kind("units", LIVER, "plan", r"outside the CT")
def slice_positions_in_cm(case, rng):
    """Refused, or said that the contours lie outside the CT."""
    for data in case.ct:
        data.ImagePositionPatient = decimal(np.array(data.ImagePositionPatient, float) / 10)
    return "the slices' positions are in cm"


@kind("units", DAY_1, "find", r"no rescale slope")
def unsigned_pixels_without_rescale(case, rng):
    """Refused: their HU are unknown."""
    for data in case.ct:
        del data.RescaleSlope, data.RescaleIntercept
    return "no rescale slope and intercept, unsigned pixels"


@kind("units", LIVER, "plan", r"CT numbers are the stored values", base=from_ct)
def signed_pixels_without_rescale(case, rng):
    """The stored values are taken as HU, and said."""
    for data in case.ct:
        del data.RescaleSlope, data.RescaleIntercept
    return "no rescale slope and intercept, signed pixels"


@kind("units", LIVER, "plan", r"(?i)\bair\b", base=from_ct)
def ct_numbers_that_lost_their_offset(case, rng):
    """Air at 24 HU is questioned or refused: no skin and bone from such a CT."""
    each_slice(case, lambda values: (values.astype(np.int32) + 1024).astype(np.int16))
    return "stored values are HU + 1024, the intercept is 0"


@kind("units", LIVER, "plan", r"(?i)\bair\b", base=from_ct)
def ct_numbers_that_lost_their_slope(case, rng):
    """Air at -100 HU is questioned or refused: no skin and bone from such a CT."""
    for data in case.ct:
        data.RescaleSlope = "0.1"
    return "the rescale slope is 0.1 in place of 1"


@kind("units", LIVER, "plan", r"not CT numbers", base=from_ct)
def an_image_of_another_quantity(case, rng):
    """Refused by the quantity."""
    quantity = ("Z_EFF", "ED", "OD")[rng.integers(3)]
    for data in case.ct:
        data.RescaleType = quantity
    return f"the rescale type is {quantity}"


@kind("units", DAY_1, "dvh", r"(?i)outside the dose|Rectum")
def one_roi_in_cm_in_a_table(case, rng):
    """Said that the ROI lies outside the dose, or that it is empty."""
    assert roi(case, "Rectum")
    scale_contours(case, "Rectum", 10)
    return "the contours of Rectum are ten times as large"
