"""Ours against three other planners on one objective, the same candidates and the same samples.

Run as `python benchmarks/planners.py [CASE ...]`; it prints the table of docs/objective.md. The objective is the
protocol's own (plans/liver-metastasis.toml), valued in float64 on the fine samples of the plan. All planners run on one
core, on the holes, depths and direction that `brachy plan` chose:

- ours: greedy start, annealing with seed and whole-needle moves, descent; the best of the protocol's starts.
- greedy adjoint: seeds in the order of the dose outside the target by the dose in it, none inside the dose that is
  prescribed already (S. Yoo et al., Phys. Med. Biol. 48, 4077-4090, 2003); given the best of all its stopping points.
- IPSA-type: annealing with single seed moves from a random loading, cooled geometrically (E. Lessard, J. Pouliot,
  Med. Phys. 28, 773-779, 2001); as many moves as ours in all, in one run.
- MILP: SciPy's HiGHS on the same objective, exactly linearised, on the coarse samples (on the fine ones it has not
  built its model in the time); as much time as ours took, and twenty times that.
"""

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import sparse
from scipy.optimize import Bounds, LinearConstraint, milp

from brachy.core import loading as loadings
from brachy.core import search as kernels
from brachy.io.phantom.file import load_phantom
from brachy.optimise import planner
from brachy.optimise.arrangements import KEPT_FOR_FINE, Searched
from brachy.optimise.candidates import empty_state
from brachy.optimise.control import rng_of
from brachy.optimise.objective import coverage
from brachy.optimise.points import SCAN
from brachy.optimise.search import SearchProblem
from brachy.patient.protocol import Protocol, change, load_protocol

CASES = (
    ("ellipsoid along", "ellipsoid-87mm", (0.0, 0.0), 10.0),
    ("ellipsoid across", "ellipsoid-87mm", (90.0, 0.0), 10.0),
    ("ellipsoid along, 5 mm pitch", "ellipsoid-87mm", (0.0, 0.0), 5.0),
    ("sphere 35 mm", "sphere-35mm", (0.0, 0.0), 10.0),
    ("liver phantom", "liver-metastasis", None, 10.0),
)
LONGER = 20.0
"""The MILP is also given so many times the time that ours took."""

Loading = np.ndarray[Any, np.dtype[np.int8]]


@dataclass
class Result:
    """A loading, its seconds, and a remark."""

    name: str
    loading: Loading
    seconds: float
    remark: str = ""


def value(problem: SearchProblem, loading: Loading) -> float:
    return float(sum(problem.terms_of(loading).values()))


def adjoint(problem: SearchProblem) -> Result:
    """Seeds by adjoint ratio, each place inside the prescribed dose left out; the best prefix of the sequence."""
    start = time.perf_counter()
    influence = problem.arrays.influence[:-1]
    inside = np.zeros(influence.shape[1], dtype=bool)
    for part, first, last in zip(
        problem.samples, problem.terms.start[:-1], problem.terms.start[1:], strict=True
    ):
        inside[first:last] = part.kind == "target"
    ratio = influence[:, ~inside].mean(axis=1) / influence[:, inside].mean(axis=1)
    state = empty_state(problem.arrays)
    loadings.set_loading(problem.arrays, problem.terms, state, np.zeros(len(ratio), np.int8))
    clear = np.ones(len(ratio), dtype=bool)
    prescription = max(part.prescription_gy for part in problem.samples if part.kind == "target")
    reach = influence_between(problem)
    best, kept = np.inf, state.chosen.copy()
    dose = np.zeros(len(ratio))
    for _ in range(len(ratio)):
        free = [j for j in np.flatnonzero(clear) if loadings.allowed(problem.arrays, state, j)]
        if not free:
            break
        j = min(free, key=lambda k: ratio[k])
        loadings.add_seed(problem.arrays, state, j)
        dose += reach[j]
        clear &= (dose < prescription) & (state.chosen == 0)
        now = value(problem, state.chosen)
        if now < best:
            best, kept = now, state.chosen.copy()
    return Result("greedy adjoint", kept, time.perf_counter() - start)


def influence_between(problem: SearchProblem) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Dose (n, n) that a seed at each candidate gives at each other one."""
    table = TABLES[0]
    return table.rows(
        problem.candidates.positions_mm, problem.candidates.positions_mm, problem.candidates.axes
    )[:-1]


def ipsa(problem: SearchProblem, moves: int, protocol: Protocol) -> Result:
    """Annealing from a random loading by single seeds."""
    start = time.perf_counter()
    rng = np.random.default_rng(1)
    state = empty_state(problem.arrays)
    loadings.set_loading(problem.arrays, problem.terms, state, np.zeros(len(problem.candidates), np.int8))
    for j in rng.permutation(len(problem.candidates)):
        if state.counts[0] < len(problem.candidates) // 4 and loadings.allowed(problem.arrays, state, j):
            loadings.add_seed(problem.arrays, state, j)
    loading = state.chosen.copy()
    loadings.set_loading(problem.arrays, problem.terms, state, loading)
    hot = 0.05 * value(problem, loading)  # hot enough to accept most moves of a random loading
    schedule = kernels.Schedule(moves, hot, protocol.search.cold, np.array([0.0, 0.8, 0.9, 1.0]))
    kernels.anneal(problem.arrays, problem.terms, state, schedule, 0, moves, rng_of(1, "ipsa"))
    return Result("IPSA-type", state.best.copy(), time.perf_counter() - start)


def mixed_integer(problem: SearchProblem, coarse: SearchProblem, seconds: float) -> Result:
    """The objective on the coarse samples as a mixed-integer program; its incumbent after so many seconds.

    Variables: seeds and needles (binary), a slack for each hinge at each sample and each group of edge points.
    """
    arrays, terms = coarse.arrays, coarse.terms
    start = time.perf_counter()
    size, needles, groups = len(arrays.seed_cost), len(arrays.needle_cost), len(arrays.cover_cost)
    blocks, lows, prices = [], [], []
    for c in range(len(terms.start) - 1):
        here = arrays.influence[:size, terms.start[c] : terms.start[c + 1]].astype(np.float64).T
        for h in range(3):
            if terms.weight[c, h] == 0 or not len(here):
                continue
            sign = 1.0 if h == 0 else -1.0  # slack >= level - dose, or dose - level
            blocks.append(sparse.csr_matrix(sign * here))
            lows.append(np.full(len(here), sign * float(terms.level[c, h])))
            prices.append(np.full(len(here), terms.weight[c, h]))
    slacks = sum(map(len, lows))
    rows = sparse.hstack(
        [
            sparse.vstack(blocks),
            sparse.csr_matrix((slacks, needles)),
            sparse.identity(slacks),
            sparse.csr_matrix((slacks, groups)),
        ]
    )
    of_needle = sparse.csr_matrix((np.ones(size), (np.arange(size), arrays.needle_of)), (size, needles))
    links = sparse.hstack([-sparse.identity(size), of_needle, sparse.csr_matrix((size, slacks + groups))])
    cover = sparse.csr_matrix(
        (np.ones(len(arrays.cover)), (arrays.cover, np.repeat(np.arange(size), np.diff(arrays.cover_first)))),
        (groups, size),
    )
    covers = sparse.hstack([cover, sparse.csr_matrix((groups, needles + slacks)), sparse.identity(groups)])
    conflicts = pairs(arrays.seed_conflict_first, arrays.seed_conflicts)
    apart = sparse.csr_matrix(
        (np.ones(2 * len(conflicts)), (np.repeat(np.arange(len(conflicts)), 2), conflicts.ravel())),
        (len(conflicts), size + needles + slacks + groups),
    )
    constraints = [
        LinearConstraint(rows, np.concatenate(lows), np.inf),
        LinearConstraint(links, 0, np.inf),
        LinearConstraint(covers, 1, np.inf),
    ]
    if len(conflicts):
        constraints.append(LinearConstraint(apart, -np.inf, 1))
    found = milp(
        np.concatenate([arrays.seed_cost, arrays.needle_cost, np.concatenate(prices), arrays.cover_cost]),
        constraints=constraints,
        integrality=np.concatenate([np.ones(size + needles), np.zeros(slacks + groups)]),
        bounds=Bounds(0, np.concatenate([np.ones(size + needles), np.full(slacks + groups, np.inf)])),
        options={"time_limit": seconds},
    )
    took = time.perf_counter() - start
    if found.x is None:
        return Result("MILP (HiGHS)", np.zeros(size, np.int8), took, "no loading found in the time")
    return Result(
        "MILP (HiGHS)",
        (found.x[:size] > 0.5).astype(np.int8),
        took,
        f"its own gap {100 * found.mip_gap:.0f} %",
    )


def pairs(first: Any, partners: Any) -> np.ndarray[Any, np.dtype[np.int64]]:
    """(p, 2) pairs of CSR lists, each once."""
    one = np.repeat(np.arange(len(first) - 1), np.diff(first))
    both = np.column_stack([one, partners])
    return both[both[:, 0] < both[:, 1]]


TABLES: list[Any] = []


def searched(
    phantom: str, protocol: Protocol, direction: tuple[float, float] | None
) -> tuple[SearchProblem, Loading, float]:
    """SearchProblem on the fine samples, ours, and the seconds of its search on one core."""
    kept: dict[str, Any] = {}
    inner: Callable[..., Searched] = planner.search_arrangements

    def watch(*args: Any) -> Searched:
        TABLES[:] = [args[1].table]
        start = time.perf_counter()
        found = inner(*args)
        kept["seconds"] = time.perf_counter() - start
        kept["problem"], kept["loading"] = found.problem, found.solution.loading
        return found

    planner.search_arrangements = watch  # type: ignore[attr-defined]
    try:
        planner.plan(load_phantom(phantom), protocol, direction=direction, threads=1)
    finally:
        planner.search_arrangements = inner  # type: ignore[attr-defined]
    return kept["problem"], kept["loading"], kept["seconds"]


def main() -> None:
    names = sys.argv[1:]
    print("| case | planner | F | over ours % | seeds | needles | D90 Gy | V100 % | s | remark |")
    print("|---|---|---|---|---|---|---|---|---|---|")
    for case, phantom, direction, pitch in CASES:
        if names and not any(name in case for name in names):
            continue
        protocol = change(load_protocol("liver-metastasis"), template={"pitch_mm": pitch})
        rule = protocol.search
        problem, loading, seconds = searched(phantom, protocol, direction)
        moves = rule.starts * rule.moves + KEPT_FOR_FINE * rule.fine_moves
        coarse = problem.coarser(SCAN, protocol)
        results = [
            Result("ours", loading, seconds),
            adjoint(problem),
            ipsa(problem, moves, protocol),
            mixed_integer(problem, coarse, seconds),
            mixed_integer(problem, coarse, LONGER * seconds),
        ]
        ours = value(problem, loading)
        for result in results:
            used = np.unique(problem.candidates.needle_of[result.loading > 0])
            dose = loadings.exact_dose(problem.arrays, result.loading).astype(np.float32)
            seen = coverage(problem.samples, problem.level, dose)
            mine = value(problem, result.loading)
            worse = f"{100 * (mine / ours - 1):+.1f}" if result.name != "ours" else ""
            print(
                f"| {case} | {result.name} | {mine:.4f} | {worse} | {int(result.loading.sum())} | {len(used)} "
                f"| {seen['D90_gy']:.0f} | {seen['V100_pct']:.1f} | {result.seconds:.1f} | {result.remark} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
