"""Cuts through a planned patient: CT, structures, dose, needles and seeds in a plane, as arrays.

A cut is a `Grid` of one slice whose columns run to the right and whose rows run down on the screen. Positions in it are
(right, down): the products of patient coordinates with these two unit vectors. For an axial cut of a supine patient
they are x and y themselves.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from contourpy import contour_generator
from numpy.typing import ArrayLike, NDArray

from brachy.dosimetry.model import DoseModel
from brachy.geometry.grid import Grid
from brachy.geometry.structures import Structure
from brachy.needles.channel import Channel
from brachy.needles.laying_out import largest_section_centroid
from brachy.needles.template import HEAD, TemplateLayout
from brachy.patient.case import Case
from brachy.patient.plan import Plan, PlanNeedle

Float = NDArray[np.float64]

AIR_HU = -1024
"""Shown where the CT does not reach."""

LEVELS_PCT = (50.0, 100.0, 150.0, 200.0)
"""Isodose lines, % of the prescription."""

ROUND_MM = 25.0
"""Shown beyond targets, needles and seeds (engineering choice)."""

LETTERS = (("R", "L"), ("A", "P"), ("F", "H"))
"""Letters of the low and the high end of x, y and z (right, left; front, back; feet, head)."""

SIDES = {"R": "right", "L": "left", "A": "front", "P": "back", "F": "feet", "H": "head"}
"""Words for those letters."""


class Path(NamedTuple):
    """The part of a needle near a cut."""

    needle: PlanNeedle
    ends: Float
    """(2, 2): (right, down) of the end nearer the hole and of the end nearer the tip."""


def display_axes(grid: Grid) -> tuple[Float, Float]:
    """Unit vectors to the right and down in which slices of a grid are shown.

    As seen from the feet, the face, or the left: the patient's right (or front) is at the left, the front
    (or the head) at the top, however the grid is stored.

    Examples
    --------
    >>> prone = Grid((0, 0, 0), (1, 1, 3), (4, 3, 2), [[-1, 0, 0], [0, -1, 0], [0, 0, 1]])
    >>> [axis.tolist() for axis in display_axes(prone)]
    [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]
    """
    first, second = grid.direction[:, 0], grid.direction[:, 1]
    main = [int(np.argmax(np.abs(axis))) for axis in (first, second)]
    if max(main) == 2:
        down, right = (first, second) if main[0] == 2 else (second, first)
        down = -down * np.sign(down[2])
    else:
        right, down = (first, second) if main[0] == 0 else (second, first)
        down = down * np.sign(down[np.argmax(np.abs(down))])
    right = right * np.sign(right[np.argmax(np.abs(right))])
    return right + 0.0, down + 0.0


def slice_cut(grid: Grid, index: int, around_mm: ArrayLike | None = None, pixel_mm: float = 0.0) -> Grid:
    """Cut along a slice of a volume.

    Parameters
    ----------
    grid : Grid
        Of the CT.
    index : int
        Slice.
    around_mm : (n, 3) array, optional
        Only the window that holds these points, mm, is kept; by default the whole slice.
    pixel_mm : float
        Size of the cut's pixels where it is larger than that of the volume, mm.

    Returns
    -------
    Grid
        One slice; its pixels are those of the volume unless `pixel_mm` is larger.
    """
    right, down = display_axes(grid)
    across = np.abs(np.column_stack([right, down]).T @ grid.direction[:, :2])
    size = across @ grid.spacing_mm[:2]
    count = np.round(across @ np.array([grid.shape[2], grid.shape[1]])).astype(int)
    corners = grid.index_to_mm(
        [[x, y, index] for x in (0, grid.shape[2] - 1) for y in (0, grid.shape[1] - 1)]
    )
    flat = corners @ np.column_stack([right, down])
    start = corners[np.lexsort((flat[:, 0], flat[:, 1]))[0]]
    first, last = np.zeros(2, dtype=int), count - 1
    if around_mm is not None:
        wanted = (np.asarray(around_mm) - start) @ np.column_stack([right, down]) / size
        first = np.clip(np.floor(wanted.min(axis=0)).astype(int), 0, count - 1)
        last = np.clip(np.ceil(wanted.max(axis=0)).astype(int), first, count - 1)
    start = start + first[0] * size[0] * right + first[1] * size[1] * down
    pixel = np.maximum(size, pixel_mm)
    shape = np.maximum(np.floor((last - first) * size / pixel + 1e-6).astype(int) + 1, 1)
    normal = np.cross(right, down)
    return Grid(
        start,
        [*pixel, grid.spacing_mm[2]],
        (1, shape[1], shape[0]),
        np.column_stack([right, down, normal]),
    )


def oblique_cut(
    centre_mm: ArrayLike, right: ArrayLike, down: ArrayLike, size_mm: tuple[float, float], pixel_mm: float
) -> Grid:
    """Cut of any orientation; `size_mm` is its width and height about the centre."""
    across, below = np.asarray(right, dtype=np.float64), np.asarray(down, dtype=np.float64)
    count = [max(1, round(length / pixel_mm) + 1) for length in size_mm]
    start = np.asarray(centre_mm, dtype=np.float64)
    start = start - 0.5 * pixel_mm * ((count[0] - 1) * across + (count[1] - 1) * below)
    axes = np.column_stack([across, below, np.cross(across, below)])
    return Grid(start, np.full(3, pixel_mm), (1, count[1], count[0]), axes)


def in_plane(cut: Grid, points_mm: ArrayLike) -> Float:
    """(right, down) (n, 2) in mm of positions (n, 3)."""
    flat: Float = np.asarray(points_mm, dtype=np.float64) @ cut.direction[:, :2]
    return flat


def off_plane(cut: Grid, points_mm: ArrayLike) -> Float:
    """Signed distance (n,) in mm of positions (n, 3) from the plane."""
    found: Float = (np.asarray(points_mm, dtype=np.float64) - cut.origin_mm) @ cut.direction[:, 2]
    return found


def axes_mm(cut: Grid) -> tuple[Float, Float]:
    """Coordinates to the right and down of the pixels' centres, mm."""
    (start,) = in_plane(cut, cut.origin_mm[None])
    right: Float = start[0] + cut.spacing_mm[0] * np.arange(cut.shape[2])
    down: Float = start[1] + cut.spacing_mm[1] * np.arange(cut.shape[1])
    return right, down


def edge_letters(cut: Grid) -> tuple[str, str, str, str]:
    """Letters of the left, right, top and bottom edge: R, L, A, P, H, F, two where an edge lies between two sides.

    Examples
    --------
    >>> edge_letters(slice_cut(Grid((0, 0, 0), (1, 1, 3), (4, 3, 2)), 0))
    ('R', 'L', 'A', 'P')
    """
    right, down = cut.direction[:, 0], cut.direction[:, 1]
    return _letters(-right), _letters(right), _letters(-down), _letters(down)


def towards(direction: ArrayLike) -> str:
    """Words for the side of the patient to which a direction points, two where it lies between two sides.

    Examples
    --------
    >>> towards((0.0, 0.0, 1.0)), towards((0.7, -0.7, 0.1))
    ('head', 'left, front')
    """
    return ", ".join(SIDES[letter] for letter in _letters(np.asarray(direction, dtype=np.float64)))


def _letters(direction: Float) -> str:
    # a second letter from 22.5 degrees on
    order = [k for k in np.argsort(-np.abs(direction), kind="stable").tolist() if abs(direction[k]) > 0.3827]
    return "".join(LETTERS[k][int(direction[k] > 0)] for k in order[:2])


def ct_on(cut: Grid, case: Case) -> NDArray[np.int16]:
    """CT numbers (rows, columns) in HU, trilinear; `AIR_HU` outside the CT."""
    from scipy.ndimage import map_coordinates

    index = case.grid.mm_to_index(cut.centres_mm())
    hu: NDArray[Any] = case.ct_hu
    found: NDArray[np.float32] = map_coordinates(
        hu, index[:, ::-1].T, order=1, output=np.float32, mode="nearest", prefilter=False
    )
    found[~case.grid.contains(cut.centres_mm())] = AIR_HU
    rounded: NDArray[np.int16] = np.round(found).reshape(cut.shape[1:]).astype(np.int16)
    return rounded


def outlines_on(cut: Grid, structure: Structure) -> list[Float]:
    """Closed outlines (n, 2) of a structure in a cut, (right, down) in mm, the first point repeated at the end.

    The drawn contours themselves where the cut is parallel to them, else level lines of the distance.
    """
    if structure.is_empty:
        return []
    own = structure.slab_stack
    if abs(abs(own.axes[:, 2] @ cut.direction[:, 2]) - 1.0) < 1e-6:
        height = float(structure.to_local(cut.origin_mm)[2])
        s = int(np.searchsorted(own.stack.low, height, side="right")) - 1
        if s < 0 or height >= own.stack.high[s]:
            return []
        rings = [
            structure.to_patient(np.column_stack([ring, np.full(len(ring), height)])) for ring in own.rings[s]
        ]
        return [in_plane(cut, np.vstack([ring, ring[:1]])) for ring in rings]
    reach = 3.0 * float(cut.spacing_mm[:2].max())
    low, high = structure.bounds_mm
    corners = np.array([[(low, high)[(i >> k) & 1][k] for k in range(3)] for i in range(8)])
    away = off_plane(cut, corners)
    if away.min() > 0 or away.max() < 0:
        return []
    field = structure.signed_distance_mm(cut.centres_mm(), reach).reshape(cut.shape[1:])
    return _level_lines(cut, field, 0.0)


def dose_on(cut: Grid, model: DoseModel) -> Float:
    """Dose (rows, columns) in Gy, from the seeds by the quick kernels: for lines, not for verdicts."""
    quick = model.of(model.implants, exact_pairs=0)
    found: Float = np.asarray(quick.on(cut).gy, dtype=np.float64)[0]
    return found


def isodoses_on(cut: Grid, gy: Float, levels_gy: Sequence[float]) -> list[list[Float]]:
    """For each level its lines (n, 2), (right, down) in mm."""
    return [_level_lines(cut, gy, level) for level in levels_gy]


def _level_lines(cut: Grid, field: Float, level: float) -> list[Float]:
    if min(field.shape) < 2 or not field.min() < level < field.max():
        return []
    right, down = axes_mm(cut)
    lines: Any = contour_generator(right, down, field, name="serial").lines(level)
    return [np.asarray(line) for line in lines if len(line) > 3]


def paths_on(cut: Grid, needles: Sequence[PlanNeedle], half_mm: float) -> list[Path]:
    """Parts of needles, from hole to tip, whose distance from the cut is in (-half, half]."""
    found = []
    for needle in needles:
        ends = np.array([needle.hole_mm, needle.tip_mm])
        a, b = off_plane(cut, ends).tolist()
        if abs(b - a) < 1e-3:  # in the plane, but for the digits of plan.json
            part = (0.0, 1.0) if -half_mm < 0.5 * (a + b) <= half_mm else None
        else:
            first, last = sorted(((-half_mm - a) / (b - a), (half_mm - a) / (b - a)))
            part = (max(first, 0.0), min(last, 1.0)) if first < 1.0 and last > 0.0 else None
        if part is not None:
            points = ends[0] + np.array(part)[:, None] * (ends[1] - ends[0])
            found.append(Path(needle, in_plane(cut, points)))
    return found


def crossing(cut: Grid, needle: PlanNeedle) -> Float:
    """Where the line of a needle crosses the plane of a cut, (right, down) in mm.

    The needle must not lie parallel to the plane.
    """
    channel = Channel.of(needle)
    normal = cut.direction[:, 2]
    depth = float((cut.origin_mm - channel.hole_mm) @ normal / (channel.direction @ normal))
    found: Float = in_plane(cut, channel.at(depth)[None])[0]
    return found


def seeds_on(cut: Grid, plan: Plan, half_mm: float) -> list[tuple[str, Float]]:
    """Name ("C4.2": hole and place from the tip) and (right, down) of each seed as near as `paths_on` has it.

    Where a plan has several templates the number of the template goes before: "2:C4.2".
    """
    found = []
    for needle in plan.needles:
        for number, seed in enumerate(needle.seeds, 1):
            gap = float(off_plane(cut, np.array([seed.position_mm]))[0])
            if -half_mm < gap <= half_mm:
                name = f"{needle_name(plan, needle)}.{number}"
                found.append((name, in_plane(cut, np.array([seed.position_mm]))[0]))
    return found


def needle_name(plan: Plan, needle: PlanNeedle) -> str:
    """Hole of a needle, after its template's number where there are several: "C4", "2:C4"."""
    return f"{needle.template + 1}:{needle.hole}" if len(plan.templates) > 1 else needle.hole


def seeds_of(plan: Plan) -> Float:
    """Centres (n, 3) of all seeds, mm, in the order of the needles."""
    return np.array([seed.position_mm for needle in plan.needles for seed in needle.seeds]).reshape(-1, 3)


def slices_with_seeds(plan: Plan, grid: Grid) -> list[int]:
    """Slices of a volume that are nearest to a seed, from the feet up."""
    index = np.round(grid.mm_to_index(seeds_of(plan))[:, 2] - 1e-6).astype(int)
    found = np.unique(np.clip(index, 0, grid.shape[0] - 1)).tolist()
    return sorted(found, key=lambda k: float(grid.index_to_mm([[0, 0, k]])[0] @ HEAD))


def prescription(plan: Plan) -> tuple[float, str]:
    """Dose in Gy that is 100 % in pictures, and its target: the lowest prescription of the plan."""
    target = min(plan.targets, key=lambda target: target.prescription_gy)
    return target.prescription_gy, target.roi


def middle_slice(plan: Plan, grid: Grid) -> int:
    """Slice with seeds that is nearest to the first template's layer 0; the CT's middle if there is no needle."""
    held = slices_with_seeds(plan, grid) if plan.seed_count else []
    if not held:
        return grid.shape[0] // 2
    layout = TemplateLayout.of(plan.templates[0])
    middle = layout.on_plate_mm(0.0, layout.middle[1])
    seeds = np.array([s.position_mm for n in plan.needles if n.template == 0 for s in n.seeds])
    if len(seeds):
        direction = layout.direction
        middle = middle + ((seeds.mean(axis=0) - middle) @ direction) * direction
    wanted = float(grid.mm_to_index(middle[None])[0, 2])
    return min(held, key=lambda k: abs(k - wanted))


def region_of(plan: Plan, case: Case) -> Float:
    """Corners (n, 3), mm, of the box a picture must show: targets, needles from the hole on, and a margin."""
    points = [np.array([n.hole_mm, n.tip_mm]) for n in plan.needles]
    names = {target.roi for target in plan.targets}
    points += [s.bounds_mm for s in case.structures if s.name in names and not s.is_empty]
    if not points:
        points = [case.grid.corners_mm()]
    both = np.concatenate(points)
    low, high = both.min(axis=0) - ROUND_MM, both.max(axis=0) + ROUND_MM
    return np.array([[(low, high)[(i >> k) & 1][k] for k in range(3)] for i in range(8)])


def template_cut(
    plan: Plan, template: int, depth_mm: float, pixel_mm: float = 1.0, margin_mm: float = 25.0
) -> Grid:
    """Plane across a template's axis, `depth_mm` from the template, columns to the right, rows up."""
    layout = TemplateLayout.of(plan.templates[template])
    low, high = layout.extent
    (width, height), (x, y) = (high - low).tolist(), (0.5 * (low + high)).tolist()
    centre = layout.on_plate_mm(x, y) + depth_mm * layout.direction
    size = width + 2 * margin_mm, height + 2 * margin_mm
    return oblique_cut(centre, layout.column, -layout.row, size, pixel_mm)


def middle_depth(plan: Plan, template: int, structures: Sequence[Structure]) -> float:
    """Depth along the template's axis of the target's largest section, or of the middle of the template's seeds, mm."""
    layout = TemplateLayout.of(plan.templates[template])
    for structure in structures:
        if structure.name == layout.target and not structure.is_empty:
            return float(layout.to_plate([largest_section_centroid(structure)])[0, 2])
    seeds = np.array([s.position_mm for n in plan.needles if n.template == template for s in n.seeds])
    if not len(seeds):
        return 0.0
    return float(layout.to_plate([(seeds.min(axis=0) + seeds.max(axis=0)) / 2])[0, 2])
