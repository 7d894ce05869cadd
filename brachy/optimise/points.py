"""Sample points of the objective: target, shell around it, organs near it.

Points follow a low-discrepancy sequence in each structure's bounding box, so that the first k points cover it as
evenly as all of them: coarse, fine and finest samples are beginnings of one list and share one influence matrix. They
are denser in the outer part of a target, where the dose falls off and coverage is decided, than in its core. All
coordinates are relative to an anchor that moves with the target.

References
----------
M. Roberts, "The unreasonable effectiveness of quasirandom sequences" (2018): the additive recurrence on the root of
x^4 = x + 1, a generalisation of the golden ratio.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from brachy.geometry.structures import Structure
from brachy.patient.protocol import Protocol
from brachy.patient.roles import ROLES
from brachy.patient.target import Target

Float = NDArray[np.float64]
Bool = NDArray[np.bool_]
Kind = Literal["target", "shell", "organ", "goal"]

_ROOT = 1.2207440846057596
SEQUENCE = 1.0 / np.array([_ROOT, _ROOT**2, _ROOT**3])
"""Steps of the recurrence along x, y, z."""

EDGE_MM = 7.0
"""The outer part of a target is this thick (engineering choice)."""

SHELL_MM = 10.0
"""The shell in which dose outside a target is counted is this thick (engineering choice)."""

NEAR_MM = 20.0
"""Organs are sampled up to this distance from a target (engineering choice)."""

LEVELS = (1.8, 1.0, 0.72)
"""Spacing of the samples on each level, in units of `edge_spacing_mm`: to score directions, to search, to polish
(engineering choice)."""

SCAN, SEARCH, FINE = range(3)

NOT_SPARED = ("target", "external", "liver", "bone", "region", "device", "ignore")
"""Roles whose dose is not kept low for its own sake."""

SPARSE = 1.6
"""Spacing in the core, the shell and the organs, in units of that at the edge (engineering choice)."""


@dataclass(frozen=True, eq=False)
class Samples:
    """Points of one part of one structure.

    Parameters
    ----------
    name : str
        ROI.
    kind : str
        "target", "shell" (outside a target) or "organ".
    prescription_gy : float
        Of the target it belongs to; for an organ the highest.
    share : float
        Share of this part in the volume mean of its structure; the parts of a structure sum to 1.
    points_mm : (n, 3) array
        Relative to the anchor.
    counts : tuple of int
        How many of them, from the first on, belong to each level.
    label, level_gy, below, weight
        Of a "goal" alone: its term's name, the level of its hinge, whether dose below it counts or dose above, and the
        weight of the mean over these points, per Gy.
    """

    name: str
    kind: Kind
    prescription_gy: float
    share: float
    points_mm: Float
    counts: tuple[int, ...]
    label: str = ""
    level_gy: float = 0.0
    below: bool = False
    weight: float = 0.0


def edge_spacing_mm(volume_cc: float) -> float:
    """Spacing of the search's samples in the outer part of a target: about 10 000 samples in all, 1.2 to 3 mm."""
    return float(np.clip(2.5 * np.cbrt(volume_cc / 170.0), 1.2, 3.0))


def sequence(low: Float, size: Float, spacing_mm: float) -> Float:
    """Low-discrepancy points (n, 3) in a box, one for each cube of the spacing."""
    count = int(np.ceil(np.prod(size / spacing_mm)))
    steps = np.arange(1, count + 1)[:, None] * SEQUENCE
    return low + size * ((0.5 + steps) % 1.0)


def sample(
    targets: Sequence[Target], organs: Sequence[Structure], external: Structure, anchor_mm: Float
) -> tuple[Samples, ...]:
    """Sample points of targets, shells and spared organs.

    Parameters
    ----------
    targets : sequence of Target
        A point inside several belongs to the smallest; outside, to the nearest.
    organs : sequence of Structure
        Spared organs; what lies inside a target is left out.
    external : Structure
        Dose outside the patient does not count.
    anchor_mm : (3,) array
        Origin of the samples; it moves with the targets.
    """
    order = sorted(range(len(targets)), key=lambda k: targets[k].structure.volume_cc)
    spacing = min(edge_spacing_mm(target.structure.volume_cc) for target in targets)
    found: list[Samples] = []
    for index in range(len(targets)):
        smaller = order[: order.index(index)]
        found += _around_target(targets, index, smaller, external, anchor_mm)
    organs = [organ for organ in organs if not _holds_target(organ, found, anchor_mm)]
    highest = max(target.prescription_gy for target in targets)
    for organ in organs:
        found += _organ(organ, targets, highest, spacing * SPARSE, anchor_mm)
    return tuple(samples for samples in found if len(samples.points_mm))


def _around_target(
    targets: Sequence[Target], index: int, smaller: Sequence[int], external: Structure, anchor_mm: Float
) -> list[Samples]:
    """Outer part and core of one target, and the shell that belongs to it."""
    target = targets[index]
    spacing = edge_spacing_mm(target.structure.volume_cc)
    low, high = np.round(target.structure.bounds_mm - anchor_mm, 6)
    low, size = low - SHELL_MM, high - low + 2 * SHELL_MM
    volume = float(np.prod(size))
    needed = [volume / (scale * spacing) ** 3 for scale in LEVELS]
    points = sequence(low, size, LEVELS[FINE] * spacing)
    inside = target.structure.contains(points + anchor_mm)
    sparse = int(needed[FINE] / SPARSE**3)
    known = inside.copy()
    known[:sparse] = True
    distance = np.full(len(points), np.inf)
    distance[known] = target.structure.signed_distance_mm(points[known] + anchor_mm, SHELL_MM + 1.0)
    owned = inside.copy()
    shell = ~inside & (distance <= SHELL_MM)
    shell[sparse:] = False
    shell[shell] = external.contains(points[shell] + anchor_mm)
    for k, other in enumerate(targets):
        if k == index:
            continue
        if k in smaller and owned.any():
            owned[owned] = ~other.structure.contains(points[owned] + anchor_mm)
        if shell.any():
            gap = other.structure.signed_distance_mm(points[shell] + anchor_mm, SHELL_MM + 1.0)
            mine = distance[shell]
            shell[shell] = (gap > 0) & ((mine < gap) | ((mine == gap) & (index < k)))
    edge = owned & (distance > -EDGE_MM)
    core = owned & ~edge
    core[sparse:] = False
    weights = np.array([edge.sum(), core.sum() * SPARSE**3], dtype=np.float64)
    if weights.sum() == 0:
        return []
    shares = (*(weights / weights.sum()).tolist(), 1.0)
    parts: tuple[tuple[Kind, Bool, float, float], ...] = (
        ("target", edge, shares[0], 1.0),
        ("target", core, shares[1], SPARSE),
        ("shell", shell, 1.0, SPARSE),
    )
    found = []
    for kind, member, share, scale in parts:
        places = np.flatnonzero(member)
        counts = [max(int(np.searchsorted(places, n / scale**3)), min(len(places), 8)) for n in needed]
        rx = target.prescription_gy
        found.append(Samples(target.structure.name, kind, rx, share, points[places], tuple(counts)))
    return found


def _organ(
    organ: Structure, targets: Sequence[Target], prescription_gy: float, spacing_mm: float, anchor_mm: Float
) -> list[Samples]:
    """Points of an organ near the targets and outside them."""
    if organ.is_empty:
        return []
    low, high = np.round(organ.bounds_mm - anchor_mm, 6)
    boxes = [np.round(target.structure.bounds_mm - anchor_mm, 6) for target in targets]
    low = np.maximum(low, np.min([box[0] for box in boxes], axis=0) - NEAR_MM)
    high = np.minimum(high, np.max([box[1] for box in boxes], axis=0) + NEAR_MM)
    if not (high > low).all():
        return []
    points = sequence(low, high - low, LEVELS[FINE] * spacing_mm)
    member = organ.contains(points + anchor_mm)
    for target in targets:
        if member.any():
            member[member] = ~target.structure.contains(points[member] + anchor_mm)
    near = np.zeros(len(points), dtype=bool)
    for target in targets:
        near[member] |= target.structure.distance_mm(points[member] + anchor_mm, NEAR_MM + 1.0) <= NEAR_MM
    places = np.flatnonzero(near)
    counts = [
        max(int(np.searchsorted(places, len(points) * (LEVELS[FINE] / scale) ** 3)), min(len(places), 8))
        for scale in LEVELS
    ]
    return [Samples(organ.name, "organ", prescription_gy, 1.0, points[places], tuple(counts))]


def _holds_target(organ: Structure, samples: Sequence[Samples], anchor_mm: Float) -> bool:
    """Whether most of a part of a target lies in the organ, which then cannot be spared; the shell counts instead."""
    for part in samples:
        if part.kind == "target" and part.counts[SCAN]:
            inside = organ.contains(part.points_mm[: part.counts[SCAN]] + anchor_mm)
            if inside.mean() > 0.5:
                return True
    return False


def spared_organs(structures: Sequence[Structure], protocol: Protocol) -> list[Structure]:
    """Structures whose dose the objective limits: organs and soft tissue; a liver where it is an obstacle's role."""
    spared = set(ROLES) - set(NOT_SPARED) | set(protocol.obstacles.roles) - {"bone"}
    return [s for s in structures if s.role in spared and not s.is_empty]
