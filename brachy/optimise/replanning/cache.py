"""Cache of the influence matrix in the folder of a plan; the file may be deleted at any time.

It holds a hash of everything the matrix is computed from (places, samples, dose of one seed) and a hash of its content.
If either differs, the matrix is computed again and the file replaced.
"""

import contextlib
import hashlib
import os
import secrets
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from brachy.optimise.candidates import SeedTable

Float = NDArray[np.float64]

NAME = "influence.cache"
DIGEST = 32


def rows(
    table: SeedTable, points_mm: Float, positions_mm: Float, axes: Float, cache: Path | None
) -> NDArray[np.float32]:
    """Influence matrix (m + 1, n) in Gy as `SeedTable.rows` gives it, from the cache where that holds it.

    Parameters
    ----------
    table, points_mm, positions_mm, axes
        As `SeedTable.rows` takes them.
    cache : Path or None
        Folder of the plan; None computes.
    """
    axes = np.ascontiguousarray(axes)
    if cache is None:
        return table.rows(points_mm, positions_mm, axes)
    key = hashlib.sha256()
    for part in (points_mm, positions_mm, axes, table.values, np.array([table.per_mm, table.least_mm])):
        key.update(np.ascontiguousarray(part).tobytes())
        key.update(repr(part.shape).encode())
    shape = (len(positions_mm) + 1, len(points_mm))
    found = _read(cache / NAME, key.digest(), shape)
    if found is None:
        found = table.rows(points_mm, positions_mm, axes)
        _write(cache / NAME, key.digest(), found)
    return found


def _read(file: Path, key: bytes, shape: tuple[int, int]) -> NDArray[np.float32] | None:
    size = 4 * shape[0] * shape[1]
    try:
        if file.stat().st_size != 2 * DIGEST + size:
            return None
        with file.open("rb") as stream:
            if stream.read(DIGEST) != key:
                return None
            digest, content = stream.read(DIGEST), stream.read(size)
    except OSError:
        return None
    if hashlib.blake2b(content, digest_size=DIGEST).digest() != digest:
        return None
    return np.frombuffer(content, dtype="<f4").reshape(shape).copy()


def _write(file: Path, key: bytes, matrix: NDArray[np.float32]) -> None:
    """Write it whole or not at all; where it cannot be written there is no cache."""
    content = np.ascontiguousarray(matrix, dtype="<f4").tobytes()
    part = file.with_name(f".{file.name}.{secrets.token_hex(4)}.partial")
    try:
        with part.open("wb") as stream:
            stream.write(key + hashlib.blake2b(content, digest_size=DIGEST).digest() + content)
        os.replace(part, file)
    except OSError:
        with contextlib.suppress(OSError):
            part.unlink()
