"""Structures as exact polygons: slabs, points in and out, distances, volumes, masks, margins.

A contour is a slab of half the gap to its neighbours; the end slabs reach half the nominal spacing beyond the
last contour; contours in one plane combine by the even-odd rule, so that a hole is just a contour inside another.
"""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

Float = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Structure:
    """A region of the patient as planar closed contours.

    Parameters
    ----------
    name : str
        ROI name.
    contours_mm : sequence of (n, 3) arrays
        Closed polygons (the last point need not repeat the first), patient frame (LPS), mm.
    role : str
        One of `brachy.roles.ROLES`, or "" while undecided.
    interpreted_type : str
        RT ROI Interpreted Type, or "".
    number : int, optional
        ROI Number in the structure set.
    colour : tuple of int, optional
        Display colour, 0-255.
    slice_spacing_mm : float, optional
        Spacing of the slices it was drawn on; the end slabs reach half of it beyond. By default the smallest gap
        between its own contour planes.
    """

    name: str
    contours_mm: tuple[Float, ...]
    role: str = ""
    interpreted_type: str = ""
    number: int | None = None
    colour: tuple[int, int, int] | None = None
    slice_spacing_mm: float | None = None
    notes: tuple[str, ...] = field(default=())
