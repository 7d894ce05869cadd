"""The influence kernel on tables whose interpolation is exact: closed forms of what it must give."""

import numpy as np
import pytest

from brachy.core.influence import fill_rows

pytestmark = pytest.mark.kernel

PER_MM, LEAST_MM = 4.0, 0.5


def geometry():
    rng = np.random.default_rng(0)
    points, positions = rng.uniform(-20, 20, (40, 3)), rng.uniform(-20, 20, (5, 3))
    axes = rng.normal(size=(5, 3))
    axes /= np.linalg.norm(axes, axis=1, keepdims=True)
    points[0] = positions[0] + 0.1 * axes[0]  # inside the least distance
    away = points[None] - positions[:, None]
    distance = np.linalg.norm(away, axis=2)
    cosine = np.abs(np.einsum("mnk,mk->mn", away, axes)) / np.maximum(distance, LEAST_MM)
    return points, positions, axes, np.maximum(distance, LEAST_MM), np.minimum(cosine, 1.0)


def test_a_table_linear_in_distance_is_given_back():
    points, positions, axes, distance, _ = geometry()
    radii = np.arange(400) / PER_MM
    out = np.empty((5, 40), np.float32)
    fill_rows(points, positions, axes, (3.0 + 0.5 * radii)[:, None], PER_MM, LEAST_MM, out)
    assert out == pytest.approx((3.0 + 0.5 * distance) / distance**2, rel=1e-6)


def test_a_table_bilinear_in_distance_and_root_of_angle_is_given_back():
    points, positions, axes, distance, cosine = geometry()
    radii, u = np.arange(400)[:, None] / PER_MM, np.linspace(0, 1, 9)[None]
    out = np.empty((5, 40), np.float32)
    table = (3.0 + 0.5 * radii) * (1.0 - 0.4 * u)
    fill_rows(points, positions, axes, table, PER_MM, LEAST_MM, out)
    expected = (3.0 + 0.5 * distance) * (1.0 - 0.4 * np.sqrt(1.0 - cosine)) / distance**2
    assert out == pytest.approx(expected, rel=1e-5)


def test_beyond_the_table_its_last_value_holds():
    out = np.empty((1, 1), np.float32)
    axes = np.array([[1.0, 0.0, 0.0]])
    table = np.array([[1.0], [2.0], [5.0]])
    fill_rows(np.array([[50.0, 0, 0]]), np.zeros((1, 3)), axes, table, PER_MM, LEAST_MM, out)
    assert out[0, 0] == pytest.approx(5.0 / 50.0**2, rel=1e-6)
