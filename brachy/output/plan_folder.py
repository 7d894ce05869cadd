"""The folder that `brachy plan` writes: whole or not at all, never over another one without being told to.

A folder is built beside its destination, under a name of its own, every file is on the disk before it is renamed,
and one that is replaced is exchanged in a single step.
"""

import contextlib
import ctypes
import glob
import os
import secrets
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from brachy import interrupts
from brachy.check import check_plan
from brachy.core.threads import side_by_side
from brachy.dosimetry.dvh import histogram_of
from brachy.errors import BrachyError, UsageError
from brachy.evaluation import robustness
from brachy.evaluation.robust_record import RobustRecord
from brachy.geometry.grid import Dose, Grid
from brachy.geometry.structures import Structure
from brachy.io.dicom.write import write_ct, write_dose, write_plan, write_structures
from brachy.output import csv_tables
from brachy.output.printed_template import write_printed_templates
from brachy.output.report import write_report
from brachy.output.report.plan_page import plan_slices
from brachy.output.template_solid import PrintedTemplateOptions
from brachy.patient.anatomy import prepare
from brachy.patient.case import Case
from brachy.patient.lineage import APPROVAL, write_chain
from brachy.patient.plan import Plan
from brachy.patient.target import target_of
from brachy.patient.uids import identified
from brachy.writing import write_text_whole

if sys.platform != "win32":
    import fcntl

DOSE_SPACING_MM = 1.0
DOSE_MARGIN_MM = 50.0
"""RTDOSE.dcm covers the seeds' bounding box and this much more, in voxels of `DOSE_SPACING_MM` (engineering choice)."""

CASE_FILES = frozenset({"ct", "RTSTRUCT.dcm"})
"""What `write_case` writes."""

MARKS = frozenset({"plan.json", "verification.json", "commissioning.json", "robust.json"})
"""A folder with one of these was written by this program."""

Curves = Mapping[str, tuple[ArrayLike, ArrayLike]]


def write_outputs(
    plan: Plan,
    case: Case,
    out: str | os.PathLike[str],
    *,
    force: bool = False,
    structures: Sequence[Structure] | None = None,
    dose: Dose | None = None,
    curves: Curves | None = None,
    independent_check: bool = True,
    pictures: bool = True,
    printed_template: PrintedTemplateOptions | None = None,
    ancestors: Sequence[Plan] = (),
    with_ct: bool | None = None,
    robust: bool = False,
    threads: int | None = None,
    say: Callable[[str], None] | None = None,
) -> Path:
    """Write the folder of a plan.

    plan.json, RTPLAN.dcm, RTDOSE.dcm, RTSTRUCT.dcm, needles.csv, dvh.csv, placed.csv, report.html, template.stl, and
    ct/ for a case that was not DICOM. All are made from the plan as plan.json has it, rounded.

    Parameters
    ----------
    plan : Plan
        The plan.
    case : Case
        CT and identity.
    out : path
        Folder to write; its parent exists.
    force : bool
        Replace an earlier output of this program.
    structures : sequence of Structure, optional
        What RTSTRUCT.dcm and dvh.csv hold; by default those of the case with what planning added: roles, the skin
        and bone found on the CT, the expanded targets.
    dose : Dose, optional
        Of RTDOSE.dcm; by default computed in the plan's formalism round the seeds.
    curves : mapping of str to (dose in Gy, volume in cc), optional
        Cumulative, by ROI, for dvh.csv; by default computed for the structures that the plan evaluates.
    independent_check : bool
        Check the files as they are on disk (`brachy.check.check_plan`) and keep the verdict in plan.json.
    pictures : bool
        Write report.html and, for each template with needles, template.stl.
    printed_template : PrintedTemplateOptions, optional
        Measures of the printed template.
    ancestors : sequence of Plan, optional
        The plans it comes from, kept in chain/.
    with_ct : bool, optional
        Write ct/; by default for a case that was not DICOM.
    robust : bool
        Also robust.json, a Monte Carlo of the plan (`brachy.evaluation.robustness`), and its section in the report.
    threads : int, optional
        Of that Monte Carlo; by default one for each core.
    say : callable, optional
        Is told what there is to know of the printed template, a sentence at a time.

    Returns
    -------
    Path
        The folder.

    Raises
    ------
    UsageError
        If the folder exists (and `force` is not given, or it is none of ours), or its parent does not.
    BrachyError
        If it cannot be written: disk full, no permission. Nothing is left behind.
    """
    check_destination(out, force)

    with whole_folder(out, force) as folder:
        _fill(
            folder,
            plan,
            identified(case),
            structures,
            dose,
            curves,
            independent_check,
            pictures,
            printed_template,
            say,
            with_ct,
            robust,
            threads,
        )
        write_chain(folder, ancestors)
    return Path(out)


def write_alternatives(
    named: Sequence[tuple[str, Plan]],
    case: Case,
    out: str | os.PathLike[str],
    *,
    force: bool = False,
    printed_template: PrintedTemplateOptions | None = None,
    say: Callable[[str], None] | None = None,
) -> Path:
    """Write several plans of one case: the first as `write_outputs`, the others in alternatives/NAME, and a table.

    Parameters
    ----------
    named : sequence of (str, Plan)
        Of `brachy.optimise.plan_alternatives`.
    case, out, force, printed_template, say
        As `write_outputs`. alternatives.csv has a row for each plan.

    Raises
    ------
    UsageError, BrachyError
        As `write_outputs`; all the plans are written or none.
    """
    check_destination(out, force)
    case = identified(case)
    with whole_folder(out, force) as folder:
        for number, (name, plan) in enumerate(named):
            inner = folder
            if number:
                inner = folder / "alternatives" / name.replace(" ", "-")
                inner.mkdir(parents=True)
            _fill(inner, plan, case, printed_template=printed_template, say=say if number == 0 else None)
        write_text_whole(folder / "alternatives.csv", csv_tables.alternatives_csv(named))
    return Path(out)


def _fill(
    folder: Path,
    plan: Plan,
    case: Case,
    structures: Sequence[Structure] | None = None,
    dose: Dose | None = None,
    curves: Curves | None = None,
    independent_check: bool = True,
    pictures: bool = True,
    printed_template: PrintedTemplateOptions | None = None,
    say: Callable[[str], None] | None = None,
    with_ct: bool | None = None,
    robust: bool = False,
    threads: int | None = None,
) -> None:
    """Write the files of a plan into an empty folder."""
    with_ct = not case.identity.is_dicom if with_ct is None else with_ct
    plan = plan.sealed()
    drawn = tuple(structures) if structures is not None else planned_structures(plan, case)
    dose = dose if dose is not None else plan_dose(plan)
    if curves is None:
        known = {structure.name for structure in drawn}
        curves = {
            name: curve for name, curve in plan.evaluation.curves.items() if name in known
        } or plan_curves(plan, drawn)
    write_text_whole(folder / "plan.json", plan.to_json())
    instance = write_plan(plan, case, folder / "RTPLAN.dcm", drawn)
    write_dose(dose, plan, case, folder / "RTDOSE.dcm", plan_instance_uid=instance)
    _write_case_files(case, drawn, folder, with_ct=with_ct)
    write_text_whole(folder / "needles.csv", csv_tables.needles_csv(plan, drawn))
    write_text_whole(folder / "dvh.csv", csv_tables.dvh_csv(curves))
    write_text_whole(folder / "placed.csv", csv_tables.placed_csv(plan))
    checking = [partial(check_plan, folder)] if independent_check else []
    drawing = [partial(plan_slices, plan, case, drawn)] if pictures else []
    done: list[Any] = side_by_side([*checking, *drawing])
    if independent_check:
        plan = plan.checked(done[0])
        write_text_whole(folder / "plan.json", plan.to_json())
    found: RobustRecord | None = None
    if robust:
        found = robustness.robust_folder(folder, threads=threads).as_written()
        write_text_whole(folder / "robust.json", found.to_json())
    if pictures:
        notes: list[str] = []
        if plan.needles:
            stl = folder / "template.stl"
            made = write_printed_templates(plan, case, stl, printed_template, drawn)
            notes = [note for template in made for note in template.notes]
        write_report(
            plan,
            case,
            folder / "report.html",
            structures=drawn,
            dose=dose,
            curves=curves,
            template_notes=notes,
            robust=found,
            slices=done[-1],
        )
        if say is not None:
            for note in notes:
                say(note)


def write_case(case: Case, out: str | os.PathLike[str], *, force: bool = False) -> Path:
    """Write a case as DICOM: ct/ and, where it has structures, RTSTRUCT.dcm.

    Raises
    ------
    UsageError, BrachyError
        As `write_outputs`.
    """
    check_destination(out, force)
    case = identified(case)
    with whole_folder(out, force) as folder:
        _write_case_files(case, case.structures, folder, with_ct=True)
    return Path(out)


def write_texts(texts: Mapping[str, str], out: str | os.PathLike[str], *, force: bool = False) -> Path:
    """Write a folder of text files by name.

    Raises
    ------
    UsageError, BrachyError
        As `write_outputs`.
    """
    check_destination(out, force)
    with whole_folder(out, force) as folder:
        for name, text in texts.items():
            write_text_whole(folder / name, text)
    return Path(out)


def _write_case_files(case: Case, structures: Sequence[Structure], folder: Path, *, with_ct: bool) -> None:
    if structures:
        write_structures(structures, case, folder / "RTSTRUCT.dcm")
    if with_ct:
        (folder / "ct").mkdir()
        write_ct(case, folder / "ct")


def plan_dose(plan: Plan) -> Dose:
    """Dose of a plan round its seeds, in its formalism, to complete decay."""
    seeds = np.array([seed.position_mm for needle in plan.needles for seed in needle.seeds])
    if not len(seeds):
        raise BrachyError("a plan without seeds has no dose: plan again")
    grid = Grid.around(
        seeds.min(axis=0) - DOSE_MARGIN_MM, seeds.max(axis=0) + DOSE_MARGIN_MM, DOSE_SPACING_MM
    )
    return plan.dose_model().on(grid)


def plan_curves(plan: Plan, structures: Sequence[Structure]) -> Curves:
    """Cumulative curves of the structures that the plan evaluates, in its order."""
    by_name = {structure.name: structure for structure in structures}
    model = plan.dose_model()
    targets = {target.roi for target in plan.targets} | {target.planned_roi for target in plan.targets}
    return {
        name: histogram_of(model, by_name[name], organ=name not in targets).curve()
        for name in plan.evaluation.structures
        if name in by_name
    }


def planned_structures(plan: Plan, case: Case) -> tuple[Structure, ...]:
    """Structures of a case as planning saw them: with roles, bone and skin found on the CT, targets with margin."""
    names = [target.roi for target in plan.targets]
    found = prepare(case, plan.protocol, names, outside=plan.access is not None)
    targets = [
        target_of(found, plan.protocol, found.structure(each.roi), each.prescription_gy, each.margin_mm)
        for each in plan.targets
    ]
    return found.having(*(target.structure for target in targets if target.expanded is not None)).structures


def check_destination(out: str | os.PathLike[str], force: bool = False) -> None:
    """Refuse a destination before any work is done for it.

    Raises
    ------
    UsageError
        If it exists (and `force` is not given, or it is none of ours), or its parent does not.
    BrachyError
        If its parent cannot be written.
    """
    folder = Path(out).resolve()
    parent = folder.parent
    if not parent.is_dir():
        raise UsageError(f"there is no folder {parent}: make it first")
    if folder.exists():
        _check_replaceable(folder, Path(out), force)
    if not os.access(parent, os.W_OK | os.X_OK):
        raise BrachyError(f"cannot write into {parent}: you have no permission")


def _check_replaceable(folder: Path, shown: Path, force: bool) -> None:
    if not folder.is_dir():
        raise UsageError(f"{shown} is a file: give a folder to write")
    held = {entry.name for entry in folder.iterdir()}
    if not held:
        return
    if not force:
        raise UsageError(f"{shown} exists: choose another folder, or --force to replace it")
    if APPROVAL in held:
        raise UsageError(f"{shown} is approved and is not replaced: choose another folder")
    if not held & MARKS and not held <= CASE_FILES:
        raise UsageError(f"{shown} was not written by brachy and is not replaced: choose another")


@contextmanager
def whole_folder(out: str | os.PathLike[str], force: bool = False) -> Iterator[Path]:
    """A folder to write into, that becomes `out` when the block ends, or vanishes if the block fails.

    Raises
    ------
    UsageError
        If `out` may not be replaced.
    BrachyError
        If it cannot be written.
    """
    folder, shown = Path(out).resolve(), Path(out)
    building, lock = None, None
    try:
        _remove_leftovers(folder)
        building, lock = _start(folder)
        interrupts.BUILDING.append(building)
        yield building
        for inner in (*(path for path in building.rglob("*") if path.is_dir()), building):
            _sync_folder(inner)
        _put_in_place(building, folder, shown, force)
        interrupts.WRITTEN.append(shown)
        _sync_folder(folder.parent)
    except OSError as error:
        raise BrachyError(f"cannot write {shown}: {error.strerror or error}") from None
    except BrachyError as error:
        raise type(error)(str(error).replace(str(building), str(shown))) from None
    finally:
        if building is not None:  # what is still there is a failed attempt, or what was replaced
            shutil.rmtree(building, ignore_errors=True)
            with contextlib.suppress(ValueError):
                interrupts.BUILDING.remove(building)
        if lock is not None:
            os.close(lock)


def _start(folder: Path) -> tuple[Path, int | None]:
    """Make the folder to build in, locked while this process lives."""
    for _ in range(3):
        building = folder.with_name(f".{folder.name}.{secrets.token_hex(6)}.partial")
        building.mkdir()
        lock = _lock(building)
        if lock is not None and building.is_dir():
            break
        # another run took it for a leftover between the two steps; or there are no locks here
    return building, lock


def _put_in_place(building: Path, folder: Path, shown: Path, force: bool) -> None:
    """Rename to the destination; exchange with what is there, so that at no moment there is none."""
    try:
        os.rename(building, folder)  # to nothing or onto an empty folder this succeeds, onto another never
        return
    except OSError:
        if not folder.exists():
            raise
    _check_replaceable(folder, shown, force)
    if not _exchange(building, folder):
        aside = folder.with_name(f"{folder.name}.replaced-{secrets.token_hex(4)}")
        os.rename(folder, aside)
        os.rename(building, folder)
        shutil.rmtree(aside, ignore_errors=True)


def _exchange(one: Path, other: Path) -> bool:
    """Exchange two folders in one step; False where the system or the file system cannot.

    Linux: renameat2 with RENAME_EXCHANGE; macOS: renamex_np with RENAME_SWAP (their manual pages).
    """
    at_working_folder, exchange = -100, 2
    library = ctypes.CDLL(None, use_errno=True) if sys.platform != "win32" else None
    paths = os.fsencode(one), os.fsencode(other)
    try:
        if sys.platform == "darwin":
            return bool(library.renamex_np(*paths, exchange) == 0)
        if library is not None:
            call = library.renameat2
            return bool(call(at_working_folder, paths[0], at_working_folder, paths[1], exchange) == 0)
    except AttributeError:
        pass
    return False


def _remove_leftovers(folder: Path) -> None:
    """Remove what killed runs left beside the destination; what a living run is building is locked and stays."""
    for leftover in folder.parent.glob(f".{glob.escape(folder.name)}.*.partial"):
        lock = _lock(leftover)
        if lock is not None:
            shutil.rmtree(leftover, ignore_errors=True)
            os.close(lock)


def _lock(folder: Path) -> int | None:
    """Take the lock on a folder that its builder holds while it lives; None if that cannot be had."""
    if sys.platform == "win32":
        return None  # no locks on folders there: leftovers stay
    try:
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except OSError:
        return None
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(handle)
        return None
    return handle


def _sync_folder(folder: Path) -> None:
    """Put a folder's entries on the disk, where the system can."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
