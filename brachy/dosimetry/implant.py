"""Seeds in the patient: positions, axes and strengths of one source model."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from brachy.dosimetry.source import Source
from brachy.errors import BrachyError

Float = NDArray[np.float64]

FARTHEST_MM = 1e6
"""Positions with a coordinate of this size or more are refused (engineering choice: a kilometre)."""


@dataclass(frozen=True, eq=False)
class Implant:
    """Seeds of one model; an implant with several models is a list of these.

    Parameters
    ----------
    source : Source
        TG-43 model of the seeds.
    positions_mm : (n, 3) array
        Seed centres, patient frame (LPS), mm.
    axes : (n, 3) or (3,) array, optional
        Seed axes, of any length; needed by the 2D formalism only. The sign has no meaning.
    strength_U : float or (n,) array
        Air-kerma strength of each seed at the moment of implantation, U.
    half_life_days : float, optional
        Overrides the source's.

    Raises
    ------
    BrachyError
        If a value is not finite, a strength is negative, an axis is zero, or the lengths differ.

    Examples
    --------
    >>> from brachy.dosimetry.source import load_source
    >>> seeds = Implant(load_source("amersham_6711"), [[0, 0, 0], [0, 0, 10]], strength_U=0.889)
    >>> len(seeds), seeds.half_life_days
    (2, 59.4)
    """

    source: Source
    positions_mm: Float
    axes: Float | None
    strength_U: Float
    half_life_days: float

    def __init__(
        self,
        source: Source,
        positions_mm: ArrayLike,
        axes: ArrayLike | None = None,
        *,
        strength_U: ArrayLike,
        half_life_days: float | None = None,
    ) -> None:
        positions = np.array(positions_mm, dtype=np.float64).reshape(-1, 3)
        count = len(positions)
        strength = np.array(strength_U, dtype=np.float64)
        if strength.ndim == 0:
            strength = np.full(count, float(strength))
        if strength.shape != (count,):
            raise BrachyError(f"{count} seeds but {strength.size} strengths: give one for all or one each")
        if not (np.isfinite(strength).all() and (strength >= 0).all()):
            raise BrachyError("an air-kerma strength is negative or not a number: give it in U, 0 or more")
        if not (np.isfinite(positions).all() and (np.abs(positions) < FARTHEST_MM).all()):
            raise BrachyError("a seed position is not a number, or no place in a patient: give x, y, z in mm")
        directions = None
        if axes is not None:
            directions = np.broadcast_to(np.array(axes, dtype=np.float64), (count, 3)).copy()
            directions[~(np.abs(directions) < FARTHEST_MM)] = np.nan
            length = np.linalg.norm(directions, axis=1)
            if not (np.isfinite(length).all() and (length > 1e-9).all()):
                raise BrachyError("a seed axis has no length: give a direction x, y, z")
            directions /= length[:, None]
            directions.setflags(write=False)
        half_life = float(source.half_life_days if half_life_days is None else half_life_days)
        if not (np.isfinite(half_life) and half_life > 0):
            raise BrachyError(f"half-life {half_life} d must be positive")
        positions.setflags(write=False)
        strength.setflags(write=False)
        object.__setattr__(self, "source", source)
        object.__setattr__(self, "positions_mm", positions)
        object.__setattr__(self, "axes", directions)
        object.__setattr__(self, "strength_U", strength)
        object.__setattr__(self, "half_life_days", half_life)

    def __len__(self) -> int:
        return len(self.positions_mm)


def listed(implants: Implant | Sequence[Implant]) -> list[Implant]:
    """Implants as a list.

    Examples
    --------
    >>> from brachy.dosimetry.source import load_source
    >>> seed = Implant(load_source("amersham_6711"), [[0, 0, 0]], strength_U=1.0)
    >>> len(listed(seed)), len(listed([seed, seed]))
    (1, 2)
    """
    return [implants] if isinstance(implants, Implant) else list(implants)


def seeds_mm(implants: Implant | Sequence[Implant]) -> Float:
    """Centres (n, 3) of all seeds, mm.

    Examples
    --------
    >>> from brachy.dosimetry.source import load_source
    >>> seed = Implant(load_source("amersham_6711"), [[0, 0, 0]], strength_U=1.0)
    >>> seeds_mm([seed, seed]).shape
    (2, 3)
    """
    return np.concatenate([np.zeros((0, 3)), *(implant.positions_mm for implant in listed(implants))])
