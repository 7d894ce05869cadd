"""verification.json, version 1, as records: all that `brachy verify` finds out about an implant (docs/verify.md).

Positions are in the frame of the CT after the implant (LPS, mm), doses in Gy to complete decay. Indices of seeds count
from 0. A number that is not known is None.
"""

import json
from pathlib import Path
from typing import Literal, NamedTuple

from pydantic import Field, ValidationError

from brachy.errors import BrachyError
from brachy.messages import first_problem
from brachy.patient.check_report import CheckReport
from brachy.patient.evaluation_record import GoalResult, RuleResult, all_met
from brachy.patient.plan import PlanInput
from brachy.patient.records import FileRecord, Number, Record, SparseRecord, Vector

FORMAT = "brachy-verification"
VERSION = 1

Numbers = tuple[Number, Number, Number]


class ImplantCase(Record):
    """Identity of the CT after the implant."""

    patient_id: str = ""
    study_uid: str = ""
    frame_of_reference_uid: str = ""
    ct_series_uid: str = ""
    structure_set_uid: str = ""
    ct_date: str = Field("", description="ISO date of the CT")
    inputs: tuple[PlanInput, ...] = ()


class SeedPlace(Record):
    """Where a seed lies relative to targets and organs."""

    target: str = Field("", description="the nearest target")
    outside_mm: Number = Field(None, description="distance outside it; 0 inside")
    beyond_margin: bool = False
    organs: dict[str, str] = Field(
        default_factory=dict, alias="in", description="vessel, lung or the like that holds it, and its role"
    )
    beyond_patient: bool = False


class SeedRow(Record):
    """A seed as found or given, and the planned seed it is matched to."""

    position_mm: Vector
    axis: Vector | None = Field(None, description="unit vector")
    confidence: Number = None
    mass: Number = Field(None, description="metal relative to one seed, from the finder")
    position_sd_mm: Numbers = (None, None, None)
    planned: str | None = Field(None, description="name of the planned seed, such as C4.2")
    shift_mm: Number = Field(None, description="distance from the planned place")
    shift_along_mm: Number = Field(None, description="along the planned axis, positive toward the tip")
    shift_across_mm: Number = None
    angle_deg: Number = Field(None, description="between planned and found axis")
    shift_vector_mm: Vector | None = None
    place: SeedPlace = SeedPlace()


class AgreementRow(Record):
    """Another registration beside the one that was taken."""

    method: str
    residual_mm: Number = None
    apart_mm: Number = Field(
        None, description="largest distance at a planned seed from the chosen one; None where it was refused"
    )
    note: str = Field("", description="how good it is, or why it was refused")


class RegistrationRow(Record):
    """How the plan lies on the CT after the implant."""

    method: str
    residual_mm: Number = Field(None, description="None where nothing was fitted")
    error_mm: Number = Field(None, description="expected at the worst planned seed (RMS)")
    transform: tuple[tuple[float, float, float, float], ...] = Field(
        description="4 x 4, plan to post-implant frame, mm"
    )
    note: str = ""
    uses_seeds: bool = Field(False, description="the seeds themselves were brought onto the plan")
    agreement: tuple[AgreementRow, ...] = ()


class ShiftStatistics(SparseRecord):
    """Shifts of some matched seeds; what cannot be computed is left out of the file."""

    seeds: int = 0
    mean_mm: Number = None
    sd_mm: Number = Field(None, description="n - 1; None for a single seed")
    max_mm: Number = None
    along_mean_mm: Number = None
    along_sd_mm: Number = None
    along_max_mm: Number = None
    across_mean_mm: Number = None
    across_sd_mm: Number = None
    across_max_mm: Number = None
    angle_mean_deg: Number = None
    angle_max_deg: Number = None
    systematic_mm: Vector | None = Field(None, description="mean vector")
    random_mm: Number = Field(None, description="root mean square of the vectors without their mean")


class _NeedleName(SparseRecord):
    needle: str
    planned: int = Field(description="seeds planned in it")


class NeedleShifts(ShiftStatistics, _NeedleName):
    """Shifts of the matched seeds of one needle."""


class ShiftReport(Record):
    """Shifts of all seeds and of each needle, and what became of the seeds that match none.

    `lost` and `migrated` count what is certain: of m missing and e extra seeds, min(m, e) may be the same seeds farther
    away than the gate (migrated); the rest of the missing ones are lost.
    """

    planned: int
    found: int
    matched: int
    missing: int
    extra: int
    lost: int
    migrated: int
    common_shift_mm: Vector = Field(description="shift of the whole implant, taken away before the matching")
    all: ShiftStatistics
    needles: tuple[NeedleShifts, ...] = ()


class ImplantSource(Record):
    """Seeds of one kind, with strength at implantation."""

    model: str
    seeds: int
    air_kerma_strength_U: float
    half_life_days: float


class ImplantTarget(Record):
    """A target and its prescription."""

    roi: str
    prescription_gy: float
    volume_cc: Number = None


class Interval(NamedTuple):
    """A central interval and its level, 0.95 for 95 %; a list of three numbers in the file."""

    low: float
    high: float
    level: float


class ImplantGoal(GoalResult):
    """A goal and what came of it in the implant as it is."""

    interval: Interval | None = Field(None, description="of the value, where one was computed")

    @property
    def near(self) -> bool:
        """Whether the limit lies within the interval of the value, or else within its uncertainty."""
        if self.interval is None:
            return super().near
        return self.met is not None and self.interval.low <= self.limit <= self.interval.high


class Compared(Record):
    """A metric as planned and as implanted."""

    planned: Number = None
    actual: Number = None
    difference: Number = None


class ImplantEvaluation(Record):
    """Metrics of each structure beside those of the plan."""

    formalism: str = "1D"
    structures: dict[str, dict[str, Compared]] = Field(default_factory=dict)
    uncertainty: dict[str, dict[str, Number]] = Field(default_factory=dict)
    other_formalism: dict[str, dict[str, Number]] = Field(default_factory=dict)


class IntervalErrors(Record):
    """What the intervals are made of."""

    sd: dict[str, dict[str, dict[str, Number]]] = Field(
        default_factory=dict, description="SD that each error makes alone: {ROI: {metric: {error: SD}}}"
    )
    samples: int
    level: float
    seed: int
    strength_pct: float
    contour_sd_mm: float
    registration_sd_mm: Number
    sources: dict[str, str] = Field(description="where the figure of each error is from")


class ColdSpot(Record):
    """A connected part of a target below its prescription."""

    volume_cc: float
    centre_mm: Vector
    sector: str = Field(description="the sector that holds most of it")
    min_gy: float
    min_at_mm: Vector
    extent_mm: Vector


class ColdSpots(Record):
    """All of a target that is below its prescription; `spots` are the largest parts."""

    volume_cc: float
    count: int
    spots: tuple[ColdSpot, ...] = ()


class FurtherSeed(Record):
    """The place where one more seed helps most."""

    position_mm: Vector
    sector: str
    strength_U: float
    lifted_cc: float = Field(description="cold volume that it lifts to the prescription")
    V100_pct: tuple[Number, Number] = Field(description="before and after")
    D90_gy: tuple[Number, Number] = Field(description="before and after")


class SectorRow(Record):
    """Dose of one sector of a target."""

    sector: str
    volume_cc: float
    D90_gy: Number = None
    V100_pct: Number = None
    min_gy: Number = None


class DoubtRow(Record):
    """An object that a person should look at."""

    position_mm: Vector
    reason: str
    seed: int | None = Field(None, description="index of the seed; None where it was taken for no seed")


class PostImplantRecord(FileRecord):
    """Content of verification.json."""

    format: Literal["brachy-verification"] = "brachy-verification"
    version: Literal[1] = 1
    software: str = ""
    plan: str | None = Field(None, description="checksum of our plan, SOP instance UID of a vendor's")
    case: ImplantCase = ImplantCase()
    seeds: tuple[SeedRow, ...] = ()
    missing: tuple[str, ...] = Field((), description="planned seeds without a found one")
    extra: tuple[int, ...] = Field((), description="found seeds without a planned one")
    registration: RegistrationRow | None = None
    shifts: ShiftReport | None = None
    sources: tuple[ImplantSource, ...] = ()
    targets: tuple[ImplantTarget, ...] = ()
    evaluation: ImplantEvaluation = ImplantEvaluation()
    goals: tuple[ImplantGoal, ...] = ()
    withheld: dict[str, str] = Field(
        default_factory=dict, description="structures without goal verdict and interval, and why"
    )
    intervals: dict[str, dict[str, Interval]] = Field(default_factory=dict)
    uncertainty: IntervalErrors | None = None
    cold_spots: dict[str, ColdSpots] = Field(default_factory=dict)
    further_seed: dict[str, FurtherSeed | None] = Field(default_factory=dict)
    sectors: dict[str, tuple[SectorRow, ...]] = Field(default_factory=dict)
    outside: tuple[int, ...] = Field((), description="seeds farther than margin_mm outside every target")
    rules: tuple[RuleResult, ...] = Field((), description="places of the seeds: kept, broken or not checked")
    in_organs: dict[str, tuple[int, ...]] = Field(
        default_factory=dict, description="seeds in each vessel ..."
    )
    margin_mm: float = 0.0
    doubts: tuple[DoubtRow, ...] = ()
    warnings: tuple[str, ...] = ()
    assumed: tuple[str, ...] = ()
    limits: tuple[str, ...] = ()
    check: CheckReport = CheckReport()

    @property
    def goals_met(self) -> bool | None:
        """Whether every required goal is met; None where none is missed and some have no verdict."""
        return all_met([goal.met for goal in self.goals if goal.required])

    @staticmethod
    def load(path: str | Path) -> "PostImplantRecord":
        """Read a verification.json.

        Raises
        ------
        BrachyError
            If it cannot be read or is no verification.json of version 1.

        Examples
        --------
        >>> PostImplantRecord.load("no-such-file.json")
        Traceback (most recent call last):
            ...
        brachy.errors.BrachyError: cannot read no-such-file.json: give a verification.json of `brachy verify`
        """
        file = Path(path)
        try:
            content = json.loads(file.read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError):
            raise BrachyError(
                f"cannot read {file.name}: give a verification.json of `brachy verify`"
            ) from None
        if not isinstance(content, dict) or content.get("format") != FORMAT:
            raise BrachyError(f"{file.name} is no verification.json: its 'format' is not '{FORMAT}'")
        try:
            return PostImplantRecord.model_validate(content)
        except ValidationError as error:
            raise BrachyError(f"{file.name}: {first_problem(error)}") from None
