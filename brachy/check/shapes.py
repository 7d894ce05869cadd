"""Compares DVHs of five solids in a linear dose with exact values, for DVH commissioning.

The solids have a radius of 12 mm and a height of 24 mm, the dose rises by 1 Gy/mm from 4 Gy to 28 Gy. Exact volumes
above a dose are integrals over the solids' cross-sections, independent of slices, contours and samples.
"""

import itertools
import math
from collections.abc import Callable, Iterator
from functools import partial

import numpy as np
from numpy.typing import NDArray
from scipy.integrate import quad
from scipy.optimize import brentq

from brachy.check.items import CheckItem
from brachy.dosimetry.dvh import dvh
from brachy.dosimetry.metrics import metric
from brachy.geometry.grid import Dose, Grid
from brachy.geometry.structures import Structure

Float = NDArray[np.float64]

RADIUS, HALF = 12.0, 12.0
MIDDLE = 16.0
RANGE = 24.0
SHAPES: dict[str, tuple[Callable[[float], float], int]] = {
    "sphere": (lambda z: math.sqrt(max(RADIUS**2 - z * z, 0.0)), 0),
    "cylinder, dose along it": (lambda z: RADIUS, 2),
    "cylinder, dose across it": (lambda z: RADIUS, 0),
    "cone, base at 4 Gy": (lambda z: RADIUS * (0.5 - z / 24.0), 2),
    "cone, apex at 4 Gy": (lambda z: RADIUS * (0.5 + z / 24.0), 2),
}
"""For each solid the radius in mm at a height, and the axis of the dose gradient (0: across, 2: along)."""

METRICS = ("D99_gy", "D95_gy", "D90_gy", "D50_gy", "D10_gy", "D5_gy", "D1_gy", "D0.1cc_gy")
SOURCE = "exact: cross-sections of the true shape, integrated"


def volume_above(radius: Callable[[float], float], axis: int, gy: float) -> float:
    """Volume in cc of a solid at or above a dose: an integral over its cross-sections.

    Examples
    --------
    >>> radius, axis = SHAPES["sphere"]
    >>> round(volume_above(radius, axis, 4.0), 5), round(volume_above(radius, axis, 16.0), 5)
    (7.23823, 3.61911)
    """

    def section(z: float) -> float:
        r = radius(z)
        if axis == 2:
            return math.pi * r * r
        u = min(max((gy - MIDDLE) / r, -1.0), 1.0) if r > 0 else 1.0
        return r * r * (math.acos(u) - u * math.sqrt(1.0 - u * u))

    low = min(max(gy - MIDDLE, -HALF), HALF) if axis == 2 else -HALF
    bend = sorted({low, HALF, *_tangent(radius, axis, gy)})
    parts = [quad(section, a, b, limit=200)[0] for a, b in itertools.pairwise(bend) if b > a]
    return float(sum(parts)) / 1000.0


def _tangent(radius: Callable[[float], float], axis: int, gy: float) -> tuple[float, ...]:
    """Heights where the isodose plane is tangent to a cross-section of the sphere: there the integrand has a kink."""
    away = abs(gy - MIDDLE)
    if axis == 2 or radius(HALF) > 0 or away >= RADIUS:
        return ()
    height = math.sqrt(RADIUS**2 - away**2)
    return -height, height


def exact(shape: str, name: str) -> float:
    """Exact value of a metric of a solid: `volume_cc`, `D90_gy`, `D0.1cc_gy` and similar."""
    radius, axis = SHAPES[shape]
    whole = volume_above(radius, axis, 4.0)
    if name == "volume_cc":
        return whole
    part = name[1:].removesuffix("_gy")
    cc = float(part[:-2]) if part.endswith("cc") else float(part) / 100.0 * whole
    return float(brentq(lambda gy: volume_above(radius, axis, gy) - cc, 4.0, 28.0, xtol=1e-7))


def stack(shape: str, slice_mm: float, corners: int = 720) -> Structure:
    """Contours of a solid on slices; the polygons have the areas of the circles, so only the slices approximate."""
    radius, _ = SHAPES[shape]
    angle = np.linspace(0.0, 2 * np.pi, corners, endpoint=False)
    fitted = math.sqrt(2 * np.pi / corners / math.sin(2 * np.pi / corners))
    unit = np.stack([fitted * np.cos(angle), fitted * np.sin(angle), np.zeros(corners)], axis=1)
    heights = (np.arange(-40, 41) + 0.5) * slice_mm
    heights = heights[np.abs(heights) < HALF]
    contours = tuple(unit * radius(z) + [0.0, 0.0, z] for z in heights.tolist())
    return Structure(shape, contours, slice_spacing_mm=slice_mm)


def ramp(axis: int, spacing_mm: float) -> Dose:
    """Dose of 16 Gy at the centre that changes by 1 Gy/mm along an axis."""
    count = int(40.0 / spacing_mm) + 2
    grid = Grid(np.full(3, -20.0), np.full(3, spacing_mm), (count,) * 3)
    return Dose(grid, MIDDLE + grid.centres_mm()[:, axis].reshape(grid.shape))


def shape_items() -> Iterator[CheckItem]:
    """Comparisons on slices of 1 mm with a tolerance of 0.5 %, and on thicker ones with the stated uncertainty."""
    for shape, (_, axis) in SHAPES.items():
        value = partial(exact, shape)
        found = dvh(ramp(axis, 2.0), stack(shape, 1.0))
        whole = value("volume_cc")
        yield _row(f"{shape}: volume, 1 mm slices", whole, found.volume_cc, 0.005 * whole, "cc")
        for name in METRICS:
            title = f"{shape}: {name.removesuffix('_gy')}, 1 mm slices, 2 mm dose grid"
            yield _row(title, value(name), metric(found, name), 0.005 * RANGE, "Gy")
        for slice_mm in (2.0, 3.0, 5.0):
            found = dvh(ramp(axis, 2.0), stack(shape, slice_mm))
            # the stated uncertainty and what the sampling itself is allowed
            tolerance = found.uncertainty("D90_gy").total + 0.003 * RANGE
            title = f"{shape}: D90, {slice_mm:g} mm slices, within the uncertainty printed"
            yield _row(title, value("D90_gy"), found.D(90), tolerance, "Gy")


def _row(name: str, expected: float, found: float, tolerance: float, unit: str) -> CheckItem:
    difference = abs(found - expected)
    return CheckItem(
        name, f"{expected:.6g} {unit}", f"{found:.6g} {unit}", float(f"{difference:.2g}"),
        float(f"{tolerance:.2g}"), unit, bool(difference <= tolerance), SOURCE,
    )  # fmt: skip
