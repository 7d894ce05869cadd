"""Planning again during the implantation: what is in stays, the rest makes up for it."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from brachy.case import Case
from brachy.core.loading import exact_dose
from brachy.edits import in_words
from brachy.errors import BrachyError
from brachy.needle_path import target_span
from brachy.needles import Needle, Offer
from brachy.optimise.assemble import blocked_in
from brachy.optimise.candidates import Candidates
from brachy.optimise.goals import SURE_PCT, least_v100_pct
from brachy.optimise.objective import hinge_terms
from brachy.optimise.reopen import Opened, completed, game_with, loading_of, reopen, searched_needles
from brachy.optimise.search import Control, Found, Game, Progress, anneal, generator, moves_for
from brachy.placed import Placed
from brachy.planfile import Plan, PlanNeedle, PlanSeed, PlanSource, rounded
from brachy.protocol import Protocol
from brachy.template import column_letters, parse_hole

Float = NDArray[np.float64]
Key = tuple[int, str]

PRESSURES = (1.0, 2.0, 4.0, 8.0, 16.0)
"""Factors on the weight of underdose, tried in turn until the V100 aimed for is met, by the new plan or by the old one
carried on (engineering choice)."""

MOST_AIMED_PCT = 99.5
"""More V100 is never aimed for."""

KEPT_D90 = 0.995
"""Part of the D90 of the old plan carried on that the new one must keep."""

Figures = dict[str, dict[str, float]]


@dataclass(frozen=True, eq=False)
class Standing:
    """Where an implantation stands, opened for a search.

    Parameters
    ----------
    opened : Opened
        The plan with the lines of measured needles among its offers.
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
        Offer of the line of each measured needle.
    blocked : frozenset of (template, hole)
        Found impossible, now or before.
    """

    opened: Opened
    fixed: list[PlanNeedle]
    present: list[PlanNeedle]
    rest: list[PlanNeedle]
    closed: set[Key]
    lines: dict[Key, int]
    blocked: frozenset[Key] = frozenset()


def replan(
    plan: Plan,
    case: Case,
    placed: Placed,
    *,
    seed: int = 0,
    threads: int | None = None,
    time_limit: float | None = None,
    progress: Progress | None = None,
    cache: Path | None = None,
) -> Plan:
    """Plan the rest of an implantation round what is placed; a child that names its parent.

    Parameters
    ----------
    plan : Plan
        As it was before.
    case : Case
        The plan's case.
    placed : Placed
        Of `brachy.placed.read_placed`.
    seed, threads, time_limit, progress
        As for `brachy.plan`.
    cache : Path, optional
        Folder of the plan, in which the influence matrix is kept (`influence.cache`, safe to delete).

    Returns
    -------
    Plan
        Placed seeds stand in it to the last digit, marked `placed`. `optimiser.replan` has D90, V100, V150 and V200 of
        each target on the samples of the search: `now` (what is in), `old` (the old plan carried on) and `new`;
        `optimiser.changes` the changes in words, `optimiser.short_by` and `optimiser.helps_most` what is missing where
        a required goal is out of reach.

    Raises
    ------
    BrachyError
        If the case is another one than the plan's.

    Notes
    -----
    The new plan covers no less than the old one carried on (V100 not lower, D90 not lower by more than 0.5 %, one of
    them higher, on the samples of the search); where the search finds none, the old plan is carried on.

    Examples
    --------
    >>> from brachy.optimise.planner import plan
    >>> from brachy.phantom import load_phantom
    >>> from brachy.protocol import change, load_protocol
    >>> quick = change(load_protocol("liver-metastasis"), search={"starts": 1, "moves": 2000, "fine_moves": 0})
    >>> sphere = load_phantom("sphere-35mm")
    >>> before = plan(sphere, quick, direction=(0, 0))
    >>> blocked = frozenset({(0, before.needles[0].hole)})
    >>> after = replan(before, sphere, Placed({}, frozenset(), blocked, {}))
    >>> after.parent == before.checksum, blocked & {(n.template, n.hole) for n in after.needles}
    (True, frozenset())
    """
    standing = stand(plan, replace(opened_for(plan, case), cache=cache), placed)
    control = Control(max(1, threads or os.cpu_count() or 1), time_limit, progress)
    return concluded(plan, standing, *search_rest(plan, standing, seed, control), control)


def opened_for(plan: Plan, case: Case) -> Opened:
    """The plan opened with the finer places of its protocol's `[replan]`; strands keep theirs."""
    fine = None if plan.protocol.seeds.supply == "strand" else plan.protocol.replan.step_mm
    return reopen(plan, case, fine)


def stand(plan: Plan, opened: Opened, placed: Placed) -> Standing:
    """What is fixed, what is left and which holes are closed, from a plan and what was placed."""
    fixed: list[PlanNeedle] = []
    present: list[PlanNeedle] = []
    rest: list[PlanNeedle] = []
    blocked = placed.blocked | blocked_in(plan)
    closed = blocked | _near_blocked(plan, blocked)
    line_offers: dict[Key, Offer] = {}
    least = plan.protocol.seeds.spacing_in_needle_mm(opened.source.capsule_length_mm)
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
            line_offers[key] = _line_offer(opened, needle)
            left = _along(line_offers[key], left, [s.position_mm for s in inside], least)
        if inside or line is not None:
            depth = np.array([np.linalg.norm(np.subtract(needle.tip_mm, s.position_mm)) for s in inside])
            seeds = tuple(
                s.model_copy(update={"depth_mm": float(d)}) for s, d in zip(inside, depth, strict=True)
            )
            fixed.append(needle.model_copy(update={"seeds": seeds, "in_place": line is not None}))
            if left or line is not None:
                present.append(fixed[-1])
        if left and (key in line_offers or key not in closed):
            rest.append(needle.model_copy(update={"seeds": tuple(left)}))
    lines: dict[Key, int] = {}
    if line_offers:
        offers = (*opened.offers, *line_offers.values())
        lines = {key: len(opened.offers) + k for k, key in enumerate(line_offers)}
        strengths = len(plan.protocol.source.stock_mCi)
        joined = Candidates.of(offers, opened.anchor_mm, plan.protocol, strengths)
        opened = replace(opened, offers=offers, candidates=joined)
    return Standing(opened, fixed, present, rest, {*closed, *lines}, lines, blocked)


def _near_blocked(plan: Plan, blocked: frozenset[Key]) -> set[Key]:
    """Holes within the protocol's distance of a blocked one."""
    radius = plan.protocol.replan.blocked_radius_mm
    found: set[Key] = set()
    for template, hole in blocked:
        lattice = plan.templates[template]
        column, row = parse_hole(hole)
        reach = int(radius / lattice.spacing_mm + 1e-9)
        for c in range(max(column - reach, 0), min(column + reach, lattice.columns - 1) + 1):
            for r in range(max(row - reach, 1), min(row + reach, lattice.rows) + 1):
                if np.hypot(c - column, r - row) * lattice.spacing_mm <= radius + 1e-6:
                    found.add((template, column_letters(c) + str(r)))
    return found


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


def _line_offer(opened: Opened, needle: PlanNeedle) -> Offer:
    """Places for seeds along a needle that is in, from its tip or the distal margin back to where it enters the target.

    The path is there, so obstacles say nothing any more; distal and skin margin are kept.
    """
    made, rules = opened.offers[needle.template], opened.plan.protocol
    hole, unit = np.array(needle.hole_mm), np.array(needle.direction)
    target = next(p.planned for p in opened.prescribed if p.planned.name == made.layout.target)
    (external,) = opened.case.with_role("external")
    span = target_span(target, hole, unit, rules.template.lateral_overshoot_mm)
    depths = np.zeros(0)
    if span is not None:
        deepest = min(needle.depth_mm - made.tip_offset_mm, span[1] - rules.seeds.distal_margin_mm)
        step = rules.seeds.step_mm if rules.seeds.supply == "strand" else rules.replan.step_mm
        depths = np.arange(deepest, span[0] - 1e-9, -step)
        below = -external.signed_distance_mm(hole + depths[:, None] * unit) if len(depths) else depths
        depths = depths[below > rules.seeds.skin_margin_mm]
    column, row = parse_hole(needle.hole)
    own = Needle(
        needle.hole, column, row, hole, np.array(needle.skin_mm), unit, depths,
        needle.depth_mm, span or (0.0, 0.0),
    )  # fmt: skip
    none = np.zeros((0, 2), dtype=np.int64)
    gaps = np.abs(depths[:, None] - depths[None])
    least = rules.seeds.spacing_in_needle_mm(opened.source.capsule_length_mm)
    close = np.argwhere(np.triu(gaps < least - 1e-6, 1)).astype(np.int64)
    return Offer(
        layout=replace(made.layout, direction=unit),
        needles=(own,),
        blocked=(),
        positions_mm=hole + depths[:, None] * unit,
        needle_of=np.zeros(len(depths), dtype=np.int64),
        tip_offset_mm=made.tip_offset_mm,
        conflicts=close,
        needle_conflicts=none,
        edge_points_mm=np.zeros((0, 3)),
        edge_layer=np.zeros(0, dtype=np.int64),
        edge_needs_tip_mm=np.zeros((0, 1)),
        edge_covered_by=np.zeros((0, 1), dtype=bool),
        edge_cause=(),
        notes=(),
    )


def _along(
    line: Offer, left: Sequence[PlanSeed], inside: Sequence[Sequence[float]], least_mm: float
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


def search_rest(
    plan: Plan, standing: Standing, seed: int, control: Control
) -> tuple[Game, Found | None, dict[str, Figures], float]:
    """The best loading of what is left, or None where the old plan is carried on; and the figures of all three."""
    opened, protocol = standing.opened, plan.protocol
    control.show("influence")
    game = game_with(opened, standing.fixed, standing.closed, standing.present)
    every = [*standing.rest]
    start = loading_of(_to_offers(every, standing), game.candidates, plan)
    game = _preferring(game, start, protocol)
    points = np.concatenate([part.points_mm[: part.counts[game.level]] for part in game.samples])
    carried = game.board.base + _dose_of(every, opened, points)
    figures = {"now": figures_of(game, game.board.base), "old": figures_of(game, carried)}
    raised = float(plan.optimiser.get("raised_for_goals", 1.0))
    rule = protocol.search
    to_come = len(standing.rest) / max(len(standing.rest) + len(standing.fixed), 1)
    least = min(least_v100_pct(protocol) + protocol.replan.reserve_pct * to_come, MOST_AIMED_PCT)
    control.show("search")
    moves = moves_for(len(game.candidates), protocol.replan.moves)
    best: Found | None = None
    covered = -1.0
    carried_pct = min(values["V100_pct"] for values in figures["old"].values())
    here = start
    for number, pressure in enumerate(PRESSURES):
        # underdose alone: what is in may be hot already, and seeds beside it must not be kept away for that
        objective = protocol.objective.model_copy(
            update={"underdose": raised * pressure * protocol.objective.underdose}
        )
        other = replace(game, terms=hinge_terms(game.samples, objective, game.level))
        dice = generator(seed, "replan", number)
        value = float(sum(other.terms_of(here).values()))
        tried = anneal(other, Found(here, value), moves, rule.fine_hot, rule.cold, dice, control)
        here = tried.loading
        found = figures_of(game, exact_dose(game.board, tried.loading))
        worst = min(values["V100_pct"] for values in found.values())
        if no_worse(found, figures["old"]) and worst > covered:
            best, covered, figures["new"] = tried, worst, found
        if max(covered, carried_pct) >= least or control.stopped():
            break
    if best is None:
        figures["new"] = figures["old"]
    return game, best, figures, raised


def concluded(
    plan: Plan,
    standing: Standing,
    game: Game,
    found: Found | None,
    figures: dict[str, Figures],
    raised: float,
    control: Control,
) -> Plan:
    """The new plan of a search, with what is in, evaluated and in words."""
    needles, sources = continued(plan, standing, game, found)
    if not any(needle.seeds for needle in needles):
        raise BrachyError("no seed is placed and none can be: there is nothing to plan")
    optimiser: dict[str, Any] = {
        key: value for key, value in plan.optimiser.items() if key in ("seed", "directions")
    }
    optimiser |= {"raised_for_goals": raised, "replan": figures, "carried_on": found is None}
    out = sorted(standing.closed - set(standing.lines))
    optimiser["blocked"] = [{"template": template, "hole": hole} for template, hole in out]
    least = least_v100_pct(plan.protocol, required=True) - SURE_PCT
    short = {
        roi: {
            "V100_pct": round(max(least - values["V100_pct"], 0.0), 3),
            "D90_gy": round(max(_rx(plan, roi) - values["D90_gy"], 0.0), 3),
        }
        for roi, values in figures["new"].items()
        if values["V100_pct"] < least or values["D90_gy"] < _rx(plan, roi)
    }
    if short:
        optimiser["short_by"] = short
        loading = (
            found.loading
            if found is not None
            else loading_of(_to_offers(standing.rest, standing), game.candidates, plan)
        )
        optimiser["helps_most"] = helps_most(game, loading, standing)
    said = ["replanned in the room: placed seeds stand where they were placed"]
    early, ended = control.told()
    optimiser |= early
    said += ended
    child = completed(standing.opened, needles, sources, optimiser, said)
    words = list(in_words(plan, child))
    return child.model_copy(update={"optimiser": {**child.optimiser, "changes": words}}).sealed()


def continued(
    plan: Plan, standing: Standing, game: Game, found: Found | None
) -> tuple[list[PlanNeedle], list[PlanSource]]:
    """Needles of what is in and what is to come, and their sources; without a loading the old plan is carried on."""
    sources = list(plan.sources)
    if found is None:
        return joined(standing.fixed, standing.rest), sources
    added, sources = searched_needles(standing.opened, game, found.loading, sources)
    return joined(standing.fixed, _from_offers(added, standing)), sources


def _rx(plan: Plan, roi: str) -> float:
    return next(t.prescription_gy for t in plan.targets if roi in (t.roi, t.planned_roi))


def joined(fixed: Sequence[PlanNeedle], added: Sequence[PlanNeedle]) -> list[PlanNeedle]:
    """Needles with what is in and what is added; a needle that is in place and holds nothing is withdrawn."""
    found: dict[Key, PlanNeedle] = {(n.template, n.hole): n for n in fixed}
    for needle in added:
        key = (needle.template, needle.hole)
        old = found.get(key)
        if old is None:
            found[key] = needle
            continue
        if not old.in_place and needle.depth_mm > old.depth_mm:  # again through the same hole, and deeper
            same = {name: getattr(needle, name) for name in ("tip_mm", "depth_mm", "depth_from_skin_mm")}
            old = old.model_copy(update=same)
        tip = np.array(old.tip_mm)
        every = [
            seed.model_copy(update={"depth_mm": float(np.linalg.norm(tip - np.array(seed.position_mm)))})
            for seed in (*old.seeds, *needle.seeds)
        ]
        seeds = sorted(every, key=lambda each: each.depth_mm)
        found[key] = old.model_copy(update={"seeds": tuple(seeds)})
    return [needle for needle in found.values() if needle.seeds]


def _to_offers(needles: Sequence[PlanNeedle], standing: Standing) -> list[PlanNeedle]:
    """Needles on measured lines named after their own offers, as the candidates name them."""
    return [
        n.model_copy(update={"template": standing.lines.get((n.template, n.hole), n.template)})
        for n in needles
    ]


def _from_offers(needles: Sequence[PlanNeedle], standing: Standing) -> list[PlanNeedle]:
    back = {index: key[0] for key, index in standing.lines.items()}
    return [
        n.model_copy(update={"template": back.get(n.template, n.template), "in_place": n.template in back})
        for n in needles
    ]


def _preferring(game: Game, old: NDArray[np.int8], protocol: Protocol) -> Game:
    """A price on every seed and needle that the old plan does not have."""
    board = game.board
    used = np.zeros(len(board.needle_cost), dtype=bool)
    used[board.needle_of[old > 0]] = True
    used |= board.base_count > 0
    needle_cost = board.needle_cost + np.where(used, 0.0, protocol.replan.change_needle)
    seed_cost = board.seed_cost + np.where(old > 0, 0.0, protocol.replan.change_seed)
    return replace(game, board=board._replace(needle_cost=needle_cost, seed_cost=seed_cost))


def _dose_of(needles: Sequence[PlanNeedle], opened: Opened, points: Float) -> Float:
    """Dose (n,) of seeds where they are planned, whatever the spacing."""
    seeds = [(seed, needle.direction) for needle in needles for seed in needle.seeds]
    if not seeds:
        return np.zeros(len(points))
    places = np.array([seed.position_mm for seed, _ in seeds]) - opened.anchor_mm
    rows = opened.table.rows(points, places, np.array([axis for _, axis in seeds]))[:-1].astype(np.float64)
    first = opened.strengths_u[0]
    shares = [opened.plan.sources[seed.source].air_kerma_strength_U / first for seed, _ in seeds]
    found: Float = np.array(shares) @ rows
    return found


def figures_of(game: Game, dose: Float) -> Figures:
    """D90, V100, V150 and V200 of each target on the samples of the game, for the dose (n,) there."""
    parts: dict[str, list[tuple[Float, Float]]] = {}
    rx: dict[str, float] = {}
    first = 0
    for part in game.samples:
        count = part.counts[game.level]
        if part.kind == "target" and count:
            weight = np.full(count, part.share / count)
            parts.setdefault(part.name, []).append((dose[first : first + count], weight))
            rx[part.name] = part.prescription_gy
        first += count
    found = {}
    for name, pieces in parts.items():
        values = np.concatenate([value for value, _ in pieces])
        weights = np.concatenate([weight for _, weight in pieces])
        order = np.argsort(values)
        below = np.cumsum(weights[order]) / weights.sum()
        d90 = float(values[order][min(int(np.searchsorted(below, 0.1)), len(values) - 1)])
        above = {
            f"V{level}_pct": 100.0 * float(weights[values >= level / 100.0 * rx[name]].sum() / weights.sum())
            for level in (100, 150, 200)
        }
        found[name] = {"D90_gy": d90, **above}
    return found


def no_worse(new: Figures, old: Figures) -> bool:
    """Whether every target keeps its V100 and, to 0.5 %, its D90, and one of them is better somewhere."""
    kept = all(
        new[roi]["V100_pct"] >= values["V100_pct"] and new[roi]["D90_gy"] >= KEPT_D90 * values["D90_gy"]
        for roi, values in old.items()
    )
    better = any(
        new[roi]["V100_pct"] > values["V100_pct"] or new[roi]["D90_gy"] > values["D90_gy"]
        for roi, values in old.items()
    )
    return kept and better


def helps_most(game: Game, loading: NDArray[np.int8], standing: Standing) -> str:
    """The one further seed that raises the lowest V100 most, in words."""
    board = game.board
    dose = exact_dose(board, loading)
    before = min(values["V100_pct"] for values in figures_of(game, dose).values())
    gains = []
    for j in np.flatnonzero(loading == 0):
        after = figures_of(game, dose + board.influence[j])
        gains.append((min(v["V100_pct"] for v in after.values()) - before, -int(j)))
    if not gains or max(gains)[0] <= 0:
        return "no single further seed raises V100"
    gain, k = max(gains)
    candidates = game.candidates
    number = int(candidates.needle_of[-k])
    offer = candidates.offers[int(candidates.offer_of[number])]
    hole = offer.needles[int(candidates.local[number])].hole
    return (
        f"a further seed in hole {hole}, {candidates.depths_mm[-k]:.1f} mm from the template, raises V100 "
        f"by {gain:.2g} %"
    )


def _vector(values: Float) -> tuple[float, float, float]:
    x, y, z = rounded(values.tolist())
    return x, y, z


__all__ = ["Standing", "continued", "figures_of", "no_worse", "replan", "search_rest", "stand"]
