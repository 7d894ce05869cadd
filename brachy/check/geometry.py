"""Geometry of the independent check, from the RT Plan and the contours of the RT Structure Set only.

It is written in plain NumPy and shares no kernel with the planner: needles are rebuilt from the control points,
structures are stacks of axial slabs (half the gap to each neighbour, even-odd rule), distances are measured at samples.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pydicom
from matplotlib.path import Path as Polygon
from numpy.typing import NDArray
from scipy import ndimage

Float = NDArray[np.float64]

STEP_MM = 0.5
"""Distance of the samples on a needle (engineering choice)."""
COARSE_MM = 0.1
"""Step of the search for a target's ends on an axis, which is then refined a hundredfold (engineering choice)."""
SLIVER_MM = 0.5
"""Pieces of an axis inside a target that are shorter than this do not count if there are longer ones (as in the
planner)."""
SAMPLES = 3000
"""Points of a Halton sequence in a structure's box (engineering choice)."""
SQUARE_MM = 2.0
"""Squares on which the way out of a hole is looked for (engineering choice)."""
REACH_MM = 25.0
"""Greatest distance that is computed; no rule has a limit near it (engineering choice)."""


@dataclass(frozen=True, eq=False)
class WrittenNeedle:
    """A needle of the RT Plan: ends (3,) and seed centres (k, 3), LPS, mm; unit direction from hole to tip."""

    name: str
    hole: Float
    tip: Float
    direction: Float
    seeds: Float

    @property
    def path(self) -> Float:
        """Samples (n, 3) of the axis from hole to tip."""
        length = float(np.linalg.norm(self.tip - self.hole))
        depths = np.linspace(0.0, length, int(np.ceil(length / STEP_MM)) + 1)
        return np.asarray(self.hole + depths[:, None] * self.direction, dtype=np.float64)


def written_needles(rtplan: pydicom.Dataset) -> list[WrittenNeedle]:
    """Needles of an RT Plan: the tip follows from a seed's relative position, the hole from the applicator's length.

    A setup without orientations or applicator lengths has no needles.
    """
    found = []
    for setup in rtplan.ApplicationSetupSequence:
        groups: dict[str, list[pydicom.Dataset]] = {}
        for channel in setup.ChannelSequence:
            groups.setdefault(str(channel.SourceApplicatorID), []).append(channel)
        for name, channels in groups.items():
            points = [channel.BrachyControlPointSequence[0] for channel in channels]
            if "ControlPointOrientation" not in points[0] or not channels[0].get("SourceApplicatorLength"):
                continue
            direction = np.array(points[0].ControlPointOrientation, dtype=np.float64)
            direction /= np.linalg.norm(direction)
            seeds = np.array([point.ControlPoint3DPosition for point in points], dtype=np.float64)
            tip = seeds[0] + float(points[0].ControlPointRelativePosition) * direction
            hole = tip - float(channels[0].SourceApplicatorLength) * direction
            label = f"{setup.ApplicationSetupNumber}:{name}"
            found.append(WrittenNeedle(label, hole, tip, direction, seeds))
    return found


@dataclass(frozen=True, eq=False)
class Stack:
    """A structure as axial slabs (bottom, top, polygons), in order from the lowest."""

    slabs: tuple[tuple[float, float, tuple[Float, ...]], ...]

    @staticmethod
    def of(contours: Sequence[Float]) -> "Stack | None":
        """Slabs from contours (n, 3), mm; None if they are not axial."""
        if any(np.ptp(contour[:, 2]) > 1e-3 for contour in contours):
            return None
        planes: dict[float, list[Float]] = {}
        for contour in contours:
            planes.setdefault(round(float(contour[0, 2]), 3), []).append(contour[:, :2])
        heights = np.array(sorted(planes))
        gaps = np.diff(heights)
        ends = 0.5 * (float(np.median(gaps)) if len(gaps) else 1.0)
        edges = [heights[0] - ends, *(heights[:-1] + 0.5 * gaps), heights[-1] + ends]
        return Stack(
            tuple(
                (float(low), float(high), tuple(planes[z]))
                for low, high, z in zip(edges[:-1], edges[1:], heights.tolist(), strict=True)
            )
        )

    @cached_property
    def box(self) -> Float:
        """Lowest and highest corner (2, 3)."""
        every = np.concatenate([polygon for _, _, polygons in self.slabs for polygon in polygons])
        low, high = every.min(axis=0), every.max(axis=0)
        return np.array([[*low, self.slabs[0][0]], [*high, self.slabs[-1][1]]])

    def is_beyond(self, points: Float, reach: float) -> bool:
        """Whether the boxes of points (n, 3) and structure are farther apart than `reach`, so that every point is."""
        gap = np.maximum(self.box[0] - points.max(axis=0), points.min(axis=0) - self.box[1])
        return bool(np.linalg.norm(np.maximum(gap, 0.0)) > reach)

    def contains(self, points: Float) -> NDArray[np.bool_]:
        """Whether each point (n, 3) lies inside."""
        inside = np.zeros(len(points), dtype=bool)
        for low, high, polygons in self.slabs:
            here = np.flatnonzero((points[:, 2] >= low) & (points[:, 2] < high))
            inside[here] = _parity(points[here, :2], polygons)
        return inside

    def distance(self, points: Float, reach: float = REACH_MM) -> Float:
        """Distance (n,) in mm of points to the structure, 0 inside; `reach` if it is larger."""
        return self._nearest(points, reach, inner=True)

    def depth(self, points: Float, reach: float = REACH_MM) -> Float:
        """Distance (n,) in mm of points inside to the surface, 0 for points outside; at most `reach`."""
        found = self._nearest(points, reach, inner=False)
        beyond = np.minimum(np.abs(points[:, 2] - self.slabs[0][0]), np.abs(points[:, 2] - self.slabs[-1][1]))
        return np.where(self.contains(points), np.minimum(found, beyond), 0.0)

    def _nearest(self, points: Float, reach: float, *, inner: bool) -> Float:
        """Distance (n,) to the inside of the structure, or with `inner` False to the parts of its slabs outside it."""
        best = np.full(len(points), reach)
        for low, high, polygons in self.slabs:
            away = np.maximum(np.maximum(low - points[:, 2], points[:, 2] - high), 0.0)
            box = np.concatenate(polygons)
            near = away < best
            if inner:
                off = np.maximum(
                    np.maximum(box.min(axis=0) - points[:, :2], points[:, :2] - box.max(axis=0)), 0.0
                )
                near &= np.hypot(off[:, 0], off[:, 1]) < best
            here = np.flatnonzero(near)
            if not len(here):
                continue
            flat = np.where(
                _parity(points[here, :2], polygons) == inner, 0.0, _to_edges(points[here, :2], polygons)
            )
            best[here] = np.minimum(best[here], np.hypot(flat, away[here]))
        return best

    def sample(self) -> Float:
        """Points (n, 3) spread over the solid, `SAMPLES` of them before those outside are dropped."""
        every = np.concatenate([polygon for _, _, polygons in self.slabs for polygon in polygons])
        low = [*every.min(axis=0), self.slabs[0][0]]
        high = [*every.max(axis=0), self.slabs[-1][1]]
        points = low + (np.array(high) - low) * halton(SAMPLES)
        return np.asarray(points[self.contains(points)], dtype=np.float64)

    def encloses(self, points: Float) -> NDArray[np.bool_]:
        """Which points (n, 3) lie inside or in a hole: on their slab there is no way outside round the contours."""
        inside = np.zeros(len(points), dtype=bool)
        for low, high, polygons in self.slabs:
            here = np.flatnonzero((points[:, 2] >= low) & (points[:, 2] < high))
            if len(here):
                inside[here] = _enclosed(points[here, :2], polygons)
        return inside


def halton(count: int, first: int = 0) -> Float:
    """Points (count, 3) of the Halton sequence in the unit cube, from number `first` on.

    Coordinate k of point n is the radical inverse of n + 1 in base 2, 3, 5: its digits mirrored at the point. Halton,
    Numer. Math. 2, 84 (1960), doi:10.1007/BF01386213. Written here because the library's would load all its statistics.

    Examples
    --------
    >>> halton(3).round(3).tolist()
    [[0.5, 0.333, 0.2], [0.25, 0.667, 0.4], [0.75, 0.111, 0.6]]
    """
    points = np.zeros((count, 3))
    for k, base in enumerate((2, 3, 5)):
        rest, weight = np.arange(first + 1, first + count + 1), 1.0
        while rest.any():
            weight /= base
            points[:, k] += weight * (rest % base)
            rest //= base
    return points


def _enclosed(points: Float, polygons: Sequence[Float]) -> NDArray[np.bool_]:
    """Which points (n, 2) cannot be reached from outside the box of the polygons, on squares of `SQUARE_MM`."""
    every = np.concatenate(polygons)
    corner = every.min(axis=0) - 1.5 * SQUARE_MM
    counts = np.ceil((every.max(axis=0) - corner) / SQUARE_MM).astype(int) + 2
    x, y = np.meshgrid(*(corner[k] + SQUARE_MM * np.arange(counts[k]) for k in (0, 1)), indexing="ij")
    solid = _parity(np.column_stack([x.ravel(), y.ravel()]), polygons).reshape(x.shape)
    parts, _ = ndimage.label(~solid)
    outside = parts == parts[0, 0]
    squares = np.rint((points - corner) / SQUARE_MM).astype(int)
    known = ((squares >= 0) & (squares < counts)).all(axis=1)
    found = np.zeros(len(points), dtype=bool)
    found[known] = ~outside[tuple(squares[known].T)]
    return found


def _parity(points: Float, polygons: Sequence[Float]) -> NDArray[np.bool_]:
    """Whether points (n, 2) lie inside the polygons by the even-odd rule."""
    inside = np.zeros(len(points), dtype=bool)
    for polygon in polygons:
        inside ^= Polygon(polygon).contains_points(points)
    return inside


def _to_edges(points: Float, polygons: Sequence[Float]) -> Float:
    """Distance (n,) of points (n, 2) to the nearest edge of any polygon."""
    best = np.full(len(points), np.inf)
    for polygon in polygons:
        start, along = polygon, np.roll(polygon, -1, axis=0) - polygon
        squared = np.maximum((along**2).sum(axis=1), 1e-18)
        for part in np.array_split(np.arange(len(points)), max(1, len(points) * len(polygon) // 500_000)):
            way = points[part, None, :] - start[None]
            t = np.clip((way * along).sum(axis=2) / squared, 0.0, 1.0)
            gap = way - t[..., None] * along
            best[part] = np.minimum(best[part], np.sqrt((gap**2).sum(axis=2)).min(axis=1))
    return best


def clearance(
    needles: Sequence[WrittenNeedle], stacks: Mapping[str, Stack], radius_mm: float
) -> tuple[float, str]:
    """Least distance in mm of a needle's surface to a structure, and where; inf if it is beyond `REACH_MM`."""
    best, where = np.inf, ""
    for needle in needles:
        path = needle.path
        for name, stack in stacks.items():
            # what is farther than the nearest so far need not be measured
            reach = min(REACH_MM, best + radius_mm)
            if stack.is_beyond(path, reach):
                continue
            gap = float(stack.distance(path, reach).min())
            if gap < reach:
                best, where = gap - radius_mm, f"needle {needle.name}, {name}"
    return best, where


def skin_depth(needles: Sequence[WrittenNeedle], external: Stack) -> tuple[float, str]:
    """Least depth in mm of a seed centre below the skin, and where; inf if it is beyond `REACH_MM`."""
    best, where = np.inf, ""
    for needle in needles:
        depths = external.depth(needle.seeds)
        k = int(depths.argmin())
        if depths[k] < min(best, REACH_MM):
            best, where = float(depths[k]), f"needle {needle.name}"
    return best, where


def ends_in_target(needles: Sequence[WrittenNeedle], target: Stack) -> tuple[float, float]:
    """Least distances in mm along a needle: deepest seed to the target's last exit, first entry to shallowest seed."""
    distal, proximal = np.inf, np.inf
    for needle in needles:
        length = float(np.linalg.norm(needle.tip - needle.hole)) + 200.0
        depths = np.arange(0.0, length, COARSE_MM)
        inside = depths[_crossed(needle, depths, target)]
        if not len(inside):
            return -np.inf, -np.inf
        fine = np.linspace(0.0, COARSE_MM, 101)
        pieces = []
        for run in np.split(inside, np.flatnonzero(np.diff(inside) > 1.5 * COARSE_MM) + 1):
            first, last = run[0] - fine, run[-1] + fine
            pieces.append(
                (first[_crossed(needle, first, target)].min(), last[_crossed(needle, last, target)].max())
            )
        wide = [piece for piece in pieces if piece[1] - piece[0] >= SLIVER_MM] or pieces
        at = (needle.seeds - needle.hole) @ needle.direction
        distal = min(distal, float(wide[-1][1] - at.max()))
        proximal = min(proximal, float(at.min() - wide[0][0]))
    return distal, proximal


def _crossed(needle: WrittenNeedle, depths: Float, target: Stack) -> NDArray[np.bool_]:
    """Whether the points of a needle's axis at these depths lie in the target."""
    return target.contains(needle.hole + depths[:, None] * needle.direction)


def needle_spacing(needles: Sequence[WrittenNeedle], begun: Collection[str] = ()) -> float:
    """Least distance in mm of the axes of two needles, not both of them inserted (`begun`); inf if there are none."""
    best = np.inf
    for k, one in enumerate(needles):
        for other in needles[:k]:
            if one.name in begun and other.name in begun:
                continue
            way = one.path - other.hole
            length = float(np.linalg.norm(other.tip - other.hole))
            along = np.clip(way @ other.direction, 0.0, length)
            best = min(best, float(np.linalg.norm(way - along[:, None] * other.direction, axis=1).min()))
    return best


def seed_spacing(needles: Sequence[WrittenNeedle], placed: NDArray[np.bool_] | None = None) -> float:
    """Least distance in mm of two seed centres, not both of them placed; inf if there are none.

    `placed` (n,) is whether each seed, in the order of the needles, is in the patient already.
    """
    seeds = np.concatenate([needle.seeds for needle in needles])
    gaps = np.linalg.norm(seeds[:, None] - seeds[None], axis=2)
    if placed is not None:
        gaps[placed[:, None] & placed] = np.inf
    return float(gaps[np.triu_indices(len(seeds), 1)].min(initial=np.inf))
