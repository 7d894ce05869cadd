"""Four states of a rule and the doubt of a goal: green only for what was checked and holds."""

import pytest
from pydantic import ValidationError

from brachy.patient.check_report import CheckItem, CheckReport
from brachy.patient.evaluation_record import GoalCounts, GoalResult, RuleCounts, RuleResult

STATES = ("kept", "broken", "reported", "not checked")


def rule(status, **fields):
    return RuleResult(rule="needle to bone", limit=">= 2 mm", worst=3.0, status=status, **fields)


def goal(value, uncertainty=None, op=">=", limit=95.0):
    met = None if value is None else value >= limit if op == ">=" else value <= limit
    return GoalResult(
        roi="GTV", metric="V100_pct", op=op, limit=limit, value=value, uncertainty=uncertainty, met=met
    )


def test_met_follows_from_the_status_and_a_file_that_contradicts_itself_is_refused():
    assert [rule(status).met for status in STATES] == [True, False, None, None]
    for status in STATES:
        data = rule(status).model_dump(mode="json")
        assert list(data)[-2:] == ["status", "met"]
        assert RuleResult.model_validate(data) == rule(status)
        for met in (True, False, None):
            if met is not data["met"]:
                with pytest.raises(ValidationError, match="contradicts status"):
                    RuleResult.model_validate({**data, "met": met})
    with pytest.raises(ValidationError, match="true or false"):
        RuleResult.model_validate({"rule": "a", "limit": "", "worst": None, "met": None})


@pytest.mark.parametrize(
    ("states", "words", "colour"),
    [
        ("kept " * 25, "25 kept", "green"),
        ("kept " * 19 + "reported " * 5 + "not_checked", "19 kept, 5 reported, 1 not checked", "amber"),
        ("kept reported", "1 kept, 1 reported", "amber"),
        ("kept not_checked", "1 kept, 1 not checked", "amber"),
        ("kept broken reported not_checked", "1 kept, 1 broken, 1 reported, 1 not checked", "red"),
    ],
)
def test_counts_keep_the_states_apart(states, words, colour):
    counts = RuleCounts.of(rule(state.replace("_", " ")) for state in states.split())
    assert (str(counts), counts.colour) == (words, colour)


@pytest.mark.parametrize(
    ("value", "uncertainty", "verdict", "colour"),
    [
        (95.15, 1.4, "met, within its uncertainty of the limit", "amber"),
        (94.9, 1.4, "missed, within its uncertainty of the limit", "amber"),
        (97.0, 1.4, "met", "green"),
        (90.0, 1.4, "missed", "red"),
        (97.0, None, "met", "green"),
        (None, None, "not checked", "amber"),
    ],
)
def test_a_goal_near_its_limit_is_not_plainly_met(value, uncertainty, verdict, colour):
    found = goal(value, uncertainty)
    assert (found.verdict, found.colour) == (verdict, colour)


def test_counts_of_goals():
    counts = GoalCounts.of([goal(99.0, 1.0), goal(95.15, 1.4), goal(94.5, 1.4), goal(80.0, 1.0), goal(None)])
    near = "1 within its uncertainty of the limit"
    assert str(counts) == f"2 of 5 met ({near}), 2 missed ({near}), 1 not checked"
    assert counts.colour == "red"
    assert GoalCounts.of([goal(99.0, 1.0), goal(None)]).colour == "amber"
    assert GoalCounts.of([goal(99.0, 1.0)]).colour == "green"


def test_a_check_passes_with_a_number_of_items_not_checked_and_is_not_green():
    def item(passed):
        return CheckItem("lateral margin", "10 mm", "9 mm", None, None, "", passed, "")

    report = CheckReport.of([item(True), item(None), item(None)])
    assert (report.verdict, report.words, report.colour) == ("pass", "pass: 1 passed, 2 not checked", "amber")
    assert CheckReport.of([item(True)]).colour == "green"
    failed = CheckReport.of([item(None), item(False)])
    assert (failed.verdict, failed.words, failed.colour) == (
        "fail",
        "fail: 0 passed, 1 FAILED, 1 not checked",
        "red",
    )
