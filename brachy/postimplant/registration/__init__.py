"""Rigid registration of the plan and the CT after the implant: frame of reference, organ, image, seeds, or a file.

A transform is a 4 x 4 matrix that takes positions of the plan (patient frame, LPS, mm) to positions on the CT after
the implant. One that cannot be trusted is refused: a bad registration would be a bad comparison that looks like a bad
implant.
"""

from brachy.postimplant.registration.choice import (
    NO_PLANNING_CT,
    Question,
    common_organs_of,
    disagreements,
    frame_of,
    register,
    shared_frame,
)
from brachy.postimplant.registration.files import by_file
from brachy.postimplant.registration.image import by_image
from brachy.postimplant.registration.organ import by_organ
from brachy.postimplant.registration.seeds import by_seeds
from brachy.postimplant.registration.transform import (
    METHODS,
    Agreement,
    Registration,
    RegistrationError,
    by_frame,
)

__all__ = [
    "METHODS",
    "NO_PLANNING_CT",
    "Agreement",
    "Question",
    "Registration",
    "RegistrationError",
    "by_file",
    "by_frame",
    "by_image",
    "by_organ",
    "by_seeds",
    "common_organs_of",
    "disagreements",
    "frame_of",
    "register",
    "shared_frame",
]
