"""Where the seeds go: objective, samples, search, directions, and the finished plan."""

from brachy.optimise.planner import plan, plan_alternatives
from brachy.optimise.replanning.edited import plan_edited
from brachy.optimise.replanning.replan import replan

__all__ = ["plan", "plan_alternatives", "plan_edited", "replan"]
