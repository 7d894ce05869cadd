"""Finds the seeds of a permanent implant on a CT: position, axis and confidence of each."""

from brachy.postimplant.seed_finder.find import find_seeds
from brachy.postimplant.seed_finder.seeds import Calibration, Capsule, Doubt, Findings, FoundSeed

__all__ = ["Calibration", "Capsule", "Doubt", "Findings", "FoundSeed", "find_seeds"]
