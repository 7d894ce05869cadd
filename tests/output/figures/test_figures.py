"""Figures: what is drawn, where, and that any name is shown as text."""

import subprocess
import sys

import numpy as np
import pytest
from matplotlib.figure import Figure

from brachy.errors import UsageError
from brachy.output.figures.axes import plot_dvh, plot_slice, plot_template
from brachy.patient.palette import PURPLE, WHITE
from tests.small_plan import small_case, small_plan

HOSTILE = "_$x^2$ <b>\\frac{</b>"
CURVES = {
    "cord": ([0.0, 60.0, 120.0], [4.0, 2.0, 0.0]),
    "GTV": ([0.0, 100.0, 200.0], [10.0, 9.0, 0.0]),
    "far away": ([0.0, 2.0, 5.0], [50.0, 1.0, 0.0]),
}


def drawn(axes):
    """The picture as an array of bytes."""
    axes.figure.set_dpi(50)
    axes.figure.canvas.draw()
    return np.asarray(axes.figure.canvas.buffer_rgba())


def legend(axes):
    return [text.get_text() for text in axes.get_legend().get_texts()]


def test_importing_the_package_imports_no_graphics():
    code = (
        "import sys, brachy, brachy.output.figures.axes, brachy.output.printed_template; "
        "print([m for m in ('matplotlib', 'pyvista', 'vtk', 'plotly', 'jinja2', 'manifold3d') if m in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


def test_dvh_curves_are_percent_of_the_volume_with_targets_first():
    axes = plot_dvh(CURVES, prescription_gy=120.0, targets=["GTV"])
    assert legend(axes)[:2] == ["GTV", "cord"]
    assert "1 more" in legend(axes)[2]
    gtv = axes.get_lines()[0]
    assert gtv.get_color() == PURPLE
    assert gtv.get_ydata().tolist() == [100.0, 90.0, 0.0]
    assert axes.get_lines()[1].get_ydata().tolist() == [100.0, 50.0, 0.0]


def test_dvh_without_prescription_shows_all_curves():
    assert legend(plot_dvh(CURVES)) == list(CURVES)


def test_dvh_refuses_what_is_no_curve():
    with pytest.raises(UsageError, match="no dose-volume curve"):
        plot_dvh({})
    with pytest.raises(UsageError, match="'bad' has"):
        plot_dvh({"bad": ([0.0, 1.0], [1.0])})


def test_axes_that_are_given_are_used():
    axes = Figure().add_subplot()
    assert plot_dvh(CURVES, axes=axes) is axes
    assert plot_slice(small_plan(), small_case(), index=4, axes=axes, legend=False) is axes
    assert plot_template(small_plan(), axes=axes, legend=False) is axes


def test_any_name_is_shown_as_it_is():
    axes = plot_dvh({HOSTILE: ([0.0, 1.0], [1.0, 0.0])})
    assert legend(axes) == [HOSTILE]
    assert drawn(axes).std() > 0


def test_a_slice_shows_needles_seeds_and_outlines_in_place():
    plan, case = small_plan(), small_case()
    axes = plot_slice(plan, case, index=5, whole=True)  # z = 115 mm: needle C3 lies in it
    c3 = next(n for n in plan.needles if n.hole == "C3")
    lines = [line.get_xydata() for line in axes.get_lines()]
    assert any(
        len(line) == 2 and np.allclose(line, [c3.hole_mm[:2], c3.tip_mm[:2]], atol=1e-6) for line in lines
    )
    seeds = next(line for line in axes.get_lines() if line.get_marker() == "s")
    assert seeds.get_xydata().tolist() == pytest.approx(np.array([s.position_mm[:2] for s in c3.seeds]))
    assert "1:C3" in [text.get_text() for text in axes.texts]
    assert {"BODY", "GTV", "Rippe löst", "needle", "seed"} <= set(legend(axes))
    assert "nothing drawn" not in legend(axes)
    assert drawn(axes).std() > 10


def test_a_slice_that_is_not_there_is_refused():
    with pytest.raises(UsageError, match="no slice 12: choose one from 0 to 11"):
        plot_slice(small_plan(), small_case(), index=12)


def test_by_default_a_slice_with_seeds_is_shown():
    axes = plot_slice(small_plan(), small_case(), legend=False)
    assert any(line.get_marker() == "s" for line in axes.get_lines())


def test_the_template_shows_each_needle_at_its_hole():
    plan = small_plan()
    axes = plot_template(plan, small_case())
    placed = {text.get_position(): text.get_text() for text in axes.texts}
    expected = {}
    for needle in (n for n in plan.needles if n.template == 0):
        column, row = "ABCD".index(needle.hole[0]), int(needle.hole[1]) - 1
        expected[10.0 * column, 10.0 * row] = str(len(needle.seeds))
    assert expected == {(10, 0): "3", (20, 20): "2", (10, 10): "2", (0, 10): "1", (20, 10): "2"}
    for (x, y), text in expected.items():
        assert any(np.hypot(x - a, y - b) < 1e-6 and text == shown for (a, b), shown in placed.items())
    assert [label.get_text() for label in axes.get_xticklabels()] == ["A", "B", "C", "D"]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["1", "2", "3"]


def test_a_template_that_is_not_there_is_refused():
    with pytest.raises(UsageError, match="2 templates"):
        plot_template(small_plan(), template=2)


def test_needles_are_seen_in_the_legend_on_paper():
    axes = plot_slice(small_plan(), small_case(), index=5, whole=True)
    lines = dict(zip(legend(axes), axes.get_legend().get_lines(), strict=False))
    assert lines["needle"].get_color() != WHITE
