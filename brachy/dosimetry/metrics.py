"""The dose-volume histogram as a record, and its metrics by name: D90_gy, D2cc_gy, V100_pct, V145Gy_cc ..."""

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from brachy.dosimetry.bed import bed
from brachy.errors import UsageError
from brachy.units import I125_HALF_LIFE_DAYS

Float = NDArray[np.float64]

FORMS = (
    "D90_gy, D2cc_gy, V100_pct, V100_cc, V145Gy_cc, V20Gy_pct, mean_gy, min_gy, max_gy, volume_cc, BED90_gy"
)
"""The forms of a metric's name, by example."""

INDICES = ("CI", "EI", "HI")
"""Names of the indices that `evaluate` adds for targets; no metric of one histogram."""


class Uncertainty(NamedTuple):
    """What a metric may be off by, in its own unit."""

    sampling: float
    """Change between the last two lattices."""
    slices: float
    """Largest change over other shapes that the same contours allow; NaN where that was not asked."""

    @property
    def total(self) -> float:
        """Sum of both parts that are known."""
        return float(np.nansum([self.sampling, self.slices]))


@dataclass(frozen=True, eq=False)
class DVH:
    """Dose to a structure: a dose and a volume for each sample.

    Parameters
    ----------
    roi : str
        Name of the structure.
    dose_gy : (n,) array
        Dose at the samples, Gy, ascending.
    cell_cc : (n,) array
        Volume that each stands for, cc.
    volume_cc : float
        Exact volume of the structure's slabs.
    formalism : str
        "1D" or "2D"; "" for a dose that was read.
    interpolated : bool
        The dose was interpolated between the points of a grid and not evaluated from the seeds.
    no_dose_fraction : float
        Part of the volume that lies outside the dose grid and counts as 0 Gy.
    step_mm, widest_mm : float
        Width of the cells round the seeds, and of the widest ones far from them.
    settled : bool
        D90 and the volumes stopped moving before the sampling's limit was reached.
    coarser : DVH, optional
        The same on the lattice before, for the uncertainty.
    other_shapes : callable
        Gives the histograms of other shapes that the same contours allow, for the uncertainty; called when
        that is asked for, once.
    structure_notes : tuple of str
        What the structure says about its contours.
    half_life_days : float
        Of the seeds, for the BED.
    """

    roi: str
    dose_gy: Float
    cell_cc: Float
    volume_cc: float
    formalism: str = ""
    interpolated: bool = False
    no_dose_fraction: float = 0.0
    step_mm: float = 0.0
    widest_mm: float = 0.0
    settled: bool = True
    coarser: "DVH | None" = None
    other_shapes: Callable[[], tuple["DVH", ...]] = tuple
    structure_notes: tuple[str, ...] = ()
    half_life_days: float = I125_HALF_LIFE_DAYS
    _below: Float = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_below", np.concatenate([[0.0], np.cumsum(self.cell_cc)]))

    @cached_property
    def _others(self) -> tuple["DVH", ...]:
        return self.other_shapes()

    @property
    def notes(self) -> tuple[str, ...]:
        """What a reader of the metrics must know, a sentence each."""
        found = list(self.structure_notes)
        if not self.samples:
            found.append("no volume")
        if self.interpolated:
            found.append("dose interpolated trilinearly from a grid, not evaluated from seeds")
        if self.no_dose_fraction > 0:
            found.append(
                f"{100 * self.no_dose_fraction:.3g} % of it lies outside the dose grid, counted as 0 Gy"
            )
        if not self.settled:
            found.append(f"metrics still moved at {self.samples} samples: see their uncertainty")
        return tuple(found)

    @property
    def samples(self) -> int:
        """Number of samples."""
        return len(self.dose_gy)

    @property
    def mean_gy(self) -> float:
        """Mean dose; NaN if empty."""
        if not self.samples:
            return float("nan")
        return float((self.dose_gy * self.cell_cc).sum() / self.cell_cc.sum())

    @property
    def min_gy(self) -> float:
        """Least dose of a sample; NaN if empty."""
        return float(self.dose_gy[0]) if self.samples else float("nan")

    @property
    def max_gy(self) -> float:
        """Highest dose of a sample; NaN if empty. Beside a seed it is the sampling's, not the tissue's."""
        return float(self.dose_gy[-1]) if self.samples else float("nan")

    def D(self, percent: float) -> float:
        """Dose in Gy that the hottest `percent` of the volume gets at least.

        Raises
        ------
        UsageError
            If the percentage is outside 0-100.
        """
        if not 0 <= percent <= 100:
            raise UsageError(f"D{percent:g}: give a percentage of the volume from 0 to 100")
        return self._dose_of(percent / 100.0 * float(self._below[-1]))

    def D_cc(self, cc: float) -> float:
        """Dose in Gy that the hottest `cc` get at least; NaN if the structure is smaller.

        Raises
        ------
        UsageError
            If the volume is negative.
        """
        if not cc >= 0:
            raise UsageError(f"D{cc:g}cc: give a volume of 0 cc or more")
        return self._dose_of(cc) if cc <= self.volume_cc else float("nan")

    def V(self, gy: float) -> float:
        """Volume in cc at or above a dose in Gy (to 1e-9 of it: interpolation does not keep the last digits)."""
        first = np.searchsorted(self.dose_gy, gy * (1.0 - 1e-9), side="left")
        return float(self._below[-1] - self._below[first])

    def V_pct(self, gy: float) -> float:
        """Percent of the volume at or above a dose in Gy; NaN if empty."""
        return 100.0 * self.V(gy) / float(self._below[-1]) if self.samples else float("nan")

    def doses(self, percents: ArrayLike) -> Float:
        """Doses in Gy that so many percent of the volume get at least, as `D` for many at once; NaN if empty."""
        wanted = np.asarray(percents, dtype=np.float64)
        if not self.samples:
            return np.full(wanted.shape, np.nan)
        return np.asarray(np.interp(wanted / 100.0 * float(self._below[-1]), *self._falling))

    @cached_property
    def _falling(self) -> tuple[Float, Float]:
        """Volume in cc hotter than the middle of each sample's cell, rising, and its dose."""
        middle = self._below[-1] - 0.5 * (self._below[1:] + self._below[:-1])
        return middle[::-1], self.dose_gy[::-1]

    def _dose_of(self, hottest_cc: float) -> float:
        """Dose at a cumulative volume, linear between the middles of the samples' cells."""
        if not self.samples:
            return float("nan")
        return float(np.interp(hottest_cc, *self._falling))

    def curve(self, step_gy: float = 1.0) -> tuple[Float, Float]:
        """Cumulative histogram: doses 0, step, 2 step ... and the volume in cc at or above each."""
        count = int(self.max_gy / step_gy) + 2 if self.samples else 2
        doses: Float = step_gy * np.arange(count, dtype=np.float64)
        below = self._below[np.searchsorted(self.dose_gy, doses, side="left")]
        return doses, self._below[-1] - below

    def uncertainty(self, name: str, prescription_gy: float | None = None) -> Uncertainty:
        """What a metric may be off by, from the sampling and from the finite number of contours.

        Raises
        ------
        UsageError
            As `metric`.
        """
        value = metric(self, name, prescription_gy)
        coarser = metric(self.coarser, name, prescription_gy) if self.coarser is not None else value
        others = [abs(metric(other, name, prescription_gy) - value) for other in self._others]
        return Uncertainty(abs(coarser - value), max(others, default=float("nan")))


class Metric(NamedTuple):
    """A parsed name: kind (D, Dcc, BED, V, VGy, mean, min, max, volume or an index), number and unit."""

    kind: str
    value: float
    unit: str

    @property
    def name(self) -> str:
        """The name in full, as it is printed."""
        number = f"{self.value:g}"
        return {
            "D": f"D{number}_gy",
            "Dcc": f"D{number}cc_gy",
            "BED": f"BED{number}_gy",
            "V": f"V{number}_{self.unit}",
            "VGy": f"V{number}Gy_{self.unit}",
        }.get(self.kind, f"{self.kind}_{self.unit}" if self.unit else self.kind)

    @property
    def needs_prescription(self) -> bool:
        """Whether it is relative to the prescription."""
        return self.kind == "V"


_NUMBER = r"(\d+(?:\.\d+)?|\.\d+)"
_PATTERNS = (
    ("Dcc", rf"d{_NUMBER}cc(?:_gy)?", "gy"),
    ("D", rf"d{_NUMBER}(?:_gy|%)?", "gy"),
    ("BED", rf"bed{_NUMBER}(?:_gy|%)?", "gy"),
    ("VGy", rf"v{_NUMBER}gy_(pct|cc)", ""),
    ("V", rf"v{_NUMBER}(?:_(pct|cc)|%)?", ""),
)


def parse_metric(name: str) -> Metric:
    """Read a metric's name; D95 means D95_gy, V100 means V100_pct (percent of the prescription).

    Raises
    ------
    UsageError
        If it is none; the message lists the forms.

    Examples
    --------
    >>> parse_metric("D95").name, parse_metric("V145Gy_cc").name, parse_metric("d0.1cc").name
    ('D95_gy', 'V145Gy_cc', 'D0.1cc_gy')
    """
    text = name.strip().casefold()
    for kind, pattern, unit in _PATTERNS:
        match = re.fullmatch(pattern, text)
        if match:
            value = float(match[1])
            if kind in ("D", "BED") and value > 100:
                break
            return Metric(kind, value, unit or match[2] or "pct")
    for kind in ("mean", "min", "max"):
        if text in (kind, f"{kind}_gy", f"d{kind}", f"d{kind}_gy"):
            return Metric(kind, 0.0, "gy")
    if text in ("volume", "volume_cc"):
        return Metric("volume", 0.0, "cc")
    if text.upper() in INDICES:
        return Metric(text.upper(), 0.0, "")
    raise UsageError(f"unknown metric '{name}': write it like {FORMS}")


def metric(dvh: DVH, name: str, prescription_gy: float | None = None) -> float:
    """Value of a metric by name; NaN where it has none (D2cc of a smaller structure).

    Parameters
    ----------
    dvh : DVH
        Of one structure.
    name : str
        Such as D90_gy, D2cc_gy, V100_pct, V145Gy_cc, V20Gy_pct, mean_gy, min_gy, max_gy, volume_cc.
    prescription_gy : float, optional
        Needed by V100_pct and its like.

    Raises
    ------
    UsageError
        If the name is none, needs a prescription, or is an index that only `evaluate` can give.

    Examples
    --------
    >>> flat = DVH("t", np.array([100.0, 120.0, 140.0, 160.0]), np.full(4, 0.5), 2.0)
    >>> metric(flat, "V100_pct", 120.0), metric(flat, "V150Gy_cc"), metric(flat, "mean")
    (75.0, 0.5, 130.0)
    """
    wanted = parse_metric(name)
    if wanted.kind == "D":
        return dvh.D(wanted.value)
    if wanted.kind == "BED":  # of the dose that so much of the volume gets: BED rises with dose
        return float(bed(dvh.D(wanted.value), dvh.half_life_days))
    if wanted.kind == "Dcc":
        return dvh.D_cc(wanted.value)
    if wanted.kind in ("V", "VGy"):
        gy = wanted.value
        if wanted.kind == "V":
            if prescription_gy is None:
                raise UsageError(f"{wanted.name} of '{dvh.roi}' needs a prescription: give one in Gy")
            gy *= prescription_gy / 100.0
        return dvh.V(gy) if wanted.unit == "cc" else dvh.V_pct(gy)
    if wanted.kind in INDICES:
        raise UsageError(f"{wanted.name} needs the dose round the target: evaluate the implant for it")
    if wanted.kind == "volume":
        return dvh.volume_cc
    return float(getattr(dvh, f"{wanted.kind}_gy"))
