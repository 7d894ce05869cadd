"""The report of a plan: all that it must say is there, as text, and its pictures hold what the CT holds."""

import base64
import csv
import io
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from brachy.errors import BrachyError
from brachy.io.phantom.file import load_phantom
from brachy.output import csv_tables
from brachy.output.figures import cuts
from brachy.output.report import render_report, write_report
from brachy.output.report.charts import dvh_figure
from brachy.output.report.needle_chart import chart_rows
from brachy.output.report.picture import HU_KNOTS, encode, path_of, slice_pictures, window_table
from brachy.output.report.rendering import css_text
from brachy.patient.access_record import AccessRecord
from tests.report_cases import HOSTILE, QUOTED, hostile_case, report_inputs, report_plan
from tests.small_plan import needle

LENGTHS = [4.5, 4.5, 4.55]
"""Capsules of the plan's sources, mm: Amersham 6711 and Bard STM1251 (their source files)."""


class Page(HTMLParser):
    """Tags, references and text of a page as a browser takes them."""

    def __init__(self, page):
        super().__init__(convert_charrefs=True)
        self.tags, self.links, self.words, self.inside = [], [], [], []
        self.feed(page)
        self.text = " ".join(" ".join(self.words).split())

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.links += [value for name, value in attributes if name in ("src", "href", "xlink:href", "action")]
        self.inside.append(tag) if tag in ("script", "style") else None

    def handle_endtag(self, tag):
        if self.inside and self.inside[-1] == tag:
            self.inside.pop()

    def handle_data(self, data):
        if not self.inside:
            self.words.append(data)


@pytest.fixture(scope="module")
def page():
    plan, case = report_plan(), hostile_case()
    return render_report(
        plan,
        case,
        **report_inputs(plan, case),
        template_notes=["the printed template touches <b>the skin</b>"],
    )


def test_nothing_is_loaded_from_anywhere(page):
    read = Page(page)
    assert read.links
    assert all(link.startswith(("data:image/png;base64,", "#")) for link in read.links)
    assert "default-src 'none'" in page
    style = re.search(r"<style>(.*?)</style>", page, re.DOTALL).group(1)
    assert "url(" not in style
    assert "@import" not in style


def test_names_are_text(page):
    read = Page(page)
    assert read.tags.count("script") == 5  # windows, two figures, Plotly, the page's own
    assert read.text.count(HOSTILE) >= 6
    assert QUOTED in read.text
    assert "the printed template touches <b>the skin</b>" in read.text
    assert "<b>the" not in page
    assert HOSTILE not in page


def test_all_that_the_plan_says_is_said(page):
    text = Page(page).text
    plan = report_plan()
    for word in (
        plan.checksum[:12],
        "2026-01-12",
        "amersham_6711",
        "bard_stm1251",
        "✓ met",
        "✗ broken",
        "✓ kept",
        "✗ FAILED",
        "1.25 mm",
        "≥ 2 mm",
        "water everywhere",
        "implanted on the day of the CT",
        "target below the prescription",
        "Not a medical device",
    ):
        assert word in text, word
    for source in plan.protocol.citations.values():
        assert " ".join(source.split()) in text
    assert "1 of 1 met" in text
    assert "1 kept, 1 broken" in text
    assert "fail: 0 passed, 1 FAILED" in text


def test_how_the_patient_lies_stands_beside_the_ct():
    case = hostile_case()
    for position, down, words in (
        ("HFDR", (-1, 0, 0), "Patient lies head first, on the right side (HFDR)"),
        ("", None, "Patient lies not known: nothing is barred as from below"),
    ):
        plan = report_plan(access=AccessRecord(patient_position=position, down=down))
        assert words in Page(render_report(plan, case, **report_inputs(plan, case))).text


def test_a_missed_goal_says_so():
    plan, case = report_plan(), hostile_case()
    goal = plan.evaluation.goals[0].model_copy(update={"met": False})
    evaluation = plan.evaluation.model_copy(update={"goals": (goal,)})
    plan = plan.model_copy(update={"evaluation": evaluation})
    text = Page(render_report(plan, case, **report_inputs(plan, case))).text
    assert "✗ missed" in text
    assert "0 of 1 met" in text


def test_same_plan_same_page(page):
    plan, case = report_plan(), hostile_case()
    notes = ["the printed template touches <b>the skin</b>"]
    assert render_report(plan, case, **report_inputs(plan, case), template_notes=notes) == page


def test_the_chart_has_every_needle_in_order_with_its_loading(page):
    plan = report_plan()
    ordered = csv_tables.in_order_of_insertion(plan)
    rows = chart_rows(plan, hostile_case().structures)
    assert [row.name for row in rows] == [cuts.needle_name(plan, needle) for needle in ordered]
    text = Page(page).text
    for row, wanted in zip(rows, ordered, strict=True):
        assert row.loading == csv_tables.loading_text(wanted, LENGTHS, "loose")
        outside = 150.0 - wanted.depth_mm
        shown = " ".join(f"{value:.1f}" for value in (wanted.depth_mm, wanted.depth_from_skin_mm, outside))
        layer = csv_tables.layer_of(wanted, plan)
        assert f"{row.name} {layer:+d} {shown}".replace("+0", "0") in re.sub(r"(\d) \.(\d)", r"\1.\2", text)
        assert row.loading in text
        assert f"{wanted.depth_mm:.0f}" in text


def test_nearest_on_the_way_against_brute_force():
    bone = hostile_case().structures[-1]
    radius = 0.65
    path = needle("A1", 0, (-18.0, -60.0, 101.0), (0.0, 0.8, 0.6), 100.0, (2.25,), (0,))
    name, gap, depth = csv_tables.nearest_obstacle(path, [bone], radius)
    depths = np.linspace(0.0, 100.0, 20001)
    away = bone.distance_mm(np.array(path.hole_mm) + depths[:, None] * np.array(path.direction))
    assert name == HOSTILE
    assert gap == pytest.approx(away.min() - radius, abs=0.005)
    # a stretch of the path may be as near all along: the distance at the depth found is what counts
    assert np.interp(depth, depths, away) == pytest.approx(away.min(), abs=0.005)
    plan = report_plan(needles=(path,), templates=report_plan().templates)
    (row,) = csv.DictReader(io.StringIO(csv_tables.needles_csv(plan, [bone]), newline=""))
    assert (row["nearest"], float(row["nearest_mm"])) == (HOSTILE, pytest.approx(gap, rel=1e-5))
    assert float(row["nearest_depth_mm"]) == pytest.approx(depth, rel=1e-5)
    assert csv_tables.nearest_obstacle(path, [bone], radius, within_mm=gap - 0.1)[0] == ""


def test_every_slice_with_seeds_is_printed():
    plan, case = report_plan(), hostile_case()
    seeds = [(n.hole, np.array(s.position_mm)) for n in plan.needles for s in n.seeds]
    pictures = slice_pictures(
        case,
        cuts.region_of(plan, case),
        seeds,
        structures=case.structures,
        plan=plan,
        model=plan.dose_model(),
    )
    printed = [int(re.search(r"CT slice (\d+)", p.title).group(1)) - 1 for p in pictures if p.printed]
    in_ct = [k for k in cuts.slices_with_seeds(plan, case.grid) if 0 < k < case.grid.shape[0] - 1]
    assert set(in_ct) <= set(printed)
    drawn = [mark for picture in pictures for mark in picture.seeds]
    index = case.grid.mm_to_index(np.array([place for _, place in seeds]))[:, 2]
    inside = ((index > -0.5) & (index <= case.grid.shape[0] - 0.5)).sum()
    assert len(drawn) == inside > 0


def test_an_image_holds_the_ct_numbers():
    hu = np.arange(-1200, 2400, dtype=np.int16).reshape(60, 60)
    grey = np.asarray(Image.open(io.BytesIO(base64.b64decode(encode(hu)))))
    steps, values = np.transpose(HU_KNOTS)
    back = np.interp(grey, steps, values)
    soft = (hu >= -200) & (hu <= 300)
    assert np.abs(back - hu)[soft].max() <= 1.26  # half of 2.5 HU a step, and rounding
    assert np.abs(back - np.clip(hu, -1000, 2000)).max() <= 28.4  # half of 56.7


def test_window_as_a_table_of_greys():
    table = np.array(window_table(-160.0, 240.0).split(), dtype=float)
    assert len(table) == 256
    assert table[0] == 0
    assert table[-1] == 1
    assert (np.diff(table) >= 0).all()
    steps, values = np.transpose(HU_KNOTS)
    middle = int(np.interp(40.0, values, steps))
    assert table[middle] == pytest.approx(0.5, abs=0.004)


def test_a_path_is_its_ring():
    random = np.random.default_rng(5)
    ring = np.cumsum(random.normal(size=(200, 2)), axis=0)
    numbers = [int(text) for text in re.findall(r"-?\d+", path_of(ring))]
    corners = np.cumsum(np.reshape(numbers, (-1, 2)), axis=0) / 10.0
    gaps = np.linalg.norm(ring[:, None] - corners[None], axis=2).min(axis=1)
    assert gaps.max() < 0.0708  # half a tenth in x and in y


def test_curves_keep_their_values():
    gy = np.linspace(0.0, 500.0, 5001)
    cc = 40.0 * np.exp(-((gy / 150.0) ** 4))
    figure = dvh_figure({"GTV": (gy, cc)}, 120.0, ["GTV"])
    (trace,) = figure["data"]
    x, y = (np.frombuffer(base64.b64decode(trace[axis]["bdata"]), dtype="<f4") for axis in "xy")
    assert len(x) <= 300
    assert np.interp(120.0, x, y) == pytest.approx(100.0 * np.exp(-(0.8**4)), abs=0.05)


def test_a_css_string_cannot_be_left():
    assert '"' not in css_text('"; } body { display: none')
    assert css_text("P17") == "P17"


def test_the_liver_phantom_fits_the_limit_of_15_mb():
    case = load_phantom("liver-metastasis")
    centre = case.structure("GTV").centroid_mm
    plan = report_plan()
    template = plan.templates[0].model_copy(
        update={"origin_mm": tuple(centre - [40.0, 110.0, 30.0]), "columns": 9}
    )
    needles = tuple(
        needle(f"{'ABCDEFGHI'[c]}{r}", 0, np.array(template.origin_mm) + [10 * c, 0, 10 * (r - 1)], (0.0, 1.0, 0.0),
               120.0, (2.25, 12.25, 22.25), (0, 0, 0))
        for c in range(1, 8) for r in range(1, 7)
    )  # fmt: skip
    plan = plan.model_copy(update={"templates": (template,), "targets": plan.targets[:1], "needles": needles})
    curves = {"GTV": ([0.0, 100.0, 300.0], [3.0, 2.0, 0.0])}
    page = render_report(plan, case, structures=case.structures, dose=None, curves=curves)
    assert page.count('class="cut') > 40
    assert len(page.encode("utf-8")) < 15_000_000


def test_written_whole_or_not_at_all(tmp_path):
    plan, case = report_plan(), hostile_case()
    with pytest.raises(BrachyError, match="cannot write"):
        write_report(plan, case, tmp_path / "none" / "report.html", **report_inputs(plan, case))
    assert list(tmp_path.iterdir()) == []
