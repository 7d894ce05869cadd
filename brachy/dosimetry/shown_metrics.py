"""The metrics that tables show: one list, read whenever a table is made.

To add a metric to every table, append `Column("D95_gy", EVERYWHERE)` to `METRICS`; any name that
`brachy.dosimetry.metrics.parse_metric` reads will do. It is then evaluated, written to plan.json and shown.
"""

from collections.abc import Set
from dataclasses import dataclass
from enum import Enum

from brachy.dosimetry.metrics import INDICES, parse_metric


class Table(Enum):
    """Where metrics are shown, and of which structures."""

    EVALUATION = "plan.json and verification.json, every structure"
    TERMINAL_TARGETS = "terminal, targets (plan, verify, cohort)"
    TERMINAL_ORGANS = "terminal, organs (plan, verify)"
    REPORT_TARGETS = "report.html of a plan, targets"
    REPORT_ORGANS = "report.html of a plan, organs"
    IMPLANT_TARGETS = "report.html of an implant, targets"
    IMPLANT_ORGANS = "report.html of an implant, organs"
    ALTERNATIVES = "alternatives.csv and the table of alternatives on the terminal, targets"
    ROBUST_TARGETS = "robust.json and its table, targets"
    ROBUST_ORGANS = "robust.json and its table, organs"
    DVH = "`brachy dvh` without --metric, every structure"
    COHORT = "cohort.csv and cohort.parquet, first target"
    COHORT_ROBUST = "the same of `--verb robust`, first target"
    COHORT_FIGURE = "distributions in cohort.html, first target"


EVERYWHERE = frozenset(Table)


@dataclass(frozen=True)
class Column:
    """A metric and the tables that have a column of it.

    Parameters
    ----------
    metric : str
        Its name in full, as in plan.json: "D90_gy".
    tables : set of Table
        Where it is shown.
    """

    metric: str
    tables: Set[Table]


T = Table

METRICS: list[Column] = [
    Column("volume_cc", EVERYWHERE - {T.ROBUST_TARGETS, T.ROBUST_ORGANS, T.ALTERNATIVES, T.COHORT, T.COHORT_ROBUST}),
    Column("mean_gy", {T.EVALUATION, T.TERMINAL_ORGANS, T.REPORT_ORGANS, T.IMPLANT_ORGANS, T.DVH}),
    Column("min_gy", {T.DVH}),
    Column("max_gy", {T.EVALUATION, T.REPORT_ORGANS, T.IMPLANT_ORGANS, T.DVH}),
    Column("D90_gy", EVERYWHERE - {T.TERMINAL_ORGANS, T.REPORT_ORGANS, T.IMPLANT_ORGANS, T.ROBUST_ORGANS}),
    Column("D100_gy", {T.EVALUATION, T.REPORT_TARGETS, T.IMPLANT_TARGETS, T.COHORT}),
    Column("V100_pct", EVERYWHERE - {T.TERMINAL_ORGANS, T.REPORT_ORGANS, T.IMPLANT_ORGANS, T.ROBUST_ORGANS, T.DVH}),
    Column("V100_cc", {T.IMPLANT_TARGETS}),
    Column("V150_pct", EVERYWHERE - {T.TERMINAL_ORGANS, T.REPORT_ORGANS, T.IMPLANT_ORGANS, T.ROBUST_ORGANS, T.DVH}),
    Column("V150_cc", {T.IMPLANT_TARGETS}),
    Column("V200_pct", {T.EVALUATION, T.TERMINAL_TARGETS, T.REPORT_TARGETS, T.IMPLANT_TARGETS, T.ALTERNATIVES,
                        T.ROBUST_TARGETS, T.COHORT, T.COHORT_FIGURE}),
    Column("D2cc_gy", {T.EVALUATION, T.TERMINAL_ORGANS, T.REPORT_ORGANS, T.IMPLANT_ORGANS, T.ROBUST_ORGANS, T.DVH}),
    Column("D1cc_gy", {T.EVALUATION, T.REPORT_ORGANS}),
    Column("D0.1cc_gy", {T.EVALUATION, T.TERMINAL_ORGANS, T.REPORT_ORGANS, T.IMPLANT_ORGANS, T.ROBUST_ORGANS}),
    Column("CI", {T.EVALUATION, T.TERMINAL_TARGETS, T.REPORT_TARGETS, T.IMPLANT_TARGETS, T.ALTERNATIVES, T.COHORT,
                  T.COHORT_FIGURE}),
    Column("EI", {T.EVALUATION, T.TERMINAL_TARGETS, T.REPORT_TARGETS, T.IMPLANT_TARGETS, T.COHORT}),
    Column("HI", {T.EVALUATION, T.TERMINAL_TARGETS, T.REPORT_TARGETS, T.IMPLANT_TARGETS, T.COHORT, T.COHORT_FIGURE}),
    Column("V100_pct", {T.REPORT_ORGANS, T.DVH}),
    Column("V100_cc", {T.REPORT_ORGANS, T.IMPLANT_ORGANS}),
    Column("V150_pct", {T.DVH}),
    Column("V200_pct", {T.DVH}),
    Column("mean_gy", {T.ROBUST_ORGANS}),
    Column("max_gy", {T.TERMINAL_ORGANS}),
]  # fmt: skip
"""Every column, in the order in which tables have them; a metric whose place differs between tables has two lines.
V100_cc and V150_cc are shown where a goal asks for them."""

UNCERTAIN = ("D90_gy", "V100_pct")
"""Metrics of targets that are given with their uncertainty."""


def metrics_in(table: Table) -> tuple[str, ...]:
    """Names of the metrics of a table, in the order of its columns.

    Examples
    --------
    >>> metrics_in(Table.TERMINAL_ORGANS)
    ('volume_cc', 'mean_gy', 'D2cc_gy', 'D0.1cc_gy', 'max_gy')
    """
    return tuple(column.metric for column in METRICS if table in column.tables)


def evaluated_metrics() -> tuple[str, ...]:
    """Metrics of one histogram that are evaluated for every structure: the list without CI, EI and HI.

    Examples
    --------
    >>> evaluated_metrics()[-3:]
    ('D2cc_gy', 'D1cc_gy', 'D0.1cc_gy')
    """
    return tuple(name for name in metrics_in(Table.EVALUATION) if name not in INDICES)


def default_metrics(prescribed: bool) -> tuple[str, ...]:
    """Metrics of `brachy dvh` where none is named; those relative to a prescription only where there is one.

    Examples
    --------
    >>> default_metrics(False)
    ('volume_cc', 'mean_gy', 'min_gy', 'max_gy', 'D90_gy', 'D2cc_gy')
    """
    names = [name for name in metrics_in(Table.DVH) if name not in INDICES]
    return tuple(name for name in names if prescribed or not parse_metric(name).needs_prescription)


def symbol_and_unit(name: str) -> tuple[str, str]:
    """Symbol and unit of a metric's name, for headings; the unit is "" where the name has none.

    Examples
    --------
    >>> symbol_and_unit("D90_gy"), symbol_and_unit("V100_pct"), symbol_and_unit("CI")
    (('D90', 'Gy'), ('V100', '%'), ('CI', ''))
    """
    for suffix, unit in (("_gy", "Gy"), ("_pct", "%"), ("_cc", "cc")):
        if name.endswith(suffix):
            return name.removesuffix(suffix), unit
    return name, ""
