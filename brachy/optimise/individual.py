"""Needles at angles: a guide about an axis, whose lines are offered, searched, and offered anew where they are used.

All lines through a target within a cone are far too many for one search. So lines come in columns, as in column
generation: a first set spread over the cone is searched; then lines beside those in use and through places that stay
cold take the place of lines that no search used; and so on. What one round found is where the next begins, so the
objective never rises. The best plan with parallel needles is among the starts, and the result is never worse than it.
"""

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from brachy.core.loading import exact_dose
from brachy.needles.candidates import NeedleCandidates, needle_candidates
from brachy.needles.channel import Axis, Needle
from brachy.needles.guide import cone_directions, lattice_lines, leaning, through
from brachy.needles.lateral import edge_points
from brachy.needles.laying_out import largest_section_centroid
from brachy.needles.template import GuideHole, TemplateLayout, insertion_rank, template_axes
from brachy.optimise.candidates import Candidates, without_conflicts
from brachy.optimise.control import SearchControl
from brachy.optimise.directions import Scored, Surroundings, TemplatePose
from brachy.optimise.points import FINE, SCAN, SEARCH, Samples
from brachy.optimise.preparation import Prepared
from brachy.optimise.search import Loading, SearchProblem, Solution, anneal, descend, greedy, moves_for

Float = NDArray[np.float64]
Int = NDArray[np.int64]

AXES_APART_DEG = 20.0
"""Least angle between two of them; nearer ones offer mostly the same lines (engineering choice)."""

LATTICE_PITCHES = (1.0, 0.7, 0.5)
ENOUGH_LINES, MOST_LINES = 200, 400
"""Lines are spread over a cone a pitch apart, or nearer where fewer than enough are clear; of more than the most, so
many are taken (engineering choice)."""

MOST_OFFERED = 700
"""Lines of a round: those in use, those beside them and through cold places, and for the rest of the first set
(engineering choice: the influence matrix stays below 0.4 GB)."""

STARTS = 2
"""Starts of each round (engineering choice)."""

LEAN_DEG, SHIFT_MM = (3.0, 6.0), 3.0
"""Lines beside one in use: leaning by so much about the middle of its stretch in the target, and shifted (engineering
choice)."""

COLD_PLACES, COLD_APART_MM = 8, 10.0
"""Places below the prescription through which lines in all directions are offered, and how far apart (engineering
choice)."""

Loaded = dict[tuple[int, str, int], tuple[float, ...]]
"""Depths of the seeds by template, line and strength."""


@dataclass(frozen=True, eq=False)
class Guide:
    """Lines that are offered through one template."""

    around: Surroundings
    pose: TemplatePose
    """Of the template; its direction is the cone's axis."""
    layout: TemplateLayout
    edges: tuple[Float, Int]
    lines: tuple[Axis, ...]
    offered: int
    """How many lines have had a name so far."""
    spread: frozenset[str] = frozenset()
    """Names of the lines spread over the cone at first, which every round offers."""

    @staticmethod
    def about(around: Surroundings, scored: Scored) -> "Guide":
        """The guide about the axis of a pose, with lines spread over the cone and those of the pose's own holes."""
        assert scored.candidates is not None
        flat, rule = scored.candidates.layout, around.prepared.protocol.template
        target = around.target.structure
        ((x, y, _),) = flat.to_plate([largest_section_centroid(target)])
        layout = replace(
            flat,
            origin_mm=flat.on_plate_mm(float(x), float(y)),
            columns=0,
            rows=0,
            central_row=0,
            cone_deg=rule.cone_deg,
            individual=True,
        )
        bare = Guide(around, scored.pose, layout, edge_points(target, layout), tuple(flat.axes()), 0)
        for share in LATTICE_PITCHES:
            points, ways = lattice_lines(target, layout, rule.cone_deg, share * rule.pitch_mm)
            guide = bare.with_lines(points, ways)
            clear = guide.candidates().needles
            if len(clear) >= ENOUGH_LINES:
                break
        if len(clear) > MOST_LINES:  # evenly: the lattice lists direction after direction
            chosen = {clear[int(k)].hole for k in np.linspace(0, len(clear) - 1, MOST_LINES)}
            chosen |= {line.hole for line in bare.lines}
        else:
            chosen = {needle.hole for needle in clear}
        return replace(guide.only(chosen), spread=frozenset(chosen))

    def with_lines(self, points_mm: Float, directions: Float) -> "Guide":
        """The guide with more lines, through points and with directions (n, 3), as far as they are in the cone."""
        cosine = directions @ self.layout.direction
        inside = cosine >= np.cos(np.radians(self.layout.cone_deg)) - 1e-9
        more = through(self.layout, points_mm[inside], directions[inside], self.offered + 1)
        return replace(self, lines=(*self.lines, *more), offered=self.offered + len(more))

    def only(self, names: Set[str]) -> "Guide":
        """The guide with the lines of these names alone."""
        return replace(self, lines=tuple(line for line in self.lines if line.hole in names))

    def candidates(self) -> NeedleCandidates:
        """Needles along the lines, as far as they are clear."""
        prepared = self.around.prepared
        return needle_candidates(
            self.around.target.structure,
            prepared.external,
            self.around.obstacles,
            self.layout,
            prepared.protocol,
            prepared.capsule_length_mm,
            edges=self.edges,
            axes=self.lines,
            access=prepared.access,
        )


@dataclass(frozen=True, eq=False)
class Individual:
    """The best loadings of individual needles, the best first: lines offered last, and how many were in all."""

    problem: SearchProblem
    solutions: tuple[Solution, ...]
    poses: tuple[TemplatePose, ...]
    """Of the guides' axes."""
    offered: int


def search_individual(
    arounds: Sequence[Surroundings],
    scans: Sequence[Sequence[Scored]],
    chosen: Sequence[Scored],
    parallel: tuple[SearchProblem, Solution],
    prepared: Prepared,
    control: SearchControl,
) -> Individual:
    """Search needles at angles for every template together.

    Parameters
    ----------
    arounds : sequence of Surroundings
        Targets that get a template each.
    scans : sequence of sequence of Scored
        Poses that were scored for each, best first.
    chosen : sequence of Scored
        The pose of each in the best plan with parallel needles.
    parallel : SearchProblem, Solution
        That plan.
    prepared : Prepared
        Samples, seeds and weights.
    control : SearchControl
        Seed, threads, time limit, progress.
    """
    flat = apart_from_edge(*parallel)
    known = loaded(parallel[0].candidates, parallel[1].loading)
    guides = [
        _best_axis(around, scored, own, control)
        for around, scored, own in zip(arounds, scans, chosen, strict=True)
    ]
    same = all(guide.pose == each.pose for guide, each in zip(guides, chosen, strict=True))
    found = _columns(guides, known if same else {}, prepared, control, "axis")
    if same or control.stopped() or apart_from_edge(found.problem, found.solutions[0]) < flat:
        return found
    # another axis promised more than it kept: the parallel plan's own axis, from that plan, cannot be worse
    guides = [Guide.about(around, scored) for around, scored in zip(arounds, chosen, strict=True)]
    return _columns(guides, known, prepared, control, "own axis")


def apart_from_edge(problem: SearchProblem, solution: Solution) -> float:
    """Objective without the term of the lateral margin, whose edge points differ between the two arrangements."""
    values = problem.terms_of(solution.loading)
    return sum(values.values()) - values["lateral"]


def _best_axis(around: Surroundings, scans: Sequence[Scored], own: Scored, control: SearchControl) -> Guide:
    """The guide about the axis that promises most by a quick search, the parallel plan's own axis among them."""
    tried = [own]
    for each in scans:
        if len(tried) == around.prepared.protocol.search.axes:
            break
        if each.candidates is None or not np.isfinite(each.value):
            continue
        way = each.candidates.layout.direction
        apart = [other.candidates.layout.direction @ way for other in tried if other.candidates is not None]
        if max(apart) <= np.cos(np.radians(AXES_APART_DEG)):
            tried.append(each)
    stage = f"axes to {around.target.name}"
    guides = control.run(stage, [partial(Guide.about, around, each) for each in tried])
    values = control.run(
        stage,
        [partial(_promise, guide, each, control) for guide, each in zip(guides, tried, strict=True)],
    )
    return guides[min(range(len(tried)), key=lambda k: (values[k], k))]


def _promise(guide: Guide, scored: Scored, control: SearchControl) -> float:
    """Objective of a quick search of a guide's lines, on the coarsest samples."""
    prepared, protocol = guide.around.prepared, guide.around.prepared.protocol
    made = guide.candidates()
    if not len(made.positions_mm):
        return np.inf
    candidates = Candidates.of([made], prepared.anchor_mm, protocol, len(protocol.source.stock_mCi))
    problem = SearchProblem.of(candidates, guide.around.samples, SCAN, prepared.table, protocol)
    rule, pose = protocol.search, scored.pose
    rng = control.rng("axis", pose.azimuth_deg, pose.tilt_deg, pose.offset_mm)
    moves = moves_for(len(candidates), rule.scan_moves)
    found = anneal(problem, greedy(problem), moves, rule.hot, rule.cold, rng, control, quiet=True)
    return found.value + pose.price(protocol)


def _columns(
    guides: Sequence[Guide], known: Loaded, prepared: Prepared, control: SearchControl, which: str
) -> Individual:
    """Rounds of search and new lines on the search's samples, then on the fine ones."""
    rule = prepared.protocol.search
    for turn in range(rule.rounds):
        guides, known = _round(guides, known, prepared, control, (which, turn), turn + 1 == rule.rounds)
        if control.stopped():
            break
    fine = _problem(guides, prepared, FINE, control)
    start = descend(fine, Solution(loading_of(known, fine.candidates), 0.0))
    moves = moves_for(len(fine.candidates), rule.fine_moves)

    def polish(number: int) -> Solution:
        rng = control.rng("individual fine", which, number)
        return anneal(fine, start, moves, rule.fine_hot, rule.cold, rng, control)

    control.best_value = np.inf
    polished = control.run("polish", [partial(polish, number) for number in range(STARTS)])
    best_first = tuple(sorted([*polished, start], key=lambda each: each.value)[:STARTS])
    return Individual(fine, best_first, tuple(g.pose for g in guides), sum(g.offered for g in guides))


def _round(
    guides: Sequence[Guide],
    known: Loaded,
    prepared: Prepared,
    control: SearchControl,
    place: tuple[str, int],
    last: bool,
) -> tuple[list[Guide], Loaded]:
    """Search the lines offered now from what is known, and offer new ones: those beside the used alone at last.

    A function of its own, so that the influence matrix is gone before that of the next round is made.
    """
    rule = prepared.protocol.search
    problem = _problem(guides, prepared, SEARCH, control)
    starts = [greedy(problem)]
    if known:
        starts = [descend(problem, Solution(loading_of(known, problem.candidates), 0.0)), *starts]
    moves = moves_for(len(problem.candidates), rule.moves)
    jobs = [
        partial(
            anneal, problem, starts[k % len(starts)], moves, rule.hot, rule.cold,
            control.rng("individual", *place, k), control,
        )
        for k in range(STARTS)
    ]  # fmt: skip
    control.best_value = np.inf
    found = control.run(f"angles {place[1] + 1}/{rule.rounds}", jobs)
    best = min([*found, *starts], key=lambda each: each.value)
    known = loaded(problem.candidates, best.loading)
    used = [loaded(problem.candidates, each.loading) for each in found]
    if last or control.stopped():
        kept = [guide.only(_names(k, [known, *used])) for k, guide in enumerate(guides)]
        return [_beside_used(guide, k, problem, best) for k, guide in enumerate(kept)], known
    return [_renewed(guide, k, problem, best, [known, *used]) for k, guide in enumerate(guides)], known


def _problem(
    guides: Sequence[Guide], prepared: Prepared, level: int, control: SearchControl
) -> SearchProblem:
    protocol = prepared.protocol
    made = control.run("needle paths", [guide.candidates for guide in guides])
    candidates = Candidates.of(made, prepared.anchor_mm, protocol, len(protocol.source.stock_mCi))
    return SearchProblem.of(candidates, prepared.samples, level, prepared.table, protocol)


def loaded(candidates: Candidates, loading: Loading) -> Loaded:
    """Depths of the seeds of a loading by template, line and strength."""
    found: dict[tuple[int, str, int], list[float]] = {}
    for i in np.flatnonzero(loading).tolist():
        n = int(candidates.needle_of[i])
        key = int(candidates.template_of[n]), candidates.needles[n].hole, int(candidates.strength[n])
        found.setdefault(key, []).append(round(float(candidates.depths_mm[i]), 4))
    return {key: tuple(depths) for key, depths in found.items()}


def loading_of(known: Mapping[tuple[int, str, int], Sequence[float]], candidates: Candidates) -> Loading:
    """The loading (n,) of the same seeds among other candidates, without those that may not be used together."""
    kept = np.zeros(len(candidates), dtype=np.int8)
    first = candidates.needle_first
    for n, needle in enumerate(candidates.needles):
        depths = known.get((int(candidates.template_of[n]), needle.hole, int(candidates.strength[n])))
        if depths:
            here = np.round(candidates.depths_mm[first[n] : first[n + 1]], 4)
            kept[first[n] : first[n + 1]] = np.isin(here, depths)
    return without_conflicts(kept, candidates)


def numbered(candidates: Candidates, loading: Loading) -> Candidates:
    """The candidates with the used lines of individual templates named N1, N2 ... in the order of insertion.

    As layers go: from the one through the axis outward, in each from one side to the other. They become the holes of
    their templates. Templates with parallel needles stay as they are.
    """
    used = np.unique(candidates.needle_of[loading > 0]).tolist()
    needles, templates = list(candidates.needles), list(candidates.templates)
    for index, made in enumerate(templates):
        layout = made.layout
        if not layout.individual:
            continue

        def order(n: int, layout: TemplateLayout = layout) -> tuple[tuple[int, int], float, int]:
            needle = needles[n]
            ((x, y, _),) = layout.to_plate([needle.at(0.5 * sum(needle.target_mm))])
            return insertion_rank(round(y / layout.spacing_mm)), float(x), n

        own = sorted((n for n in used if candidates.template_of[n] == index), key=order)
        named = []
        for k, n in enumerate(own, 1):
            ((x, y, _),) = layout.to_plate([needles[n].hole_mm])
            along = needles[n].direction.tolist()
            named.append(GuideHole(f"N{k}", float(x), float(y), (along[0], along[1], along[2])))
            needles[n] = replace(needles[n], hole=f"N{k}")
        templates[index] = replace(made, layout=replace(layout, named=tuple(named)))
    return replace(candidates, needles=tuple(needles), templates=tuple(templates))


def _names(template: int, loads: Sequence[Loaded]) -> set[str]:
    """Lines of a template that some loading uses."""
    return {hole for load in loads for index, hole, _ in load if index == template}


def _renewed(
    guide: Guide, template: int, problem: SearchProblem, best: Solution, used: Sequence[Loaded]
) -> Guide:
    """The lines in use, lines beside those, lines through cold places, and of the first set what has room."""
    near = _beside_used(guide.only(_names(template, used)), template, problem, best)
    spots = _cold(problem, best, guide.around.target.name) + guide.around.prepared.anchor_mm
    ways = cone_directions(guide.layout.direction, guide.layout.cone_deg)
    new = near.with_lines(np.repeat(spots, len(ways), axis=0), np.tile(ways, (len(spots), 1)))
    have = {line.hole for line in new.lines}
    others = [line for line in guide.lines if line.hole in guide.spread and line.hole not in have]
    room = max(0, min(MOST_OFFERED - len(new.lines), len(others)))
    filled = [others[int(k)] for k in np.linspace(0, len(others) - 1, room)]
    return replace(new, lines=(*new.lines, *filled))


def _beside_used(guide: Guide, template: int, problem: SearchProblem, best: Solution) -> Guide:
    """The guide with lines beside each that the best loading uses: leaning a little, or shifted."""
    candidates = problem.candidates
    points, ways = [np.zeros((0, 3))], [np.zeros((0, 3))]
    for n in np.unique(candidates.needle_of[best.loading > 0]).tolist():
        if candidates.template_of[n] == template:
            at, along = _near_lines(candidates.needles[n])
            points.append(at)
            ways.append(along)
    return guide.with_lines(np.concatenate(points), np.concatenate(ways))


def _near_lines(needle: Needle) -> tuple[Float, Float]:
    middle = needle.at(0.5 * sum(needle.target_mm))
    column, row = template_axes(needle.direction)
    turns = [k * np.pi / 2 for k in range(4)]
    ways = [leaning(needle.direction, column, row, np.radians(a), t) for a in LEAN_DEG for t in turns]
    shifts = [SHIFT_MM * (np.cos(t) * column + np.sin(t) * row) for t in turns]
    points = [middle] * len(ways) + [middle + shift for shift in shifts]
    return np.array(points), np.array([*ways, *[needle.direction] * len(shifts)])


def _cold(problem: SearchProblem, best: Solution, target: str) -> Float:
    """Places (n, 3), relative to the anchor, of a target that get least of their prescription, some way apart."""
    dose = exact_dose(problem.arrays, best.loading)
    points, shares, first = [np.zeros((0, 3))], [np.zeros(0)], 0
    part: Samples
    for part in problem.samples:
        count = part.counts[problem.level]
        if part.kind == "target" and part.name == target:
            points.append(part.points_mm[:count])
            shares.append(dose[first : first + count] / part.prescription_gy)
        first += count
    at, share = np.concatenate(points), np.concatenate(shares)
    found: list[Float] = []
    for k in np.argsort(share, kind="stable").tolist():
        if len(found) == COLD_PLACES or share[k] >= 1.0:
            break
        if all(np.linalg.norm(at[k] - other) >= COLD_APART_MM for other in found):
            found.append(at[k])
    return np.array(found).reshape(-1, 3)
