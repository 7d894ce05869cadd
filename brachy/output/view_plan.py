"""What `brachy view` does: a plan in a window, as a picture, as a page to turn, or as a printable template."""

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from brachy.errors import BrachyError, UsageError
from brachy.geometry.grid import Grid
from brachy.geometry.structures import Structure
from brachy.patient import privacy
from brachy.patient.case import Case
from brachy.patient.plan import Plan
from brachy.writing import write_text_whole

if TYPE_CHECKING:
    from brachy.output.template_solid import PrintedTemplateOptions


@dataclass(frozen=True)
class Loaded:
    """A plan and what could be found of its patient."""

    plan: Plan
    case: Case
    structures: tuple[Structure, ...]
    has_ct: bool


def view(
    plan: str | os.PathLike[str],
    *,
    case: str | None = None,
    screenshot: Path | None = None,
    page: Path | None = None,
    stl: Path | None = None,
    printed_template: "PrintedTemplateOptions | None" = None,
    anonymise: bool = False,
    force: bool = False,
    say: Callable[[str], None] = print,
) -> tuple[Path, ...]:
    """Show a plan in three dimensions, or write what shows it.

    Parameters
    ----------
    plan : path
        Folder that `brachy plan` wrote, or its plan.json.
    case : str, optional
        The patient, as `brachy plan` takes it; by default found beside the plan.
    screenshot : Path, optional
        PNG to write, rendered without a display.
    page : Path, optional
        HTML to write, with the scene to turn.
    stl : Path, optional
        Printable template to write, with the measures of `printed_template`.
    anonymise : bool
        Leave the patient's ID out of what is shown.
    force : bool
        Replace files that exist.
    say : callable
        Told a sentence of what was not found.

    Returns
    -------
    tuple of Path
        Files written; without any a window was opened.

    Raises
    ------
    UsageError
        If a file exists, or the case is not the plan's.
    BrachyError
        If the plan cannot be read, there is no display, or a file cannot be written.
    """
    from brachy.output.figures.scene import screenshot as take
    from brachy.output.figures.scene import show

    wanted = [file for file in (screenshot, page, stl) if file is not None]
    for file in wanted:
        if file.exists() and not force:
            raise UsageError(f"{file} exists: choose another name, or --force to replace it")
        if not file.resolve().parent.is_dir():
            raise UsageError(f"there is no folder {file.resolve().parent}: make it first")
    if screenshot is not None and screenshot.suffix.lower() != ".png":
        raise UsageError(f"--screenshot {screenshot}: a picture is written as PNG, name it .png")
    found = load(plan, case, say)
    if anonymise:
        found = replace(found, plan=privacy.nameless(found.plan))
    options = {"structures": found.structures, "ct": found.has_ct}
    written: list[Path] = []
    if screenshot is not None:
        written.append(take(found.plan, found.case, screenshot, **options))
    if page is not None:
        write_text_whole(page, scene_page(found))
        written.append(page)
    if stl is not None:
        from brachy.output.printed_template import write_printed_templates

        for made in write_printed_templates(found.plan, found.case, stl, printed_template, found.structures):
            written.append(made.path)
            for note in made.notes:
                say(note)
    if not wanted:
        show(found.plan, found.case, **options)
    return tuple(written)


def load(plan: str | os.PathLike[str], case: str | None, say: Callable[[str], None]) -> Loaded:
    """A plan and its patient: the given case, or what lies beside the plan.

    Raises
    ------
    UsageError
        If the given case is another one's.
    BrachyError
        If the plan cannot be read.
    """
    from brachy.io import load
    from brachy.output.plan_folder import planned_structures
    from brachy.patient.uids import identified

    read = Plan.load(plan)
    folder = Path(plan) if Path(plan).is_dir() else Path(plan).parent
    if case is not None:
        given = identified(load.load_case(case))
        if given.identity.frame_of_reference_uid != read.case.frame_of_reference_uid:
            raise UsageError(f"{case} is not the case of this plan: its frame of reference is another one")
        return Loaded(read, given, planned_structures(read, given), True)
    file = folder / "RTSTRUCT.dcm"
    if not file.is_file():
        say("no RTSTRUCT.dcm beside the plan: needles and dose alone; --case CASE gives the patient")
        return Loaded(read, _bare(read, ()), (), False)
    try:
        given = load.load_case(str(file))
        return Loaded(read, given, _with_roles(read, given.structures), True)
    except BrachyError:
        from brachy.io.dicom.read import read_structures

        structures = _with_roles(read, tuple(read_structures(file)))
        say("no CT beside the plan: structures, needles and dose alone; --case CASE gives the CT")
        return Loaded(read, _bare(read, structures), structures, False)


def _with_roles(plan: Plan, structures: tuple[Structure, ...]) -> tuple[Structure, ...]:
    from brachy.patient.palette import role_of

    return tuple(replace(structure, role=role_of(structure, plan)) for structure in structures)


def _bare(plan: Plan, structures: tuple[Structure, ...]) -> Case:
    """A case without a CT: air round the needles."""
    points = np.array([end for n in plan.needles for end in (n.hole_mm, n.tip_mm)] or [(0.0, 0.0, 0.0)])
    grid = Grid.around(points.min(axis=0) - 30.0, points.max(axis=0) + 30.0, 10.0)
    return Case(np.full(grid.shape, -1000, dtype=np.int16), grid, structures)


def scene_page(found: Loaded) -> str:
    """HTML of the scene alone, to turn in a browser without a network."""
    from brachy.output.figures import cuts
    from brachy.output.figures.scene import dose_round_seeds
    from brachy.output.report.charts import scene_figure
    from brachy.output.report.rendering import render

    plan = found.plan
    dose = dose_round_seeds(plan)
    region = cuts.region_of(plan, found.case)
    return render(
        "scene.html",
        title=f"Implant plan {plan.case.patient_id}".strip(),
        footer=f"{plan.case.patient_id}   plan {plan.checksum[:12]}",
        scene=scene_figure(plan, found.structures, dose, region, levels_pct=(100.0, 50.0, 150.0, 200.0)),
    )
