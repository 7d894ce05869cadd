"""Goals with a weight of their own as terms of the objective.

A goal on a structure becomes the mean of a hinge over samples of that structure, weight w 10^(1 - priority):

    D_p >= g, V_a >= x, min            w <(l - D)+> / l                 l = g, or a Rx
    D_p <= g, V_a <= x                 w <(D - l)+> / l
    D_xcc <= g, max <= g (x = 0.1 cc)  w (V / x cc) <(D - g)+> / g      the excess of the hottest x cc
    mean <= g, mean >= g               w <D> / g, w <(g - D)+> / g

Each term is convex in the dose and 0 if no dose is on the wrong side of the level (except the mean, which is lowered as
far as the other terms allow). The hinge demands more than the goal: a D90 goal lets a tenth of the volume be below, the
hinge does not. The weight sets how much that counts; whether the goal is met is judged on the metric itself.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from brachy.dosimetry.metrics import parse_metric
from brachy.errors import UsageError
from brachy.geometry.structures import Structure
from brachy.optimise.points import FINE, LEVELS, Samples, sequence
from brachy.patient.protocol import Goal, Protocol
from brachy.patient.target import Target

Float = NDArray[np.float64]

AROUND_MM = 60.0
"""A structure is sampled up to this distance from the targets (engineering choice: about 1 Gy of a usual implant)."""

POINTS = 2500
"""Samples of a goal's structure on the finest level (engineering choice)."""

HOTTEST_CC = 0.1
"""A limit on the maximum is taken as one on so many cc (engineering choice)."""


def goal_samples(
    protocol: Protocol, structures: Sequence[Structure], targets: Sequence[Target], anchor_mm: Float
) -> tuple[Samples, ...]:
    """Samples with the hinge of every goal that has a weight.

    Parameters
    ----------
    protocol : Protocol
        Its goals.
    structures : sequence of Structure
        Of the case, with roles.
    targets : sequence of Target
        The role "target" means each, and an organ's Rx is the highest.
    anchor_mm : (3,) array
        Origin of the samples; it moves with the targets.

    Raises
    ------
    UsageError
        If a goal with a weight names an ROI or role that the case does not have.
    """
    found = []
    for goal in protocol.goals:
        if goal.weight is None or goal.weight == 0:
            continue
        meant = _meant(goal, structures, targets)
        if not meant:
            raise UsageError(
                f"goal '{goal.title}' has a weight, but no ROI has the name or role '{goal.roi}': correct the protocol"
            )
        for structure, rx in meant:
            part = _sampled(goal, structure, rx, targets, anchor_mm)
            if part is not None:
                found.append(part)
    return tuple(found)


def _meant(
    goal: Goal, structures: Sequence[Structure], targets: Sequence[Target]
) -> list[tuple[Structure, float]]:
    """Structures of a goal, each with its prescription."""
    own = [(t.structure, t.prescription_gy) for t in targets]
    if goal.roi == "target":
        return own
    highest = max(t.prescription_gy for t in targets)
    named = [(s, rx) for s, rx in own if s.name == goal.roi]
    others = [(s, highest) for s in structures if not s.is_empty and goal.roi in (s.name, s.role)]
    return named or others


def _sampled(
    goal: Goal, structure: Structure, rx: float, targets: Sequence[Target], anchor_mm: Float
) -> Samples | None:
    """Samples of one structure near the targets, with the goal's hinge; None where it lies farther away."""
    boxes = np.array([np.round(t.structure.bounds_mm - anchor_mm, 6) for t in targets])
    low, high = np.round(structure.bounds_mm - anchor_mm, 6)
    low = np.maximum(low, boxes[:, 0].min(axis=0) - AROUND_MM)
    high = np.minimum(high, boxes[:, 1].max(axis=0) + AROUND_MM)
    if not (high > low).all():
        return None
    box = float(np.prod(high - low))
    filled = max(_share_inside(structure, low, high, anchor_mm), 1e-3)
    spacing = float(np.cbrt(box * filled / POINTS))
    points = sequence(low, high - low, spacing)
    places = np.flatnonzero(structure.contains(points + anchor_mm))
    if not len(places):
        return None
    counts = tuple(
        max(int(np.searchsorted(places, len(points) * (LEVELS[FINE] / scale) ** 3)), min(len(places), 8))
        for scale in LEVELS
    )
    sampled_cc = box * len(places) / len(points) / 1000.0
    below, level, per = _hinge(goal, rx, sampled_cc)
    weight = goal.weight or 0.0
    return Samples(
        structure.name,
        "goal",
        rx,
        1.0,
        points[places],
        counts,
        label=f"goal {structure.name} {goal.metric} {goal.op} {goal.shown}",
        level_gy=level,
        below=below,
        weight=weight * 10.0 ** (1 - goal.priority) * per,
    )


def _share_inside(structure: Structure, low: Float, high: Float, anchor_mm: Float) -> float:
    points = sequence(low, high - low, float(np.cbrt(np.prod(high - low) / 1000.0)))
    return float(structure.contains(points + anchor_mm).mean())


def _hinge(goal: Goal, rx: float, sampled_cc: float) -> tuple[bool, float, float]:
    """Whether dose below the level counts, the level in Gy, and the factor of the weight of the mean."""
    metric = parse_metric(goal.metric)
    below = goal.op == ">="
    if metric.kind in ("V", "VGy"):
        level = metric.value if metric.kind == "VGy" else metric.value * rx / 100.0
        return below, level, 1.0 / level
    level = goal.gy(rx)
    if level <= 0:
        raise UsageError(f"goal '{goal.title}' has a weight and a limit of 0 Gy: give a limit above 0")
    if metric.kind == "mean" and not below:
        return False, 0.0, 1.0 / level
    if metric.kind in ("Dcc", "max") and not below:
        hottest = metric.value if metric.kind == "Dcc" else HOTTEST_CC
        return False, level, max(sampled_cc / hottest, 1.0) / level
    return below, level, 1.0 / level
