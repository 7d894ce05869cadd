"""Records of the seed finder: seeds with position, axis and confidence, doubts, warnings and the scan's calibration."""

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from brachy.errors import UsageError

Float = NDArray[np.float64]


class HasCapsule(Protocol):
    """Anything with a seed's outer size, such as `brachy.Source`."""

    @property
    def capsule_length_mm(self) -> float:
        """Outer length."""
        ...

    @property
    def capsule_diameter_mm(self) -> float:
        """Outer diameter."""
        ...


@dataclass(frozen=True)
class Capsule:
    """Outer size of a seed in mm, for seeds whose model is unknown.

    The default is the size of most 125I seed models (see the models that `brachy sources` lists).

    Raises
    ------
    UsageError
        If it is not a rod between 2 and 10 mm long and thinner than half its length.

    Examples
    --------
    >>> from brachy.postimplant.seed_finder.seeds import Capsule
    >>> Capsule(4.5, 0.8).capsule_length_mm
    4.5
    """

    capsule_length_mm: float = 4.5
    capsule_diameter_mm: float = 0.8

    def __post_init__(self) -> None:
        length, diameter = self.capsule_length_mm, self.capsule_diameter_mm
        if not (2.0 <= length <= 10.0 and 0.1 <= diameter <= 0.5 * length):
            raise UsageError(
                f"a capsule of {length:g} x {diameter:g} mm is no seed: give a length of 2 to 10 mm and a diameter "
                "below half of it"
            )


@dataclass(frozen=True, eq=False)
class FoundSeed:
    """One seed on the CT.

    Parameters
    ----------
    position_mm : (3,) array
        Centre, patient frame (LPS), mm.
    axis : (3,) array
        Unit vector along the capsule; its sign has no meaning (z >= 0 by convention).
    confidence : float
        In [0, 1]: confidence that the object is a seed. Below 0.5 it is reported as a doubt only.
    mass : float
        Integral of the CT number above the background, in units of one seed of this scan.
    position_sd_mm : (3,) array
        Standard error of the centre along x, y, z of the patient, mm, from noise, model error and slice thickness.
    axis_sd_deg : float
        Standard error of the axis, degrees.
    """

    position_mm: Float
    axis: Float
    confidence: float
    mass: float
    position_sd_mm: Float
    axis_sd_deg: float


@dataclass(frozen=True, eq=False)
class Doubt:
    """Something to be looked at: a seed that is uncertain, or a seed-like object that was rejected.

    Parameters
    ----------
    position_mm : (3,) array
        Position, patient frame (LPS), mm.
    reason : str
        Why it is doubtful, one sentence.
    seed : int or None
        Index in `Findings.seeds`; None where no seed is reported.
    """

    position_mm: Float
    reason: str
    seed: int | None


@dataclass(frozen=True, eq=False)
class Calibration:
    """Parameters of a scan that were estimated from its own clear single seeds.

    Parameters
    ----------
    single_seeds : int
        Number of clear single seeds used.
    seed_mass_hu_mm3 : float
        Integral of the CT number above the background over one seed, HU mm3.
    seed_mass_sd : float
        Standard deviation of that integral between seeds, as a share of it.
    in_plane_sigma_mm, slice_sigma_mm : float
        Gaussian blur in the slice, and along z on top of the slice's own thickness.
    bright_length_mm : float
        Length of the bright part of a seed.
    noise_hu : float
        Noise of soft tissue.
    clipped_at_hu : float or None
        CT number at which the scan is clipped, None if it is not.
    """

    single_seeds: int
    seed_mass_hu_mm3: float
    seed_mass_sd: float
    in_plane_sigma_mm: float
    slice_sigma_mm: float
    bright_length_mm: float
    noise_hu: float
    clipped_at_hu: float | None


@dataclass(frozen=True, eq=False)
class Findings:
    """Result of the seed finder; seeds in order from inferior to superior.

    Parameters
    ----------
    seeds : tuple of FoundSeed
        The seeds.
    doubts : tuple of Doubt
        Doubtful seeds and rejected objects that are seed-like, each with its reason.
    warnings : tuple of str
        Sentences for the user, such as "58 of 63 seeds found".
    calibration : Calibration
        Parameters estimated from the scan.
    """

    seeds: tuple[FoundSeed, ...]
    doubts: tuple[Doubt, ...]
    warnings: tuple[str, ...]
    calibration: Calibration

    def __len__(self) -> int:
        return len(self.seeds)

    @property
    def positions_mm(self) -> Float:
        """Centres (n, 3), patient frame (LPS), mm."""
        return _stacked([seed.position_mm for seed in self.seeds])

    @property
    def axes(self) -> Float:
        """Unit axes (n, 3), patient frame (LPS)."""
        return _stacked([seed.axis for seed in self.seeds])

    @property
    def confidence(self) -> Float:
        """Confidence (n,) of each seed."""
        return np.array([seed.confidence for seed in self.seeds], dtype=np.float64)


def _stacked(rows: list[Any]) -> Float:
    return np.array(rows, dtype=np.float64).reshape(-1, 3)
