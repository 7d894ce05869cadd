"""Figures of a plan for papers, notebooks and print, as Matplotlib axes.

Matplotlib is imported when a figure is drawn, never before. Without `axes` a figure of its own is made that no
window system needs: `axes.figure.savefig("slice.png")`.
"""

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from brachy.dosimetry.metrics import DVH
from brachy.errors import UsageError
from brachy.geometry.grid import Grid
from brachy.geometry.structures import Structure
from brachy.needles.template import TemplateLayout, column_letters
from brachy.output.figures import cuts
from brachy.output.figures.curves import FAR, Curves, far_from_dose, percent_curve, reach_of
from brachy.patient.case import Case
from brachy.patient.palette import (
    BLACK,
    BLUE,
    FIGURE_GRID,
    FIGURE_GROUND,
    FIGURE_HOLE,
    GREY,
    PATTERNS,
    PURPLE,
    WEIGHTS,
    WHITE,
    curve_line,
    isodose_colour,
    line_of,
    role_of,
    shown,
)
from brachy.patient.plan import Plan

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Float = NDArray[np.float64]

WINDOW_HU = (-160.0, 240.0)
"""Soft tissue: level 40 HU, width 400 HU (the usual abdominal window)."""


def plot_dvh(
    curves: Curves | Sequence[DVH],
    *,
    prescription_gy: float | None = None,
    targets: Sequence[str] = (),
    axes: "Axes | None" = None,
    most_gy: float | None = None,
) -> "Axes":
    """Cumulative dose-volume curves.

    Parameters
    ----------
    curves : mapping of str to (dose in Gy, volume in cc), or sequence of DVH
        By ROI; the first volume of a curve is the whole.
    prescription_gy : float, optional
        Marked by a line; structures far from all dose are then counted, not drawn.
    targets : sequence of str
        ROIs drawn thick, before all others.
    axes : matplotlib Axes, optional
        Where to draw.
    most_gy : float, optional
        Right end of the dose axis; by default 3 prescriptions, or what half a percent of a volume gets.

    Returns
    -------
    matplotlib Axes

    Raises
    ------
    UsageError
        If there is no curve, or a curve's arrays differ in length.

    Examples
    --------
    >>> axes = plot_dvh({"GTV": ([0, 100, 200], [10.0, 9.0, 0.0])}, prescription_gy=120, targets=["GTV"])
    >>> [float(gy) for gy in axes.get_xlim()]
    [0.0, 360.0]
    """
    listed = curves if isinstance(curves, Mapping) else {found.roi: found.curve() for found in curves}
    parts = {name: percent_curve(name, *pair) for name, pair in listed.items()}
    if not parts:
        raise UsageError("no dose-volume curve to draw: give one at least")
    if most_gy is None:
        most_gy = 3.0 * prescription_gy if prescription_gy else max(map(reach_of, parts.values()))
    far = [] if prescription_gy is None else far_from_dose(parts, prescription_gy, targets)
    ordered = sorted((name for name in parts if name not in far), key=lambda name: name not in targets)
    with _drawing(axes, (8.5, 4.8)) as drawn:
        handles, number = [], 0
        for name in ordered:
            gy, pct = parts[name]
            if name in targets:
                colour, pattern, width = PURPLE, PATTERNS[list(targets).index(name) % len(PATTERNS)], 3.0
            else:
                (colour, pattern), number, width = curve_line(number), number + 1, 1.6
            handles += drawn.plot(gy, pct, color=colour, ls=pattern, lw=width)
        if prescription_gy:
            drawn.axvline(prescription_gy, color=BLACK, lw=1.0, ls=(0, (1, 2)))
            drawn.text(
                prescription_gy, 101.0, f"{prescription_gy:g} Gy", ha="center", va="bottom", fontsize=10
            )
        drawn.set(xlim=(0.0, most_gy), ylim=(0.0, 100.0), xlabel="dose, Gy", ylabel="volume, %")
        drawn.grid(color=FIGURE_GRID, lw=0.8)
        drawn.set_axisbelow(True)
        for side in ("top", "right"):
            drawn.spines[side].set_visible(False)
        if far and prescription_gy:
            more = f"{len(far)} more: 99 % of each\nbelow {FAR * prescription_gy:g} Gy"
            handles, ordered = handles + drawn.plot([], [], ls="none"), [*ordered, more]
        _legend(drawn, handles, ordered, loc="upper left", bbox_to_anchor=(1.01, 1.0))
    return drawn


def plot_slice(
    plan: Plan,
    case: Case,
    *,
    index: int | None = None,
    cut: Grid | None = None,
    structures: Sequence[Structure] | None = None,
    levels_pct: Sequence[float] = cuts.LEVELS_PCT,
    window_hu: tuple[float, float] = WINDOW_HU,
    whole: bool = False,
    legend: bool = True,
    axes: "Axes | None" = None,
) -> "Axes":
    """CT in a plane with structures, isodose lines, needles and seeds.

    Parameters
    ----------
    plan, case : Plan, Case
        A plan and the patient it is for.
    index : int, optional
        Slice of the CT; by default the one nearest to the middle of the first target's seeds.
    cut : Grid, optional
        Any other plane instead, from `brachy.output.figures.cuts`.
    structures : sequence of Structure, optional
        Outlines; by default the case's.
    levels_pct : sequence of float
        Isodose lines, % of the (lowest) prescription.
    window_hu : (low, high)
        Shown black and white, HU.
    whole : bool
        Show the whole slice, not the part round targets and needles.
    legend : bool
        Add the meaning of all lines, right of the picture.
    axes : matplotlib Axes, optional
        Where to draw.

    Returns
    -------
    matplotlib Axes
        In mm, to the right and down; for axial slices these are x and y of the patient (LPS).

    Raises
    ------
    UsageError
        If the CT has no slice of that number.

    Examples
    --------
    >>> from brachy.optimise import plan as make
    >>> from brachy.io.phantom.file import load_phantom
    >>> from brachy.patient.protocol import change, load_protocol
    >>> case = load_phantom("sphere-35mm")
    >>> quick = change(load_protocol("liver-metastasis"), search={"starts": 1, "moves": 2000, "fine_moves": 0})
    >>> plan = make(case, quick, direction=(0, 0))
    >>> len(plot_slice(plan, case).collections) + len(plot_slice(plan, case).lines) > 0
    True
    """
    if cut is None:
        cut = _cut_of(plan, case, index, whole)
    regions = shown(list(case.structures if structures is None else structures), plan)
    half = 0.5 * float(cut.spacing_mm[2])
    rx, of = cuts.prescription(plan)
    right, down = cuts.axes_mm(cut)
    dx, dy = 0.5 * cut.spacing_mm[:2]
    box = (right[0] - dx, right[-1] + dx, down[0] - dy, down[-1] + dy)
    with _drawing(axes, _size(box, 6.2, legend)) as drawn:
        drawn.imshow(
            cuts.ct_on(cut, case),
            cmap="gray",
            vmin=window_hu[0],
            vmax=window_hu[1],
            extent=(right[0] - dx, right[-1] + dx, down[-1] + dy, down[0] - dy),
            interpolation="bilinear",
        )
        handles: list[Any] = []
        names: list[str] = []
        for structure in regions:
            line = line_of(structure, plan)
            # keywords of Matplotlib
            style: dict[str, Any] = {"color": line.colour, "ls": line.pattern, "lw": line.width}
            style["zorder"] = _height(structure, plan)
            rings = [ring for ring in cuts.outlines_on(cut, structure) if _within(ring, box)]
            for ring in rings:
                (handle,) = drawn.plot(ring[:, 0], ring[:, 1], **style)
            if rings:
                handles.append(handle)
                names.append(structure.name)
        levels = [level * rx / 100.0 for level in levels_pct]
        gy = cuts.dose_on(cut, plan.dose_model())
        for percent, lines in zip(levels_pct, cuts.isodoses_on(cut, gy, levels), strict=True):
            style = {"color": isodose_colour(percent), "lw": WEIGHTS.get(percent, 1.2)}
            for ring in lines:
                (handle,) = drawn.plot(ring[:, 0], ring[:, 1], **style)
            if lines:
                handles.append(handle)
                names.append(f"{percent:g} % of {rx:g} Gy" + (f" ({of})" if len(plan.targets) > 1 else ""))
        handles_of, names_of = _draw_needles(drawn, plan, cut, half)
        drawn.set(
            xlim=box[:2],
            ylim=(box[3], box[2]),
            xticks=[],
            yticks=[],
            aspect="equal",
        )
        _mark_edges(drawn, cut)
        if legend:
            _legend(
                drawn, handles + handles_of, names + names_of, loc="upper left", bbox_to_anchor=(1.01, 1.0)
            )
    return drawn


def _cut_of(plan: Plan, case: Case, index: int | None, whole: bool) -> Grid:
    grid = case.grid
    if index is None:
        index = cuts.middle_slice(plan, grid)
    if not 0 <= index < grid.shape[0]:
        raise UsageError(f"the CT has no slice {index}: choose one from 0 to {grid.shape[0] - 1}")
    return cuts.slice_cut(grid, index, None if whole else cuts.region_of(plan, case))


def _draw_needles(axes: "Axes", plan: Plan, cut: Grid, half_mm: float) -> tuple[list[Any], list[str]]:
    """Needles as white lines with their names beside the hole, seeds as white squares."""
    handles, names = [], []
    for path in cuts.paths_on(cut, plan.needles, half_mm):
        for colour, width in ((BLACK, 3.0), (WHITE, 1.4)):
            (line,) = axes.plot(
                path.ends[:, 0], path.ends[:, 1], color=colour, lw=width, clip_on=True, zorder=2.2
            )
        handles, names = [line], ["needle"]
        step = path.ends[1] - path.ends[0]
        length = float(np.linalg.norm(step))
        outside = path.ends[0] - (5.0 * step / length if length > 5.0 else np.array([0.0, 4.0]))
        axes.text(
            float(outside[0]),
            float(outside[1]),
            cuts.needle_name(plan, path.needle),
            color=WHITE,
            fontsize=9,
            ha="center",
            va="center",
            clip_on=True,
            bbox={"facecolor": BLACK, "alpha": 0.7, "pad": 1.2, "lw": 0},
        )
    seeds = cuts.seeds_on(cut, plan, half_mm)
    if seeds:
        places = np.array([place for _, place in seeds])
        handles += axes.plot(
            places[:, 0], places[:, 1], "s", ms=5.0, mfc=WHITE, mec=BLACK, mew=1.2, ls="none", zorder=2.3
        )
        names.append("seed")
    return handles, names


def _height(structure: Structure, plan: Plan) -> float:
    """Drawing order: targets over isodoses, which often run along them."""
    return 2.1 if role_of(structure, plan) == "target" else 2.0


def _mark_edges(axes: "Axes", cut: Grid) -> None:
    """Mark the edges with R, L, A, P ..., draw a scale of 5 cm, and write the position of an axial cut as the title."""
    left, right, top, bottom = cuts.edge_letters(cut)
    for letter, x, y, side, height in (
        (left, -0.01, 0.5, "right", "center"),
        (right, 1.01, 0.5, "left", "center"),
        (top, 0.5, 1.01, "center", "bottom"),
        (bottom, 0.5, -0.01, "center", "top"),
    ):
        axes.text(x, y, letter, transform=axes.transAxes, fontsize=13, weight="bold", ha=side, va=height)
    normal = cut.direction[:, 2]
    k = int(np.argmax(np.abs(normal)))
    if abs(normal[k]) > 1 - 1e-6:
        axes.set_title(f"{'xyz'[k]} = {cut.origin_mm[k]:.1f} mm", fontsize=12, loc="left")
    across, down = cuts.axes_mm(cut)
    if across[-1] - across[0] > 80.0:
        x, y = across[-1] - 0.03 * (across[-1] - across[0]), down[-1] - 0.03 * (down[-1] - down[0])
        axes.plot([x - 50.0, x], [y, y], color=WHITE, lw=3.0, solid_capstyle="butt")
        axes.text(x - 25.0, y - 1.5, "5 cm", color=WHITE, fontsize=10, ha="center", va="bottom")


def _size(box: tuple[float, float, float, float], height: float, legend: bool) -> tuple[float, float]:
    """Width and height of a figure, inches, for a picture of a box (mm) with or without a legend beside it."""
    aspect = (box[1] - box[0]) / (box[3] - box[2])
    return float(np.clip(height * aspect, 3.0, 14.0)) + (3.2 if legend else 0.6), height + 0.6


def _within(ring: Float, box: tuple[float, float, float, float]) -> bool:
    """Whether a point of a line lies in the box (left, right, top, bottom)."""
    x, y = ring[:, 0], ring[:, 1]
    return bool(((x > box[0]) & (x < box[1]) & (y > box[2]) & (y < box[3])).any())


def plot_template(
    plan: Plan,
    case: Case | None = None,
    *,
    template: int = 0,
    depth_mm: float | None = None,
    structures: Sequence[Structure] | None = None,
    levels_pct: Sequence[float] = cuts.LEVELS_PCT,
    legend: bool = True,
    axes: "Axes | None" = None,
) -> "Axes":
    """The view along a template's axis: all holes, the needles with their number of seeds, isodoses at a depth.

    A needle is drawn where it crosses the plane at that depth.

    Parameters
    ----------
    plan : Plan
        A plan.
    case : Case, optional
        For outlines of the targets and of what needles must not meet, at the depth.
    template : int
        Index of the template.
    depth_mm : float, optional
        From the template's plane along its axis; by default that of the target's largest section, or of the middle
        of the seeds.
    structures : sequence of Structure, optional
        Outlines; by default the case's.
    levels_pct : sequence of float
        Isodose lines, % of the (lowest) prescription.
    legend : bool
        Add the meaning of all lines, right of the picture.
    axes : matplotlib Axes, optional
        Where to draw.

    Returns
    -------
    matplotlib Axes
        mm from hole A1 along the columns and along the rows.

    Raises
    ------
    UsageError
        If the plan has no such template.

    Examples
    --------
    >>> from brachy.optimise import plan as make
    >>> from brachy.io.phantom.file import load_phantom
    >>> from brachy.patient.protocol import change, load_protocol
    >>> case = load_phantom("sphere-35mm")
    >>> quick = change(load_protocol("liver-metastasis"), search={"starts": 1, "moves": 2000, "fine_moves": 0})
    >>> plan = make(case, quick, direction=(0, 0))
    >>> len(plot_template(plan, case).get_title()) > 0
    True
    """
    if not 0 <= template < len(plan.templates):
        raise UsageError(f"the plan has {len(plan.templates)} templates: there is no index {template}")
    layout = TemplateLayout.of(plan.templates[template])
    regions = list(structures if structures is not None else case.structures if case is not None else ())
    depth = cuts.middle_depth(plan, template, regions) if depth_mm is None else depth_mm
    cut = cuts.template_cut(plan, template, depth, pixel_mm=1.25)
    right, down = cuts.axes_mm(cut)
    box = (right[0], right[-1], down[0], down[-1])
    (origin,) = cuts.in_plane(cut, layout.origin_mm[None])
    rx, _ = cuts.prescription(plan)
    handles: list[Any] = []
    names: list[str] = []
    with _drawing(axes, _size(box, 5.6, legend)) as drawn:
        for structure in shown([s for s in regions if role_of(s, plan) not in ("external", "liver")], plan):
            line = line_of(structure, plan)
            rings = [ring for ring in cuts.outlines_on(cut, structure) if _within(ring, box)]
            for ring in rings:
                x, y = _from_origin(ring, origin)
                height = _height(structure, plan)
                (handle,) = drawn.plot(x, y, color=line.colour, ls=line.pattern, lw=line.width, zorder=height)
            if rings:
                handles.append(handle)
                names.append(structure.name)
        gy = cuts.dose_on(cut, plan.dose_model())
        levels = [level * rx / 100.0 for level in levels_pct]
        for percent, lines in zip(levels_pct, cuts.isodoses_on(cut, gy, levels), strict=True):
            for ring in lines:
                x, y = _from_origin(ring, origin)
                (handle,) = drawn.plot(
                    x, y, color=isodose_colour(percent), lw=1.4 * WEIGHTS.get(percent, 1.2)
                )
            if lines:
                handles.append(handle)
                names.append(f"{percent:g} % of {rx:g} Gy")
        marks = _draw_holes(drawn, plan, template, cut)
        shown_columns = range(0, layout.columns, max(1, layout.columns // 26))
        rows = range(1, layout.rows + 1)
        drawn.set_xticks(
            [layout.on_plate(c, 1)[0] for c in shown_columns], [column_letters(c) for c in shown_columns]
        )
        drawn.set_yticks([layout.on_plate(0, r)[1] for r in rows], [str(r) for r in rows])
        across, upward = ("across", "up") if layout.individual else ("column", "row")
        drawn.tick_params(labelsize=12, length=0)
        to_left, to_right, up, _ = cuts.edge_letters(cut)
        drawn.set_xlabel(
            f"{to_left}  \N{LEFTWARDS ARROW}  {across}  \N{RIGHTWARDS ARROW}  {to_right}", fontsize=11
        )
        drawn.set_ylabel(f"{upward}  \N{RIGHTWARDS ARROW}  {up}", fontsize=11)
        along = "the template's axis" if layout.cone_deg else "the needles"
        drawn.set_title(f"along {along}, {depth:.0f} mm from the template", fontsize=12)
        drawn.set(
            xlim=(box[0] - origin[0], box[1] - origin[0]),
            ylim=(origin[1] - box[3], origin[1] - box[2]),
            aspect="equal",
            facecolor=FIGURE_GROUND,
        )
        if legend:
            _legend(
                drawn,
                handles + marks,
                [*names, "needle: number of seeds", "hole without needle"],
                loc="upper left",
                bbox_to_anchor=(1.01, 1.0),
            )
    return drawn


def _from_origin(ring: Float, origin: Float) -> tuple[Float, Float]:
    """Coordinates of a line along columns and rows, mm from hole A1."""
    return ring[:, 0] - origin[0], origin[1] - ring[:, 1]


def _draw_holes(axes: "Axes", plan: Plan, template: int, cut: Grid) -> list[Any]:
    """All holes, and each needle with its number of seeds where its own line crosses the cut."""
    layout = TemplateLayout.of(plan.templates[template])
    # holes of needles at angles are where the plate is, not where the cut is
    labels = [] if layout.individual else layout.labels
    places = np.array([layout.place(label) for label in labels]).reshape(-1, 2)
    (free,) = axes.plot(places[:, 0], places[:, 1], "o", ms=5, mfc="none", mec=FIGURE_HOLE, ls="none")
    (origin,) = cuts.in_plane(cut, layout.origin_mm[None])
    size = float(np.clip(1.4 * layout.spacing_mm, 8.0, 14.0))
    loaded = free
    for needle in (n for n in plan.needles if n.template == template):
        right, down = cuts.crossing(cut, needle).tolist()
        x, y = right - float(origin[0]), float(origin[1]) - down
        (loaded,) = axes.plot(x, y, "o", ms=size, mfc=BLUE, mec=WHITE, mew=1.2, ls="none", zorder=2.3)
        axes.text(
            x, y, str(len(needle.seeds)), color=WHITE, fontsize=0.68 * size, weight="bold", ha="center",
            va="center_baseline",
        )  # fmt: skip
    return [loaded, free]


def _legend(axes: "Axes", handles: Sequence[Any], names: Sequence[str], **where: Any) -> None:
    """Legend outside the picture; names are shown as plain text, also where they hold markup."""
    if not handles:
        return
    found = axes.legend(
        handles, [f"\N{ZERO WIDTH SPACE}{n}" for n in names], frameon=False, fontsize=10, **where
    )
    for text, name in zip(found.get_texts(), names, strict=True):
        text.set_parse_math(False)
        text.set_text(name)
    for line in found.get_lines():  # white on CT, unseen on paper
        if line.get_color() == WHITE:
            line.set_color(GREY)


@contextmanager
def _drawing(axes: "Axes | None", size_inches: tuple[float, float]) -> Iterator["Axes"]:
    """Axes to draw on: the given ones, or those of a new figure that is not shown in a window."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=r"Glyph .* missing from", category=UserWarning)
        if axes is None:
            from matplotlib.backends.backend_agg import FigureCanvasAgg
            from matplotlib.figure import Figure

            figure = Figure(figsize=size_inches, layout="constrained")
            FigureCanvasAgg(figure)
            axes = figure.add_subplot()
        yield axes
