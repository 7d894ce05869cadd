"""Robustness of a plan: intervals and probabilities from seeded scenarios in which needles and seeds deviate."""

import os
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from brachy.core.threads import one_thread
from brachy.dosimetry.implant import Implant
from brachy.dosimetry.metrics import DVH, metric, parse_metric
from brachy.dosimetry.sampling import lattice_for, sample
from brachy.dosimetry.shown_metrics import Table, metrics_in
from brachy.errors import BrachyError, UsageError
from brachy.evaluation.robust_record import (
    Band,
    GoalProbability,
    MetricSpread,
    NeedleInfluence,
    RobustRecord,
)
from brachy.evaluation.scenarios import Layout, Scenario, Uncertainties, draw, load_uncertainties, nominal
from brachy.geometry.structures import Structure
from brachy.patient.plan import Plan

Float = NDArray[np.float64]

SAMPLES = 1000
"""Default number of scenarios (25 of 1000 lie beyond each 2.5 % limit; engineering choice)."""

TARGET_POINTS, ORGAN_POINTS = 4000, 1500
"""Dose points of a target and of an organ (engineering choice: D90 of 4000 points is good to 0.5 % of the volume)."""

LEVELS = np.linspace(0.0, 100.0, 101)
"""Volumes, %, at which the bands of the dose-volume curves are given."""

NEEDLE_SHARE = 20
"""The influence of one needle is computed from 1/20 of the scenarios, at least 32 (engineering choice)."""

NEAR_MM = 60.0
"""Organs farther from every seed are left out (engineering choice): 60 mm away 83 seeds of 0.7 mCi give under 10 Gy."""


AHEAD = 32
"""Number of doses that may be queued for their metrics (engineering choice: 32 x 25,000 points are 6 MB)."""


@dataclass(frozen=True, eq=False)
class _Region:
    """Points of a structure; `outside` (n,) mm by which each lies outside its surface (negative inside)."""

    name: str
    is_target: bool
    prescription_gy: float
    points: Float
    cell_cc: Float
    outside: Float
    metrics: tuple[str, ...]


@one_thread()
def robust(
    plan: Plan,
    structures: Sequence[Structure],
    *,
    samples: int = SAMPLES,
    seed: int = 0,
    uncertainties: Uncertainties | None = None,
    threads: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> RobustRecord:
    """Monte Carlo of a plan.

    Parameters
    ----------
    plan : Plan
        The plan; its formalism is used.
    structures : sequence of Structure
        Its structures, by name: the planned targets and the organs. Those of the written RTSTRUCT serve.
    samples : int
        Number of scenarios.
    seed : int
        The same seed gives the same numbers for any number of threads.
    uncertainties : Uncertainties, optional
        By default brachy/data/uncertainty.toml.
    threads : int, optional
        By default one for each core.
    progress : callable, optional
        Called with scenarios done and in all.

    Returns
    -------
    RobustRecord
        The content of robust.json: nominal metrics, their intervals, bands of the curves, the probability of each
        goal, the influence of each needle.

    Raises
    ------
    UsageError
        If the number of scenarios is not from 2 to 1,000,000.
    BrachyError
        If a target's structure is not among those given, or the plan has no seeds.

    Examples
    --------
    >>> from brachy.optimise import plan as make
    >>> from brachy.io.phantom.file import load_phantom
    >>> from brachy.patient.protocol import change, load_protocol
    >>> case = load_phantom("sphere-35mm")
    >>> quick = change(load_protocol("liver-metastasis"), search={"starts": 1, "moves": 2000, "fine_moves": 0})
    >>> made = make(case, quick, direction=(0, 0))
    >>> found = robust(made, case.structures, samples=20)
    >>> found.intervals["GTV"]["D90_gy"].p2_5 < found.nominal["GTV"]["D90_gy"]
    True
    """
    if not 2 <= samples <= 1_000_000:
        raise UsageError(f"{samples} scenarios: give from 2 to 1000000")
    errors = uncertainties if uncertainties is not None else load_uncertainties()
    layout = Layout.of(plan)
    if not len(layout.seeds):
        raise BrachyError("a plan without seeds has nothing to vary: plan again")
    regions = _regions(plan, structures, errors)
    engine = _Engine(plan, layout, regions)
    base = engine.judged(engine.dose(nominal(layout)), 0.0)
    results: list[_Values] = []
    waiting: deque[Future[_Values]] = deque()
    # a scenario is too small for the kernel's own threads (they take 2.6 times the processor's time, measured), and the
    # kernel is never run by two threads at once: the metrics are counted beside it
    with ThreadPoolExecutor(max(1, threads or os.cpu_count() or 1)) as pool:
        for number in range(samples):
            scenario = draw(layout, errors, seed, number)
            waiting.append(pool.submit(engine.judged, engine.dose(scenario), scenario.target_mm))
            if len(waiting) >= AHEAD:
                results.append(waiting.popleft().result())
            if progress is not None:
                progress(number + 1, samples)
        results += [job.result() for job in waiting]
    few = max(32, samples // NEEDLE_SHARE)
    influences = [engine.influence(needle, errors, seed, few) for needle in range(len(plan.needles))]
    return _record(plan, regions, base, results, influences, samples, seed, errors)


def robust_folder(
    folder: str | Path,
    *,
    samples: int = SAMPLES,
    seed: int = 0,
    uncertainty: str | Path | None = None,
    threads: int | None = None,
    progress: Callable[[str], None] | None = None,
) -> RobustRecord:
    """Monte Carlo of a plan folder, on the structures of its RTSTRUCT.dcm.

    Takes the options of `robust`; `uncertainty` is a file.

    Raises
    ------
    BrachyError, UsageError
        As `robust`, and if the folder is no plan or has no RTSTRUCT.dcm.

    Examples
    --------
    >>> robust_folder("no-such-plan")
    Traceback (most recent call last):
        ...
    brachy.errors.BrachyError: no plan at no-such-plan: give a plan folder or its plan.json
    """
    from brachy.io.dicom.read import read_structures

    place = Path(folder)
    plan = Plan.load(place)
    structures = (place if place.is_dir() else place.parent) / "RTSTRUCT.dcm"
    if not structures.is_file():
        raise BrachyError(
            f"{structures.name} is missing beside {place.name}: give the folder that `brachy plan` wrote"
        )
    errors = load_uncertainties(uncertainty)

    def show(done: int, of: int) -> None:
        if progress is not None and (done % 20 == 0 or done == of):
            progress(f"scenario {done} of {of}")

    return robust(
        plan,
        read_structures(structures),
        samples=samples,
        seed=seed,
        uncertainties=errors,
        threads=threads,
        progress=show,
    )


@dataclass(frozen=True, eq=False)
class _Values:
    """Metrics of every region, by region and name, and its curve: dose at `LEVELS`."""

    metrics: list[dict[str, float]]
    curves: list[Float]


class _Engine:
    """Dose and metrics of scenarios of one plan."""

    def __init__(self, plan: Plan, layout: Layout, regions: Sequence[_Region]) -> None:
        self._layout = layout
        self._regions = regions
        self._model = plan.dose_model()
        self._strengths_U = [entry.air_kerma_strength_U for entry in plan.sources]
        self._points = np.concatenate([region.points for region in regions])
        self._first = np.cumsum([0] + [len(region.points) for region in regions])

    def dose(self, scenario: Scenario) -> Float:
        """Dose at the points of all regions, Gy."""
        return self._dose(scenario, self._points, np.ones(len(scenario.seeds), dtype=bool))

    def judged(self, gy: Float, target_mm: float) -> _Values:
        """Metrics and curves of every region."""
        metrics, curves = [], []
        for region, here in zip(self._regions, np.split(gy, self._first[1:-1]), strict=True):
            found = _histogram(region, here, target_mm)
            metrics.append({name: metric(found, name, region.prescription_gy) for name in region.metrics})
            curves.append(found.doses(LEVELS))
        return _Values(metrics, curves)

    def _dose(self, scenario: Scenario, points: Float, which: NDArray[np.bool_]) -> Float:
        """Dose at points (n, 3), Gy, of some of the seeds."""
        implants = []
        for index, planned in enumerate(self._model.implants):
            mine = which & (self._layout.source_of == index)
            if mine.any():
                implants.append(
                    Implant(
                        planned.source,
                        scenario.seeds[mine],
                        scenario.axes[mine],
                        strength_U=self._strengths_U[index] * scenario.factor[mine],
                        half_life_days=planned.half_life_days,
                    )
                )
        if not implants:
            return np.zeros(len(points))
        # from tables at any number of seeds: thousands of scenarios, compared with each other
        return self._model.of(implants, exact_pairs=0).at(points)

    def influence(self, needle: int, errors: Uncertainties, seed: int, count: int) -> float:
        """Standard deviation of the first target's D90, Gy, when this needle alone errs."""
        target = self._regions[0]
        mine = self._layout.needle_of == needle
        rest = self._dose(nominal(self._layout), target.points, ~mine)
        found = []
        for number in range(count):
            scenario = draw(self._layout, errors, seed, number, only=[needle])
            gy = rest + self._dose(scenario, target.points, mine)
            found.append(_histogram(target, gy, 0.0).D(90))
        return float(np.std(found, ddof=1))


def _histogram(region: _Region, gy: Float, target_mm: float) -> DVH:
    within = region.outside <= (target_mm if region.is_target else 0.0)
    here, cells = gy[within], region.cell_cc[within]
    order = np.argsort(here, kind="stable")
    return DVH(region.name, here[order], cells[order], float(cells.sum()))


def _regions(plan: Plan, structures: Sequence[Structure], errors: Uncertainties) -> list[_Region]:
    by_name = {structure.name: structure for structure in structures}
    seeds = np.array([s.position_mm for n in plan.needles for s in n.seeds], dtype=np.float64)
    goals = plan.evaluation.goals
    highest = max(target.prescription_gy for target in plan.targets)
    found = []
    for target in plan.targets:
        if target.planned_roi not in by_name:
            raise BrachyError(
                f"target '{target.planned_roi}' is not among the structures: give those of the plan"
            )
        structure = by_name[target.planned_roi]
        wanted = _metrics(metrics_in(Table.ROBUST_TARGETS), goals, {target.roi, target.planned_roi})
        found.append(
            _region(structure, seeds, target.prescription_gy, wanted, True, 3.0 * errors.contour.target_mm)
        )
    targets = {target.roi for target in plan.targets} | {target.planned_roi for target in plan.targets}
    for name in plan.evaluation.structures:
        organ = by_name.get(name)
        if name in targets or organ is None or organ.is_empty:
            continue
        if organ.distance_mm(seeds, NEAR_MM).min() < NEAR_MM:
            wanted = _metrics(metrics_in(Table.ROBUST_ORGANS), goals, {name})
            found.append(_region(organ, seeds, highest, wanted, False, 0.0))
    return found


def _metrics(usual: Sequence[str], goals: Sequence[Any], names: set[str]) -> tuple[str, ...]:
    asked = [
        parse_metric(goal.metric).name
        for goal in goals
        if goal.roi in names and goal.metric not in ("CI", "EI", "HI")
    ]
    return tuple(dict.fromkeys([*usual, *asked]))


def _region(
    structure: Structure,
    seeds: Float,
    prescription_gy: float,
    wanted: tuple[str, ...],
    is_target: bool,
    reach_mm: float,
) -> _Region:
    count = TARGET_POINTS if is_target else ORGAN_POINTS
    wider = structure.expanded(reach_mm, []) if reach_mm > 0 else structure
    cells = sample(wider, seeds, lattice_for(wider, seeds, 4 * count))
    points, volume = _thinned(cells.points_mm, cells.cell_cc, seeds, count)
    outside = structure.signed_distance_mm(points) if reach_mm > 0 else np.full(len(volume), -1.0)
    return _Region(structure.name, is_target, prescription_gy, points, volume, outside, wanted)


def _thinned(points: Float, cell_cc: Float, seeds: Float, count: int) -> tuple[Float, Float]:
    """About `count` of the points: the half nearest the seeds as they are, the others by equal shares of their volume.

    The order is that of sum 1 / r^2 over the seeds, near that of the dose, so every level of dose keeps its share; the
    volumes still add up to the whole.
    """
    if len(points) <= count:
        return points, cell_cc
    nearness = np.zeros(len(points))
    for position in seeds:
        nearness += 1.0 / np.maximum(((points - position) ** 2).sum(axis=1), 0.25)
    order = np.argsort(-nearness, kind="stable")
    kept, rest = order[: count // 2], order[count // 2 :]
    share = np.cumsum(cell_cc[rest])
    strata = (np.arange(count - len(kept)) + 0.5) / (count - len(kept)) * share[-1]
    chosen = np.searchsorted(share, strata)
    places, times = np.unique(chosen, return_counts=True)
    volume = times * share[-1] / len(chosen)
    return points[np.concatenate([kept, rest[places]])], np.concatenate([cell_cc[kept], volume])


def _record(
    plan: Plan,
    regions: Sequence[_Region],
    base: _Values,
    results: Sequence[_Values],
    influences: Sequence[float],
    samples: int,
    seed: int,
    errors: Uncertainties,
) -> RobustRecord:
    intervals: dict[str, dict[str, MetricSpread]] = {}
    bands: dict[str, Band] = {}
    series: dict[tuple[str, str], Float] = {}
    for r, region in enumerate(regions):
        rows: dict[str, MetricSpread] = {}
        for name in region.metrics:
            values = np.array([result.metrics[r][name] for result in results])
            series[region.name, name] = values
            rows[name] = _interval(base.metrics[r][name], values)
        intervals[region.name] = rows
        curves = np.array([result.curves[r] for result in results])
        low, middle, high = np.percentile(curves, [2.5, 50.0, 97.5], axis=0)
        bands[region.name] = Band(
            volume_pct=tuple(LEVELS.tolist()),
            nominal_gy=tuple(base.curves[r].tolist()),
            p2_5_gy=tuple(low.tolist()),
            p50_gy=tuple(middle.tolist()),
            p97_5_gy=tuple(high.tolist()),
        )
    planned = {target.roi: target.planned_roi for target in plan.targets}
    goals = []
    for goal in plan.evaluation.goals:
        values = series.get((planned.get(goal.roi, goal.roi), parse_metric(goal.metric).name), np.zeros(0))
        met = values >= goal.limit if goal.op == ">=" else values <= goal.limit
        goals.append(
            GoalProbability(
                roi=goal.roi, metric=goal.metric, op=goal.op, limit=goal.limit, required=goal.required,
                probability=float(met.mean()) if len(values) else None,
            )
        )  # fmt: skip
    several = len(plan.templates) > 1
    needles = [
        NeedleInfluence(
            hole=f"{needle.template + 1}:{needle.hole}" if several else needle.hole, influence=value
        )
        for needle, value in zip(plan.needles, influences, strict=True)
    ]
    return RobustRecord(
        plan=plan.checksum or None,
        samples=samples,
        seed=seed,
        formalism=plan.evaluation.formalism,
        uncertainties=errors,
        nominal={region.name: dict(base.metrics[r]) for r, region in enumerate(regions)},
        intervals=intervals,
        bands=bands,
        goals=tuple(goals),
        needles=tuple(sorted(needles, key=lambda entry: -entry.influence)),
    )


def _interval(nominal_value: float, values: Float) -> MetricSpread:
    if not np.isfinite(values).all():
        return MetricSpread()
    low, middle, high = np.percentile(values, [2.5, 50.0, 97.5]).tolist()
    return MetricSpread(
        nominal=float(nominal_value),
        mean=float(values.mean()),
        sd=float(values.std(ddof=1)),
        p2_5=low,
        p50=middle,
        p97_5=high,
    )
