"""Couch, access, scan and bore, decided a second time from RTPLAN and RTSTRUCT on disk and the numbers of plan.json.

From plan.json come only the patient position, the sector and limits of the protocol, the borders of the image and the
axis of the bore. Straight down, the couch's top, the needles' lines and their entries are found again by geometry of
its own. A circular field of view is not looked at, because no file that is checked has it: where the image has one, the
entries are not checked.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from brachy.check import geometry
from brachy.check.items import CheckItem
from brachy.check.written_obstacles import Drawn, outline
from brachy.patient.access_record import AccessRecord
from brachy.patient.plan import Plan, RuleResult

Float = NDArray[np.float64]
Needles = Sequence[geometry.WrittenNeedle]

TOP_MM = 2.0
"""Tolerance of the couch's top: it is a median over places that are not the same here (engineering choice)."""

AGREE = 0.2
"""Tolerance in mm and degrees of a worst case, as for the other rules (engineering choice)."""

KEPT = 0.02
"""Tolerance in mm and degrees of a limit (engineering choice)."""

STEP_MM = 0.1
"""Distance of samples on needles on which the skin is looked for (engineering choice)."""

COUCH_STEP_MM = 0.5
"""The same of lines straight down on which the couch is looked for (engineering choice)."""

BELOW_MM = 200.0
"""How far below the patient a couch is looked for (engineering choice)."""

SOURCE = "recomputed from RTPLAN and RTSTRUCT"


def access_items(plan: Plan, needles: Needles, drawn: Sequence[Drawn]) -> dict[str, CheckItem]:
    """Comparisons for the rules on the access by name of the rule, and of the couch's top; none for plans of before."""
    known = plan.access
    if known is None or not needles:
        return {}
    stated = {rule.rule: rule for rule in plan.rules}
    body = outline(plan, drawn)
    found = {
        "needle and hub to couch and other things outside": _things(plan, needles, drawn),
        "needle above the couch's top": _above_top(plan, known, needles),
        "direction within the access": _directions(plan, known, needles),
        "entry on the patient's own skin within the scan": _entries(known, needles, body),
        "needle and hub within the scanner's bore": _bore(plan, known, needles),
    }
    items = {
        name: _item(stated[name], *values)
        for name, values in found.items()
        if values is not None and name in stated
    }
    return items | _couch_top(plan, known, drawn, body)


def _item(rule: RuleResult, value: float, kept: bool, where: str) -> CheckItem:
    """Comparison of a rule with its recomputed worst case; `kept` is the verdict on it."""
    far = geometry.REACH_MM - 1.0
    worst = np.inf if rule.worst is None else rule.worst
    same = abs(value - worst) <= AGREE or (
        value > far and worst > far and rule.rule.startswith("needle and hub to")
    )
    agrees = rule.status == ("kept" if kept else "broken") or (not kept and rule.status == "reported")
    passed = (
        None
        if rule.status == "not checked" and not np.isfinite(value)
        else bool(same and agrees and not rule.broken)
    )
    apart = float(f"{abs(value - worst):.3g}") if np.isfinite(value) and np.isfinite(worst) else None
    shown = f"{value:.5g} {rule.unit}" if np.isfinite(value) else f"over {geometry.REACH_MM:g} mm, or none"
    return CheckItem(
        f"rule: {rule.rule}", rule.limit, shown, apart, AGREE, f"{rule.unit} from plan.json", passed,
        f"{SOURCE}; {where}".rstrip("; "),
    )  # fmt: skip


def _behind_mm(plan: Plan) -> float:
    given = plan.protocol.access.behind_mm
    return plan.protocol.needle.max_needle_mm if given is None else given


def _hub_mm(plan: Plan) -> float:
    return max(0.5 * plan.protocol.access.hub_diameter_mm, plan.protocol.needle.radius_mm)


def _devices(plan: Plan, drawn: Sequence[Drawn]) -> Mapping[str, geometry.Stack] | None:
    """Things outside the patient; None where one of them cannot be measured."""
    free = {name.casefold() for name in plan.protocol.obstacles.free}
    devices = [d for d in drawn if d.role == "device" and d.name.casefold() not in free]
    if any(d.oblique for d in devices):
        return None
    return {d.name: d.stack for d in devices if d.stack is not None}


def _things(plan: Plan, needles: Needles, drawn: Sequence[Drawn]) -> tuple[float, bool, str] | None:
    stacks = _devices(plan, drawn)
    if stacks is None:
        return None
    behind = [replace(n, hole=n.hole - _behind_mm(plan) * n.direction, tip=n.hole) for n in needles]
    front, where = geometry.clearance(needles, stacks, plan.protocol.needle.radius_mm)
    hub, hub_where = geometry.clearance(behind, stacks, _hub_mm(plan))
    gap, at = min((front, where), (hub, f"{hub_where}, behind the template"))
    return gap, gap >= plan.protocol.obstacles.clearance_mm - KEPT, at


def straight_down(position: str) -> Float | None:
    """Unit vector of gravity, LPS, by the last letters of a DICOM patient position (PS3.3 C.7.3.1.1.2).

    Examples
    --------
    >>> straight_down("HFS"), straight_down("FFDL"), straight_down("")
    (array([0., 1., 0.]), array([1., 0., 0.]), None)
    """
    if len(position) < 3 or position[1] != "F":
        return None
    # the patient's back is at +y, the left side at +x; who lies on the right side has it below
    sense = {"S": (1, 1.0), "P": (1, -1.0), "DR": (0, -1.0), "DL": (0, 1.0)}.get(position[2:])
    if sense is None:
        return None
    down = np.zeros(3)
    down[sense[0]] = sense[1]
    return down


def _above_top(plan: Plan, known: AccessRecord, needles: Needles) -> tuple[float, bool, str] | None:
    down = straight_down(known.patient_position)
    if down is None or known.couch_top_mm is None:
        return None
    lefts = []
    for needle in needles:
        back = needle.hole - _behind_mm(plan) * needle.direction
        lowest = max(needle.hole @ down, back @ down) + _hub_mm(plan)
        lowest = max(lowest, needle.tip @ down + plan.protocol.needle.radius_mm)
        lefts.append((float(known.couch_top_mm - lowest), f"needle {needle.name}"))
    left, where = min(lefts)
    return left, left >= -KEPT, where


def _couch_top(
    plan: Plan, known: AccessRecord, drawn: Sequence[Drawn], body: geometry.Stack | None
) -> dict[str, CheckItem]:
    """Comparison of the couch's top with the surface of the devices below the middle of the outline."""
    down = straight_down(known.patient_position)
    stacks = _devices(plan, drawn)
    stated = known.couch_top_mm
    if down is None or stated is None or stacks is None or body is None:
        return {}
    lowest = float((body.box @ down).max())
    surface = _surface(body, list(stacks.values()), down, lowest)
    found = lowest if surface is None or surface > lowest + 10.0 else surface
    name = "access: height of the couch's top, straight down"
    return {
        name: CheckItem(
            name, f"{stated:.6g}", f"{found:.6g}", float(f"{abs(found - stated):.3g}"), TOP_MM, "mm",
            bool(abs(found - stated) <= TOP_MM), SOURCE,
        )
    }  # fmt: skip


def _surface(
    body: geometry.Stack, things: Sequence[geometry.Stack], down: Float, lowest: float
) -> float | None:
    """Median height at which lines straight down from the middle of the body first meet a thing; None where few do."""
    inner = body.sample().mean(axis=0)
    aside = np.array([abs(down[1]), abs(down[0]), 0.0])
    depths = np.arange(lowest - 60.0, lowest + BELOW_MM, COUCH_STEP_MM) - float(inner @ down)
    found = []
    for z in np.linspace(body.box[0, 2], body.box[1, 2], 11)[1:-1]:
        for off in (-20.0, -10.0, 0.0, 10.0, 20.0):
            start = np.array([inner[0], inner[1], z]) + off * aside
            line = start + depths[:, None] * down
            inside = np.flatnonzero(body.contains(line))
            if not len(inside) or not inside[-1]:
                continue
            past = depths > depths[inside[-1]] - 5.0
            met = (
                np.any([thing.contains(line) for thing in things], axis=0) & past
                if things
                else np.zeros(1, bool)
            )
            found.append(float(start @ down + depths[int(met.argmax())]) if met.any() else np.inf)
    middle = float(np.median(found)) if found else np.inf
    return middle if np.isfinite(middle) else None


def _directions(plan: Plan, known: AccessRecord, needles: Needles) -> tuple[float, bool, str] | None:
    rule = plan.protocol.access
    down = straight_down(known.patient_position)
    found = []
    for needle in needles:
        x, y, z = needle.direction
        off = [0.0]
        if rule.azimuth_deg:
            azimuth = np.degrees(np.arctan2(-x, y))
            # nearest of the ranges, by the distance from its middle
            off.append(
                min(
                    abs((azimuth - 0.5 * (low + high) + 180.0) % 360.0 - 180.0) - 0.5 * (high - low)
                    for low, high in rule.azimuth_deg
                )
            )
        elif down is not None:
            angle = float(np.degrees(np.arccos(np.clip(-needle.direction @ down, -1.0, 1.0))))
            off.append(rule.from_below_deg - angle)
        tilt = np.degrees(np.arcsin(np.clip(z, -1.0, 1.0)))
        off += [rule.tilt_deg[0] - tilt, tilt - rule.tilt_deg[1]]
        found.append((float(max(off)), f"needle {needle.name}"))
    if down is None and not rule.azimuth_deg and rule.tilt_deg == (-90.0, 90.0):
        return None
    worst, where = max(found)
    return worst, worst <= KEPT, where


def _entries(
    known: AccessRecord, needles: Needles, body: geometry.Stack | None
) -> tuple[float, bool, str] | None:
    """Needles whose first point in the outline lies at the image's border."""
    low, high, size = known.scan_low_mm, known.scan_high_mm, known.scan_spacing_mm
    if low is None or high is None or size is None or body is None or known.scan_circle:
        return None
    first, last, voxel = np.array(low), np.array(high), np.array(size)
    ends_low = (
        body.slabs[0][0] - first[2] < 1.01 * voxel[2]
    )  # the outline goes on to the first slice, or the second
    ends_high = last[2] - body.slabs[-1][1] < 1.01 * voxel[2]
    cut = []
    for needle in needles:
        depths = np.arange(0.0, float(np.linalg.norm(needle.tip - needle.hole)), STEP_MM)
        line = needle.hole + depths[:, None] * needle.direction
        inside = body.contains(line)
        if not inside.any():
            return None
        at = line[int(inside.argmax())]
        near = (at[:2] < first[:2] + voxel[:2] - STEP_MM).any() or (
            at[:2] > last[:2] - voxel[:2] + STEP_MM
        ).any()
        near |= ends_low and at[2] < body.slabs[0][0] + voxel[2] - STEP_MM
        near |= ends_high and at[2] > body.slabs[-1][1] - voxel[2] + STEP_MM
        cut += [needle.name] if near else []
    return float(len(cut)), not cut, ", ".join(cut[:3])


def _bore(plan: Plan, known: AccessRecord, needles: Needles) -> tuple[float, bool, str]:
    axis, centre = np.array(known.bore_axis), np.array(known.bore_centre_mm)
    found = []
    for needle in needles:
        length = max(plan.protocol.needle.max_needle_mm, float(np.linalg.norm(needle.tip - needle.hole)))
        for end, thick in (
            (needle.tip - length * needle.direction, _hub_mm(plan)),
            (needle.tip, plan.protocol.needle.radius_mm),
        ):
            found.append(
                (float(np.linalg.norm(np.cross(end - centre, axis))) + thick, f"needle {needle.name}")
            )
    worst, where = max(found)
    return worst, worst <= 0.5 * plan.protocol.access.bore_mm + KEPT, where
