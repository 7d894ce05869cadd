"""After the implant: the seeds found on CT."""

from brachy.verification.finder import find_seeds
from brachy.verification.seeds import Calibration, Capsule, Doubt, Findings, FoundSeed

__all__ = ["Calibration", "Capsule", "Doubt", "Findings", "FoundSeed", "find_seeds"]
