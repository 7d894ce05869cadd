"""Drawings of the set-up sheet: the section through the mark, and the patient from the operator's side; lines in mm."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from brachy.geometry.structures import Structure
from brachy.needles.template import TemplateLayout
from brachy.output.figures.cuts import towards
from brachy.output.report.setup_words import HEAD, LEVEL_DEG, Lie, Pointing
from brachy.patient.plan import Plan, PlanNeedle

Float = NDArray[np.float64]

STEP_MM = 2.0
"""Distance of the lines on which the outline's top and bottom are found (engineering choice)."""

MARGIN_MM = 12.0
ARC_MM = 55.0
"""Space round a drawing; radius of a protractor in it (engineering choice)."""


@dataclass(frozen=True)
class Drawing:
    """A line drawing in mm: (class, path) of its lines and (class, x, y, text) of its words."""

    title: str
    width: float
    height: float
    lines: tuple[tuple[str, str], ...]
    words: tuple[tuple[str, float, float, str], ...]


@dataclass(frozen=True, eq=False)
class Outline:
    """Top and bottom of a structure over a lattice of horizontal places.

    `aside` (n,) and `along` (m,) are the places to the side and toward the head; `top` and `bottom` (m, n) the heights
    straight down, NaN where the structure is not.
    """

    lie: Lie
    structure: Structure
    aside: Float
    along: Float
    top: Float
    bottom: Float

    @staticmethod
    def of(structure: Structure, lie: Lie) -> "Outline":
        """Of a structure, on lines `STEP_MM` apart."""
        low, high = structure.bounds_mm
        ends = np.sort([low @ lie.aside, high @ lie.aside])
        aside = np.arange(ends[0], ends[1] + STEP_MM, STEP_MM)
        along = np.arange(low[2] + 0.01, high[2], STEP_MM)
        top, bottom = _heights(structure, lie, aside, along)
        return Outline(lie, structure, aside, along, top, bottom)

    def at(self, z_mm: float) -> "Outline":
        """The one axial section at a height toward the head."""
        along = np.array([z_mm])
        return Outline(
            self.lie,
            self.structure,
            self.aside,
            along,
            *_heights(self.structure, self.lie, self.aside, along),
        )


def _heights(structure: Structure, lie: Lie, aside: Float, along: Float) -> tuple[Float, Float]:
    points = (aside[None, :, None] * lie.aside + along[:, None, None] * HEAD).reshape(-1, 3)
    pieces = structure.intervals_on_lines(points, lie.down)
    top = np.array([piece[0, 0] if len(piece) else np.nan for piece in pieces])
    bottom = np.array([piece[-1, 1] if len(piece) else np.nan for piece in pieces])
    return top.reshape(len(along), len(aside)), bottom.reshape(len(along), len(aside))


class Drawings:
    """The two drawings of a set-up."""

    def __init__(
        self,
        plan: Plan,
        layout: TemplateLayout,
        needles: Sequence[PlanNeedle],
        chosen: PlanNeedle,
        outline: Outline,
        target: Structure | None,
        where: Pointing,
    ) -> None:
        self.lie, self.layout, self.where, self.outline, self.target = (
            outline.lie, layout, where, outline, target,
        )  # fmt: skip
        self.needles, self.chosen = needles, chosen
        self.couch = plan.access.couch_top_mm if plan.access is not None else None
        self.reach = plan.protocol.needle.max_needle_mm

    def section(self) -> Drawing:
        """The axial section through the mark, from the feet."""
        lie, skin = self.lie, np.array(self.chosen.skin_mm)
        sheet = _Sheet(lie.aside, lie.down)
        z = float(skin @ HEAD)
        body = self.outline.at(z)
        sheet.polygon("body", _envelope(body.aside, body.top[0], body.bottom[0]))
        if self.target is not None and not self.target.is_empty:
            low, high = self.target.bounds_mm[:, 2]
            own = Outline.of(self.target, lie).at(float(np.clip(z, low + 0.01, high - 0.01)))
            sheet.polygon("target", _envelope(own.aside, own.top[0], own.bottom[0]))
        near = [n for n in self.needles if abs(n.skin_mm[2] - z) <= 0.5 * self.layout.spacing_mm]
        self._needles(sheet, near)
        _, y = self.layout.place(self.chosen.hole)
        half = 0.5 * self.layout.spacing_mm
        first, last = self.layout.extent
        ends = [self.layout.on_plate_mm(x, y) for x in (float(first[0]) - half, float(last[0]) + half)]
        sheet.line("plate", ends)
        self._couch(sheet, body.aside)
        low, high = sheet.span()
        at = sheet.place(skin)
        sheet.segment("laser", (low[0], at[1]), (high[0], at[1]))
        sheet.segment("laser", (at[0], low[1]), (at[0], high[1]))
        self._protractor(sheet, skin, self.where.toward, abs(self.where.above_deg))
        sides = [(low[0], -lie.aside), (high[0], lie.aside)]
        for (x, side), anchor in zip(sides, ("start", "end"), strict=True):
            sheet.word(f"side {anchor}", x, low[1], towards(side))
        return sheet.drawing("Section through the mark, seen from the feet")

    def from_side(self) -> Drawing:
        """The patient from where the operator stands."""
        lie, skin = self.lie, np.array(self.chosen.skin_mm)
        right = np.cross(self.where.toward, lie.down)
        sheet = _Sheet(right, lie.down)
        sense = float(right @ HEAD)
        for name, shape in (("body", self.outline), ("target", self._own())):
            if shape is not None:
                top, bottom = _extreme(np.nanmin, shape.top), _extreme(np.nanmax, shape.bottom)
                sheet.polygon(name, _envelope(sense * shape.along, top, bottom))
        self._couch(sheet, sense * self.outline.along)
        half = 0.5 * self.layout.spacing_mm
        first, last = self.layout.extent
        (x0, y0), (x1, y1) = (first - half).tolist(), (last + half).tolist()
        round_it = ((x0, y0), (x1, y0), (x1, y1), (x0, y1))
        corners = [self.layout.on_plate_mm(x, y) for x, y in round_it]
        sheet.line("plate", [*corners, corners[0]])
        for needle in self.needles:
            sheet.dot("hole", np.array(needle.hole_mm), 1.3)
        sheet.line("needle", [np.array(self.chosen.skin_mm), np.array(self.chosen.tip_mm)])
        sheet.dot("mark", skin, 2.5)
        low, high = sheet.span()
        at = sheet.place(skin)
        sheet.segment("laser", (at[0], low[1]), (at[0], high[1]))
        for x, side, anchor in ((low[0], -right, "start"), (high[0], right, "end")):
            sheet.word(f"side {anchor}", x, low[1], towards(side))
        return sheet.drawing(f"From the patient's {self.where.side}, where the operator stands")

    def _own(self) -> Outline | None:
        empty = self.target is None or self.target.is_empty
        return None if empty or self.target is None else Outline.of(self.target, self.lie)

    def _needles(self, sheet: "_Sheet", needles: Sequence[PlanNeedle]) -> None:
        for needle in needles:
            tip, direction = np.array(needle.tip_mm), np.array(needle.direction)
            sheet.line("needle", [tip - self.reach * direction, tip])

    def _couch(self, sheet: "_Sheet", across: Float) -> None:
        if self.couch is not None:
            low, high = float(across.min()) - MARGIN_MM, float(across.max()) + MARGIN_MM
            sheet.segment("couch", (low, self.couch), (high, self.couch))
            sheet.word("side end", high, self.couch + 5.0, "couch")

    def _protractor(self, sheet: "_Sheet", skin: Float, toward: Float, angle_deg: float) -> None:
        """The horizontal through the mark, and the angle from it to the needle."""
        start = sheet.place(skin)
        out = -np.array(self.chosen.direction)
        flat = np.array([out @ sheet.right, out @ sheet.down])
        if np.linalg.norm(flat) < 1e-6 or angle_deg < LEVEL_DEG:
            return
        flat /= np.linalg.norm(flat)
        level = np.array([toward @ sheet.right, 0.0])
        sheet.segment("level", start, tuple(start + 1.15 * ARC_MM * level))
        turns = np.linspace(0.0, 1.0, 25)
        begin, end = 0.0, float(np.arctan2(abs(flat[1]), abs(flat[0])))
        arc = [
            start + ARC_MM * np.array([np.cos(a) * level[0], np.sin(a) * np.sign(flat[1])])
            for a in begin + turns * (end - begin)
        ]
        sheet.path("arc", arc)
        half = 0.5 * end
        place = start + 1.4 * ARC_MM * np.array([np.cos(half) * level[0], np.sin(half) * np.sign(flat[1])])
        sheet.word("angle", float(place[0]), float(place[1]), f"{angle_deg:.0f}°")


class _Sheet:
    """Collects lines and words in mm to the right and down."""

    def __init__(self, right: Float, down: Float) -> None:
        self.right, self.down = right, down
        self.paths: list[tuple[str, Float, bool]] = []
        self.words: list[tuple[str, float, float, str]] = []

    def place(self, point: Float) -> Float:
        return np.array([point @ self.right, point @ self.down])

    def path(self, kind: str, places: Sequence[Float], closed: bool = False) -> None:
        if len(places) > 1:
            self.paths.append((kind, np.array(places, dtype=np.float64), closed))

    def polygon(self, kind: str, places: Float) -> None:
        self.path(kind, list(places), True)

    def line(self, kind: str, points: Sequence[Float]) -> None:
        self.path(kind, [self.place(point) for point in points])

    def segment(self, kind: str, start: Sequence[float] | Float, end: Sequence[float] | Float) -> None:
        self.path(kind, [np.asarray(start, dtype=np.float64), np.asarray(end, dtype=np.float64)])

    def dot(self, kind: str, point: Float, radius: float) -> None:
        turn = np.linspace(0.0, 2 * np.pi, 17)[:-1]
        ring = self.place(point) + radius * np.column_stack([np.cos(turn), np.sin(turn)])
        self.polygon(kind, ring)

    def word(self, kind: str, x: float, y: float, text: str) -> None:
        self.words.append((kind, x, y, text))

    def span(self) -> tuple[Float, Float]:
        every = np.concatenate([places for _, places, _ in self.paths])
        return every.min(axis=0), every.max(axis=0)

    def drawing(self, title: str) -> Drawing:
        low, high = self.span()
        low, high = low - MARGIN_MM, high + MARGIN_MM

        def short(place: Float) -> str:
            return f"{place[0] - low[0]:.1f} {place[1] - low[1]:.1f}"

        lines = tuple(
            (kind, "M" + "L".join(map(short, places)) + ("Z" if closed else ""))
            for kind, places, closed in self.paths
        )
        words = tuple(
            (kind, round(x - float(low[0]), 1), round(y - float(low[1]), 1), text)
            for kind, x, y, text in self.words
        )
        width, height = (high - low).round(1).tolist()
        return Drawing(title, width, height, lines, words)


def _envelope(across: Float, top: Float, bottom: Float) -> Float:
    """Polygon (n, 2) between top and bottom where both are."""
    there = np.isfinite(top)
    upper = np.column_stack([across[there], top[there]])
    lower = np.column_stack([across[there], bottom[there]])[::-1]
    found: Float = np.concatenate([upper, lower])
    return found


def _extreme(of: Callable[..., Any], heights: Float) -> Float:
    """Least or greatest height of each row; NaN where the row has none."""
    there = np.isfinite(heights).any(axis=1)
    found = np.full(len(heights), np.nan)
    if there.any():
        found[there] = of(heights[there], axis=1)
    return found
