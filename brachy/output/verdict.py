"""The verdict on a plan in three lines: what the targets get, what organs get, and what stands against it."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from brachy.dosimetry.shown_metrics import symbol_and_unit
from brachy.patient.colour import Colour
from brachy.patient.evaluation_record import GoalResult, RuleResult
from brachy.patient.plan import Plan

NAMED_ORGANS = 3
"""Organs that are named in the second line (engineering choice)."""
NAMED_RULES = 2
"""Rules of each state that are named in the third line (engineering choice)."""

SEVERITY: tuple[Colour, ...] = ("green", "amber", "red")


@dataclass(frozen=True)
class VerdictLine:
    """One of the three lines: what it is about, its colour, and the text."""

    about: str
    colour: Colour
    text: str


def verdict(plan: Plan) -> tuple[VerdictLine, VerdictLine, VerdictLine]:
    """Three lines: targets, organs, and what stands against the plan.

    Green only where something was checked and holds: an organ without a goal, a rule that is reported or not checked
    and a ROI that was not understood make a line amber, a goal that is missed or a rule that is broken red.

    Examples
    --------
    >>> from inspect import signature
    >>> list(signature(verdict).parameters)
    ['plan']
    """
    return _of_targets(plan), _of_organs(plan), _against(plan)


def _of_targets(plan: Plan) -> VerdictLine:
    names = _target_names(plan)
    goals = [goal for goal in plan.evaluation.goals if goal.roi in names]
    parts = []
    for roi in dict.fromkeys(goal.roi for goal in goals):
        own = sorted((goal for goal in goals if goal.roi == roi), key=lambda goal: not goal.required)
        parts.append(f"{roi}: {', '.join(map(_goal, own))}")
    # an aim that is missed is no failure of the plan, and no green one either
    colours = [goal.colour if goal.required or goal.colour == "green" else "amber" for goal in goals]
    return VerdictLine("target", _worst(colours, nothing="amber"), "; ".join(parts) or "no goal for a target")


def _of_organs(plan: Plan) -> VerdictLine:
    names = _target_names(plan)
    goals = [goal for goal in plan.evaluation.goals if goal.roi not in names]
    judged = sorted((goal for goal in goals if goal.value is not None), key=room)
    if goals:
        shown = [f"{goal.roi}: {_goal(goal)}" for goal in judged[:NAMED_ORGANS]]
        unchecked = [goal.roi for goal in goals if goal.value is None]
        if len(judged) > NAMED_ORGANS:
            shown.append(f"{len(judged) - NAMED_ORGANS} more")
        if unchecked:
            shown.append(f"not checked: {', '.join(unchecked)}")
        return VerdictLine("organs", _worst([goal.colour for goal in goals]), "; ".join(shown))
    stopping = {structure.roi for structure in plan.structures if structure.obstacle}
    doses = [(dose, roi) for roi in stopping if (dose := _d2cc(plan, roi)) is not None]
    doses.sort(key=lambda each: (-each[0], each[1]))
    highest = ", ".join(f"{roi} {dose:.3g} Gy" for dose, roi in doses[:NAMED_ORGANS])
    return VerdictLine(
        "organs",
        "amber",
        "the protocol has no goal for an organ" + (f"; highest D2cc: {highest}" if highest else ""),
    )


def _against(plan: Plan) -> VerdictLine:
    found: list[tuple[Colour, str]] = []
    for status in ("broken", "reported", "not checked"):
        rules = [rule for rule in plan.rules if rule.status == status]
        if rules:
            found.append((rules[0].colour, f"{_number(len(rules), 'rule')} {status}: {_named(rules)}"))
    unclear = [structure.roi for structure in plan.structures if not structure.understood]
    if unclear:
        found.append(("amber", f"ROIs not understood: {', '.join(unclear)}"))
    blocked = _blocked(plan)
    if blocked:
        found.append(("amber", f"{_number(sum(blocked.values()), 'hole')} blocked ({_counted(blocked)})"))
    if plan.check.failed:
        found.append(("red", f"independent check: {plan.check.words}"))
    if not plan.check.made:
        found.append(("amber", "no independent check was made"))
    if plan.optimiser.ended_early:
        found.append(("amber", "the search was ended early"))
    if plan.assumed:
        found.append(("green", f"{_number(len(plan.assumed), 'assumption')}, listed"))
    return VerdictLine(
        "against it",
        _worst([colour for colour, _ in found]),
        "; ".join(text for _, text in found) or "nothing known",
    )


def _goal(goal: GoalResult) -> str:
    """'D90 139 Gy (>= 120) met'."""
    symbol, unit = symbol_and_unit(goal.metric)
    limit = f"({goal.op} {goal.limit:.4g})"
    if goal.value is None:
        return f"{symbol} {limit} {goal.verdict}"
    aim = "" if goal.required else ", an aim"
    near = ", within its uncertainty" if goal.near else ""
    state = (
        "met" if goal.met else "not judged" if goal.met is None else "MISSED" if goal.required else "missed"
    )
    return f"{symbol} {goal.value:.4g} {unit} {limit} {state}{near}{aim}".replace("  ", " ")


def room(goal: GoalResult) -> float:
    """What is left to the limit, as a share of it: the least first."""
    assert goal.value is not None
    share = goal.value / goal.limit if goal.limit else float("inf")
    return 1.0 - share if goal.op == "<=" else share - 1.0


def organs_by_nearness(plan: Plan) -> list[str]:
    """Structures that are no target: those with a goal by what is left to its limit, then obstacles, then the rest.

    Within the last two by D2cc, the highest first: what holds a target has the target's dose in its own.
    """
    targets = _target_names(plan)
    left: dict[str, float] = {}
    for goal in plan.evaluation.goals:
        if goal.value is not None and goal.roi not in targets:
            left[goal.roi] = min(left.get(goal.roi, float("inf")), room(goal))
    stopping = {structure.roi for structure in plan.structures if structure.obstacle}

    def key(name: str) -> tuple[float, bool, float]:
        return left.get(name, float("inf")), name not in stopping, -(_d2cc(plan, name) or 0.0)

    return sorted((name for name in plan.evaluation.structures if name not in targets), key=key)


def _named(rules: Sequence[RuleResult]) -> str:
    """The first rules, each with its worst case; of those that are exceeded alike, the farthest."""
    if rules[0].status == "reported":
        rules = sorted(rules, key=lambda rule: -(rule.worst or 0.0))
    shown = [
        rule.rule if rule.worst is None else f"{rule.rule} {rule.worst:.3g} {rule.unit}".strip()
        for rule in rules[:NAMED_RULES]
    ]
    more = len(rules) - len(shown)
    return ", ".join(shown) + (f" and {more} more" if more else "")


def _blocked(plan: Plan) -> dict[str, int]:
    """Blocked holes of the chosen directions by cause, and those reported during the implantation."""
    found: dict[str, int] = {}
    # the holes of a direction are those of parallel needles
    for tried in () if plan.individual else plan.optimiser.directions:
        for row in tried.tried:
            if row.outcome == "chosen":
                for cause, count in row.blocked.items():
                    found[cause] = found.get(cause, 0) + count
    if plan.optimiser.blocked:
        found["found during the implantation"] = len(plan.optimiser.blocked)
    return found


def _number(count: int, thing: str) -> str:
    return f"{count} {thing}{'' if count == 1 else 's'}"


def _counted(causes: dict[str, int]) -> str:
    return ", ".join(f"{cause} {count}" for cause, count in causes.items())


def _d2cc(plan: Plan, roi: str) -> float | None:
    return plan.evaluation.structures.get(roi, {}).get("D2cc_gy")


def _target_names(plan: Plan) -> set[str]:
    return {name for target in plan.targets for name in (target.roi, target.planned_roi)}


def _worst(colours: Iterable[Colour], nothing: Colour = "green") -> Colour:
    return max(colours, key=SEVERITY.index, default=nothing)
