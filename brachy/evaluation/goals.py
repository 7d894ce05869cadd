"""Evaluation of a plan: metrics of every structure, CI, EI and HI of every target, goals."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from brachy.core.threads import side_by_side
from brachy.dosimetry.dvh import for_samples, histogram_of, on_lattice_of
from brachy.dosimetry.implant import seeds_mm
from brachy.dosimetry.metrics import DVH, INDICES, metric, parse_metric
from brachy.dosimetry.model import DoseModel
from brachy.dosimetry.sampling import Lattice, sample
from brachy.dosimetry.shown_metrics import UNCERTAIN, evaluated_metrics
from brachy.errors import UsageError
from brachy.geometry.grid import Dose, Grid
from brachy.geometry.structures import Structure
from brachy.patient.evaluation_record import Evaluation, GoalResult, RegionGrid, Sampling
from brachy.patient.protocol import Goal
from brachy.patient.records import vector
from brachy.patient.target import Target

Float = NDArray[np.float64]

REGION_MM = 1.0
"""Lattice on which the region at or above the prescription is counted (engineering choice)."""

REGION_MARGIN_MM = 10.0
"""It starts this far beyond targets and seeds and grows by as much until its border is below the prescription."""

MOST_VOXELS = 3_000_000
"""With more voxels than this the lattice is coarser (engineering choice)."""


def evaluate(
    model: DoseModel,
    structures: Sequence[Structure],
    targets: Sequence[Target],
    external: Structure | None = None,
    goals: Sequence[Goal] = (),
) -> Evaluation:
    """Evaluation of an implant, in the form of plan.json.

    With several targets a point belongs to the one that holds it, to the smallest of those that do, else to
    the nearest. D90, V100 and the doses are of a target as drawn; V150, V200, CI, EI and HI are of what
    belongs to it, without the boost inside. V100 and the like of an organ use the highest prescription.

    Parameters
    ----------
    model : DoseModel
        Dose of the implanted seeds.
    structures : sequence of Structure
        What to evaluate; targets need not be repeated.
    targets : sequence of Target
        Targets with their prescriptions.
    external : Structure, optional
        Outline of the patient, to which the region at or above the prescription is confined.
    goals : sequence of Goal
        Their metrics are added to the usual ones.

    Returns
    -------
    Evaluation
        Without goals: metrics by structure and name, None where a structure has none; how they were sampled;
        uncertainty of D90 and V100 of the targets with its parts; D90 of the targets under the model's counterpart,
        where it has one.

    Raises
    ------
    UsageError
        If there is no target or one without volume, or a goal names an unknown metric.

    Notes
    -----
    CI = (TV_Rx / TV) (TV_Rx / V_Rx), EI = 100 (V_Rx outside the target) / TV, HI = (V100 - V150) / V100.

    Examples
    --------
    >>> from brachy.dosimetry.implant import Implant
    >>> from brachy.dosimetry.model import dose_model
    >>> from brachy.dosimetry.source import load_source
    >>> angle = np.linspace(0, 2 * np.pi, 60, endpoint=False)
    >>> ring = 8 * np.stack([np.cos(angle), np.sin(angle), 0 * angle], axis=1)
    >>> ball = Structure("ball", [ring + [0, 0, z] for z in (-4, -2, 0, 2, 4)])
    >>> seed = Implant(load_source("amersham_6711"), [[0, 0, 0]], strength_U=6.0)
    >>> found = evaluate(dose_model(seed), [], [Target(ball, 120.0)]).structures["ball"]
    >>> found["V100_pct"] > 95, 0 < found["CI"] < 1
    (True, True)
    """
    if not targets:
        raise UsageError("nothing to evaluate the dose against: name a target and its prescription")
    for target in targets:
        if target.structure.is_empty:
            raise UsageError(f"target '{target.name}' has no volume: draw it or name another")
    named = {target.name: target for target in targets}
    others = [s for s in structures if s.name not in named]
    names = _metrics_of(goals)
    hot = [name for name in evaluated_metrics() if _is_hot(name)]
    highest = max(targets, key=lambda target: target.prescription_gy)
    other = model.counterpart()

    def of_target(target: Target) -> _Evaluated:
        rx = target.prescription_gy
        found = histogram_of(model, target.structure, prescription_gy=rx)
        own = _own_part(found, target, targets, model)
        under = None if other is None else on_lattice_of(found, target.structure, other)
        return _Evaluated(
            _values(found, names, rx) | _values(own, hot, rx),
            _sampling(found),
            found.curve(),
            own,
            _uncertainty(found, rx),
            None if under is None else {"D90_gy": _known(under.D(90))},
        )

    def of_organ(structure: Structure) -> _Evaluated:
        rx = highest.prescription_gy
        found = histogram_of(model, structure, prescription_gy=rx, organ=True)
        sampling = _sampling(found).having(prescription_gy=rx, prescription_of=highest.structure.name)
        return _Evaluated(_values(found, names, rx), sampling, found.curve())

    jobs: list[tuple[str, float, Callable[[], _Evaluated]]] = [
        *((target.name, math.inf, partial(of_target, target)) for target in targets),
        *((structure.name, structure.volume_cc, partial(of_organ, structure)) for structure in others),
    ]
    order = sorted(range(len(jobs)), key=lambda k: -jobs[k][1])  # the longest first
    by_job = dict(zip(order, side_by_side([jobs[k][2] for k in order]), strict=True))
    found = {jobs[k][0]: by_job[k] for k in range(len(jobs))}
    region = _Region.around(model, targets, external)
    for target in targets:
        each = found[target.name]
        if each.own is not None:
            each.metrics.update(_indices(each.own, target.prescription_gy, region.outside_cc[target.name]))
    return Evaluation(
        formalism=model.formalism,
        grid=region.grid,
        sampling={name: each.sampling for name, each in found.items()},
        structures={name: each.metrics for name, each in found.items()},
        uncertainty={target.name: dict(found[target.name].uncertainty) for target in targets},
        other_formalism={
            target.name: under
            for target in targets
            if (under := found[target.name].other_formalism) is not None
        },
    ).with_curves({name: each.curve for name, each in found.items()})


class _Evaluated(NamedTuple):
    """What `evaluate` finds of one structure; the last three of a target alone."""

    metrics: dict[str, float | None]
    sampling: Sampling
    curve: tuple[Float, Float]
    own: DVH | None = None
    uncertainty: Mapping[str, float] = MappingProxyType({})
    other_formalism: dict[str, float | None] | None = None


def _known(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def _values(found: DVH, names: Iterable[str], prescription_gy: float) -> dict[str, float | None]:
    return {name: _known(metric(found, name, prescription_gy)) for name in names}


def _metrics_of(goals: Sequence[Goal]) -> tuple[str, ...]:
    """Metrics that are evaluated for every structure: those of the tables, then those that goals add."""
    names = [parse_metric(goal.metric).name for goal in goals]
    return tuple(dict.fromkeys([*evaluated_metrics(), *(name for name in names if name not in INDICES)]))


def _is_hot(name: str) -> bool:
    """Whether a metric is the part of a volume above the prescription, in percent, such as V150_pct."""
    parsed = parse_metric(name)
    return parsed.kind == "V" and parsed.value > 100.0 and parsed.unit == "pct"


def _sampling(found: DVH) -> Sampling:
    made = Sampling(
        samples=found.samples, cell_mm=found.step_mm, widest_cell_mm=found.widest_mm, settled=found.settled
    )
    return made.having(notes=found.notes) if found.notes else made


def _uncertainty(found: DVH, prescription_gy: float) -> dict[str, float]:
    """Total of D90 and V100, then its two parts."""
    spread: dict[str, float] = {}
    for name in UNCERTAIN:
        parts = found.uncertainty(name, prescription_gy)
        spread[name] = parts.total
        spread[f"{name}_sampling"] = parts.sampling
        if np.isfinite(parts.slices):
            spread[f"{name}_slices"] = parts.slices
    return spread


def _indices(own: DVH, prescription_gy: float, outside_cc: float) -> dict[str, float | None]:
    volume = float(own.cell_cc.sum())
    covered, hot = own.V(prescription_gy), own.V(1.5 * prescription_gy)
    if volume <= 0:
        return dict.fromkeys(INDICES)
    region = covered + outside_cc
    return {
        "CI": covered / volume * covered / region if region > 0 else 0.0,
        "EI": 100.0 * outside_cc / volume,
        "HI": (covered - hot) / covered if covered > 0 else None,
    }


def _own_part(found: DVH, target: Target, targets: Sequence[Target], model: DoseModel) -> DVH:
    """Histogram of what belongs to a target: without what smaller targets hold."""
    inner = [t.structure for t in targets if t is not target and _smaller(t.structure, target.structure)]
    if not inner:
        return found
    samples = sample(target.structure, seeds_mm(model.implants), Lattice(found.step_mm, found.widest_mm))
    own = ~np.any([structure.contains(samples.points_mm) for structure in inner], axis=0)
    gy = for_samples(model).at(samples.points_mm[own])
    order = np.argsort(gy)
    cells = samples.cell_cc[own][order]
    return replace(found, dose_gy=gy[order], cell_cc=cells, volume_cc=float(cells.sum()), coarser=None)


def _smaller(one: Structure, other: Structure) -> bool:
    return (one.volume_cc, one.name) < (other.volume_cc, other.name)


class _Region(NamedTuple):
    """Where the dose outside the targets reaches their prescriptions: cc for each target, and the lattice."""

    outside_cc: dict[str, float]
    grid: RegionGrid

    @staticmethod
    def around(model: DoseModel, targets: Sequence[Target], external: Structure | None) -> "_Region":
        frame = targets[0].structure
        dose, spacing = _grown_dose(model, targets, frame, external)
        grid, gy = dose.grid, np.asarray(dose.gy)
        outside = np.ones(grid.shape, dtype=np.float32) if external is None else external.fraction_mask(grid)
        free = np.ones(grid.shape, dtype=np.float32)
        for target in targets:
            free *= 1.0 - target.structure.fraction_mask(grid)
        outside = np.maximum(outside + free - 1.0, 0.0)
        slope = np.sqrt(sum(part**2 for part in np.gradient(gy)))
        fine = for_samples(model)
        reached = [
            _refined_share(grid, gy, slope, target.prescription_gy, fine) * outside for target in targets
        ]
        owner = np.zeros(grid.shape, dtype=np.int64)
        if len(targets) > 1:
            z, y, x = np.nonzero(np.max(reached, axis=0) > 0)
            points = grid.index_to_mm(np.stack([x, y, z], axis=1))
            ordered = sorted(range(len(targets)), key=lambda i: targets[i].structure.volume_cc)
            away = np.stack([targets[i].structure.distance_mm(points) for i in ordered])
            owner[z, y, x] = np.array(ordered)[np.argmin(np.round(away, 6), axis=0)]
        counted = {
            target.name: float(reached[i][owner == i].sum()) * grid.voxel_cc
            for i, target in enumerate(targets)
        }
        lattice = RegionGrid(spacing_mm=spacing, shape=grid.shape, origin_mm=vector(grid.origin_mm))
        return _Region(counted, lattice)


def _share(gy: Float, slope: Float, level: float) -> Float:
    """Share of each voxel at or above a level, the dose falling evenly across the voxel along its gradient."""
    share: Float = np.clip(0.5 + (gy - level) / np.maximum(slope, 1e-12), 0.0, 1.0)
    return share


def _refined_share(grid: Grid, gy: Float, slope: Float, level: float, model: DoseModel) -> Float:
    """`_share`, where the surface passes from 27 parts of the voxel, each with its own dose from the seeds.

    The dose is convex, so that a whole voxel's share is biased: V_Rx of an implant of 170 cc came out 0.26 % too large.
    """
    share = _share(gy, slope, level)
    z, y, x = np.nonzero((share > 0.0) & (share < 1.0))
    if not len(z):
        return share
    third = np.array([-1.0, 0.0, 1.0]) / 3.0
    parts = np.stack(np.meshgrid(third, third, third, indexing="ij"), axis=-1).reshape(-1, 3)
    index = (np.stack([x, y, z], axis=1)[:, None] + parts).reshape(-1, 3)
    found = model.at(grid.index_to_mm(index)).reshape(len(z), len(parts))
    share[z, y, x] = _share(found, slope[z, y, x, None] / 3.0, level).mean(axis=1)
    return share


def _grown_dose(
    model: DoseModel, targets: Sequence[Target], frame: Structure, external: Structure | None
) -> tuple[Dose, float]:
    """Dose on a lattice along the first target's frame that no border voxel of which reaches a prescription."""
    least = min(target.prescription_gy for target in targets)
    boxes = [_local_box(frame, target.structure) for target in targets]
    seeds = frame.to_local(seeds_mm(model.implants))
    low = np.min([box[0] for box in boxes] + ([seeds.min(axis=0)] if len(seeds) else []), axis=0)
    high = np.max([box[1] for box in boxes] + ([seeds.max(axis=0)] if len(seeds) else []), axis=0)
    bounds = None if external is None or external.is_empty else _local_box(frame, external)
    margin = np.full((2, 3), REGION_MARGIN_MM)
    while True:
        corner, far = low - margin[0], high + margin[1]
        if bounds is not None:  # nothing counts beyond the outline
            corner = np.minimum(np.maximum(corner, bounds[0]), high)
            far = np.maximum(np.minimum(far, bounds[1]), low)
        size = np.maximum(far - corner, REGION_MM)
        spacing = float(f"{max(REGION_MM, (float(np.prod(size)) / MOST_VOXELS) ** (1 / 3)):.3g}")
        shape = np.ceil(size / spacing).astype(int)
        start = 0.5 * (corner + far) - 0.5 * spacing * (shape - 1)
        grid = Grid(frame.to_patient(start), np.full(3, spacing), shape[::-1], frame.slab_stack.axes)
        dose = model.on(grid)
        gy = np.asarray(dose.gy)
        grows = np.zeros((2, 3), dtype=bool)
        for axis in range(3):  # u, v, w are the array's last, middle and first axis
            for side, plane in ((0, 0), (1, -1)):
                inside = bounds is None or (
                    corner[axis] > bounds[0][axis] if side == 0 else far[axis] < bounds[1][axis]
                )
                grows[side, axis] = inside and bool((np.take(gy, plane, axis=2 - axis) >= least).any())
        if not grows.any():
            return dose, spacing
        margin[grows] += REGION_MARGIN_MM


def _local_box(frame: Structure, structure: Structure) -> Float:
    """Lowest and highest corner (2, 3) of a structure in the frame of another."""
    bounds = structure.bounds_mm
    corners = np.array([[bounds[(i >> k) & 1, k] for k in range(3)] for i in range(8)])
    local = frame.to_local(corners)
    return np.stack([local.min(axis=0), local.max(axis=0)])


def judge(
    evaluation: Evaluation,
    goals: Sequence[Goal],
    targets: Sequence[Target],
    structures: Sequence[Structure] = (),
    source: str = "",
) -> tuple[GoalResult, ...]:
    """Compare an evaluation with the goals of a protocol.

    Parameters
    ----------
    evaluation : Evaluation
        From `evaluate` with the same goals.
    goals : sequence of Goal
        A goal's ROI is a name, or a role: "target" means every target.
    targets : sequence of Target
        "Rx" is each target's own prescription; for other structures the highest.
    structures : sequence of Structure
        Needed where a goal names a role other than "target".
    source : str
        Where the goals are from; goes into each result.

    Returns
    -------
    tuple of GoalResult
        One for each goal and structure. A goal for a structure that the case does not have, or for a metric
        that the structure does not have (D2cc of a smaller one), is not checked, with the reason.

    Raises
    ------
    UsageError
        If the evaluation was made without the goal's metric.

    Examples
    --------
    >>> found = Evaluation(formalism="1D", structures={"GTV": {"D90_gy": 131.0}})
    >>> target = Target(Structure("GTV", []), 120.0)
    >>> goal = Goal(roi="target", metric="D90_gy", op=">=", limit="Rx")
    >>> [(result.limit, result.value, result.met) for result in judge(found, [goal], [target])]
    [(120.0, 131.0, True)]
    """
    prescriptions = {target.name: target.prescription_gy for target in targets}
    highest = max(prescriptions.values())
    results = []
    for goal in goals:
        name = parse_metric(goal.metric).name
        rois = _rois(goal.roi, evaluation.structures, prescriptions, structures)
        for roi in rois or [goal.roi]:
            if rois and name not in evaluation.structures[roi]:
                raise UsageError(f"the evaluation of '{roi}' has no {name}: evaluate it with this goal")
            value = evaluation.structures[roi][name] if rois else None
            limit = prescriptions.get(roi, highest) if goal.limit == "Rx" else float(goal.limit)
            reason = "" if value is not None else f"{roi} has no {name}" if rois else "no such structure"
            results.append(
                GoalResult(
                    roi=roi,
                    metric=name,
                    op=goal.op,
                    limit=limit,
                    value=value,
                    uncertainty=evaluation.uncertainty.get(roi, {}).get(name),
                    met=None if value is None else value >= limit if goal.op == ">=" else value <= limit,
                    required=goal.required,
                    source=source,
                    reason=reason,
                )
            )
    return tuple(results)


def _rois(
    wanted: str,
    evaluated: Mapping[str, object],
    targets: Mapping[str, float],
    structures: Sequence[Structure],
) -> list[str]:
    """Names of the structures that a goal speaks of."""
    named = [roi for roi in evaluated if roi.casefold() == wanted.casefold()]
    if named:
        return named
    if wanted.casefold() == "target":
        return [roi for roi in evaluated if roi in targets]
    return [s.name for s in structures if s.role == wanted.casefold() and s.name in evaluated]


__all__ = ["evaluate", "judge"]
