"""What a plan delivers when needles deviate, as a section of its report and as a page of its own."""

from typing import Any

import numpy as np

from brachy.output.figures.curves import far_from_dose
from brachy.output.report.charts import FONT, array, axis, prescription_line, text
from brachy.output.report.rendering import render
from brachy.patient.palette import PAPER, PURPLE, curve_line
from brachy.patient.plan import Plan

BAND_OPACITY = 0.22


def robust_section(found: dict[str, Any], plan: Plan) -> dict[str, Any]:
    """What the templates show of the contents of robust.json.

    Parameters
    ----------
    found : dict
        Of `brachy.evaluation.robustness.robust`.
    plan : Plan
        The plan it was made for.
    """
    uncertainties = [
        (f"{table}.{key}", value, row.get(_source_of(key), ""))
        for table, row in found["uncertainties"].items()
        for key, value in row.items()
        if not key.endswith("_source")
    ]
    wanted = ("samples", "seed", "formalism", "goals", "needles", "intervals")
    return {key: found[key] for key in wanted} | {
        "uncertainties": uncertainties,
        "planned": plan.optimiser.get("robust"),
        "figure": band_figure(found, plan),
    }


def _source_of(key: str) -> str:
    """Name of the field that holds the source of a number: the number's without its unit."""
    for unit in ("_mm", "_deg", "_pct", "_probability"):
        key = key.removesuffix(unit)
    return f"{key}_source"


def band_figure(found: dict[str, Any], plan: Plan) -> dict[str, Any]:
    """Dose-volume curves as planned with the band that holds 95 % of the scenarios, as data for Plotly."""
    targets = [name for t in plan.targets for name in (t.planned_roi, t.roi)]
    rx = max(t.prescription_gy for t in plan.targets)
    bands = {
        name: {key: np.array(values) for key, values in band.items()} for name, band in found["bands"].items()
    }
    curves = {name: (band["nominal_gy"][::-1], band["volume_pct"][::-1]) for name, band in bands.items()}
    far = set(far_from_dose(curves, rx, targets))
    traces: list[dict[str, Any]] = []
    number = 0
    for name in sorted(bands, key=lambda each: (each not in targets, each in far)):
        if name in targets:
            colour = PURPLE
        else:
            (colour, _), number = curve_line(number), number + 1
        band = bands[name]
        volume = band["volume_pct"]
        seen: bool | str = "legendonly" if name in far else True
        label = text(name)
        same = {"type": "scatter", "mode": "lines", "legendgroup": label, "visible": seen}
        outline = np.concatenate([band["p2_5_gy"], band["p97_5_gy"][::-1]])
        traces.append(
            {**same, "x": array(outline), "y": array(np.concatenate([volume, volume[::-1]])), "fill": "toself",
             "fillcolor": colour, "opacity": BAND_OPACITY, "line": {"width": 0}, "showlegend": False,
             "hoverinfo": "skip"}
        )  # fmt: skip
        traces.append(
            {**same, "name": label, "x": array(band["nominal_gy"]), "y": array(volume),
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


def render_robust(found: dict[str, Any], plan: Plan) -> str:
    """HTML of the robustness of a plan: one page that needs no network.

    Parameters
    ----------
    found : dict
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
