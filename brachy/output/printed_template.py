"""The template in the hand: a plate with a guide sleeve for every needle, as STL for a 3D printer.

The plate's outer face, on which a needle's depth stop rests, lies in the template's plane (or `standoff_mm` farther
from the patient); the plate reaches from there toward the skin, and the sleeves beyond it. On the outer face stand
the letters of the columns and the numbers of the rows, the name of each hole where there is room, the direction of
the head, and the first characters of the plan's checksum. Notches in the edges mark layer 0 and the middle column.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from brachy.errors import BrachyError, UsageError
from brachy.geometry.structures import Structure
from brachy.needles.template import column_letters, parse_hole
from brachy.output.figures import cuts
from brachy.patient.case import Case
from brachy.patient.options import number
from brachy.patient.plan import Plan
from brachy.writing import write_bytes_whole

Float = NDArray[np.float64]
Solid = Any
"""A solid of the modeller, `manifold3d.Manifold`, which has no type hints that are found."""

CLEARANCE_MM = 0.2
"""The hole is wider than the needle by this (engineering choice)."""

SEGMENTS = 48
"""Corners of a hole; the needle fits between their flats."""

BORDER_MM = 10.0
"""Plate beyond the half pitch round the holes, for letters and notches (engineering choice)."""

RAISED_MM = 0.8
LETTER_MM = 4.5
SMALL_LETTER_MM = 2.4
NOTCH_MM = 2.5
"""Height of the characters over the plate; their size, of the small ones at the holes; depth of the notches
(engineering choice)."""

SMOOTH_MM = 1e-3
"""Points nearer than this are one: STL has 32-bit numbers, and a point split in two would be a crack."""

CLEAR_MM = 1.0
"""The guide stays at least this far from the skin (engineering choice)."""

WORDS = {"H": "HEAD", "F": "FEET", "A": "FRONT", "P": "BACK", "R": "RIGHT", "L": "LEFT"}


@dataclass(frozen=True)
class GuideOptions:
    """Measures of a printed template, mm. All defaults are engineering choices.

    Parameters
    ----------
    hole_diameter_mm : float, optional
        By default the needle's diameter and 0.2 mm.
    thickness_mm : float
        Of the plate.
    sleeve_mm : float
        Length of the sleeves beyond the plate.
    wall_mm : float
        Of a sleeve.
    standoff_mm : float
        Outer face farther from the patient than the template's plane. Depths from it grow by as much.
    whole_grid : bool
        A sleeve at every hole of the template, not at those with needles alone.
    """

    hole_diameter_mm: float | None = None
    thickness_mm: float = 5.0
    sleeve_mm: float = 10.0
    wall_mm: float = 1.5
    standoff_mm: float = 0.0
    whole_grid: bool = False


@dataclass(frozen=True)
class Guide:
    """A guide that was written: its file, and what to know of it, a sentence each."""

    path: Path
    notes: tuple[str, ...]


def write_guide(
    plan: Plan,
    case: Case | None,
    path: str | os.PathLike[str],
    options: GuideOptions | None = None,
    structures: Sequence[Structure] | None = None,
) -> tuple[Guide, ...]:
    """Write the STL of each template, in the patient's frame (LPS), mm.

    Parameters
    ----------
    plan : Plan
        A plan.
    case : Case, optional
        With the outline of the patient, to see whether the guide is clear of the skin.
    path : path
        File to write. With several templates their numbers are added: template-1.stl, template-2.stl.
    options : GuideOptions, optional
        Measures.
    structures : sequence of Structure, optional
        The case's, with the outline found on the CT if none was drawn; by default those of the case.

    Returns
    -------
    tuple of Guide
        One for each template that has needles.

    Raises
    ------
    UsageError
        If a measure is none, or the hole is narrower than the needle.
    BrachyError
        If the plan has no needle, or the file cannot be written.
    """
    options = options or GuideOptions()
    regions = structures if structures is not None else case.structures if case is not None else ()
    used = [k for k in range(len(plan.templates)) if any(n.template == k for n in plan.needles)]
    if not used:
        raise BrachyError("a plan without needles needs no template: plan again")
    written = []
    for index in used:
        file = Path(path)
        if len(used) > 1:
            file = file.with_name(f"{file.stem}-{index + 1}{file.suffix}")
        write_bytes_whole(file, stl_bytes(build_guide(plan, index, options)))
        written.append(Guide(file, _notes(plan, index, options, regions)))
    return tuple(written)


def build_guide(plan: Plan, template: int = 0, options: GuideOptions | None = None) -> Solid:
    """Solid of a template in the patient's frame (LPS), mm.

    Raises
    ------
    UsageError
        As `write_guide`.
    """
    options = options or GuideOptions()
    bore = _bore(plan, options)
    plate, to_patient = plan.templates[template], _to_patient(plan, template)
    axes = _axes(plan, template, options)
    low, high = _outline(plan, template, options)
    top, bottom = options.standoff_mm, options.standoff_mm - options.thickness_mm
    solids = [_slab(low, high, bottom, top)]
    if options.sleeve_mm > 0:
        outer = 0.5 * bore + options.wall_mm
        solids += [_rod(*axis, outer, bottom - options.sleeve_mm, 0.5 * (top + bottom)) for axis in axes]
    maker, operation = _modeller().Manifold, _modeller().OpType
    body = maker.batch_boolean(solids, operation.Add)
    inner = 0.5 * bore / np.cos(np.pi / SEGMENTS)
    reach = (bottom - options.sleeve_mm - 5.0, top + 5.0)
    holes = [_rod(*axis, float(inner), *reach) for axis in axes]
    texts = [_text(*written, top) for written in _labels(plan, template, options, low, high)]
    marked = maker.batch_boolean([body, *(text for text in texts if text is not None)], operation.Add)
    heights = (bottom - 1.0, top + 2.0)
    notches = _notches(plate.columns, plate.central_row, plate.spacing_mm, low, high, heights)
    found = maker.batch_boolean([marked, *holes, *notches], operation.Subtract)
    return found.transform(to_patient).simplify(SMOOTH_MM)


def stl_bytes(solid: Solid) -> bytes:
    """Binary STL: 80 bytes of header, number of triangles, and of each its normal and corners in 32 bits."""
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


def guide_of(given: str | None, needle_radius_mm: float | None = None) -> GuideOptions | None:
    """Measures of the printed template of `hole=MM,plate=MM,sleeve=MM,wall=MM,standoff=MM,all`.

    They are checked where the needle is known, so that nothing is planned first.

    Examples
    --------
    >>> guide_of("hole=1.6,sleeve=12,all").sleeve_mm
    12.0
    """
    if given is None:
        return None
    fields = {
        "hole": "hole_diameter_mm",
        "plate": "thickness_mm",
        "sleeve": "sleeve_mm",
        "wall": "wall_mm",
        "standoff": "standoff_mm",
    }
    chosen: dict[str, Any] = {}
    for part in given.split(","):
        name, equals, value = part.strip().partition("=")
        if name == "all" and not equals:
            chosen["whole_grid"] = True
        elif name in fields and value:
            chosen[fields[name]] = number(value, f"--guide {name}")
        else:
            raise UsageError(
                f"--guide {part.strip()}: give {'=MM, '.join(fields)}=MM or all, separated by commas"
            )
    options = GuideOptions(**chosen)
    if needle_radius_mm is not None:
        check_measures(options, needle_radius_mm)
    return options


def check_measures(options: GuideOptions, needle_radius_mm: float) -> float:
    """Refuse measures that make no template for such needles.

    Parameters
    ----------
    options : GuideOptions
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
    >>> round(check_measures(GuideOptions(), 0.65), 2)
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


def _bore(plan: Plan, options: GuideOptions) -> float:
    return check_measures(options, plan.protocol.needle.radius_mm)


def _to_patient(plan: Plan, template: int) -> Float:
    """(3, 4): local (along columns, along rows, out of the patient) from hole A1, to LPS."""
    plate = plan.templates[template]
    out = -np.array(plate.direction)
    return np.column_stack([plate.column, plate.row, out, plate.origin_mm])


def _axes(plan: Plan, template: int, options: GuideOptions) -> list[tuple[Float, Float]]:
    """Hole and direction, skin to tip, of each sleeve, local."""
    plate, frame = plan.templates[template], _to_patient(plan, template)
    found = []
    for needle in (n for n in plan.needles if n.template == template):
        place = (np.array(needle.hole_mm) - frame[:, 3]) @ frame[:, :3]
        found.append((place, np.array(needle.direction) @ frame[:, :3]))
    if options.whole_grid:
        used = {parse_hole(n.hole) for n in plan.needles if n.template == template}
        free = [(c, r) for r in range(1, plate.rows + 1) for c in range(plate.columns) if (c, r) not in used]
        straight = np.array([0.0, 0.0, -1.0])
        found += [(plate.spacing_mm * np.array([c, r - 1.0, 0.0]), straight) for c, r in free]
    return found


def _outline(plan: Plan, template: int, options: GuideOptions) -> tuple[Float, Float]:
    """Lowest and highest corner (2,) of the plate."""
    places = np.array([hole[:2] for hole, _ in _axes(plan, template, options)])
    margin = 0.5 * plan.templates[template].spacing_mm + BORDER_MM
    extra = np.array([0.0, LETTER_MM + NOTCH_MM + 2.0])  # a line of text above the letters, and one below
    return places.min(axis=0) - margin - extra, places.max(axis=0) + margin + extra


def _slab(low: Float, high: Float, bottom: float, top: float) -> Solid:
    """Plate with round corners."""
    size = high - low
    inner = (
        _modeller()
        .CrossSection.square((float(size[0]) - 6.0, float(size[1]) - 6.0))
        .translate((float(low[0]) + 3.0, float(low[1]) + 3.0))
    )
    outline = inner.offset(3.0, _modeller().JoinType.Round, 2.0, SEGMENTS)
    return outline.extrude(top - bottom).translate((0.0, 0.0, bottom))


def _rod(hole: Float, direction: Float, radius: float, low: float, high: float) -> Solid:
    """Cylinder round a needle's axis between two heights over the template's plane."""
    axis = -direction / np.linalg.norm(direction)
    side = np.array([1.0, 0.0, 0.0]) - axis[0] * axis
    side /= np.linalg.norm(side)
    frame = np.column_stack([side, np.cross(axis, side), axis, hole + low * axis])
    return _modeller().Manifold.cylinder(high - low, radius, radius, SEGMENTS).transform(frame)


def _labels(
    plan: Plan, template: int, options: GuideOptions, low: Float, high: Float
) -> list[tuple[str, float, float, float, float]]:
    """Text, middle (x, y), height, and most width of each label."""
    plate, frame = plan.templates[template], _to_patient(plan, template)
    pitch = plate.spacing_mm
    holes: dict[tuple[int, int], tuple[float, float]] = {}
    if options.whole_grid:
        every = [(c, r) for c in range(plate.columns) for r in range(1, plate.rows + 1)]
        holes = {(c, r): (c * pitch, (r - 1) * pitch) for c, r in every}
    for needle in (n for n in plan.needles if n.template == template):
        x, y, _ = ((np.array(needle.hole_mm) - frame[:, 3]) @ frame[:, :3]).tolist()
        holes[parse_hole(needle.hole)] = (x, y)
    columns = {c: x for (c, _), (x, _) in holes.items()}
    rows = {r: y for (_, r), (_, y) in holes.items()}
    inner = np.array([0.5 * BORDER_MM + 0.7, 0.5 * BORDER_MM + 0.7 + LETTER_MM + NOTCH_MM + 2.0])
    (left, bottom), (right, top) = (low + inner).tolist(), (high - inner).tolist()
    height = min(LETTER_MM, 0.8 * pitch)
    found: list[tuple[str, float, float, float, float]] = []
    for c, x in columns.items():
        found += [(column_letters(c), x, y, height, 0.85 * pitch) for y in (bottom, top)]
    for r, y in rows.items():
        found += [(str(r), x, y, height, 6.0) for x in (left, right)]
    if pitch >= 8.0:  # below, a hole's own name could not be printed
        for (c, r), (x, y) in holes.items():
            found.append((f"{column_letters(c)}{r}", x, y - 0.36 * pitch, SMALL_LETTER_MM, 0.8 * pitch))
    toward = cuts.edge_letters(cuts.template_cut(plan, template, 0.0))[2]
    middle, width = 0.5 * float(low[0] + high[0]), float(high[0] - low[0]) - 8.0
    word = "-".join(WORDS[letter] for letter in toward)
    found.append((word, middle, float(high[1]) - NOTCH_MM - 1.7 - 0.5 * LETTER_MM, LETTER_MM, width))
    name = plan.checksum[:8] + (f" / {template + 1}" if len(plan.templates) > 1 else "")
    found.append((name.strip(), middle, float(low[1]) + NOTCH_MM + 1.7 + 0.5 * LETTER_MM, LETTER_MM, width))
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


def _notches(
    columns: int, central_row: int, pitch: float, low: Float, high: Float, heights: tuple[float, float]
) -> list[Solid]:
    """Prisms cut from the edges at layer 0 (left and right) and at the middle column (top and bottom)."""
    x = float(np.clip((columns - 1) // 2 * pitch, low[0] + 5.0, high[0] - 5.0))
    y = float(np.clip((central_row - 1) * pitch, low[1] + 5.0, high[1] - 5.0))
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


def _notes(
    plan: Plan, template: int, options: GuideOptions, structures: Sequence[Structure]
) -> tuple[str, ...]:
    said = []
    if options.standoff_mm > 0:
        said.append(
            f"template {template + 1}: the outer face is {options.standoff_mm:g} mm outside the template's plane: "
            f"add {options.standoff_mm:g} mm to each depth from the template"
        )
    external = next((s for s in structures if s.role == "external" and not s.is_empty), None)
    if external is None:
        return (
            *said,
            f"template {template + 1}: no outline of the patient, so clearance of the skin is unknown",
        )
    needed = _standoff_needed(plan, template, options, external)
    if needed > options.standoff_mm:
        said.append(
            f"template {template + 1}: the guide touches the skin; a stand-off of {needed:.0f} mm clears it"
        )
    return tuple(said)


def _standoff_needed(plan: Plan, template: int, options: GuideOptions, external: Structure) -> float:
    """Least stand-off, in whole mm from that of the options on, with which plate and sleeves clear the skin."""
    frame = _to_patient(plan, template)
    low, high = _outline(plan, template, options)
    x, y = (np.linspace(a, b, max(2, int((b - a) / 3.0))) for a, b in zip(low, high, strict=True))
    flat = np.stack(np.meshgrid(x, y), axis=-1).reshape(-1, 2)
    plate = np.column_stack([flat, np.full(len(flat), -options.thickness_mm)])
    outer = 0.5 * _bore(plan, options) + options.wall_mm
    turn = np.linspace(0.0, 2.0 * np.pi, 12, endpoint=False)
    ring = outer * np.column_stack([np.cos(turn), np.sin(turn), 0.0 * turn])
    ends = [
        hole + (options.thickness_mm + options.sleeve_mm) * direction + ring
        for hole, direction in _axes(plan, template, options)
    ]
    points = np.vstack([plate, *ends])
    for extra in range(200):
        standoff = options.standoff_mm + extra
        moved = (points + np.array([0.0, 0.0, standoff])) @ frame[:, :3].T + frame[:, 3]
        if external.distance_mm(moved, CLEAR_MM + 1.0).min() >= CLEAR_MM:
            return standoff
    return standoff
