"""Kernel that finds pairs of straight segments nearer to each other than a limit."""

import math
from typing import Any

import numpy as np

from brachy.core.compiling import njit

PARALLEL = 1e-12
"""Square of the sine of the angle below which two segments count as parallel (engineering choice: then the ends of the
segments decide, and the error of that is below the rounding of the positions)."""


@njit(cache=True, error_model="numpy")
def _between(value: Any) -> Any:
    return min(max(value, 0.0), 1.0)


@njit(cache=True, error_model="numpy")
def segment_gap(a: Any, v: Any, b: Any, w: Any) -> Any:
    """Least distance of the segments a + s v and b + t w, 0 <= s, t <= 1; all (3,).

    The squared distance is convex in (s, t): it is least where the lines come nearest, if that is on both segments,
    else where an end of one is nearest to the other.
    """
    vv = ww = vw = gv = gw = 0.0
    for k in range(3):
        gap = a[k] - b[k]
        vv += v[k] * v[k]
        ww += w[k] * w[k]
        vw += v[k] * w[k]
        gv += gap * v[k]
        gw += gap * w[k]
    least = np.inf
    det = vv * ww - vw * vw
    if det > PARALLEL * vv * ww:
        s, t = (vw * gw - ww * gv) / det, (vv * gw - vw * gv) / det
        if 0.0 <= s <= 1.0 and 0.0 <= t <= 1.0:
            return _apart(a, v, b, w, s, t)
    for end in (0.0, 1.0):
        t = _between((gw + end * vw) / ww) if ww > 0.0 else 0.0
        s = _between((end * vw - gv) / vv) if vv > 0.0 else 0.0
        least = min(least, _apart(a, v, b, w, end, t), _apart(a, v, b, w, s, end))
    return least


@njit(cache=True, error_model="numpy")
def _apart(a: Any, v: Any, b: Any, w: Any, s: Any, t: Any) -> Any:
    total = 0.0
    for k in range(3):
        gap = a[k] + s * v[k] - b[k] - t * w[k]
        total += gap * gap
    return math.sqrt(total)


@njit(cache=True, nogil=True, error_model="numpy")
def mark_near(starts: Any, vectors: Any, others: Any, other_vectors: Any, limit: Any, near: Any) -> None:
    """Set `near[i, j]` and `near[j, i]`, i < j, where segment i comes nearer than a limit to the other segment j.

    Every item has two segments: `starts` and `vectors` (n, 3), and `others` and `other_vectors` (n, 3), which may be
    the same. Pairs that are marked already are passed over, and are not unmarked.
    """
    for i in range(len(starts)):
        for j in range(len(others)):
            if i == j or near[i, j]:
                continue
            if segment_gap(starts[i], vectors[i], others[j], other_vectors[j]) < limit:
                near[i, j] = True
                near[j, i] = True
