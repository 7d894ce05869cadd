"""Rigid registration of the plan and the CT after the implant: frame of reference, images, seeds, or a file.

A transform is a 4 x 4 matrix that takes positions of the plan (patient frame, LPS, mm) to positions on the CT after
the implant. One that cannot be trusted is refused: a bad registration would be a bad comparison that looks like a bad
implant.
"""

import json
import subprocess
import sys
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from brachy import resources
from brachy.errors import BrachyError, UsageError
from brachy.geometry.structures import Structure
from brachy.patient.case import Case
from brachy.postimplant.matching import GATE_MM, assign, common_shift, moved_by, rigid_fit

Float = NDArray[np.float64]

METHODS = ("auto", "frame", "image", "seeds")
"""What `--register` takes besides the name of a file."""

LEAST_SHARE = 0.5
"""Share of the planned seeds that a registration by the seeds must find again (engineering choice)."""

MOST_RESIDUAL_MM = {"image": 3.0, "seeds": 5.0}
"""Residual above which a registration is refused (engineering choice: a voxel of a thick CT; the least distance of two
seeds)."""

LEAST_CORRELATION = 0.5
"""Of the two images in the region, below which they do not show the same thing (engineering choice)."""

TURNS_DEG = (-12.0, 0.0, 12.0)
"""Turns about each axis from which the registration by the seeds starts (engineering choice)."""

WINDOW_HU = (-150.0, 250.0)
"""CT numbers are cut to this before images are compared, so that metal and its streaks weigh no more than bone
(engineering choice)."""

WORSE_CORRELATION = 0.05
"""A start of the registration by image that correlates worse than the best by more than this has ended in a local
optimum, and is no independent comparison (engineering choice)."""

SAMPLING_SEED = 1
"""The voxels that are compared are drawn with it; without one SimpleITK takes the clock."""

ITK_SECONDS = 60.0

PARAMETERS = {
    "Euler3DTransform": 6, "VersorRigid3DTransform": 6, "VersorTransform": 3, "QuaternionRigidTransform": 7,
    "TranslationTransform": 3, "Similarity3DTransform": 7, "AffineTransform": 12, "MatrixOffsetTransformBase": 12,
    "IdentityTransform": 0,
}  # fmt: skip
"""Numbers of ITK's transforms that can be rigid."""

IMAGE_MARGIN_MM = 15.0
"""The images are compared this far round the organ (engineering choice)."""


@dataclass(frozen=True, eq=False)
class Registration:
    """How the plan lies on the CT after the implant.

    Parameters
    ----------
    method : str
        "frame", "image", "seeds" or "file".
    transform : (4, 4) array
        Plan to post-implant, patient frame (LPS), mm; rigid.
    residual_mm : float or None
        What is left: RMS distance of matched seeds, or the spread of registrations from several starts; None where
        the method measures none (frame, file).
    note : str
        One sentence of how good it is.
    """

    method: str
    transform: Float
    residual_mm: float | None
    note: str


def by_frame(planned_uid: str, post_uid: str) -> Registration:
    """Plan and CT share a frame of reference: the identity.

    Raises
    ------
    BrachyError
        If they do not, or one has none.

    Examples
    --------
    >>> float(by_frame("1.2.3", "1.2.3").transform.trace())
    4.0
    """
    if not planned_uid or planned_uid != post_uid:
        raise BrachyError(
            "the CT after the implant has another frame of reference than the plan: register by image, seeds or a "
            "transform file (--register)"
        )
    return Registration(
        "frame", np.eye(4), None, "plan and post-implant CT share a frame of reference; nothing was fitted"
    )


def by_seeds(planned_mm: ArrayLike, found_mm: ArrayLike, gate_mm: float = GATE_MM) -> Registration:
    """Rigid transform that brings most planned seeds onto found ones, whatever was lost or migrated.

    Parameters
    ----------
    planned_mm, found_mm : (n, 3), (m, 3) arrays
        Seed centres, each in its own frame, mm; which belongs to which is not known.
    gate_mm : float
        Farthest that a seed may be off.

    Raises
    ------
    BrachyError
        If fewer than half of the planned seeds, or than four, find a partner, or the residual is above 5 mm.

    Notes
    -----
    From each of 27 turns the shift with most votes (`brachy.postimplant.matching.common_shift`) starts a sequence
    of assignments and rigid fits in which the gate shrinks; the start that brings most seeds together wins. What the
    whole implant moved within the organ is thereby taken for a move of the patient.

    Examples
    --------
    >>> rng = np.random.default_rng(1)
    >>> planned = rng.uniform(-25, 25, (30, 3))
    >>> found = by_seeds(planned, planned + [40.0, -3.0, 100.0])
    >>> found.residual_mm < 1e-6, np.round(found.transform[:3, 3])
    (True, array([ 40.,  -3., 100.]))
    """
    planned = np.asarray(planned_mm, dtype=np.float64).reshape(-1, 3)
    found = np.asarray(found_mm, dtype=np.float64).reshape(-1, 3)
    least = max(4, int(np.ceil(LEAST_SHARE * len(planned))))
    middle = planned.mean(axis=0) if len(planned) else np.zeros(3)
    best: tuple[int, float, Float] | None = None
    for x in TURNS_DEG:
        for y in TURNS_DEG:
            for z in TURNS_DEG:
                matrix = _about(middle, (x, y, z))
                shift, votes = common_shift(moved_by(matrix, planned), found)
                if votes < 3:
                    continue
                matrix[:3, 3] += shift
                tried = _settled(planned, found, matrix, gate_mm)
                if tried is not None and (best is None or (tried[0], -tried[1]) > (best[0], -best[1])):
                    best = tried
    matched = 0 if best is None else best[0]
    if best is None or matched < least:
        raise BrachyError(
            f"registration by the seeds failed: {matched} of {len(planned)} planned seeds find a partner within "
            f"{gate_mm:g} mm, {least} are needed; register by frame, image or a transform file"
        )
    if best[1] > MOST_RESIDUAL_MM["seeds"]:
        raise BrachyError(
            f"registration by the seeds failed: {best[1]:.1f} mm are left between matched seeds, "
            f"{MOST_RESIDUAL_MM['seeds']:g} mm at most are trusted; register by image or a transform file"
        )
    note = f"{matched} of {len(planned)} planned seeds within {gate_mm:g} mm, {best[1]:.2f} mm RMS"
    return Registration("seeds", best[2], best[1], note)


def _settled(planned: Float, found: Float, matrix: Float, gate_mm: float) -> tuple[int, float, Float] | None:
    """Seeds matched, their RMS distance and the matrix, after fits with a shrinking gate."""
    for gate in (1.5 * gate_mm, gate_mm, gate_mm, 0.7 * gate_mm, 0.7 * gate_mm):
        pairs = assign(moved_by(matrix, planned), found, gate).pairs
        if len(pairs) < 4:
            return None
        matrix = rigid_fit(planned[pairs[:, 0]], found[pairs[:, 1]])
    pairs = assign(moved_by(matrix, planned), found, gate_mm).pairs
    if not len(pairs):
        return None
    apart = moved_by(matrix, planned)[pairs[:, 0]] - found[pairs[:, 1]]
    return len(pairs), float(np.sqrt((apart**2).sum(axis=1).mean())), matrix


def _about(middle: Float, degrees: tuple[float, float, float]) -> Float:
    """Turn about x, then y, then z through a point."""
    turn = np.eye(3)
    for axis, angle in enumerate(np.radians(degrees)):
        c, s = np.cos(angle), np.sin(angle)
        one = np.eye(3)
        i, j = [(1, 2), (2, 0), (0, 1)][axis]
        one[i, i], one[i, j], one[j, i], one[j, j] = c, -s, s, c
        turn = one @ turn
    matrix = np.eye(4)
    matrix[:3, :3] = turn
    matrix[:3, 3] = middle - turn @ middle
    return matrix


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
        guess = first @ _about(organ.centroid_mm, turn)
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
        raise BrachyError(
            f"registration by image failed: round '{organ.name}' the two CTs correlate by {correlation:.2f}, "
            f"{LEAST_CORRELATION:g} is needed; register by seeds or a transform file"
        )
    if spread > MOST_RESIDUAL_MM["image"]:
        raise BrachyError(
            f"registration by image failed: from several starts it ends {spread:.1f} mm apart at '{organ.name}', "
            f"{MOST_RESIDUAL_MM['image']:g} mm at most are trusted; register by seeds or a transform file"
        )
    agreed = f"{len(equal) + 1} of {len(found)} starts agree to {spread:.2f} mm"
    note = f"CTs round '{organ.name}' correlate by {correlation:.3f}; {agreed}"
    return Registration("image", matrix, spread, note)


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
        raise BrachyError(
            f"registration by image failed: the CTs do not overlap ({reason}); register by seeds or a file"
        ) from None
    matrix = np.eye(4)
    matrix[:3, :3] = np.array(transform.GetMatrix()).reshape(3, 3)
    matrix[:3, 3] = np.array(transform.GetTranslation()) + centre - matrix[:3, :3] @ centre
    value = -float(method.GetMetricValue())  # the metric is the negative of the squared correlation
    return float(np.sqrt(max(value, 0.0))), matrix


def by_file(path: str | PathLike[str]) -> Registration:
    """Transform from a file: plan to post-implant, LPS, mm.

    Parameters
    ----------
    path : path
        JSON: a 4 x 4 list, or an object with `transform` or `registration.transform` (an earlier
        verification.json). ITK: `.tfm`, `.h5`; an ITK transform goes from the fixed to the moving image, so the plan's
        CT was the fixed one. Anything else: text of 16 numbers, row by row.

    Raises
    ------
    UsageError
        If it cannot be read, is no 4 x 4 matrix, or is not rigid.

    Examples
    --------
    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     file = Path(folder) / "shift.txt"
    ...     _ = file.write_text("1 0 0 5  0 1 0 0  0 0 1 0  0 0 0 1")
    ...     float(by_file(file).transform[0, 3])
    5.0
    """
    file = Path(path)
    if not resources.is_file(file):
        listed = ", ".join(METHODS)
        raise UsageError(f"--register {path}: no such file; choose from {listed}, or give a transform file")
    try:
        if file.suffix.lower() in (".tfm", ".h5", ".hdf5"):
            matrix = _from_itk(file)
        else:
            content = resources.read_bounded(file, file.name).decode("utf-8")
            matrix = _from_json(json.loads(content)) if content.lstrip()[:1] in "{[" else _from_text(content)
    except (OSError, ValueError, KeyError, TypeError, RuntimeError):
        raise UsageError(
            f"{file.name} is no transform: give 16 numbers row by row (text or JSON), or an ITK .tfm"
        ) from None
    if not np.isfinite(matrix).all() or np.abs(matrix).max() > 1e6:
        raise UsageError(f"{file.name} is not rigid: only a rotation and a shift in mm (LPS) are taken")
    turn = matrix[:3, :3]
    rigid = np.allclose(turn.T @ turn, np.eye(3), atol=1e-4) and np.linalg.det(turn) > 0
    if not (rigid and np.allclose(matrix[3], [0, 0, 0, 1])):
        raise UsageError(f"{file.name} is not rigid: only a rotation and a shift in mm (LPS) are taken")
    return Registration("file", matrix, None, f"transform as given in {file.name}")


def _from_text(content: str) -> Float:
    numbers = [float(word) for word in content.replace(",", " ").split()]
    return np.array(numbers, dtype=np.float64).reshape(4, 4)


def _from_json(data: Any) -> Float:
    if isinstance(data, dict):
        data = data["transform"] if "transform" in data else data["registration"]["transform"]
    return np.array(data, dtype=np.float64).reshape(4, 4)


def _from_itk(file: Path) -> Float:
    if file.suffix.lower() != ".tfm":
        return _of_child(file)
    kind = ""
    for line in resources.read_bounded(file, file.name).decode("utf-8").splitlines():
        key, _, said = line.partition(":")
        if key.strip() == "Transform":
            kind = said.strip().partition("_")[0]
        elif key.strip() in ("Parameters", "FixedParameters"):
            # ITK ends the process at a word that is no number, and takes too few of them
            numbers = [float(word) for word in said.split()]
            count = PARAMETERS.get(kind)
            if not np.isfinite(numbers).all() or (key.strip() == "Parameters" and count != len(numbers)):
                raise ValueError("its parameters are not those of a known transform")
    return read_itk(file)


def _of_child(file: Path) -> Float:
    """HDF5 is read in a process of its own: a damaged file may end it."""
    code = (
        "import sys; from brachy.postimplant.registration import read_itk; "
        "print(*read_itk(sys.argv[1]).ravel().tolist())"
    )
    try:
        done = subprocess.run(
            [sys.executable, "-c", code, str(file)],
            capture_output=True,
            timeout=ITK_SECONDS,
            check=True,
            text=True,
        )
    except subprocess.SubprocessError as error:
        raise ValueError("no reply") from error
    return _from_text(done.stdout)


def read_itk(file: str | PathLike[str]) -> Float:
    """Matrix (4, 4) of an ITK transform file, mm."""
    import SimpleITK as sitk

    read = sitk.ReadTransform(str(file))
    corners = np.vstack([np.zeros(3), 100.0 * np.eye(3)])
    moved = np.array([read.TransformPoint(point.tolist()) for point in corners])
    matrix = np.eye(4)
    matrix[:3, :3] = ((moved[1:] - moved[0]) / 100.0).T
    matrix[:3, 3] = moved[0]
    return matrix
