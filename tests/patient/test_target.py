"""A target with its margin: one record for planning, evaluation, post-implant dosimetry and output."""

import numpy as np
import pytest

from brachy.errors import UsageError
from brachy.geometry.grid import Grid
from brachy.geometry.structures import Structure
from brachy.patient.case import Case
from brachy.patient.plan import PlanTarget
from brachy.patient.protocol import change, load_protocol
from brachy.patient.target import Target, target_of


def cube(name, half, centre=(0.0, 0.0, 0.0), role=""):
    ring = half * np.array([[-1, -1, 0], [1, -1, 0], [1, 1, 0], [-1, 1, 0]])
    planes = [ring + np.array(centre) + [0, 0, z] for z in np.arange(-half + 1.0, half, 2.0)]
    return Structure(name, planes, slice_spacing_mm=2.0, role=role)


SKIN, GTV = cube("Body", 40.0, role="external"), cube("GTV", 10.0, role="target")
LIVER = cube("Liver", 20.0, centre=(12.0, 0, 0))  # from x = -8 on
GRID = Grid((-45.0, -45.0, -45.0), (10.0, 10.0, 10.0), (10, 10, 10))
CASE = Case(np.zeros(GRID.shape, dtype=np.int16), GRID, (SKIN, GTV, LIVER))
MARGIN = change(load_protocol("liver-metastasis"), target={"margin_mm": 5.0, "clip_to": ("Liver",)})


def test_without_a_margin_the_target_is_what_was_drawn():
    found = target_of(CASE, load_protocol("liver-metastasis"), GTV, 120.0)
    assert found.structure is GTV
    assert (found.name, found.margin_mm, found.expanded) == ("GTV", 0.0, None)


def test_a_margin_is_clipped_to_the_organ_and_never_cuts_the_target():
    found = target_of(CASE, MARGIN, GTV, 120.0)
    (low, high) = found.structure.bounds_mm
    assert high[:2] == pytest.approx([15.0, 15.0], abs=0.5)
    assert low[0] == pytest.approx(-10.0, abs=0.5)  # drawn 2 mm outside the liver: kept, but not widened
    assert low[1] == pytest.approx(-15.0, abs=0.5)
    assert (found.name, found.structure.interpreted_type, found.drawn) == ("GTV + 5 mm", "PTV", GTV)


def test_an_organ_to_clip_to_that_is_missing_is_an_error_unless_it_may_be():
    bare = Case(CASE.ct_hu, GRID, (SKIN, GTV))
    with pytest.raises(UsageError, match="no ROI 'Liver'"):
        target_of(bare, MARGIN, GTV, 120.0)
    found = target_of(bare, MARGIN, GTV, 120.0, clip_where_present=True)
    assert found.structure.bounds_mm[0, 0] == pytest.approx(-15.0, abs=0.5)


def test_a_margin_of_its_own_goes_before_that_of_the_protocol():
    assert target_of(CASE, MARGIN, GTV, 120.0, 0.0).structure is GTV


def test_the_record_of_plan_json_has_both_volumes_and_the_name_of_the_expanded_target():
    target = target_of(CASE, MARGIN, GTV, 120.0)
    record = PlanTarget.of(target)
    assert record.volume_cc == pytest.approx(8.0)  # 20 mm to the third
    assert record.planned_volume_cc == target.structure.volume_cc > record.volume_cc
    assert (record.roi, record.margin_mm, record.planned_roi) == ("GTV", 5.0, target.name)
    assert PlanTarget.of(Target(GTV, 120.0)).planned_roi == "GTV"
