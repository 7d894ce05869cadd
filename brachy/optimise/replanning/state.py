"""State of an implantation: what is fixed, what is left, and the needles that were measured."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from brachy.needles.channel import Channel, Needle
from brachy.needles.measured import measured_channel, measured_needle
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
    """State of an implantation, opened for a search.

    Parameters
    ----------
    opened : Opened
        The plan with the measured needles among its candidates.
    fixed : list of PlanNeedle
        Needles with the seeds that are in; empty ones are in place without a seed.
    present : list of PlanNeedle
        Those of them that are still in the patient: measured on a line, or with seeds left to place. A needle all of
        whose seeds are in has been withdrawn: its hole may be used again.
    rest : list of PlanNeedle
        What the plan has left to do: the same needles with their other seeds, and those not begun. `in_place` where
        the seeds are to be loaded through a measured needle.
    closed : set of (template, hole)
        Holes of the lattice through which no more needles go.
    measured : frozenset of (template, hole)
        Needles that lie on measured lines.
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
    measured: frozenset[Key]
    blocked: frozenset[Key] = frozenset()
    news: bool = True


def opened_for(plan: Plan, case: Case) -> Opened:
    """The plan opened with the finer places of its protocol's `[replan]`; strands keep theirs."""
    fine = None if plan.protocol.seeds.supply == "strand" else plan.protocol.replan.step_mm
    return reopen(plan, case, fine)


def stand(plan: Plan, opened: Opened, placed: Placed) -> Standing:
    """Fixed and remaining needles and closed holes, from a plan and a report of what was placed."""
    fixed: list[PlanNeedle] = []
    present: list[PlanNeedle] = []
    rest: list[PlanNeedle] = []
    blocked = placed.blocked | reported_holes(plan)
    closed = closed_holes(plan, blocked)
    measured: dict[Key, Needle] = {}
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
            measured[key] = _measured_needle(opened, needle)
            left = _along(measured[key], left, [s.position_mm for s in inside], least)
        if inside or line is not None:
            depth = np.array([np.linalg.norm(np.subtract(needle.tip_mm, s.position_mm)) for s in inside])
            seeds = tuple(
                s.model_copy(update={"depth_mm": float(d)}) for s, d in zip(inside, depth, strict=True)
            )
            fixed.append(needle.model_copy(update={"seeds": seeds, "in_place": line is not None}))
            if left or line is not None:
                present.append(fixed[-1])
        if left and (key in measured or key not in closed):
            rest.append(needle.model_copy(update={"seeds": tuple(left)}))
    if measured:
        joined = Candidates.of(
            opened.candidates.templates,
            opened.prepared.anchor_mm,
            plan.protocol,
            len(plan.protocol.source.stock_mCi),
            [(template, needle) for (template, _), needle in measured.items()],
            least,
        )
        opened = replace(opened, candidates=joined)
    closed_too, news = {*closed, *measured}, _has_news(plan, placed)
    return Standing(opened, fixed, present, rest, closed_too, frozenset(measured), blocked, news)


def _has_news(plan: Plan, placed: Placed) -> bool:
    """Whether the report has anything that the plan does not have, or the search of the plan was ended early."""
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
    return not known or plan.optimiser.ended_early


def _same(given: Sequence[Any], known: Sequence[Any] | None) -> bool:
    """Whether positions are those of the plan, to the digits of plan.json."""
    return known is not None and bool(rounded(given) == rounded(known))


def _on_line(needle: PlanNeedle, line: tuple[Any, Any]) -> PlanNeedle:
    """The needle along a measured line; its hole lies as far before the skin as it was planned."""
    tip, entry = (np.array(point, dtype=np.float64) for point in line)
    before = needle.depth_mm - needle.depth_from_skin_mm
    found = measured_channel(replace(Channel.of(needle), entry_depth_mm=before), tip, entry)
    return needle.model_copy(
        update={
            "hole_mm": _vector(found.hole_mm),
            "skin_mm": tuple(line[1]),
            "tip_mm": tuple(line[0]),
            "direction": _vector(found.direction),
            "depth_mm": found.tip_depth_mm,
            "depth_from_skin_mm": float(np.linalg.norm(tip - entry)),
            "in_place": True,
        }
    )


def _measured_needle(opened: Opened, needle: PlanNeedle) -> Needle:
    """Candidate seeds along a needle of the plan that lies on a measured line."""
    made, prepared = opened.candidates.templates[needle.template], opened.prepared
    target = next(t.structure for t in prepared.targets if t.name == made.layout.target)
    before = needle.depth_mm - needle.depth_from_skin_mm
    # as recorded, so that a plan that is read again gives the same places
    channel = Channel(
        needle.hole, np.array(needle.hole_mm), np.array(needle.direction), before, needle.depth_mm
    )
    return measured_needle(channel, target, prepared.external, made.tip_offset_mm, opened.plan.protocol)


def _along(
    needle: Needle, left: Sequence[PlanSeed], inside: Sequence[Sequence[float]], least_mm: float
) -> list[PlanSeed]:
    """Seeds that are left, each at the free place of a measured needle nearest to its planned distance from the tip.

    A place is free if it lies `least_mm` from every seed that is in and from those placed before; a seed that finds
    none is left out.
    """
    positions = needle.positions_mm
    free = [
        k
        for k, place in enumerate(positions)
        if all(float(np.linalg.norm(place - np.array(other))) > least_mm - 1e-6 for other in inside)
    ]
    found = []
    for each in left:
        if not free:
            break
        wanted = needle.tip_depth_mm - each.depth_mm
        k = min(free, key=lambda i: abs(needle.depths_mm[i] - wanted))
        free = [i for i in free if abs(needle.depths_mm[i] - needle.depths_mm[k]) > least_mm - 1e-6]
        place = _vector(positions[k])
        depth = needle.tip_depth_mm - float(needle.depths_mm[k])
        found.append(each.model_copy(update={"position_mm": place, "depth_mm": depth}))
    return found


def _vector(values: Float) -> tuple[float, float, float]:
    x, y, z = rounded(values.tolist())
    return x, y, z
