"""A plan and a patient with hostile names for tests of the reports, made by hand."""

from dataclasses import replace

from brachy.case import Case
from brachy.dosimetry import dose
from brachy.grid import Grid
from brachy.planfile import PlanCase, RuleResult
from brachy.structures import Structure
from tests.small_plan import circle, dicom_identity, small_case, small_plan

HOSTILE = "<script>alert(1)</script>"
QUOTED = "\"'>&{{7*7}}\\"


def hostile_case():
    """The small case with a patient and a bone that try to be HTML."""
    case = small_case(dicom_identity())
    ring = tuple(circle((-10.0, -20.0, z), 3.0) for z in (104, 106, 108, 110))
    bone = Structure(HOSTILE, ring, role="bone")
    identity = replace(case.identity, patient_name=HOSTILE, patient_id=QUOTED)
    return Case(case.ct_hu, case.grid, (*case.structures, bone), identity, case.inputs)


def report_plan(**changes):
    """The small plan with a verdict, broken rules and hostile words."""
    checks = [
        {
            "name": HOSTILE, "expected": "1", "found": "2", "difference": 1.0, "tolerance": 0.1, "unit": "Gy",
            "passed": False, "source": QUOTED,
        }
    ]  # fmt: skip
    plan = small_plan(
        case=PlanCase(patient_id=QUOTED, study_uid="1.2.3.1"),
        rules=(
            RuleResult(rule="needle to bone", limit=">= 2 mm", worst=1.25, where=HOSTILE, met=False),
            RuleResult(rule="needle length", limit="<= 150 mm", worst=111.25, where="needle A2", met=True),
        ),
        assumed=(HOSTILE, "implanted on the day of the CT"),
        limits=("water everywhere",),
    )
    return plan.sealed().model_copy(update={"check": {"verdict": "fail", "checks": checks}, **changes})


def report_inputs(plan, case):
    """What `render_report` needs besides plan and case."""
    grid = Grid.around((-50.0, -20.0, 90.0), (40.0, 30.0, 135.0), 3.0)
    curves = {
        "GTV": ([0.0, 100.0, 140.0, 300.0], [3.0, 3.0, 2.0, 0.0]),
        HOSTILE: ([0.0, 50.0, 90.0], [1.0, 0.5, 0.0]),
    }
    return {"structures": case.structures, "dose": dose(grid, plan.implants()), "curves": curves}
