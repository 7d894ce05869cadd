"""Every rule of the protocol, recomputed from a finished plan's geometry alone, with its worst case and place."""

from collections.abc import Sequence

from brachy.planfile import PlanNeedle, PlanTemplate, RuleResult
from brachy.protocol import Protocol
from brachy.source import Source
from brachy.structures import Structure


def check_rules(
    needles: Sequence[PlanNeedle],
    templates: Sequence[PlanTemplate],
    targets: Sequence[tuple[Structure, float]],
    structures: Sequence[Structure],
    protocol: Protocol,
    source: Source,
) -> tuple[RuleResult, ...]:
    """Check every rule.

    `targets` are the planned targets (as expanded) with their prescriptions in Gy; a template's `target` is the
    name of one of them. `structures` carry their roles: one external, and the obstacles among them.
    """
    raise NotImplementedError
