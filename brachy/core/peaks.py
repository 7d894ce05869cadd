"""Kernels that classify bright voxels of a CT: local maxima, and how far straight lines through them stay bright."""

import math
from typing import Any

import numpy as np

from brachy.core.compiling import njit


@njit(cache=True, error_model="numpy")
def is_local_maximum(image: Any, points: Any, reach: Any, found: Any) -> Any:
    """Set `found` (n,) to whether each voxel of `points` (n, 3; z, y, x) is the highest within `reach` (3,) voxels.

    Of equal voxels the first in the order z, y, x counts, so that a clipped plateau gives one maximum and not many.
    """
    nz, ny, nx = image.shape
    for p in range(len(points)):
        z0, y0, x0 = points[p, 0], points[p, 1], points[p, 2]
        top, highest = image[z0, y0, x0], True
        for z in range(max(0, z0 - reach[0]), min(nz, z0 + reach[0] + 1)):
            for y in range(max(0, y0 - reach[1]), min(ny, y0 + reach[1] + 1)):
                for x in range(max(0, x0 - reach[2]), min(nx, x0 + reach[2] + 1)):
                    value = image[z, y, x]
                    if value > top or (value == top and (z, y, x) < (z0, y0, x0)):
                        highest = False
                        break
                if not highest:
                    break
            if not highest:
                break
        found[p] = highest


@njit(cache=True, error_model="numpy")
def elongations(excess: Any, spacing: Any, peaks: Any, length_mm: Any, directions: Any) -> Any:
    """Brightness of straight in-plane lines through each peak, (n, directions), as a share of the peak's HU.

    For each direction: of all segments of `length_mm` that contain the peak, the largest value of the least HU along
    the segment. It distinguishes objects longer than a seed from seeds: a single capsule scores low in every direction,
    a row of capsules or the edge of a bone high in one or two, a solid object in all. `peaks` (n, 3) are indices z, y,
    x; the peak's HU is the highest within one voxel of it.
    """
    ny, nx = excess.shape[1:]
    step = min(spacing[0], spacing[1])
    samples = math.ceil(length_mm / step) + 1
    line = np.empty(2 * samples - 1)
    found = np.zeros((len(peaks), directions))
    for p in range(len(peaks)):
        z, y0, x0 = peaks[p, 0], peaks[p, 1], peaks[p, 2]
        top = 1.0
        for y in range(max(0, y0 - 1), min(ny, y0 + 2)):
            for x in range(max(0, x0 - 1), min(nx, x0 + 2)):
                top = max(top, float(excess[z, y, x]))
        for d in range(directions):
            angle = math.pi * d / directions
            ux, uy = math.cos(angle) * step / spacing[0], math.sin(angle) * step / spacing[1]
            for i in range(2 * samples - 1):
                t = i - samples + 1
                x, y = round(x0 + t * ux), round(y0 + t * uy)
                line[i] = float(excess[z, y, x]) if 0 <= x < nx and 0 <= y < ny else 0.0
            best = -1e30
            for first in range(
                samples
            ):  # each window of `samples` values holds the peak, which is in the middle
                least = line[first]
                for i in range(first + 1, first + samples):
                    least = min(least, line[i])
                best = max(best, least)
            found[p, d] = best / top
    return found
