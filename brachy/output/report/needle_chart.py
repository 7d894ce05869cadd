"""The needle chart: what the hands need to know, needle by needle, in the order of insertion."""

from collections.abc import Sequence
from dataclasses import dataclass

from brachy.dosimetry.source import Source
from brachy.geometry.structures import Structure
from brachy.output import csv_tables
from brachy.output.figures.cuts import needle_name
from brachy.patient.plan import Plan


@dataclass(frozen=True)
class Capsule:
    """A seed in a drawing of a needle's loading, mm from the tip."""

    start: float
    length: float
    source: int


@dataclass(frozen=True)
class ChartRow:
    """A needle of the chart."""

    order: int
    name: str
    template: int
    layer: int
    first_of_layer: bool
    azimuth_deg: str
    tilt_deg: str
    entry_mm: tuple[float, float, float]
    depth_mm: float
    depth_from_skin_mm: float
    loading: str
    capsules: tuple[Capsule, ...]
    seeds: int
    nearest: str
    """Name of the obstacle nearest to the path; "" if none is near."""
    nearest_mm: float
    """From the needle's surface."""
    nearest_at_mm: float
    """How deep, from the template."""


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
        x, y, z = needle.skin_mm
        rows.append(
            ChartRow(
                order=order,
                name=needle_name(plan, needle),
                template=needle.template,
                layer=layer,
                first_of_layer=last is None or (last.template, last.layer) != (needle.template, layer),
                azimuth_deg=azimuth,
                tilt_deg=tilt,
                entry_mm=(x, y, z),
                depth_mm=needle.depth_mm,
                depth_from_skin_mm=needle.depth_from_skin_mm,
                loading=csv_tables.loading_text(needle, lengths, plan.protocol.seeds.supply),
                capsules=tuple(
                    Capsule(seed.depth_mm - lengths[seed.source] / 2, lengths[seed.source], seed.source)
                    for seed in sorted(needle.seeds, key=lambda seed: seed.depth_mm)
                ),
                seeds=len(needle.seeds),
                nearest=name,
                nearest_mm=gap,
                nearest_at_mm=depth,
            )
        )
    return tuple(rows)
