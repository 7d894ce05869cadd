"""Geometry of the independent check against closed forms."""

import numpy as np
import pytest

from brachy.check.geometry import (
    Stack,
    WrittenNeedle,
    clearance,
    ends_in_target,
    needle_spacing,
    seed_spacing,
)


def box(half, heights):
    x, y = half
    return [np.array([[-x, -y, z], [x, -y, z], [x, y, z], [-x, y, z]], dtype=float) for z in heights]


BOX = Stack.of(box((10, 20), np.arange(-9.0, 10.0, 2.0)))  # 20 x 40 x 20 mm about the origin


def needle(start, end, seeds=()):
    start, end = np.array(start, dtype=float), np.array(end, dtype=float)
    direction = (end - start) / np.linalg.norm(end - start)
    places = np.array([start + depth * direction for depth in seeds]).reshape(-1, 3)
    return WrittenNeedle("n", start, end, direction, places)


@pytest.mark.parametrize(
    ("point", "outside", "inside"),
    [
        ((13, 0, 0), 3, 0),
        ((13, 24, 0), 5, 0),
        ((13, 24, 22), 13, 0),  # 3, 4, 12
        ((0, 0, 14), 4, 0),
        ((8, 0, 0), 0, 2),
        ((0, 17, 8), 0, 2),
        ((0, 0, 0), 0, 10),
    ],
)
def test_distances_of_a_box(point, outside, inside):
    points = np.array([point], dtype=float)
    assert BOX.distance(points)[0] == pytest.approx(outside, abs=1e-9)
    assert BOX.depth(points)[0] == pytest.approx(inside, abs=1e-9)


def test_a_hole_in_a_structure_is_outside():
    rings = box((10, 20), [-1.0, 1.0]) + box((4, 4), [-1.0, 1.0])
    stack = Stack.of(rings)
    assert stack.contains(np.array([[0, 0, 0], [7, 0, 0]], dtype=float)).tolist() == [False, True]
    assert stack.distance(np.zeros((1, 3)))[0] == pytest.approx(4)


def test_oblique_contours_are_not_measured():
    assert Stack.of([np.array([[0, 0, 0], [10, 0, 0], [10, 10, 5], [0, 10, 5]], dtype=float)]) is None


def test_clearance_is_from_the_needle_s_surface():
    found, where = clearance([needle((13, -60, 0), (13, 0, 0))], {"box": BOX}, 0.65)
    assert found == pytest.approx(3 - 0.65)
    assert where == "needle n, box"
    assert clearance([needle((80, -60, 0), (80, 0, 0))], {"box": BOX}, 0.65) == (np.inf, "")


def test_ends_in_a_target():
    """Axis along y through the box: it enters at 40 mm and leaves at 80; seeds at 47 and 73 mm."""
    distal, proximal = ends_in_target([needle((0, -60, 0), (0, 15, 0), (47, 73))], BOX)
    assert distal == pytest.approx(7, abs=0.002)
    assert proximal == pytest.approx(7, abs=0.002)
    assert ends_in_target([needle((30, -60, 0), (30, 15, 0), (47,))], BOX) == (-np.inf, -np.inf)


@pytest.mark.parametrize(("thick", "margin"), [(0.4, 7), (0.6, 11.6)])
def test_a_sliver_beyond_a_gap_is_none_of_the_target(thick, margin):
    """The box, then a plate 4 mm deeper."""
    plate = [
        np.array([[-10, 24, z], [10, 24, z], [10, 24 + thick, z], [-10, 24 + thick, z]], dtype=float)
        for z in np.arange(-9.0, 10.0, 2.0)
    ]
    both = Stack.of(box((10, 20), np.arange(-9.0, 10.0, 2.0)) + plate)
    distal, _ = ends_in_target([needle((0, -60, 0), (0, 15, 0), (47, 73))], both)
    assert distal == pytest.approx(margin, abs=0.003)


def test_spacings():
    one = needle((0, -60, 0), (0, 0, 0), (40, 50))
    skew = needle((30, -20, 7), (-30, -20, 7), (30,))  # crosses above the first at 7 mm
    assert needle_spacing([one, skew]) == pytest.approx(7, abs=1e-6)
    assert seed_spacing([one, skew]) == pytest.approx(7, abs=1e-6)
    assert needle_spacing([one]) == np.inf
