"""Prepares a CT for the seed fit: subtracts the local background, measures noise and saturation, finds peaks."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from brachy.core.peaks import elongations, is_local_maximum
from brachy.postimplant.seed_finder.fit import Image

Float = NDArray[np.float64]


def _upsampled(
    coarse: NDArray[np.float32], block: tuple[int, int], shape: tuple[int, int]
) -> NDArray[np.float32]:
    """Bilinear interpolation of a coarse image, given at block centres, to the pixels of an image of that shape."""
    out = coarse
    for axis in (0, 1):
        at = np.clip(
            (np.arange(shape[axis]) - (block[axis] - 1) / 2) / block[axis], 0, coarse.shape[axis] - 1
        )
        low = np.minimum(at.astype(int), max(coarse.shape[axis] - 2, 0))
        high = np.minimum(low + 1, coarse.shape[axis] - 1)
        share = (at - low).astype(np.float32)
        share = share[:, None] if axis == 0 else share[None, :]
        out = np.take(out, low, axis) * (1 - share) + np.take(out, high, axis) * share
    return out


def subtract_background(hu: NDArray[Any], spacing: Float, width_mm: float = 14.0) -> NDArray[np.float32]:
    """HU minus the local background, [z, y, x]: the in-plane median over about `width_mm`.

    The median is taken of the medians of 2 mm blocks, which is faster; seeds cover too small a part of the width to
    shift it.
    """
    nz, ny, nx = hu.shape
    by, bx = (max(1, min(round(2.0 / spacing[k]), size)) for k, size in ((1, ny), (0, nx)))
    size = tuple(2 * round(0.5 * width_mm / (b * s)) + 1 for b, s in ((by, spacing[1]), (bx, spacing[0])))
    out = np.empty(hu.shape, dtype=np.float32)
    for k in range(nz):
        # air and padding are raised to -150 HU, or the edge of the body would be a peak
        image = np.maximum(hu[k].astype(np.float32), -150.0)
        h, w = ny // by, nx // bx
        blocks = image[: h * by, : w * bx].reshape(h, by, w, bx).transpose(0, 2, 1, 3).reshape(h, w, by * bx)
        coarse = np.median(blocks, axis=2)
        smooth = ndimage.median_filter(coarse, size=size, mode="nearest")
        out[k] = image - _upsampled(smooth, (by, bx), (ny, nx))
    return out


def saturation(hu: NDArray[Any]) -> tuple[float | None, NDArray[np.bool_]]:
    """The HU at which a scan is clipped, or None, and a mask [z, y, x] of the clipped voxels (empty if there are none).

    A scan counts as clipped if five voxels or more share its highest value and that is above 1500 HU (engineering
    choice): without clipping two seeds hardly ever peak at the same HU.
    """
    top = float(hu.max())
    if top < 1500.0:
        return None, np.zeros((0, 0, 0), dtype=bool)
    clipped = hu >= top
    if int(clipped.sum()) < 5:
        return None, np.zeros((0, 0, 0), dtype=bool)
    return top, clipped


def noise_of(excess: NDArray[np.float32], hu: NDArray[Any]) -> float:
    """Noise in HU: median absolute deviation of the excess in soft tissue (-150 to 250 HU), as a standard deviation."""
    step = max(1, excess.size // 2_000_000)
    values = excess.reshape(-1)[::step]
    tissue = hu.reshape(-1)[::step]
    chosen = values[(tissue > -150) & (tissue < 250)]
    if len(chosen) < 1000:
        return 20.0
    return float(np.clip(1.4826 * np.median(np.abs(chosen - np.median(chosen))), 5.0, 100.0))


def maxima(
    values: NDArray[np.float32], spacing: Float, allowed: NDArray[np.bool_] | None, floor_hu: float
) -> NDArray[np.int64]:
    """Local maxima above a floor in HU, (n, 3; z, y, x): the highest within one slice and about 1 mm in the plane."""
    bright = values > floor_hu
    if allowed is not None:
        bright &= allowed
    at = np.argwhere(bright).astype(np.int64)
    reach = np.array([1, max(1, round(1.0 / spacing[1])), max(1, round(1.0 / spacing[0]))])
    found = np.zeros(len(at), dtype=np.bool_)
    is_local_maximum(values, at, reach, found)
    return at[found]


def peaks(
    image: Image, region: NDArray[np.bool_] | None, floor_hu: float, smooth_mm: float, lines: int = 12
) -> tuple[NDArray[np.int64], Float]:
    """Local maxima (n, 3; z, y, x) of the excess smoothed by `smooth_mm`, and their `elongations` (n, lines)."""
    smooth = np.empty_like(image.excess)
    for k in range(len(smooth)):
        sigma = (smooth_mm / image.spacing[1], smooth_mm / image.spacing[0])
        ndimage.gaussian_filter(image.excess[k], sigma, truncate=2.5, output=smooth[k])
    found = maxima(smooth, image.spacing, region, floor_hu)
    if not len(found):
        return found, np.zeros((0, lines))
    return found, elongations(image.excess, image.spacing, found, 8.0, lines)


def _flat(excess: NDArray[np.float32], spacing: Float, peak: NDArray[np.int64]) -> bool:
    """Whether nothing near a peak is as bright in the slices above and below: true of a row of seeds, not of bone."""
    away = int(np.ceil((2.5 + spacing[2]) / spacing[2]))
    z, y, x = peak
    half = [int(np.ceil(2.0 / s)) for s in spacing[:2]]
    for k in (z - away, z + away):
        if 0 <= k < excess.shape[0]:
            disc = excess[k, max(0, y - half[1]) : y + half[1] + 1, max(0, x - half[0]) : x + half[0] + 1]
            if disc.max(initial=0.0) > 0.35 * excess[z, y, x]:
                return False
    return True


def line_class(excess: NDArray[np.float32], spacing: Float, peaks: NDArray[np.int64]) -> NDArray[np.int64]:
    """Class (n,) of each peak (n, 3; z, y, x) by the number of directions in which an 8 mm line through it stays
    bright.

    0: no direction, as at a single seed. 1: a few directions, within one slice only, as at a row of seeds. 2: a few
    directions, and the slices above and below are bright too: the edge of a bone, or rows of seeds above each other.
    3: many directions: a solid object. Bright is 35 % of the peak, a few is up to 4 of 12 (engineering choices).
    """
    high = (elongations(excess, spacing, peaks, 8.0, 12) > 0.35).sum(axis=1)
    out = np.where(high == 0, 0, np.where(high <= 4, 2, 3))
    for n in np.flatnonzero(out == 2):
        if _flat(excess, spacing, peaks[n]):
            out[n] = 1
    return out.astype(np.int64)


def candidate_peaks(
    excess: NDArray[np.float32], spacing: Float, peaks: NDArray[np.int64]
) -> NDArray[np.intp]:
    """Indices of the peaks (n, 3; z, y, x) that can be seeds: those of class 0 and 1 of `line_class`."""
    return np.flatnonzero(line_class(excess, spacing, peaks) <= 1)
