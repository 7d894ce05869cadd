"""The needle chart: what the hands need to know, a line a needle in the order of insertion, and a map of the template.

Depths are those of the tip along the needle. What stays outside is the rest of a needle of the protocol's length.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from brachy.dosimetry.source import Source
from brachy.geometry.structures import Structure
from brachy.needles.template import TemplateLayout
from brachy.output import csv_tables
from brachy.output.figures.cuts import needle_name, towards
from brachy.patient.plan import Plan, PlanNeedle

SLOPE_MM = 5.0
"""The skin's slope is that of points so far to both sides of the entry (engineering choice)."""

LEAN_SHOWN = 0.15
"""Share of the way across from hole to tip that the map shows (engineering choice)."""


@dataclass(frozen=True)
class ChartRow:
    """A needle of the chart; lengths in mm, angles in degrees."""

    order: int
    name: str
    template: int
    layer: int | None
    """None where the template has no layers."""
    first_of_layer: bool
    azimuth_deg: str
    tilt_deg: str
    depth_mm: float
    depth_from_skin_mm: float
    outside_mm: float
    """From the template to the hub end of a needle as long as the protocol's longest path."""
    loading: str
    seeds: int
    nearest: str
    """Name of the obstacle nearest to the path; "" if none is near."""
    nearest_mm: float
    """From the needle's surface."""
    nearest_at_mm: float
    """How deep, from the template."""
    to_skin_deg: float | None
    """Angle between the needle and the skin at its entry; None where no outline is given."""
    placed: bool
    """Whether the needle is in the patient already, measured or with all of its seeds."""


@dataclass(frozen=True)
class MapHole:
    """A hole with a needle on the map: its place in mm (x to the right, y down), depth and seeds."""

    x: float
    y: float
    name: str
    order: int
    depth_mm: float
    seeds: int
    lean: tuple[float, float] = (0.0, 0.0)
    """From the hole toward where the tip lies, mm on the map; 0 for a needle along the template's axis."""
    shade: float = 1.0
    """How dark: 1 for the deepest of needles at angles, less for others; 1 for all parallel ones."""


@dataclass(frozen=True)
class PlateMap:
    """A template as one sees it who stands before it and inserts the needles."""

    title: str
    spacing: float
    width: float
    height: float
    empty: tuple[tuple[float, float], ...]
    """Holes without a needle: place in mm, x to the right, y down."""
    used: tuple[MapHole, ...]
    up: str
    right: str
    """Words for the patient's side that the upper and the right edge lie toward."""


def chart_rows(plan: Plan, structures: Sequence[Structure] = ()) -> tuple[ChartRow, ...]:
    """Rows of the chart, in the order of insertion.

    Parameters
    ----------
    plan : Plan
        A plan.
    structures : sequence of Structure
        With their roles; the plan's obstacles among them are measured.
    """
    lengths = [Source.from_dict(source.data, name=source.model).capsule_length_mm for source in plan.sources]
    stopping = csv_tables.obstacles_of(plan, structures)
    external = next((s for s in structures if s.role == "external" and not s.is_empty), None)
    rows: list[ChartRow] = []
    for order, needle in enumerate(csv_tables.in_order_of_insertion(plan), 1):
        azimuth, tilt = csv_tables.direction_angles(needle.direction)
        layer = csv_tables.layer_of(needle, plan)
        name, gap, depth = csv_tables.nearest_obstacle(
            needle, stopping[needle.template], plan.protocol.needle.radius_mm
        )
        last = rows[-1] if rows else None
        rows.append(
            ChartRow(
                order=order,
                name=needle_name(plan, needle),
                template=needle.template,
                layer=layer,
                first_of_layer=last is None or (last.template, last.layer) != (needle.template, layer),
                azimuth_deg=azimuth,
                tilt_deg=tilt,
                depth_mm=needle.depth_mm,
                depth_from_skin_mm=needle.depth_from_skin_mm,
                outside_mm=plan.protocol.needle.max_needle_mm - needle.depth_mm,
                loading=csv_tables.loading_text(needle, lengths, plan.protocol.seeds.supply),
                seeds=len(needle.seeds),
                nearest=name,
                nearest_mm=gap,
                nearest_at_mm=depth,
                to_skin_deg=angle_to_skin(needle, external),
                placed=needle.in_place or all(seed.placed for seed in needle.seeds),
            )
        )
    return tuple(rows)


def _apart(places: np.ndarray, layout: TemplateLayout) -> float:
    """Room of a hole on the map: a pitch, or where holes have places of their own the least distance of two."""
    if not layout.individual or len(places) < 2:
        return layout.spacing_mm
    gaps = np.linalg.norm(places[:, None] - places[None], axis=2)[np.triu_indices(len(places), 1)]
    return round(min(float(gaps.min()), layout.spacing_mm), 2)


def _shade(depth_mm: float, all_mm: Sequence[float], layout: TemplateLayout) -> float:
    """From 0.3 for the shallowest to 1 for the deepest, so that depths can be compared at a glance."""
    low, high = min(all_mm), max(all_mm)
    if not layout.individual or high - low < 1.0:
        return 1.0
    return round(0.3 + 0.7 * (depth_mm - low) / (high - low), 2)


def _lean(needle: PlanNeedle, layout: TemplateLayout) -> tuple[float, float]:
    """How far the tip lies from below the hole, as the map shows it: x to the right, y down."""
    if not layout.individual:
        return 0.0, 0.0
    (hole, tip) = layout.to_plate([needle.hole_mm, needle.tip_mm])
    across = LEAN_SHOWN * (tip - hole)[:2]
    return round(float(across[0]), 2), round(float(-across[1]), 2)


def angle_to_skin(needle: PlanNeedle, external: Structure | None) -> float | None:
    """Angle in degrees between a needle and the skin where it enters, 90 where it meets it head on.

    The skin's normal is the slope of the distance to it, over 10 mm (engineering choice: above the steps of slices).
    """
    if external is None:
        return None
    entry = np.array(needle.skin_mm)
    steps = np.concatenate([np.eye(3), -np.eye(3)]) * SLOPE_MM
    distance = external.signed_distance_mm(entry + steps, 4 * SLOPE_MM)
    slope = distance[:3] - distance[3:]
    size = float(np.linalg.norm(slope))
    if size == 0.0:
        return None
    inward = float(-(slope / size) @ np.array(needle.direction))
    return float(np.degrees(np.arcsin(np.clip(inward, -1.0, 1.0))))


def one_direction(rows: Sequence[ChartRow]) -> tuple[str, str] | None:
    """Azimuth and tilt of all needles; None where they differ."""
    found = {(row.azimuth_deg, row.tilt_deg) for row in rows}
    return found.pop() if len(found) == 1 else None


def plate_maps(plan: Plan, rows: Sequence[ChartRow]) -> tuple[PlateMap, ...]:
    """A map of each template that has needles, as one sees it from outside along the needles.

    Parameters
    ----------
    plan : Plan
        A plan.
    rows : sequence of ChartRow
        Of `chart_rows`.
    """
    needles = csv_tables.in_order_of_insertion(plan)
    found = []
    for index, template in enumerate(plan.templates):
        layout = TemplateLayout.of(template)
        own = [(needle, row) for needle, row in zip(needles, rows, strict=True) if needle.template == index]
        if not own:
            continue
        places = layout.to_plate([needle.hole_mm for needle, _ in own])[:, :2]
        lattice = np.array([layout.place(label) for label in layout.labels]).reshape(-1, 2)
        both = np.concatenate([places, lattice])
        margin = 0.6 * layout.spacing_mm
        low, high = both.min(axis=0) - margin, both.max(axis=0) + margin

        def shown(place: np.ndarray, low: np.ndarray = low, high: np.ndarray = high) -> tuple[float, float]:
            return round(float(place[0] - low[0]), 2), round(float(high[1] - place[1]), 2)

        taken = {tuple(np.round(place, 1)) for place in places}
        used = tuple(
            MapHole(
                *shown(place),
                row.name,
                row.order,
                row.depth_mm,
                row.seeds,
                _lean(needle, layout),
                _shade(row.depth_mm, [r.depth_mm for _, r in own], layout),
            )
            for place, (needle, row) in zip(places, own, strict=True)
        )
        found.append(
            PlateMap(
                title=f"Template {index + 1}, for {template.target}" if len(plan.templates) > 1 else "",
                spacing=_apart(places, layout),
                width=round(float(high[0] - low[0]), 2),
                height=round(float(high[1] - low[1]), 2),
                empty=tuple(shown(place) for place in lattice if tuple(np.round(place, 1)) not in taken),
                used=used,
                up=towards(layout.row),
                right=towards(layout.column),
            )
        )
    return tuple(found)
