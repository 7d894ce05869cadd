"""Padding of CT slices: what a scanner writes where it imaged nothing becomes air, also where it is not declared."""

from collections.abc import Sequence
from typing import Any

from numpy.typing import NDArray

from brachy.geometry.field_of_view import unseen

AIR_HU = -1024.0
HIGHEST_HU = 3071.0
"""Highest CT number of a scale of 12 bits; scanners with an extended scale write more in metal."""

AIR_LIKE_HU = -900.0
"""Padding at or below this needs no correction: it is air for skin, bone and seeds (engineering choice)."""


def without_padding(
    slices: Sequence[NDArray[Any]], pixel_mm: tuple[float, float], notes: dict[str, None]
) -> None:
    """Set what lies outside the field of view to air, in place; a note says the value that was there.

    Parameters
    ----------
    slices : sequence of (rows, columns) arrays
        CT numbers in HU of all slices.
    pixel_mm : (float, float)
        Distance of rows and of columns in mm.
    notes : dict
        Sentences; one is added where something was set.

    Notes
    -----
    Padding is (1) a value above every CT number of 12 bits that all four corners of a slice have, wherever it stands on
    that slice, and (2) one value outside a circle round the middle of the image (`unseen`) that is brighter than air.
    """
    found = {value for values in slices if (value := _beyond_the_scale(values)) is not None}
    outside = unseen(slices, pixel_mm)
    if outside is not None:
        for values, value in zip(slices, outside.values, strict=True):
            if value > AIR_LIKE_HU:
                values[outside.pixels] = AIR_HU
                found.add(value)
    if found:
        listed = ", ".join(f"{value:g}" for value in sorted(found)[:3])
        notes[f"pixels outside the field of view (one value, {listed} HU) are air, {AIR_HU:g} HU"] = None


def _beyond_the_scale(values: NDArray[Any]) -> float | None:
    """Padding value of a slice above the scale of CT numbers, set to air; None if it has none."""
    value = float(values[0, 0])
    if value <= HIGHEST_HU or not (values[[0, 0, -1, -1], [0, -1, 0, -1]] == value).all():
        return None
    alike = values == value
    if alike.all():
        return None
    values[alike] = AIR_HU
    return value
