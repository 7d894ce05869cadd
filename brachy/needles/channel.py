"""The straight channel of a needle: hole in the template, direction, entry into the skin, tip.

Each needle has a direction of its own; nothing here assumes that the needles of a template are parallel. Positions are
mm in the patient's frame (DICOM LPS), depths are mm from the hole along the needle's own direction.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from brachy.patient.plan import PlanNeedle

Float = NDArray[np.float64]

RELATIVE_DIGITS = 6
"""Relative geometry is rounded to this many decimals of a mm before a decision is made on it, so that a patient who
lies elsewhere in the frame gets the same template (engineering choice)."""


class Axis(NamedTuple):
    """A line along which a needle may be inserted: label and position (3,) of its hole, unit direction (3,)."""

    hole: str
    hole_mm: Float
    direction: Float


@dataclass(frozen=True, eq=False)
class Channel:
    """Straight path of one needle from its hole in the template to its tip.

    Parameters
    ----------
    hole : str
        Label of the hole, such as "C4".
    hole_mm : (3,) array
        Position of the hole, patient frame (LPS), mm.
    direction : (3,) array
        Unit vector from the hole to the tip.
    entry_depth_mm : float
        Depth at which the channel enters the skin.
    tip_depth_mm : float
        Depth of the tip.

    Examples
    --------
    >>> channel = Channel("A1", np.zeros(3), np.array([0.0, 0.6, 0.8]), 20.0, 100.0)
    >>> channel.tip_mm.tolist(), channel.entry_mm.tolist()
    ([0.0, 60.0, 80.0], [0.0, 12.0, 16.0])
    >>> channel.depth_of([[5.0, 6.0, 8.0]]).tolist(), channel.off_axis([[5.0, 6.0, 8.0]]).tolist()
    ([10.0], [5.0])
    """

    hole: str
    hole_mm: Float
    direction: Float
    entry_depth_mm: float
    tip_depth_mm: float

    @staticmethod
    def of(needle: PlanNeedle) -> "Channel":
        """Channel of a needle of a plan; its direction is that from the recorded hole to the recorded tip."""
        hole, tip = np.array(needle.hole_mm), np.array(needle.tip_mm)
        length = float(np.linalg.norm(tip - hole))
        direction = (tip - hole) / length
        entry = float((np.array(needle.skin_mm) - hole) @ direction)
        return Channel(needle.hole, hole, direction, entry, length)

    @property
    def axis(self) -> Axis:
        """The whole line of the channel."""
        return Axis(self.hole, self.hole_mm, self.direction)

    @property
    def entry_mm(self) -> Float:
        """Where the channel enters the skin, (3,)."""
        return self.at(self.entry_depth_mm)

    @property
    def tip_mm(self) -> Float:
        """The tip, (3,)."""
        return self.at(self.tip_depth_mm)

    def at(self, depth_mm: ArrayLike) -> Float:
        """Points (..., 3) at depths (...)."""
        found: Float = self.hole_mm + np.asarray(depth_mm, dtype=np.float64)[..., None] * self.direction
        return found

    def depth_of(self, points_mm: ArrayLike) -> Float:
        """Depth (n,) of the foot of each point (n, 3) on the channel's line."""
        found: Float = (np.asarray(points_mm, dtype=np.float64) - self.hole_mm) @ self.direction
        return found

    def off_axis(self, points_mm: ArrayLike) -> Float:
        """Distance (n,) of each point (n, 3) from the channel's line."""
        way = np.asarray(points_mm, dtype=np.float64) - self.hole_mm
        found: Float = np.linalg.norm(way - (way @ self.direction)[..., None] * self.direction, axis=-1)
        return found


@dataclass(frozen=True, eq=False)
class Needle(Channel):
    """A channel that may be used, to its deepest possible tip, and the seed centres that may be loaded along it.

    Parameters
    ----------
    depths_mm : (k,) array
        Hole to the centre of each candidate seed, the most distal first.
    target_mm : (float, float)
        Depths at which the axis first enters and last leaves the target.
    shortened_by : str
        What keeps the needle from its full depth: a structure's name, "needle length", "skin", or "".
    measured : bool
        Whether it is in the patient already, on a measured line.
    """

    depths_mm: Float
    target_mm: tuple[float, float]
    shortened_by: str = ""
    measured: bool = False

    @property
    def positions_mm(self) -> Float:
        """Centres (k, 3) of the candidate seeds."""
        return self.at(self.depths_mm)


class Lines(NamedTuple):
    """Straight lines of n needles, each with a start and a direction of its own.

    `starts_mm` (n, 3), `directions` (n, 3) unit vectors, `ends_mm` (n,) depth at which each ends, inf where it does
    not.
    """

    starts_mm: Float
    directions: Float
    ends_mm: Float

    @staticmethod
    def of(axes: Sequence[Axis | Channel], ends_mm: Sequence[float]) -> "Lines":
        """Lines of axes or channels that end at given depths."""
        return Lines(
            np.array([axis.hole_mm for axis in axes], dtype=np.float64).reshape(-1, 3),
            np.array([axis.direction for axis in axes], dtype=np.float64).reshape(-1, 3),
            np.asarray(ends_mm, dtype=np.float64).reshape(-1),
        )

    def feet_of(self, points_mm: Float) -> tuple[Float, Float]:
        """Distance (m, n) of each of m points from each line, as if it had no end, and depth (m, n) of its foot.

        Examples
        --------
        >>> lines = Lines(np.zeros((2, 3)), np.array([[0.0, 1, 0], [1, 0, 0]]), np.full(2, np.inf))
        >>> [values.tolist() for values in lines.feet_of(np.array([[3.0, 4.0, 0.0]]))]
        [[[3.0, 4.0]], [[4.0, 3.0]]]
        """
        way = points_mm[:, None] - self.starts_mm
        depth = np.einsum("mnk,nk->mn", way, self.directions)
        across = np.linalg.norm(way - depth[..., None] * self.directions, axis=2)
        return np.round(across, RELATIVE_DIGITS), np.round(depth, RELATIVE_DIGITS)
