"""Outcomes against printed tables, closed forms and a hand count."""

import math

import pytest

from brachy.cohort.outcomes import Cut, outcomes_of, read_outcomes, response_rates, survival
from brachy.cohort.page import outliers
from brachy.cohort.records import CaseRecord
from brachy.errors import UsageError

HEADER = "patient_id,response,pfs_months,pfs_event,os_months,os_event\n"

# 6-mercaptopurine arm of Freireich et al., Blood 21, 699 (1963): weeks in remission; True: relapse seen. Its
# Kaplan-Meier table is printed in most textbooks, among them Collett, Modelling Survival Data (Example 2).
REMISSION = [
    (6, True), (6, True), (6, True), (7, True), (10, True), (13, True), (16, True), (22, True), (23, True), (6, False),
    (9, False), (10, False), (11, False), (17, False), (19, False), (20, False), (25, False), (32, False), (32, False),
    (34, False), (35, False),
]  # fmt: skip
PRINTED = {6: 0.857, 7: 0.807, 10: 0.753, 13: 0.690, 16: 0.627, 22: 0.538, 23: 0.448}


def wilson(hits, n):
    z = 1.959963984540054
    middle = (hits / n + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(hits / n * (1 - hits / n) / n + z * z / (4 * n * n))
    return 100 * (middle - half), 100 * (middle + half)


def test_the_study_s_responses():
    """10 CR, 10 PR, 3 SD, 0 PD of 23: ORR 87.0 %, DCR 100 %."""
    found = response_rates({"CR": 10, "PR": 10, "SD": 3, "PD": 0})
    assert found.patients == 23
    assert round(found.ORR.pct, 1) == 87.0
    assert found.DCR.pct == 100.0
    assert found.ORR.interval_pct[:2] == pytest.approx(wilson(20, 23), abs=1e-9)
    assert found.DCR.interval_pct[:2] == pytest.approx(wilson(23, 23), abs=1e-9)
    assert response_rates({}).ORR is None


def test_kaplan_meier_is_the_printed_table():
    found = survival([(float(t), seen) for t, seen in REMISSION])
    curve = dict(zip(found.curve.months, found.curve.pct, strict=True))
    for week, share in PRINTED.items():
        assert curve[float(week)] == pytest.approx(100 * share, abs=0.051)
    assert found.median_months == 23
    assert (found.patients, found.events) == (21, 9)
    assert found.rates["1_year"].pct == pytest.approx(75.3, abs=0.05)
    assert found.rates["2_year"].pct == pytest.approx(44.8, abs=0.05)
    low, high, _ = found.rates["1_year"].interval_pct
    # exponential Greenwood by hand: sum d / (n (n - d)) to week 10
    total = 3 / (21 * 18) + 1 / (17 * 16) + 1 / (15 * 14)
    s = 0.75294117
    spread = 1.959963984540054 * math.sqrt(total) / math.log(s)
    assert low == pytest.approx(100 * s ** math.exp(-spread), abs=0.01)
    assert high == pytest.approx(100 * s ** math.exp(spread), abs=0.01)


def test_what_is_not_reached_is_not_given():
    found = survival([(3.0, True), (10.0, False), (11.0, False)])
    assert found.median_months is None
    assert found.rates == {"1_year": None, "2_year": None}
    assert survival([]) is None


def records(*values):
    return [
        CaseRecord(row=k, case=f"c{k}", patient_id=f"P{k}", status="done",
                   metrics={"D90_gy": value, "prescription_gy": 120.0})
        for k, value in enumerate(values, 1)
    ]  # fmt: skip


def written(tmp_path, *rows):
    file = tmp_path / "outcomes.csv"
    file.write_text(HEADER + "".join(f"{row}\n" for row in rows))
    return file


def test_patients_are_divided_by_the_cut(tmp_path):
    rows = ["P1,PD,2,1,5,1", "P2,SD,3,1,9,1", "P3,CR,20,0,26,0", "P4,PR,14,1,25,0", "P5,CR,,,30,0"]
    known = read_outcomes(written(tmp_path, *rows))
    cases = records(90.0, 119.9, 120.0, 140.0, 150.0, 160.0)
    found = outcomes_of(cases, known)
    assert found.groups["below"].patients == 2
    assert found.groups["at or above"].patients == 3
    assert found.groups["at or above"].response.ORR.pct == 100.0
    assert found.groups["below"].pfs.median_months == 2
    assert found.without_outcome == ("P6",)
    assert found.all.pfs.patients == 4  # one is unknown
    # log-rank by hand for pfs: events at 2 (4 at risk, 2 below), 3 (3, 1), 14 (2, 0)
    expected = 2 / 4 + 1 / 3 + 0
    variance = (2 * 2) / 16 + (1 * 2) / 9 + 0
    chi2 = (2 - expected) ** 2 / variance
    assert found.logrank_p["pfs"] == pytest.approx(math.erfc(math.sqrt(chi2 / 2)), rel=1e-6)
    other = outcomes_of(cases, known, Cut.of("D90_gy=145"))
    assert other.groups["at or above"].patients == 1


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ("P1,XX,,,,", "line 2: response 'XX' is none of CR, PR, SD, PD"),
        ("P1,CR,3,2,,", "pfs_event '2'"),
        ("P1,CR,-3,1,,", "pfs_months '-3'"),
        ("P1,CR,nan,1,,", "pfs_months 'nan'"),
        ("P1,CR,9,1,5,1", "longer than os_months"),
        ("P1,CR,9,1", "4 cells"),
        (",CR,9,1,10,1", "patient_id is empty"),
        ("P1,CR,,,,\nP1,CR,,,,", "line 3: patient 'P1' stands twice"),
        ("", "no row"),
    ],
)
def test_a_row_that_cannot_be_meant_is_refused(tmp_path, row, words):
    with pytest.raises(UsageError, match=words):
        read_outcomes(written(tmp_path, row))


def test_outcomes_of_unknown_patients_are_refused(tmp_path):
    known = read_outcomes(written(tmp_path, "P1,CR,,,,", "Q7,PR,,,,"))
    with pytest.raises(UsageError, match="not in the cohort: Q7"):
        outcomes_of(records(130.0), known)
    with pytest.raises(UsageError, match="no case has the metric 'D91_gy'"):
        outcomes_of(records(130.0), known[:1], Cut("D91_gy", 1.0))
    with pytest.raises(UsageError, match="'x' is not a number"):
        Cut.of("D90_gy=x")
    twice = [*records(130.0), records(131.0)[0].model_copy(update={"row": 2})]
    with pytest.raises(UsageError, match="two cases"):
        outcomes_of(twice, known[:1])


def test_outlying_values_are_those_of_the_rule():
    """Median 10, MAD 1: the bound is 3.5 / 0.6745 = 5.19 from the median."""
    cases = [
        CaseRecord(row=k, case=str(k), status="done", metrics={"D90_gy": v, "goals_met": True})
        for k, v in enumerate([9.0, 9.0, 9.0, 10.0, 10.0, 10.0, 11.0, 11.0, 11.0, 15.1, 15.3])
    ]
    assert [each.value for each in outliers(cases)] == [15.3]
