"""The circle of a reconstruction is told from what a drawn phantom fills its image with."""

import numpy as np
import pytest

from brachy.geometry.field_of_view import unseen

ROWS, COLUMNS = 60, 80
SPACING = (1.5, 1.0)


def radius_mm():
    y = (np.arange(ROWS) - 29.5) * SPACING[0]
    x = (np.arange(COLUMNS) - 39.5) * SPACING[1]
    return np.hypot(x[None], y[:, None])


@pytest.fixture
def noise():
    return np.random.default_rng(3).normal(40.0, 15.0, (5, ROWS, COLUMNS))


@pytest.mark.parametrize("value", [3071.0, 62_512.0, 0.0, -1024.0, -32_768.0])
def test_the_pixels_outside_a_circle_are_found_whatever_their_value(noise, value):
    outside = radius_mm() > 40.0
    noise[:, outside] = value
    found = unseen(list(noise), SPACING)
    np.testing.assert_array_equal(found.pixels, outside)
    assert found.values == (value,) * 5


def test_a_slice_may_have_its_own_value(noise):
    for k, values in enumerate(noise):
        values[radius_mm() > 40.0] = -2000.0 + k
    assert unseen(list(noise), SPACING).values == (-2000.0, -1999.0, -1998.0, -1997.0, -1996.0)


def test_images_without_a_circle_have_no_such_pixels(noise):
    assert unseen(list(noise), SPACING) is None
    noise[:, :4] = 3071.0  # a bright strip is no circle
    assert unseen(list(noise), SPACING) is None


def test_the_material_of_a_drawn_phantom_is_no_padding(noise):
    """A ball in water that fills the image: the water goes on within the circle round the ball."""
    drawn = np.zeros_like(noise)
    drawn[1:4, (radius_mm() < 30.0) & (np.arange(COLUMNS) > 40)] = 40.0
    assert unseen(list(drawn), SPACING) is None
    assert unseen(list(np.zeros_like(noise)), SPACING) is None
