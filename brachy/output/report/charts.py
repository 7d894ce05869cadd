"""Curves and the 3D scene of the report as data for Plotly: plain dictionaries, arrays in base64."""

import base64
import html
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from brachy.dosimetry.source import Source
from brachy.geometry.grid import Dose, Grid
from brachy.geometry.structures import Structure
from brachy.output.figures import cuts
from brachy.output.figures.curves import Curves, far_from_dose, percent_curve
from brachy.output.figures.scene import AROUND_MM
from brachy.output.figures.surfaces import Surface, dose_surface, structure_surface
from brachy.patient.palette import (
    BLACK,
    BLUE,
    CHART_GRID,
    CHART_LINE,
    CHART_TEXT,
    PAPER,
    PATTERNS,
    PLOTLY_DASH,
    PURPLE,
    VERMILION,
    curve_line,
    isodose_colour,
    role_of,
    shown,
    style_of,
)
from brachy.patient.plan import Plan

Float = NDArray[np.float64]
Figure = dict[str, Any]  # nested JSON: its keys are Plotly's own
"""A Plotly figure, or a part of one."""

FONT = {"family": "system-ui, 'Segoe UI', 'DejaVu Sans', sans-serif", "size": 13, "color": CHART_TEXT}

MOST_POINTS = 300
"""Points of a curve that the page holds."""

STRUCTURE_VOXELS = 20_000
"""Of the lattice that a structure's surface is taken from (engineering choice)."""

STRUCTURE_TRIANGLES = 8000
ISODOSE_TRIANGLES = 12000
"""Triangles of a surface that the page holds at most (engineering choice)."""

ISODOSE_MM = 3.0
"""Isodose surfaces are taken from about this lattice (engineering choice)."""

SEED_PIXELS = 9.0
NEEDLE_PIXELS = 3.0


def text(name: str) -> str:
    """A name that Plotly shows as it is: it takes labels for a small kind of HTML.

    Examples
    --------
    >>> text("<b>GTV</b>")
    '&lt;b&gt;GTV&lt;/b&gt;'
    """
    return html.escape(name, quote=False)


def array(values: Any, kind: str = "<f4") -> dict[str, str]:
    """Array as Plotly reads it from base64."""
    data = np.ascontiguousarray(values, dtype=kind)
    return {"dtype": kind[1:], "bdata": base64.b64encode(data.tobytes()).decode("ascii")}


def dvh_figure(
    curves: Curves, prescription_gy: float, targets: Sequence[str], planned: Curves | None = None
) -> Figure:
    """Dose-volume curves in % and cc, targets first; those far from all dose are hidden till they are asked for.

    With `planned`, curves of the same ROIs are drawn thin and broken beside those found.
    """
    parts = {name: percent_curve(name, *pair) for name, pair in curves.items()}
    whole = {
        name: float(np.asarray(volume)[0]) for name, (_, volume) in curves.items() if len(np.asarray(volume))
    }
    far = set(far_from_dose(parts, prescription_gy, targets))
    ordered = sorted(parts, key=lambda name: (name not in targets, name in far))
    most = 3.0 * prescription_gy
    traces, number = [], 0
    for name in ordered:
        if name in targets:
            colour, pattern, width = PURPLE, PATTERNS[list(targets).index(name) % len(PATTERNS)], 3.5
        else:
            (colour, pattern), number, width = curve_line(number), number + 1, 1.8
        sets = [(parts[name], "found" if planned else "", pattern, width)]
        if planned and name in planned:
            sets.append((percent_curve(name, *planned[name]), "planned", "dotted", 1.4))
        for (gy, percent), which, dash, thick in sets:
            x, y = _thinned(gy, percent, most)
            label = text(name) + (f", {which}" if which else "")
            traces.append(
                {
                    "type": "scatter",
                    "mode": "lines",
                    "name": label,
                    "legendgroup": text(name),
                    "x": array(x),
                    "y": array(y),
                    "customdata": array(y * whole.get(name, 0.0) / 100.0),
                    "line": {"color": colour, "dash": PLOTLY_DASH[dash], "width": thick},
                    "visible": "legendonly" if name in far else True,
                    "hovertemplate": f"<b>{label}</b><br>%{{x:.1f}} Gy or more: %{{y:.2f}} %, %{{customdata:.3g}} cc"
                    "<extra></extra>",
                }
            )
    layout = {
        "font": FONT,
        "margin": {"l": 60, "r": 10, "t": 28, "b": 48},
        "height": int(np.clip(19 * len(traces) + 70, 440, 760)),
        "paper_bgcolor": PAPER,
        "plot_bgcolor": PAPER,
        "xaxis": axis("dose, Gy", [0, most]),
        "yaxis": axis("volume, %", [0, 101]),
        "hovermode": "closest",
        "hoverdistance": 30,
        "legend": {"x": 1.02, "y": 1, "font": {"size": 11}, "itemwidth": 34, "tracegroupgap": 0},
        **prescription_line(prescription_gy),
    }
    return {"data": traces, "layout": layout}


def prescription_line(gy: float) -> Figure:
    """The upright line of the prescription with its label, for a layout."""
    line = {"type": "line", "x0": gy, "x1": gy, "y0": 0, "y1": 1, "yref": "paper"}
    label = {
        "x": gy,
        "y": 1.0,
        "yref": "paper",
        "yanchor": "bottom",
        "showarrow": False,
        "text": f"{gy:g} Gy",
    }
    return {
        "shapes": [{**line, "line": {"color": BLACK, "width": 1, "dash": "dot"}}],
        "annotations": [label],
    }


def axis(title: str, span: list[float]) -> Figure:
    """An axis of the plots: title and range."""
    return {
        "title": {"text": title},
        "range": span,
        "gridcolor": CHART_GRID,
        "zeroline": False,
        "showline": True,
        "linecolor": CHART_LINE,
        "ticks": "outside",
    }


def _thinned(gy: Float, percent: Float, most_gy: float) -> tuple[Float, Float]:
    """At most `MOST_POINTS` of a curve, the first beyond `most_gy` the last."""
    last = int(np.searchsorted(gy, most_gy, side="right")) + 1
    gy, percent = gy[:last], percent[:last]
    if len(gy) <= MOST_POINTS:
        return gy, percent
    wanted = np.linspace(gy[0], gy[-1], MOST_POINTS)
    return wanted, np.interp(wanted, gy, percent)


def scene_figure(
    plan: Plan,
    structures: Sequence[Structure],
    dose: Dose | None,
    region_mm: Float,
    *,
    levels_pct: Sequence[float] = (100.0, 150.0),
    extra: Sequence[Figure] = (),
) -> Figure:
    """Structures, isodose surfaces, needles and seeds to turn; a click on a name hides or shows it.

    Parameters
    ----------
    plan : Plan
        Needles, seeds, templates, colours.
    structures : sequence of Structure
        Surfaces.
    dose : Dose, optional
        For the isodose surfaces.
    region_mm : (n, 3) array
        Structures are shown this far, and a margin more.
    levels_pct : sequence of float
        Isodose surfaces; the first is shown at first.
    extra : sequence of dict
        Further traces, as `sticks` makes them.
    """
    limits = np.array([region_mm.min(axis=0) - AROUND_MM / 2, region_mm.max(axis=0) + AROUND_MM / 2])
    traces: list[Figure] = []
    seen: list[NDArray[Any]] = [np.array([n.hole_mm for n in plan.needles]).reshape(-1, 3)]
    for structure in reversed(shown(list(structures), plan)):
        role = role_of(structure, plan)
        style = style_of(role)
        opacity = min(style.opacity, 0.28) if role == "target" else style.opacity  # the seeds lie inside
        surface = structure_surface(structure, limits, STRUCTURE_TRIANGLES, STRUCTURE_VOXELS)
        if not surface.is_empty:
            traces.append(_mesh(surface, structure.name, style.solid, opacity, not style.hidden))
            if not style.hidden:
                seen.append(surface.points_mm)
    rx, of = cuts.prescription(plan)
    coarse = None if dose is None else _coarser(dose)
    for k, percent in enumerate(levels_pct if coarse is not None else ()):
        assert coarse is not None
        surface = dose_surface(coarse, percent * rx / 100.0, ISODOSE_TRIANGLES)
        if not surface.is_empty:
            name = f"{percent:g} % of {rx:g} Gy" + (f" ({of})" if len(plan.targets) > 1 else "")
            traces.append(_mesh(surface, name, isodose_colour(percent), 0.16, k == 0))
    traces += [*_implant(plan), *extra, _sides(np.concatenate(seen) if len(seen) > 1 else region_mm)]
    layout = {
        "font": FONT,
        "height": 620,
        "margin": {"l": 0, "r": 0, "t": 0, "b": 0},
        "paper_bgcolor": PAPER,
        "legend": {"x": 1.0, "y": 0.94, "font": {"size": 12}, "itemsizing": "constant"},
        "scene": {
            "aspectmode": "data",
            **{f"{axis}axis": {"visible": False} for axis in "xyz"},
            "camera": _camera(plan),
            "dragmode": "orbit",
        },
    }
    return {"data": traces, "layout": layout}


def _coarser(dose: Dose) -> Dose:
    """Every so many voxels of a dose, and the first always."""
    step = np.maximum(1, np.floor(ISODOSE_MM / dose.grid.spacing_mm + 1e-6)).astype(int)
    gy = np.asarray(dose.gy)[:: step[2], :: step[1], :: step[0]]
    grid = Grid(dose.grid.origin_mm, dose.grid.spacing_mm * step, gy.shape, dose.grid.direction)
    return Dose(grid, gy)


def _mesh(surface: Surface, name: str, colour: str, opacity: float, visible: bool) -> Figure:
    points, corners = surface.points_mm, surface.triangles
    kind = "<u2" if len(points) < 65536 else "<i4"
    return {
        "type": "mesh3d",
        "name": text(name),
        "showlegend": True,
        "visible": True if visible else "legendonly",
        "color": colour,
        "opacity": opacity,
        **{axis: array(np.round(points[:, k], 2)) for k, axis in enumerate("xyz")},
        **{corner: array(corners[:, k], kind) for k, corner in enumerate("ijk")},
        "hoverinfo": "name",
        "hoverlabel": {"namelength": -1},
        "lighting": {"ambient": 0.55, "diffuse": 0.7, "specular": 0.1, "roughness": 0.8},
        "flatshading": False,
    }


def _implant(plan: Plan) -> list[Figure]:
    """Needles, seeds and the names of the holes."""
    if not plan.needles:
        return []
    lengths = [Source.from_dict(source.data, name=source.model).capsule_length_mm for source in plan.sources]
    names = [cuts.needle_name(plan, needle) for needle in plan.needles]
    paths = np.array([(needle.hole_mm, needle.tip_mm) for needle in plan.needles])
    traces = [sticks(paths, names, "needles", BLUE, NEEDLE_PIXELS)]
    capsules, labels = [], []
    for needle, name in zip(plan.needles, names, strict=True):
        for k, seed in enumerate(needle.seeds, 1):
            half = 0.5 * lengths[seed.source] * np.array(needle.direction)
            capsules.append((np.array(seed.position_mm) - half, np.array(seed.position_mm) + half))
            labels.append(f"{name}.{k}")
    if capsules:
        traces.append(sticks(np.array(capsules), labels, "seeds", VERMILION, SEED_PIXELS))
    place = paths[:, 0] - 5.0 * np.array([needle.direction for needle in plan.needles])
    traces.append(
        {
            "type": "scatter3d",
            "mode": "text",
            "name": "holes",
            "text": names,
            **{axis: array(place[:, k]) for k, axis in enumerate("xyz")},
            "textfont": {"size": 11, "color": BLACK},
            "hoverinfo": "skip",
        }
    )
    return traces


def sticks(
    pairs: Float, names: Sequence[str], title: str, colour: str, width: float, visible: bool = True
) -> Figure:
    """Pairs (n, 2, 3) of ends as one broken line, mm; each piece with its name."""
    broken = np.full((len(pairs), 3, 3), np.nan)
    broken[:, :2] = pairs
    flat = broken.reshape(-1, 3)
    return {
        "type": "scatter3d",
        "mode": "lines",
        "name": title,
        "visible": True if visible else "legendonly",
        "line": {"color": colour, "width": width},
        **{axis: array(flat[:, k]) for k, axis in enumerate("xyz")},
        "text": [text(name) for name in names for _ in range(3)],
        "hovertemplate": "%{text}<extra></extra>",
    }


def _sides(points: NDArray[Any]) -> Figure:
    """Letters of the patient's sides round what is seen."""
    limits = np.array([points.min(axis=0), points.max(axis=0)], dtype=np.float64)
    middle = 0.5 * (limits[0] + limits[1])
    places, letters = [], []
    for k, pair in enumerate(cuts.LETTERS):
        for end, letter in zip((0, 1), pair, strict=True):
            place = middle.copy()
            place[k] = limits[end][k] + (2 * end - 1) * 6.0
            places.append(place)
            letters.append(letter)
    flat = np.array(places)
    return {
        "type": "scatter3d",
        "mode": "text",
        "name": "sides",
        "text": letters,
        **{axis: array(flat[:, k]) for k, axis in enumerate("xyz")},
        "textfont": {"size": 17, "color": BLACK, "weight": "bold"},
        "hoverinfo": "skip",
    }


def _camera(plan: Plan) -> Figure:
    """From before the first template, a little from the side and from above, the head up."""
    if not plan.templates:
        return {"eye": {"x": 0.6, "y": -1.6, "z": 0.7}, "up": {"x": 0, "y": 0, "z": 1}}
    plate = plan.templates[0]
    away = 0.72 * np.array(plate.direction) - 0.55 * np.array(plate.column) - 0.42 * np.array(plate.row)
    eye = -1.15 * away / np.linalg.norm(away)
    up = plate.row
    return {
        "eye": dict(zip("xyz", (round(float(v), 4) for v in eye), strict=True)),
        "up": dict(zip("xyz", (round(float(v), 4) for v in up), strict=True)),
        "projection": {"type": "perspective"},
    }
