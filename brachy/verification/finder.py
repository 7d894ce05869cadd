"""Seeds on a CT."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from brachy.case import Case
from brachy.core import capsule as kernel
from brachy.errors import BrachyError, UsageError
from brachy.structures import Structure
from brachy.verification import background, blobs, moves
from brachy.verification.calibrate import ENOUGH, calibrate, explained, least_peak, start
from brachy.verification.fit import Image, Scale, bounds, cost, covariance, groups, refine, residual
from brachy.verification.seeds import Calibration, Doubt, Findings, FoundSeed, HasCapsule

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


def find_seeds(
    ct: Case,
    capsule: HasCapsule,
    region: Structure | NDArray[np.bool_] | None = None,
    *,
    margin_mm: float = 0.0,
    count: int | None = None,
    progress: Callable[[str, float], None] | None = None,
) -> Findings:
    """Find the seeds of a permanent implant on a CT.

    Parameters
    ----------
    ct : Case
        CT in HU and its grid; any direction and spacing.
    capsule : Source or Capsule
        Outer size of the seeds: `capsule_length_mm`, `capsule_diameter_mm`.
    region : Structure or (nz, ny, nx) bool array, optional
        Where seed centres are looked for; the whole CT by default.
    margin_mm : float
        Added round the region, mm.
    count : int, optional
        Seeds implanted. It is compared with what was found and warned about; it never adds or removes a seed.
    progress : callable, optional
        Called with (stage, share done in [0, 1]).

    Returns
    -------
    Findings
        Seeds in the patient frame (LPS, mm), doubts, warnings, calibration.

    Raises
    ------
    BrachyError
        If no seeds can be seen, or far more objects than seeds.
    UsageError
        If a region has another shape than the CT or lies outside it.
    """
    hu, grid = np.asarray(ct.ct_hu), ct.grid
    tell = progress or (lambda stage, share: None)
    mask = _region_mask(ct, region, margin_mm)
    tell("background", 0.0)
    excess = background.subtract_background(hu, grid.spacing_mm)
    clipped, saturated = background.saturation(hu)
    image = Image(excess, saturated, np.array(grid.spacing_mm))
    noise = background.noise_of(excess, hu)
    scale, capsules, tests = find(image, hu, mask, start(image, noise))
    tell("done", 1.0)
    if not len(capsules):
        raise BrachyError(
            "no seeds seen on this CT: is it the post-implant CT, and does the region hold the seeds?"
        )
    seeds: list[FoundSeed] = []
    doubts: list[Doubt] = []
    order = np.argsort(grid.index_to_mm(capsules[:, :3] / grid.spacing_mm)[:, 2], kind="stable")
    for n, k in enumerate(order.tolist()):
        c = capsules[k]
        spread = covariance(image, scale, capsules, k)
        turn = grid.direction
        axis = turn @ c[3:6]
        at = grid.index_to_mm(c[None, :3] / grid.spacing_mm)[0]
        mass = float(c[6] / scale.mass)
        seeds.append(
            FoundSeed(
                position_mm=at,
                axis=axis if axis[2] >= 0 else -axis,
                confidence=float(np.clip(tests[k, 0], 0.0, 1.0)),
                mass=mass,
                position_sd_mm=np.sqrt(np.diagonal(turn @ spread[:3, :3] @ turn.T)),
                axis_sd_deg=float(np.degrees(np.sqrt(0.5 * (spread[3, 3] + spread[4, 4])))),
            )
        )
        if abs(mass - 1) > 0.3:
            doubts.append(Doubt(at, f"its mass is that of {mass:.2f} seeds", n))
    warnings = [] if count is None or count == len(seeds) else [f"{len(seeds)} of {count} seeds found"]
    return Findings(
        tuple(seeds),
        tuple(doubts),
        tuple(warnings),
        Calibration(
            single_seeds=0,
            seed_mass_hu_mm3=scale.mass,
            seed_mass_sd=scale.mass_sd,
            in_plane_sigma_mm=float(scale.blur[0]),
            slice_sigma_mm=float(scale.blur[1]),
            bright_length_mm=float(scale.blur[2]),
            noise_hu=noise,
            clipped_at_hu=clipped,
        ),
    )


def _region_mask(
    ct: Case, region: Structure | NDArray[np.bool_] | None, margin_mm: float
) -> NDArray[np.bool_] | None:
    if region is None:
        return None
    if isinstance(region, Structure):
        mask = region.fraction_mask(ct.grid) > 0.5
        name = f"region '{region.name}'"
    else:
        mask, name = np.asarray(region, dtype=bool), "the region"
    if mask.shape != ct.ct_hu.shape:
        raise UsageError(f"{name} has the shape {mask.shape}, the CT {ct.ct_hu.shape}: they must be the same")
    if not mask.any():
        raise UsageError(f"{name} lies outside the CT: give one that it shows")
    if margin_mm > 0:
        distance = np.asarray(ndimage.distance_transform_edt(~mask, sampling=ct.grid.spacing_mm[::-1]))
        mask = distance <= margin_mm
    return mask
