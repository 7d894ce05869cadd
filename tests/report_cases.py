"""A plan and a patient with hostile names for tests of the reports, made by hand."""

from dataclasses import replace

import numpy as np

from brachy.dosimetry.implant import Implant
from brachy.dosimetry.source import load_source
from brachy.dosimetry.tg43 import dose
from brachy.geometry.grid import Grid
from brachy.geometry.structures import Structure
from brachy.output.report import PlannedSeeds
from brachy.patient.case import Case
from brachy.patient.check_report import CheckItem, CheckReport
from brachy.patient.plan import PlanCase, RuleResult
from brachy.postimplant.record import PostImplantRecord
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
    failed = CheckReport.of([CheckItem(HOSTILE, "1", "2", 1.0, 0.1, "Gy", False, QUOTED)])
    plan = small_plan(
        case=PlanCase(patient_id=QUOTED, study_uid="1.2.3.1"),
        rules=(
            RuleResult(rule="needle to bone", limit=">= 2 mm", worst=1.25, where=HOSTILE, status="broken"),
            RuleResult(
                rule="needle length", limit="<= 150 mm", worst=111.25, where="needle A2", status="kept"
            ),
        ),
        assumed=(HOSTILE, "implanted on the day of the CT"),
        limits=("water everywhere",),
    )
    return plan.sealed().model_copy(update={"check": failed, **changes})


def report_inputs(plan, case):
    """What `render_report` needs besides plan and case."""
    grid = Grid.around((-50.0, -20.0, 90.0), (40.0, 30.0, 135.0), 3.0)
    curves = {
        "GTV": ([0.0, 100.0, 140.0, 300.0], [3.0, 3.0, 2.0, 0.0]),
        HOSTILE: ([0.0, 50.0, 90.0], [1.0, 0.5, 0.0]),
    }
    return {"structures": case.structures, "dose": dose(grid, plan.implants()), "curves": curves}


def verification():
    """A record with a hostile ROI, the case, what was found and planned: one lost, one strange, two shifted."""
    case = hostile_case()
    source = load_source("amersham_6711")
    before = np.array(
        [[-20.0, -20.0, 109.0], [-15.0, -20.0, 109.0], [-20.0, -15.0, 112.0], [-15.0, -15.0, 112.0]]
    )
    after = np.array(
        [[-19.0, -20.0, 109.0], [-15.0, -19.0, 110.0], [-15.0, -15.0, 112.0], [-25.0, -25.0, 115.0]]
    )
    labels = ["A1.1", "A1.2", "B1.1", "B1.2"]
    matched = ["A1.1", "A1.2", "B1.2", None]
    axes = np.tile([0.0, 1.0, 0.0], (4, 1))
    planned = PlannedSeeds(labels, before, [Implant(source, before, axes=axes, strength_U=0.889)], axes)
    rows = []
    for place, name in zip(after, matched, strict=True):
        shift = None if name is None else float(np.linalg.norm(place - before[labels.index(name)]))
        rows.append(
            {
                "position_mm": place.tolist(), "axis": [0.0, 1.0, 0.0], "confidence": 0.97, "planned": name,
                "shift_mm": shift, "shift_along_mm": shift, "shift_across_mm": 0.0,
                "place": {"target": "GTV", "outside_mm": 1.5, "in": {HOSTILE: "bone"}},
            }
        )  # fmt: skip
    values = {"planned": 130.0, "actual": 111.5, "difference": -18.5}
    record = {
        "plan": "abc" * 20, "case": {"patient_id": QUOTED},
        "seeds": rows, "missing": ["B1.1"], "extra": [3],
        "registration": {"method": "seeds", "residual_mm": 0.43, "transform": np.eye(4).tolist()},
        "targets": [{"roi": "GTV", "prescription_gy": 120.0}],
        "evaluation": {"formalism": "1D", "structures": {"GTV": {"D90_gy": values}, HOSTILE: {"mean_gy": values}}},
        "intervals": {"GTV": {"D90_gy": [101.0, 122.0, 0.95]}},
        "goals": [
            {"roi": "GTV", "metric": "D90_gy", "op": ">=", "limit": 120.0, "value": 111.5, "met": False,
             "required": True}
        ],
        "shifts": {
            "planned": 4, "found": 4, "matched": 3, "missing": 1, "extra": 1, "lost": 0, "migrated": 1,
            "common_shift_mm": [0.0, 0.0, 0.0],
            "all": {"seeds": 3, "mean_mm": 0.8, "sd_mm": 0.7, "max_mm": 1.41, "systematic_mm": [0.33, 0.33, 0.33]},
            "needles": [{"needle": HOSTILE, "planned": 4, "seeds": 3, "mean_mm": 0.8}],
        },
        "cold_spots": {"GTV": {"volume_cc": 0.42, "count": 1, "spots": [
            {"volume_cc": 0.42, "centre_mm": [-21.0, -14.0, 113.0], "sector": "left anterior superior",
             "min_gy": 61.0, "min_at_mm": [-21.0, -14.0, 113.0], "extent_mm": [9.0, 8.0, 7.0]}]}},
        "further_seed": {"GTV": {"position_mm": [-20.0, -14.5, 113.0], "sector": "left anterior superior",
                                 "strength_U": 0.889, "lifted_cc": 0.31, "V100_pct": [80.0, 84.0],
                                 "D90_gy": [111.5, 114.0]}},
        "sectors": {"GTV": [{"sector": "left anterior superior", "volume_cc": 0.5, "D90_gy": 99.0, "V100_pct": 71.0,
                             "min_gy": 61.0}]},
        "rules": [{"rule": "seeds in vessel", "limit": "0", "worst": 1, "unit": "seeds",
                   "where": f"{HOSTILE}: seeds 4", "status": "broken"},
                  {"rule": "seeds over 5 mm outside every target", "limit": "0", "worst": 1, "unit": "seeds",
                   "where": "seeds 4", "status": "broken"},
                  {"rule": "seeds in lung", "limit": "0", "worst": None, "unit": "seeds",
                   "where": "none contoured", "status": "not checked"}],
        "outside": [3], "in_organs": {HOSTILE: [3]}, "margin_mm": 5.0, "warnings": [HOSTILE],
        "doubts": [{"position_mm": [0.0, 0.0, 100.0], "reason": HOSTILE}],
        "assumed": [HOSTILE], "limits": ["water everywhere"],
    }  # fmt: skip
    return (
        PostImplantRecord.model_validate(record),
        case,
        [Implant(source, after, axes=axes, strength_U=0.889)],
        planned,
    )
