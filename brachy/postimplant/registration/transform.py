"""A rigid registration of the plan and the CT after the implant, as a record."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from brachy.errors import BrachyError
from brachy.postimplant.matching import moved_by

Float = NDArray[np.float64]

METHODS = ("auto", "frame", "image", "seeds", "organ")
"""What `--register` takes besides the name of a file."""

APART_MM = 3.0
"""Two registrations that bring a planned seed to places farther apart than this disagree (engineering choice: a voxel
of a thick CT)."""


class RegistrationError(BrachyError):
    """A registration that cannot be trusted.

    Parameters
    ----------
    what : str
        "registration by the seeds" and the like.
    reason, remedy : str
        Parts of the message; the reason is also kept alone.
    """

    def __init__(self, what: str, reason: str, remedy: str) -> None:
        super().__init__(f"{what} failed: {reason}; {remedy}")
        self.reason = reason


@dataclass(frozen=True, eq=False)
class Agreement:
    """Another registration beside the one that was taken.

    Parameters
    ----------
    method : str
        As of a registration.
    residual_mm : float or None
        Its residual; None where it has none or was refused.
    apart_mm : float or None
        Largest distance at a planned seed from where the chosen registration puts it; None where it was refused.
    note : str
        How good it is, or why it was refused.
    """

    method: str
    residual_mm: float | None
    apart_mm: float | None
    note: str


@dataclass(frozen=True, eq=False)
class Registration:
    """How the plan lies on the CT after the implant.

    Parameters
    ----------
    method : str
        "frame", "organ", "image", "seeds" or "file".
    transform : (4, 4) array
        Plan to post-implant, patient frame (LPS), mm; rigid.
    residual_mm : float or None
        What is left: RMS distance of matched seeds, or the spread of registrations from several starts; None where
        the method measures none (frame, file).
    note : str
        One sentence of how good it is.
    error_mm : float or None
        Expected error (RMS) at the planned seed where it is largest; None where it is not known.
    uses_seeds : bool
        Whether the implant itself was brought onto the plan. A shift of all seeds within the organ then does not show,
        and the dose to a target carried over by it says nothing of the implant.
    agreement : tuple of Agreement
        The other registrations that were made for comparison.
    """

    method: str
    transform: Float
    residual_mm: float | None
    note: str
    error_mm: float | None = None
    uses_seeds: bool = False
    agreement: tuple[Agreement, ...] = ()


def farthest_mm(one: ArrayLike, other: ArrayLike, points_mm: ArrayLike) -> float:
    """Largest distance between the places to which two rigid transforms bring the same points, mm.

    Examples
    --------
    >>> turned = np.diag([-1.0, -1.0, 1.0, 1.0])
    >>> farthest_mm(np.eye(4), turned, [[0, 0, 7], [3, 0, 0]])
    6.0
    """
    apart = moved_by(one, points_mm) - moved_by(other, points_mm)
    return float(np.linalg.norm(apart, axis=1).max())


def by_frame(planned_uid: str, post_uid: str) -> Registration:
    """Plan and CT share a frame of reference: the identity.

    Raises
    ------
    BrachyError
        If they do not, or one has none.

    Examples
    --------
    >>> float(by_frame("1.2.3", "1.2.3").transform.trace())
    4.0
    """
    if not planned_uid or planned_uid != post_uid:
        raise BrachyError(
            "the CT after the implant has another frame of reference than the plan: register by organ, image, seeds or "
            "a transform file (--register)"
        )
    return Registration(
        "frame", np.eye(4), None, "plan and post-implant CT share a frame of reference; nothing was fitted"
    )


def about(middle: Float, degrees: tuple[float, float, float]) -> Float:
    """Turn about x, then y, then z through a point."""
    turn = np.eye(3)
    for axis, angle in enumerate(np.radians(degrees)):
        c, s = np.cos(angle), np.sin(angle)
        one = np.eye(3)
        i, j = [(1, 2), (2, 0), (0, 1)][axis]
        one[i, i], one[i, j], one[j, i], one[j, j] = c, -s, s, c
        turn = one @ turn
    matrix = np.eye(4)
    matrix[:3, :3] = turn
    matrix[:3, 3] = middle - turn @ middle
    return matrix
