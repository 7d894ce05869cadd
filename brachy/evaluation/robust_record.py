"""robust.json, version 1, as records: a plan in scenarios of deviating needles, seeds, strengths (docs/robust.md)."""

from typing import Literal

from pydantic import Field

from brachy.evaluation.scenarios import Uncertainties
from brachy.patient.records import FileRecord, Number, Record


class MetricSpread(Record):
    """A metric as planned, and its distribution over the scenarios; None where a scenario has no value."""

    nominal: Number = None
    mean: Number = None
    sd: Number = None
    p2_5: Number = Field(None, description="2.5 percentile")
    p50: Number = None
    p97_5: Number = None


class Band(Record):
    """Dose-volume curve as planned, and percentiles of the dose at each volume over the scenarios."""

    volume_pct: tuple[float, ...]
    nominal_gy: tuple[float, ...]
    p2_5_gy: tuple[float, ...]
    p50_gy: tuple[float, ...]
    p97_5_gy: tuple[float, ...]


class GoalProbability(Record):
    """A goal of the plan, and the part of the scenarios that meet it."""

    roi: str
    metric: str
    op: str
    limit: float
    required: bool
    probability: float | None = Field(description="None where the goal is not checked")


class NeedleInfluence(Record):
    """A needle, and the SD of D90 (Gy) when it alone deviates."""

    hole: str
    influence: float


class RobustRecord(FileRecord):
    """Content of robust.json."""

    format: Literal["brachy-robust"] = "brachy-robust"
    version: Literal[1] = 1
    plan: str | None = Field(None, description="checksum of the plan")
    samples: int
    seed: int
    formalism: str
    uncertainties: Uncertainties
    nominal: dict[str, dict[str, Number]] = Field(description="metrics as planned, by structure")
    intervals: dict[str, dict[str, MetricSpread]]
    bands: dict[str, Band]
    goals: tuple[GoalProbability, ...] = ()
    needles: tuple[NeedleInfluence, ...] = Field((), description="the largest influence first")
