"""The independent check of the access: a sound plan passes; faults planted in its files or its record are caught."""

import copy

import numpy as np
import pydicom
import pytest

from brachy.check import check_plan
from brachy.check.written_access import straight_down
from brachy.optimise import plan
from brachy.output import plan_folder
from brachy.patient.outside import OUTSIDE_NAME
from brachy.patient.plan import Plan, checksum_of
from brachy.patient.protocol import change
from brachy.patient.uids import identified
from tests.access_cases import DOWN, lying
from tests.check.test_check import coarse
from tests.quick_protocol import AXIAL, SEARCH

RULES = change(AXIAL, search=SEARCH)

THINGS = "rule: needle and hub to couch and other things outside"
TOP = "rule: needle above the couch's top"
DIRECTION = "rule: direction within the access"
ENTRY = "rule: entry on the patient's own skin within the scan"
BORE = "rule: needle and hub within the scanner's bore"
LEVEL = "access: height of the couch's top, straight down"


@pytest.fixture(scope="module")
def case():
    return identified(lying("HFS"))


@pytest.fixture(scope="module")
def made(case):
    """From the right, so that hubs stand above the couch and near the image's side."""
    return plan(case, RULES, direction=(270.0, 0.0)).sealed()


def written(case, made, folder):
    out = plan_folder.write_outputs(
        made, case, folder / "out", dose=coarse(made), curves={}, pictures=False, independent_check=False
    )
    return {item.name: item for item in check_plan(out).checks}, out


def with_access(made, **fields):
    """The plan as a faulty program would write it: its record of the access is wrong, its checksum right."""
    data = copy.deepcopy(made.model_dump(mode="json"))
    data["access"] |= fields
    data["checksum"] = checksum_of(data)
    return Plan.model_validate(data)


def test_a_sound_plan_passes(case, made, tmp_path):
    items, _ = written(case, made, tmp_path)
    for name in (THINGS, TOP, DIRECTION, ENTRY, BORE, LEVEL):
        assert items[name].passed is True, items[name]
    assert all(item.passed is not False for item in items.values())


def test_a_couch_that_reaches_the_hubs(case, made, tmp_path):
    _, out = written(case, made, tmp_path)
    file = pydicom.dcmread(out / "RTSTRUCT.dcm")
    (number,) = [r.ROINumber for r in file.StructureSetROISequence if r.ROIName == OUTSIDE_NAME]
    (roi,) = [r for r in file.ROIContourSequence if r.ReferencedROINumber == number]
    for contour in roi.ContourSequence:
        points = np.array(contour.ContourData, dtype=float).reshape(-1, 3) - [100.0, 99.0, 0.0]
        contour.ContourData = [f"{value:.3f}" for value in points.ravel()]
    file.save_as(out / "RTSTRUCT.dcm")
    failed = {item.name for item in check_plan(out).failures}
    assert {THINGS, LEVEL} <= failed


def test_a_couch_s_top_that_is_not_there(case, made, tmp_path):
    items, _ = written(case, with_access(made, couch_top_mm=made.access.couch_top_mm + 30.0), tmp_path)
    assert items[LEVEL].passed is False
    assert items[TOP].passed is False  # 30 mm more are left than plan.json states


def test_another_patient_position(case, made, tmp_path):
    items, _ = written(
        case, with_access(made, patient_position="HFDR"), tmp_path
    )  # the needles come from below then
    assert items[DIRECTION].passed is False
    assert "60 deg beyond" in items[DIRECTION].found
    assert items[TOP].passed is False


def test_a_scan_that_ends_where_needles_enter(case, made, tmp_path):
    low = list(made.access.scan_low_mm)
    low[0] = min(needle.skin_mm[0] for needle in made.needles)
    items, _ = written(case, with_access(made, scan_low_mm=low), tmp_path)
    assert items[ENTRY].passed is False


def test_another_bore(case, made, tmp_path):
    centre = np.array(made.access.bore_centre_mm) + [0.0, 40.0, 0.0]
    items, _ = written(case, with_access(made, bore_centre_mm=centre.tolist()), tmp_path)
    assert items[BORE].passed is False


def test_a_plan_of_before_is_not_judged_by_it(case, made, tmp_path):
    data = copy.deepcopy(made.model_dump(mode="json"))
    del data["access"], data["protocol"]["access"]
    data["rules"] = [
        rule for rule in data["rules"] if "rule: " + rule["rule"] not in (THINGS, TOP, DIRECTION, ENTRY, BORE)
    ]
    data["checksum"] = checksum_of(data)
    items, _ = written(case, Plan.model_validate(data), tmp_path)
    assert not {THINGS, TOP, DIRECTION, ENTRY, BORE, LEVEL} & set(items)
    assert all(item.passed is not False for item in items.values())


@pytest.mark.parametrize("first", ["HF", "FF", "AF"])
@pytest.mark.parametrize("lies", DOWN)
def test_straight_down(first, lies):
    assert straight_down(first + lies)[:2].tolist() == list(DOWN[lies])


def test_no_position():
    assert [straight_down(text) for text in ("", "HF", "SITTING", "HFX")] == [None] * 4


def test_a_circular_field_of_view_is_not_checked_and_not_green(case, made, tmp_path):
    """No file that is checked has the circle: the entries cannot be judged a second time."""
    items, _ = written(case, with_access(made, scan_circle=True), tmp_path)
    assert items[ENTRY].passed is None
