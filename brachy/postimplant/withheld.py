"""What a result cannot say: verdicts and intervals of structures that the implant itself brought to their place.

A target carried over by a registration on the seeds lies where the seeds lie, wherever they are in the patient: its
dose is nearly the planned one, and neither a verdict on its goals nor an interval of it means anything.
"""

from collections.abc import Collection, Sequence

from brachy.patient.plan import GoalResult
from brachy.postimplant.record import ImplantGoal
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


def goal_rows(judged: Sequence[GoalResult], without: Collection[str]) -> tuple[ImplantGoal, ...]:
    """Goals of the implant; no verdict, with the reason, for a structure that has none."""
    rows = []
    for goal in judged:
        row = ImplantGoal.model_validate(goal.model_dump())
        rows.append(row.model_copy(update={"met": None, "reason": REASON}) if goal.roi in without else row)
    return tuple(rows)


def sentence(without: Collection[str]) -> tuple[str, ...]:
    """One line that says what has no verdict, why, and what would help; empty where all has one."""
    if not without:
        return ()
    names = ", ".join(without)
    return (
        f"no goal verdict and no interval for {names}: {REASON}; contour {names} on the CT after the implant, or "
        "register by image (--planning-ct CASE) or by organ (contours of one organ on both CTs)",
    )
