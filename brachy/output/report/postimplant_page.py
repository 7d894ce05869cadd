"""The report of an implant, planned and found values side by side."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from brachy.dosimetry.dvh import histogram_of
from brachy.dosimetry.implant import Implant, seeds_mm
from brachy.dosimetry.model import DoseModel, dose_model, dose_model_where_known
from brachy.dosimetry.shown_metrics import Table, metrics_in
from brachy.errors import UsageError
from brachy.geometry.grid import Grid
from brachy.geometry.structures import Structure
from brachy.output.figures.curves import FAR, Curves
from brachy.output.figures.cuts import ROUND_MM
from brachy.output.report.charts import SEED_PIXELS, Figure, dvh_figure, scene_figure, sticks
from brachy.output.report.picture import slice_pictures
from brachy.output.report.rendering import render, viewer
from brachy.patient.case import Case
from brachy.patient.colour import Colour
from brachy.patient.evaluation_record import GoalCounts, RuleCounts
from brachy.patient.palette import BLUE, SHIFT, VERMILION
from brachy.patient.plan import Evaluation, Plan, PlanTarget
from brachy.patient.privacy import identifying
from brachy.patient.protocol import load_protocol
from brachy.postimplant.record import (
    ColdSpots,
    Compared,
    FurtherSeed,
    Interval,
    PostImplantRecord,
    SectorRow,
    SeedRow,
)
from brachy.writing import write_text_whole

Float = NDArray[np.float64]

SCENE_MM = 2.0
"""Isodose surfaces are taken from doses on this lattice (engineering choice)."""


@dataclass(frozen=True, eq=False)
class PlannedSeeds:
    """Planned seeds where the registration puts them, in the frame of the CT after the implant (LPS, mm).

    Parameters
    ----------
    labels : sequence of str
        Name of each seed, "C4.2".
    positions_mm : (n, 3) array
        Centres.
    implants : sequence of Implant
        The same seeds with source and strength, for the planned dose-volume curves.
    axes : (n, 3) array, optional
        Unit vectors.
    """

    labels: Sequence[str]
    positions_mm: Float
    implants: Sequence[Implant] = ()
    axes: Float | None = None


def render_post_implant(
    record: PostImplantRecord,
    case: Case,
    found: Sequence[Implant],
    *,
    planned: PlannedSeeds | None = None,
    plan: Plan | None = None,
    curves: Curves | None = None,
    planned_curves: Curves | None = None,
) -> str:
    """HTML of the report of an implant: one page that needs no network.

    Parameters
    ----------
    record : PostImplantRecord
        Content of verification.json. What it does not hold is left out.
    case : Case
        CT after the implant with the structures that were evaluated.
    found : sequence of Implant
        Seeds as implanted, with source and strength.
    planned : PlannedSeeds, optional
        For what was planned in slices, 3D and curves.
    plan : Plan, optional
        For the roles of structures.
    curves, planned_curves : mapping of str to (dose in Gy, volume in cc), optional
        Cumulative, by ROI; by default computed from the seeds on the structures of `case` that the record evaluates,
        those left out whose highest dose is below a tenth of the prescription.

    Returns
    -------
    str
        The page.

    Raises
    ------
    UsageError
        If the record names no target.
    """
    targets = [(target.roi, target.prescription_gy) for target in record.targets]
    if not targets:
        raise UsageError("the record names no target with a prescription: there is nothing to draw")
    evaluation = record.evaluation
    formalism = evaluation.formalism
    model = dose_model(found, formalism)
    stand_in = _plan_of(targets, plan)
    by_name = {structure.name: structure for structure in case.structures}
    names = [name for name, _ in targets]
    rx = min(gy for _, gy in targets)
    evaluated = [
        by_name[name]
        for name, values in evaluation.structures.items()
        if name in by_name and (name in names or (values.get("max_gy", Compared()).actual or rx) >= FAR * rx)
    ]
    curves = curves if curves is not None else _curves(model, evaluated, names)
    if planned_curves is None and planned is not None and planned.implants:
        planned_curves = _curves(dose_model_where_known(planned.implants, formalism), evaluated, names)
    places = np.array([row.position_mm for row in record.seeds]).reshape(-1, 3)
    labels = [_label(k, row) for k, row in enumerate(record.seeds)]
    region = _region(case, names, places, planned)
    slices = slice_pictures(
        case,
        region,
        list(zip(planned.labels, planned.positions_mm, strict=True)) if planned is not None else [],
        structures=case.structures,
        plan=stand_in,
        model=model,
        needles=False,
        found=list(zip(labels, places, strict=True)),
        shifts=_pairs(record, places, planned),
    )
    patient = record.case.patient_id
    rx_of = f" ({min(targets, key=lambda target: target[1])[0]})" if len(targets) > 1 else ""
    organ_metrics = [
        metric
        for metric in metrics_in(Table.IMPLANT_ORGANS)
        if any(metric in values for values in evaluation.structures.values())
    ]
    return render(
        "postimplant.html",
        title=f"Implant {patient}".strip(),
        footer=f"{patient}   implant beside plan {(record.plan or '–')[:12]}",
        record=record,
        identity=case.identity,
        identifies=identifying(case.identity),
        formalism=formalism,
        isodose_note=f"as implanted, % of {rx:g} Gy{rx_of}",
        summary=_summary(record),
        targets=[_target(name, gy, record) for name, gy in targets],
        organs=[
            {"roi": roi, "values": [values.get(metric, Compared()) for metric in organ_metrics]}
            for roi, values in evaluation.structures.items()
            if roi not in names
        ],
        organ_metrics=organ_metrics,
        slices=viewer("slices", slices, _fullest(slices), "picture"),
        dvh=dvh_figure(curves, rx, names, planned_curves or {}),
        scene=scene_figure(
            stand_in,
            case.structures,
            _dose(model),
            region,
            extra=_sticks(record, places, labels, found, planned),
        ),
        computed_plan=planned is not None and bool(planned.implants),
        has_plan=planned is not None or bool(record.plan),
    )


def write_post_implant_report(
    record: PostImplantRecord,
    case: Case,
    found: Sequence[Implant],
    path: str | os.PathLike[str],
    **given: Any,
) -> Path:
    """Write the report of an implant, whole or not at all; takes what `render_post_implant` takes.

    Raises
    ------
    BrachyError
        If the file cannot be written.
    """
    write_text_whole(Path(path), render_post_implant(record, case, found, **given))
    return Path(path)


def _plan_of(targets: Sequence[tuple[str, float]], plan: Plan | None) -> Plan:
    """A plan of these targets without needles, for colours and prescriptions."""
    return Plan(
        protocol=plan.protocol if plan is not None else load_protocol("liver-metastasis"),
        sources=(),
        targets=tuple(
            PlanTarget(roi=name, prescription_gy=gy, volume_cc=0.0, planned_volume_cc=0.0)
            for name, gy in targets
        ),
        templates=(),
        needles=(),
        evaluation=Evaluation(formalism="1D"),
    )


def _curves(model: DoseModel, structures: Sequence[Structure], targets: Sequence[str]) -> Curves:
    """Cumulative curves of the structures."""
    return {s.name: histogram_of(model, s, organ=s.name not in targets).curve() for s in structures}


def _region(case: Case, targets: Sequence[str], places: Float, planned: PlannedSeeds | None) -> Float:
    """Corners of what the pictures must show: targets and all seeds, and a margin."""
    points = [places] if len(places) else []
    points += [s.bounds_mm for s in case.structures if s.name in targets and not s.is_empty]
    if planned is not None and len(planned.positions_mm):
        points.append(np.asarray(planned.positions_mm))
    both = np.concatenate(points) if points else case.grid.corners_mm()
    low, high = both.min(axis=0) - ROUND_MM, both.max(axis=0) + ROUND_MM
    return np.array([[(low, high)[(i >> k) & 1][k] for k in range(3)] for i in range(8)])


def _label(index: int, row: SeedRow) -> str:
    return f"found {index + 1}" + (f", {row.planned}" if row.planned else "")


def _pairs(
    record: PostImplantRecord, places: Float, planned: PlannedSeeds | None
) -> list[tuple[Float, Float]]:
    """Where each matched seed was planned and is."""
    if planned is None:
        return []
    where = dict(zip(planned.labels, np.asarray(planned.positions_mm), strict=True))
    return [
        (where[row.planned], place)
        for row, place in zip(record.seeds, places, strict=True)
        if row.planned is not None and row.planned in where
    ]


def _dose(model: DoseModel) -> Any:
    """Dose round all seeds for the 3D scene; None without seeds."""
    seeds = seeds_mm(model.implants)
    if not len(seeds):
        return None
    grid = Grid.around(seeds.min(axis=0) - ROUND_MM, seeds.max(axis=0) + ROUND_MM, SCENE_MM)
    return model.on(grid)


def _sticks(
    record: PostImplantRecord,
    places: Float,
    labels: Sequence[str],
    found: Sequence[Implant],
    planned: PlannedSeeds | None,
) -> list[Figure]:
    """Planned and found seeds of the scene."""
    length = found[0].source.capsule_length_mm if found else 4.5
    traces = []
    if planned is not None and len(planned.positions_mm):
        unknown = np.tile([0.0, 0.0, 1.0], (len(planned.labels), 1))
        ends = _ends(planned.positions_mm, unknown if planned.axes is None else planned.axes, length)
        traces.append(sticks(ends, planned.labels, "planned seeds", BLUE, SEED_PIXELS))
    if len(places):
        axes = np.array([row.axis or (0.0, 0.0, 1.0) for row in record.seeds])
        traces.append(sticks(_ends(places, axes, length), labels, "found seeds", VERMILION, SEED_PIXELS))
    pairs = _pairs(record, places, planned)
    if pairs:
        names = [
            f"shift of {row.planned}"
            for row in record.seeds
            if row.planned in (planned.labels if planned else ())
        ]
        traces.append(sticks(np.array([np.stack(pair) for pair in pairs]), names, "shifts", SHIFT, 2.0))
    return traces


def _ends(places: Float, axes: Float, length_mm: float) -> Float:
    half = 0.5 * length_mm * np.asarray(axes)
    return np.stack([places - half, places + half], axis=1)


def _fullest(pictures: Sequence[Any]) -> int:
    counts = [sum(not mark.lit for mark in picture.found) + 0.5 * len(picture.seeds) for picture in pictures]
    return int(np.argmax(counts)) if counts else 0


def _summary(record: PostImplantRecord) -> list[tuple[str, Colour, str]]:
    """First lines of the page: name, colour of the verdict, and text."""
    lines: list[tuple[str, Colour, str]] = []
    goals = GoalCounts.of(goal for goal in record.goals if goal.required)
    if sum(goals):
        lines.append(("required goals", goals.colour, str(goals)))
    count = len(record.seeds)
    if record.shifts is not None:
        planned = record.shifts.planned
        lines.append(("seeds", "green" if count == planned else "red", f"{count} found, {planned} planned"))
    else:
        lines.append(("seeds", "amber", f"{count} found, number not checked: no plan"))
    if record.plan:
        missing, extra = len(record.missing), len(record.extra)
        lines.append(("matched", "red" if missing + extra else "green", f"{missing} missing, {extra} extra"))
    places = RuleCounts.of(record.rules)
    lines.append(("places of the seeds", places.colour, str(places)))
    if record.check.made:
        lines.append(("independent check", record.check.colour, record.check.words))
    return lines


@dataclass(frozen=True)
class _MetricRow:
    """A metric of a target: as planned and as implanted, its interval, and the SD that each error makes."""

    metric: str
    compared: Compared
    interval: Interval | None
    sd: Mapping[str, float | None]


@dataclass(frozen=True)
class _TargetPart:
    """What the page shows of a target."""

    roi: str
    rx: float
    rows: tuple[_MetricRow, ...]
    other: float | None
    """D90 under the other formalism, Gy."""
    cold: ColdSpots | None
    further: FurtherSeed | None
    sectors: tuple[SectorRow, ...]


def _target(name: str, prescription_gy: float, record: PostImplantRecord) -> _TargetPart:
    """All that the record holds of a target."""
    values = record.evaluation.structures.get(name, {})
    intervals = record.intervals.get(name, {})
    spread = record.uncertainty.sd.get(name, {}) if record.uncertainty is not None else {}
    return _TargetPart(
        roi=name,
        rx=prescription_gy,
        rows=tuple(
            _MetricRow(metric, values[metric], intervals.get(metric), spread.get(metric, {}))
            for metric in metrics_in(Table.IMPLANT_TARGETS)
            if metric in values
        ),
        other=record.evaluation.other_formalism.get(name, {}).get("D90_gy"),
        cold=record.cold_spots.get(name),
        further=record.further_seed.get(name),
        sectors=record.sectors.get(name, ()),
    )
