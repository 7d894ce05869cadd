"""What stands as a seed: blobs counted, capsules tested."""

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
"""Share of the image a capsule explains at which a seed is as likely as not, and the step that makes it e times more
or less likely. Engineering choice: on synthetic scans and the clinical day-1 scan seeds explain 0.86 and more, clips
and stents 0.65 to 0.95."""
MASS_ALONE, MASS_TOUCHING = (0.80, 0.05), (0.87, 0.035)
"""The same for the mass of a capsule that touches none, and for the mean mass of those that touch, fitted without a
prior, in seeds. Engineering choice: seeds have 0.75 and more alone (the clinical scan) and 0.89 and more together
(synthetic scans), a surgical clip taken for two seeds 0.6 to 0.82."""
TOUCHING_MM = 3.0
"""Axes nearer than this over their inner 80 % share their mass in a fit (engineering choice)."""
CROWDED = 0.2
"""Share of bright surroundings above which an object is bone and no seed (engineering choice)."""
ACCEPTED = 0.5
"""Confidence below which an object is reported as a doubt and not as a seed (engineering choice)."""


def count_blob(image: Image, scale: Scale, others: Float, blob: blobs.Blob) -> Float:
    """The capsules that explain a blob best, and as many as pay."""
    seeds = float(blob.mass.sum()) / scale.mass
    room = 1.5 if image.saturated.size else 1.0
    counts = range(max(1, int(seeds - 0.6)), int(seeds * room + 0.6) + 1)
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
    """Share of a blob's energy that its capsules explain."""
    low, high = bounds(image, blob.points.min(axis=0), blob.points.max(axis=0))
    seen = residual(image, scale, others, low, high)
    left = residual(image, scale, np.concatenate([own, others]), low, high)
    if image.saturated.size:
        cut = image.saturated[low[2] : high[2], low[1] : high[1], low[0] : high[0]]
        left = np.where(cut & (left < 0), 0.0, left)
    return 1 - float((left**2).sum() / max(float((seen**2).sum()), 1.0))


def line_left(image: Image, scale: Scale, capsules: Float, index: int) -> float:
    """How far an 8 mm line carries a capsule's peak when the others are taken away: bone does, a seed does not."""
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


def standing(
    image: Image, scale: Scale, capsules: Float, floor: float, some: list[int] | None = None
) -> tuple[NDArray[np.bool_], Float]:
    """Which capsules stand as seeds, and the four tests of each: energy, peak, width, line."""
    some = list(range(len(capsules))) if some is None else some
    tests = np.array(
        [(*explained(image, scale, capsules, k), line_left(image, scale, capsules, k)) for k in some]
    ).reshape(-1, 4)
    good = (
        (tests[:, 0] > 0.6)
        & (tests[:, 1] > 0.8 * floor)
        & (capsules[some, 6] > 0.55 * scale.mass)
        & (tests[:, 3] < 0.4)
    )
    return good, tests


def crowded(
    image: Image, scale: Scale, capsules: Float, floor: float, some: list[int] | None = None
) -> Float:
    """Share of the disc of 6 mm round each capsule, in its slice, that is bright though no capsule explains it.

    Bright is 12 % of a seed's least peak, and 150 HU. Bone is bright all over, a seed beside a rib in part: on the
    clinical day-1 scan seeds have 0.07 at most, bone on an abdominal CT 0.3 (median).
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


def remains(image: Image, scale: Scale, capsules: Float, gone: Float) -> bool:
    """Whether what a capsule stood for is still seen when it is gone: the others do not explain it."""
    reach = np.abs(gone[3:6]) * 0.3 * scale.blur[2] + [0.6, 0.6, 0.3 * image.spacing[2]]
    low, high = bounds(image, gone[:3] - reach, gone[:3] + reach)
    if (high <= low).any():
        return False
    before = image.excess[low[2] : high[2], low[1] : high[1], low[0] : high[0]]
    left = residual(image, scale, capsules, low, high)
    return bool((np.clip(left, 0, None) ** 2).sum() > 0.4 * float((before**2).sum()))


def abutting(scale: Scale, capsules: Float, gone: Float) -> NDArray[np.intp]:
    """Capsules that touch one that is gone: axes within two and a half diameters over their inner 80 %."""
    distance = [kernel.closest_axes(c, gone, scale.length_mm) for c in capsules]
    return np.flatnonzero(np.array(distance) < 2.5 * scale.diameter_mm)


def free_masses(image: Image, scale: Scale, capsules: Float) -> Float:
    """Masses (n,) in seeds, fitted with hardly any prior."""
    free = capsules
    for chosen in groups(capsules, image.spacing[2], 8.0, scale.length_mm):
        free = refine(image, scale, free, chosen, 8, prior_sd=3.0)
    return np.asarray(free[:, 6] / scale.mass, dtype=np.float64)


def confidence(image: Image, scale: Scale, capsules: Float, tests: Float) -> tuple[Float, Float]:
    """How surely each capsule is a seed, in [0, 1], and the mean free mass of it and those that touch it, in seeds.

    A logistic function of how well it explains the image and of that mass: where two seeds lie side by side a fit
    cannot say which has how much, but together they have two.
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
    mass_says = np.clip(np.where(count == 1, alone, together), -6.0, 2.0)
    share_says = np.clip((tests[:, 0] - SHARE[0]) / SHARE[1], -6.0, 2.0)
    return 1.0 / (1.0 + np.exp(-(mass_says + share_says))), mean


def accepted(
    image: Image, scale: Scale, capsules: Float, log: Callable[[str], None]
) -> tuple[Float, Float, Float, list[tuple[Float, str]]]:
    """Capsules that are seeds; confidence and local mass of each; and what was given up, with the reason.

    The least sure goes first and its neighbours are fitted again: what one false capsule did to them is undone.
    """
    floor = least_peak(image, scale)
    given_up: list[tuple[Float, str]] = []
    suspect = np.ones(len(capsules))  # less for what abuts an object that was given up: the rest of a clip
    while len(capsules):
        good, tests = standing(image, scale, capsules, floor)
        good &= crowded(image, scale, capsules, floor) < CROWDED
        sure, mean = confidence(image, scale, capsules, tests)
        sure = np.where(good, sure, np.minimum(sure, 0.1)) * suspect
        worst = int(sure.argmin())
        if sure[worst] >= ACCEPTED:
            return capsules, sure, mean, given_up
        why = f"{mean[worst]:.2f} of a seed's mass, {tests[worst, 0]:.0%} of a seed's shape"
        if tests[worst, 3] >= 0.4:
            why += ", on a long bright line"
        given_up.append((capsules[worst], why))
        log(f"given up {np.round(capsules[worst, :3], 1)}: {why}")
        near = ((capsules[:, :3] - capsules[worst, :3]) ** 2).sum(axis=1) < 10.0**2
        near[worst] = False
        gone = capsules[worst]
        capsules, near, suspect = (np.delete(rows, worst, axis=0) for rows in (capsules, near, suspect))
        capsules = refine(image, scale, capsules, np.flatnonzero(near), 8, coarse=True)
        if remains(image, scale, capsules, gone):
            suspect[abutting(scale, capsules, gone)] *= 0.5
    return capsules, np.zeros(0), np.zeros(0), given_up
