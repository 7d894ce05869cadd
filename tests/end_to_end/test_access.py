"""Whole plans of patients who lie in several ways: needles are followed on the CT by geometry of this test's own."""

from dataclasses import replace

import numpy as np
import pytest

from brachy.errors import BrachyError
from brachy.io.load import load_case
from brachy.optimise import plan
from brachy.patient.anatomy import prepare
from brachy.patient.case import Case
from brachy.patient.protocol import change
from tests.access_cases import DOWN, dense_outside, line_of, lying, positioned
from tests.quick_protocol import AXIAL

QUICK = {"starts": 1, "moves": 500, "fine_moves": 0, "scan_moves": 200, "directions": 1, "layouts": 1}
LIVER = AXIAL
RULES = change(LIVER, search=QUICK, direction={"azimuth_step_deg": 30.0})
COARSE = change(LIVER, search=QUICK, direction={"azimuth_step_deg": 15.0})


def external_of(case, rules):
    (external,) = prepare(case, rules).with_role("external")
    return external


def must_be_clear(made, case, down):
    """No needle line meets what the CT shows outside the patient, and none comes from below."""
    external = external_of(case, made.protocol)
    behind = made.protocol.needle.max_needle_mm
    for needle in made.needles:
        points = line_of(needle, behind)
        assert not dense_outside(case, external, points).any(), needle.hole
        if down is not None:
            angle = np.degrees(np.arccos(np.clip(-np.array(needle.direction) @ down, -1, 1)))
            assert angle > 60 - 0.01
            assert (points @ down).max() < (external.bounds_mm @ down).max() + 10.0  # a couch is under it


def must_enter_through_skin(made, case):
    """Where a needle passes from air into the patient, both lie within the image, a slice or voxel from its border."""
    grid, hu = case.grid, np.asarray(case.ct_hu)
    inner = np.array(grid.shape[::-1]) - 1.0
    for needle in made.needles:
        index = grid.mm_to_index(np.array([needle.skin_mm]))[0]
        assert (index >= 0.5).all(), needle.hole
        assert (index <= inner - 0.5).all(), needle.hole
        before = np.array(needle.skin_mm) - np.arange(4.0, 12.0, 0.5)[:, None] * np.array(needle.direction)
        seen = np.rint(grid.mm_to_index(before)).astype(int)
        x, y, z = seen[((seen >= 0) & (seen <= inner)).all(axis=1)].T
        assert len(x), needle.hole
        assert hu[z, y, x].min() < -300, needle.hole  # air is seen where the needle comes from


@pytest.mark.parametrize("position", ["HFS", "HFP", "FFS", "FFP", "HFDR", "FFDL"])
def test_no_needle_comes_through_the_couch(position):
    case = lying(position)
    made = plan(case, RULES)
    down = np.array([*DOWN[position[2:]], 0.0])
    must_be_clear(made, case, down)
    must_enter_through_skin(made, case)
    rows = {row.azimuth_deg: row.outcome for row in made.optimiser.directions[0].tried}
    from_below = {0: "P", 90: "DL", 180: "S", 270: "DR"}
    (barred,) = [azimuth for azimuth, lies in from_below.items() if lies == position[2:]]
    near = [(barred - 30) % 360, barred, (barred + 30) % 360]
    assert sorted(a for a, outcome in rows.items() if outcome.startswith("from below: ")) == sorted(near)
    assert rows[barred] == "from below: 0 degrees off straight below, 60 are the least"
    assert made.access.patient_position == position


def test_the_couch_is_not_on_the_image_but_the_position_is_known():
    case = lying("HFS", couch=False)
    made = plan(case, RULES)
    must_be_clear(made, case, np.array([0.0, 1.0, 0.0]))
    assert any("the couch's top is taken at the lowest point of 'Body'" in note for note in made.assumed)
    with pytest.raises(BrachyError, match="from below: 0 degrees off straight below, 60 are the least"):
        plan(case, RULES, direction=(180, 0))


def test_without_a_position_nothing_is_barred_and_it_is_said():
    case = lying("HFS", couch=False)
    made = plan(positioned(case, ""), RULES, direction=(180, 0))
    assert any("the CT has no patient position: nothing is barred" in note for note in made.assumed)
    assert made.access.down is None


def test_a_couch_on_the_image_is_an_obstacle_whatever_the_position():
    case = positioned(lying("HFS"), "")
    with pytest.raises(BrachyError, match=r"in the way are couch \(\d+ holes\)"):
        plan(case, RULES, direction=(180, 0))


def test_beyond_the_sector():
    rules = change(RULES, access={"azimuth_deg": [300, 420]})
    made = plan(lying("HFS"), rules)
    rows = {row.azimuth_deg: row.outcome for row in made.optimiser.directions[0].tried}
    inside = {300, 330, 0, 30, 60}
    assert {a for a, outcome in rows.items() if outcome.startswith("beyond the sector: ")} == set(
        rows
    ) - inside


def test_old_plans_have_no_access_and_are_written_as_they_were(tmp_path):
    from brachy.patient.plan import Plan

    made = plan(lying("HFS"), RULES)
    data = made.model_dump(mode="json")
    assert data["access"]["down"] == [0, 1, 0]
    assert data["protocol"]["access"]["bore_mm"] == 700
    del data["access"], data["protocol"]["access"]
    old = Plan.model_validate(data)
    assert old.access is None
    assert old.sealed().model_dump(mode="json") == {**data, "checksum": old.sealed().checksum}


@pytest.fixture(scope="module")
def real(shared):
    return load_case(shared / "data" / "liver_abdomen" / "RTSTRUCT.dcm")


@pytest.fixture(scope="module")
def supine(real):
    return plan(real, COARSE)


def test_real_ct(real, supine):
    must_be_clear(supine, real, np.array([0.0, 1.0, 0.0]))
    must_enter_through_skin(supine, real)
    assert supine.access.couch_top_mm == pytest.approx(-18.8, abs=0.1)  # as read off the outline


def test_real_ct_prone(real):
    """The same image as if the patient lay on the front: then the front is barred, and the couch bars the back."""
    made = plan(positioned(real, "HFP"), COARSE)
    must_enter_through_skin(made, real)
    down = np.array([0.0, -1.0, 0.0])
    must_be_clear(made, real, down)


def test_real_ct_turned_over(real, supine):
    """Image, structures and position turned by half a turn about the long axis: the plan turns with the patient."""
    turn = np.diag([-1.0, -1.0, 1.0, 1.0])
    grid = real.grid
    far = grid.index_to_mm([grid.shape[2] - 1, grid.shape[1] - 1, 0])
    turned = type(grid)(far * [-1, -1, 1], grid.spacing_mm, grid.shape, grid.direction)
    hu = np.ascontiguousarray(np.asarray(real.ct_hu)[:, ::-1, ::-1])
    structures = [s.moved(turn) for s in real.structures]
    case = Case(hu, turned, structures, replace(real.identity, patient_position="HFP"), real.inputs)
    made = plan(case, COARSE)
    must_be_clear(made, case, np.array([0.0, -1.0, 0.0]))
    (mine,) = [row for row in made.optimiser.directions[0].tried if row.outcome == "chosen"]
    (theirs,) = [row for row in supine.optimiser.directions[0].tried if row.outcome == "chosen"]
    assert (mine.azimuth_deg - theirs.azimuth_deg) % 360 == 180


def test_real_ct_without_couch(real):
    """The couch is painted over with air, the position kept: still nothing from below."""
    (external,) = [s for s in real.structures if s.role == "external" or s.name == "BODY"]
    hu = np.array(real.ct_hu)
    hu[external.fraction_mask(real.grid) == 0] = -1000
    case = Case(hu, real.grid, real.structures, real.identity, real.inputs)
    made = plan(case, COARSE)
    assert made.access.things == ()
    must_be_clear(made, case, np.array([0.0, 1.0, 0.0]))
    (tried,) = made.optimiser.directions
    below = {row.azimuth_deg for row in tried.tried if row.outcome.startswith("from below")}
    assert below == {135, 150, 165, 180, 195, 210, 225}
