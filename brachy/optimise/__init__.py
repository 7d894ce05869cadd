"""Where the seeds go: objective, samples, search, directions, and the finished plan."""

from brachy.optimise.by_hand import plan_edited
from brachy.optimise.intraoperative import replan
from brachy.optimise.planner import plan, plan_alternatives

__all__ = ["plan", "plan_alternatives", "plan_edited", "replan"]
