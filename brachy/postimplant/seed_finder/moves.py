"""Changes of the number and arrangement of fitted capsules: split, merge, drop, add, turn; kept if the cost falls."""

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from brachy.core import capsule as kernel
from brachy.postimplant.seed_finder import blobs
from brachy.postimplant.seed_finder.background import candidate_peaks
from brachy.postimplant.seed_finder.calibrate import explained
from brachy.postimplant.seed_finder.fit import (
    Image,
    Scale,
    around,
    cost,
    make,
    refine,
    residual,
)  # fmt: skip

Float = NDArray[np.float64]
Log = Callable[[str], None]

PRICE = 6.0
"""Least fall of the cost that justifies one more seed: one for each of its six unknowns (engineering choice)."""
REACH_MM = 8.0
"""Neighbours within this distance are fitted again with a change (engineering choice)."""
OVERLAP = 0.6
"""Capsules whose axes come nearer than this share of the diameter over their inner 80 % overlap, which is impossible
(engineering choice)."""
EXPLAINED_WELL = (0.9, 0.12)
"""Share explained, and deviation from one seed's mass, of a capsule that is not changed again (engineering choice)."""
BEST_TRIED = 3
"""Number of the possible changes in one place that are fitted with all steps (engineering choice)."""
THICK = 0.5
"""In slices thicker than this share of its length a capsule is also tried mirrored (engineering choice)."""
LEAST_MASS = 0.45
"""Least mass of an added capsule, in units of one seed (engineering choice)."""


def overlapping(scale: Scale, capsules: Float, some: NDArray[np.intp]) -> list[tuple[int, int]]:
    """Pairs of capsules, at least one of them in `some`, that overlap and so cannot both be seeds."""
    pairs = []
    for i in some.tolist():
        near = np.flatnonzero(((capsules[:, :3] - capsules[i, :3]) ** 2).sum(axis=1) < scale.length_mm**2)
        for j in near.tolist():
            if j == i or (j < i and j in some):
                continue
            if kernel.closest_axes(capsules[i], capsules[j], scale.length_mm) < OVERLAP * scale.diameter_mm:
                pairs.append((i, j))
    return pairs


def try_change(
    image: Image,
    scale: Scale,
    capsules: Float,
    drop: list[int],
    add: list[Float],
    steps: int = 8,
    reach_mm: float = REACH_MM,
) -> tuple[Float, float]:
    """Replace the capsules `drop` by `add` and fit the neighbours again; returns the new capsules and the gain.

    `add` are last in the new capsules. The gain is the fall of the cost in the region concerned less `PRICE` for each
    additional seed; -inf if capsules overlap.
    """
    added = np.array(add).reshape(-1, 7)
    changed = np.concatenate([capsules[drop], added])
    new = np.concatenate([np.delete(capsules, drop, axis=0), added])
    middle = changed[:, :3].mean(axis=0)
    reach = reach_mm + float(np.sqrt(((changed[:, :3] - middle) ** 2).sum(axis=1)).max())
    free = np.flatnonzero(((new[:, :3] - middle) ** 2).sum(axis=1) < reach**2)
    before = np.flatnonzero(((capsules[:, :3] - middle) ** 2).sum(axis=1) < reach**2)
    low, high = around(image, scale, np.concatenate([changed, new[free]]), margin_mm=2.0)
    new = refine(image, scale, new, free, steps, coarse=True)
    if overlapping(scale, new, free):
        return new, -np.inf
    saved = cost(image, scale, capsules, low, high, before) - cost(image, scale, new, low, high, free)
    return new, saved - PRICE * (len(new) - len(capsules))


def _perpendicular(axis: Float) -> tuple[Float, Float]:
    """Two unit vectors perpendicular to an axis and to each other."""
    first, second = np.empty(3), np.empty(3)
    kernel.tangents(axis, first, second)
    return first, second


def splits(scale: Scale, centre: Float, axis: Float) -> Iterator[list[Float]]:
    """Pairs of capsules that may replace one: end to end, side by side, staggered, crossed."""
    first, second = _perpendicular(axis)
    long, wide, mass = scale.length_mm, scale.diameter_mm, scale.mass
    for offset in (0.53 * long * axis, 0.75 * wide * first, 0.75 * wide * second):
        yield [make(centre + sign * offset, axis, mass) for sign in (-1, 1)]
    for across in (first, -first, second, -second):
        offset = 0.33 * long * axis + 0.6 * wide * across
        yield [make(centre + sign * offset, axis, mass) for sign in (-1, 1)]
    for across in (first, second):
        yield [make(centre + sign * 0.45 * long * across, across, mass) for sign in (-1, 1)]
        yield [
            make(centre + 0.5 * wide * across, axis, mass),
            make(centre - 0.5 * wide * across, across, mass),
        ]


def reorientations(capsule: Float, mass: float) -> Iterator[list[Float]]:
    """The same capsule in other directions: mirrored in the slice plane, along z, and perpendicular to its axis."""
    axis = capsule[3:6]
    first, second = _perpendicular(axis)
    for option in (axis * [1, 1, -1], np.array([0.0, 0.0, 1.0]), first, second):
        if abs(option @ axis) < 0.95:
            yield [make(capsule[:3], option, mass)]


def mirrored(image: Image, scale: Scale, capsule: Float) -> Iterator[list[Float]]:
    """The same capsule on the other side of its slice's middle plane, with the same and with the mirrored tilt.

    Within one slice the two have the same image; only the parts in the neighbouring slices distinguish them.
    """
    slice_mm = float(image.spacing[2])
    plane = slice_mm * round(capsule[2] / slice_mm)
    off = capsule[2] - plane
    for z in (plane - off, plane + np.copysign(0.35 * slice_mm, -off)):
        for lean in (1.0, -1.0):
            yield [make([capsule[0], capsule[1], z], capsule[3:6] * [1, 1, lean], scale.mass)]


def remaining_peaks(
    image: Image,
    scale: Scale,
    capsules: Float,
    some: NDArray[np.intp],
    floor: float,
    trusted: NDArray[np.bool_],
) -> Float:
    """Peaks of the residual near some capsules, (n, 3) in scan mm, the brightest first, 12 at most.

    A peak must be one of `candidate_peaks` in the residual of the trusted capsules alone: along a bone, which untrusted
    capsules may explain in part, it is not.
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
    at = at[candidate_peaks(left.astype(np.float32), image.spacing, at)]
    return np.asarray((at[:, ::-1] + outer_low) * image.spacing, dtype=np.float64)


def _explained_well(image: Image, scale: Scale, capsules: Float, index: int) -> bool:
    """Whether a capsule explains its image so well that no change is tried (`EXPLAINED_WELL`)."""
    share, _peak, _left = explained(image, scale, capsules, index)
    return share > EXPLAINED_WELL[0] and abs(capsules[index, 6] / scale.mass - 1) < EXPLAINED_WELL[1]


def _key(capsules: Float, index: int) -> tuple[float, ...]:
    """Rounded positions of a capsule and its neighbours, as a key: the same arrangement is not tried twice."""
    near = ((capsules[:, :3] - capsules[index, :3]) ** 2).sum(axis=1) < 5.0**2
    rows = np.round(np.column_stack([capsules[near, :6], 1e-4 * capsules[near, 6]]), 1)
    return (*np.round(capsules[index, :3], 1).tolist(), *np.sort(rows, axis=0).ravel().tolist())


def _near(capsules: Float, centre: Float, reach_mm: float) -> NDArray[np.intp]:
    """Indices of the capsules whose centres lie within a distance of a point."""
    return np.flatnonzero(((capsules[:, :3] - centre) ** 2).sum(axis=1) < reach_mm**2)


def _options(
    image: Image, scale: Scale, capsules: Float, own: int, k: int, floor: float
) -> Iterator[tuple[str, list[int], list[Float]]]:
    """Changes to try with capsule k, one of the first `own`: name, indices to drop, capsules to add."""
    c = capsules[k]
    yield "drop", [k], []
    if c[6] > 1.05 * scale.mass:
        for pair in splits(scale, c[:3], c[3:6]):
            yield "split", [k], pair
    for one in reorientations(c, scale.mass):
        yield "turn", [k], one
    if image.spacing[2] > THICK * scale.length_mm:
        for one in mirrored(image, scale, c):
            yield "mirror", [k], one
    # move it to where the residual is largest once it is removed
    without = np.delete(capsules, k, axis=0)
    if len(without):
        without = refine(image, scale, without, _near(without, c[:3], 6.0), 4)
        nearest = np.array([int(((without[:, :3] - c[:3]) ** 2).sum(axis=1).argmin())])
        for centre in remaining_peaks(
            image, scale, without, nearest, 0.3 * floor, np.ones(len(without), bool)
        )[:2]:
            if ((centre - c[:3]) ** 2).sum() > 1.0:
                for axis in np.eye(3):
                    yield "move", [k], [make(centre, axis, scale.mass)]
    for j in _near(capsules[:own], c[:3], 3.2).tolist():
        if j == k:
            continue
        middle = 0.5 * (c[:3] + capsules[j, :3])
        yield "merge", [k, j], [make(middle, c[3:6], scale.mass)]
        for axis in (c[3:6], capsules[j, 3:6]):
            for pair in splits(scale, middle, axis):
                yield "rearrange", [k, j], pair


def _recuts(
    image: Image, scale: Scale, capsules: Float, own: int
) -> Iterator[tuple[str, list[int], list[Float]]]:
    """Replace the first `own` capsules by cutting their image anew into as many pieces, one more, or one less."""
    chosen, rest = capsules[:own], capsules[own:]
    low, high = around(image, scale, chosen, margin_mm=0.0)
    seen = residual(image, scale, rest, low, high)
    z, y, x = (np.arange(low[k], high[k]) * image.spacing[k] for k in (2, 1, 0))
    at = np.stack(np.broadcast_arrays(x[None, None, :], y[None, :, None], z[:, None, None]), axis=-1)
    near = np.zeros(seen.shape, dtype=bool)
    for c in chosen:
        offset = at - c[:3]
        off = (
            offset
            - np.clip(offset @ c[3:6], -0.5 * scale.length_mm, 0.5 * scale.length_mm)[..., None] * c[3:6]
        )
        near |= (off[..., 0] ** 2 + off[..., 1] ** 2 < 2.0**2) & (
            np.abs(off[..., 2]) < 0.75 * image.spacing[2] + 1.0
        )
    points, mass = blobs.sampled(seen, near, low, image.spacing)
    for count in range(max(1, own - 1), own + 2):
        for first in range(2):
            yield "cut", list(range(own)), blobs.cut(points, mass, image.spacing, count, scale.mass, first)


def _additions(
    image: Image,
    scale: Scale,
    capsules: Float,
    own: int,
    floor: float,
    passes: Callable[[Float, int], bool],
) -> Iterator[tuple[str, list[int], list[Float]]]:
    """One capsule more, at each remaining peak, along x, y and z."""
    trusted = np.array([k >= own or passes(capsules, k) for k in range(len(capsules))], dtype=bool)
    for centre in remaining_peaks(image, scale, capsules, np.arange(own), 0.3 * floor, trusted):
        if ((capsules[:, :3] - centre) ** 2).sum(axis=1).min() > 0.3**2:
            for axis in np.eye(3):
                yield "add", [], [make(centre, axis, scale.mass)]


def improve_group(
    image: Image,
    scale: Scale,
    own: Float,
    others: Float,
    floor: float,
    passes: Callable[[Float, int], bool],
    log: Log,
    tried: set[tuple[float, ...]],
) -> Float:
    """Change a group of capsules until no change lowers the cost; returns the group's capsules.

    Those whose mass differs most from one seed's are tried first. A group that grows to more than 1.5 times its size
    is not seeds, because bone can be covered with ever more capsules, and is returned unchanged. `tried` collects
    arrangements whose changes gained nothing, so that an unchanged group costs nothing the next time. `passes` is
    `judge.passes_tests` for one capsule, `others` are the capsules outside the group.
    """
    start = own
    limit = int(1.5 * len(start)) + 2
    for _ in range(2 * len(start) + 6):
        if not len(own):
            break
        found = _first_improvement(image, scale, own, others, floor, passes, log, tried)
        if found is None:
            break
        own, others = found
        if len(own) > limit:
            log(f"  left as it was a group of {len(start)} at {np.round(start[0, :3], 1)}")
            return start
    return own


def _first_improvement(
    image: Image, scale: Scale, own: Float, others: Float, floor: float, passes: Callable[[Float, int], bool],
    log: Log, tried: set[tuple[float, ...]],
) -> tuple[Float, Float] | None:  # fmt: skip
    """Own and other capsules after the best change of the first kind that lowers the cost, or None if none does.

    The kinds in order: cutting the group anew, changes of single doubtful capsules, mirroring in thick slices, adding.
    """
    capsules, count = np.concatenate([own, others]), len(own)
    doubtful = [k for k in range(count) if not _explained_well(image, scale, capsules, k)]

    def best_of(options: Iterator[tuple[str, list[int], list[Float]]]) -> tuple[Float, Float] | None:
        best, found, what = 1.0, None, ""
        chosen = list(options)
        if len(chosen) > BEST_TRIED:  # a short fit of each, a full one of the best
            quick = np.array(
                [
                    try_change(image, scale, capsules, drop, add, 3, 0.5 * REACH_MM)[1]
                    for _, drop, add in chosen
                ]
            )
            chosen = [chosen[n] for n in np.argsort(-quick, kind="stable")[:BEST_TRIED] if quick[n] > -np.inf]
        for name, drop, add in chosen:
            new, gain = try_change(image, scale, capsules, drop, add)
            if gain > best and new[len(new) - len(add) :, 6].min(initial=np.inf) > LEAST_MASS * scale.mass:
                if name == "add" and not passes(new, len(new) - 1):
                    continue
                left = count - len(drop)
                rest = left + len(others)
                best, what = gain, name
                found = np.concatenate([new[:left], new[rest:]]), new[left:rest]
        if found is not None:
            log(f"  {what} at {np.round(own[:, :3].mean(axis=0), 1)}, saves {best:.0f}, now {len(found[0])}")
        return found

    if doubtful and 1 < count <= blobs.LARGEST:
        key: tuple[float, ...] = tuple(np.round(np.sort(own[:, :3], axis=0), 1).ravel().tolist())
        if key not in tried:
            tried.add(key)
            found = best_of(_recuts(image, scale, capsules, count))
            if found is not None:
                return found
    for k in sorted(doubtful, key=lambda k: -abs(capsules[k, 6] / scale.mass - 1)):
        key = _key(capsules, k)
        if key in tried:
            continue
        tried.add(key)
        found = best_of(_options(image, scale, capsules, count, k, floor))
        if found is not None:
            return found
    if image.spacing[2] > THICK * scale.length_mm:
        for k in range(count):
            key = (-2.0, *_key(capsules, k))
            if k not in doubtful and key not in tried:
                tried.add(key)
                found = best_of(("mirror", [k], one) for one in mirrored(image, scale, capsules[k]))
                if found is not None:
                    return found
    key = (-1.0, *np.round(np.sort(own[:, :3], axis=0), 1).ravel().tolist())
    if key in tried:
        return None
    tried.add(key)
    return best_of(_additions(image, scale, capsules, count, floor, passes))
