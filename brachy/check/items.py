"""A comparison of two numbers, as an item of a check."""

from brachy.patient.check_report import CheckItem, CheckReport

__all__ = ["CheckItem", "CheckReport", "compared"]


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
