"""Kernels of the seed finder: the image by adaptive quadrature, derivatives by differences, algebra by numpy."""

import itertools
import math

import numpy as np
import pytest
from scipy import integrate, ndimage, special

from brachy.core import capsule as kernel
from brachy.core.peaks import elongations, is_local_maximum

pytestmark = pytest.mark.kernel

SPACING = np.array([0.8, 0.9, 1.5])
BLUR = np.array([0.75, 0.6, 4.5])
LOW, HIGH = np.zeros(3, np.int64), np.array([16, 15, 10])


def capsule(x, y, z, axis, mass=9000.0):
    return np.array([x, y, z, *(np.array(axis) / np.linalg.norm(axis)), mass])


LYING = capsule(6.1, 6.7, 6.9, (1.0, 0.3, 0.0))
TILTED = capsule(6.3, 6.4, 7.2, (0.5, -0.3, 0.8))
UPRIGHT = capsule(6.0, 6.6, 7.0, (0.05, 0.0, 1.0))


def rows_of(one, blur=BLUR, level=2, box=(0, 16, 0, 15, 0, 10)):
    box = np.array(box)
    count = int(np.prod(box[1::2] - box[::2]))
    rows = np.empty((kernel.ROWS, count))
    kernel.image_rows(one, blur, SPACING, box, level, rows)
    return rows


def centres(box=(0, 16, 0, 15, 0, 10)):
    z, y, x = np.mgrid[box[4] : box[5], box[2] : box[3], box[0] : box[1]]
    return np.stack([x, y, z], axis=-1).reshape(-1, 3) * SPACING


@pytest.mark.parametrize(("one", "share"), [(LYING, 1e-4), (TILTED, 0.02), (UPRIGHT, 0.02)])
def test_image_is_the_line_seen_through_gaussian_and_slice(one, share):
    """The line itself, integrated adaptively; the kernel's eight nodes with their pieces stay within 2 % of the peak.

    A line in the slice's plane has no pieces along z: there the eight nodes are as good as the integral.
    """
    sigma, slice_sigma, length = BLUR
    points, values = centres(), rows_of(one)[0]
    chosen = np.random.default_rng(0).choice(np.flatnonzero(values > 0.02 * values.max()), 25, replace=False)
    for k in chosen:

        def along(t, point=points[k]):
            d = point - one[:3] - t * one[3:6]
            box = special.ndtr((d[2] + SPACING[2] / 2) / slice_sigma) - special.ndtr(
                (d[2] - SPACING[2] / 2) / slice_sigma
            )
            return math.exp(-(d[0] ** 2 + d[1] ** 2) / (2 * sigma**2)) * box

        whole = integrate.quad(along, -length / 2, length / 2, epsabs=1e-12)[0] / length
        expected = one[6] * whole / (2 * math.pi * sigma**2 * SPACING[2])
        assert values[k] == pytest.approx(expected, abs=share * values.max())


@pytest.mark.parametrize("one", [LYING, TILTED, UPRIGHT])
def test_the_image_adds_up_to_the_mass(one):
    box = np.array([-10, 30, -10, 30, -10, 20])
    assert rows_of(one, box=box)[0].sum() * SPACING.prod() == pytest.approx(one[6], rel=1e-3)


@pytest.mark.parametrize("one", [LYING, TILTED, UPRIGHT])
def test_derivatives_are_those_of_the_value(one):
    first, second = np.empty(3), np.empty(3)
    kernel.tangents(one[3:6], first, second)
    frame = np.array([first, second, one[3:6]])
    assert frame @ frame.T == pytest.approx(np.eye(3), abs=1e-12)
    rows, h = rows_of(one), 1e-5

    def moved(row, step):
        new, blur = one.copy(), BLUR.copy()
        if row in (1, 2, 3):
            new[row - 1] += step
        elif row in (4, 5):  # the nodes' weights along z are held: the axis turns about the centre
            axis = one[3:6] + step * (first, second)[row - 4]
            new[3:6] = axis / np.linalg.norm(axis)
        elif row == 6:
            new[6] += step * 1e4
        else:
            blur[row - 7] += step
        return rows_of(new, blur, 0)[0]

    for row in range(1, kernel.ROWS):
        slope = (moved(row, h) - moved(row, -h)) / (2 * h) / (1e4 if row == 6 else 1.0)
        # tilts and length also change the piece of line that a node stands for, which the derivative leaves out
        share = 0.03 if row in (4, 5, 9) and abs(one[5]) > 0.1 else 2e-3 if row in (4, 5, 9) else 1e-5
        assert rows[row] == pytest.approx(slope, abs=share * np.abs(slope).max()), row


def test_assembled_equations_are_those_of_dense_least_squares():
    rng = np.random.default_rng(1)
    capsules = np.array([LYING, capsule(8.2, 6.9, 7.6, (0.2, 1.0, 0.3)), capsule(3.0, 9.0, 4.0, (0, 0, 1.0))])
    free, errors = 2, np.array([40.0, 0.08, 3.0])
    model = np.zeros((10, 15, 16))
    kernel.add_images(capsules, BLUR, SPACING, LOW, model, 1.0)
    excess = (model + rng.normal(0, 60, model.shape)).astype(np.float32)
    saturated = excess > 0.6 * excess.max()

    boxes = np.empty((3, 6), np.int64)
    dense = np.zeros((10, 15, 16, 6 * free + 3))
    for c, (one, box) in enumerate(zip(capsules, boxes, strict=True)):
        kernel.reach_box(one, BLUR, SPACING, LOW, HIGH, box)
        if c < free:
            own = rows_of(one, box=box).reshape(
                kernel.ROWS, box[5] - box[4], box[3] - box[2], box[1] - box[0]
            )
            place = np.s_[box[4] : box[5], box[2] : box[3], box[0] : box[1]]
            dense[place][..., 6 * c : 6 * c + 6] += np.moveaxis(own[1:7], 0, -1)
            dense[place][..., -3:] += np.moveaxis(own[7:], 0, -1)
    residual = excess - model
    weight = 1 / ((errors[0] ** 2 + (errors[1] * np.maximum(excess.astype(float), 0)) ** 2) * errors[2])
    weight[saturated & (residual < 0)] = 0
    jacobian, w, r = dense.reshape(-1, dense.shape[-1]), weight.ravel(), residual.ravel()

    size = 6 * free + 3
    for level, many in ((0, 0), (1, 6 * free), (2, size)):
        matrix, right = np.full((many, many), np.nan), np.full(many, np.nan)
        total = kernel.assemble(
            excess, saturated, SPACING, LOW, HIGH, capsules, free, BLUR, level, errors, matrix, right
        )
        assert total == pytest.approx((w * r**2).sum(), rel=1e-9)
        asked = jacobian[:, :many]
        product = asked.T @ (w[:, None] * asked)
        assert matrix == pytest.approx(product, abs=1e-9 * np.abs(product).max() if many else 0)
        side = asked.T @ (w * r)
        assert right == pytest.approx(side, abs=1e-9 * np.abs(side).max() if many else 0)


def test_images_that_are_taken_away_leave_nothing():
    capsules = np.array([LYING, TILTED, capsule(90.0, 90.0, 90.0, (1, 0, 0))])
    out = np.zeros((10, 15, 16))
    kernel.add_images(capsules, BLUR, SPACING, LOW, out, 1.0)
    assert out.max() > 100
    kernel.add_images(capsules, BLUR, SPACING, LOW, out, -1.0)
    assert np.abs(out).max() < 1e-9


def test_steps_lead_to_the_capsule_that_made_the_image():
    truth, free, none = TILTED, 1, np.zeros((0, 0, 0), bool)
    excess = np.zeros((10, 15, 16))
    kernel.add_images(truth[None], BLUR, SPACING, LOW, excess, 1.0)
    errors, now = np.array([5.0, 0.02, 1.0]), truth[None].copy()
    now[0, :3] += (0.6, -0.5, 0.7)
    now[0, 3:6] = np.array([0.8, 0.1, 0.6]) / np.linalg.norm([0.8, 0.1, 0.6])
    now[0, 6] *= 0.8
    matrix, right = np.zeros((6, 6)), np.zeros(6)
    for _ in range(30):
        kernel.assemble(excess, none, SPACING, LOW, HIGH, now, free, BLUR, 1, errors, matrix, right)
        now = kernel.damped_step(now, free, 9000.0, 1e3, 1e3, matrix, right, 1e-3)
    assert now[0, :3] == pytest.approx(truth[:3], abs=0.01)
    assert abs(now[0, 3:6] @ truth[3:6]) > 0.9999
    assert now[0, 6] == pytest.approx(truth[6], rel=0.01)


def test_solving_against_numpy_and_a_pivot_of_nothing():
    rng = np.random.default_rng(2)
    half = rng.normal(size=(7, 7))
    matrix, right = half @ half.T + np.eye(7), rng.normal(size=7)
    solved = right.copy()
    kernel.solve_positive(matrix.copy(), solved)
    assert solved == pytest.approx(np.linalg.solve(matrix, right), rel=1e-10)
    matrix[3], matrix[:, 3] = 0.0, 0.0
    solved = right.copy()
    kernel.solve_positive(matrix.copy(), solved)
    rest = [0, 1, 2, 4, 5, 6]
    assert solved[3] == pytest.approx(0.0, abs=1e-12)
    assert solved[rest] == pytest.approx(np.linalg.solve(matrix[np.ix_(rest, rest)], right[rest]), rel=1e-10)


def test_prior_is_the_price_of_mass_and_place():
    pair = np.array([capsule(0, 0, 4.5, (1, 0, 0), 9000.0), capsule(0, 0, 4.0, (1, 0, 0), 12000.0)])
    # slices of 2 mm: 4.5 lies a quarter of a slice off, 4.0 on one; a third more than a seed's mass at SD 20 %
    assert kernel.prior(pair, 1, 9000.0, 0.2, 2.0) == pytest.approx(12 / 16)
    assert kernel.prior(pair, 2, 9000.0, 0.2, 2.0) == pytest.approx(12 / 16 + (1 / 3 / 0.2) ** 2)


@pytest.mark.parametrize(
    ("first", "second", "distance"),
    [
        (capsule(0, 0, 0, (1, 0, 0)), capsule(0, 3, 4, (1, 0, 0)), 5.0),  # side by side
        (capsule(0, 0, 0, (1, 0, 0)), capsule(0, 0, 2, (0, 1, 0)), 2.0),  # crossed
        (capsule(0, 0, 0, (1, 0, 0)), capsule(6, 0, 0, (1, 0, 0)), 6.0 - 0.8 * 4.5),  # in line
    ],
)
def test_closest_axes(first, second, distance):
    assert kernel.closest_axes(first, second, 4.5) == pytest.approx(distance)


def test_local_maxima_against_a_maximum_filter():
    image = np.random.default_rng(3).permutation(6 * 7 * 8).reshape(6, 7, 8).astype(float)
    points = np.array(list(itertools.product(range(6), range(7), range(8))))
    found = np.zeros(len(points), bool)
    is_local_maximum(image, points, np.array([1, 2, 2]), found)
    highest = ndimage.maximum_filter(image, size=(3, 5, 5), mode="constant", cval=-1) == image
    assert np.array_equal(found.reshape(image.shape), highest)
    flat = np.zeros(2, bool)
    is_local_maximum(np.ones((1, 1, 2)), np.array([[0, 0, 0], [0, 0, 1]]), np.array([1, 1, 1]), flat)
    assert flat.tolist() == [True, False]


def test_elongation_of_a_dot_a_line_and_a_solid():
    spacing, peak = np.array([1.0, 1.0, 1.0]), np.array([[0, 15, 15]])
    dot, line, solid = (np.zeros((1, 31, 31)) for _ in range(3))
    dot[0, 15, 15] = line[0, 15] = 1000.0
    solid[:] = 1000.0
    for image, share in ((dot, [0, 0, 0, 0]), (line, [1, 0, 0, 0]), (solid, [1, 1, 1, 1])):
        assert elongations(image, spacing, peak, 8.0, 4)[0] == pytest.approx(share)
