"""Where an implantation stands: what is fixed, what is left, and the lines on which needles were measured."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from brachy.needles.candidates import Needle, NeedleCandidates
from brachy.needles.needle_path import target_span
from brachy.needles.template import parse_hole
from brachy.optimise.blocked import closed_holes, reported_holes
from brachy.optimise.candidates import Candidates
from brachy.optimise.replanning.implanted_so_far import Placed
from brachy.optimise.replanning.reopen import Opened, reopen
from brachy.patient.case import Case
from brachy.patient.plan import Plan, PlanNeedle, PlanSeed
from brachy.writing import rounded

Float = NDArray[np.float64]
Key = tuple[int, str]


@dataclass(frozen=True, eq=False)
class Standing:
    """Where an implantation stands, opened for a search.

    Parameters
    ----------
    opened : Opened
        The plan with the lines of measured needles among its candidates.
    fixed : list of PlanNeedle
        Needles with the seeds that are in; empty ones are in place without a seed.
    present : list of PlanNeedle
        Those of them that are still in the patient: measured on a line, or with seeds left to place. A needle all of
        whose seeds are in has been withdrawn: its hole may be used again.
    rest : list of PlanNeedle
        What the plan has left to do: the same needles with their other seeds, and those not begun.
    closed : set of (template, hole)
        Holes through which nothing more goes on the lattice.
    lines : dict
        Index of the candidates of each measured needle.
    blocked : frozenset of (template, hole)
        Reported as blocked, now or before; `closed` holds what follows from them too.
    news : bool
        Whether there is anything to plan for: something was reported that the plan does not have, or the plan's own
        search was ended early. Without news the plan is carried on unchanged.
    """

    opened: Opened
    fixed: list[PlanNeedle]
    present: list[PlanNeedle]
    rest: list[PlanNeedle]
    closed: set[Key]
    lines: dict[Key, int]
    blocked: frozenset[Key] = frozenset()
    news: bool = True


def opened_for(plan: Plan, case: Case) -> Opened:
    """The plan opened with the finer places of its protocol's `[replan]`; strands keep theirs."""
    fine = None if plan.protocol.seeds.supply == "strand" else plan.protocol.replan.step_mm
    return reopen(plan, case, fine)


def stand(plan: Plan, opened: Opened, placed: Placed) -> Standing:
    """What is fixed, what is left and which holes are closed, from a plan and what was placed."""
    fixed: list[PlanNeedle] = []
    present: list[PlanNeedle] = []
    rest: list[PlanNeedle] = []
    blocked = placed.blocked | reported_holes(plan)
    closed = closed_holes(plan, blocked)
    line_candidates: dict[Key, NeedleCandidates] = {}
    least = plan.protocol.seeds.spacing_in_needle_mm(opened.prepared.capsule_length_mm)
    for needle in plan.needles:
        key = (needle.template, needle.hole)
        ordered = sorted(needle.seeds, key=lambda each: each.depth_mm)
        names = [(*key, k) for k in range(1, len(ordered) + 1)]
        inside, left = [], []
        for name, each in zip(names, ordered, strict=True):
            if name in placed.lost:
                continue
            if name in placed.seeds or each.placed:
                place = placed.seeds.get(name, each.position_mm)
                inside.append(each.model_copy(update={"position_mm": place, "placed": True}))
            else:
                left.append(each)
        line = placed.lines.get(key)
        if line is None and needle.in_place and left:
            line = needle.tip_mm, needle.skin_mm
        if line is not None:
            needle = _on_line(needle, line)
            line_candidates[key] = _line_candidates(opened, needle)
            left = _along(line_candidates[key], left, [s.position_mm for s in inside], least)
        if inside or line is not None:
            depth = np.array([np.linalg.norm(np.subtract(needle.tip_mm, s.position_mm)) for s in inside])
            seeds = tuple(
                s.model_copy(update={"depth_mm": float(d)}) for s, d in zip(inside, depth, strict=True)
            )
            fixed.append(needle.model_copy(update={"seeds": seeds, "in_place": line is not None}))
            if left or line is not None:
                present.append(fixed[-1])
        if left and (key in line_candidates or key not in closed):
            rest.append(needle.model_copy(update={"seeds": tuple(left)}))
    lines: dict[Key, int] = {}
    if line_candidates:
        templates = (*opened.templates, *line_candidates.values())
        lines = {key: len(opened.templates) + k for k, key in enumerate(line_candidates)}
        strengths = len(plan.protocol.source.stock_mCi)
        joined = Candidates.of(templates, opened.prepared.anchor_mm, plan.protocol, strengths)
        opened = replace(opened, templates=templates, candidates=joined)
    news = _has_news(plan, placed)
    return Standing(opened, fixed, present, rest, {*closed, *lines}, lines, blocked, news)


def _has_news(plan: Plan, placed: Placed) -> bool:
    """Whether anything was reported that the plan does not have already, or its own search was ended early."""
    seeds = {
        (needle.template, needle.hole, k): seed.position_mm
        for needle in plan.needles
        for k, seed in enumerate(sorted(needle.seeds, key=lambda each: each.depth_mm), 1)
        if seed.placed
    }
    lines = {(n.template, n.hole): (n.tip_mm, n.skin_mm) for n in plan.needles if n.in_place}
    known = (
        placed.blocked <= reported_holes(plan)
        and not placed.lost
        and all(_same(place, seeds.get(name)) for name, place in placed.seeds.items())
        and all(_same(line, lines.get(key)) for key, line in placed.lines.items())
    )
    return not known or bool(plan.optimiser.get("time_limit_s") or plan.optimiser.get("interrupted"))


def _same(given: Sequence[Any], known: Sequence[Any] | None) -> bool:
    """Whether positions are those of the plan, to the digits of plan.json."""
    return known is not None and bool(rounded(given) == rounded(known))


def _on_line(needle: PlanNeedle, line: tuple[Any, Any]) -> PlanNeedle:
    """The needle along a measured line; its hole lies as far before the skin as it was planned."""
    tip, entry = (np.array(point, dtype=np.float64) for point in line)
    way = tip - entry
    length = float(np.linalg.norm(way))
    before = needle.depth_mm - needle.depth_from_skin_mm
    unit = way / length
    return needle.model_copy(
        update={
            "hole_mm": _vector(entry - before * unit),
            "skin_mm": tuple(line[1]),
            "tip_mm": tuple(line[0]),
            "direction": _vector(unit),
            "depth_mm": length + before,
            "depth_from_skin_mm": length,
            "in_place": True,
        }
    )


def _line_candidates(opened: Opened, needle: PlanNeedle) -> NeedleCandidates:
    """Places for seeds along a needle that is in, from its tip or the distal margin back to where it enters the target.

    The path is there, so obstacles say nothing any more; distal and skin margin are kept.
    """
    made, rules = opened.templates[needle.template], opened.plan.protocol
    hole, unit = np.array(needle.hole_mm), np.array(needle.direction)
    target = next(t.structure for t in opened.prepared.targets if t.name == made.layout.target)
    span = target_span(target, hole, unit, rules.template.lateral_overshoot_mm)
    depths = np.zeros(0)
    if span is not None:
        deepest = min(needle.depth_mm - made.tip_offset_mm, span[1] - rules.seeds.distal_margin_mm)
        step = rules.seeds.step_mm if rules.seeds.supply == "strand" else rules.replan.step_mm
        depths = np.arange(deepest, span[0] - 1e-9, -step)
        places = hole + depths[:, None] * unit
        below = -opened.prepared.external.signed_distance_mm(places) if len(depths) else depths
        depths = depths[below > rules.seeds.skin_margin_mm]
    column, row = parse_hole(needle.hole)
    own = Needle(
        needle.hole, column, row, hole, np.array(needle.skin_mm), unit, depths,
        needle.depth_mm, span or (0.0, 0.0),
    )  # fmt: skip
    none = np.zeros((0, 2), dtype=np.int64)
    gaps = np.abs(depths[:, None] - depths[None])
    least = rules.seeds.spacing_in_needle_mm(opened.prepared.capsule_length_mm)
    close = np.argwhere(np.triu(gaps < least - 1e-6, 1)).astype(np.int64)
    return NeedleCandidates(
        layout=replace(made.layout, direction=unit),
        needles=(own,),
        blocked=(),
        positions_mm=hole + depths[:, None] * unit,
        needle_of=np.zeros(len(depths), dtype=np.int64),
        tip_offset_mm=made.tip_offset_mm,
        seed_conflicts=close,
        needle_conflicts=none,
        edge_points_mm=np.zeros((0, 3)),
        edge_layer=np.zeros(0, dtype=np.int64),
        edge_needs_tip_mm=np.zeros((0, 1)),
        edge_covered_by=np.zeros((0, 1), dtype=bool),
        edge_cause=(),
        notes=(),
    )


def _along(
    line: NeedleCandidates, left: Sequence[PlanSeed], inside: Sequence[Sequence[float]], least_mm: float
) -> list[PlanSeed]:
    """Seeds that are left, each at the free place of the line nearest to its distance from the tip.

    A place is free that lies `least_mm` from every seed that is in and from those placed before; a seed that finds
    none is left out.
    """
    own = line.needles[0]
    free = [
        k
        for k, place in enumerate(line.positions_mm)
        if all(float(np.linalg.norm(place - np.array(other))) > least_mm - 1e-6 for other in inside)
    ]
    found = []
    for each in left:
        if not free:
            break
        wanted = own.max_tip_depth_mm - each.depth_mm
        k = min(free, key=lambda i: abs(own.depths_mm[i] - wanted))
        free = [i for i in free if abs(own.depths_mm[i] - own.depths_mm[k]) > least_mm - 1e-6]
        place = _vector(line.positions_mm[k])
        depth = own.max_tip_depth_mm - float(own.depths_mm[k])
        found.append(each.model_copy(update={"position_mm": place, "depth_mm": depth}))
    return found


def _vector(values: Float) -> tuple[float, float, float]:
    x, y, z = rounded(values.tolist())
    return x, y, z
