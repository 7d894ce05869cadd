"""A metric added to the one list, at run time, is in every table: one planned phantom, all its files."""

import csv
import io
import json

import numpy as np
import pytest

from brachy.cli import console, plan_summary
from brachy.cohort.page import render_cohort
from brachy.cohort.table import table_csv
from brachy.cohort.work import run_case
from brachy.dosimetry import shown_metrics
from brachy.dosimetry.shown_metrics import EVERYWHERE, Column, Table
from brachy.evaluation.robustness import robust_folder
from brachy.output.csv_tables import alternatives_csv
from brachy.output.recompute import dose_volume_table
from brachy.patient.plan import Plan
from tests.quick_protocol import quick_text

ADDED = ("D95_gy", "V120_pct")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Folder and cohort record of a plan that was made with two more metrics in the list."""
    folder = tmp_path_factory.mktemp("metric")
    (folder / "quick.toml").write_text(quick_text())
    options = [("protocol", str(folder / "quick.toml")), ("direction", "0")]
    with pytest.MonkeyPatch.context() as patch:
        more = [Column(name, EVERYWHERE) for name in ADDED]
        patch.setattr(shown_metrics, "METRICS", [*shown_metrics.METRICS, *more])
        record = run_case("plan", 1, "sphere-35mm", options, keep=str(folder))
        assert record.done, record.reason
        yield folder / "000001", record


def test_plan_json(made):
    structures = json.loads((made[0] / "plan.json").read_text())["evaluation"]["structures"]
    for name, values in structures.items():
        assert set(ADDED) <= set(values), name
    assert structures["GTV"]["D100_gy"] < structures["GTV"]["D95_gy"] < structures["GTV"]["D90_gy"]
    assert structures["GTV"]["V150_pct"] < structures["GTV"]["V120_pct"] < structures["GTV"]["V100_pct"]


def test_terminal(made, capsys, monkeypatch):
    monkeypatch.setattr(console, "_OUT", console.Console(width=200))
    plan_summary.show_plan(Plan.load(made[0]), None)
    targets, organs = capsys.readouterr().out.split("Organs")
    for table in (targets, organs):
        assert "D95 Gy" in table
        assert "V120 %" in table


def test_report(made):
    page = (made[0] / "report.html").read_text()
    assert page.count("<th>D95, Gy</th>") == page.count("<th>V120, %</th>") == 2  # targets, organs


def test_dvh_csv(made):
    """`brachy dvh --csv` has the columns; the curve in the plan's dvh.csv has the values of plan.json."""
    values = json.loads((made[0] / "plan.json").read_text())
    target = values["targets"][0]
    expected = values["evaluation"]["structures"][target["roi"]]
    table = dose_volume_table(
        made[0] / "RTDOSE.dcm", made[0] / "RTSTRUCT.dcm", {None: target["prescription_gy"]}
    )
    rows = {row["roi"]: row for row in csv.DictReader(io.StringIO(table.to_csv()))}
    assert float(rows[target["roi"]]["D95_gy"]) == pytest.approx(
        expected["D95_gy"], rel=0.02
    )  # a grid's dose
    assert float(rows[target["roi"]]["V120_pct"]) == pytest.approx(expected["V120_pct"], abs=2.0)
    points = csv.DictReader(io.StringIO((made[0] / "dvh.csv").read_text()))
    curve = [row for row in points if row["roi"] == target["roi"]]
    gy, percent = (np.array([float(row[key]) for row in curve]) for key in ("dose_gy", "volume_pct"))
    assert np.interp(-95.0, -percent, gy) == pytest.approx(expected["D95_gy"], abs=1.0)  # steps of 1 Gy
    above = np.interp(1.2 * target["prescription_gy"], gy, percent)
    assert above == pytest.approx(expected["V120_pct"], abs=0.5)


def test_cohort_table(made):
    (row,) = csv.DictReader(io.StringIO(table_csv([made[1]])))
    structures = json.loads((made[0] / "plan.json").read_text())["evaluation"]["structures"]
    for name in ADDED:
        assert float(row[name]) == pytest.approx(structures["GTV"][name], rel=1e-5)
    page = render_cohort("plan", [made[1]], 1)
    assert page.count("D95, Gy") >= 2  # distributions and cases


def test_alternatives_and_robustness(made):
    (header, *_) = csv.reader(io.StringIO(alternatives_csv([("fewest needles", Plan.load(made[0]))])))
    assert set(ADDED) <= set(header)
    intervals = robust_folder(made[0], samples=4, threads=1).intervals
    assert all(set(ADDED) <= set(rows) for rows in intervals.values())


def test_every_table_has_a_column_and_every_column_a_table():
    names = {table: shown_metrics.metrics_in(table) for table in Table}
    assert all(names.values())
    assert all(column.tables for column in shown_metrics.METRICS)
    assert all(len(set(listed)) == len(listed) for listed in names.values())
