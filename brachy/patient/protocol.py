"""Planning protocols (plans/*.toml): every field with its unit, range, default and meaning.

The source of each number is in the file's `[citations]` table under the dotted name of the field, and is copied into
plan.json with the protocol.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import (
    BaseModel,
    Field,
    SerializerFunctionWrapHandler,
    ValidationError,
    model_serializer,
    model_validator,
)

from brachy import resources
from brachy.dosimetry.metrics import parse_metric
from brachy.errors import UsageError
from brachy.messages import first_problem
from brachy.patient.protocol_access import Access, NotNegative, Positive, Table
from brachy.patient.protocol_needles import (
    Count,
    DirectionChoice,
    NeedleChoice,
    TemplateChoice,
    check_range,
)
from brachy.patient.roles import OBSTACLES, ROLES

Percent = Annotated[float, Field(ge=0, le=100, allow_inf_nan=False)]


class Prescription(Table):
    """Prescription to the planned target volume."""

    dose_gy: Positive = Field(description="Gy to complete decay")
    allowed_gy: tuple[Positive, Positive] = Field(description="Gy; a prescription outside is refused")

    @model_validator(mode="after")
    def _inside(self) -> "Prescription":
        low, high = self.allowed_gy
        if not low <= self.dose_gy <= high:
            raise ValueError(
                f"dose_gy {self.dose_gy:g} is outside allowed_gy {low:g}-{high:g} Gy: choose one within"
            )
        return self


class SourceChoice(Table):
    """Seed model, strength and dose formalism."""

    model: str = Field(description="name of a shipped source model, or a .toml file")
    activity_mCi: Positive = Field(description="apparent activity of one seed at `strength_on`, mCi")
    activities_mCi: tuple[Positive, ...] = Field(
        (), max_length=8, description="mCi; several in stock, each needle of one; empty: `activity_mCi` alone"
    )
    allowed_mCi: tuple[Positive, Positive] = Field(description="mCi; an activity outside is refused")
    stated_as: str = Field(
        "", max_length=200, description="how the activity was stated, if not as apparent mCi"
    )
    accept_unverified: bool = Field(False, description="use a model whose tables were seen in one place only")
    half_life_days: Positive | None = Field(None, description="d; overrides the imported plan and the source")
    formalism: Literal["1D", "2D"] = Field("1D", description="TG-43U1 point (1D) or line source (2D)")

    @property
    def stock_mCi(self) -> tuple[float, ...]:
        """Activities that a needle may be loaded with; the first is the usual one."""
        return self.activities_mCi or (self.activity_mCi,)

    @model_validator(mode="after")
    def _inside(self) -> "SourceChoice":
        low, high = self.allowed_mCi
        for name, given in (("activity_mCi", (self.activity_mCi,)), ("activities_mCi", self.activities_mCi)):
            for activity in given:
                if not low <= activity <= high:
                    raise ValueError(
                        f"{name} {activity:g} is outside allowed_mCi {low:g}-{high:g} mCi: choose one within"
                    )
        if len(set(self.activities_mCi)) < len(self.activities_mCi):
            raise ValueError("activities_mCi names one activity twice: give each once")
        return self


class TargetChoice(Table):
    """Margin from the contoured target to the planned target."""

    margin_mm: NotNegative = Field(0.0, le=30, description="3D expansion, mm")
    clip_to: tuple[str, ...] = Field((), description="ROIs, besides the external, that clip the expansion")


class SeedChoice(Table):
    """Positions of seeds along a needle, spacing, supply and number."""

    step_mm: Positive = Field(5.0, ge=0.5, description="distance of neighbouring candidates on a needle, mm")
    distal_margin_mm: NotNegative = Field(
        5.0, description="most distal seed centre before the axis leaves the target for the last time, mm"
    )
    skin_margin_mm: NotNegative = Field(10.0, description="seed centre to skin in 3D, more than this, mm")
    min_spacing_mm: Positive = Field(5.0, description="between two seed centres, mm")
    supply: Literal["loose", "strand", "cartridge"] = Field(
        "loose",
        description="loose seeds and spacers, strands of one pitch without gaps, or single seeds from a cartridge",
    )
    smallest_spacer_mm: NotNegative = Field(
        0.5, description="smallest spacer between the ends of two loose seeds, mm"
    )
    strand_pitch_mm: Positive = Field(10.0, description="from seed centre to seed centre in a strand, mm")
    count: Count | tuple[Count, Count] | None = Field(
        None, description="seeds in stock: exactly so many, or least and most; none: as many as pay"
    )

    @model_validator(mode="after")
    def _possible(self) -> "SeedChoice":
        check_range("seed count", self.count)
        if self.supply == "strand":
            steps = self.strand_pitch_mm / self.step_mm
            if self.strand_pitch_mm < self.min_spacing_mm:
                raise ValueError("strand_pitch_mm is below min_spacing_mm: no strand keeps the spacing")
            if abs(steps - round(steps)) > 1e-6:
                raise ValueError(
                    f"strand_pitch_mm {self.strand_pitch_mm:g} is no multiple of step_mm {self.step_mm:g}: choose one"
                )
        return self

    def spacing_in_needle_mm(self, capsule_length_mm: float) -> float:
        """Least distance in mm of two seed centres in one needle; between loose seeds lies a spacer."""
        spacer = self.smallest_spacer_mm if self.supply == "loose" else 0.0
        return max(self.min_spacing_mm, capsule_length_mm + spacer)


class ObstacleChoice(Table):
    """Structures that block needles, and the clearance from them (docs/howto/obstacles.md)."""

    roles: tuple[str, ...] = Field(
        OBSTACLES,
        description="roles that stop a needle even where they hold the target; without a structure: not checked",
    )
    free: tuple[str, ...] = Field((), max_length=500, description="ROIs that stop no needle")
    clearance_mm: NotNegative = Field(2.0, description="needle surface to the structure's contour, mm")

    @model_serializer(mode="wrap")
    def _brief(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Omit an empty `free`, so that a plan.json of version 1 is written again as it was."""
        data: dict[str, Any] = handler(self)
        if not data.get("free"):
            data.pop("free", None)
        return data

    @model_validator(mode="after")
    def _known(self) -> "ObstacleChoice":
        unknown = [
            role for role in self.roles if role not in ROLES or role in ("target", "external", "ignore")
        ]
        if unknown:
            raise ValueError(
                f"roles names '{unknown[0]}', which is no role of an obstacle: see docs/howto/obstacles.md"
            )
        return self


class BoneFromHU(Table):
    """Bone taken from the CT if no ROI has the role."""

    threshold_hu: float = Field(200.0, ge=50, le=2000, description="HU")
    smallest_cc: NotNegative = Field(2.0, description="components below are left out, cc")


class SkinFromHU(Table):
    """External taken from the CT if no ROI has the role."""

    threshold_hu: float = Field(-300.0, ge=-900, le=0, description="HU between air and tissue")


class Goal(Table):
    """One dosimetric goal."""

    roi: str = Field(description="an ROI's name, or a role: 'target' means every target")
    metric: str = Field(description="D90_gy, V100_pct, D2cc_gy ... ; 'Rx' as limit means the prescription")
    op: Literal[">=", "<="]
    limit: float | Literal["Rx"]
    required: bool = Field(True, description="False: aimed at and reported, not demanded by --strict")
    weight: NotNegative | None = Field(
        None, description="weight of a term of its own in the objective; none: judged, not optimised for"
    )
    priority: int = Field(
        1, ge=1, le=9, description="1 first; the weight of each later one counts a tenth of the one before"
    )

    @model_validator(mode="after")
    def _known(self) -> "Goal":
        try:
            found = parse_metric(self.metric)
        except UsageError as error:
            raise ValueError(str(error)) from None
        if found.unit == "pct" and self.limit != "Rx" and not 0 <= self.limit <= 100:
            raise ValueError(f"{self.metric} {self.op} {self.limit:g} %: a share lies between 0 and 100 %")
        if self.weight is not None and found.kind in ("CI", "EI", "HI", "BED", "min", "volume"):
            raise ValueError(
                f"{self.metric} cannot be optimised for: give a weight to D, V, mean or max alone"
            )
        return self

    @property
    def shown(self) -> str:
        """The limit as text."""
        return self.limit if self.limit == "Rx" else f"{self.limit:g}"

    @property
    def title(self) -> str:
        """The goal as text, such as 'target D90_gy >= Rx'."""
        return f"{self.roi} {self.metric} {self.op} {self.shown}"

    def gy(self, prescription_gy: float) -> float:
        """The limit in Gy of a metric in Gy; "Rx" is replaced by the prescription."""
        return prescription_gy if self.limit == "Rx" else float(self.limit)


class Objective(Table):
    """Weights of the terms of the objective; all dimensionless (engineering choice unless cited)."""

    LATER: ClassVar = ("tilt",)

    underdose: NotNegative = Field(400.0, description="mean target shortfall below the prescription, per Rx")
    over_150: NotNegative = Field(4.0, description="mean target excess above 150 %")
    over_200: NotNegative = Field(5.0, description="mean target excess above 200 %")
    spill: NotNegative = Field(50.0, description="mean excess above the prescription in the shell outside")
    organ: NotNegative = Field(
        10.0, description="mean organ excess above `organ_fraction` of the prescription"
    )
    organ_fraction: NotNegative = Field(0.5, description="fraction of the prescription")
    needle: NotNegative = Field(0.14, description="cost of one needle")
    seed: NotNegative = Field(0.03, description="cost of one seed")
    lateral: NotNegative = Field(
        5.0,
        description="cost of an edge point (1 mm apart) beyond the lateral margin that a clear hole could serve",
    )
    out_of_reach: NotNegative = Field(
        0.025, description="cost of an edge point that no clear hole can serve; tells directions apart"
    )
    tilt: NotNegative = Field(
        0.005,
        description="cost of a degree of the template's tilt: axial needles win where they are as good",
    )


class Search(Table):
    """Effort of the search, counted in moves and not in time so that a plan is the same on any machine (engineering
    choice)."""

    LATER: ClassVar = ("axes", "rounds")

    starts: int = Field(4, ge=1, le=256, description="independent starts, spread over the best layouts")
    moves: int = Field(
        120_000, ge=0, le=100_000_000, description="annealing moves a start, for 400 candidates"
    )
    fine_moves: int = Field(
        80_000,
        ge=0,
        le=100_000_000,
        description="annealing moves on the fine samples, each of the best starts",
    )
    scan_moves: int = Field(20_000, ge=0, le=100_000_000, description="annealing moves to score a direction")
    directions: int = Field(5, ge=1, le=36, description="best directions tried at more offsets of the holes")
    layouts: int = Field(2, ge=1, le=36, description="best layouts (direction and offset) optimised fully")
    axes: int = Field(6, ge=1, le=36, description="axes of a guide for needles at angles that are tried")
    rounds: int = Field(4, ge=1, le=36, description="how often lines at angles are offered anew")
    hot: Positive = Field(0.06, le=1, description="first temperature, in units of the objective")
    cold: Positive = Field(3e-3, le=1, description="last temperature, in units of the objective")
    fine_hot: Positive = Field(0.02, le=1, description="first temperature on the fine samples")


class Replan(Table):
    """Preferences when a plan is changed in the operating room (engineering choice)."""

    reserve_pct: float = Field(
        3.0,
        ge=0,
        le=20,
        description="so much more V100 is aimed for while all needles are to come, %, less as they come",
    )
    change_needle: NotNegative = Field(0.1, description="cost of a needle that the old plan does not have")
    change_seed: NotNegative = Field(0.02, description="cost of a seed where the old plan has none")
    blocked_radius_mm: NotNegative = Field(
        0.0, le=50, description="holes this near to a blocked one are out too; 0: that hole alone"
    )
    step_mm: Positive = Field(
        2.5,
        ge=0.5,
        description="distance of neighbouring candidates on a needle, mm; strands keep that of the plan",
    )
    moves: int = Field(12_000, ge=0, le=10_000_000, description="annealing moves, for 400 candidates")


class Protocol(Table):
    """A planning protocol."""

    name: str
    title: str = ""
    site: str = Field("", description="the disease and organ")
    prescription: Prescription
    source: SourceChoice
    target: TargetChoice = TargetChoice()
    template: TemplateChoice = TemplateChoice()
    needle: NeedleChoice = NeedleChoice()
    seeds: SeedChoice = SeedChoice()
    obstacles: ObstacleChoice = ObstacleChoice()
    direction: DirectionChoice = DirectionChoice()
    access: Access = Access()
    bone: BoneFromHU = BoneFromHU()
    skin: SkinFromHU = SkinFromHU()
    roles: dict[str, str] = Field(default_factory=dict, description="ROI name to role")
    goals: tuple[Goal, ...] = ()
    objective: Objective = Objective()
    search: Search = Search()
    replan: Replan = Replan()
    citations: dict[str, str] = Field(default_factory=dict, description="dotted field name to its source")

    def fields(self) -> list[tuple[str, str, str, str]]:
        """Name, value, meaning with unit, and source of every field; the goals are last.

        Examples
        --------
        >>> load_protocol("liver-metastasis").fields()[0][:3]
        ('prescription.dose_gy', '120.0', 'Gy to complete decay')
        """
        found = []
        for name in type(self).model_fields:
            table = getattr(self, name)
            if not isinstance(table, BaseModel):
                continue
            for inner, field in type(table).model_fields.items():
                key = f"{name}.{inner}"
                cited = self.citations.get(key) or self.citations.get(name) or "engineering choice (default)"
                found.append((key, str(getattr(table, inner)), field.description or "", cited))
        for goal in self.goals:
            text = f"{goal.roi} {goal.metric} {goal.op} {goal.limit}"
            found.append(
                ("goals", text, "required" if goal.required else "aim", self.citations.get("goals", ""))
            )
        return found

    @model_serializer(mode="wrap")
    def _as_read(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Omit `access` where it was not given, so that a plan.json without it is written again as it was."""
        data: dict[str, Any] = handler(self)
        if "access" not in self.model_fields_set:
            data.pop("access", None)
        return data

    @model_validator(mode="after")
    def _goals_agree(self) -> "Protocol":
        problem = contradiction(self.goals, self.prescription.dose_gy)
        if problem:
            raise ValueError(problem)
        return self

    @model_validator(mode="after")
    def _cited_fields_exist(self) -> "Protocol":
        for key in self.citations:
            here: Any = self
            for part in key.split("."):
                if not isinstance(here, BaseModel) or part not in type(here).model_fields:
                    raise ValueError(f"citations names '{key}', which is no field of a protocol")
                here = getattr(here, part)
        return self


def contradiction(goals: Sequence[Goal], prescription_gy: float) -> str:
    """Message about two goals that no plan can meet together, "" if there are none.

    Each goal on D, V, min or max is a bound on the cumulative DVH: at least or at most so many per cent at that dose.
    The curve never rises, so a lower bound at one dose is a lower bound at every smaller dose.

    Examples
    --------
    >>> both = Goal(roi="t", metric="D90", op=">=", limit=150), Goal(roi="t", metric="V100", op="<=", limit=80)
    >>> contradiction(both, 120.0)
    "goals 't D90 >= 150' and 't V100 <= 80' contradict each other: change one"
    """
    bounds = [(goal, bound) for goal in goals if (bound := _bound(goal, prescription_gy)) is not None]
    for one, (dose, share) in bounds:
        for other, (dose_2, share_2) in bounds:
            if one.roi != other.roi or one.op != ">=" or other.op != "<=":
                continue
            if (dose_2 < dose and share_2 <= share and share > 0) or (dose_2 <= dose and share_2 < share):
                return f"goals '{one.title}' and '{other.title}' contradict each other: change one"
    return ""


def _bound(goal: Goal, prescription_gy: float) -> tuple[float, float] | None:
    """Point of the DVH (dose in Gy, per cent of the volume) that a goal bounds; None for other goals."""
    metric = parse_metric(goal.metric)
    if metric.kind == "D":
        return goal.gy(prescription_gy), metric.value
    if metric.kind in ("min", "max"):
        return goal.gy(prescription_gy), 100.0 if metric.kind == "min" else 0.0
    if metric.kind in ("V", "VGy") and metric.unit == "pct" and goal.limit != "Rx":
        dose = metric.value if metric.kind == "VGy" else metric.value * prescription_gy / 100.0
        return dose, float(goal.limit)
    return None


def load_protocol(name: str | Path) -> Protocol:
    """Load a shipped protocol by name, or a protocol file.

    Raises
    ------
    UsageError
        If there is no such protocol, or the file is not valid; the message names the field and the rule.

    Examples
    --------
    >>> load_protocol("liver-metastasis").prescription.dose_gy
    120.0
    """
    path = resources.find("plans", str(name))
    what = f"protocol {path.name}"
    data = resources.toml_of(resources.read_bounded(path, what), what)
    data.setdefault("access", {})  # a plan made now has all of its fields
    for table, kind in (
        ("template", TemplateChoice),
        ("direction", DirectionChoice),
        ("objective", Objective),
        ("search", Search),
    ):
        for later in kind.LATER:
            if isinstance(given := data.setdefault(table, {}), dict):
                given.setdefault(later, kind.model_fields[later].default)
    try:
        return Protocol.model_validate(data)
    except ValidationError as error:
        raise UsageError(f"protocol {path.name}: {first_problem(error)}") from None


def change(protocol: Protocol, **tables: dict[str, Any]) -> Protocol:  # fields of several types
    """Return a copy with some fields of some tables changed; the whole protocol is checked again.

    Raises
    ------
    UsageError
        If a value is not valid; the message names the field.

    Examples
    --------
    >>> liver = load_protocol("liver-metastasis")
    >>> change(liver, prescription={"dose_gy": 145.0}).prescription.dose_gy
    145.0
    """
    data = protocol.model_dump()
    for table, fields in tables.items():
        data[table] = {**data.get(table, {}), **fields}
    try:
        return Protocol.model_validate(data)
    except ValidationError as error:
        raise UsageError(f"under protocol '{protocol.name}', {first_problem(error)}") from None
