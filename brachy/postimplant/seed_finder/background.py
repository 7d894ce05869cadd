"""What is behind the seeds: local background, noise, saturation, and the peaks worth a fit."""

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
    """Bilinear from block centres to pixels."""
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
    """HU minus the in-plane median over about `width_mm`, from 2 mm block medians: seeds cover too little to matter."""
    nz, ny, nx = hu.shape
    by, bx = (max(1, min(round(2.0 / spacing[k]), size)) for k, size in ((1, ny), (0, nx)))
    size = tuple(2 * round(0.5 * width_mm / (b * s)) + 1 for b, s in ((by, spacing[1]), (bx, spacing[0])))
    out = np.empty(hu.shape, dtype=np.float32)
    for k in range(nz):
        # air and padding count as soft fat: the edge of the body is no peak
        image = np.maximum(hu[k].astype(np.float32), -150.0)
        h, w = ny // by, nx // bx
        blocks = image[: h * by, : w * bx].reshape(h, by, w, bx).transpose(0, 2, 1, 3).reshape(h, w, by * bx)
        coarse = np.median(blocks, axis=2)
        smooth = ndimage.median_filter(coarse, size=size, mode="nearest")
        out[k] = image - _upsampled(smooth, (by, bx), (ny, nx))
    return out


def saturation(hu: NDArray[Any]) -> tuple[float | None, NDArray[np.bool_]]:
    """The HU at which the scan is clipped (None if it is not) and the voxels that are.

    A scan is taken as clipped when its highest value, above 1500 HU, is shared by five voxels or more (engineering
    choice): two seeds hardly ever peak at the same HU.
    """
    top = float(hu.max())
    if top < 1500.0:
        return None, np.zeros((0, 0, 0), dtype=bool)
    clipped = hu >= top
    if int(clipped.sum()) < 5:
        return None, np.zeros((0, 0, 0), dtype=bool)
    return top, clipped


def noise_of(excess: NDArray[np.float32], hu: NDArray[Any]) -> float:
    """Noise in HU: robust spread of the excess where there is soft tissue (-150 to 250 HU)."""
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
    """Local maxima (n, 3) index z, y, x above a floor: the highest within a slice and about 1 mm in the plane."""
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
    """Local maxima (n, 3) index z, y, x of the smoothed excess above a floor, and their `elongations`."""
    smooth = np.empty_like(image.excess)
    for k in range(len(smooth)):
        sigma = (smooth_mm / image.spacing[1], smooth_mm / image.spacing[0])
        ndimage.gaussian_filter(image.excess[k], sigma, truncate=2.5, output=smooth[k])
    found = maxima(smooth, image.spacing, region, floor_hu)
    if not len(found):
        return found, np.zeros((0, lines))
    return found, elongations(image.excess, image.spacing, found, 8.0, lines)


def _flat(excess: NDArray[np.float32], spacing: Float, peak: NDArray[np.int64]) -> bool:
    """Whether a peak has nothing comparable above and below: a row of seeds in the plane, not a wall of bone."""
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
    """What straight lines of 8 mm say of peaks (n, 3: z, y, x).

    0: none carries it, as with a seed. 1: a few do, and within a slice, as with a row of seeds. 2: a few do, above and
    below as well: a wall of bone, or needles of seeds above each other. 3: many do: a solid.
    """
    high = (elongations(excess, spacing, peaks, 8.0, 12) > 0.35).sum(axis=1)
    out = np.where(high == 0, 0, np.where(high <= 4, 2, 3))
    for n in np.flatnonzero(out == 2):
        if _flat(excess, spacing, peaks[n]):
            out[n] = 1
    return out.astype(np.int64)


def seedlike(excess: NDArray[np.float32], spacing: Float, peaks: NDArray[np.int64]) -> NDArray[np.intp]:
    """Indices of the peaks (n, 3: z, y, x) that can be seeds: no 8 mm line carries them, or one does within a slice."""
    return np.flatnonzero(line_class(excess, spacing, peaks) <= 1)
