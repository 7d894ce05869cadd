"""A plan of a case without organs: what was not checked is called that everywhere, and nothing of it is green."""

import re
import sys

import pytest

import brachy
from brachy.check import check_plan
from brachy.cli import app
from brachy.cli.plan_summary import show_plan
from brachy.cohort import work
from brachy.evaluation.goals import judge
from brachy.io.phantom.file import load_phantom
from brachy.output.plan_folder import write_outputs
from brachy.patient.plan import Plan
from brachy.patient.protocol import Goal
from tests.quick_protocol import QUICK

COUCH = "needle and hub to couch and other things outside"
ORGANS = ("vessel", "lung", "bile duct", "gallbladder", "bowel", "bone")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    case = load_phantom("sphere-35mm")
    made = brachy.plan(case, QUICK, direction=(0, 0))
    return write_outputs(made, case, tmp_path_factory.mktemp("plan") / "out")


def test_the_terminal_and_the_page_count_what_was_not_checked(folder, capsys):
    plan = Plan.load(folder)
    unchecked = {rule.rule for rule in plan.rules if rule.status == "not checked"}
    assert unchecked == {f"needle to {organ}" for organ in ORGANS} | {COUCH}
    show_plan(plan, None)
    said = capsys.readouterr().out
    kept = len(plan.rules) - len(unchecked)
    assert f"rules: {kept} kept, {len(unchecked)} not checked" in said
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert f'<li class="amber"><b>rules</b> ? {kept} kept, {len(unchecked)} not checked</li>' in page
    for organ in ORGANS:
        (row,) = re.findall(rf"<tr><td>needle to {organ}</td>.*?</tr>", page)
        assert '<span class="amber">? not checked</span>' in row
        assert "green" not in row


def run(capsys, monkeypatch, *words):
    """Exit code and output of the program."""
    monkeypatch.setattr(sys, "argv", ["brachy", *words])
    with pytest.raises(SystemExit) as leave:
        app.main()
    return int(leave.value.code or 0), capsys.readouterr().out


def test_the_check_passes_and_says_how_much_it_did_not_check(folder, capsys, monkeypatch):
    report = check_plan(folder)
    unchecked = {item.name for item in report.checks if item.passed is None}
    assert {f"rule: needle to {organ}" for organ in ORGANS} <= unchecked
    assert any(name.startswith("rule: target edge to needle") for name in unchecked)
    code, said = run(capsys, monkeypatch, "check", str(folder))
    assert code == 0
    assert f"{len(unchecked)} not checked" in said.splitlines()[-1]
    assert "rule: needle length" in {item.name for item in report.checks if item.passed}


def test_a_required_goal_on_an_organ_that_nobody_drew_ends_strict_with_1(tmp_path, capsys, monkeypatch):
    protocol = tmp_path / "strict.toml"
    quick = "[prescription]\ndose_gy = 120\nallowed_gy = [110, 180]\n"
    quick += '[source]\nmodel = "amersham_6711"\nactivity_mCi = 0.7\nallowed_mCi = [0.6, 0.8]\n'
    quick += (
        "[search]\nstarts = 1\nmoves = 2000\nfine_moves = 0\nscan_moves = 200\ndirections = 1\nlayouts = 1\n"
    )
    goals = '[[goals]]\nroi = "target"\nmetric = "V50_pct"\nop = ">="\nlimit = 50\n'
    cord = '[[goals]]\nroi = "spinal_cord"\nmetric = "D2cc_gy"\nop = "<="\nlimit = 60\n'
    codes = {}
    for name, text in (("without", goals), ("with", goals + cord)):
        protocol.write_text(f'name = "strict"\n{quick}{text}', encoding="utf-8")
        out = tmp_path / name
        words = (
            "plan",
            "sphere-35mm",
            "--protocol",
            str(protocol),
            "--direction",
            "0,0",
            "-o",
            str(out),
            "--strict",
        )
        code, said = run(capsys, monkeypatch, *words)
        codes[name] = code, Plan.load(out).evaluation.goals, said
    assert codes["without"][0] == 0
    code, judged, said = codes["with"]
    assert code == 1
    assert (judged[-1].met, judged[-1].value, judged[-1].reason) == (None, None, "no such structure")
    assert "1 of 2 met, 1 not checked" in said


def test_a_metric_that_a_structure_cannot_have_is_not_checked(folder):
    plan = Plan.load(folder)
    evaluation = plan.evaluation.model_copy(
        update={"structures": {"GTV": {"D90_gy": 131.0}, "Nerve": {"D2cc_gy": None}}}
    )
    goal = Goal(roi="Nerve", metric="D2cc_gy", op="<=", limit=60.0)
    (found,) = judge(evaluation, [goal], [_Target("GTV", 120.0)])
    assert (found.met, found.reason) == (None, "Nerve has no D2cc_gy")


class _Target:
    def __init__(self, name, gy):
        self.name, self.prescription_gy = name, gy


def test_a_cohort_has_a_column_for_each_state(tmp_path, monkeypatch, folder):
    plan = Plan.load(folder)
    monkeypatch.setattr(brachy.optimise, "plan", lambda *given, **wanted: plan)
    found = work._plan("sphere-35mm", {}, None).metrics
    states = [rule.status for rule in plan.rules]
    for state in ("kept", "broken", "reported", "not checked"):
        assert found[f"rules_{state.replace(' ', '_')}"] == states.count(state)
