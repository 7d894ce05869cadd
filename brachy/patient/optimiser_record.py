"""What the search, an edit or a replanning leaves in plan.json under `optimiser`, as records.

Only what was reported is written. The keys stand in the order in which planning, editing or replanning reports them.
"""

from typing import Literal

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer

from brachy.patient.records import Number, Record, SparseRecord, Vector


class UnreachedPart(Record):
    """A part of a target that stays below its prescription whatever the loading."""

    roi: str
    volume_cc: float
    centre_mm: Vector


class DirectionRow(SparseRecord):
    """A direction of the needles that was tried, at its best offset, and why it was not chosen."""

    azimuth_deg: float
    tilt_deg: float
    offset_mm: tuple[float, float] = Field(description="of the lattice: within the layers, across them")
    needles_offered: int | None = None
    blocked: dict[str, int] = Field(default_factory=dict, description="holes blocked, by the structure")
    edge_points_out_of_reach: int | None = None
    score: Number = Field(None, description="objective of the quick search")
    optimised: Number = Field(
        None, description="objective of the full search, of the directions that got one"
    )
    outcome: str = ""


class TriedDirections(Record):
    """Directions tried for one target."""

    target: str
    tried: tuple[DirectionRow, ...]


class ArrangementFigures(Record):
    """What the search reached with one arrangement of the needles, on its own samples."""

    objective: float = Field(description="without the term of the lateral margin, whose points differ")
    V100_pct: float = Field(description="of the worst covered target")
    seeds: int
    needles: int


class ArrangementChoice(Record):
    """Needles that are parallel, or each at an angle of its own: which was chosen, and why."""

    chosen: Literal["parallel", "individual"]
    why: str
    parallel: ArrangementFigures
    individual: ArrangementFigures
    lines_offered: int = Field(description="lines of individual needles that were tried, clear or not")


class RobustMeasure(Record):
    """A loading in the scenarios of robust planning."""

    measure: float
    share_with_d90: float = Field(description="part of the scenarios with D90 at the prescription")
    seeds: int


class RobustSummary(Record):
    """Robust planning: the measure before and after."""

    scenarios: int
    measure: str = Field(description="what is measured")
    before: RobustMeasure
    after: RobustMeasure
    rounds: int
    reached: bool


Figures = dict[str, dict[str, float]]
"""Metrics by target and name."""


class ReplanFigures(Record):
    """Metrics on the samples of the search: of what is in, of the old plan carried on, and of the new plan."""

    now: Figures
    old: Figures
    new: Figures


class BlockedHole(Record):
    """A hole reported as blocked during the implantation."""

    template: int
    hole: str


class Shortfall(Record):
    """What is missing to the required goals of a target."""

    V100_pct: float
    D90_gy: float


_EDITED: tuple[str, ...] = (
    "seed", "directions", "blocked", "objective", "terms", "raised_for_goals", "time_limit_s", "interrupted", "changes",
)  # fmt: skip
_REPLANNED: tuple[str, ...] = (
    "seed", "directions", "raised_for_goals", "replan", "carried_on", "blocked", "short_by", "helps_most",
    "time_limit_s", "interrupted", "changes",
)  # fmt: skip


class OptimiserRecord(SparseRecord):
    """What the search reports; a field that was not reported is None or empty, and is not written.

    Examples
    --------
    >>> planned = OptimiserRecord(objective=5.0, seed=1, moves=100)
    >>> list(planned.only("seed").having(objective=4.0, changes=["new needle D5: 2 seeds"]).model_dump())
    ['seed', 'objective', 'changes']
    """

    objective: float | None = None
    terms: dict[str, float] = Field(default_factory=dict, description="terms of the objective")
    raised_for_goals: float | None = Field(None, description="factor on the targets' weights")
    robust: RobustSummary | None = None
    alternative: str | None = Field(None, description="name of an alternative plan")
    arrangement: ArrangementChoice | None = None
    seed: int | None = None
    starts: int | None = None
    moves: int | None = None
    candidates: int | None = None
    samples: int | None = None
    out_of_reach: tuple[UnreachedPart, ...] = ()
    directions: tuple[TriedDirections, ...] = ()
    lower_bound: float | None = None
    gap_absolute: float | None = None
    gap_relative: float | None = None
    certificate: str | None = Field(None, description="what the bound states")
    time_limit_s: float | None = Field(None, description="the search was ended by it")
    interrupted: bool = False
    replan: ReplanFigures | None = None
    carried_on: bool | None = Field(None, description="whether the old plan was carried on")
    blocked: tuple[BlockedHole, ...] = Field((), description="holes reported as blocked")
    short_by: dict[str, Shortfall] = Field(default_factory=dict)
    helps_most: str | None = Field(None, description="the further seed that would help most")
    changes: tuple[str, ...] = Field((), description="what differs from the parent plan, in words")

    @property
    def ended_early(self) -> bool:
        """Whether the search was ended before it was complete."""
        return self.time_limit_s is not None or self.interrupted

    @property
    def reported(self) -> bool:
        """Whether there is anything at all."""
        return bool(self.model_fields_set)

    @model_serializer(mode="wrap")
    def _given(self, handler: SerializerFunctionWrapHandler) -> dict[str, object]:
        known = {key: value for key, value in handler(self).items() if key in self.model_fields_set}
        order: tuple[str, ...] = ()
        if "replan" in known:
            order = _REPLANNED
        elif "changes" in known:
            order = _EDITED
        return {key: known[key] for key in (*order, *known) if key in known}
