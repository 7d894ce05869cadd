"""Join the candidates of all templates into the arrays that the search kernels work on."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from brachy.core.influence import fill_rows
from brachy.core.loading import SearchArrays, State
from brachy.core.threads import over_range
from brachy.dosimetry.model import DoseModel
from brachy.needles.candidates import NeedleCandidates
from brachy.needles.channel import Needle
from brachy.needles.conflicts import conflicts_between
from brachy.needles.template import parse_hole
from brachy.patient.protocol import Protocol

Float = NDArray[np.float64]
Int = NDArray[np.int64]

NEAR_SEEDS = 30
"""Places a seed may be moved to by a near swap (engineering choice)."""

NEAR_NEEDLES = 8
"""Holes a needle may be shifted to (engineering choice)."""

LONGEST_MM = 250.0
"""The table of a seed's dose reaches this far; beyond, it ends on its last step (engineering choice)."""

FORBIDDING = 1e4
"""Price of a forbidden arrangement, far above every other term of the objective (engineering choice)."""

MANY_PAIRS = 5_000_000
"""Pairs of seed and point from which on the influence is computed on several threads (engineering choice)."""

TABLE_PER_MM = 8.0
ANGLES = 48
"""Steps of the seed's dose table for each mm and from its axis to its equator (engineering choice)."""


@dataclass(frozen=True, eq=False)
class SeedTable:
    """Dose of one seed times distance squared on steps of distance and angle, for `brachy.core.influence`."""

    values: Float
    per_mm: float
    least_mm: float

    @staticmethod
    def of(model: DoseModel) -> "SeedTable":
        """Tabulate the dose to complete decay of one seed in Gy mm^2.

        Parameters
        ----------
        model : DoseModel
            Of one seed at the origin along z.
        """
        least = 0.5 * model.implants[0].source.capsule_diameter_mm
        steps = np.arange(int(LONGEST_MM * TABLE_PER_MM) + 1) / TABLE_PER_MM
        radii = np.maximum(steps, least)
        u = np.arange(ANGLES + 1) / ANGLES if model.needs_axes else np.ones(1)
        cosine = 1.0 - u**2
        sine = np.sqrt(1.0 - cosine**2)
        points = np.zeros((len(radii), len(u), 3))
        points[:, :, 0] = radii[:, None] * sine
        points[:, :, 2] = radii[:, None] * cosine
        dose = model.influence(points.reshape(-1, 3))
        values = dose[0].astype(np.float64).reshape(len(radii), len(u)) * radii[:, None] ** 2
        return SeedTable(values, TABLE_PER_MM, least)

    def rows(self, points_mm: Float, positions_mm: Float, axes: Float) -> NDArray[np.float32]:
        """Influence matrix (m + 1, n) float32 in Gy; its last row is zero and stands for no seed."""
        out = np.zeros((len(positions_mm) + 1, len(points_mm)), dtype=np.float32)

        def part(first: int, last: int) -> None:
            own = slice(first, last)
            fill_rows(
                points_mm, positions_mm[own], axes[own], self.values, self.per_mm, self.least_mm, out[own]
            )

        if len(positions_mm) * len(points_mm) >= MANY_PAIRS:
            over_range(part, len(positions_mm))
        else:
            part(0, len(positions_mm))
        return out


class _Group(NamedTuple):
    """Needles of one template, or one measured needle, and which of its seeds and needles exclude each other."""

    template: int
    needles: Sequence[Needle]
    seed_conflicts: Int
    needle_conflicts: Int


def _groups(
    templates: Sequence[NeedleCandidates], measured: Sequence[tuple[int, Needle]], spacing_mm: float
) -> list[_Group]:
    groups = [
        _Group(index, made.needles, made.seed_conflicts, made.needle_conflicts)
        for index, made in enumerate(templates)
    ]
    for template, needle in measured:
        gaps = np.abs(needle.depths_mm[:, None] - needle.depths_mm)
        near = np.argwhere(np.triu(gaps < spacing_mm - 1e-6, 1)).astype(np.int64)
        groups.append(_Group(template, (needle,), near, np.zeros((0, 2), np.int64)))
    return groups


@dataclass(frozen=True, eq=False)
class Candidates:
    """All places where a seed may lie, needle by needle: those of one or several templates, then measured needles.

    Positions are relative to an anchor and rounded, so that a moved patient gives the same bits. Where seeds of several
    strengths are in stock, each needle is listed once for each strength, and only one of these copies may be used.
    """

    templates: tuple[NeedleCandidates, ...]
    needles: tuple[Needle, ...]
    positions_mm: Float
    """(n, 3)"""
    axes: Float
    """(n, 3) unit direction of each candidate's needle."""
    needle_of: Int
    """(n,) index of each candidate's needle."""
    template_of: Int
    """(n_needles,) template of each needle."""
    local: Int
    """(n_needles,) index of each needle among those of its template, -1 for one that is measured."""
    strength: Int
    """(n_needles,) which strength of the stock each needle is loaded with."""
    base: Int
    """(n,) index of each candidate among those of its template, -1 on a measured needle."""
    depths_mm: Float
    """(n,) hole to seed centre."""
    seed_conflicts: Int
    """(p, 2) pairs of candidates that exclude each other."""
    needle_conflicts: Int
    """(q, 2) pairs of needles that exclude each other."""

    @staticmethod
    def of(
        templates: Sequence[NeedleCandidates],
        anchor_mm: Float,
        protocol: Protocol,
        strengths: int = 1,
        measured: Sequence[tuple[int, Needle]] = (),
        spacing_mm: float = 0.0,
    ) -> "Candidates":
        """Join the candidates of all templates and the measured needles.

        Parameters
        ----------
        templates : sequence of NeedleCandidates
            Candidates of each template of the plan.
        anchor_mm : (3,) array
            A point that moves with the patient.
        protocol : Protocol
            Distances of seeds and needles.
        strengths : int
            Number of strengths in stock.
        measured : sequence of (template, Needle)
            Needles that are in the patient on lines of their own.
        spacing_mm : float
            Least distance of two seeds of one measured needle.
        """
        groups = _groups(templates, measured, spacing_mm)
        every = [needle for group in groups for needle in group.needles]
        lengths = [len(needle.depths_mm) for needle in every]
        needles = np.cumsum([0] + [len(group.needles) for group in groups])
        seeds = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)[needles]
        seed_conflicts, needle_conflicts = [np.zeros((0, 2), np.int64)], [np.zeros((0, 2), np.int64)]
        for a, one in enumerate(groups):
            seed_conflicts.append(one.seed_conflicts + seeds[a])
            needle_conflicts.append(one.needle_conflicts + needles[a])
            for b in range(a + 1, len(groups)):
                near_seeds, near_needles = conflicts_between(one.needles, groups[b].needles, protocol)
                seed_conflicts.append(near_seeds + np.array([seeds[a], seeds[b]]))
                needle_conflicts.append(near_needles + np.array([needles[a], needles[b]]))
        positions = np.concatenate([np.zeros((0, 3)), *[needle.positions_mm for needle in every]])
        own = [np.arange(len(made.needles)) for made in templates]
        base = [np.arange(len(made.positions_mm)) for made in templates]
        on_lines = sum(len(needle.depths_mm) for _, needle in measured)
        joined = Candidates(
            templates=tuple(templates),
            needles=tuple(every),
            positions_mm=np.round(positions - anchor_mm, 6),
            axes=np.repeat(np.array([n.direction for n in every]).reshape(-1, 3), lengths, axis=0),
            needle_of=np.repeat(np.arange(len(every)), lengths).astype(np.int64),
            template_of=np.array([g.template for g in groups for _ in g.needles], dtype=np.int64),
            local=np.concatenate([*own, np.full(len(measured), -1)]).astype(np.int64),
            strength=np.zeros(len(every), dtype=np.int64),
            base=np.concatenate([*base, np.full(on_lines, -1)]).astype(np.int64),
            depths_mm=np.concatenate([*[needle.depths_mm for needle in every], np.zeros(0)]),
            seed_conflicts=np.concatenate(seed_conflicts),
            needle_conflicts=np.concatenate(needle_conflicts),
        )
        return joined if strengths == 1 else joined._of_strengths(strengths)

    def _of_strengths(self, count: int) -> "Candidates":
        """Each needle once for each strength, side by side."""
        needles = len(self.needles)
        first = self.needle_first
        places = np.concatenate(
            [np.tile(np.arange(first[n], first[n + 1]), count) for n in range(needles)]
        ).astype(np.int64)
        lengths = np.repeat(np.diff(first), count)
        new_needle = np.repeat(np.arange(needles * count), lengths)
        kind = new_needle % count
        copies = np.empty((len(self), count), dtype=np.int64)  # new index of each candidate at each strength
        copies[places, kind] = np.arange(len(places))
        own = np.arange(needles)[:, None] * count + np.arange(count)
        within = [(i, j) for j in range(count) for i in range(j)]
        variants = [own[:, list(pair)] for pair in within]
        across = [own[self.needle_conflicts][:, [0, 1], [i, j]] for i in range(count) for j in range(count)]
        return replace(
            self,
            needles=tuple(needle for needle in self.needles for _ in range(count)),
            positions_mm=self.positions_mm[places],
            axes=self.axes[places],
            needle_of=new_needle.astype(np.int64),
            template_of=np.repeat(self.template_of, count),
            local=np.repeat(self.local, count),
            strength=np.tile(np.arange(count), needles).astype(np.int64),
            base=self.base[places],
            depths_mm=self.depths_mm[places],
            seed_conflicts=np.concatenate(
                [copies[self.seed_conflicts][:, [0, 1], [i, j]] for i in range(count) for j in range(count)]
            ),
            needle_conflicts=np.concatenate([*variants, *across]),
        )

    def only(self, kept: NDArray[np.bool_], closed: NDArray[np.bool_] | None = None) -> "Candidates":
        """Copy with the kept candidates alone; needles are kept, also those left without candidates.

        Parameters
        ----------
        kept : (n,) bool array
            Candidates that stay.
        closed : (n_needles,) bool array, optional
            Needles of which no candidate stays.
        """
        stays = np.zeros(len(self), dtype=bool)
        stays[self.stays(kept, closed)] = True
        new = np.cumsum(stays) - 1
        pairs = self.seed_conflicts[stays[self.seed_conflicts].all(axis=1)]
        return replace(
            self,
            positions_mm=self.positions_mm[stays],
            axes=self.axes[stays],
            needle_of=self.needle_of[stays],
            base=self.base[stays],
            depths_mm=self.depths_mm[stays],
            seed_conflicts=new[pairs].astype(np.int64),
        )

    def stays(self, kept: NDArray[np.bool_], closed: NDArray[np.bool_] | None = None) -> Int:
        """Indices of the candidates that `only` keeps."""
        return np.flatnonzero(kept if closed is None else kept & ~closed[self.needle_of]).astype(np.int64)

    def __len__(self) -> int:
        return len(self.needle_of)

    @cached_property
    def measured(self) -> NDArray[np.bool_]:
        """(n_needles,) which needles are in the patient already, on measured lines."""
        return np.array([needle.measured for needle in self.needles], dtype=bool)

    @cached_property
    def names(self) -> list[tuple[int, str]]:
        """(template, hole) of each needle; a measured one has the name of the needle that was planned."""
        return [
            (template, needle.hole)
            for template, needle in zip(self.template_of.tolist(), self.needles, strict=True)
        ]

    @cached_property
    def needle_first(self) -> Int:
        """(n_needles + 1,) first candidate of each needle."""
        return np.searchsorted(self.needle_of, np.arange(len(self.needles) + 1)).astype(np.int64)

    @cached_property
    def edges(self) -> tuple[Int, Int, Float]:
        """Groups of edge points that are covered by the same candidates.

        A candidate covers an edge point if its needle, loaded with it alone, comes within the lateral margin.

        Returns
        -------
        first, groups : arrays
            Groups that candidate i covers, in CSR form: `groups[first[i]:first[i + 1]]`.
        points : array
            Number of edge points of each group.
        """
        of_template = np.where(self.measured, -1, self.template_of)[self.needle_of]
        matrix = np.zeros((len(self), len(self._patterns)), dtype=bool)
        for g, (index, row, _) in enumerate(self._patterns):
            matrix[of_template == index, g] = row[self.base[of_template == index]]
        first = np.concatenate([[0], np.cumsum(matrix.sum(axis=1))]).astype(np.int64)
        return (
            first,
            np.nonzero(matrix)[1].astype(np.int64),
            np.array([float(n) for _, _, n in self._patterns]),
        )

    @cached_property
    def _patterns(self) -> list[tuple[int, NDArray[np.bool_], int]]:
        """(template, which of its candidates cover it, edge points) of each group."""
        patterns: list[tuple[int, NDArray[np.bool_], int]] = []
        for index, made in enumerate(self.templates):
            if not len(made.edge_points_mm):
                continue
            tips = np.concatenate([np.zeros(0), *(n.depths_mm for n in made.needles)]) + made.tip_offset_mm
            covered = made.edge_needs_tip_mm[:, made.needle_of] <= tips + 1e-6
            same, counts = np.unique(np.packbits(covered, axis=1), axis=0, return_counts=True)
            unpacked = np.unpackbits(same, axis=1, count=covered.shape[1]).astype(bool)
            patterns += [(index, row, n) for row, n in zip(unpacked, counts.tolist(), strict=True)]
        return patterns

    def covered_by(self, used: NDArray[np.bool_]) -> Int:
        """(groups,) how many of the template's needles in use, loaded at their deepest place, cover each group."""
        found = np.zeros(len(self._patterns), dtype=np.int64)
        for g, (index, row, _) in enumerate(self._patterns):
            made = self.templates[index]
            for n in np.flatnonzero(used):
                if self.template_of[n] == index and self.strength[n] == 0 and not self.measured[n]:
                    found[g] += bool(row[made.needle_of == self.local[n]].any())
        return found

    @cached_property
    def near(self) -> Int:
        """(n, k) nearest candidates of each, by distance, then by index; -1 where there are fewer."""
        return _nearest(self.positions_mm, NEAR_SEEDS)

    @cached_property
    def needle_near(self) -> Int:
        """(n_needles, k) nearest needles of each in the same template, by distance of the holes; -1 where fewer.

        Of needles at angles of their own also by the distance within the target. A measured needle has no others than
        its copies of other strengths.
        """
        found = np.full((len(self.needles), NEAR_NEEDLES), -1, dtype=np.int64)
        groups: dict[tuple[int, str], list[int]] = {}
        for n, (needle, (template, hole)) in enumerate(zip(self.needles, self.names, strict=True)):
            groups.setdefault((template, hole if needle.measured else ""), []).append(n)
        for (template, _), indices in groups.items():
            mine = np.array(indices)
            needles = [self.needles[n] for n in indices]
            if self.templates[template].layout.individual:
                ends = [(needle.hole_mm, needle.at(0.5 * sum(needle.target_mm))) for needle in needles]
                spots = np.array(ends).reshape(-1, 6)
            else:
                spots = np.array([(*parse_hole(needle.hole), 0) for needle in needles], dtype=np.float64)
            near = _nearest(spots, NEAR_NEEDLES)
            found[mine, : near.shape[1]] = np.where(near >= 0, mine[near], -1)
        return found


def _nearest(points_mm: Float, count: int) -> Int:
    """(n, k) nearest other points; distances equal to 1e-4 mm are ordered by index, so that rounding has no effect."""
    size = len(points_mm)
    asked = min(2 * count + 1, size)
    found = np.full((size, count), -1, dtype=np.int64)
    if size < 2:
        return found
    distance, index = cKDTree(points_mm).query(points_mm, asked)
    distance = np.round(distance, 4)
    distance[index == np.arange(size)[:, None]] = -1.0
    order = np.lexsort((index, distance), axis=1)[:, 1 : count + 1]
    found[:, : order.shape[1]] = np.take_along_axis(index, order, axis=1)
    return found


def without_conflicts(loading: NDArray[np.int8], candidates: Candidates) -> NDArray[np.int8]:
    """A loading without the seeds and needles that exclude others of it.

    What was planned together may exclude each other once a needle was measured on another line than its own. The search
    keeps a loading legal and does not make it so. Seeds go one by one: those of needles that were not measured first,
    of these the one that excludes most.
    """
    kept = loading.copy()
    fixed = candidates.measured[candidates.needle_of]
    needles, seeds = candidates.needle_conflicts, candidates.seed_conflicts
    used = np.bincount(candidates.needle_of[kept > 0], minlength=len(candidates.needles)) > 0
    for one, other in needles[used[needles].all(axis=1)].tolist():
        if used[one] and used[other]:
            lost = other if candidates.measured[one] else one
            used[lost] = False
            kept[candidates.needle_of == lost] = 0
    while len(both := seeds[kept[seeds].all(axis=1)]):
        count = np.bincount(both.ravel(), minlength=len(kept))
        kept[max(set(both.ravel().tolist()), key=lambda i: (not fixed[i], count[i], i))] = 0
    return kept


def pairs_to_lists(pairs: Int, size: int) -> tuple[Int, Int]:
    """Partners of each item in CSR form: partners of i are `partners[first[i]:first[i + 1]]`."""
    both = np.concatenate([pairs, pairs[:, ::-1]])
    both = both[np.lexsort((both[:, 1], both[:, 0]))]
    first = np.searchsorted(both[:, 0], np.arange(size + 1)).astype(np.int64)
    return first, np.ascontiguousarray(both[:, 1])


def search_arrays(candidates: Candidates, matrix: NDArray[np.float32], protocol: Protocol) -> SearchArrays:
    """Arrays for the search kernels, from the candidates and their influence matrix (n + 1, points).

    Parameters
    ----------
    candidates : Candidates
        n candidates.
    matrix : (n + 1, points) float32 array
        Dose of a seed at each candidate, Gy; its last row is zero and stands for no seed.
    protocol : Protocol
        Prices of the objective and limits on seeds and needles.
    """
    size, needles = len(candidates), len(candidates.needles)
    seed_conflict_first, seed_conflicts = pairs_to_lists(candidates.seed_conflicts, size)
    needle_conflict_first, needle_conflicts = pairs_to_lists(candidates.needle_conflicts, needles)
    cover_first, cover, points = candidates.edges
    price = protocol.objective
    return SearchArrays(
        influence=matrix,
        needle_of=candidates.needle_of,
        needle_first=candidates.needle_first,
        depth=candidates.depths_mm,
        seed_conflict_first=seed_conflict_first,
        seed_conflicts=seed_conflicts,
        needle_conflict_first=needle_conflict_first,
        needle_conflicts=needle_conflicts,
        cover_first=cover_first,
        cover=cover,
        # the cost of edge points that no candidate covers is a constant: it compares directions, not loadings
        cover_cost=np.where(np.isin(np.arange(len(points)), cover), price.lateral, price.out_of_reach)
        * points,
        near=candidates.near,
        needle_near=candidates.needle_near,
        base=np.zeros(matrix.shape[1]),
        base_count=np.zeros(needles, dtype=np.int64),
        base_covered=np.zeros(len(points), dtype=np.int64),
        needle_cost=np.full(needles, price.needle),
        seed_cost=np.full(size, price.seed),
        limits=_limits(protocol, size, needles),
        strand=np.array([protocol.seeds.strand_pitch_mm, FORBIDDING])
        if protocol.seeds.supply == "strand"
        else np.zeros(2),
        least_needles=np.array([float(_least(protocol.needle.count)), FORBIDDING]),
    )


def _limits(protocol: Protocol, size: int, needles: int) -> Int:
    """Least and most seeds, most needles."""
    seeds, rows = protocol.seeds.count, protocol.needle.count
    exact = (seeds, seeds) if isinstance(seeds, int) else seeds or (0, size)
    most = rows[1] if isinstance(rows, tuple) else rows or needles
    return np.array([exact[0], min(exact[1], size), min(most, needles)], dtype=np.int64)


def _least(count: int | tuple[int, int] | None) -> int:
    return count[0] if isinstance(count, tuple) else 0


def empty_state(arrays: SearchArrays) -> State:
    """A state without seeds; `brachy.core.loading.set_loading` fills it."""
    size, needles = len(arrays.needle_of), len(arrays.needle_cost)
    return State(
        chosen=np.zeros(size, dtype=np.int8),
        dose=np.zeros(arrays.influence.shape[1], dtype=np.float32),
        needle_seeds=np.zeros(needles, dtype=np.int64),
        covered=np.zeros(len(arrays.cover_cost), dtype=np.int64),
        conflicting_seeds=np.zeros(size, dtype=np.int64),
        conflicting_needles=np.zeros(needles, dtype=np.int64),
        used=np.zeros(size, dtype=np.int64),
        index_in_used=np.full(size, -1, dtype=np.int64),
        counts=np.zeros(2, dtype=np.int64),
        cost=np.zeros(3),
        best=np.zeros(size, dtype=np.int8),
    )
