"""Result of the independent check of written files, as plan.json and verification.json keep it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from pydantic import ConfigDict

from brachy.patient.records import SparseRecord


@dataclass(frozen=True)
class CheckItem:
    """One comparison: expected and found value as text, difference and tolerance in a unit, result, and source."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    name: str
    expected: str
    found: str
    difference: int | float | None
    tolerance: int | float | None
    unit: str
    passed: bool
    source: str


class CheckReport(SparseRecord):
    """All comparisons; empty where no check was made.

    Parameters
    ----------
    verdict : str
        "pass" if every comparison passed, else "fail"; "" without a check.
    checks : tuple of CheckItem
        The comparisons.
    checksum : str
        In plan.json: SHA-256 of the rest together with the plan's checksum.

    Examples
    --------
    >>> found = CheckReport.of([CheckItem("seeds", "12", "11", 1, 0, "", False, "RTPLAN.dcm")])
    >>> found.verdict, found.made, CheckReport().made
    ('fail', True, False)
    """

    verdict: str = ""
    checks: tuple[CheckItem, ...] = ()
    checksum: str = ""

    @classmethod
    def of(cls, items: Sequence[CheckItem]) -> "CheckReport":
        """Report of the comparisons and their verdict."""
        passed = all(item.passed for item in items)
        return cls(verdict="pass" if passed else "fail", checks=tuple(items))

    @property
    def made(self) -> bool:
        """Whether there was a check."""
        return bool(self.verdict)

    @property
    def failed(self) -> bool:
        """Whether a comparison failed."""
        return self.verdict == "fail"

    def data(self) -> dict[str, Any]:  # plain JSON data
        """The object that `brachy check --json` prints."""
        return self.model_dump(mode="json")
