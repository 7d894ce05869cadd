"""What a dose model is: dose at points and on a grid, and what it states of itself. The choice of one by name.

TG-43 in 1D and 2D are the first two kinds (`brachy.dosimetry.tg43_model`). What evaluates, draws or writes a dose takes
a model, so that a further kind changes nothing there.
"""

from collections.abc import Sequence
from typing import Literal, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from brachy.dosimetry.implant import Implant, listed
from brachy.dosimetry.tg43_model import tg43_model
from brachy.geometry.grid import Dose, Grid

Float = NDArray[np.float64]


class DoseModel(Protocol):
    """Dose to some implanted seeds by one way of calculating it."""

    @property
    def implants(self) -> tuple[Implant, ...]:
        """The seeds; their doses sum."""

    @property
    def days(self) -> float | None:
        """Dose delivered in so many days after implantation; None: to complete decay."""

    @property
    def name(self) -> str:
        """For people: "TG-43 1D"."""

    @property
    def formalism(self) -> Literal["1D", "2D"]:
        """As plan.json names it, `evaluation.formalism`."""

    @property
    def comment(self) -> str:
        """For the Dose Comment of an RT Dose: model, medium, and until when the dose is delivered."""

    @property
    def needs_axes(self) -> bool:
        """Whether the dose depends on the axes of the seeds."""

    def at(self, points_mm: ArrayLike) -> Float:
        """Dose at points (n, 3), patient frame (LPS), mm: (n,) array, Gy."""

    def on(self, grid: Grid) -> Dose:
        """Dose on a grid, Gy."""

    def influence(self, points_mm: ArrayLike) -> NDArray[np.float32]:
        """Dose to complete decay that each seed of the first implant alone gives to each point: (seeds, n), Gy."""

    def of(self, implants: Implant | Sequence[Implant], exact_pairs: int | None = None) -> "DoseModel":
        """The same model for other seeds.

        Parameters
        ----------
        implants : Implant or sequence of Implant
            Seeds.
        exact_pairs : int, optional
            Up to so many pairs of seed and place a model that has a faster, less exact way does not use it; 0 always
            uses it. By default as this model.
        """

    def counterpart(self) -> "DoseModel | None":
        """Another model for the same seeds, whose D90 is stated beside this one's; None where there is none."""


def dose_model(
    implants: Implant | Sequence[Implant], formalism: str = "1D", days: float | None = None
) -> DoseModel:
    """The model of that name for some seeds.

    Parameters
    ----------
    implants : Implant or sequence of Implant
        Seeds; several source models are several implants.
    formalism : {"1D", "2D"}
        TG-43 with a point source, or with a line source along each seed's axis.
    days : float, optional
        Dose delivered in so many days after implantation; to complete decay by default.

    Raises
    ------
    UsageError
        If the formalism is unknown, or the days are negative.
    BrachyError
        If 2D is asked of seeds without axes.

    Examples
    --------
    >>> from brachy.dosimetry.source import load_source
    >>> seed = Implant(load_source("amersham_6711"), [[0, 0, 0]], axes=[0, 0, 1], strength_U=1.0)
    >>> model = dose_model(seed, "2D", days=60)
    >>> model.comment
    'TG-43 2D, water, to day 60'
    >>> bool(model.at([[10, 0, 0]]) < dose_model(seed, "2D").at([[10, 0, 0]]))
    True
    """
    return tg43_model(implants, formalism, days)


def dose_model_where_known(implants: Implant | Sequence[Implant], formalism: str) -> DoseModel:
    """The model of that name, or TG-43 1D where it needs axes and a seed has none.

    Examples
    --------
    >>> from brachy.dosimetry.source import load_source
    >>> bare = Implant(load_source("amersham_6711"), [[0, 0, 0]], strength_U=1.0)
    >>> dose_model_where_known(bare, "2D").name
    'TG-43 1D'
    """
    known = all(implant.axes is not None for implant in listed(implants))
    return dose_model(implants, formalism if known else "1D")


__all__ = ["DoseModel", "dose_model", "dose_model_where_known"]
