"""Rules on what lies outside the patient: couch and other things, the access, the scan's borders, the scanner's bore.

A needle is judged along its whole line: from its tip to `Access.behind_mm` behind its hole, where it stands before it
is pushed, and for the bore as it is inserted, with its hub a needle's length from its tip.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from brachy.evaluation.lateral_rule import nearest_on_path
from brachy.evaluation.rule_results import NOTHING, TOLERANCE_DEG, at_least, not_checked, rule_result
from brachy.needles.channel import Channel
from brachy.patient.access import Access, angle_deg, angles_of, beyond_ranges, ranges_in_words
from brachy.patient.evaluation_record import RuleResult

Float = NDArray[np.float64]
Lines = Sequence[tuple[str, Channel]]

THINGS = "needle and hub to couch and other things outside"
COUCH_TOP = "needle above the couch's top"
DIRECTION = "direction within the access"
ENTRY = "entry on the patient's own skin within the scan"
BORE = "needle and hub within the scanner's bore"

NO_POSITION = "the CT has no patient position"


def access_rules(lines: Lines, access: Access) -> list[RuleResult]:
    """Rules on the access to the patient, for needles (name, channel) that can still be changed."""
    return [
        _things(lines, access),
        _couch_top(lines, access),
        _direction(lines, access),
        _entry(lines, access),
        _bore(lines, access),
    ]


def _things(lines: Lines, access: Access) -> RuleResult:
    clearance, radius = access.protocol.obstacles.clearance_mm, access.protocol.needle.radius_mm
    found: list[tuple[float, str]] = []
    for device in access.devices:
        for name, channel in lines:
            parts = (
                (channel.tip_mm, radius, "before the template"),
                (channel.at(-access.behind_mm), access.hub_radius_mm, "behind the template"),
            )
            for end, thick, where in parts:
                enough = min((gap for gap, _ in found), default=np.inf) + thick
                gap, depth = nearest_on_path(channel.hole_mm, end, device, enough)
                found.append((gap - thick, f"{name}, {device.name}, {depth:.0f} mm {where}"))
    nothing = NOTHING if access.devices else "the CT and the ROIs show nothing outside the patient"
    return at_least(THINGS, clearance, found, nothing=nothing)


def _couch_top(lines: Lines, access: Access) -> RuleResult:
    if access.couch_top_mm is None:
        return not_checked(COUCH_TOP, "> 0 mm", NO_POSITION)
    holes, tips, directions = (
        np.array(each).reshape(-1, 3)
        for each in (
            [channel.hole_mm for _, channel in lines],
            [channel.tip_mm for _, channel in lines],
            [channel.direction for _, channel in lines],
        )
    )
    left = access.under_couch_top(holes, directions, tips)
    return at_least(
        COUCH_TOP, 0.0, [(gap, name) for gap, (name, _) in zip(left.tolist(), lines, strict=True)], ">"
    )


def _direction(lines: Lines, access: Access) -> RuleResult:
    """How far, in degrees, the worst direction lies beyond the sector or too near to straight below; 0 within."""
    rule = access.protocol.access
    below = access.down is not None and not rule.azimuth_deg
    limits = [f"azimuth {ranges_in_words(rule.azimuth_deg)}"] if rule.azimuth_deg else []
    limits += [f"{rule.from_below_deg:g} deg off straight below"] if below else []
    limits += [f"tilt {rule.tilt_deg[0]:g} to {rule.tilt_deg[1]:g}"] if rule.tilt_deg != (-90.0, 90.0) else []
    if not limits:
        return not_checked(DIRECTION, "-", f"{NO_POSITION}, and no sector is given", "deg")
    found = []
    for name, channel in lines:
        azimuth, tilt = angles_of(channel.direction)
        off = [0.0, rule.tilt_deg[0] - tilt, tilt - rule.tilt_deg[1]]
        off += [beyond_ranges(azimuth, rule.azimuth_deg)] if rule.azimuth_deg else []
        where = f"{name}, azimuth {azimuth:.0f}, tilt {tilt:.0f}"
        if below and access.down is not None:
            angle = angle_deg(-channel.direction, access.down)
            off.append(rule.from_below_deg - angle)
            where += f", {angle:.0f} degrees off straight below"
        found.append((max(off), where))
    if not found:
        return not_checked(DIRECTION, ", ".join(limits), NOTHING, "deg")
    worst, where = max(found, key=lambda pair: pair[0])
    return rule_result(DIRECTION, ", ".join(limits), worst, worst <= TOLERANCE_DEG, where, "deg beyond")


def _entry(lines: Lines, access: Access) -> RuleResult:
    """How many needles enter where the image cuts the patient."""
    if not lines:
        return not_checked(ENTRY, "0 needles at a cut", NOTHING, "needles")
    cut = access.border.cuts(np.array([channel.entry_mm for _, channel in lines]))
    names = [name for (name, _), at_cut in zip(lines, cut.tolist(), strict=True) if at_cut]
    return rule_result(ENTRY, "0 needles at a cut", len(names), not names, ", ".join(names[:3]), "needles")


def _bore(lines: Lines, access: Access) -> RuleResult:
    """Farthest point of a needle as inserted, its hub included, from the axis of the bore; beyond it is reported."""
    limit = 0.5 * access.protocol.access.bore_mm
    shown = f"<= {limit:g} mm from its axis" + (", assumed" if access.bore_assumed else "")
    found = []
    for name, channel in lines:
        length = max(access.protocol.needle.max_needle_mm, channel.tip_depth_mm)
        hub = channel.tip_mm - length * channel.direction
        for point, thick in ((hub, access.hub_radius_mm), (channel.tip_mm, access.protocol.needle.radius_mm)):
            way = point - access.bore_centre_mm
            away = float(np.linalg.norm(way - (way @ access.bore_axis) * access.bore_axis))
            found.append((away + thick, name))
    if not found:
        return not_checked(BORE, shown, NOTHING)
    worst, where = max(found, key=lambda pair: pair[0])
    status = "kept" if worst <= limit else "reported"
    return RuleResult(rule=BORE, limit=shown, worst=worst, unit="mm", where=where, status=status)
