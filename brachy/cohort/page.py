"""cohort.html: distributions, outliers, every case, and the outcomes."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from brachy.cohort.records import CaseRecord, GroupOutcomes, Metric, OutcomesRecord, Survival
from brachy.cohort.table import columns_of, value_of
from brachy.dosimetry.shown_metrics import Table, metrics_in
from brachy.output.report.charts import FONT, Figure, array, axis
from brachy.output.report.rendering import metric_label, render
from brachy.patient.palette import BLUE, CHART_GRID, CHART_LINE, CLEAR, PAPER, VERMILION

Float = NDArray[np.float64]

OUTLYING = 3.5
"""Modified z-score from which a value is called outlying: B. Iglewicz, D. Hoaglin, How to Detect and Handle Outliers
(1993)."""

TO_SIGMA = 0.6745
"""Median absolute deviation of a normal distribution, in standard deviations."""

COUNTS = ("seeds", "needles", "mean_shift_mm")
"""Columns of cohort.csv that are drawn beside the metrics."""

SURVIVALS: tuple[Literal["pfs", "os"], ...] = ("pfs", "os")

MOST_ROWS = 2000


def render_cohort(
    verb: str, records: Sequence[CaseRecord], count: int, outcomes: OutcomesRecord | None = None
) -> str:
    """HTML of a cohort: one page that needs no network.

    Parameters
    ----------
    verb : str
        What was done.
    records : sequence of CaseRecord
        Of the cases that are finished or failed.
    count : int
        Cases of the list.
    outcomes : OutcomesRecord, optional
        Of `brachy.cohort.outcomes.outcomes_of`.
    """
    done = [record for record in records if record.done]
    columns = columns_of(records)
    rows = [
        {
            "failed": not record.done,
            "cells": [_words(value_of(record, column)) for column in columns],
        }
        for record in records[:MOST_ROWS]
    ]
    curves = {} if outcomes is None else {
        key: figure for key in SURVIVALS if (figure := survival_figure(outcomes, key)) is not None
    }  # fmt: skip
    return render(
        "cohort.html",
        title=f"Cohort: {verb}",
        footer=f"cohort of {count} cases",
        verb=verb,
        count=count,
        done=len(done),
        failed=[record for record in records if not record.done],
        summary=_summary(done),
        outliers=outliers(done),
        columns=columns,
        rows=rows,
        left=max(len(records) - MOST_ROWS, 0),
        distributions=distribution_figure(done),
        outcomes=outcomes,
        curves=curves,
    )


def _words(value: Metric | str) -> Metric | str:
    return {True: "yes", False: "no"}[value] if isinstance(value, bool) else value


def _numbers(done: Sequence[CaseRecord], name: str) -> tuple[Float, list[CaseRecord]]:
    """Values of a metric, and the cases that have them; a yes/no is no number."""
    values, having = [], []
    for record in done:
        value = record.metrics.get(name)
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            values.append(float(value))
            having.append(record)
    return np.array(values), having


def _summary(done: Sequence[CaseRecord]) -> list[tuple[str, int, list[float]]]:
    """Name, number of cases, and minimum, quartiles and maximum of every metric."""
    found = []
    for name in dict.fromkeys(name for record in done for name in record["metrics"]):
        values, _ = _numbers(done, name)
        if len(values):
            found.append((name, len(values), np.percentile(values, [0, 25, 50, 75, 100]).tolist()))
    return found


@dataclass(frozen=True)
class Outlier:
    """A value far from the cohort's median, and its modified z-score."""

    row: int
    case: str
    name: str
    value: float
    median: float
    score: float


def outliers(done: Sequence[CaseRecord]) -> list[Outlier]:
    """Values far from the cohort's median: 0.6745 |x - median| / MAD above 3.5, the farthest first.

    Examples
    --------
    >>> cases = [
    ...     CaseRecord(row=k, case=str(k), status="done", metrics={"D90_gy": value})
    ...     for k, value in enumerate([129, 130, 131, 132, 60])
    ... ]
    >>> [(each.row, each.name, each.value) for each in outliers(cases)]
    [(4, 'D90_gy', 60.0)]
    """
    found = []
    for name in dict.fromkeys(name for record in done for name in record["metrics"]):
        values, having = _numbers(done, name)
        if len(values) < 5:
            continue
        middle = float(np.median(values))
        spread = float(np.median(np.abs(values - middle)))
        if spread == 0:
            continue
        for value, record in zip(values.tolist(), having, strict=True):
            score = TO_SIGMA * abs(value - middle) / spread
            if score > OUTLYING:
                found.append(Outlier(record.row, record.case, name, value, middle, score))
    return sorted(found, key=lambda each: -each.score)


def distribution_figure(done: Sequence[CaseRecord]) -> Figure:
    """Every value of the usual metrics as a point beside a box, one small plot a metric."""
    shown = (*metrics_in(Table.COHORT_FIGURE), *COUNTS)
    names = [name for name in shown if len(_numbers(done, name)[0])]
    traces: list[Figure] = []
    layout: Figure = {
        "font": FONT,
        "height": 380,
        "margin": {"l": 40, "r": 10, "t": 20, "b": 40},
        "paper_bgcolor": PAPER,
        "plot_bgcolor": PAPER,
        "showlegend": False,
        "grid": {"rows": 1, "columns": max(len(names), 1), "pattern": "independent"},
    }
    for k, name in enumerate(names, 1):
        values, having = _numbers(done, name)
        suffix = "" if k == 1 else str(k)
        traces.append(
            {"type": "box", "y": array(values), "boxpoints": "all", "jitter": 0.6, "pointpos": 0, "name": "",
             "marker": {"size": 4, "color": BLUE, "opacity": 0.6}, "line": {"width": 1.2, "color": CHART_LINE},
             "fillcolor": CLEAR, "text": [f"row {record.row}" for record in having],
             "hovertemplate": "%{text}: %{y}<extra></extra>", "xaxis": f"x{suffix}", "yaxis": f"y{suffix}"}
        )  # fmt: skip
        layout[f"xaxis{suffix}"] = {"title": {"text": metric_label(name)}, "showticklabels": False}
        layout[f"yaxis{suffix}"] = {"gridcolor": CHART_GRID, "zeroline": False}
    return {"data": traces, "layout": layout}


def survival_figure(outcomes: OutcomesRecord, key: Literal["pfs", "os"]) -> Figure | None:
    """Kaplan-Meier curves of all patients and of the two groups."""

    def curve_of(group: GroupOutcomes) -> Survival | None:
        return group.pfs if key == "pfs" else group.os

    every = curve_of(outcomes.all)
    if every is None:
        return None
    cut = outcomes.cut
    named = [("all", every, CHART_LINE, "solid")]
    for (name, group), colour, dash in zip(
        outcomes.groups.items(), (VERMILION, BLUE), ("dash", "dot"), strict=True
    ):
        own = curve_of(group)
        if own is not None:
            named.append((f"{cut.metric} {name} {cut.value}", own, colour, dash))
    traces: list[Figure] = []
    for name, found, colour, dash in named:
        months, pct = np.array(found.curve.months), np.array(found.curve.pct)
        traces.append(
            {"type": "scatter", "mode": "lines", "name": f"{name} ({found.patients})", "x": array(months),
             "y": array(pct), "line": {"shape": "hv", "color": colour, "dash": dash, "width": 2}}
        )  # fmt: skip
        ends = np.array(found.curve.censored_months)
        if len(ends):
            at = pct[np.searchsorted(months, ends, side="right") - 1]
            traces.append(
                {"type": "scatter", "mode": "markers", "x": array(ends), "y": array(at), "showlegend": False,
                 "marker": {"symbol": "line-ns-open", "size": 9, "color": colour}, "hoverinfo": "skip"}
            )  # fmt: skip
    last = max(found.curve.months[-1] for _, found, _, _ in named)
    title = "progression-free" if key == "pfs" else "alive"
    layout = {
        "font": FONT, "height": 360, "margin": {"l": 60, "r": 10, "t": 20, "b": 48}, "paper_bgcolor": PAPER,
        "plot_bgcolor": PAPER, "xaxis": axis("months", [0, max(last, 1.0) * 1.03]),
        "yaxis": axis(f"{title}, %", [0, 103]),
    }  # fmt: skip
    return {"data": traces, "layout": layout}
