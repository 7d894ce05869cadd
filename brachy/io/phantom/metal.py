"""Draws metal seeds into a synthetic CT: partial volume, blur, streaks, and the ceiling of the CT numbers.

A seed is a solid capsule made of many point masses, blurred in the plane by a sharpened kernel (a Gaussian minus a
wider one) and along z by the slice thickness and a Gaussian. Streaks arise as on a scanner: beam hardening adds a term
proportional to the square of the metal's projection, and filtered back-projection spreads it over the slice. The model
is independent of the one that the seed finder fits (`brachy.core.capsule`).
"""

from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field
from scipy import ndimage
from scipy.special import erf

from brachy.geometry.grid import Grid

Float = NDArray[np.float64]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]

Blur = Annotated[float, Field(ge=0.05, le=5, allow_inf_nan=False)]
"""Range of a blur in mm, that of clinical scanners (engineering choice)."""

VIEWS = 180
"""Projections over half a turn (engineering choice: their aliasing stays below the noise near the seeds)."""


class Metal(BaseModel):
    """Appearance of metal seeds on a scan."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    seed_hu_mm3: Positive = Field(
        le=1e6, description="excess CT number of one seed, summed over its image, HU mm^3"
    )
    blur_in_plane_mm: Blur = Field(description="Gaussian sigma in plane, mm")
    blur_along_mm: Blur = Field(description="Gaussian sigma along z besides the slice thickness, mm")
    sharpening: NotNegative = Field(
        0.0, le=1, description="share of a Gaussian twice as wide that is taken off"
    )
    hardening_per_mm: NotNegative = Field(
        0.0, le=1, description="beam hardening: loss of p^2 per mm of water, 1/mm"
    )
    ceiling_hu: Positive = Field(3071.0, le=1e6, description="highest CT number that is stored, HU")


def capsule_points(centre_mm: Float, axis: Float, length_mm: float, diameter_mm: float) -> Float:
    """Positions (84, 3) in mm of equal point masses that represent a capsule: 12 discs of 7 points."""
    axis = axis / np.linalg.norm(axis)
    helper = np.eye(3)[int(np.argmin(np.abs(axis)))]
    u = np.cross(axis, helper)
    u /= np.linalg.norm(u)
    v = np.cross(axis, u)
    angle = np.arange(6) * np.pi / 3
    # six points at this radius and one at the centre have the second moment of a disc: 6/7 r^2 = R^2 / 2
    ring = diameter_mm / 2 * np.sqrt(7 / 12)
    disc = np.vstack([np.zeros(3), ring * (np.cos(angle)[:, None] * u + np.sin(angle)[:, None] * v)])
    along = ((np.arange(12) + 0.5) / 12 - 0.5) * length_mm
    points: Float = (centre_mm + along[:, None, None] * axis + disc[None]).reshape(-1, 3)
    return points


def add_seeds(
    ct_hu: Float,
    grid: Grid,
    centres_mm: Float,
    axes: Float,
    length_mm: float,
    diameter_mm: float,
    metal: Metal,
) -> Float:
    """Return a CT with seeds drawn into it.

    Parameters
    ----------
    ct_hu : (nz, ny, nx) array
        CT numbers without metal, HU.
    grid : Grid
        Its geometry, along the patient's axes.
    centres_mm, axes : (n, 3) arrays
        Centres of the seeds, mm, and unit vectors along them.
    length_mm, diameter_mm : float
        Outer size of the capsules.
    metal : Metal
        Appearance on the scan.

    Returns
    -------
    (nz, ny, nx) array
        CT numbers in HU, none above the ceiling.
    """
    volume = ct_hu.copy()
    x, y, z = (grid.origin_mm[k] + grid.spacing_mm[k] * np.arange(grid.shape[2 - k]) for k in range(3))
    thickness, sigma = grid.spacing_mm[2], metal.blur_along_mm
    masses: list[list[tuple[Float, Float]]] = [[] for _ in z]
    for centre, axis in zip(centres_mm, axes, strict=True):
        points = capsule_points(centre, axis, length_mm, diameter_mm)
        mass = metal.seed_hu_mm3 / len(points)
        reach = length_mm / 2 + 6 * max(2 * metal.blur_in_plane_mm, sigma) + thickness
        i, j, k = (np.flatnonzero(np.abs(a - c) < reach) for a, c in zip((x, y, z), centre, strict=True))
        edges = [
            (z[k][:, None] + half * thickness - points[:, 2]) / (np.sqrt(2) * sigma) for half in (0.5, -0.5)
        ]
        share_z = 0.5 * (erf(edges[0]) - erf(edges[1])) / thickness  # (slices, points), per mm
        blob = np.zeros((len(k), len(j), len(i)))
        for weight, width in ((1 + metal.sharpening, 1.0), (-metal.sharpening, 2.0)):
            s = width * metal.blur_in_plane_mm
            gx = np.exp(-0.5 * ((x[i][:, None] - points[:, 0]) / s) ** 2) / (np.sqrt(2 * np.pi) * s)
            gy = np.exp(-0.5 * ((y[j][:, None] - points[:, 1]) / s) ** 2) / (np.sqrt(2 * np.pi) * s)
            blob += weight * mass * np.einsum("kp,jp,ip->kji", share_z, gy, gx, optimize=True)
        volume[np.ix_(k, j, i)] += blob
        for slice_, share in zip(k.tolist(), share_z, strict=True):
            if share.sum() * mass > 1e-6 * metal.seed_hu_mm3:
                masses[slice_].append((points[:, :2], share * mass))
    seen = [slice_ for slice_, found in enumerate(masses) if found]
    if metal.hardening_per_mm > 0 and seen:
        there = [np.concatenate([p for p, _ in masses[slice_]]) for slice_ in seen]
        amount = [np.concatenate([w for _, w in masses[slice_]]) for slice_ in seen]
        volume[seen] += _streaks(there, amount, x, y, metal)
    return np.minimum(volume, metal.ceiling_hu)


def _streaks(points_mm: list[Float], hu_mm2: list[Float], x_mm: Float, y_mm: Float, metal: Metal) -> Float:
    """Streaks (slices, ny, nx) in HU of slices that contain point masses at (n, 2) mm with `hu_mm2` (n,) each."""
    middle = np.array([x_mm.mean(), y_mm.mean()])
    step = float(x_mm[1] - x_mm[0])
    half = 0.5 * float(np.hypot(np.ptp(x_mm), np.ptp(y_mm))) + 10 * metal.blur_in_plane_mm
    count = 2 * int(np.ceil(half / step)) + 3
    padded = 1 << int(np.ceil(np.log2(2 * count)))
    # band-limited ramp in space: 1/4 at 0, -1/(pi n)^2 at odd n (Kak and Slaney 1988, chapter 3, eq. 61)
    n = np.minimum(np.arange(padded), padded - np.arange(padded))
    ramp = np.where(n % 2 == 1, -1.0 / np.maximum(np.pi * n, 1) ** 2, 0.0)
    ramp[0] = 0.25
    ramp_spectrum = np.fft.rfft(ramp)
    blur_spectrum = np.exp(-2.0 * (np.pi * np.fft.rfftfreq(padded, step) * metal.blur_in_plane_mm) ** 2)
    # every other voxel is enough for an image of lines wider than one voxel
    xx, yy = np.meshgrid(x_mm[::2] - middle[0], y_mm[::2] - middle[1])
    image = np.zeros((len(points_mm), *xx.shape))
    for view in range(VIEWS):
        c, s = np.cos(np.pi * view / VIEWS), np.sin(np.pi * view / VIEWS)
        metal_mm = np.array(
            [
                _deposited(((p - middle) @ np.array([c, s])) / step + count // 2, w, padded)
                for p, w in zip(points_mm, hu_mm2, strict=True)
            ]
        )
        metal_mm = np.fft.irfft(np.fft.rfft(metal_mm) * blur_spectrum, padded) / step / 1000.0  # of water
        lost = -metal.hardening_per_mm * metal_mm**2
        filtered = np.fft.irfft(np.fft.rfft(lost) * ramp_spectrum, padded) / step
        place = (xx * c + yy * s) / step + count // 2
        whole = place.astype(np.int64)
        share = place - whole
        image += filtered[:, whole] * (1 - share) + filtered[:, whole + 1] * share
    image *= 1000.0 * np.pi / VIEWS
    fine_y, fine_x = np.meshgrid(np.arange(len(y_mm)) / 2, np.arange(len(x_mm)) / 2, indexing="ij")
    return np.array(
        [ndimage.map_coordinates(one, [fine_y, fine_x], order=1, mode="nearest") for one in image]
    )


def _deposited(place: Float, weight: Float, count: int) -> Float:
    """Weights (count,) on a lattice: each is divided linearly between the two nodes beside its place."""
    whole = np.floor(place).astype(np.int64)
    there = (whole >= 0) & (whole < count - 1)  # metal outside the image has no streak in it
    whole, place, weight = whole[there], place[there], weight[there]
    share = place - whole
    total = np.bincount(whole, weight * (1 - share), count) + np.bincount(whole + 1, weight * share, count)
    return np.asarray(total)
