"""The verdict in three lines, on plans that differ in one thing each."""

from pathlib import Path

import pytest
from rich.console import Console

from brachy.cli import console
from brachy.cli.plan_summary import show_plan
from brachy.output.verdict import verdict
from brachy.patient.check_report import CheckItem, CheckReport
from brachy.patient.evaluation_record import GoalResult, RuleResult
from brachy.patient.optimiser_record import OptimiserRecord
from brachy.patient.plan import PlanStructure
from tests.small_plan import small_plan

SHOWN = ("volume_cc", "mean_gy", "D2cc_gy", "D0.1cc_gy", "max_gy")
PASSED = CheckReport.of([CheckItem("seeds", "12", "12", 0, 0, "", True, "RTPLAN.dcm")])


def goal(roi="GTV", metric="D90_gy", op=">=", limit=120.0, value=131.2, uncertainty=0.5, required=True):
    met = None if value is None else value >= limit if op == ">=" else value <= limit
    return GoalResult(
        roi=roi, metric=metric, op=op, limit=limit, value=value, uncertainty=uncertainty, met=met,
        required=required, reason="" if value is not None else "no such structure",
    )  # fmt: skip


def rule(name, status="kept", worst=4.1):
    return RuleResult(rule=name, limit=">= 2 mm", worst=worst, status=status)


BONE = rule("needle to bone")
GTV = goal()
ORGAN = goal("Colon", "D2cc_gy", "<=", 60.0, 22.5)


def plan(goals=(GTV, ORGAN), rules=(BONE,), check=PASSED, **changes):
    made = small_plan(rules=tuple(rules), assumed=(), **changes)
    evaluation = made.evaluation.model_copy(update={"goals": tuple(goals)})
    return made.model_copy(update={"evaluation": evaluation, "check": check})


def lines(made):
    return {line.about: (line.colour, line.text) for line in verdict(made)}


def test_all_met_is_green_with_every_value_and_limit():
    assert lines(plan()) == {
        "target": ("green", "GTV: D90 131.2 Gy (>= 120) met"),
        "organs": ("green", "Colon: D2cc 22.5 Gy (<= 60) met"),
        "against it": ("green", "nothing known"),
    }


def test_a_goal_that_is_missed_is_red_and_an_aim_amber():
    aim = goal(metric="V200_pct", op="<=", limit=25.0, value=57.3, required=False)
    colour, text = lines(plan([goal(), aim, ORGAN]))["target"]
    assert colour == "amber"
    assert text.endswith("V200 57.3 % (<= 25) missed, an aim")
    colour, text = lines(plan([goal(value=100.0), aim]))["target"]
    assert colour == "red"
    assert "D90 100 Gy (>= 120) MISSED" in text


def test_a_goal_within_its_uncertainty_is_amber():
    colour, text = lines(plan([goal(metric="V100_pct", limit=95.0, value=95.15, uncertainty=1.4)]))["target"]
    assert (colour, text) == ("amber", "GTV: V100 95.15 % (>= 95) met, within its uncertainty")


def test_organs_stand_in_order_of_what_is_left_to_their_limits():
    near = goal("Duodenum", "D2cc_gy", "<=", 30.0, 29.0)
    missing = goal("Bile duct", "D2cc_gy", "<=", 30.0, None, None)
    colour, text = lines(plan([goal(), ORGAN, near, missing]))["organs"]
    assert colour == "amber"
    assert text.index("Duodenum") < text.index("Colon")
    assert text.endswith("not checked: Bile duct")


def test_without_goals_for_organs_the_highest_doses_are_named_and_nothing_is_green():
    structures = tuple(
        PlanStructure(roi=roi, role="bowel", source="name", why="", obstacle=stops, obstacle_why="")
        for roi, stops in (("Colon", True), ("Stomach", True), ("Body", False))
    )
    made = plan([goal()], structures=structures)
    doses = {"Colon": {"D2cc_gy": 3.5}, "Stomach": {"D2cc_gy": 12.0}, "Body": {"D2cc_gy": 700.0}}
    made = made.model_copy(update={"evaluation": made.evaluation.model_copy(update={"structures": doses})})
    colour, text = lines(made)["organs"]
    assert colour == "amber"
    assert text == "the protocol has no goal for an organ; highest D2cc: Stomach 12 Gy, Colon 3.5 Gy"


@pytest.mark.parametrize(
    ("rules", "colour", "words"),
    [
        ([rule("a"), rule("needle to lung", "broken", 0.3)], "red", "1 rule broken: needle to lung 0.3 mm"),
        (
            [rule(f"edge {k}", "reported", 10.0 + k) for k in range(4)],
            "amber",
            "4 rules reported: edge 3 13 mm, edge 2 12 mm and 2 more",
        ),
        (
            [rule("needle to bile duct", "not checked", None)],
            "amber",
            "1 rule not checked: needle to bile duct",
        ),
    ],
)
def test_rules_that_are_not_kept_stand_against_it(rules, colour, words):
    assert lines(plan(rules=rules))["against it"] == (colour, words)


def test_blocked_holes_stand_against_it_also_those_found_in_the_operating_room():
    directions = [
        {"target": "GTV", "tried": [
            {"azimuth_deg": 10.0, "tilt_deg": 0.0, "offset_mm": (0, 0), "blocked": {"Ribs": 9}, "outcome": "worse"},
            {"azimuth_deg": 90.0, "tilt_deg": 0.0, "offset_mm": (0, 0), "blocked": {"Ribs": 3, "Lung": 1},
             "outcome": "chosen"},
        ]}
    ]  # fmt: skip
    record = OptimiserRecord.model_validate(
        {"directions": directions, "blocked": [{"template": 0, "hole": "C4"}]}
    )
    made = plan(optimiser=record)
    assert lines(made)["against it"] == (
        "amber",
        "5 holes blocked (Ribs 3, Lung 1, found during the implantation 1)",
    )


def test_no_check_a_failed_one_and_a_structure_not_understood_stand_against_it():
    assert lines(plan(check=CheckReport()))["against it"] == ("amber", "no independent check was made")
    failed = CheckReport.of([CheckItem("seeds", "12", "11", 1, 0, "", False, "RTPLAN.dcm")])
    assert lines(plan(check=failed))["against it"][0] == "red"
    unclear = PlanStructure(
        roi="X1", role="organ", source="default", why="", understood=False, obstacle=True, obstacle_why=""
    )
    assert lines(plan(structures=(unclear,)))["against it"] == ("amber", "ROIs not understood: X1")


def screen_lines(made, capsys, monkeypatch, full=False):
    """Lines of the summary on a terminal of 80 columns, which breaks longer ones."""
    monkeypatch.setattr(console, "_OUT", Console(width=80, highlight=False, markup=False))
    show_plan(made, Path("plan-liver"), full=full)
    shown = capsys.readouterr().out.splitlines()
    return sum(max(1, -(-len(line) // 80)) for line in shown), "\n".join(shown)


def test_the_summary_fits_a_screen_of_80_by_45_whatever_stands_against_the_plan(capsys, monkeypatch):
    organs = {f"Organ {k}": dict.fromkeys(SHOWN, 12.3456) for k in range(40)}
    unclear = tuple(
        PlanStructure(
            roi=f"X{k}", role="organ", source="default", why="nothing is known of it", understood=False,
            obstacle=True, obstacle_why="every contoured organ stops a needle",
        )
        for k in range(3)
    )  # fmt: skip
    rules = [
        RuleResult(
            rule=f"needle to something {k}", limit=">= 2 mm", worst=1.5, where="needle A1", status=status
        )
        for k, status in enumerate(["kept"] * 20 + ["reported"] * 9 + ["broken"] * 9)
    ]
    rules += [
        RuleResult(
            rule=f"needle to {k}",
            limit=">= 2 mm",
            worst=None,
            where="no such structure",
            status="not checked",
        )
        for k in range(9)
    ]
    made = plan(
        structures=unclear, rules=tuple(rules),
    ).model_copy(update={"assumed": ("a sentence of what was assumed " * 5,) * 30})  # fmt: skip
    evaluation = made.evaluation.model_copy(update={"structures": {**made.evaluation.structures, **organs}})
    made = made.model_copy(update={"evaluation": evaluation})
    count, shown = screen_lines(made, capsys, monkeypatch)
    assert count < 45, shown
    for word in (
        "BROKEN: needle to something 29",
        "23 more that are not kept",
        "30 assumed",
        "report.html",
        "X2",
    ):
        assert word in shown
    count, shown = screen_lines(made, capsys, monkeypatch, full=True)
    assert all(rule.rule in shown for rule in rules)
    assert all(f"Organ {k}" in shown for k in range(40))
    assert shown.count("a sentence of what was assumed") >= 30


def test_they_are_the_last_lines_on_the_terminal(capsys):
    made = plan()
    show_plan(made, None)
    last = capsys.readouterr().out.splitlines()[-3:]
    assert last == [f"{line.about}: {line.text}" for line in verdict(made)]
