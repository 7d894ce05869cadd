"""The targets of a plan: as drawn, as expanded, and which of them lie inside another."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from brachy.errors import BrachyError, UsageError
from brachy.geometry.structures import Structure
from brachy.optimise.assemble import Prescribed
from brachy.optimise.points import sequence
from brachy.patient.case import Case
from brachy.patient.plan import PlanTarget
from brachy.patient.protocol import Protocol

NESTED_SHARE = 0.9
"""A target of which this part lies inside another is served by that one's template (engineering choice)."""


def prescribed_targets(
    case: Case, protocol: Protocol, targets: Sequence[tuple[str, float | None]] | None
) -> list[Prescribed]:
    """Targets, expanded, with their prescriptions; which of them lie inside another."""
    if targets is None:
        found = [s for s in case.with_role("target") if not s.is_empty]
        names = ", ".join(s.name for s in case.structures) or "none"
        if not found:
            raise UsageError(f"no ROI is a target: name it with --target ROI; the ROIs are: {names}")
        if len(found) > 1:
            listed = ", ".join(s.name for s in found)
            raise UsageError(f"{len(found)} ROIs could be the target ({listed}): choose with --target ROI")
        targets = [(found[0].name, None)]
    low, high = protocol.prescription.allowed_gy
    (external,) = case.with_role("external")
    listed_targets: list[Prescribed] = []
    for name, gy in targets:
        drawn = case.structure(name)
        if drawn.is_empty:
            raise BrachyError(
                f"target '{drawn.name}' has no contours: draw it, or choose another with --target"
            )
        rx = protocol.prescription.dose_gy if gy is None else float(gy)
        if not low <= rx <= high:
            raise UsageError(
                f"prescription {rx:g} Gy for '{drawn.name}' is outside {low:g}-{high:g} Gy, "
                f"which protocol '{protocol.name}' allows: choose one within"
            )
        if any(drawn.name == other.drawn.name for other in listed_targets):
            raise UsageError(f"target '{drawn.name}' is given twice: give it once")
        _must_hold(case, external, drawn)
        listed_targets.append(Prescribed(drawn, _planned(drawn, case, protocol, external), rx, ""))
    return _nested(listed_targets)


def _planned(drawn: Structure, case: Case, protocol: Protocol, external: Structure) -> Structure:
    """The target with the protocol's margin, clipped to the external and to the organs named."""
    margin = protocol.target.margin_mm
    if margin == 0:
        return drawn
    clip = [external, *(case.structure(name) for name in protocol.target.clip_to)]
    wider = drawn.expanded(margin, [other for other in clip if other is not drawn])
    name = PlanTarget(
        roi=drawn.name, prescription_gy=0, volume_cc=0, margin_mm=margin, planned_volume_cc=0
    ).planned_roi
    return replace(wider, name=name, interpreted_type="PTV", number=None)


def _must_hold(case: Case, external: Structure, drawn: Structure) -> None:
    points = np.concatenate(drawn.contours_mm)
    if not case.grid.contains(points).all():
        raise BrachyError(
            f"target '{drawn.name}' reaches outside the CT: plan on a CT that holds it, or correct the contours"
        )
    if not external.contains(points).mean() > 0.5:
        raise BrachyError(
            f"target '{drawn.name}' lies outside '{external.name}', the outline of the patient: correct one of them"
        )


def _nested(targets: list[Prescribed]) -> list[Prescribed]:
    """Mark each target that lies inside another with the smallest that holds it."""
    found = []
    for target in targets:
        low, high = target.planned.bounds_mm
        points = sequence(low, high - low, float(np.cbrt(np.prod(high - low) / 2000.0)))
        points = points[target.planned.contains(points)]
        holders = [
            other
            for other in targets
            if other is not target
            and other.planned.volume_cc > target.planned.volume_cc
            and len(points)
            and other.planned.contains(points).mean() >= NESTED_SHARE
        ]
        outer = [
            h
            for h in holders
            if not any(h is not o and o.planned.volume_cc > h.planned.volume_cc for o in holders)
        ]
        found.append(
            Prescribed(
                target.drawn, target.planned, target.prescription_gy, outer[0].planned.name if outer else ""
            )
        )
    return found
