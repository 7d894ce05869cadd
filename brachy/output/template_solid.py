"""Solid of a printed template: a plate with a sleeve for every needle along the needle's own axis.

The plate's outer face, on which a needle's depth stop rests, lies in the template's plane (or `standoff_mm` farther
from the patient); the plate reaches from there toward the skin, and the sleeves beyond it. The outer face carries the
letters of the columns and the numbers of the rows, the name of each hole where the pitch allows it, the direction of
the head, and the first characters of the plan's checksum. Notches in the edges mark layer 0 and the middle column.

Local coordinates are mm from hole A1 along the columns, along the rows, and outward from the template's plane.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib import import_module
from typing import Any

import numpy as np
from numpy.typing import NDArray

from brachy.errors import UsageError
from brachy.geometry.structures import Structure
from brachy.needles.template import TemplateLayout, column_letters, parse_hole
from brachy.output.figures import cuts
from brachy.output.template_face import LONGEST_MM, standing
from brachy.patient.plan import Plan

Float = NDArray[np.float64]
Solid = Any
"""A solid of the modeller, `manifold3d.Manifold`, which has no type hints."""

CLEARANCE_MM = 0.2
"""A hole is wider than the needle by this (engineering choice)."""

SEGMENTS = 48
"""Corners of a hole; the needle fits between their flats (engineering choice)."""

BORDER_MM = 10.0
"""Plate beyond the half pitch round the holes, for letters and notches (engineering choice)."""

RAISED_MM = 0.8
LETTER_MM = 4.5
SMALL_LETTER_MM = 2.4
NOTCH_MM = 2.5
"""Height of the characters over the plate; their size, of the small ones at the holes; depth of the notches
(engineering choice)."""

CROSS_MM = (0.8, 2.5)
"""Width and length of the raised lines at the edges on which the lasers lie (engineering choice)."""

SMOOTH_MM = 1e-3
"""Points nearer than this are merged: STL has 32-bit numbers, and a point split in two would be a crack (engineering
choice)."""

BEYOND_MM = 5.0
"""The tool that cuts a hole reaches this far beyond both ends (engineering choice)."""


@dataclass(frozen=True)
class PrintedTemplateOptions:
    """Measures of a printed template, mm. All defaults are engineering choices.

    Parameters
    ----------
    hole_diameter_mm : float, optional
        By default the needle's diameter and 0.2 mm.
    thickness_mm : float
        Of the plate.
    sleeve_mm : float
        Length of the sleeves beyond the plate, along the needle.
    wall_mm : float
        Thickness of a sleeve's wall.
    standoff_mm : float
        Distance of the outer face from the template's plane, away from the patient. Depths from it grow by as much.
    whole_grid : bool
        A sleeve at every hole of the template, not only at those with needles; without a needle along its axis.
    face : {"plate", "skin", "feet"}
        The plate alone, or what it stands on (`brachy.output.template_face`).
    with_patient : bool
        The patient's ID raised beside the plan's code.
    """

    hole_diameter_mm: float | None = None
    thickness_mm: float = 5.0
    sleeve_mm: float = 10.0
    wall_mm: float = 1.5
    standoff_mm: float = 0.0
    whole_grid: bool = False
    face: str = "plate"
    with_patient: bool = False


@dataclass(frozen=True, eq=False)
class Sleeve:
    """A hole of the printed template with the axis of its needle, in local coordinates.

    `place` (3,) is where the axis crosses the template's plane, `outward` (3,) the unit vector from the tip to the hub.
    """

    hole: str
    place: Float
    outward: Float

    @cached_property
    def cosine(self) -> float:
        """Of the angle between the needle and the template's axis, 1 to the digits of plan.json for a parallel one."""
        return round(float(self.outward[2]), 9)

    @property
    def tangent(self) -> float:
        """Of that angle, 0 for a parallel needle."""
        return float(np.sqrt(max(1.0 / self.cosine**2 - 1.0, 0.0)))

    @property
    def across(self) -> Float:
        """Two unit vectors (2, 3) perpendicular to the axis and to each other."""
        side = np.array([1.0, 0.0, 0.0]) - self.outward[0] * self.outward
        side /= np.linalg.norm(side)
        return np.array([side, np.cross(self.outward, side)])

    def along(self, height_mm: float) -> float:
        """Distance along the axis, from the template's plane outward, at which it has a height over that plane."""
        return height_mm / self.cosine

    def at(self, along_mm: float) -> Float:
        """Point (3,) on the axis."""
        found: Float = self.place + along_mm * self.outward
        return found

    def on_face(self, height_mm: float) -> Float:
        """Where the axis crosses a face of the plate, (2,)."""
        return self.place[:2] if self.cosine == 1.0 else self.at(self.along(height_mm))[:2]


def sleeves_of(plan: Plan, template: int, options: PrintedTemplateOptions) -> list[Sleeve]:
    """Sleeves of a template: one a needle, and with `whole_grid` straight ones at the other holes."""
    layout = TemplateLayout.of(plan.templates[template])
    frame = _to_patient(plan, template)[:, :3]
    found = []
    for needle in (n for n in plan.needles if n.template == template):
        (place,) = layout.to_plate([needle.hole_mm]) * [1.0, 1.0, -1.0]
        outward = -(np.array(needle.direction) @ frame)
        found.append(Sleeve(needle.hole, place, outward / np.linalg.norm(outward)))
    if options.whole_grid:
        used = {sleeve.hole for sleeve in found}
        straight = np.array([0.0, 0.0, 1.0])
        found += [
            Sleeve(label, np.array([*layout.place(label), 0.0]), straight)
            for label in layout.labels
            if label not in used
        ]
    return found


def template_solid(
    plan: Plan,
    template: int = 0,
    options: PrintedTemplateOptions | None = None,
    external: Structure | None = None,
) -> Solid:
    """Solid of a template in the patient's frame (LPS), mm.

    Parameters
    ----------
    plan : Plan
        A plan with needles through the template.
    template : int
        Index of the template in the plan.
    options : PrintedTemplateOptions, optional
        Measures.
    external : Structure, optional
        Outline of the patient, for a template that stands on the skin.

    Raises
    ------
    UsageError
        As `check_measures`.
    NothingToStandOnError
        As `brachy.output.template_face.standing`.
    """
    options = options or PrintedTemplateOptions()
    bore = check_measures(options, plan.protocol.needle.radius_mm)
    layout, sleeves = TemplateLayout.of(plan.templates[template]), sleeves_of(plan, template, options)
    low, high = outline_of(plan, template, options)
    top, bottom = options.standoff_mm, options.standoff_mm - options.thickness_mm
    outline = _outline(low, high)
    solids = [outline.extrude(top - bottom).translate((0.0, 0.0, bottom))]
    if options.face != "plate" and external is not None:
        solids.append(standing(options.face, external, layout, low, high, 0.5 * (top + bottom), outline))
    if options.sleeve_mm > 0:
        outer = 0.5 * bore + options.wall_mm
        solids += [_tube(sleeve, outer, options.sleeve_mm, bottom, top) for sleeve in sleeves]
    maker, operation = _modeller().Manifold, _modeller().OpType
    body = maker.batch_boolean(solids, operation.Add)
    inner = 0.5 * bore / np.cos(np.pi / SEGMENTS)
    holes = [_bore(sleeve, float(inner), options, bottom, top) for sleeve in sleeves]
    texts = [_text(*written, top) for written in _labels(plan, template, sleeves, low, high, options)]
    marked = maker.batch_boolean([body, *(text for text in texts if text is not None)], operation.Add)
    heights = (bottom - 1.0, top + 2.0)
    marked = marked + maker.batch_boolean(_cross(layout, low, high, top), operation.Add)
    notches = _notches(layout, low, high, heights)
    found = maker.batch_boolean([marked, *holes, *notches], operation.Subtract)
    return found.transform(_to_patient(plan, template)).simplify(SMOOTH_MM)


def inner_points(plan: Plan, template: int, options: PrintedTemplateOptions) -> Float:
    """Points (n, 3) of the plate's face toward the patient, 3 mm apart, and of the sleeves' ends; patient frame, mm."""
    bottom = options.standoff_mm - options.thickness_mm
    low, high = outline_of(plan, template, options)
    x, y = (np.linspace(a, b, max(2, int((b - a) / 3.0))) for a, b in zip(low, high, strict=True))
    flat = np.stack(np.meshgrid(x, y), axis=-1).reshape(-1, 2)
    outer = 0.5 * check_measures(options, plan.protocol.needle.radius_mm) + options.wall_mm
    turn = np.linspace(0.0, 2.0 * np.pi, 12, endpoint=False)
    ring = outer * np.column_stack([np.cos(turn), np.sin(turn)])
    ends = [
        sleeve.at(sleeve.along(bottom) - options.sleeve_mm) + ring @ sleeve.across
        for sleeve in sleeves_of(plan, template, options)
    ]
    points = np.vstack([np.column_stack([flat, np.full(len(flat), bottom)]), *ends])
    frame = _to_patient(plan, template)
    found: Float = points @ frame[:, :3].T + frame[:, 3]
    return found


def stl_bytes(solid: Solid) -> bytes:
    """Binary STL: 80 bytes of header, number of triangles, then the normal and the corners of each in 32 bits."""
    mesh = solid.to_mesh()
    corners = np.asarray(mesh.vert_properties, dtype=np.float32)[:, :3][np.asarray(mesh.tri_verts)]
    sides = corners.astype(np.float64)
    normal = np.cross(sides[:, 1] - sides[:, 0], sides[:, 2] - sides[:, 0])
    normal /= np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), 1e-30)
    triangle = np.dtype([("normal", "<f4", 3), ("corners", "<f4", (3, 3)), ("attribute", "<u2")])
    record = np.zeros(len(corners), dtype=triangle)
    record["normal"], record["corners"] = normal, corners
    header = b"template of an implant plan, patient frame LPS, mm".ljust(80, b" ")
    return header + len(record).to_bytes(4, "little") + record.tobytes()


def _modeller() -> Any:
    """The library of solids, loaded when one is made."""
    return import_module("manifold3d")


def check_measures(options: PrintedTemplateOptions, needle_radius_mm: float) -> float:
    """Refuse measures that make no template for such needles.

    Parameters
    ----------
    options : PrintedTemplateOptions
        Measures.
    needle_radius_mm : float
        Of the needles.

    Returns
    -------
    float
        Diameter of the holes, mm.

    Raises
    ------
    UsageError
        If a measure is none, or the hole is not wider than the needle.

    Examples
    --------
    >>> round(check_measures(PrintedTemplateOptions(), 0.65), 2)
    1.5
    """
    needle = 2.0 * needle_radius_mm
    bore = needle + CLEARANCE_MM if options.hole_diameter_mm is None else options.hole_diameter_mm
    if not needle < bore <= 20.0:
        raise UsageError(
            f"a hole of {bore:g} mm does not guide a needle of {needle:g} mm: give a little more"
        )
    for name, value, low, high in (
        ("thickness", options.thickness_mm, 1.0, 50.0),
        ("sleeve", options.sleeve_mm, 0.0, 100.0),
        ("wall", options.wall_mm, 0.4, 10.0),
        ("stand-off", options.standoff_mm, 0.0, 200.0),
    ):
        if not low <= value <= high:
            raise UsageError(f"{name} {value:g} mm of the template: give {low:g} to {high:g} mm")
    return bore


def _to_patient(plan: Plan, template: int) -> Float:
    """(3, 4) from local coordinates to the patient's frame."""
    layout = TemplateLayout.of(plan.templates[template])
    return np.column_stack([layout.column, layout.row, -layout.direction, layout.origin_mm])


def outline_of(plan: Plan, template: int, options: PrintedTemplateOptions) -> tuple[Float, Float]:
    """Lowest and highest corner (2,) of the plate, local: round the holes in both of its faces."""
    faces = options.standoff_mm, options.standoff_mm - options.thickness_mm
    places = np.array([s.on_face(face) for face in faces for s in sleeves_of(plan, template, options)])
    margin = 0.5 * plan.templates[template].spacing_mm + BORDER_MM
    extra = np.array([0.0, LETTER_MM + NOTCH_MM + 2.0])  # a line of text above the letters, and one below
    return places.min(axis=0) - margin - extra, places.max(axis=0) + margin + extra


def _outline(low: Float, high: Float) -> Any:
    """Section of the plate, with round corners."""
    size = high - low
    inner = (
        _modeller()
        .CrossSection.square((float(size[0]) - 6.0, float(size[1]) - 6.0))
        .translate((float(low[0]) + 3.0, float(low[1]) + 3.0))
    )
    return inner.offset(3.0, _modeller().JoinType.Round, 2.0, SEGMENTS)


def _tube(sleeve: Sleeve, radius: float, length: float, bottom: float, top: float) -> Solid:
    """Outside of a sleeve: from the middle of the plate to its end, `length` beyond the plate along the axis."""
    middle = 0.5 * (top + bottom)
    end = sleeve.along(bottom) - length
    if sleeve.tangent == 0.0:
        return _rod(sleeve, radius, end, middle)
    # cut level within the plate, so that the slanted end does not stand out of the outer face
    rod = _rod(sleeve, radius, end, sleeve.along(middle) + radius * sleeve.tangent)
    return rod.trim_by_plane((0.0, 0.0, -1.0), -middle)


def _bore(sleeve: Sleeve, radius: float, options: PrintedTemplateOptions, bottom: float, top: float) -> Solid:
    """What is cut out for the needle: through plate, sleeve, what stands on the plate and what it stands on."""
    slant = radius * sleeve.tangent
    length = options.sleeve_mm if options.face == "plate" else max(options.sleeve_mm, LONGEST_MM)
    low = sleeve.along(bottom) - length - BEYOND_MM - slant
    return _rod(sleeve, radius, low, sleeve.along(top) + BEYOND_MM + slant)


def _rod(sleeve: Sleeve, radius: float, low: float, high: float) -> Solid:
    """Cylinder round a needle's axis between two distances along it, outward from the template's plane."""
    frame = np.column_stack([*sleeve.across, sleeve.outward, sleeve.at(low)])
    return _modeller().Manifold.cylinder(high - low, radius, radius, SEGMENTS).transform(frame)


def _labels(
    plan: Plan,
    template: int,
    sleeves: Sequence[Sleeve],
    low: Float,
    high: Float,
    options: PrintedTemplateOptions,
) -> list[tuple[str, float, float, float, float]]:
    """Text, middle (x, y), height, and most width of each label on the outer face."""
    layout = TemplateLayout.of(plan.templates[template])
    pitch = layout.spacing_mm
    holes: dict[str, tuple[float, float]] = {}
    if options.whole_grid:
        holes = {label: layout.place(label) for label in layout.labels}
    for sleeve in sleeves:
        x, y = sleeve.on_face(options.standoff_mm).tolist()
        holes[sleeve.hole] = (x, y)
    columns: dict[str, float] = {}
    rows: dict[str, float] = {}
    if not layout.individual:
        spots = {label: parse_hole(label) for label in holes}
        ordered = sorted(holes, key=lambda label: spots[label])
        holes = {label: holes[label] for label in ordered}
        columns = {column_letters(spots[label][0]): x for label, (x, _) in holes.items()}
        rows = {str(spots[label][1]): y for label, (_, y) in holes.items()}
    inner = np.array([0.5 * BORDER_MM + 0.7, 0.5 * BORDER_MM + 0.7 + LETTER_MM + NOTCH_MM + 2.0])
    (left, bottom), (right, top) = (low + inner).tolist(), (high - inner).tolist()
    height = min(LETTER_MM, 0.8 * pitch)
    found: list[tuple[str, float, float, float, float]] = []
    for c, x in columns.items():
        found += [(c, x, y, height, 0.85 * pitch) for y in (bottom, top)]
    for r, y in rows.items():
        found += [(r, x, y, height, 6.0) for x in (left, right)]
    if pitch >= 8.0:  # below, a hole's own name could not be printed
        for label, (x, y) in holes.items():
            found.append((label, x, y - 0.36 * pitch, SMALL_LETTER_MM, 0.8 * pitch))
    toward = cuts.edge_letters(cuts.template_cut(plan, template, 0.0))[2]
    width = 0.42 * float(high[0] - low[0])
    x = float(low[0]) + 0.5 * width + 2.0  # beside the raised line in the middle
    upper, lower = (
        float(high[1]) - NOTCH_MM - 1.7 - 0.5 * LETTER_MM,
        float(low[1]) + NOTCH_MM + 1.7 + 0.5 * LETTER_MM,
    )
    found.append(("-".join(cuts.SIDES[letter].upper() for letter in toward), x, upper, LETTER_MM, width))
    aside = cuts.towards(layout.column).replace(", ", "-").upper()
    found.append((aside, float(high[0]) - 0.5 * width - 2.0, upper, LETTER_MM, width))
    name = plan.checksum[:8] + (f" / {template + 1}" if len(plan.templates) > 1 else "")
    found.append((name.strip(), x, lower, LETTER_MM, width))
    if options.with_patient:
        found.append((plan.case.patient_id, float(high[0]) - 0.5 * width - 2.0, lower, LETTER_MM, width))
    return found


def _text(text: str, x: float, y: float, height: float, width: float, top: float) -> Solid | None:
    """Raised text about a middle; narrower than `width`."""
    from matplotlib.font_manager import FontProperties
    from matplotlib.textpath import TextPath

    if not text:
        return None
    path: Any = TextPath(
        (0.0, 0.0), text, size=height / 0.73, prop=FontProperties(family="DejaVu Sans", weight="bold")
    )
    section = _modeller().CrossSection(
        [ring[:-1].tolist() for ring in path.to_polygons(closed_only=True) if len(ring) > 3],
        _modeller().FillRule.EvenOdd,
    )
    if section.is_empty():
        return None
    left, bottom, right, upper = section.bounds()
    shrink = min(1.0, width / (right - left))
    section = section.translate((-0.5 * (left + right), -0.5 * (bottom + upper))).scale((shrink, shrink))
    return section.translate((x, y)).extrude(RAISED_MM + 0.2).translate((0.0, 0.0, top - 0.2))


def _cross(layout: TemplateLayout, low: Float, high: Float, top: float) -> list[Solid]:
    """Raised lines behind the notches, along layer 0 and the middle column: there the lasers lie."""
    x, y = _middle(layout, low, high)
    wide, long = CROSS_MM
    start, beside = NOTCH_MM + 0.5, NOTCH_MM + LETTER_MM + 1.5  # beside the numbers of the rows
    flat, upright = (long, wide), (wide, long)
    found = []
    for size, corner in (
        (flat, (float(low[0]) + beside, y - 0.5 * wide)),
        (flat, (float(high[0]) - beside - long, y - 0.5 * wide)),
        (upright, (x - 0.5 * wide, float(low[1]) + start)),
        (upright, (x - 0.5 * wide, float(high[1]) - start - long)),
    ):
        bar = _modeller().CrossSection.square(size).translate(corner).extrude(RAISED_MM + 0.2)
        found.append(bar.translate((0.0, 0.0, top - 0.2)))
    return found


def _middle(layout: TemplateLayout, low: Float, high: Float) -> tuple[float, float]:
    """Where layer 0 and the middle column cross, within the plate."""
    x, y = layout.middle
    x = float(np.clip(x, low[0] + 5.0, high[0] - 5.0))
    return x, float(np.clip(y, low[1] + 5.0, high[1] - 5.0))


def _notches(layout: TemplateLayout, low: Float, high: Float, heights: tuple[float, float]) -> list[Solid]:
    """Prisms cut from the edges at layer 0 (left and right) and at the middle column (top and bottom)."""
    x, y = _middle(layout, low, high)
    found = []
    for corner, inward in (
        ((float(low[0]), y), (1.0, 0.0)),
        ((float(high[0]), y), (-1.0, 0.0)),
        ((x, float(low[1])), (0.0, 1.0)),
        ((x, float(high[1])), (0.0, -1.0)),
    ):
        tip = np.array(corner) + NOTCH_MM * np.array(inward)
        across = np.array([-inward[1], inward[0]])
        back = np.array(corner) - np.array(inward)
        wide = (NOTCH_MM + 1.0) / 2.0
        ring = [tip, back + wide * across, back - wide * across]
        prism = (
            _modeller()
            .CrossSection([[(float(a), float(b)) for a, b in ring]])
            .extrude(heights[1] - heights[0])
        )
        found.append(prism.translate((0.0, 0.0, heights[0])))
    return found
