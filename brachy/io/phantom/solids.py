"""Solids of the digital phantoms: exact outlines at a height, points inside, and the share of each voxel.

All lengths are in mm in the patient frame (LPS: x to the patient's left, y to the back, z to the head). The vertices of
an outline lie on the solid's surface; the straight lines between them deviate from it by at most `SAGITTA_MM`.
"""

import math
from abc import abstractmethod
from collections.abc import Sequence
from functools import cached_property
from itertools import pairwise, product
from typing import Annotated, Any, Literal

import contourpy
import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, model_validator
from scipy.spatial import cKDTree

from brachy.errors import UsageError
from brachy.geometry.grid import Grid

Float = NDArray[np.float64]
Bool = NDArray[np.bool_]

# No coordinate of a patient exceeds two metres, no size is below a hundredth of a millimetre (engineering choice).
Number = Annotated[float, Field(ge=-2000, le=2000, allow_inf_nan=False)]
Length = Annotated[float, Field(ge=0.01, le=2000, allow_inf_nan=False)]
Radius = Annotated[float, Field(ge=0.1, le=100, allow_inf_nan=False)]
Pair = tuple[Number, Number]
Triple = tuple[Number, Number, Number]

SAGITTA_MM = 0.02
"""Greatest distance of an outline's straight lines from a curved surface (engineering choice)."""

STEP_MM = 0.5
"""A tube's centre line is divided into pieces no longer than this (engineering choice)."""

RIM_MM = 1.0
"""Distances to a tube are computed this far beyond its surface (engineering choice)."""

LONGEST_MM = 20_000.0
MOST_NODES = 4_000_000
"""Greatest length of a tube's centre line, and of the lattice on which its outline is found (engineering choices)."""

SAMPLES_AT_ONCE = 4_000_000
"""Samples of mixed voxels that are held in memory at once (engineering choice)."""

CELL_MM = 6.0
"""Size of the coarse cells that exclude points far from a tube quickly (engineering choice)."""


class _Solid(BaseModel):
    """A solid with bounds, a test whether points are inside, and outlines at a height."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    @property
    @abstractmethod
    def bounds_mm(self) -> Float:
        """Lowest and highest corner, (2, 3)."""

    @abstractmethod
    def contains(self, x: Float, y: Float, z: Float) -> Bool:
        """Whether points lie inside; coordinates in mm that broadcast together."""

    @abstractmethod
    def section(self, z_mm: float) -> list[Float]:
        """Outlines (n, 2; x, y) at a height; an outline inside another is a hole."""

    def sections(self, heights_mm: Sequence[float]) -> list[list[Float]]:
        """`section` at each of many heights."""
        return [self.section(height) for height in heights_mm]


def _ellipse(semi_axes_mm: tuple[float, float]) -> Float:
    """Points (n, 2) of the unit circle, dense enough for an ellipse with these semi-axes."""
    # a chord of the circle has the sagitta 1 - cos(pi / n), scaled by at most the longer semi-axis
    count = max(12, math.ceil(math.pi / math.sqrt(2.0 * SAGITTA_MM / max(semi_axes_mm))))
    angle = 2.0 * np.pi * np.arange(count) / count
    return np.column_stack([np.cos(angle), np.sin(angle)])


def _turn(degrees: float) -> Float:
    """Rotation matrix (2, 2) about the z axis, from x towards y."""
    c, s = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    return np.array([[c, -s], [s, c]])


class Ellipsoid(_Solid):
    """An ellipsoid of any orientation.

    Examples
    --------
    >>> ball = Ellipsoid(kind="ellipsoid", centre_mm=(0, 0, 0), semi_axes_mm=(10, 10, 10))
    >>> outline = ball.section(6.0)[0]
    >>> bool(abs((outline**2).sum(axis=1) - 64).max() < 1e-9), ball.section(10.5)
    (True, [])
    """

    kind: Literal["ellipsoid"]
    centre_mm: Triple
    semi_axes_mm: tuple[Length, Length, Length] = Field(description="before it is turned: along x, y, z")
    turn_deg: Triple = Field((0.0, 0.0, 0.0), description="turns about x, then y, then z, degrees")

    @cached_property
    def _form(self) -> Float:
        """Matrix M (3, 3) of the surface p^T M p = 1, with p relative to the centre."""
        rotation = np.eye(3)
        for axis, degrees in enumerate(self.turn_deg):
            one = np.eye(3)
            rest = [(1, 2), (2, 0), (0, 1)][axis]
            one[np.ix_(rest, rest)] = _turn(degrees)
            rotation = one @ rotation
        return rotation @ np.diag(1.0 / np.square(self.semi_axes_mm)) @ rotation.T

    @property
    def bounds_mm(self) -> Float:
        """Lowest and highest corner, (2, 3)."""
        half = np.sqrt(np.diag(np.linalg.inv(self._form)))
        return np.array([self.centre_mm - half, self.centre_mm + half])

    def contains(self, x: Float, y: Float, z: Float) -> Bool:
        """Whether points lie inside; coordinates in mm that broadcast together."""
        x, y, z = x - self.centre_mm[0], y - self.centre_mm[1], z - self.centre_mm[2]
        m = self._form
        level = m[0, 0] * x**2 + m[1, 1] * y**2 + m[2, 2] * z**2
        inside: Bool = level + 2.0 * (m[0, 1] * x * y + m[0, 2] * x * z + m[1, 2] * y * z) <= 1.0
        return inside

    def section(self, z_mm: float) -> list[Float]:
        """Ellipse at a height, or none."""
        flat, mixed = self._form[:2, :2], self._form[:2, 2]
        inverse, height = np.linalg.inv(flat), z_mm - self.centre_mm[2]
        middle = -inverse @ mixed * height
        left = 1.0 - height**2 * (self._form[2, 2] - mixed @ inverse @ mixed)
        if left <= 1e-9:
            return []
        values, vectors = np.linalg.eigh(flat)
        semi = np.sqrt(left / values)
        points = _ellipse((float(semi[0]), float(semi[1]))) * semi
        return [points @ vectors.T + middle + np.asarray(self.centre_mm[:2])]


class EllipticCylinder(_Solid):
    """An elliptic cylinder along z, solid or hollow.

    Examples
    --------
    >>> size = {"centre_mm": (0, 0), "semi_axes_mm": (20, 10), "z_mm": (-5, 5)}
    >>> skin = EllipticCylinder(kind="elliptic_cylinder", wall_mm=2, **size)
    >>> len(skin.section(0.0)), skin.contains(np.array([19.0, 0.0]), 0.0, 0.0).tolist()
    (2, [True, False])
    """

    kind: Literal["elliptic_cylinder"]
    centre_mm: Pair = Field(description="x, y of its axis")
    semi_axes_mm: tuple[Length, Length] = Field(description="before it is turned: along x, y")
    z_mm: Pair = Field(description="from, to")
    turn_deg: Number = Field(0.0, description="turn about z, degrees")
    wall_mm: Length | None = Field(None, description="hollow, with semi-axes smaller by this; None: solid")

    @model_validator(mode="after")
    def _possible(self) -> "EllipticCylinder":
        if self.z_mm[0] >= self.z_mm[1]:
            raise ValueError("z_mm must rise")
        if self.wall_mm is not None and self.wall_mm >= min(self.semi_axes_mm):
            raise ValueError("wall_mm must be smaller than the semi-axes")
        return self

    @cached_property
    def _walls(self) -> list[Float]:
        """Semi-axes of the outer surface and, if it is hollow, of the inner one."""
        outer = np.asarray(self.semi_axes_mm)
        return [outer] if self.wall_mm is None else [outer, outer - self.wall_mm]

    @property
    def bounds_mm(self) -> Float:
        """Lowest and highest corner, (2, 3)."""
        half = np.sqrt(np.square(_turn(self.turn_deg)) @ np.square(self.semi_axes_mm))
        centre = np.asarray(self.centre_mm)
        return np.array([[*(centre - half), self.z_mm[0]], [*(centre + half), self.z_mm[1]]])

    def contains(self, x: Float, y: Float, z: Float) -> Bool:
        """Whether points lie inside; coordinates in mm that broadcast together."""
        x, y = x - self.centre_mm[0], y - self.centre_mm[1]
        (c, _), (d, _) = _turn(self.turn_deg)
        u, v = c * x + d * y, c * y - d * x
        inside: Bool = (z >= self.z_mm[0]) & (z <= self.z_mm[1])
        for wall, (a, b) in enumerate(self._walls):
            inside = inside & (((u / a) ** 2 + (v / b) ** 2 <= 1.0) == (wall == 0))
        return inside

    def section(self, z_mm: float) -> list[Float]:
        """Ellipse at a height; two if it is hollow."""
        if not self.z_mm[0] <= z_mm <= self.z_mm[1]:
            return []
        around = _ellipse(self.semi_axes_mm)
        return [(around * semi) @ _turn(self.turn_deg).T + np.asarray(self.centre_mm) for semi in self._walls]


class Box(_Solid):
    """A box along the axes.

    Examples
    --------
    >>> Box(kind="box", low_mm=(0, 0, 0), high_mm=(2, 3, 4)).section(1.0)[0].tolist()
    [[0.0, 0.0], [2.0, 0.0], [2.0, 3.0], [0.0, 3.0]]
    """

    kind: Literal["box"]
    low_mm: Triple
    high_mm: Triple

    @model_validator(mode="after")
    def _possible(self) -> "Box":
        if any(low >= high for low, high in zip(self.low_mm, self.high_mm, strict=True)):
            raise ValueError("high_mm must lie above low_mm on each axis")
        return self

    @property
    def bounds_mm(self) -> Float:
        """Lowest and highest corner, (2, 3)."""
        return np.array([self.low_mm, self.high_mm], dtype=np.float64)

    def contains(self, x: Float, y: Float, z: Float) -> Bool:
        """Whether points lie inside; coordinates in mm that broadcast together."""
        inside = np.ones((), dtype=bool)
        for at, low, high in zip((x, y, z), self.low_mm, self.high_mm, strict=True):
            inside = inside & (at >= low) & (at <= high)
        return np.asarray(inside)

    def section(self, z_mm: float) -> list[Float]:
        """Rectangle at a height, or none."""
        (x0, y0, z0), (x1, y1, z1) = self.bounds_mm
        return [np.array([[x0, y0], [x1, y0], [x1, y1], [x0, y1]])] if z0 <= z_mm <= z1 else []


class _Swept(_Solid):
    """All points within a radius of a centre line, so its ends are hemispheres."""

    radius_mm: Radius

    @abstractmethod
    def _line(self) -> Float:
        """Corners (n, 3) of the centre line."""

    @cached_property
    def _centres(self) -> Float:
        """Points (n, 3) of the centre line, at most `STEP_MM` apart."""
        corners = self._line()
        pieces = [corners[:1]]
        for start, end in pairwise(corners):
            steps = max(1, math.ceil(float(np.linalg.norm(end - start)) / STEP_MM))
            pieces.append(start + (end - start) * (np.arange(1, steps + 1) / steps)[:, None])
        return np.concatenate(pieces)

    @cached_property
    def _tree(self) -> Any:
        return cKDTree(self._centres)

    @cached_property
    def _cells(self) -> tuple[Float, Bool]:
        """First corner of a coarse lattice with cells of `CELL_MM`, and which cells the tube and its rim may reach."""
        reach = self.radius_mm + RIM_MM + STEP_MM
        low = self._centres.min(axis=0) - reach
        count = np.floor((self._centres.max(axis=0) + reach - low) / CELL_MM).astype(int) + 1
        cells = np.zeros(count, dtype=bool)
        for centre in self._centres:
            first = ((centre - reach - low) / CELL_MM).astype(int)
            end = ((centre + reach - low) / CELL_MM).astype(int) + 1
            cells[first[0] : end[0], first[1] : end[1], first[2] : end[2]] = True
        return low, cells

    def distance(self, x: Float, y: Float, z: Float) -> Float:
        """Distance in mm to the centre line of points whose coordinates broadcast; inf beyond the rim."""
        low, cells = self._cells
        near: Bool = np.ones((), dtype=bool)
        places = []
        for axis, at in enumerate((x, y, z)):
            place = np.floor((at - low[axis]) / CELL_MM).astype(np.int64)
            near = near & (place >= 0) & (place < cells.shape[axis])
            places.append(np.clip(place, 0, cells.shape[axis] - 1))
        near = near & cells[tuple(places)]
        distance = np.full(near.shape, np.inf)
        points = np.column_stack([np.broadcast_to(at, near.shape)[near] for at in (x, y, z)])
        distance[near] = self.nearest(points)[0]
        return distance

    def nearest(self, points_mm: Float) -> tuple[Float, Float]:
        """Distance (n,) to the centre line, inf beyond the rim, and its nearest point (n, 3)."""
        distance, index = self._tree.query(points_mm, distance_upper_bound=self.radius_mm + RIM_MM + STEP_MM)
        distance, foot = np.array(distance), np.zeros((len(points_mm), 3))
        found = np.flatnonzero(np.isfinite(distance))
        p, i = points_mm[found], index[found]
        foot[found] = self._centres[i]
        for first in (
            np.maximum(i - 1, 0),
            np.minimum(i, len(self._centres) - 2),
        ):  # the pieces before and after
            start, along = self._centres[first], self._centres[first + 1] - self._centres[first]
            share = np.einsum("ni,ni->n", p - start, along) / np.einsum("ni,ni->n", along, along)
            q = start + np.clip(share, 0.0, 1.0)[:, None] * along
            d = np.linalg.norm(p - q, axis=1)
            better = d < distance[found]
            distance[found[better]], foot[found[better]] = d[better], q[better]
        return distance, foot

    @property
    def bounds_mm(self) -> Float:
        """Lowest and highest corner, (2, 3)."""
        return np.array(
            [self._centres.min(axis=0) - self.radius_mm, self._centres.max(axis=0) + self.radius_mm]
        )

    def contains(self, x: Float, y: Float, z: Float) -> Bool:
        """Whether points lie inside; coordinates in mm that broadcast together."""
        inside: Bool = self.distance(x, y, z) <= self.radius_mm
        return inside

    def section(self, z_mm: float) -> list[Float]:
        """Outlines at a height: level lines on a lattice, moved onto the surface by Newton's method."""
        return self.sections([z_mm])[0]

    def sections(self, heights_mm: Sequence[float]) -> list[list[Float]]:
        """Outlines at many heights: all their points are moved at once, which is much quicker than height by height."""
        lines = [self._level_lines(height) for height in heights_mm]
        flat = [line for at in lines for line in at]
        if not flat:
            return [[] for _ in lines]
        height = np.repeat(
            [h for h, at in zip(heights_mm, lines, strict=True) for _ in at], [len(line) for line in flat]
        )
        moved = np.split(
            self._on_surface(np.concatenate(flat), height), np.cumsum([len(line) for line in flat])[:-1]
        )
        rest = iter(moved)
        return [[outline for outline in (next(rest) for _ in at) if len(outline) >= 3] for at in lines]

    @property
    def _step(self) -> float:
        """Cell in mm: no edge of a level line is longer than the chord with the greatest sagitta allowed."""
        return math.sqrt(4.0 * SAGITTA_MM * self.radius_mm)

    def _on_surface(self, flat: Float, height: Float) -> Float:
        """Points (n, 2) near the outlines at their heights (n,), moved onto the surface in their plane."""
        for _ in range(6):
            distance, foot = self.nearest(np.column_stack([flat, height]))
            slope = (flat - foot[:, :2]) / distance[:, None]
            move = -(distance - self.radius_mm)[:, None] * slope / np.square(slope).sum(axis=1)[:, None]
            # where the plane only grazes the tube the slope is small: limited steps prevent overshooting
            flat = flat + np.clip(move, -0.5 * self._step, 0.5 * self._step)
        return flat

    def _level_lines(self, z_mm: float) -> list[Float]:
        """Outlines (n, 2) at a height as level lines on a lattice, not yet on the surface."""
        near = self._centres[np.abs(self._centres[:, 2] - z_mm) < self.radius_mm]
        if not len(near):
            return []
        rim = self.radius_mm + RIM_MM
        low, high = near[:, :2].min(axis=0) - rim, near[:, :2].max(axis=0) + rim
        step = self._step
        if np.prod((high - low) / step + 2) > MOST_NODES:
            raise UsageError(
                f"a tube of {self.radius_mm:g} mm radius is too long for its width: cut it in pieces"
            )
        x, y = (np.arange(low[k], high[k] + step, step) for k in (0, 1))
        level = np.minimum(self.distance(x[None, :], y[:, None], np.array(z_mm)), rim) - self.radius_mm
        lines = contourpy.contour_generator(x, y, level).lines(0.0)
        return [np.array(line[:-1], dtype=np.float64) for line in lines]


class Tube(_Swept):
    """A tube along a polyline: a vessel, a duct.

    Examples
    --------
    >>> vein = Tube(kind="tube", points_mm=[(0, 0, -9), (0, 0, 9)], radius_mm=4)
    >>> outline = vein.section(1.0)[0]
    >>> bool(abs(np.linalg.norm(outline, axis=1) - 4).max() < 1e-9)
    True
    """

    kind: Literal["tube"]
    points_mm: list[Triple] = Field(min_length=2)

    @model_validator(mode="after")
    def _possible(self) -> "Tube":
        if any(a == b for a, b in pairwise(self.points_mm)):
            raise ValueError("points_mm repeats a point")
        if sum(math.dist(a, b) for a, b in pairwise(self.points_mm)) > LONGEST_MM:
            raise ValueError(f"points_mm is longer than {LONGEST_MM / 1000:g} m")
        return self

    def _line(self) -> Float:
        return np.array(self.points_mm, dtype=np.float64)


class Arc(_Swept):
    """A rib: a tube along an elliptic arc around the trunk, whose height changes linearly with the angle.

    The angle is defined as a needle's azimuth: 0 in front, 90 at the patient's left, 180 at the back, 270 at the right.
    At the angle az the centre line is at centre + (a sin az, -b cos az).

    Examples
    --------
    >>> course = {"centre_mm": (0, 0), "semi_axes_mm": (150, 100), "azimuth_deg": (190, 300), "z_mm": (40, -20)}
    >>> rib = Arc(kind="arc", radius_mm=4, **course)
    >>> rib.bounds_mm.round(1).tolist()[0][0]
    -154.0
    """

    kind: Literal["arc"]
    centre_mm: Pair = Field(description="x, y of the ellipse")
    semi_axes_mm: tuple[Length, Length] = Field(description="of the centre line, along x, y")
    azimuth_deg: Pair = Field(description="from, to")
    z_mm: Pair = Field(description="height at the first and the last angle")

    @model_validator(mode="after")
    def _possible(self) -> "Arc":
        if not 0 < abs(self.azimuth_deg[1] - self.azimuth_deg[0]) <= 360:
            raise ValueError("azimuth_deg must go from one angle to another, by 360 at most")
        return self

    def _line(self) -> Float:
        first, last = self.azimuth_deg
        share = np.linspace(0.0, 1.0, max(2, math.ceil(abs(last - first)) + 1))  # about a degree each
        angle = np.radians(first + share * (last - first))
        x = self.centre_mm[0] + self.semi_axes_mm[0] * np.sin(angle)
        y = self.centre_mm[1] - self.semi_axes_mm[1] * np.cos(angle)
        return np.column_stack([x, y, self.z_mm[0] + share * (self.z_mm[1] - self.z_mm[0])])


Shape = Annotated[Ellipsoid | EllipticCylinder | Box | Tube | Arc, Field(discriminator="kind")]


def voxel_share(
    shape: Shape, grid: Grid, supersample: int
) -> tuple[tuple[slice, slice, slice], Float] | None:
    """Share of each voxel that lies inside a solid.

    Parameters
    ----------
    shape : Shape
        Solid.
    grid : Grid
        Grid along the patient's axes.
    supersample : int
        Number of samples along each axis in a voxel that the surface passes.

    Returns
    -------
    (slices, share) or None
        Slices of the part of the volume around the solid, and the share 0 to 1 there, [z, y, x]; None if the solid is
        outside the grid.
    """
    low, high = grid.mm_to_index(shape.bounds_mm)
    last = np.array(grid.shape[::-1]) - 1
    if (low > last + 0.5).any() or (high < -0.5).any():
        return None
    first = np.clip(np.floor(low).astype(int) - 1, 0, last)
    end = np.clip(np.ceil(high).astype(int) + 1, 0, last)
    size = end - first + 1

    def inside(index: list[Float]) -> Bool:
        """Whether the points of the lattice with these indices along x, y, z are inside, [z, y, x]."""
        x, y, z = (grid.origin_mm[k] + grid.spacing_mm[k] * index[k] for k in range(3))
        found = np.empty((len(z), len(y), len(x)), dtype=bool)
        for k, height in enumerate(z):  # a plane at a time: its coordinates are floats, the result is not
            found[k] = shape.contains(x[None, :], y[:, None], np.array(height))
        return found

    # a voxel is mixed if not all of its corners and its centre agree; a part of the solid that reaches in between them
    # is missed, which is a few percent of a voxel for solids thicker than a voxel
    centres = inside([first[k] + np.arange(size[k], dtype=np.float64) for k in range(3)])
    corners = inside([first[k] - 0.5 + np.arange(size[k] + 1, dtype=np.float64) for k in range(3)])
    count = centres.astype(np.int8)
    for dz, dy, dx in product((0, 1), repeat=3):
        count += corners[dz : dz + size[2], dy : dy + size[1], dx : dx + size[0]]
    mixed = (count > 0) & (count < 9)
    share = centres.astype(np.float64)
    z, y, x = np.nonzero(mixed)
    offsets = (np.arange(supersample) + 0.5) / supersample - 0.5
    fine = np.array(list(product(offsets, repeat=3)))
    step = max(1, SAMPLES_AT_ONCE // len(fine))
    for some in (slice(at, at + step) for at in range(0, len(x), step)):
        samples = [
            grid.origin_mm[k] + grid.spacing_mm[k] * (index[some, None] + first[k] + fine[:, k])
            for k, index in enumerate((x, y, z))
        ]
        share[z[some], y[some], x[some]] = shape.contains(*samples).mean(axis=1)
    x0, y0, z0 = first.tolist()
    nx, ny, nz = size.tolist()
    return (slice(z0, z0 + nz), slice(y0, y0 + ny), slice(x0, x0 + nx)), share
