"""Several different good plans: each is what its name says, all on the same candidates, whole or not at all."""

import csv
import json
import sys

import numpy as np
import pytest

from brachy import resources
from brachy.cli import app
from brachy.errors import UsageError
from brachy.optimise import plan, plan_alternatives
from brachy.optimise.alternatives import CRITERIA, weighted
from brachy.patient.plan import Plan
from brachy.patient.protocol import Objective, change
from tests.quick_protocol import AXIAL, SEARCH
from tests.sphere_case import sphere

QUICK = change(
    AXIAL,
    search=SEARCH | {"moves": 20_000, "fine_moves": 10_000, "directions": 5, "layouts": 2},
)


@pytest.fixture(scope="module")
def named():
    return plan_alternatives(sphere(), QUICK, 6, direction=(0, 0))


def loading(plan):
    return {(n.hole, round(s.depth_mm, 3)) for n in plan.needles for s in n.seeds}


def figure(plan, metric):
    return plan.evaluation.structures["GTV"][metric]


def test_the_first_is_the_plan_itself(named):
    alone = plan(sphere(), QUICK, direction=(0, 0))
    assert named[0][0] == "balanced"
    assert named[0][1].to_json() == alone.to_json()


def test_each_is_what_its_name_says_and_no_two_are_the_same(named):
    plans = dict(named)
    base = plans.pop("balanced")
    assert len(plans) >= 2
    loadings = [loading(p) for _, p in named]
    assert all(a != b for i, a in enumerate(loadings) for b in loadings[:i])
    better = {
        "fewest needles": lambda p: len(p.needles) < len(base.needles),
        "fewest seeds": lambda p: p.seed_count < base.seed_count,
        # on samples of its own, so that half a point of the search's whole one may be lost
        "most homogeneous": lambda p: figure(p, "V150_pct") < figure(base, "V150_pct") - 0.5,
        "most conformal": lambda p: figure(p, "CI") > figure(base, "CI"),
        "best covered": lambda p: figure(p, "V100_pct") > figure(base, "V100_pct"),
        "organs best spared": lambda p: p.optimiser.terms["organ"] < base.optimiser.terms["organ"],
    }
    for name, other in plans.items():
        assert better[name](other), name
        assert other.optimiser.alternative == name
        assert not any(rule.broken for rule in other.rules)
        assert all(goal.met for goal in other.evaluation.goals if goal.required)
        assert other.templates == base.templates
        # with the same weights the search's own optimum is not beaten by what was searched for something else by much
        assert other.optimiser.objective > 0.97 * base.optimiser.objective


def test_any_number_of_threads_gives_the_same(named):
    again = plan_alternatives(sphere(), QUICK, 3, direction=(0, 0), threads=1)
    assert [name for name, _ in again] == [name for name, _ in named][:3]
    assert [p.to_json() for _, p in again] == [p.to_json() for _, p in named[:3]]


def test_less_than_one_is_refused():
    with pytest.raises(UsageError, match="ask for 1 or more"):
        plan_alternatives(sphere(), QUICK, 0)


def run(monkeypatch, *words):
    monkeypatch.setattr(sys, "argv", ["brachy", *words])
    with pytest.raises(SystemExit) as leave:
        app.main()
    return int(leave.value.code or 0)


def test_the_command_writes_a_folder_each_and_one_table(tmp_path, capsys, monkeypatch):
    protocol = tmp_path / "quick.toml"
    text = (resources.find("plans", "liver-metastasis").read_text()).replace(
        "[direction]",
        "[search]\nstarts = 1\nmoves = 10000\nfine_moves = 5000\nscan_moves = 500\n\n[direction]",
        1,
    )
    protocol.write_text(text)
    out = tmp_path / "out"
    case = ["plan", "sphere-35mm", "--protocol", str(protocol), "--direction", "0"]
    assert run(monkeypatch, *case, "--alternatives", "2", "-o", str(out)) == 0
    shown = capsys.readouterr()
    assert "Alternatives" in shown.out
    with (out / "alternatives.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [row["plan"] for row in rows] == ["balanced", rows[1]["plan"]]
    for row in rows:
        found = Plan.load(out / row["folder"])
        assert int(row["seeds"]) == found.seed_count
        assert int(row["needles"]) == len(found.needles)
        assert float(row["V100_pct"]) == figure(found, "V100_pct")
        assert json.loads((out / row["folder"] / "plan.json").read_text())["check"]["verdict"] == "pass"
        files = {"RTPLAN.dcm", "RTDOSE.dcm", "needles.csv", "placed.csv", "report.html", "template.stl"}
        assert files <= {path.name for path in (out / row["folder"]).iterdir()}
    assert run(monkeypatch, *case, "--alternatives", "2", "--json") == 2
    assert "-o OUT" in capsys.readouterr().err
    assert run(monkeypatch, *case, "--alternatives", "0", "-o", str(tmp_path / "b")) == 2
    assert not (tmp_path / "b").exists()


def test_a_wish_raises_its_own_weights_alone():
    for criterion in CRITERIA:
        one, two = (weighted(Objective(), criterion, strength) for strength in (1.0, 2.0))
        for name in Objective.model_fields:
            values = np.array([getattr(o, name) for o in (Objective(), one, two)], dtype=float)
            assert bool((np.diff(values) > 0).all()) == (name in criterion.factors)
