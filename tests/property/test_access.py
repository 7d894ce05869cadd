"""What bars a needle from outside the patient, against brute force: random couches, sectors, positions, directions.

Every axis is followed in steps of 0.5 mm from its tip to the place behind its hole; distances are those to boxes.
"""

from dataclasses import replace

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from brachy.needles.channel import Axis
from brachy.needles.limits import axis_limits
from brachy.needles.needle_path import skin_entry
from brachy.needles.template import needle_direction
from brachy.patient.access import BELOW, COUCH, SCAN, SECTOR, access_of
from brachy.patient.anatomy import prepare
from tests.access_cases import DOWN, HALF, lying
from tests.needle_cases import box, protocol, to_box
from tests.property.counted import examples

TIP_OFFSET = 2.25
CASE = lying("HFS", couch=False)
BODY, TARGET = CASE.structure("Body"), CASE.structure("GTV")

angles = st.floats(0, 360)
sectors = st.one_of(
    st.just([]),
    st.lists(st.tuples(angles, st.floats(5, 200)).map(lambda r: (r[0], r[0] + r[1])), min_size=1, max_size=2),
)
tables = st.fixed_dictionaries(
    {
        "azimuth_deg": sectors,
        "tilt_deg": st.tuples(st.floats(-60, 0), st.floats(0, 60)),
        "behind_mm": st.floats(30, 200),
        "from_below_deg": st.floats(0, 90),
        "hub_diameter_mm": st.floats(2, 30),
    }
)
things = st.tuples(
    st.floats(95, 300),
    st.tuples(st.floats(-40, 40), st.floats(-40, 40), st.floats(-40, 40)),
    st.tuples(st.floats(2, 60), st.floats(2, 60), st.integers(1, 20).map(lambda k: 2.5 * k)),
)
"""How far from the target a thing stands on the needles' side, how far beside their line, and its size."""

positions = st.sampled_from(["HFS", "FFP", "HFDR", "FFDL", ""])


def thing(outward, away, beside, size):
    """Corners of a box near the needles' line."""
    middle = away * outward + beside
    low = np.round((middle - 0.5 * np.array(size)) / 2.5) * 2.5
    return low, low + size


def outside_the_body(low, high):
    """Whether a box is outside the patient: its point nearest to the middle of the ellipsoid is."""
    return ((np.clip(0.0, low, high) / HALF) ** 2).sum() > 1.3


def random_axes(random, azimuth, tilt):
    """Parallel axes through and beside the target, with holes outside the skin."""
    along = needle_direction(azimuth, tilt)
    aside = np.linalg.svd(along[None])[2][1:]
    found = []
    for k in range(12):
        middle = random.uniform(-14, 14, 2) @ aside
        entry = skin_entry(BODY, middle - 300 * along, along, 300.0)
        found.append(Axis(str(k), middle + (entry.depth_mm - 300 - 25.0) * along, along))
    return found


def worst(points, radius_at, low, high):
    """How much nearer than its radius any of the points comes to a box; negative where none does."""
    return float((radius_at - to_box(points, low, high)).max())


def test_axes_are_barred_as_by_brute_force():
    barred = {"": 0, COUCH: 0, "Table": 0, BELOW: 0, SECTOR: 0, SCAN: 0}

    @examples(250)
    @given(
        st.integers(0, 2**32 - 1), angles, st.floats(-50, 50), tables, st.lists(things, max_size=3), positions
    )
    def agree(seed, azimuth, tilt, fields, drawn, position):
        rules = protocol(access=fields, needle={"max_needle_mm": 200.0})
        boxes = [thing(-needle_direction(azimuth, tilt), *each) for each in drawn]
        boxes = [each for each in boxes if outside_the_body(*each)]
        case = CASE.having(*(box(f"Table {k}", low, high, "device") for k, (low, high) in enumerate(boxes)))
        case = replace(case, identity=replace(case.identity, patient_position=position))
        access = access_of(prepare(case, rules), rules)
        axes = random_axes(np.random.default_rng(seed), azimuth, tilt)
        found = axis_limits(axes, TARGET, BODY, [], TIP_OFFSET, rules, access)
        free = {each.axis.hole: each for each in axis_limits(axes, TARGET, BODY, [], TIP_OFFSET, rules)}
        for each in found:
            before = free[each.axis.hole]
            if before.cause:
                continue  # blocked by the patient's own shape
            expected, sure = judged(before, azimuth, tilt, rules, position, access, boxes)
            if not sure:
                continue  # within the tolerance of a limit
            cause = "Table" if each.cause.startswith("Table") else each.cause
            assert cause == expected, (each.cause, each.reason, expected)
            barred[cause] += 1

    agree()
    assert min(barred[cause] for cause in ("", COUCH, "Table", BELOW, SECTOR)) > 5, barred


def judged(limits, azimuth, tilt, rules, position, access, boxes):
    """Cause by which an axis is barred, and whether it is beyond doubt."""
    rule = rules.access
    if rule.azimuth_deg:
        off = min(sector_off(azimuth, low, high) for low, high in rule.azimuth_deg)
        if abs(off) < 0.01:
            return "", False
        if off > 0:
            return SECTOR, True
    if min(abs(tilt - limit) for limit in rule.tilt_deg) < 0.01:
        return "", False
    if not rule.tilt_deg[0] <= tilt <= rule.tilt_deg[1]:
        return SECTOR, True
    down = np.array([*DOWN[position[2:]], 0.0]) if position else None
    d, hole = limits.axis.direction, limits.axis.hole_mm
    if down is not None and not rule.azimuth_deg:
        angle = np.degrees(np.arccos(np.clip(-d @ down, -1, 1)))
        if abs(angle - rule.from_below_deg) < 0.01:
            return "", False
        if angle < rule.from_below_deg:
            return BELOW, True
    ahead = np.arange(0.0, limits.skin_depth, 0.5)
    back = np.append(np.arange(0.0, rule.behind_mm, 0.5), rule.behind_mm)
    hub = rule.hub_diameter_mm / 2
    if down is not None:
        points = hole - back[:, None] * d
        lowest = (points @ down).max() + hub
        tip = (hole + (limits.span[0] + TIP_OFFSET) * d) @ down + rules.needle.radius_mm
        above = access.couch_top_mm - max(lowest, tip)
        if abs(above) < 0.01:
            return "", False
        if above < 0:
            return COUCH, True
    nearest = max(
        (
            max(
                worst(hole + ahead[:, None] * d, rules.needle.radius_mm + 2.0, low, high),
                worst(hole - back[:, None] * d, hub + 2.0, low, high),
            )
            for low, high in boxes
        ),
        default=-np.inf,
    )
    return ("Table" if nearest > 0 else ""), abs(nearest) > 0.05


def sector_off(azimuth, low, high):
    """Degrees outside a range, negative inside."""
    middle, half = 0.5 * (low + high), 0.5 * (high - low)
    return abs((azimuth - middle + 180.0) % 360.0 - 180.0) - half
