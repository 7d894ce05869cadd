"""The table of odd inputs in docs/reliability.md is that of the written kinds, and none of them is silent."""

import re

import pytest

from tests.odd_inputs import run
from tests.odd_inputs.kind import GROUPS, KINDS, VERBS, Kind
from tests.odd_inputs.run import DRAWN, Ran, drawn, verdict

LEAST_WRITTEN = 40


def rows_of_the_page():
    _, _, rest = run.PAGE.read_text("utf-8").partition(run.FROM)
    written, found, _ = rest.partition(run.TO)
    assert found
    lines = [line for line in written.splitlines() if line.startswith("| ")]
    assert lines[0] == "| " + " | ".join(run.HEADER) + " |"
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines[2:]], written


def test_every_kind_says_what_a_user_may_expect():
    assert len(KINDS) >= LEAST_WRITTEN
    assert len({kind.name for kind in KINDS}) == len(KINDS)
    assert {kind.group for kind in KINDS} == set(GROUPS)
    for kind in KINDS:
        assert kind.verb in VERBS
        assert len(kind.expected) >= 8, kind.name
        assert kind.expected.endswith("."), kind.name
        assert kind.words, kind.name
        assert not re.search(kind.words, ""), f"{kind.name}: its pattern is in every sentence"


def test_the_draw_is_thirty_kinds_of_every_group_and_always_the_same():
    names = [kind.name for kind, _ in drawn()]
    assert len(set(names)) == DRAWN == 30
    assert names == [kind.name for kind, _ in drawn()]
    assert {kind.group for kind, _ in drawn()} == set(GROUPS)


def test_the_page_has_a_row_for_each_and_none_is_silent():
    rows, written = rows_of_the_page()
    assert [row[0] for row in rows] == [f"{kind.group}: {kind.name}" for kind, _ in drawn()]
    for kind, _, verb, code, said, judged in rows:
        assert judged.split(",")[0].split(":")[0] in ("refused", "said", "right"), kind
        assert bool(said) == (not judged.startswith("right")), kind
        assert (code == "0") == (not judged.startswith("refused")), kind
        assert verb.strip("`") in VERBS
    assert f"All {len(KINDS)} kinds: " in written
    assert " 0 silent." in written


def test_the_page_names_no_patient():
    _, written = rows_of_the_page()
    assert not re.search(r"\d{4}-\d{2}-\d{2}|\d{8}|\d+(\.\d+){4}", written)


def kind(same):
    return Kind("a kind", "units", "liver", "plan", "It is said.", "cGy", same, lambda case, rng: "")


BEFORE = Ran(0, ("V100 95 %", "is it in cGy? 3"), (True, 95.0, "vessel obstacle"))


@pytest.mark.parametrize(
    ("after", "same", "expected"),
    [
        (Ran(0, (), BEFORE.values), True, "right: result unchanged"),
        (Ran(0, (), BEFORE.values), False, "SILENT: result unchanged"),
        (Ran(0, (), (True, 90.0, "vessel obstacle")), True, "SILENT: result changed"),
        (Ran(0, (), (True, 95.0, "organ obstacle")), True, "SILENT: result changed"),
        (Ran(0, (), (False, 95.0, "vessel obstacle")), True, "SILENT: result changed"),
        (Ran(0, (), (True, 95.0)), True, "SILENT: result changed"),
        (Ran(0, ("is it in cGy? 14",), (True, 90.0, "vessel obstacle")), True, "SILENT: result changed"),
        (Ran(0, ("the dose is in cGy",), BEFORE.values), False, "said, result unchanged"),
        (Ran(0, ("the dose is in cGy",), ()), False, "refused, named"),
        (Ran(1, ("brachy: no such file",), ()), False, "refused"),
        (Ran(1, ("Traceback (most recent call last):", "KeyError: 'x'"), ()), False, "crash"),
    ],
)
def test_verdicts(after, same, expected):
    assert verdict(kind(same), BEFORE, after)[0] == expected


def test_what_identifies_a_patient_is_taken_out():
    said = "brachy: /tmp/a/RP.dcm of 'P-77' and X4711, planned 2026-01-02, series 1.2.840.10008.1.2 | no"
    assert run.scrubbed(said, ["P-77"]) == "RP.dcm of 'ID' and ID-2, planned DATE, series UID / no"


def test_one_kind_from_the_files_to_its_row(shared):
    """The numbers of the table come from the command itself: a relative dose is refused by its unit."""
    chosen = [(k, n) for n, k in enumerate(KINDS) if k.name == "a dose whose unit is not gy"]
    (row,) = run.judged(chosen, shared / "data")
    assert (row.code, row.verdict) == (1, "refused, named")
    assert "RTDOSE.dcm: its dose is in" in row.said
