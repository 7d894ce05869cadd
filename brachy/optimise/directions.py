"""Directions of the needles: lay out a template for every direction and offset and score it by a quick search."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from brachy.errors import BrachyError
from brachy.geometry.structures import Structure
from brachy.needles.candidates import NeedleCandidates, needle_candidates
from brachy.needles.laying_out import lay_out
from brachy.needles.template import needle_direction
from brachy.optimise.candidates import Candidates
from brachy.optimise.control import SearchControl
from brachy.optimise.points import SCAN, Samples
from brachy.optimise.preparation import Prepared
from brachy.optimise.search import SearchProblem, anneal, greedy
from brachy.patient.access import ranges_in_words
from brachy.patient.optimiser_record import DirectionRow
from brachy.patient.protocol import Protocol
from brachy.patient.target import Target

Float = NDArray[np.float64]

FIRST_OFFSETS = (0.0, 0.5)
"""Offsets tried in every direction, in pitches (engineering choice)."""

FINER_OFFSETS = (0.1, 0.2, 0.3, 0.4, 0.6, 0.7, 0.8, 0.9)
"""Offsets tried in the best directions, in pitches (engineering choice)."""


COARSE_DEG, FINE_DEG = 15.0, 5.0
"""Steps of azimuth and tilt: of the first look at all directions, and round the best of them (engineering choice)."""

FINE_ROUNDS = (3, 2)
"""Of so many best directions the neighbours are tried, then again, so that a direction may move by two fine steps
(engineering choice)."""

FINE_OFFSETS = 3
"""So many best directions are tried at more offsets where tilts are searched (engineering choice: offsets of the best
directions of a coarse scan alone are tried at `search.directions`)."""

MOST_NAMED = 4
"""Causes that are named where no needle reaches the target."""


@dataclass(frozen=True)
class TemplatePose:
    """Pose of a template: direction of its needles, degrees, and offset of its holes across it, mm."""

    azimuth_deg: float
    tilt_deg: float
    offset_mm: tuple[float, float] = (0.0, 0.0)

    def price(self, protocol: Protocol) -> float:
        """Cost of its tilt in the objective, the same for every loading."""
        return protocol.objective.tilt * abs(self.tilt_deg)

    @property
    def name(self) -> str:
        """'azimuth 100, tilt 5'."""
        return f"azimuth {self.azimuth_deg:g}" + (f", tilt {self.tilt_deg:g}" if self.tilt_deg else "")


@dataclass(frozen=True, eq=False)
class Scored:
    """A pose, its candidate needles and its score; `value` is infinite where no needle has a clear path."""

    pose: TemplatePose
    candidates: NeedleCandidates | None
    value: float
    reason: str = ""
    barred: str = ""
    """Why no needle may have this direction at all: "from below", "beyond the sector"."""

    @property
    def out_of_reach(self) -> int:
        """Number of edge points that no candidate needle covers."""
        return sum(1 for cause in self.candidates.edge_cause if cause) if self.candidates is not None else 0

    @property
    def blocked(self) -> dict[str, int]:
        """Number of blocked holes by cause, the most frequent first."""
        causes = [hole.cause for hole in self.candidates.blocked] if self.candidates is not None else []
        names = sorted(set(causes), key=lambda cause: (-causes.count(cause), cause))
        return {name: causes.count(name) for name in names}


@dataclass(frozen=True, eq=False)
class Surroundings:
    """One target that gets a template of its own, and the samples by which its poses are scored."""

    prepared: Prepared
    target: Target
    obstacles: tuple[Structure, ...]
    samples: tuple[Samples, ...]

    @staticmethod
    def of(prepared: Prepared, target: Target) -> "Surroundings":
        """The target with the targets nested in it: their samples and those of all organs and goals count."""
        served = {target.name, *(other.name for other in prepared.targets if other.nested_in == target.name)}
        samples = tuple(
            part for part in prepared.samples if part.name in served or part.kind in ("organ", "goal")
        )
        return Surroundings(prepared, target, prepared.obstacles(target.structure), samples)


def poses(protocol: Protocol) -> list[TemplatePose]:
    """Poses without offset: the protocol's fixed azimuth, or every step of it, at every tilt.

    Where tilts are searched from coarse to fine, those of the coarse steps.
    """
    rule = protocol.direction
    step = rule.azimuth_step_deg if rule.tilt_limits_deg is None else COARSE_DEG
    count = max(1, int(np.floor(360.0 / step + 1e-9)))
    azimuths = [round(k * step, 6) for k in range(count)]
    if rule.azimuth_deg is not None:
        azimuths = [rule.azimuth_deg % 360.0]
    tilts = rule.tilts_deg or (rule.tilt_deg,)
    if rule.tilt_limits_deg is not None:
        low, high = rule.tilt_limits_deg
        steps = range(int(np.ceil(low / COARSE_DEG)), int(np.floor(high / COARSE_DEG)) + 1)
        tilts = tuple(sorted({low, high, *(COARSE_DEG * k for k in steps)}))
    return [TemplatePose(azimuth, tilt) for tilt in tilts for azimuth in azimuths]


def _beside(pose: TemplatePose, protocol: Protocol) -> list[TemplatePose]:
    """Neighbours of a direction, a fine step of azimuth or tilt or both away."""
    rule = protocol.direction
    assert rule.tilt_limits_deg is not None
    low, high = rule.tilt_limits_deg
    turns = (0.0,) if rule.azimuth_deg is not None else (0.0, -FINE_DEG, FINE_DEG)
    return [
        TemplatePose((pose.azimuth_deg + turn) % 360.0, min(max(pose.tilt_deg + lean, low), high))
        for lean in (0.0, -FINE_DEG, FINE_DEG)
        for turn in turns
    ]


def offsets(protocol: Protocol, fractions: Sequence[float]) -> list[tuple[float, float]]:
    """Offsets of the holes, mm: along the layers, and across them if the protocol lets the layers shift."""
    pitch = protocol.template.pitch_mm
    across = fractions if protocol.template.layer_offset == "free" else (0.0,)
    return [(pitch * a, pitch * b) for b in across for a in fractions]


def candidates_at(around: Surroundings, pose: TemplatePose, only_served: bool = False) -> NeedleCandidates:
    """Lay out a template in a pose and find its candidate needles."""
    prepared, protocol = around.prepared, around.prepared.protocol
    layout = lay_out(
        around.target.structure,
        prepared.external,
        needle_direction(pose.azimuth_deg, pose.tilt_deg),
        pitch_mm=protocol.template.pitch_mm,
        standoff_mm=protocol.template.standoff_mm,
        offset_mm=pose.offset_mm,
        overshoot_mm=protocol.template.lateral_overshoot_mm,
    )
    return needle_candidates(
        around.target.structure,
        prepared.external,
        around.obstacles,
        layout,
        protocol,
        prepared.capsule_length_mm,
        access=prepared.access,
        only_served=only_served,
    )


def reach(
    around: Surroundings, pose: TemplatePose, control: SearchControl, only_served: bool = False
) -> Scored:
    """Find the candidate needles of a pose; it is not scored yet."""
    if control.stopped():
        return Scored(pose, None, np.inf, "not tried: stopped")
    access = around.prepared.access
    cause, reason = access.bars(needle_direction(pose.azimuth_deg, pose.tilt_deg)) if access else ("", "")
    if cause:  # before any template is laid out
        return Scored(pose, None, np.inf, f"{cause}: {reason}", cause)
    try:
        found = candidates_at(around, pose, only_served)
    except BrachyError as error:
        return Scored(pose, None, np.inf, str(error))
    return Scored(pose, found, np.inf, "" if len(found.positions_mm) else "no clear needle path")


def score(around: Surroundings, reached: Scored, control: SearchControl) -> Scored:
    """Score a pose by a short search on the coarsest samples."""
    pose, made = reached.pose, reached.candidates
    if made is None or reached.reason:
        return reached
    prepared, protocol = around.prepared, around.prepared.protocol
    candidates = Candidates.of([made], prepared.anchor_mm, protocol, len(protocol.source.stock_mCi))
    problem = SearchProblem.of(candidates, around.samples, SCAN, prepared.table, protocol)
    rule = protocol.search
    rng = control.rng("direction", pose.azimuth_deg, pose.tilt_deg, pose.offset_mm)
    found = anneal(problem, greedy(problem), rule.scan_moves, rule.hot, rule.cold, rng, control, quiet=True)
    return replace(reached, value=found.value + pose.price(protocol))


def scan(around: Surroundings, control: SearchControl) -> list[Scored]:
    """Score every direction, then the best ones at more offsets. Best first; unreachable ones last.

    Where some pose serves every edge point, a pose that does not cannot win and is not searched.

    Raises
    ------
    BrachyError
        If no direction has a clear needle path; the message names what is in the way.
    """
    protocol = around.prepared.protocol
    refined = protocol.direction.tilt_limits_deg is not None
    first = offsets(protocol, FIRST_OFFSETS[:1] if refined else FIRST_OFFSETS)
    tried = [replace(pose, offset_mm=o) for pose in poses(protocol) for o in first]
    # without tilt first: where one of these serves every edge point, the others need not be looked at to the end
    flat = [pose for pose in tried if pose.tilt_deg == 0.0] if refined else tried
    found = _score_all(around, flat or tried, control)
    if flat and len(flat) < len(tried):
        found = _with_more(around, found, tried, control)
    if not np.isfinite(found[0].value):
        if control.interrupted or control.timed_out:
            raise BrachyError("stopped before any needle path was found: give the search more time")
        raise BrachyError(_nothing_reached(around, found))
    for count in FINE_ROUNDS if refined else ():
        best = _best_directions(found, count)
        found = _with_more(
            around, found, [near for pose in best for near in _beside(pose, protocol)], control
        )
    finer = offsets(protocol, sorted((*FIRST_OFFSETS, *FINER_OFFSETS)))
    count = min(FINE_OFFSETS, protocol.search.directions) if refined else protocol.search.directions
    more = [replace(pose, offset_mm=o) for pose in _best_directions(found, count) for o in finer]
    return _with_more(around, found, more, control)


def _best_directions(found: Sequence[Scored], count: int) -> list[TemplatePose]:
    """The best directions of what was tried, best first, without offset."""
    bare = [replace(each.pose, offset_mm=(0.0, 0.0)) for each in found if np.isfinite(each.value)]
    return list(dict.fromkeys(bare))[:count]


def _with_more(
    around: Surroundings, found: list[Scored], more: Sequence[TemplatePose], control: SearchControl
) -> list[Scored]:
    """What was tried and what of `more` was not, the best first."""
    known = {each.pose for each in found}
    new = [pose for pose in dict.fromkeys(more) if pose not in known]
    served = any(np.isfinite(each.value) and each.out_of_reach == 0 for each in found)
    return sorted([*found, *_score_all(around, new, control, served)], key=_rank)


def _score_all(
    around: Surroundings, tried: Sequence[TemplatePose], control: SearchControl, only_served: bool = False
) -> list[Scored]:
    stage = f"directions to {around.target.name}"
    reached = control.run(stage, [partial(reach, around, pose, control, only_served) for pose in tried])
    served = only_served or any(not each.reason and each.out_of_reach == 0 for each in reached)
    least = "at least " if only_served else ""
    judged = [
        replace(
            each, reason=f"{least}{each.out_of_reach} edge points out of reach, another direction serves all"
        )
        if served and not each.reason and each.out_of_reach
        else each
        for each in reached
    ]
    jobs = [partial(score, around, each, control) for each in judged]
    return sorted(control.run(stage, jobs), key=_rank)


def _rank(scored: Scored) -> tuple[bool, float, float, float, tuple[float, float]]:
    """Sort key: poses that can cover every edge point first, then by value; angles and offset break ties."""
    unserved = scored.candidates is None or not np.isfinite(scored.value) or any(scored.candidates.edge_cause)
    return unserved, scored.value, scored.pose.azimuth_deg, scored.pose.tilt_deg, scored.pose.offset_mm


def _nothing_reached(around: Surroundings, found: Sequence[Scored]) -> str:
    """Error text: no clear path, and the structures that block most holes."""
    total: dict[str, int] = {}
    for scored in found:
        for cause, count in scored.blocked.items():
            total[cause] = total.get(cause, 0) + count
    name = around.target.name
    directions = len({(s.pose.azimuth_deg, s.pose.tilt_deg) for s in found})
    where = "the given direction" if directions == 1 else f"any of {directions} directions"
    barred = {(s.pose.azimuth_deg, s.pose.tilt_deg): s.barred for s in found if s.barred}
    if not total:
        remedy = (
            f"; --access says from where needles come, it is now: {_access_in_words(around)}"
            if barred
            else ""
        )
        return f"no clear needle path to '{name}' in {where}: {found[0].reason}{remedy}"
    worst = sorted(total, key=lambda cause: (-total[cause], cause))[:MOST_NAMED]
    rois = {obstacle.name for obstacle in around.obstacles}
    shown = [
        f"'{cause}' ({total[cause]} holes)" if cause in rois else f"{cause} ({total[cause]} holes)"
        for cause in worst
    ]
    counts = {cause: list(barred.values()).count(cause) for cause in dict.fromkeys(barred.values())}
    shown += [f"{cause} ({count} directions)" for cause, count in counts.items()]
    return (
        f"no clear needle path to '{name}' in {where}: in the way are {', '.join(shown)}; give another --direction or "
        "--needle-length, check these structures, or free one that a needle may pass with --free ROI"
    )


def _access_in_words(around: Surroundings) -> str:
    """From where needles may come."""
    access, rule = around.prepared.access, around.prepared.protocol.access
    if rule.azimuth_deg:
        return f"azimuth {ranges_in_words(rule.azimuth_deg)}"
    lies = access.record().sentence if access is not None else "as the CT says"
    return f"all but what is from below of a patient who lies {lies}"


def table_of(
    found: Sequence[Scored], chosen: TemplatePose, full: dict[TemplatePose, float]
) -> tuple[DirectionRow, ...]:
    """For plan.json: each direction at its best offset, its candidate needles, its score and why it was not chosen."""
    rows: dict[tuple[float, float], DirectionRow] = {}
    for each in found:
        key = (each.pose.azimuth_deg, each.pose.tilt_deg)
        if key in rows:
            continue
        same = [full[pose] for pose in full if (pose.azimuth_deg, pose.tilt_deg) == key]
        here = key == (chosen.azimuth_deg, chosen.tilt_deg)
        if here:
            outcome = "chosen"
        elif not np.isfinite(each.value):
            outcome = each.reason
        elif same:
            outcome = f"optimised, but {min(same) / full[chosen] - 1:+.1%} against the chosen"
        else:
            outcome = f"quick score {each.value / found[0].value - 1:+.1%} against the best"
        row = DirectionRow(
            azimuth_deg=key[0],
            tilt_deg=key[1],
            offset_mm=(chosen if here else each.pose).offset_mm,
            score=each.value,
            optimised=min(same) if same else None,
            outcome=outcome,
        )
        if each.candidates is not None:
            row = row.having(
                needles_offered=len(each.candidates.needles),
                blocked=each.blocked,
                edge_points_out_of_reach=each.out_of_reach,
            )
        rows[key] = row
    return tuple(sorted(rows.values(), key=lambda row: (row.azimuth_deg, row.tilt_deg)))
