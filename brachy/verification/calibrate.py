"""What one seed looks like on this scan: blur, mass, spread, learnt from the clearest single seeds."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from brachy.core import capsule as kernel
from brachy.verification.fit import (
    Image,
    Scale,
    around,
    blur_bounds,
    bounds,
    cost,
    make,
    refine,
    refine_blur,
    residual,
)

Float = NDArray[np.float64]

MASS_RANGE = (8_000.0, 250_000.0)
"""HU mm3 that one seed can have. The titanium shell alone (about 0.8 mm3 at some 10,000 HU) gives the lower bound;
measured are 31,000 to 34,000 (two clinical scans). Engineering choice."""
ENOUGH = 3
"""Clear seeds without which a scan is not calibrated (engineering choice)."""
MOST = 250
"""Peaks looked at, the brightest first (engineering choice)."""


def starting_axes(image: Image, centre: Float) -> list[Float]:
    """Axes to start a fit from: the long axis of the bright voxels near a point, upright, and along the slice."""
    low, high = bounds(image, centre - [3, 3, 4.5], centre + [3, 3, 4.5])
    block = np.clip(image.excess[low[2] : high[2], low[1] : high[1], low[0] : high[0]], 0, None).astype(
        np.float64
    )
    if not block.size:
        return [np.array([0.0, 0.0, 1.0])]
    block = np.where(block > 0.25 * max(block.max(), 1.0), block, 0.0)
    z, y, x = (np.arange(low[k], high[k]) * image.spacing[k] for k in (2, 1, 0))
    at = np.stack(np.broadcast_arrays(x[None, None, :], y[None, :, None], z[:, None, None]), axis=-1)
    total = max(float(block.sum()), 1.0)
    offset = at - (block[..., None] * at).sum(axis=(0, 1, 2)) / total
    spread = np.einsum("zyx,zyxi,zyxj->ij", block, offset, offset) / total
    spread[2, 2] -= image.spacing[2] ** 2 / 12
    long = np.linalg.eigh(spread)[1][:, 2]
    plane = np.linalg.eigh(spread[:2, :2])[1][:, 1]
    return [long, np.array([0.0, 0.0, 1.0]), np.append(plane, 0.0)]


def fit_alone(image: Image, scale: Scale, centre: Float, prior_sd: float) -> Float:
    """The best single capsule at a peak, seven numbers."""
    best, best_cost = make(centre, [0, 0, 1], scale.mass), np.inf
    for axis in starting_axes(image, centre):
        start = make(centre, axis, scale.mass)[None]
        low, high = around(image, scale, start)
        new = refine(image, scale, start, [0], 6, prior_sd)
        value = cost(image, scale, new, low, high, np.zeros(0, np.intp))
        if value < best_cost:
            best, best_cost = new[0], value
    return best


def explained(image: Image, scale: Scale, capsules: Float, index: int) -> tuple[float, float, float]:
    """How well one capsule explains what is seen round it when the others are taken away.

    Returns the share of the image's energy that it explains, the peak HU seen, and the largest HU it leaves.
    """
    c = capsules[index]
    reach = np.abs(c[3:6]) * 0.5 * scale.blur[2] + [2.0, 2.0, 0.5 * image.spacing[2] + 1.5]
    low, high = bounds(image, c[:3] - reach, c[:3] + reach)
    if (high <= low).any():
        return 0.0, 0.0, 0.0
    left = residual(image, scale, capsules, low, high)
    own = np.zeros(left.shape)
    kernel.add_images(c[None], scale.blur, image.spacing, low, own, 1.0)
    if image.saturated.size:
        cut = image.saturated[low[2] : high[2], low[1] : high[1], low[0] : high[0]]
        left = np.where(cut & (left < 0), 0.0, left)
    seen = left + own
    share = 1 - float((left**2).sum() / max(float((seen**2).sum()), 1.0))
    return share, float(seen.max()), float(np.abs(left).max())


def half_sample_mode(values: Float) -> float:
    """Mode of a sample: the half that lies closest together, again and again.

    Examples
    --------
    >>> half_sample_mode(np.array([1.0, 90.0, 100.0, 101.0, 102.0, 300.0, 700.0]))
    100.5
    """
    left = np.sort(values)
    while len(left) > 3:
        half = (len(left) + 1) // 2
        start = int((left[half - 1 :] - left[: len(left) - half + 1]).argmin())
        left = left[start : start + half]
    return float(np.median(left))


def least_peak(image: Image, scale: Scale) -> float:
    """Peak HU of a seed where it shows least: lying in the plane midway between two slices and two voxels."""
    s = image.spacing
    out = np.zeros((4, 6, 6))
    lying = make([2.5 * s[0], 2.5 * s[1], 1.5 * s[2]], [1, 0, 0], scale.mass)
    kernel.add_images(lying[None], scale.blur, s, np.zeros(3, np.int64), out, 1.0)
    return float(out.max())


def start(image: Image, noise_hu: float) -> Scale:
    """Where calibration starts: a usual abdominal kernel, an error of three times the noise, 8 % of the signal."""
    blur = np.array([0.6, max(0.6, 0.3 * image.spacing[2]), 4.2])
    errors = Scale(blur, 32_000.0, 1.0, max(40.0, 3 * noise_hu), 0.08, 1.0)
    return errors.blurred(blur, image.spacing)


def calibrate(
    image: Image, scale: Scale, peaks: NDArray[np.int64], lines: Float, log: Callable[[str], None]
) -> tuple[Scale, int]:
    """Blur, mass and its spread from the clearest single seeds among the peaks (n, 3: z, y, x); and their number.

    Peaks that a line of 8 mm carries are left out. Each is fitted alone with a free mass; what fits well and shares the
    commonest mass is a single seed, and on those the blur is fitted; three times, more strictly each time.
    """
    thin = np.flatnonzero(lines.max(axis=1, initial=0.0) < 0.3)
    height = image.excess[tuple(peaks[thin].T)]
    chosen = thin[np.argsort(-height, kind="stable")][:MOST]
    if not len(chosen):
        return scale, 0
    centres = peaks[chosen][:, ::-1] * image.spacing
    least = blur_bounds(image.spacing)[0, 0]
    best = -np.inf
    start_scale = scale
    for sigma in [v for v in (0.4, 0.55, 0.75, 1.0) if v > least] or [least]:
        trial = start_scale.blurred(np.array([sigma, *start_scale.blur[1:]]), image.spacing)
        fits = [fit_alone(image, trial, centre, 10.0)[None] for centre in centres[:80]]
        quality = np.sort([explained(image, trial, one, 0)[0] for one in fits])[::-1]
        level = float(quality[: max(3, len(quality) // 3)].mean())
        if level > best:
            best, scale = level, trial
    used = 0
    for strict in (0.8, 0.85, 0.9):
        capsules = np.array([fit_alone(image, scale, centre, 10.0) for centre in centres])
        quality = np.array([explained(image, scale, one[None], 0)[0] for one in capsules])
        good = (quality > strict) & (capsules[:, 6] > MASS_RANGE[0]) & (capsules[:, 6] < MASS_RANGE[1])
        if good.sum() < ENOUGH:
            break
        mode = half_sample_mode(capsules[good, 6])
        near = good & (np.abs(capsules[:, 6] / mode - 1) < 0.3)
        mode = float(np.median(capsules[near & (np.abs(capsules[:, 6] / mode - 1) < 0.15), 6]))
        if near.sum() < ENOUGH:
            break
        used = int(near.sum())
        centres, singles = capsules[near, :3], capsules[near]
        order = np.argsort(-quality[near], kind="stable")[:40]
        spread = 1.4826 * float(np.median(np.abs(singles[:, 6] / mode - 1)))
        scale = replace(scale, mass=mode, mass_sd=float(np.clip(spread, 0.06, 0.12)))
        scale, _ = refine_blur(image, scale, singles[order], [np.array([k]) for k in range(len(order))])
        log(f"calibrated on {used} of {len(quality)} peaks: mass {mode:.0f}, blur {np.round(scale.blur, 2)}")
    return scale, used
