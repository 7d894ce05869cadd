"""Cuts through a patient: where things appear, against geometry written down by hand and the dose engine."""

import numpy as np
import pytest

from brachy.dosimetry import tg43
from brachy.dosimetry.implant import Implant
from brachy.dosimetry.model import dose_model
from brachy.dosimetry.source import load_source
from brachy.geometry.grid import Grid
from brachy.geometry.structures import Structure
from brachy.output.figures import cuts
from brachy.patient.case import Case
from tests.small_plan import circle, small_case, small_plan

STORED = {
    "supine": np.eye(3),
    "prone": np.diag([-1.0, -1.0, 1.0]),
    "feet first": np.diag([-1.0, 1.0, -1.0]),
    "head to feet": np.diag([1.0, 1.0, -1.0]),
    "rows and columns exchanged": np.eye(3)[:, [1, 0, 2]],
}


@pytest.mark.parametrize("direction", STORED.values(), ids=STORED)
def test_the_patients_left_is_on_the_right_and_the_front_on_top_however_the_ct_is_stored(direction):
    grid = Grid((3.0, -7.0, 11.0), (2.0, 2.5, 3.0), (5, 20, 24), direction)
    left_front = np.array([0.0, 0.0, 0.0])
    corners = grid.corners_mm()
    left_front[0], left_front[1] = corners[:, 0].max() - 4.0, corners[:, 1].min() + 4.0
    left_front[2] = grid.index_to_mm([[0, 0, 2]])[0, 2]
    hu = np.zeros(grid.shape, dtype=np.int16)
    x, y, z = np.round(grid.mm_to_index(left_front[None])[0]).astype(int)
    hu[z, y, x] = 1000
    cut = cuts.slice_cut(grid, 2)
    shown = cuts.ct_on(cut, Case(hu, grid))
    row, column = np.unravel_index(int(shown.argmax()), shown.shape)
    assert shown.max() == 1000
    assert column > 0.7 * shown.shape[1]
    assert row < 0.3 * shown.shape[0]
    assert cuts.edge_letters(cut) == ("R", "L", "A", "P")
    assert cut.centres_mm()[int(shown.argmax())] == pytest.approx(grid.index_to_mm([[x, y, z]])[0])


def test_sagittal_and_coronal_slices_have_the_head_on_top():
    sagittal = Grid((0, 0, 0), (1, 1, 1), (3, 4, 5), np.array([[0, 0, 1], [1, 0, 0], [0, 1, 0]]))
    coronal = Grid((0, 0, 0), (1, 1, 1), (3, 4, 5), np.array([[1, 0, 0], [0, 0, 1], [0, 1, 0]]))
    assert cuts.edge_letters(cuts.slice_cut(sagittal, 0)) == ("A", "P", "H", "F")
    assert cuts.edge_letters(cuts.slice_cut(coronal, 0)) == ("R", "L", "H", "F")


def test_a_window_keeps_the_pixels_of_the_slice():
    case = small_case()
    whole = cuts.slice_cut(case.grid, 4)
    part = cuts.slice_cut(case.grid, 4, around_mm=[[-20.0, -20.0, 0.0], [-2.0, -1.0, 0.0]])
    hu = case.ct_hu[4]
    assert (cuts.ct_on(whole, case) == hu).all()
    assert (cuts.ct_on(part, case) == hu[10:19, 10:20]).all()


def test_outside_the_ct_is_air():
    case = small_case()
    cut = cuts.oblique_cut(case.grid.origin_mm, [1, 0, 0], [0, 1, 0], (20.0, 20.0), 2.0)
    shown = cuts.ct_on(cut, case)
    assert (shown[:, 0] == cuts.AIR_HU).all()
    assert shown[5, 5] == case.ct_hu[0, 0, 0]


def box():
    square = [[-10.0, -6], [10, -6], [10, 6], [-10, 6]]
    return Structure("box", [[(*corner, z) for corner in square] for z in range(-8, 9, 2)])


@pytest.mark.parametrize(
    ("right", "down", "half"),
    [
        ((1, 0, 0), (0, 1, 0), (10, 6)),
        ((1, 0, 0), (0, 0, -1), (10, 9)),
        ((0, 0.6, 0.8), (1, 0, 0), (7.5, 10)),
    ],
)
def test_the_outline_of_a_box_has_its_edges(right, down, half):
    cut = cuts.oblique_cut((0, 0, 0), right, down, (60.0, 60.0), 0.5)
    (ring,) = cuts.outlines_on(cut, box())
    # y is within 6 and z within 9: along (0, .6, .8) the box ends at 6 / .6 = 10 or 9 / .8 = 11.25
    expected = (10.0, 10.0) if half == (7.5, 10) else half
    assert np.abs(ring).max(axis=0) == pytest.approx(expected, abs=0.3)
    assert ring[0] == pytest.approx(ring[-1])


def test_no_outline_where_the_plane_passes_by():
    for middle, right, down in (((0, 0, 9.5), (1, 0, 0), (0, 1, 0)), ((0, 6.5, 0), (1, 0, 0), (0, 0, -1))):
        assert cuts.outlines_on(cuts.oblique_cut(middle, right, down, (60, 60), 1.0), box()) == []
    assert cuts.outlines_on(cuts.slice_cut(small_case().grid, 0), Structure("none", [])) == []


def test_isodose_lines_run_where_the_dose_is():
    seeds = Implant(load_source("amersham_6711"), [[0, 0, 0], [9, 4, 3]], strength_U=3.0)
    cut = cuts.oblique_cut((2, 1, 1), (0.8, 0, 0.6), (0, 1, 0), (60, 60), 0.5)
    levels = [60.0, 120.0]
    for level, lines in zip(
        levels, cuts.isodoses_on(cut, cuts.dose_on(cut, dose_model(seeds)), levels), strict=True
    ):
        assert lines
        flat = np.concatenate(lines)
        places = flat @ cut.direction[:, :2].T + (cut.origin_mm @ cut.direction[:, 2]) * cut.direction[:, 2]
        assert tg43.dose(places, seeds) == pytest.approx(level, rel=0.03)


def test_paths_and_seeds_belong_to_one_slice():
    plan = small_plan()
    grid = Grid((-60, -120, 80), (1, 1, 3), (20, 150, 120))
    found = [name for k in range(20) for name, _ in cuts.seeds_on(cuts.slice_cut(grid, k), plan, 1.5)]
    assert len(found) == len(set(found)) == plan.seed_count
    assert "2:AB1.2" in found
    (c3,) = [n for n in plan.needles if n.hole == "C3"]
    cut = cuts.slice_cut(grid, 12)  # z = 116, the needle at z = 115
    (path,) = cuts.paths_on(cut, [c3], 1.5)
    assert path.ends.tolist() == pytest.approx(np.array([c3.hole_mm[:2], c3.tip_mm[:2]]))
    assert cuts.paths_on(cuts.slice_cut(grid, 10), [c3], 1.5) == []


def test_a_crossing_needle_is_cut_to_the_slice():
    (needle,) = [n for n in small_plan().needles if n.hole == "AB1"]
    middle = 0.5 * (np.array(needle.hole_mm) + np.array(needle.tip_mm))
    cut = cuts.oblique_cut(middle, (1, 0, 0), (0, 1, 0), (100, 100), 1.0)
    (path,) = cuts.paths_on(cut, [needle], 2.0)
    # rises by 0.48 mm a mm: 4 mm of height are 8.33 mm of needle, of which 0.6 and 0.64 to the side
    assert path.ends[1] - path.ends[0] == pytest.approx(np.array([-0.6, 0.64]) * 4.0 / 0.48, abs=1e-4)


def test_slices_with_seeds_are_the_nearest_ones():
    plan, grid = small_plan(), small_case().grid
    listed = cuts.slices_with_seeds(plan, grid)
    depth = (np.array([s.position_mm[2] for n in plan.needles for s in n.seeds]) - 100.0) / 3.0
    assert set(listed) == {int(k) for k in np.clip(np.round(depth), 0, 11)}


def test_the_cut_across_a_template_has_its_holes_on_a_lattice():
    plan = small_plan()
    cut = cuts.template_cut(plan, 0, 50.0)
    first = plan.templates[0]
    assert cuts.off_plane(cut, np.array([first.origin_mm])) == pytest.approx(-50.0)  # 50 mm deeper
    assert cuts.edge_letters(cut) == ("R", "L", "H", "F")
    target = Structure("GTV", [circle((0, -70, 95.0 + z), 8.0) for z in (0, 3, 6)])
    assert cuts.middle_depth(plan, 0, [target]) == pytest.approx(40.0)
