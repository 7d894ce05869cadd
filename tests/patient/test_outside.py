"""Couch and other things outside the patient, painted into a CT whose truth is known."""

from dataclasses import replace

import numpy as np

from brachy.geometry.grid import Grid
from brachy.geometry.structures import Structure
from brachy.patient.anatomy import prepare
from brachy.patient.case import Case
from brachy.patient.outside import OUTSIDE_NAME, dense_blocks
from brachy.patient.protocol import change, load_protocol
from brachy.patient.roles import UNDOSED
from tests.access_cases import GAP_MM, HALF, lying
from tests.needle_cases import box, ellipsoid

RULES = load_protocol("liver-metastasis")


def things(case, rules=RULES):
    return [s for s in prepare(case, rules).structures if s.role == "device"]


def test_a_couch_is_found_where_it_is():
    case = prepare(lying("HFS"), RULES)
    (couch,) = case.with_role("device")
    low, high = couch.bounds_mm
    block = float(case.grid.spacing_mm[0])  # every voxel is a block of its own
    assert couch.name == OUTSIDE_NAME
    assert couch.basis.source == "ct"
    assert abs(low[1] - (HALF[1] + GAP_MM)) < block
    assert abs(high[1] - (HALF[1] + GAP_MM + 12.0)) < block
    assert any("things outside the patient" in note for note in case.assumed)


def test_every_voxel_of_the_couch_lies_within_its_structure():
    case = lying("HFS")
    (couch,) = things(case)
    z, y, x = np.nonzero(np.asarray(case.ct_hu) == -150)
    centres = case.grid.index_to_mm(np.column_stack([x, y, z]))
    assert couch.contains(centres).all()


def test_a_case_is_prepared_once():
    once = prepare(lying("HFS"), RULES)
    twice = prepare(once, RULES)
    assert [s.name for s in twice.structures] == [s.name for s in once.structures]
    assert sum("things outside" in note for note in twice.assumed) == 1


def test_a_couch_with_a_roi_is_not_found_again():
    case = lying("HFS")
    drawn = box("Couch", (-140, HALF[1] + GAP_MM - 1, -108), (140, HALF[1] + GAP_MM + 13, 108), slices=4.0)
    both = case.having(drawn)
    assert [s.name for s in things(both)] == ["Couch"]
    hidden = case.having(replace(drawn, name="Aorta"))  # another role does not hide it
    assert [s.name for s in things(hidden)] == [OUTSIDE_NAME]


def test_skin_outside_an_outline_drawn_too_small_is_no_thing():
    case = lying("HFS", couch=False)
    small = ellipsoid("Body", (0, 0, 0), HALF - 1.5, "external", slices=4.0, points=90)
    assert things(case.having(small)) == []


def test_small_pieces_are_left_out():
    case = lying("HFS", couch=False)
    hu = np.array(case.ct_hu)
    hu[10:20, 2:8, 2:12] = 50  # 10 x 6 x 10 voxels of 0.025 cc: 15 cc
    found = Case(hu, case.grid, case.structures, case.identity)
    assert things(found) == []
    (piece,) = things(found, change(RULES, access={"outside_cc": 14.0}))
    assert piece.contains(case.grid.index_to_mm([[6, 5, 15]])).all()
    assert things(found, change(RULES, access={"outside_cc": 14.0, "outside_hu": 60.0})) == []


def test_a_couch_in_contact_reaches_back_to_the_patient():
    case = lying("HFS", couch=False)
    hu, places = np.array(case.ct_hu), case.grid.centres_mm().reshape(*case.grid.shape, 3)
    hu[(places[..., 1] > HALF[1] - 10.0) & (hu == -1000)] = -150  # the patient lies 10 mm deep in it
    (couch,) = things(Case(hu, case.grid, case.structures, case.identity))
    beside = np.array([[x, y, 0.0] for x in (-60.0, 60.0) for y in (HALF[1] - 6.0, HALF[1] + 6.0)])
    assert couch.contains(beside).all()
    below = np.array([[0.0, HALF[1] + 3.0, 0.0]])
    assert couch.contains(below).all()
    assert not couch.contains([[0.0, HALF[1] - 4.0, 0.0]]).any()


def test_a_ct_without_air_has_nothing_outside_and_says_so():
    case = lying("HFS")
    flat = prepare(
        Case(np.zeros(case.grid.shape, np.int16), case.grid, case.structures, case.identity), RULES
    )
    assert flat.with_role("device") == ()
    assert any("no air round 'Body'" in note and "not looked for" in note for note in flat.assumed)


def test_blocks_of_fine_voxels_count_them_all():
    random = np.random.default_rng(4)
    hu = random.integers(-1000, 1000, (7, 11, 10)).astype(np.int16)
    grid = Grid((3, 4, 5), (0.8, 0.8, 1.25), hu.shape)
    found = dense_blocks(hu, grid, -300)
    assert found.voxels == 3 * 3 * 2
    for k, j, i in np.ndindex(*found.grid.shape):
        assert (
            found.dense[k, j, i] == (hu[2 * k : 2 * k + 2, 3 * j : 3 * j + 3, 3 * i : 3 * i + 3] > -300).sum()
        )
    np.testing.assert_allclose(found.grid.index_to_mm([1, 1, 1]), grid.index_to_mm([4, 4, 2.5]))


def test_no_dose_is_evaluated_of_it():
    (couch,) = things(lying("HFS"))
    assert couch.role in UNDOSED
    assert isinstance(couch, Structure)
