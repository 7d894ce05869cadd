"""Estimates a scan's own parameters from its clearest single seeds: blur, mass of one seed, and its spread."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from brachy.core import capsule as kernel
from brachy.postimplant.seed_finder.fit import (
    Image,
    Scale,
    around,
    blur_bounds,
    bounds,
    cost,
    groups,
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
"""Least number of clear single seeds for a calibration (engineering choice)."""
MOST = 250
"""Greatest number of peaks used, the brightest first (engineering choice)."""


def starting_axes(image: Image, centre: Float) -> list[Float]:
    """Unit axes to start a fit from: long axis of the bright voxels near a point, along z, and in the slice plane."""
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
    """The capsule (seven numbers) that fits a peak best when it is alone; `centre` in scan mm."""
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
    """How well one capsule explains the image around it after the images of all others are subtracted.

    Returns the share of the sum of squared HU that it explains (expected noise subtracted), the peak in HU, and the
    largest absolute residual in HU.
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
    noise = left.size * (scale.noise_hu / 3) ** 2  # see `initial_scale`
    share = 1 - max(float((left**2).sum()) - noise, 0.0) / max(float((seen**2).sum()) - noise, 1.0)
    return share, float(seen.max()), float(np.abs(left).max())


def commonest_mass(masses: Float) -> float:
    """The mode of a sample of masses: mean under the Gaussian of 8 % width (engineering choice) that holds most of
    them.

    Examples
    --------
    >>> round(commonest_mass(np.array([12.0, 29.0, 30.0, 31.0, 45.0, 61.0, 62.0])), 1)
    30.0
    """
    ratio = masses[None] / masses[:, None] - 1
    weight = np.exp(-0.5 * (ratio / 0.08) ** 2)
    best = int(weight.sum(axis=1).argmax())
    return float((weight[best] * masses).sum() / weight[best].sum())


def least_peak(image: Image, scale: Scale) -> float:
    """Peak HU of a seed where it is least visible: lying in the plane midway between two slices and two voxels."""
    s = image.spacing
    out = np.zeros((4, 6, 6))
    lying = make([2.5 * s[0], 2.5 * s[1], 1.5 * s[2]], [1, 0, 0], scale.mass)
    kernel.add_images(lying[None], scale.blur, s, np.zeros(3, np.int64), out, 1.0)
    return float(out.max())


def initial_scale(image: Image, noise_hu: float, length_mm: float = 4.5, diameter_mm: float = 0.8) -> Scale:
    """Scale that calibration starts from: the blur of a common abdominal reconstruction kernel and 32,000 HU mm3 a
    seed.

    The error of a voxel is three times the noise (at least 40 HU) and 8 % of the signal (engineering choices).
    """
    blur = np.array([0.6, max(0.6, 0.3 * image.spacing[2]), 0.93 * length_mm])
    errors = Scale(blur, 32_000.0, 1.0, max(40.0, 3 * noise_hu), 0.08, 1.0, length_mm, diameter_mm)
    return errors.blurred(blur, image.spacing)


def first_blur(image: Image, scale: Scale, centres: Float) -> Scale:
    """The scale with the blur, out of a few tried, that lets the best third of the peaks fit single capsules best.

    `centres` (n, 3) are the peaks in scan mm.
    """
    (least, thin, _), (most, thick, _) = blur_bounds(image.spacing, scale.length_mm)
    planes = sorted({float(np.clip(v, least, most)) for v in (0.4, 0.55, 0.75, 1.0)})
    slices = sorted({float(np.clip(v, thin, thick)) for v in (0.2, 0.6, 1.2)})
    best, best_level = scale, -np.inf
    for sigma in planes:
        for slice_sigma in slices:
            trial = scale.blurred(np.array([sigma, slice_sigma, scale.blur[2]]), image.spacing)
            fits = [fit_alone(image, trial, centre, 10.0)[None] for centre in centres]
            quality = np.sort([explained(image, trial, one, 0)[0] for one in fits])[::-1]
            level = float(quality[: max(3, len(quality) // 3)].mean())
            if level > best_level:
                best, best_level = trial, level
    return best


def estimate_scale(
    image: Image, scale: Scale, capsules: Float, quality: Float, level: float
) -> tuple[Scale, int, float]:
    """Mass, its spread and blur from capsules that were fitted with free masses and whose `quality` exceeds `level`.

    Returns the scale, the number of capsules that share the commonest mass (within 20 %), and their share of all
    capsules of that quality. `quality` (n,) is the share that `explained` gives.
    """
    good = (quality > level) & (capsules[:, 6] > MASS_RANGE[0]) & (capsules[:, 6] < MASS_RANGE[1])
    if good.sum() < ENOUGH:
        return scale, 0, 0.0
    mode = commonest_mass(capsules[good, 6])
    off = np.abs(capsules[:, 6] / mode - 1)
    near = np.flatnonzero(good & (off < 0.2))
    if len(near) < ENOUGH:
        return scale, 0, 0.0
    mode = float(np.median(capsules[near, 6]))
    spread = 1.4826 * float(np.median(np.abs(capsules[near, 6] / mode - 1)))
    scale = replace(scale, mass=mode, mass_sd=float(np.clip(spread, 0.06, 0.12)))
    order = near[np.argsort(-quality[near], kind="stable")[:40]]
    scale, _ = refine_blur(image, scale, capsules, [np.array([k]) for k in order])
    return scale, len(near), len(near) / int(good.sum())


def calibrate(
    image: Image, scale: Scale, peaks: NDArray[np.int64], lines: Float, log: Callable[[str], None]
) -> tuple[Scale, int]:
    """Blur, mass and its spread from the clearest single seeds among the peaks (n, 3; z, y, x), and their number.

    Peaks through which an 8 mm line stays bright are left out. Each other peak is fitted alone with a free mass; those
    that fit well and share the commonest mass count as single seeds, and the blur is fitted on them. This is done three
    times with rising demands on the fit. The number is 0 if too few seeds or only bone was found.
    """
    thin = np.flatnonzero(lines.max(axis=1, initial=0.0) < 0.3)
    height = image.excess[tuple(peaks[thin].T)]
    chosen = thin[np.argsort(-height, kind="stable")][:MOST]
    if not len(chosen):
        return scale, 0
    centres = peaks[chosen][:, ::-1] * image.spacing
    scale = first_blur(image, scale, centres[:40])
    used, same, masses = 0, 1.0, []
    for strict in (0.7, 0.8, 0.87):
        capsules = np.array([fit_alone(image, scale, centre, 10.0) for centre in centres])
        quality = np.array([explained(image, scale, one[None], 0)[0] for one in capsules])
        level = max(0.6, min(strict, 0.95 * float(np.quantile(quality, 0.85))))
        new, number, share = estimate_scale(image, scale, capsules, quality, level)
        if not number:
            break
        scale, used, same = new, number, share
        masses.append(scale.mass)
        log(f"calibrated on {used} of {len(quality)}: mass {scale.mass:.0f}, blur {np.round(scale.blur, 2)}")
    if used and _is_bone(image, scale, same, masses):
        log("what was calibrated on are no seeds")
        return scale, 0
    return scale, used


def _is_bone(image: Image, scale: Scale, same: float, masses: list[float]) -> bool:
    """Whether two of three signs show that the calibration used bone and not seeds.

    The signs: fewer than half of the clear objects share a mass; the commonest mass changes by more than 40 % as the
    choice gets stricter; slice sigma and length have run into their upper bounds. Engineering choices: on scans with
    seeds 80 % and more share a mass and it moves by 5 %, on a plain abdominal CT 40 % do and it doubles.
    """
    _least, most = blur_bounds(image.spacing, scale.length_mm)
    scattered = same < 0.5
    jumping = max(masses) > 1.4 * min(masses)
    large = bool(scale.blur[1] > 0.98 * most[1] and scale.blur[2] > 0.98 * most[2])
    return scattered + jumping + large >= 2


def calibrate_again(
    image: Image, scale: Scale, capsules: Float, log: Callable[[str], None]
) -> tuple[Scale, int]:
    """Calibrate on seeds already found, each with the images of its neighbours subtracted and with a free mass."""
    free = capsules
    for chosen in groups(capsules, image.spacing[2], 8.0, scale.length_mm):
        free = refine(image, scale, free, chosen, 5, prior_sd=3.0)
    quality = np.array([explained(image, scale, free, k)[0] for k in range(len(free))])
    new, used, _same = estimate_scale(
        image, scale, free, quality, max(0.6, min(0.87, float(np.quantile(quality, 0.4))))
    )
    if used < ENOUGH:
        return scale, 0
    log(f"calibrated again on {used} of {len(capsules)}: mass {new.mass:.0f}, blur {np.round(new.blur, 2)}")
    return new, used
