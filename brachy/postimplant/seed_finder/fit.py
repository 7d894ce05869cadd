"""Fits capsules to a CT by least squares, neighbours together, with the scan's own blur, mass of a seed and errors.

Positions are in "scan mm" (index times spacing, x y z); a capsule is a row of seven numbers, see `brachy.core.capsule`.
A voxel box is given by its first index `low` and the index after its last `high`, both x y z.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from brachy.core import capsule as kernel

Float = NDArray[np.float64]
Int = NDArray[np.int64]

SOFT_EDGE = 0.2
"""Slice sigma of a coarse fit, as a share of the slice thickness (engineering choice)."""


def blur_bounds(spacing: Float, length_mm: float) -> Float:
    """Least and greatest plausible in-plane sigma, slice sigma and line length, (2, 3) in mm (engineering choices).

    No reconstruction is sharper than its pixels: a sigma of 0.4 pixels is a FWHM of 0.94 pixels.
    """
    pixel, slice_ = float(spacing[:2].mean()), float(spacing[2])
    least = max(0.25, 0.4 * pixel)
    return np.array(
        [[least, 0.1, 0.67 * length_mm], [max(1.4, least), max(1.6, 0.5 * slice_), 1.07 * length_mm]]
    )


_LENGTH_PRIOR = (0.93, 0.09)
"""Prior of the length of a seed's bright part as a share of its capsule, and SD: it lies between the 3-4 mm of the core
and the 4.5 mm of the capsule (engineering choice)."""


@dataclass(frozen=True, eq=False)
class Image:
    """HU above the local background, [z, y, x] float32; saturated voxels (or an empty array); spacing x, y, z mm."""

    excess: NDArray[np.float32]
    saturated: NDArray[np.bool_]
    spacing: Float


@dataclass(frozen=True, eq=False)
class Scale:
    """Parameters of a scan: image of one seed, and the expected error of a voxel."""

    blur: Float
    """In-plane sigma, slice sigma, line length, mm."""
    mass: float
    """HU mm3 of one seed."""
    mass_sd: float
    """Spread of the mass between seeds, as a share of it."""
    noise_hu: float
    """Error of a voxel where nothing is bright."""
    share: float
    """Error of a voxel as a share of its signal: beam hardening, and what the model leaves out."""
    cell_voxels: float
    """Voxels of a slice in one resolution cell, whose errors are correlated."""
    length_mm: float = 4.5
    """Outer length of a seed."""
    diameter_mm: float = 0.8
    """Outer diameter of a seed."""

    @property
    def errors(self) -> Float:
        """Noise in HU, share of the signal and voxels a cell, in the order that the kernels expect."""
        return np.array([self.noise_hu, self.share, self.cell_voxels])

    def blurred(self, blur: Float, spacing: Float) -> "Scale":
        """The same scale with another blur (3,), mm, and the resolution cell that follows from it."""
        cell = max(1.0, 4 * np.pi * blur[0] ** 2 / (spacing[0] * spacing[1]))
        return replace(self, blur=np.array(blur), cell_voxels=float(cell))


def make(centre: Sequence[float] | Float, axis: Sequence[float] | Float, mass: float) -> Float:
    """Seven numbers of a capsule from its centre (scan mm), axis of any length, and mass (HU mm3)."""
    direction = np.asarray(axis, dtype=np.float64)
    return np.concatenate(
        [np.asarray(centre, dtype=np.float64), direction / np.linalg.norm(direction), [mass]]
    )


def bounds(image: Image, low_mm: Float, high_mm: Float) -> tuple[Int, Int]:
    """Voxel box [low, high) of the voxels whose centres lie in a box in scan mm."""
    size = np.array(image.excess.shape[::-1])
    low = np.clip(np.ceil(low_mm / image.spacing), 0, size).astype(np.int64)
    high = np.clip(np.floor(high_mm / image.spacing) + 1, low, size).astype(np.int64)
    return low, high


def around(image: Image, scale: Scale, capsules: Float, margin_mm: float = 1.0) -> tuple[Int, Int]:
    """Voxel box that contains the images of the capsules whatever their directions, and a margin."""
    length, sigma, slice_sigma = scale.blur[2], scale.blur[0], scale.blur[1]
    plane = 0.5 * length + 3 * sigma + margin_mm
    reach = np.array([plane, plane, 0.5 * length + 0.5 * image.spacing[2] + 2.5 * slice_sigma + margin_mm])
    return bounds(image, capsules[:, :3].min(axis=0) - reach, capsules[:, :3].max(axis=0) + reach)


def within(image: Image, capsules: Float, low: Int, high: Int, reach_mm: float = 6.0) -> NDArray[np.intp]:
    """Indices of the capsules whose image may reach into a voxel box."""
    reach = np.array([reach_mm, reach_mm, reach_mm + image.spacing[2]])
    inside = (capsules[:, :3] > low * image.spacing - reach) & (
        capsules[:, :3] < high * image.spacing + reach
    )
    return np.flatnonzero(inside.all(axis=1))


def residual(image: Image, scale: Scale, capsules: Float, low: Int, high: Int) -> Float:
    """Excess in HU minus the images of the capsules, in a voxel box, [z, y, x]."""
    left = image.excess[low[2] : high[2], low[1] : high[1], low[0] : high[0]].astype(np.float64)
    kernel.add_images(
        capsules[within(image, capsules, low, high)], scale.blur, image.spacing, low, left, -1.0
    )
    return left


def _assembled(
    image: Image, scale: Scale, capsules: Float, free: int, level: int, low: Int, high: Int
) -> tuple[float, Float, Float]:
    """Misfit, Gauss-Newton matrix and right side of `brachy.core.capsule.assemble`."""
    size = (kernel.SHAPE_NUMBERS * free + (3 if level == 2 else 0)) if level else 0
    matrix, right = np.empty((size, size)), np.empty(size)
    found = kernel.assemble(
        image.excess, image.saturated, image.spacing, low, high, capsules, free, scale.blur, level, scale.errors,
        matrix, right,
    )  # fmt: skip
    return float(found), matrix, right


def cost(image: Image, scale: Scale, capsules: Float, low: Int, high: Int, free: NDArray[np.intp]) -> float:
    """Misfit in a voxel box plus the prior of the free capsules (`brachy.core.capsule.prior`)."""
    near = capsules[within(image, capsules, low, high)]
    found, _matrix, _right = _assembled(image, scale, near, 0, 0, low, high)
    chosen = capsules[free]
    return float(found + kernel.prior(chosen, len(chosen), scale.mass, scale.mass_sd, image.spacing[2]))


def refine(
    image: Image,
    scale: Scale,
    capsules: Float,
    free: NDArray[np.intp] | Sequence[int],
    steps: int = 10,
    prior_sd: float | None = None,
    coarse: bool = False,
) -> Float:
    """Fit the capsules with the indices `free` together and leave the others as they are; returns all capsules (n, 7).

    `prior_sd` overrides the spread of the mass. Within a thick slice the image of a seed does not change when it moves
    along z, so a fit that starts there has no gradient to follow: with `coarse` it first uses a softer slice profile.
    """
    moving = np.asarray(free, dtype=np.intp)
    if not len(moving):
        return capsules
    low, high = around(image, scale, capsules[moving])
    if (high <= low).any():
        return capsules
    near = within(image, capsules, low, high)
    others = near[~np.isin(near, moving)]
    now = capsules[np.concatenate([moving, others])]
    soft = SOFT_EDGE * image.spacing[2]
    if coarse and scale.blur[1] < soft:
        softer = replace(scale, blur=np.array([scale.blur[0], soft, scale.blur[2]]))
        now = _levenberg_marquardt(image, softer, now, len(moving), low, high, max(3, steps // 2), prior_sd)
    now = _levenberg_marquardt(image, scale, now, len(moving), low, high, steps, prior_sd)
    out = capsules.copy()
    out[moving] = now[: len(moving)]
    return out


def _levenberg_marquardt(
    image: Image,
    scale: Scale,
    now: Float,
    count: int,
    low: Int,
    high: Int,
    steps: int,
    prior_sd: float | None,
) -> Float:
    """Up to 2 x `steps` damped Gauss-Newton steps on the first `count` capsules; returns the best capsules found.

    After a step that lowers the misfit the damping falls by 5, else it rises by 25 and the step is tried again from the
    best capsules; three failures in a row, or a gain below 1e-4 of the misfit, end the fit (engineering choices).
    """
    sd, slice_mm = scale.mass_sd if prior_sd is None else prior_sd, float(image.spacing[2])
    new = now
    best, damping, rejected = np.inf, 1e-2, 0
    kept: tuple[Float, Float] | None = None
    for _ in range(2 * steps):
        value, matrix, right = _assembled(image, scale, new, count, 1, low, high)
        value += kernel.prior(new, count, scale.mass, sd, slice_mm)
        if value < best:
            finished = best - value < 1e-4 * value + 1e-3
            now, best, kept, damping, rejected = new, value, (matrix, right), max(damping / 5, 1e-7), 0
            if finished:
                break
        else:
            damping *= 25
            rejected += 1
            if rejected > 3:
                break
        assert kept is not None
        new = kernel.damped_step(now, count, scale.mass, sd, slice_mm, *kept, damping)
    return now


def covariance(image: Image, scale: Scale, capsules: Float, index: int) -> Float:
    """Covariance (6, 6) of x, y, z (mm), two tilts and mass of one capsule.

    The neighbours within 8 mm are free as well, so that their uncertainty is included.
    """
    near = np.flatnonzero(np.linalg.norm(capsules[:, :3] - capsules[index, :3], axis=1) < 8.0)
    order = np.concatenate([[index], near[near != index]])
    low, high = around(image, scale, capsules[order])
    others = np.setdiff1d(within(image, capsules, low, high), order)
    together = np.concatenate([capsules[order], capsules[others]])
    _found, matrix, _right = _assembled(image, scale, together, len(order), 1, low, high)
    masses = np.arange(5, 6 * len(order), 6)
    matrix[masses, masses] += 1.0 / (scale.mass_sd * scale.mass) ** 2
    matrix[masses - 3, masses - 3] += 12.0 / image.spacing[2] ** 2
    tilts = np.concatenate([masses - 2, masses - 1])
    matrix[tilts, tilts] += (
        1.0  # prior SD of 45 degrees for a tilt: no direction can be less certain than that
    )
    return np.asarray(np.linalg.pinv(matrix)[:6, :6], dtype=np.float64)


def groups(
    capsules: Float, slice_mm: float, gap_mm: float = 7.0, length_mm: float = 4.5
) -> list[NDArray[np.intp]]:
    """Index arrays of connected sets of capsules: centres within `gap_mm`, along z within a slice and a capsule."""
    count = len(capsules)
    if not count:
        return []
    scaled = capsules[:, :3] / [gap_mm, gap_mm, max(gap_mm, length_mm + 1.2 * slice_mm)]
    near = ((scaled[:, None] - scaled[None]) ** 2).sum(axis=-1) < 1.0
    label = np.full(count, -1)
    found: list[NDArray[np.intp]] = []
    for start in range(count):
        if label[start] >= 0:
            continue
        label[start] = len(found)
        front = [start]
        while front:
            here = front.pop()
            for there in np.flatnonzero(near[here] & (label < 0)):
                label[there] = len(found)
                front.append(int(there))
        found.append(np.flatnonzero(label == len(found)))
    return found


def refine_blur(
    image: Image, scale: Scale, capsules: Float, sets: Sequence[NDArray[np.intp]], steps: int = 8
) -> tuple[Scale, Float]:
    """Fit the scan's blur on sets of capsules whose own numbers are free too; returns the scale and the capsules.

    The capsules' unknowns are eliminated set by set (Schur complement), so that only a 3 x 3 system is left for the
    blur.
    """
    now = capsules.copy()
    for _ in range(steps):
        pull = 1.0 / (_LENGTH_PRIOR[1] * scale.length_mm) ** 2
        matrix = np.diag([4.0, 1.0, pull])  # a weak prior keeps the system solvable with a few seeds
        right = np.array([0.0, 0.0, (_LENGTH_PRIOR[0] * scale.length_mm - scale.blur[2]) * pull])
        for chosen in sets:
            low, high = around(image, scale, now[chosen])
            others = np.setdiff1d(within(image, now, low, high), chosen)
            together = np.concatenate([now[chosen], now[others]])
            _found, full, side = _assembled(image, scale, together, len(chosen), 2, low, high)
            n = 6 * len(chosen)
            inner = full[:n, :n] + np.diag(1e-3 * np.diagonal(full)[:n] + 1e-9)
            solved = np.linalg.solve(inner, np.column_stack([full[:n, n:], side[:n]]))
            matrix += full[n:, n:] - full[n:, :n] @ solved[:, :3]
            right += side[n:] - full[n:, :n] @ solved[:, 3]
        change = np.clip(np.linalg.solve(matrix, right), [-0.1, -0.3, -0.3], [0.1, 0.3, 0.3])
        blur = np.clip(scale.blur + change, *blur_bounds(image.spacing, scale.length_mm))
        moved = float(np.abs(blur - scale.blur).max())
        scale = scale.blurred(blur, image.spacing)
        for chosen in sets:
            now = refine(image, scale, now, chosen, steps=3, prior_sd=10.0)
        if moved < 2e-3:
            break
    return scale, now
