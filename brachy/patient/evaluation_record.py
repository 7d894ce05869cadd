"""Evaluation of a plan as records: metrics, how they were sampled, goals and rules."""

from typing import Literal

from pydantic import Field

from brachy.patient.records import Record, SparseRecord, Vector


class RegionGrid(SparseRecord):
    """Lattice on which the volume at or above the prescription (CI, EI) was counted."""

    spacing_mm: float | None = None
    shape: tuple[int, int, int] | None = Field(None, description="z, y, x")
    origin_mm: Vector | None = Field(None, description="centre of the first voxel")


class Sampling(SparseRecord):
    """Samples of a structure; of an organ also the prescription that its V100 refers to."""

    samples: int
    cell_mm: float
    widest_cell_mm: float
    settled: bool = Field(description="whether finer samples changed nothing more")
    notes: tuple[str, ...] = ()
    prescription_gy: float | None = None
    prescription_of: str | None = None


class GoalResult(Record):
    """A goal of the protocol and the value that was found."""

    roi: str
    metric: str
    op: str
    limit: float
    value: float
    met: bool
    required: bool = True
    source: str = ""


class RuleResult(Record):
    """A rule of the protocol, its worst case and where that is."""

    rule: str
    limit: str
    worst: float | None
    unit: str = "mm"
    where: str = ""
    met: bool

    @property
    def verdict(self) -> str:
        """ "met", "reported" (out of reach, named with place and cause), "not checked" (no structure) or "BROKEN"."""
        if not self.met:
            return "BROKEN"
        status = self.where.partition(":")[0]
        return status if status in ("reported", "not checked") else "met"


class Evaluation(Record):
    """DVH metrics of every structure, in Gy, % and cc by their names."""

    formalism: Literal["1D", "2D"]
    grid: RegionGrid = RegionGrid()
    sampling: dict[str, Sampling] = Field(default_factory=dict)
    structures: dict[str, dict[str, float | None]] = Field(default_factory=dict)
    uncertainty: dict[str, dict[str, float]] = Field(default_factory=dict)
    other_formalism: dict[str, dict[str, float | None]] = Field(default_factory=dict)
    goals: tuple[GoalResult, ...] = ()
