"""Template holes that cannot be used: those reported during the implantation, and those that follow from them.

plan.json keeps what was reported (`optimiser.blocked`). The holes closed with them are derived each time from the
protocol's `replan.blocked_radius_mm`, so that replanning again does not let them grow.
"""

from collections.abc import Collection

import numpy as np

from brachy.needles.template import column_letters, parse_hole
from brachy.patient.plan import Plan

Hole = tuple[int, str]
"""Index of the template in the plan, and label of the hole."""


def reported_holes(plan: Plan) -> frozenset[Hole]:
    """Holes reported as blocked during the implantation, as plan.json keeps them."""
    return frozenset((each.template, each.hole) for each in plan.optimiser.blocked)


def closed_holes(plan: Plan, reported: Collection[Hole]) -> frozenset[Hole]:
    """Reported holes, and all holes of the same template within the protocol's `replan.blocked_radius_mm` of one.

    Parameters
    ----------
    plan : Plan
        Its templates and protocol.
    reported : collection of (template, hole)
        Holes reported as blocked.
    """
    radius = plan.protocol.replan.blocked_radius_mm
    found = set(reported)
    for template, hole in reported:
        lattice = plan.templates[template]
        column, row = parse_hole(hole)
        reach = int(radius / lattice.spacing_mm + 1e-9)
        for c in range(max(column - reach, 0), min(column + reach, lattice.columns - 1) + 1):
            for r in range(max(row - reach, 1), min(row + reach, lattice.rows) + 1):
                if np.hypot(c - column, r - row) * lattice.spacing_mm <= radius + 1e-6:
                    found.add((template, column_letters(c) + str(r)))
    return frozenset(found)
