"""A plan checked for another day of implantation, and the decay that its strengths already have."""

import shutil
from datetime import date

import pydicom
import pytest

from brachy.check import check_plan
from brachy.check.implant_day import items_on
from brachy.errors import BrachyError
from brachy.io.phantom.file import load_phantom
from brachy.optimise import plan
from brachy.output import plan_folder
from brachy.patient.implant_date import notes_on_strength
from brachy.patient.plan import Plan
from brachy.patient.protocol import change
from brachy.patient.uids import identified
from tests.check.test_check import changed, coarse
from tests.cli.test_cli import refused, run
from tests.quick_protocol import AXIAL, SEARCH

QUICK = change(AXIAL, search=SEARCH | {"moves": 10_000, "fine_moves": 5_000})
STATED, PLANNED = date(2026, 1, 1), date(2026, 1, 31)


@pytest.fixture(scope="module")
def case():
    return identified(load_phantom("sphere-35mm"))


@pytest.fixture(scope="module")
def made(case):
    return plan(case, QUICK, direction=(0.0, 0.0), strength_on=STATED, implant_on=PLANNED).sealed()


@pytest.fixture(scope="module")
def folder(case, made, tmp_path_factory):
    out = tmp_path_factory.mktemp("day") / "out"
    return plan_folder.write_outputs(made, case, out, dose=coarse(made), curves={})


def test_on_the_plans_day_nothing_is_lost(folder):
    (item,) = items_on(folder, PLANNED)
    assert item.passed
    assert "factor 1.000" in item.found


def test_two_months_later_half_the_dose_is_left_and_the_goals_are_missed(folder, made):
    """59 days: 2^(-59/59.4) = 0.50234 of the strength, and of the D90."""
    strength, *goals = items_on(folder, date(2026, 3, 31))
    assert "59 days after 2026-01-31" in strength.name
    assert "factor 0.502" in strength.found
    by_name = {item.name.split()[0]: item for item in goals}
    assert set(by_name) == {"D90_gy", "V100_pct"}
    assert not any(item.passed for item in goals)
    planned = made.evaluation.structures["GTV"]["D90_gy"]
    assert float(by_name["D90_gy"].found.split()[0]) == pytest.approx(0.50234 * planned, rel=0.01)


def test_a_week_earlier_seeds_are_stronger(folder, made):
    """-7 days: 2^(7/59.4) = 1.0851."""
    _, *goals = items_on(folder, date(2026, 1, 24))
    d90 = next(item for item in goals if item.name.startswith("D90"))
    assert float(d90.found.split()[0]) == pytest.approx(
        1.0851 * made.evaluation.structures["GTV"]["D90_gy"], rel=0.01
    )


def test_a_plan_without_a_day_is_refused(made, tmp_path):
    def undated(data):
        for source in data["sources"]:
            source["strength_on"] = source["implant_on"] = ""

    dateless = changed(made, undated)
    dateless.save(tmp_path / "plan.json")
    with pytest.raises(BrachyError, match="names no day of implantation"):
        items_on(tmp_path, PLANNED)
    assert notes_on_strength(dateless) == ()


def test_the_command_fails_on_a_day_that_misses_the_goals(folder, capsys, monkeypatch):
    code, shown, said = run(capsys, monkeypatch, "check", str(folder), "--implant-on", "2026-03-31")
    assert code == 1
    assert "if implanted on 2026-03-31" in shown
    assert "verdict: fail" in shown
    assert "strength stated for 2026-01-01, 30 days before" in said
    assert "factor 0.705" in said
    refused(
        run(capsys, monkeypatch, "check", "--commission", "--implant-on", "2026-03-31"), 2, "--implant-on"
    )
    refused(run(capsys, monkeypatch, "check", str(folder), "--implant-on", "31.3.2026"), 2, "--implant-on")


def test_robust_says_the_decay_of_the_plan(folder, capsys, monkeypatch):
    code, _, said = run(capsys, monkeypatch, "robust", str(folder), "--samples", "20")
    assert code == 0
    assert "30 days before the day of the implantation, 2026-01-31: factor 0.705" in said
    assert Plan.load(folder).sources[0].implant_on == "2026-01-31"


def test_what_is_not_recomputed_for_the_day_is_not_checked(folder, made, tmp_path):
    """A goal on an organ, and a target whose contours are not axial: neither passes, and both are named."""
    out = tmp_path / "out"
    shutil.copytree(folder, out)
    goal = made.evaluation.goals[0].model_copy(update={"roi": "Cord", "metric": "D2cc_gy", "op": "<="})
    goals = (*made.evaluation.goals, goal)
    made.model_copy(update={"evaluation": made.evaluation.model_copy(update={"goals": goals})}).save(
        out / "plan.json"
    )
    content = pydicom.dcmread(out / "RTSTRUCT.dcm")
    (number,) = [r.ROINumber for r in content.StructureSetROISequence if r.ROIName == "GTV"]
    (roi,) = [r for r in content.ROIContourSequence if r.ReferencedROINumber == number]
    points = [float(value) for value in roi.ContourSequence[3].ContourData]
    points[2] += 0.5  # one point of one contour leaves its plane
    roi.ContourSequence[3].ContourData = points
    content.save_as(out / "RTSTRUCT.dcm")
    required = {f"{g.metric} of {g.roi}" for g in goals if g.required}
    named = {item.name.split(" if ")[0]: item.passed for item in items_on(out, date(2026, 2, 28))[1:]}
    assert named == dict.fromkeys(required, None)
    unchecked = {item.name for item in check_plan(out).checks if item.passed is None}
    assert {"D90_gy of GTV", "V100_pct of GTV"} <= unchecked


def test_a_value_that_the_samples_cannot_tell_from_the_limit_is_not_judged(folder, made, tmp_path):
    out = tmp_path / "out"
    shutil.copytree(folder, out)
    day = date(2026, 2, 7)
    d90 = float(next(i for i in items_on(folder, day) if i.name.startswith("D90")).found.split()[0])
    for limit, passed in ((d90 - 5.0, True), (d90, None), (d90 + 5.0, False)):
        goals = tuple(
            g.model_copy(update={"limit": limit}) if g.metric == "D90_gy" else g
            for g in made.evaluation.goals
        )
        made.model_copy(update={"evaluation": made.evaluation.model_copy(update={"goals": goals})}).save(
            out / "plan.json"
        )
        assert next(i for i in items_on(out, day) if i.name.startswith("D90")).passed is passed
