"""Where needles come from, in the words of someone who stands beside the couch.

Heights are measured straight down, from the PatientPosition that the plan keeps; where it is not known the patient is
taken for supine. All lengths are mm in the patient frame (LPS).
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from brachy.output.figures.cuts import towards
from brachy.patient.plan import Plan

Float = NDArray[np.float64]
HEAD = np.array([0.0, 0.0, 1.0])
SUPINE = np.array([0.0, 1.0, 0.0])

UPRIGHT_DEG = 85.0
"""Needles so steep are called straight above or below (engineering choice)."""

LEVEL_DEG = 0.5
"""An angle below this is called horizontal, or no tilt (engineering choice)."""


@dataclass(frozen=True)
class Lie:
    """How the patient lies: unit vectors straight down, and to the right of one who looks from the feet to the head."""

    down: Float
    aside: Float
    known: bool

    @staticmethod
    def of(plan: Plan) -> "Lie":
        """From the plan's record of the access."""
        known = plan.access is not None and plan.access.down is not None
        down = np.array(plan.access.down, dtype=np.float64) if known and plan.access else SUPINE
        return Lie(down, np.cross(down, HEAD), known)


@dataclass(frozen=True)
class Pointing:
    """Where needles come from, in the words of the couch: angles in degrees."""

    side: str
    """The patient's side at which the hubs are: "right", "front" ..."""
    toward: Float
    """Horizontal unit vector (3,) from the patient to that side."""
    above_deg: float
    """Of the hubs above the horizontal, in the axial plane; negative below."""
    tilt_deg: float
    """Of the tips toward the head; negative toward the feet."""

    @property
    def words(self) -> str:
        """'from the right, 20 degrees below the horizontal, tip toward the feet 15 degrees'.

        Examples
        --------
        >>> Pointing("right", np.array([-1.0, 0, 0]), -20.0, -15.0).words
        'from the right, 20 degrees below the horizontal, tip toward the feet 15 degrees'
        >>> Pointing("left", np.array([1.0, 0, 0]), 89.0, 0.0).words
        'from straight above'
        """
        sense = "above" if self.above_deg > 0 else "below"
        if abs(self.above_deg) >= UPRIGHT_DEG:
            said = f"from straight {sense}"
        elif abs(self.above_deg) < LEVEL_DEG:
            said = f"from the {self.side}, horizontal"
        else:
            said = f"from the {self.side}, {abs(self.above_deg):.0f} degrees {sense} the horizontal"
        if abs(self.tilt_deg) >= LEVEL_DEG:
            end = "head" if self.tilt_deg > 0 else "feet"
            said += f", tip toward the {end} {abs(self.tilt_deg):.0f} degrees"
        return said


def pointing(direction: Float, lie: Lie, nearer: float = 1.0) -> Pointing:
    """Words for a needle's direction (3,), a unit vector from skin to tip.

    Where needles are nearly upright the side is that of `nearer`, along `lie.aside`: an operator stands near the entry.

    Examples
    --------
    >>> supine = Lie(np.array([0.0, 1.0, 0.0]), np.array([1.0, 0.0, 0.0]), True)
    >>> pointing(np.array([1.0, 0.0, 0.0]), supine).words  # travels to the patient's left
    'from the right, horizontal'
    """
    out = -np.asarray(direction, dtype=np.float64)
    across = float(out @ lie.aside)
    above = float(np.degrees(np.arctan2(-out @ lie.down, abs(across))))
    sense = nearer if abs(above) >= UPRIGHT_DEG else across
    toward = lie.aside if sense >= 0 else -lie.aside
    tilt = float(np.degrees(np.arcsin(np.clip(-out @ HEAD, -1.0, 1.0))))
    return Pointing(towards(toward), toward, above, tilt)
