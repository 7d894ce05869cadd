"""Reports as one HTML page each: of a plan, and of an implant beside its plan."""

from brachy.report.plan_page import render_report, write_report

__all__ = ["render_report", "write_report"]
