"""Assessment of an implant: targets on the post-implant CT, dose, goals, cold spots, sectors, intervals."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from brachy.dosimetry.implant import Implant
from brachy.dosimetry.model import DoseModel, dose_model_where_known
from brachy.errors import BrachyError, UsageError
from brachy.evaluation.goals import evaluate, judge
from brachy.geometry.structures import Structure
from brachy.patient.anatomy import prepare
from brachy.patient.case import Case
from brachy.patient.evaluation_record import Evaluation
from brachy.patient.protocol import Goal, Protocol, load_protocol
from brachy.patient.records import vector
from brachy.patient.roles import SOFT_OBSTACLES, UNDOSED, guess_role
from brachy.patient.target import Target, target_of
from brachy.postimplant import coverage
from brachy.postimplant.compare import Comparison, Implanted, shift_report
from brachy.postimplant.intervals import LEVEL, SAMPLES, Errors, intervals, uncertainties
from brachy.postimplant.matching import moved_by
from brachy.postimplant.planned import Planned
from brachy.postimplant.record import (
    Compared,
    DoubtRow,
    ImplantEvaluation,
    IntervalErrors,
    PostImplantRecord,
    ShiftReport,
)
from brachy.postimplant.registration import Registration, disagreements
from brachy.postimplant.result import CarriedPlan, PostImplant
from brachy.postimplant.rows import (
    case_row,
    held_by_organ,
    registration_row,
    seed_rows,
    source_row,
    target_row,
)
from brachy.postimplant.seed_files import GivenSeeds
from brachy.postimplant.withheld import goal_rows, place_rules, sentence, withheld
from brachy.version import __version__

Float = NDArray[np.float64]

PROSTATE_GY = 145.0
"""Monotherapy of the prostate with 125I: Yu et al., AAPM TG-64, Med. Phys. 26, 2054 (1999), doi:10.1118/1.598721."""

STANDARD = "liver-metastasis"
"""Protocol whose goals for targets are used where there is no plan with its own."""

LIMITS = (
    "the intervals hold localisation and strength of the seeds (and the contour, if asked), not the TG-43 dose "
    "calculation itself: below 5 % (k = 1) in all, TG-138, doi:10.1118/1.3533720",
    "dose to water in water, TG-43: no tissue, no calcification, no shielding of one seed by another",
)


@dataclass(frozen=True, eq=False)
class Question:
    """Input of `assess`: the implanted seeds, the plan to compare with, and options."""

    case: Case
    planned: Planned | None
    registration: Registration | None
    comparison: Comparison | None
    seeds: GivenSeeds
    made: Implanted
    model: DoseModel
    prescription_gy: float | None
    targets: Sequence[tuple[str, float | None]] | None
    margin_mm: float
    contour_sd_mm: float
    sectors: str
    seed: int
    count: int | None
    notes: tuple[str, ...]


def formalism_of(planned: Planned | None, given: str | None) -> str:
    """The formalism that was asked for, else the plan's, else 1D."""
    if given is not None:
        if given.upper() not in ("1D", "2D"):
            raise UsageError(f"--formalism {given}: choose 1D or 2D")
        return given.upper()
    return planned.plan.evaluation.formalism if planned is not None and planned.plan is not None else "1D"


def assess(ask: Question, tell: Callable[[str], None]) -> PostImplant:
    """Dose, metrics beside the plan's, goals, cold spots, sectors, places and intervals of an implant."""
    notes = [*ask.notes, *ask.made.assumed]
    case, targets, carried, protocol = _structures(ask, notes)
    _must_hold(case, [target.structure for target in targets])
    if ask.seeds.imported is not None and ask.seeds.imported.frame_of_reference_uid:
        mine = case.identity.frame_of_reference_uid
        if mine and mine != ask.seeds.imported.frame_of_reference_uid:
            notes.append(
                f"{ask.seeds.origin} has another frame of reference than the CT; its positions are taken as given"
            )
    implants = list(ask.made.implants)
    externals = [s for s in case.with_role("external") if not s.is_empty]
    external = externals[0] if externals else None
    names = {target.name for target in targets}
    organs = [s for s in case.structures if s.role not in UNDOSED and not s.is_empty and s.name not in names]
    goals = protocol.goals
    asked = (
        *goals,
        *(Goal(roi="target", metric=name, op=">=", limit=0.0) for name in ("V100_cc", "V150_cc")),
    )
    tell("dose-volume metrics")
    told = evaluate(ask.model, organs, targets, external, asked)
    judged = judge(told, goals, targets, organs, source=protocol.citations.get("goals", ""))
    beside = _planned_values(ask, told, organs, targets, external, asked, notes)
    tell("cold spots and sectors")
    forbidden = [s for s in organs if s.role in SOFT_OBSTACLES]
    cold, sectors, further = {}, {}, {}
    for target in targets:
        cells = coverage.sampled(target.structure, ask.model)
        cold[target.name] = coverage.cold_spots(cells, target, ask.sectors)
        sectors[target.name] = coverage.sector_table(cells, target, ask.sectors)
        further[target.name] = coverage.further_seed(cells, target, implants, forbidden, ask.sectors)
    tell("intervals")
    without = withheld(ask.registration, carried)
    errors = _errors(ask, case, bool(carried))
    spread = {
        target.name: intervals(
            target, ask.model, _errors(ask, case, target.name in carried),
            told.structures[target.name], seed=ask.seed,
        )
        for target in targets
        if target.name not in without
    }  # fmt: skip
    places = coverage.places_of(
        ask.seeds.positions_mm, [t.structure for t in targets], case.structures, ask.margin_mm
    )
    record = PostImplantRecord(
        software=f"brachy {__version__}",
        plan=ask.planned.identifier if ask.planned is not None else None,
        case=case_row(case),
        seeds=seed_rows(ask.seeds, ask.planned, ask.comparison, places),
        missing=_missing(ask),
        extra=() if ask.comparison is None else tuple(ask.comparison.matching.extra.tolist()),
        registration=registration_row(ask.registration),
        shifts=_shifts(ask),
        sources=tuple(source_row(implant) for implant in implants),
        targets=tuple(target_row(target) for target in targets),
        evaluation=ImplantEvaluation(
            formalism=ask.model.formalism,
            structures=beside,
            uncertainty=told.uncertainty,
            other_formalism=told.other_formalism,
        ),
        goals=goal_rows(judged, without, {roi: found.of for roi, found in spread.items()}),
        withheld=without,
        intervals={roi: found.of for roi, found in spread.items()},
        uncertainty=IntervalErrors(
            sd={roi: found.sd for roi, found in spread.items()},
            samples=SAMPLES,
            level=LEVEL,
            seed=ask.seed,
            strength_pct=errors.strength_pct,
            contour_sd_mm=errors.contour_mm,
            registration_sd_mm=errors.together_mm,
            sources=uncertainties().sources,
        ),
        cold_spots=cold,
        further_seed=further,
        sectors=sectors,
        outside=tuple(k for k, place in enumerate(places) if place.beyond_margin),
        rules=place_rules(places, case.structures, protocol.obstacles.roles, without, ask.margin_mm),
        in_organs=held_by_organ(places),
        margin_mm=ask.margin_mm,
        doubts=tuple(DoubtRow(position_mm=vector(at), reason=why, seed=k) for at, why, k in ask.seeds.doubts),
        warnings=(*sentence([t.name for t in targets if t.name in without]), *_warnings(ask)),
        assumed=tuple(dict.fromkeys([*case.assumed, *notes])),
        limits=LIMITS,
    )
    return PostImplant(
        record, ask.model, ask.made.order, ask.seeds, case,
        tuple(targets), _carried_plan(ask),
    )  # fmt: skip


# ---- structures and targets ------------------------------------------------------------------------------------


def likely_targets(case: Case, notes: list[str]) -> list[Structure]:
    """Structures that are targets by role, type or name; a prostate where nothing else is.

    Raises
    ------
    UsageError
        If there is none, or more than one and nothing tells them apart.
    """
    drawn = [s for s in case.structures if not s.is_empty]
    found = [s for s in drawn if (s.role or guess_role(s.name, s.interpreted_type).role) == "target"]
    if not found:
        found = [s for s in drawn if coverage.is_prostate(s.name)]
        if len(found) == 1:
            notes.append(f"'{found[0].name}' is taken as the target (no ROI says that it is one)")
    listed = ", ".join(s.name for s in case.structures) or "none"
    if not found:
        raise UsageError(f"no ROI is a target: name it with --target ROI; the ROIs are: {listed}")
    if len(found) > 1:
        named = ", ".join(s.name for s in found)
        raise UsageError(f"{len(found)} ROIs could be the target ({named}): choose with --target ROI")
    if not any("is taken as the target" in sentence for sentence in notes):
        notes.append(f"no target was named: '{found[0].name}' is the only ROI that can be one")
    return found


def _structures(ask: Question, notes: list[str]) -> tuple[Case, list[Target], frozenset[str], Protocol]:
    """Case with roles, targets with prescriptions, names of structures that were carried over, protocol."""
    planned = ask.planned
    if planned is None or planned.plan is None:
        return _without_our_plan(ask, notes)
    plan, protocol = planned.plan, planned.plan.protocol
    wanted = ask.targets or [(target.roi, None) for target in plan.targets]
    case, carried = _carried(ask, [name for name, _ in wanted], notes)
    case = prepare(case, protocol, [case.structure(name).name for name, _ in wanted], outside=False)
    by_roi = {target.roi.casefold(): target for target in plan.targets}
    targets = []
    for name, gy in wanted:
        drawn = case.structure(name)
        entry = by_roi.get(name.casefold())
        rx = ask.prescription_gy or gy or (entry.prescription_gy if entry is not None else None)
        if rx is None:
            raise UsageError(f"'{name}' is no target of the plan: give its prescription, --target {name}=GY")
        margin = entry.margin_mm if entry is not None else 0.0
        if drawn.is_empty:
            raise BrachyError(f"target '{drawn.name}' has no contours on the CT after the implant: draw it")
        targets.append(target_of(case, protocol, drawn, rx, margin, clip_where_present=True))
        if drawn.name in carried:
            carried |= {targets[-1].name}
    return case, targets, carried, protocol


def _carried(ask: Question, wanted: Sequence[str], notes: list[str]) -> tuple[Case, frozenset[str]]:
    """The case with what it lacks of the plan's structures, moved by the transform, and the names of these."""
    planned, case = ask.planned, ask.case
    assert planned is not None
    there = {s.name.casefold() for s in case.structures if not s.is_empty}
    lacking = [name for name in wanted if name.casefold() not in there]
    if not lacking:
        return case, frozenset()
    known = {s.name.casefold(): s for s in planned.structures if not s.is_empty}
    unknown = [name for name in lacking if name.casefold() not in known]
    if unknown or ask.registration is None:
        listed = ", ".join(s.name for s in case.structures) or "none"
        raise UsageError(
            f"the CT after the implant has no ROI '{(unknown or lacking)[0]}' (it has: {listed}) and the plan's folder "
            "no contours of it: draw it, or choose with --target ROI"
        )
    expanded = (
        {t.planned_roi.casefold() for t in planned.plan.targets if t.margin_mm > 0} if planned.plan else set()
    )
    moved = [
        replace(s.moved(ask.registration.transform), number=None)
        for name, s in known.items()
        if name not in there and name not in expanded and s.name != "Bone (from CT)"
    ]
    notes.append(
        f"carried over from the plan by the transform, not drawn on the CT after the implant: "
        f"{', '.join(s.name for s in moved)}"
    )
    return replace(case, structures=(*case.structures, *moved)), frozenset(s.name for s in moved)


def _without_our_plan(ask: Question, notes: list[str]) -> tuple[Case, list[Target], frozenset[str], Protocol]:
    case = ask.case
    protocol = load_protocol(STANDARD)
    protocol = protocol.model_copy(
        update={"goals": tuple(g for g in protocol.goals if g.roi == "target" and g.required)}
    )
    if ask.targets:
        chosen = [(case.structure(name), gy) for name, gy in ask.targets]
        for structure, _ in chosen:
            if structure.is_empty:
                raise BrachyError(
                    f"target '{structure.name}' has no contours on the CT after the implant: draw it"
                )
    else:
        chosen = [(structure, None) for structure in likely_targets(case, notes)]
    names = {structure.name for structure, _ in chosen}
    structures = []
    for structure in case.structures:
        role = structure.role or guess_role(structure.name, structure.interpreted_type).role
        role = "target" if structure.name in names else "organ" if role == "target" else role
        structures.append(replace(structure, role=role))
    case = replace(case, structures=tuple(structures))
    targets = []
    for structure, gy in chosen:
        rx = ask.prescription_gy or gy or _known_prescription(ask, structure, notes)
        targets.append(Target(case.structure(structure.name), rx))
    if len({t.name for t in targets}) < len(targets):
        raise UsageError("a target is given twice: give it once")
    return case, targets, frozenset(), protocol


def _known_prescription(ask: Question, target: Structure, notes: list[str]) -> float:
    """Gy of a target from the vendor's plan, or the usual one of a prostate."""
    if ask.planned is not None:
        for roi, gy in ask.planned.prescriptions.items():
            if roi in ("", target.name):
                return gy
    imported = ask.seeds.imported
    if imported is not None and imported.prescription_gy is not None:
        notes.append(f"prescription {imported.prescription_gy:g} Gy as in {ask.seeds.origin}")
        return imported.prescription_gy
    if coverage.is_prostate(target.name):
        notes.append(
            f"no prescription is known: {PROSTATE_GY:g} Gy, the 125I monotherapy of a prostate (TG-64, "
            "doi:10.1118/1.598721), is used; --prescription GY says another"
        )
        return PROSTATE_GY
    raise UsageError(f"the prescription of '{target.name}' is not known: give it with --prescription GY")


def _must_hold(case: Case, targets: Sequence[Structure]) -> None:
    """Refuse a CT that does not show a whole target."""
    half = 0.5 * case.grid.spacing_mm
    for target in targets:
        points = np.concatenate(target.contours_mm)
        index = case.grid.mm_to_index(points)
        size = np.array(case.grid.shape[::-1]) - 1
        beyond = np.maximum(-index, index - size) * case.grid.spacing_mm - half
        worst = float(beyond.max())
        if worst > 1e-3:
            share = float((beyond.max(axis=1) > 1e-3).mean())
            raise BrachyError(
                f"the CT after the implant misses part of target '{target.name}': it reaches {worst:.1f} mm beyond the "
                f"images ({100 * share:.0f} % of its contour points); scan all of it, or check the registration"
            )


# ---- numbers ---------------------------------------------------------------------------------------------------


def _planned_values(
    ask: Question,
    told: Evaluation,
    organs: Sequence[Structure],
    targets: Sequence[Target],
    external: Structure | None,
    asked: Sequence[Goal],
    notes: list[str],
) -> dict[str, dict[str, Compared]]:
    """Metrics of each structure by name, as planned and as implanted."""
    before: dict[str, dict[str, float | None]] = {}
    planned = ask.planned
    if planned is not None and planned.plan is not None:
        before = {
            name.casefold(): dict(values) for name, values in planned.plan.evaluation.structures.items()
        }
        for target in targets:  # volumes in cc of what the plan has in percent
            values = before.get(target.name.casefold(), {})
            for name in ("V100", "V150"):
                share, volume = values.get(f"{name}_pct"), values.get("volume_cc")
                if share is not None and volume is not None:
                    values.setdefault(f"{name}_cc", share * volume / 100.0)
        if planned.plan.evaluation.formalism != ask.model.formalism:
            notes.append(
                f"the plan's metrics are {planned.plan.evaluation.formalism}, those as implanted {ask.model.formalism}"
            )
    elif planned is not None and ask.registration is not None:
        moved = _moved(planned.implants, ask.registration)
        model = dose_model_where_known(moved, ask.model.formalism)
        found = evaluate(model, organs, targets, external, asked)
        before = {name.casefold(): values for name, values in found.structures.items()}
        notes.append(
            "planned metrics are those of the planned seeds on the structures of the CT after the implant"
        )
    beside: dict[str, dict[str, Compared]] = {}
    for roi, values in told.structures.items():
        old = before.get(roi.casefold(), {})
        beside[roi] = {}
        for name, actual in values.items():
            was = old.get(name)
            difference = None if was is None or actual is None else actual - was
            beside[roi][name] = Compared(planned=was, actual=actual, difference=difference)
    return beside


def _moved(implants: Sequence[Implant], registration: Registration) -> list[Implant]:
    """Implants in the frame after the implant."""
    turn = registration.transform[:3, :3]
    return [
        Implant(
            i.source, moved_by(registration.transform, i.positions_mm),
            None if i.axes is None else i.axes @ turn.T,
            strength_U=i.strength_U, half_life_days=i.half_life_days,
        )
        for i in implants
    ]  # fmt: skip


def _carried_plan(ask: Question) -> CarriedPlan | None:
    if ask.planned is None or ask.comparison is None or ask.registration is None:
        return None
    return CarriedPlan(
        ask.planned.labels,
        ask.comparison.carried_mm,
        ask.comparison.carried_axes,
        tuple(_moved(ask.planned.implants, ask.registration)),
        ask.planned.plan,
    )


def _errors(ask: Question, case: Case, carried: bool) -> Errors:
    """Uncertainties of the seeds in the order of the implants."""
    order = np.array(ask.made.order, dtype=np.int64)
    spread = ask.seeds.position_sd_mm[order]
    voxel = np.abs(case.grid.direction) @ case.grid.spacing_mm / np.sqrt(12.0)
    spread = np.where(np.isfinite(spread), spread, voxel)
    confidence = ask.seeds.confidence[order]
    presence = np.where(confidence < 0.5, confidence, 1.0)
    registered = ask.registration if carried else None
    error = 0.0 if registered is None else registered.error_mm or registered.residual_mm or 0.0
    return Errors(
        spread,
        presence,
        uncertainties().strength_pct,
        error / np.sqrt(3.0),
        ask.contour_sd_mm,
    )


def _missing(ask: Question) -> tuple[str, ...]:
    if ask.planned is None or ask.comparison is None:
        return ()
    return tuple(ask.planned.labels[k] for k in ask.comparison.matching.missing.tolist())


def _shifts(ask: Question) -> ShiftReport | None:
    if ask.planned is None or ask.comparison is None:
        return None
    return shift_report(ask.planned, ask.comparison)


def _warnings(ask: Question) -> tuple[str, ...]:
    notes = [*(disagreements(ask.registration) if ask.registration is not None else ()), *ask.seeds.warnings]
    known = ask.count if ask.count is not None else len(ask.planned) if ask.planned is not None else None
    if known is not None and known != len(ask.seeds) and not any(f"of {known}" in line for line in notes):
        notes.append(f"{len(ask.seeds)} of {known} seeds found")
    return tuple(notes)
