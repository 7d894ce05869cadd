"""The template: its axis, the lattice of its holes, and where its plate stands before the skin.

A template is a plane outside the skin, perpendicular to its axis. A layer is a row plane: it holds the axis and the
in-layer (column) direction, which is perpendicular to the direction of the head as far as the tilt allows. Columns are
lettered from the left and rows numbered from the feet, as seen by an observer who looks along the axis with the
patient's head up. `TemplateLayout` is the one place that converts between holes and mm; plan.json keeps it as
`brachy.patient.plan.PlanTemplate`.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from brachy.errors import UsageError
from brachy.needles.channel import Axis
from brachy.patient.plan import PlanHole, PlanTemplate
from brachy.writing import rounded

Float = NDArray[np.float64]

OFF_LATTICE_MM = np.array([0.003819, 0.002361])
"""Every lattice is moved by this along column and row. Otherwise contours that follow pixel edges and slices would
coincide exactly with planes and axes of holes, where rounding decides on which side a point lies. It is larger than
the last digit kept in plan.json and has no clinical meaning (engineering choice)."""

HEAD = np.array([0.0, 0.0, 1.0])


def needle_direction(azimuth_deg: float, tilt_deg: float = 0.0) -> Float:
    """Unit vector of insertion, from skin to tip.

    Parameters
    ----------
    azimuth_deg : float
        0 enters anteriorly and goes posterior, 90 enters at the patient's left and goes right; degrees.
    tilt_deg : float
        Positive travels toward the head; degrees.

    Returns
    -------
    (3,) array
        (-sin az cos tilt, cos az cos tilt, sin tilt), patient frame (LPS).

    Raises
    ------
    UsageError
        If an angle is not a number, or the tilt is beyond 90 degrees.

    Examples
    --------
    >>> needle_direction(90).tolist(), needle_direction(0, 30).round(3).tolist()
    ([-1.0, 0.0, 0.0], [0.0, 0.866, 0.5])
    """
    if not (np.isfinite(azimuth_deg) and np.isfinite(tilt_deg)) or abs(tilt_deg) > 90:
        raise UsageError(
            f"direction {azimuth_deg},{tilt_deg} is not one: give degrees, the tilt between -90 and 90"
        )
    azimuth, tilt = np.deg2rad(azimuth_deg % 360.0), np.deg2rad(tilt_deg)
    vector = np.array([-np.sin(azimuth) * np.cos(tilt), np.cos(azimuth) * np.cos(tilt), np.sin(tilt)])
    # sin(180 degrees) is 1e-16 in floating point: cleared, so that a straight approach is exactly straight
    return _unit(np.round(vector, 14))


def template_axes(direction: ArrayLike) -> tuple[Float, Float]:
    """In-layer axis and row axis of a template.

    Parameters
    ----------
    direction : (3,) array
        Direction of the needles, any length.

    Returns
    -------
    column, row : (3,) arrays
        Unit vectors. `row` points toward the head as far as the tilt allows, `column` to the right of an observer who
        looks along the needles with the patient's head up; both are perpendicular to the needles. For needles along
        the body's axis `row` points anterior.

    Raises
    ------
    UsageError
        If the direction has no length.

    Examples
    --------
    >>> column, row = template_axes(needle_direction(0))
    >>> column.tolist(), row.tolist()
    ([1.0, 0.0, 0.0], [0.0, 0.0, 1.0])
    """
    along = np.asarray(direction, dtype=np.float64)
    if along.shape != (3,) or not np.isfinite(along).all() or not np.linalg.norm(along) > 1e-9:
        raise UsageError(f"direction {direction!r} is not one: give three numbers x, y, z")
    along = _unit(along)
    up = HEAD if abs(along @ HEAD) < 1 - 1e-9 else np.array([0.0, -1.0, 0.0])
    row = _unit(up - (up @ along) * along)
    column = _unit(np.cross(along, row))
    return column + 0.0, row + 0.0


class GuideHole(NamedTuple):
    """A hole of an individual template: its place on the plate, mm, and the direction (3) of its needle."""

    name: str
    x: float
    y: float
    direction: tuple[float, float, float]


@dataclass(frozen=True, eq=False)
class TemplateLayout:
    """A lattice of holes: hole (c, r) is at origin + c spacing column + (r - 1) spacing row.

    Parameters
    ----------
    origin_mm : (3,) array
        Hole A1, that is column 0 and row 1; patient frame (LPS), mm.
    direction, column, row : (3,) arrays
        Unit vectors: the template's axis, from the skin to the tips; in-layer axis; toward the head.
    spacing_mm : float
        Pitch of the holes.
    columns, rows : int
        Number of columns and rows.
    central_row : int
        Number of the row of layer 0, through the target's largest section.
    target : str
        Name of the target it was laid out for.
    cone_deg : float
        Largest angle between a needle and the template's axis, degrees; 0 where all needles lie along the axis.
    individual : bool
        Whether it has no lattice but the holes of `named`; its columns, rows and central row are then 0, and its origin
        is where the axis through the target meets the plate.
    named : tuple of GuideHole
        Holes of an individual template in the order of insertion.

    Examples
    --------
    >>> column, row = template_axes(needle_direction(0))
    >>> plate = TemplateLayout(np.zeros(3), needle_direction(0), column, row, 10.0, 3, 2, 1, "GTV")
    >>> plate.hole_label(2, 2), plate.hole_mm(2, 2).tolist(), plate.layer(2)
    ('C2', [20.0, 0.0, 10.0], 1)
    >>> plate.to_plate([[20.0, 55.0, 10.0]]).tolist(), plate.on_plate(2, 2)
    ([[20.0, 10.0, 55.0]], (20.0, 10.0))
    >>> TemplateLayout.of(plate.to_plan()).hole_mm(2, 2).tolist()
    [20.0, 0.0, 10.0]
    """

    origin_mm: Float
    direction: Float
    column: Float
    row: Float
    spacing_mm: float
    columns: int
    rows: int
    central_row: int
    target: str
    cone_deg: float = 0.0
    individual: bool = False
    named: tuple[GuideHole, ...] = ()

    @staticmethod
    def of(template: PlanTemplate) -> "TemplateLayout":
        """Layout of a template of plan.json."""
        return TemplateLayout(
            np.array(template.origin_mm),
            np.array(template.direction),
            np.array(template.column),
            np.array(template.row),
            template.spacing_mm,
            template.columns,
            template.rows,
            template.central_row,
            template.target,
            template.cone_deg,
            template.arrangement == "individual",
            tuple(GuideHole(each.hole, *each.place_mm, each.direction) for each in template.holes),
        )

    def to_plan(self) -> PlanTemplate:
        """Record for plan.json, its vectors at 6 significant digits."""
        return PlanTemplate(
            origin_mm=rounded(self.origin_mm.tolist()),
            direction=rounded(self.direction.tolist()),
            row=rounded(self.row.tolist()),
            column=rounded(self.column.tolist()),
            spacing_mm=self.spacing_mm,
            target=self.target,
            columns=self.columns,
            rows=self.rows,
            central_row=self.central_row,
            cone_deg=self.cone_deg,
            arrangement="individual" if self.individual else "parallel",
            holes=tuple(
                PlanHole(
                    hole=each.name,
                    place_mm=tuple(rounded([each.x, each.y])),
                    direction=tuple(rounded(list(each.direction))),
                )
                for each in self.named
            ),
        )

    @property
    def labels(self) -> list[str]:
        """Labels of all holes: row by row, or in the order of insertion."""
        if self.individual:
            return [each.name for each in self.named]
        return [self.hole_label(*hole) for hole in self.holes]

    def has(self, label: str) -> bool:
        """Whether the template has a hole of that label, which must be of the form that its labels have.

        Raises
        ------
        UsageError
            If the label is none of a hole of such a template.
        """
        if self.individual:
            names = self.labels
            if re.fullmatch(r"N[1-9][0-9]{0,3}", label) is None:
                raise UsageError(f"'{label}' is no hole of this template: its holes are {_in_words(names)}")
            return label in names
        return self.has_hole(*parse_hole(label))

    def place(self, label: str) -> tuple[float, float]:
        """Place of a hole on the plate: mm from the origin along the columns and along the rows.

        Raises
        ------
        UsageError
            If an individual template has no such hole, or the label is none.
        """
        if not self.individual:
            return self.on_plate(*parse_hole(label))
        for each in self.named:
            if each.name == label:
                return each.x, each.y
        raise UsageError(f"'{label}' is no hole of this template: its holes are {_in_words(self.labels)}")

    def at(self, label: str) -> Float:
        """Position (3,) of a hole, mm."""
        if not self.individual:
            return self.hole_mm(*parse_hole(label))
        x, y = self.place(label)
        found: Float = self.origin_mm + x * self.column + y * self.row
        return found

    def layer_of(self, label: str) -> int | None:
        """Layer of a hole; None where there are no layers."""
        return None if self.individual else self.layer(parse_hole(label)[1])

    def rank(self, label: str) -> tuple[int, int, int]:
        """Sort key of a hole in the order of insertion: layers 0, +1, -1, +2 ..., columns from A; or N1, N2 ..."""
        if self.individual:
            number = re.fullmatch(r"N([0-9]+)", label)
            return (int(number.group(1)) if number else 0), 0, 0
        column, row = parse_hole(label)
        return (*insertion_rank(self.layer(row)), column)

    @property
    def extent(self) -> tuple[Float, Float]:
        """Least and greatest place (2,) of a hole on the plate, mm."""
        places = np.array([self.place(label) for label in self.labels] or [(0.0, 0.0)])
        return places.min(axis=0), places.max(axis=0)

    @property
    def middle(self) -> tuple[float, float]:
        """Place on the plate of layer 0 and the middle column, or of the axis through the target."""
        if self.individual:
            return 0.0, 0.0
        return self.on_plate((self.columns - 1) // 2, self.central_row)

    def on_plate_mm(self, x: float, y: float) -> Float:
        """Position (3,) of a place on the plate."""
        found: Float = self.origin_mm + x * self.column + y * self.row
        return found

    @property
    def holes(self) -> list[tuple[int, int]]:
        """(column from 0, row from 1) of every hole, row by row."""
        return [(column, row) for row in range(1, self.rows + 1) for column in range(self.columns)]

    def has_hole(self, column: int, row: int) -> bool:
        """Whether the template has such a hole."""
        return 0 <= column < self.columns and 1 <= row <= self.rows

    def hole_label(self, column: int, row: int) -> str:
        """Label of a hole: 'A1' is column 0, row 1; column 26 is 'AA'."""
        return column_letters(column) + str(row)

    def hole_mm(self, column: float, row: float) -> Float:
        """Position (3,) of a hole in mm; of a point between holes for fractions."""
        across = column * self.spacing_mm * self.column + (row - 1) * self.spacing_mm * self.row
        moved: Float = self.origin_mm + across
        return moved

    def on_plate(self, column: float, row: float) -> tuple[float, float]:
        """Place of a hole on the plate: mm from hole A1 along the columns and along the rows."""
        return column * self.spacing_mm, (row - 1) * self.spacing_mm

    def to_plate(self, points_mm: ArrayLike) -> Float:
        """Coordinates (n, 3) of points (n, 3): mm from hole A1 along the columns, the rows and the axis."""
        frame = np.column_stack([self.column, self.row, self.direction])
        found: Float = (np.asarray(points_mm, dtype=np.float64) - self.origin_mm) @ frame
        return found

    def axes(self) -> list[Axis]:
        """The line through every hole, row by row: along the template's axis, or of an individual one its own."""
        if self.individual:
            return [
                Axis(each.name, self.at(each.name), np.array(each.direction, dtype=np.float64))
                for each in self.named
            ]
        return [
            Axis(self.hole_label(column, row), self.hole_mm(column, row), self.direction)
            for column, row in self.holes
        ]

    def layer(self, row: int) -> int:
        """Layer of a row: 0 passes through the target's largest section, positive ones lie toward the head."""
        return row - self.central_row

    def insertion_order(self) -> list[int]:
        """Rows in the order of insertion: layers 0, +1, -1, +2, -2 ..."""
        return sorted(range(1, self.rows + 1), key=lambda row: insertion_rank(self.layer(row)))


def _in_words(names: Sequence[str]) -> str:
    """'N1 to N14', for messages."""
    return f"{names[0]} to {names[-1]}" if len(names) > 1 else "".join(names) or "none"


def insertion_rank(layer: int) -> tuple[int, int]:
    """Sort key of a layer in the order of insertion: 0, +1, -1, +2, -2 ..."""
    return abs(layer), -layer


def column_letters(column: int) -> str:
    """Letters of a column, counted from 0: A ... Z, AA ... ZZ, AAA ...

    Examples
    --------
    >>> column_letters(0), column_letters(25), column_letters(26), column_letters(702)
    ('A', 'Z', 'AA', 'AAA')
    """
    letters, rest = "", column + 1
    while rest > 0:
        rest, last = divmod(rest - 1, 26)
        letters = chr(ord("A") + last) + letters
    return letters


def parse_hole(label: str) -> tuple[int, int]:
    """Column (from 0) and row (from 1) of a hole's label.

    Raises
    ------
    UsageError
        If the label is not letters followed by a row number.

    Examples
    --------
    >>> parse_hole("C4"), parse_hole("aa12")
    ((2, 4), (26, 12))
    """
    found = re.fullmatch(r"([A-Z]{1,3})([1-9][0-9]{0,3})", label.strip().upper())
    if found is None:
        raise UsageError(f"'{label}' is no hole of a template: give column letter and row number, such as C4")
    column = 0
    for letter in found.group(1):
        column = 26 * column + ord(letter) - ord("A") + 1
    return column - 1, int(found.group(2))


def _unit(vector: Float) -> Float:
    unit: Float = vector / np.linalg.norm(vector) + 0.0
    return unit
