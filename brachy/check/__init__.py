"""A second opinion: a plan recomputed by definitions that share no code with the planner."""

from brachy.check.folder import CheckItem, CheckReport, check_plan

__all__ = ["CheckItem", "CheckReport", "check_plan"]
