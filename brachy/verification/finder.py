"""Seeds on a CT."""

from collections.abc import Callable

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
            new = refine(image, scale, np.concatenate([start, others]), np.arange(count), 10)
            value = cost(image, scale, new, low, high, np.arange(count)) + moves.PRICE * count
            value += 100.0 * len(moves.overlapping(new, np.arange(count)))
            if value < best_cost:
                best, best_cost = new[:count], value
    return best


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


def standing(image: Image, scale: Scale, capsules: Float, floor: float) -> tuple[NDArray[np.bool_], Float]:
    tests = np.array([(*explained(image, scale, capsules, k), line_left(image, scale, capsules, k)) for k in range(len(capsules))]).reshape(-1, 4)
    good = (tests[:, 0] > 0.6) & (tests[:, 1] > 0.8 * floor) & (capsules[:, 6] > 0.55 * scale.mass) & (tests[:, 3] < 0.4)
    return good, tests


def find(image: Image, hu, region, scale, log=lambda *x: None):
    import time

    t = time.time()
    bright = hu > 100 if region is None else (hu > 100) & region
    found, lines = background.peaks(image, bright, 400.0, 0.5)
    log("peaks %d %.2f" % (len(found), time.time() - t))
    scale, used = calibrate(image, scale, found, lines, log)
    log("calibrated on %d %.2f" % (used, time.time() - t))
    if used < ENOUGH:
        return scale, np.zeros((0, 7)), np.zeros((0, 3))
    floor = least_peak(image, scale)
    pieces = blobs.find_blobs(image, scale, bright, 0.35 * floor)
    tops = np.array([piece.peak for piece in pieces]).reshape(-1, 3)
    height = image.excess[tuple(tops.T)]
    keep = background.seedlike(image.excess, image.spacing, tops)
    keep = keep[height[keep] > 0.6 * floor]
    log("blobs %d kept %d floor %.0f %.2f" % (len(pieces), len(keep), floor, time.time() - t))
    capsules = np.zeros((0, 7))
    for n in keep[np.argsort(-height[keep], kind="stable")]:
        capsules = np.concatenate([capsules, count_blob(image, scale, capsules, pieces[n])])
    log("blobs fitted %d %.2f" % (len(capsules), time.time() - t))
    for chosen in groups(capsules, 8.0):
        capsules = refine(image, scale, capsules, chosen, 8)
    log("joint %.2f" % (time.time() - t))
    tried = set()
    for sweep in range(5):
        before = capsules
        capsules = moves.settle(image, scale, capsules, floor, log, tried)
        good, tests = standing(image, scale, capsules, floor)
        log("sweep %d: standing %d of %d, %.2f" % (sweep, good.sum(), len(good), time.time() - t))
        if not good.all():
            n = len(good)
            for k in np.flatnonzero(~good):
                trusted = np.append(good, np.ones(len(capsules) - n, bool))
                capsules = moves.births(image, scale, capsules, np.array([k]), floor, trusted, log)
            good, tests = standing(image, scale, capsules, floor)
            capsules = capsules[good]
            for chosen in groups(capsules, 8.0):
                capsules = refine(image, scale, capsules, chosen, 5)
        for chosen in groups(capsules, 9.0):
            capsules = moves.births(image, scale, capsules, chosen, floor, np.ones(len(capsules), bool), log)
        if len(before) == len(capsules) and np.allclose(before, capsules, atol=0.05):
            break
    for _ in range(4):
        good, tests = standing(image, scale, capsules, floor)
        if good.all():
            break
        capsules = capsules[good]
        for chosen in groups(capsules, 8.0):
            capsules = refine(image, scale, capsules, chosen, 5)
    log("done %.2f" % (time.time() - t))
    return scale, capsules, tests
