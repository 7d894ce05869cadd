"""The printed template of a plan: its STL files for a 3D printer, and what its user must know."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from brachy.errors import BrachyError, UsageError
from brachy.geometry.structures import Structure
from brachy.output.template_face import FACES, LONGEST_MM, OFFSET_MM, NothingToStandOnError
from brachy.output.template_solid import (
    PrintedTemplateOptions,
    Solid,
    check_measures,
    inner_points,
    sleeves_of,
    stl_bytes,
    template_solid,
)
from brachy.patient.case import Case
from brachy.patient.options import number
from brachy.patient.plan import Plan
from brachy.writing import write_bytes_whole

CLEAR_MM = 1.0
"""Least distance of the printed template from the skin (engineering choice)."""

DENSITY = 1.2
"""Of the print, g/cm3 (engineering choice: round figure of resins and PLA)."""

MOST_STANDOFF_MM = 200
"""Larger stand-offs are not tried (engineering choice)."""


@dataclass(frozen=True)
class PrintedTemplate:
    """A printed template that was written: its file, and notes for its user, a sentence each."""

    path: Path
    notes: tuple[str, ...]


def write_printed_templates(
    plan: Plan,
    case: Case | None,
    path: str | os.PathLike[str],
    options: PrintedTemplateOptions | None = None,
    structures: Sequence[Structure] | None = None,
) -> tuple[PrintedTemplate, ...]:
    """Write the STL of each template, in the patient's frame (LPS), mm.

    Parameters
    ----------
    plan : Plan
        A plan.
    case : Case, optional
        With the outline of the patient, to see whether the printed template is clear of the skin.
    path : path
        File to write. With several templates their numbers are added: template-1.stl, template-2.stl.
    options : PrintedTemplateOptions, optional
        Measures.
    structures : sequence of Structure, optional
        The case's, with the outline found on the CT if none was drawn; by default those of the case.

    Returns
    -------
    tuple of PrintedTemplate
        One for each template that has needles. Where one finds no skin to stand on the plate alone is written, and a
        note says so.

    Raises
    ------
    UsageError
        If a measure is none, or the hole is narrower than the needle.
    BrachyError
        If the plan has no needle, or the file cannot be written.
    """
    options = options or PrintedTemplateOptions(face="skin")
    regions = structures if structures is not None else case.structures if case is not None else ()
    used = [k for k in range(len(plan.templates)) if any(n.template == k for n in plan.needles)]
    if not used:
        raise BrachyError("a plan without needles needs no template: plan again")
    external = next((s for s in regions if s.role == "external" and not s.is_empty), None)
    written = []
    for index in used:
        file = Path(path)
        if len(used) > 1:
            file = file.with_name(f"{file.stem}-{index + 1}{file.suffix}")
        made, refused = options, list[str]()
        try:
            solid = template_solid(plan, index, options, external)
        except NothingToStandOnError as error:  # the plan is not to be lost for it
            made = replace(options, face="plate")
            solid, refused = template_solid(plan, index, made), [f"template {index + 1}: {error}"]
        write_bytes_whole(file, stl_bytes(solid))
        notes = (*refused, *_notes(plan, index, made, external), _size(index, solid))
        written.append(PrintedTemplate(file, notes))
    return tuple(written)


def printed_template_options(
    given: str | None, needle_radius_mm: float | None = None
) -> PrintedTemplateOptions | None:
    """Read the measures of the printed template from `hole=MM,plate=MM,sleeve=MM,wall=MM,standoff=MM,face=...,all`.

    They are checked where the needle is known, before anything is planned.

    Examples
    --------
    >>> printed_template_options("hole=1.6,sleeve=12,all").sleeve_mm
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
    chosen: dict[str, Any] = {"face": "skin"}  # keywords of the options, of several types
    for part in given.split(","):
        name, equals, value = part.strip().partition("=")
        if name == "all" and not equals:
            chosen["whole_grid"] = True
        elif name == "patient" and not equals:
            chosen["with_patient"] = True
        elif name == "face" and value.strip() in FACES:
            chosen["face"] = value.strip()
        elif name == "face":
            raise UsageError(f"--guide face={value}: choose {', '.join(FACES)}")
        elif name in fields and value:
            chosen[fields[name]] = number(value, f"--guide {name}")
        else:
            raise UsageError(
                f"--guide {part.strip()}: give {'=MM, '.join(fields)}=MM, face=skin|feet|plate, all or patient, "
                "separated by commas"
            )
    options = PrintedTemplateOptions(**chosen)
    if needle_radius_mm is not None:
        check_measures(options, needle_radius_mm)
    return options


def _notes(
    plan: Plan, template: int, options: PrintedTemplateOptions, external: Structure | None
) -> tuple[str, ...]:
    """Sentences on what it stands on, on added depth, and on clearance from the skin."""
    name, notes = f"template {template + 1}", []
    if options.standoff_mm > 0:
        notes.append(
            f"{name}: the outer face is {options.standoff_mm:g} mm outside the template's plane: "
            f"add {_added_depth(plan, template, options)} mm to each depth from the template"
        )
    if external is None:
        unknown = f"{name}: no outline of the patient, so clearance of the skin is unknown"
        return (*notes, unknown if options.face == "plate" else f"{unknown}, and it stands on nothing")
    if options.face != "plate":
        what = "a wall whose edge follows" if options.face == "skin" else "three feet whose ends follow"
        notes.append(
            f"{name}: it stands on {what} the skin at {OFFSET_MM:g} mm, and on nothing where the skin is over "
            f"{LONGEST_MM:g} mm away; print with the side to the skin up: only the raised marks, then under the plate, "
            "need support"
        )
    needed = _standoff_needed(plan, template, options, external)
    if needed > options.standoff_mm:
        notes.append(
            f"{name}: the printed template touches the skin; a stand-off of {needed:.0f} mm clears it"
        )
    return tuple(notes)


def _size(template: int, solid: Solid) -> str:
    """Size and mass of the print."""
    x0, y0, z0, x1, y1, z1 = solid.bounding_box()
    size = " x ".join(f"{length:.0f}" for length in (x1 - x0, y1 - y0, z1 - z0))
    volume = float(solid.volume()) / 1000.0
    return (
        f"template {template + 1}: the print takes {size} mm as the patient lies; {volume:.0f} cm3, and if solid "
        f"{DENSITY * volume:.0f} g at {DENSITY:g} g/cm3 (engineering choice)"
    )


def _added_depth(plan: Plan, template: int, options: PrintedTemplateOptions) -> str:
    """What a stand-off adds to the depths from the template: more for a needle at an angle."""
    added = [sleeve.along(options.standoff_mm) for sleeve in sleeves_of(plan, template, options)]
    if max(added) - min(added) < 0.05:
        return f"{min(added):g}"
    return (
        f"{min(added):.1f} to {max(added):.1f} (stand-off / cosine of the needle's angle to the plate's axis)"
    )


def _standoff_needed(
    plan: Plan, template: int, options: PrintedTemplateOptions, external: Structure
) -> float:
    """Least stand-off, in whole mm from that of the options on, with which plate and sleeves clear the skin."""
    for extra in range(MOST_STANDOFF_MM):
        tried = replace(options, standoff_mm=options.standoff_mm + extra)
        points = inner_points(plan, template, tried)
        if external.distance_mm(points, CLEAR_MM + 1.0).min() >= CLEAR_MM:
            break
    return tried.standoff_mm
