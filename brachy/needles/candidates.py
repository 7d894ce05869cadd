"""Needles that may be used: for each hole of a template its skin entry, its free path and its candidate
seeds.

Any subset of the candidates of the needles offered that avoids the pairs listed as conflicts is a legal
loading: every rule of the protocol holds by construction, except that enough needles must be used for the
lateral margin.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from brachy.geometry.structures import Structure
from brachy.needles.lateral import Axes, edge_causes, edge_points, needed_tips
from brachy.needles.needle_path import (
    RELATIVE_DIGITS,
    contact_depth,
    one_thread,
    segment_distances,
    skin_entry,
    target_span,
)
from brachy.needles.template import TemplateLayout
from brachy.patient.protocol import Protocol

Float = NDArray[np.float64]
Int = NDArray[np.int64]

ROUNDING_MM = 1e-3
"""Margins are kept by this much more, so that they still hold after plan.json has rounded the positions."""


@dataclass(frozen=True, eq=False)
class Needle:
    """A hole that may be used, and the seed centres that may be loaded through it. Depths in mm from the
    hole."""

    hole: str
    column: int
    """From 0."""
    row: int
    """From 1."""
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
    """What is wrong and where, in a few words."""


@dataclass(frozen=True, eq=False)
class NeedleCandidates:
    """What may be loaded through one template."""

    layout: TemplateLayout
    needles: tuple[Needle, ...]
    blocked: tuple[BlockedHole, ...]
    positions_mm: Float
    """Candidate seed centres, (n, 3), needle by needle, distal first."""
    needle_of: Int
    """Index of each candidate's needle, (n,)."""
    tip_offset_mm: float
    """Centre of the most distal seed to the tip: tip_to_seed_mm + half a capsule."""
    seed_conflicts: Int
    """Pairs (p, 2) of candidates nearer than min_spacing_mm, or in one needle nearer than capsule and spacer allow."""
    needle_conflicts: Int
    """Pairs (q, 2) of needles nearer than min_needle_spacing_mm; none unless the pitch is smaller."""
    edge_points_mm: Float
    """Edge points (m, 3) of the target's section in each layer that crosses it."""
    edge_layer: Int
    """Layer of each edge point, (m,)."""
    edge_needs_tip_mm: Float
    """(m, n_needles) least tip depth at which a needle lies within the lateral margin of the edge point; inf where
    it never does. 0 where that is before its axis leaves the target and the needle is not shortened, since the axis
    of a needle that could go to its full depth counts to where it leaves the target."""
    edge_covered_by: NDArray[np.bool_]
    """(m, n_needles) whether the needle, at its full offered depth, covers the edge point."""
    edge_cause: tuple[str, ...]
    """(m,) why no offered needle covers the edge point; "" where one does."""
    notes: tuple[str, ...]

    def tip_mm(self, needle: int, centre_depth_mm: float) -> Float:
        """Tip (3,) of a needle whose most distal loaded centre is at that depth from its hole."""
        chosen = self.needles[needle]
        return chosen.hole_mm + (centre_depth_mm + self.tip_offset_mm) * chosen.direction


@dataclass
class _Hole:
    """A hole whose axis crosses the target, while it is being judged. Depths in mm from the hole."""

    label: str
    column: int
    row: int
    point_mm: Float
    span: tuple[float, float]
    """Depths at which the axis first enters and last leaves the target."""
    skin_depth: float = 0.0
    deepest: float = 0.0
    """Deepest legal seed centre so far."""
    limited_by: str = ""
    cause: str = ""
    """What blocks it; "" while nothing does."""
    reason: str = ""

    def block(self, cause: str, reason: str) -> None:
        if not self.cause:
            self.cause, self.reason = cause, reason


@one_thread()
def needle_candidates(
    target: Structure,
    external: Structure,
    obstacles: Sequence[Structure],
    layout: TemplateLayout,
    protocol: Protocol,
    capsule_length_mm: float,
    edges: bool = True,
) -> NeedleCandidates:
    """Needles and candidate seeds of one template that obey every rule of the protocol.

    Parameters
    ----------
    target : Structure
        The planned target (as expanded).
    external : Structure
        Outline of the patient.
    obstacles : sequence of Structure
        What a needle must not meet; the caller chooses them by role.
    layout : TemplateLayout
        Where the holes are, from `brachy.needles.template.lay_out`.
    protocol : Protocol
        Margins, clearances, step, needle length.
    capsule_length_mm : float
        Length of a seed.
    edges : bool
        False leaves out the edge points of the lateral margin, which take most of the time when tilted.

    Returns
    -------
    NeedleCandidates
        Without any usable needle it is empty and its `blocked` and `notes` say why; that is no error.

    Notes
    -----
    The most distal candidate of a needle lies `distal_margin_mm` before its axis leaves the target for
    the last time, the others every `step_mm` before it to where the axis first enters. A needle that an
    obstacle, its length or the skin on the far side keeps from there is offered shortened: its candidates are
    counted from the deepest centre that is legal, so that none of its reach is lost. The path from hole to
    tip is judged as a whole, with `brachy.needles.needle_path.contact_depth`, at radius + clearance.

    References
    ----------
    The rules and where their numbers come from: plans/liver-metastasis.toml.

    Examples
    --------
    >>> from brachy.patient.protocol import load_protocol
    >>> from brachy.needles.template import lay_out, needle_direction
    >>> square = np.array([[-1, -1, 0], [1, -1, 0], [1, 1, 0], [-1, 1, 0]])
    >>> tumour = Structure("GTV", [12 * square + [0, 0, z] for z in range(-10, 11, 2)])
    >>> body = Structure("Body", [90 * square + [0, 0, z] for z in range(-90, 91, 2)])
    >>> plate = lay_out(tumour, body, needle_direction(0), pitch_mm=10.0, standoff_mm=20.0)
    >>> found = needle_candidates(tumour, body, [], plate, load_protocol("liver-metastasis"), 4.5)
    >>> [needle.hole for needle in found.needles], found.needles[0].depths_mm.round(2).tolist()
    (['A1', 'B1', 'C1', 'A2', 'B2', 'C2', 'A3', 'B3', 'C3'], [117.0, 112.0, 107.0, 102.0])
    """
    tip_offset = protocol.needle.tip_to_seed_mm + 0.5 * capsule_length_mm
    holes = _holes(target, external, layout, protocol)
    _limit_by_length(holes, tip_offset, protocol)
    _limit_by_obstacles(holes, layout.direction, obstacles, tip_offset, protocol)
    _limit_by_skin(holes, layout.direction, external, protocol)
    needles = _needles(holes, layout.direction, external, tip_offset, protocol)
    depths = np.concatenate([needle.depths_mm for needle in needles] or [np.zeros(0)])
    counts = [len(needle.depths_mm) for needle in needles]
    needle_of = np.repeat(np.arange(len(needles)), counts).astype(np.int64)
    places = np.array([needle.hole_mm for needle in needles]).reshape(-1, 3)
    positions = places[needle_of] + depths[:, None] * layout.direction
    blocked = [hole for hole in holes if hole.cause]
    margin = protocol.template.lateral_margin_mm
    points, layer = edge_points(target, layout) if edges else (np.zeros((0, 3)), np.zeros(0, dtype=np.int64))
    max_tips = np.array([needle.max_tip_depth_mm for needle in needles])
    # a shortened needle counts as far as its tip, every other as the whole line of its axis
    counts_to = np.array([0.0 if needle.shortened_by else np.inf for needle in needles])
    ends = np.maximum(max_tips, counts_to).tolist()
    needs_tip = needed_tips(points, Axes(layout, [(n.column, n.row) for n in needles], ends), margin)
    needs_tip[np.isfinite(needs_tip) & (needs_tip <= counts_to)] = 0.0
    covered = needs_tip <= max_tips
    causes = edge_causes(points, covered, _lost_axes(layout, needles, blocked), margin)
    return NeedleCandidates(
        layout=layout,
        needles=needles,
        blocked=tuple(BlockedHole(h.label, h.column, h.row, h.cause, h.reason) for h in blocked),
        positions_mm=positions,
        needle_of=needle_of,
        tip_offset_mm=tip_offset,
        seed_conflicts=_seed_conflicts(positions - layout.origin_mm, needle_of, protocol, capsule_length_mm),
        needle_conflicts=_near_pairs(places - layout.origin_mm, protocol.needle.min_needle_spacing_mm),
        edge_points_mm=points,
        edge_layer=layer,
        edge_needs_tip_mm=needs_tip,
        edge_covered_by=covered,
        edge_cause=causes,
        notes=tuple(_notes(target, external, needles, blocked, layer, causes, protocol)),
    )


def _holes(target: Structure, external: Structure, layout: TemplateLayout, protocol: Protocol) -> list[_Hole]:
    """Holes whose axes cross the target, row by row, with their skin entries."""
    found = []
    for row in range(1, layout.rows + 1):
        for column in range(layout.columns):
            point = layout.hole_mm(column, row)
            span = target_span(target, point, layout.direction, protocol.template.lateral_overshoot_mm)
            if span is None:
                continue
            hole = _Hole(layout.hole_label(column, row), column, row, point, span)
            found.append(hole)
            hole.deepest = round(span[1] - protocol.seeds.distal_margin_mm - ROUNDING_MM, RELATIVE_DIGITS)
            if hole.deepest < span[0]:
                length = span[1] - span[0]
                hole.block(
                    "distal edge",
                    f"its axis crosses {length:.1f} mm of the target, too little for a seed "
                    f"{protocol.seeds.distal_margin_mm:g} mm before the distal edge",
                )
            entry = skin_entry(external, point, layout.direction, span[0])
            if entry is None:
                hole.block("air", f"its axis reaches the target outside '{external.name}'")
            elif entry.crossed_mm is not None:
                apart = entry.depth_mm - entry.crossed_mm
                hole.block(
                    "air", f"its axis passes through the patient {apart:.0f} mm before it enters the skin"
                )
            elif entry.depth_mm <= 0:
                hole.block("air", "the hole lies inside the skin")
            hole.skin_depth = entry.depth_mm if entry is not None else 0.0
    return found


def _limit_by_length(holes: list[_Hole], tip_offset: float, protocol: Protocol) -> None:
    longest = protocol.needle.max_needle_mm
    for hole in holes:
        if hole.deepest + tip_offset > longest - ROUNDING_MM:
            hole.deepest, hole.limited_by = longest - ROUNDING_MM - tip_offset, "needle length"
            if hole.deepest < hole.span[0]:
                needed = hole.span[0] + tip_offset
                hole.block(
                    "needle length",
                    f"needs {needed:.0f} mm from the hole to the first seed of {longest:g} mm",
                )


def _limit_by_obstacles(
    holes: list[_Hole],
    direction: Float,
    obstacles: Sequence[Structure],
    tip_offset: float,
    protocol: Protocol,
) -> None:
    """Shorten needles to what lies before the first obstacle each would meet, or block them."""
    reach = protocol.needle.radius_mm + protocol.obstacles.clearance_mm
    for obstacle in obstacles:
        judged = [hole for hole in holes if not hole.cause]
        if not judged or obstacle.is_empty:
            continue
        points = np.array([hole.point_mm for hole in judged])
        tips = np.array([hole.deepest for hole in judged]) + tip_offset
        contacts = np.floor(contact_depth(points, direction, tips, obstacle, reach) * 1e6) / 1e6
        lost = []
        for hole, contact, tip in zip(judged, contacts.tolist(), tips.tolist(), strict=True):
            if contact == np.inf:
                continue
            hole.deepest, hole.limited_by = contact - tip_offset, obstacle.name
            if hole.deepest < hole.span[0]:
                lost.append((hole, contact, tip))
        for (hole, contact, _), gap in zip(
            lost, _clearances(lost, direction, obstacle, protocol), strict=True
        ):
            passes = f"passes {gap:.1f} mm from '{obstacle.name}'" if gap > 0 else f"meets '{obstacle.name}'"
            hole.block(obstacle.name, f"{passes}, {contact:.0f} mm from the hole")


def _clearances(
    lost: Sequence[tuple[_Hole, float, float]], direction: Float, obstacle: Structure, protocol: Protocol
) -> list[float]:
    """Least distance of each needle's surface to an obstacle between two depths, at every mm; 0 in contact."""
    if not lost:
        return []
    depths = [np.linspace(start, stop, int(stop - start) + 2) for _, start, stop in lost]
    points = [
        entry[0].point_mm + along[:, None] * direction for entry, along in zip(lost, depths, strict=True)
    ]
    reach = protocol.needle.radius_mm + protocol.obstacles.clearance_mm
    gaps = obstacle.distance_mm(np.concatenate(points), reach + 1.0)
    first = np.cumsum([0] + [len(along) for along in depths[:-1]])
    least = np.minimum.reduceat(gaps, first) - protocol.needle.radius_mm
    return [max(float(gap), 0.0) for gap in least]


def _limit_by_skin(holes: list[_Hole], direction: Float, external: Structure, protocol: Protocol) -> None:
    """Draw the deepest centres back until they are far enough from the skin on the far side.

    Going back by what is missing skips no legal centre: the distance to the skin changes no faster than the
    depth.
    """
    margin = protocol.seeds.skin_margin_mm + ROUNDING_MM
    judged = [hole for hole in holes if not hole.cause]
    while judged:
        centres = np.array([hole.point_mm + hole.deepest * direction for hole in judged])
        missing = margin - _depth_in_skin(external, centres, margin)
        near = []
        for hole, lacks in zip(judged, missing.tolist(), strict=True):
            if lacks <= 0:
                continue
            hole.deepest, hole.limited_by = hole.deepest - max(lacks, ROUNDING_MM), "skin"
            near.append(hole)
            if hole.deepest < hole.span[0]:
                wanted = protocol.seeds.skin_margin_mm
                hole.block("skin", f"no part of its axis in the target is {wanted:g} mm from the skin")
        judged = [hole for hole in near if not hole.cause]


def _depth_in_skin(external: Structure, points_mm: Float, cutoff_mm: float) -> Float:
    """Distance (n,) from points to the skin, positive inside the patient, at most just above the cutoff."""
    return np.round(-external.signed_distance_mm(points_mm, cutoff_mm + 1.0), RELATIVE_DIGITS)


def _needles(
    holes: list[_Hole], direction: Float, external: Structure, tip_offset: float, protocol: Protocol
) -> tuple[Needle, ...]:
    """Candidates of every hole that is not blocked, those too near the skin left out."""
    open_ = [hole for hole in holes if not hole.cause]
    stacks = []
    for hole in open_:
        count = (
            int(np.round((hole.deepest - hole.span[0]) / protocol.seeds.step_mm, RELATIVE_DIGITS) // 1) + 1
        )
        stacks.append(np.round(hole.deepest - protocol.seeds.step_mm * np.arange(count), RELATIVE_DIGITS))
    if not open_:
        return ()
    centres = np.concatenate(
        [h.point_mm + d[:, None] * direction for h, d in zip(open_, stacks, strict=True)]
    )
    margin = protocol.seeds.skin_margin_mm + ROUNDING_MM
    legal = _depth_in_skin(external, centres, margin) >= margin
    kept = np.split(legal, np.cumsum([len(depths) for depths in stacks])[:-1])
    found = []
    for hole, depths, keep in zip(open_, stacks, kept, strict=True):
        found.append(
            Needle(
                hole=hole.label,
                column=hole.column,
                row=hole.row,
                hole_mm=hole.point_mm,
                skin_mm=hole.point_mm + hole.skin_depth * direction,
                direction=direction,
                depths_mm=depths[keep],
                max_tip_depth_mm=float(depths[keep][0]) + tip_offset,
                target_mm=hole.span,
                shortened_by=hole.limited_by,
            )
        )
    return tuple(found)


def _near_pairs(points_mm: Float, spacing_mm: float) -> Int:
    """Pairs (p, 2) of points nearer than a spacing, in order; points relative to something that moves
    along."""
    if len(points_mm) < 2:
        return np.zeros((0, 2), dtype=np.int64)
    pairs = cKDTree(points_mm).query_pairs(spacing_mm - 10.0**-RELATIVE_DIGITS, output_type="ndarray")
    ordered: Int = pairs[np.lexsort(pairs.T[::-1])].astype(np.int64)
    return ordered


def _seed_conflicts(positions_mm: Float, needle_of: Int, protocol: Protocol, capsule_length_mm: float) -> Int:
    """Pairs (p, 2) of candidates that exclude each other, sorted."""
    anywhere = protocol.seeds.min_spacing_mm
    inside = protocol.seeds.spacing_in_needle_mm(capsule_length_mm)
    pairs = _near_pairs(positions_mm, max(anywhere, inside))
    if inside > anywhere and len(pairs):
        gaps = np.linalg.norm(positions_mm[pairs[:, 0]] - positions_mm[pairs[:, 1]], axis=1)
        same = needle_of[pairs[:, 0]] == needle_of[pairs[:, 1]]
        pairs = pairs[same | (gaps < anywhere - 1e-6)]
    return pairs


def _lost_axes(
    layout: TemplateLayout, needles: Sequence[Needle], blocked: Sequence[_Hole]
) -> tuple[Axes, list[str]]:
    """Full axes of the holes that are blocked or shortened, and what is the matter with each."""
    lost = [(h.column, h.row, np.inf, f"hole {h.label} blocked: {h.reason}") for h in blocked]
    for needle in needles:
        if needle.shortened_by:
            why = f"hole {needle.hole} shortened by {needle.shortened_by}"
            lost.append((needle.column, needle.row, np.inf, why))
    axes = Axes(layout, [(column, row) for column, row, _, _ in lost], [end for _, _, end, _ in lost])
    return axes, [why for _, _, _, why in lost]


def _notes(
    target: Structure,
    external: Structure,
    needles: Sequence[Needle],
    blocked: Sequence[_Hole],
    layers: Int,
    causes: Sequence[str],
    protocol: Protocol,
) -> list[str]:
    """Sentences on what could not be offered."""
    notes = []
    if blocked:
        counts = _counted([hole.cause for hole in blocked])
        notes.append(
            f"{len(blocked)} of {len(blocked) + len(needles)} holes that cross the target blocked: {counts}"
        )
    shortened = [needle.shortened_by for needle in needles if needle.shortened_by]
    if shortened:
        notes.append(f"{len(shortened)} needles shortened: {_counted(shortened)}")
    for layer in np.unique(layers).tolist():
        here = [cause for cause, at in zip(causes, layers.tolist(), strict=True) if at == layer]
        missed = [cause for cause in here if cause]
        if missed:
            notes.append(
                f"layer {layer:+d}: {len(missed)} of {len(here)} edge points have no needle within "
                f"{protocol.template.lateral_margin_mm:g} mm: {_most_common(missed)}"
            )
    beyond = np.abs(external.bounds_mm[:, 2] - target.bounds_mm[:, 2]).min()
    if beyond < protocol.seeds.skin_margin_mm:
        notes.append(
            f"'{external.name}' ends {beyond:.1f} mm above or below the target: its cut face counts as skin; "
            "draw it over more slices"
        )
    return notes


def _counted(words: Sequence[str]) -> str:
    """'Ribs 12, Aorta 3', the most frequent first."""
    return ", ".join(
        f"{word} {words.count(word)}" for word in sorted(set(words), key=lambda w: (-words.count(w), w))
    )


def _most_common(words: Sequence[str]) -> str:
    return min(set(words), key=lambda word: (-words.count(word), word))


def conflicts_between(one: NeedleCandidates, other: NeedleCandidates, protocol: Protocol) -> tuple[Int, Int]:
    """Pairs of two templates' candidates, and of their needles, that may not be used together.

    Returns
    -------
    seeds : (p, 2) array
        Candidates (of one, of other) nearer than `min_spacing_mm`.
    needles : (q, 2) array
        Needles (of one, of other) that come nearer than `min_needle_spacing_mm`, axis to axis, between their
        holes and the deepest tips they are offered with.
    """
    none = np.zeros((0, 2), dtype=np.int64)
    if not (one.needles and other.needles):
        return none, none
    anchor = one.layout.origin_mm
    within = protocol.seeds.min_spacing_mm + ROUNDING_MM
    trees = cKDTree(one.positions_mm - anchor), cKDTree(other.positions_mm - anchor)
    near = trees[0].query_ball_tree(trees[1], within)
    seeds = [(i, j) for i, found in enumerate(near) for j in sorted(found)]
    gaps = segment_distances(*_segments(one, anchor), *_segments(other, anchor))
    close = np.argwhere(gaps < protocol.needle.min_needle_spacing_mm + ROUNDING_MM)
    return np.array(seeds, dtype=np.int64).reshape(-1, 2), close.astype(np.int64)


def _segments(offered: NeedleCandidates, anchor_mm: Float) -> tuple[Float, Float]:
    """Holes (n, 3), relative to an anchor, and the vectors (n, 3) from them to the deepest tips."""
    holes = np.array([needle.hole_mm for needle in offered.needles]) - anchor_mm
    return holes, np.array([needle.max_tip_depth_mm * needle.direction for needle in offered.needles])
