"""Recomputes the rules of a plan from its RT Plan and RT Structure Set on disk."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pydicom
from numpy.typing import NDArray

from brachy.check import geometry, written_obstacles
from brachy.check.items import CheckItem
from brachy.check.written_access import access_items
from brachy.check.written_obstacles import contours_of
from brachy.patient.plan import Plan, PlanNeedle, RuleResult

Float = NDArray[np.float64]

KEPT_MM = 0.02
"""Tolerance of a recomputed rule: positions and contours in DICOM are rounded to about 0.001 mm, and an end of the
target on an axis is found to 0.001 mm (engineering choice)."""

AGREE_MM = 0.2
"""Tolerance between the distance in plan.json and the recomputed one: needles are sampled every 0.5 mm (engineering
choice)."""

COMPARED_ELSEWHERE = ("prescription", "activity")
"""Rules on numbers of the prescription and the source, which have comparisons of their own in `brachy.check.folder`."""


def rule_items(plan: Plan, rtplan: pydicom.Dataset, rtstruct: pydicom.Dataset) -> list[CheckItem]:
    """Comparisons for all rules of plan.json: those of needles, seeds, skin, obstacles and target are recomputed.

    The others (lateral margin, lattice) are not checked, and what the plan states is repeated with them.
    """
    drawn = written_obstacles.drawn_structures(plan, rtstruct)
    recomputed = _recomputed(plan, rtplan, rtstruct, drawn)
    outside = access_items(plan, _changeable(plan, rtplan), drawn)
    stated = [
        outside.pop(rule.rule)
        if rule.rule in outside
        else _item(rule, recomputed[rule.rule])
        if rule.rule in recomputed
        else _stated(rule)
        for rule in plan.rules
        if rule.broken or rule.rule not in COMPARED_ELSEWHERE
    ]
    known = {rule.rule for rule in plan.rules}
    missing = [_unstated(plan, name, value) for name, value in recomputed.items() if name not in known]
    return [*stated, *missing, *outside.values(), *written_obstacles.items(plan, rtstruct)]


def _stated(rule: RuleResult) -> CheckItem:
    """A rule that cannot be recomputed from the files: not checked, or failed if the plan itself states it broken."""
    worst = "-" if rule.worst is None else f"{rule.worst:g} {rule.unit}".strip()
    where = f", {rule.where}" if rule.where else ""
    return CheckItem(
        f"rule: {rule.rule}",
        rule.limit,
        worst,
        None,
        None,
        "",
        False if rule.broken else None,
        f"not recomputed; plan.json states: {rule.status}{where}",
    )


def _unstated(plan: Plan, name: str, found: tuple[float, float, int, str]) -> CheckItem:
    """A rule that plan.json does not state: a fault, but of a plan of version 1, which knew fewer obstacles."""
    value, limit, sense, where = found
    kept = plan.version == 1 and sense * (value - limit) >= -KEPT_MM
    shown = f"{value:.5g} mm" if np.isfinite(value) else f"over {geometry.REACH_MM:g} mm, or none"
    source = f"recomputed from RTPLAN and RTSTRUCT, not stated in plan.json; {where}".rstrip("; ")
    return CheckItem(f"rule: {name}", f">= {limit:g} mm", shown, None, None, "", bool(kept), source)


def _item(rule: RuleResult, found: tuple[float, float, int, str]) -> CheckItem:
    """Comparison of a rule with its recomputed (value, limit, sense, where); sense 1 is at least, -1 at most."""
    value, limit, sense, where = found
    kept = sense * (value - limit) >= -KEPT_MM
    stated = np.inf if rule.worst is None else rule.worst
    far = geometry.REACH_MM - 1.0
    same = abs(value - stated) <= AGREE_MM or (value > far and stated > far)
    shown = f"{value:.5g} mm" if np.isfinite(value) else f"over {geometry.REACH_MM:g} mm, or none"
    return CheckItem(
        f"rule: {rule.rule}",
        rule.limit,
        shown,
        float(f"{abs(value - stated):.3g}") if np.isfinite(value) and np.isfinite(stated) else None,
        AGREE_MM,
        "mm from plan.json",
        None if rule.status == "not checked" and not np.isfinite(value) else bool(kept and same),
        f"recomputed from RTPLAN and RTSTRUCT; {where}".rstrip("; "),
    )


def _recomputed(
    plan: Plan, rtplan: pydicom.Dataset, rtstruct: pydicom.Dataset, drawn: Sequence[written_obstacles.Drawn]
) -> dict[str, tuple[float, float, int, str]]:
    """(value, limit, sense, where) of the rules that can be recomputed from the files on disk, by name of the rule."""
    begun = {f"{n.template + 1}:{n.hole}": n for n in plan.needles if n.begun}
    every = [_as_placed(needle, begun.get(needle.name)) for needle in geometry.written_needles(rtplan)]
    needles = [needle for needle in every if needle.name not in begun]
    rules = plan.protocol
    inside = {s.position_mm for n in plan.needles for s in n.seeds if s.placed}
    placed = np.array([_is_placed(seed, inside) for needle in every for seed in needle.seeds], dtype=np.bool_)
    to_come = _to_come(every, placed)
    if not to_come:
        return {}
    lengths = [float(np.linalg.norm(needle.tip - needle.hole)) for needle in needles]
    found: dict[str, tuple[float, float, int, str]] = {
        "needle length": (max(lengths, default=-np.inf), rules.needle.max_needle_mm, -1, ""),
        "between needles": (
            geometry.needle_spacing(every, set(begun)) - 2 * rules.needle.radius_mm,
            rules.needle.min_needle_spacing_mm,
            1,
            "",
        ),
        "between seeds": (geometry.seed_spacing(every, placed), rules.seeds.min_spacing_mm, 1, ""),
    }
    found |= _along_needles(plan, needles, to_come)
    found |= written_obstacles.clearances(plan, drawn, needles)
    outline = written_obstacles.outline(plan, drawn)
    if outline is not None:
        depth, where = geometry.skin_depth(to_come, outline)
        found["seed to skin"] = (depth, rules.seeds.skin_margin_mm, 1, where)
    ends = [_ends(plan, rtstruct, to_come, number) for number in range(len(plan.templates))]
    if rules.template.lateral_overshoot_mm == 0 and ends and None not in ends:
        distal = min(end[0] for end in ends if end is not None)
        proximal = min(min(end) for end in ends if end is not None)
        found["seed to distal edge"] = (distal, rules.seeds.distal_margin_mm, 1, "")
        found["seed between first entry and last exit"] = (proximal, 0.0, 1, "")
    return found


def _changeable(plan: Plan, rtplan: pydicom.Dataset) -> list[geometry.WrittenNeedle]:
    """Needles of which nothing is in the patient yet."""
    begun = {f"{n.template + 1}:{n.hole}" for n in plan.needles if n.begun}
    return [needle for needle in geometry.written_needles(rtplan) if needle.name not in begun]


def _along_needles(
    plan: Plan, needles: list[geometry.WrittenNeedle], to_come: list[geometry.WrittenNeedle]
) -> dict[str, tuple[float, float, int, str]]:
    """Rules on the places of seeds along their needle, where all seeds have capsules of one length."""
    capsules = {float(entry.data["capsule"]["length_mm"]) for entry in plan.sources}
    if len(capsules) != 1:
        return {}
    (capsule,) = capsules
    depths = [np.sort(np.linalg.norm(needle.seeds - needle.tip, axis=1)) for needle in to_come]
    apart = min((float(np.diff(each).min(initial=np.inf)) for each in depths), default=np.inf)
    limit = plan.protocol.seeds.spacing_in_needle_mm(capsule)
    found = {"between seeds of a needle": (apart, limit, 1, "")}
    wanted = plan.protocol.needle.tip_to_seed_mm + 0.5 * capsule
    firsts = [float(np.linalg.norm(n.seeds - n.tip, axis=1).min()) for n in needles if len(n.seeds)]
    if firsts:
        off = max(abs(first - wanted) for first in firsts)
        found[f"tip to first seed centre, off {wanted:g} mm"] = (off, 0.0, -1, "")
    return found


def _to_come(
    needles: list[geometry.WrittenNeedle], placed: NDArray[np.bool_]
) -> list[geometry.WrittenNeedle]:
    """The needles with only the seeds that are not placed yet; needles without such seeds are left out."""
    parts = np.split(placed, np.cumsum([len(needle.seeds) for needle in needles])[:-1])
    return [
        replace(needle, seeds=needle.seeds[~inside])
        for needle, inside in zip(needles, parts, strict=True)
        if not inside.all()
    ]


def _as_placed(needle: geometry.WrittenNeedle, begun: PlanNeedle | None) -> geometry.WrittenNeedle:
    """A needle, or for one that is inserted its recorded line: its placed seeds need not lie on its axis."""
    if begun is None:
        return needle
    hole, tip = np.array(begun.hole_mm), np.array(begun.tip_mm)
    return geometry.WrittenNeedle(needle.name, hole, tip, np.array(begun.direction), needle.seeds)


def _is_placed(seed: Float, inside: set[tuple[float, float, float]]) -> bool:
    return any(float(np.linalg.norm(seed - np.array(place))) < KEPT_MM for place in inside)


def _ends(
    plan: Plan, rtstruct: pydicom.Dataset, needles: list[geometry.WrittenNeedle], number: int
) -> tuple[float, float] | None:
    """Distances of a template's seeds to the ends of its target; None where that has no axial contours."""
    target = plan.target_of(number)
    stack = geometry.Stack.of(contours) if (contours := contours_of(rtstruct, target.planned_roi)) else None
    own = [needle for needle in needles if needle.name.startswith(f"{number + 1}:")]
    return geometry.ends_in_target(own, stack) if stack and own else None
