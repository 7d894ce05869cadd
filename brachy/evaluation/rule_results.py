"""Results of rules: kept or broken by a worst case, or not checked."""

from collections.abc import Iterable

import numpy as np

from brachy.evaluation.lateral_rule import TOLERANCE_MM
from brachy.patient.evaluation_record import RuleResult, RuleStatus

NOTHING = "no needle or seed that could still be changed"
"""Why a rule is not checked for which nothing is left to judge."""

NO_PAIR = "no two of them, of which one could still be changed"
"""The same of a rule on distances between two needles or seeds."""

TOLERANCE_DEG = 0.01
"""An angle is kept to this: a direction in plan.json has 6 significant digits (engineering choice)."""


def rule_result(
    rule: str, limit: str, worst: float | None, met: bool, where: str = "", unit: str = "mm"
) -> RuleResult:
    """Result of a rule."""
    status: RuleStatus = "kept" if met else "broken"
    return RuleResult(rule=rule, limit=limit, worst=worst, unit=unit, where=where, status=status)


def not_checked(rule: str, limit: str, why: str, unit: str = "mm") -> RuleResult:
    """A rule that there is nothing to judge by."""
    return RuleResult(rule=rule, limit=limit, worst=None, unit=unit, where=why, status="not checked")


def at_least(
    rule: str, limit: float, found: Iterable[tuple[float, str]], sign: str = ">=", nothing: str = NOTHING
) -> RuleResult:
    """Result of the rule that the smallest of (value, where) is at least the limit; `nothing` says why none."""
    worst, where = min(found, key=lambda pair: pair[0], default=(None, ""))
    shown = f"{sign} {limit:g} mm"
    if worst is None:
        return not_checked(rule, shown, nothing)
    return rule_result(rule, shown, finite(worst), worst >= limit - TOLERANCE_MM, where)


def at_most(rule: str, limit: float, found: Iterable[tuple[float, str]]) -> RuleResult:
    """Result of the rule that the largest of (value, where) is at most the limit."""
    worst, where = max(found, key=lambda pair: pair[0], default=(None, ""))
    # two things that must coincide do so to the tolerance, which is then shown as the limit
    shown = f"<= {limit or TOLERANCE_MM:g} mm"
    if worst is None:
        return not_checked(rule, shown, NOTHING)
    return rule_result(rule, shown, finite(worst), worst <= limit + TOLERANCE_MM, where)


def finite(value: float | None) -> float | None:
    """None for an infinite value, which stands for something that is missing altogether."""
    return value if value is None or np.isfinite(value) else None
