"""Colours and lines of all pictures: those of Okabe and Ito, which colour-blind readers tell apart.

No two kinds of thing differ in colour alone: isodoses are solid lines of growing weight, what a needle must not
meet is green and broken, each kind by another pattern, targets are thick.

References
----------
Okabe & Ito, Color Universal Design, J*FLY (2002, 2008).
"""

from dataclasses import dataclass

from brachy.errors import UsageError
from brachy.geometry.structures import Structure
from brachy.patient.plan import Plan
from brachy.patient.roles import guess_role

BLACK = "#000000"
ORANGE = "#E69F00"
SKY = "#56B4E9"
GREEN = "#009E73"
YELLOW = "#F0E442"
BLUE = "#0072B2"
VERMILION = "#D55E00"
PURPLE = "#CC79A7"
GREY = "#9A9A9A"
WHITE = "#FFFFFF"

ISODOSES = {50.0: SKY, 100.0: YELLOW, 150.0: ORANGE, 200.0: VERMILION}
"""Isodose lines by % of the prescription, on a dark ground."""

WEIGHTS = {50.0: 1.2, 100.0: 2.4, 150.0: 1.4, 200.0: 1.6}
"""Their widths, points."""

SERIES = (BLUE, VERMILION, GREEN, ORANGE, SKY, BLACK, GREY)
"""Curves on a light ground, other than the targets'."""

PATTERNS = ("solid", "dashed", "dashdot", "dotted")


@dataclass(frozen=True)
class Line:
    """How an outline is drawn: colour, pattern (Matplotlib's word), width in points."""

    colour: str
    pattern: str
    width: float


ROLES = {
    "target": Line(PURPLE, "solid", 2.6),
    "bone": Line(GREEN, "dashed", 1.5),
    "vessel": Line(GREEN, "solid", 1.5),
    "lung": Line(GREEN, "dashdot", 1.5),
    "bowel": Line(GREEN, "dotted", 1.5),
    "bile_duct": Line(GREEN, "dotted", 1.5),
    "gallbladder": Line(GREEN, "dotted", 1.5),
    "external": Line(GREY, "solid", 1.0),
    "liver": Line(GREY, "dashed", 1.0),
    "organ": Line(GREY, "dotted", 1.0),
}
"""Lines of structures by role."""

PLOTLY_DASH = {"solid": "solid", "dashed": "6px,4px", "dashdot": "8px,3px,2px,3px", "dotted": "2px,3px"}
"""The patterns in Plotly's words."""


def isodose_colour(percent: float) -> str:
    """Colour of an isodose line: that of the nearest level below, grey under 50 %.

    Examples
    --------
    >>> isodose_colour(100.0) == YELLOW, isodose_colour(120.0) == YELLOW, isodose_colour(20.0) == GREY
    (True, True, True)
    """
    below = [level for level in ISODOSES if level <= percent]
    return ISODOSES[max(below)] if below else GREY


def curve_line(number: int) -> tuple[str, str]:
    """Colour and pattern of the curve of that number, from 0."""
    return SERIES[number % len(SERIES)], PATTERNS[number // len(SERIES) % len(PATTERNS)]


def role_of(structure: Structure, plan: Plan) -> str:
    """Role of a structure in a plan's pictures: the plan's targets are the targets, whatever they are called."""
    targets = {name for target in plan.targets for name in (target.roi, target.planned_roi)}
    if structure.name in targets:
        return "target"
    role = structure.role
    if not role:
        try:
            role = guess_role(structure.name, structure.interpreted_type, plan.protocol.roles).role
        except UsageError:
            role = "organ"
    return "organ" if role == "target" else role


def line_of(structure: Structure, plan: Plan) -> Line:
    """Line of a structure; a target whose margin is drawn, too, is the thinner of the two."""
    line = ROLES.get(role_of(structure, plan), ROLES["organ"])
    if any(structure.name == t.roi != t.planned_roi for t in plan.targets):
        return Line(line.colour, "dashed", 1.5)
    return line


def shown(structures: tuple[Structure, ...] | list[Structure], plan: Plan) -> list[Structure]:
    """Structures that pictures show, targets last so that they lie on top; not the empty and the ignored ones."""
    kept = [s for s in structures if not s.is_empty and role_of(s, plan) != "ignore"]
    return sorted(kept, key=lambda s: role_of(s, plan) == "target")
