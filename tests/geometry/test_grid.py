"""Geometry of a grid against SimpleITK, which computes the same thing by itself."""

import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from brachy.geometry.grid import Dose, Grid


@given(st.integers(0, 2**32 - 1))
def test_index_to_mm_agrees_with_simpleitk(seed):
    rng = np.random.default_rng(seed)
    direction = Rotation.random(random_state=seed).as_matrix()
    if seed % 2:
        direction[:, 2] *= -1
    grid = Grid(rng.normal(0, 100, 3), rng.uniform(0.3, 5, 3), (7, 6, 5), direction)
    image = sitk.Image(5, 6, 7, sitk.sitkUInt8)
    image.SetOrigin(grid.origin_mm.tolist())
    image.SetSpacing(grid.spacing_mm.tolist())
    image.SetDirection(direction.ravel().tolist())
    index = rng.uniform(-3, 8, (4, 3))
    expected = [image.TransformContinuousIndexToPhysicalPoint(i.tolist()) for i in index]
    np.testing.assert_allclose(grid.index_to_mm(index), expected, atol=1e-9)
    np.testing.assert_allclose(grid.mm_to_index(grid.index_to_mm(index)), index, atol=1e-9)


def test_centres_run_x_fastest():
    grid = Grid((1, 2, 3), (1, 10, 100), (2, 2, 2))
    assert grid.centres_mm()[:3].tolist() == [[1, 2, 3], [2, 2, 3], [1, 12, 3]]
    assert grid.voxel_cc == 1.0


def test_around_covers_the_box_and_starts_at_its_corner():
    grid = Grid.around((0.5, 0, 0), (10.2, 3, 0), 1.0)
    assert grid.shape == (1, 4, 11)
    assert grid.origin_mm.tolist() == [0.5, 0, 0]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (((0, 0, 0), (1, 0, 1), (2, 2, 2)), "positive"),
        (((0, 0, np.nan), (1, 1, 1), (2, 2, 2)), "finite"),
        (((0, 0, 0), (1, 1, 1), (2, 0, 2)), "empty"),
        (((0, 0, 0), (1, 1, 1), (2, 2, 2), np.ones((3, 3))), "orthogonal"),
        (((0, 0), (1, 1, 1), (2, 2, 2)), "3 origin"),
    ],
)
def test_impossible_grids_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        Grid(*arguments)


def test_a_dose_has_the_shape_of_its_grid():
    with pytest.raises(ValueError, match="differ in shape"):
        Dose(Grid((0, 0, 0), (1, 1, 1), (2, 2, 2)), np.zeros((2, 2, 3)))
