"""The report of an implant: what was planned and what was found, side by side, and everything as text."""

import base64
import json
import re

import numpy as np
import pytest

from brachy.dosimetry.dvh import dvh
from brachy.errors import BrachyError, UsageError
from brachy.output.report import render_post_implant
from brachy.postimplant.record import PostImplantRecord, SeedRow
from tests.output.report.test_report import Page
from tests.report_cases import HOSTILE, QUOTED, verification


@pytest.fixture(scope="module")
def page():
    record, case, found, planned = verification()
    return render_post_implant(record, case, found, planned=planned)


def figure(page, name):
    text = re.search(
        rf'<script type="application/json" id="{name}-data">(.*?)</script>', page, re.DOTALL
    ).group(1)
    return json.loads(text)


def values(trace, axis):
    return np.frombuffer(base64.b64decode(trace[axis]["bdata"]), dtype="<" + trace[axis]["dtype"])


def test_says_what_the_record_says(page):
    text = Page(page).text
    for word in (
        "4 found, 4 planned",
        "1 missing, 1 extra",
        "0 of 1 met",
        "residual 0.43 mm",
        "B1.1",
        "101 to 122",
        "-18.5",
        "✗ missed",
        "3 of 4 planned seeds matched",
        "0.42 cc of GTV are below 120 Gy",
        "A further seed would help most at -20.0, -14.5, 113.0 mm",
        "left anterior superior",
        "water everywhere",
        "seeds over 5 mm outside every target",
        "? not checked",
        "2 broken, 1 not checked",
    ):
        assert word in text, word


def test_names_are_text(page):
    assert HOSTILE not in page
    read = Page(page)
    assert read.text.count(HOSTILE) >= 8
    assert QUOTED in read.text
    assert all(link.startswith(("data:image/png;base64,", "#")) for link in read.links)


def test_slices_show_both(page):
    record, _, _, planned = verification()
    assert page.count('<circle class="found" cx="') == len(record.seeds) + 1  # and once in the legend
    assert page.count('<rect class="planned"') == len(planned.labels) + 1
    assert page.count('<path class="shift" d="M') == 3 + 1


def test_curves_of_both_are_those_of_the_seeds(page):
    _, case, found, planned = verification()
    traces = {trace["name"]: trace for trace in figure(page, "dvh")["data"]}
    assert {"GTV, found", "GTV, planned"} <= set(traces)
    target = case.structure("GTV")
    for name, implants in (("GTV, found", found), ("GTV, planned", list(planned.implants))):
        told = dvh(implants, target)
        share = 100.0 * told.V(120.0) / told.volume_cc
        assert np.interp(120.0, values(traces[name], "x"), values(traces[name], "y")) == pytest.approx(
            share, abs=1.0
        )


def test_scene_shows_both_in_place(page):
    record, _, _, planned = verification()
    traces = {trace["name"]: trace for trace in figure(page, "scene")["data"]}
    for name, places in (
        ("planned seeds", planned.positions_mm),
        ("found seeds", np.array([row.position_mm for row in record.seeds])),
    ):
        ends = np.column_stack([values(traces[name], axis) for axis in "xyz"]).reshape(-1, 3, 3)[:, :2]
        assert ends.mean(axis=1) == pytest.approx(places, abs=1e-4)
        assert np.linalg.norm(ends[:, 1] - ends[:, 0], axis=1) == pytest.approx(4.5, abs=1e-4)
    assert len(values(traces["shifts"], "x")) == 3 * 3


def test_without_a_plan_and_with_the_least_of_a_record():
    record, case, found, _ = verification()
    least = PostImplantRecord(
        targets=record.targets,
        evaluation=record.evaluation,
        seeds=tuple(SeedRow(position_mm=row.position_mm) for row in record.seeds),
    )
    text = Page(render_post_implant(least, case, found)).text
    assert "There is no plan to compare with" in text
    assert "4 found" in text


def test_a_record_without_a_target_is_refused():
    record, case, found, _ = verification()
    with pytest.raises(UsageError, match="names no target"):
        render_post_implant(record.model_copy(update={"targets": ()}), case, found)


@pytest.mark.parametrize("broken", [{"format": "brachy-plan"}, {"version": 2}, {"seeds": [{}]}, {"more": 1}])
def test_what_is_no_verification_json_is_refused(broken, tmp_path):
    record, *_ = verification()
    file = tmp_path / "verification.json"
    file.write_text(json.dumps({**record.data(), **broken}))
    with pytest.raises(BrachyError, match=r"verification\.json"):
        PostImplantRecord.load(file)
