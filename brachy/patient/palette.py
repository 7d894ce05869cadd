"""Colours and lines of everything that is drawn: slices, template views, 3D, curves, reports, RTSTRUCT.dcm.

The one module with colours in it; it stands this low because `io` writes the display colour of a structure and `check`
writes a page. Colours of pictures are those of Okabe and Ito, which colour-blind readers distinguish. No two kinds of
thing differ in colour alone: isodoses are solid lines of growing weight, obstacles are green and each kind has a
pattern of its own, targets are thick.

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

PLOTLY_DASH = {"solid": "solid", "dashed": "6px,4px", "dashdot": "8px,3px,2px,3px", "dotted": "2px,3px"}
"""The patterns in Plotly's words."""

SVG_DASH = {"solid": "", "dashed": "6 4", "dashdot": "8 3 2 3", "dotted": "2 3"}
"""The patterns in SVG's words."""

SHIFT = "#444444"
"""3D: lines from the planned to the found place of a seed."""

CLEAR = "rgba(0,0,0,0)"
"""No filling (Plotly)."""

CHART_TEXT = "#222"
CHART_LINE = "#444"
CHART_GRID = "#e4e4e4"
PAPER = "#fff"
"""Text, axes, grid and ground of the curves in reports (Plotly)."""

FIGURE_GRID = "#e6e6e6"
FIGURE_GROUND = "#595959"
FIGURE_HOLE = "#d9d9d9"
"""Grid of curves, ground and free holes of the template view (Matplotlib)."""

REVIEW_SEED = "#f0c419"
REVIEW_PLACE = "#e4572e"
"""review/*.png: found seeds, and the circle round the place in doubt."""

PAGE = {
    "ink": "#1b1b1b",
    "soft": "#666",
    "rule": "#d9d9d9",
    "good": "#00614a",
    "bad": "#a83c00",
    "bad-ground": "#fbe6da",
    "caution": "#6b5200",
    "caution-ground": "#fff4cf",
    "link": "#005b94",
    "paper": PAPER,
    "button": "#f5f5f5",
    "button-edge": "#999",
    "button-pressed": "#e8e8e8",
    "layer": "#ececec",
    "sample-ground": "#555",
    "sample-hole": "#777",
    "hole": "#ddd",
    "black": BLACK,
    "white": WHITE,
    "planned": BLUE,
    "found": VERMILION,
}
"""Colours of the HTML pages by the names under which page.css uses them: `var(--ink)`."""


@dataclass(frozen=True)
class Line:
    """How an outline is drawn: colour, pattern (Matplotlib's word), width in points."""

    colour: str
    pattern: str
    width: float


@dataclass(frozen=True)
class RoleStyle:
    """How structures of a role are drawn.

    Parameters
    ----------
    line : Line
        Outline in slices and template views.
    solid : str
        Surface in three dimensions.
    opacity : float
        Of that surface, 0 to 1.
    rtstruct : str
        ROI Display Color (3006,002A) where the structure brought none (engineering choice).
    hidden : bool
        The surface is not shown at first, since it would hide the target and the needles.
    """

    line: Line
    solid: str
    opacity: float
    rtstruct: str
    hidden: bool = False


ROLES = {
    "target": RoleStyle(Line(PURPLE, "solid", 2.6), PURPLE, 0.45, "#e62828"),
    "bone": RoleStyle(Line(GREEN, "dashed", 1.5), "#EDE3CF", 1.0, "#f0e6c8"),
    "vessel": RoleStyle(Line(GREEN, "solid", 1.5), GREEN, 0.9, "#3c5adc"),
    "lung": RoleStyle(Line(GREEN, "dashdot", 1.5), GREY, 0.2, "#78c8e6", hidden=True),
    "bowel": RoleStyle(Line(GREEN, "dotted", 1.5), GREEN, 0.35, "#e6a046", hidden=True),
    "bile_duct": RoleStyle(Line(GREEN, "dotted", 1.5), GREEN, 0.9, "#46a046"),
    "gallbladder": RoleStyle(Line(GREEN, "dotted", 1.5), GREEN, 0.6, "#287828"),
    "external": RoleStyle(Line(GREY, "solid", 1.0), GREY, 0.10, "#a0a0a0"),
    "liver": RoleStyle(Line(GREY, "dashed", 1.0), GREY, 0.12, "#965a3c"),
    "heart": RoleStyle(Line(GREEN, "dotted", 1.5), GREEN, 0.35, "#dc3c78", hidden=True),
    "spinal_cord": RoleStyle(Line(GREEN, "dotted", 1.5), GREEN, 0.9, "#f0dc3c", hidden=True),
    "nerve": RoleStyle(Line(GREEN, "dotted", 1.5), GREEN, 0.9, "#e6c83c", hidden=True),
    "kidney": RoleStyle(Line(GREEN, "dotted", 1.5), GREEN, 0.35, "#aa5a28", hidden=True),
    "spleen": RoleStyle(Line(GREEN, "dotted", 1.5), GREEN, 0.35, "#8c3c6e", hidden=True),
    "pancreas": RoleStyle(Line(GREEN, "dotted", 1.5), GREEN, 0.35, "#dcb478", hidden=True),
    "organ": RoleStyle(Line(GREEN, "dotted", 1.0), GREY, 0.25, "#be78c8", hidden=True),
    "soft": RoleStyle(Line(GREY, "dotted", 1.0), GREY, 0.25, "#d2b48c", hidden=True),
}
"""Style of structures by role; a role that is not listed is drawn as "organ", one of `PASSABLE` as "soft"."""

PASSABLE = ("skin", "fat", "muscle", "region", "ignore")
"""Roles that stop no needle, drawn as "soft"."""

RTSTRUCT_OTHER = "#c8c850"
"""ROI Display Color of a structure without a listed role (engineering choice)."""


def rgb(colour: str) -> tuple[int, int, int]:
    """Red, green and blue (0-255) of a colour.

    Examples
    --------
    >>> rgb(ORANGE)
    (230, 159, 0)
    """
    return int(colour[1:3], 16), int(colour[3:5], 16), int(colour[5:7], 16)


def css_variables() -> str:
    """The colours of `PAGE` as variables of a style sheet.

    Examples
    --------
    >>> css_variables()[:40]
    ':root { --ink: #1b1b1b; --soft: #666; --'
    """
    return ":root { " + " ".join(f"--{name}: {colour};" for name, colour in PAGE.items()) + " }"


def style_of(role: str) -> RoleStyle:
    """Style of structures of a role.

    Examples
    --------
    >>> style_of("bone").line.pattern, style_of("device") == ROLES["organ"], style_of("skin") == ROLES["soft"]
    ('dashed', True, True)
    """
    return ROLES.get(role, ROLES["soft" if role in PASSABLE else "organ"])


def rtstruct_colour(role: str) -> tuple[int, int, int]:
    """ROI Display Color (red, green, blue, 0-255) of a structure of a role that brought none of its own.

    Examples
    --------
    >>> rtstruct_colour("target"), rtstruct_colour("")
    ((230, 40, 40), (200, 200, 80))
    """
    return rgb(style_of(role).rtstruct if role else RTSTRUCT_OTHER)


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
            given = structure.interpreted_type, plan.protocol.roles, structure.codes
            role = guess_role(structure.name, *given).role
        except UsageError:
            role = "organ"
    return "organ" if role == "target" else role


def stops_needles(structure: Structure, plan: Plan) -> bool:
    """Whether a structure is an obstacle, as the plan lists it; in a plan without such a list, by its role."""
    for listed in plan.structures:
        if listed.roi == structure.name:
            return listed.obstacle
    return role_of(structure, plan) not in ("target", "external", "liver", *PASSABLE)


def line_of(structure: Structure, plan: Plan) -> Line:
    """Line of a structure; a target whose margin is drawn, too, is the thinner of the two."""
    line = style_of(role_of(structure, plan)).line
    if line.colour == GREY and stops_needles(structure, plan):
        line = ROLES["organ"].line
    if any(structure.name == t.roi != t.planned_roi for t in plan.targets):
        return Line(line.colour, "dashed", 1.5)
    return line


def shown(structures: tuple[Structure, ...] | list[Structure], plan: Plan) -> list[Structure]:
    """Structures that pictures show, targets last so that they lie on top; not the empty and the ignored ones."""
    kept = [s for s in structures if not s.is_empty and role_of(s, plan) != "ignore"]
    return sorted(kept, key=lambda s: role_of(s, plan) == "target")
