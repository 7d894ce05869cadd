"""Dates: of the strength, the plan and the CT."""

from tests.odd_inputs.case import DAY_1, LIVER, shifted_day
from tests.odd_inputs.kind import kind

STATED = "SourceStrengthReferenceDate"


def state(case, days):
    for source in case.plan.SourceSequence:
        setattr(source, STATED, shifted_day(source[STATED].value, days))


def date_images(case, days):
    for data in case.ct:
        data.StudyDate = shifted_day(data.StudyDate, days)


@kind("dates", DAY_1, "dose", r"decayed to .*factor 0\.")
def a_strength_stated_weeks_before(case, rng):
    """Decayed to the plan's date; days and factor are said."""
    days = int(rng.integers(14, 90))
    state(case, -days)
    return f"the strength is stated for {days} days before the plan"


@kind("dates", DAY_1, "verify", r"factor 0\.")
def a_strength_stated_weeks_before_an_implant(case, rng):
    """Decayed to the day of the implantation; days and factor are said."""
    days = int(rng.integers(14, 90))
    state(case, -days)
    return f"the strength is stated for {days} days before the implantation"


@kind("dates", DAY_1, "dose", r"decayed to .*factor [1-9]")
def a_strength_stated_for_a_day_to_come(case, rng):
    """Taken back to the plan's date; days and factor are said."""
    days = int(rng.integers(5, 60))
    state(case, days)
    return f"the strength is stated for {days} days after the plan"


@kind("dates", DAY_1, "dose", r"no reference date of the strength")
def a_strength_without_a_date(case, rng):
    """Taken as that of the implantation, and said."""
    del case.plan.SourceSequence[0][STATED]
    return "no reference date of the strength"


@kind("dates", DAY_1, "dose", r"is no date")
def a_strength_of_a_day_that_does_not_exist(case, rng):
    """Taken as if there were no date, and said."""
    case.plan.SourceSequence[0].SourceStrengthReferenceDate = ("20150231", "20151301", "20150900")[
        rng.integers(3)
    ]
    return "the strength is stated for a day that does not exist"


@kind("dates", DAY_1, "dose", r"no day of the implantation")
def a_plan_without_a_date(case, rng):
    """The strength is taken as that of the implantation, and said."""
    del case.plan.RTPlanDate
    return "the plan has no date"


@kind("dates", DAY_1, "dose", r"decayed", same=True)
def dates_in_the_old_form(case, rng):
    """The same dose: 2001.02.03 is a date too."""
    for data, keyword in ((case.plan, "RTPlanDate"), (case.plan.SourceSequence[0], STATED)):
        day = data[keyword].value
        setattr(data, keyword, f"{day[:4]}.{day[4:6]}.{day[6:]}")
    return "dates as 2001.02.03"


@kind("dates", DAY_1, "verify", r"after the post-implant CT")
def a_plan_after_the_ct_of_its_implant(case, rng):
    """Refused; the right day is asked for."""
    days = int(rng.integers(2, 40))
    case.plan.RTPlanDate = shifted_day(case.plan.RTPlanDate, days)
    return f"the plan is {days} days later than the CT after its implantation"


@kind("dates", DAY_1, "verify", r"days before the post-implant CT")
def a_ct_a_year_after_its_plan(case, rng):
    """Refused; the right day is asked for."""
    date_images(case, int(rng.integers(300, 700)))
    return "the CT is a year later than the plan"


@kind("dates", DAY_1, "verify", r"days before|date", same=True)
def a_ct_weeks_after_its_plan(case, rng):
    """The same dose: the implant is of the plan's day."""
    days = int(rng.integers(20, 60))
    date_images(case, days)
    return f"the CT is {days} days later than the plan"


@kind("dates", DAY_1, "verify", r"CT has no date|no date", same=True)
def a_ct_without_a_date(case, rng):
    """The same dose: the implant is of the plan's day."""
    for data in case.ct:
        data.StudyDate = ""
    return "the CT has no date"


@kind("dates", DAY_1, "verify", r"no day of the implantation")
def nothing_has_a_date(case, rng):
    """The strength is taken as that of the implantation, and said."""
    for data in case.everything():
        data.StudyDate = ""
    del case.plan.RTPlanDate
    del case.plan.SourceSequence[0][STATED]
    return "neither CT, plan nor strength has a date"


@kind("dates", LIVER, "plan", r"dates|days")
def slices_of_two_days(case, rng):
    """That the slices of one series were taken on two days is said."""
    for data in case.ct[60:]:
        data.AcquisitionDate = shifted_day(data.AcquisitionDate, 30)
    return "half of the slices were taken 30 days later"


@kind("dates", LIVER, "plan", r"is dated .* before its CT")
def contours_older_than_their_ct(case, rng):
    """That contours are dated before the CT on which they are drawn is said."""
    days = int(rng.integers(30, 400))
    case.structures.StructureSetDate = shifted_day(case.structures.StructureSetDate, -days)
    return f"the contours are dated {days} days before their CT"
