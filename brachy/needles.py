"""Needles that may be used: for each hole of a template its skin entry, its free path and its candidate seeds.

All rules of the protocol hold by construction: any subset of the candidates of the needles offered, without the
pairs listed as conflicts, is a legal loading.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from brachy.protocol import Protocol
from brachy.structures import Structure
from brachy.template import TemplateLayout

Float = NDArray[np.float64]
Int = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Needle:
    """A hole that may be used, and the seed centres that may be loaded through it. Depths in mm from the hole."""

    hole: str
    column: int
    row: int
    hole_mm: Float
    skin_mm: Float
    """Where the axis enters the skin, (3,)."""
    direction: Float
    depths_mm: Float
    """Hole to seed centre of each candidate, (k,), distal first."""
    max_tip_depth_mm: float
    """Tip depth when the most distal candidate is loaded."""
    target_mm: tuple[float, float]
    """Depths at which the axis first enters and last leaves the target."""
    shortened_by: str = ""
    """What keeps the needle from its full depth: a structure's name, "needle length", "skin", or ""."""


@dataclass(frozen=True)
class BlockedHole:
    """A hole whose axis crosses the target but may not be used."""

    hole: str
    column: int
    row: int
    cause: str
    """A structure's name, or "needle length", "skin", "air", "distal edge"."""
    reason: str
    """One sentence."""


@dataclass(frozen=True, eq=False)
class Offer:
    """What may be loaded through one template."""

    layout: TemplateLayout
    needles: tuple[Needle, ...]
    blocked: tuple[BlockedHole, ...]
    positions_mm: Float
    """Candidate seed centres, (n, 3), needle by needle, distal first."""
    needle_of: Int
    """Index of each candidate's needle, (n,)."""
    tip_offset_mm: float
    """Seed centre to tip of the most distal seed: tip_to_seed_mm + half a capsule."""
    conflicts: Int
    """Pairs (p, 2) of candidates nearer than min_spacing_mm; empty unless pitch or step is smaller than that."""
    needle_conflicts: Int
    """Pairs (q, 2) of needles nearer than min_needle_spacing_mm; empty unless the pitch is smaller than that."""
    edge_points_mm: Float
    """Edge points (m, 3) of the target's section in each layer."""
    edge_layer: Int
    """Layer of each edge point, (m,)."""
    edge_needs_tip_mm: Float
    """(m, n_needles) least tip depth at which a needle lies within the lateral margin of the edge point; 0 for a
    full-length needle, whose axis counts to where it leaves the target; inf where it never does."""
    edge_covered_by: NDArray[np.bool_]
    """(m, n_needles) whether the needle, used at its full offered depth, covers the edge point."""
    edge_cause: tuple[str, ...]
    """(m,) why no offered needle covers the edge point; "" where one does."""
    notes: tuple[str, ...]

    def tip_mm(self, needle: int, centre_depth_mm: float) -> Float:
        """Tip (3,) of a needle whose most distal loaded centre is at that depth from its hole."""
        chosen = self.needles[needle]
        return chosen.hole_mm + (centre_depth_mm + self.tip_offset_mm) * chosen.direction


def offer(
    target: Structure,
    external: Structure,
    obstacles: Sequence[Structure],
    layout: TemplateLayout,
    protocol: Protocol,
    capsule_length_mm: float,
) -> Offer:
    """Needles and candidate seeds of one template that obey every rule of the protocol."""
    raise NotImplementedError


def conflicts_between(one: Offer, other: Offer, protocol: Protocol) -> tuple[Int, Int]:
    """Pairs (candidate of one, candidate of other) and (needle of one, needle of other) that are too near."""
    raise NotImplementedError
