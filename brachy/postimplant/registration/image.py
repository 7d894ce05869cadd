"""Registration by image: two CTs on an organ and what lies round it."""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from brachy.errors import BrachyError
from brachy.geometry.structures import Structure
from brachy.patient.case import Case
from brachy.postimplant.matching import moved_by
from brachy.postimplant.registration.transform import Registration, RegistrationError, about

Float = NDArray[np.float64]

LEAST_CORRELATION = 0.5
"""Of the two images in the region, below which they do not show the same thing (engineering choice)."""

MOST_SPREAD_MM = 3.0
"""Distance between registrations from several starts above which they are refused (engineering choice: a voxel of a
thick CT)."""

WINDOW_HU = (-150.0, 250.0)
"""CT numbers are cut to this before images are compared, so that metal and its streaks weigh no more than bone
(engineering choice)."""

WORSE_CORRELATION = 0.05
"""A start of the registration by image that correlates worse than the best by more than this has ended in a local
optimum, and is no second measurement (engineering choice)."""

SAMPLING_SEED = 1
"""The voxels that are compared are drawn with it; without one SimpleITK takes the clock."""

REMEDY = "register by organ (contours of one organ on both CTs), by the seeds or with a transform file"

IMAGE_MARGIN_MM = 15.0
"""The images are compared this far round the organ (engineering choice)."""


def by_image(
    planned: Case,
    post: Case,
    organ: Structure,
    start: ArrayLike | None = None,
    post_organ: Structure | None = None,
) -> Registration:
    """Rigid registration of two CTs on an organ and what lies 15 mm round it.

    Parameters
    ----------
    planned, post : Case
        CT before and after the implant.
    organ : Structure
        On the planning CT: what must fit.
    start : (4, 4) array, optional
        First guess, plan to post. By default the organ's centre goes to that of `post_organ`, else the image's
        centre to the image's centre.
    post_organ : Structure, optional
        The same organ on the CT after the implant.

    Returns
    -------
    Registration
        `residual_mm` is the largest distance, at the corners of the organ's box, between registrations that started
        5 mm and 4 degrees apart: what the images leave open.

    Raises
    ------
    BrachyError
        If the images do not correlate, the starts do not agree to 3 mm, or the organ leaves the CT.

    Notes
    -----
    A start that ends with a clearly worse correlation has been caught by a local optimum and says nothing of the best
    one; two must agree all the same.
    """
    import SimpleITK as sitk

    if organ.is_empty:
        raise BrachyError(f"ROI '{organ.name}' has no contour: name another for the registration by image")
    fixed, mask = _cropped(planned, organ)
    moving = _image(post)
    if start is None:
        first = np.eye(4)
        aim = post_organ.centroid_mm if post_organ is not None else post.grid.corners_mm().mean(axis=0)
        whence = organ.centroid_mm if post_organ is not None else planned.grid.corners_mm().mean(axis=0)
        first[:3, 3] = aim - whence
    else:
        first = np.asarray(start, dtype=np.float64)
    box = organ.bounds_mm
    corners = np.array([[box[(i >> k) & 1, k] for k in range(3)] for i in range(8)])
    found: list[tuple[float, Float]] = []
    for offset, turn in (((0, 0, 0), (0, 0, 0)), ((5, -5, 5), (4, 0, -4)), ((-5, 5, -5), (-4, 4, 0))):
        guess = first @ about(organ.centroid_mm, turn)
        guess[:3, 3] += offset
        found.append(_registered(sitk, fixed, mask, moving, guess, organ.centroid_mm))
    found.sort(key=lambda each: -each[0])
    correlation, matrix = found[0]
    apart = [
        float(np.linalg.norm(moved_by(matrix, corners) - moved_by(other, corners), axis=1).max())
        for _, other in found[1:]
    ]
    equal = [
        d for d, (value, _) in zip(apart, found[1:], strict=True) if value >= correlation - WORSE_CORRELATION
    ]
    spread = max(equal, default=min(apart))
    if correlation < LEAST_CORRELATION:
        raise RegistrationError(
            "registration by image",
            f"round '{organ.name}' the two CTs correlate by {correlation:.2f}, {LEAST_CORRELATION:g} is needed",
            REMEDY,
        )
    if spread > MOST_SPREAD_MM:
        raise RegistrationError(
            "registration by image",
            f"from several starts it ends {spread:.1f} mm apart at '{organ.name}', {MOST_SPREAD_MM:g} mm at most are "
            "trusted",
            REMEDY,
        )
    agreed = f"{len(equal) + 1} of {len(found)} starts agree to {spread:.2f} mm"
    note = f"CTs round '{organ.name}' correlate by {correlation:.3f}; {agreed}"
    return Registration("image", matrix, spread, note, error_mm=spread)


def _image(case: Case) -> Any:
    import SimpleITK as sitk

    image = sitk.GetImageFromArray(np.clip(np.asarray(case.ct_hu, dtype=np.float32), *WINDOW_HU))
    image.SetSpacing(case.grid.spacing_mm.tolist())
    image.SetOrigin(case.grid.origin_mm.tolist())
    image.SetDirection(case.grid.direction.ravel().tolist())
    return image


def _cropped(case: Case, organ: Structure) -> tuple[Any, Any]:
    """CT round the organ, and the mask of the organ with its margin there."""
    import SimpleITK as sitk
    from scipy import ndimage

    box = organ.bounds_mm
    corners = np.array([[box[(i >> k) & 1, k] for k in range(3)] for i in range(8)])
    index = case.grid.mm_to_index(corners)
    margin = (IMAGE_MARGIN_MM + 5.0) / case.grid.spacing_mm
    size = np.array(case.grid.shape[::-1])
    low = np.clip(np.floor(index.min(axis=0) - margin).astype(int), 0, size - 1)
    high = np.clip(np.ceil(index.max(axis=0) + margin).astype(int) + 1, 1, size)
    if (high - low < 4).any():
        raise BrachyError(f"ROI '{organ.name}' lies outside the planning CT: register by seeds or a file")
    whole = _image(case)
    fixed = whole[low[0] : int(high[0]), low[1] : int(high[1]), low[2] : int(high[2])]
    inside = organ.fraction_mask(case.grid)[low[2] : high[2], low[1] : high[1], low[0] : high[0]] > 0.5
    if not inside.any():
        raise BrachyError(f"ROI '{organ.name}' lies outside the planning CT: register by seeds or a file")
    away = ndimage.distance_transform_edt(~inside, sampling=case.grid.spacing_mm[::-1])
    mask = sitk.GetImageFromArray((np.asarray(away) <= IMAGE_MARGIN_MM).astype(np.uint8))
    mask.CopyInformation(fixed)
    return fixed, mask


def _registered(
    sitk: Any, fixed: Any, mask: Any, moving: Any, guess: Float, centre: Float
) -> tuple[float, Float]:
    """Correlation and matrix of one registration; one thread and a fixed seed, so that it is the same every time."""
    transform = sitk.Euler3DTransform()
    transform.SetCenter(centre.tolist())
    transform.SetMatrix(guess[:3, :3].ravel().tolist())
    transform.SetTranslation((guess[:3, :3] @ centre + guess[:3, 3] - centre).tolist())
    method = sitk.ImageRegistrationMethod()
    method.SetNumberOfThreads(1)
    method.SetMetricAsCorrelation()
    method.SetMetricFixedMask(mask)
    method.SetMetricSamplingStrategy(method.REGULAR)
    method.SetMetricSamplingPercentage(0.25, SAMPLING_SEED)
    method.SetInterpolator(sitk.sitkLinear)
    method.SetOptimizerAsRegularStepGradientDescent(2.0, 0.01, 120, gradientMagnitudeTolerance=1e-6)
    method.SetOptimizerScalesFromPhysicalShift()
    method.SetShrinkFactorsPerLevel([4, 2, 1])
    method.SetSmoothingSigmasPerLevel([3.0, 1.5, 0.0])
    method.SmoothingSigmasAreSpecifiedInPhysicalUnitsOn()
    method.SetInitialTransform(transform, inPlace=True)
    try:
        method.Execute(fixed, moving)
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[-1].strip()[:120]
        raise RegistrationError(
            "registration by image", f"the CTs do not overlap ({reason})", REMEDY
        ) from None
    matrix = np.eye(4)
    matrix[:3, :3] = np.array(transform.GetMatrix()).reshape(3, 3)
    matrix[:3, 3] = np.array(transform.GetTranslation()) + centre - matrix[:3, :3] @ centre
    value = -float(method.GetMetricValue())  # the metric is the negative of the squared correlation
    return float(np.sqrt(max(value, 0.0))), matrix
