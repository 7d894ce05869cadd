"""Independent check: a written plan is recomputed from its files by code that shares nothing with the planner."""

from brachy.check.folder import check_plan
from brachy.check.items import CheckItem, CheckReport

__all__ = ["CheckItem", "CheckReport", "check_plan"]
