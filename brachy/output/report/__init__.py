"""Reports as one HTML page each: of a plan, and of an implant beside its plan."""

from brachy.output.report.plan_page import render_report, write_report
from brachy.output.report.robust_section import render_robust
from brachy.output.report.verification_page import (
    PlannedSeeds,
    render_verification,
    write_verification_report,
)

__all__ = [
    "PlannedSeeds",
    "render_report",
    "render_robust",
    "render_verification",
    "write_report",
    "write_verification_report",
]
