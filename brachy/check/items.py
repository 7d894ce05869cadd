"""Records of a check: one comparison, and the report of all comparisons."""

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class CheckItem:
    """One comparison: expected and found value as text, difference and tolerance in a unit, result, and source."""

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
    """All comparisons of a check; the verdict is "pass" if every one passed, else "fail"."""

    checks: tuple[CheckItem, ...]

    @property
    def verdict(self) -> str:
        """ "pass" or "fail"."""
        return "pass" if all(item.passed for item in self.checks) else "fail"

    def to_dict(self) -> dict[str, Any]:
        """Data as printed by --json and stored in plan.json."""
        return {"verdict": self.verdict, "checks": [asdict(item) for item in self.checks]}


def compared(
    name: str, expected: float, found: float, tolerance: float, unit: str, source: str, relative: bool = False
) -> CheckItem:
    """Comparison of a found value with the expected one; with `relative` the difference is divided by the expected."""
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
