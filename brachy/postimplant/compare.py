"""Comparison of found with planned seeds, by seed and by needle, and the implant with source and strength."""

from dataclasses import dataclass
from datetime import date

import numpy as np
from numpy.typing import NDArray

from brachy.dosimetry.implant import Implant
from brachy.dosimetry.source import load_source, source_warnings
from brachy.dosimetry.strength import question_strength
from brachy.errors import BrachyError, UsageError
from brachy.patient.implant_date import decayed, implant_date
from brachy.patient.records import vector
from brachy.postimplant.matching import Matching, Shifts, match, moved_by, shifts, statistics
from brachy.postimplant.planned import Planned
from brachy.postimplant.record import NeedleShifts, ShiftReport
from brachy.postimplant.registration import Registration
from brachy.postimplant.seed_files import GivenSeeds

Float = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Comparison:
    """Seeds after the implant matched to the planned ones.

    Parameters
    ----------
    matching : Matching
        Pairs, missing, extra.
    carried_mm, carried_axes : (n, 3) arrays
        Planned seeds and axes where the transform puts them; axes None where the plan has none.
    moved : Shifts
        A row a pair of the matching.
    """

    matching: Matching
    carried_mm: Float
    carried_axes: Float | None
    moved: Shifts


def compare(planned: Planned, seeds: GivenSeeds, registration: Registration, gate_mm: float) -> Comparison:
    """Match the seeds after the implant with the planned ones, carried over by the transform."""
    carried = moved_by(registration.transform, planned.positions_mm)
    axes = None if planned.axes is None else planned.axes @ registration.transform[:3, :3].T
    matching = match(carried, seeds.positions_mm, gate_mm)
    p, f = matching.pairs[:, 0], matching.pairs[:, 1]
    moved = shifts(carried[p], seeds.positions_mm[f], None if axes is None else axes[p], seeds.axes[f])
    return Comparison(matching, carried, axes, moved)


def shift_report(planned: Planned, comparison: Comparison) -> ShiftReport:
    """Statistics of the shifts of all seeds and of each needle, and counts of missing and extra seeds."""
    matching = comparison.matching
    missing, extra = len(matching.missing), len(matching.extra)
    needles = [planned.needles[p] for p in matching.pairs[:, 0].tolist()]
    rows = []
    for name in dict.fromkeys(planned.needles):
        if not name:
            continue
        mine = [k for k, needle in enumerate(needles) if needle == name]
        count, found = planned.needles.count(name), statistics(comparison.moved, mine)
        rows.append(NeedleShifts.model_validate({"needle": name, "planned": count, **found.model_dump()}))
    return ShiftReport(
        planned=len(planned),
        found=len(matching.pairs) + extra,
        matched=len(matching.pairs),
        missing=missing,
        extra=extra,
        lost=max(0, missing - extra),
        migrated=min(missing, extra),
        common_shift_mm=vector(matching.shift_mm),
        all=statistics(comparison.moved),
        needles=tuple(rows),
    )


@dataclass(frozen=True, eq=False)
class Implanted:
    """Implanted seeds with source and strength.

    Parameters
    ----------
    implants : tuple of Implant
        By kind.
    order : tuple of int
        Index of the given seed of each implanted one.
    assumed : tuple of str
        What was inferred.
    """

    implants: tuple[Implant, ...]
    order: tuple[int, ...]
    assumed: tuple[str, ...]


def implanted(
    seeds: GivenSeeds,
    planned: Planned | None,
    comparison: Comparison | None,
    *,
    source: str | None = None,
    strength_U: float | None = None,
    implant_on: date | None = None,
    post_implant_ct: date | None = None,
    needs_axes: bool = False,
    accept_unverified: bool = False,
    accept_strength: bool = False,
) -> Implanted:
    """Seeds with source, strength at implantation and axis.

    Source and strength are those given, else the plan's (a seed that matches none has the commonest kind), else those
    of the RTPLAN that the seeds came from. Strengths of a plan decay from the day for which they are stated to the
    implantation (`brachy.patient.implant_date.implant_date`; `post_implant_ct` is the date of the CT after it); a
    strength that is given holds at the implantation. Another model keeps the plan's half-life.

    Raises
    ------
    UsageError
        If source or strength are not known.
    BrachyError
        If the dose model needs axes and a seed has none.
    """
    notes: list[str] = []
    count = len(seeds)
    if planned is not None and comparison is not None:
        kinds = list(planned.implants)
        of = np.full(count, int(np.bincount(planned.kind_of).argmax()), dtype=np.int64)
        of[comparison.matching.pairs[:, 1]] = planned.kind_of[comparison.matching.pairs[:, 0]]
        stated, planned_on = _day(planned.implant_on), _day(planned.planned_on)
        date_assumed = planned.date_assumed
        if len(comparison.matching.extra) and len(kinds) > 1:
            notes.append("seeds that match no planned one have the strength and model of the commonest kind")
    elif seeds.imported is not None and (seeds.imported.sources):
        kinds = seeds.imported.implants(
            source=source, accept_unverified=accept_unverified, accept_strength=accept_strength
        )
        used = sorted(set(seeds.imported.source_of.tolist()))
        of = np.array([used.index(k) for k in seeds.imported.source_of.tolist()], dtype=np.int64)
        reference = next((s.reference for s in seeds.imported.sources if s.reference is not None), None)
        stated, planned_on = None if reference is None else reference.date(), seeds.imported.plan_date
        date_assumed = False
        notes += list(seeds.imported.assumed)
    else:
        if source is None or strength_U is None:
            raise UsageError(
                "without a plan give the seeds' model and air-kerma strength: --source MODEL --strength U"
            )
        kinds = [Implant(load_source(source, accept_unverified), np.zeros((1, 3)), strength_U=strength_U)]
        of, stated, planned_on, date_assumed = np.zeros(count, dtype=np.int64), None, None, False
    if strength_U is not None:
        question_strength(strength_U, accept_strength, "--strength")
    when = implant_date(implant_on, planned_on, date_assumed, post_implant_ct)
    if strength_U is None:
        kinds, decay_notes = decayed(kinds, stated, when)
        notes += decay_notes
        if when.on is None or stated is None:
            unknown = "no day of the implantation" if when.on is None else "no date of the strength"
            whose = "the plan" if planned is not None else seeds.origin
            notes.append(f"{unknown} is known: source and strength of {whose} hold at implantation")
    if when.on is not None and post_implant_ct is not None and when.on != post_implant_ct:
        notes.append(f"implanted on {when.on} ({when.origin}); the CT is of {post_implant_ct}")
    model = None if source is None else load_source(source, accept_unverified)
    positions, axes = seeds.positions_mm, _axes(seeds, comparison, needs_axes, notes)
    implants, order = [], list[int]()
    for kind, entry in enumerate(kinds):
        mine = np.flatnonzero(of == kind)
        if not len(mine):
            continue
        strength = float(entry.strength_U[0]) if strength_U is None else float(strength_U)
        implants.append(
            Implant(
                model or entry.source,
                positions[mine],
                None if axes is None else axes[mine],
                strength_U=strength,
                half_life_days=entry.half_life_days,  # protocol > plan > source, also with another model
            )
        )
        order += mine.tolist()
    for implant in implants:
        notes += [note for note in source_warnings(implant.source) if note not in notes]
    return Implanted(tuple(implants), tuple(order), tuple(dict.fromkeys(notes)))


def _day(text: str) -> date | None:
    """Date of an ISO text, None for ""."""
    return date.fromisoformat(text[:10]) if text else None


def _axes(seeds: GivenSeeds, comparison: Comparison | None, needed: bool, notes: list[str]) -> Float | None:
    """Axes (m, 3) of all seeds, those of the needles where a seed's own is unknown; None where one stays unknown."""
    axes = seeds.axes.copy()
    unknown = np.array([not np.isfinite(axis).all() for axis in axes], dtype=bool)
    if unknown.any() and comparison is not None and comparison.carried_axes is not None:
        for p, f in comparison.matching.pairs.tolist():
            if unknown[f]:
                axes[f] = comparison.carried_axes[p]
        filled = unknown & np.array([np.isfinite(axis).all() for axis in axes], dtype=bool)
        if filled.any():
            notes.append(f"{int(filled.sum())} seeds without an axis lie along their planned needles")
        unknown &= ~filled
    if not unknown.any():
        return axes
    if needed:
        raise BrachyError(
            f"{int(unknown.sum())} seeds have no axis, which 2D dose needs: give axis_x, axis_y, axis_z, or "
            "--formalism 1D"
        )
    return None
