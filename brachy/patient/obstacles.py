"""What stops a needle: every contoured organ, except the one that holds the target and what is freed.

The choice is made here alone, for the planner, for replanning, for the rules and for the files. The independent check
(`brachy.check`) makes its own.
"""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from brachy.geometry.outline import within_outline
from brachy.geometry.structures import RoleBasis, Structure
from brachy.patient.protocol import Protocol
from brachy.patient.roles import ROLES
from brachy.patient.target import Target

Float = NDArray[np.float64]

NO_ORGANS = ("target", "external", "skin", "fat", "muscle", "region", "ignore")
"""Roles that stop no needle unless the protocol names them: the target, the outline, soft tissue, no matter."""

HALF = 0.5
"""An organ holds a target of which this part lies within its filled outline; likewise for a part of the target."""

TARGET_POINTS = 4000
"""Points of a lattice over a structure's box on which that part is counted (engineering choice)."""

GIVEN = RoleBasis("given", "given with the structure")


@dataclass(frozen=True)
class Barrier:
    """Whether a structure stops the needles of a target, and why."""

    stops: bool
    why: str


@dataclass(frozen=True)
class Standing:
    """A structure of a case with the role it was given, and what that means for needles."""

    roi: str
    role: str
    basis: RoleBasis
    barrier: Barrier


def barrier(structure: Structure, protocol: Protocol, target: Structure, targets: Collection[str]) -> Barrier:
    """Whether a structure stops the needles of a target.

    Parameters
    ----------
    structure : Structure
        With its role.
    protocol : Protocol
        `obstacles.roles` are obstacles even where they hold the target, `obstacles.free` are none.
    target : Structure
        The planned target of the needles.
    targets : collection of str
        Names of all the plan's targets, as drawn and as planned.

    Examples
    --------
    >>> from brachy.patient.protocol import load_protocol
    >>> square = np.array([[-1, -1, 0], [1, -1, 0], [1, 1, 0], [-1, 1, 0.0]])
    >>> tumour = Structure("GTV", [9 * square], role="target", slice_spacing_mm=5.0)
    >>> liver = Structure("Liver", [50 * square], role="liver", slice_spacing_mm=5.0)
    >>> barrier(liver, load_protocol("liver-metastasis"), tumour, {"GTV"})
    Barrier(stops=False, why="it holds 'GTV'")
    """
    role = structure.role
    if structure.name in targets:
        return Barrier(False, "a target of the plan")
    if structure.is_empty:
        return Barrier(False, "it has no contours")
    if structure.name.casefold() in {name.casefold() for name in protocol.obstacles.free}:
        return Barrier(False, "freed by --free or the protocol's obstacles.free")
    if role in protocol.obstacles.roles:
        return Barrier(True, "the protocol names its role as an obstacle")
    if role in NO_ORGANS:
        return Barrier(False, f"{role.replace('_', ' ')}: no organ" if role != "ignore" else "no organ")
    if share_within(target, structure, HALF):
        return Barrier(False, f"it holds '{target.name}'")
    if role == "other_target" and share_within(structure, target, HALF):
        return Barrier(False, f"part of '{target.name}'")
    return Barrier(True, "every contoured organ stops a needle")


def names_of(targets: Iterable[Target]) -> frozenset[str]:
    """Names of targets, as drawn and as planned."""
    return frozenset(name for target in targets for name in (target.drawn.name, target.name))


def share_within(inner: Structure, outer: Structure, share: float) -> bool:
    """Whether at least that share of a structure's volume lies within another one's filled outline.

    Examples
    --------
    >>> square = np.array([[-1, -1, 0], [1, -1, 0], [1, 1, 0], [-1, 1, 0.0]])
    >>> ball = Structure("GTV", [5 * square], slice_spacing_mm=5.0)
    >>> shell = Structure("Liver-GTV", [9 * square, 6 * square], slice_spacing_mm=5.0)
    >>> share_within(ball, shell, 0.5), share_within(shell, ball, 0.5)
    (True, False)
    """
    if inner.is_empty or outer.is_empty:
        return False
    low, high = inner.bounds_mm
    other_low, other_high = outer.bounds_mm
    if (other_low >= high).any() or (other_high <= low).any():
        return False
    points = _lattice(inner)
    return bool(len(points)) and bool(within_outline(outer, points).mean() >= share)


def _lattice(structure: Structure) -> Float:
    """Points (n, 3) of a structure, of a lattice over its box that moves with it."""
    low, high = structure.bounds_mm
    size = np.round(high - low, 6)
    step = float(np.cbrt(np.prod(size) / TARGET_POINTS))
    axes = [
        low[k] + (np.arange(max(1, round(size[k] / step))) + 0.5) * size[k] / max(1, round(size[k] / step))
        for k in range(3)
    ]
    points = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 3)
    return points[structure.contains(points)]


def obstacles(
    structures: Sequence[Structure], protocol: Protocol, target: Structure, targets: Collection[str]
) -> list[Structure]:
    """Structures that stop the needles of a target; parameters as of `barrier`."""
    return [s for s in structures if barrier(s, protocol, target, targets).stops]


def standings(
    structures: Sequence[Structure], protocol: Protocol, served: Sequence[Structure], targets: Collection[str]
) -> tuple[Standing, ...]:
    """Role and meaning for needles of every structure: what was not understood first, the rest in its order.

    Parameters
    ----------
    structures : sequence of Structure
        With roles, as `brachy.patient.anatomy.prepare` gives them.
    protocol : Protocol
        As of `barrier`.
    served : sequence of Structure
        Planned targets that have a template.
    targets : collection of str
        Names of all targets.
    """
    found = []
    for structure in structures:
        each = [(target, barrier(structure, protocol, target, targets)) for target in served]
        stops = [target.name for target, b in each if b.stops]
        chosen = next((b for _, b in each if b.stops == bool(stops)), Barrier(False, "no target"))
        if stops and len(stops) < len(each):
            other = next(b for _, b in each if not b.stops)
            chosen = Barrier(True, f"for the needles of {', '.join(stops)}; else {other.why}")
        found.append(Standing(structure.name, structure.role, structure.basis or GIVEN, chosen))
    return tuple(sorted(found, key=lambda s: s.basis.understood))


def rule_roles(found: Sequence[Structure], protocol: Protocol) -> list[str]:
    """Roles for which there is a rule: those that the protocol names, then those of the obstacles found."""
    present = {structure.role for structure in found}
    return [
        *protocol.obstacles.roles,
        *(r for r in ROLES if r in present and r not in protocol.obstacles.roles),
    ]
