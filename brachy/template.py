"""The guide template: needle directions, the lattice of holes, and where the plate stands before the skin.

A template is a plane outside the skin, perpendicular to the needles. A layer is a row plane: it holds the needle
direction and the in-layer (column) axis, which is perpendicular to the direction of the head as far as the tilt
allows. Columns are lettered from the left and rows numbered from the feet, as seen by one who looks along the
needles with the patient's head up.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from brachy.structures import Structure

Float = NDArray[np.float64]


def needle_direction(azimuth_deg: float, tilt_deg: float = 0.0) -> Float:
    """Unit vector from skin to tip, (3,), patient frame (LPS)."""
    raise NotImplementedError


def template_axes(direction: ArrayLike) -> tuple[Float, Float]:
    """Unit vectors (column, row): the in-layer axis, and the axis toward the head as far as the tilt allows."""
    raise NotImplementedError


@dataclass(frozen=True, eq=False)
class TemplateLayout:
    """A lattice of holes: hole (column c from 0, row r from 1) is at origin + c spacing column + (r - 1) spacing row."""

    origin_mm: Float
    """Hole A1, (3,)."""
    direction: Float
    """Unit vector skin to tip, (3,)."""
    column: Float
    row: Float
    spacing_mm: float
    columns: int
    rows: int
    central_row: int
    """Number of the row of layer 0."""
    target: str

    def hole_label(self, column: int, row: int) -> str:
        """Label of a hole: 'A1' is column 0, row 1."""
        raise NotImplementedError

    def hole_mm(self, column: int, row: int) -> Float:
        """Position (3,) of a hole, mm."""
        raise NotImplementedError

    def layer(self, row: int) -> int:
        """Layer of a row: 0 through the largest section, positive toward the head."""
        return row - self.central_row


def parse_hole(label: str) -> tuple[int, int]:
    """(column from 0, row from 1) of a hole's label."""
    raise NotImplementedError


def lay_out(
    target: Structure,
    external: Structure,
    direction: ArrayLike,
    *,
    pitch_mm: float,
    standoff_mm: float,
    offset_mm: tuple[float, float] = (0.0, 0.0),
    overshoot_mm: float = 0.0,
) -> TemplateLayout:
    """Place a template: `offset_mm` (along column, along row) moves the holes, zero puts one axis through the
    centroid of the axial section of largest target area."""  # noqa: D205, D209
    raise NotImplementedError
