"""Result of the independent check of written files, as plan.json and verification.json keep it."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from pydantic import ConfigDict

from brachy.patient.colour import Colour
from brachy.patient.records import SparseRecord


@dataclass(frozen=True)
class CheckItem:
    """One comparison: expected and found value as text, difference and tolerance in a unit, result, and source.

    `passed` is None where nothing was compared, and `source` says why.
    """

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    name: str
    expected: str
    found: str
    difference: int | float | None
    tolerance: int | float | None
    unit: str
    passed: bool | None
    source: str

    @property
    def verdict(self) -> str:
        """ "passed", "FAILED" or "not checked"."""
        return "not checked" if self.passed is None else "passed" if self.passed else "FAILED"

    @property
    def colour(self) -> Colour:
        """Green for what was compared and is right."""
        return "amber" if self.passed is None else "green" if self.passed else "red"


class CheckReport(SparseRecord):
    """All comparisons; empty where no check was made.

    Parameters
    ----------
    verdict : str
        "pass" if no comparison failed, else "fail"; "" without a check. Items that are not checked leave it
        as it is, and `words` counts them.
    checks : tuple of CheckItem
        The comparisons.
    checksum : str
        In plan.json: SHA-256 of the rest together with the plan's checksum.

    Examples
    --------
    >>> found = CheckReport.of([CheckItem("seeds", "12", "11", 1, 0, "", False, "RTPLAN.dcm")])
    >>> found.verdict, found.made, CheckReport().made
    ('fail', True, False)
    >>> CheckReport.of([CheckItem("lateral margin", "10 mm", "-", None, None, "", None, "no data")]).words
    'pass: 0 passed, 1 not checked'
    """

    verdict: str = ""
    checks: tuple[CheckItem, ...] = ()
    checksum: str = ""

    @classmethod
    def of(cls, items: Sequence[CheckItem]) -> "CheckReport":
        """Report of the comparisons and their verdict."""
        failed = any(item.passed is False for item in items)
        return cls(verdict="fail" if failed else "pass", checks=tuple(items))

    @property
    def made(self) -> bool:
        """Whether there was a check."""
        return bool(self.verdict)

    @property
    def failed(self) -> bool:
        """Whether a comparison failed."""
        return self.verdict == "fail"

    @property
    def failures(self) -> tuple[CheckItem, ...]:
        """The comparisons that failed."""
        return tuple(item for item in self.checks if item.passed is False)

    @property
    def colour(self) -> Colour:
        """Red if a comparison failed, green if every one was made and passed, else amber."""
        if self.failed:
            return "red"
        return "amber" if any(item.passed is None for item in self.checks) else "green"

    @property
    def words(self) -> str:
        """The verdict with the numbers of comparisons that passed, failed and were not made."""
        count = Counter(item.verdict for item in self.checks)
        shown = [f"{count['passed']} passed"]
        shown += [f"{count[name]} {name}" for name in ("FAILED", "not checked") if count[name]]
        return f"{self.verdict}: {', '.join(shown)}"

    def data(self) -> dict[str, Any]:  # plain JSON data
        """The object that `brachy check --json` prints."""
        return self.model_dump(mode="json")
