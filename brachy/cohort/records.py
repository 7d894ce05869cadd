"""Records of a cohort: one case, as done/KEY.json keeps it, and outcomes.json (docs/cohort.md)."""

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from brachy.patient.records import FileRecord, Number, Record, SparseRecord, finite_or_none

Metric = Annotated[bool | int | float | None, BeforeValidator(finite_or_none)]
"""A number or a yes/no of one case, None where it has none."""

Bounds = tuple[Number, Number, float]
"""Low and high end of an interval, None where it is not reached, and its level."""


class CaseRecord(SparseRecord, FileRecord):
    """What came of one row of the list. A case that failed has a `reason` and no metrics."""

    row: int = Field(description="number of the row, from 1")
    case: str
    options: dict[str, str] = Field(default_factory=dict)
    software: str = ""
    status: Literal["done", "failed"]
    reason: str = Field("", description="one line, where it failed")
    patient_id: str | None = None
    target: str | None = Field(None, description="the first target, of which the metrics are")
    structures: dict[str, dict[str, Number]] = Field(default_factory=dict)
    metrics: dict[str, Metric] = Field(default_factory=dict, description="columns of cohort.csv")
    seconds: float = 0.0

    @property
    def done(self) -> bool:
        """Whether the case is finished."""
        return self.status == "done"


class Rate(Record):
    """A share of patients, percent, and its interval."""

    pct: float
    interval_pct: Bounds


class ResponseRates(Record):
    """Best responses, with objective response rate (CR + PR) and disease control rate (CR + PR + SD)."""

    counts: dict[str, int]
    patients: int
    ORR: Rate | None = None
    DCR: Rate | None = None


class SurvivalCurve(Record):
    """Kaplan-Meier curve, and when patients without an event were last seen."""

    months: tuple[float, ...]
    pct: tuple[float, ...]
    censored_months: tuple[float, ...]


class Survival(Record):
    """Kaplan-Meier estimate; a median, bound or rate that is not reached or beyond the follow-up is None."""

    patients: int
    events: int
    median_months: Number
    median_interval_months: Bounds
    rates: dict[str, Rate | None] = Field(description="1_year, 2_year")
    curve: SurvivalCurve


class GroupOutcomes(Record):
    """Outcomes of a group of patients."""

    patients: int
    response: ResponseRates
    pfs: Survival | None = Field(None, description="progression-free survival")
    os: Survival | None = Field(None, description="overall survival")


class CutRecord(Record):
    """Metric that divides the patients, and where: a value, or "prescription" for each patient's own."""

    metric: str
    value: float | Literal["prescription"]


class OutcomesRecord(FileRecord):
    """Content of outcomes.json."""

    format: Literal["brachy-outcomes"] = "brachy-outcomes"
    version: Literal[1] = 1
    patients: int
    without_outcome: tuple[str, ...] = Field((), description="patients of the cohort without an outcome")
    all: GroupOutcomes
    cut: CutRecord
    groups: dict[str, GroupOutcomes]
    logrank_p: dict[str, Number] = Field(description="p of the log-rank test between the groups")
