"""Contoured structures as solids: points inside, distances, volumes, masks, margins.

Each contour is extruded to a slab that reaches half the gap to its neighbours; the end slabs reach half the nominal
spacing beyond the last contour. Contours in one plane are combined by the even-odd rule, so a hole is a contour inside
another. Missing slices within a structure are filled half from each side; a gap of more than five slice spacings
separates two parts (`brachy.core.slabs`). All results are exact for this stack of slabs unless stated otherwise.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from brachy.core import polygon, raster, slabs
from brachy.errors import BrachyError
from brachy.geometry.contouring import expanded_contours, mask_contours, section_points
from brachy.geometry.grid import Grid

Float = NDArray[np.float64]

MANY_POINTS = 5000
"""From this number of points on several threads are used; for fewer, starting them costs more than they save."""


class Plane(NamedTuple):
    """One contour plane of a structure."""

    position_mm: float
    """Position along the structure's normal, in the patient frame (z of an axial contour)."""
    thickness_mm: float
    """Thickness of its slab."""
    area_mm2: float
    """Area enclosed by the even-odd rule."""
    centroid_mm: Float
    """Centre of area (3,), patient frame."""
    contours_mm: tuple[Float, ...]
    """Contours (n, 3), patient frame."""


class RoiCode(NamedTuple):
    """A code that says what a region is, as DICOM writes it: ("FMA", "7197", "Liver")."""

    scheme: str
    value: str
    meaning: str = ""


class RoleBasis(NamedTuple):
    """Where a structure's role came from: "protocol", "type", "code", "name", "ct", "given" or "default"."""

    source: str
    why: str
    understood: bool = True
    """False where nothing says what it is, or where name and type contradict each other."""


@dataclass(frozen=True, eq=False)
class Structure:
    """A region of the patient as planar closed contours.

    Parameters
    ----------
    name : str
        ROI name.
    contours_mm : sequence of (n, 3) arrays
        Closed polygons (the last point need not repeat the first), patient frame (LPS), mm, in parallel
        planes of any orientation. Their order, direction and start do not matter.
    role : str
        One of `brachy.patient.roles.ROLES`, or "" while undecided.
    interpreted_type : str
        RT ROI Interpreted Type, or "".
    number : int, optional
        ROI Number in the structure set.
    colour : tuple of int, optional
        Display colour, 0-255.
    slice_spacing_mm : float, optional
        Spacing of the slices it was drawn on; the end slabs reach half of it beyond the last contours. By
        default the smallest gap between its own contour planes.
    notes : tuple of str
        Notes on its contours (some left out, missing slices ...); new ones are appended.
    codes : tuple of RoiCode
        What DICOM codes say it is.
    basis : RoleBasis, optional
        Where its role came from; None where the role was given with the structure.

    Raises
    ------
    BrachyError
        If a contour is not an (n, 3) array of finite numbers, or not in a plane parallel to the others.

    Examples
    --------
    >>> square = [[0, 0, 0], [20, 0, 0], [20, 10, 0], [0, 10, 0]]
    >>> box = Structure("box", [square], slice_spacing_mm=5.0)
    >>> box.volume_cc
    1.0
    """

    name: str
    contours_mm: tuple[Float, ...]
    role: str = ""
    interpreted_type: str = ""
    number: int | None = None
    colour: tuple[int, int, int] | None = None
    slice_spacing_mm: float | None = None
    notes: tuple[str, ...] = field(default=())
    codes: tuple[RoiCode, ...] = ()
    basis: RoleBasis | None = None
    slab_stack: slabs.Slabs = field(init=False, repr=False)

    def __post_init__(self) -> None:
        contours = []
        for given in self.contours_mm:
            points = np.array(given, dtype=np.float64)
            if points.ndim != 2 or points.shape[1] != 3 or not np.isfinite(points).all():
                raise BrachyError(
                    f"ROI '{self.name}': a contour is not a list of points x, y, z: draw it again"
                )
            points.setflags(write=False)
            contours.append(points)
        if self.slice_spacing_mm is not None and not 0 < self.slice_spacing_mm < np.inf:
            raise BrachyError(f"ROI '{self.name}': slice spacing {self.slice_spacing_mm} mm must be positive")
        try:
            built = slabs.build(list(contours), self.slice_spacing_mm)
        except slabs.NotPlanarError as error:
            raise BrachyError(f"ROI '{self.name}': {error}: draw its contours in parallel planes") from None
        object.__setattr__(self, "contours_mm", tuple(contours))
        object.__setattr__(self, "slab_stack", built)
        object.__setattr__(
            self, "notes", (*self.notes, *(note for note in built.notes if note not in self.notes))
        )

    @staticmethod
    def from_mask(
        name: str,
        mask: ArrayLike,
        grid: Grid,
        role: str = "",
        interpreted_type: str = "",
        number: int | None = None,
        colour: tuple[int, int, int] | None = None,
    ) -> "Structure":
        """Structure from a mask: contours on each slice midway between voxels inside and outside.

        Parameters
        ----------
        name : str
            ROI name.
        mask : (nz, ny, nx) array
            Bool or integer (inside where not 0), or float (inside above 0.5).
        grid : Grid
            Geometry of the mask, of any direction.
        role, interpreted_type, number, colour
            As of `Structure`.

        Raises
        ------
        BrachyError
            If mask and grid differ in shape.

        Examples
        --------
        >>> grid = Grid((0, 0, 0), (1, 1, 2), (4, 8, 8))
        >>> mask = np.zeros(grid.shape, bool)
        >>> mask[1:3, 2:6, 2:6] = True
        >>> Structure.from_mask("cube", mask, grid).volume_cc  # 4 x 4 x 4 mm less its cut corners
        0.062
        """
        if np.shape(mask) != grid.shape:
            raise BrachyError(f"ROI '{name}': mask {np.shape(mask)} and grid {grid.shape} differ in shape")
        contours = tuple(mask_contours(mask, grid))
        spacing = float(grid.spacing_mm[2])
        return Structure(name, contours, role, interpreted_type, number, colour, spacing)

    @property
    def is_empty(self) -> bool:
        """Whether it has no contour with an area."""
        return len(self.slab_stack.planes) == 0

    @cached_property
    def _areas(self) -> Float:
        """Exact area in mm2 and centroid u, v of each plane, (S, 3), in the structure's own frame."""
        stack = self.slab_stack.stack
        found = np.zeros((len(stack.low), 3))
        for s in range(len(stack.low)):
            box = stack.slab_boxes[s]
            size = np.maximum(box[2:] - box[:2], 1e-9)
            rows = 32  # of one cell each: in short rows few edges are active at once
            to_cells = np.array([[1.0 / size[0], 0.0, -box[0] / size[0]], [0.0, rows / size[1], 0.0]])
            to_cells[1, 2] = -box[1] * rows / size[1]
            area, mean_x, mean_y = np.zeros((3, rows, 1))
            edges = stack.edges[stack.first_edge[s] : stack.first_edge[s + 1]]
            raster.add_coverage(edges, to_cells, 1.0, area, mean_x, mean_y)
            total = max(float(area.sum()), 1e-300)
            centroid = box[:2] + np.array([mean_x.sum(), mean_y.sum() / rows]) / total * size
            found[s] = (total * size[0] * size[1] / rows, *centroid)
        return found

    @cached_property
    def volume_cc(self) -> float:
        """Volume of the slabs in cc."""
        stack = self.slab_stack.stack
        return float(self._areas[:, 0] @ (stack.high - stack.low)) / 1000.0

    @cached_property
    def centroid_mm(self) -> Float:
        """Centre of mass (3,) of the slabs, mm. NaN if empty."""
        if self.is_empty:
            return np.full(3, np.nan)
        stack = self.slab_stack.stack
        weight = self._areas[:, 0] * (stack.high - stack.low)
        middle = np.column_stack([self._areas[:, 1:], 0.5 * (stack.low + stack.high)])
        return self.to_patient((weight[:, None] * middle).sum(axis=0) / weight.sum())

    @cached_property
    def bounds_mm(self) -> Float:
        """Lowest and highest corner, (2, 3) mm, of the bounding box along the patient axes. NaN if empty."""
        if self.is_empty:
            return np.full((2, 3), np.nan)
        stack = self.slab_stack.stack
        starts = stack.edges[:, :2]
        per_edge = np.diff(stack.first_edge)
        ends = [
            self.to_patient(np.column_stack([starts, np.repeat(w, per_edge)]))
            for w in (stack.low, stack.high)
        ]
        points = np.concatenate(ends)
        return np.stack([points.min(axis=0), points.max(axis=0)])

    @property
    def normal(self) -> Float:
        """Unit normal (3,) of the contour planes, its largest component positive."""
        return self.slab_stack.axes[:, 2].copy()

    def to_patient(self, local_mm: ArrayLike) -> Float:
        """Positions in the patient frame of positions (..., 3) in the structure's own frame."""
        local = np.asarray(local_mm, dtype=np.float64)
        if not np.array_equal(self.slab_stack.axes, np.eye(3)):
            local = local @ self.slab_stack.axes.T
        moved: Float = local + self.slab_stack.origin
        return moved

    def to_local(self, points_mm: ArrayLike) -> Float:
        """Positions (..., 3) in the structure's own frame, rounded to 2^-20 mm, of patient positions."""
        relative = np.asarray(points_mm, dtype=np.float64) - self.slab_stack.origin
        if not np.array_equal(self.slab_stack.axes, np.eye(3)):
            relative = relative @ self.slab_stack.axes
        return np.ascontiguousarray(slabs.rounded(relative))

    def planes(self) -> tuple[Plane, ...]:
        """Contour planes in order of their position along the normal.

        Examples
        --------
        >>> square = np.array([[0, 0, 0], [20, 0, 0], [20, 10, 0], [0, 10, 0]])
        >>> box = Structure("box", [square, square + [0, 0, 3]])
        >>> [(plane.position_mm, plane.area_mm2) for plane in box.planes()]
        [(0.0, 200.0), (3.0, 200.0)]
        """
        own = self.slab_stack
        shift = float(own.origin @ own.axes[:, 2])
        return tuple(
            Plane(
                position_mm=float(w) + shift,
                thickness_mm=float(own.stack.high[s] - own.stack.low[s]),
                area_mm2=float(self._areas[s, 0]),
                centroid_mm=self.to_patient(np.append(self._areas[s, 1:], w)),
                contours_mm=tuple(
                    self.to_patient(np.column_stack([ring, np.full(len(ring), w)])) for ring in own.rings[s]
                ),
            )
            for s, w in enumerate(own.planes)
        )

    def contains(self, points_mm: ArrayLike) -> NDArray[np.bool_]:
        """Whether each of the points (n, 3), patient frame, mm, lies inside.

        Examples
        --------
        >>> square = [[0, 0, 0], [20, 0, 0], [20, 10, 0], [0, 10, 0]]
        >>> Structure("box", [square], slice_spacing_mm=5.0).contains([[1, 1, 2], [1, 1, 3]])
        array([ True, False])
        """
        local = self.to_local(_points(points_mm))
        kernel = polygon.inside if len(local) < MANY_POINTS else polygon.inside_parallel
        found: NDArray[np.bool_] = kernel(self.slab_stack.stack, local)
        return found

    def distance_mm(self, points_mm: ArrayLike, cutoff_mm: float = np.inf) -> Float:
        """Euclidean distance (n,) in mm of points (n, 3) to the solid: 0 inside, `cutoff_mm` where it is larger.

        Examples
        --------
        >>> square = [[0, 0, 0], [20, 0, 0], [20, 10, 0], [0, 10, 0]]
        >>> Structure("box", [square], slice_spacing_mm=4.0).distance_mm([[5, 5, 0], [5, 13, 6]])
        array([0., 5.])
        """
        return self._distance(points_mm, cutoff_mm, False)

    def signed_distance_mm(self, points_mm: ArrayLike, cutoff_mm: float = np.inf) -> Float:
        """Distance (n,) in mm of points (n, 3) to the surface, negative inside, limited to +-`cutoff_mm`.

        Examples
        --------
        >>> square = [[0, 0, 0], [20, 0, 0], [20, 10, 0], [0, 10, 0]]
        >>> Structure("box", [square], slice_spacing_mm=4.0).signed_distance_mm([[5, 5, 1], [5, 13, 6]])
        array([-1.,  5.])
        """
        return self._distance(points_mm, cutoff_mm, True)

    def _distance(self, points_mm: ArrayLike, cutoff_mm: float, signed: bool) -> Float:
        local = self.to_local(_points(points_mm))
        kernel = polygon.distance if len(local) < MANY_POINTS else polygon.distance_parallel
        found: Float = kernel(self.slab_stack.stack, local, float(cutoff_mm), signed)
        return found

    def line_intervals(self, origin_mm: ArrayLike, direction: ArrayLike) -> Float:
        """Intervals in which an infinite line is inside, (m, 2): distances from `origin_mm` in mm, enter and leave.

        They are sorted and disjoint; pieces closer than 1e-9 mm are joined. `direction` need not be a unit vector.

        Examples
        --------
        >>> square = [[0, 0, 0], [20, 0, 0], [20, 10, 0], [0, 10, 0]]
        >>> Structure("box", [square], slice_spacing_mm=4.0).line_intervals([-5, 5, 0], [1, 0, 0])
        array([[ 5., 25.]])
        """
        return self.intervals_on_lines(np.asarray(origin_mm, dtype=np.float64)[None], direction)[0]

    def intervals_on_lines(self, origins_mm: Float, direction: ArrayLike) -> list[Float]:
        """`line_intervals` of parallel lines through many points (n, 3)."""
        if not len(origins_mm):
            return []
        unit = np.asarray(direction, dtype=np.float64)
        unit = unit / np.linalg.norm(unit)
        starts = self.to_local(origins_mm)
        first, found = polygon.line_intervals(self.slab_stack.stack, starts, unit @ self.slab_stack.axes)
        return np.split(found, first[1:-1])

    def fraction_mask(self, grid: Grid) -> NDArray[np.float32]:
        """Fraction of each voxel of `grid` that is inside, [z, y, x].

        It is exact if the grid's slices are parallel to the contours, otherwise the share of 4 x 4 x 4 points inside.

        Examples
        --------
        >>> square = [[0, 0, 0], [20, 0, 0], [20, 10, 0], [0, 10, 0]]
        >>> grid = Grid((0, 0, 0), (10, 10, 4), (1, 2, 3))
        >>> Structure("box", [square], slice_spacing_mm=4.0).fraction_mask(grid)
        array([[[0.25, 0.5 , 0.25],
                [0.25, 0.5 , 0.25]]], dtype=float32)
        """
        out = np.zeros(grid.shape, dtype=np.float32)
        own = self.slab_stack
        along = grid.direction.T @ own.axes  # the structure's u, v, w along the grid's x, y, z
        if self.is_empty:
            return out
        if abs(abs(along[2, 2]) - 1.0) > 1e-9:
            return self._counted_fractions(grid, out)
        start = slabs.rounded((own.origin - grid.origin_mm) @ grid.direction)
        to_cells = np.column_stack([along[:2, :2], start[:2]]) / grid.spacing_mm[:2, None]
        to_cells[:, 2] += 0.5
        middle = (grid.spacing_mm[2] * np.arange(grid.shape[0]) - start[2]) * np.sign(along[2, 2])
        half = 0.5 * grid.spacing_mm[2]
        raster.fractions(own.stack, np.ascontiguousarray(to_cells), middle - half, middle + half, out)
        return np.clip(out, 0.0, 1.0, out=out)

    def _counted_fractions(self, grid: Grid, out: NDArray[np.float32]) -> NDArray[np.float32]:
        """Fraction of each voxel inside, by counting 4 x 4 x 4 points a voxel."""
        corners = grid.mm_to_index(_box_corners(self.bounds_mm))
        first = np.clip(np.floor(corners.min(axis=0) - 0.5).astype(int), 0, np.array(grid.shape[::-1]))
        last = np.clip(np.ceil(corners.max(axis=0) + 0.5).astype(int) + 1, 0, np.array(grid.shape[::-1]))
        inner = (np.arange(4) + 0.5) / 4 - 0.5
        for z in range(first[2], last[2]):
            y = (np.arange(first[1], last[1])[:, None] + inner).ravel()
            x = (np.arange(first[0], last[0])[:, None] + inner).ravel()
            if not (len(x) and len(y)):
                break
            zs, ys, xs = np.meshgrid(z + inner, y, x, indexing="ij")
            inside = self.contains(grid.index_to_mm(np.stack([xs, ys, zs], axis=-1).reshape(-1, 3)))
            share = inside.reshape(4, len(y) // 4, 4, len(x) // 4, 4).mean(axis=(0, 2, 4))
            out[z, first[1] : last[1], first[0] : last[0]] = share
        return out

    def section(self, origin_mm: ArrayLike, normal: ArrayLike, step_mm: float = 1.0) -> Float:
        """Points (n, 3), mm, about `step_mm` apart on the outline in the plane through `origin_mm` with `normal`.

        They lie on the contours if the plane is parallel to them, else within `step_mm` / 4 of the outline of the
        slabs. There are none where the plane misses the structure.

        Examples
        --------
        >>> square = [[0, 0, 0], [20, 0, 0], [20, 10, 0], [0, 10, 0]]
        >>> len(Structure("box", [square], slice_spacing_mm=4.0).section([0, 0, 1], [0, 0, 1]))
        60
        """
        unit = np.asarray(normal, dtype=np.float64)
        unit = (unit / np.linalg.norm(unit)) @ self.slab_stack.axes
        through = self.to_local(np.asarray(origin_mm, dtype=np.float64))
        return self.to_patient(section_points(self.slab_stack, through, unit, step_mm))

    def expanded(self, margin_mm: float, clip: Sequence["Structure"] = ()) -> "Structure":
        """Return the structure with a margin in all three dimensions, kept within every structure of `clip`.

        What was drawn stays inside, whatever the structures of `clip`. The margin is measured from the shape
        interpolated between the contours. On spheres of 10-30 mm radius with margins of 2-10 mm every contour of the
        result is within half a slice spacing of the exact surface (slices of 1-5 mm) and its volume within 3.1 %
        (slices of 1-2.5 mm). A margin of 0 returns the structure itself.

        Raises
        ------
        BrachyError
            If the margin is negative.

        Examples
        --------
        >>> square = np.array([[0, 0, 0], [20, 0, 0], [20, 10, 0], [0, 10, 0]])
        >>> box = Structure("box", [square + [0, 0, z] for z in range(0, 21, 2)])
        >>> np.round(box.expanded(5.0).bounds_mm)
        array([[-5., -5., -5.],
               [25., 15., 25.]])
        """
        if not margin_mm >= 0:
            raise BrachyError(f"margin {margin_mm} mm must be 0 or more")
        if margin_mm == 0 or self.is_empty:
            return self
        kept = [other for other in clip if not other.is_empty]
        contours = tuple(expanded_contours(self.slab_stack, float(margin_mm), kept))
        within = f", kept within {', '.join(other.name for other in kept)}" if kept else ""
        note = f"expanded by {margin_mm:g} mm in 3D{within}"
        return replace(
            self,
            contours_mm=contours,
            slice_spacing_mm=self.slab_stack.spacing,
            notes=(*self.notes, note),
        )

    def with_ends(self, low_mm: float, high_mm: float) -> "Structure":
        """Return the structure with its lowest and its highest slab extended by so many mm (shortened if negative).

        Examples
        --------
        >>> square = [[0, 0, 0], [20, 0, 0], [20, 10, 0], [0, 10, 0]]
        >>> Structure("box", [square], slice_spacing_mm=4.0).with_ends(1.0, -2.0).bounds_mm[:, 2]
        array([-3.,  0.])
        """
        other = replace(self)
        stack = self.slab_stack.stack
        low, high = stack.low.copy(), stack.high.copy()
        low[0] -= low_mm
        high[-1] += high_mm
        changed = self.slab_stack._replace(stack=stack._replace(low=low, high=high))
        object.__setattr__(other, "slab_stack", changed)
        return other

    def moved(self, matrix: ArrayLike) -> "Structure":
        """Return the structure moved by a rigid 4 x 4 matrix (from patient mm to patient mm).

        Examples
        --------
        >>> matrix = np.eye(4)
        >>> matrix[:3, 3] = [1, 2, 3]
        >>> square = [[0, 0, 0], [20, 0, 0], [20, 10, 0], [0, 10, 0]]
        >>> Structure("box", [square], slice_spacing_mm=4.0).moved(matrix).bounds_mm[0]
        array([1., 2., 1.])
        """
        transform = np.asarray(matrix, dtype=np.float64)
        contours = tuple(c @ transform[:3, :3].T + transform[:3, 3] for c in self.contours_mm)
        return replace(self, contours_mm=contours)


def _points(points_mm: ArrayLike) -> Float:
    return np.asarray(points_mm, dtype=np.float64).reshape(-1, 3)


def _box_corners(bounds_mm: Float) -> Float:
    return np.array([[bounds_mm[(i >> k) & 1, k] for k in range(3)] for i in range(8)])
