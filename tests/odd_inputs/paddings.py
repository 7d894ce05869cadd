"""Paddings and cuts: what images hold where nothing was imaged."""

import numpy as np

from tests.odd_inputs.case import (
    DAY_1,
    LIVER,
    each_slice,
    from_ct,
    outside_circle,
    pad,
    put_pixels,
    stored,
    unsigned,
)
from tests.odd_inputs.kind import kind

WIDE_MM = 150.0
"""Radius of a field of view that cuts the arms and flanks of the liver case."""
PADDING = r"(?i)padding|field of view"


def air_round(case):
    """Skin and bone from the CT, and air outside the circle in which the paddings stand: what they ought to be."""
    from_ct(case)
    pad(case, -1000)


def air_at_the_border(case):
    """Skin and bone from the CT, and a body that ends within the image."""
    from_ct(case)

    def cleared(values):
        values[:, :3] = values[:, -3:] = values[:3] = values[-3:] = -1000
        return values

    each_slice(case, cleared)


def declare(case, value):
    for data in case.ct:
        data.add_new("PixelPaddingValue", "SS" if data.PixelRepresentation else "US", value)


@kind("paddings", LIVER, "plan", PADDING, base=air_round)
def padding_of_63536(case, rng):
    """Outside the field of view is no bone and no skin, and it is said."""
    unsigned(case)
    pad(case, 63536)
    return "63536 outside a circle that the body touches, not declared"


@kind("paddings", LIVER, "plan", PADDING, same=True, base=air_round)
def padding_of_63536_that_is_declared(case, rng):
    """Outside the field of view is no bone and no skin; the same plan, or it is said."""
    unsigned(case)
    pad(case, 63536)
    declare(case, 63536)
    return "63536 outside a circle that the body touches, declared"


@kind("paddings", LIVER, "plan", PADDING, same=True, base=air_round)
def padding_of_minus_2000(case, rng):
    """It is air; the same plan, or it is said."""
    pad(case, -2000)
    return "-2000 HU outside a circle, not declared"


@kind("paddings", LIVER, "plan", PADDING, same=True, base=air_round)
def padding_of_minus_32768(case, rng):
    """It is air; the same plan, or it is said."""
    pad(case, -32768)
    return "-32768 HU outside a circle, not declared"


@kind("paddings", LIVER, "plan", PADDING, base=air_round)
def padding_as_bright_as_metal(case, rng):
    """A ring of 3071 HU is no bone and no skin, and it is said."""
    pad(case, 3071)
    return "3071 HU outside a circle, not declared"


@kind("paddings", LIVER, "plan", PADDING, same=True, base=air_round)
def padding_as_bright_as_metal_that_is_declared(case, rng):
    """A ring of 3071 HU is no bone and no skin; the same plan, or it is said."""
    pad(case, 3071)
    declare(case, 3071)
    return "3071 HU outside a circle, declared"


@kind("paddings", LIVER, "plan", PADDING, base=air_round)
def padding_that_looks_like_soft_tissue(case, rng):
    """A ring of one value is no skin, and it is said."""
    pad(case, 0)
    return "0 HU outside a circle, not declared"


@kind("paddings", LIVER, "plan", PADDING, same=True)
def padding_declared_as_a_value_of_tissue(case, rng):
    """The same plan: tissue of that value stays tissue."""
    declare(case, int(rng.integers(0, 60)))
    return "the declared padding value is one that tissue has"


@kind("paddings", LIVER, "plan", r"(?i)border|edge|cut|field of view", base=from_ct)
def a_field_of_view_that_cuts_the_body(case, rng):
    """The border is no skin, and it is said."""
    pad(case, -1024, WIDE_MM)
    return "the field of view is a circle of 300 mm that cuts the body, air outside"


@kind("paddings", LIVER, "plan", r"(?i)border|edge of the (image|CT)|cut", base=air_at_the_border)
def an_image_cropped_inside_the_body(case, rng):
    """The border is no skin, and it is said."""
    columns = slice(12, -12)
    for data in case.ct:
        put_pixels(data, stored(data)[:, columns])
        data.Columns -= 24
        position = [float(value) for value in data.ImagePositionPatient]
        data.ImagePositionPatient = [f"{position[0] + 36:.3f}", *map(str, position[1:])]
    return "12 columns are cut off on each side of the image"


@kind("paddings", LIVER, "plan", r"CT slices? (is|are) missing")
def slices_missing_within(case, rng):
    """Refused with the place."""
    at = int(rng.integers(20, 90))
    del case.ct[at : at + int(rng.integers(1, 4))]
    return "slices are missing in the middle"


@kind("paddings", LIVER, "plan", r"outside the CT|missing")
def slices_cut_below_the_target(case, rng):
    """Said that organs reach outside the CT, or refused because images are missing."""
    del case.ct[:60]
    return "the lower half of the slices is missing"


@kind("paddings", LIVER, "plan", r"outside the CT|missing")
def slices_cut_through_the_target(case, rng):
    """Refused, or said that the target reaches outside the CT."""
    del case.ct[100:]
    return "the slices above the middle of the target are missing"


@kind("paddings", LIVER, "plan", r"(?i)thickness|spacing", same=True)
def a_slice_thickness_that_is_not_the_spacing(case, rng):
    """The same plan: positions say where slices lie."""
    for data in case.ct:
        data.SliceThickness = ("1", "5", "")[rng.integers(3)]
    return "the slice thickness differs from the spacing"


@kind("paddings", DAY_1, "find", PADDING)
def padding_of_63536_round_an_implant(case, rng):
    """It holds no seeds; 54 seeds were implanted."""
    pad(case, 63536)
    return "63536 outside a circle, not declared"


@kind("paddings", DAY_1, "find", PADDING, same=True)
def padding_of_zero_round_an_implant(case, rng):
    """It is air (-2048 HU): the same seeds."""
    pad(case, 0)
    return "0 (-2048 HU) outside a circle, not declared"


@kind("paddings", DAY_1, "find", PADDING)
def a_bright_ring_round_an_implant(case, rng):
    """It holds no seeds, and it is said."""
    radius = 110.0

    def ring(data):
        values = stored(data)
        values[outside_circle(data, radius)] = 2048 + 3071
        return values

    for data in case.ct:
        put_pixels(data, ring(data))
    return "3071 HU outside a circle of 220 mm that cuts the body, not declared"


@kind("paddings", LIVER, "plan", r"(?i)constant|no patient|air|no voxel", base=from_ct)
def an_image_of_one_value(case, rng):
    """Refused: there is no patient on it."""
    each_slice(case, lambda values: np.full_like(values, -1000))
    return "every pixel is -1000 HU"
