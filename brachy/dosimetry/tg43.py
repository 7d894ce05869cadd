"""Dose of an implant on a grid or at points, and the dose of single seeds, after AAPM TG-43."""

from collections.abc import Sequence
from typing import overload

import numpy as np
from numpy.typing import ArrayLike, NDArray

from brachy.dosimetry.implant import Implant
from brachy.dosimetry.source import Source
from brachy.dosimetry.tg43_model import METHODS, dose_table, tg43_model
from brachy.geometry.grid import Dose, Grid

Float = NDArray[np.float64]


@overload
def dose(
    where: Grid,
    implants: Implant | Sequence[Implant],
    formalism: str = "1D",
    method: str = "auto",
    days: float | None = None,
) -> Dose: ...


@overload
def dose(
    where: ArrayLike,
    implants: Implant | Sequence[Implant],
    formalism: str = "1D",
    method: str = "auto",
    days: float | None = None,
) -> Float: ...


def dose(
    where: Grid | ArrayLike,
    implants: Implant | Sequence[Implant],
    formalism: str = "1D",
    method: str = "auto",
    days: float | None = None,
) -> Dose | Float:
    """Dose to water of permanent seeds, in Gy.

    Parameters
    ----------
    where : Grid or (n, 3) array
        A grid, or points in the patient frame (LPS), mm.
    implants : Implant or sequence of Implant
        Seeds; several models are several implants, their doses sum.
    formalism : {"1D", "2D"}
        Point source, or line source with each seed's axis.
    method : {"auto", "exact", "direct", "tree"}
        "exact" is the float64 sum over seeds. "direct" sums them in float32 from a table, "tree" sums far seeds of a
        grid together (points directly); both are within 0.1 % of it everywhere outside the capsules. "auto" is exact
        up to EXACT_PAIRS pairs of seed and place, which takes a fraction of a second, beyond it the tree.
    days : float, optional
        Dose delivered in so many days after implantation; to complete decay by default.

    Returns
    -------
    Dose or (n,) array
        `Dose` with `.gy` [z, y, x] for a grid, Gy at each point otherwise.

    Raises
    ------
    UsageError
        If the formalism or method is unknown, or the days are negative.
    BrachyError
        If 2D is asked of seeds without axes, or the points are not (n, 3) numbers.

    References
    ----------
    Rivard et al., Med. Phys. 31, 633 (2004), AAPM TG-43U1, eq. (1) and (11). Complete decay: rate times
    T1/2 / ln 2.

    Examples
    --------
    >>> from brachy.dosimetry.implant import Implant
    >>> from brachy.dosimetry.source import load_source
    >>> seed = Implant(load_source("amersham_6711"), [[0, 0, 0]], axes=[0, 0, 1], strength_U=1.0)
    >>> round(float(dose([[10, 0, 0]], seed, formalism="2D")[0]), 4)
    19.8472
    """
    model = tg43_model(implants, formalism, days, method)
    return model.on(where) if isinstance(where, Grid) else model.at(where)


def influence(
    points_mm: ArrayLike,
    positions_mm: ArrayLike,
    source: Source,
    strength_U: float,
    axis: ArrayLike | None = None,
    formalism: str = "1D",
    half_life_days: float | None = None,
) -> NDArray[np.float32]:
    """Dose to complete decay that one seed at each position would give to each point, in Gy.

    Parameters
    ----------
    points_mm : (n, 3) array
        Where dose is wanted, mm.
    positions_mm : (m, 3) array
        Candidate seed centres, mm.
    source : Source
        Seed model.
    strength_U : float
        Air-kerma strength of a seed, U.
    axis : (3,) or (m, 3) array, optional
        Seed axes, one for all or one each; needed by 2D.
    formalism : {"1D", "2D"}
        As in `dose`.
    half_life_days : float, optional
        Overrides the source's.

    Returns
    -------
    (m, n) float32 array
        A row per candidate: row i is the dose of a seed at `positions_mm[i]` at all points.

    Raises
    ------
    BrachyError
        As in `dose`.

    Examples
    --------
    >>> from brachy.dosimetry.source import load_source
    >>> matrix = influence([[10, 0, 0], [20, 0, 0]], [[0, 0, 0]], load_source("amersham_6711"), 1.0)
    >>> matrix.shape
    (1, 2)
    """
    seeds = Implant(
        source, positions_mm, axes=axis, strength_U=float(strength_U), half_life_days=half_life_days
    )
    return tg43_model(seeds, formalism).influence(points_mm)


__all__ = ["METHODS", "dose", "dose_table", "influence"]
