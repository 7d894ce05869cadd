"""Decides which bright objects are seeds: number of seeds in a blob, tests of each capsule, confidence, rejection."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from brachy.core import capsule as kernel
from brachy.core.peaks import elongations
from brachy.postimplant.seed_finder import blobs, moves
from brachy.postimplant.seed_finder.calibrate import explained, least_peak
from brachy.postimplant.seed_finder.fit import Image, Scale, bounds, cost, groups, refine, residual

Float = NDArray[np.float64]

SHARE = (0.82, 0.03)
"""Share of the image explained at which a capsule is as likely a seed as not, and the step of a factor e in the odds.
Engineering choice: on synthetic scans and the clinical day-1 scan seeds explain 0.86 and more, clips and stents 0.65 to
0.95."""
MASS_ALONE, MASS_TOUCHING = (0.80, 0.05), (0.87, 0.035)
"""The same two numbers for the mass in units of one seed, fitted with hardly any prior: of a capsule that touches no
other, and the mean of capsules that touch. Engineering choice: seeds have 0.75 and more alone (clinical day-1 scan) and
0.89 and more together (synthetic scans), a surgical clip taken for two seeds 0.6 to 0.82."""
TOUCHING_MM = 3.0
"""Capsules whose axes come nearer than this over their inner 80 % touch: a fit cannot divide mass between them
(engineering choice)."""
MOST_UNEXPLAINED = 0.2
"""Share of bright unexplained surroundings above which an object is bone and no seed (engineering choice)."""
ACCEPTED = 0.5
"""Confidence below which an object is reported as a doubt and not as a seed (engineering choice)."""


def count_blob(image: Image, scale: Scale, others: Float, blob: blobs.Blob) -> Float:
    """The capsules (n, 7) that explain a blob best, with the number of seeds that has the least cost.

    Numbers near the blob's mass in seeds are tried, each from several ways of cutting it; every seed costs
    `moves.PRICE`, so that one is added only if it lowers the misfit by more. A clipped scan loses mass, so there more
    seeds are tried. `others` are capsules found before.
    """
    seeds = float(blob.mass.sum()) / scale.mass
    margin = 1.5 if image.saturated.size else 1.0
    counts = range(max(1, int(seeds - 0.6)), int(seeds * margin + 0.6) + 1)
    best, best_cost = np.zeros((0, 7)), np.inf
    low, high = bounds(image, blob.points.min(axis=0) - [1, 1, 3], blob.points.max(axis=0) + [1, 1, 3])
    for count in counts:
        for first in range(3 if count <= 4 else 1):
            start = np.array(blobs.cut(blob.points, blob.mass, image.spacing, count, scale.mass, first))
            new = refine(image, scale, np.concatenate([start, others]), np.arange(count), 10, coarse=True)
            value = cost(image, scale, new, low, high, np.arange(count)) + moves.PRICE * count
            value += 100.0 * len(moves.overlapping(scale, new, np.arange(count)))
            if value < best_cost:
                best, best_cost = new[:count], value
    return best


def blob_share(image: Image, scale: Scale, others: Float, own: Float, blob: blobs.Blob) -> float:
    """Share of the sum of squared HU of a blob that its capsules explain."""
    low, high = bounds(image, blob.points.min(axis=0), blob.points.max(axis=0))
    seen = residual(image, scale, others, low, high)
    left = residual(image, scale, np.concatenate([own, others]), low, high)
    if image.saturated.size:
        cut = image.saturated[low[2] : high[2], low[1] : high[1], low[0] : high[0]]
        left = np.where(cut & (left < 0), 0.0, left)
    return 1 - float((left**2).sum() / max(float((seen**2).sum()), 1.0))


def remaining_elongation(image: Image, scale: Scale, capsules: Float, index: int) -> float:
    """Greatest of `elongations` at a capsule's peak when all others are subtracted: high at bone, low at a seed."""
    c = capsules[index]
    low, high = bounds(image, c[:3] - [9, 9, image.spacing[2]], c[:3] + [9, 9, image.spacing[2]])
    if (high <= low).any():
        return 1.0
    seen = residual(image, scale, np.delete(capsules, index, axis=0), low, high).astype(np.float32)
    at = np.clip(np.round(c[:3] / image.spacing).astype(np.int64) - low, 0, high - low - 1)
    y, x = max(0, at[1] - 1), max(0, at[0] - 1)
    near = seen[:, y : at[1] + 2, x : at[0] + 2]
    top = np.unravel_index(int(near.argmax()), near.shape)
    peak = np.array([[top[0], y + top[1], x + top[2]]], dtype=np.int64)
    return float(elongations(seen, image.spacing, peak, 8.0, 12).max())


def passes_tests(
    image: Image, scale: Scale, capsules: Float, floor: float, some: list[int] | None = None
) -> tuple[NDArray[np.bool_], Float]:
    """Which capsules pass the tests of a seed, and the measured values (n, 4): `explained` and `remaining_elongation`.

    A seed explains over 60 % of the image, has a peak over 80 % of `floor` (the least of a seed) and over 55 % of its
    mass, and no line longer than a seed stays above 40 % of its peak (engineering choices). `some` selects capsules.
    """
    some = list(range(len(capsules))) if some is None else some
    tests = np.array(
        [
            (*explained(image, scale, capsules, k), remaining_elongation(image, scale, capsules, k))
            for k in some
        ]
    ).reshape(-1, 4)
    good = (
        (tests[:, 0] > 0.6)
        & (tests[:, 1] > 0.8 * floor)
        & (capsules[some, 6] > 0.55 * scale.mass)
        & (tests[:, 3] < 0.4)
    )
    return good, tests


def unexplained_share(
    image: Image, scale: Scale, capsules: Float, floor: float, some: list[int] | None = None
) -> Float:
    """Share of the disc of 6 mm radius around each capsule, in its slice, that is bright and not explained by capsules.

    Bright is above 12 % of a seed's least peak and above 150 HU. Around bone all of the disc is bright, around a seed
    beside a rib a part: on the clinical day-1 scan seeds have 0.07 at most, bone on an abdominal CT 0.3 (median).
    """
    some = list(range(len(capsules))) if some is None else some
    out = np.zeros(len(some))
    for n, k in enumerate(some):
        centre = capsules[k, :3]
        z = int(np.clip(round(centre[2] / image.spacing[2]), 0, image.excess.shape[0] - 1))
        low, high = bounds(image, centre - [6.0, 6.0, 0.0], centre + [6.0, 6.0, 0.0])
        low[2], high[2] = z, z + 1
        left = residual(image, scale, capsules, low, high)[0]
        y = (np.arange(low[1], high[1]) * image.spacing[1] - centre[1])[:, None]
        x = (np.arange(low[0], high[0]) * image.spacing[0] - centre[0])[None]
        disc = x**2 + y**2 < 6.0**2
        out[n] = float((left[disc] > max(0.12 * floor, 150.0)).mean()) if disc.any() else 0.0
    return out


def still_unexplained(image: Image, scale: Scale, capsules: Float, removed: Float) -> bool:
    """Whether the object that a removed capsule explained is still visible: no other capsule explains it."""
    reach = np.abs(removed[3:6]) * 0.3 * scale.blur[2] + [0.6, 0.6, 0.3 * image.spacing[2]]
    low, high = bounds(image, removed[:3] - reach, removed[:3] + reach)
    if (high <= low).any():
        return False
    before = image.excess[low[2] : high[2], low[1] : high[1], low[0] : high[0]]
    left = residual(image, scale, capsules, low, high)
    return bool((np.clip(left, 0, None) ** 2).sum() > 0.4 * float((before**2).sum()))


def abutting(scale: Scale, capsules: Float, removed: Float) -> NDArray[np.intp]:
    """Indices of the capsules that touch a removed one: axes within 2.5 diameters over their inner 80 %."""
    distance = [kernel.closest_axes(c, removed, scale.length_mm) for c in capsules]
    return np.flatnonzero(np.array(distance) < 2.5 * scale.diameter_mm)


def free_masses(image: Image, scale: Scale, capsules: Float) -> Float:
    """Masses (n,) in units of one seed, fitted with hardly any prior (SD of 3 seeds)."""
    free = capsules
    for chosen in groups(capsules, image.spacing[2], 8.0, scale.length_mm):
        free = refine(image, scale, free, chosen, 8, prior_sd=3.0)
    return np.asarray(free[:, 6] / scale.mass, dtype=np.float64)


def confidence(image: Image, scale: Scale, capsules: Float, tests: Float) -> tuple[Float, Float]:
    """Confidence (n,) in [0, 1] that each capsule is a seed, and the mean free mass (n,) of it and those that touch it.

    The confidence is a logistic function of the share of the image explained (`tests`) and of that mass in units of one
    seed. The mean is taken because a fit cannot divide the mass between two seeds side by side, but knows their sum.
    """
    free = free_masses(image, scale, capsules)
    touching = np.eye(len(capsules), dtype=bool)
    for i in range(len(capsules)):
        near = np.flatnonzero(
            ((capsules[:, :3] - capsules[i, :3]) ** 2).sum(axis=1) < (2 * scale.length_mm) ** 2
        )
        for j in near[near > i]:
            distance = kernel.closest_axes(capsules[i], capsules[j], scale.length_mm)
            touching[i, j] = touching[j, i] = distance < TOUCHING_MM
    count = touching.sum(axis=1)
    mean = (touching * free).sum(axis=1) / count
    alone = (mean - MASS_ALONE[0]) / MASS_ALONE[1]
    together = (mean - MASS_TOUCHING[0]) / MASS_TOUCHING[1]
    mass_logit = np.clip(np.where(count == 1, alone, together), -6.0, 2.0)
    share_logit = np.clip((tests[:, 0] - SHARE[0]) / SHARE[1], -6.0, 2.0)
    return 1.0 / (1.0 + np.exp(-(mass_logit + share_logit))), mean


def accepted(
    image: Image, scale: Scale, capsules: Float, log: Callable[[str], None]
) -> tuple[Float, Float, Float, list[tuple[Float, str]]]:
    """Capsules that are seeds, confidence and mean mass of each, and the rejected capsules with the reasons.

    The least certain capsule is rejected first and its neighbours are fitted again, which undoes what a false capsule
    did to them; this is repeated until all that are left have a confidence of `ACCEPTED` or more.
    """
    floor = least_peak(image, scale)
    rejected: list[tuple[Float, str]] = []
    # halved where a capsule touches a rejected object that is still visible: it is probably the rest of a clip
    confidence_factor = np.ones(len(capsules))
    while len(capsules):
        good, tests = passes_tests(image, scale, capsules, floor)
        good &= unexplained_share(image, scale, capsules, floor) < MOST_UNEXPLAINED
        sure, mean = confidence(image, scale, capsules, tests)
        sure = np.where(good, sure, np.minimum(sure, 0.1)) * confidence_factor
        worst = int(sure.argmin())
        if sure[worst] >= ACCEPTED:
            return capsules, sure, mean, rejected
        why = f"{mean[worst]:.2f} of a seed's mass, {tests[worst, 0]:.0%} of a seed's shape"
        if tests[worst, 3] >= 0.4:
            why += ", on a long bright line"
        rejected.append((capsules[worst], why))
        log(f"rejected {np.round(capsules[worst, :3], 1)}: {why}")
        near = ((capsules[:, :3] - capsules[worst, :3]) ** 2).sum(axis=1) < 10.0**2
        near[worst] = False
        removed = capsules[worst]
        capsules, near, confidence_factor = (
            np.delete(rows, worst, axis=0) for rows in (capsules, near, confidence_factor)
        )
        capsules = refine(image, scale, capsules, np.flatnonzero(near), 8, coarse=True)
        if still_unexplained(image, scale, capsules, removed):
            confidence_factor[abutting(scale, capsules, removed)] *= 0.5
    return capsules, np.zeros(0), np.zeros(0), rejected
