"""What came of the patients: response, progression-free and overall survival, also divided by a dose metric.

References
----------
E. B. Wilson, "Probable inference, the law of succession, and statistical inference", J. Am. Stat. Assoc. 22, 209
(1927).
E. L. Kaplan, P. Meier, "Nonparametric estimation from incomplete observations", J. Am. Stat. Assoc. 53, 457 (1958);
computed by lifelines, its intervals those of the exponential Greenwood formula.
"""

import csv
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from brachy import resources
from brachy.cohort.records import (
    CaseRecord,
    CutRecord,
    GroupOutcomes,
    Metric,
    OutcomesRecord,
    Rate,
    ResponseRates,
    Survival,
    SurvivalCurve,
)
from brachy.errors import UsageError

RESPONSES = ("CR", "PR", "SD", "PD")
HEADER = ("patient_id", "response", "pfs_months", "pfs_event", "os_months", "os_event")
LEVEL = 0.95
YEARS = (1, 2)
MONTHS_PER_YEAR = 12.0


@dataclass(frozen=True)
class Outcome:
    """Of one patient: best response ("" if unknown); months to progression or death and to death, and whether that was
    seen (True) or the patient only followed so long (False); None if unknown."""

    patient_id: str
    response: str
    pfs: tuple[float, bool] | None
    os: tuple[float, bool] | None


@dataclass(frozen=True)
class Cut:
    """A metric of cohort.csv and where it divides the patients; None: at each patient's prescription.

    Examples
    --------
    >>> Cut.of("D90_gy=130"), Cut.of("D90_gy")
    (Cut(metric='D90_gy', value=130.0), Cut(metric='D90_gy', value=None))
    """

    metric: str = "D90_gy"
    value: float | None = None

    @staticmethod
    def of(text: str) -> "Cut":
        """The cut of `METRIC[=VALUE]`."""
        metric, equals, value = text.partition("=")
        if not metric or (equals and not value):
            raise UsageError(f"--cut {text}: give METRIC=VALUE, as in D90_gy=120")
        if not equals:
            return Cut(metric)
        try:
            number = float(value)
        except ValueError:
            number = math.nan
        if not math.isfinite(number):
            raise UsageError(f"--cut {text}: '{value}' is not a number")
        return Cut(metric, number)


def read_outcomes(path: Path) -> tuple[Outcome, ...]:
    """Outcomes of a CSV file with the columns of `HEADER`; an empty cell is unknown, an event is 1 or 0.

    Raises
    ------
    UsageError
        With the line of the first row that cannot be meant.
    """
    try:
        text = resources.read_bounded(path, path.name).decode("utf-8-sig")
        rows = list(csv.reader(io.StringIO(text, newline="")))
    except UnicodeDecodeError:
        raise UsageError(f"{path.name} is not UTF-8 text: save it as CSV") from None
    except csv.Error as error:
        raise UsageError(f"{path.name} is no CSV: {error}") from None
    if not rows or tuple(cell.strip().lower() for cell in rows[0]) != HEADER:
        raise UsageError(f"{path.name}, line 1: the header is not '{','.join(HEADER)}'")
    found: dict[str, Outcome] = {}
    for line, cells in enumerate(rows[1:], 2):
        if not any(cell.strip() for cell in cells):
            continue
        where = f"{path.name}, line {line}"
        if len(cells) != len(HEADER):
            raise UsageError(f"{where}: {len(cells)} cells, {len(HEADER)} are needed")
        patient, response, *times = (cell.strip() for cell in cells)
        if not patient:
            raise UsageError(f"{where}: the patient_id is empty")
        if patient in found:
            raise UsageError(f"{where}: patient '{patient}' stands twice")
        if response.upper() not in (*RESPONSES, ""):
            raise UsageError(f"{where}: response '{response[:20]}' is none of {', '.join(RESPONSES)}")
        pfs, overall = _time(times[0], times[1], f"{where}: pfs"), _time(times[2], times[3], f"{where}: os")
        if pfs and overall and pfs[0] > overall[0] + 1e-9:
            raise UsageError(f"{where}: pfs_months {pfs[0]:g} is longer than os_months {overall[0]:g}")
        found[patient] = Outcome(patient, response.upper(), pfs, overall)
    if not found:
        raise UsageError(f"{path.name} has no row below its header")
    return tuple(found.values())


def _time(months: str, event: str, where: str) -> tuple[float, bool] | None:
    if not months and not event:
        return None
    try:
        value = float(months)
    except ValueError:
        value = math.nan
    if not (math.isfinite(value) and 0 <= value <= 1200):
        raise UsageError(f"{where}_months '{months[:20]}' is no number of months from 0 to 1200")
    if event not in ("0", "1"):
        raise UsageError(f"{where}_event '{event[:20]}': write 1 if it was seen, 0 if not")
    return value, event == "1"


def response_rates(counts: Mapping[str, int]) -> ResponseRates:
    """Counts, objective response rate (CR + PR) and disease control rate (CR + PR + SD) with Wilson intervals.

    Parameters
    ----------
    counts : mapping
        Patients by CR, PR, SD, PD.

    Examples
    --------
    >>> found = response_rates({"CR": 10, "PR": 10, "SD": 3, "PD": 0})
    >>> round(found.ORR.pct, 1), found.DCR.pct
    (87.0, 100.0)
    """
    from scipy.stats import binomtest

    known = {name: int(counts.get(name, 0)) for name in RESPONSES}
    patients = sum(known.values())

    def rate(names: Sequence[str]) -> Rate | None:
        if not patients:
            return None
        hits = sum(known[name] for name in names)
        interval = binomtest(hits, patients).proportion_ci(LEVEL, method="wilson")
        bounds = 100.0 * float(interval.low), 100.0 * float(interval.high), LEVEL
        return Rate(pct=100.0 * hits / patients, interval_pct=bounds)

    return ResponseRates(counts=known, patients=patients, ORR=rate(RESPONSES[:2]), DCR=rate(RESPONSES[:3]))


def survival(times: Sequence[tuple[float, bool]]) -> Survival | None:
    """Kaplan-Meier of (months, event): median and rates at 1 and 2 years with 95 % intervals, and the curve.

    A median or bound that the curve does not reach, and a rate beyond the longest follow-up, is None.

    Examples
    --------
    >>> found = survival([(2.0, True), (4.0, True), (6.0, True), (8.0, False)])
    >>> found.median_months, found.events
    (4.0, 3)
    """
    if not times:
        return None
    from lifelines import KaplanMeierFitter
    from lifelines.utils import median_survival_times

    months, events = [t for t, _ in times], [seen for _, seen in times]
    fitted = KaplanMeierFitter(alpha=1 - LEVEL).fit(months, events)
    bounds = median_survival_times(fitted.confidence_interval_).iloc[0].tolist()
    interval = fitted.confidence_interval_
    rates: dict[str, Rate | None] = {}
    for year in YEARS:
        at = MONTHS_PER_YEAR * year
        if max(months) < at:
            rates[f"{year}_year"] = None
            continue
        row = interval[interval.index <= at].iloc[-1].tolist()
        rates[f"{year}_year"] = Rate(
            pct=100.0 * float(fitted.predict(at)),
            interval_pct=(100.0 * float(row[0]), 100.0 * float(row[1]), LEVEL),
        )
    curve = fitted.survival_function_.iloc[:, 0]
    return Survival(
        patients=len(times),
        events=sum(events),
        median_months=float(fitted.median_survival_time_),
        median_interval_months=(float(bounds[0]), float(bounds[1]), LEVEL),
        rates=rates,
        curve=SurvivalCurve(
            months=tuple(float(t) for t in curve.index),
            pct=tuple(100.0 * float(s) for s in curve),
            censored_months=tuple(sorted(t for t, seen in times if not seen)),
        ),
    )


def outcomes_of(
    records: Sequence[CaseRecord], outcomes: Sequence[Outcome], cut: Cut | None = None
) -> OutcomesRecord:
    """The content of outcomes.json.

    Parameters
    ----------
    records : sequence of CaseRecord
        Of `run_cohort`.
    outcomes : sequence of Outcome
        Of patients of the cohort.
    cut : Cut, optional
        Where they are divided; by default D90 at the prescription.

    Raises
    ------
    UsageError
        If a patient is none of the cohort, stands twice in it, or no case has the metric of the cut.
    """
    cut = cut or Cut()
    metrics: dict[str, dict[str, Metric]] = {}
    for record in records:
        patient = record.patient_id or ""
        if not record.done or not patient:
            continue
        if patient in metrics and any(patient == each.patient_id for each in outcomes):
            raise UsageError(
                f"patient '{patient}' has two cases in the cohort: keep the one that the outcome is of"
            )
        metrics[patient] = record.metrics
    listed = {record.patient_id or "" for record in records}
    unknown = [each.patient_id for each in outcomes if each.patient_id not in listed]
    if unknown:
        more = f" and {len(unknown) - 3} more" if len(unknown) > 3 else ""
        raise UsageError(
            f"outcomes of patients that are not in the cohort: {', '.join(unknown[:3])}{more}: correct patient_id"
        )
    if metrics and not any(cut.metric in values for values in metrics.values()):
        raise UsageError(f"no case has the metric '{cut.metric}' of --cut: take a column of cohort.csv")
    groups: dict[str, list[Outcome]] = {"below": [], "at or above": []}
    for each in outcomes:
        values = metrics.get(each.patient_id, {})
        value, limit = (
            values.get(cut.metric),
            cut.value if cut.value is not None else values.get("prescription_gy"),
        )
        if value is not None and limit is not None:
            groups["at or above" if value >= limit else "below"].append(each)
    return OutcomesRecord(
        patients=len(outcomes),
        without_outcome=tuple(sorted(set(metrics) - {each.patient_id for each in outcomes})),
        all=_group(outcomes),
        cut=CutRecord(metric=cut.metric, value=cut.value if cut.value is not None else "prescription"),
        groups={name: _group(members) for name, members in groups.items()},
        logrank_p={key: _logrank(groups["below"], groups["at or above"], key) for key in ("pfs", "os")},
    )


def _group(members: Sequence[Outcome]) -> GroupOutcomes:
    counts = {name: sum(each.response == name for each in members) for name in RESPONSES}
    return GroupOutcomes(
        patients=len(members),
        response=response_rates(counts),
        pfs=survival([each.pfs for each in members if each.pfs is not None]),
        os=survival([each.os for each in members if each.os is not None]),
    )


def _logrank(one: Sequence[Outcome], other: Sequence[Outcome], key: str) -> float | None:
    """p of the log-rank test between two groups; None where one of them is empty or nothing was seen."""
    first = [getattr(each, key) for each in one if getattr(each, key) is not None]
    second = [getattr(each, key) for each in other if getattr(each, key) is not None]
    if not first or not second or not any(seen for _, seen in (*first, *second)):
        return None
    from lifelines.statistics import logrank_test

    found = logrank_test(
        [t for t, _ in first], [t for t, _ in second], [e for _, e in first], [e for _, e in second]
    )
    return float(found.p_value)
