"""The report of an implant: what was planned beside what was found."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from brachy.dosimetry import tg43
from brachy.dosimetry.dvh import dvh
from brachy.dosimetry.implant import Implant
from brachy.dosimetry.shown_metrics import Table, metrics_in
from brachy.errors import UsageError
from brachy.geometry.grid import Grid
from brachy.geometry.structures import Structure
from brachy.output.figures.curves import FAR, Curves
from brachy.output.figures.cuts import ROUND_MM
from brachy.output.report.charts import SEED_PIXELS, dvh_figure, scene_figure, sticks
from brachy.output.report.picture import slice_pictures
from brachy.output.report.rendering import render, viewer
from brachy.patient.case import Case
from brachy.patient.palette import BLUE, SHIFT, VERMILION
from brachy.patient.plan import Evaluation, Plan, PlanTarget
from brachy.patient.privacy import identifying
from brachy.patient.protocol import load_protocol
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


def render_verification(
    record: Mapping[str, Any],
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
    record : mapping
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
        If the record is no verification, or names no target.
    """
    if record.get("format") != "brachy-verification":
        raise UsageError("the record is no verification: its 'format' is not 'brachy-verification'")
    targets = [(str(t["roi"]), float(t["prescription_gy"])) for t in record.get("targets", ())]
    if not targets:
        raise UsageError("the verification names no target with a prescription: there is nothing to draw")
    evaluation = record.get("evaluation", {})
    formalism = str(evaluation.get("formalism", "1D"))
    stand_in = _plan_of(targets, plan, formalism)
    by_name = {structure.name: structure for structure in case.structures}
    names = [name for name, _ in targets]
    rx = min(gy for _, gy in targets)
    evaluated = [
        by_name[name]
        for name, values in evaluation.get("structures", {}).items()
        if name in by_name
        and (name in names or ((values.get("max_gy") or {}).get("actual") or rx) >= FAR * rx)
    ]
    curves = curves if curves is not None else _curves(found, evaluated, names, formalism)
    if planned_curves is None and planned is not None and planned.implants:
        planned_curves = _curves(planned.implants, evaluated, names, formalism)
    places = np.array([row["position_mm"] for row in record.get("seeds", ())]).reshape(-1, 3)
    labels = [_label(k, row) for k, row in enumerate(record.get("seeds", ()))]
    region = _region(case, names, places, planned)
    slices = slice_pictures(
        case,
        region,
        list(zip(planned.labels, planned.positions_mm, strict=True)) if planned is not None else [],
        structures=case.structures,
        plan=stand_in,
        implants=found,
        formalism=formalism,
        needles=False,
        found=list(zip(labels, places, strict=True)),
        shifts=_pairs(record, places, planned),
    )
    patient = record.get("case", {}).get("patient_id", "")
    rx_of = f" ({min(targets, key=lambda target: target[1])[0]})" if len(targets) > 1 else ""
    return render(
        "verification.html",
        title=f"Implant {patient}".strip(),
        footer=f"{patient}   implant beside plan {(record.get('plan') or '–')[:12]}",
        record=record,
        identity=case.identity,
        identifies=identifying(case.identity),
        formalism=formalism,
        isodose_note=f"as implanted, % of {rx:g} Gy{rx_of}",
        summary=_summary(record),
        targets=[_target(name, gy, record) for name, gy in targets],
        organs=[
            {"roi": roi, "values": values}
            for roi, values in evaluation.get("structures", {}).items()
            if roi not in names
        ],
        organ_metrics=[
            m
            for m in metrics_in(Table.IMPLANT_ORGANS)
            if any(m in v for v in evaluation.get("structures", {}).values())
        ],
        slices=viewer("slices", slices, _fullest(slices), "picture"),
        dvh=dvh_figure(curves, rx, names, planned_curves or {}),
        scene=scene_figure(
            stand_in,
            case.structures,
            _dose(found, formalism),
            region,
            extra=_sticks(record, places, labels, found, planned),
        ),
        seed_rows=[
            {"number": k + 1, "label": labels[k], **row} for k, row in enumerate(record.get("seeds", ()))
        ],
        computed_plan=planned is not None and bool(planned.implants),
        has_plan=planned is not None or bool(record.get("plan")),
    )


def write_verification_report(
    record: Mapping[str, Any],
    case: Case,
    found: Sequence[Implant],
    path: str | os.PathLike[str],
    **given: Any,
) -> Path:
    """Write the report of an implant, whole or not at all; takes what `render_verification` takes.

    Raises
    ------
    BrachyError
        If the file cannot be written.
    """
    write_text_whole(Path(path), render_verification(record, case, found, **given))
    return Path(path)


def _plan_of(targets: Sequence[tuple[str, float]], plan: Plan | None, formalism: str) -> Plan:
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
        evaluation=Evaluation(formalism="2D" if formalism == "2D" else "1D"),
    )


def _curves(
    implants: Sequence[Implant], structures: Sequence[Structure], targets: Sequence[str], formalism: str
) -> Curves:
    """Cumulative curves; of seeds without an axis in 1D."""
    used = formalism if all(implant.axes is not None for implant in implants) else "1D"
    return {
        s.name: dvh(list(implants), s, formalism=used, organ=s.name not in targets).curve()
        for s in structures
    }


def _region(case: Case, targets: Sequence[str], places: Float, planned: PlannedSeeds | None) -> Float:
    """Corners of what the pictures must show: targets and all seeds, and a margin."""
    points = [places] if len(places) else []
    points += [s.bounds_mm for s in case.structures if s.name in targets and not s.is_empty]
    if planned is not None and len(planned.positions_mm):
        points.append(np.asarray(planned.positions_mm))
    both = np.concatenate(points) if points else case.grid.corners_mm()
    low, high = both.min(axis=0) - ROUND_MM, both.max(axis=0) + ROUND_MM
    return np.array([[(low, high)[(i >> k) & 1][k] for k in range(3)] for i in range(8)])


def _label(index: int, row: Mapping[str, Any]) -> str:
    return f"found {index + 1}" + (f", {row['planned']}" if row.get("planned") else "")


def _pairs(
    record: Mapping[str, Any], places: Float, planned: PlannedSeeds | None
) -> list[tuple[Float, Float]]:
    """Where each matched seed was planned and is."""
    if planned is None:
        return []
    where = dict(zip(planned.labels, np.asarray(planned.positions_mm), strict=True))
    return [
        (where[row["planned"]], place)
        for row, place in zip(record.get("seeds", ()), places, strict=True)
        if row.get("planned") in where
    ]


def _dose(found: Sequence[Implant], formalism: str) -> Any:
    seeds = np.concatenate([implant.positions_mm for implant in found]) if found else np.zeros((0, 3))
    if not len(seeds):
        return None
    grid = Grid.around(seeds.min(axis=0) - ROUND_MM, seeds.max(axis=0) + ROUND_MM, SCENE_MM)
    return tg43.dose(grid, list(found), formalism=formalism)


def _sticks(
    record: Mapping[str, Any],
    places: Float,
    labels: Sequence[str],
    found: Sequence[Implant],
    planned: PlannedSeeds | None,
) -> list[dict[str, Any]]:
    """Planned and found seeds of the scene."""
    length = found[0].source.capsule_length_mm if found else 4.5
    traces = []
    if planned is not None and len(planned.positions_mm):
        unknown = np.tile([0.0, 0.0, 1.0], (len(planned.labels), 1))
        ends = _ends(planned.positions_mm, unknown if planned.axes is None else planned.axes, length)
        traces.append(sticks(ends, planned.labels, "planned seeds", BLUE, SEED_PIXELS))
    if len(places):
        axes = np.array([row.get("axis") or (0.0, 0.0, 1.0) for row in record["seeds"]])
        traces.append(sticks(_ends(places, axes, length), labels, "found seeds", VERMILION, SEED_PIXELS))
    pairs = _pairs(record, places, planned)
    if pairs:
        names = [
            f"shift of {row['planned']}"
            for row in record["seeds"]
            if row.get("planned") in (planned.labels if planned else ())
        ]
        traces.append(sticks(np.array([np.stack(pair) for pair in pairs]), names, "shifts", SHIFT, 2.0))
    return traces


def _ends(places: Float, axes: Float, length_mm: float) -> Float:
    half = 0.5 * length_mm * np.asarray(axes)
    return np.stack([places - half, places + half], axis=1)


def _fullest(pictures: Sequence[Any]) -> int:
    counts = [sum(not mark.lit for mark in picture.found) + 0.5 * len(picture.seeds) for picture in pictures]
    return int(np.argmax(counts)) if counts else 0


def _summary(record: Mapping[str, Any]) -> list[tuple[str, bool | None, str]]:
    """The verdicts of the first lines: what, whether good, in words."""
    said: list[tuple[str, bool | None, str]] = []
    goals = [goal for goal in record.get("goals", ()) if goal.get("required", True)]
    if goals:
        met = sum(bool(goal["met"]) for goal in goals)
        said.append(("required goals", met == len(goals), f"{met} of {len(goals)} met"))
    shifts = record.get("shifts") or {}
    count = len(record.get("seeds", ()))
    if "planned" in shifts:
        said.append(("seeds", count == shifts["planned"], f"{count} found, {shifts['planned']} planned"))
    else:
        said.append(("seeds", None, f"{count} found"))
    if record.get("plan"):
        missing, extra = len(record.get("missing", ())), len(record.get("extra", ()))
        said.append(("matched", missing + extra == 0, f"{missing} missing, {extra} extra"))
    held = sum(len(seeds) for seeds in (record.get("in_organs") or {}).values())
    if "in_organs" in record:
        said.append(("in vessels, lung, bowel ...", held == 0, f"{held} seeds"))
    if record.get("outside") is not None:
        said.append(("beyond the margin", not record["outside"], f"{len(record['outside'])} seeds"))
    return said


def _target(name: str, prescription_gy: float, record: Mapping[str, Any]) -> dict[str, Any]:
    """All that the record says of a target."""
    evaluation = record.get("evaluation", {})
    values = evaluation.get("structures", {}).get(name, {})
    intervals = record.get("intervals", {}).get(name, {})
    uncertainty = record.get("uncertainty", {})
    spread = uncertainty.get("sd", {}).get(name, {}) if isinstance(uncertainty, Mapping) else {}
    return {
        "roi": name,
        "rx": prescription_gy,
        "rows": [
            {
                "metric": metric,
                "interval": intervals.get(metric),
                "sd": spread.get(metric, {}),
                **values[metric],
            }
            for metric in metrics_in(Table.IMPLANT_TARGETS)
            if metric in values
        ],
        "other": evaluation.get("other_formalism", {}).get(name, {}).get("D90_gy"),
        "cold": record.get("cold_spots", {}).get(name),
        "further": record.get("further_seed", {}).get(name),
        "sectors": record.get("sectors", {}).get(name, []),
    }
