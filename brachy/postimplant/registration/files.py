"""A rigid transform from a file: text, JSON, an earlier verification.json, ITK."""

import json
import subprocess
import sys
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from brachy import resources
from brachy.errors import UsageError
from brachy.postimplant.registration.transform import METHODS, Registration

Float = NDArray[np.float64]

ITK_SECONDS = 60.0

PARAMETERS = {
    "Euler3DTransform": 6, "VersorRigid3DTransform": 6, "VersorTransform": 3, "QuaternionRigidTransform": 7,
    "TranslationTransform": 3, "Similarity3DTransform": 7, "AffineTransform": 12, "MatrixOffsetTransformBase": 12,
    "IdentityTransform": 0,
}  # fmt: skip
"""Numbers of ITK's transforms that can be rigid."""


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
            matrix, uses_seeds = _from_itk(file), False
        else:
            matrix, uses_seeds = _from_content(resources.read_bounded(file, file.name).decode("utf-8"))
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
    made = ", which was made by the seeds" if uses_seeds else ""
    return Registration(
        "file", matrix, None, f"transform as given in {file.name}{made}", uses_seeds=uses_seeds
    )


def _from_content(content: str) -> tuple[Float, bool]:
    """Matrix of a text or JSON file, and whether an earlier verification made it by the seeds."""
    if content.lstrip()[:1] not in ("{", "["):
        return _from_text(content), False
    data = json.loads(content)
    before = data.get("registration") if isinstance(data, dict) else None
    by_seeds = isinstance(before, dict) and (
        before.get("method") == "seeds" or before.get("uses_seeds") is True
    )
    return _from_json(data), by_seeds


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
        "import sys; from brachy.postimplant.registration.files import read_itk; "
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
