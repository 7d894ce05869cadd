"""Needles that may be used through one template, and where seeds may be loaded along them.

Any subset of the candidate seeds that avoids the pairs listed as conflicts is a legal loading: every rule of the
protocol holds by construction, except that enough needles must be used for the lateral margin.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from brachy.core.threads import one_thread
from brachy.geometry.structures import Structure
from brachy.needles.channel import RELATIVE_DIGITS, Axis, Lines, Needle
from brachy.needles.conflicts import needle_conflicts, seed_conflicts
from brachy.needles.guide import individual_conflicts
from brachy.needles.lateral import edge_causes, edge_points, edge_sections, needed_tips
from brachy.needles.limits import ROUNDING_MM, AxisLimits, axis_limits, depth_in_skin
from brachy.needles.template import TemplateLayout
from brachy.patient.access import Access
from brachy.patient.protocol import Protocol

Float = NDArray[np.float64]
Int = NDArray[np.int64]


@dataclass(frozen=True)
class BlockedHole:
    """A hole whose axis crosses the target but may not be used."""

    hole: str
    cause: str
    """A structure's name, or "needle length", "skin", "air", "distal edge", "couch", "from below" ..."""
    reason: str
    """What is wrong and where, in a few words."""


@dataclass(frozen=True, eq=False)
class NeedleCandidates:
    """Needles and seeds that may be used through one template; each needle has a direction of its own."""

    layout: TemplateLayout
    needles: tuple[Needle, ...]
    blocked: tuple[BlockedHole, ...]
    positions_mm: Float
    """Candidate seed centres, (n, 3), needle by needle, the most distal first."""
    needle_of: Int
    """Index of each candidate's needle, (n,)."""
    tip_offset_mm: float
    """Centre of the most distal seed to the tip: tip_to_seed_mm + half a capsule."""
    seed_conflicts: Int
    """Pairs (p, 2) of candidates nearer than min_spacing_mm, or in one needle nearer than capsule and spacer allow."""
    needle_conflicts: Int
    """Pairs (q, 2) of needles whose surfaces come nearer than min_needle_spacing_mm."""
    edge_points_mm: Float
    """Edge points (m, 3) of the target's section in each layer that crosses it."""
    edge_layer: Int
    """Layer of each edge point, (m,)."""
    edge_needs_tip_mm: Float
    """(m, n_needles) least tip depth at which a needle lies within the lateral margin of the edge point; inf where
    it never does. 0 where that is before its axis leaves the target and the needle is not shortened, since the axis
    of a needle that could go to its full depth counts to where it leaves the target."""
    edge_covered_by: NDArray[np.bool_]
    """(m, n_needles) whether the needle, loaded at its deepest place, covers the edge point."""
    edge_cause: tuple[str, ...]
    """(m,) why no needle covers the edge point; "" where one does."""
    notes: tuple[str, ...]

    def tip_mm(self, needle: int, centre_depth_mm: float) -> Float:
        """Tip (3,) of a needle whose most distal loaded centre is at that depth from its hole."""
        return self.needles[needle].at(centre_depth_mm + self.tip_offset_mm)


@one_thread()
def needle_candidates(
    target: Structure,
    external: Structure,
    obstacles: Sequence[Structure],
    layout: TemplateLayout,
    protocol: Protocol,
    capsule_length_mm: float,
    edges: bool | tuple[Float, Int] = True,
    axes: Sequence[Axis] | None = None,
    access: Access | None = None,
    only_served: bool = False,
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
        Where the holes are, from `brachy.needles.laying_out.lay_out`.
    protocol : Protocol
        Margins, clearances, step, needle length.
    capsule_length_mm : float
        Length of a seed.
    edges : bool, or (points, layers)
        False leaves out the edge points of the lateral margin, which take most of the time when tilted; those that
        `edge_points` found before for the same target and layout are taken as they are.
    axes : sequence of Axis, optional
        Lines along which needles may be inserted through the template's holes, each with a direction of its own; by
        default the line along the template's axis through every hole.
    access : Access, optional
        What bars needles from outside the patient; by default nothing.
    only_served : bool
        Whether the edge points matter only where all of them are covered: they are then found section by section, and
        not beyond the first with one that is not.

    Returns
    -------
    NeedleCandidates
        Without any usable needle it is empty and its `blocked` and `notes` say why; that is no error.

    Notes
    -----
    The most distal candidate of a needle lies `distal_margin_mm` before its axis leaves the target for the last time,
    the others every `step_mm` before it to where the axis first enters. A needle that an obstacle, its length or the
    skin on the far side keeps from there is shortened: its candidates are counted from the deepest centre that is
    legal, so that none of its reach is lost. The path from hole to tip is judged as a whole, with
    `brachy.needles.needle_path.contact_depth`, at radius + clearance.

    References
    ----------
    The rules and where their numbers come from: plans/liver-metastasis.toml.

    Examples
    --------
    >>> from brachy.patient.protocol import load_protocol
    >>> from brachy.needles.laying_out import lay_out
    >>> from brachy.needles.template import needle_direction
    >>> square = np.array([[-1, -1, 0], [1, -1, 0], [1, 1, 0], [-1, 1, 0]])
    >>> tumour = Structure("GTV", [12 * square + [0, 0, z] for z in range(-10, 11, 2)])
    >>> body = Structure("Body", [90 * square + [0, 0, z] for z in range(-90, 91, 2)])
    >>> plate = lay_out(tumour, body, needle_direction(0), pitch_mm=10.0, standoff_mm=20.0)
    >>> found = needle_candidates(tumour, body, [], plate, load_protocol("liver-metastasis"), 4.5)
    >>> [needle.hole for needle in found.needles], found.needles[0].depths_mm.round(2).tolist()
    (['A1', 'B1', 'C1', 'A2', 'B2', 'C2', 'A3', 'B3', 'C3'], [117.0, 112.0, 107.0, 102.0])
    """
    tip_offset = protocol.needle.tip_to_seed_mm + 0.5 * capsule_length_mm
    tried = layout.axes() if axes is None else axes
    standoff = protocol.template.standoff_mm if layout.individual else 0.0
    limits = axis_limits(tried, target, external, obstacles, tip_offset, protocol, access, standoff)
    needles = _needles(limits, external, tip_offset, protocol)
    blocked = [each for each in limits if each.cause]
    counts = [len(needle.depths_mm) for needle in needles]
    needle_of = np.repeat(np.arange(len(needles)), counts).astype(np.int64)
    positions = np.concatenate([np.zeros((0, 3)), *[needle.positions_mm for needle in needles]])
    margin = protocol.template.lateral_margin_mm
    points, layer = np.zeros((0, 3)), np.zeros(0, dtype=np.int64)
    if only_served:
        points, layer = _until_unserved(target, layout, needles, margin)
    elif edges:
        points, layer = edge_points(target, layout) if isinstance(edges, bool) else edges
    needs_tip, covered = _cover(points, needles, margin)
    causes = edge_causes(points, covered, _lost_lines(needles, blocked), margin)
    return NeedleCandidates(
        layout=layout,
        needles=needles,
        blocked=tuple(BlockedHole(each.axis.hole, each.cause, each.reason) for each in blocked),
        positions_mm=positions,
        needle_of=needle_of,
        tip_offset_mm=tip_offset,
        seed_conflicts=seed_conflicts(positions - layout.origin_mm, needle_of, protocol, capsule_length_mm),
        needle_conflicts=individual_conflicts(needles, layout, protocol)
        if layout.individual
        else needle_conflicts(needles, layout.origin_mm, protocol.needle.axes_apart_mm),
        edge_points_mm=points,
        edge_layer=layer,
        edge_needs_tip_mm=needs_tip,
        edge_covered_by=covered,
        edge_cause=causes,
        notes=tuple(_notes(target, external, needles, blocked, layer, causes, layout, protocol)),
    )


def _cover(points: Float, needles: Sequence[Needle], margin_mm: float) -> tuple[Float, NDArray[np.bool_]]:
    """(m, n) least tip depth at which each needle covers each point, and whether it does at its deepest place."""
    max_tips = np.array([needle.tip_depth_mm for needle in needles])
    # a shortened needle counts as far as its tip, every other as the whole line of its axis
    counts_to = np.array([0.0 if needle.shortened_by else np.inf for needle in needles])
    needs_tip = needed_tips(points, Lines.of(needles, np.maximum(max_tips, counts_to).tolist()), margin_mm)
    needs_tip[np.isfinite(needs_tip) & (needs_tip <= counts_to)] = 0.0
    return needs_tip, needs_tip <= max_tips


def _until_unserved(
    target: Structure, layout: TemplateLayout, needles: Sequence[Needle], margin_mm: float
) -> tuple[Float, Int]:
    """Edge points and their layers, up to the first section with one that no needle covers."""
    found, layers = [np.zeros((0, 3))], [np.zeros(0, dtype=np.int64)]
    for points, layer in edge_sections(target, layout):
        found.append(points)
        layers.append(np.full(len(points), layer, dtype=np.int64))
        if not _cover(points, needles, margin_mm)[1].any(axis=1).all():
            break
    return np.concatenate(found), np.concatenate(layers)


def _needles(
    limits: Sequence[AxisLimits], external: Structure, tip_offset: float, protocol: Protocol
) -> tuple[Needle, ...]:
    """Needles of the axes that are not blocked; candidate seeds too near the skin are left out."""
    free = [each for each in limits if not each.cause]
    if not free:
        return ()
    stacks = [_stack(each, protocol.seeds.step_mm) for each in free]
    centres = np.concatenate([each.at(depths) for each, depths in zip(free, stacks, strict=True)])
    margin = protocol.seeds.skin_margin_mm + ROUNDING_MM
    legal = depth_in_skin(external, centres, margin) >= margin
    kept = np.split(legal, np.cumsum([len(depths) for depths in stacks])[:-1])
    return tuple(
        Needle(
            *each.axis,
            entry_depth_mm=each.skin_depth,
            tip_depth_mm=float(depths[keep][0]) + tip_offset,
            depths_mm=depths[keep],
            target_mm=each.span,
            shortened_by=each.shortened_by,
        )
        for each, depths, keep in zip(free, stacks, kept, strict=True)
    )


def _stack(limits: AxisLimits, step_mm: float) -> Float:
    """Depths from the deepest legal centre back to where the axis first enters the target, a step apart."""
    count = int(np.round((limits.deepest - limits.span[0]) / step_mm, RELATIVE_DIGITS) // 1) + 1
    return np.round(limits.deepest - step_mm * np.arange(count), RELATIVE_DIGITS)


def _lost_lines(needles: Sequence[Needle], blocked: Sequence[AxisLimits]) -> tuple[Lines, list[str]]:
    """Whole lines of the needles that are blocked or shortened, and what is the matter with each."""
    lost = [(each.axis, f"hole {each.axis.hole} blocked: {each.reason}") for each in blocked]
    lost += [
        (needle.axis, f"hole {needle.hole} shortened by {needle.shortened_by}")
        for needle in needles
        if needle.shortened_by
    ]
    return Lines.of([axis for axis, _ in lost], [np.inf] * len(lost)), [why for _, why in lost]


def _notes(
    target: Structure,
    external: Structure,
    needles: Sequence[Needle],
    blocked: Sequence[AxisLimits],
    layers: Int,
    causes: Sequence[str],
    layout: TemplateLayout,
    protocol: Protocol,
) -> list[str]:
    """Sentences on what may not be used."""
    notes = []
    if layout.individual:  # most lines of a cone are barred: that says nothing
        blocked, layers = [], np.zeros(0, dtype=np.int64)
    if blocked:
        counts = _counted([each.cause for each in blocked])
        notes.append(
            f"{len(blocked)} of {len(blocked) + len(needles)} holes that cross the target blocked: {counts}"
        )
    shortened = [needle.shortened_by for needle in needles if needle.shortened_by]
    if shortened and not layout.individual:
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
