"""The needle chart: what the hands need to know, needle by needle, in the order of insertion."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from brachy import csv_tables
from brachy.cuts import needle_name
from brachy.lateral_rule import nearest_on_path
from brachy.planfile import Plan, PlanNeedle
from brachy.source import Source
from brachy.structures import Structure

NEAR_MM = 50.0
"""An obstacle farther from a needle's surface than this is not named in the chart (engineering choice)."""


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
    targets = {name for target in plan.targets for name in (target.roi, target.planned_roi)}
    roles = plan.protocol.obstacles.roles
    obstacles = [s for s in structures if s.role in roles and s.name not in targets and not s.is_empty]
    rows: list[ChartRow] = []
    for order, needle in enumerate(csv_tables.in_order_of_insertion(plan), 1):
        azimuth, tilt = csv_tables.direction_angles(needle.direction)
        layer = csv_tables.layer_of(needle, plan)
        name, gap, depth = nearest_obstacle(needle, obstacles, plan.protocol.needle.radius_mm)
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
                loading=csv_tables.loading_text(needle, lengths),
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


def nearest_obstacle(
    needle: PlanNeedle, obstacles: Sequence[Structure], radius_mm: float, within_mm: float = NEAR_MM
) -> tuple[str, float, float]:
    """Name of the obstacle nearest to a needle, its distance from the needle's surface, and the depth from the hole.

    ("", inf, 0) if none is within the distance.
    """
    start, end = np.array(needle.hole_mm), np.array(needle.tip_mm)
    best: tuple[str, float, float] = ("", float("inf"), 0.0)
    low, high = np.minimum(start, end), np.maximum(start, end)
    for obstacle in obstacles:
        limit = min(best[1], within_mm) + radius_mm
        box_low, box_high = obstacle.bounds_mm
        apart = np.maximum(np.maximum(box_low - high, low - box_high), 0.0)
        if float(np.linalg.norm(apart)) > limit:
            continue
        gap, depth = nearest_on_path(start, end, obstacle, limit)
        if gap < limit:
            best = (obstacle.name, gap - radius_mm, depth)
    return best
