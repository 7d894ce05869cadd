"""Find the seeds of an implant on a CT: the whole procedure, from background to seeds in the patient frame."""

import logging
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from brachy.core import capsule as kernel
from brachy.errors import BrachyError, UsageError
from brachy.geometry.structures import Structure
from brachy.patient.case import Case
from brachy.postimplant.seed_finder import background, blobs, moves
from brachy.postimplant.seed_finder.calibrate import (
    ENOUGH,
    calibrate,
    calibrate_again,
    explained,
    initial_scale,
    least_peak,
)
from brachy.postimplant.seed_finder.fit import Image, Scale, covariance, groups, make, refine
from brachy.postimplant.seed_finder.judge import (
    MOST_UNEXPLAINED,
    accepted,
    blob_share,
    count_blob,
    passes_tests,
    unexplained_share,
)
from brachy.postimplant.seed_finder.seeds import Calibration, Doubt, Findings, FoundSeed, HasCapsule

Float = NDArray[np.float64]
Progress = Callable[[str, float], None]
"""Called with the name of a stage and the share done in [0, 1]."""

DOUBTED = 0.8
"""Confidence below which a seed is listed as doubtful (engineering choice)."""
MOST_OBJECTS = 500
"""Number of objects above which the search ends with an error (engineering choice: the largest implants have some 150
seeds)."""
COARSEST_MM = (2.0, 8.0)
"""Pixel and slice above which a seed of 0.8 mm cannot be distinguished from bone (engineering choice)."""
FEW = 8
"""Clear single seeds below which the user is warned (engineering choice)."""


def _first_fits(
    image: Image, scale: Scale, bright: NDArray[np.bool_], floor: float, log: Callable[[str], None]
) -> Float:
    """Capsules (n, 7) fitted to the blobs that can be seeds, the brightest blob first."""
    pieces = blobs.find_blobs(image, scale, bright, 0.35 * floor)
    tops = np.array([piece.peak for piece in pieces], dtype=np.int64).reshape(-1, 3)
    height = image.excess[tuple(tops.T)]
    kind = background.line_class(image.excess, image.spacing, tops)
    keep = np.flatnonzero((kind < 3) & (height > 0.6 * floor))
    if len(keep) > 10 * MOST_OBJECTS:
        raise BrachyError(
            f"{len(keep)} bright objects, far more than an implant has seeds: give the region of the implant"
        )
    log(f"blobs {len(pieces)} kept {len(keep)} floor {floor:.0f}")
    capsules = np.zeros((0, 7))
    for n in keep[np.argsort(-height[keep], kind="stable")]:
        new = count_blob(image, scale, capsules, pieces[n])
        if blob_share(image, scale, capsules, new, pieces[n]) <= (0.4 if kind[n] == 0 else 0.8):
            together = np.concatenate([capsules, new])
            order = range(len(capsules), len(together))
            good = [k for k in order if explained(image, scale, together, k)[0] > 0.85]
            new = together[good] if kind[n] < 2 else new[:0]
        capsules = np.concatenate([capsules, new])
    log(f"blobs fitted {len(capsules)}")
    return capsules


def _refitted(image: Image, scale: Scale, capsules: Float, steps: int) -> Float:
    """All capsules fitted again, neighbours together."""
    for chosen in groups(capsules, image.spacing[2], 8.0, scale.length_mm):
        capsules = refine(image, scale, capsules, chosen, steps)
    return capsules


def _with_missed_seeds(
    image: Image,
    scale: Scale,
    capsules: Float,
    bright: NDArray[np.bool_],
    floor: float,
    failed_places: list[Float],
) -> Float:
    """The capsules and those of seeds missed so far, at peaks of the residual; `failed_places` collects vain tries."""
    left = image.excess.copy()
    kernel.add_images(capsules, scale.blur, image.spacing, np.zeros(3, np.int64), left, -1.0)
    at = background.maxima(left, image.spacing, bright, 0.5 * floor)
    at = at[np.argsort(-left[tuple(at.T)], kind="stable")]
    at = at[background.candidate_peaks(left, image.spacing, at)]
    for centre in at[:, ::-1] * image.spacing:
        if failed_places and min(((centre - s) ** 2).sum() for s in failed_places) < 1.0:
            continue
        best, best_gain = None, 1.0
        for axis in np.eye(3):
            new, gain = moves.try_change(image, scale, capsules, [], [make(centre, axis, scale.mass)])
            if gain > best_gain and new[-1, 6] > 0.55 * scale.mass:
                best, best_gain = new, gain
        passes = best is not None and passes_tests(image, scale, best, floor, [len(best) - 1])[0][0]
        if (
            best is not None
            and passes
            and unexplained_share(image, scale, best, floor, [len(best) - 1])[0] < MOST_UNEXPLAINED
        ):
            capsules = best
        else:
            failed_places.append(centre)
    return capsules


def find(
    image: Image,
    hu: NDArray[Any],
    region: NDArray[np.bool_] | None,
    scale: Scale,
    log: Callable[[str], None] = lambda text: None,
    report: Progress = lambda stage, share: None,
) -> tuple[Scale, Float, int]:
    """The scale fitted to a CT, capsules (n, 7) of its possible seeds, and the number of seeds used for calibration.

    Steps: calibrate on the clearest single seeds; fit capsules to all bright blobs; drop what is bone; calibrate again;
    then up to three sweeps that change the arrangement group by group and look for missed seeds.
    """
    bright = hu > 100 if region is None else (hu > 100) & region
    found, lines = background.peaks(image, bright, 400.0, 0.5)
    log(f"peaks {len(found)}")
    report("calibrating", 0.1)
    scale, used = calibrate(image, scale, found, lines, log)
    if used < ENOUGH:
        return scale, np.zeros((0, 7)), used
    report("fitting", 0.2)
    capsules = _first_fits(image, scale, bright, least_peak(image, scale), log)
    capsules = _refitted(image, scale, capsules, 8)
    floor = least_peak(image, scale)
    for _ in range(
        3
    ):  # a piece of bone fails the tests once the capsules on its other pieces have been removed
        good = passes_tests(image, scale, capsules, floor)[0] & (
            unexplained_share(image, scale, capsules, floor) < MOST_UNEXPLAINED
        )
        if good.all():
            break
        capsules = capsules[good]
    log(f"of a seed's shape {len(capsules)}")
    if len(capsules) > MOST_OBJECTS:
        raise BrachyError(
            f"{len(capsules)} objects look like seeds, far more than an implant has: give the region of the implant"
        )
    new, again = calibrate_again(image, scale, capsules, log)
    if again > used:
        scale, used = new, again
        capsules = _refitted(image, scale, capsules, 8)
    floor = least_peak(image, scale)

    def passes(some: Float, k: int) -> bool:
        return bool(passes_tests(image, scale, some, floor, [k])[0][0])

    tried: set[tuple[float, ...]] = set()
    failed_places: list[Float] = []
    sweeps = 3
    for sweep in range(sweeps):
        order = groups(capsules, image.spacing[2], length_mm=scale.length_mm)
        done = np.zeros((0, 7))
        for n, chosen in enumerate(order):
            waiting = [capsules[c] for c in order[n + 1 :]]
            others = np.concatenate([done, *waiting]) if waiting else done
            own = moves.improve_group(image, scale, capsules[chosen], others, floor, passes, log, tried)
            done = np.concatenate([done, own])
            report("sorting out", 0.3 + 0.7 * (sweep + (n + 1) / len(order)) / sweeps)
        capsules = _with_missed_seeds(image, scale, done, bright, floor, failed_places)
        log(f"pursued {len(done)} -> {len(capsules)}")
        good, _tests = passes_tests(image, scale, capsules, floor)
        log(f"sweep {sweep}: passed {good.sum()} of {len(good)}")
        same = good.all() and len(capsules) == len(done)
        capsules = _refitted(image, scale, capsules[good], 5)
        if same:
            break
    return scale, capsules, used


def find_seeds(
    ct: Case,
    capsule: HasCapsule,
    region: Structure | NDArray[np.bool_] | None = None,
    *,
    margin_mm: float = 0.0,
    count: int | None = None,
    progress: Progress | None = None,
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
        Number of seeds implanted. A difference to the number found gives a warning; it never adds or removes a seed.
    progress : callable, optional
        Called with the name of a stage and the share done in [0, 1].

    Returns
    -------
    Findings
        Seeds in the patient frame (LPS, mm), doubts, warnings, calibration.

    Raises
    ------
    BrachyError
        If no seeds are visible, if there are far more objects than seeds, or if the voxels are too coarse.
    UsageError
        If a region has another shape than the CT or lies outside it.

    Notes
    -----
    A seed is modelled as a bright line segment blurred by the scanner. Its integral (HU x mm3) is the same for every
    seed of a scan, whatever its direction and position between the slices, so it gives the number of seeds in a bright
    blob. Blur and integral are estimated from the clearest single seeds of the scan itself, at least three. Seeds are
    fitted together with their neighbours; overlapping capsules, bone, clips, calcifications and streaks are rejected by
    mass, shape, length and surroundings.

    Examples
    --------
    Four upright seeds painted on an empty scan:

    >>> from brachy.core.capsule import add_images
    >>> from brachy.geometry.grid import Grid
    >>> from brachy.postimplant.seed_finder import Capsule, find_seeds
    >>> spacing, hu = np.array([0.5, 0.5, 2.0]), np.zeros((20, 80, 80))
    >>> seeds = np.array([[x, y, 20.0, 0.0, 0.0, 1.0, 32_000.0] for x in (10.0, 25.0) for y in (10.0, 25.0)])
    >>> add_images(seeds, np.array([0.5, 0.5, 4.2]), spacing, np.zeros(3, dtype=np.int64), hu, 1.0)
    >>> found = find_seeds(Case(hu.astype(np.int16), Grid((0, 0, 0), spacing, hu.shape)), Capsule(), count=5)
    >>> len(found), found.warnings[0]
    (4, '4 of 5 seeds found')
    """
    hu, grid = np.asarray(ct.ct_hu), ct.grid
    if grid.spacing_mm[:2].max() > COARSEST_MM[0] or grid.spacing_mm[2] > COARSEST_MM[1]:
        size = " x ".join(f"{v:.3g}" for v in grid.spacing_mm)
        raise BrachyError(
            f"voxels of {size} mm are too coarse to see seeds: give a CT of at most "
            f"{COARSEST_MM[0]:g} mm in the slice and {COARSEST_MM[1]:g} mm between slices"
        )
    report = progress or (lambda stage, share: None)
    log = logging.getLogger(__name__).debug
    mask = _region_mask(ct, region, margin_mm)
    report("background", 0.0)
    excess = background.subtract_background(hu, grid.spacing_mm)
    clipped, saturated = background.saturation(hu)
    image = Image(excess, saturated, np.array(grid.spacing_mm))
    noise = background.noise_of(excess, hu)
    first = initial_scale(image, noise, capsule.capsule_length_mm, capsule.capsule_diameter_mm)
    scale, capsules, used = find(image, hu, mask, first, log, report)
    capsules, sure, masses, rejected = accepted(image, scale, capsules, log)
    report("done", 1.0)
    if not len(capsules):
        where = "on this CT" if mask is None else "in the region"
        raise BrachyError(
            f"no seeds seen {where}: give the CT made after the implant, and a region that holds it"
        )
    if count is not None and len(capsules) > 2 * count + 10:
        raise BrachyError(
            f"{len(capsules)} objects look like seeds, {count} were implanted: give the region of the implant"
        )

    def patient(at: Float) -> Float:
        return np.asarray(grid.index_to_mm(at[None, :3] / grid.spacing_mm)[0], dtype=np.float64)

    seeds: list[FoundSeed] = []
    doubts: list[Doubt] = []
    height = np.array([patient(c)[2] for c in capsules])
    for n, k in enumerate(np.argsort(height, kind="stable").tolist()):
        seed = _seed(image, scale, capsules, k, grid.direction, patient(capsules[k]), float(sure[k]))
        seeds.append(seed)
        reasons = []
        if seed.confidence < DOUBTED:
            reasons.append(f"confidence {seed.confidence:.2f}: shape or mass is not quite a seed's")
        if masses[k] > 1.3:
            reasons.append(f"it holds the mass of {masses[k]:.1f} seeds: more than one may lie there")
        reach = 0.5 * abs(capsules[k, 5]) * scale.length_mm
        ends = (reach - 0.5 * grid.spacing_mm[2], (len(hu) - 0.5) * grid.spacing_mm[2] - reach)
        if not ends[0] <= capsules[k, 2] <= ends[1]:
            reasons.append("it lies at the first or last slice: part of it may be outside the CT")
        if reasons:
            doubts.append(Doubt(seed.position_mm, "; ".join(reasons), n))
    doubts += [Doubt(patient(c), f"not taken for a seed: {why}", None) for c, why in rejected]
    calibration = Calibration(
        single_seeds=used,
        seed_mass_hu_mm3=scale.mass,
        seed_mass_sd=scale.mass_sd,
        in_plane_sigma_mm=float(scale.blur[0]),
        slice_sigma_mm=float(scale.blur[1]),
        bright_length_mm=float(scale.blur[2]),
        noise_hu=noise,
        clipped_at_hu=clipped,
    )
    warnings = _warnings(seeds, count, calibration, float(grid.spacing_mm[2]))
    return Findings(tuple(seeds), tuple(doubts), tuple(warnings), calibration)


def _seed(
    image: Image, scale: Scale, capsules: Float, k: int, turn: Float, at: Float, sure: float
) -> FoundSeed:
    """Capsule k as a seed in the patient frame, with standard errors; columns of `turn` are the grid's directions."""
    spread = covariance(image, scale, capsules, k)
    axis = turn @ capsules[k, 3:6]
    return FoundSeed(
        position_mm=at,
        axis=axis if axis[2] >= 0 else -axis,
        confidence=sure,
        mass=float(capsules[k, 6] / scale.mass),
        position_sd_mm=np.sqrt(np.diagonal(turn @ spread[:3, :3] @ turn.T)),
        axis_sd_deg=float(np.degrees(np.arctan(np.sqrt(0.5 * (spread[3, 3] + spread[4, 4]))))),
    )


def _warnings(
    seeds: list[FoundSeed], count: int | None, calibration: Calibration, slice_mm: float
) -> list[str]:
    found, out = len(seeds), []
    if count is not None and found != count:
        out.append(
            f"{found} of {count} seeds found" if found < count else f"{found} seeds found, {count} implanted"
        )
    doubtful = sum(seed.confidence < DOUBTED for seed in seeds)
    if doubtful:
        out.append(f"{doubtful} of the {found} seeds are doubtful: look at them")
    if calibration.single_seeds < FEW:
        out.append(
            f"only {calibration.single_seeds} clear single seeds to learn from: all masses are uncertain"
        )
    if calibration.clipped_at_hu is not None:
        out.append(
            f"the CT is clipped at {calibration.clipped_at_hu:.0f} HU: touching seeds are counted less surely"
        )
    if slice_mm > 3.0:
        out.append(f"slices of {slice_mm:g} mm: a seed may be off by more than 1 mm along z")
    return out


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
