"""Evaluation of a plan as records: metrics, how they were sampled, goals and rules."""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, PrivateAttr, computed_field, model_validator

from brachy.patient.colour import Colour
from brachy.patient.records import Record, SparseRecord, Vector

Curve = tuple[NDArray[np.float64], NDArray[np.float64]]
"""Doses in Gy and the volume in cc at or above each."""


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
    """A goal of the protocol and the value that was found; what has no value is not checked, and `reason` says why."""

    roi: str
    metric: str
    op: str
    limit: float
    value: float | None
    uncertainty: float | None = Field(None, description="of the value, in its unit, from sampling the dose")
    met: bool | None = Field(description="None where it is not checked")
    required: bool = True
    source: str = ""
    reason: str = Field("", description="why it is not checked")

    @property
    def near(self) -> bool:
        """Whether the value is within its uncertainty of the limit."""
        if self.value is None or self.uncertainty is None:
            return False
        return abs(self.value - self.limit) <= self.uncertainty

    @property
    def missed(self) -> bool:
        """Whether the goal was checked and is not met."""
        return self.met is False

    @property
    def verdict(self) -> str:
        """ "met", "missed" or "not checked", and whether that is within the value's uncertainty."""
        if self.met is None:
            return f"not checked: {self.reason}" if self.reason else "not checked"
        return ("met" if self.met else "missed") + (
            ", within its uncertainty of the limit" if self.near else ""
        )

    @property
    def colour(self) -> Colour:
        """Green only where the goal is met beyond doubt."""
        if self.met is None or self.near:
            return "amber"
        return "green" if self.met else "red"


RuleStatus = Literal["kept", "broken", "reported", "not checked"]
"""kept; broken; reported: exceeded where the anatomy leaves no other way; not checked: no structure or no data."""


class RuleResult(Record):
    """A rule of the protocol, its worst case and where that is.

    Examples
    --------
    >>> RuleResult(rule="needle to bone", limit=">= 2 mm", worst=4.1, status="kept").met
    True
    >>> old = {"rule": "needle to bone", "limit": ">= 2 mm", "worst": None, "met": True}
    >>> found = RuleResult.model_validate({**old, "where": "not checked: no such structure"})
    >>> found.status, found.where, found.met
    ('not checked', 'no such structure', None)
    """

    rule: str
    limit: str
    worst: float | None
    unit: str = "mm"
    where: str = ""
    status: RuleStatus

    @model_validator(mode="before")
    @classmethod
    def _status_is_given(cls, data: Any) -> Any:  # what a file holds before it is checked
        """Version 1 of plan.json has `met` alone, and the two other states as the first words of `where`."""
        if not isinstance(data, dict) or "met" not in data:
            return data
        rest = {key: value for key, value in data.items() if key != "met"}
        if "status" in rest:
            if data["met"] is not _MET.get(rest["status"], "none of them"):
                raise ValueError(f"rule '{rest.get('rule')}': 'met' contradicts status '{rest['status']}'")
            return rest
        return {**rest, **_status_of_version_1(data["met"], str(rest.get("where", "")))}

    @computed_field  # type: ignore[prop-decorator]
    @property
    def met(self) -> bool | None:
        """True for kept, False for broken, None otherwise."""
        return _MET[self.status]

    @property
    def broken(self) -> bool:
        """Whether the rule is broken."""
        return self.status == "broken"

    @property
    def colour(self) -> Colour:
        """Green for kept alone."""
        return {"kept": "green", "broken": "red"}.get(self.status, "amber")  # type: ignore[return-value]

    def as_version_1(self) -> dict[str, object]:
        """The rule as version 1 of plan.json has it."""
        prefix = "" if self.status in ("kept", "broken") else f"{self.status}: "
        return {
            **self.model_dump(exclude={"status", "met"}),
            "where": prefix + self.where,
            "met": not self.broken,
        }


_MET: dict[str, bool | None] = {"kept": True, "broken": False, "reported": None, "not checked": None}


def _status_of_version_1(met: object, where: str) -> dict[str, object]:
    if not isinstance(met, bool):
        raise ValueError("a rule's 'met' is true or false where it has no status")
    status, colon, rest = where.partition(": ")
    if met and colon and status in ("reported", "not checked"):
        return {"status": status, "where": rest}
    return {"status": "kept" if met else "broken"}


class RuleCounts(NamedTuple):
    """How many rules are in each of the four states.

    Examples
    --------
    >>> str(RuleCounts(19, 0, 5, 1))
    '19 kept, 5 reported, 1 not checked'
    """

    kept: int
    broken: int
    reported: int
    not_checked: int

    @staticmethod
    def of(rules: Iterable[RuleResult]) -> "RuleCounts":
        """Counts of these rules."""
        found = Counter(rule.status for rule in rules)
        return RuleCounts(found["kept"], found["broken"], found["reported"], found["not checked"])

    @property
    def colour(self) -> Colour:
        """Red if one is broken, green if every one is kept, else amber."""
        if self.broken:
            return "red"
        return "amber" if self.reported or self.not_checked else "green"

    def __str__(self) -> str:
        shown = [f"{self.kept} kept"]
        names = (("broken", self.broken), ("reported", self.reported), ("not checked", self.not_checked))
        return ", ".join(shown + [f"{count} {name}" for name, count in names if count])


def all_met(verdicts: Collection[bool | None]) -> bool | None:
    """Whether every goal is met; None where none is missed and some are not checked.

    Examples
    --------
    >>> all_met([True, True]), all_met([True, None]), all_met([None, False])
    (True, None, False)
    """
    return False if False in verdicts else None if None in verdicts else True


class GoalCounts(NamedTuple):
    """How many goals are met, met or missed within their uncertainty of the limit, missed, and not checked.

    Examples
    --------
    >>> str(GoalCounts(2, 1, 0, 0, 1))
    '3 of 4 met (1 within its uncertainty of the limit), 1 not checked'
    """

    met: int
    nearly_met: int
    nearly_missed: int
    missed: int
    not_checked: int

    @staticmethod
    def of(goals: Iterable[GoalResult]) -> "GoalCounts":
        """Counts of these goals."""
        found = Counter((goal.met, goal.near) for goal in goals)
        return GoalCounts(
            found[True, False], found[True, True], found[False, True], found[False, False], found[None, False]
        )

    @property
    def colour(self) -> Colour:
        """Red if one is missed beyond its uncertainty, green if each is met beyond it, else amber."""
        if self.missed or self.nearly_missed:
            return "red"
        return "amber" if self.nearly_met or self.not_checked else "green"

    def __str__(self) -> str:
        met = self.met + self.nearly_met
        shown = [f"{met} of {sum(self)} met{_doubt(self.nearly_met)}"]
        if missed := self.missed + self.nearly_missed:
            shown.append(f"{missed} missed{_doubt(self.nearly_missed)}")
        if self.not_checked:
            shown.append(f"{self.not_checked} not checked")
        return ", ".join(shown)


def _doubt(count: int) -> str:
    return f" ({count} within its uncertainty of the limit)" if count else ""


class Evaluation(Record):
    """DVH metrics of every structure, in Gy, % and cc by their names."""

    formalism: Literal["1D", "2D"]
    grid: RegionGrid = RegionGrid()
    sampling: dict[str, Sampling] = Field(default_factory=dict)
    structures: dict[str, dict[str, float | None]] = Field(default_factory=dict)
    uncertainty: dict[str, dict[str, float]] = Field(default_factory=dict)
    other_formalism: dict[str, dict[str, float | None]] = Field(default_factory=dict)
    goals: tuple[GoalResult, ...] = ()
    _in_memory: "_InMemory" = PrivateAttr(default_factory=lambda: _InMemory({}))

    @property
    def curves(self) -> Mapping[str, Curve]:
        """Cumulative histograms by ROI, on the samples of the metrics; empty for an evaluation read from a file."""
        return self._in_memory.curves

    def with_curves(self, curves: Mapping[str, Curve]) -> "Evaluation":
        """The same evaluation with its curves, which are kept in memory and written to no JSON."""
        made = self.model_copy()
        made._in_memory = _InMemory(curves)
        return made


class _InMemory:
    """What an evaluation knows and no file keeps; two evaluations are equal whether they have it or not."""

    def __init__(self, curves: Mapping[str, Curve]) -> None:
        self.curves = curves

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _InMemory)

    __hash__ = None  # type: ignore[assignment]
