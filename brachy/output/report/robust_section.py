"""What a plan delivers when needles deviate, as a section of its report and as a page of its own."""

from dataclasses import dataclass

import numpy as np

from brachy.evaluation.robust_record import (
    GoalProbability,
    MetricSpread,
    NeedleInfluence,
    RobustRecord,
)
from brachy.output.figures.curves import far_from_dose
from brachy.output.report.charts import FONT, Figure, array, axis, prescription_line, text
from brachy.output.report.rendering import render
from brachy.patient.optimiser_record import RobustSummary
from brachy.patient.palette import PAPER, PURPLE, curve_line
from brachy.patient.plan import Plan

BAND_OPACITY = 0.22


@dataclass(frozen=True)
class RobustSection:
    """Content of robust.json as the templates show it.

    Parameters
    ----------
    samples, seed, formalism, goals, needles, intervals
        As `RobustRecord` has them.
    uncertainties : tuple of (name, value, source)
        Each figure by its table and field.
    planned : RobustSummary or None
        Result of the robust optimisation, where the plan was made with it.
    figure : dict
        Curves and bands, for Plotly.
    """

    samples: int
    seed: int
    formalism: str
    goals: tuple[GoalProbability, ...]
    needles: tuple[NeedleInfluence, ...]
    intervals: dict[str, dict[str, MetricSpread]]
    uncertainties: tuple[tuple[str, float, str], ...]
    planned: RobustSummary | None
    figure: Figure


def robust_section(found: RobustRecord, plan: Plan) -> RobustSection:
    """Content of robust.json as the templates show it.

    Parameters
    ----------
    found : RobustRecord
        Of `brachy.evaluation.robustness.robust`.
    plan : Plan
        The plan it was made for.
    """
    return RobustSection(
        samples=found.samples,
        seed=found.seed,
        formalism=found.formalism,
        goals=found.goals,
        needles=found.needles,
        intervals=found.intervals,
        uncertainties=tuple(
            (f"{table}.{key}", value, row.get(_source_of(key), ""))
            for table, row in found.uncertainties.model_dump(mode="json").items()
            for key, value in row.items()
            if not key.endswith("_source")
        ),
        planned=plan.optimiser.robust,
        figure=band_figure(found, plan),
    )


def _source_of(key: str) -> str:
    """Name of the field that holds the source of a number: the number's without its unit."""
    for unit in ("_mm", "_deg", "_pct", "_probability"):
        key = key.removesuffix(unit)
    return f"{key}_source"


def band_figure(found: RobustRecord, plan: Plan) -> Figure:
    """Dose-volume curves as planned with the band that holds 95 % of the scenarios, as data for Plotly."""
    targets = [name for t in plan.targets for name in (t.planned_roi, t.roi)]
    rx = max(t.prescription_gy for t in plan.targets)
    bands = found.bands
    curves = {
        name: (np.array(band.nominal_gy[::-1]), np.array(band.volume_pct[::-1]))
        for name, band in bands.items()
    }
    far = set(far_from_dose(curves, rx, targets))
    traces: list[Figure] = []
    number = 0
    for name in sorted(bands, key=lambda each: (each not in targets, each in far)):
        if name in targets:
            colour = PURPLE
        else:
            (colour, _), number = curve_line(number), number + 1
        band = bands[name]
        volume = np.array(band.volume_pct)
        seen: bool | str = "legendonly" if name in far else True
        label = text(name)
        same = {"type": "scatter", "mode": "lines", "legendgroup": label, "visible": seen}
        outline = np.array([*band.p2_5_gy, *band.p97_5_gy[::-1]])
        traces.append(
            {**same, "x": array(outline), "y": array(np.concatenate([volume, volume[::-1]])), "fill": "toself",
             "fillcolor": colour, "opacity": BAND_OPACITY, "line": {"width": 0}, "showlegend": False,
             "hoverinfo": "skip"}
        )  # fmt: skip
        traces.append(
            {**same, "name": label, "x": array(np.array(band.nominal_gy)), "y": array(volume),
             "line": {"color": colour, "width": 2.2},
             "hovertemplate": f"<b>{label}</b><br>%{{x:.1f}} Gy or more: %{{y:.0f}} %<extra></extra>"}
        )  # fmt: skip
    layout = {
        "font": FONT,
        "margin": {"l": 60, "r": 10, "t": 28, "b": 48},
        "height": 460,
        "paper_bgcolor": PAPER,
        "plot_bgcolor": PAPER,
        "xaxis": axis("dose, Gy", [0, 3.0 * rx]),
        "yaxis": axis("volume, %", [0, 101]),
        "hovermode": "closest",
        "legend": {"x": 1.02, "y": 1, "font": {"size": 11}, "tracegroupgap": 0},
        **prescription_line(rx),
    }
    return {"data": traces, "layout": layout}


def render_robust(found: RobustRecord, plan: Plan) -> str:
    """HTML of the robustness of a plan: one page that needs no network.

    Parameters
    ----------
    found : RobustRecord
        Of `brachy.evaluation.robustness.robust`.
    plan : Plan
        The plan it was made for.

    Returns
    -------
    str
        The page.

    Examples
    --------
    >>> from inspect import signature
    >>> list(signature(render_robust).parameters)
    ['found', 'plan']
    """
    return render(
        "robust.html",
        title=f"Robustness {plan.case.patient_id}".strip(),
        footer=f"{plan.case.patient_id}   plan {plan.checksum[:12]}",
        plan=plan,
        robust=robust_section(found, plan),
    )
