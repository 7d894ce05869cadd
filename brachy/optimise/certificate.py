"""A lower bound on the objective: no loading of these candidates has a lower value on these samples.

The bound is the Lagrangian dual of a linear relaxation with two tightenings that are exact for whole seeds, with a
the influence of a candidate, x whether it is used and T the level of a hinge:

    [T - sum a x]+ = [T - sum min(a, T) x]+        [sum a x - T]+ >= sum (a - T)+ x + [sum min(a, T) x - T]+

(for the second, equal as long as the truncated dose reaches T or no a exceeds it; a lower bound always). A needle
counts as used as soon as one of its seeds is, and an edge point as covered as soon as some needle that could cover it
is. Conflicting pairs and limits on numbers are left out, which can only lower the bound. Any multipliers give a valid
bound; a first-order method looks for good ones, and the bound itself is evaluated in float64.

References
----------
A. Chambolle, T. Pock, J. Math. Imaging Vis. 40, 120-145 (2011), algorithm 1; T. Pock, A. Chambolle, ICCV 2011
(diagonal steps).
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from brachy.core.loading import SearchArrays, Terms

Float = NDArray[np.float64]

ITERATIONS = 600
"""Steps of the first-order method (engineering choice)."""

EVALUATE_EVERY = 50
"""Steps between two evaluations of the bound (engineering choice)."""

SAFETY = 1e-9
"""The bound is lowered by this part of the sums behind it, far above their rounding in float64 (engineering choice)."""

STATEMENT = (
    "no loading of this plan's own candidates, on its own samples and under this objective, has a lower value than "
    "lower_bound; other needles or directions, the clinical goals and the patient are not spoken of"
)
"""Text of the certificate in plan.json."""


@dataclass(frozen=True, eq=False)
class _Rows:
    """Hinges weight * [sign * (level - truncated @ x)]+ and linear costs of the candidates."""

    truncated: NDArray[np.float32]
    """(rows, n)"""
    sign: Float
    level: Float
    weight: Float
    linear: Float
    """(n,) seed cost and the part of each seed's dose above a level."""
    needle_of: NDArray[np.int64]
    needle_cost: Float
    covers: Float
    """(groups, needles) 1 where some seed of the needle covers the group."""
    cover_cost: Float

    @staticmethod
    def of(arrays: SearchArrays, terms: Terms) -> "_Rows":
        size = len(arrays.needle_of)
        dose = arrays.influence[:size]
        linear = arrays.seed_cost.astype(np.float64).copy()
        blocks, signs, levels, weights = [], [], [], []
        for c in range(len(terms.start) - 1):
            here = dose[:, terms.start[c] : terms.start[c + 1]]
            for h in range(3):
                weight, level = float(terms.weight[c, h]), terms.level[c, h]
                if weight == 0.0 or here.shape[1] == 0:
                    continue
                truncated = np.minimum(here, level)
                if h:
                    linear += weight * (here.astype(np.float64) - truncated).sum(axis=1)
                    truncated = truncated[:, truncated.sum(axis=0, dtype=np.float64) > level]
                blocks.append(truncated.T)
                signs.append(np.full(truncated.shape[1], -1.0 if h else 1.0))
                levels.append(np.full(truncated.shape[1], float(level)))
                weights.append(np.full(truncated.shape[1], weight))
        groups, needles = len(arrays.cover_cost), len(arrays.needle_cost)
        covers = np.zeros((groups, needles))
        of_candidate = np.repeat(np.arange(size), np.diff(arrays.cover_first))
        covers[arrays.cover, arrays.needle_of[of_candidate]] = 1.0
        return _Rows(
            np.ascontiguousarray(np.concatenate([*blocks, np.zeros((0, size), np.float32)])),
            np.concatenate([*signs, np.zeros(0)]),
            np.concatenate([*levels, np.zeros(0)]),
            np.concatenate([*weights, np.zeros(0)]),
            linear,
            arrays.needle_of,
            arrays.needle_cost.astype(np.float64),
            covers,
            arrays.cover_cost.astype(np.float64),
        )

    def bound(self, hinges: Float, edges: Float) -> float:
        """Value of the dual, in float64, at multipliers in [0, 1] of the hinges and of the edge groups."""
        price = self.weight * self.sign * hinges
        cost = self.linear.copy()
        for first in range(0, len(price), 4096):
            part = slice(first, first + 4096)
            cost -= self.truncated[part].astype(np.float64).T @ price[part]
        needle = self.needle_cost - self.covers.T @ (self.cover_cost * edges)
        gain = np.bincount(self.needle_of, np.minimum(cost, 0.0), len(needle))
        parts = price * self.level, self.cover_cost * edges, np.minimum(needle + gain, 0.0)
        scale = sum(float(np.abs(part).sum()) for part in parts)
        return sum(float(part.sum()) for part in parts) - SAFETY * scale


def lower_bound(arrays: SearchArrays, terms: Terms, iterations: int = ITERATIONS) -> float:
    """Lower bound on the objective of every loading of the candidates.

    Parameters
    ----------
    arrays, terms : SearchArrays, Terms
        Candidates with their influence, and the hinges; no dose or seed may be fixed beforehand.
    iterations : int
        Steps of the first-order method; any number gives a valid bound.

    Returns
    -------
    float
        At most the least value any loading has on these samples.

    Raises
    ------
    ValueError
        If dose or seeds are fixed: the relaxation does not include them.

    Examples
    --------
    >>> from brachy.core.loading import SearchArrays, Terms
    >>> none, one = np.zeros(0, np.int64), np.zeros(1, np.int64)
    >>> arrays = SearchArrays(np.array([[60.0], [0.0]], np.float32), one, np.array([0, 1]), np.zeros(1),
    ...     np.zeros(2, np.int64), none, np.zeros(2, np.int64), none, np.zeros(2, np.int64), none, np.zeros(0),
    ...     one[:, None], one[:, None], np.zeros(1), one, none, np.array([0.1]), np.array([0.0]), np.array([0, 1, 1]))
    >>> terms = Terms(np.array([0, 1]), np.array([[0.01, 0.0, 0.0]]), np.array([[120, 1e30, 1e30]], np.float32))
    >>> round(lower_bound(arrays, terms), 3)
    0.7
    """
    if arrays.base.any() or arrays.base_count.any() or arrays.base_covered.any():
        raise ValueError("a bound is of candidates beside which nothing is fixed")
    rows = _Rows.of(arrays, terms)
    hinges, edges = np.zeros(len(rows.weight)), np.ones(len(rows.cover_cost))
    best = rows.bound(hinges, edges)
    if not len(rows.weight):
        return best
    of, size = rows.needle_of, len(rows.linear)
    needles = len(rows.needle_cost)
    column = rows.truncated.T @ rows.weight.astype(np.float32)
    scale = float(np.median(column[column > 0])) if (column > 0).any() else 1.0
    step_x = 1.0 / (column.astype(np.float64) + scale)
    edge_size = rows.covers.sum(axis=1)
    step_y = 1.0 / (rows.covers.T @ rows.cover_cost + scale * np.bincount(of, minlength=needles) + scale)
    step_hinge = 1.0 / (rows.weight * rows.truncated.sum(axis=1) + 1e-300)
    step_edge = 1.0 / (rows.cover_cost * np.maximum(edge_size, 1.0) + 1e-300)
    step_link = 0.5 / scale
    x, y, link = np.full(size, 0.25), np.ones(needles), np.zeros(size)
    signed, weight = (rows.weight * rows.sign), rows.weight
    sums: list[Any] = [np.zeros_like(hinges), np.zeros_like(edges), 0]
    for step in range(1, iterations + 1):
        cost_x = rows.linear - rows.truncated.T @ (signed * hinges).astype(np.float32) + scale * link
        pulled = scale * np.bincount(of, link, needles)
        cost_y = rows.needle_cost - rows.covers.T @ (rows.cover_cost * edges) - pulled
        new_x, new_y = np.clip(x - step_x * cost_x, 0, 1), np.clip(y - step_y * cost_y, 0, 1)
        ahead_x, ahead_y = 2 * new_x - x, 2 * new_y - y
        x, y = new_x, new_y
        lack = rows.sign * (rows.level - rows.truncated @ ahead_x.astype(np.float32))
        hinges = np.clip(hinges + step_hinge * weight * lack, 0, 1)
        edges = np.clip(edges + step_edge * rows.cover_cost * (1.0 - rows.covers @ ahead_y), 0, 1)
        link = np.maximum(link + step_link * scale * (ahead_x - ahead_y[of]), 0)
        sums = [sums[0] + hinges, sums[1] + edges, sums[2] + 1]
        if step % EVALUATE_EVERY == 0 or step == iterations:
            best = max(best, rows.bound(hinges, edges), rows.bound(sums[0] / sums[2], sums[1] / sums[2]))
            if sums[2] >= step // 2:
                sums = [np.zeros_like(hinges), np.zeros_like(edges), 0]
    return best


def certificate(
    arrays: SearchArrays, terms: Terms, value: float, constant: float = 0.0
) -> dict[str, float | str]:
    """Bound and gaps for plan.json, for a plan whose objective has that value, `constant` in it for every loading.

    Examples
    --------
    >>> sorted(certificate.__annotations__)
    ['arrays', 'constant', 'return', 'terms', 'value']
    """
    bound = lower_bound(arrays, terms) + constant
    return {
        "lower_bound": bound,
        "gap_absolute": value - bound,
        "gap_relative": (value - bound) / value if value > 0 else 0.0,
        "certificate": STATEMENT,
    }
