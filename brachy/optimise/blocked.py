"""Template holes that cannot be used: those reported during the implantation, and those that follow from them.

plan.json keeps what was reported (`optimiser.blocked`). The holes closed with them are derived each time from the
protocol's `replan.blocked_radius_mm`, so that replanning again does not let them grow.
"""

from collections.abc import Collection

import numpy as np

from brachy.needles.template import TemplateLayout
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
        layout = TemplateLayout.of(plan.templates[template])
        place = np.array(layout.place(hole))
        for other in layout.labels:
            if np.linalg.norm(layout.place(other) - place) <= radius + 1e-6:
                found.add((template, other))
    return frozenset(found)
