"""Independent check of a plan for another day of implantation, on which its seeds are weaker or stronger."""

from dataclasses import replace
from datetime import date
from pathlib import Path

import numpy as np

from brachy.check.folder import DVH_POINTS, METRIC_TOLERANCE, are_axial, opened, points_in, seeds_of
from brachy.check.independent import dose_gy
from brachy.check.items import CheckItem
from brachy.check.written_obstacles import contours_of
from brachy.errors import BrachyError
from brachy.patient.implant_date import date_of_plan
from brachy.patient.plan import Plan

LEAST_DAYS = 1
"""Decay over less than this is not checked: a day is 1.2 % of 125I (engineering choice)."""

RECOMPUTED = ("D90_gy", "V100_pct")
"""Metrics of targets that are computed again for the day."""


def items_on(folder: str | Path, on: date) -> list[CheckItem]:
    """Strengths of a plan on a day of implantation, and its required D90 and V100 of the targets with them.

    Parameters
    ----------
    folder : path
        Folder with plan.json, RTPLAN.dcm and RTSTRUCT.dcm.
    on : date
        Day of the implantation.

    Returns
    -------
    list of CheckItem
        One for each source, with the factor of decay from the day for which the plan was made, and one for each goal,
        which fails if the goal is missed. No goals if the day is that of the plan.

    Raises
    ------
    BrachyError
        If the plan has no day of implantation, or a file is missing.

    Examples
    --------
    >>> items_on("no-such-folder", date(2026, 1, 1))
    Traceback (most recent call last):
        ...
    brachy.errors.BrachyError: no plan at no-such-folder: give a plan folder or its plan.json
    """
    place = Path(folder)
    plan = Plan.load(place)
    planned, _ = date_of_plan(plan)
    if planned is None:
        raise BrachyError(
            "the plan names no day of implantation, so that its strengths cannot be decayed: leave --implant-on out, "
            "or plan again with it"
        )
    days = (on - planned).days
    apart = f"{abs(days)} days {'before' if days < 0 else 'after'} {planned}"
    items = []
    for index, entry in enumerate(plan.sources):
        factor = 2.0 ** (-days / entry.half_life_days)
        items.append(
            CheckItem(
                f"strength of source {index + 1} on {on}, {apart}",
                f"{entry.air_kerma_strength_U:.4g} U on {planned}",
                f"{entry.air_kerma_strength_U * factor:.4g} U, factor {factor:.3f}",
                None, None, "", True, "S_K x 2^(-days / T1/2)",
            )
        )  # fmt: skip
    return items + (_goals(plan, place, on, days) if abs(days) >= LEAST_DAYS else [])


def _goals(plan: Plan, place: Path, on: date, days: int) -> list[CheckItem]:
    """Required goals of the targets with the strengths of the day, the dose computed by quadrature."""
    rtplan, rtstruct = opened(place / "RTPLAN.dcm"), opened(place / "RTSTRUCT.dcm")
    seeds = [
        replace(seed, strength_U=seed.strength_U * 2.0 ** (-days / seed.half_life_days))
        for seed in seeds_of(rtplan, plan)
    ]
    items = []
    judged: set[tuple[str, str]] = set()
    for target in plan.targets:
        contours = contours_of(rtstruct, target.roi)
        goals = [goal for goal in plan.evaluation.goals if goal.roi == target.roi and goal.required]
        if not are_axial(contours):
            continue
        gy = dose_gy(points_in(contours, DVH_POINTS), seeds, plan.evaluation.formalism)
        found = {
            "D90_gy": float(np.percentile(gy, 10)),
            "V100_pct": 100.0 * float(np.mean(gy >= target.prescription_gy)),
        }
        tolerance = {"D90_gy": METRIC_TOLERANCE * target.prescription_gy, "V100_pct": 100 * METRIC_TOLERANCE}
        for goal in goals:
            if goal.metric not in RECOMPUTED:
                continue
            judged.add((goal.roi, goal.metric))
            value, unit = found[goal.metric], "Gy" if goal.metric == "D90_gy" else "%"
            met: bool | None = value >= goal.limit if goal.op == ">=" else value <= goal.limit
            source = f"{DVH_POINTS} Halton points, dose recomputed"
            if abs(value - goal.limit) <= tolerance[goal.metric]:
                met, source = None, f"{source}; nearer to the limit than they decide"
            items.append(
                CheckItem(f"{goal.metric} of {goal.roi} if implanted on {on}", f"{goal.op} {goal.limit:g} {unit}",
                          f"{value:.4g} {unit}", None, None, "", met, source)
            )  # fmt: skip
    return items + [
        CheckItem(f"{goal.metric} of {goal.roi} if implanted on {on}", f"{goal.op} {goal.limit:g}", "-", None, None, "",
                  None, "not recomputed for that day")
        for goal in plan.evaluation.goals
        if goal.required and (goal.roi, goal.metric) not in judged
    ]  # fmt: skip
