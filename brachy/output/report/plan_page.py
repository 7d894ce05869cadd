"""The report of a plan: what a physicist reads, a physician signs, and a radiologist carries out."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from brachy.dosimetry.shown_metrics import Table, metrics_in
from brachy.dosimetry.strength import air_kerma_rate_at_1m, order_list
from brachy.evaluation.robust_record import RobustRecord
from brachy.geometry.grid import Dose
from brachy.geometry.structures import Structure
from brachy.output.csv_tables import in_order_of_insertion
from brachy.output.figures import cuts
from brachy.output.figures.curves import Curves
from brachy.output.report.charts import dvh_figure, scene_figure
from brachy.output.report.needle_chart import chart_rows, one_direction, plate_maps
from brachy.output.report.needle_pictures import needle_pictures
from brachy.output.report.picture import Picture, slice_pictures, template_pictures
from brachy.output.report.rendering import render, viewer
from brachy.output.report.robust_section import robust_section
from brachy.output.report.setup_sheet import set_ups
from brachy.output.report.template_sheet import ANGLE_DEG, PLACE_MM, hole_rows
from brachy.output.verdict import organs_by_nearness, verdict
from brachy.patient.case import Case
from brachy.patient.colour import Colour
from brachy.patient.evaluation_record import GoalCounts, RuleCounts
from brachy.patient.plan import Plan
from brachy.patient.privacy import identifying
from brachy.writing import write_text_whole

NAMED = 6
"""ROIs that were not understood are named on top up to this number; the list of structures has all."""

TERMS = {
    "underdose": "target below the prescription",
    "over_150": "target above 150 %",
    "over_200": "target above 200 %",
    "spill": "prescription outside the target",
    "organ": "organs above their limits",
    "needle": "number of needles",
    "seed": "number of seeds",
    "lateral": "target edge farther from a needle than the lateral margin",
}
"""What the terms of the objective stand for."""


def render_report(
    plan: Plan,
    case: Case,
    *,
    structures: Sequence[Structure],
    dose: Dose | None,
    curves: Curves,
    template_notes: Sequence[str] = (),
    robust: RobustRecord | None = None,
    slices: Sequence[Picture] | None = None,
) -> str:
    """HTML of the report of a plan: one page that needs no network.

    Parameters
    ----------
    plan : Plan
        A plan, with its independent check where there is one.
    case : Case
        CT and identity.
    structures : sequence of Structure
        With their roles, as planning saw them.
    dose : Dose or None
        On a grid, for isodose surfaces.
    curves : mapping of str to (dose in Gy, volume in cc)
        Cumulative, by ROI.
    template_notes : sequence of str
        What there is to know of the printed template.
    robust : RobustRecord, optional
        Content of robust.json (`brachy.evaluation.robustness.robust`).
    slices : sequence of Picture, optional
        Of `plan_slices`, where they were drawn before.

    Returns
    -------
    str
        The page.

    Examples
    --------
    >>> from inspect import signature
    >>> list(signature(render_report).parameters)[:2]
    ['plan', 'case']
    """
    region = cuts.region_of(plan, case)
    slices = plan_slices(plan, case, structures) if slices is None else slices
    rx, rx_of = cuts.prescription(plan)
    targets = list(dict.fromkeys(name for t in plan.targets for name in (t.planned_roi, t.roi)))
    chart = chart_rows(plan, structures)
    target_rows, organ_rows = _target_rows(plan), _organ_rows(plan)
    return render(
        "plan.html",
        title=f"Implant plan {plan.case.patient_id}".strip(),
        footer=f"{plan.case.patient_id}   plan {plan.checksum[:12]}",
        plan=plan,
        identity=case.identity,
        identifies=identifying(case.identity),
        isodose_note=f"% of {rx:g} Gy" + (f" ({rx_of})" if len(plan.targets) > 1 else ""),
        verdict=verdict(plan),
        summary=_summary(plan),
        target_rows=target_rows,
        organ_rows=organ_rows,
        target_metrics=_known(metrics_in(Table.REPORT_TARGETS), target_rows),
        organ_metrics=_known(metrics_in(Table.REPORT_ORGANS), organ_rows),
        slices=viewer("slices", slices, _start(slices, plan, case), "picture"),
        templates=[
            (plate, viewer(f"template-{k + 1}", pictures, _printed(pictures), "depth"))
            for k, plate in enumerate(plan.templates)
            for pictures in (template_pictures(plan, case, k, structures),)
        ],
        along=viewer("needles", pictures, 0, "needle")
        if plan.individual and (pictures := needle_pictures(plan, case, structures))
        else None,
        dvh=dvh_figure(curves, rx, targets),
        scene=scene_figure(plan, structures, dose, region),
        chart=chart,
        set_ups=set_ups(plan, structures, case.grid),
        holes=hole_rows(plan),
        hole_mm=PLACE_MM,
        hole_deg=ANGLE_DEG,
        maps=plate_maps(plan, chart),
        angles=one_direction(chart),
        layers=_layers(plan),
        order=order_list(_strengths(plan)),
        air_kerma_rate=air_kerma_rate_at_1m(strength for _, strength in _strengths(plan)),
        terms=TERMS,
        weights=_weights(plan),
        optimiser=_optimiser(plan),
        placed_count=sum(seed.placed for needle in plan.needles for seed in needle.seeds),
        directions=_directions(plan),
        citations=_citations(plan),
        template_notes=template_notes,
        robust=robust_section(robust, plan) if robust is not None else None,
    )


def write_report(plan: Plan, case: Case, path: str | os.PathLike[str], **given: Any) -> Path:
    """Write the report of a plan, whole or not at all; takes what `render_report` takes.

    Raises
    ------
    BrachyError
        If the file cannot be written.

    Examples
    --------
    >>> from brachy.optimise import plan as make
    >>> from brachy.io.phantom.file import load_phantom
    >>> from brachy.patient.protocol import change, load_protocol
    >>> case = load_phantom("sphere-35mm")
    >>> quick = change(load_protocol("liver-metastasis"), search={"starts": 1, "moves": 2000, "fine_moves": 0})
    >>> plan = make(case, quick, direction=(0, 0))
    >>> from tempfile import TemporaryDirectory
    >>> from brachy.output.plan_folder import plan_curves, plan_dose
    >>> made = {"structures": case.structures, "dose": plan_dose(plan), "curves": plan_curves(plan, case.structures)}
    >>> with TemporaryDirectory() as folder:
    ...     write_report(plan, case, f"{folder}/report.html", **made).stat().st_size > 100_000
    True
    """
    write_text_whole(Path(path), render_report(plan, case, **given))
    return Path(path)


def plan_slices(plan: Plan, case: Case, structures: Sequence[Structure]) -> tuple[Picture, ...]:
    """Pictures of the CT slices round a plan, with isodose lines, outlines, needles and seeds."""
    seeds = [
        (f"{cuts.needle_name(plan, needle)}.{k}", np.array(seed.position_mm))
        for needle in plan.needles
        for k, seed in enumerate(needle.seeds, 1)
    ]
    region, model = cuts.region_of(plan, case), plan.dose_model()
    return slice_pictures(case, region, seeds, structures=structures, plan=plan, model=model)


def _summary(plan: Plan) -> list[tuple[str, Colour, str]]:
    """The verdicts of the first lines: what, colour, in words."""
    goals = plan.evaluation.goals
    required = GoalCounts.of(goal for goal in goals if goal.required)
    aims = [goal for goal in goals if not goal.required]
    said: list[tuple[str, Colour, str]] = [("required goals", required.colour, str(required))]
    if aims:
        counts = GoalCounts.of(aims)
        said.append(("aims", counts.colour, str(counts)))
    unclear = [structure.roi for structure in plan.structures if not structure.understood]
    if unclear:
        more = f" and {len(unclear) - NAMED}" if len(unclear) > NAMED else ""
        said.insert(0, ("not understood", "amber", f"ROI {', '.join(unclear[:NAMED])}{more}"))
    rules = RuleCounts.of(plan.rules)
    said.append(("rules", rules.colour, str(rules)))
    made = plan.check.made
    said.append(
        ("independent check", *((plan.check.colour, plan.check.words) if made else ("amber", "not made")))
    )
    return said


@dataclass(frozen=True)
class MetricRow:
    """Metrics of a structure in the report: values and uncertainties by name; of a target also D90 in the other
    formalism."""

    roi: str
    values: Mapping[str, float | None]
    uncertainty: Mapping[str, float]
    other: float | None = None


def _target_rows(plan: Plan) -> list[MetricRow]:
    rows = []
    for target in plan.targets:
        for name in dict.fromkeys((target.planned_roi, target.roi)):
            if name in plan.evaluation.structures:
                rows.append(
                    MetricRow(
                        name,
                        plan.evaluation.structures[name],
                        plan.evaluation.uncertainty.get(name, {}),
                        plan.evaluation.other_formalism.get(name, {}).get("D90_gy"),
                    )
                )
    return rows


def _organ_rows(plan: Plan) -> list[MetricRow]:
    found = plan.evaluation.structures
    return [
        MetricRow(name, found[name], plan.evaluation.uncertainty.get(name, {}))
        for name in organs_by_nearness(plan)
    ]


def _known(metrics: Sequence[str], rows: Sequence[MetricRow]) -> list[str]:
    """Metrics that any row has."""
    return [name for name in metrics if any(row.values.get(name) is not None for row in rows)]


def _start(pictures: Sequence[Any], plan: Plan, case: Case) -> int:
    """The slice to show first: the one of `brachy.output.figures.cuts.middle_slice`."""
    wanted = f"(CT slice {cuts.middle_slice(plan, case.grid) + 1})"
    found = [k for k, picture in enumerate(pictures) if picture.title.endswith(wanted)]
    return found[0] if found else len(pictures) // 2


def _printed(pictures: Sequence[Any]) -> int:
    return next((k for k, picture in enumerate(pictures) if picture.printed), 0)


def _strengths(plan: Plan) -> list[tuple[str, float]]:
    used = [plan.sources[seed.source] for needle in plan.needles for seed in needle.seeds]
    return [(source.model, source.air_kerma_strength_U) for source in used]


def _layers(plan: Plan) -> list[dict[str, int]]:
    """Needles and seeds of each template."""
    ordered = in_order_of_insertion(plan)
    return [
        {
            "template": k + 1,
            "needles": sum(n.template == k for n in ordered),
            "seeds": sum(len(n.seeds) for n in ordered if n.template == k),
        }
        for k in range(len(plan.templates))
    ]


def _weights(plan: Plan) -> dict[str, object]:
    """Weights of the objective's terms, by name, as the protocol has them."""
    found: dict[str, object] = plan.protocol.objective.model_dump(mode="json")
    return found


def _optimiser(plan: Plan) -> list[tuple[str, int | float | str]]:
    """What the search reports in single values, other than its terms."""
    words = {
        "objective": "objective",
        "lower_bound": "lower bound of the objective",
        "gap_absolute": "gap to the bound",
        "gap_relative": "gap to the bound, as a part of the objective",
        "raised_for_goals": "weights raised for required goals, factor",
    }
    single = {
        key: value
        for key, value in plan.optimiser.model_dump(mode="json").items()
        if key != "helps_most" and isinstance(value, (int, float, str))
    }
    found = [(word, single[key]) for key, word in words.items() if key in single]
    return found + [(key.replace("_", " "), value) for key, value in single.items() if key not in words]


@dataclass(frozen=True)
class _DirectionLine:
    """A direction that was tried, as the page shows it."""

    target: str
    azimuth: float
    tilt: float
    offered: int | None
    blocked: str
    outcome: str


def _directions(plan: Plan) -> list[_DirectionLine]:
    """Directions that the search looked at, one row each."""
    return [
        _DirectionLine(
            each.target,
            row.azimuth_deg,
            row.tilt_deg,
            row.needles_offered,
            ", ".join(f"{name} {count}" for name, count in row.blocked.items()),
            row.outcome,
        )
        for each in plan.optimiser.directions
        for row in each.tried
    ]


def _citations(plan: Plan) -> list[tuple[str, str, str]]:
    """Every number of the protocol that has a source: name, value, source."""
    data = plan.protocol.model_dump(mode="json")
    rows = []
    for key, source in data.get("citations", {}).items():
        value: Any = data
        for part in key.split("."):
            value = value.get(part) if isinstance(value, dict) else None
        shown = ", ".join(map(str, value)) if isinstance(value, list) and not _nested(value) else value
        rows.append(
            (key, "" if shown is None or isinstance(shown, (dict, list)) else str(shown), str(source))
        )
    return rows


def _nested(value: list[Any]) -> bool:
    return any(isinstance(item, (dict, list)) for item in value)
