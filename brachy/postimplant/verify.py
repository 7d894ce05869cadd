"""`brachy.verify`: post-implant dosimetry and comparison with the plan."""

from collections.abc import Callable, Sequence
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from brachy.dosimetry.model import dose_model
from brachy.errors import BrachyError, UsageError
from brachy.geometry.structures import Structure
from brachy.patient.case import Case
from brachy.patient.plan import Plan
from brachy.postimplant import assess, compare, registration
from brachy.postimplant.matching import GATE_MM
from brachy.postimplant.planned import Planned, planned_from, planned_of
from brachy.postimplant.registration import Registration
from brachy.postimplant.result import PostImplant
from brachy.postimplant.seed_files import GivenSeeds, of_findings, read_seeds

Progress = Callable[[str], None]

REGION_MARGIN_MM = 15.0
"""Seeds are looked for this far round the region that is named (engineering choice)."""

FAR_MORE = 2.0
"""With more than this times the seeds that were implanted, what was found are not seeds (engineering choice)."""

MARGIN_MM = 5.0
"""A seed farther than this from every target lies outside (engineering choice: one spacing of seeds)."""

TARGETS = "target"
"""`region` that stands for the targets."""


def verify(
    plan: Plan | str | Path | None,
    post: Case | str | Path,
    *,
    seeds: GivenSeeds | ArrayLike | str | Path | None = None,
    count: int | None = None,
    region: str | None = None,
    register: str | Path = "auto",
    planning_case: Case | str | Path | None = None,
    source: str | None = None,
    strength_U: float | None = None,
    prescription_gy: float | None = None,
    targets: Sequence[tuple[str, float | None]] | None = None,
    implant_on: date | None = None,
    formalism: str | None = None,
    gate_mm: float = GATE_MM,
    margin_mm: float = MARGIN_MM,
    contour_sd_mm: float = 0.0,
    sectors: str = "auto",
    other_patient: bool = False,
    accept_unverified: bool = False,
    accept_strength: bool = False,
    seed: int = 0,
    progress: Progress | None = None,
) -> PostImplant:
    """Dose and geometry of an implant, compared with its plan if there is one.

    Parameters
    ----------
    plan : Plan, path or None
        Plan folder, plan.json or any vendor's RTPLAN of a permanent implant; None: as-implanted dosimetry alone.
    post : Case or path
        CT after the implant, with its structures.
    seeds : optional
        A CSV or RTPLAN (`brachy.postimplant.seed_files.read_seeds`), or centres (m, 3) in the frame of the CT, mm.
        By default they are found on the CT.
    count : int, optional
        Seeds implanted; compared with what was found, never used to fill.
    region : str, optional
        ROI round which seeds are looked for, with 15 mm; "target" for the targets; by default the whole CT.
    register : str or path
        "frame", "organ", "image", "seeds", a file (`brachy.postimplant.registration.by_file`), or "auto": the contours
        of one organ on both CTs, else the images where the planning CT is at hand, else the seeds, compared with each
        other; a common frame of reference is kept where organ or images do not put a seed more than 3 mm elsewhere.
    planning_case : Case or path, optional
        Planning CT with structures for the registration by image; by default the one in the plan's folder.
    source, strength_U, prescription_gy
        Instead of the plan's: seed model, U at implantation, Gy of every target. Without a plan they are needed where
        nothing else tells them.
    targets : sequence of (ROI, Gy or None), optional
        Targets on the CT after the implant; by default the plan's, else those whose role says so.
    implant_on : date, optional
        Day of the implantation, to which the plan's strengths decay; by default the plan's, and where that was only
        assumed, the date of the CT after the implant.
    formalism : {"1D", "2D"}, optional
        By default the plan's, else 1D.
    gate_mm : float
        Farthest that a seed is followed beyond the shift of the whole implant.
    margin_mm : float
        A seed farther outside every target is listed as outside.
    contour_sd_mm : float
        SD of the targets' surface for the intervals; 0 leaves it out.
    sectors : {"auto", "octants", "prostate"}
        Of the sector table; auto takes 12 for a prostate.
    other_patient : bool
        Compare although patient IDs differ.
    accept_unverified : bool
        Also use a seed model whose tables were seen in one place only.
    accept_strength : bool
        Take a strength that no permanent seed usually has.
    seed : int
        Of the generator of the intervals.
    progress : callable, optional
        Called with each stage.

    Returns
    -------
    PostImplant
        `.record` is the content of verification.json; `.data` the same as plain JSON data.

    Raises
    ------
    UsageError
        If an option names nothing that is there, or source, strength or prescription are unknown.
    BrachyError
        If the plan is no permanent implant or of another patient, no seeds are seen, far more objects than seeds, the
        CT misses part of a target, or the registration cannot be trusted.

    Examples
    --------
    >>> from brachy.io.phantom.file import load_phantom
    >>> case = load_phantom("sphere-35mm")
    >>> places = case.structure("GTV").centroid_mm + 8 * np.array([[1, 1, 0], [-1, -1, 0], [1, -1, 1], [-1, 1, -1]])
    >>> found = verify(None, case, seeds=places, source="amersham_6711", strength_U=3.0, prescription_gy=60.0)
    >>> sorted(found.record.evaluation.structures), found.record.shifts
    (['GTV', 'Water'], None)
    """
    tell = progress or (lambda stage: None)
    _check_options(gate_mm, margin_mm, contour_sd_mm, count, strength_U, prescription_gy, register, plan)
    planned = None
    if plan is not None:
        tell("reading the plan")
        planned = (
            planned_of(plan)
            if isinstance(plan, Plan)
            else planned_from(plan, source, accept_unverified, accept_strength)
        )
    tell("reading the CT")
    case = _case(post)
    _same_patient(planned, case, other_patient)
    if planned is None:
        _known_beforehand(case, seeds, targets, source, strength_U)
    else:
        _registrable(planned, case, register, planning_case)
    if seeds is not None:
        given = _given(_beside(seeds, post))
    else:
        search = _region(case, region, targets, planned)
        given = _find(case, planned, search, count, source, accept_unverified, tell)
    _same_seeds(given, case, other_patient)
    _plausible_count(given, planned, count)
    registered, comparison = None, None
    notes = list(planned.assumed) if planned is not None else []
    if planned is not None:
        tell("registering")
        registered = _register(planned, case, given, register, planning_case, notes)
        comparison = compare.compare(planned, given, registered, gate_mm)
        if not len(comparison.matching.pairs):
            raise BrachyError(
                f"none of {len(given)} seeds lies within {gate_mm:g} mm of a planned one: is it the plan of this "
                "implant? Check the registration (--register)"
            )
    chosen = assess.formalism_of(planned, formalism)
    tell("dose")
    made = compare.implanted(
        given, planned, comparison, source=source, strength_U=strength_U, implant_on=implant_on,
        post_implant_ct=case.identity.ct_date, needs_axes=chosen == "2D", accept_unverified=accept_unverified,
        accept_strength=accept_strength,
    )  # fmt: skip
    return assess.assess(
        assess.Question(
            case=case, planned=planned, registration=registered, comparison=comparison, seeds=given, made=made,
            model=dose_model(made.implants, chosen), prescription_gy=prescription_gy, targets=targets,
            margin_mm=margin_mm, contour_sd_mm=contour_sd_mm, sectors=sectors, seed=seed, count=count,
            notes=tuple(notes),
        ),
        tell,
    )  # fmt: skip


def _check_options(
    gate_mm: float, margin_mm: float, contour_sd_mm: float, count: int | None, strength_U: float | None,
    prescription_gy: float | None, register: str | Path, plan: object,
) -> None:  # fmt: skip
    if not 0 < gate_mm <= 50:
        raise UsageError(f"gate {gate_mm:g} mm: give a distance above 0, at most 50 mm")
    if not 0 <= margin_mm <= 100:
        raise UsageError(f"margin {margin_mm:g} mm: give 0 to 100 mm")
    if not 0 <= contour_sd_mm <= 10:
        raise UsageError(f"contour SD {contour_sd_mm:g} mm: give 0 to 10 mm")
    if count is not None and count < 1:
        raise UsageError(f"count {count}: give the number of seeds implanted, 1 or more")
    if strength_U is not None and not 0 < strength_U <= 200:
        raise UsageError(f"strength {strength_U:g} U: give the air-kerma strength of one seed, above 0")
    if prescription_gy is not None and not 0 < prescription_gy <= 1000:
        raise UsageError(f"prescription {prescription_gy:g} Gy: give a dose above 0 Gy")
    if plan is None and str(register) != "auto":
        raise UsageError("--register needs a plan to register: leave it out with --no-plan")


def _case(post: Case | str | Path) -> Case:
    if isinstance(post, Case):
        return post
    from brachy.io.load import load_case

    return load_case(post)


def _known_beforehand(
    case: Case,
    seeds: object,
    targets: Sequence[tuple[str, float | None]] | None,
    source: str | None,
    strength_U: float | None,
) -> None:
    """Refuse input without source, strength or target before seeds are searched, which takes minutes."""
    if seeds is None and (source is None or strength_U is None):
        raise UsageError(
            "without a plan give the seeds' model and air-kerma strength: --source MODEL --strength U"
        )
    if targets:
        for name, _ in targets:
            case.structure(name)
    else:
        assess.likely_targets(case, [])


def _registrable(
    planned: Planned, case: Case, register: str | Path, planning_case: Case | str | Path | None
) -> None:
    """Refuse input that cannot be registered before seeds are searched, which takes minutes."""
    how = str(register)
    at_hand = planning_case is not None or _has_planning_case(planned)
    if how not in registration.METHODS:
        registration.by_file(register)
    elif how == "frame" and not registration.shared_frame(planned, case):
        registration.by_frame(planned.frame_of_reference_uid, registration.frame_of(case))
    elif how == "image" and not at_hand:
        raise UsageError(registration.NO_PLANNING_CT)
    elif how == "organ" and (planned.structures or not at_hand):
        registration.common_organs_of(planned, planned.structures, case)


def _same_seeds(given: GivenSeeds, case: Case, allowed: bool) -> None:
    """Refuse seeds of another patient's plan."""
    mine = case.identity.patient_id.strip()
    theirs = given.imported.patient_id.strip() if given.imported is not None else ""
    if mine and theirs and mine.casefold() != theirs.casefold() and not allowed:
        raise BrachyError(
            f"the seeds of {given.origin} are of patient '{theirs}' and the CT of '{mine}': give those of this "
            "patient, or say --other-patient"
        )


def _same_patient(planned: Planned | None, case: Case, allowed: bool) -> None:
    """Refuse a plan of another patient."""
    mine = case.identity.patient_id.strip()
    theirs = planned.patient_id.strip() if planned is not None else ""
    if mine and theirs and mine.casefold() != theirs.casefold() and not allowed:
        raise BrachyError(
            f"the plan is of patient '{theirs}' and the CT of '{mine}': give the plan of this patient, or say "
            "--other-patient"
        )


def _given(seeds: GivenSeeds | ArrayLike | str | Path) -> GivenSeeds:
    if isinstance(seeds, GivenSeeds):
        return seeds
    if isinstance(seeds, (str, Path)):
        return read_seeds(seeds)
    positions = np.asarray(seeds, dtype=np.float64)
    if positions.ndim != 2 or positions.shape[1] != 3 or not len(positions):
        raise UsageError(f"seeds have the shape {positions.shape}: give centres (m, 3) in mm")
    if not np.isfinite(positions).all():
        raise UsageError("a seed position is not a number: give x, y, z in mm")
    n = len(positions)
    return GivenSeeds(
        positions, np.full((n, 3), np.nan), np.ones(n), np.full(n, np.nan), np.full((n, 3), np.nan), "given"
    )


def _beside(seeds: Any, post: Case | str | Path) -> Any:
    """Path of the file with the seeds; a relative name that does not exist is looked for beside the CT."""
    if not isinstance(seeds, (str, Path)) or isinstance(post, Case) or Path(seeds).exists():
        return seeds
    place = Path(post) if Path(post).is_dir() else Path(post).parent
    return place / seeds if (place / seeds).is_file() else seeds


def _region(
    case: Case,
    region: str | None,
    targets: Sequence[tuple[str, float | None]] | None,
    planned: Planned | None,
) -> Structure | None:
    if region is None:
        return None
    if region.casefold() != TARGETS or any(s.name.casefold() == TARGETS for s in case.structures):
        return case.structure(region)
    names = [name for name, _ in targets] if targets else []
    if not names and planned is not None:
        names = [name for name in planned.prescriptions if name]
    drawn = [case.structure(name) for name in names] or assess.likely_targets(case, [])
    if len(drawn) == 1:
        return drawn[0]
    contours = tuple(contour for structure in drawn for contour in structure.contours_mm)
    return Structure("targets", contours)


def _find(
    case: Case,
    planned: Planned | None,
    region: Structure | None,
    count: int | None,
    source: str | None,
    accept_unverified: bool,
    tell: Progress,
) -> GivenSeeds:
    from brachy.dosimetry.source import load_source
    from brachy.postimplant.seed_finder.find import find_seeds
    from brachy.postimplant.seed_finder.seeds import Capsule

    capsule: Any = Capsule()
    if source is not None:
        capsule = load_source(source, accept_unverified)
    elif planned is not None:
        capsule = max(planned.implants, key=len).source
    found = find_seeds(
        case,
        capsule,
        region,
        margin_mm=REGION_MARGIN_MM if region is not None else 0.0,
        count=count,
        progress=lambda stage, share: tell(f"finding seeds: {stage} {100 * share:.0f} %"),
    )
    return of_findings(found)


def _plausible_count(given: GivenSeeds, planned: Planned | None, count: int | None) -> None:
    known = count if count is not None else len(planned) if planned is not None else None
    if known is not None and len(given) > FAR_MORE * known + 5:
        what = "implanted" if count is not None else "planned"
        raise BrachyError(
            f"{len(given)} objects for {known} seeds {what}: far more than seeds; limit the search with --region ROI, "
            "or give the seeds with --seeds FILE"
        )


def _register(
    planned: Planned,
    case: Case,
    given: GivenSeeds,
    register: str | Path,
    planning_case: Case | str | Path | None,
    notes: list[str],
) -> Registration:
    made = registration.register(
        registration.Question(
            planned, case, given.positions_mm, lambda: _planning_case(planned, planning_case)
        ),
        register,
    )
    if made.uses_seeds:
        notes.append(
            "registered by the seeds themselves: a shift of the whole implant within the organ is taken for a move of "
            "the patient"
        )
    return made


def _has_planning_case(planned: Planned) -> bool:
    return planned.folder is not None and planned.plan is not None and (planned.folder / "ct").is_dir()


def _planning_case(planned: Planned, given: Case | str | Path | None) -> Case | None:
    if given is not None:
        return _case(given)
    if _has_planning_case(planned) and planned.folder is not None:
        return _case(planned.folder)
    return None


__all__ = ["PostImplant", "verify"]
