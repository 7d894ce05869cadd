"""From a loading to the finished plan: needles, evaluation, goals, rules, what was assumed."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from brachy.dosimetry.model import dose_model
from brachy.evaluation.goals import evaluate, judge
from brachy.evaluation.rules import check_rules
from brachy.optimise.blocked import closed_holes, reported_holes
from brachy.optimise.candidates import Candidates
from brachy.optimise.preparation import Prepared
from brachy.patient.case import Case
from brachy.patient.obstacles import Standing, names_of, standings
from brachy.patient.optimiser_record import OptimiserRecord
from brachy.patient.plan import (
    VERSIONS,
    Evaluation,
    Plan,
    PlanCase,
    PlanInput,
    PlanNeedle,
    PlanSeed,
    PlanStructure,
    PlanTarget,
)
from brachy.patient.roles import UNDOSED
from brachy.version import __version__
from brachy.writing import rounded

Float = NDArray[np.float64]

LIMITS = (
    "dose to water after AAPM TG-43U1: attenuation between seeds (a few per cent) and the difference of liver, bone, "
    "lung, air and calcified or lipiodol-filled tissue from water are not modelled",
    "seeds are taken where they are planned: needle deflection, breathing, migration and swelling are not modelled",
)
"""Said with every plan."""


@dataclass(frozen=True, eq=False)
class Chosen:
    """The loading that won: `loading` (n,) over the candidates."""

    candidates: Candidates
    loading: NDArray[np.int8]


def assemble(chosen: Chosen, prepared: Prepared, notes: Sequence[str], optimiser: OptimiserRecord) -> Plan:
    """Build the plan; every number in it follows from the positions as they will be written.

    Parameters
    ----------
    chosen : Chosen
        Candidates and loading.
    prepared : Prepared
        Case, targets and seeds that were searched with.
    notes : sequence of str
        What was assumed besides the case's own notes.
    optimiser : OptimiserRecord
        What the search reports.
    """
    protocol, used = prepared.protocol, _strengths_used(chosen)
    plan = Plan(
        software=f"brachy {__version__}",
        case=_identity(prepared.case),
        protocol=protocol,
        limits=LIMITS,
        sources=tuple(prepared.stock.record(kind) for kind in used),
        targets=tuple(PlanTarget.of(target) for target in prepared.targets),
        templates=tuple(each.layout.to_plan() for each in chosen.candidates.templates),
        needles=tuple(needles_of(chosen, used)),
        evaluation=Evaluation(formalism=protocol.source.formalism),
        optimiser=optimiser,
        access=prepared.access.record() if prepared.access is not None else None,
    ).sealed()
    of_templates = [
        f"template of {each.layout.target}: {note}"
        for each in chosen.candidates.templates
        for note in each.notes
        if not note.startswith("layer ")  # the rules name the edge of the target that no needle comes near
    ]
    return judged(plan, prepared, (*prepared.case.assumed, *notes, *of_templates))


def judged(plan: Plan, prepared: Prepared, assumed: Sequence[str]) -> Plan:
    """The plan with evaluation, goals and rules of its needles as they are."""
    protocol, targets, structures = plan.protocol, prepared.targets, prepared.case.structures
    organs = [s for s in structures if s.role not in UNDOSED and not s.is_empty]
    model = dose_model(plan.implants(), protocol.source.formalism)
    found = evaluate(model, organs, targets, prepared.external, protocol.goals)
    goals = judge(found, protocol.goals, targets, organs, source=protocol.citations.get("goals", ""))
    rules = check_rules(
        plan.needles,
        plan.templates,
        targets,
        structures,
        protocol,
        prepared.stock.source,
        closed_holes(plan, reported_holes(plan)),
        prepared.access,
    )
    served = [target.structure for target in targets if not target.nested_in]
    return plan.model_copy(
        update={
            "version": VERSIONS[-1],
            "structures": tuple(map(_structure, standings(structures, protocol, served, names_of(targets)))),
            "assumed": tuple(assumed),
            "evaluation": found.model_copy(update={"goals": goals}),
            "rules": rules,
        }
    ).sealed()


def _identity(case: Case) -> PlanCase:
    known = case.identity
    return PlanCase(
        patient_id=known.patient_id,
        study_uid=known.study_uid,
        frame_of_reference_uid=known.frame_of_reference_uid,
        ct_series_uid=known.ct_series_uid,
        structure_set_uid=known.structure_set_uid,
        inputs=tuple(PlanInput(name=file.name, sha256=file.sha256) for file in case.inputs),
    )


def _structure(found: Standing) -> PlanStructure:
    return PlanStructure(
        roi=found.roi,
        role=found.role,
        source=found.basis.source,
        why=found.basis.why,
        understood=found.basis.understood,
        obstacle=found.barrier.stops,
        obstacle_why=found.barrier.why,
    )


def _strengths_used(chosen: Chosen) -> list[int]:
    """Strengths of the stock that some needle is loaded with; the first where there is no seed."""
    needles = chosen.candidates.needle_of[np.flatnonzero(chosen.loading)]
    return sorted(set(chosen.candidates.strength[needles].tolist())) or [0]


def needles_of(chosen: Chosen, used: Sequence[int]) -> list[PlanNeedle]:
    """Loaded needles in the order of insertion: template, layer 0, +1, -1 ..., column; seeds from the tip back."""
    candidates = chosen.candidates
    loaded = np.flatnonzero(chosen.loading)
    found = []
    for number in np.unique(candidates.needle_of[loaded]).tolist():
        template, needle = int(candidates.template_of[number]), candidates.needles[number]
        made = candidates.templates[template]
        depths = np.sort(candidates.depths_mm[loaded[candidates.needle_of[loaded] == number]])[::-1]
        tip_depth = float(depths[0]) + made.tip_offset_mm
        kind = used.index(int(candidates.strength[number]))
        seeds = tuple(
            PlanSeed(
                position_mm=_vector(needle.at(depth)),
                depth_mm=tip_depth - depth,
                source=kind,
            )
            for depth in depths.tolist()
        )
        plan_needle = PlanNeedle(
            hole=needle.hole,
            template=template,
            hole_mm=_vector(needle.hole_mm),
            skin_mm=_vector(needle.entry_mm),
            tip_mm=_vector(needle.at(tip_depth)),
            direction=_vector(needle.direction),
            depth_mm=tip_depth,
            depth_from_skin_mm=tip_depth - float(needle.depth_of(needle.entry_mm)),
            seeds=seeds,
            in_place=needle.measured,
        )
        found.append(((template, made.layout.rank(needle.hole)), plan_needle))
    return [needle for _, needle in sorted(found, key=lambda pair: pair[0])]


def _vector(values: Float) -> tuple[float, float, float]:
    x, y, z = rounded(values.tolist())
    return x, y, z
