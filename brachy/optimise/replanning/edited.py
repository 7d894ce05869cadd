"""Manual edits of a finished plan: evaluated as given, or kept fixed while the other needles are optimised again."""

from collections.abc import Sequence

import numpy as np

from brachy.errors import BrachyError
from brachy.needles.channel import Channel
from brachy.needles.needle_path import skin_entry
from brachy.optimise.candidates import without_conflicts
from brachy.optimise.control import Progress, SearchControl
from brachy.optimise.goals import reach_goals
from brachy.optimise.replanning.edits import Edit, EditedNeedle, edited_needles, in_words, needle_at
from brachy.optimise.replanning.reopen import (
    Opened,
    completed,
    loading_of,
    problem_with,
    reopen,
    searched_needles,
)
from brachy.optimise.search import Solution, anneal, moves_for
from brachy.patient.case import Case
from brachy.patient.plan import Plan, PlanNeedle, PlanSeed
from brachy.writing import rounded


def plan_edited(
    plan: Plan,
    case: Case,
    edits: Sequence[Edit],
    *,
    optimise_rest: bool = False,
    seed: int = 0,
    threads: int | None = None,
    time_limit: float | None = None,
    progress: Progress | None = None,
    control: SearchControl | None = None,
) -> Plan:
    """Apply edits by hand and evaluate the result: a new plan that names its parent.

    Parameters
    ----------
    plan : Plan
        What is edited; it stays as it is.
    case : Case
        Its case.
    edits : sequence of Edit
        Of `brachy.optimise.replanning.edits.read_edits`.
    optimise_rest : bool
        Fix the needles that are edited (one that is removed stays out) and optimise all others again.
    seed, threads, time_limit, progress, control
        As for `brachy.plan`.

    Raises
    ------
    UsageError, BrachyError
        If an edit cannot be carried out, or the case is another one.

    Notes
    -----
    Rules that an edit breaks are stated in `rules`, not refused: an edit takes precedence over a rule, and the plan
    states it.
    """
    opened = reopen(plan, case)
    changed = edited_needles(tuple(edits), plan)
    touched = {(each.template, each.hole) for each in changed}
    fixed = [_needle(each, opened) for each in changed if each.depths_mm]
    begun = [needle for needle in plan.needles if needle.begun]
    fixed += begun
    closed = touched | {(needle.template, needle.hole) for needle in begun}
    rest = [needle for needle in plan.needles if (needle.template, needle.hole) not in closed]
    sources = list(plan.sources)
    optimiser = plan.optimiser.only("seed", "directions", "blocked")
    notes = ["changed by hand: " + "; ".join(sorted(_sentence(edit) for edit in edits))]
    if optimise_rest:
        control = SearchControl.of(
            control, seed=seed, threads=threads, time_limit=time_limit, progress=progress
        )
        control.show("influence")
        problem = problem_with(opened, fixed, closed)
        start = without_conflicts(loading_of(rest, problem.candidates, plan), problem.candidates)
        rule = plan.protocol.search
        moves = moves_for(len(problem.candidates), rule.fine_moves)
        value = float(sum(problem.terms_of(start).values()))
        control.show("search")
        rng = control.rng("by hand")
        found = anneal(problem, Solution(start, value), moves, rule.fine_hot, rule.cold, rng, control)
        found, raised = reach_goals(found, problem, plan.protocol, control)
        rest, sources = searched_needles(opened, problem, found.loading, sources)
        terms = problem.terms_of(found.loading)
        early, ended = control.early_end()
        optimiser = optimiser.having(
            objective=sum(terms.values()), terms=terms, raised_for_goals=raised, **early
        )
        notes += ended
    if not (fixed or rest):
        raise BrachyError("no needle is left: a plan without seeds has no dose")
    child = completed(opened, [*fixed, *rest], sources, optimiser, notes)
    return child.model_copy(
        update={"optimiser": child.optimiser.having(changes=in_words(plan, child))}
    ).sealed()


def _needle(each: EditedNeedle, opened: Opened) -> PlanNeedle:
    """Needle through a template hole with seeds at given depths; the tip follows from the deepest seed.

    A needle of the plan keeps its own direction, a new one lies along the template's axis.
    """
    made = opened.candidates.templates[each.template]
    old = needle_at(opened.plan, each.template, each.hole)
    hole = made.layout.at(each.hole)
    direction = made.layout.direction if old is None else np.array(old.direction)
    entry = skin_entry(opened.prepared.external, hole, direction, each.depths_mm[0])
    if entry is None or entry.depth_mm <= 0:
        raise BrachyError(
            f"the axis of hole {each.hole} does not enter the patient before {each.depths_mm[0]:g} mm"
        )
    tip = each.depths_mm[0] + made.tip_offset_mm
    channel = Channel(each.hole, hole, direction, entry.depth_mm, tip)
    return PlanNeedle(
        hole=each.hole,
        template=each.template,
        hole_mm=_vector(hole),
        skin_mm=_vector(channel.entry_mm),
        tip_mm=_vector(channel.tip_mm),
        direction=_vector(direction),
        depth_mm=tip,
        depth_from_skin_mm=tip - entry.depth_mm,
        seeds=tuple(
            PlanSeed(
                position_mm=kept or _vector(channel.at(depth)),
                depth_mm=tip - depth,
                source=kind,
            )
            for depth, kind, kept in zip(each.depths_mm, each.sources, each.kept_mm, strict=True)
        ),
    )


def _vector(values: np.ndarray[tuple[int], np.dtype[np.float64]]) -> tuple[float, float, float]:
    x, y, z = rounded(values.tolist())
    return x, y, z


def _sentence(edit: Edit) -> str:
    what = f"seed {edit.seed} of needle {edit.hole}" if edit.seed is not None else f"needle {edit.hole}"
    if edit.action == "add":
        return f"seed added in hole {edit.hole} at {edit.depth_mm:g} mm"
    if edit.action == "remove":
        return f"{what} removed"
    return f"{what} moved to {edit.depth_mm:g} mm"
