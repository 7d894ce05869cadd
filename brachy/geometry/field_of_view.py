"""The field of view of an image: the pixels outside a circle that all have one value were not imaged."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

LEAST_OUTSIDE = 0.01
"""Part of the pixels that must lie outside the circle (engineering choice: outside the circle that touches all borders
of a square are 21 %)."""

RIM = 0.1
"""Width of the ring inside the circle that is compared with what lies outside, as part of the radius."""

MOST_ALIKE = 0.05
"""Part of that ring that may have the value of the outside (engineering choice): in a drawn phantom the ring is of the
same uniform material, on a scan it is tissue or air with noise."""

LEAST_VALUES = 16
"""Different values in that ring of all slices, at least (engineering choice): a drawn phantom has few."""

COMPARED = 16
"""About as many slices are compared in the ring (engineering choice, for speed)."""


@dataclass(frozen=True, eq=False)
class Unseen:
    """Pixels (rows, columns) outside a circular field of view, and their value on each slice."""

    pixels: NDArray[np.bool_]
    values: tuple[float, ...]


def unseen(
    slices: Sequence[NDArray[Any]], spacing_mm: tuple[float, float], most_alike: float = MOST_ALIKE
) -> Unseen | None:
    """Pixels outside the field of view of a stack of slices, None if the images are imaged to their borders.

    Parameters
    ----------
    slices : sequence of (rows, columns) arrays
        Values of each slice, e.g. CT numbers in HU.
    spacing_mm : (float, float)
        Distance of rows and of columns in mm.
    most_alike : float
        Part of the ring within the circle that may have the value of the outside.

    Returns
    -------
    Unseen or None
        The pixels outside the smallest circle round the middle of the image beyond which each slice has one value, that
        of its corner. None if these are fewer than `LEAST_OUTSIDE`, or if more than `most_alike` of the ring within the
        circle has that value, too, or that ring has fewer than `LEAST_VALUES` values: then it is what was imaged.

    Examples
    --------
    >>> noise = np.random.default_rng(1).normal(0.0, 20.0, (3, 40, 40))
    >>> y, x = np.indices((40, 40)) - 19.5
    >>> noise[:, np.hypot(x, y) > 18.0] = 3071.0
    >>> found = unseen(list(noise), (1.0, 1.0))
    >>> int(found.pixels.sum()), found.values
    (580, (3071.0, 3071.0, 3071.0))
    >>> unseen([np.zeros((40, 40))] * 3, (1.0, 1.0)) is None
    True
    """
    rows, columns = slices[0].shape
    y = (np.arange(rows) - (rows - 1) / 2) * spacing_mm[0]
    x = (np.arange(columns) - (columns - 1) / 2) * spacing_mm[1]
    radius = np.hypot(x[None], y[:, None])
    order = np.argsort(-radius, axis=None, kind="stable")
    farthest = 0.0
    for values in slices:
        # only pixels beyond the circle found so far can enlarge it
        differs = values.ravel()[order] != values[0, 0]
        first = int(differs.argmax())
        if not differs[first]:
            continue  # these pixels have one value
        farthest = max(farthest, float(radius.ravel()[order[first]]))
        order = order[: np.count_nonzero(radius > farthest)]
        if len(order) < LEAST_OUTSIDE * radius.size:
            return None
    if farthest == 0.0:
        return None
    rim = (radius <= farthest) & (radius > (1 - RIM) * farthest)
    some = slices[:: max(1, len(slices) // COMPARED)]
    ring = [values[rim] for values in some]
    alike = np.mean([np.mean(values == whole[0, 0]) for values, whole in zip(ring, some, strict=True)])
    if alike > most_alike or len(np.unique(np.concatenate(ring))) < LEAST_VALUES:
        return None
    return Unseen(radius > farthest, tuple(float(values[0, 0]) for values in slices))
