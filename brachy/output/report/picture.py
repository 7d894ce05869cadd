"""Pictures of the report: a cut through the patient as one SVG, in mm, its CT a grey image below vector lines.

The image holds HU in 256 steps, fine where soft tissue is (`HU_KNOTS`), so that the reader can change the window; the
browser maps steps to grey. Lines are paths in tenths of a mm.
"""

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from brachy.core.threads import side_by_side
from brachy.dosimetry.model import DoseModel
from brachy.geometry.grid import Grid
from brachy.geometry.structures import Structure
from brachy.needles.template import TemplateLayout, column_letters
from brachy.output.figures import cuts
from brachy.patient.case import Case
from brachy.patient.palette import SVG_DASH, WEIGHTS, isodose_colour, line_of, role_of, shown, stops_needles
from brachy.patient.plan import Plan, PlanNeedle

Float = NDArray[np.float64]

HU_KNOTS = ((0, -1000.0), (25, -200.0), (225, 300.0), (255, 2000.0))
"""Step of the image and the HU it stands for, linear between: 2.5 HU a step in soft tissue (engineering choice)."""

MOST_PIXELS = 6_000_000
"""CT pixels that a report holds; a larger region gets larger pixels (engineering choice)."""

LATTICE_MM = 2.0
"""Isodose lines go through doses on this lattice, each evaluated from the seeds; outlines in oblique cuts through
distances on it (engineering choice)."""

DEPTH_STEP_MM = 5.0
"""Between the views along the needles (engineering choice)."""

HALF_SEED_MM = 2.25
"""Half a capsule: a found seed so far beyond a slice may still show in it, and is drawn pale."""


@dataclass(frozen=True)
class Line:
    """An outline or isodose: SVG path in tenths of a mm, name, colour, dashes, width in points."""

    path: str
    name: str
    colour: str
    dashes: str
    width: float


@dataclass(frozen=True)
class Mark:
    """A short text or a symbol at a place, mm."""

    x: float
    y: float
    text: str = ""
    name: str = ""
    lit: bool = False


@dataclass(frozen=True)
class Stroke:
    """A straight piece of a needle, mm."""

    x1: float
    y1: float
    x2: float
    y2: float


@dataclass(frozen=True)
class Picture:
    """A cut as the page draws it. Lengths in mm, (0, 0) is its upper left corner."""

    title: str
    width: float
    height: float
    image: str = ""
    """PNG, base64; "" without CT."""
    structures: tuple[Line, ...] = ()
    isodoses: tuple[Line, ...] = ()
    needles: tuple[Stroke, ...] = ()
    labels: tuple[Mark, ...] = ()
    seeds: tuple[Mark, ...] = ()
    found: tuple[Mark, ...] = ()
    """Seeds found after the implantation; `seeds` are then the planned ones."""
    shifts: tuple[Stroke, ...] = ()
    """From where a seed was planned to where it was found."""
    holes: tuple[Mark, ...] = ()
    loaded: tuple[Mark, ...] = ()
    hole_size: float = 3.0
    letters: tuple[str, str, str, str] = ("", "", "", "")
    """What lies to the left, right, top, bottom."""
    printed: bool = False

    @property
    def unit(self) -> float:
        """By what letters and bars grow with the picture, mm."""
        return round(max(self.width, self.height) / 200.0, 3)


@dataclass(frozen=True)
class Legend:
    """A line's meaning."""

    name: str
    colour: str
    dashes: str
    width: float


def slice_pictures(
    case: Case,
    region_mm: Float,
    seeds: Sequence[tuple[str, Float]],
    *,
    structures: Sequence[Structure],
    plan: Plan,
    model: DoseModel,
    levels_pct: Sequence[float] = cuts.LEVELS_PCT,
    needles: bool = True,
    found: Sequence[tuple[str, Float]] | None = None,
    shifts: Sequence[tuple[Float, Float]] = (),
) -> tuple[Picture, ...]:
    """Every slice of the CT in a region, from the feet up, those with seeds to be printed.

    Parameters
    ----------
    case : Case
        CT.
    region_mm : (n, 3) array
        Points that the pictures hold, mm (LPS).
    seeds : sequence of (name, (3,) array)
        Seeds to draw as planned.
    structures : sequence of Structure
        Outlines.
    plan : Plan
        For colours, prescription and needles.
    model : DoseModel
        Dose of the isodose lines.
    levels_pct : sequence of float
        Isodose lines, % of the lowest prescription.
    needles : bool
        Draw the plan's needles.
    found : sequence of (name, (3,) array), optional
        Seeds found, drawn as circles; `seeds` are then drawn as planned.
    shifts : sequence of (planned (3,), found (3,))
        Drawn as lines in the slice of the found seed.
    """
    grid = case.grid
    along = grid.mm_to_index(region_mm)[:, 2]
    first = int(np.clip(np.floor(along.min()), 0, grid.shape[0] - 1))
    last = int(np.clip(np.ceil(along.max()), first, grid.shape[0] - 1))
    indices = list(range(first, last + 1))
    if grid.direction[2, 2] < 0:
        indices.reverse()
    trial = cuts.slice_cut(grid, indices[0], region_mm)
    many = trial.shape[1] * trial.shape[2] * len(indices) / MOST_PIXELS
    pixel = float(trial.spacing_mm[:2].max()) * max(1.0, float(np.sqrt(many)))
    half = 0.5 * float(grid.spacing_mm[2])
    rx, _ = cuts.prescription(plan)
    regions = shown(list(structures), plan)

    def base(index: int) -> tuple[Grid, Picture]:
        cut = cuts.slice_cut(grid, index, region_mm, pixel)
        return cut, base_picture(cut, case, regions, plan, isodose_lines(cut, model, levels_pct, rx))

    pictures = []
    for index, (cut, picture) in zip(
        indices, side_by_side([partial(base, index) for index in indices]), strict=True
    ):
        normal = cut.direction[:, 2]
        k = int(np.argmax(np.abs(normal)))
        picture = replace(picture, title=f"{'xyz'[k]} = {cut.origin_mm[k]:.1f} mm (CT slice {index + 1})")
        if needles:
            picture = with_needles(picture, cut, plan, half)
        here, there = _near(cut, seeds, half), _near(cut, found or (), half)
        if found is not None:
            beside = [each for each in found if each[0] not in {mark.name for mark in there}]
            pale = tuple(replace(mark, lit=True) for mark in _near(cut, beside, half + HALF_SEED_MM))
            there = (*pale, *there)
            here = tuple(replace(mark, text="planned") for mark in here)
        picture = replace(picture, shifts=_shifts(cut, shifts, half))
        pictures.append(
            replace(
                picture, seeds=here, found=there, printed=bool(here) or any(not mark.lit for mark in there)
            )
        )
    return tuple(pictures)


def template_pictures(
    plan: Plan, case: Case, template: int, structures: Sequence[Structure]
) -> tuple[Picture, ...]:
    """The view along a template's axis at several depths, the one of the largest section to be printed.

    A needle is shown where its own line crosses the plane at that depth.
    """
    layout = TemplateLayout.of(plan.templates[template])
    own = [needle for needle in plan.needles if needle.template == template]
    drawn = [s for s in structures if role_of(s, plan) == "target" or stops_needles(s, plan)]
    regions = shown(drawn, plan)
    middle = cuts.middle_depth(plan, template, structures)
    depths = [middle]
    places = np.array([s.position_mm for n in own for s in n.seeds]).reshape(-1, 3)
    if len(places):
        along = layout.to_plate(places)[:, 2]
        low, high = along.min() - 2 * DEPTH_STEP_MM, along.max() + 2 * DEPTH_STEP_MM
        before, after = (
            max(0, int((middle - low) // DEPTH_STEP_MM)),
            max(0, int((high - middle) // DEPTH_STEP_MM)),
        )
        depths = [middle + DEPTH_STEP_MM * k for k in range(-before, after + 1)]
    rx, _ = cuts.prescription(plan)
    model, pictures = plan.dose_model(), []
    for depth in depths:
        cut = cuts.template_cut(plan, template, depth)
        lines = isodose_lines(cut, model, cuts.LEVELS_PCT, rx)
        picture = base_picture(cut, case, regions, plan, lines)
        pitch, corner = layout.spacing_mm, corner_of(cut)
        start = cuts.in_plane(cut, layout.origin_mm[None])[0] - corner

        def place(x: float, y: float, start: Float = start) -> tuple[float, float]:
            """Place in the picture of a place on the plate."""
            return float(start[0]) + x, float(start[1]) - y

        used = {n.hole for n in own}
        loaded = tuple(
            Mark(
                *short(cuts.crossing(cut, n) - corner), str(len(n.seeds)), n.hole, _seed_at(n, layout, depth)
            )
            for n in own
        )
        every = max(1, round(6.0 / pitch))
        marks = [
            Mark(*short(place(*layout.on_plate(c, 0.1))), column_letters(c))
            for c in range(0, layout.columns, every)
        ]
        marks += [
            Mark(*short(place(*layout.on_plate(-0.9, r))), str(r)) for r in range(1, layout.rows + 1, every)
        ]
        pictures.append(
            replace(
                picture,
                title=f"{depth:.0f} mm from the template",
                holes=tuple(
                    Mark(*short(place(*layout.place(label)))) for label in layout.labels if label not in used
                ),
                loaded=loaded,
                hole_size=float(np.clip(0.32 * pitch, 1.4, 3.2)),
                labels=tuple(marks),
                printed=depth == middle,
            )
        )
    return tuple(pictures)


def _seed_at(needle: PlanNeedle, layout: TemplateLayout, depth_mm: float) -> bool:
    """Whether a seed's centre is nearer to this depth than to the next view's."""
    places = np.array([seed.position_mm for seed in needle.seeds]).reshape(-1, 3)
    gaps = layout.to_plate(places)[:, 2] - depth_mm
    return bool(((gaps > -0.5 * DEPTH_STEP_MM) & (gaps <= 0.5 * DEPTH_STEP_MM)).any())


def base_picture(
    cut: Grid, case: Case | None, regions: Sequence[Structure], plan: Plan, isodoses: tuple[Line, ...]
) -> Picture:
    """CT and outlines of a cut."""
    corner = corner_of(cut)
    size = cut.spacing_mm[:2] * np.array([cut.shape[2], cut.shape[1]])
    outlines, lattice = [], coarser(cut, LATTICE_MM)
    for structure in regions:
        rings = [ring - corner for ring in cuts.outlines_on(lattice, structure)]
        rings = [ring for ring in rings if _meets(ring, size)]
        if rings:
            style = line_of(structure, plan)
            path = " ".join(path_of(ring, closed=True) for ring in rings)
            width = round(1.25 * style.width, 2)
            outlines.append(Line(path, structure.name, style.colour, SVG_DASH[style.pattern], width))
    return Picture(
        title="",
        width=round(float(size[0]), 2),
        height=round(float(size[1]), 2),
        image=encode(cuts.ct_on(cut, case)) if case is not None else "",
        structures=tuple(outlines),
        isodoses=isodoses,
        letters=cuts.edge_letters(cut),
    )


def isodose_lines(cut: Grid, model: DoseModel, levels_pct: Sequence[float], rx_gy: float) -> tuple[Line, ...]:
    """Isodose lines of a cut, from doses evaluated from the seeds."""
    if not any(len(implant) for implant in model.implants):
        return ()
    coarse = coarser(cut, LATTICE_MM)
    gy = cuts.dose_on(coarse, model)
    corner = corner_of(cut)
    levels = [percent * rx_gy / 100.0 for percent in levels_pct]
    found = []
    for percent, lines in zip(levels_pct, cuts.isodoses_on(coarse, gy, levels), strict=True):
        if lines:
            path = " ".join(path_of(line - corner) for line in lines)
            width = round(1.3 * WEIGHTS.get(percent, 1.2), 2)
            found.append(Line(path, f"{percent:g} %", isodose_colour(percent), "", width))
    return tuple(found)


def coarser(cut: Grid, pixel_mm: float) -> Grid:
    """The same cut in larger pixels, at least as wide."""
    pixel = np.maximum(cut.spacing_mm[:2], pixel_mm)
    count = np.ceil(cut.spacing_mm[:2] * (np.array([cut.shape[2], cut.shape[1]]) - 1) / pixel).astype(int) + 1
    return Grid(cut.origin_mm, [*pixel, cut.spacing_mm[2]], (1, int(count[1]), int(count[0])), cut.direction)


def with_needles(picture: Picture, cut: Grid, plan: Plan, half_mm: float) -> Picture:
    """The picture with the parts of the plan's needles near the cut, each with its hole's name."""
    strokes, labels = [], []
    corner = corner_of(cut)
    for path in cuts.paths_on(cut, plan.needles, half_mm):
        ends = path.ends - corner
        step = ends[1] - ends[0]
        length = float(np.linalg.norm(step))
        outside = ends[0] - (4.0 * step / length if length > 4.0 else np.array([0.0, 3.5]))
        strokes.append(Stroke(*short(ends[0]), *short(ends[1])))
        labels.append(Mark(*short(outside), cuts.needle_name(plan, path.needle)))
    return replace(picture, needles=tuple(strokes), labels=tuple(labels))


def legend_of(pictures: Sequence[Picture]) -> tuple[tuple[Legend, ...], tuple[Legend, ...]]:
    """Structures, targets first, and isodoses that appear in any of the pictures."""
    both = []
    for kind in ("structures", "isodoses"):
        seen: dict[str, Legend] = {}
        for picture in pictures:
            for line in getattr(picture, kind):
                seen.setdefault(line.name, Legend(line.name, line.colour, line.dashes, line.width))
        both.append(tuple(seen.values()))
    return both[0][::-1], both[1]


def path_of(ring: Float, closed: bool = False) -> str:
    """SVG path of a line (n, 2) in mm, in whole tenths of a mm.

    Examples
    --------
    >>> path_of(np.array([[0.0, 0.0], [1.0, 0.0], [2.0, 0.0], [2.0, 1.5], [0.0, 0.0]]), closed=True)
    'M0 0l20 0 0 15z'
    """
    points = np.round(np.asarray(ring) * 10.0).astype(int)
    points = points[np.concatenate([[True], (np.diff(points, axis=0) != 0).any(axis=1)])]
    if len(points) > 2:  # a point on the straight line between its neighbours says nothing
        before, after = np.diff(points[:-1], axis=0), np.diff(points[1:], axis=0)
        turn = before[:, 0] * after[:, 1] - before[:, 1] * after[:, 0]
        ahead = (before * after).sum(axis=1) > 0
        points = points[np.concatenate([[True], (turn != 0) | ~ahead, [True]])]
    if closed and len(points) > 1 and (points[0] == points[-1]).all():
        points = points[:-1]
    steps = np.diff(points, axis=0)
    text = f"M{points[0, 0]} {points[0, 1]}"
    if len(steps):
        text += "l" + " ".join(map(str, steps.ravel().tolist()))
    return text + ("z" if closed else "")


def encode(hu: NDArray[np.int16]) -> str:
    """CT as a grey PNG in base64, in the steps of `HU_KNOTS`."""
    from PIL import Image

    steps, values = zip(*HU_KNOTS, strict=True)
    grey = np.round(np.interp(hu, values, steps)).astype(np.uint8)
    stream = io.BytesIO()
    Image.fromarray(grey).save(stream, format="PNG", compress_level=9)
    return base64.b64encode(stream.getvalue()).decode("ascii")


def window_table(low_hu: float, high_hu: float) -> str:
    """Grey (0 to 1) of each of the 256 steps in a window, as SVG's tableValues."""
    steps, values = zip(*HU_KNOTS, strict=True)
    hu = np.interp(np.arange(256), steps, values)
    grey = np.clip((hu - low_hu) / (high_hu - low_hu), 0.0, 1.0)
    return " ".join(f"{value:.3f}".rstrip("0").rstrip(".") for value in grey)


def _corner_mm(cut: Grid) -> Float:
    """Upper left corner (3,) of the picture in the patient, mm."""
    found: Float = cut.origin_mm - 0.5 * cut.direction[:, :2] @ cut.spacing_mm[:2]
    return found


def corner_of(cut: Grid) -> Float:
    """The same as (right, down), mm."""
    found: Float = cuts.in_plane(cut, _corner_mm(cut)[None])[0]
    return found


def _near(cut: Grid, places: Sequence[tuple[str, Float]], half_mm: float) -> tuple[Mark, ...]:
    if not places:
        return ()
    points = np.array([place for _, place in places])
    off, flat = cuts.off_plane(cut, points), cuts.in_plane(cut, points) - corner_of(cut)
    return tuple(
        Mark(*short(flat[k]), name=name) for k, (name, _) in enumerate(places) if -half_mm < off[k] <= half_mm
    )


def _shifts(cut: Grid, pairs: Sequence[tuple[Float, Float]], half_mm: float) -> tuple[Stroke, ...]:
    if not pairs:
        return ()
    before, after = (np.array([pair[k] for pair in pairs]) for k in (0, 1))
    off = cuts.off_plane(cut, after)
    corner = corner_of(cut)
    start, end = cuts.in_plane(cut, before) - corner, cuts.in_plane(cut, after) - corner
    near = np.flatnonzero((off > -half_mm) & (off <= half_mm)).tolist()
    return tuple(Stroke(*short(start[k]), *short(end[k])) for k in near)


def _meets(ring: Float, size: Float) -> bool:
    return bool(((ring > -1.0) & (ring < size + 1.0)).all(axis=1).any())


def short(point: Sequence[float] | Float) -> tuple[float, float]:
    """A point as two numbers of 0.01 mm."""
    return round(float(point[0]), 2), round(float(point[1]), 2)
