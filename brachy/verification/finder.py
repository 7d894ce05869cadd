"""Seeds on a CT."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from brachy.core import capsule as kernel
from brachy.verification import background, blobs, moves
from brachy.verification.calibrate import ENOUGH, calibrate, explained, least_peak
from brachy.verification.fit import Image, Scale, bounds, cost, groups, refine, residual

Float = NDArray[np.float64]


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
            value += 100.0 * len(moves.overlapping(new, np.arange(count)))
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
    return float(kernel.elongations(seen, image.spacing, peak, 8.0, 12).max())


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


def find(
    image: Image,
    hu: NDArray[Any],
    region: NDArray[np.bool_] | None,
    scale: Scale,
    log: Callable[[str], None] = lambda text: None,
) -> tuple[Scale, Float, Float]:
    """Capsules (n, 7) of a CT, the scale fitted to it, and the tests each capsule stood."""
    bright = hu > 100 if region is None else (hu > 100) & region
    found, lines = background.peaks(image, bright, 400.0, 0.5)
    log(f"peaks {len(found)}")
    scale, used = calibrate(image, scale, found, lines, log)
    log(f"calibrated on {used}")
    if used < ENOUGH:
        return scale, np.zeros((0, 7)), np.zeros((0, 3))
    floor = least_peak(image, scale)
    pieces = blobs.find_blobs(image, scale, bright, 0.35 * floor)
    tops = np.array([piece.peak for piece in pieces]).reshape(-1, 3)
    height = image.excess[tuple(tops.T)]
    keep = background.seedlike(image.excess, image.spacing, tops)
    keep = keep[height[keep] > 0.6 * floor]
    log(f"blobs {len(pieces)} kept {len(keep)} floor {floor:.0f}")
    capsules = np.zeros((0, 7))
    for n in keep[np.argsort(-height[keep], kind="stable")]:
        new = count_blob(image, scale, capsules, pieces[n])
        line = kernel.elongations(image.excess, image.spacing, tops[n : n + 1], 8.0, 12).max() > 0.35
        if blob_share(image, scale, capsules, new, pieces[n]) > (0.8 if line else 0.65):
            capsules = np.concatenate([capsules, new])
    log(f"blobs fitted {len(capsules)}")
    for chosen in groups(capsules, image.spacing[2], 8.0):
        capsules = refine(image, scale, capsules, chosen, 8)

    def stands(some: Float, k: int) -> bool:
        return bool(standing(image, scale, some, floor, [k])[0][0])

    for sweep in range(3):
        order = groups(capsules, image.spacing[2])
        done = np.zeros((0, 7))
        for n, chosen in enumerate(order):
            waiting = [capsules[c] for c in order[n + 1 :]]
            others = np.concatenate([done, *waiting]) if waiting else done
            done = np.concatenate(
                [done, moves.settle(image, scale, capsules[chosen], others, floor, stands, log)]
            )
        capsules = done
        good, tests = standing(image, scale, capsules, floor)
        log(f"sweep {sweep}: standing {good.sum()} of {len(good)}")
        capsules = capsules[good]
        for chosen in groups(capsules, image.spacing[2], 8.0):
            capsules = refine(image, scale, capsules, chosen, 5)
        if good.all():
            break
    for _ in range(4):
        good, tests = standing(image, scale, capsules, floor)
        if good.all():
            break
        capsules = capsules[good]
        for chosen in groups(capsules, image.spacing[2], 8.0):
            capsules = refine(image, scale, capsules, chosen, 5)
    return scale, capsules, tests
