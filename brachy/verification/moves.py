"""Changing the number and the layout of capsules: what may be split, dropped, added, turned, and what that gains."""

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from brachy.core import capsule as kernel
from brachy.verification import blobs
from brachy.verification.background import seedlike
from brachy.verification.calibrate import explained
from brachy.verification.fit import (
    CAPSULE_DIAMETER_MM, CAPSULE_LENGTH_MM, Image, Scale, around, bounds, cost, groups, make, refine, residual,
)  # fmt: skip

Float = NDArray[np.float64]
Log = Callable[[str], None]

PRICE = 6.0
"""Drop in cost that one more seed must bring: its own six numbers (engineering choice)."""
REACH_MM = 8.0
"""Neighbours this near are fitted again with a change (engineering choice)."""
TOUCH = 0.6
"""Two axes nearer than this share of the capsule's width over their inner 80 % overlap: impossible (engineering choice)."""
SETTLED = (0.9, 0.12)
"""A capsule that explains this share and is within this of one mass is not tried again (engineering choice)."""
LEAST_MASS = 0.45
"""Of one seed: less is not added (engineering choice)."""


def overlapping(capsules: Float, some: NDArray[np.intp]) -> list[tuple[int, int]]:
    """Pairs of capsules, one of them in `some`, that cannot both be there."""
    pairs = []
    for i in some.tolist():
        near = np.flatnonzero(((capsules[:, :3] - capsules[i, :3]) ** 2).sum(axis=1) < CAPSULE_LENGTH_MM**2)
        for j in near.tolist():
            if j == i or (j < i and j in some):
                continue
            if kernel.closest_axes(capsules[i], capsules[j], CAPSULE_LENGTH_MM) < TOUCH * CAPSULE_DIAMETER_MM:
                pairs.append((i, j))
    return pairs


def attempt(
    image: Image, scale: Scale, capsules: Float, drop: list[int], put: list[Float], steps: int = 8
) -> tuple[Float, float]:
    """Capsules without `drop` and with `put` at the end, neighbours fitted again; and the cost saved, seeds paid for."""
    added = np.array(put).reshape(-1, 7)
    changed = np.concatenate([capsules[drop], added])
    new = np.concatenate([np.delete(capsules, drop, axis=0), added])
    middle = changed[:, :3].mean(axis=0)
    reach = REACH_MM + float(np.sqrt(((changed[:, :3] - middle) ** 2).sum(axis=1)).max())
    free = np.flatnonzero(((new[:, :3] - middle) ** 2).sum(axis=1) < reach**2)
    before = np.flatnonzero(((capsules[:, :3] - middle) ** 2).sum(axis=1) < reach**2)
    low, high = around(image, scale, np.concatenate([changed, new[free]]), margin_mm=2.0)
    new = refine(image, scale, new, free, steps)
    if overlapping(new, free):
        return new, -np.inf
    saved = cost(image, scale, capsules, low, high, before) - cost(image, scale, new, low, high, free)
    return new, saved - PRICE * (len(new) - len(capsules))


def _perpendicular(axis: Float) -> tuple[Float, Float]:
    first, second = np.empty(3), np.empty(3)
    kernel.tangents(axis, first, second)
    return first, second


def splits(centre: Float, axis: Float, mass: float) -> Iterator[list[Float]]:
    """Pairs that may stand where one capsule was fitted: end to end, side by side, staggered, crossed."""
    first, second = _perpendicular(axis)
    for offset in (2.4 * axis, 0.6 * first, 0.6 * second, 1.5 * axis + 0.5 * first, 1.5 * axis - 0.5 * first,
                   1.5 * axis + 0.5 * second, 1.5 * axis - 0.5 * second):  # fmt: skip
        yield [make(centre + sign * offset, axis, mass) for sign in (-1, 1)]
    for across in (first, second):
        yield [make(centre + sign * 2.0 * across, across, mass) for sign in (-1, 1)]
        yield [make(centre + 0.4 * across, axis, mass), make(centre - 0.4 * across, across, mass)]


def turns(capsule: Float, mass: float) -> Iterator[list[Float]]:
    """The same capsule laid another way: mirrored through the slice, upright, across."""
    axis = capsule[3:6]
    first, second = _perpendicular(axis)
    for option in (axis * [1, 1, -1], np.array([0.0, 0.0, 1.0]), first, second):
        if abs(option @ axis) < 0.95:
            yield [make(capsule[:3], option, mass)]


def peaks_left(
    image: Image, scale: Scale, capsules: Float, some: NDArray[np.intp], floor: float, trusted: NDArray[np.bool_]
) -> Float:
    """Centres (n, 3) of what is left beside some capsules, brightest first.

    A peak must be `seedlike` in what the trusted capsules leave: along a bone the ones that stand for it are not.
    """
    low, high = around(image, scale, capsules[some], margin_mm=3.0)
    wide = np.ceil([9.0, 9.0, 2.5 + 2 * image.spacing[2]] / image.spacing).astype(np.int64)
    outer_low = np.maximum(low - wide, 0)
    outer_high = np.minimum(high + wide, image.excess.shape[::-1])
    left = residual(image, scale, capsules, outer_low, outer_high)
    sigma = (0.0, scale.blur[0] / image.spacing[1], scale.blur[0] / image.spacing[0])
    smooth = ndimage.gaussian_filter(left, sigma, truncate=2.5)
    reach = [2 * max(1, round(1.0 / s)) + 1 for s in image.spacing[:2]]
    top = (smooth == ndimage.maximum_filter(smooth, size=(3, reach[1], reach[0]))) & (smooth > floor)
    inner = np.zeros(top.shape, dtype=bool)
    a, b = low - outer_low, high - outer_low
    inner[a[2] : b[2], a[1] : b[1], a[0] : b[0]] = True
    at = np.argwhere(top & inner).astype(np.int64)
    at = at[np.argsort(-smooth[tuple(at.T)], kind="stable")][:12]
    if not len(at):
        return np.zeros((0, 3))
    if not trusted.all():
        left = residual(image, scale, capsules[trusted], outer_low, outer_high)
    at = at[seedlike(left.astype(np.float32), image.spacing, at)]
    return (at[:, ::-1] + outer_low) * image.spacing


def births(
    image: Image, scale: Scale, capsules: Float, some: NDArray[np.intp], floor: float, trusted: NDArray[np.bool_], log: Log
) -> Float:
    """Add what pays among the peaks left beside some capsules; the new ones come last."""
    for centre in peaks_left(image, scale, capsules, some, 0.3 * floor, trusted):
        if ((capsules[:, :3] - centre) ** 2).sum(axis=1).min() < 0.3**2:
            continue
        best = (0.0, capsules)
        for axis in np.eye(3):
            new, gain = attempt(image, scale, capsules, [], [make(centre, axis, scale.mass)])
            if gain > best[0] and new[-1, 6] > LEAST_MASS * scale.mass:
                best = (gain, new)
        if best[0] > 0:
            capsules = best[1]
            log(f"  added at {np.round(centre, 1)}, saves {best[0]:.0f}")
    return capsules


def _settled(image: Image, scale: Scale, capsules: Float, index: int) -> bool:
    share, _peak, _left = explained(image, scale, capsules, index)
    return share > SETTLED[0] and abs(capsules[index, 6] / scale.mass - 1) < SETTLED[1]


def _key(capsules: Float, index: int) -> tuple[float, ...]:
    """What a capsule and its neighbours look like, so that the same is not tried twice."""
    near = ((capsules[:, :3] - capsules[index, :3]) ** 2).sum(axis=1) < 5.0**2
    rows = np.round(np.column_stack([capsules[near, :6], 1e-4 * capsules[near, 6]]), 1)
    return (*np.round(capsules[index, :3], 1), *np.sort(rows, axis=0).ravel())


def _options(image: Image, scale: Scale, capsules: Float, k: int, floor: float) -> Iterator[tuple[str, list[int], list[Float]]]:
    """What may be tried with capsule k: name, capsules to drop, capsules to put."""
    c = capsules[k]
    ratio = c[6] / scale.mass
    yield "drop", [k], []
    if ratio > 1.05:
        for pair in splits(c[:3], c[3:6], scale.mass):
            yield "split", [k], pair
    for one in turns(c, scale.mass):
        yield "turn", [k], one
    # elsewhere: where most is left once it is gone
    without = refine(image, scale, np.delete(capsules, k, axis=0), _near(np.delete(capsules, k, axis=0), c[:3], 6.0), 4)
    if len(without):
        nearest = np.array([int(((without[:, :3] - c[:3]) ** 2).sum(axis=1).argmin())])
        for centre in peaks_left(image, scale, without, nearest, 0.3 * floor, np.ones(len(without), bool))[:2]:
            if ((centre - c[:3]) ** 2).sum() > 1.0:
                for axis in np.eye(3):
                    yield "move", [k], [make(centre, axis, scale.mass)]
    apart = np.sqrt(((capsules[:, :3] - c[:3]) ** 2).sum(axis=1))
    for j in np.flatnonzero((apart < 3.2) & (np.arange(len(capsules)) != k)).tolist():
        middle = 0.5 * (c[:3] + capsules[j, :3])
        yield "merge", [k, j], [make(middle, c[3:6], scale.mass)]
        for axis in (c[3:6], capsules[j, 3:6]):
            for pair in splits(middle, axis, scale.mass):
                yield "lay out", [k, j], pair


def _near(capsules: Float, centre: Float, reach_mm: float) -> NDArray[np.intp]:
    return np.flatnonzero(((capsules[:, :3] - centre) ** 2).sum(axis=1) < reach_mm**2)


def recut(image: Image, scale: Scale, capsules: Float, chosen: NDArray[np.intp], log: Log) -> Float:
    """Cut a row of capsules anew from the mass that is seen there, with one seed more or less as well."""
    rest = np.delete(capsules, chosen, axis=0)
    low, high = around(image, scale, capsules[chosen], margin_mm=0.0)
    seen = residual(image, scale, rest, low, high)
    z, y, x = (np.arange(low[k], high[k]) * image.spacing[k] for k in (2, 1, 0))
    at = np.stack(np.broadcast_arrays(x[None, None, :], y[None, :, None], z[:, None, None]), axis=-1)
    near = np.zeros(seen.shape, dtype=bool)
    for c in capsules[chosen]:
        offset = at - c[:3]
        along = np.clip(offset @ c[3:6], -2.25, 2.25)
        off = offset - along[..., None] * c[3:6]
        near |= (off[..., 0] ** 2 + off[..., 1] ** 2 < 2.0**2) & (np.abs(off[..., 2]) < 0.75 * image.spacing[2] + 1.0)
    points, mass = blobs.sampled(seen, near, low, image.spacing)
    best = (1.0, capsules)
    for count in range(max(1, len(chosen) - 1), len(chosen) + 2):
        for first in range(2):
            put = blobs.cut(points, mass, image.spacing, count, scale.mass, first)
            new, gain = attempt(image, scale, capsules, chosen.tolist(), put)
            if gain > best[0]:
                best = (gain, new)
    if best[0] > 1.0:
        log(f"  cut {len(chosen)} anew, saves {best[0]:.0f}")
    return best[1]


def settle(image: Image, scale: Scale, capsules: Float, floor: float, log: Log, tried: set[tuple[float, ...]]) -> Float:
    """Change what does not look like single seeds, the worst first, until nothing pays."""
    for chosen in groups(capsules, 7.0):
        members = capsules[chosen]
        doubtful = [k for k in chosen if not _settled(image, scale, capsules, int(k))]
        if 1 < len(chosen) <= 8 and doubtful:
            key = (0.5, *np.round(np.sort(members[:, :3], axis=0), 1).ravel())
            if key not in tried:
                tried.add(key)
                # the capsules of the other groups keep their places, so the indices of this group are found again
                new = recut(image, scale, capsules, chosen, log)
                if new is not capsules:
                    return settle(image, scale, new, floor, log, tried)
    order = sorted(range(len(capsules)), key=lambda k: -abs(capsules[k, 6] / scale.mass - 1))
    for k in order:
        key = _key(capsules, k)
        if key in tried or _settled(image, scale, capsules, k):
            continue
        tried.add(key)
        best, what = (1.0, capsules), ""
        for name, drop, put in _options(image, scale, capsules, k, floor):
            new, gain = attempt(image, scale, capsules, drop, put)
            if gain > best[0] and new[len(new) - len(put) :, 6].min(initial=np.inf) > LEAST_MASS * scale.mass:
                best, what = (gain, new), name
        if what:
            log(f"  {what} at {np.round(capsules[k, :3], 1)}, saves {best[0]:.0f}")
            return settle(image, scale, best[1], floor, log, tried)
    return capsules
