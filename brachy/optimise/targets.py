"""The targets of a plan: which ROIs they are, what is prescribed to each, and which lie inside another."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from brachy.errors import BrachyError, UsageError
from brachy.geometry.structures import Structure
from brachy.optimise.points import sequence
from brachy.patient.case import Case
from brachy.patient.protocol import Protocol
from brachy.patient.target import Target, target_of

Asked = Sequence[tuple[str, float | None]]
"""(ROI, Gy or None for the protocol's prescription) of each target that was asked for."""

NESTED_SHARE = 0.9
"""A target of which this part lies inside another is served by that one's template (engineering choice)."""


def prescribed_targets(case: Case, protocol: Protocol, asked: Asked | None) -> list[Target]:
    """Targets of a plan, expanded by the protocol's margin, each marked with the target that it lies inside.

    Parameters
    ----------
    case : Case
        With roles, see `brachy.patient.anatomy.prepare`.
    protocol : Protocol
        Margin, usual prescription and the range of prescriptions it allows.
    asked : sequence of (ROI, Gy or None), optional
        By default the one ROI whose role is target.

    Raises
    ------
    UsageError
        If no ROI or several could be the target, one is named twice, or a prescription is outside the allowed range.
    BrachyError
        If a target has no contours, or lies outside the CT or the patient.
    """
    if asked is None:
        found = [s for s in case.with_role("target") if not s.is_empty]
        names = ", ".join(s.name for s in case.structures) or "none"
        if not found:
            raise UsageError(f"no ROI is a target: name it with --target ROI; the ROIs are: {names}")
        if len(found) > 1:
            listed = ", ".join(s.name for s in found)
            raise UsageError(f"{len(found)} ROIs could be the target ({listed}): choose with --target ROI")
        asked = [(found[0].name, None)]
    low, high = protocol.prescription.allowed_gy
    (external,) = case.with_role("external")
    targets: list[Target] = []
    for name, gy in asked:
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
        if any(drawn.name == other.drawn.name for other in targets):
            raise UsageError(f"target '{drawn.name}' is given twice: give it once")
        _must_hold(case, external, drawn)
        targets.append(target_of(case, protocol, drawn, rx))
    return _nested(targets)


def _must_hold(case: Case, external: Structure, drawn: Structure) -> None:
    """Refuse a target that reaches outside the CT, or most of whose contour points lie outside the patient."""
    points = np.concatenate(drawn.contours_mm)
    if not case.grid.contains(points).all():
        raise BrachyError(
            f"target '{drawn.name}' reaches outside the CT: plan on a CT that holds it, or correct the contours"
        )
    if not external.contains(points).mean() > 0.5:
        raise BrachyError(
            f"target '{drawn.name}' lies outside '{external.name}', the outline of the patient: correct one of them"
        )


def _nested(targets: Sequence[Target]) -> list[Target]:
    """Mark each target that lies inside others with the largest of them, whose template serves both."""
    found = []
    for target in targets:
        low, high = target.structure.bounds_mm
        points = sequence(low, high - low, float(np.cbrt(np.prod(high - low) / 2000.0)))
        points = points[target.structure.contains(points)]
        holders = [
            other.structure
            for other in targets
            if other is not target
            and other.structure.volume_cc > target.structure.volume_cc
            and len(points)
            and other.structure.contains(points).mean() >= NESTED_SHARE
        ]
        outer = max(holders, key=lambda holder: holder.volume_cc, default=None)
        found.append(replace(target, nested_in=outer.name if outer is not None else ""))
    return found
