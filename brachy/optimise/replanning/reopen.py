"""Prepare a finished plan for another search: the same template holes, some needles fixed, the others to be searched.

Fixed seeds give their dose to the base of the search; candidates that would come too near to them, and needles that
would cross a fixed needle, are taken out; a fixed needle is counted as used.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from brachy.errors import BrachyError
from brachy.needles.candidates import needle_candidates
from brachy.needles.channel import Axis
from brachy.needles.conflicts import segments_of
from brachy.needles.needle_path import segment_distances
from brachy.needles.template import TemplateLayout
from brachy.optimise.assemble import Chosen, judged, needles_of
from brachy.optimise.candidates import Candidates
from brachy.optimise.points import FINE
from brachy.optimise.preparation import Prepared, prepare
from brachy.optimise.replanning.cache import rows
from brachy.optimise.search import SearchProblem
from brachy.optimise.seed_stock import decay_since_stated, stock_of_plan
from brachy.patient.case import Case
from brachy.patient.check_report import CheckReport
from brachy.patient.optimiser_record import OptimiserRecord
from brachy.patient.plan import Plan, PlanNeedle, PlanSeed, PlanSource
from brachy.patient.protocol import change

Float = NDArray[np.float64]

SAME_DIRECTION = 1e-4
"""Two unit vectors this near, by the length of their difference, are one direction (they have 6 significant digits)."""

SAME_MM = 0.02
"""A candidate this near to a planned seed is the planned place (positions have 6 significant digits)."""


@dataclass(frozen=True, eq=False)
class Opened:
    """A plan and its case, ready for another search or another evaluation."""

    plan: Plan
    prepared: Prepared
    """As planning prepared it: case, targets, seeds, samples, anchor, dose of one seed, obstacles."""
    candidates: Candidates
    cache: Path | None = None
    """Folder in which the influence matrix of the templates' own candidates is kept."""


def reopen(plan: Plan, case: Case, step_mm: float | None = None) -> Opened:
    """Prepare the case as planning did, and find the candidates of its own templates again.

    Parameters
    ----------
    plan : Plan
        A plan of this program.
    case : Case
        The case it was made for: CT, structures, identity.
    step_mm : float, optional
        Distance of neighbouring candidates on a needle; by default the protocol's.

    Raises
    ------
    BrachyError
        If the case is another one than the plan's.
    """
    protocol = plan.protocol
    _must_match(plan, case)
    wanted = [(target.roi, target.prescription_gy) for target in plan.targets]
    # a plan that was made before what lies outside was judged goes on as it was made
    prepared = prepare(case, protocol, wanted, stock_of_plan(plan), outside=plan.access is not None)
    planned = {target.name: target.structure for target in prepared.targets}
    rules = protocol if step_mm is None else change(protocol, seeds={"step_mm": step_mm})
    templates = tuple(
        needle_candidates(
            planned[template.target],
            prepared.external,
            prepared.obstacles(planned[template.target]),
            TemplateLayout.of(template),
            rules,
            prepared.capsule_length_mm,
            axes=_axes_of(plan, index),
            access=prepared.access,
        )
        for index, template in enumerate(plan.templates)
    )
    candidates = Candidates.of(templates, prepared.anchor_mm, protocol, len(protocol.source.stock_mCi))
    return Opened(plan, prepared, candidates)


def _axes_of(plan: Plan, template: int) -> list[Axis] | None:
    """Axes of the plan's own needles where they have directions of their own; None for all holes of the template."""
    layout = TemplateLayout.of(plan.templates[template])
    if not layout.cone_deg or layout.individual:
        return None
    return [
        Axis(needle.hole, layout.at(needle.hole), np.array(needle.direction))
        for needle in plan.needles
        if needle.template == template and not needle.in_place
    ]


def _must_match(plan: Plan, case: Case) -> None:
    for what, mine, theirs in (
        ("patient ID", plan.case.patient_id, case.identity.patient_id),
        ("CT series", plan.case.ct_series_uid, case.identity.ct_series_uid),
    ):
        if mine and theirs and mine != theirs:
            raise BrachyError(
                f"the plan was made for another case: its {what} differs; give the case of the plan"
            )


def problem_with(
    opened: Opened,
    fixed: Sequence[PlanNeedle],
    closed: Collection[tuple[int, str]] = (),
    present: Sequence[PlanNeedle] | None = None,
    level: int = FINE,
) -> SearchProblem:
    """The search problem of all that is not fixed.

    Parameters
    ----------
    opened : Opened
        The plan.
    fixed : sequence of PlanNeedle
        Their seeds give dose and take their places.
    closed : collection of (template, hole)
        Holes through which nothing more goes; through another one with a fixed needle more seeds may.
    present : sequence of PlanNeedle, optional
        Those that other needles must keep away from, and that are paid for; by default all that are fixed.
    level : int
        Level of the samples.
    """
    present = fixed if present is None else present
    protocol, everything = opened.plan.protocol, opened.candidates
    shut = np.array([name in set(closed) for name in everything.names], dtype=bool) & ~everything.measured
    kept = np.ones(len(everything), dtype=bool)
    seeds = [seed for needle in fixed for seed in needle.seeds]
    places = np.array([seed.position_mm for seed in seeds]).reshape(-1, 3) - opened.prepared.anchor_mm
    for place in places:
        gaps = np.linalg.norm(everything.positions_mm - place, axis=1)
        kept &= gaps >= protocol.seeds.min_spacing_mm - 1e-3
    shut |= _crossing(opened, present) | _of_other_strength(opened, present)
    candidates = everything.only(kept, shut)
    points = np.concatenate([part.points_mm[: part.counts[level]] for part in opened.prepared.samples])
    matrix = _matrix(opened, points)[np.append(everything.stays(kept, shut), len(everything))]
    problem = SearchProblem.of(
        candidates, opened.prepared.samples, level, opened.prepared.table, protocol, matrix
    )
    in_patient = _is_one_of(everything, present).any(axis=1) | everything.measured
    # counted on every candidate of the needle, also on those that are taken out: the axis is there
    arrays = problem.arrays._replace(
        base=dose_of(opened, fixed, points),
        base_count=in_patient.astype(np.int64),
        base_covered=candidates.covered_by(np.any(_is_one_of(everything, fixed), axis=1)),
        limits=_left(problem.arrays.limits, len(seeds), len(fixed)),  # what is used is used
    )
    return SearchProblem(candidates, problem.samples, level, arrays, problem.terms)


def dose_of(opened: Opened, needles: Sequence[PlanNeedle], points: Float) -> Float:
    """Dose (n,) in Gy of the seeds of some needles, where they are planned, at points (n, 3) relative to the anchor."""
    seeds = [(seed, needle.direction) for needle in needles for seed in needle.seeds]
    if not seeds:
        return np.zeros(len(points))
    prepared, sources = opened.prepared, opened.plan.sources
    places = np.array([seed.position_mm for seed, _ in seeds]) - prepared.anchor_mm
    axes = np.array([axis for _, axis in seeds])
    rows_of_seeds = prepared.table.rows(points, places, axes)[:-1].astype(np.float64)
    first = prepared.stock.strengths_U[0]  # the table is that of the first strength
    shares = [sources[seed.source].air_kerma_strength_U / first for seed, _ in seeds]
    return np.asarray(np.array(shares) @ rows_of_seeds)


def _matrix(opened: Opened, points: Float) -> NDArray[np.float32]:
    """Influence of every candidate (n + 1, points): of the templates from the cache, of measured needles computed."""
    every = opened.candidates
    own = int((~every.measured[every.needle_of]).sum())  # measured needles come last
    first = rows(opened.prepared.table, points, every.positions_mm[:own], every.axes[:own], opened.cache)
    if own == len(every):
        return first
    rest = opened.prepared.table.rows(
        points, every.positions_mm[own:], np.ascontiguousarray(every.axes[own:])
    )
    return np.concatenate([first[:-1], rest])


def _left(limits: NDArray[np.int64], seeds: int, needles: int) -> NDArray[np.int64]:
    left: NDArray[np.int64] = np.maximum(limits - np.array([seeds, seeds, needles]), 0)
    return left


def _is_one_of(candidates: Candidates, needles: Sequence[PlanNeedle]) -> NDArray[np.bool_]:
    """(n_needles, k) whether a candidate is a needle of the plan: through the same hole in the same direction.

    A needle that was measured is found by its hole alone: it was planned as the template's own.
    """
    same = np.zeros((len(candidates.needles), len(needles)), dtype=bool)
    for n, (name, candidate) in enumerate(zip(candidates.names, candidates.needles, strict=True)):
        for k, needle in enumerate(needles):
            if name == (needle.template, needle.hole):
                off = float(np.linalg.norm(candidate.direction - np.array(needle.direction)))
                same[n, k] = needle.in_place or off < SAME_DIRECTION
    return same


def _crossing(opened: Opened, fixed: Sequence[PlanNeedle]) -> NDArray[np.bool_]:
    """Needles that come too near to another one that is fixed; measured ones stay."""
    every = opened.candidates
    anchor = opened.prepared.anchor_mm
    if not fixed or not every.needles:
        return np.zeros(len(every.needles), dtype=bool)
    starts, ways = segments_of(every.needles, anchor)
    other = np.array([n.hole_mm for n in fixed]) - anchor
    reach = np.array([n.tip_mm for n in fixed]) - anchor - other
    gaps = segment_distances(starts, ways, other, reach)
    near = gaps < opened.plan.protocol.needle.axes_apart_mm - 1e-3
    return np.asarray((near & ~_is_one_of(every, fixed)).any(axis=1) & ~every.measured)


def _of_other_strength(opened: Opened, present: Sequence[PlanNeedle]) -> NDArray[np.bool_]:
    """Copies of the needles in the patient with seeds of another strength than theirs.

    A needle holds seeds of one strength. The search excludes a copy of a needle when it opens another, and a needle in
    the patient is open already: both copies could be loaded, with two seeds in one place.
    """
    every = opened.candidates
    starts = np.array([needle.hole_mm for needle in every.needles]).reshape(-1, 3)
    planned = {(n.template, n.hole): n.seeds for n in opened.plan.needles}
    other = np.zeros(len(starts), dtype=bool)
    for needle in present:
        seeds = needle.seeds or planned.get((needle.template, needle.hole), ())
        if seeds:
            mine = np.linalg.norm(starts - np.array(needle.hole_mm), axis=1) < SAME_MM
            other |= mine & (every.strength != _kind(seeds[0], opened.plan))
    return other


def _kind(seed: PlanSeed, plan: Plan) -> int:
    """Which of the strengths in stock a planned seed has."""
    mci = plan.sources[seed.source].apparent_activity_mCi / decay_since_stated(plan.sources[0])
    return int(np.abs(np.array(plan.protocol.source.stock_mCi) - mci).argmin())


def loading_of(needles: Sequence[PlanNeedle], candidates: Candidates, plan: Plan) -> NDArray[np.int8]:
    """Loading of the candidates that are the planned places of some needles; other places are left out.

    Seeds of a needle that is `in_place` are looked for among those of the measured needles.
    """
    loading = np.zeros(len(candidates), dtype=np.int8)
    where: dict[tuple[int, str, bool, int], list[int]] = {}
    for i, number in enumerate(candidates.needle_of.tolist()):
        on_line = candidates.needles[number].measured
        key = (*candidates.names[number], on_line, int(candidates.strength[number]))
        where.setdefault(key, []).append(i)
    for needle in needles:
        for seed in needle.seeds:
            kind = _kind(seed, plan)
            for i in where.get((needle.template, needle.hole, needle.in_place, kind), []):
                place = candidates.needles[candidates.needle_of[i]].at(candidates.depths_mm[i])
                if np.linalg.norm(place - np.array(seed.position_mm)) < SAME_MM:
                    loading[i] = 1
    return loading


def completed(
    opened: Opened,
    needles: Sequence[PlanNeedle],
    sources: Sequence[PlanSource],
    optimiser: OptimiserRecord,
    notes: Sequence[str] = (),
) -> Plan:
    """New plan with other needles, evaluated; it names its parent."""
    order = {id(n): k for k, n in enumerate(needles)}
    sorted_needles = sorted(
        needles,
        key=lambda n: (
            n.template,
            opened.candidates.templates[n.template].layout.rank(n.hole),
            order[id(n)],
        ),
    )
    child = opened.plan.model_copy(
        update={
            "parent": opened.plan.checksum,
            "needles": tuple(sorted_needles),
            "sources": tuple(sources),
            "optimiser": optimiser,
            "check": CheckReport(),
        }
    ).sealed()
    known = opened.plan.assumed
    new = [note for note in notes if note not in known]
    return judged(child, opened.prepared, (*known, *new))


def searched_needles(
    opened: Opened, problem: SearchProblem, loading: NDArray[np.int8], sources: Sequence[PlanSource]
) -> tuple[list[PlanNeedle], list[PlanSource]]:
    """Needles of a loading, their seeds pointing into `sources`, to which strengths that are new are added."""
    chosen = Chosen(problem.candidates, loading)
    listed = list(sources)
    used = sorted(
        set(problem.candidates.strength[problem.candidates.needle_of[np.flatnonzero(loading)]].tolist())
    )
    place = []
    for kind in used:
        strength = opened.prepared.stock.strengths_U[kind]
        near = [k for k, s in enumerate(listed) if abs(s.air_kerma_strength_U / strength - 1) < 1e-5]
        if not near:
            mci = opened.plan.protocol.source.stock_mCi[kind] * decay_since_stated(listed[0])
            listed.append(
                listed[0].model_copy(update={"air_kerma_strength_U": strength, "apparent_activity_mCi": mci})
            )
            near = [len(listed) - 1]
        place.append(near[0])
    needles = [
        needle.model_copy(
            update={
                "seeds": tuple(
                    seed.model_copy(update={"source": place[seed.source]}) for seed in needle.seeds
                )
            }
        )
        for needle in needles_of(chosen, used)
    ]
    return needles, listed
