"""Every rule of the protocol, recomputed from a finished plan's geometry alone, with its worst case and place."""

from collections.abc import Sequence

from brachy.planfile import PlanNeedle, PlanTemplate, RuleResult
from brachy.protocol import Protocol
from brachy.source import Source
from brachy.structures import Structure


def check_rules(
    needles: Sequence[PlanNeedle],
    templates: Sequence[PlanTemplate],
    structures: Sequence[Structure],
    protocol: Protocol,
    source: Source,
) -> tuple[RuleResult, ...]:
    """Check every rule; `structures` carry their roles, a template's target is found by its name."""
    raise NotImplementedError
