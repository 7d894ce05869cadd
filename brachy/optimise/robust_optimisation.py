"""Robust optimisation: a loading that covers the target also when needles and seeds deviate.

A fixed set of scenarios is drawn for all candidates at once (`brachy.evaluation.scenarios.draw`, uncertainties of
brachy/data/uncertainty.toml). For every scenario the underdose of each target is added to the objective:

    F + robust * sum_s w_s <(Rx - D_s)+> / Rx,    sum_s w_s = 1

The plan is judged by the conditional value at risk of D90: its mean over the worst 15 % of the scenarios, of the
target that has the lowest D90 / Rx. From round to round the weights w_s of those scenarios and the weight `robust`
of all are raised, until the mean is at least the prescription.

References
----------
R. T. Rockafellar, S. Uryasev, "Optimization of conditional value-at-risk", J. Risk 2, 21 (2000),
doi:10.21314/JOR.2000.038: the measure. The growing weights are an engineering choice.
"""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from brachy.core.loading import exact_dose
from brachy.evaluation.scenarios import Layout, Uncertainties, draw
from brachy.optimise.candidates import Candidates
from brachy.optimise.control import SearchControl
from brachy.optimise.objective import hinge_terms
from brachy.optimise.points import SCAN, Samples
from brachy.optimise.preparation import Prepared
from brachy.optimise.search import SearchProblem, Solution, anneal, moves_for
from brachy.patient.optimiser_record import RobustMeasure, RobustSummary
from brachy.patient.protocol import Protocol

Float = NDArray[np.float64]

SCENARIOS = 40
WORST = 6
"""Number of scenarios, and of the worst ones over which the measure is averaged (engineering choice: 15 %)."""

FIRST = 0.1
"""Weight of all scenarios in the first round, relative to that of underdose (engineering choice: start low)."""

OWN = 2_000_000
"""Number of the first scenario. `brachy robust` uses numbers below 1,000,000, so it judges on other scenarios."""

ROUNDS = 12
GROWTH = 1.4
"""Factor per round of the weight of all scenarios, and again of the worst ones (engineering choice)."""

MOST_POINTS = 800
"""Points of all targets together in each scenario (engineering choice)."""


@dataclass(frozen=True, eq=False)
class RobustSolution:
    """A loading, valued without scenarios, and its summary for plan.json."""

    solution: Solution
    summary: RobustSummary


def robust_optimisation(
    solution: Solution,
    problem: SearchProblem,
    prepared: Prepared,
    errors: Uncertainties,
    control: SearchControl,
) -> RobustSolution:
    """Continue the search until the mean D90 of the worst scenarios is at least the prescription.

    Parameters
    ----------
    solution : Solution
        The plan without scenarios: the start, and kept where nothing better is solution.
    problem : SearchProblem
        Its candidates and fine samples.
    prepared : Prepared
        Anchor, dose of one seed, weights and moves.
    errors : Uncertainties
        Standard deviations of needle, seed and strength errors.
    control : SearchControl
        Seed of the search and of the scenarios, threads, clock, progress.

    Returns
    -------
    RobustSolution
        The first loading that reaches it, else that with the best measure.
    """
    control.show("scenarios")
    protocol = prepared.protocol
    trials = _Trials.of(problem, prepared, errors, control.seed)
    weights = np.full(SCENARIOS, 1.0 / SCENARIOS)
    strength = FIRST * protocol.objective.underdose
    first = trials.ratios(solution.loading)
    best, worst = solution, _worst_mean(first)
    here, ratios, rounds = solution, first, 0
    while worst < 1.0 and rounds < ROUNDS and not control.stopped():
        control.show(f"robust {rounds + 1}/{ROUNDS}")
        low = np.argsort(ratios)[:WORST]
        weights[low] *= GROWTH
        weights /= weights.sum()
        other = trials.problem(strength * weights, protocol)
        strength *= GROWTH
        moves = moves_for(len(problem.candidates), protocol.search.fine_moves)
        start = Solution(here.loading, float(sum(other.terms_of(here.loading).values())))
        rng = control.rng("robust", rounds)
        control.best_value = np.inf
        rule = protocol.search
        here = anneal(other, start, moves, rule.fine_hot, rule.cold, rng, control, quiet=True)
        ratios = trials.ratios(here.loading)
        if _worst_mean(ratios) > worst:
            best, worst = here, _worst_mean(ratios)
        rounds += 1
    kept = Solution(best.loading, float(sum(problem.terms_of(best.loading).values())))
    after = trials.ratios(best.loading)
    summary = RobustSummary(
        scenarios=SCENARIOS,
        measure=f"mean of D90 / prescription over the worst {WORST} scenarios",
        before=_measured(first, solution.loading),
        after=_measured(after, best.loading),
        rounds=rounds,
        reached=bool(worst >= 1.0),
    )
    return RobustSolution(kept, summary)


def _worst_mean(ratios: Float) -> float:
    return float(np.sort(ratios)[:WORST].mean())


def _measured(ratios: Float, loading: NDArray[np.int8]) -> RobustMeasure:
    return RobustMeasure(
        measure=_worst_mean(ratios),
        share_with_d90=float((ratios >= 1.0).mean()),
        seeds=int(loading.sum()),
    )


@dataclass(frozen=True, eq=False)
class _Trials:
    """Influence of every candidate at its displaced place in each scenario, on coarse points of the targets."""

    plain: SearchProblem
    parts: tuple[Samples, ...]
    """Points of the targets as samples, scenario by scenario, in the order of `targets`."""
    targets: tuple[tuple[str, float, float, int], ...]
    """(name, prescription in Gy, share, points) of each part of a scenario."""
    influence: NDArray[np.float32]
    """(n + 1, scenarios * points)"""

    @staticmethod
    def of(problem: SearchProblem, prepared: Prepared, errors: Uncertainties, seed: int) -> "_Trials":
        own = [part for part in problem.samples if part.kind == "target" and part.counts[SCAN]]
        available = sum(part.counts[SCAN] for part in own)
        thin = min(1.0, MOST_POINTS / available)
        counts = [max(int(part.counts[SCAN] * thin), min(part.counts[SCAN], 8)) for part in own]
        points = np.concatenate([part.points_mm[:n] for part, n in zip(own, counts, strict=True)])
        layout = layout_of(problem.candidates, prepared.anchor_mm)
        stock = np.array(prepared.protocol.source.stock_mCi)
        share = (stock / stock[0])[problem.candidates.strength[problem.candidates.needle_of]]
        blocks = []
        for number in range(SCENARIOS):
            drawn = draw(layout, errors, seed, OWN + number)
            rows = prepared.table.rows(
                points, drawn.seeds - prepared.anchor_mm, np.ascontiguousarray(drawn.axes)
            )
            rows[:-1] *= (share * drawn.factor).astype(np.float32)[:, None]
            blocks.append(rows)
        parts = tuple(
            Samples(
                part.name, "goal", part.prescription_gy, part.share, part.points_mm[:n], (n,) * len(part.counts),
                label="robust", level_gy=part.prescription_gy, below=True,
            )
            for _ in range(SCENARIOS)
            for part, n in zip(own, counts, strict=True)
        )  # fmt: skip
        targets = tuple(
            (part.name, part.prescription_gy, part.share, n) for part, n in zip(own, counts, strict=True)
        )
        return _Trials(problem, parts, targets, np.concatenate(blocks, axis=1))

    def problem(self, weights: Float, protocol: Protocol) -> SearchProblem:
        """The search problem with the underdose of every scenario added, for weights (scenarios,)."""
        weighed = [
            replace(part, weight=float(weights[k // len(self.targets)]) * part.share / part.prescription_gy)
            for k, part in enumerate(self.parts)
        ]
        samples = (*self.plain.samples, *weighed)
        arrays = self.plain.arrays
        matrix = np.concatenate([arrays.influence, self.influence], axis=1)
        base = np.concatenate([arrays.base, np.zeros(self.influence.shape[1])])
        terms = hinge_terms(samples, protocol.objective, self.plain.level)
        return replace(
            self.plain, samples=samples, arrays=arrays._replace(influence=matrix, base=base), terms=terms
        )

    def ratios(self, loading: NDArray[np.int8]) -> Float:
        """(scenarios,) lowest D90 / prescription of the targets in each scenario."""
        dose = exact_dose(
            self.plain.arrays._replace(influence=self.influence, base=np.zeros(self.influence.shape[1])),
            loading,
        ).reshape(SCENARIOS, -1)
        found = np.full(SCENARIOS, np.inf)
        for name in dict.fromkeys(target[0] for target in self.targets):
            columns, weights, rx, first = [], [], 1.0, 0
            for other, gy, share, count in self.targets:
                if other == name:
                    columns.append(np.arange(first, first + count))
                    weights.append(np.full(count, share / count))
                    rx = gy
                first += count
            here, weight = dose[:, np.concatenate(columns)] / rx, np.concatenate(weights)
            order = np.argsort(here, axis=1)
            below = np.cumsum(weight[order], axis=1) / weight.sum()
            at = np.minimum((below < 0.1).sum(axis=1), here.shape[1] - 1)
            d90 = np.take_along_axis(here, order, axis=1)[np.arange(SCENARIOS), at]
            found = np.minimum(found, d90)
        return found


def layout_of(candidates: Candidates, anchor_mm: Float) -> Layout:
    """Seeds at all candidates, as a layout to draw scenarios of; each needle's tip is that of its deepest place."""
    needles = candidates.needles
    direction = np.array([needle.direction for needle in needles], dtype=np.float64).reshape(-1, 3)
    holes = np.array([needle.hole_mm for needle in needles], dtype=np.float64).reshape(-1, 3)
    tips = np.array([needle.tip_depth_mm for needle in needles])
    return Layout.from_arrays(
        seeds=candidates.positions_mm + anchor_mm,
        needle_of=candidates.needle_of,
        entry=np.array([needle.entry_mm for needle in needles], dtype=np.float64).reshape(-1, 3),
        tip=holes + tips[:, None] * direction,
        direction=direction,
        column=np.array([each.layout.column for each in candidates.templates])[candidates.template_of],
        template_of=candidates.template_of,
        middle=np.array(
            [holes[candidates.template_of == t].mean(axis=0) for t in range(len(candidates.templates))]
        ),
    )


__all__ = ["RobustSolution", "layout_of", "robust_optimisation"]
