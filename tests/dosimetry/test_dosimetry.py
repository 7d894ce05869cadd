"""The seam above the kernels: shapes, refusals, decay, influence, threads."""

import numba
import numpy as np
import pytest

import brachy
from brachy.dosimetry.implant import Implant
from brachy.dosimetry.source import load_source
from brachy.dosimetry.tg43 import METHODS, dose, influence
from brachy.errors import BrachyError, UsageError
from brachy.geometry.grid import Dose, Grid


@pytest.fixture(scope="module")
def source():
    return load_source("amersham_6711")


def make(source, count=5, seed=0, **extra):
    rng = np.random.default_rng(seed)
    return Implant(
        source, rng.uniform(-20, 20, (count, 3)), axes=rng.normal(size=(count, 3)), strength_U=0.7, **extra
    )


@pytest.mark.kernel
def test_shapes(source):
    implant = make(source)
    points = dose([[1, 2, 3], [4, 5, 6]], implant)
    assert points.shape == (2,)
    grid = Grid((0, 0, 0), (2, 2, 2), (2, 3, 4))
    result = dose(grid, [implant])
    assert isinstance(result, Dose)
    assert result.gy.shape == (2, 3, 4)
    assert result.grid is grid


@pytest.mark.kernel
def test_nothing_gives_nothing(source):
    empty = Implant(source, np.empty((0, 3)), strength_U=0.7)
    assert dose([[0, 0, 0]], empty)[0] == 0
    assert dose([[0, 0, 0]], [])[0] == 0
    assert dose(np.empty((0, 3)), make(source)).shape == (0,)
    assert (dose(Grid((0, 0, 0), (1, 1, 1), (2, 2, 2)), []).gy == 0).all()
    assert influence(np.empty((0, 3)), [[0, 0, 0]], source, 1.0).shape == (1, 0)
    assert influence([[0, 0, 0]], np.empty((0, 3)), source, 1.0).shape == (0, 1)


def test_refusals(source):
    implant = make(source)
    bare = Implant(source, [[0, 0, 0]], strength_U=1.0)
    with pytest.raises(UsageError, match="unknown formalism '3D'"):
        dose([[0, 0, 0]], implant, formalism="3D")
    with pytest.raises(UsageError, match=r"unknown dose method 'fast'.*exact"):
        dose([[0, 0, 0]], implant, method="fast")
    with pytest.raises(UsageError, match="dose to -1 days"):
        dose([[0, 0, 0]], implant, days=-1)
    with pytest.raises(BrachyError, match="2D formalism needs the axis"):
        dose([[0, 0, 0]], [implant, bare], formalism="2D")
    with pytest.raises(BrachyError, match="2D formalism needs the axis"):
        influence([[0, 0, 0]], [[1, 1, 1]], source, 1.0, formalism="2D")
    with pytest.raises(BrachyError, match=r"points of shape \(3,\)"):
        dose([0, 0, 0], implant)
    with pytest.raises(BrachyError, match="not a number"):
        dose([[0, 0, np.nan]], implant)


@pytest.mark.kernel
def test_strength_and_half_life_of_each_implant(source):
    point = [[13.0, 0.0, 0.0]]
    once = dose(point, Implant(source, [[0, 0, 0]], strength_U=1.0))[0]
    assert dose(point, Implant(source, [[0, 0, 0]], strength_U=1.27))[0] == pytest.approx(
        1.27 * once, rel=1e-12
    )
    long = Implant(source, [[0, 0, 0]], strength_U=1.0, half_life_days=60.2)
    assert dose(point, long)[0] == pytest.approx(once * 60.2 / 59.4, rel=1e-12)
    both = dose(point, [Implant(source, [[0, 0, 0]], strength_U=0.5), long])[0]
    assert both == pytest.approx(once * (0.5 + 60.2 / 59.4), rel=1e-12)
    two = Implant(source, [[0, 0, 0], [0, 0, 0]], strength_U=[0.25, 0.5])
    assert dose(point, two)[0] == pytest.approx(0.75 * once, rel=1e-12)


@pytest.mark.kernel
@pytest.mark.parametrize("days", [30, 60, 180])
def test_dose_to_some_days(source, days):
    """D(t) = D0 T / ln 2 (1 - 2^(-t/T)), with each implant's own half-life."""
    implants = [make(source), make(source, seed=1, half_life_days=60.2)]
    point = [[7.0, 3.0, -2.0]]
    expected = sum(
        dose(point, implant)[0] * (1 - 2 ** (-days / implant.half_life_days)) for implant in implants
    )
    assert dose(point, implants, days=days)[0] == pytest.approx(expected, rel=1e-9)
    assert dose(point, implants, days=0)[0] == 0


@pytest.mark.kernel
@pytest.mark.parametrize("formalism", ["1D", "2D"])
def test_influence_rows_are_single_seeds(source, formalism):
    rng = np.random.default_rng(2)
    positions, axes = rng.uniform(-20, 20, (4, 3)), rng.normal(size=(4, 3))
    points = rng.uniform(-30, 30, (6, 3))
    matrix = influence(points, positions, source, 0.889, axis=axes, formalism=formalism)
    assert matrix.dtype == np.float32
    for row, position, axis in zip(matrix, positions, axes, strict=True):
        seed = Implant(source, [position], axes=axis, strength_U=0.889)
        np.testing.assert_allclose(row, dose(points, seed, formalism=formalism, method="exact"), rtol=1e-3)
    one_axis = influence(points, positions, source, 0.889, axis=[0, 0, 1], formalism=formalism)
    assert one_axis.shape == (4, 6)
    longer = influence(points, positions, source, 0.889, axis=axes, formalism=formalism, half_life_days=60.2)
    np.testing.assert_allclose(longer, matrix * (60.2 / 59.4), rtol=1e-5)


@pytest.mark.parametrize("formalism", ["1D", "2D"])
def test_any_number_of_threads_gives_the_same_bits(source, formalism):
    implant = make(source, count=40)
    grid = Grid((-30.3, -29.1, -20.7), (1.5, 1.7, 2.5), (17, 33, 39))
    points = np.random.default_rng(3).uniform(-30, 30, (1003, 3))
    before = numba.get_num_threads()
    results = []
    try:
        for threads in sorted({1, min(2, numba.config.NUMBA_NUM_THREADS)}):
            numba.set_num_threads(threads)
            results.append(
                (
                    *(dose(points, implant, formalism=formalism, method=m) for m in METHODS),
                    *(dose(grid, implant, formalism=formalism, method=m).gy for m in METHODS),
                    influence(points, implant.positions_mm, source, 1.0, implant.axes, formalism),
                )
            )
    finally:
        numba.set_num_threads(before)
    for found, expected in zip(results[-1], results[0], strict=True):
        np.testing.assert_array_equal(found, expected)


def test_public_names():
    assert brachy.dose is dose
    assert brachy.load_source is load_source
