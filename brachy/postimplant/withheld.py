"""What a result cannot say: verdicts and intervals of structures that the implant itself brought to their place.

A target carried over by a registration on the seeds lies where the seeds lie, wherever they are in the patient: its
dose is nearly the planned one, and neither a verdict on its goals nor an interval of it means anything.
"""

from collections.abc import Collection, Mapping, Sequence

from brachy.geometry.structures import Structure
from brachy.patient.evaluation_record import GoalResult, RuleResult, RuleStatus
from brachy.patient.roles import SOFT_OBSTACLES
from brachy.postimplant.record import ImplantGoal, Interval, SeedPlace
from brachy.postimplant.registration import Registration

REASON = "carried over from the plan by the seeds themselves, which hides a shift of the whole implant"


def withheld(registration: Registration | None, carried: Collection[str]) -> dict[str, str]:
    """Structures without verdict and interval, each with the reason.

    Parameters
    ----------
    registration : Registration or None
        How the plan was brought to the CT after the implant.
    carried : collection of str
        Structures that were carried over by it, not contoured on that CT.

    Examples
    --------
    >>> import numpy as np
    >>> made = Registration("seeds", np.eye(4), 0.5, "", uses_seeds=True)
    >>> list(withheld(made, ["GTV"])), withheld(made, []), withheld(None, ["GTV"])
    (['GTV'], {}, {})
    """
    if registration is None or not registration.uses_seeds:
        return {}
    return dict.fromkeys(carried, REASON)


def goal_rows(
    judged: Sequence[GoalResult], without: Collection[str], intervals: Mapping[str, Mapping[str, Interval]]
) -> tuple[ImplantGoal, ...]:
    """Goals of the implant, each with its interval; no verdict, with the reason, for a structure that has none."""
    rows = []
    for goal in judged:
        interval = intervals.get(goal.roi, {}).get(goal.metric)
        row = ImplantGoal.model_validate({**goal.model_dump(), "interval": interval})
        rows.append(row.model_copy(update={"met": None, "reason": REASON}) if goal.roi in without else row)
    return tuple(rows)


def place_rules(
    places: Sequence[SeedPlace],
    structures: Sequence[Structure],
    roles: Collection[str],
    without: Collection[str],
    margin_mm: float,
) -> tuple[RuleResult, ...]:
    """Whether seeds lie in vessels, lung and the like, and beyond the targets' margin.

    Parameters
    ----------
    places : sequence of SeedPlace
        One for each seed.
    structures : sequence of Structure
        Of the CT after the implant, with roles.
    roles : collection of str
        Roles that are asked about even where no structure has them: the protocol's obstacles.
    without : collection of str
        Structures that the seeds themselves brought to their place: no finding about them is kept.
    margin_mm : float
        A seed farther outside every target is beyond it.

    Returns
    -------
    tuple of RuleResult
        One for each role, and one for the margin; "not checked" where nothing of the role is contoured.
    """
    drawn = [s for s in structures if not s.is_empty]
    asked = [role for role in SOFT_OBSTACLES if role in roles or any(s.role == role for s in drawn)]
    rules = []
    for role in asked:
        names = [s.name for s in drawn if s.role == role]
        held = {name: [k + 1 for k, place in enumerate(places) if name in place.organs] for name in names}
        count = sum(len(seeds) for seeds in held.values())
        where = "; ".join(
            f"{name}: seeds {', '.join(map(str, seeds))}" for name, seeds in held.items() if seeds
        )
        status: RuleStatus = "broken" if count else "kept"
        if not names:
            status, where = "not checked", "none contoured"
        elif not count and set(names) <= set(without):
            status, where = "not checked", f"{', '.join(names)}: {REASON}"
        elif not count:
            where = f"none in {', '.join(names)}"
        rules.append(
            _places_rule(f"seeds in {role.replace('_', ' ')}", "0", count if names else None, where, status)
        )
    beyond = [k + 1 for k, place in enumerate(places) if place.beyond_margin]
    where, status = (f"seeds {', '.join(map(str, beyond))}", "broken") if beyond else ("", "kept")
    if not beyond and {place.target for place in places} & set(without):
        status, where = "not checked", REASON
    rules.append(
        _places_rule(f"seeds over {margin_mm:g} mm outside every target", "0", len(beyond), where, status)
    )
    return tuple(rules)


def _places_rule(rule: str, limit: str, worst: float | None, where: str, status: RuleStatus) -> RuleResult:
    return RuleResult(rule=rule, limit=limit, worst=worst, unit="seeds", where=where, status=status)


def sentence(without: Collection[str]) -> tuple[str, ...]:
    """One line that says what has no verdict, why, and what would help; empty where all has one."""
    if not without:
        return ()
    names = ", ".join(without)
    return (
        f"no goal verdict and no interval for {names}: {REASON}; contour {names} on the CT after the implant, or "
        "register by image (--planning-ct CASE) or by organ (contours of one organ on both CTs)",
    )
