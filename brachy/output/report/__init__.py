"""Reports as one HTML page each: of a plan, and of an implant beside its plan."""

from brachy.output.report.plan_page import render_report, write_report
from brachy.output.report.postimplant_page import (
    PlannedSeeds,
    render_post_implant,
    write_post_implant_report,
)
from brachy.output.report.robust_section import render_robust

__all__ = [
    "PlannedSeeds",
    "render_post_implant",
    "render_report",
    "render_robust",
    "write_post_implant_report",
    "write_report",
]
