"""One comparison of a check, and the report of all."""

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class CheckItem:
    """One comparison."""

    name: str
    expected: str
    found: str
    difference: float | None
    tolerance: float | None
    unit: str
    passed: bool
    source: str


@dataclass(frozen=True)
class CheckReport:
    """All comparisons; the verdict is "pass" if every one passed, else "fail"."""

    checks: tuple[CheckItem, ...]

    @property
    def verdict(self) -> str:
        """ "pass" or "fail"."""
        return "pass" if all(item.passed for item in self.checks) else "fail"

    def to_dict(self) -> dict[str, Any]:
        """The object printed by --json and kept in plan.json."""
        return {"verdict": self.verdict, "checks": [asdict(item) for item in self.checks]}


def compared(
    name: str, expected: float, found: float, tolerance: float, unit: str, source: str, relative: bool = False
) -> CheckItem:
    """A found value against the expected one; the difference is of the expected value where `relative`."""
    difference = abs(found - expected) / (abs(expected) or 1.0) if relative else abs(found - expected)
    return CheckItem(
        name,
        f"{expected:.6g}",
        f"{found:.6g}",
        float(f"{difference:.3g}"),
        tolerance,
        unit,
        bool(difference <= tolerance),
        source,
    )
