"""Distances of segments against a fine grid of points on both, and the marks of near pairs."""

import numpy as np
import pytest

from brachy.core.segments import mark_near, segment_gap

pytestmark = pytest.mark.kernel
PARTS = np.linspace(0.0, 1.0, 401)


def by_points(a, v, b, w):
    """Least distance of 401 points on each of two segments."""
    return np.linalg.norm((a + PARTS[:, None] * v)[:, None] - (b + PARTS[:, None] * w)[None], axis=2).min()


def test_random_segments_against_points_on_them():
    rng = np.random.default_rng(1)
    for _ in range(60):
        a, b = rng.uniform(-20, 20, (2, 3))
        v, w = rng.uniform(-30, 30, (2, 3))
        dense = by_points(a, v, b, w)
        assert dense - 0.1 <= segment_gap(a, v, b, w) <= dense + 1e-9


@pytest.mark.parametrize(
    ("b", "w", "gap"),
    [
        ((2.0, 3.0, 5.0), (10.0, 0.0, 0.0), np.hypot(2, 3)),  # skew, nearest at an end of the other
        ((-5.0, 3.0, 5.0), (10.0, 0.0, 0.0), 3.0),  # skew, nearest within both
        ((4.0, 0.0, 2.0), (0.0, 0.0, 5.0), 4.0),  # parallel, side by side
        ((4.0, 0.0, 13.0), (0.0, 0.0, 5.0), 5.0),  # parallel, one after the other
        ((0.0, 0.0, 4.0), (0.0, 0.0, 0.0), 0.0),  # a point on the segment
        ((3.0, 4.0, 10.0), (0.0, 0.0, 0.0), 5.0),  # a point beside its end
    ],
)
def test_closed_forms(b, w, gap):
    up = np.zeros(3), np.array([0.0, 0.0, 10.0])
    assert segment_gap(*up, np.array(b), np.array(w)) == pytest.approx(gap, abs=1e-12)
    assert segment_gap(np.array(b), np.array(w), *up) == pytest.approx(gap, abs=1e-12)


def test_marks_are_symmetric_and_are_never_taken_back():
    rng = np.random.default_rng(2)
    a, b = rng.uniform(-10, 10, (2, 12, 3))
    v, w = rng.uniform(-15, 15, (2, 12, 3))
    near = np.zeros((12, 12), dtype=np.bool_)
    near[0, 1] = near[1, 0] = True
    mark_near(a, v, b, w, 4.0, near)
    for i in range(12):
        assert not near[i, i]
        for j in range(i):
            gap = min(by_points(a[i], v[i], b[j], w[j]), by_points(a[j], v[j], b[i], w[i]))
            assert near[i, j] == near[j, i]
            if (i, j) != (1, 0) and abs(gap - 4.0) > 0.1:
                assert near[i, j] == (gap < 4.0)
    assert near[0, 1]
