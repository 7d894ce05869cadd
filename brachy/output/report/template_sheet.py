"""The sheet to measure a printed template by: place and angle of each hole, to be compared with the print."""

from dataclasses import dataclass

import numpy as np

from brachy.needles.template import TemplateLayout
from brachy.output import csv_tables
from brachy.output.figures.cuts import needle_name
from brachy.patient.plan import Plan

PLACE_MM = 0.3
"""A hole may lie so far from its place (engineering choice: below a printer's nozzle of 0.4 mm)."""

ANGLE_DEG = 0.5
"""A hole may lean so much (engineering choice: 1.3 mm at the end of 150 mm)."""


@dataclass(frozen=True)
class HoleRow:
    """A hole with a needle: mm on the outer face from hole A1 along columns and rows, degrees."""

    name: str
    template: int
    column_mm: float
    row_mm: float
    lean_deg: float
    """Between the hole and the plate's axis."""
    lean_toward_deg: float
    """In the plate, from the columns' axis toward the rows' axis, where the hole's inner end lies; 0 without lean."""


def hole_rows(plan: Plan) -> tuple[HoleRow, ...]:
    """Rows of the sheet, in the order of insertion.

    Examples
    --------
    >>> from inspect import signature
    >>> list(signature(hole_rows).parameters)
    ['plan']
    """
    found = []
    for needle in csv_tables.in_order_of_insertion(plan):
        layout = TemplateLayout.of(plan.templates[needle.template])
        ((column, row, _),) = layout.to_plate([needle.hole_mm])
        direction = np.array(needle.direction)
        across = np.array([direction @ layout.column, direction @ layout.row])
        lean = float(np.degrees(np.arctan2(np.linalg.norm(across), direction @ layout.direction)))
        toward = float(np.degrees(np.arctan2(across[1], across[0]))) % 360.0 if lean > 0.05 else 0.0
        found.append(
            HoleRow(
                needle_name(plan, needle),
                needle.template,
                round(float(column), 2) + 0.0,
                round(float(row), 2) + 0.0,
                round(lean, 2) if lean > 0.05 else 0.0,
                round(toward, 1),
            )
        )
    return tuple(found)
