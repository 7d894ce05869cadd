"""A second opinion: a plan recomputed by definitions that share no code with the planner."""

from brachy.check.folder import check_plan
from brachy.check.items import CheckItem, CheckReport

__all__ = ["CheckItem", "CheckReport", "check_plan"]
