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
from brachy.patient.plan import Plan


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
                placed=needle.in_place or all(seed.placed for seed in needle.seeds),
            )
        )
    return tuple(rows)


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
            MapHole(*shown(place), row.name, row.order, row.depth_mm, row.seeds)
            for place, (_, row) in zip(places, own, strict=True)
        )
        found.append(
            PlateMap(
                title=f"Template {index + 1}, for {template.target}" if len(plan.templates) > 1 else "",
                spacing=layout.spacing_mm,
                width=round(float(high[0] - low[0]), 2),
                height=round(float(high[1] - low[1]), 2),
                empty=tuple(shown(place) for place in lattice if tuple(np.round(place, 1)) not in taken),
                used=used,
                up=towards(layout.row),
                right=towards(layout.column),
            )
        )
    return tuple(found)
