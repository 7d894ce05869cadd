"""Where the seeds go: objective, samples, search, directions, and the finished plan."""

from brachy.optimise.planner import plan

__all__ = ["plan"]
