"""CSV tables of a plan: needles, dose-volume curves, and the form for what was placed (docs/formats.md).

RFC 4180, UTF-8, units in the header. Depths and angles are those of each needle's own direction. A name that a
spreadsheet would take for a formula gets a leading apostrophe.
"""

import csv
import io
import math
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import ArrayLike

from brachy.dosimetry.shown_metrics import Table, metrics_in
from brachy.dosimetry.source import Source
from brachy.evaluation.lateral_rule import nearest_on_path
from brachy.geometry.structures import Structure
from brachy.needles.template import TemplateLayout
from brachy.optimise.replanning.implanted_so_far import PLACED_HEADER
from brachy.patient.obstacles import obstacles
from brachy.patient.plan import Plan, PlanNeedle

NEEDLES_HEADER = (
    "template",
    "hole",
    "layer",
    "order",
    "azimuth_deg",
    "tilt_deg",
    "entry_x_mm",
    "entry_y_mm",
    "entry_z_mm",
    "tip_x_mm",
    "tip_y_mm",
    "tip_z_mm",
    "depth_from_template_mm",
    "depth_from_skin_mm",
    "seeds",
    "loading_from_tip",
    "seed_depths_from_tip_mm",
    "withdrawals_mm",
    "nearest",
    "nearest_mm",
    "nearest_depth_mm",
)
NEAR_MM = 50.0
"""An obstacle farther from a needle's surface than this is not named in the chart (engineering choice)."""

DVH_HEADER = ("roi", "dose_gy", "volume_cc", "volume_pct")


def table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """CSV text, RFC 4180."""
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(header)
    writer.writerows(rows)
    return text.getvalue()


def safe_text(text: str) -> str:
    """Text of a cell that no spreadsheet takes for a formula.

    Examples
    --------
    >>> safe_text("=1+1"), safe_text("Liver")
    ("'=1+1", 'Liver')
    """
    return f"'{text}" if text[:1] in ("=", "+", "-", "@", "\t", "\r", "\n") else text


def number(value: float) -> str:
    """A number of 6 significant digits, as in plan.json; never "-0".

    Examples
    --------
    >>> number(12.3456789), number(-0.0), number(120.0)
    ('12.3457', '0', '120')
    """
    return "0" if value == 0 else f"{value:.6g}"


def _known(value: float | None) -> str:
    return "" if value is None else number(value)


def needles_csv(plan: Plan, structures: Sequence[Structure] = ()) -> str:
    """One row for each needle, in the order of insertion, with the obstacle among `structures` nearest to its path."""
    stopping = obstacles_of(plan, structures)
    lengths = [Source.from_dict(source.data, name=source.model).capsule_length_mm for source in plan.sources]
    rows = []
    for order, needle in enumerate(in_order_of_insertion(plan), 1):
        azimuth, tilt = direction_angles(needle.direction)
        near = stopping[needle.template]
        nearest, gap, depth = nearest_obstacle(needle, near, plan.protocol.needle.radius_mm)
        rows.append(
            (
                needle.template + 1,
                safe_text(needle.hole),
                layer_of(needle, plan),
                order,
                azimuth,
                tilt,
                *map(number, needle.skin_mm),
                *map(number, needle.tip_mm),
                number(needle.depth_mm),
                number(needle.depth_from_skin_mm),
                len(needle.seeds),
                loading_text(needle, lengths, plan.protocol.seeds.supply),
                " ".join(number(seed.depth_mm) for seed in needle.seeds),
                " ".join(map(number, withdrawals_mm(needle))),
                safe_text(nearest),
                number(gap) if nearest else "",
                number(depth) if nearest else "",
            )
        )
    return table(NEEDLES_HEADER, rows)


def alternatives_csv(named: Sequence[tuple[str, Plan]]) -> str:
    """One row for each target of each plan; the first plan is in the folder itself, the others in alternatives/.

    `organ` is the one with the highest D2cc outside the targets' own organ and the external in the first plan.
    """
    metrics = metrics_in(Table.ALTERNATIVES)
    header = ("plan", "folder", "roi", "needles", "seeds", *metrics, "organ", "organ_D2cc_gy", "objective")
    rows = []
    for number_, (name, plan) in enumerate(named):
        organ = most_exposed_organ(named[0][1])
        for target in plan.targets:
            values = plan.evaluation.structures[target.roi]
            rows.append(
                (
                    name,
                    "." if number_ == 0 else f"alternatives/{name.replace(' ', '-')}",
                    safe_text(target.roi),
                    len(plan.needles),
                    plan.seed_count,
                    *(_known(values[m]) for m in metrics),
                    safe_text(organ),
                    _known(plan.evaluation.structures[organ]["D2cc_gy"]) if organ else "",
                    _known(plan.optimiser.objective),
                )
            )
    return table(header, rows)


def most_exposed_organ(plan: Plan) -> str:
    """Structure with the highest D2cc of those that hold no target; "" where there is none.

    A structure that holds a target (the liver, the body) has the target's dose in its own D2cc: it is recognised by a
    D2cc at or above the lowest prescription.
    """
    targets = {target.roi for target in plan.targets} | {target.planned_roi for target in plan.targets}
    lowest = min(target.prescription_gy for target in plan.targets)
    found = [
        (dose, name)
        for name, values in plan.evaluation.structures.items()
        if name not in targets and (dose := values.get("D2cc_gy")) is not None and dose < lowest
    ]
    return max(found, default=(0.0, ""))[1]


def obstacles_of(plan: Plan, structures: Sequence[Structure]) -> list[list[Structure]]:
    """Obstacles of the needles of each template among structures with their roles."""
    names = {name for target in plan.targets for name in (target.roi, target.planned_roi)}
    by_name = {structure.name: structure for structure in structures}
    nowhere = Structure("", ())  # without the target's contours nothing holds it
    return [
        obstacles(structures, plan.protocol, by_name.get(template.target, nowhere), names)
        for template in plan.templates
    ]


def nearest_obstacle(
    needle: PlanNeedle, among: Sequence[Structure], radius_mm: float, within_mm: float = NEAR_MM
) -> tuple[str, float, float]:
    """Name of the obstacle nearest to a needle, its distance from the needle's surface, and the depth along the needle.

    ("", inf, 0) if none is within the distance.
    """
    start, end = np.array(needle.hole_mm), np.array(needle.tip_mm)
    best: tuple[str, float, float] = ("", float("inf"), 0.0)
    low, high = np.minimum(start, end), np.maximum(start, end)
    for obstacle in among:
        limit = min(best[1], within_mm) + radius_mm
        box_low, box_high = obstacle.bounds_mm
        apart = np.maximum(np.maximum(box_low - high, low - box_high), 0.0)
        if float(np.linalg.norm(apart)) > limit:
            continue
        gap, depth = nearest_on_path(start, end, obstacle, limit)
        if gap < limit:
            best = (obstacle.name, gap - radius_mm, depth)
    return best


def layer_of(needle: PlanNeedle, plan: Plan) -> int | None:
    """Number of the needle's layer: 0 through the target's largest section, positive toward the head.

    None where the template has no layers.
    """
    return TemplateLayout.of(plan.templates[needle.template]).layer_of(needle.hole)


def in_order_of_insertion(plan: Plan) -> list[PlanNeedle]:
    """Needles template by template, layers 0, +1, -1, +2 ..., columns from A; or N1, N2 ..."""
    layouts = [TemplateLayout.of(template) for template in plan.templates]
    return sorted(plan.needles, key=lambda n: (n.template, layouts[n.template].rank(n.hole)))


def direction_angles(direction: Sequence[float]) -> tuple[str, str]:
    """Azimuth (0 to 360) and tilt in degrees of a direction, to 0.01.

    Examples
    --------
    >>> direction_angles((-1.0, 0.0, 0.0)), direction_angles((0.0, 0.866025, 0.5))
    (('90', '0'), ('0', '30'))
    """
    x, y, z = direction
    across = math.hypot(x, y)
    azimuth = math.degrees(math.atan2(-x, y)) if across > 1e-9 else 0.0
    return number(round(azimuth, 2) % 360.0), number(round(math.degrees(math.atan2(z, across)), 2))


def withdrawals_mm(needle: PlanNeedle) -> list[float]:
    """How far the needle is drawn back from each seed to the next, from the tip: between seed centres, to 0.01 mm."""
    depths = sorted(seed.depth_mm for seed in needle.seeds)
    return [round(after - before, 2) for before, after in pairwise(depths)]


def loading_text(needle: PlanNeedle, capsule_lengths_mm: Sequence[float], supply: str) -> str:
    """What the hands do with a needle, from its tip on.

    Single seeds ("loose", "cartridge") are deposited one by one while the needle is drawn back:
    "3 seeds: tip, withdraw 5, 10". A strand is put together before: "seed, 5.5 mm spacer, seed"; a spacer is the gap
    between the ends of two capsules, to 0.01 mm. Where a plan has several sources, each seed names its own.

    Parameters
    ----------
    needle : PlanNeedle
        Seeds by their depth from the tip.
    capsule_lengths_mm : sequence of float
        Of each source of the plan, mm.
    supply : {"loose", "strand", "cartridge"}
        How the protocol has its seeds.
    """
    if supply != "strand":
        return _deposited(needle, capsule_lengths_mm)
    words = []
    end = 0.0
    for index, seed in enumerate(sorted(needle.seeds, key=lambda seed: seed.depth_mm)):
        half = capsule_lengths_mm[seed.source] / 2
        gap = round(seed.depth_mm - half - end, 2)
        if gap < 0:
            words.append(f"{number(-gap)} mm overlap" if index else f"{number(-gap)} mm beyond the tip")
        elif gap > 0:
            words.append(f"{number(gap)} mm {'spacer' if index else 'gap'}")
        words.append("seed" if len(capsule_lengths_mm) == 1 else f"seed of source {seed.source + 1}")
        end = seed.depth_mm + half
    return ", ".join(words)


def _deposited(needle: PlanNeedle, capsule_lengths_mm: Sequence[float]) -> str:
    seeds = sorted(needle.seeds, key=lambda seed: seed.depth_mm)
    if not seeds:
        return "no seed"
    gap = round(seeds[0].depth_mm - capsule_lengths_mm[seeds[0].source] / 2, 2)
    start = "tip" if gap == 0 else f"{number(abs(gap))} mm {'behind' if gap > 0 else 'beyond'} the tip"
    steps = ", ".join(map(number, withdrawals_mm(needle)))
    text = f"{len(seeds)} seed{'s' if len(seeds) > 1 else ''}: {start}" + (
        f", withdraw {steps}" if steps else ""
    )
    if len(capsule_lengths_mm) > 1:
        text += f" (of source {', '.join(str(seed.source + 1) for seed in seeds)})"
    return text


def dvh_csv(curves: Mapping[str, tuple[ArrayLike, ArrayLike]]) -> str:
    """Cumulative dose-volume curves, one row for each point: `{roi: (dose_gy, volume_cc)}`.

    volume_pct is of the structure's whole volume, its first and largest value.

    Raises
    ------
    ValueError
        If a curve's two arrays differ in length, or its volume grows with dose.
    """
    rows: list[tuple[str, str, str, str]] = []
    for roi, curve in curves.items():
        dose, volume = (np.asarray(each, dtype=np.float64) for each in curve)
        if dose.shape != volume.shape or dose.ndim != 1:
            raise ValueError(f"the curve of '{roi}' has {dose.shape} doses and {volume.shape} volumes")
        if (np.diff(volume) > 1e-9 * np.abs(volume[:-1])).any():
            raise ValueError(f"the curve of '{roi}' is not cumulative: its volume grows with dose")
        whole = float(volume[0]) if len(volume) else 0.0
        for gy, cc in zip(dose.tolist(), volume.tolist(), strict=True):
            percent = number(100.0 * cc / whole) if whole > 0 else ""
            rows.append((safe_text(roi), number(gy), number(cc), percent))
    return table(DVH_HEADER, rows)


def placed_csv(plan: Plan) -> str:
    """The form for what was placed: a row for each needle and each of its seeds, in the order of insertion.

    Seeds and lines that are in the patient already are filled in.
    """
    rows: list[tuple[object, ...]] = []
    for needle in in_order_of_insertion(plan):
        name = (needle.template + 1, safe_text(needle.hole))
        if needle.in_place:
            for place in (needle.tip_mm, needle.skin_mm):
                rows.append((*name, "", "line", *map(number, place)))
        else:
            rows.append((*name, "", "", "", "", ""))
        for index, seed in enumerate(sorted(needle.seeds, key=lambda each: each.depth_mm), 1):
            rows.append((*name, index, "planned" if seed.placed else "", "", "", ""))
    return table(PLACED_HEADER, rows)
