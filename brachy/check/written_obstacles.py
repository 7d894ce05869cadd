"""What stops a needle, decided a second time from the RT Structure Set as it is on disk and the protocol alone.

Names, types and codes are those of the file; what holds the target is found by geometry of its own
(`brachy.check.geometry`). Only the table of names, and roles that a person gave, are shared with planning.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pydicom
from numpy.typing import NDArray

from brachy.check import geometry
from brachy.check.items import CheckItem
from brachy.geometry.structures import RoiCode
from brachy.patient.plan import Plan
from brachy.patient.roles import guess_role

Float = NDArray[np.float64]
Found = dict[str, tuple[float, float, int, str]]

PASSABLE = frozenset({"external", "skin", "fat", "muscle", "region", "ignore"})
"""Roles that stop no needle unless the protocol names them (DICOM types without matter among them)."""

HALF = 0.5


@dataclass(frozen=True, eq=False)
class Drawn:
    """A ROI of the RT Structure Set: its name, role and slabs; None where it is not axial or empty."""

    name: str
    role: str
    stack: geometry.Stack | None
    oblique: bool = False
    """Whether it has contours that are not axial, which are not measured here."""


def contours_of(rtstruct: pydicom.Dataset, name: str) -> list[Float]:
    """Contours (n, 3) mm of the ROI of this name; none where there is no such ROI."""
    numbers = [int(r.ROINumber) for r in rtstruct.StructureSetROISequence if str(r.ROIName) == name]
    return _contours(rtstruct, numbers[0]) if numbers else []


def _contours(rtstruct: pydicom.Dataset, number: int) -> list[Float]:
    for roi in rtstruct.ROIContourSequence:
        if int(roi.ReferencedROINumber) == number:
            return [_points(contour) for contour in roi.get("ContourSequence", [])]
    return []


def _points(contour: pydicom.Dataset) -> Float:
    """Points (n, 3) of a contour: of the text in the file, where it has not been parsed yet (much quicker)."""
    value = contour.get_item("ContourData").value
    numbers = value.split(b"\\") if isinstance(value, bytes) else value
    return np.array(numbers, dtype=np.float64).reshape(-1, 3)


def drawn_structures(plan: Plan, rtstruct: pydicom.Dataset) -> list[Drawn]:
    """Every ROI with its role: by the protocol, its type, codes and name; or that of plan.json where it was given."""
    observed = {int(o.ReferencedROINumber): o for o in rtstruct.RTROIObservationsSequence}
    given = {s.roi: s.role for s in plan.structures if s.source == "given"}
    found = []
    for roi in rtstruct.StructureSetROISequence:
        name, number = str(roi.ROIName), int(roi.ROINumber)
        kind, codes = _observed(observed.get(number))
        role = given.get(name) or guess_role(name, kind, plan.protocol.roles, codes).role
        contours = _contours(rtstruct, number)
        stack = geometry.Stack.of(contours) if contours else None
        found.append(Drawn(name, role, stack, oblique=bool(contours) and stack is None))
    return found


def _observed(item: pydicom.Dataset | None) -> tuple[str, list[RoiCode]]:
    if item is None:
        return "", []
    codes = [
        RoiCode(
            str(code.get("CodingSchemeDesignator", "")),
            str(code.get("CodeValue") or code.get("LongCodeValue", "")),
            str(code.get("CodeMeaning", "")),
        )
        for code in item.get("RTROIIdentificationCodeSequence", [])
    ]
    return str(item.get("RTROIInterpretedType") or ""), codes


def outline(plan: Plan, drawn: Sequence[Drawn]) -> geometry.Stack | None:
    """Slabs of the outline of the patient that planning used; None where it is not axial."""
    used = {s.roi for s in plan.structures if s.role == "external"}
    outlines = [d for d in drawn if d.role == "external" and d.stack is not None]
    best = [d for d in outlines if d.name in used] or outlines
    return best[0].stack if best else None


def obstacles(plan: Plan, drawn: Sequence[Drawn], template: int) -> list[Drawn]:
    """ROIs that stop the needles of a template."""
    rules = plan.protocol.obstacles
    own = {name for target in plan.targets for name in (target.roi, target.planned_roi)}
    free = {name.casefold() for name in rules.free}
    wanted = plan.target_of(template).planned_roi
    target = next((d.stack for d in drawn if d.name == wanted), None)
    inner = target.sample() if target is not None else np.zeros((0, 3))
    found = []
    for each in drawn:
        if each.stack is None or each.name in own or each.name.casefold() in free:
            continue
        if each.role not in rules.roles:
            if each.role in PASSABLE or _holds(each.stack, inner):
                continue
            untreated = each.role in ("target", "other_target")
            if untreated and target is not None and _holds(target, each.stack.sample()):
                continue
        found.append(each)
    return found


def _holds(outer: geometry.Stack, points: Float) -> bool:
    return len(points) > 0 and float(outer.encloses(points).mean()) >= HALF


def clearances(plan: Plan, drawn: Sequence[Drawn], needles: Sequence[geometry.WrittenNeedle]) -> Found:
    """(value, limit, sense, where) of the rule "needle to ROLE" of each role that an obstacle has."""
    rules = plan.protocol
    found: Found = {}
    # a role of which one ROI cannot be measured is not recomputed at all: the rest would pass for the whole
    unmeasured = {_shown_role(each.role) for each in drawn if each.oblique}
    for template in range(len(plan.templates)):
        own = [needle for needle in needles if needle.name.startswith(f"{template + 1}:")]
        stopping = obstacles(plan, drawn, template)
        for role in dict.fromkeys(_shown_role(each.role) for each in stopping):
            if role in unmeasured:
                continue
            stacks = {
                d.name: d.stack for d in stopping if _shown_role(d.role) == role and d.stack is not None
            }
            gap, where = geometry.clearance(own, stacks, rules.needle.radius_mm)
            name = f"needle to {role.replace('_', ' ')}"
            if name not in found or gap < found[name][0]:
                found[name] = (gap, rules.obstacles.clearance_mm, 1, where)
    return found


def _shown_role(role: str) -> str:
    """A target that the plan does not treat has a role of its own in plan.json."""
    return "other_target" if role == "target" else role


def items(plan: Plan, rtstruct: pydicom.Dataset) -> list[CheckItem]:
    """Whether plan.json and the RT Structure Set agree on what stops a needle; none for a plan of version 1."""
    if not plan.structures:
        return []
    drawn = drawn_structures(plan, rtstruct)
    found = {d.name for k in range(len(plan.templates)) for d in obstacles(plan, drawn, k)}
    judged = {d.name for d in drawn if d.stack is not None}
    stated = {s.roi for s in plan.structures if s.obstacle} & judged
    unlike = sorted(found ^ stated)
    return [
        CheckItem(
            "obstacles, as the contours say", f"{len(stated)} ROIs",
            f"{len(found)} ROIs" + (f", differing: {', '.join(unlike[:5])}" if unlike else ""),
            len(unlike), 0, "ROIs", not unlike, "roles and geometry from RTSTRUCT, obstacles of plan.json",
        )
    ]  # fmt: skip
