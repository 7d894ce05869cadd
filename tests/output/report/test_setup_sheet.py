"""The set-up sheet: words against a table by hand, marks on the skin against an ellipse, distances by marching."""

import base64
import math
import re

import numpy as np
import pytest

from brachy.geometry.structures import Structure
from brachy.io.phantom.file import load_phantom
from brachy.needles.template import needle_direction
from brachy.optimise import plan as make
from brachy.output.csv_tables import direction_angles
from brachy.output.report import render_report
from brachy.output.report.needle_chart import chart_rows
from brachy.output.report.setup_drawings import Outline
from brachy.output.report.setup_sheet import first_skin, set_ups, skin_mark
from brachy.output.report.setup_words import Lie, pointing
from brachy.output.report.template_sheet import hole_rows
from brachy.patient.access_record import AccessRecord
from tests.browser import chromium, open_page
from tests.output.test_angled_needles import angled_plan
from tests.quick_protocol import QUICK
from tests.report_cases import report_inputs

DOWN = {"HFS": (0, 1, 0), "HFP": (0, -1, 0), "HFDR": (-1, 0, 0), "HFDL": (1, 0, 0)}


def lying(position):
    down = np.array(DOWN[position], dtype=float)
    return Lie(down, np.cross(down, (0.0, 0.0, 1.0)), True)


@pytest.mark.parametrize(
    ("position", "azimuth", "tilt", "words"),
    [
        # azimuth 0 enters in front, 90 at the patient's left, 180 at the back, 270 at the right
        ("HFS", 0, 0, "from straight above"),
        ("HFS", 90, 0, "from the left, horizontal"),
        ("HFS", 250, -15, "from the right, 20 degrees below the horizontal, tip toward the feet 15 degrees"),
        ("HFS", 320, 10, "from the right, 50 degrees above the horizontal, tip toward the head 10 degrees"),
        ("HFP", 180, 0, "from straight above"),
        ("HFP", 250, 0, "from the right, 20 degrees above the horizontal"),
        ("HFDR", 90, 0, "from straight above"),
        ("HFDR", 30, 0, "from the front, 30 degrees above the horizontal"),
        ("HFDL", 200, 0, "from the back, 20 degrees above the horizontal"),
    ],
)
def test_words_of_a_direction(position, azimuth, tilt, words):
    assert pointing(needle_direction(azimuth, tilt), lying(position)).words == words


def test_upright_needles_are_set_from_the_nearer_side():
    down = needle_direction(0)
    assert pointing(down, lying("HFS"), nearer=-50.0).side == "right"
    assert pointing(down, lying("HFS"), nearer=50.0).side == "left"


@pytest.fixture(scope="module")
def body():
    """An elliptic cylinder about (5, -7): half axes 150 and 100 mm."""
    angle = np.linspace(0, 2 * np.pi, 1440, endpoint=False)
    ring = np.column_stack([5 + 150 * np.cos(angle), -7 + 100 * np.sin(angle), np.zeros(1440)])
    rings = tuple(ring + (0.0, 0.0, z) for z in range(-60, 61, 3))
    return Structure("Body", rings, role="external", slice_spacing_mm=3.0)


@pytest.mark.parametrize("position", DOWN)
@pytest.mark.parametrize("degrees", [20.0, 75.0, 130.0, 260.0, 340.0])
def test_the_mark_on_an_ellipse(body, position, degrees):
    """Heights and sides from the ellipse's equation; nothing of the package measures here."""
    case = load_phantom("sphere-35mm")
    lie = lying(position)
    angle = math.radians(degrees)
    skin = np.array([5 + 150 * math.cos(angle), -7 + 100 * math.sin(angle), 12.3])
    found = skin_mark("C4", skin, Outline.of(body, lie), case.grid)
    half = 100.0 if position in ("HFS", "HFP") else 150.0
    centre = np.array([5.0, -7.0, 0.0])
    assert found.below_top_mm == pytest.approx((skin - centre) @ lie.down + half, abs=0.3)
    off = float((skin - centre) @ lie.aside)
    assert found.aside_mm == pytest.approx(off, abs=2.1)  # the outline's ends are found on lines 2 mm apart
    wanted = {
        "HFS": ("right", "left"),
        "HFP": ("left", "right"),
        "HFDR": ("front", "back"),
        "HFDL": ("back", "front"),
    }
    assert found.aside_of in wanted[position]
    x = skin[0] - 5 if position in ("HFS", "HFP") else skin[1] + 7
    negative = {"HFS": "right", "HFP": "right", "HFDR": "front", "HFDL": "front"}[position]
    positive = {"HFS": "left", "HFP": "left", "HFDR": "back", "HFDL": "back"}[position]
    assert found.aside_of == (positive if x >= 0 else negative)


def test_the_distance_to_the_skin_by_marching(body):
    hole, direction = np.array([40.0, -140.0, 5.0]), needle_direction(12.0, 8.0)
    depths = np.arange(0.0, 200.0, 0.01)
    points = hole + depths[:, None] * direction
    inside = ((points[:, 0] - 5) / 150) ** 2 + ((points[:, 1] + 7) / 100) ** 2 <= 1
    assert first_skin(body, hole, direction) == pytest.approx(depths[inside][0], abs=0.05)
    assert first_skin(body, np.array([170.0, -140.0, 0.0]), needle_direction(0)) is None


@pytest.fixture(scope="module")
def made():
    case = load_phantom("liver-metastasis")
    return make(case, QUICK, direction=(320.0, 0.0)), case


def test_every_number_of_the_sheet(made):
    plan, case = made
    (sheet,) = set_ups(
        plan, [s for s in case.structures if s.name in ("Body", "GTV")] + [external(case)], case.grid
    )
    needles = {n.hole: n for n in plan.needles}
    assert sheet.pointing.words == "from the right, 50 degrees above the horizontal"
    assert sheet.deepest_mm == max(n.depth_mm for n in plan.needles)
    assert sheet.mark.z_mm == needles[sheet.mark.hole].skin_mm[2]
    assert sheet.mark.ct_slice == 1 + round(
        (sheet.mark.z_mm - case.grid.origin_mm[2]) / case.grid.spacing_mm[2]
    )
    assert sheet.outside_mm == pytest.approx(
        (150 - max(n.depth_mm for n in plan.needles), 150 - min(n.depth_mm for n in plan.needles))
    )
    said = " ".join(sheet.steps)
    order = [row.name for row in chart_rows(plan)]
    places = [re.search(rf"\b{name}\b", " ".join(sheet.steps[5:7])).start() for name in order]
    assert places == sorted(places)
    assert f"z = {sheet.mark.z_mm:.1f} mm" in said


def test_needles_that_are_in_are_not_inserted_again(made):
    """In the room: the first two needles of the chart are in; no step names them, the rest keep their order."""
    plan, case = made
    order = [row.name for row in chart_rows(plan)]
    within = {
        needle.hole: needle.model_copy(
            update={"seeds": tuple(seed.model_copy(update={"placed": True}) for seed in needle.seeds)}
        )
        for needle in plan.needles
        if needle.hole in order[:2]
    }
    later = plan.model_copy(update={"needles": tuple(within.get(n.hole, n) for n in plan.needles)})
    (sheet,) = set_ups(later, [external(case)], case.grid)
    said = " ".join(sheet.steps)
    assert sheet.steps[0].startswith(f"2 of {len(order)} needles are in")
    assert not any(re.search(rf"\b{name}\b", said) for name in order[:2])
    places = [re.search(rf"\b{name}\b", said).start() for name in order[2:]]
    assert places == sorted(places)
    assert "Lay the patient" not in said


def inputs(plan, case):
    return report_inputs(plan, case) | {"structures": [*case.structures[1:], external(case)]}


def external(case):
    from brachy.patient.anatomy import prepare

    return prepare(case, QUICK).with_role("external")[0]


def test_without_a_patient_position_it_is_said(made):
    plan, case = made
    plan = plan.model_copy(update={"access": AccessRecord()})
    page = render_report(plan, case, **inputs(plan, case))
    assert "drawn as if supine" in page
    assert "How the patient lies is not known" in page


@pytest.mark.slow
def test_sheet_and_chart_print_on_one_page_each_and_the_chart_is_the_plan(made, tmp_path):
    """27 needles on one A4 sheet, 60 on two; each number is read back from the page and compared with the plan."""
    plan, case = made
    many = (plan.needles * 3)[:60]
    sheets = {}
    for count in (27, 60):
        some = plan.model_copy(update={"needles": many[:count]})
        file = tmp_path / f"{count}.html"
        file.write_text(render_report(some, case, **inputs(some, case)), encoding="utf-8")
    (tmp_path / "report.html").write_text(render_report(plan, case, **inputs(plan, case)), encoding="utf-8")
    with chromium(tmp_path / "profile") as browser:
        for count in (27, 60):
            open_page(browser, tmp_path / f"{count}.html")
            for kind in ("chart", "set-up"):
                browser.execute_script(f"document.body.classList.add('{kind}-only')")
                sheets[count, kind] = pages(browser)
                browser.execute_script(f"document.body.classList.remove('{kind}-only')")
        assert sheets == {(27, "chart"): 1, (60, "chart"): 2, (27, "set-up"): 1, (60, "set-up"): 1}
        open_page(browser, tmp_path / "report.html")
        rows = browser.execute_script(
            "return [...document.querySelectorAll('.chart-table tbody tr')].map("
            "(row) => [...row.children].map((cell) => cell.textContent))"
        )
    by_hole = {needle.hole: needle for needle in plan.needles}
    assert {row[1] for row in rows} == set(by_hole)
    for row in rows:
        needle = by_hole[row[1]]
        assert float(row[3]) == pytest.approx(needle.depth_mm, abs=0.051)
        assert float(row[4]) == pytest.approx(needle.depth_from_skin_mm, abs=0.051)
        assert float(row[5]) == pytest.approx(150.0 - needle.depth_mm, abs=0.051)
        count, _, steps = row[6].partition(": tip")
        assert int(count.split()[0]) == len(needle.seeds)
        depths = sorted(seed.depth_mm for seed in needle.seeds)
        back = [float(word) for word in steps.replace(", withdraw ", "").split(", ") if word]
        assert back == pytest.approx(np.diff(depths), abs=0.0051)
        assert "spacer" not in row[6]
    assert direction_angles(plan.templates[0].direction) == ("320", "0")


def pages(browser):
    printed = browser.execute_cdp_cmd("Page.printToPDF", {"printBackground": True, "preferCSSPageSize": True})
    return len(re.findall(rb"/MediaBox", base64.b64decode(printed["data"])))


def test_the_sheet_to_measure_the_print_has_places_and_lean_of_every_hole():
    """Of needles at known angles to the plate: lean and its side by spherical trigonometry here."""
    plan = angled_plan()
    rows = {row.name: row for row in hole_rows(plan)}
    template = plan.templates[0]
    column, row_axis, axis = (np.array(v) for v in (template.column, template.row, template.direction))
    assert len(rows) == len(plan.needles)
    for needle in plan.needles:
        found = rows[needle.hole]
        off = np.array(needle.hole_mm) - np.array(template.origin_mm)
        assert (found.column_mm, found.row_mm) == pytest.approx((off @ column, off @ row_axis), abs=0.006)
        along = np.array(needle.direction)
        assert math.cos(math.radians(found.lean_deg)) == pytest.approx(along @ axis, abs=1e-4)
        if found.lean_deg:
            side = math.radians(found.lean_toward_deg)
            inward = math.cos(side) * column + math.sin(side) * row_axis
            assert along @ inward == pytest.approx(math.sin(math.radians(found.lean_deg)), abs=2e-3)
