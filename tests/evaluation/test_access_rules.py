"""Rules on the access, on needles written by hand beside a couch of known place."""

from dataclasses import replace

import numpy as np
import pytest

from brachy.evaluation.access_rules import BORE, COUCH_TOP, DIRECTION, ENTRY, THINGS, access_rules
from brachy.needles.channel import Channel
from brachy.patient.access import access_of
from brachy.patient.anatomy import prepare
from tests.access_cases import HALF, lying, positioned
from tests.needle_cases import box, protocol

TOP = 120.0
TABLE = box("Table", (-300, TOP, -100), (300, TOP + 10, 100), "device")
RULES = protocol(needle={"max_needle_mm": 130.0})


def judged(channels, case=None, rules=RULES):
    case = case or lying("HFS", couch=False).having(TABLE)
    access = access_of(prepare(case, rules), rules)
    found = access_rules([(f"needle {c.hole}", c) for c in channels], access)
    return {each.rule: each for each in found}


def channel(hole, along, entry=25.0, tip=120.0):
    way = np.array(along, float)
    return Channel("A1", np.array(hole, float), way / np.linalg.norm(way), entry, tip)


FROM_FRONT = channel((0, -120, 0), (0, 1, 0))
FROM_RIGHT = channel((-120, 0, 0), (1, 0, 0))


def test_needles_that_keep_all_of_them():
    found = judged([FROM_FRONT, FROM_RIGHT])
    assert {each.status for each in found.values()} == {"kept"}
    assert found[THINGS].worst == pytest.approx(TOP - 4.0, abs=0.01)
    # the table is 25 mm below the patient, so something that is not seen must lie on it
    assert found[COUCH_TOP].worst == pytest.approx(HALF[1] - 4.0, abs=0.2)
    assert found[DIRECTION].worst == 0
    assert found[ENTRY].worst == 0


def test_a_hub_too_near_to_a_thing():
    low = channel((-120, 24, 0), (1, -1, 0))  # behind the hole it goes down toward the table
    found = judged([low])
    end = low.at(-130.0)
    gap = max(TOP - end[1], 0.0) - 4.0
    assert found[THINGS].status == "broken"
    assert found[THINGS].worst == pytest.approx(gap, abs=0.01)
    assert "Table" in found[THINGS].where
    assert "behind the template" in found[THINGS].where


def test_below_the_top_of_a_couch_beyond_the_image():
    steep = channel((-120, 30, 0), (1, -0.5, 0))
    case = lying("HFS", couch=False)
    found = judged([steep], case)
    end = steep.at(-130.0)[1] + 4.0
    assert found[COUCH_TOP].worst == pytest.approx(HALF[1] - end, abs=0.2)
    assert found[COUCH_TOP].status == ("kept" if end < HALF[1] else "broken")
    assert found[THINGS].status == "not checked"


def test_from_below():
    found = judged([channel((0, 120, 0), (0, -1, 0)), FROM_FRONT])
    assert found[DIRECTION].status == "broken"
    assert found[DIRECTION].worst == pytest.approx(60.0)
    assert "0 degrees off straight below" in found[DIRECTION].where


def test_beyond_the_sector():
    rules = protocol(access={"azimuth_deg": [300, 420], "tilt_deg": [-10, 10]})
    assert judged([FROM_FRONT], rules=rules)[DIRECTION].status == "kept"
    found = judged([FROM_FRONT, FROM_RIGHT], rules=rules)[DIRECTION]
    assert (found.status, found.limit) == ("broken", "azimuth 300-420, tilt -10 to 10")
    assert found.worst == pytest.approx(30.0)
    tilted = judged([channel((0, -120, 0), (0, 1, 1))], rules=rules)[DIRECTION]
    assert tilted.worst == pytest.approx(35.0)


def test_without_a_position():
    case = positioned(lying("HFS", couch=False), "")
    found = judged([FROM_FRONT], case)
    assert {rule for rule, each in found.items() if each.status == "not checked"} == {
        THINGS,
        COUCH_TOP,
        DIRECTION,
    }
    assert "no patient position" in found[COUCH_TOP].where


def test_an_entry_at_the_images_side():
    found = judged([replace(FROM_RIGHT, entry_depth_mm=-13.0)], lying("HFS", couch=False))
    assert found[ENTRY].status == "broken"
    assert (found[ENTRY].worst, found[ENTRY].where) == (1, "needle A1")


def test_the_bore_is_reported():
    found = judged([FROM_RIGHT], rules=protocol(needle={"max_needle_mm": 400.0}))[BORE]
    assert found.worst == pytest.approx(400.0 + 4.0)
    assert (found.status, found.met) == ("reported", None)
    assert found.limit == "<= 350 mm from its axis, assumed"
    small = judged([FROM_RIGHT], rules=protocol(access={"bore_mm": 300.0}, needle={"max_needle_mm": 130.0}))[
        BORE
    ]
    assert small.status == "kept"  # 130 mm of needle from the tip at 0, and 4 mm of hub


def test_nothing_left_to_judge():
    assert {each.status for each in judged([]).values()} == {"not checked"}
